"""Counts of values that come as a stream, where only few of all possible values occur."""

from typing import Final

import numpy as np

from sqlstable.analysis.locality.page_history import Int64s

# So many values wait until they are sorted in.
_WAITING_MAX: Final = 1 << 18


class ValueCounts:
    """Counts how often each value occurs; memory goes by the distinct values.

    Examples:
        >>> counted_values = ValueCounts()
        >>> counted_values.add(np.array([5, 1 << 60, 5]))
        >>> [column.tolist() for column in counted_values.counted()]
        [[5, 1152921504606846976], [2, 1]]
    """

    def __init__(self) -> None:
        self._values = np.empty(0, np.int64)
        self._counts = np.empty(0, np.int64)
        self._waiting: list[Int64s] = []
        self._waiting_count = 0

    def add(self, values: Int64s) -> None:
        """Count further values, each one once."""
        self._waiting.append(values)
        self._waiting_count += len(values)
        # Merging costs as much as there are values already, so more may wait for more.
        if self._waiting_count >= max(_WAITING_MAX, len(self._values) // 4):
            self._settle()

    def counted(self) -> tuple[Int64s, Int64s]:
        """Return the values, ascending, and how often each occurred."""
        self._settle()
        return self._values, self._counts

    def _settle(self) -> None:
        if not self._waiting_count:
            return
        waiting = np.concatenate(self._waiting)
        self._waiting, self._waiting_count = [], 0
        values, counts = np.unique(waiting, return_counts=True)
        self._values, self._counts = summed(
            np.concatenate([self._values, values]), np.concatenate([self._counts, counts])
        )


def summed(values: Int64s, counts: Int64s) -> tuple[Int64s, Int64s]:
    """Return each value once, ascending, with the sum of its counts.

    Examples:
        >>> [column.tolist() for column in summed(np.array([3, 1, 3]), np.array([1, 5, 2]))]
        [[1, 3], [5, 3]]
    """
    if not len(values):
        return values, counts
    order = np.argsort(values)
    ordered = values[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    return ordered[starts], np.add.reduceat(counts[order], starts)
