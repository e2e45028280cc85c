"""The working set: which pages a window of the last so many touches holds.

Source: P. J. Denning, "The working set model for program behavior", CACM 11 (5), 1968; its average
from the times between touches of one page: P. J. Denning, S. C. Schwartz, "Properties of the
working-set model", CACM 15 (3), 1972.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sqlstable.analysis.locality.page_history import Int64s, PageHistory, Touches
from sqlstable.analysis.locality.value_counts import ValueCounts, summed


@dataclass(frozen=True, slots=True, eq=False)
class WorkingSetCurve:
    """Average size of the working set for every window.

    The working set at touch ``t`` with window ``T`` is the set of pages touched in ``(t - T, t]``;
    the average is over all touches, and exact. A page touched again after ``k`` touches is in
    ``min(T, k)`` of the working sets that follow its touch, and one never touched again is in those
    up to the end of the trace, so the average is the sum of these by the number of touches.

    The average is linear between the windows given here, which are the times that occur; it never
    falls, from 1 at the window 1 on, and rises ever more slowly.

    Source: Denning and Schwartz 1972, with the end of the trace taken as it is.
    """

    windows: Int64s
    "In touches, ascending."
    sizes: npt.NDArray[np.float64]
    "Average pages in the working set of that window."

    def size_at(self, window: float) -> float:
        """Return the average working set of any window, in pages; 0 without touches."""
        if not len(self.windows):
            return 0.0
        windows = np.concatenate([np.zeros(1, np.int64), self.windows])
        return float(np.interp(window, windows, np.append(0.0, self.sizes)))


class WorkingSet:
    """Gathers what the curve needs from a stream of touches."""

    def __init__(self) -> None:
        self._times = ValueCounts()

    def feed(self, touches: Touches) -> None:
        """Take further touches."""
        again = touches.previous >= 0
        self._times.add(touches.indexes[again] - touches.previous[again])

    def curve(self, history: PageHistory) -> WorkingSetCurve:
        """Return the curve of all touches, whose history is given."""
        last, last_counts = np.unique(history.touch_count - history.last, return_counts=True)
        times, counts = self._times.counted()
        windows, counts = summed(
            np.concatenate([times, last]), np.concatenate([counts, last_counts])
        )
        # With counts of all times at most T, and of those above it, of which each adds T.
        within = np.cumsum(windows * counts)
        above = history.touch_count - np.cumsum(counts)
        return WorkingSetCurve(windows, (within + windows * above) / max(1, history.touch_count))
