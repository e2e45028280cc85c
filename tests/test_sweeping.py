"""Runs by the hundred: the same results from every executor, kept whole whatever happens."""

import pickle
from dataclasses import replace
from random import Random

import pytest

from sqlstable import Canister
from sqlstable.analysis.scaling.pareto import non_dominated, sweep_results
from sqlstable.analysis.scaling.runs import RunResult
from sqlstable.workload.sweeping.one_run import run_spec
from sqlstable.workload.sweeping.spec import make_spec, source_file

SCRIPT = """\
CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT);
CREATE INDEX t_body ON t (body);
--@ label fill
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < /*@rows*/ 100)
INSERT INTO t (body) SELECT printf('row %08d', n) FROM c;
SELECT count(*) FROM t;
SELECT body FROM t WHERE id = 7;
"""


# -- one run ---------------------------------------------------------------------------------------


def test_a_run_is_what_a_canister_does():
    result = run_spec(make_spec(SCRIPT, parameters={"rows": 300}, choices={"page_size": 512}))
    with Canister(page_size=512, trace=":memory:") as canister:
        for sql in SCRIPT.replace("*/ 100", "*/ 300").split(";")[:-1]:
            with canister.message("query" if "SELECT" in sql[:9] else "update") as message:
                message.execute(sql)
        with canister.trace() as trace:
            stable = [it.stable for it in trace.messages]
    assert result.failure is None
    assert [it.os_pages_accessed for it in result.messages] == [
        it.os_pages_accessed for it in stable
    ]
    assert [it.os_pages_dirty for it in result.messages] == [it.os_pages_dirty for it in stable]
    assert result.settings["page_size"] == 512
    assert [it.label for it in result.messages] == [None, None, None, "fill", None, None]
    assert result.statements[-1].plan == ("SEARCH t USING INTEGER PRIMARY KEY (rowid=?)",)
    assert result.index_uses == {"t_body": 0}, "a count goes through the table"
    assert result.instructions is None


def test_a_description_and_a_result_travel_between_processes():
    spec = make_spec(SCRIPT)
    assert pickle.loads(pickle.dumps(spec)) == spec
    result = run_spec(spec)
    assert pickle.loads(pickle.dumps(result)) == result == run_spec(spec)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"script": "SELECT x FROM y"}, "line 1: no such table: y"),
        ({"script": "SELECT 'open"}, "never closes"),
        ({"script": ".quit"}, "a command of the sqlite3 shell"),
        ({"parameters": {"size": 3}}, "no parameter 'size'"),
        ({"choices": {"layout": "raw", "journal_mode": "persist"}}, "has room for the database"),
        ({"choices": {"page_size": 1000}}, "must be a power of two"),
        ({"choices": {"build": "lean"}}, "concerns the wasm engine"),
        ({"choices": {"engine": "steam"}}, "must be one of native, wasm"),
        ({"script": "--@ params none.csv\nINSERT INTO t VALUES (?)"}, "cannot be read"),
    ],
)
def test_a_run_that_cannot_be_is_a_result_that_says_so(changes, text):
    made = {"script": SCRIPT, **changes}
    result = run_spec(make_spec(made.pop("script"), **made))
    assert text in result.failure
    assert result.choices == changes.get("choices", {})


def test_a_failure_of_ours_is_a_result_too(monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("sqlstable.workload.sweeping.one_run.parse_script", broken)
    assert run_spec(make_spec(SCRIPT)).failure == (
        "this should not have happened: ZeroDivisionError: oh"
    )


def test_a_file_must_be_what_it_was_when_the_run_was_described(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("1\n2\n")
    script = "CREATE TABLE t (x);\n--@ params rows.csv\nINSERT INTO t VALUES (?);"
    spec = make_spec(script, folder=tmp_path, rows=[source_file(path)])
    assert run_spec(spec).failure is None
    path.write_text("1\n2\n3\n")
    assert "has changed since the sweep began" in run_spec(spec).failure
    assert spec.key != make_spec(script, folder=tmp_path, rows=[source_file(path)]).key
    path.unlink()
    assert "workers on other machines" in run_spec(spec).failure


def test_a_process_of_another_version_refuses():
    spec = replace(make_spec(SCRIPT), versions=("0.0.1", "3.0.0"))
    assert "sqlstable 0.0.1 with SQLite 3.0.0" in run_spec(spec).failure


def test_the_key_is_of_the_content_and_of_nothing_else(tmp_path):
    spec = make_spec(SCRIPT, choices={"page_size": 512, "seed": 1}, parameters={"rows": 5})
    same = make_spec(
        SCRIPT,
        name="other",
        folder=tmp_path,
        choices={"seed": 1, "page_size": 512},
        parameters={"rows": 5},
    )
    assert spec.key == same.key
    for change in (
        {"script": SCRIPT + "\n"},
        {"choices": ()},
        {"cache": "fresh"},
        {"parameters": (("rows", 6),)},
        {"versions": ("9", "9")},
    ):
        assert replace(spec, **change).key != spec.key


# -- the front -------------------------------------------------------------------------------------


def test_the_front_holds_what_no_other_point_dominates():
    draw = Random(4)
    for _ in range(200):
        points = {tuple(draw.randrange(6) for _ in range(3)) for _ in range(draw.randrange(1, 20))}
        front = non_dominated(points)
        for point in points:
            beaten = any(
                other != point and all(a <= b for a, b in zip(other, point, strict=True))
                for other in points
            )
            assert (point not in front) == beaten


def test_rows_that_failed_are_numbered_but_not_compared():
    done = run_spec(make_spec(SCRIPT))
    failed = RunResult({"page_size": 3}, {}, {}, failure="no")
    found = sweep_results([{"page_size": 4096}, {"page_size": 3}], [done, failed])
    assert [(it.number, it.is_on_front) for it in found.rows] == [(1, True), (2, False)]
    assert found.best is found.rows[0]
    assert found.varied == ("page_size",)
    assert sweep_results([], []).best is None
    later = sweep_results([{"page_size": size} for size in (1, 2, 3)], [None, done, None])
    assert [(it.number, it.choices["page_size"]) for it in later.rows] == [(2, 2)]
    assert sweep_results([{}], [failed]).best is None
