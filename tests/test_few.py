"""Few accesses, as plain integers, give what many give by numpy."""

import random
from itertools import pairwise

import numpy as np
import pytest

from sqlstable.engine.measured.notes import NotedLog
from sqlstable.ic.accesses import FEW_ACCESSES, Accesses, FewAccesses
from sqlstable.ic.units import GIB, OS_PAGE_BYTES
from sqlstable.ic.words import COMMIT, GROW, PREPARE, READ, RUN, SIZE, WRITE
from sqlstable.layout.filemap import ENDLESS, FileMap
from sqlstable.memory.accesslog import AccessLog
from sqlstable.trace.blocks import decode_accesses, encode_accesses
from sqlstable.trace.model import Owner
from sqlstable.trace.recording.attribution import (
    MessageFacts,
    accessed_sqlite_pages,
    attribute,
    dirty_sqlite_pages,
    owner_uses,
)
from sqlstable.trace.recording.owner_numbers import Places
from sqlstable.trace.recording.raw import OutsideSpan, RawMessage, RawStatement, StatementText
from sqlstable.wasm import shim
from tests.owner_world import filled


class Taken:
    """Accesses that are handed out as integers, or as columns in pieces."""

    def __init__(self, rows, *, is_few, piece=7):
        self.rows = rows
        self.is_few = is_few
        self.piece = piece

    def __len__(self):
        return len(self.rows)

    def few(self):
        return self.rows if self.is_few else None

    def chunks(self, start, stop):
        for low in range(start, stop, self.piece):
            yield from FewAccesses(self.rows[low : min(low + self.piece, stop)])


class Files:
    """Two files beside the database, bucket by bucket, and addresses that nobody has."""

    manager_bytes = 65_536

    def __init__(self):
        self.owners = [Owner(name, name, "journal", "") for name in ("a-journal", "b-journal")]

    def owner_indexes(self, addresses):
        return addresses // (1 << 20) % 3 - 1


def random_rows(rng, count, page_size):
    rows = []
    for _ in range(count):
        kind = rng.choices((READ, WRITE, SIZE, GROW), (10, 6, 1, 1))[0]
        if kind in (SIZE, GROW):
            rows.append((kind, 0, rng.randrange(3) if kind == GROW else 0, -1))
        elif rng.random() < 0.25:
            address = rng.choice((rng.randrange(1 << 16), rng.randrange(1 << 24)))
            rows.append((kind, address, rng.choice((0, 1, 28, 512, 4096, 9_000)), -1))
        else:
            offset = rng.randrange(300) * page_size
            length = page_size
            if rng.random() < 0.2:
                offset, length = offset + rng.randrange(page_size), rng.choice((0, 16, 5_000))
            rows.append((kind, offset + 8 * GIB * rng.choice((0, 1)) + 65_536, length, offset))
    return rows


def random_statements(rng, count):
    """Cut positions into spans of statements and of nobody, some left out, some interleaved."""
    statements, outside = [], []
    borders = sorted(rng.choices(range(count + 1), k=rng.randrange(9)))
    spans = [*pairwise(borders)]
    while spans:
        chosen, spans = spans[: rng.randrange(1, 4)], spans[rng.randrange(1, 4) :]
        chosen = [span for span in chosen if span not in spans]
        if not chosen or rng.random() < 0.2:
            continue
        if rng.random() < 0.2:
            outside.append(OutsideSpan(*chosen[0], "open"))
            continue
        text = StatementText(f"SELECT {len(statements)}", "read", is_readonly=True)
        phased = tuple((*span, rng.choice((PREPARE, RUN, COMMIT))) for span in chosen)
        statements.append(RawStatement(text, phased, 1, 1, None, None, None, None))
    if rng.random() < 0.3:
        # One with a single span is noted in short.
        text = StatementText("SELECT 'short'", "read", is_readonly=True)
        statements.append((text, count, count, 0, (1, 2, 3, 4)))
    return statements, tuple(outside)


@pytest.fixture(scope="module")
def owners():
    """A map whose last message freed some SQLite pages."""
    database = filled(auto_vacuum=1)
    database.sql("DELETE FROM u; DELETE FROM t WHERE id > 200")
    database.meet()
    database.update()
    return database.map


@pytest.mark.parametrize("seed", range(120))
def test_few_accesses_are_attributed_as_many_are(seed, owners):
    rng = random.Random(seed)
    page_size = rng.choice((512, 4096, 65_536))
    rows = random_rows(rng, rng.choice((0, 1, 5, 40, FEW_ACCESSES)), page_size)
    statements, outside = random_statements(rng, len(rows))
    looked_up = rng.choice((None, owners))
    files = rng.choice((None, Files()))
    results = []
    for is_few in (False, True):
        taken = Taken(rows, is_few=is_few)
        raw = RawMessage(taken, statements, outside)
        assert accessed_sqlite_pages(taken, page_size) == {
            (offset + at) // page_size + 1
            for kind, _, length, offset in rows
            for at in range(length)
            if kind <= WRITE and offset >= 0
        }
        assert dirty_sqlite_pages(raw, page_size) <= accessed_sqlite_pages(taken, page_size)
        facts = MessageFacts(4, "update", "committed", 65_536)
        uses = ()
        if looked_up is not None:
            dirty = dirty_sqlite_pages(raw, page_size)
            uses = owner_uses(raw, Places(looked_up, files, dirty, page_size))
        results.append(attribute(raw, facts, first_statement=9, owners=uses))
    many, few = results
    assert many.message == few.message
    assert many.statements == few.statements
    for name in ("accessed", "dirty"):
        pages = getattr(many.footprint(), name)
        assert np.array_equal(pages, getattr(few.footprint(), name))
        assert pages.dtype == getattr(few.footprint(), name).dtype
    assert many.footprint().use == few.footprint().use == few.message.stable
    for index, source in many.statement_accesses.items():
        assert encode_accesses(source()) == encode_accesses(few.statement_accesses[index]())
    for one, other in zip(many.outside_accesses, few.outside_accesses, strict=True):
        assert encode_accesses(one()) == encode_accesses(other())
    # What lies in no statement lies outside, and nothing is counted twice.
    calls = few.message.stable.calls
    assert (calls.read, calls.write, calls.size, calls.grow) == tuple(
        sum(row[0] == kind for row in rows) for kind in (READ, WRITE, SIZE, GROW)
    )


@pytest.mark.parametrize("seed", range(60))
def test_few_accesses_are_encoded_as_many_are(seed):
    rng = random.Random(seed)
    rows = random_rows(rng, rng.choice((1, 2, 3, 17, 63, 64, 65, FEW_ACCESSES)), 4096)
    if seed % 5 == 0:
        extremes = (0, 1, -1, (1 << 63) - 1, -(1 << 63), 1 << 62)
        rows = [
            (rng.randrange(4), *(rng.choice(extremes) for _ in range(3)))
            for _ in range(rng.randrange(1, 9))
        ]
    columns = [np.array(column, dtype=np.int64) for column in zip(*rows, strict=True)]
    whole = Accesses(columns[0].astype(np.int8), *columns[1:])
    block = encode_accesses(FewAccesses(rows))
    assert block == encode_accesses([whole])
    decoded = decode_accesses(block)
    assert [
        *zip(*(getattr(decoded, name).tolist() for name in decoded.__slots__), strict=True)
    ] == rows


@pytest.mark.parametrize("is_managed", [False, True])
def test_a_shims_log_gives_few_accesses_as_integers_and_as_columns(is_managed):
    rng = random.Random(is_managed)
    file_map = FileMap.of((0,), bucket_bytes=ENDLESS)
    if is_managed:
        buckets = [bucket for bucket in range(20) if rng.randrange(3) == 0]
        file_map = FileMap.of((65_536 * (1 + it) for it in buckets), bucket_bytes=65_536)
    for count in (0, 1, 9, FEW_ACCESSES, FEW_ACCESSES + 1):
        rows = [
            (
                rng.choice((READ, WRITE, SIZE, GROW)) + shim.OF_DRIVER * rng.randrange(2),
                rng.choice((rng.randrange(30 * 65_536), -1, (1 << 63) - 1)),
                rng.choice((0, 4096, -1)),
            )
            for _ in range(count)
        ]
        taken = NotedLog(np.array(rows, dtype=np.int64).tobytes(), file_map).taken()
        expected = Accesses.joined(taken.chunks(0, count)).rows
        assert taken.few() == (expected if count <= FEW_ACCESSES else None)


@pytest.mark.parametrize("origin", [0, 65_536])
def test_a_log_gives_few_accesses_as_integers_and_as_columns(origin):
    rng = random.Random(origin)
    log = AccessLog(4096, lambda offsets: offsets + origin)
    for count in (0, 1, 9, FEW_ACCESSES, FEW_ACCESSES + 1):
        for _ in range(count):
            if rng.random() < 0.3:
                huge = rng.choice((7, 1 << 64))
                log.note(rng.choice((READ, WRITE, SIZE, GROW)), huge, huge, rng.choice((-1, 24)))
            else:
                offset = rng.randrange(99) * OS_PAGE_BYTES
                log.append(rng.choice((offset, ~offset)))
        so_far, taken = log.so_far(), log.take()
        log.note(SIZE, 0, 0)
        rows = Accesses.joined(taken.chunks(0, count)).rows
        if count > FEW_ACCESSES:
            assert taken.few() is None
            assert so_far.few() is None
        else:
            assert taken.few() == so_far.few() == rows
        log.take()
