"""Which statement of one trace answers to which of another.

First statements with the same SQL are paired in order, then, in the gaps that remain, statements
of the same shape. A statement that was inserted or removed shifts nothing behind it.

**Limitations.** What lies between the first and the last difference of two long traces can be too
much to compare all with all; there the k-th occurrence in one is paired with the k-th in the other.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Final

from sqlstable.trace.model import Statement

COMPARISONS_MAX: Final = 4_000_000
"""Product of two lengths up to which ``difflib`` is asked; its time grows with the product, and is
about a second here."""


def align(
    before: Sequence[Statement], after: Sequence[Statement]
) -> list[tuple[Statement | None, Statement | None]]:
    """Pair the statements of two traces.

    Returns:
        Pairs in the order of ``after``; a statement that only one side has is paired with None,
        and one that only ``before`` has comes behind its predecessor there.
    """
    matches = _matches([it.sql for it in before], [it.sql for it in after])
    for before_left, after_left in _gaps(matches, len(before), len(after)):
        found = _matches(
            [before[i].shape or before[i].sql for i in before_left],
            [after[j].shape or after[j].sql for j in after_left],
        )
        matches += [(before_left[i], after_left[j]) for i, j in found]
    return [
        (None if i is None else before[i], None if j is None else after[j])
        for i, j in _merged(matches, len(before), len(after))
    ]


def _matches(before: Sequence[str], after: Sequence[str]) -> list[tuple[int, int]]:
    """Return index pairs of equal texts, each index at most once."""
    shorter = min(len(before), len(after))
    head = 0
    while head < shorter and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < shorter - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    before_middle = before[head : len(before) - tail]
    after_middle = after[head : len(after) - tail]
    if len(before_middle) * len(after_middle) <= COMPARISONS_MAX:
        middle = _matches_in_order(before_middle, after_middle)
    else:
        middle = _matches_by_occurrence(before_middle, after_middle)
    return [
        *((i, i) for i in range(head)),
        *((head + i, head + j) for i, j in middle),
        *((len(before) - k, len(after) - k) for k in range(tail, 0, -1)),
    ]


def _matches_in_order(before: Sequence[str], after: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield pairs of equal texts that do not cross."""
    for block in SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks():
        for place in range(block.size):
            yield block.a + place, block.b + place


def _matches_by_occurrence(
    before: Sequence[str], after: Sequence[str]
) -> Iterator[tuple[int, int]]:
    """Yield pairs of equal texts, the k-th with the k-th; pairs may cross."""
    waiting: dict[str, deque[int]] = defaultdict(deque)
    for i, text in enumerate(before):
        waiting[text].append(i)
    for j, text in enumerate(after):
        if waiting[text]:
            yield waiting[text].popleft(), j


def _gaps(
    matches: Sequence[tuple[int, int]], before_count: int, after_count: int
) -> list[tuple[Sequence[int], Sequence[int]]]:
    """Return what the matches leave over: runs of indexes that stand opposite to each other.

    Where matches cross, nothing stands opposite to anything, and all that is left is one gap.
    """
    borders = [(-1, -1), *matches, (before_count, after_count)]
    if all(i < k and j < m for (i, j), (k, m) in pairwise(borders)):
        return [
            (range(i + 1, k), range(j + 1, m))
            for (i, j), (k, m) in pairwise(borders)
            if i + 1 < k and j + 1 < m
        ]
    before_taken = {i for i, _ in matches}
    after_taken = {j for _, j in matches}
    before_left = [i for i in range(before_count) if i not in before_taken]
    after_left = [j for j in range(after_count) if j not in after_taken]
    return [(before_left, after_left)]


def _merged(
    matches: Sequence[tuple[int, int]], before_count: int, after_count: int
) -> Iterator[tuple[int | None, int | None]]:
    """Yield every index of both sides once, matched or alone."""
    partners = {j: i for i, j in matches}
    taken = {i for i, _ in matches}
    assert len(partners) == len(taken) == len(matches), "an index was matched twice"

    def alone_from(start: int) -> Iterator[tuple[int, None]]:
        for i in range(start, before_count):
            if i in taken:
                return
            yield i, None

    yield from alone_from(0)
    for j in range(after_count):
        partner = partners.get(j)
        yield partner, j
        if partner is not None:
            yield from alone_from(partner + 1)
