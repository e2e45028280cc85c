"""What a trace says of the main database when it ends; nothing of it is ever recorded.

The shapes of trees come from SQLite's own dbstat, which reads every SQLite page, so they are left
out of a large database.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from sqlstable.database.shapes import nodes_of, schema_of
from sqlstable.database.vfs import StableVFS
from sqlstable.errors import ImageError
from sqlstable.ic.units import MIB
from sqlstable.trace.model import SchemaObject, TreeShape

TREES_SQLITE_PAGES_MAX: Final = 50_000
"""A database with more SQLite pages is not gone through for the shapes of its trees: these take
0.4 s."""

TREES_BYTES_MAX: Final = 256 * MIB
"""Nor is one of more bytes."""

_PAGE_TYPES: Final = ("internal", "leaf", "overflow")


@dataclass(frozen=True, slots=True)
class TraceEnd:
    """Schema and trees of the main database."""

    objects: tuple[SchemaObject, ...] = ()
    trees: tuple[TreeShape, ...] = ()
    trees_skipped: str = ""
    "Why there are no trees; else empty."


def trace_end(vfs: StableVFS) -> TraceEnd:
    """Look at the main database as it is now."""
    store = vfs.store
    if not store.size_bytes:
        return TraceEnd()
    try:
        objects = tuple(SchemaObject(*row) for row in schema_of(vfs))
        skipped = _too_large(store.size_bytes, store.size_bytes // store.page_size)
        if skipped:
            return TraceEnd(objects, trees_skipped=skipped)
        kinds = {it.name: (it.table, it.type) for it in objects}
        return TraceEnd(objects, tuple(_trees(nodes_of(vfs), kinds)))
    except ImageError as error:
        return TraceEnd(trees_skipped=str(error))


def _too_large(size_bytes: int, sqlite_pages: int) -> str:
    """Return why trees are not gone through; empty where they are."""
    if sqlite_pages <= TREES_SQLITE_PAGES_MAX and size_bytes <= TREES_BYTES_MAX:
        return ""
    return (
        f"the database has {sqlite_pages:,} SQLite pages and {size_bytes:,} bytes; up to "
        f"{TREES_SQLITE_PAGES_MAX:,} SQLite pages and {TREES_BYTES_MAX:,} bytes are gone through"
    )


@dataclass(slots=True)
class _Tree:
    """One B-tree, while its SQLite pages go by in the order of their keys."""

    depth: int = 0
    pages: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_PAGE_TYPES, 0))
    cells: int = 0
    payload_bytes: int = 0
    unused_bytes: int = 0
    last_leaf: int = 0
    leaves_followed: int = 0
    "Leaves whose number is that of the one before plus one."

    def add(self, path: str, number: int, page_type: str, counts: tuple[int, int, int]) -> None:
        """Count one SQLite page."""
        cells, payload_bytes, unused_bytes = counts
        self.pages[page_type] += 1
        self.cells += cells
        self.payload_bytes += payload_bytes
        self.unused_bytes += unused_bytes
        if page_type == "leaf":
            # The root's path is /, that of a child of it /000/.
            self.depth = path.count("/")
            self.leaves_followed += number == self.last_leaf + 1
            self.last_leaf = number

    def shape(self, name: str, table: str, kind: str) -> TreeShape:
        """Return what all of them come to."""
        leaves = self.pages["leaf"]
        return TreeShape(
            name=name,
            table=table,
            kind=kind,
            depth=self.depth,
            interior_pages=self.pages["internal"],
            leaf_pages=leaves,
            overflow_pages=self.pages["overflow"],
            cells=self.cells,
            payload_bytes=self.payload_bytes,
            unused_bytes=self.unused_bytes,
            leaves_in_order=self.leaves_followed / (leaves - 1) if leaves > 1 else None,
        )


def _trees(
    rows: Iterable[tuple[Any, ...]], kinds: Mapping[str, tuple[str, str]]
) -> Iterator[TreeShape]:
    for name, group in groupby(rows, key=itemgetter(0)):
        tree = _Tree()
        for _, path, number, page_type, *counts in group:
            tree.add(path, number, page_type, tuple(counts))
        yield tree.shape(name, *kinds.get(name, (name, "table")))
