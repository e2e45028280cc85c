"""From a trace to numbers, on traces made by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlstable.analysis.alignment import align
from sqlstable.analysis.compare import change_counts, change_of, compare
from sqlstable.analysis.groups import group_by_owner, group_by_shape, without_owners
from sqlstable.analysis.totals import outside_use, sum_uses, totals
from sqlstable.analysis.verdict import covered, not_counted, tightest_limit, verdict
from sqlstable.ic.limits import NO_LIMIT
from sqlstable.ic.words import READ, WRITE
from sqlstable.report.limit_words import tightest_words
from sqlstable.trace.footprint import measure
from sqlstable.trace.model import LimitUse, OutsideUse, StableUse
from tests.hand_built import (
    QUERY_TRAP,
    HandBuiltTrace,
    accesses,
    message,
    music_trace,
    music_trace_with_index,
    owner,
    statement,
    use,
)

# -- totals ----------------------------------------------------------------------------------------


def test_totals_add_up_messages_and_count_their_pages_once_per_message():
    same = use(3, 2)
    trace = HandBuiltTrace(
        messages=(message(0, "update", (0,), same), message(1, "update", (1,), same)),
        statements=(statement(0, 0, "A", 3, 2, row_count=5), statement(1, 1, "A", 3, 2)),
    )
    found = totals(trace)
    assert found.stable == sum_uses([same, same])
    assert (found.stable.os_pages_accessed, found.stable.os_pages_dirty) == (6, 4)
    assert (found.message_count, found.statement_count, found.row_count) == (2, 2, 5)
    assert found.image_bytes == 16_842_752


def test_totals_of_an_empty_trace_know_no_image():
    found = totals(HandBuiltTrace())
    assert (found.stable, found.image_bytes, found.hits) == (StableUse(), None, None)


def test_outside_pages_that_two_entries_share_count_once():
    opened, closed = accesses((READ, 0, 8192, 0)), accesses((WRITE, 4096, 4096, 4096))
    entries = tuple(
        OutsideUse(name, measure([it]).use) for name, it in (("open", opened), ("close", closed))
    )
    one = message(0, "update", (), use(2, 1), outside=entries)
    trace = HandBuiltTrace(
        messages=(one,), outside_by_message=((("open", opened), ("close", closed)),)
    )
    found = outside_use(trace, one)
    assert (found.os_pages_accessed, found.os_pages_dirty) == (2, 1)
    assert (found.bytes_read, found.bytes_written) == (8192, 4096)


def test_outside_use_of_one_entry_reads_no_accesses():
    one = message(0, "query", (), use(3), outside=(OutsideUse("open", use(3)),))
    assert outside_use(HandBuiltTrace(messages=(one,)), one) == use(3)


# -- groups ----------------------------------------------------------------------------------------


def test_shapes_take_statements_together_and_the_largest_comes_first():
    made = [
        statement(0, 0, "SELECT 1", 10, shape="SELECT ?", owners=(owner("a", 10),)),
        statement(1, 1, "SELECT 2", 30, shape="SELECT ?", owners=(owner("a", 29), owner("b", 1))),
        statement(2, 2, "DELETE FROM t", 100, 7, runs=4, row_count=4),
    ]
    largest, other = group_by_shape(made)
    assert (largest.shape, largest.run_count, largest.statement_count) == ("DELETE FROM t", 4, 1)
    assert (other.shape, other.statement_count, other.stable.os_pages_accessed) == (
        "SELECT ?",
        2,
        40,
    )
    assert (other.os_pages_accessed_median, other.os_pages_accessed_max) == (20, 30)
    assert [(it.name, it.os_pages_accessed) for it in other.owners] == [("a", 39), ("b", 1)]


def test_statements_without_a_shape_are_grouped_by_their_sql():
    made = [statement(index, 0, "SELECT [", shape="") for index in range(2)]
    assert [(it.shape, it.statement_count) for it in group_by_shape(made)] == [("SELECT [", 2)]


def test_owners_are_told_apart_by_role():
    groups = group_by_owner(music_trace().statements)
    track = {it.role: it for it in groups if it.name == "track"}
    assert track["leaf"].os_pages_accessed == 37 + 37 + 1290 + 11
    assert track["leaf"].os_pages_dirty == 30 + 11
    assert (track["leaf"].statement_count, track["interior"].os_pages_accessed) == (4, 11)
    assert [it.os_pages_accessed for it in groups] == sorted(
        (it.os_pages_accessed for it in groups), reverse=True
    )


def test_statements_whose_owners_are_unknown_are_counted():
    made = (
        statement(0, 0, "A", 1),
        statement(1, 0, "B"),
        statement(2, 0, "C", 1, owners=(owner("t", 1),)),
    )
    assert without_owners(HandBuiltTrace(statements=made)) == 1


# -- verdict ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("used", "limit", "expected"),
    [(2, 2, "fits"), (3, 2, "exceeds"), (0, 0, "fits"), (9, NO_LIMIT, None)],
)
def test_verdict_compares_use_and_limit(used, limit, expected):
    one = message(0, "update", (), use(1), limits=(LimitUse("stable_os_pages_dirty", used, limit),))
    assert verdict(one) == expected


def test_no_limits_no_verdict():
    assert verdict(message(0, "update", (), use(1), limits=())) is None


@pytest.mark.parametrize("limits", [(), (LimitUse("stable_os_pages_accessed", 1, 2),)])
@pytest.mark.parametrize(
    ("trap", "trap_limit"),
    [
        (QUERY_TRAP, "stable_os_pages_accessed"),
        ("whatever it says", "instructions"),
        ("he said: Exceeded the limit for the number of accessed pages", None),
        ("stable memory out of bounds", None),
    ],
)
def test_a_trap_that_a_limit_made_exceeds_whatever_was_used(limits, trap, trap_limit):
    """What the text says is nobody's word but the trap's."""
    one = message(
        *(0, "query", (), use(1)),
        outcome="trapped", trap=trap, limits=limits, trap_limit=trap_limit,
    )  # fmt: skip
    assert verdict(one) == (
        "exceeds" if trap_limit else "fits as far as it ran" if limits else None
    )


def test_the_tightest_limit_is_the_one_that_trapped():
    limits = (LimitUse("stable_os_pages_accessed", 9, 10), LimitUse("instructions", 5, 100))
    one = message(0, "query", (), use(9), limits=limits)
    assert tightest_limit(one) == limits[0]
    trapped = replace(one, outcome="trapped", trap="no", trap_limit="instructions")
    assert tightest_limit(trapped) == limits[1]
    other = replace(trapped, trap_limit="wasm_memory_limit")
    assert tightest_limit(other) is None
    assert tightest_words(other) == "trapped by wasm_memory_limit"


def test_a_verdict_names_what_it_covers():
    one = message(0, "query", (), use(9))
    assert (covered(one), not_counted(one)) == (("OS pages", "stable memory"), ("instructions",))
    counted = replace(one, limits=(*one.limits, LimitUse("instructions", 5, 100)))
    assert (covered(counted), not_counted(counted)) == (
        ("OS pages", "stable memory", "instructions"),
        (),
    )
    early = replace(one, limits=(LimitUse("stable_os_pages_accessed", 9, NO_LIMIT),))
    assert covered(early) == ()
    assert not_counted(replace(one, limits=())) == ()
    other = replace(one, limits=(LimitUse("instructions", 5, 100),))
    assert not_counted(other) == ("OS pages", "stable memory")


def test_tightest_limit_is_the_one_with_the_largest_share():
    limits = (LimitUse("a", 5, 100), LimitUse("b", 2, 10), LimitUse("c", 9, NO_LIMIT))
    one = message(0, "update", (), use(1), limits=limits)
    assert tightest_limit(one) == limits[1]
    assert tightest_limit(replace(one, limits=limits[2:])) is None


# -- alignment -------------------------------------------------------------------------------------


def script(*texts):
    """Return statements whose SQL is each text, and whose shape is what stands before a blank."""
    return [
        statement(index, index, text, shape=text.split(" ")[0]) for index, text in enumerate(texts)
    ]


def aligned(before, after):
    return [
        (one and one.sql, other and other.sql)
        for one, other in align(script(*before), script(*after))
    ]


def test_an_inserted_statement_shifts_nothing():
    assert aligned(["a", "b", "c"], ["a", "x", "b", "c"]) == [
        ("a", "a"), (None, "x"), ("b", "b"), ("c", "c"),
    ]  # fmt: skip


def test_a_removed_statement_stays_behind_its_predecessor():
    assert aligned(["a", "b", "c"], ["a", "c"]) == [("a", "a"), ("b", None), ("c", "c")]
    assert aligned(["a", "b"], ["b"]) == [("a", None), ("b", "b")]


def test_equal_sql_is_paired_before_equal_shape():
    assert aligned(["q 1", "q 2", "q 3"], ["q 2", "q 3"]) == [
        ("q 1", None), ("q 2", "q 2"), ("q 3", "q 3"),
    ]  # fmt: skip


def test_other_literals_are_paired_by_shape_in_their_gap():
    assert aligned(["a", "q 1", "b", "q 2"], ["a", "q 7", "i", "b", "q 8"]) == [
        ("a", "a"), ("q 1", "q 7"), (None, "i"), ("b", "b"), ("q 2", "q 8"),
    ]  # fmt: skip


def test_long_traces_are_aligned_without_comparing_all_with_all():
    loop = ["insert ?", "select ?"] * 3_000
    pairs = aligned(loop, ["index", *loop, "vacuum"])
    assert pairs[0] == (None, "index")
    assert pairs[-1] == (None, "vacuum")
    assert all(one == other for one, other in pairs[1:-1])


def test_statements_without_partners_in_long_traces_are_paired_by_shape_at_last():
    before = ["first", *(f"q {n}" for n in range(2_500)), "x 1", "end"]
    after = ["1st", "x 2", *(f"q {n}" for n in reversed(range(2_500))), "fin"]
    pairs = aligned(before, after)
    assert ("x 1", "x 2") in pairs
    assert {one for one, _ in pairs if one} == set(before)
    assert sum(one == other for one, other in pairs) == 2_500


TEXTS = st.lists(st.sampled_from(["a", "b", "c 1", "c 2", "d"]), max_size=12)


@given(TEXTS, TEXTS)
def test_alignment_keeps_every_statement_once_and_the_order(before, after):
    pairs = align(script(*before), script(*after))
    firsts = [one.index for one, _ in pairs if one]
    seconds = [other.index for _, other in pairs if other]
    assert sorted(firsts) == list(range(len(before)))
    assert seconds == list(range(len(after)))
    assert all(one.shape == other.shape for one, other in pairs if one and other)


@given(TEXTS)
def test_a_trace_is_aligned_with_itself_one_to_one(texts):
    assert aligned(texts, texts) == [(text, text) for text in texts]


# -- comparison ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((9, 3), (9, 3), "same"),
        ((9, 3), (8, 3), "better"),
        ((9, 3), (9, 2), "better"),
        ((9, 3), (10, 3), "worse"),
        ((9, 3), (9, 4), "worse"),
        ((9, 3), (8, 4), "mixed"),
        ((9, 3), (10, 2), "mixed"),
    ],
)
def test_change_looks_at_accessed_and_dirty(before, after, expected):
    assert change_of(use(*before), use(*after)) == expected


def test_comparison_finds_the_new_index_and_the_plan_it_changed():
    comparison = compare(music_trace(), music_trace_with_index())
    assert [pair.change for pair in comparison.pairs] == [
        "same", "same", "added", "same", "same", "same", "better", "same", "worse", "better",
        "same",
    ]  # fmt: skip
    assert [pair.after.index for pair in comparison.pairs if pair.plan_changed] == [6]
    assert [pair.after.index for pair in comparison.pairs if pair.different_result_size] == [7]
    assert change_counts(comparison)["added"] == 1
    assert comparison.after.stable.os_pages_accessed == 262_481
    assert comparison.paired_before.os_pages_accessed == 263_742
    assert comparison.paired_after.os_pages_accessed == 201_319


def test_comparison_swaps_with_its_sides():
    there = compare(music_trace(), music_trace_with_index())
    back = compare(music_trace_with_index(), music_trace())
    assert change_counts(back)["removed"] == change_counts(there)["added"]
    assert change_counts(back)["worse"] == change_counts(there)["better"]


def test_more_runs_are_a_different_result_size():
    messages = (message(0, "update", (0,), use(0)),)
    before = HandBuiltTrace(messages=messages, statements=(statement(0, 0, "INSERT", runs=1),))
    after = HandBuiltTrace(messages=messages, statements=(statement(0, 0, "INSERT", runs=2),))
    assert compare(before, after).pairs[0].different_result_size


def test_nothing_compared_with_nothing():
    assert compare(HandBuiltTrace(), HandBuiltTrace()).pairs == ()


def test_hand_built_accesses_have_the_types_of_the_model():
    part = accesses((READ, 1, 2, -1))
    assert (part.kind.dtype, part.address.dtype) == (np.dtype("int8"), np.dtype("int64"))
