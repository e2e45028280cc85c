"""Ready workloads: found by name, plain SQL, sound at every size, and as flat as they are meant.

CI runs these on the built wheel, which therefore holds the scripts.
"""

import sqlite3
from pathlib import Path
from statistics import median

import pytest

from sqlstable.analysis.scaling.laws import fit
from sqlstable.canister.canister import Canister
from sqlstable.cli.script_source import read_script
from sqlstable.errors import ScriptError
from sqlstable.workload.execution import run_steps
from sqlstable.workload.placeholders import fill_placeholders
from sqlstable.workload.ready_made import (
    FOLDER,
    list_ready_workloads,
    ready_workload,
    ready_workloads,
)
from sqlstable.workload.stepping.ready_steps import ready_names
from tests.test_cli import call

NAMES = [it.name for it in ready_workloads()]
SMALL_MESSAGES = {"churn": "turn over", "game-tick": "tick", "ledger": "transfer"}

WHOLE = {
    "ledger": (
        "SELECT sum(balance) = :n * 1000000 AND count(*) = :n AND min(balance) >= 0"
        " AND (SELECT count(*) FROM journal) = 5 FROM account"
    ),
    "game-tick": (
        "SELECT count(*) = :n AND min(cell = x / 64 * 64 + y / 64) = 1"
        " AND (SELECT tick FROM world) = 5 FROM entity"
    ),
    "churn": (
        "SELECT count(*) = :n AND max(id) - min(id) + 1 = :n AND max(id) = :n + 5 * 4 FROM entry"
    ),
}
"""What is true after a script has run, whatever its size."""


def played(name, **params):
    """Run a ready workload, and return the canister it ran in."""
    canister = Canister(trace=":memory:", limits=None)
    steps = read_script(f"@{name}", params).steps
    outcome = run_steps(canister, steps, cache=None, name=name)
    assert outcome.failure is None, outcome.failure
    return canister


def in_sqlite(text):
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(text)
    return connection


def test_each_has_a_line_a_size_and_a_small_message():
    assert set(NAMES) == SMALL_MESSAGES.keys() == WHOLE.keys()
    for one in ready_workloads():
        assert 20 < len(one.summary) < 70
        assert f"--@ label {SMALL_MESSAGES[one.name]}\n--@ repeat 5\n" in one.text
        assert one.size.default == 1000
    assert all(len(line) <= 80 for line in list_ready_workloads().splitlines())


def test_every_script_of_the_folder_is_one():
    known = {f"{name}.sql" for name in NAMES} | {f"{name}.calls" for name in ready_names()}
    assert {path.name for path in FOLDER.iterdir()} == known


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 2, 3, 10, 100, 101])
def test_each_leaves_what_it_says_at_every_size(name, size):
    one = ready_workload(name)
    with played(name, **{one.size.name: size}) as canister:
        assert canister.query(WHOLE[name], {"n": size}).rows == [(1,)]


@pytest.mark.parametrize("name", NAMES)
def test_each_is_plain_sql_that_sqlite_takes(name):
    """The directives are comments there, so each message comes once."""
    text = fill_placeholders(ready_workload(name).text, {})
    connection = in_sqlite(text)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_small_messages_stay_small_as_there_is_more(name):
    """Medians of the message, at sizes far apart: far from proportional, and a dozen at most."""
    sizes = (100, 1000, 10_000)
    found = []
    for size in sizes:
        with played(name, **{ready_workload(name).size.name: size}) as canister:
            found.append(
                median(
                    message.stable.os_pages_accessed
                    for message in canister.trace().messages
                    if message.label == SMALL_MESSAGES[name]
                )
            )
    assert found[-1] <= 12, found
    assert fit(sizes, found).exponent.value < 0.3, found


def test_the_list_and_a_wrong_name_say_which_there_are():
    listed = call("run", "@")
    assert (listed.exit_code, listed.stderr) == (0, "")
    assert listed.stdout == call("scale", "@").stdout == call("sweep", "@").stdout
    for name in NAMES:
        assert f"@{name} " in listed.stdout
    for command in ("run", "scale", "sweep"):
        wrong = call(command, "@leger")
        assert wrong.exit_code == 2
        assert "no ready workload @leger; there are @churn, @game-tick, @ledger" in wrong.stderr
    with pytest.raises(ScriptError, match=r"given as \./@leger"):
        ready_workload("leger")


def test_one_is_shown_as_it_stands_and_runs_from_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = call("run", "@ledger", "--show")
    assert shown.stdout == ready_workload("ledger").text
    Path("@ledger").write_text(shown.stdout)
    assert call("run", "./@ledger").stdout == call("run", "@ledger").stdout


def test_a_run_takes_other_values_for_parameters():
    shown = call("run", "@churn", "--show", "--param", "rows=1e2", "--param", "batch=7")
    assert shown.stdout == fill_placeholders(
        ready_workload("churn").text, {"rows": 100, "batch": 7}
    )
    ran = call("run", "@churn", "--param", "rows=100", "--format", "csv")
    assert ran.exit_code == 0
    assert "n WHERE i < /*@rows*/ 100)" in ran.stdout


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["entities"], "is not NAME=VALUE"),
        (["entities=1,2"], "a run takes one"),
        (["entities=ann"], "is a number, and 'ann' is none"),
        (["rows=5"], "no parameter 'rows'; it has entities"),
        (["entities=1", "entities=2"], "stands there twice"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_runs(given, said):
    options = [word for text in given for word in ("--param", text)]
    result = call("run", "@ledger", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_scale_has_sizes_of_its_own_for_a_ready_workload():
    result = call("scale", "@ledger", "--check", "none", "--workers", 1)
    assert result.exit_code == 0, result.stderr
    assert "entities: 100 · 300 · 1,000 · 3,000 · 10,000 · 30,000" in result.stdout
    one_size = call("scale", "@ledger", "--param", "entities=5")
    assert one_size.exit_code == 2
    assert "scale wants sizes of one parameter" in one_size.stderr
