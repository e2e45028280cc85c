"""Rules ``journal``, ``page-size`` and ``buckets``: settings of how a database is stored."""

from collections.abc import Iterator
from typing import Final

from sqlstable.analysis.advice.advice import Advice, counted, percent
from sqlstable.analysis.advice.evidence import SHARE_MIN, AdviceEvidence, cited
from sqlstable.analysis.advice.missing_index import is_scan
from sqlstable.analysis.growth import filling, growth_at_end
from sqlstable.ic.units import MIB, OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.trace.format.shape_uses import ShapeUse

STABLE_JOURNALS: Final = frozenset({"delete", "truncate", "persist", "wal"})
"""Journal modes that write to stable memory."""

JOURNAL_KINDS: Final = frozenset({"journal", "wal"})

LOOK_UP_SHARE: Final = 0.5
"""Part of the OS pages that is accessed by looking up rows, from which on SQLite pages of an OS
page's size are better: scans need all of a SQLite page, look-ups one row of it."""

ROWS_OF_LOOK_UP: Final = 100
"""A statement that returns or writes more rows needs most of a SQLite page, however large."""

BYTES_SHARE_MIN: Final = 0.02
"""Part of the instructions that moving bytes costs at least, where they were counted."""

WASTED_BYTES_MIN: Final = 64 * MIB
"""Stable memory that is handed out and not used; less is a few buckets, which hardly cost."""

WASTED_SHARE: Final = 0.75
"""Part of stable memory that this is."""


def journals(evidence: AdviceEvidence) -> Iterator[Advice]:
    """Advise a journal in memory: a message that traps is rolled back without one."""
    mode = evidence.settings.values.get("journal_mode")
    if mode not in STABLE_JOURNALS:
        return
    owned = [it for it in evidence.owners if it.kind in JOURNAL_KINDS]
    dirty = sum(it.os_pages_dirty for it in owned)
    share = dirty / max(evidence.os_pages_dirty, 1)
    if share < SHARE_MIN:
        return
    writers = sorted(
        (use for use in evidence.shapes if use.os_pages_dirty), key=lambda it: -it.os_pages_dirty
    )
    yield Advice(
        code="journal",
        sentence=(
            "Keep the journal in the heap: PRAGMA journal_mode = memory. A message that traps is "
            "rolled back by the Internet Computer, the journal in stable memory with it"
        ),
        cites=(
            (
                f"journal_mode {mode}: {counted(dirty, 'OS page')} of the journal dirtied, "
                f"{percent(dirty, evidence.os_pages_dirty)} of all"
            ),
        ),
        gain=f"expected: up to {counted(dirty, 'dirty OS page')} less",
        statements=tuple(use.heaviest for use in writers[:3]),
        share=share,
    )


def page_sizes(evidence: AdviceEvidence) -> Iterator[Advice]:
    """Advise SQLite pages of an OS page's size where large ones are read for single rows."""
    times = evidence.page_bytes // OS_PAGE_BYTES
    if times < 2:
        return
    found = [use for use in evidence.mattering("read", "write") if _looks_up(evidence, use)]
    pages = sum(use.os_pages_accessed for use in found)
    if pages < LOOK_UP_SHARE * max(evidence.os_pages_accessed, 1):
        return
    moved = sum(use.bytes_read + use.bytes_written for use in found)
    if evidence.has_instructions and moved < BYTES_SHARE_MIN * evidence.instructions:
        return
    yield Advice(
        code="page-size",
        sentence=(
            f"Make SQLite pages as large as an OS page: page_size {OS_PAGE_BYTES:,} instead of "
            f"{evidence.page_bytes:,}, each of which is {times} OS pages for one row of it"
        ),
        cites=tuple(
            cited(
                evidence.heaviest(use),
                f"{evidence.heaviest(use).row_count:,} returned",
                f"{use.statement_count:,} times",
            )
            for use in found[:3]
        ),
        gain=(
            f"expected: less than half of {counted(pages, 'OS page')} accessed; "
            f"sqlstable sweep --page-size {OS_PAGE_BYTES},{evidence.page_bytes} measures it"
        ),
        statements=tuple(use.heaviest for use in found),
        share=pages / evidence.os_pages_accessed,
    )


def buckets(evidence: AdviceEvidence) -> Iterator[Advice]:
    """Advise smaller buckets where most of stable memory is handed out and not used."""
    growth = growth_at_end(evidence.trace)
    if growth is None:
        return
    wasted = {it.name: filling(it).rounding_bytes + filling(it).unused_bytes for it in growth.areas}
    whole = sum(wasted.values())
    if whole < WASTED_BYTES_MIN or whole < WASTED_SHARE * growth.stable_bytes:
        return
    unit_bytes = max(it.unit_bytes for it in growth.areas)
    wasted_most = max(wasted, key=lambda name: wasted[name])
    yield Advice(
        code="buckets",
        sentence=(
            "Take smaller buckets, when the canister is installed: bucket_pages 16 instead of "
            f"{unit_bytes // WASM_PAGE_BYTES:,}"
        ),
        cites=(
            (
                f"stable memory: {whole // MIB:,} MiB of {growth.stable_bytes // MIB:,} MiB are "
                f"handed out to {counted(len(wasted), 'area')} and not used, most of it to "
                f"{wasted_most}"
            ),
        ),
        gain=f"expected: most of {whole // MIB:,} MiB less",
        statements=(),
        share=0.0,
    )


def _looks_up(evidence: AdviceEvidence, use: ShapeUse) -> bool:
    statement = evidence.heaviest(use)
    rows = max(statement.row_count, statement.runs)
    return rows <= ROWS_OF_LOOK_UP and not any(map(is_scan, statement.plan))
