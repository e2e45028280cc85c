"""All accesses of a trace in the order in which they happened, as columns: message, owner and all.

Analysis, frames and exports go through a trace by these blocks. A statement's accesses may span
several, and one block may hold those of thousands of small messages.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from sqlstable.errors import TraceError
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.ic.words import WRITE
from sqlstable.trace.footprint import units_spanned

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]

BLOCK_ACCESSES_MAX: Final = 1 << 17
"""Accesses in one block at most: 6 MB as columns."""

UNITS_MAX: Final = 1 << 25
"""Pages that the accesses of a block move at most: 128 GiB in OS pages, where a heap has 6 GiB."""

NOBODY: Final = -1
"""The statement of an access that no statement made, and the outside name of any other."""

NO_PHASE: Final = -1
"""The phase of what no statement did, and of accesses whose phase a trace does not tell."""

UNKNOWN_OWNER: Final = 0
"""The owner of an access of which nobody knows whose it was, or that moved nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class AccessBlock:
    """Accesses that followed each other, as columns of one length."""

    message: Int32s
    "Index of the message."
    statement: Int32s
    "Index of the statement; -1 where none made the access."
    phase: npt.NDArray[np.int8]
    "Position in `sqlstable.ic.words.PHASES`; -1 outside of statements, and where a trace has none."
    kind: npt.NDArray[np.int8]
    "0 read, 1 write, 2 size, 3 grow."
    address: Int64s
    "First byte in stable memory; for size and grow, 0."
    length: Int64s
    "Bytes moved; for size 0; for grow, Wasm pages asked for."
    offset: Int64s
    "First byte in the database file; -1 outside of it."
    position: Int64s
    "Among the accesses of the statement, or of the outside entry, from 0."
    owner: Int32s
    """Position in ``trace.access_owners`` of whom the first byte belongs to: where the message
    wrote that SQLite page, at its end, else last; for size and grow 0, the unknown one."""
    outside: npt.NDArray[np.int16]
    "Position in ``trace.outside_names``; -1 for a statement's."

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def moved_bytes(self) -> Int64s:
        """Bytes that each access read or wrote; 0 for size and grow."""
        return np.where(self.kind <= WRITE, self.length, 0)

    @property
    def begins(self) -> npt.NDArray[np.bool_]:
        """Whether a row begins an access; False where it goes on with that of the row before."""
        makers = (self.message, self.statement, self.outside, self.position)
        begins = np.ones(len(self), dtype=np.bool_)
        begins[1:] = np.any([column[1:] != column[:-1] for column in makers], axis=0)
        return begins

    def os_pages(self) -> tuple[npt.NDArray[np.intp], Int64s]:
        """Return the OS pages that accesses read or wrote.

        Returns:
            Rows of this block, ascending, and the index of an OS page of each: a row that overlaps
            three OS pages is there three times, one that moved nothing not at all.

        Raises:
            TraceError: The accesses claim to have moved more than a memory could.

        Examples:
            >>> block = block_of([(0, 4_000, 200, -1), (2, 0, 0, -1), (1, 4_096, 1, -1)])
            >>> [column.tolist() for column in block.os_pages()]
            [[0, 0, 2], [0, 1, 1]]
        """
        return _spanned(self.address, self.moved_bytes, OS_PAGE_BYTES)

    def sqlite_pages(self, page_size: int) -> tuple[npt.NDArray[np.intp], Int64s]:
        """Return likewise the numbers, from 1, of the SQLite pages of the main database.

        Args:
            page_size: Bytes of a SQLite page, 1 or more.

        Examples:
            >>> block = block_of([(0, 70_000, 1_024, 512), (1, 0, 8, -1)])
            >>> [column.tolist() for column in block.sqlite_pages(512)]
            [[0, 0], [2, 3]]
        """
        inside = np.where(self.offset >= 0, self.moved_bytes, 0)
        rows, indexes = _spanned(self.offset, inside, page_size)
        return rows, indexes + 1

    def slice(self, start: int, stop: int) -> Self:
        """Return the rows from ``start`` to ``stop - 1``, without copying."""
        return type(self)(*(column[start:stop] for column in self.columns))

    def where(self, wanted: npt.NDArray[Any]) -> Self:
        """Return the rows at these positions, or those for which a boolean says so."""
        return type(self)(*(column[wanted] for column in self.columns))

    def having(self, **columns: npt.NDArray[Any]) -> Self:
        """Return the same rows with other columns of these names."""
        return replace(self, **columns)

    @property
    def columns(self) -> tuple[npt.NDArray[Any], ...]:
        """All columns in the order of the fields."""
        return tuple(getattr(self, field.name) for field in fields(self))


def _spanned(start: Int64s, length: Int64s, unit_bytes: int) -> tuple[npt.NDArray[np.intp], Int64s]:
    """Refuse what only a damaged trace says, before there is an array as large as it claims."""
    moved = float(length.sum(dtype=np.float64))
    if moved > UNITS_MAX * unit_bytes:
        raise TraceError(
            f"{len(length)} accesses of the trace claim to have moved {moved:.3g} bytes, more than "
            f"{UNITS_MAX * unit_bytes}; it is damaged, or no run recorded it"
        )
    return units_spanned(start, length, unit_bytes)


_TYPES: Final = (
    *(np.int32, np.int32, np.int8, np.int8, np.int64, np.int64, np.int64),
    *(np.int64, np.int32, np.int16),
)
assert len(_TYPES) == len(fields(AccessBlock))


def joined_blocks(parts: Sequence[AccessBlock]) -> AccessBlock:
    """Return the rows of all parts as one block."""
    if len(parts) == 1:
        return parts[0]
    columns = zip(*(part.columns for part in parts), strict=True) if parts else [()] * len(_TYPES)
    return AccessBlock(
        *(
            np.concatenate([np.empty(0, kind), *column])
            for kind, column in zip(_TYPES, columns, strict=True)
        )
    )


def block_of(rows: Sequence[tuple[int, int, int, int]]) -> AccessBlock:
    """Return a block of accesses of statement 0 of message 0, for examples and tests.

    Args:
        rows: Kind, address, length and offset of each.
    """
    kind, address, length, offset = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    zeros = np.zeros(len(kind), dtype=np.int64)
    columns = (zeros, zeros, zeros - 1, kind, address, length, offset)
    others = (np.arange(len(kind)), zeros, zeros - 1)
    return AccessBlock(
        *(
            np.ascontiguousarray(column, dtype=to)
            for column, to in zip((*columns, *others), _TYPES, strict=True)
        )
    )
