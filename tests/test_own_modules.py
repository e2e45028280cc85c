"""The binaries of our own small modules are what their sources give."""

import pytest

from tests.children import run_child
from tests.modules import own
from tests.small_modules import COUNTER, GUESTBOOK
from tests.test_cli import call


@pytest.mark.parametrize("source", own.texts(), ids=lambda path: path.name)
def test_what_is_written_in_text_is_what_is_checked_in(source):
    assert own.built_text(source) == source.with_suffix(".wasm").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("source", own.programs(), ids=lambda path: path.name)
def test_what_is_written_in_c_is_what_is_checked_in(source):
    if not own.has_compiler():
        pytest.skip(f"the compiler is not installed: pip install ziglang=={own.ZIGLANG}")
    assert own.built_c(source) == source.with_suffix(".wasm").read_bytes()


@pytest.mark.slow
def test_the_example_of_a_canisters_own_tests_runs(tmp_path):
    done = run_child(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null"),
        *("--rootdir", tmp_path, GUESTBOOK.parent),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_the_example_workload_comes_to_what_it_says():
    done = call("canister", GUESTBOOK.with_suffix(".calls"), "--format", "csv")
    assert done.exit_code == 0, done.output


def test_they_are_small():
    assert COUNTER.stat().st_size < 2_000
    assert GUESTBOOK.stat().st_size < 10_000
