"""The trace file: everything comes back, any SQLite tool opens it, it is read when asked for."""

import re
import shutil
import sqlite3
import sys
from contextlib import closing
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sqlstable.trace.format.file as trace_file
from sqlstable.analysis.growth import filling
from sqlstable.errors import LimitTrap, TraceError
from sqlstable.ic.limits import NO_LIMIT, latest_limits
from sqlstable.ic.words import PHASES
from sqlstable.memory.bytemap import accessed_trap, dirty_trap
from sqlstable.report.as_json import document
from sqlstable.report.as_table import render_table
from sqlstable.report.views import VIEWS
from sqlstable.trace.access_stream import NO_PHASE, joined_blocks
from sqlstable.trace.blocks import decode_accesses
from sqlstable.trace.format import record_frames
from sqlstable.trace.format.file import (
    TRACE_APPLICATION_ID,
    TRACE_FORMAT_VERSION,
    TraceWriter,
    open_trace,
)
from sqlstable.trace.model import (
    Calls,
    LimitUse,
    Message,
    OutsideUse,
    OwnerRun,
    OwnerUse,
    SqliteCounters,
    StableUse,
    Statement,
)
from sqlstable.wasm.traps import TrapCode, trap_of
from tests.trace_by_hand import (  # noqa: F401  fixtures
    AREAS,
    CREATION,
    MESSAGES,
    MESSAGES_WITHOUT_CALLS,
    MESSAGES_WITHOUT_CHANGES,
    MESSAGES_WITHOUT_CHARGES,
    MESSAGES_WITHOUT_COSTS,
    MESSAGES_WITHOUT_MODULES,
    MESSAGES_WITHOUT_TRAP_LIMITS,
    OPENING,
    ORDERS,
    SCHEMA,
    SETTINGS,
    STATEMENTS,
    STATEMENTS_WITHOUT_CHARGES,
    STATEMENTS_WITHOUT_COSTS,
    TREES,
    WITHOUT_END,
    accesses_of,
    as_columns,
    assert_by_hand,
    assert_equal,
    documented_tables,
    path_fixture,
    plain_fixture,
    write_by_hand,
    write_golden,
)

GOLDEN = Path(__file__).parent / "golden"


# Everything comes back ------------------------------------------------------------------------


def test_everything_comes_back_from_a_file(path):
    with open_trace(path) as trace:
        assert_by_hand(trace)


def test_everything_comes_back_from_memory():
    with TraceWriter(None, SETTINGS) as writer:
        write_by_hand(writer)
    with writer.trace() as trace:
        assert_by_hand(trace, **WITHOUT_END)


def test_the_golden_trace_of_format_version_1_stays_readable():
    with open_trace(GOLDEN / "trace_v1.trace") as trace:
        assert_by_hand(
            trace,
            areas=(),
            messages=MESSAGES_WITHOUT_COSTS,
            statements=STATEMENTS_WITHOUT_COSTS,
            owner_faults=(),
            **WITHOUT_END,
        )


def test_the_golden_trace_of_format_version_2_stays_readable():
    with open_trace(GOLDEN / "trace_v2.trace") as trace:
        assert_by_hand(
            trace,
            messages=MESSAGES_WITHOUT_TRAP_LIMITS,
            statements=STATEMENTS_WITHOUT_CHARGES,
            owner_faults=(),
            **WITHOUT_END,
        )


def test_the_golden_trace_of_format_version_3_stays_readable():
    with open_trace(GOLDEN / "trace_v3.trace") as trace:
        assert_by_hand(
            trace,
            messages=MESSAGES_WITHOUT_CHANGES,
            statements=STATEMENTS_WITHOUT_CHARGES,
            **WITHOUT_END,
        )


def test_the_golden_trace_of_format_version_4_stays_readable():
    with open_trace(GOLDEN / "trace_v4.trace") as trace:
        assert_by_hand(
            trace, messages=MESSAGES_WITHOUT_CALLS, statements=STATEMENTS_WITHOUT_CHARGES
        )


def test_the_golden_trace_of_format_version_5_stays_readable():
    with open_trace(GOLDEN / "trace_v5.trace") as trace:
        assert_by_hand(
            trace, messages=MESSAGES_WITHOUT_MODULES, statements=STATEMENTS_WITHOUT_CHARGES
        )


def test_the_golden_trace_of_format_version_6_stays_readable():
    with open_trace(GOLDEN / "trace_v6.trace") as trace:
        assert_by_hand(
            trace, messages=MESSAGES_WITHOUT_CHARGES, statements=STATEMENTS_WITHOUT_CHARGES
        )


def test_the_golden_trace_of_format_version_7_stays_readable():
    with open_trace(GOLDEN / "trace_v7.trace") as trace:
        assert_by_hand(trace)


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5, 6, 7])
def test_accesses_have_an_order_and_phases_from_version_4_on(version):
    with open_trace(GOLDEN / f"trace_v{version}.trace") as trace:
        whole = joined_blocks([*trace.access_blocks()])
        first = whole.where(whole.message == 0)
        owners = {trace.access_owners[it].name for it in whole.owner}
        if version < 4:
            assert set(whole.phase) == {NO_PHASE}
            assert first.statement.tolist() == [0] * len(CREATION) + [-1] * (len(OPENING) + 1)
            return
        spans = [
            (span.access_count, 0 if span.entry == 0 else -1, span.phase) for span in ORDERS[0]
        ]
        expected = [[made_by, phase] for count, made_by, phase in spans for _ in range(count)]
        assert np.array([first.statement, first.phase]).T.tolist() == expected
        assert set(whole.where(whole.message > 0).phase) == {NO_PHASE}
        assert {"(memory manager)", "account", "(unknown)"} <= owners


def test_what_a_trace_ends_with_is_replaced(tmp_path):
    with TraceWriter(tmp_path / "a.trace", {}) as writer:
        writer.write_end((), TREES, trees_skipped="")
        writer.write_end(SCHEMA[:1], (), trees_skipped="too many")
        writer.write_end(SCHEMA, (), trees_skipped="too many")
    with open_trace(tmp_path / "a.trace") as trace:
        assert (trace.schema, trace.trees) == (SCHEMA, ())
        assert trace.settings["trees_skipped"] == "too many"


def test_the_golden_trace_is_of_the_format_written_here(path):
    """SQLite notes its own version in the file; the rest is the same."""
    with closing(sqlite3.connect(GOLDEN / f"trace_v{TRACE_FORMAT_VERSION}.trace")) as golden:
        expected = list(golden.iterdump())
    with closing(sqlite3.connect(path)) as written:
        assert list(written.iterdump()) == expected


def test_traces_of_every_format_version_render(path):
    for each in (*sorted(GOLDEN.glob("*.trace")), path):
        with open_trace(each) as trace:
            for by in VIEWS:
                if by in ("checkpoint", "locality", "os-page"):
                    # One of its accesses is too large to be gone through OS page by OS page.
                    with pytest.raises(TraceError, match="claim to have moved"):
                        render_table(trace, by=by)
                else:
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
    monkeypatch.setattr("sqlstable.trace.format.waiting_rows._KNOWN_MAX", 1)
    with TraceWriter(None, SETTINGS) as writer:
        write_by_hand(writer)
    with writer.trace() as trace:
        assert_by_hand(trace, **WITHOUT_END)


# Any SQLite tool opens it ---------------------------------------------------------------------


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
    assert plain.execute("SELECT count(*) FROM owner").fetchone() == (6,)


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
        for read in (trace.messages_at, trace.statements_at):
            with pytest.raises(TraceError, match=f"the index {index}; it has 4, with the indexes"):
                read(index, index)


def test_a_range_beyond_the_end_is_no_damage(path):
    with open_trace(path) as trace:
        for first, last in ((2, 4), (-1, 2), (3, 1), (7, 9)):
            for read, noun in ((trace.messages_at, "message"), (trace.statements_at, "statement")):
                with pytest.raises(TraceError) as refused:
                    read(first, last)
                assert str(refused.value) == (
                    f"{path} has no {noun}s {first} to {last}; it has 4, with the indexes "
                    "from 0 to 3"
                )
        assert trace.messages_at(0, 3) == trace.messages
        assert trace.messages_at(2, 1) == ()
    with TraceWriter(None, {}) as writer, writer.trace() as trace:
        assert trace.messages_at(0, -1) == ()
        with pytest.raises(TraceError, match="has no message with the index 0; it has none"):
            trace.messages_at(0, 0)


@pytest.mark.slow
def test_the_data_frame_has_the_columns_of_the_view(path, plain):
    with open_trace(path) as trace:
        frame = trace.to_pandas()
    cursor = plain.execute("SELECT * FROM statements ORDER BY statement_index")
    of_view = [name for name, *_ in cursor.description]
    # Cycles are worked out from what the view has: prices of a day are no matter of SQL.
    worked_out = ["cycles", "cycles_as_update"]
    assert [frame.index.name, *frame.columns] == [*of_view, *worked_out]
    rows = frame.drop(columns=worked_out).reset_index().astype(object)
    rows = rows.where(rows.notna(), None)
    assert [tuple(row) for row in rows.itertuples(index=False)] == cursor.fetchall()
    assert str(frame["vm_steps"].dtype) == "Int64"
    assert frame.loc[3, "hits"] == 2**63 - 1
    assert frame.groupby("shape")["os_pages_accessed"].sum().max() == 301


def test_both_frames_of_statements_work_out_cycles_in_one_place(path, monkeypatch):
    monkeypatch.setattr(record_frames, "instruction_fees", lambda *_: 7)
    monkeypatch.setattr(record_frames, "instruction_fees_as_update", lambda *_: None)
    with open_trace(path) as trace:
        for frame in (trace.to_pandas(), trace.statements_frame()):
            assert set(frame["cycles"]) == {7}
            assert frame["cycles_as_update"].isna().all()


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
    assert then["charged_stable_accesses"].isna().all()
    assert now["charged_computation_replica"].dropna().tolist() == [196_058]
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
    assert ">1,486,511</td>" in statement._repr_html_()


def test_without_pandas_the_way_out_is_named(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with open_trace(path) as trace, pytest.raises(TraceError, match="pip install pandas"):
        trace.to_pandas()
