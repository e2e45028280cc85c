"""Which messages are measured, where not all of them are: a sample of each shape, in time.

Messages of equal work are a *group*: the same kind, statements of the same shapes, and as much work
within a power of two (VM steps and rows, which the native engine counts for each). So what is rare
and dear is a group of its own. The messages of a group are cut into *blocks*: the first so many,
then as many again, then twice as many, and so on. The first block is measured whole. Each later one
is cut into equal parts, and one message of each is measured, at a place drawn from a seed; more of
them where the blocks before it had a large spread. Within a block every message is as likely to be
measured as any other, which is what the estimate rests on (`sqlstable.trace.format.estimating`).
"""

import re
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, sqrt
from random import Random
from typing import Final, NamedTuple

from sqlstable.errors import SettingsError
from sqlstable.trace.model import SampleGroup

FIRST: Final = 16
"""Messages of each group that are measured first, and at least so many of each later block."""

FIRST_MAX: Final = 256
"""At most so many of a later block."""

_AIMED_ERROR: Final = 0.01
"""Standard error of a block's mean that more messages are measured for, as a share of it."""

_SHARED_MIN: Final = 2
"""One message of a block would say nothing of its spread."""

_MEASURE: Final = re.compile(r"(all)|(auto)|([1-9][0-9]{0,8})|([0-9]+(?:\.[0-9]+)?)%")


@dataclass(frozen=True, slots=True)
class Measure:
    """How many messages of each group are measured.

    Examples:
        >>> Measure.parsed("25"), Measure.parsed("2.5%").share
        (Measure(first=25, share=None, is_adaptive=False), 0.025)
    """

    first: int | None = FIRST
    "Messages of the first block, and of each later one; None: all."
    share: float | None = None
    "Of all messages, where that is what was chosen."
    is_adaptive: bool = True
    "Whether more are measured where the spread is large."

    @classmethod
    def parsed(cls, text: str) -> "Measure":
        """Read ``auto``, ``all``, a number or a percentage.

        Raises:
            SettingsError: It is none of them.
        """
        found = _MEASURE.fullmatch(text)
        share = float(found[4]) / 100 if found is not None and found[4] else None
        if found is None or (share is not None and not 0 < share <= 1):
            raise SettingsError(
                f"measure is {text!r}; it must be auto, all, how many messages of each shape are "
                "measured (25), or which share (2.5%)"
            )
        if found[1] or share == 1:
            return cls(None, None, is_adaptive=False)
        if share is not None:
            return cls(FIRST, share, is_adaptive=False)
        return cls() if found[2] else cls(int(found[3]), None, is_adaptive=False)


class Choice(NamedTuple):
    """Whether a message is measured, and what it stands for."""

    group: SampleGroup
    is_measured: bool


class _Stretch:
    """The messages of a group that are being counted."""

    def __init__(self, number: int, start: int, size: int, chosen: frozenset[int]) -> None:
        self.number = number
        self.stop = start + size
        self.chosen = chosen


class _Group:
    """The messages of equal work so far."""

    def __init__(self, label: SampleGroup) -> None:
        self.label = label
        self.count = 0
        self.block = _Stretch(-1, 0, 0, frozenset())
        self.measured = 0
        self.mean = self.squares = 0.0
        "Of what was measured: its mean, and the sum of squared distances from it."

    def note(self, instructions: int) -> None:
        """Take note of what a message cost (B. P. Welford, Technometrics 4(3), 1962)."""
        self.measured += 1
        away = instructions - self.mean
        self.mean += away / self.measured
        self.squares += away * (instructions - self.mean)

    @property
    def spread(self) -> float:
        """Standard deviation as a share of the mean."""
        if self.measured < 2 or not self.mean:
            return 0.0
        return sqrt(self.squares / (self.measured - 1)) / self.mean


class Sampling:
    """Chooses which messages are measured; the same messages give the same choices.

    Args:
        measure: How many.
        seed: Of the places that are drawn.

    Examples:
        >>> sampling, alike = Sampling(Measure.parsed("2"), seed=0), SampleGroup(
        ...     "query", "warm", "discarded", "SELECT ?", 0, 0
        ... )
        >>> [sampling.choose(alike).is_measured for _ in range(4)]
        [True, True, True, True]
        >>> sum(sampling.choose(alike).is_measured for _ in range(252))
        12
    """

    def __init__(self, measure: Measure, seed: int) -> None:
        self._measure = measure
        self._seed = seed
        self._groups: dict[SampleGroup, _Group] = {}

    def choose(self, alike: SampleGroup, *, always: bool = False) -> Choice:
        """Say whether the next message is measured.

        Args:
            alike: What it has in common with others, as their first block.
            always: Whether it is measured in any case.
        """
        group = self._groups.get(alike)
        if group is None:
            group = self._groups[alike] = _Group(alike)
        at = group.count
        group.count += 1
        if always or self._measure.first is None:
            return Choice(alike, is_measured=True)
        if at >= group.block.stop:
            group.block = self._next_block(group, at)
            group.label = alike._replace(block=group.block.number)
        return Choice(group.label, at in group.block.chosen)

    def note(self, alike: SampleGroup, instructions: int) -> None:
        """Take note of what a message that was measured took."""
        self._groups[alike._replace(block=0)].note(instructions)

    def _next_block(self, group: _Group, start: int) -> _Stretch:
        number, first = group.block.number + 1, self._measure.first
        assert first is not None
        if start == 0:
            return _Stretch(number, 0, first, frozenset(range(first)))
        size = start
        count = first
        if self._measure.share is not None:
            count = max(_SHARED_MIN, ceil(size * self._measure.share))
        elif self._measure.is_adaptive:
            wanted = ceil((group.spread / _AIMED_ERROR) ** 2)
            count = min(max(first, wanted), FIRST_MAX)
        count = min(count, size)
        draw = Random(f"{self._seed}/{number}/{group.label[:-2]}")  # noqa: S311  no secret
        edges = [start + size * part // count for part in range(count + 1)]
        chosen = frozenset(draw.randrange(low, high) for low, high in pairwise(edges))
        return _Stretch(number, start, size, chosen)
