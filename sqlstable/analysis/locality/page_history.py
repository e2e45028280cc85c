"""When each page was touched last, for a stream of touches: what every measure of locality asks.

Pages may have any number up to 2**63 - 1, and lie far apart. They get small ids, so that what is
counted by page fits in arrays of as many entries as there are pages.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
Integers = npt.NDArray[np.signedinteger]
"""Of any width, as columns of a trace have them."""

PIECE_TOUCHES: Final = 1 << 16
"""Touches that are looked at together: their columns fit the cache of a processor."""

NEVER: Final = -1
"""In place of an earlier touch: there is none."""

_POSITION_BITS: Final = 16
_POSITION_MASK: Final = (1 << _POSITION_BITS) - 1
_KEY_END: Final = 1 << (63 - _POSITION_BITS)
assert PIECE_TOUCHES == 1 << _POSITION_BITS


@dataclass(frozen=True, slots=True, eq=False)
class Touches:
    """Touches of pages that followed each other, as columns of one length."""

    start: int
    "Touches before these."
    ids: Int64s
    "Small number of the page, from 0: ids of pages never touched before are larger than others."
    previous: Int64s
    "Index, over all touches, of the touch of the same page before this one; -1: there is none."

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def indexes(self) -> Int64s:
        """Index of each over all touches, from 0."""
        return np.arange(self.start, self.start + len(self.ids))


class PageHistory:
    """Numbers pages, and remembers when each was touched last.

    Examples:
        >>> history = PageHistory()
        >>> touches = history.feed(np.array([7, 1 << 50, 7]))
        >>> touches.ids.tolist(), touches.previous.tolist()
        ([0, 1, 0], [-1, -1, 0])
        >>> history.feed(np.array([1 << 50])).previous.tolist()
        [1]
    """

    def __init__(self) -> None:
        self.touch_count = 0
        self._sorted = np.empty(0, np.int64)
        self._ids = np.empty(0, np.int64)
        self._last = np.empty(0, np.int64)

    @property
    def page_count(self) -> int:
        """Distinct pages so far."""
        return len(self._sorted)

    @property
    def pages(self) -> Int64s:
        """The pages by their ids."""
        pages = np.empty(len(self._sorted), np.int64)
        pages[self._ids] = self._sorted
        return pages

    @property
    def last(self) -> Int64s:
        """Index of the last touch of each page, by ids."""
        return self._last

    def feed(self, pages: Int64s) -> Touches:
        """Take further touches.

        Args:
            pages: Page of each touch, in order; any integers of 0 or more.
        """
        start = self.touch_count
        parts = [self._piece(piece) for piece in pieces(pages)]
        if len(parts) == 1:
            return Touches(start, *parts[0])
        nothing = np.empty(0, np.int64)
        return Touches(
            start,
            np.concatenate([nothing, *(ids for ids, _ in parts)]),
            np.concatenate([nothing, *(previous for _, previous in parts)]),
        )

    def _piece(self, pages: Int64s) -> tuple[Int64s, Int64s]:
        start, count = self.touch_count, len(pages)
        order = stable_order(pages)
        ordered = pages[order]
        is_first = np.empty(count, bool)
        is_first[:1] = True
        np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
        of_page = self._ids_of(ordered[is_first])
        ids = np.empty(count, np.int64)
        ids[order] = of_page[np.cumsum(is_first) - 1]
        previous = np.empty(count, np.int64)
        previous[order[1:]] = order[:-1] + start
        previous[order[is_first]] = self._last[of_page]
        self._last[of_page] = order[np.append(is_first[1:], True)] + start
        self.touch_count += count
        return ids, previous

    def _ids_of(self, pages: Int64s) -> Int64s:
        """Return the ids of ascending pages, new ones included."""
        place = np.searchsorted(self._sorted, pages)
        known = np.zeros(len(pages), bool)
        below = place < len(self._sorted)
        known[below] = self._sorted[place[below]] == pages[below]
        ids = np.empty(len(pages), np.int64)
        ids[known] = self._ids[place[known]]
        new = ~known
        ids[new] = len(self._sorted) + np.arange(np.count_nonzero(new))
        self._last = np.concatenate([self._last, np.full(np.count_nonzero(new), NEVER)])
        self._sorted = np.insert(self._sorted, place[new], pages[new])
        self._ids = np.insert(self._ids, place[new], ids[new])
        return ids


def pieces(column: Int64s) -> Iterator[Int64s]:
    """Cut a column into pieces that fit the cache."""
    for start in range(0, len(column), PIECE_TOUCHES):
        yield column[start : start + PIECE_TOUCHES]


def stable_order(keys: Int64s) -> Int64s:
    """Return the positions of at most ``PIECE_TOUCHES`` keys of 0 or more, in the keys' order.

    Examples:
        >>> stable_order(np.array([5, 1 << 60, 5, 0])).tolist()
        [3, 0, 2, 1]
    """
    if len(keys) and int(keys.max()) >= _KEY_END:
        return np.argsort(keys, kind="stable")
    # Sorting keys that carry their positions is several times as quick as an indirect sort.
    return np.sort((keys << _POSITION_BITS) | np.arange(len(keys))) & _POSITION_MASK
