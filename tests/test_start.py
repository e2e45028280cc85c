"""What is imported for what: help, version and reports start without what they do not need."""

from pathlib import Path

import pytest

import sqlstable
from sqlstable.cli import COMMANDS, app
from tests.children import run_child
from tests.test_cli import ENVIRONMENT, call, folder  # noqa: F401  a fixture

HEAVY = {"numpy", "rich.console", "sqlglot", "pandas", "wasmtime", "pydantic"}
MACHINE = {f"sqlstable.{room}" for room in ("canister", "engine", "workload")}

LIST_MODULES = """\
import sys
sys.argv = ["sqlstable", *{arguments}]
from sqlstable.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
finally:
    print(*sorted(sys.modules), file=sys.stderr)
"""


def modules_of(code):
    """The modules that are there when a program has ended."""
    done = run_child("-c", code, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_the_package_alone_imports_nothing():
    found = modules_of("import sqlstable, sys; print(*sys.modules, file=sys.stderr)")
    assert {name for name in found if name.startswith("sqlstable")} == {"sqlstable"}


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_need_no_command(option):
    found = modules_of(LIST_MODULES.format(arguments=[option]))
    assert not found & {*HEAVY, *MACHINE, "sqlite3", "sqlstable.report.as_table"}
    assert not {f"sqlstable.cli.{it.place.partition('.')[0]}" for it in COMMANDS.values()} & found
    assert ("apsw" in found) == (option == "--version")


@pytest.mark.parametrize(
    ("options", "has_arrays"),
    [
        ((), False),
        pytest.param(("--by", "shape"), False, marks=pytest.mark.slow),
        pytest.param(("--by", "owner"), False, marks=pytest.mark.slow),
        pytest.param(("--format", "csv"), False, marks=pytest.mark.slow),
        # Who had grown what, and what lay around statements, is worked out from the accesses.
        pytest.param(("--by", "message"), True, marks=pytest.mark.slow),
        (("--format", "json"), True),
    ],
)
def test_a_report_needs_no_engine_and_arrays_for_accesses_only(folder, options, has_arrays):  # noqa: F811
    assert call("run", "shop.sql", "--trace", "a.trace").exit_code == 0
    arguments = ["report", str(Path("a.trace").absolute()), *options]
    found = modules_of(LIST_MODULES.format(arguments=arguments))
    # Advice takes SQL apart where a plan goes through a whole table.
    assert not found & (HEAVY - {"rich.console", "pydantic", "numpy", "sqlglot"})
    assert found & {*MACHINE, "apsw", "sqlstable.memory.stable"} == set()
    assert ("numpy" in found) == has_arrays


def test_a_name_that_is_asked_for_is_there_and_no_other():
    assert set(sqlstable.__all__) <= set(dir(sqlstable))
    for name in sqlstable.__all__:
        assert getattr(sqlstable, name) is not None
    with pytest.raises(AttributeError, match="module 'sqlstable' has no attribute 'Cannister'"):
        sqlstable.Cannister  # noqa: B018  looked up only


def test_help_lists_each_command_with_the_first_line_of_its_own_help():
    listed = " ".join(call("--help").stdout.split())
    for name, command in COMMANDS.items():
        summary = command.summary
        assert f"{name} {summary}" in listed
        own = " ".join(call(*name.split(), "--help").stdout.split())
        assert summary in own
    assert app.info.name == "sqlstable"


CUT_OFF = """\
import sys
from sqlstable.__main__ import main

class Finder:
    left = {after}

    def find_spec(self, *_):
        Finder.left -= 1
        if Finder.left == 0:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Finder())
sys.argv = ["sqlstable", "--help"]
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 2, 3, 5, 10, 30, 100])
def test_ctrl_c_while_the_program_is_imported_ends_it_with_130(after):
    done = run_child("-c", CUT_OFF.format(after=after), env=ENVIRONMENT)
    assert (done.returncode, done.stderr) == (130, "Error: interrupted\n")


def test_commands_of_two_words_are_in_a_group(monkeypatch, capsys):
    listed = {"report again": COMMANDS["report"], "inspect again": COMMANDS["inspect"]}
    monkeypatch.setattr("sqlstable.cli.COMMANDS", listed)
    for arguments, words in (
        (["--help"], ["report again  ", "inspect again  "]),
        (["report", "--help"], ["sqlstable report", "  again  "]),
        (["report", "again", "--help"], ["sqlstable report again", "TRACE"]),
    ):
        with pytest.raises(SystemExit) as ended:
            app(arguments, prog_name="sqlstable")
        assert ended.value.code == 0
        shown = capsys.readouterr().out
        assert [it for it in words if it not in shown] == []
    for arguments, words in (
        (["report", "other"], "No such command 'other'"),
        (["report", "again", "missing.trace"], "Error: there is no trace file missing.trace"),
    ):
        with pytest.raises(SystemExit) as ended:
            app(arguments, prog_name="sqlstable")
        assert ended.value.code == 2
        assert words in capsys.readouterr().err
