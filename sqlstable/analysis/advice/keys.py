"""Rules ``text-key`` and ``random-key``: what primary keys cost.

A primary key that is no INTEGER is an index beside the table: a look-up goes down two trees, and an
insert writes into both. Where its values come in no order, each insert dirties another leaf.

Source: https://www.sqlite.org/rowidtable.html, https://www.sqlite.org/withoutrowid.html (rows of up
to a twentieth of a SQLite page gain) and https://www.sqlite.org/fileformat2.html.
"""

from collections.abc import Iterator
from typing import Final

from sqlstable.analysis.advice.advice import Advice, counted, percent
from sqlstable.analysis.advice.evidence import SMALL_OS_PAGES, AdviceEvidence
from sqlstable.ic.units import OS_PAGE_BYTES

KEY_SHARE_MIN: Final = 0.1
"""Part of all OS pages accessed that the tree of a key has: below, little can be saved."""

NARROW_PART: Final = 20
"""Rows of up to one in so many parts of a SQLite page gain from WITHOUT ROWID, says SQLite."""

IN_ORDER_MAX: Final = 0.5
"""Part of the leaves that follow each other in the file: keys that grow give nearly all."""

DIRTIED_AGAIN: Final = 4
"""How often a leaf is dirtied where keys grow is once, and once more by a message that goes on with
it; from so many times as much on, rows came in no order."""

LEAF_OS_PAGES_MIN: Final = 50
"""OS pages of leaves below which the order of inserts hardly shows."""

_TEXT_TYPES: Final = ("CHAR", "CLOB", "TEXT", "BLOB")
"""Declared types whose values are texts or blobs; https://www.sqlite.org/datatype3.html."""


def text_keys(evidence: AdviceEvidence) -> Iterator[Advice]:
    """Advise a key that is the row's own place, where a text key is a tree beside the table."""
    probe = evidence.probe
    for it in evidence.trees:
        is_small = evidence.tree_os_pages[it.name.lower()] <= SMALL_OS_PAGES
        if is_small or not it.name.startswith("sqlite_autoindex_"):
            continue
        pages = sum(own.os_pages_accessed for own in evidence.owners_named(it.name))
        share = pages / max(evidence.os_pages_accessed, 1)
        if share < KEY_SHARE_MIN or it.table.lower() not in probe.tables:
            continue
        key = [column for column in probe.columns(it.table) if column.key_position]
        is_key = any(ix.origin == "pk" and ix.name == it.name for ix in probe.indexes(it.table))
        texts = [column for column in key if any(name in column.type for name in _TEXT_TYPES)]
        if not is_key or not texts:
            continue
        yield Advice(
            code="text-key",
            sentence=(
                f"Give table {it.table} an INTEGER PRIMARY KEY"
                f"{_or_without_rowid(evidence, it.table)}: its key "
                f"{', '.join(column.name for column in key)} is a tree beside the rows"
            ),
            cites=(
                (
                    f"index {it.name} of table {it.table}: {counted(pages, 'OS page')} accessed, "
                    f"{percent(pages, evidence.os_pages_accessed)} of all"
                ),
            ),
            gain=f"expected: up to {counted(pages, 'OS page')} less",
            statements=evidence.touching(it.name),
            share=share,
        )


def random_keys(evidence: AdviceEvidence) -> Iterator[Advice]:
    """Advise keys that grow, where rows came in no order of their primary key."""
    probe = evidence.probe
    for tree in evidence.trees:
        leaves = tree.leaf_pages * evidence.page_bytes // OS_PAGE_BYTES
        if leaves < LEAF_OS_PAGES_MIN or (tree.leaves_in_order or 0) > IN_ORDER_MAX:
            continue
        is_key = tree.name.lower() in probe.tables or any(
            ix.origin == "pk" and ix.name == tree.name for ix in probe.indexes(tree.table)
        )
        dirty = sum(
            it.os_pages_dirty for it in evidence.owners_named(tree.name) if it.role == "leaf"
        )
        share = dirty / max(evidence.os_pages_dirty, 1)
        once = leaves + evidence.trace.summary.message_count
        if not is_key or dirty < DIRTIED_AGAIN * once or share < KEY_SHARE_MIN:
            continue
        if _is_changed(evidence, tree.table):
            continue
        yield Advice(
            code="random-key",
            sentence=(
                f"Let keys of table {tree.table} grow (INTEGER PRIMARY KEY, UUID version 7): they "
                "come in no order, so that each row dirties another leaf"
            ),
            cites=(
                (
                    f"{tree.name}: {dirty:,} leaves dirtied, of {leaves:,}; "
                    f"{percent(tree.leaves_in_order or 0, 1)} of its leaves follow each other in "
                    "the file"
                ),
            ),
            gain=f"expected: about {once:,} instead of {counted(dirty, 'dirty OS page')}",
            statements=evidence.touching(tree.name),
            share=share,
        )


def _is_changed(evidence: AdviceEvidence, table: str) -> bool:
    """Tell whether rows are changed or deleted, too: that dirties leaves in any order."""
    return any(
        use.shape.startswith(("UPDATE", "DELETE", "WITH"))
        and any(it.table == table for it in evidence.heaviest(use).owners)
        for use in evidence.mattering("write")
    )


def _or_without_rowid(evidence: AdviceEvidence, table: str) -> str:
    for tree in evidence.trees:
        if tree.name == table and tree.cells:
            is_narrow = tree.payload_bytes * NARROW_PART <= tree.cells * evidence.page_bytes
            return ", or make it WITHOUT ROWID" if is_narrow else ""
    return ""
