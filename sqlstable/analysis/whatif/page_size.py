"""Which OS pages a trace would access with larger SQLite pages.

A larger SQLite page holds what ``k`` neighbours in a B-tree held, so what a message accesses is as
many larger pages as its pages have neighbourhoods, and each of them is accessed whole. What is not
in a trace is which leaves are neighbours in the order of keys. Three guesses are made, by message
and owner:

* *at least*: all pages that a message accesses of an owner are neighbours of each other;
* *about*: pages are neighbours as they stand among all pages of the owner that the trace accesses;
* *at most*: only pages side by side in the file are neighbours.

For trees whose leaves lie in order, as after a bulk load, VACUUM or inserts by ascending key, the
middle one is near the truth: within 6 % of runs of five workloads. Where a trace says so of its
trees, that is their least, too. In trees filled in random order a range of keys comes to less, by a
quarter and more: measure those with ``sqlstable sweep``.

Smaller SQLite pages cannot be told: nobody knows which part of a page was wanted. Neither can what
a page cache of larger pages would miss: these are the sets of pages as a cache that keeps as many
bytes leaves them.

Source: the number of pages that a set of records lies on, S. B. Yao, "Approximating block accesses
in database organizations", CACM 20 (4), 1977, counted here instead of expected.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Final

import numpy as np
import numpy.typing as npt

from sqlstable.analysis.trace_source import TraceSource
from sqlstable.analysis.whatif.estimate import Estimate
from sqlstable.errors import TraceError
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.spelling import spelled
from sqlstable.trace.model import Owner

PAGE_SIZES: Final = (4096, 8192, 16_384, 32_768, 65_536)
"""Bytes of SQLite pages that are whole OS pages. Source: sqlite.org/fileformat2.html, 1.3.2."""

_MARGIN: Final = 0.08
"""Error of each figure beside what the guesses say: 5.3 % was the most by which a run in order was
off, as none of them knows how many interior pages there are."""

_IN_ORDER: Final = 0.9
"""Share of leaves in order from which a tree counts as in order."""

_Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class OwnerPages:
    """OS pages of one owner, added up over messages."""

    owner: Owner
    os_pages_accessed: Estimate


@dataclass(frozen=True, slots=True)
class PageSizeEstimate:
    """What all messages together would access with one size of SQLite pages."""

    page_size: int
    "Bytes of a SQLite page."
    os_pages_accessed: Estimate
    "Each once for a message, those outside of the database included; of all messages together."
    by_owner: tuple[OwnerPages, ...]
    "Of the database alone, the most accessed first."


@dataclass(frozen=True, slots=True)
class PageSizeWhatIf:
    """A trace as recorded, and as it would be with larger SQLite pages."""

    recorded_page_size: int
    "Bytes of a SQLite page in the trace."
    recorded_os_pages: int
    "OS pages accessed as recorded; those of all messages add up."
    rows: tuple[PageSizeEstimate, ...]
    "By size, ascending."


def page_size_what_if(trace: TraceSource, page_sizes: Sequence[int] = ()) -> PageSizeWhatIf:
    """Predict which OS pages a trace would access with larger SQLite pages.

    Args:
        trace: All its sets of SQLite pages by message are held.
        page_sizes: Powers of two above the recorded size, from one OS page to 65 536 bytes; all
            of them where none are given.

    Raises:
        TraceError: The trace does not say its page_size, or a size cannot be told from it.

    Examples:
        >>> from sqlstable import Canister
        >>> canister = Canister(trace=":memory:")
        >>> reply = canister.update("CREATE TABLE t (a)")
        >>> with canister.trace() as trace:
        ...     found = page_size_what_if(trace, [8192])
        >>> found.recorded_os_pages, found.rows[0].os_pages_accessed
        (12, Estimate(value=14, low=13, high=15))
        >>> canister.close()
    """
    recorded = trace.settings.values.get("page_size")
    if not isinstance(recorded, int) or recorded < 1:
        raise TraceError("the trace does not say its page_size; record it with a canister or `run`")
    allowed = [size for size in PAGE_SIZES if size > recorded]
    refused = [size for size in page_sizes if size not in allowed]
    if refused:
        way = spelled(
            f"Canister(page_size={refused[0]})", f"sqlstable sweep SCRIPT --page-size {refused[0]}"
        )
        raise TraceError(
            f"with SQLite pages of {recorded} bytes in the trace, those of {refused[0]} cannot be "
            "predicted, only powers of two above, from 4096 to 65536; measure others with "
            f"`{way}`"
        )
    sets = _sets(trace, recorded)
    return PageSizeWhatIf(
        recorded,
        trace.summary.stable.os_pages_accessed,
        tuple(_estimate(sets, recorded, size) for size in sorted({*page_sizes} or allowed)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Sets:
    """The SQLite pages that each message accessed: by message, owner and page, ascending."""

    message: _Int64s
    owner: _Int64s
    page: _Int64s
    "From 0."
    owners: Sequence[Owner]
    in_order: npt.NDArray[np.bool_]
    "By owner, whether the leaves of its tree are known to lie in order."
    outside: int
    "OS pages that messages accessed outside of the database; those of all messages add up."

    def pages_by_owner(self, neighbourhood: _Int64s) -> _Int64s:
        """Return how many larger pages there are of each owner, if these numbers tell them apart.

        Args:
            neighbourhood: Never falling within a message and owner.
        """
        is_next = _is_next(self.message, self.owner, neighbourhood)
        return np.bincount(self.owner[is_next], minlength=len(self.owners))

    @property
    def places(self) -> _Int64s:
        """Place of each page among those of its message and owner, from 0."""
        starts = np.flatnonzero(_is_next(self.message, self.owner))
        lengths = np.diff(np.append(starts, len(self.page)))
        return np.arange(len(self.page)) - np.repeat(starts, lengths)

    @property
    def ranks(self) -> _Int64s:
        """Place of each page among all pages of its owner that any message accessed, from 0."""
        order = np.lexsort((self.page, self.owner))
        owner, page = self.owner[order], self.page[order]
        running = np.cumsum(_is_next(owner, page)) - 1
        of_owner = np.zeros(len(self.owners), np.int64)
        first = _is_next(owner)
        of_owner[owner[first]] = running[first]
        ranks = np.empty(len(order), np.int64)
        ranks[order] = running - of_owner[owner]
        return ranks


def _sets(trace: TraceSource, page_size: int) -> _Sets:
    inside: list[tuple[_Int64s, ...]] = [(np.empty(0, np.int64),) * 3]
    outside: list[tuple[_Int64s, ...]] = [(np.empty(0, np.int64),) * 2]
    for block in trace.access_blocks(pieces=True):
        rows, numbers = block.sqlite_pages(page_size)
        inside.append(_distinct(block.message[rows], block.owner[rows], numbers - 1))
        rows, os_pages = block.os_pages()
        beside = block.offset[rows] < 0
        outside.append(_distinct(block.message[rows[beside]], os_pages[beside]))
    message, owner, page = _distinct(*map(np.concatenate, zip(*inside, strict=True)))
    messages, _ = _distinct(*map(np.concatenate, zip(*outside, strict=True)))
    in_order = {it.name for it in trace.trees if (it.leaves_in_order or 0) >= _IN_ORDER}
    owners = trace.access_owners
    ordered = np.array([it.name in in_order for it in owners], bool)
    return _Sets(message, owner, page, owners, ordered, len(messages))


def _distinct(*columns: npt.NDArray[np.signedinteger]) -> tuple[_Int64s, ...]:
    """Return the different rows of columns, ascending by the first, then by the next."""
    order = np.lexsort(columns[::-1])
    ordered = [column[order].astype(np.int64) for column in columns]
    kept = _is_next(*ordered)
    return tuple(column[kept] for column in ordered)


def _is_next(*columns: _Int64s) -> npt.NDArray[np.bool_]:
    """Tell which rows differ from the one before."""
    differs = np.zeros(len(columns[0]), bool)
    differs[:1] = True
    for column in columns:
        differs[1:] |= column[1:] != column[:-1]
    return differs


def _estimate(sets: _Sets, recorded_size: int, page_size: int) -> PageSizeEstimate:
    ratio, os_pages = page_size // recorded_size, page_size // OS_PAGE_BYTES
    low, value, high = (
        sets.pages_by_owner(numbers // ratio) * os_pages
        for numbers in (sets.places, sets.ranks, sets.page)
    )
    low, high = np.where(sets.in_order, value, low), np.maximum(high, value)
    total = _with_margin(*(int(it.sum()) for it in (value, low, high)))
    columns = (sets.owners, *(it.tolist() for it in (value, low, high)))
    by_owner = [
        OwnerPages(owner, _with_margin(*counts))
        for owner, *counts in zip(*columns, strict=True)
        if counts[0]
    ]
    by_owner.sort(key=lambda it: (-it.os_pages_accessed.value, it.owner.name, it.owner.role))
    numbers = (total.value, total.low, total.high)
    return PageSizeEstimate(
        page_size, Estimate(*(it + sets.outside for it in numbers)), tuple(by_owner)
    )


def _with_margin(value: int, low: int, high: int) -> Estimate:
    return Estimate(value, floor(low * (1 - _MARGIN)), ceil(high * (1 + _MARGIN)))
