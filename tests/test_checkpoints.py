"""What messages leave for a checkpoint, against sets of OS pages that are counted one by one."""

import csv
import io
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstable.analysis.checkpoints.intervals import (
    MESSAGES_PER_ROUND,
    ROUNDS,
    checkpoint_intervals,
)
from sqlstable.canister.canister import Canister
from sqlstable.ic.units import GIB, MIB
from sqlstable.report.as_csv import render_csv
from sqlstable.report.as_table import render_table
from sqlstable.report.by_checkpoint import VIEW
from sqlstable.report.html.summary_words import summary_words
from sqlstable.trace.model import HeapUse, TraceSettings
from tests.hand_built import SETTINGS, HandBuiltTrace, accesses, message, statement, use


def writing(*messages, each=None, image_bytes=20 * MIB):
    """Return a trace of messages: kind, outcome, and the OS pages that each writes."""
    made, statements, written = [], [], []
    for index, (kind, outcome, os_pages) in enumerate(messages):
        one = message(index, kind, (index,), use(len(os_pages), len(os_pages)))
        made.append(replace(one, outcome=outcome, image_bytes=image_bytes))
        statements.append(statement(index, index, "x"))
        rows = [(1, 4096 * os_page, 4096, -1) for os_page in os_pages]
        written.append(accesses((0, 999 * 4096, 4096, -1), *rows))
    return HandBuiltTrace(
        settings=TraceSettings({**SETTINGS.values, MESSAGES_PER_ROUND: each}),
        messages=tuple(made),
        statements=tuple(statements),
        accesses_by_statement=tuple(written),
    )


def test_a_bill_by_hand():
    """Pages 0-2, 5 and 300: 5 OS pages, 3 ranges; 300 lies in the second chunk of 256 OS pages."""
    trace = writing(
        ("update", "committed", (0, 1, 2, 5)),
        ("update", "committed", (2, 300)),
        ("query", "discarded", (700,)),
        ("update", "trapped", (800,)),
    )
    [found] = checkpoint_intervals(trace)
    assert (found.os_pages_dirty, found.os_pages_dirty_sum) == (5, 6)
    assert (found.range_count, found.overlay_count) == (3, 1)
    assert found.overlay_bytes == 5 * 4096 + 3 * 24 + 8 + 4
    assert (found.chunks_new, found.chunks_touched) == (1, 2)
    # One of each ten of the 20 chunks of stable memory.
    assert found.chunks_rehashed == 2
    assert found.hashed_bytes_each == pytest.approx(20_564 / 20_480)
    assert found.chunk_bytes_each == pytest.approx(2 * MIB / 20_480)
    assert found.heap_delta_bytes == 6 * 4096
    assert not found.is_heap_counted
    assert found.subnet_share == pytest.approx(6 * 4096 / (140 * GIB))
    assert (found.first_message, found.last_message, found.committed_count) == (0, 3, 2)


def test_an_overlay_file_ends_with_its_shard():
    last = 10_485_760 - 1
    [found] = checkpoint_intervals(writing(("update", "committed", (last, last + 1))))
    assert (found.range_count, found.overlay_count) == (2, 2)
    assert found.overlay_bytes == 2 * 4096 + 2 * 24 + 2 * 12


def test_the_heap_is_in_the_delta_where_it_was_watched():
    trace = writing(("update", "committed", (0,)))
    one = replace(trace.messages[0], heap=HeapUse(4, 3, 9, MIB))
    [found] = checkpoint_intervals(replace(trace, messages=(one,)))
    assert found.is_heap_counted
    assert found.heap_delta_bytes == (1 + 3 * 16) * 4096


@pytest.mark.parametrize(
    ("day", "words"),
    [
        ("2026-08-18", "140.0 GiB between two checkpoints, by the limits of 2026-08-18"),
        ("2021-09-01", "1.0 TiB between two checkpoints, by the limits of 2021-09-01"),
        (None, "140.0 GiB between two checkpoints, by today's limits"),
    ],
)
def test_what_a_subnet_may_have_is_that_of_the_day(day, words):
    trace = writing(("update", "committed", (0,)))
    trace = replace(trace, settings=TraceSettings({**trace.settings.values, "limits": day}))
    assert words in " ".join(render_table(trace, by="checkpoint").split())
    assert words in json.loads("".join(VIEW.json(trace)))["heap_delta_of"]


def test_a_page_says_what_is_left_in_the_words_of_the_table():
    trace = writing(("update", "committed", (0, 1, 2, 5)), ("update", "committed", (2, 300)))
    line = (
        "left for a checkpoint: 5 OS pages dirty, overlay 20.1 KiB, 1 new chunk of 1 MiB to hash; "
        "heap delta 24.0 KiB (heap not counted), <0.01% of the subnet's"
    )
    assert line in " ".join(render_table(trace, by="message").split())
    assert line in summary_words(trace).sentences
    nothing = writing(("query", "discarded", (700,)))
    assert not any(it.startswith("left") for it in summary_words(nothing).sentences)


def test_nothing_written_leaves_nothing():
    [found] = checkpoint_intervals(writing(("query", "discarded", (1,))))
    assert (found.os_pages_dirty, found.overlay_bytes, found.chunks_new) == (0, 0, 0)
    assert (found.hashed_bytes_each, found.chunk_bytes_each) == (None, None)
    assert checkpoint_intervals(writing()) == []


KINDS = (("update", "committed"), ("query", "discarded"), ("update", "trapped"))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.sets(st.integers(0, 600), max_size=9))),
    st.sampled_from([None, 1, 2]),
)
def test_intervals_have_the_os_pages_of_their_messages(messages, each):
    repeated = [(kind, outcome, tuple(sorted(it))) for (kind, outcome), it in messages]
    expected, executed = {}, 0
    for kind, outcome, os_pages in repeated:
        interval = expected.setdefault(0 if each is None else executed // each // ROUNDS, set())
        executed += kind != "query"
        if outcome == "committed":
            interval.update(os_pages)
    found = checkpoint_intervals(writing(*repeated, each=each))
    assert {it.index: it.os_pages_dirty for it in found} == {
        index: len(os_pages) for index, os_pages in expected.items()
    }
    for it in found:
        os_pages = expected[it.index]
        assert it.range_count == sum(os_page - 1 not in os_pages for os_page in os_pages)
        assert it.chunks_touched == len({os_page // 256 for os_page in os_pages})


def test_a_checkpoint_comes_after_500_rounds():
    messages = [("update", "committed", (index,)) for index in range(1_001)]
    messages.insert(500, ("query", "discarded", ()))
    found = checkpoint_intervals(writing(*messages, each=1))
    assert [(it.first_message, it.last_message, it.round_count) for it in found] == [
        # A query takes no round, and is told with the round that comes next.
        *((0, 499, 500), (500, 1_000, 500), (1_001, 1_001, 1)),
    ]
    assert [it.os_pages_dirty for it in found] == [500, 500, 1]
    [all_at_once] = checkpoint_intervals(writing(*messages))
    assert all_at_once.round_count is None
    assert len(checkpoint_intervals(writing(*messages, each=3))) == 1


def test_table_csv_and_json_say_the_same():
    trace = writing(("update", "committed", (0, 1)), ("update", "committed", (9,)), each=1)
    text = render_table(trace, by="checkpoint", width=120)
    assert "modelled: 1 message in each round, a checkpoint after 500 rounds" in text
    [row] = csv.DictReader(io.StringIO(render_csv(trace, by="checkpoint")))
    document = json.loads("".join(VIEW.json(trace)))
    [found] = document["checkpoints"]
    assert (document["messages_per_round"], document["rounds_per_checkpoint"]) == (1, 500)
    assert list(found) == list(row)
    assert int(row["overlay_bytes"]) == found["overlay_bytes"] == 3 * 4096 + 2 * 24 + 12


@pytest.mark.parametrize("layout", ["managed", "raw"])
def test_a_real_run_leaves_the_os_pages_that_its_messages_dirtied(layout):
    with Canister(trace=":memory:", layout=layout) as canister:
        canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)")
        dirty = set()
        for number in range(20):
            reply = canister.update("INSERT INTO t (body) VALUES (?)", ("x" * 900 * (number % 7),))
            dirty.update(reply.footprint.dirty.tolist())
        [found] = checkpoint_intervals(canister.trace())
        assert dirty <= set(range(found.stable_bytes // 4096))
        # What came before are the opening and the table.
        assert len(dirty) <= found.os_pages_dirty <= len(dirty) + 12
        words = render_table(canister.trace(), by="message")
        assert f"left for a checkpoint: {found.os_pages_dirty} OS pages dirty" in words
