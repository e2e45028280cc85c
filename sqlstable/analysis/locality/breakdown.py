"""The figures of locality by owner, by shape of statement, and by phase.

Touches are counted once, by (owner, shape, phase) together; the three views are sums of that. So
each of them adds up to the whole in touches, in reuses and in steps; distinct pages do not add up,
as two statements may touch one page.

A reuse distance is that of the whole trace: how many pages, whosoever, lie between a touch and the
touch of that page before. It belongs to the group of the later touch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sqlstable.analysis.locality.hot_set import HotSet, hot_set
from sqlstable.analysis.locality.page_history import Int64s, Integers
from sqlstable.analysis.locality.reuse import ReuseHistogram
from sqlstable.analysis.locality.sequence import Sequentiality, kinds_of, sequentiality
from sqlstable.analysis.locality.value_counts import ValueCounts, summed
from sqlstable.ic.words import PHASES
from sqlstable.trace.model import Owner

OUTSIDE: Final = "(outside)"
"""The shape and the phase of what belongs to no statement."""

UNKNOWN_PHASE: Final = "(unknown)"
"""The phase of a statement's accesses in a trace that has none."""

_PHASE_NAMES: Final = (OUTSIDE, UNKNOWN_PHASE, *PHASES)

# A key is a group above a page's id or a distance.
_LOW_BITS: Final = 36
_LOW_MASK: Final = (1 << _LOW_BITS) - 1
# Sums of a group: reads, writes, and the kinds of steps.
_SUMS: Final = 7


@dataclass(frozen=True, slots=True, eq=False)
class LocalityGroup:
    """The figures of one owner, one shape of statement, or one phase.

    Source: each figure as for the whole trace, in the module that defines it.
    """

    name: str
    "Of the owner, the shape, or the phase; (outside) for what belongs to no statement."
    owner: Owner | None
    "None for shapes and phases."
    reads: int
    "Pages read, each as often as it was."
    writes: int
    "Pages written, each as often as it was."
    distinct: int
    "Distinct pages touched."
    reuse: ReuseHistogram
    "Of its touches; `ReuseHistogram.misses_at` tells its misses for any cache."
    sequentiality: Sequentiality
    "Without a list of strides."
    hot_set: HotSet

    @property
    def touches(self) -> int:
        """Pages read or written, each as often as it was."""
        return self.reads + self.writes


class Breakdown:
    """Counts touches by owner, shape and phase together.

    Args:
        owners: Whom touches can belong to.
        shape_of: Position in ``shapes`` of the shape of each statement, by its index.
        shapes: The shapes of statements.
    """

    def __init__(self, owners: Sequence[Owner], shape_of: Int64s, shapes: Sequence[str]) -> None:
        self._owners = owners
        self._shapes = shapes
        # One entry more: where a statement's index is -1, that of what no statement made.
        self._shape_of = np.append(shape_of, len(shapes))
        self._groups: dict[int, int] = {}
        self._pages = ValueCounts()
        self._reuses = ValueCounts()
        self._sums = np.zeros((_SUMS, 0), np.int64)

    def feed(
        self,
        *,
        statement: Integers,
        phase: Integers,
        owner: Integers,
        ids: Int64s,
        distances: Int64s,
    ) -> Int64s:
        """Take further touches, and return the group of each."""
        # Outside, unknown, then the phases as they are numbered.
        phases = np.where(statement < 0, 0, phase + 2)
        keys = (self._shape_of[statement] * len(_PHASE_NAMES) + phases) * len(self._owners) + owner
        found, place = np.unique(keys, return_inverse=True)
        numbers = [self._groups.setdefault(key, len(self._groups)) for key in found.tolist()]
        groups = np.array(numbers, np.int64)[place]
        self._pages.add((groups << _LOW_BITS) | ids)
        self._reuses.add((groups << _LOW_BITS) | (distances + 1))
        missing = len(self._groups) - self._sums.shape[1]
        self._sums = np.pad(self._sums, ((0, 0), (0, missing)))
        return groups

    def count_kinds(self, groups: Int64s, is_write: npt.NDArray[np.bool_]) -> None:
        """Count reads and writes of touches."""
        size = len(self._groups)
        self._sums[0] += np.bincount(groups[~is_write], minlength=size)
        self._sums[1] += np.bincount(groups[is_write], minlength=size)

    def count_steps(self, groups: Int64s, strides: Int64s) -> None:
        """Count the steps of those touches that have a stride."""
        for row, kind in enumerate(kinds_of(strides), start=2):
            self._sums[row] += np.bincount(groups[kind > 0], minlength=len(self._groups))

    def by_owner(self) -> tuple[LocalityGroup, ...]:
        """Return a group for each owner, the most touched first."""
        names = [owner.name for owner in self._owners]
        return self._by(lambda key: key % len(names), names, self._owners)

    def by_shape(self) -> tuple[LocalityGroup, ...]:
        """Return a group for each shape, the most touched first."""
        below = len(_PHASE_NAMES) * len(self._owners)
        return self._by(lambda key: key // below, (*self._shapes, OUTSIDE))

    def by_phase(self) -> tuple[LocalityGroup, ...]:
        """Return a group for each phase, in the order in which a statement has them."""
        below, count = len(self._owners), len(_PHASE_NAMES)
        found = self._by(lambda key: key // below % count, _PHASE_NAMES)
        order = (*PHASES, UNKNOWN_PHASE, OUTSIDE)
        return tuple(sorted(found, key=lambda group: order.index(group.name)))

    def _by(
        self,
        index_of: Callable[[int], int],
        names: Sequence[str],
        owners: Sequence[Owner] | None = None,
    ) -> tuple[LocalityGroup, ...]:
        """Add up the groups that have one index."""
        indexes = np.array([index_of(key) for key in self._groups], np.int64)
        pages, reuses = _split(self._pages, indexes), _split(self._reuses, indexes)
        found = []
        for index, (ids, touches) in pages.items():
            distances, counts = reuses[index]
            first = int(counts[distances == 0].sum())
            reads, writes, *kinds = self._sums[:, indexes == index].sum(axis=1).tolist()
            found.append(
                LocalityGroup(
                    name=names[index],
                    owner=owners[index] if owners else None,
                    reads=reads,
                    writes=writes,
                    distinct=len(ids),
                    reuse=ReuseHistogram(
                        first, distances[distances > 0] - 1, counts[distances > 0]
                    ),
                    sequentiality=sequentiality(kinds),
                    hot_set=hot_set(touches),
                )
            )
        return tuple(sorted(found, key=lambda group: (-group.touches, group.name)))


def _split(counted_values: ValueCounts, indexes: Int64s) -> dict[int, tuple[Int64s, Int64s]]:
    """Return the low halves of the counted keys and their counts, by index of the high halves."""
    keys, counts = counted_values.counted()
    if not len(keys):
        return {}
    keys, counts = summed((indexes[keys >> _LOW_BITS] << _LOW_BITS) | (keys & _LOW_MASK), counts)
    starts = np.flatnonzero(np.append(True, np.diff(keys >> _LOW_BITS) != 0))
    low, parts = np.split(keys & _LOW_MASK, starts[1:]), np.split(counts, starts[1:])
    which = (keys[starts] >> _LOW_BITS).tolist()
    return dict(zip(which, zip(low, parts, strict=True), strict=True))
