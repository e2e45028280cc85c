"""What was done to stable memory, call by call: the form in which a machine hands it on.

Kinds are those of `sqlstable.ic.words`. Few accesses are quicker to look at as plain integers, many
as columns, so there are both, and whoever has accesses gives both.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    _Wanted = slice | npt.NDArray[np.bool_]

Access = tuple[int, int, int, int]
"""One access as plain integers: kind, address, length and offset, as in `Accesses`."""

FEW_ACCESSES: Final = 128
"""So many and fewer are quicker to look at as plain integers than as columns."""


@dataclass(frozen=True, slots=True)
class Accesses:
    """Accesses to stable memory in the order in which they happened, as columns.

    All arrays have one length, the number of accesses.
    """

    kind: "npt.NDArray[np.int8]"
    "0 read, 1 write, 2 size, 3 grow."
    address: "npt.NDArray[np.int64]"
    "First byte in stable memory; for size and grow, 0."
    length: "npt.NDArray[np.int64]"
    "Bytes moved; for size 0; for grow, Wasm pages asked for."
    offset: "npt.NDArray[np.int64]"
    "First byte in the database file, or -1 where the access lies outside of it."

    def __len__(self) -> int:
        return len(self.kind)

    def slice(self, start: int, stop: int) -> Self:
        """Return the accesses with positions ``start`` to ``stop - 1``, without copying."""
        return self.where(slice(start, stop))

    def where(self, wanted: "_Wanted") -> Self:
        """Return a slice, or those for which an array of as many booleans says so."""
        return type(self)(
            self.kind[wanted], self.address[wanted], self.length[wanted], self.offset[wanted]
        )

    @property
    def rows(self) -> list[Access]:
        """The same as plain integers."""
        columns = (self.kind, self.address, self.length, self.offset)
        return [*zip(*(column.tolist() for column in columns), strict=True)]

    @classmethod
    def joined(cls, parts: Iterable[Self]) -> Self:
        """Return the accesses of all parts as one."""
        import numpy as np  # noqa: PLC0415  reports of numbers alone need no arrays

        parts = [*parts]
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([np.empty(0, np.int8), *(part.kind for part in parts)]),
            np.concatenate([np.empty(0, np.int64), *(part.address for part in parts)]),
            np.concatenate([np.empty(0, np.int64), *(part.length for part in parts)]),
            np.concatenate([np.empty(0, np.int64), *(part.offset for part in parts)]),
        )


@dataclass(frozen=True, slots=True)
class FewAccesses:
    """A handful of accesses in order, as plain integers; iterating gives them as `Accesses`."""

    rows: Sequence[Access]

    def __iter__(self) -> Iterator[Accesses]:
        import numpy as np  # noqa: PLC0415  as in Accesses.joined

        if self.rows:
            kind, *others = (
                np.array(column, dtype=np.int64) for column in zip(*self.rows, strict=True)
            )
            yield Accesses(kind.astype(np.int8), *others)


class TakenAccesses:
    """The accesses of one message, decoded when they are asked for.

    Args:
        count: How many there are.
        chunks: Yields those from one position to before another as columns, in pieces.
        few: Returns all as plain integers; None where columns are always better.
    """

    __slots__ = ("_count", "_few", "_rows", "chunks")

    def __init__(
        self,
        count: int,
        chunks: Callable[[int, int], Iterator[Accesses]],
        few: Callable[[], list[Access]] | None,
    ) -> None:
        self.chunks = chunks
        self._count = count
        self._few = few if count <= FEW_ACCESSES else None
        self._rows: list[Access] | None = None

    def __len__(self) -> int:
        return self._count

    def few(self) -> list[Access] | None:
        """Return all accesses as plain integers, or None where they are more than few."""
        if self._rows is None and self._few is not None:
            self._rows = self._few()
        return self._rows

    def part(self, start: int, stop: int) -> "TakenAccesses":
        """Return those at positions ``start`` to ``stop - 1``, counted from 0 anew."""
        rows, chunks = self.few(), self.chunks
        return TakenAccesses(
            stop - start,
            lambda first, last: chunks(start + first, start + last),
            None if rows is None else lambda: rows[start:stop],
        )
