"""Records of a long trace, read a stretch at a time and as often as they are asked for."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Final, TypeVar, overload

T = TypeVar("T")

STRETCH: Final = 1_000
"""Records that are read together."""

_STRETCHES_KEPT: Final = 2


class Records(Sequence[T]):
    """A sequence that holds two stretches of its records, whatever its length.

    Args:
        length: How many records there are.
        read: Returns the records from one index to another, both included.

    Examples:
        >>> squares = Records(25_000, lambda first, last: [n * n for n in range(first, last + 1)])
        >>> squares[-1], squares[10_000:10_002], sum(squares) == sum(n * n for n in range(25_000))
        (624950001, (100000000, 100020001), True)
    """

    def __init__(self, length: int, read: Callable[[int, int], Sequence[T]]) -> None:
        self._length = length

        def stretch(number: int) -> Sequence[T]:
            first = number * STRETCH
            return read(first, min(first + STRETCH, length) - 1)

        self._stretch = lru_cache(_STRETCHES_KEPT)(stretch)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...

    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return tuple(self[at] for at in range(*index.indices(self._length)))
        at = index + self._length if index < 0 else index
        if not 0 <= at < self._length:
            raise IndexError(f"there are {self._length} records, and none with the index {index}")
        return self._stretch(at // STRETCH)[at % STRETCH]

    def __iter__(self) -> Iterator[T]:
        for number in range(-(-self._length // STRETCH)):
            yield from self._stretch(number)
