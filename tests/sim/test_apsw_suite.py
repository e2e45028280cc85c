"""APSW's own test suite with a `StableVFS` as the default VFS, against a list of what fails.

The list, with a reason for each, is ``apsw_suite.toml``; `tests/sim/apsw_suite.py` runs the suite
in a process of its own. The measure is a VFS that passes everything on to the operating system's:
what fails with that is not ours. It depends on APSW alone, so the list keeps it, and it is run anew
with another release than the list was made with. The rest fails by design, and where one thing
alone stands against a test, the test passes with a VFS that differs from a plain one in that thing.

Left out is what the suite leaves out where it is not built from source (``testLoadExtension``) or
not told to use gigabytes (``testLargeObjects``). Its loops that provoke threads for half a minute
go on for one second.
"""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from importlib.util import find_spec
from pathlib import Path

import apsw
import pytest

ROOT = Path(__file__).parents[2]
EXPECTED = tomllib.loads(Path(__file__).with_name("apsw_suite.toml").read_text("utf-8"))

SECONDS_MAX = 900
"""How long a run may take before it counts as hanging; half a minute is usual."""

TESTS_MIN = 200
"""How many tests the whole suite has at least; 239 in APSW 3.54.1.0."""

IN_MEMORY = Path("/dev/shm")

REMEDIES = ("mirrored", "many-memories")


def has_suite():
    try:
        return find_spec("apsw.tests.__main__") is not None
    except ModuleNotFoundError:
        return False


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not has_suite(), reason="this APSW comes without its tests (apsw.tests)"),
]


@pytest.fixture
def folder(tmp_path):
    """An empty folder, in memory if there is one: the operating system's files are flushed."""
    if not os.access(IN_MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as name:
        yield Path(name)


def run(folder, kind, *names):
    """Run the suite, or the tests of these names, and return what failed in each test."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": "0",
        "APSW_HEAVY_DURATION": "1",
        "APSWTESTPREFIX": "",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim.apsw_suite", kind, *names],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    results = folder / "results.json"
    assert results.exists(), f"the suite ended early ({done.returncode}): {done.stderr[-4000:]}"
    return json.loads(results.read_text(encoding="utf-8"))["failed"]


def expected_of(kind):
    if kind == "raw":
        return {
            name: entry
            for name, entry in EXPECTED["stable"].items()
            if entry.get("passes") != "many-memories"
        }
    return EXPECTED["stable" if kind == "image-file" else kind]


def kinds():
    is_listed = EXPECTED["apsw"] == apsw.apsw_version()
    return ["stable", "image-file", "raw", *([] if is_listed else ["pass-through"])]


@pytest.mark.parametrize("kind", kinds())
def test_what_is_listed_fails_and_nothing_else(folder, kind):
    failures = run(folder, kind)
    assert len(failures) >= TESTS_MIN
    expected = expected_of(kind)
    new = {name: texts for name, texts in failures.items() if texts and name not in expected}
    assert not new, "not listed in apsw_suite.toml:\n" + "\n".join(map("\n".join, new.values()))
    vanished = [name for name in expected if not failures.get(name)]
    assert not vanished, "listed in apsw_suite.toml, and does not fail (any more)"


@pytest.mark.parametrize("remedy", REMEDIES)
def test_what_fails_by_design_passes_where_the_reason_is_gone(folder, remedy):
    names = [name for name, entry in EXPECTED["stable"].items() if entry.get("passes") == remedy]
    assert names
    failures = run(folder, remedy, *names)
    assert failures == {name: [] for name in names}


def test_each_failure_has_a_reason():
    for entries in (EXPECTED[kind] for kind in ("pass-through", "stable")):
        for entry in entries.values():
            assert entry["because"]
            assert entry.get("passes", REMEDIES[0]) in REMEDIES
    assert set(EXPECTED["pass-through"]) <= set(EXPECTED["stable"])
