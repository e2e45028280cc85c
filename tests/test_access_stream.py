"""The stream of all accesses says of each what statements say of all of theirs together."""

import random
from contextlib import closing

import apsw
import numpy as np
import pytest

from sqlstable import Canister, SqlError, TraceError
from sqlstable.ic.accesses import Accesses
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.ic.words import PHASES, WRITE
from sqlstable.trace.access_stream import BLOCK_ACCESSES_MAX, block_of, joined_blocks
from sqlstable.trace.format import access_decoding, access_reader
from sqlstable.trace.format.file import TraceWriter, open_trace
from sqlstable.trace.model import AccessSpan
from sqlstable.trace.recording.attribution import MessageFacts, attribute
from sqlstable.trace.recording.raw import RawMessage, statement_of
from tests.hand_built import HandBuiltTrace, accesses, message, statement, use
from tests.test_few import Taken, random_rows, random_statements
from tests.trace_by_hand import path_fixture  # noqa: F401  a fixture

INSERT = (
    "INSERT INTO {table} (b) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
    "LIMIT {count}) SELECT hex(randomblob({size})) FROM n"
)


def random_sql(rng):
    """Return one statement on the tables of `run_at_random`; it may fail."""
    table = rng.choice("tu")
    low = rng.randrange(100)
    size, count = rng.choice((3, 40, 900, 5_000)), rng.randrange(1, 20)
    insert = INSERT.format(table=table, count=count, size=size)
    return rng.choice(
        (
            *(insert, insert, insert),
            f"UPDATE {table} SET b = hex(randomblob({size})) WHERE a BETWEEN {low} AND {low + 9}",
            f"DELETE FROM {table} WHERE a BETWEEN {low} AND {low + rng.choice((3, 60))}",
            f"SELECT count(*), sum(length(b)) FROM {table}",
            f"SELECT b FROM {table} WHERE a = {low}",
            f"CREATE INDEX IF NOT EXISTS ix_{table} ON {table} (b)",
            f"DROP INDEX IF EXISTS ix_{table}",
            rng.choice(("VACUUM", "PRAGMA incremental_vacuum", "SELECT * FROM nothing")),
            f"DROP TABLE {table}; CREATE TABLE {table} (a INTEGER PRIMARY KEY, b TEXT)",
        )
    )


def run_at_random(canister, rng, message_count):
    """Send messages of all kinds, some of which fail or are undone."""
    canister.update("PRAGMA auto_vacuum = incremental" if rng.random() < 0.3 else "SELECT 1")
    for table in "tu":
        canister.update(f"CREATE TABLE {table} (a INTEGER PRIMARY KEY, b TEXT)")
    for _ in range(message_count):
        kind = rng.choices(("update", "query", "upgrade"), (6, 4, 1))[0]
        if kind == "upgrade":
            canister.upgrade()
            continue
        try:
            with canister.message(kind) as open_message:
                for _ in range(rng.randrange(1, 4)):
                    open_message.execute(random_sql(rng))
        except SqlError:
            pass


def counted_owners(trace):
    """Return for each statement whose OS pages it accessed and dirtied, from its accesses alone."""
    seen = {}
    for block in trace.access_blocks():
        rows, os_pages = block.os_pages()
        columns = (block.statement[rows], block.owner[rows], os_pages, block.kind[rows] == WRITE)
        for made_by, owner, os_page, is_write in zip(*(it.tolist() for it in columns), strict=True):
            accessed, dirty = seen.setdefault(made_by, {}).setdefault(owner, (set(), set()))
            accessed.add(os_page)
            if is_write:
                dirty.add(os_page)
    seen.pop(-1, None)
    owner_of = trace.access_owners
    return {
        index: sorted((named(owner_of[it]), len(one), len(two)) for it, (one, two) in uses.items())
        for index, uses in seen.items()
    }


def told_owners(trace):
    return {
        it.index: sorted(
            (named(use), use.os_pages_accessed, use.os_pages_dirty) for use in it.owners
        )
        for it in trace.statements
        if it.owners
    }


def named(owner):
    return (owner.name, owner.table, owner.kind, owner.role)


@pytest.mark.parametrize("page_size", [512, 4096, 65_536])
@pytest.mark.parametrize("seed", range(5))
def test_owners_of_accesses_are_those_that_statements_tell(seed, page_size):
    rng = random.Random(seed)
    with Canister(trace=":memory:", page_size=page_size) as canister:
        run_at_random(canister, rng, 60)
        trace = canister.trace()
        assert told_owners(trace)
        assert counted_owners(trace) == told_owners(trace)


@pytest.mark.parametrize(
    "flavour",
    [
        {"journal_mode": "delete"},
        {"journal_mode": "persist", "bucket_pages": 1},
        {"layout": "raw"},
        {"layout": "froghub"},
        {"layout": "ic-sqlite-vfs"},
        {"engine": "wasm"},
    ],
    ids=lambda flavour: " ".join(map(str, flavour.values())),
)
def test_owners_beside_the_database_are_those_that_statements_tell(flavour):
    with Canister(trace=":memory:", **flavour) as canister:
        run_at_random(canister, random.Random(5), 30)
        trace = canister.trace()
        assert counted_owners(trace) == told_owners(trace)


def test_the_stream_is_what_statements_and_outside_entries_hold(path):
    with open_trace(path) as trace:
        check_stream(trace)


def check_stream(trace):
    whole = joined_blocks([*trace.access_blocks()])
    count = 0
    for it in trace.messages:
        parts = [(index, -1, trace.accesses(trace.statements[index])) for index in it.statements]
        for name, made in trace.outside_accesses(it):
            parts.append((-1, trace.outside_names.index(name), made))
        for index, outside, made in parts:
            is_of = (whole.message == it.index) & (whole.statement == index)
            rows = whole.where(is_of & (whole.outside == outside))
            count += len(made)
            np.testing.assert_array_equal(rows.position, np.arange(len(made)))
            for name in ("kind", "address", "length", "offset"):
                np.testing.assert_array_equal(getattr(rows, name), getattr(made, name))
    assert count == len(whole)


def phase_uses(trace):
    """Return calls and bytes of each statement and phase, from accesses alone."""
    uses = {}
    for block in trace.access_blocks(owners=False):
        columns = (block.statement, block.phase, block.kind, block.length)
        for made_by, phase, kind, length in zip(*(it.tolist() for it in columns), strict=True):
            assert (made_by < 0) == (phase < 0)
            if made_by >= 0:
                use = uses.setdefault((made_by, PHASES[phase]), [0, 0, 0, 0, 0, 0])
                use[kind] += 1
                if kind <= WRITE:
                    use[4 + kind] += length
    return uses


def told_phase_uses(trace):
    told = {}
    for it in trace.statements:
        for phase, spent in it.phases.items():
            calls = spent.calls
            counts = [calls.read, calls.write, calls.size, calls.grow]
            if any(counts):
                told[it.index, phase] = [*counts, spent.bytes_read, spent.bytes_written]
    return told


@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_phases_of_accesses_are_those_that_statements_tell(engine):
    with Canister(trace=":memory:", engine=engine) as canister:
        run_at_random(canister, random.Random(7), 20)
        with canister.message("update") as open_message:
            open_message.executemany("INSERT INTO t (b) VALUES (?)", [(str(n),) for n in range(99)])
        trace = canister.trace()
        assert {phase for _, phase in told_phase_uses(trace)} >= {"run", "commit"}
        assert phase_uses(trace) == told_phase_uses(trace)


@pytest.mark.parametrize("seed", range(40))
def test_accesses_come_in_the_order_in_which_they_happened(seed, monkeypatch):
    """However statements and what is outside of them interleave, in small blocks and large."""
    rng = random.Random(seed)
    rows = random_rows(rng, rng.choice((1, 5, 40, 500)), 4096)
    statements, outside = random_statements(rng, len(rows))
    raw = RawMessage(Taken(rows, is_few=len(rows) < 100), statements, outside)
    facts = MessageFacts(0, "update", "committed", 65_536)
    made = attribute(raw, facts, first_statement=0)
    if seed % 2:
        for module in (access_decoding, access_reader):
            monkeypatch.setattr(module, "BLOCK_ACCESSES_MAX", 7)
    with TraceWriter(None, {}) as writer:
        sources = made.statement_accesses
        writer.write(
            made.message,
            made.statements,
            statement_accesses={index: source() for index, source in sources.items()},
            outside_accesses=[source() for source in made.outside_accesses],
            order=made.order,
        )
        with writer.trace() as trace:
            whole = joined_blocks([*trace.access_blocks()])
    columns = (whole.kind, whole.address, whole.length, whole.offset)
    assert [*zip(*(it.tolist() for it in columns), strict=True)] == rows
    expected = np.full((2, len(rows)), -1)
    for index, it in enumerate(map(statement_of, statements)):
        for start, stop, phase in it.spans:
            expected[0, start:stop], expected[1, start:stop] = index, phase
    assert [whole.statement.tolist(), whole.phase.tolist()] == expected.tolist()


def test_an_order_that_is_not_the_accesses_own_is_refused(tmp_path):
    made = accesses((0, 65_536, 4_096, 0), (0, 65_536, 4_096, 0))
    for spans in ([(0, 1, 3)], [(0, 1, 1)], [(1, 1, 2)], [(0, 1, 2), (1, 1, 1)]):
        with TraceWriter(None, {}) as writer:
            writer.write(
                message(0, "update", (0,), use(1)),
                [statement(0, 0, "SELECT 1")],
                statement_accesses={0: [made]},
                order=[*map(AccessSpan._make, spans)],
            )
            with writer.trace() as trace, pytest.raises(TraceError, match="order of its accesses"):
                [*trace.access_blocks()]


def test_large_messages_come_in_parts_and_small_ones_together(tmp_path):
    sizes = (3, 70, BLOCK_ACCESSES_MAX + 9, 5, BLOCK_ACCESSES_MAX - 5)
    with TraceWriter(tmp_path / "a.trace", {}) as writer:
        for index, size in enumerate(sizes):
            offset = np.arange(size) * 4096
            kind, length = np.zeros(size, np.int8), np.full(size, 4096)
            made = Accesses(kind, offset + 65_536, length, offset)
            writer.write(
                message(index, "update", (index,), use(1)),
                [statement(index, index, "SELECT 1")],
                statement_accesses={index: [made]},
            )
    with open_trace(tmp_path / "a.trace") as trace:
        assert [len(it) for it in trace.access_blocks()] == [
            73,
            BLOCK_ACCESSES_MAX,
            9,
            sizes[4] + 5,
        ]
        check_stream(trace)


def test_a_trace_made_by_hand_has_a_stream():
    trace = HandBuiltTrace(
        messages=(message(0, "query", (0,), use(1)),),
        statements=(statement(0, 0, "SELECT 1", 1),),
        accesses_by_statement=(accesses((0, 65_536, 4_096, 0)),),
    )
    check_stream(trace)


def test_accesses_that_no_memory_could_have_seen_are_refused():
    rows = [(0, 0, 1 << 40, 0)]
    for spanned in (block_of(rows).os_pages, lambda: block_of(rows).sqlite_pages(512)):
        with pytest.raises(TraceError, match="1 accesses of the trace claim to have moved"):
            spanned()
    assert len(block_of([(0, 0, 1 << 31, 0)]).os_pages()[0]) == 1 << 19


def load_random_database(path, rng, page_size):
    """Make a database file of several B-trees whose SQLite pages lie among each other."""
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute(f"PRAGMA page_size = {page_size}")
        for table in "tu":
            connection.execute(f"CREATE TABLE {table} (a INTEGER PRIMARY KEY, b TEXT)")
            connection.execute(f"CREATE INDEX {table}_b ON {table} (b)")
        for number in range(300):
            sql = f"INSERT INTO {rng.choice('tu')} VALUES (?, ?)"
            connection.execute(sql, (number, "x" * rng.randrange(3 * page_size // 2)))
        return {pgno: name for name, pgno in connection.execute("SELECT name, pageno FROM dbstat")}


@pytest.mark.parametrize("page_size", [512, 4096, 16_384])
def test_pieces_of_a_loaded_database_belong_to_whom_dbstat_says(page_size, tmp_path):
    dbstat = load_random_database(tmp_path / "a.db", random.Random(page_size), page_size)
    with Canister(trace=":memory:") as canister:
        canister.import_database(tmp_path / "a.db")
        trace = canister.trace()
        assert trace.settings["page_size"] == page_size
        whole = joined_blocks([*trace.access_blocks()])
        pieces = joined_blocks([*trace.access_blocks(pieces=True)])
        names = [owner.name for owner in trace.access_owners]
    assert len(pieces) > len(whole) == np.count_nonzero(pieces.begins)
    assert pieces.os_pages()[1].tolist() == whole.os_pages()[1].tolist()
    assert pieces.moved_bytes.sum() == whole.moved_bytes.sum()
    # The owner of an OS page is that of its first SQLite page.
    loaded = (pieces.kind == WRITE) & (pieces.offset >= 0) & (pieces.length >= OS_PAGE_BYTES)
    part = pieces.where(loaded)
    for row, address in zip(*(it.tolist() for it in part.os_pages()), strict=True):
        moved = max(address * OS_PAGE_BYTES - int(part.address[row]), 0)
        number = (int(part.offset[row]) + moved) // page_size + 1
        if number in dbstat:
            assert names[part.owner[row]] == dbstat[number]
