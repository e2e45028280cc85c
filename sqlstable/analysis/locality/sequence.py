"""The order in which pages are touched: one after the other in memory, or by leaps."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from sqlstable.analysis.locality.page_history import Int64s, Integers
from sqlstable.analysis.locality.value_counts import ValueCounts

_STRIDES_SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class Sequentiality:
    """How a statement's touches follow each other.

    A stride is the page of a touch less the page of the touch before it in the same statement, or
    in the same entry outside of statements; the first touch of each has none. A touch is sequential
    where the stride is 1, the next page in memory.

    Source: strides as J. L. Hennessy and D. A. Patterson, "Computer Architecture", use the word;
    sequential as the next block in storage is what read-ahead goes by.
    """

    steps: int
    "Touches that have a stride."
    same: int
    "Stride 0: the page again."
    sequential: int
    "Stride 1: the next page."
    forward: int
    "Strides above 1."
    backward: int
    "Strides below 0."
    strides: tuple[tuple[int, int], ...] = ()
    "The most frequent strides and their counts, most frequent first."

    @property
    def share(self) -> float:
        """Sequential touches by those that go to another page, from 0 to 1; 0 without any."""
        return self.sequential / max(1, self.steps - self.same)

    @property
    def run_length(self) -> float:
        """Average pages of a run of sequential touches, repeats of a page left out; 0 for none."""
        moves = self.steps - self.same
        return moves / max(1, moves - self.sequential) if moves else 0.0


class Steps:
    """Tells the strides of a stream of touches."""

    def __init__(self) -> None:
        self._strides = ValueCounts()
        self._maker: tuple[int, ...] = ()
        self._page = 0

    def feed(self, makers: tuple[Integers, ...], pages: Int64s) -> tuple[Int64s, Int64s]:
        """Return which touches have a stride, and their strides.

        Args:
            makers: Columns that together tell what made a touch: message, statement and so on.
            pages: Page of each touch.
        """
        if not len(pages):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        goes_on = np.ones(len(pages), bool)
        for column in makers:
            goes_on[1:] &= column[1:] == column[:-1]
        goes_on[0] = self._maker == tuple(int(column[0]) for column in makers)
        strides = np.diff(pages, prepend=self._page)
        self._maker = tuple(int(column[-1]) for column in makers)
        self._page = int(pages[-1])
        found = np.flatnonzero(goes_on)
        self._strides.add(strides[found])
        return found, strides[found]

    def result(self) -> Sequentiality:
        """Return the figures of all touches."""
        strides, counts = self._strides.counted()
        most = np.lexsort((np.abs(strides), -counts))[:_STRIDES_SHOWN]
        pairs = tuple(zip(strides[most].tolist(), counts[most].tolist(), strict=True))
        return sequentiality(kinds_of(strides) @ counts, pairs)


def sequentiality(kinds: Iterable[int], strides: tuple[tuple[int, int], ...] = ()) -> Sequentiality:
    """Return the figures from the sums of `kinds_of`."""
    steps, same, sequential, forward, backward = map(int, kinds)
    return Sequentiality(steps, same, sequential, forward, backward, strides)


def kinds_of(strides: Int64s) -> Int64s:
    """Return a row for each count of `Sequentiality`, with 1 where a stride counts in it.

    Examples:
        >>> kinds_of(np.array([1, -7])).tolist()
        [[1, 1], [0, 0], [1, 0], [0, 0], [0, 1]]
    """
    every = np.ones(len(strides), bool)
    return np.array((every, strides == 0, strides == 1, strides > 1, strides < 0), np.int64)
