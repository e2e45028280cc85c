"""Overflow, found when somebody meets it.

SQLite comes to an overflow chain by the cell that it begins in, so whoever accesses one has
accessed its node, in the same message or before. Nodes are therefore read for what overflows from
them when they are first accessed, and each chain is followed to its end: a chain that is freed is
known before it goes. Two ways lead past the cells. With auto_vacuum SQLite moves what the pointer
maps name, and so they are asked. What copies a database without looking at it meets SQLite pages
that nobody has referred to yet; then all nodes that are left are read, once.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

import numpy as np

from sqlstable.errors import ImageError
from sqlstable.sqlite.btree import (
    POINTER_MAP_ENTRY_BYTES,
    SCHEMA_ROOT,
    kind_of_node,
    lock_byte_number,
    next_overflow,
    parse_node,
)
from sqlstable.sqlite.nodes import overflow_heads_of
from sqlstable.trace.ownership.owner_source import GuardedReader
from sqlstable.trace.ownership.owner_state import (
    FIRST_TREE,
    INTERIOR,
    OVERFLOW,
    UNKNOWN,
    OwnerState,
    roles_of,
    trees_of,
)

_READ_BYTES: Final = 1 << 22
"""Bytes of nodes that are held at once."""
_SINGLY: Final = 8
"""With more nodes than that, they are read together."""
_FIRST_OF_CHAIN, _LATER_IN_CHAIN = 3, 4
"""Kinds of a pointer map's entries; the parent is a node, or the one before in the chain."""


class ChainFinder:
    """Reads nodes for what overflows from them; the module's docstring says when.

    Attributes:
        found: SQLite pages that have an owner now, and had none before.
    """

    def __init__(self, state: OwnerState, source: GuardedReader) -> None:
        """Prepare to complete ``state``, which is that of what ``source`` shows."""
        assert state.header is not None
        self.found: list[int] = []
        self._state = state
        self._source = source
        self._header = state.header
        source.expect(state.header, state.count)

    def meet(self, numbers: Iterable[int]) -> None:
        """Find the owners of these SQLite pages, and of what overflows from them.

        Raises:
            ImageError: The database is damaged.
        """
        state = self._state
        if state.is_complete:
            return
        inside = [number for number in numbers if 1 <= number <= state.count]
        self.read_nodes([number for number in inside if state.unread.item(number)])
        strays = [number for number in inside if state.codes.item(number) == UNKNOWN]
        if self._header.has_pointer_maps:
            for number in strays:
                if state.codes.item(number) == UNKNOWN:
                    self.read_nodes(self._unread_above(number))
        if any(state.codes.item(number) == UNKNOWN for number in strays):
            self.read_nodes(np.flatnonzero(state.unread).tolist())
            state.is_complete = True

    def read_nodes(self, numbers: list[int]) -> None:
        """Follow all chains that begin in these nodes.

        Raises:
            ImageError: The database is damaged.
        """
        if len(numbers) <= _SINGLY:
            for number in numbers:
                self._read_node(number, self._source.sqlite_page(number))
            return
        step = max(1, _READ_BYTES // self._header.page_size)
        for start in range(0, len(numbers), step):
            self._read_together(numbers[start : start + step])

    def _read_node(self, number: int, content: bytes) -> None:
        self._state.unread[number] = False
        usable = self._header.usable_bytes
        node = parse_node(content, number=number, usable_bytes=usable)
        self._check_role(number, is_interior=node.is_interior)
        for head in node.overflow_heads:
            self._follow(head, number)

    def _read_together(self, numbers: list[int]) -> None:
        by_kind: defaultdict[int, dict[int, bytes]] = defaultdict(dict)
        for number in numbers:
            content = self._source.sqlite_page(number)
            if number == SCHEMA_ROOT:
                self._read_node(number, content)
            else:
                by_kind[kind_of_node(content, number=number)][number] = content
        for kind, contents in by_kind.items():
            some = np.fromiter(contents, np.intp, len(contents))
            self._state.unread[some] = False
            for number, head in overflow_heads_of(
                [*contents.values()], some, kind=kind, usable=self._header.usable_bytes
            ):
                self._follow(head, number)

    def _check_role(self, number: int, *, is_interior: bool) -> None:
        code = self._state.codes.item(number)
        if code >= FIRST_TREE and is_interior != (roles_of(code) == INTERIOR):
            raise ImageError(f"SQLite page {number} is at another depth than its neighbours")

    def _follow(self, number: int, parent: int) -> None:
        """Set the owner of a whole chain, or of what is not known of it."""
        state = self._state
        code = trees_of(state.codes.item(parent)) + OVERFLOW
        while number:
            if not 2 <= number <= state.count:
                raise ImageError(f"SQLite page {parent} refers to {number} as overflow")
            before = state.codes.item(number)
            if before == code and state.parents.item(number) == parent:
                return
            if before != UNKNOWN:
                raise ImageError(f"SQLite page {number} has a second owner")
            state.codes[number] = code
            state.parents[number] = parent
            self.found.append(number)
            parent, number = number, next_overflow(self._source.sqlite_page(number))

    def _unread_above(self, number: int) -> list[int]:
        """Return the node that a chain begins in, going up it by the pointer maps, or none."""
        for _ in range(self._state.count):
            kind, parent = self._pointer_map_entry(number)
            if not 1 <= parent <= self._state.count:
                return []
            if kind == _FIRST_OF_CHAIN:
                return [parent] if self._state.unread.item(parent) else []
            if kind != _LATER_IN_CHAIN:
                return []
            number = parent
        return []

    def _pointer_map_entry(self, number: int) -> tuple[int, int]:
        """Return the kind and the parent that the pointer maps state."""
        stride = self._header.usable_bytes // POINTER_MAP_ENTRY_BYTES + 1
        place = (number - 2) // stride * stride + 2
        if place == lock_byte_number(self._header.page_size):
            place += 1
        if number <= place:
            return 0, 0
        at = POINTER_MAP_ENTRY_BYTES * (number - place - 1)
        entry = self._source.sqlite_page(place)[at : at + POINTER_MAP_ENTRY_BYTES]
        return entry[0], int.from_bytes(entry[1:], "big")
