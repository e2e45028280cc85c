"""Calls in a row that do the same are one row of a table."""

import random
from itertools import groupby

from sqlstable.report.call_stretches import STRETCH_MIN, CallStretch, stretches
from sqlstable.trace.model import HeapUse, Instructions, Message, ModuleCall, StableUse


def message(index, method="add", *, label=None, outcome="committed", pages=1, spent=10):
    return Message(
        index=index,
        kind="update",
        label=label,
        outcome=outcome,
        trap=None,
        discarded_writes=False,
        cache=None,
        statements=(index,),
        stable=StableUse(os_pages_accessed=pages, os_pages_dirty=pages // 2),
        outside=(),
        limits=(),
        image_bytes=0,
        instructions=Instructions(spent, spent, 0, 0),
        heap=HeapUse(pages, 1, 1, 65_536),
        call=ModuleCall(method, f"{method}()", "reply", 0, "()", 0),
    )


def test_a_few_calls_stand_each_for_itself():
    calls = [message(index) for index in range(STRETCH_MIN - 1)]
    assert [*stretches(calls)] == calls


def test_a_loop_is_one_row_with_its_largest_figures():
    calls = [message(index, pages=index % 7, spent=100 - index) for index in range(20)]
    [found] = stretches(calls)
    assert (found.first.index, found.last.index, found.count) == (0, 19, 20)
    assert (found.stable.os_pages_accessed, found.stable.os_pages_dirty) == (6, 3)
    assert found.instructions.total == 100
    assert found.heap.wasm_pages_accessed == 6
    assert (found.widest.index, found.dearest.index) == (6, 0)


def test_no_call_is_lost_and_none_moves():
    draw = random.Random(3)
    for _ in range(200):
        calls = [
            message(
                index,
                draw.choice("ab"),
                label=draw.choice((None, None, None, "x")),
                outcome=draw.choice(("committed",) * 9 + ("trapped",)),
            )
            for index in range(draw.randint(0, 40))
        ]
        seen = []
        for item in stretches(calls):
            if isinstance(item, CallStretch):
                assert item.count == item.last.index - item.first.index + 1 >= STRETCH_MIN
                seen += range(item.first.index, item.last.index + 1)
            else:
                seen.append(item.index)
        assert seen == [*range(len(calls))]


def test_what_is_long_enough_is_put_together():
    draw = random.Random(4)
    methods = [draw.choice("aaab") for _ in range(500)]
    calls = [message(index, method) for index, method in enumerate(methods)]
    runs = [len([*run]) for _, run in groupby(methods)]
    found = [*stretches(calls)]
    assert len(found) == sum(1 if run >= STRETCH_MIN else run for run in runs)


def test_what_trapped_stands_for_itself():
    calls = [message(index, outcome="trapped") for index in range(10)]
    assert [*stretches(calls)] == calls
