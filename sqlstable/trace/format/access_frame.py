"""All accesses of a trace as columns of a frame, one row an access."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.ic.words import GROW, PHASES, READ, SIZE, WRITE
from sqlstable.trace.access_stream import AccessBlock, joined_blocks
from sqlstable.trace.format.access_reader import AccessReader
from sqlstable.trace.format.frames import FrameColumn, FrameColumns

KIND_NAMES: Final = ("read", "write", "size", "grow")
"""Names of the kinds of access, by their numbers."""
assert (KIND_NAMES[READ], KIND_NAMES[WRITE], KIND_NAMES[SIZE], KIND_NAMES[GROW]) == KIND_NAMES

_Any = npt.NDArray[Any]

_SPARE_ROWS: Final = 1 << 20
"""Rows for which there is room more than is needed."""


class _Names:
    """Texts by a number that has come from elsewhere: equal ones share a category."""

    def __init__(self, names: Sequence[str]) -> None:
        numbers = {name: position for position, name in enumerate(dict.fromkeys(names))}
        self.names = tuple(numbers)
        # As narrow as may be: there is one for each access.
        fitting = np.min_scalar_type(-len(numbers) - 1)
        self._number_of = np.array([numbers[name] for name in names], dtype=fitting)

    def column(self, numbers: _Any) -> FrameColumn:
        """Return the texts of numbers; those below 0 are missing."""
        known = numbers >= 0
        if known.all():
            return FrameColumn(self._number_of[numbers], self.names)
        values = np.zeros(len(numbers), self._number_of.dtype)
        values[known] = self._number_of[numbers[known]]
        return FrameColumn(values, self.names, known)


class AccessColumns:
    """Makes columns of blocks of accesses.

    Args:
        reader: Reads the trace.
        page_size: Bytes of a SQLite page; None where that is not known.
    """

    def __init__(self, reader: AccessReader, page_size: int | None) -> None:
        self._page_size = page_size
        owners = reader.owners
        self._owner, self._table, self._owner_kind, self._role = (
            _Names([getattr(it, name) for it in owners])
            for name in ("name", "table", "kind", "role")
        )
        self._outside = _Names(reader.outside_names)
        self._phase, self._kind = _Names(PHASES), _Names(KIND_NAMES)

    def columns(self, block: AccessBlock) -> dict[str, FrameColumn]:
        """Return the columns of a block."""
        moved = block.moved_bytes > 0
        is_call = block.kind <= WRITE
        return {
            "message": FrameColumn(block.message),
            "statement": FrameColumn(block.statement, None, block.statement >= 0),
            "outside": self._outside.column(block.outside),
            "phase": self._phase.column(block.phase),
            "kind": self._kind.column(block.kind),
            "os_page": FrameColumn(block.address // OS_PAGE_BYTES, None, moved),
            "sqlite_page": self._sqlite_page(block, moved),
            "owner": self._owner.column(block.owner),
            "table": self._table.column(block.owner),
            "owner_kind": self._owner_kind.column(block.owner),
            "role": self._role.column(block.owner),
            "position": FrameColumn(block.position),
            "address": FrameColumn(block.address, None, is_call),
            "length": FrameColumn(block.length),
        }

    def _sqlite_page(self, block: AccessBlock, moved: npt.NDArray[np.bool_]) -> FrameColumn:
        if self._page_size is None:
            return FrameColumn(np.zeros(len(block), np.int64), None, np.zeros(len(block), np.bool_))
        numbers = block.offset // self._page_size + 1
        return FrameColumn(numbers, None, moved & (block.offset >= 0))


def access_columns(reader: AccessReader, page_size: int | None) -> FrameColumns:
    """Return the columns of all accesses."""
    maker = AccessColumns(reader, page_size)
    # Without any access, too, there are all columns.
    columns = {
        name: _GrowingColumn(column) for name, column in maker.columns(joined_blocks([])).items()
    }
    for block in reader.blocks(owners=True):
        for name, column in maker.columns(block).items():
            columns[name].append(column)
    return {name: column.whole() for name, column in columns.items()}


class _Growing:
    """Values to which others are added. What is large grows in place, and is never there twice."""

    def __init__(self, first: _Any) -> None:
        self._values = first.copy()
        self._count = len(first)

    def append(self, values: _Any) -> None:
        """Add values of the same type."""
        stop = self._count + len(values)
        if stop > len(self._values):
            self._values.resize(stop + _SPARE_ROWS, refcheck=False)
        self._values[self._count : stop] = values
        self._count = stop

    def whole(self) -> _Any:
        """Return all values; no more can be added."""
        self._values.resize(self._count, refcheck=False)
        return self._values


class _GrowingColumn:
    """A column to which others are added."""

    def __init__(self, first: FrameColumn) -> None:
        self._names = first.names
        self._values = _Growing(first.values)
        self._known: _Growing | None = None
        self._count = 0

    def append(self, column: FrameColumn) -> None:
        """Add a column with the same names."""
        self._values.append(column.values)
        if self._known is None and column.known is not None:
            self._known = _Growing(np.ones(self._count, np.bool_))
        if self._known is not None:
            is_all = np.ones(len(column), np.bool_)
            self._known.append(is_all if column.known is None else column.known)
        self._count += len(column)

    def whole(self) -> FrameColumn:
        """Return all of it."""
        known = None if self._known is None else self._known.whole()
        return FrameColumn(self._values.whole(), self._names, known)
