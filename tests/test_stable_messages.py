"""Messages of stable memory: what they commit, roll back and stage, and who is told."""

import random

import pytest

from sqlstable.errors import (
    MessageError,
    OutOfBoundsTrap,
    SettingsError,
    Trap,
)
from sqlstable.ic.units import OS_PAGE_BYTES, OS_PAGES_PER_WASM_PAGE, WASM_PAGE_BYTES
from sqlstable.memory import staged
from sqlstable.memory.stable import StableMemory
from tests.stable_world import (  # noqa: F401  a fixture
    BORDER,
    KINDS,
    Witness,
    filled,
    memory_fixture,
    os_page_at,
    touched,
    trapped,
)

# --- Messages


def test_commit_keeps_bytes_and_size(memory):
    with memory.message():
        assert memory.grow(2) == 4
        memory.write(5 * WASM_PAGE_BYTES, b"new")
        memory.write(1, b"old")
        assert bytes(memory.backing.read(0, 4)) == bytes(4)
    assert memory.size() == 6
    assert memory.read(0, 5) == b"\0old\0"
    assert memory.read(5 * WASM_PAGE_BYTES - 1, 5) == b"\0new\0"


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_query_discards_its_writes_and_growth(memory, kind):
    with memory.message(kind):
        memory.grow(1)
        memory.write(4 * WASM_PAGE_BYTES - 1, b"ab")
        assert memory.read(4 * WASM_PAGE_BYTES - 1, 2) == b"ab"
        assert memory.size() == 5
    kept = kind != "query"
    assert memory.size() == 4 + kept
    assert memory.read(4 * WASM_PAGE_BYTES - 1, 1) == (b"a" if kept else b"\0")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OutOfBoundsTrap])
def test_exception_rolls_the_message_back_and_passes_on(memory, error):
    def fail():
        memory.grow(3)
        memory.write(0, bytes(5 * WASM_PAGE_BYTES))
        raise mine

    before = filled(memory)
    mine = error("mine")
    with pytest.raises(error) as caught, memory.message():
        fail()
    assert caught.value is mine
    assert memory.image() == before


def test_rollback_restores_size_and_bytes(memory):
    before = filled(memory)
    memory.begin("update")
    memory.write(0, b"gone")
    memory.grow(7)
    memory.write(9 * WASM_PAGE_BYTES, b"gone")
    assert memory.size() == 11
    memory.rollback()
    assert memory.size() == 4
    assert memory.image() == before
    with pytest.raises(OutOfBoundsTrap):
        memory.read(4 * WASM_PAGE_BYTES, 1)


def test_growth_rolled_back_and_grown_again_reads_zero(memory):
    for whole in (False, True):
        memory.begin("update")
        memory.grow(1)
        memory.write(4 * WASM_PAGE_BYTES, b"\xff" * WASM_PAGE_BYTES)
        memory.rollback()
        with memory.message("query"):
            memory.grow(1)
            assert memory.read(4 * WASM_PAGE_BYTES, WASM_PAGE_BYTES) == bytes(WASM_PAGE_BYTES)
            memory.write(
                4 * WASM_PAGE_BYTES + 5000, b"x" * (WASM_PAGE_BYTES - 5000 if whole else 1)
            )
            assert memory.read(4 * WASM_PAGE_BYTES, 5001) == bytes(5000) + b"x"
    memory.grow(1)
    assert memory.image() == bytes(5 * WASM_PAGE_BYTES)


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, 1),
        (1, OS_PAGE_BYTES - 2),
        (OS_PAGE_BYTES - 1, 1),
        (OS_PAGE_BYTES - 1, 2),
        (OS_PAGE_BYTES, OS_PAGE_BYTES),
        (OS_PAGE_BYTES, OS_PAGE_BYTES + 1),
        (OS_PAGE_BYTES - 1, OS_PAGE_BYTES + 1),
        (100, 3 * OS_PAGE_BYTES),
        (BORDER - 1, 2),
        (BORDER - OS_PAGE_BYTES, OS_PAGE_BYTES + 9),
        (BORDER - 5, WASM_PAGE_BYTES + 10),
    ],
)
def test_partial_writes_keep_the_rest_of_their_os_pages(memory, offset, length):
    expected = bytearray(filled(memory))
    with memory.message("query"):
        # What a message left staged must not shine through in the next one.
        memory.write(0, b"\xee" * (4 * WASM_PAGE_BYTES))
    for written in (b"1" * length, b"2" * (length // 2 + 1)):
        expected[offset : offset + len(written)] = written
    with memory.message():
        memory.write(offset, b"1" * length)
        memory.write(offset, b"2" * (length // 2 + 1))
        assert memory.read(0, 4 * WASM_PAGE_BYTES) == expected
        assert memory.image() == expected
    assert memory.image() == expected


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 200])
def test_commit_applies_scattered_os_pages(memory, count):
    memory.grow(16)
    expected = bytearray(filled(memory))
    chance = random.Random(count)
    chosen = chance.sample(range(20 * OS_PAGES_PER_WASM_PAGE), count)
    with memory.message():
        for index in chosen:
            start = os_page_at(index) + chance.randrange(OS_PAGE_BYTES)
            memory.write(start, b"!")
            expected[start] = ord("!")
        assert memory.image() == expected
    assert memory.image() == expected
    assert touched(memory) == ([], [])
    assert memory.bytemap.states(range(320)) == bytes(320)


@pytest.mark.parametrize("count", [64, 65, 100])
def test_commit_applies_runs_at_both_ends_of_the_memory(memory, count):
    memory.grow(16)
    last = 20 * OS_PAGES_PER_WASM_PAGE - 1
    expected = bytearray(20 * WASM_PAGE_BYTES)
    with memory.message():
        for index in [last, *range(count - 3, -1, -1), last - 1]:
            data = bytes([index % 255 + 1]) * OS_PAGE_BYTES
            memory.write(os_page_at(index), data)
            expected[os_page_at(index) : os_page_at(index + 1)] = data
        assert len(memory.bytemap.dirty) == count
    assert memory.image() == expected


def test_read_mixes_staged_and_committed_bytes(memory):
    expected = bytearray(filled(memory))
    with memory.message():
        for index in (1, 3, 4, 8):
            memory.write(os_page_at(index) + 50, b"staged")
            expected[os_page_at(index) + 50 : os_page_at(index) + 56] = b"staged"
        for start in (0, 40, 4096, 4146, 4150, 12_288):
            for length in (1, 8, 4096, 5000, 30_000):
                assert memory.read(start, length) == expected[start : start + length]


def test_messages_do_not_nest(memory):
    memory.begin("update")
    memory.write(0, b"kept")
    text = r"a message \(update\) is open already; end it before beginning another"
    with pytest.raises(MessageError, match=text):
        memory.begin("query")
    assert memory.kind == "update"
    memory.commit()
    assert memory.read(0, 4) == b"kept"


def test_message_inside_a_message_rolls_the_outer_one_back(memory):
    def nest():
        memory.write(0, b"lost")
        with memory.message("query"):
            pytest.fail("the inner block ran")

    with pytest.raises(MessageError, match="open already"), memory.message():
        nest()
    assert memory.read(0, 4) == bytes(4)
    assert memory.kind is None


def test_commit_and_rollback_need_a_message(memory):
    with pytest.raises(MessageError, match="no message is open; begin one first"):
        memory.commit()
    with pytest.raises(MessageError, match="no message is open; there is nothing to roll back"):
        memory.rollback()
    memory.begin("update")
    memory.commit()
    with pytest.raises(MessageError):
        memory.commit()


def test_query_cannot_be_committed(memory):
    memory.begin("query")
    memory.write(0, b"lost")
    with pytest.raises(MessageError, match="what a query does is never kept; roll it back"):
        memory.commit()
    assert memory.kind == "query"
    memory.rollback()
    assert memory.read(0, 4) == bytes(4)


@pytest.mark.parametrize("limits", ["latest", None])
def test_unknown_kind_is_refused(limits):
    memory = StableMemory(limits=limits)
    with pytest.raises(SettingsError, match="unknown message kind 'qeury'; use one of update, "):
        memory.begin("qeury")
    assert memory.kind is None
    memory.close()


# --- Staged memory


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_staged_memory_is_given_back_when_there_is_much_of_it(memory, monkeypatch, ending):
    monkeypatch.setattr(staged, "STAGED_BYTES_KEPT", 8 * OS_PAGE_BYTES)
    end = 4 * WASM_PAGE_BYTES

    def stage(index):
        memory.begin("update")
        memory.write(os_page_at(index), bytes([index + 1]) * OS_PAGE_BYTES)
        getattr(memory, ending)()

    for index in range(8):
        stage(8 * index)
    assert bytes(memory.staging.read(0, end)).count(0) == end - 8 * OS_PAGE_BYTES
    stage(1)
    assert bytes(memory.staging.read(0, end)) == bytes(end)
    stage(2)
    assert bytes(memory.staging.read(0, end)).count(0) == end - OS_PAGE_BYTES
    kept = {*range(0, 64, 8), 1, 2} if ending == "commit" else set()
    expected = [index + 1 if index in kept else 0 for index in range(64)]
    assert list(memory.image()[::OS_PAGE_BYTES]) == expected


def test_staged_memory_of_growth_rolled_back_is_given_back_too(memory, monkeypatch):
    monkeypatch.setattr(staged, "STAGED_BYTES_KEPT", OS_PAGE_BYTES)
    memory.begin("update")
    memory.grow(20)
    memory.write(23 * WASM_PAGE_BYTES, b"x")
    memory.rollback()
    memory.begin("update")
    memory.write(0, b"y")
    memory.rollback()
    assert bytes(memory.staging.read(0, 24 * WASM_PAGE_BYTES)) == bytes(24 * WASM_PAGE_BYTES)


def test_staged_memory_of_a_load_is_given_back_at_once(memory, monkeypatch):
    monkeypatch.setattr(staged, "BULK_BYTES", 2 * OS_PAGE_BYTES)
    for os_page_count, kept in ((2, 2), (3, 0)):
        with memory.message():
            memory.write(0, b"x" * (os_page_count * OS_PAGE_BYTES))
        held = bytes(memory.staging.read(0, WASM_PAGE_BYTES))
        assert held.count(b"x") == kept * OS_PAGE_BYTES


# --- Watchers


def test_watchers_of_a_commit_are_told_of_its_end_only(memory):
    witness = Witness(memory)
    with memory.message():
        memory.write(0, b"x")
        memory.grow(1)
        assert witness.events == []
    assert witness.seen == [("end", None, False, 5, b"x")]


def test_watchers_of_a_rollback_are_told_of_its_end_and_then_of_the_bytes(memory):
    witness = Witness(memory)
    with memory.message("query"):
        memory.write(0, b"x")
        memory.grow(1)
    assert witness.seen == [("end", None, False, 4, b"\0"), ("rollback", None, False, 4, b"\0")]


def test_watchers_of_a_trap_are_told_once_and_first(memory):
    witness = Witness(memory)
    memory.begin("update")
    memory.write(0, b"x")
    for _ in range(2):
        with pytest.raises(OutOfBoundsTrap):
            memory.read(1 << 40, 1)
    memory.poison(Trap("again"))
    assert witness.seen == [("trap", "update", True, 4, b"x")]
    memory.rollback()
    assert witness.events == ["trap", "end", "rollback"]
    assert witness.seen[1:] == [("end", None, False, 4, b"\0"), ("rollback", None, False, 4, b"\0")]


@pytest.mark.parametrize(
    ("act", "events"),
    [
        (lambda memory: memory.read(0, 1), ["end"]),
        (lambda memory: memory.grow(0), ["end"]),
        (lambda memory: memory.grow(1), ["end", "rollback"]),
        (lambda memory: memory.write(0, b"\0"), ["end", "rollback"]),
    ],
)
def test_watchers_hear_of_a_rollback_only_where_something_changed(memory, act, events):
    witness = Witness(memory)
    with memory.message("query"):
        act(memory)
    assert witness.events == events


def test_watchers_of_a_trap_without_changes_hear_of_the_rollback(memory):
    witness = Witness(memory)
    with trapped(memory):
        pass
    assert witness.events == ["trap", "end", "rollback"]


def test_all_watchers_are_told(memory):
    first, second = Witness(memory), Witness(memory)
    with memory.message("query"):
        memory.grow(1)
    assert first.events == second.events == ["end", "rollback"]
