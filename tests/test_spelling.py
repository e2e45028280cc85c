"""What errors call an option: its name in Python, and on the command line that of the option."""

import ast
import re

import pytest

from sqlstable import (
    Canister,
    Schema,
    SettingsError,
    SnapshotError,
    StatusTerms,
    check_schemas,
    repriced,
)
from sqlstable.analysis.checking.baseline_text import baseline_of
from sqlstable.analysis.whatif.page_cache import page_cache_what_if
from sqlstable.errors import BudgetError, SqlstableError, TraceError
from sqlstable.spelling import on_command_line
from tests.house import PACKAGE
from tests.test_cli import call

# What the command line and pytest say themselves, and the words of workloads of modules, which
# are those of dfx.
WITH_OPTIONS = ("cli/", "notebook", "pytest_plugin", "stable_budget", "workload/stepping/")
OPTION = re.compile(r"(?<![-@\w])--[a-z]")


def texts_outside(node):
    """Yield the texts of an expression that are in no call of `spelled`."""
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "spelled":
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    for child in ast.iter_child_nodes(node):
        yield from texts_outside(child)


def test_no_error_of_the_package_names_an_option_alone():
    found = []
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith((*WITH_OPTIONS, "engine/measured/module/build")):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise):
                found += [(name, text) for text in texts_outside(node) if OPTION.search(text)]
    assert found == []


def baseline_of_nothing():
    baseline_of({}, "kept.json")


def smaller_cache():
    with Canister(trace=":memory:") as canister, canister.trace() as trace:
        page_cache_what_if(trace, [10])


def charges_of_queries():
    Canister(engine="wasm", assume={"query-write-charges": "no"})


def download_gone_on_with(folder):
    with Canister() as canister:
        canister.update("CREATE TABLE t (x)")
        snapshot = canister.take_snapshot()
        canister.download_snapshot(snapshot, folder)


@pytest.mark.parametrize(
    ("refused", "error", "python", "option"),
    [
        (baseline_of_nothing, BudgetError, "; --stable-update-", "; --update-baseline makes"),
        (smaller_cache, TraceError, "with cache_size=10", "with --cache-size 10"),
        (
            charges_of_queries,
            SettingsError,
            'repriced(trace, assume={"query-write-charges": "no"})',
            "sqlstable report TRACE --assume query-write-charges=no",
        ),
    ],
)
def test_an_error_names_what_its_reader_can_write(refused, error, python, option):
    with pytest.raises(error) as found:
        refused()
    assert python in str(found.value)
    assert not OPTION.search(str(found.value).replace("--stable-update-baseline", ""))
    with on_command_line(), pytest.raises(error) as found:
        refused()
    assert option in str(found.value)


def test_a_status_says_how_to_say_what_is_not_known():
    with Canister() as canister:
        figures = canister.status().figures
        with on_command_line():
            there = canister.status().figures
        given = canister.status(StatusTerms(balance=3 * 10**12)).figures
    assert figures.unknown[-1] == "the balance; StatusTerms(balance=3 * 10**12)"
    assert there.unknown[-1] == "the balance; --balance 3T"
    assert not any("balance" in it for it in given.unknown)
    assert not any(OPTION.search(it) for it in figures.unknown)


def test_a_schema_check_says_how_to_tell_a_rename():
    old, new = (
        Schema.from_sql(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, x)") for name in "ab"
    )
    texts = " ".join(change.reason for change in check_schemas(old, new).changes)
    assert "renames={'a': 'b'} or dropped=['a']" in texts
    with on_command_line():
        texts = " ".join(change.reason for change in check_schemas(old, new).changes)
    assert "--rename a=b or --drop a" in texts


def test_a_folder_says_how_to_go_on(tmp_path):
    (tmp_path / "there").write_text("")
    with pytest.raises(SnapshotError, match="interrupted download by resume=True"):
        download_gone_on_with(tmp_path)


def test_the_command_line_speaks_of_options(tmp_path):
    image = tmp_path / "a.stable"
    with Canister(image) as canister:
        canister.update("CREATE TABLE t (x)")
    assert "Not known: the balance; --balance 3T\n" in call("status", image).stdout
    # What was said there is over with the command.
    with Canister() as canister:
        assert "--balance" not in str(canister.status())


def test_a_trace_that_cannot_be_priced_anew_names_the_engine():
    with Canister(trace=":memory:") as canister:
        canister.update("CREATE TABLE t (x)")
        with canister.trace() as trace, pytest.raises(SqlstableError) as refused:
            repriced(trace, "memory-tracker", {"no-such": "1"})
    assert not OPTION.search(str(refused.value))
