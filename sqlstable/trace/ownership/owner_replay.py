"""Whose SQLite pages were when each message accessed them, from the runs that a trace keeps.

The rule is that of attribution: a SQLite page that a message wrote belongs to whom it belongs when
the message has ended, any other one to whom it belonged last. These differ for what the most recent
committed message took from a table or index, be it freed or cut off the file's end.

Runs cut the file into segments in which all SQLite pages share their owners all through the trace.
Only segments are kept, so memory grows with the runs, and not with the database.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]

NEVER: Final = (1 << 63) - 1
"""A message that is never reached."""
_NOBODY: Final = -1


@dataclass(frozen=True, slots=True)
class RunColumns:
    """Runs of SQLite pages, or of addresses, with one owner each, as columns of one length."""

    since_message: Numbers
    first: Numbers
    "Number of the first SQLite page, or the first address."
    count: Numbers
    owner: Numbers
    "Any numbers; 0 is the unknown owner."

    def ordered(self) -> "RunColumns":
        """Return them by message, in their order where that is equal."""
        order = np.argsort(self.since_message, kind="stable")
        columns = (self.since_message, self.first, self.count, self.owner)
        return RunColumns(*(column[order] for column in columns))


class OwnerReplay:
    """The owners of SQLite pages, carried from message to message.

    Args:
        runs: As a trace keeps them, in their order.
        committed: Indexes of the messages that committed, ascending.
        is_tree: For each owner whether it is a table or an index.
        is_free: For each owner whether it is the freelist.

    Attributes:
        changes_at: The next message at which an answer may differ; messages before it share them.
    """

    def __init__(
        self,
        runs: RunColumns,
        committed: Numbers,
        *,
        is_tree: npt.NDArray[np.bool_],
        is_free: npt.NDArray[np.bool_],
    ) -> None:
        ordered = runs.ordered()
        self._since = ordered.since_message
        self._owner = ordered.owner
        stop = ordered.first + ordered.count
        # Segment 0 lies before all runs, and belongs to nobody.
        self._starts = np.unique(np.concatenate([ordered.first, stop]))
        self._first_segment = np.searchsorted(self._starts, ordered.first) + 1
        self._stop_segment = np.searchsorted(self._starts, stop) + 1
        self._codes = np.zeros(len(self._starts) + 1, dtype=np.int32)
        self._before = np.full(len(self._codes), _NOBODY, dtype=np.int32)
        self._committed = committed
        self._is_tree, self._is_free = is_tree, is_free
        self._next_run = 0
        self._lost: list[slice] = []
        "Segments of which the last message with changes has taken something."
        self.changes_at = int(self._since[0]) if len(self._since) else NEVER

    def advance(self, message: int) -> None:
        """Go on to a message; from message to message it never goes back."""
        while self.changes_at <= message:
            self._forget_before()
            since, first = self.changes_at, self._next_run
            self._next_run = int(np.searchsorted(self._since, since, side="right"))
            for run in range(first, self._next_run):
                self._apply(run)
            self._forget_what_is_there()
            self.changes_at = self._next_change(since)

    @property
    def asks_for_writes(self) -> bool:
        """Whether an answer may depend on what the message wrote."""
        return bool(self._lost)

    def owners(self, numbers: Numbers) -> npt.NDArray[np.int32]:
        """Return to whom each SQLite page belongs when the message has ended."""
        return self._codes[self._segments(numbers)]

    def last_owners(self, numbers: Numbers) -> npt.NDArray[np.int32]:
        """Return to whom each SQLite page belonged last."""
        segments = self._segments(numbers)
        before = self._before[segments]
        return np.where(before == _NOBODY, self._codes[segments], before)

    def borders(self, first: int, last: int) -> Numbers:
        """Return the first SQLite page, and those up to the last at which an owner may begin."""
        low, high = np.searchsorted(self._starts, (first, last), side="right")
        return np.append(first, self._starts[low:high])

    def _segments(self, numbers: Numbers) -> npt.NDArray[np.intp]:
        return np.searchsorted(self._starts, numbers, side="right")

    def _next_change(self, since: int) -> int:
        following = int(self._since[self._next_run]) if self._next_run < len(self._since) else NEVER
        if self._lost:
            # What the next message that commits finds free had been free before.
            at = int(np.searchsorted(self._committed, since, side="right"))
            if at < len(self._committed):
                following = min(following, int(self._committed[at]))
        return following

    def _apply(self, run: int) -> None:
        part = slice(self._first_segment[run], self._stop_segment[run])
        owner = self._owner[run]
        if owner == 0 or self._is_free[owner]:
            were = self._codes[part]
            is_lost = self._is_tree[were]
            if is_lost.any():
                self._before[part] = np.where(is_lost, were, self._before[part])
                self._lost.append(part)
        self._codes[part] = owner

    def _forget_before(self) -> None:
        for part in self._lost:
            self._before[part] = _NOBODY
        self._lost.clear()

    def _forget_what_is_there(self) -> None:
        """Keep former owners of what is free or cut off; elsewhere unknown is unknown."""
        end = None
        for part in self._lost:
            codes = self._codes[part]
            is_gone = self._is_free[codes]
            if not codes.all():
                if end is None:
                    end = int(np.flatnonzero(self._codes)[-1]) if self._codes.any() else 0
                is_gone |= (codes == 0) & (np.arange(part.start, part.stop) > end)
            self._before[part][~is_gone] = _NOBODY
