"""Long traces: read a stretch at a time, and they say the same."""

import sqlite3
from contextlib import closing, suppress

import pytest

from sqlstable import Canister, SqlError, TraceError, open_trace
from sqlstable.report.as_csv import render_csv
from sqlstable.report.as_json import render_json
from sqlstable.report.as_table import render_table
from sqlstable.trace.format import reader, records


@pytest.mark.parametrize("stretch", [1, 3, 7, 1000])
def test_a_long_trace_is_read_in_stretches_and_says_the_same(tmp_path, monkeypatch, stretch):
    path = tmp_path / "long.trace"
    with Canister(trace=path) as canister:
        canister.update("CREATE TABLE t (x UNIQUE); CREATE TABLE u (y)")
        for number in range(20):
            with suppress(SqlError), canister.message() as message:
                for part in range(number % 4):
                    message.execute(f"INSERT INTO t VALUES ({number * part})")
            canister.query("SELECT * FROM t", label=str(number))
    with open_trace(path) as trace:
        whole = trace.messages, trace.statements
        views = rendered(trace)
    monkeypatch.setattr(reader, "RECORDS_HELD_MAX", 5)
    monkeypatch.setattr(records, "STRETCH", stretch)
    with open_trace(path) as trace:
        assert isinstance(trace.messages, records.Records)
        assert isinstance(trace.statements, records.Records)
        assert (tuple(trace.messages), tuple(trace.statements)) == whole
        assert trace.statements[-1] == whole[1][-1]
        assert trace.messages[3:9:2] == whole[0][3:9:2]
        with pytest.raises(IndexError):
            trace.messages[len(whole[0])]
        assert rendered(trace) == views


def rendered(trace):
    tables = [render_table(trace, by=by) for by in ("statement", "shape", "owner", "message")]
    return [
        *tables,
        "".join(render_json(trace)),
        *(render_csv(trace, by=by) for by in ("message", "shape")),
    ]


def test_a_long_trace_that_lacks_a_message_is_damaged(tmp_path, monkeypatch):
    path = tmp_path / "long.trace"
    with Canister(trace=path) as canister:
        for _ in range(9):
            canister.query("SELECT 1")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM message WHERE message_index = 4")
    monkeypatch.setattr(reader, "RECORDS_HELD_MAX", 5)
    with open_trace(path) as trace, pytest.raises(TraceError, match="damaged"):
        list(trace.messages)
