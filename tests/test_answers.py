"""What people ask first about cost: the answers hold, and both sides answer the same."""

from functools import cache

import pytest

from sqlstable.canister.canister import Canister
from sqlstable.module.canister_module import CanisterModule
from sqlstable.workload.answers import scan_reach, stable_map
from sqlstable.workload.answers.small_messages import small_messages
from sqlstable.workload.answers.word_access import WORDS, word_accesses

HEADER_BYTES = 8


@cache
def messages(build):
    return {it.name: it for it in small_messages(build)}


def instructions(build, name):
    return messages(build)[name].message.instructions


def heap_share(counted):
    return counted.heap / counted.total


@pytest.mark.slow
@pytest.mark.parametrize("build", ["standard", "lean"])
def test_nearly_all_of_a_small_message_is_heap(build):
    assert heap_share(instructions(build, "SELECT 1, in an update")) > 0.9
    # What nobody touched costs nothing: its work is the same few instructions in both builds.
    assert instructions(build, "SELECT 1, in an update").computation < 40_000


@pytest.mark.slow
def test_a_warm_range_is_dearer_than_a_cold_one():
    warm, cold = (
        instructions("standard", f"100 rows by an index, {it}") for it in ("warm", "cold")
    )
    assert warm.total > cold.total
    assert warm.stable == 0 < cold.stable
    assert warm.heap > cold.heap + cold.stable


@pytest.mark.slow
def test_the_first_statement_pays():
    hundred = instructions("standard", "100 point lookups in one message, cold").total
    assert hundred < 10 * instructions("standard", "point lookup, cold").total


@pytest.mark.slow
def test_the_lean_build_is_cheaper_where_messages_are_small():
    for name in messages("standard"):
        standard, lean = instructions("standard", name), instructions("lean", name)
        if standard.total < 20_000_000:
            assert lean.total < standard.total, name


@pytest.mark.slow
def test_an_index_is_what_a_join_lives_on():
    with_index = messages("standard")["small join, cold"]
    without = messages("standard")["join by the index, index dropped"]
    assert with_index.rows == without.rows > 0
    assert without.message.stable.os_pages_accessed > 10 * (
        with_index.message.stable.os_pages_accessed
    )


def test_words_one_by_one_cost_what_the_price_list_says():
    by_word, by_os_page, direct = (message for _, message in word_accesses())
    assert by_word.charged is None or by_word.charged.stable_bytes == WORDS * 8
    # 16 regions each: read from stable memory, or from the heap.
    assert by_word.instructions.stable == WORDS * (20 + 8) + 16 * 80_000
    assert by_os_page.instructions.stable == 256 * (20 + 4096) + 16 * 80_000
    assert direct.instructions.stable == 0
    assert direct.instructions.heap == (16 + 1) * 80_000


@pytest.mark.slow
@pytest.mark.parametrize("scan", ["LIKE '%9999%'"])
def test_a_scan_leaves_the_limit_where_it_was_predicted(scan):
    found = scan_reach.scan_reach(scan)
    assert scan_reach.scan_fits(scan, int(found.rows_max * 0.98))
    assert not scan_reach.scan_fits(scan, int(found.rows_max * 1.02))


@pytest.mark.parametrize("value_bytes", [0, 16, 1000])
def test_the_map_and_sqlite_answer_the_same(value_bytes):
    rows = stable_map.LOAD_ROWS
    value = b"x" * value_bytes
    with (
        CanisterModule(stable_map.MODULE) as canister,
        Canister(engine="wasm") as database,
    ):
        canister.update("fill", stable_map.pack_numbers(1, rows, value_bytes))
        database.update("CREATE TABLE item (key INTEGER PRIMARY KEY, value BLOB)")
        with database.message() as message, message.transaction():
            message.executemany(
                "INSERT INTO item VALUES (?, ?)", [(it, value) for it in range(1, rows + 1)]
            )
        pairs = database.query("SELECT key, value FROM item WHERE key >= 7 AND key < 107").rows
        listed = b"".join(key.to_bytes(HEADER_BYTES, "little") + it for key, it in pairs)
        assert canister.query("range", stable_map.pack_numbers(7, 100)).data == listed
        [(count, size)] = database.query("SELECT count(*), sum(length(value)) FROM item").rows
        told = canister.query("scan", b"").data
        assert told == count.to_bytes(8, "little") + size.to_bytes(8, "little")
        assert canister.query("get", stable_map.pack_numbers(9)).data == value
        assert canister.query("get", stable_map.pack_numbers(rows + 1)).data == b""


def test_both_are_asked_the_same_questions():
    asked = [it.question for it in stable_map.ask_map(1000, 16)]
    assert asked == [it.question for it in stable_map.ask_sqlite("lean", 1000, 16)]
    assert set(asked) == set(stable_map.QUESTIONS)
