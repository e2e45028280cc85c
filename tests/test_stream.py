"""A long trace is added up by SQLite, and shown and written with a part of it in memory."""

import json
import sqlite3
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from sqlstable import Canister, TraceError, Trap, open_trace
from sqlstable.ic.limits import latest_limits
from sqlstable.report.as_json import document, render_json
from sqlstable.report.as_table import render_table
from sqlstable.trace.format import records
from sqlstable.trace.format.stream import StreamedTrace
from tests.hand_built import owners_put_together, shapes_put_together, summarized

GOLDEN = Path(__file__).parent / "golden"
GOLDEN_TRACES = sorted(GOLDEN.glob("trace_v*.trace"))


def trap(canister):
    with suppress(Trap), canister.message("update") as message:
        message.execute("DELETE FROM t")
        message.trap("on purpose")


@pytest.fixture(scope="module")
def long_trace(tmp_path_factory):
    """A trace with more rows than a table shows, with traps and messages of all lengths."""
    path = tmp_path_factory.mktemp("long") / "long.trace"
    with Canister(trace=path) as canister:
        canister.update("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
        for number in range(70):
            with canister.message("update") as message:
                for _ in range(number % 4):
                    message.execute("INSERT INTO t (b) VALUES (randomblob(100))")
            if number % 13 == 0:
                canister.query("SELECT count(*) FROM t")
                canister.upgrade()
            if number % 17 == 0:
                trap(canister)
    return path


@pytest.fixture(scope="module")
def limited_trace(tmp_path_factory):
    """A trace in which some messages pass a limit."""
    path = tmp_path_factory.mktemp("limited") / "limited.trace"
    known = latest_limits()
    limits = replace(known, update=replace(known.update, os_pages_dirty_max=30))
    with Canister(trace=path, limits=limits) as canister:
        canister.update("CREATE TABLE t (a)")
        for kib in (1, 900, 2, 900):
            try:
                canister.update(f"INSERT INTO t VALUES (randomblob({kib * 1024}))")
            except Trap:
                continue
    return path


@pytest.fixture(params=["long", "limited", *(path.name for path in GOLDEN_TRACES)])
def trace(request):
    """Traces of each kind, and of each version of the format."""
    name = request.param
    path = GOLDEN / name if "." in name else request.getfixturevalue(f"{name}_trace")
    with open_trace(path) as opened:
        yield opened


@pytest.fixture(params=[1, 3, 1024])
def streamed(trace, request, monkeypatch):
    """The same trace, a stretch at a time, of several lengths."""
    monkeypatch.setattr(records, "STRETCH", request.param)
    return StreamedTrace(trace)


def test_what_sqlite_adds_up_is_what_the_records_come_to(trace):
    # What was measured and stands for the rest has tests of its own.
    found = replace(trace.summary, blocks=())
    assert found == summarized(trace.messages, trace.statements)


def test_equal_work_is_put_together_as_one_by_one(trace):
    assert trace.shape_uses == shapes_put_together(trace.messages, trace.statements)
    expected = owners_put_together(trace.statements)
    assert sorted(trace.owner_totals, key=repr) == sorted(expected, key=repr)
    assert trace.plan_lines == {line.lstrip() for it in trace.statements for line in it.plan}


def test_some_messages_exceed(limited_trace):
    with open_trace(limited_trace) as opened:
        assert len(opened.summary.exceeding) == 2


def test_records_are_the_same_in_stretches(trace, streamed):
    assert tuple(streamed.messages) == trace.messages
    assert tuple(streamed.statements) == trace.statements
    assert streamed.messages[-1] == trace.messages[-1]
    assert streamed.statements[:2] == trace.statements[:2]


@pytest.mark.parametrize("width", [60, 100])
def test_a_table_in_stretches_is_the_same(trace, streamed, width):
    assert render_table(streamed, width=width) == render_table(trace, width=width)


def test_json_in_pieces_is_the_same(trace, streamed):
    text = "".join(render_json(streamed))
    assert text == json.dumps(document(trace), indent=2, allow_nan=False) + "\n"


def test_a_table_of_a_long_trace_reads_only_what_it_shows(long_trace, monkeypatch):
    monkeypatch.setattr(records, "STRETCH", 4)
    with open_trace(long_trace) as opened:
        read, at = [], opened.statements_at

        def noted(first, last):
            read.append(last - first + 1)
            return at(first, last)

        monkeypatch.setattr(opened, "statements_at", noted)
        render_table(StreamedTrace(opened))
        assert sum(read) <= 70 < opened.statement_count


def test_a_trace_that_has_lost_records_is_said_to_be_damaged(long_trace, tmp_path):
    path = tmp_path / "lost.trace"
    path.write_bytes(long_trace.read_bytes())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM statement WHERE statement_index = 5")
    with open_trace(path) as opened, pytest.raises(TraceError, match="damaged"):
        "".join(render_json(StreamedTrace(opened)))
