"""What the accesses of a message are charged for, where no engine has counted it.

A price list charges an OS page or a region to whoever touches it first, so this goes through the
accesses in their order, whosever they are. Operators and the heap are unknown then.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from sqlstable.ic.accesses import Accesses, TakenAccesses
from sqlstable.ic.charged import NOTHING_CHARGED, Charged
from sqlstable.ic.units import OS_PAGE_BYTES, OS_PAGES_PER_WASM_PAGE
from sqlstable.ic.words import GROW, WRITE
from sqlstable.trace.footprint import units_spanned
from sqlstable.trace.recording.raw import OutsideSpan, RawMessage, RawStatement

_Numbers = npt.NDArray[np.int64]

OF_DRIVER: Final = frozenset(("import", "load_snapshot"))
"""Names of outside accesses that no canister makes."""


@lru_cache(maxsize=4096)
def charged_alone(*units: int) -> Charged:
    """Return units of stable memory, in the order of their fields, as what is charged for.

    For whoever was the first to touch all it did. Equal work has equal counts, and looking it up is
    quicker than making the record.

    Examples:
        >>> charged_alone(2, 8192).stable_bytes
        8192
    """
    return Charged(None, *units)


def charged_in_order(
    raw: RawMessage, items: Sequence[RawStatement], outside: Sequence[OutsideSpan]
) -> tuple[list[Charged], Charged]:
    """Return what each statement of a message is charged for, and the whole message.

    Args:
        raw: The message.
        items: Its statements.
        outside: Accesses of nobody's statement.
    """
    count = len(raw.accesses)
    if not count:
        return [NOTHING_CHARGED] * len(items), NOTHING_CHARGED
    # The last two are what is outside, and the driver, who pays nothing.
    payers = np.full(count, len(items), dtype=np.int64)
    for payer, item in enumerate(items):
        for start, stop, _ in item.spans:
            payers[start:stop] = payer
    for span in outside:
        if span.name in OF_DRIVER:
            payers[span.start : span.stop] = len(items) + 1
    units = np.zeros((6, len(items) + 2), dtype=np.int64)
    for start, stop in pairwise((0, *raw.part_starts, count)):
        seen = _FirstTouches(units)
        base = start
        for chunk in _chunks(raw.accesses, start, stop):
            seen.count(chunk, payers[base : base + len(chunk.kind)])
            base += len(chunk.kind)
    paid = [Charged(None, *column) for column in units.T[:-2].tolist()]
    return paid, Charged(None, *units[:, :-1].sum(axis=1).tolist())


def _chunks(taken: TakenAccesses, start: int, stop: int) -> Iterator[Accesses]:
    return taken.chunks(start, stop) if stop > start else iter(())


class _FirstTouches:
    """Counts what is touched first in a part of a message.

    Args:
        units: Counts by unit, in the order of the fields of `Charged`, and payer; they are added
            to.
    """

    def __init__(self, units: _Numbers) -> None:
        self._units = units
        self._seen = [np.empty(0, dtype=np.int64) for _ in range(3)]
        "OS pages dirty, regions accessed, regions dirty; ascending."

    def count(self, chunk: Accesses, payers: _Numbers) -> None:
        """Count accesses that follow those of before."""
        payer_count = self._units.shape[1]
        is_access = chunk.kind <= WRITE
        moved = np.where(is_access, chunk.length, 0)
        accesses, _, grows = self._units[:3]
        accesses += np.bincount(payers[is_access], minlength=payer_count)
        np.add.at(self._units[1], payers, moved)
        grows += np.bincount(payers[chunk.kind == GROW], minlength=payer_count)
        origin, os_pages = units_spanned(chunk.address, moved, OS_PAGE_BYTES)
        is_paid = payers[origin] < payer_count - 1
        origin, os_pages = origin[is_paid], os_pages[is_paid]
        is_dirty = chunk.kind[origin] == WRITE
        regions = os_pages // OS_PAGES_PER_WASM_PAGE
        payer = payers[origin]
        for at, (touched, who) in enumerate(
            (
                (os_pages[is_dirty], payer[is_dirty]),
                (regions, payer),
                (regions[is_dirty], payer[is_dirty]),
            )
        ):
            # The first of equal ones is the one whose position is returned.
            found, first = np.unique(touched, return_index=True)
            is_new = ~np.isin(found, self._seen[at], assume_unique=True)
            self._units[3 + at] += np.bincount(who[first[is_new]], minlength=payer_count)
            self._seen[at] = np.union1d(self._seen[at], found[is_new])
