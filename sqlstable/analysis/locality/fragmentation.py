"""How fragmented B-trees are: whether their leaves lie in order, and how full their pages are."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlstable.trace.model import TreeShape


@dataclass(frozen=True, slots=True)
class TreeFragmentation:
    """One B-tree of the main database, as it was when the trace ended.

    A scan goes from leaf to leaf in the order of keys: where the next one is not the next SQLite
    page, it leaps, and its 64 KiB regions hold fewer of the leaves that it wants. Pages that are
    not full are read and charged all the same.

    Source: "fragmentation" and "fullness" of SQLite's sqlite3_analyzer, from its dbstat table
    (https://sqlite.org/dbstat.html, https://sqlite.org/sqlanalyze.html).
    """

    tree: TreeShape
    page_size: int
    "Bytes of a SQLite page."

    @property
    def sqlite_pages(self) -> int:
        """Interior, leaf and overflow pages."""
        return self.tree.interior_pages + self.tree.leaf_pages + self.tree.overflow_pages

    @property
    def fill(self) -> float:
        """Share of the bytes of its SQLite pages that hold something; 1 for a tree of none."""
        size_bytes = self.sqlite_pages * self.page_size
        return 1 - self.tree.unused_bytes / size_bytes if size_bytes else 1.0

    @property
    def leaps(self) -> int:
        """Steps of a whole scan in the order of keys that do not go to the next SQLite page."""
        in_order = 1.0 if self.tree.leaves_in_order is None else self.tree.leaves_in_order
        return round((1 - in_order) * max(0, self.tree.leaf_pages - 1))

    @property
    def sqlite_pages_saved_max(self) -> int:
        """SQLite pages fewer if all were full: what rebuilding the tree could save at most."""
        return self.tree.unused_bytes // self.page_size


def fragmentation(trees: Iterable[TreeShape], page_size: int) -> tuple[TreeFragmentation, ...]:
    """Tell it of each tree, the largest first.

    Args:
        trees: As a trace has them.
        page_size: Bytes of a SQLite page, 1 or more.

    Examples:
        >>> tree = TreeShape("t", "t", "table", 2, 1, 8, 0, 500, 20_000, 18_432, 0.0)
        >>> [found] = fragmentation([tree], 4096)
        >>> found.sqlite_pages, found.fill, found.leaps, found.sqlite_pages_saved_max
        (9, 0.5, 7, 4)
    """
    found = (TreeFragmentation(tree, page_size) for tree in trees)
    return tuple(sorted(found, key=lambda it: (-it.sqlite_pages, it.tree.name)))
