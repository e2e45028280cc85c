"""SQLite's page cache as it decides: which page goes when another one needs its place.

It is least-recently-used for clean SQLite pages alone. What it does beside that, and this does too:

* With ``n`` as cache_size, ``n - 1`` pages are held: room is made while ``n`` would be reached.
* Dirty pages stay. Once nine tenths of the cache are dirty or in use, one of them is *spilled*:
  written before its transaction ends, and clean from then on.
* A page is spilled that the synced part of the journal covers, the least recently used of them.
  Without one it is the least recently used dirty page of all, and then the journal is synced: all
  that are dirty now spill before those that become dirty later.
* At a commit all dirty pages are written and become clean, the most recently used one first: so it
  is the first of them to go.
* A rollback writes back what the synced part of the journal has: nothing where nothing was spilled.

Pages that open cursors hold cannot go; of these only page 1 is counted in.

Sources: SQLite 3.54 src/pcache1.c (``pcache1FetchStage2``, ``n90pct``), src/pcache.c
(``sqlite3PcacheFetchStress``, ``sqlite3PcacheCleanAll``), src/pager.c (``pagerStress``,
``pager_write``: NEED_SYNC; ``pager_playback_one_page``).
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Self

_IN_USE = 1
"""Pages that are always in use beside the dirty ones: page 1, by the transaction."""


class SqliteCache:
    """The SQLite pages that one connection has in memory.

    Examples:
        >>> cache = SqliteCache(3)
        >>> [cache.use(page) for page in (1, 2, 1, 3, 2)]
        [True, True, False, True, True]
    """

    __slots__ = (
        *("_clean", "_dirty", "_journaled", "_safe_count", "_size", "_spill_from", "_synced"),
        "writes",
    )

    def __init__(self, size: int, clean: Iterable[int] = ()) -> None:
        self.writes = 0
        "Pages written since it was made."
        self._size = size
        self._spill_from = max(1, size * 9 // 10 - _IN_USE)
        # The least recently used first.
        self._clean: OrderedDict[int, None] = OrderedDict.fromkeys(clean)
        self._dirty: OrderedDict[int, None] = OrderedDict()
        # Of the dirty ones, those whose old content is safe in the journal.
        self._synced: OrderedDict[int, None] = OrderedDict()
        self._journaled: set[int] = set()
        # Pages that the journal had when it was synced last, at a spill.
        self._safe_count = 0

    @staticmethod
    def size_for(pages: int) -> int:
        """Return a cache_size that holds so many pages, all of them dirty if need be."""
        return -(-(pages + _IN_USE + 1) * 10 // 9) + 1

    def copy(self) -> Self:
        """Return one that goes on by itself; between transactions, when nothing is dirty."""
        return type(self)(self._size, self._clean)

    def use(self, page: int, *, dirty: bool = False) -> bool:
        """Read a page, and perhaps change it.

        Returns:
            Whether it has to be read from the file.
        """
        if page in self._dirty:
            self._dirty.move_to_end(page)
            if page in self._synced:
                self._synced.move_to_end(page)
            return False
        is_miss = page not in self._clean
        if is_miss:
            self._make_room()
        elif dirty:
            del self._clean[page]
        if dirty:
            self._change(page)
        else:
            self._clean[page] = None
            self._clean.move_to_end(page)
        return is_miss

    def read_all(self, pages: Iterable[int]) -> list[bool]:
        """Read pages in order while none is dirty, quicker than one by one.

        Returns:
            For each whether it has to be read from the file.
        """
        assert not self._dirty
        clean, held_max = self._clean, max(1, self._size - 1)
        missed = []
        for page in pages:
            is_miss = page not in clean
            missed.append(is_miss)
            if is_miss:
                if len(clean) >= held_max:
                    clean.popitem(last=False)
                clean[page] = None
            else:
                clean.move_to_end(page)
        return missed

    def look_all(self, pages: Iterable[int]) -> list[bool]:
        """Return what `read_all` would, and stay as it is: quicker than on a copy.

        What is read lies on top of what is there, and takes the place of the least recently used.
        """
        assert not self._dirty
        below, gone, held_max = self._clean, set[int](), max(1, self._size - 1)
        oldest = iter(below)
        above: OrderedDict[int, None] = OrderedDict()
        count = len(below)
        missed = []
        for page in pages:
            is_miss = page not in above and (page not in below or page in gone)
            missed.append(is_miss)
            if is_miss and count >= held_max:
                _let_go(oldest, above, gone)
            elif is_miss:
                count += 1
            above[page] = None
            above.move_to_end(page)
        return missed

    def commit(self) -> None:
        """Write what is dirty."""
        if not self._dirty:
            return
        self.writes += len(self._dirty)
        self._settle()

    def roll_back(self) -> bool:
        """Undo what is dirty: from the journal in memory, which writes back what was spilled.

        Returns:
            Whether the file had to be written.
        """
        was_spilled = self._safe_count > 0
        self.writes += self._safe_count
        self._settle()
        return was_spilled

    def _change(self, page: int) -> None:
        self._dirty[page] = None
        # It was spilled before in this transaction, so the journal has it.
        if page in self._journaled:
            self._synced[page] = None
        self._journaled.add(page)

    def _settle(self) -> None:
        for page in reversed(self._dirty):
            self._clean[page] = None
        self._dirty.clear()
        self._synced.clear()
        self._journaled.clear()
        self._safe_count = 0

    def _make_room(self) -> None:
        if len(self._dirty) >= self._spill_from:
            self._spill()
        if self._clean and len(self._clean) + len(self._dirty) + 1 >= self._size:
            self._clean.popitem(last=False)

    def _spill(self) -> None:
        if self._synced:
            page, _ = self._synced.popitem(last=False)
            del self._dirty[page]
        else:
            page, _ = self._dirty.popitem(last=False)
            self._synced = self._dirty.copy()
            self._safe_count = len(self._journaled)
        self._clean[page] = None
        self.writes += 1


def _let_go(oldest: Iterator[int], above: OrderedDict[int, None], gone: set[int]) -> None:
    """Let the least recently used page go: of those below that were not used since, else above."""
    for page in oldest:
        if page not in above and page not in gone:
            gone.add(page)
            return
    page, _ = above.popitem(last=False)
    gone.add(page)
