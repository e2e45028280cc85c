"""The log of accesses: in order, compact, and translated when it is read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstable.errors import (
    Trap,
)
from sqlstable.ic.accesses import Accesses
from sqlstable.ic.units import KIB, WASM_PAGE_BYTES
from sqlstable.ic.words import GROW, READ, SIZE, WRITE
from sqlstable.memory import accesslog
from sqlstable.memory.accesslog import AccessLog
from tests.stable_world import limited_memory, memory_fixture, trapped  # noqa: F401  a fixture


def new_log(sqlite_page_bytes=4096):
    """A log whose database file begins at byte 65 536."""
    return AccessLog(sqlite_page_bytes, lambda offsets: offsets + WASM_PAGE_BYTES)


def rows(taken, start, stop):
    return Accesses.joined(taken.chunks(start, stop)).rows


def logged(log):
    taken = log.take()
    return rows(taken, 0, len(taken))


def test_calls_are_logged_in_order_with_their_kinds(memory):
    memory.log = new_log()
    memory.size()
    memory.grow(3)
    with memory.message():
        memory.write(5, b"abc")
        memory.read(9, 2)
        memory.grow(0)
    memory.access_read(70_000, 7, 4464)
    memory.access_write(70_001, b"12345", 4465)
    assert logged(memory.log) == [
        (SIZE, 0, 0, -1),
        (GROW, 0, 3, -1),
        (WRITE, 5, 3, -1),
        (READ, 9, 2, -1),
        (GROW, 0, 0, -1),
        (READ, 70_000, 7, 4464),
        (WRITE, 70_001, 5, 4465),
    ]
    assert (READ, WRITE, SIZE, GROW) == (0, 1, 2, 3)


def test_access_of_no_bytes_is_logged(memory):
    memory.log = new_log()
    memory.read(7, 0)
    memory.write(1 << 64, b"")
    assert logged(memory.log) == [(READ, 7, 0, -1), (WRITE, (1 << 63) - 1, 0, -1)]


def test_growth_that_fails_is_logged_and_growth_that_traps_is_not(memory):
    memory.log = new_log()
    assert memory.grow((1 << 64) - 1) == -1
    with trapped(memory), pytest.raises(Trap):
        memory.grow(1)
    assert logged(memory.log) == [(GROW, 0, (1 << 63) - 1, -1)]


def test_accesses_that_trap_are_not_logged():
    memory = limited_memory(update=(1, 1))
    memory.log = new_log()
    for access in (
        lambda: memory.read(0, 5000),
        lambda: memory.write(0, bytes(5000)),
        lambda: memory.read(1 << 40, 1),
        lambda: memory.write(1 << 40, b"x"),
    ):
        memory.begin("update")
        with pytest.raises(Trap):
            access()
        memory.rollback()
    assert memory.log.position() == 0


def test_rollback_keeps_the_log(memory):
    memory.log = new_log()
    with memory.message("query"):
        memory.write(0, b"x")
    assert logged(memory.log) == [(WRITE, 0, 1, -1)]


@pytest.mark.parametrize("sqlite_page_bytes", [512, 4096, 65_536])
def test_regular_entries_are_offsets_and_complements(sqlite_page_bytes):
    log = new_log(sqlite_page_bytes)
    for index in (0, 1, 7):
        log.append(index * sqlite_page_bytes)
        log.append(~(index * sqlite_page_bytes))
    expected = [
        (
            kind,
            WASM_PAGE_BYTES + index * sqlite_page_bytes,
            sqlite_page_bytes,
            index * sqlite_page_bytes,
        )
        for index in (0, 1, 7)
        for kind in (READ, WRITE)
    ]
    assert logged(log) == expected


def test_positions_count_from_0_since_the_last_take(monkeypatch):
    monkeypatch.setattr(accesslog, "COMPACT_AT", 3)
    log = new_log()
    append = log.append
    for round_length in (2, 7, 0, 4):
        for position in range(round_length):
            assert log.position() == position
            append(4096 * position) if position % 2 else log.note(READ, position, 1)
            assert log.compact() is False
        taken = log.take()
        assert len(taken) == round_length
        assert log.position() == log.compacted_count == 0
        addresses = [row[1] for row in rows(taken, 0, round_length)]
        expected = [WASM_PAGE_BYTES + 4096 * p if p % 2 else p for p in range(round_length)]
        assert addresses == expected


def test_taken_log_does_not_change_any_more():
    log = new_log()
    log.append(0)
    log.note(READ, 1, 1)
    taken = log.take()
    before = rows(taken, 0, 2)
    log.append(8192)
    log.note(WRITE, 2, 2)
    assert rows(taken, 0, 2) == before
    assert len(taken) == 2
    assert [row[0] for row in logged(log)] == [READ, WRITE]


def test_compacting_waits_until_there_is_enough(monkeypatch):
    monkeypatch.setattr(accesslog, "COMPACT_AT", 3)
    log = new_log()
    for count in (1, 2):
        log.append(0)
        log.compact()
        assert (len(log.entries), log.compacted_count) == (count, 0)
    log.append(0)
    log.compact()
    assert (len(log.entries), log.compacted_count) == (0, 3)
    assert log.position() == 3


TIB_8 = 1 << 43
EDGES = [TIB_8 - 8192, TIB_8 - 4096, TIB_8, TIB_8 + 4096, (1 << 44) - 4096]


@pytest.mark.parametrize("offset", EDGES)
@pytest.mark.parametrize("write", [False, True])
def test_compacting_keeps_offsets_beyond_four_bytes_of_sqlite_page_numbers(
    monkeypatch, offset, write
):
    monkeypatch.setattr(accesslog, "COMPACT_AT", 1)
    log = new_log()
    log.append(4096)
    log.note(GROW, 0, 5)
    log.append(~offset if write else offset)
    log.compact()
    assert logged(log) == [
        (READ, WASM_PAGE_BYTES + 4096, 4096, 4096),
        (GROW, 0, 5, -1),
        (int(write), WASM_PAGE_BYTES + offset, 4096, offset),
    ]


def test_compacted_entry_takes_four_bytes_below_8_tib(monkeypatch):
    monkeypatch.setattr(accesslog, "COMPACT_AT", 1)
    log = new_log()
    log.append(TIB_8 - 4096)
    log.append(~(TIB_8 - 8192))
    log.note(SIZE, 0, 0)
    log.compact()
    log.append(TIB_8)
    log.compact()
    assert [piece.dtype for piece in log._compacted] == [np.int32, np.int64]


@st.composite
def accesses(draw):
    """An access as the row that must come back, for some size of SQLite pages."""
    if draw(st.booleans()):
        index = draw(st.integers(0, 9) | st.integers(0, (1 << 32) - 2))
        return draw(st.sampled_from((READ, WRITE))), index
    kind = draw(st.sampled_from((READ, WRITE, SIZE, GROW)))
    numbers = st.integers(0, (1 << 63) - 1)
    return kind, draw(numbers), draw(numbers), draw(st.integers(-1, 1 << 45))


@pytest.mark.slow
@settings(max_examples=150)
@given(
    sqlite_page_bytes=st.sampled_from([512, 4096, 65_536]),
    steps=st.lists(st.tuples(accesses(), st.booleans()), max_size=30),
    chunk_entries=st.integers(1, 9),
    cut=st.tuples(st.integers(0, 31), st.integers(0, 31)),
)
def test_compacting_and_cutting_change_no_column(sqlite_page_bytes, steps, chunk_entries, cut):
    log, expected = new_log(sqlite_page_bytes), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accesslog, "COMPACT_AT", 2)
        patch.setattr(accesslog, "CHUNK_ENTRIES", chunk_entries)
        for access, is_compacted in steps:
            if len(access) == 2:
                kind, index = access
                offset = index * sqlite_page_bytes
                log.append(~offset if kind == WRITE else offset)
                expected.append((kind, WASM_PAGE_BYTES + offset, sqlite_page_bytes, offset))
            else:
                log.note(*access)
                expected.append(access)
            if is_compacted:
                log.compact()
        taken = log.take()
        assert len(taken) == len(expected)
        assert rows(taken, 0, len(taken)) == expected
        start, stop = cut
        chunks = list(taken.chunks(start, stop))
        assert [row for chunk in chunks for row in chunk.rows] == expected[start:stop]
        assert rows(taken, start, stop) == expected[start:stop]


def test_long_log_is_handed_out_in_pieces(monkeypatch):
    monkeypatch.setattr(accesslog, "COMPACT_AT", 10)
    monkeypatch.setattr(accesslog, "CHUNK_ENTRIES", 4)
    log = new_log()
    for index in range(25):
        log.append(4096 * index)
        log.compact()
    chunks = list(log.take().chunks(1, 24))
    assert [len(chunk.kind) for chunk in chunks] == [4, 4, 1, 4, 4, 2, 4]
    assert np.concatenate([chunk.offset for chunk in chunks]).tolist() == [
        4096 * index for index in range(1, 24)
    ]


def test_columns_of_nothing_are_empty_and_typed():
    none = Accesses.joined(new_log().take().chunks(0, 0))
    columns = [none.kind, none.address, none.length, none.offset]
    assert [len(column) for column in columns] == [0, 0, 0, 0]
    assert [column.dtype for column in columns] == [np.int8, np.int64, np.int64, np.int64]


def test_translation_may_hand_back_the_array_it_was_given():
    log = AccessLog(4096, lambda offsets: offsets)
    log.append(8192)
    log.note(READ, 3, 1, 77)
    assert logged(log) == [(READ, 8192, 4096, 8192), (READ, 3, 1, 77)]


def test_offsets_are_translated_when_the_log_is_read():
    """The database may move, by growth, while its accesses wait in the log."""
    origin = [0]
    log = AccessLog(4096, lambda offsets: offsets + origin[0])
    log.append(4096)
    log.note(READ, 3, 1)
    taken = log.take()
    origin[0] = 5 * KIB
    assert rows(taken, 0, 2) == [(READ, 4096 + 5 * KIB, 4096, 4096), (READ, 3, 1, -1)]
