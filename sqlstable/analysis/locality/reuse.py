"""Reuse distances: how many other pages were touched since a page was touched before.

The reuse distance of touch ``i`` is the number of distinct pages touched between it and the touch
``p`` of the same page before it. A cache that keeps the ``c`` pages touched last has the page just
where the distance is less than ``c``, so one pass answers for caches of every size.

Those pages are the touches ``j`` in ``(p, i)`` whose own previous touch lies before ``p``: each of
them once. A stream of touches is taken in pieces that fit the cache. Within a piece,

* ``smaller(i)``, the ``j < i`` with ``previous(j) < previous(i)``, is counted by merging runs;
* with ``p`` inside the piece every ``j <= p`` of it is in ``smaller(i)``, and is taken off;
* with ``p`` before the piece, the pages are added whose last touch before the piece lies after
  ``p``: a bisection of those last touches.

Memory: the distinct pages and one piece. Time: touches * log(piece) + pieces * pages.

Sources: R. L. Mattson, J. Gecsei, D. R. Slutz, I. L. Traiger, "Evaluation techniques for storage
hierarchies", IBM Systems Journal 9 (2), 1970 (stack distances, inclusion); B. T. Bennett,
V. J. Kruskal, "LRU stack processing", IBM J. Res. Dev. 19 (4), 1975 (counting by previous touches).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sqlstable.analysis.locality.page_history import Int64s, pieces, stable_order

_COUNT_BITS: Final = 16
_COUNT_MASK: Final = (1 << _COUNT_BITS) - 1
# Rows this short are compared all with all; longer ones are merged.
_ROW: Final = 32
# Two sorted runs of this length and more are merged quicker than they are sorted by vectors.
_MERGED: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class ReuseHistogram:
    """How often each reuse distance occurred.

    Source: Mattson et al. 1970, "stack distance"; the first touch of a page has none.

    Examples:
        >>> histogram = ReuseHistogram(2, distances=np.array([0, 7]), counts=np.array([1, 3]))
        >>> histogram.touches, histogram.median, histogram.misses_at(7)
        (6, 7, 5)
    """

    first_touches: int
    "Touches of pages that were never touched before."
    distances: Int64s
    "Distinct other pages in between, ascending; those that occur."
    counts: Int64s
    "Touches of each distance."

    @property
    def touches(self) -> int:
        """All of them."""
        return self.first_touches + int(self.counts.sum())

    @property
    def median(self) -> int | None:
        """The distance that half of all reuses stay within; None without a reuse."""
        return self.quantile(0.5)

    def quantile(self, share: float) -> int | None:
        """Return the smallest distance that this share of all reuses stays within.

        Args:
            share: Above 0, at most 1.
        """
        if not len(self.counts):
            return None
        running = np.cumsum(self.counts)
        return int(self.distances[np.searchsorted(running, share * running[-1])])

    def misses_at(self, size: int) -> int:
        """Return the touches that miss in a cache of the ``size`` pages touched last, 0 or more."""
        within = np.searchsorted(self.distances, size)
        return self.first_touches + int(self.counts[within:].sum())

    @property
    def binned(self) -> tuple[Int64s, Int64s]:
        """Bins for a picture: first distance of each (0, 1, 2, 4, 8 …), and touches in it."""
        if not len(self.distances):
            return self.distances, self.counts
        powers = 1 << np.arange(int(self.distances[-1]).bit_length())
        starts = np.concatenate([np.zeros(1, np.int64), powers])
        places = np.searchsorted(starts, self.distances, side="right") - 1
        counts = np.zeros(len(starts), np.int64)
        np.add.at(counts, places, self.counts)
        return starts, counts


@dataclass(frozen=True, slots=True, eq=False)
class MissRatioCurve:
    """Misses of a cache that keeps the pages touched last, for every size from none to all.

    ``misses(c) = first touches + touches whose reuse distance is c or more``. It never rises with
    the size, from all touches at 0 to the first touches alone at the number of distinct pages.

    Source: Mattson et al. 1970, the success function of a stack algorithm.

    Examples:
        >>> curve = miss_ratio_curve(ReuseHistogram(2, np.array([0, 1]), np.array([1, 3])))
        >>> curve.misses.tolist(), curve.misses_at(1), curve.size_for(0.5)
        ([6, 5, 2], 5, 2)
    """

    misses: Int64s
    "By size in pages, from 0."

    @property
    def sizes(self) -> Int64s:
        """The sizes in pages; larger ones have the misses of the last."""
        return np.arange(len(self.misses))

    @property
    def touches(self) -> int:
        """Touches in all: what misses without a cache."""
        return int(self.misses[0])

    @property
    def ratio(self) -> npt.NDArray[np.float64]:
        """Misses by touches, from 0 to 1; 0 where nothing was touched."""
        return self.misses / max(1, self.touches)

    def misses_at(self, size: int) -> int:
        """Return the misses with a cache of ``size`` pages, 0 or more."""
        return int(self.misses[min(size, len(self.misses) - 1)])

    def size_for(self, ratio: float) -> int | None:
        """Return the smallest cache with at most this miss ratio; None where none has."""
        enough = self.ratio <= ratio
        return int(enough.argmax()) if enough.any() else None


def miss_ratio_curve(histogram: ReuseHistogram) -> MissRatioCurve:
    """Add up a histogram to the misses of every cache size."""
    # As many first touches as there are pages, and no distance is as large as that.
    hits = np.zeros(histogram.first_touches + 1, np.int64)
    hits[histogram.distances + 1] = histogram.counts
    return MissRatioCurve(histogram.touches - np.cumsum(hits))


class ReuseDistances:
    """Finds the reuse distance of each touch of a stream.

    Examples:
        >>> ReuseDistances().feed(np.array([-1, -1, 0, 2, 1])).tolist()
        [-1, -1, 1, 0, 1]
    """

    def __init__(self) -> None:
        self._start = 0
        # Of every page the last touch before the piece, ascending.
        self._last = np.empty(0, np.int64)

    def feed(self, previous: Int64s) -> Int64s:
        """Return the distances of further touches.

        Args:
            previous: For each touch the index, over all touches fed, of the touch of its page
                before; -1 where there is none. As `PageHistory` tells it.

        Returns:
            Distinct pages touched in between; -1 for the first touch of a page.
        """
        parts = [self._piece(piece) for piece in pieces(previous)]
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int64), *parts])

    def _piece(self, previous: Int64s) -> Int64s:
        start, count = self._start, len(previous)
        order = stable_order(previous + 1)
        distances = _smaller_before(order)
        inside = previous >= start
        distances -= np.where(inside, previous - start + 1, 0)
        ascending = previous[order]
        reused, within = np.searchsorted(ascending, (0, start))
        # The questions ascend, so the bisection stays in the cache.
        place = np.searchsorted(self._last, ascending[reused:within])
        distances[order[reused:within]] += len(self._last) - 1 - place
        distances[order[:reused]] = -1
        is_last = np.ones(count, bool)
        is_last[previous[inside] - start] = False
        self._last = np.concatenate([np.delete(self._last, place), np.flatnonzero(is_last) + start])
        self._start += count
        return distances


class ReuseCounts:
    """Adds up distances of a stream to a histogram."""

    def __init__(self) -> None:
        # One place more for the first touches, whose distance is -1.
        self._counts = np.zeros(1, np.int64)

    def add(self, distances: Int64s) -> None:
        """Count further distances."""
        counts = np.bincount(distances + 1, minlength=len(self._counts))
        counts[: len(self._counts)] += self._counts
        self._counts = counts

    def histogram(self) -> ReuseHistogram:
        """Return what was counted."""
        distances = np.flatnonzero(self._counts[1:])
        return ReuseHistogram(int(self._counts[0]), distances, self._counts[1:][distances])


def _smaller_before(order: Int64s) -> Int64s:
    """Count for each position those before it that come earlier in the order.

    Args:
        order: A permutation of the positions.
    """
    count = len(order)
    size = max(_ROW, 1 << (count - 1).bit_length())
    rank = np.arange(size)
    rank[order] = np.arange(count)
    # A key is rank, position and count, so that the count is carried along when keys are sorted.
    keys = (rank << 2 * _COUNT_BITS) | (np.arange(size) << _COUNT_BITS)
    keys |= _smaller_in_rows(rank)
    width = _ROW
    keys = np.sort(keys.reshape(-1, width), axis=1)
    while width < size:
        by_merging = width >= _MERGED
        keys = np.sort(keys.reshape(-1, 2 * width), axis=1, kind="stable" if by_merging else None)
        flat = keys.reshape(-1)
        of_right = np.flatnonzero(flat & (width << _COUNT_BITS))
        # Before the k-th key of a right half stand its place less k others; the left halves of
        # the rows above are not meant, and each row has as many left ones as right ones.
        nth = np.arange(len(of_right))
        flat[of_right] += of_right - nth - (nth & -width)
        width *= 2
    flat = keys.reshape(-1)
    smaller = np.empty(size, np.int64)
    smaller[(flat >> _COUNT_BITS) & _COUNT_MASK] = flat & _COUNT_MASK
    return smaller[:count]


def _smaller_in_rows(rank: Int64s) -> Int64s:
    columns = np.ascontiguousarray(rank.astype(np.uint16).reshape(-1, _ROW).T)
    smaller = np.zeros(columns.shape, np.uint8)
    for step in range(1, _ROW):
        smaller[step:] += columns[:-step] < columns[step:]
    return smaller.T.reshape(-1).astype(np.int64)
