"""Counts for each OS page that accesses touch, from a stream of blocks."""

from typing import Final

import numpy as np
import numpy.typing as npt

from sqlstable.ic.words import WRITE
from sqlstable.trace.access_stream import NOBODY, UNKNOWN_OWNER, AccessBlock, Int64s

TOP_STATEMENTS: Final = 3
"""Statements told of an OS page, those that touched it most."""

NEVER: Final = -1
"""In place of a message that wrote an OS page: none did."""

READS, WRITES, OWNER, LAST_WRITER, LAST_ACCESS = range(5)
"""Rows of `PageCounts.columns`."""
_NEW: Final = np.array([0, 0, UNKNOWN_OWNER, NEVER, NEVER]).reshape(-1, 1)


class PageCounts:
    """What blocks did to each OS page, so far.

    Examples:
        >>> from sqlstable.trace.access_stream import block_of
        >>> counts = PageCounts()
        >>> counts.feed(block_of([(0, 4_000, 200, -1), (1, 4_096, 1, -1), (2, 0, 0, -1)]))
        >>> counts.os_pages.tolist(), counts.columns[[READS, WRITES]].tolist()
        ([0, 1], [[1, 1], [0, 1]])
    """

    def __init__(self) -> None:
        self.os_pages: Int64s = np.empty(0, np.int64)
        "Indexes of the OS pages touched, ascending."
        self.columns: Int64s = np.empty((len(_NEW), 0), np.int64)
        "Of each of them reads, writes, owner, and messages that wrote and accessed it last."
        self.statements = StatementCounts()

    def feed(self, block: AccessBlock) -> None:
        """Count what a block did, which follows on those fed before."""
        rows, touched = block.os_pages()
        if not len(rows):
            return
        os_pages, which = np.unique(touched, return_inverse=True)
        self._make_room(os_pages)
        # Numpy leaves the last of several values that are assigned to one place.
        at = np.searchsorted(self.os_pages, os_pages)[which]
        writes = block.kind[rows] == WRITE
        count = len(self.os_pages)
        self.columns[READS] += np.bincount(at[~writes], minlength=count)
        self.columns[WRITES] += np.bincount(at[writes], minlength=count)
        self.columns[LAST_ACCESS, at] = block.message[rows]
        self.columns[LAST_WRITER, at[writes]] = block.message[rows[writes]]
        owner = block.owner[rows]
        known = owner != UNKNOWN_OWNER
        self.columns[OWNER, at[known]] = owner[known]
        self.statements.feed(os_pages, which, block.statement[rows].astype(np.int64))

    def _make_room(self, os_pages: Int64s) -> None:
        known, count = self.os_pages, len(self.os_pages)
        at = np.searchsorted(known, os_pages)
        is_new = at == count
        is_new[~is_new] = known[at[~is_new]] != os_pages[~is_new]
        if not is_new.any():
            return
        # Sorting what nearly is sorted is quicker than numpy's union, which looks for equal ones.
        united = np.sort(np.concatenate((known, os_pages[is_new])), kind="stable")
        columns = np.repeat(_NEW, len(united), axis=1)
        columns[:, np.searchsorted(united, self.os_pages)] = self.columns
        self.os_pages, self.columns = united, columns


class StatementCounts:
    """How often each statement touched each OS page: 24 bytes for each pair of them."""

    def __init__(self) -> None:
        self._parts: list[tuple[Int64s, Int64s, Int64s]] = []

    def feed(self, os_pages: Int64s, which: npt.NDArray[np.intp], statement: Int64s) -> None:
        """Count touches of ``os_pages[which]`` by statements; those of nobody are left out."""
        made = statement != NOBODY
        if not made.any():
            return
        which, statement = which[made], statement[made]
        first = int(statement.min())
        span = int(statement.max()) - first + 1
        pairs, counts = np.unique(which * span + (statement - first), return_counts=True)
        at, after = np.divmod(pairs, span)
        self._parts.append((os_pages[at], after + first, counts.astype(np.int64)))

    def result(self, os_pages: Int64s) -> tuple[Int64s, npt.NDArray[np.int32]]:
        """Return how many statements touched each OS page, and those that did most.

        Args:
            os_pages: All that were fed, ascending.

        Returns:
            One count for each, and one row of `TOP_STATEMENTS` indexes, -1 where there are fewer;
            of statements that touched it as often the first ones.
        """
        count = len(os_pages)
        top = np.full((count, TOP_STATEMENTS), NOBODY, np.int32)
        if not self._parts:
            return np.zeros(count, np.int64), top
        pages, statements, touches = (np.concatenate(it) for it in zip(*self._parts, strict=True))
        at, statements, touches = _united(np.searchsorted(os_pages, pages), statements, touches)
        # Of equal keys the order stays: that of statements.
        most = int(touches.max())
        statements = statements[np.argsort(at * (most + 1) + most - touches, kind="stable")]
        counts = np.bincount(at, minlength=count)
        first = np.cumsum(counts) - counts
        for place in range(TOP_STATEMENTS):
            enough = counts > place
            top[enough, place] = statements[first[enough] + place]
        return counts.astype(np.int64), top


def _united(
    at: npt.NDArray[np.intp], statements: Int64s, touches: Int64s
) -> tuple[npt.NDArray[np.intp], Int64s, Int64s]:
    """Return each pair once, ascending: a statement's accesses may span blocks."""
    span = int(statements.max()) + 1
    keys = at * span + statements
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    new = np.ones(len(keys), np.bool_)
    new[1:] = keys[1:] != keys[:-1]
    starts = np.flatnonzero(new)
    at, statements = np.divmod(keys[starts], span)
    return at, statements, np.add.reduceat(touches[order], starts)
