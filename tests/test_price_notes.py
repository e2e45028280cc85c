"""Notes on prices: of days after the newest list, and of assumptions where little is counted."""

import pytest

from sqlstable import Canister
from sqlstable.ic.assumptions import ASSUMPTIONS, reaches_stable
from tests.test_cli import call

NEWEST = (
    "Note: no prices are known after 2026-08-18, so these are those of that day: memory-tracker, "
    "since 2026-07-01"
)
ALONE = "Note: the native engine counts stable memory's part of instructions alone"
REST = "; --engine wasm counts all"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a script, a trace of the native engine, and a budget that they keep."""
    folder = tmp_path_factory.mktemp("notes")
    script, trace, budget = (folder / it for it in ("w.sql", "w.trace", "b.toml"))
    script.write_text("CREATE TABLE t (a);")
    budget.write_text("[each_message]\nos_pages_accessed = 100\n")
    with Canister(trace=trace) as canister:
        canister.update("CREATE TABLE t (a)")
    return {"run": [script], "report": [trace], "check": [script, "--budget", budget]}


@pytest.mark.parametrize("command", ["run", "report", "check", "prices"])
@pytest.mark.parametrize(("day", "is_told"), [("2026-08-19", True), ("2026-08-18", False)])
def test_a_day_after_the_newest_list_gets_that_and_is_told_so(made, command, day, is_told):
    options = [day] if command == "prices" else [*made[command], "--prices", day]
    done = call(command, *options)
    assert done.exit_code == 0
    assert done.stderr.splitlines() == [NEWEST] * is_told


def test_a_trace_is_held_to_budgets_under_the_newest_list_likewise(made):
    [trace], [_, option, budget] = made["report"], made["check"]
    done = call("check", trace, option, budget, "--prices", "2040-01-01")
    assert (done.exit_code, done.stderr.splitlines()) == (0, [NEWEST])


@pytest.mark.parametrize("command", ["run", "report", "check"])
@pytest.mark.parametrize(
    ("assumed", "words"),
    [
        (["stable-write-charges=once"], ", where stable-write-charges holds as assumed"),
        (["wasm64-heap-factor=4"], "; nothing in it depends on wasm64-heap-factor"),
        (
            ["stable-write-charges=once", "wasm64-heap-factor=4", "stable-call-charge=0"],
            (
                ", where stable-write-charges and stable-call-charge hold as assumed; nothing in "
                "it depends on wasm64-heap-factor"
            ),
        ),
    ],
)
def test_what_is_assumed_reaches_stable_memory_alone_on_the_native_engine(
    made, command, assumed, words
):
    options = [word for it in assumed for word in ("--assume", it)]
    done = call(command, *made[command], *options)
    assert (done.exit_code, done.stderr.splitlines()) == (0, [ALONE + words + REST])
    assert ALONE not in call(command, *made[command]).stderr


def test_which_assumptions_reach_stable_memory():
    reached = {
        name
        for name, assumption in ASSUMPTIONS.items()
        if {reaches_stable(name, it) for it in assumption.lists} == {True}
    }
    # By what each question is about: heap and floats are not stable memory.
    assert set(ASSUMPTIONS) - reached == {"heap-dirty-unit", "wasm64-heap-factor", "float-weights"}
