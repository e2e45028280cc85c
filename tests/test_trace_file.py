"""The trace file: everything comes back, any SQLite tool opens it, every refusal has a reason."""

import gc
import itertools
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import astuple, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sqlstable.trace.format.file as trace_file
from sqlstable.analysis.growth import filling
from sqlstable.errors import LimitTrap, TraceError
from sqlstable.ic.limits import NO_LIMIT, latest_limits
from sqlstable.ic.words import GROW, PHASES, READ, SIZE, WRITE
from sqlstable.memory.bytemap import accessed_trap, dirty_trap
from sqlstable.report.as_json import document
from sqlstable.report.as_table import By, render_table
from sqlstable.trace.blocks import decode_accesses
from sqlstable.trace.format.file import (
    TRACE_APPLICATION_ID,
    TRACE_FORMAT_VERSION,
    TraceWriter,
    open_trace,
)
from sqlstable.trace.model import (
    Accesses,
    Calls,
    HeapUse,
    Instructions,
    LimitUse,
    LoopUse,
    Message,
    OutsideUse,
    OwnerFault,
    OwnerRun,
    OwnerRuns,
    OwnerUse,
    SqliteCounters,
    StableArea,
    StableUse,
    Statement,
)
from sqlstable.wasm.traps import TrapCode, trap_of
from tests.sim.cutting import Cut, Places

GOLDEN = Path(__file__).parent / "golden"
BUCKET_BYTES = 8 * 1024 * 1024


# Records made by hand. The golden traces hold them: they never change. ------------------------


def accesses_of(*rows):
    kind, address, length, offset = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Accesses(
        np.array(kind, np.int8),
        np.array(address, np.int64),
        np.array(length, np.int64),
        np.array(offset, np.int64),
    )


def scan(first, count):
    offset = np.arange(first, first + count, dtype=np.int64) * 4096
    # From the second bucket on another memory lies between.
    address = offset + 65_536 + (offset >= BUCKET_BYTES) * BUCKET_BYTES
    return Accesses(np.full(count, READ, np.int8), address, np.full(count, 4096, np.int64), offset)


OPENING = accesses_of((SIZE, 0, 0, -1), (READ, 0, 64, -1), (READ, 65_536, 100, 0))
CREATION = accesses_of(
    (GROW, 0, 128, -1),
    (WRITE, 0, 2080, -1),
    (WRITE, 65_536, 4096, 0),
    (WRITE, 69_632, 4096, 4096),
)
LARGE = accesses_of((READ, 2**62, 2**40, 2**61), (WRITE, 2**63 - 1, 1, 2**63 - 2))


def use(read=0, write=0, *, size=0, grow=0, dirty=0):
    """Return use that is plausible, and different in every column."""
    return StableUse(
        calls=Calls(read=read, write=write, size=size, grow=grow),
        bytes_read=4096 * read,
        bytes_written=4096 * write + 7,
        os_pages_accessed=read + dirty + 1,
        os_pages_dirty=dirty,
        wasm_pages_accessed=1 + read // 16,
        wasm_pages_dirty=min(dirty, 1),
    )


STATEMENTS = (
    Statement(
        index=0,
        message=0,
        sql="CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT)",
        shape="CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT)",
        kind="ddl",
        row_count=0,
        runs=1,
        plan=(),
        stable=use(1, 3, grow=1, dirty=2),
        phases={
            "prepare": use(1),
            "run": use(0, 2, grow=1, dirty=1),
            "commit": use(0, 1, dirty=1),
        },
        sqlite=SqliteCounters(hits=0, vm_steps=31, fullscan_steps=0, sorts=0),
        owners=(
            OwnerUse("sqlite_schema", "sqlite_schema", "table", "leaf", 2, 1),
            OwnerUse("memory manager", "", "memory manager", "", 1, 1),
        ),
    ),
    Statement(
        index=1,
        message=1,
        sql="SELECT owner FROM account WHERE owner > 'Zoë' ORDER BY 1",
        shape="SELECT owner FROM account WHERE owner > ? ORDER BY ?",
        kind="read",
        row_count=17,
        runs=1,
        plan=("SCAN account", "USE TEMP B-TREE FOR ORDER BY"),
        stable=use(300),
        phases={"prepare": StableUse(), "run": use(300), "commit": StableUse()},
        sqlite=SqliteCounters(hits=12, vm_steps=4711, fullscan_steps=299, sorts=1),
        owners=(OwnerUse("account", "account", "table", "leaf", 300, 0),),
    ),
    Statement(
        index=2,
        message=1,
        sql="SELECT owner FROM account WHERE owner > 'Zoë' ORDER BY 1",
        shape="SELECT owner FROM account WHERE owner > ? ORDER BY ?",
        kind="read",
        row_count=17,
        runs=1,
        plan=("SCAN account", "USE TEMP B-TREE FOR ORDER BY"),
        stable=StableUse(),
        phases=dict.fromkeys(PHASES, StableUse()),
        sqlite=SqliteCounters(),
        owners=(),
    ),
    Statement(
        index=3,
        message=3,
        sql="INSERT INTO account VALUES (?, ?)",
        shape="INSERT INTO account VALUES (?, ?)",
        kind="write",
        row_count=0,
        runs=100_000,
        plan=(),
        stable=use(1, 1, dirty=1),
        phases={"prepare": StableUse(), "run": use(1, 1, dirty=1), "commit": StableUse()},
        sqlite=SqliteCounters(hits=2**63 - 1, vm_steps=1, fullscan_steps=0, sorts=0),
        owners=(OwnerUse("account", "account", "table", "leaf", 1, 1),),
    ),
)

MESSAGES = (
    Message(
        index=0,
        kind="install",
        label=None,
        outcome="committed",
        trap=None,
        discarded_writes=False,
        cache=None,
        statements=(0,),
        stable=use(3, 3, size=1, grow=1, dirty=2),
        outside=(OutsideUse("open", use(2, size=1)), OutsideUse("message", use(0, 1))),
        limits=(LimitUse("os_pages_dirty", 2, 2048), LimitUse("os_pages_accessed", 3, NO_LIMIT)),
        image_bytes=129 * 65_536,
    ),
    Message(
        index=1,
        kind="query",
        label="all owners",
        outcome="discarded",
        trap=None,
        discarded_writes=True,
        cache="cold",
        statements=(1, 2),
        stable=use(300),
        outside=(),
        limits=(),
        image_bytes=129 * 65_536,
    ),
    Message(
        index=2,
        kind="upgrade",
        label=None,
        outcome="committed",
        trap=None,
        discarded_writes=False,
        cache=None,
        statements=(),
        stable=StableUse(),
        outside=(OutsideUse("close", StableUse()),),
        limits=(),
        image_bytes=129 * 65_536,
    ),
    Message(
        index=3,
        kind="update",
        label="load",
        outcome="trapped",
        trap="stable memory out of bounds",
        discarded_writes=False,
        cache="warm",
        statements=(3,),
        stable=use(1, 1, dirty=1),
        outside=(),
        limits=(LimitUse("os_pages_dirty", 2048, 2048),),
        image_bytes=2**40,
    ),
)

# Version 1 knew no costs; the records are the same otherwise.
MESSAGES_WITHOUT_COSTS, STATEMENTS_WITHOUT_COSTS = MESSAGES, STATEMENTS
MESSAGES = (
    replace(
        MESSAGES[0],
        instructions=Instructions(2_535_026, 204_573, 330_453, 2_000_000),
        heap=HeapUse(13, 12, 24, 1_900_544),
    ),
    replace(
        MESSAGES[1],
        instructions=Instructions(900, 800, 100, 0, measured=False, error_band=0.25),
    ),
    *MESSAGES[2:],
)
STATEMENTS = (
    replace(
        STATEMENTS[0],
        instructions=Instructions(1_486_511, 196_058, 330_453, 960_000),
        phase_instructions={"prepare": 84_462, "run": 107_739, "commit": 334_310, "reply": 0},
        loops=(
            LoopUse("account", "SCAN account", 1, 3, 1000.5),
            LoopUse("other", "SEARCH other", 3, -1, 1.0),
        ),
    ),
    *STATEMENTS[1:],
)

# Version 2 knew no limits of traps.
MESSAGES_WITHOUT_TRAP_LIMITS = MESSAGES
MESSAGES = (*MESSAGES[:3], replace(MESSAGES[3], trap_limit="os_pages_dirty"))

OWNER_FAULTS = (OwnerFault(0, "tables größer and b share one root"), OwnerFault(3, ""))

OWNER_RUNS = (
    OwnerRun(0, 1, 1, "sqlite_schema", "sqlite_schema", "table", "leaf"),
    OwnerRun(0, 2, 300, "account", "account", "table", "leaf"),
    OwnerRun(3, 5, 2, "", "", "freelist", "trunk"),
)

AREAS = (
    StableArea(0, "main.db", "database", 120, BUCKET_BYTES, BUCKET_BYTES, BUCKET_BYTES, 8192, 4096),
    StableArea(0, "memory manager", "memory manager", None, 65_536, 65_536, 65_536, 34_848, 0),
    StableArea(3, "main.db", "database", 120, 2**39, BUCKET_BYTES, 2**39, 2**38 + 4096, 0),
    StableArea(3, "größer.db-journal", "journal", 122, 2**38, BUCKET_BYTES, 65_536, 512, 0),
)

SETTINGS = {
    "engine": "native",
    "page_size": 4096,
    "preset": None,
    "limits": {"os_pages_accessed": NO_LIMIT},
    "prices": ["memory-tracker", 1.5, True],
    "note": "größer als 4 GiB ✓",
}

STATEMENT_ACCESSES = {0: CREATION, 1: scan(1900, 300), 3: LARGE}
OUTSIDE_ACCESSES = {(0, 0): OPENING, (0, 1): accesses_of((WRITE, 0, 7, -1))}


def as_columns(runs):
    return [
        OwnerRuns(run.since_message, [run.first_sqlite_page], [run.sqlite_page_count], [run])
        for run in runs
    ]


def write_by_hand(writer, count=None):
    for message in MESSAGES[:count]:
        outside = [
            [OUTSIDE_ACCESSES.get((message.index, position), accesses_of())]
            for position in range(len(message.outside))
        ]
        writer.write(
            message,
            [STATEMENTS[index] for index in message.statements],
            statement_accesses={
                index: [
                    STATEMENT_ACCESSES[index].slice(0, 1),
                    STATEMENT_ACCESSES[index].slice(1, 999),
                ]
                for index in message.statements
                if index in STATEMENT_ACCESSES
            },
            outside_accesses=outside,
            owner_runs=as_columns(run for run in OWNER_RUNS if run.since_message == message.index),
            areas=[area for area in AREAS if area.message == message.index],
            owner_fault=next(
                (it.text for it in OWNER_FAULTS if it.since_message == message.index), None
            ),
        )


def write_golden(path):
    """Write the trace that tests/golden keeps; to be called once for each format version."""
    with TraceWriter(path, SETTINGS) as writer:
        write_by_hand(writer)


def assert_by_hand(
    trace, areas=AREAS, messages=MESSAGES, statements=STATEMENTS, owner_faults=OWNER_FAULTS
):
    assert trace.areas == areas
    assert trace.owner_faults == owner_faults
    assert trace.settings.values == {**SETTINGS, "closed": True}
    assert trace.messages == messages
    assert trace.statements == statements
    assert trace.owners == OWNER_RUNS
    for statement in STATEMENTS:
        expected = STATEMENT_ACCESSES.get(statement.index, accesses_of())
        assert_equal(trace.accesses(statement), expected)
        assert_equal(trace.accesses(statement.index), expected)
    for message in MESSAGES:
        outside = trace.outside_accesses(message)
        assert [name for name, _ in outside] == [entry.name for entry in message.outside]
        for position, (_, accesses) in enumerate(outside):
            expected = OUTSIDE_ACCESSES.get((message.index, position), accesses_of())
            assert_equal(accesses, expected)


def assert_equal(actual, expected):
    for name in ("kind", "address", "length", "offset"):
        np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name))


@pytest.fixture
def path(tmp_path):
    """Return a finished trace made by hand."""
    write_golden(tmp_path / "run.trace")
    return tmp_path / "run.trace"


@pytest.fixture
def plain(path):
    """Return a connection to a finished trace, as any SQLite tool would make it."""
    with closing(sqlite3.connect(path)) as connection:
        yield connection


# Everything comes back ------------------------------------------------------------------------


def test_everything_comes_back_from_a_file(path):
    with open_trace(path) as trace:
        assert_by_hand(trace)


def test_everything_comes_back_from_memory():
    with TraceWriter(None, SETTINGS) as writer:
        write_by_hand(writer)
    with writer.trace() as trace:
        assert_by_hand(trace)


def test_the_golden_trace_of_format_version_1_stays_readable():
    with open_trace(GOLDEN / "trace_v1.trace") as trace:
        assert_by_hand(
            trace,
            areas=(),
            messages=MESSAGES_WITHOUT_COSTS,
            statements=STATEMENTS_WITHOUT_COSTS,
            owner_faults=(),
        )


def test_the_golden_trace_of_format_version_2_stays_readable():
    with open_trace(GOLDEN / "trace_v2.trace") as trace:
        assert_by_hand(trace, messages=MESSAGES_WITHOUT_TRAP_LIMITS, owner_faults=())


def test_the_golden_trace_of_format_version_3_stays_readable():
    with open_trace(GOLDEN / "trace_v3.trace") as trace:
        assert_by_hand(trace)


def test_the_golden_trace_is_of_the_format_written_here(path):
    """SQLite notes its own version in the file; the rest is the same."""
    with closing(sqlite3.connect(GOLDEN / f"trace_v{TRACE_FORMAT_VERSION}.trace")) as golden:
        expected = list(golden.iterdump())
    with closing(sqlite3.connect(path)) as written:
        assert list(written.iterdump()) == expected


def test_traces_of_every_format_version_render(path):
    for each in (*sorted(GOLDEN.glob("*.trace")), path):
        with open_trace(each) as trace:
            for by in get_args(By):
                assert "accessed" in render_table(trace, by=by)
            assert document(trace)["totals"]["image_bytes"] == 2**40


counts = st.integers(0, 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
uses = st.builds(
    StableUse,
    st.builds(Calls, counts, counts, counts, counts),
    *[counts] * 6,
)
maybe_counts = st.none() | counts
owner_uses = st.builds(OwnerUse, texts, texts, texts, texts, counts, counts)
row_lists = st.lists(
    st.tuples(st.integers(0, 3), counts, counts, st.integers(-1, 2**63 - 1)), max_size=5
)


@st.composite
def recordings(draw):
    """Return messages, each with its statements, accesses, outside accesses and owner runs."""
    next_index = 0
    recorded = []
    for index in range(draw(st.integers(0, 4))):
        first, next_index = next_index, next_index + draw(st.integers(0, 3))
        statements = [
            draw(
                st.builds(
                    Statement,
                    index=st.just(number),
                    message=st.just(index),
                    sql=texts,
                    shape=texts,
                    kind=texts,
                    row_count=counts,
                    runs=counts,
                    plan=st.lists(texts, max_size=3).map(tuple),
                    stable=uses,
                    phases=st.fixed_dictionaries(dict.fromkeys(PHASES, uses)),
                    sqlite=st.builds(SqliteCounters, *[maybe_counts] * 4),
                    owners=st.lists(owner_uses, max_size=3).map(tuple),
                )
            )
            for number in range(first, next_index)
        ]
        message = draw(
            st.builds(
                Message,
                index=st.just(index),
                kind=texts,
                label=st.none() | texts,
                outcome=texts,
                trap=st.none() | texts,
                discarded_writes=st.booleans(),
                cache=st.none() | texts,
                statements=st.just(tuple(range(first, next_index))),
                stable=uses,
                outside=st.lists(st.builds(OutsideUse, texts, uses), max_size=3).map(tuple),
                limits=st.lists(
                    st.builds(LimitUse, texts, counts, counts | st.just(NO_LIMIT)), max_size=3
                ).map(tuple),
                image_bytes=counts,
            )
        )
        rows = {number: draw(row_lists) for number in message.statements}
        outside_rows = [draw(row_lists) for _ in message.outside]
        runs = draw(
            st.lists(
                st.builds(OwnerRun, st.just(index), counts, counts, texts, texts, texts, texts),
                max_size=3,
            )
        )
        recorded.append((message, statements, rows, outside_rows, runs))
    return recorded


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.slow
@given(recordings(), st.dictionaries(texts, json_values, max_size=4))
@settings(max_examples=50)
def test_everything_comes_back_of_any_recording(recorded, values):
    with TraceWriter(None, values) as writer:
        for message, statements, rows, outside_rows, runs in recorded:
            writer.write(
                message,
                statements,
                statement_accesses={index: [accesses_of(*r)] for index, r in rows.items()},
                outside_accesses=[[accesses_of(*r)] for r in outside_rows],
                owner_runs=as_columns(runs),
            )
    with writer.trace() as trace:
        assert trace.settings.values == {**values, "closed": True}
        assert trace.messages == tuple(message for message, *_ in recorded)
        assert trace.statements == tuple(s for _, statements, *_ in recorded for s in statements)
        assert trace.owners == tuple(run for *_, runs in recorded for run in runs)
        for message, _, rows, outside_rows, _ in recorded:
            for index, r in rows.items():
                assert_equal(trace.accesses(index), accesses_of(*r))
            for (_, accesses), r in zip(trace.outside_accesses(message), outside_rows, strict=True):
                assert_equal(accesses, accesses_of(*r))


def test_areas_may_come_after_their_message(tmp_path):
    with TraceWriter(tmp_path / "a.trace", {}) as writer:
        writer.write(MESSAGES[2], [])
        areas = [replace(area, message=2) for area in AREAS[:2]]
        writer.write_areas(areas)
        with writer.trace() as trace:
            assert list(trace.areas) == areas
    assert not writer.is_open
    with pytest.raises(TraceError, match="is closed"):
        writer.write_areas(areas)


def test_accesses_may_be_left_out(tmp_path):
    with TraceWriter(tmp_path / "a.trace", {}) as writer:
        writer.write(MESSAGES[0], STATEMENTS[:1])
        with writer.trace() as trace:
            assert len(trace.accesses(0)) == 0
            assert [(name, len(a)) for name, a in trace.outside_accesses(0)] == [
                ("open", 0),
                ("message", 0),
            ]


def test_the_least_known_texts_may_be_forgotten(monkeypatch):
    monkeypatch.setattr("sqlstable.trace.format.writer._KNOWN_MAX", 1)
    with TraceWriter(None, SETTINGS) as writer:
        write_by_hand(writer)
    with writer.trace() as trace:
        assert_by_hand(trace)


# Any SQLite tool opens it ---------------------------------------------------------------------


def documented_tables():
    return set(re.findall(r"^``(\w+)``", trace_file.__doc__, re.MULTILINE)) - {"statements"}


def test_it_is_a_sound_database_of_its_own_kind(path, plain):
    assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert plain.execute("PRAGMA foreign_key_check").fetchall() == []
    assert plain.execute("PRAGMA application_id").fetchone() == (TRACE_APPLICATION_ID,)
    assert plain.execute("PRAGMA user_version").fetchone() == (TRACE_FORMAT_VERSION,)
    assert plain.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert path.read_bytes()[68:72] == b"SqSt"
    assert [entry.name for entry in path.parent.iterdir()] == ["run.trace"]


def test_the_documented_tables_are_there_and_have_rows(plain):
    tables = {
        name for (name,) in plain.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    }
    assert tables == documented_tables()
    for table in tables:
        assert plain.execute(f"SELECT count(*) FROM {table}").fetchone()[0] > 0, table


def test_the_views_are_documented_and_have_rows(plain):
    views = {
        name for (name,) in plain.execute("SELECT name FROM sqlite_schema WHERE type = 'view'")
    }
    assert views == {"statements", "shapes", "statement_owners", "owner_runs", "areas"}
    for view in views:
        assert f"``{view}``" in trace_file.__doc__
        assert plain.execute(f"SELECT count(*) FROM {view}").fetchone()[0] > 0, view


def test_no_name_says_page_alone(plain):
    names = [name for (name,) in plain.execute("SELECT name FROM sqlite_schema")]
    for name in tuple(names):
        names += [column for _, column, *_ in plain.execute(f"PRAGMA table_info('{name}')")]
    for name in names:
        assert not re.search(r"(?<!sqlite_)(?<!os_)(?<!wasm_)page", name), name


def test_texts_plans_and_owners_are_kept_once(plain):
    assert plain.execute("SELECT count(*) FROM sql_text").fetchone() == (3,)
    assert plain.execute("SELECT count(DISTINCT plan_index) FROM plan").fetchone() == (1,)
    assert plain.execute("SELECT count(*) FROM owner").fetchone() == (4,)


def test_no_limit_is_null(plain):
    rows = plain.execute("SELECT name, limit_value FROM message_limit WHERE message_index = 0")
    assert rows.fetchall() == [("os_pages_dirty", 2048), ("os_pages_accessed", None)]


def test_the_view_of_statements_joins_what_belongs_together(plain):
    plain.row_factory = sqlite3.Row
    rows = plain.execute("SELECT * FROM statements ORDER BY statement_index").fetchall()
    assert [row["sql"] for row in rows] == [statement.sql for statement in STATEMENTS]
    assert rows[1]["plan"] == "SCAN account\nUSE TEMP B-TREE FOR ORDER BY"
    assert rows[1]["label"] == "all owners"
    assert rows[1]["kind"] == "read"
    assert rows[1]["message_kind"] == "query"
    assert rows[0]["os_pages_accessed"] == STATEMENTS[0].stable.os_pages_accessed
    for phase in PHASES:
        assert rows[0][f"{phase}_calls_write"] == STATEMENTS[0].phases[phase].calls.write


def test_the_view_of_areas_says_what_fills_them(plain):
    rows = plain.execute(
        "SELECT data_bytes, free_bytes, rounding_bytes, unused_bytes FROM areas"
        " ORDER BY message_index, position"
    )
    assert rows.fetchall() == [astuple(filling(area)) for area in AREAS]


def test_the_view_of_shapes_puts_equal_work_together(plain):
    rows = plain.execute("SELECT shape, statement_count, os_pages_accessed_sum FROM shapes")
    assert rows.fetchone() == (STATEMENTS[1].shape, 2, 301)


def test_the_hint_in_the_schema_finds_the_owner_of_a_sqlite_page(plain):
    (schema,) = plain.execute("SELECT sql FROM sqlite_schema WHERE name = 'owner_runs'").fetchone()
    hint = "\n".join(re.findall(r"^--   (.*)$", schema, re.MULTILINE))
    assert hint.startswith("SELECT")

    def owner(number, message):
        row = plain.execute(hint, {"number": number, "message": message}).fetchone()
        return row and row[4:8]

    assert owner(5, 2) == ("account", "account", "table", "leaf")
    assert owner(5, 3) == ("", "", "freelist", "trunk")
    assert owner(7, 3) == ("account", "account", "table", "leaf")
    assert owner(302, 3) is None


def test_the_blocks_are_readable_without_the_trace(plain):
    (block,) = plain.execute("SELECT block FROM statement_accesses LIMIT 1").fetchone()
    assert_equal(decode_accesses(block), CREATION)


def test_equal_runs_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write_golden(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# Reading --------------------------------------------------------------------------------------


def test_records_are_read_when_they_are_asked_for(path):
    with open_trace(path) as trace:
        asked = []
        trace._shared.connection.set_trace_callback(asked.append)
        assert trace.settings["engine"] == "native"
        assert asked == []
        assert trace.messages is trace.messages
        assert not any("phase" in sql or "block" in sql for sql in asked)
        assert trace.statements is trace.statements
        assert not any("block" in sql for sql in asked)


def test_what_was_read_outlives_the_file(path):
    trace = open_trace(path)
    messages = trace.messages
    trace.close()
    trace.close()
    path.unlink()
    assert trace.messages == messages
    with pytest.raises(TraceError, match="closed; open it again"):
        _ = trace.statements
    with pytest.raises(TraceError, match="closed"):
        trace.accesses(0)


def test_reading_changes_nothing(path):
    before = path.read_bytes()
    with open_trace(path) as trace:
        assert_by_hand(trace)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            trace._shared.connection.execute("DELETE FROM message")
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 1


def test_a_path_may_look_like_a_uri(tmp_path):
    odd = tmp_path / "50% of?a#b c.trace"
    write_golden(odd)
    with open_trace(str(odd)) as trace:
        assert_by_hand(trace)


@pytest.mark.parametrize("index", [-1, 4, 10**6])
def test_unknown_indexes_are_refused(path, index):
    with open_trace(path) as trace:
        with pytest.raises(TraceError, match=f"no statement with the index {index}"):
            trace.accesses(index)
        with pytest.raises(TraceError, match=f"no message with the index {index}"):
            trace.outside_accesses(index)


@pytest.mark.slow
def test_the_data_frame_has_the_columns_of_the_view(path, plain):
    with open_trace(path) as trace:
        frame = trace.to_pandas()
    cursor = plain.execute("SELECT * FROM statements ORDER BY statement_index")
    assert [frame.index.name, *frame.columns] == [name for name, *_ in cursor.description]
    rows = frame.reset_index().astype(object)
    rows = rows.where(rows.notna(), None)
    assert [tuple(row) for row in rows.itertuples(index=False)] == cursor.fetchall()
    assert str(frame["vm_steps"].dtype) == "Int64"
    assert frame.loc[3, "hits"] == 2**63 - 1
    assert frame.groupby("shape")["os_pages_accessed"].sum().max() == 301


def test_the_data_frame_of_an_empty_trace_has_its_columns():
    with TraceWriter(None, {}) as writer, writer.trace() as trace:
        frame = trace.to_pandas()
    assert len(frame) == 0
    assert "commit_wasm_pages_dirty" in frame.columns


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
def test_the_data_frame_of_an_old_trace_has_the_same_columns(path, version):
    pytest.importorskip("pandas")
    with open_trace(path) as trace, open_trace(GOLDEN / f"trace_v{version}.trace") as old:
        now, then = trace.to_pandas(), old.to_pandas()
    assert list(then.columns) == list(now.columns)
    assert then["instructions_total"].isna().all() == (version == 1)
    assert then["os_pages_accessed"].tolist() == now["os_pages_accessed"].tolist()


@pytest.mark.parametrize(
    ("trap", "limit"),
    [
        (accessed_trap(latest_limits()), "stable_os_pages_accessed"),
        (dirty_trap(latest_limits()), "stable_os_pages_dirty"),
        (trap_of(TrapCode.OUT_OF_INSTRUCTIONS, instruction_limit=40), "instructions"),
        (trap_of(TrapCode.CALLED, text="grow failed: too much"), "stable_memory_bytes"),
        (trap_of(TrapCode.CALLED, text="Exceeded expectations"), None),
    ],
)
def test_an_old_trace_says_by_words_which_limit_trapped(tmp_path, trap, limit):
    """New ones say it by name, with the same result."""
    assert (trap.limit if isinstance(trap, LimitTrap) else None) == limit
    path = tmp_path / "old.trace"
    shutil.copy(GOLDEN / "trace_v2.trace", path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE message SET trap = ? WHERE message_index = 3", (str(trap),))
    with open_trace(path) as trace:
        assert trace.messages[3].trap_limit == limit


def test_a_trace_shows_itself_on_one_line_and_in_a_notebook(path):
    with open_trace(path) as trace:
        assert repr(trace) == f"<Trace {path}: engine native, 4 messages, 4 statements>"
        html = trace._repr_html_()
        assert html.count("<tr>") == 5
        assert "owner &gt; &#x27;Zoë&#x27;" in html
        statement = trace.statements[0]
    assert repr(statement) == (
        "<Statement 0 of message 0: CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT); "
        "OS pages accessed 4, dirty 2; rows 0>"
    )
    assert len(repr(replace(statement, sql="SELECT " + "x, " * 1000))) < 200
    assert "<td>1486511</td>" in statement._repr_html_()


def test_without_pandas_the_way_out_is_named(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with open_trace(path) as trace, pytest.raises(TraceError, match="pip install pandas"):
        trace.to_pandas()


# Refusals to read -----------------------------------------------------------------------------


def refusal(path):
    with pytest.raises(TraceError) as refused:
        open_trace(path)
    return str(refused.value)


def test_a_missing_file(tmp_path):
    missing = tmp_path / "none.trace"
    assert refusal(missing).startswith(f"there is no trace file {missing}; sqlstable run")
    assert list(tmp_path.iterdir()) == []


def test_a_folder(tmp_path):
    assert "cannot be read: Is a directory" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"SQLite format 3\0", bytes(4096)])
def test_no_sqlite_file(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert refusal(tmp_path / "a").endswith("is not a trace: it is not a SQLite file")


def test_a_database_that_is_no_trace(tmp_path):
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        connection.execute("CREATE TABLE t (a)")
    text = refusal(tmp_path / "app.db")
    assert "is a SQLite database but not a trace" in text
    assert "0x00000000" in text
    assert "0x53715374" in text


@pytest.mark.parametrize("version", [0, TRACE_FORMAT_VERSION + 1, 2**31 - 1])
def test_another_format_version(path, plain, version):
    plain.execute(f"PRAGMA user_version = {version}")
    assert refusal(path) == (
        f"{path} has trace format version {version}, and this sqlstable reads up to "
        f"{TRACE_FORMAT_VERSION}; upgrade sqlstable"
    )


def read_everything(path):
    with open_trace(path) as trace:
        for message in trace.messages:
            trace.outside_accesses(message)
        for statement in trace.statements:
            trace.accesses(statement)
        _ = trace.owners, trace.areas, trace.owner_faults


def assert_damaged(path):
    before = path.read_bytes()
    with pytest.raises(TraceError, match="damaged"):
        read_everything(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("table", sorted(documented_tables() - {"message"}))
def test_a_lost_table(path, plain, table):
    plain.execute("PRAGMA legacy_alter_table = ON")
    plain.execute(f"ALTER TABLE {table} RENAME TO lost")
    assert_damaged(path)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE settings SET value = '{' WHERE name = 'engine'",
        "UPDATE settings SET value = x'ff' WHERE name = 'engine'",
        "UPDATE message SET kind = CAST(x'ff' AS TEXT)",
        "DELETE FROM sql_text",
        "DELETE FROM statement_phase WHERE phase = 'run'",
        "DELETE FROM plan",
        "UPDATE statement_accesses SET block = x'' WHERE statement_index = 1",
        "UPDATE statement_accesses SET block = substr(block, 1, 20) WHERE statement_index = 1",
        "UPDATE statement_accesses SET block = 5",
        "UPDATE outside_accesses SET block = x'0102030405'",
    ],
)
def test_lost_rows_and_wrong_values(path, plain, damage):
    plain.execute(damage)
    plain.commit()
    assert_damaged(path)


def test_a_file_cut_short(path):
    path.write_bytes(path.read_bytes()[:20_000])
    assert_damaged(path)


@pytest.mark.slow
def test_any_damaged_part_raises_nothing_but_trace_errors(path):
    content = path.read_bytes()
    for start in range(100, len(content), 499):
        path.write_bytes(content[:start] + b"\xff" * 64 + content[start + 64 :])
        with suppress(TraceError):
            read_everything(path)


def test_a_damaged_block_names_its_place(path, plain):
    plain.execute("UPDATE statement_accesses SET block = x'00' WHERE statement_index = 1")
    plain.commit()
    with open_trace(path) as trace:
        with pytest.raises(TraceError, match=r"run\.trace, statement 1: a block .* is damaged"):
            trace.accesses(1)
        assert_equal(trace.accesses(0), CREATION)


@pytest.mark.slow
def test_a_locked_file(path, plain):
    plain.execute("BEGIN EXCLUSIVE")
    assert refusal(path) == f"{path} cannot be read now: database is locked; try again later"


def test_a_cut_off_trace_alone_in_a_folder_that_allows_no_further_file(tmp_path):
    with TraceWriter(tmp_path / "a.trace", {}):
        shutil.copy(tmp_path / "a.trace", tmp_path / "b.trace")
    # A file that nobody can create, not even an administrator: there is a folder of its name.
    (tmp_path / "b.trace-wal").mkdir()
    assert refusal(tmp_path / "b.trace").endswith(
        "unable to open database file; if its run was cut off, copy it with its -wal file to a "
        "writable folder"
    )


# Refusals to write ----------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("content", [b"", b"precious", b"SQLite format 3\0" + bytes(500)])
def test_a_foreign_file_is_never_replaced(tmp_path, content, overwrite):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(TraceError, match="exists and is not a trace; choose another file"):
        TraceWriter(tmp_path / "a", {}, overwrite=overwrite)
    assert (tmp_path / "a").read_bytes() == content


def test_a_folder_is_never_replaced(tmp_path):
    with pytest.raises(TraceError, match="is not a trace"):
        TraceWriter(tmp_path, {}, overwrite=True)


def test_a_trace_is_replaced_only_when_asked_for(path):
    before = path.read_bytes()
    with pytest.raises(TraceError, match="exists; remove it, choose another file, or ask for"):
        TraceWriter(path, {})
    assert path.read_bytes() == before
    with TraceWriter(path, {}, overwrite=True) as writer:
        write_by_hand(writer, 1)
    with open_trace(path) as trace:
        assert trace.messages == MESSAGES[:1]


def test_bad_settings_leave_an_existing_trace_alone(path):
    before = path.read_bytes()
    for value in ({1, 2}, float("nan"), object()):
        with pytest.raises(TraceError, match="the setting engine cannot be kept as JSON"):
            TraceWriter(path, {"engine": value}, overwrite=True)
    assert path.read_bytes() == before


def test_a_missing_folder(tmp_path):
    with pytest.raises(TraceError, match="cannot be written: unable to open"):
        TraceWriter(tmp_path / "none" / "a.trace", {})


def test_nothing_is_added_to_a_closed_trace(tmp_path):
    writer = TraceWriter(tmp_path / "a.trace", {})
    writer.close()
    writer.close()
    with pytest.raises(TraceError, match="is closed; nothing more can be added"):
        write_by_hand(writer)
    with pytest.raises(TraceError, match="is closed; nothing more can be added"):
        writer.update_settings({})


def test_messages_out_of_order_are_refused(tmp_path):
    writer = TraceWriter(tmp_path / "a.trace", {})
    writer.write(MESSAGES[2], [])
    writer.write(MESSAGES[2], [])
    with pytest.raises(TraceError, match="cannot be written: UNIQUE constraint failed"):
        writer.update_settings({})
    writer.close()


def test_a_flush_that_is_cut_off_anywhere_writes_each_message_once():
    for at in itertools.count(1, 3):
        with TraceWriter(None, {}) as writer:
            write_by_hand(writer, 1)
            places = Places(at)
            with suppress(Cut), places:
                writer.update_settings({"depth": "counters"})
            writer.write(MESSAGES[2], [])
            with writer.trace() as trace:
                assert trace.messages == (MESSAGES[0], MESSAGES[2]), places.where
        if places.where is None:
            break
    assert at > 20


def test_a_full_disk_keeps_what_was_committed(tmp_path):
    writer = TraceWriter(tmp_path / "a.trace", {}, clock=float)
    write_by_hand(writer, 1)
    writer.update_settings({"depth": "counters"})
    writer._shared.connection.execute("PRAGMA max_page_count = 1")
    writer.write(MESSAGES[2], [])
    large = replace(MESSAGES[2], trap="x" * 100_000)
    for index in range(3, 1 + trace_file.FLUSH_MESSAGES):
        writer.write(replace(large, index=index), [])
    with pytest.raises(TraceError, match="cannot be written: database or disk is full"):
        writer.write(replace(large, index=98), [])
    with pytest.raises(TraceError, match="disk is full; nothing more can be added"):
        writer.write(replace(MESSAGES[2], index=99), [])
    with writer.trace() as trace:
        assert trace.messages == MESSAGES[:1]
    writer.close()
    with open_trace(tmp_path / "a.trace") as trace:
        assert trace.messages == MESSAGES[:1]
        assert trace.settings.values == {"depth": "counters", "closed": False}


def test_accesses_that_fail_leave_no_part_of_their_message():
    def failing():
        yield CREATION
        raise ArithmeticError

    with TraceWriter(None, {}) as writer:
        with pytest.raises(ArithmeticError):
            writer.write(MESSAGES[0], STATEMENTS[:1], statement_accesses={0: failing()})
        write_by_hand(writer, 2)
        with writer.trace() as trace:
            assert trace.messages == MESSAGES[:2]


class InterruptedOnce(list):
    """Rows during whose insertion somebody presses Ctrl-C, once."""

    interrupted = False

    def __iter__(self):
        if not self.interrupted:
            self.interrupted = True
            raise KeyboardInterrupt
        return super().__iter__()


def test_an_interrupt_loses_nothing(tmp_path):
    writer = TraceWriter(tmp_path / "a.trace", SETTINGS)
    write_by_hand(writer)
    writer._rows["statement_phase"] = InterruptedOnce(writer._rows["statement_phase"])
    with pytest.raises(KeyboardInterrupt):
        writer.trace()
    writer.close()
    with open_trace(tmp_path / "a.trace") as trace:
        assert_by_hand(trace)


# While it is written --------------------------------------------------------------------------


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_trace_is_readable_while_it_is_written(tmp_path, in_memory):
    writer = TraceWriter(None if in_memory else tmp_path / "a.trace", {})
    write_by_hand(writer, 1)
    with writer.trace() as trace:
        assert trace.messages == MESSAGES[:1]
        write_by_hand_rest(writer)
        assert trace.messages == MESSAGES[:1]
        assert trace.statements == STATEMENTS[:1]
    late = writer.trace()
    writer.close()
    assert late.messages == MESSAGES
    late.close()
    with writer.trace() as trace:
        assert trace.messages == MESSAGES
        assert trace.settings["closed"] is True


def write_by_hand_rest(writer):
    for message in MESSAGES[1:]:
        writer.write(message, [STATEMENTS[index] for index in message.statements])


def test_another_process_may_read_while_it_is_written(tmp_path):
    with TraceWriter(tmp_path / "a.trace", {}) as writer:
        write_by_hand(writer, 2)
        writer.update_settings({"depth": "counters"})
        with open_trace(tmp_path / "a.trace") as trace:
            assert trace.settings.values == {"closed": False, "depth": "counters"}
            assert trace.messages == MESSAGES[:2]
            writer.write(MESSAGES[2], [])
            writer.close()
            assert trace.statements == STATEMENTS[:3]
    with open_trace(tmp_path / "a.trace") as trace:
        assert trace.settings["closed"] is True
        assert trace.messages == MESSAGES[:3]


READING = """
import contextlib, sqlite3, sys
with contextlib.closing(sqlite3.connect(sys.argv[1])) as connection:
    print(connection.execute("SELECT count(*) FROM message").fetchone())
"""


@pytest.mark.parametrize("is_refused", [False, True])
def test_who_looks_at_a_trace_leaves_the_writer_its_log_and_its_locks(tmp_path, is_refused):
    path = tmp_path / "a.trace"
    with TraceWriter(path, {}) as writer:
        write_by_hand(writer, 1)
        writer.trace().close()
        if is_refused:
            with pytest.raises(TraceError, match="exists; remove it"):
                TraceWriter(path, {})
        else:
            open_trace(path).close()
        # The last one to close a database takes its log in and deletes it; that is not this one.
        command = [sys.executable, "-c", READING, path]
        subprocess.run(command, check=True, capture_output=True)
        assert path.with_name("a.trace-wal").exists()
        write_by_hand_rest(writer)
    with open_trace(path) as trace:
        assert trace.messages == MESSAGES


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_looking_for_a_trace_leaves_nothing_beside_another_database(tmp_path, mode):
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"PRAGMA journal_mode = {mode}; CREATE TABLE t (x)")
        for suffix in ("", "-wal"):
            if Path(f"{path}{suffix}").exists():
                shutil.copyfile(f"{path}{suffix}", tmp_path / f"copy.db{suffix}")
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    for name in ("app.db", "copy.db"):
        with pytest.raises(TraceError, match="is a SQLite database but not a trace"):
            open_trace(tmp_path / name)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_trace_shows_the_messages_of_one_moment_whatever_is_asked_first(tmp_path, in_memory):
    with TraceWriter(None if in_memory else tmp_path / "a.trace", {}) as writer:
        write_by_hand(writer, 1)
        trace = writer.trace()
        assert len(trace.statements) == 1
        write_by_hand_rest(writer)
        writer.trace().close()
        assert trace.messages == MESSAGES[:1]
        assert {run.since_message for run in trace.owners} == {0}
        with pytest.raises(TraceError, match="no statement with the index 3"):
            trace.accesses(3)
        with pytest.raises(TraceError, match="no message with the index 3"):
            trace.outside_accesses(3)
        trace.close()


@pytest.mark.slow
def test_reports_of_a_trace_that_another_process_is_writing(tmp_path):
    """One moment for everything: statements, phases, costs and messages belong together."""
    program = """
import sys
from dataclasses import replace
from sqlstable.trace.format.file import TraceWriter
from tests.test_trace_file import CREATION, MESSAGES, STATEMENTS
with TraceWriter(sys.argv[1], {"engine": "native"}) as writer:
    print("started", flush=True)
    for index in range(10**9):
        message = replace(MESSAGES[3], index=index, statements=(index,))
        statement = replace(STATEMENTS[0], index=index, message=index)
        writer.write(message, [statement], statement_accesses={index: [CREATION]})
"""
    path = tmp_path / "live.trace"
    writing = subprocess.Popen(
        [sys.executable, "-c", program, path],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    try:
        assert writing.stdout.readline() == b"started\n"
        counts = []
        while len(counts) < 8:
            with open_trace(path) as trace:
                if not trace.messages:
                    continue
                by = get_args(By)[len(counts) % len(get_args(By))]
                assert "unfinished: " in render_table(trace, by=by)
                assert len(trace.messages) == len(trace.statements)
                assert trace.messages[-1].index == len(trace.messages) - 1
                counts.append(len(trace.messages))
        assert counts[-1] > counts[0]
        assert writing.poll() is None
    finally:
        writing.kill()
        writing.communicate()


def test_a_trace_in_memory_outlives_its_writer():
    writer = TraceWriter(None, {})
    write_by_hand(writer)
    trace = writer.trace()
    writer.close()
    del writer
    gc.collect()
    assert trace.messages == MESSAGES
    trace.close()


def test_settings_may_come_late(tmp_path):
    with TraceWriter(tmp_path / "a.trace", {"engine": "native", "closed": True}) as writer:
        writer.update_settings({"sqlite": "3.54.1", "engine": "wasm"})
        with pytest.raises(TraceError, match="the setting seed cannot be kept"):
            writer.update_settings({"seed": object()})
    with open_trace(tmp_path / "a.trace") as trace:
        assert trace.settings.values == {"engine": "wasm", "closed": True, "sqlite": "3.54.1"}


@pytest.mark.parametrize("over", [1 - trace_file.FLUSH_MESSAGES, -1, 0, 1, 300])
def test_a_run_that_is_cut_off_leaves_a_readable_trace(tmp_path, over):
    """What a killed process leaves behind is what is in its files at that moment."""
    count = trace_file.FLUSH_MESSAGES + over
    (tmp_path / "later").mkdir()
    with TraceWriter(tmp_path / "a.trace", SETTINGS, clock=float) as writer:
        for index in range(count):
            writer.write(replace(MESSAGES[2], index=index), [])
        for file in tmp_path.glob("a.trace*"):
            shutil.copy(file, tmp_path / "later" / file.name)
    with open_trace(tmp_path / "later" / "a.trace") as trace:
        assert len(trace.messages) == count // trace_file.FLUSH_MESSAGES * trace_file.FLUSH_MESSAGES
        assert trace.settings.values == {**SETTINGS, "closed": False}
    with closing(sqlite3.connect(tmp_path / "later" / "a.trace")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_leaves_its_parents_trace_alone(tmp_path):
    with TraceWriter(tmp_path / "a.trace", {}) as writer:
        writer.write(MESSAGES[2], [])
        child = os.fork()
        if not child:
            try:
                with pytest.raises(TraceError, match=f"process {os.getppid()}, of which this one"):
                    writer.write(replace(MESSAGES[2], index=7), [])
                with pytest.raises(TraceError, match="is a fork"):
                    writer.trace()
                writer.close()
            except BaseException:  # noqa: BLE001  told by the status
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        writer.write(replace(MESSAGES[2], index=8), [])
    with open_trace(tmp_path / "a.trace") as trace:
        assert [message.index for message in trace.messages] == [MESSAGES[2].index, 8]


def test_a_slow_run_can_be_watched(tmp_path):
    seconds = [0.0]
    with TraceWriter(tmp_path / "a.trace", {}, clock=lambda: seconds[0]) as writer:
        for index, now in enumerate([0.9, 1.0, 1.9, 2.1, 2.2]):
            seconds[0] = now
            writer.write(replace(MESSAGES[2], index=index), [])
        with open_trace(tmp_path / "a.trace") as trace:
            assert len(trace.messages) == 4


def test_messages_with_many_accesses_are_committed_at_once(tmp_path):
    random = np.random.default_rng(1)
    accesses = replace(scan(0, 100_000), address=random.integers(0, 2**50, 100_000))
    with TraceWriter(tmp_path / "a.trace", {}) as writer:
        writer.write(MESSAGES[0], STATEMENTS[:1], statement_accesses={0: [accesses]})
        with open_trace(tmp_path / "a.trace") as trace:
            assert_equal(trace.accesses(0), accesses)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills a process by a signal")
def test_a_killed_process_leaves_a_readable_trace(tmp_path):
    program = """
import os, signal, sys
from sqlstable.trace.format.file import TraceWriter
from sqlstable.trace.model import Message, StableUse
writer = TraceWriter(sys.argv[1], {})
for index in range(1000):
    writer.write(Message(index, "update", None, "committed", None, False, "warm", (), StableUse(),
                         (), (), 0), [])
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "a.trace"],
        check=False,
        cwd=Path(trace_file.__file__).parents[2],
    )
    assert done.returncode == -signal.SIGKILL
    with open_trace(tmp_path / "a.trace") as trace:
        # On a slow machine more of them, because a second has passed.
        assert len(trace.messages) >= 1000 - 1000 % trace_file.FLUSH_MESSAGES
        assert trace.settings["closed"] is False
    with TraceWriter(tmp_path / "a.trace", {}, overwrite=True):
        pass
    with open_trace(tmp_path / "a.trace") as trace:
        assert trace.messages == ()


@pytest.mark.slow
def test_many_small_statements_are_written_fast(tmp_path):
    count = 5000
    start = time.process_time()
    with TraceWriter(tmp_path / "a.trace", {}) as writer:
        for index in range(count):
            message = replace(MESSAGES[3], index=index, statements=(index,))
            statement = replace(STATEMENTS[3], index=index, message=index)
            writer.write(message, [statement], statement_accesses={index: [CREATION]})
    # Measured: 55 µs each. The limit leaves room for slow machines.
    assert (time.process_time() - start) / count < 0.001
    with open_trace(tmp_path / "a.trace") as trace:
        assert len(trace.statements) == count
