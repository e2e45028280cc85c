"""The hot set: how few pages most touches fall on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from sqlstable.analysis.locality.page_history import Int64s

SHARES: Final = (0.5, 0.9, 0.99)
"""Of all touches, those that a hot set is told for."""


@dataclass(frozen=True, slots=True)
class HotSet:
    """The fewest pages that have a share of all touches.

    Pages are taken from the most touched one on, until they have that share: a point of the
    Lorenz curve of touches over pages. Unlike a working set it knows no time.

    Source: M. O. Lorenz, "Methods of measuring the concentration of wealth", 1905.
    """

    pages: Mapping[float, int]
    "By share of touches, from 0 to 1."
    distinct: int
    "Pages touched at all."

    def share_of_pages(self, share: float) -> float:
        """Return the pages for a share of touches as a share of all pages touched."""
        return self.pages[share] / max(1, self.distinct)


def hot_set(counts: Int64s) -> HotSet:
    """Find the hot set from the touches of each page, 1 or more each.

    Examples:
        >>> dict(hot_set(np.array([1, 8, 1])).pages)
        {0.5: 1, 0.9: 2, 0.99: 3}
    """
    running = np.cumsum(np.sort(counts)[::-1])
    total = int(running[-1]) if len(running) else 0
    # In whole numbers: a hundredth of a sum need not be a float.
    found = {
        share: int(np.searchsorted(running * 100, round(share * 100) * total)) + 1 if total else 0
        for share in SHARES
    }
    return HotSet(found, len(counts))
