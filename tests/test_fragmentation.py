"""Fragmentation of B-trees and write amplification: by hand, and of real trees and updates."""

import random
from dataclasses import replace

import pytest

from sqlstable import Canister
from sqlstable.analysis.locality.fragmentation import fragmentation
from sqlstable.analysis.locality.locality import locality
from sqlstable.report.tree_table import tree_lines
from sqlstable.trace.model import TreeShape
from tests.hand_built import HandBuiltTrace, message, use

TREE = TreeShape("t", "t", "table", 2, 1, 8, 3, 500, 20_000, 12_288, 0.25)


def test_fill_and_leaps_come_from_the_shape():
    [found] = fragmentation([TREE], 4096)
    assert found.sqlite_pages == 12
    assert found.fill == 0.75
    assert found.leaps == round(0.75 * 7)
    assert found.sqlite_pages_saved_max == 3


def test_a_tree_of_one_leaf_has_no_order():
    one = replace(TREE, interior_pages=0, leaf_pages=1, overflow_pages=0, leaves_in_order=None)
    [found] = fragmentation([replace(one, unused_bytes=4096)], 4096)
    assert (found.leaps, found.fill) == (0, 0)


def test_the_largest_tree_comes_first():
    small, other = replace(TREE, leaf_pages=2), replace(TREE, name="a")
    assert [it.tree for it in fragmentation([small, TREE, other], 4096)] == [other, TREE, small]


def filled(keys):
    """Return the tree of a table that was filled by these keys, one after the other."""
    with Canister(trace=":memory:", bytes_changed=True) as canister:
        canister.update("CREATE TABLE t (k INTEGER PRIMARY KEY, s TEXT)")
        with canister.message() as open_message:
            open_message.executemany("INSERT INTO t VALUES (?, ?)", [(it, "x" * 90) for it in keys])
        canister.update("UPDATE t SET s = 'y' || substr(s, 2) WHERE k = 5")
        with canister.trace() as trace:
            return locality(trace)


def test_keys_out_of_order_scatter_leaves_and_leave_room():
    ascending, scattered = (
        next(it for it in filled(keys).trees if it.tree.name == "t")
        for keys in (range(2000), random.Random(1).sample(range(2000), 2000))
    )
    assert ascending.tree.leaves_in_order > 0.9
    assert scattered.tree.leaves_in_order < 0.5
    assert scattered.leaps > 5 * ascending.leaps
    assert scattered.fill < ascending.fill
    assert scattered.sqlite_pages > ascending.sqlite_pages


def test_writes_are_held_against_what_changed():
    found = filled(range(100)).write_amplification
    assert 0 < found.bytes_changed < found.bytes_written
    assert found.written_by_changed == found.bytes_written / found.bytes_changed
    assert found.dirty_by_changed > 1
    assert found.dirty_bytes == 4096 * found.os_pages_dirty


def test_bytes_changed_are_known_where_each_message_says_them():
    def told(*changed):
        messages = [
            message(index, "update", (), use(1, 1), bytes_changed=it)
            for index, it in enumerate(changed)
        ]
        return locality(HandBuiltTrace(messages=tuple(messages))).write_amplification

    assert told(10, 0).bytes_changed == 10
    assert told(10, 0).bytes_written == 8192
    assert told(10, None).bytes_changed is None
    assert told(10, None).written_by_changed is None
    assert told(0).written_by_changed is None


def test_what_the_install_wrote_is_left_out():
    install = message(0, "install", (), use(3, 3))
    update = message(1, "update", (), use(1, 1), bytes_changed=7)
    found = locality(HandBuiltTrace(messages=(install, update))).write_amplification
    assert (found.bytes_changed, found.os_pages_dirty) == (7, 1)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_trees_fit_any_terminal_and_act_on_none(width):
    hostile = replace(TREE, name="\x1b[31m<b>\u202ename" * 400)
    trees = fragmentation([TREE] * 60 + [hostile], 4096)
    lines = tree_lines(trees, width)
    assert all(line.cell_len <= width for line in lines)
    text = "\n".join(line.plain for line in lines)
    assert not set("\x1b\u202e") & set(text)
    assert "11 more trees" in text.replace("\n", " ")
    assert tree_lines((), width) == []
