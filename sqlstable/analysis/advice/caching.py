"""Rules ``cache-too-large`` and ``cache-too-small``: SQLite's page cache against its price.

Where the heap is charged for, each Wasm page of it that a message touches first costs 80 000, and
as much again when it is written. A SQLite page that is read into a buffer nobody used in this
message, or found in one, touches such a Wasm page; read anew into one of few buffers it costs a
call and its bytes. So a large cache pays only for SQLite pages that one message needs many times.

Source: `sqlstable.ic.prices` for what is charged; ``docs/explanation/advice.md`` has what was
measured.
"""

from collections.abc import Iterator
from typing import Final

from sqlstable.analysis.advice.advice import Advice, counted, percent
from sqlstable.analysis.advice.evidence import AdviceEvidence, cited
from sqlstable.ic.prices import PRICE_REGIMES, PriceRegime, regime_of
from sqlstable.ic.units import OS_PAGE_BYTES, OS_PAGES_PER_WASM_PAGE
from sqlstable.trace.format.shape_uses import ShapeUse

SMALL_CACHE: Final = 20
"""SQLite pages that a small cache holds: the way down to a leaf in several trees, and some more."""

SMALL_CACHE_HEAP: Final = 1_200_000
"""Instructions that a statement with a small cache pays for the heap, as measured: ten to fifteen
charges, for its stack, its program and the cache itself."""

SAVED_SHARE_MIN: Final = 0.05
"""Part of all instructions that another cache has to save."""

READS_PER_OS_PAGE: Final = 3
"""Bytes read for each byte of the OS pages accessed, from which on a cache is too small: SQLite
pages are read again and again, as they do not stay."""

WASM_PAGES_KEPT: Final = 2
"""Wasm pages of the heap that a cache touches for each Wasm page of what it holds, as measured:
SQLite pages lie beside headers, and not one behind the other."""

HEADROOM: Final = 1.25
"""A cache that holds what a statement needs, and what lies above it."""


def large_caches(evidence: AdviceEvidence) -> Iterator[Advice]:
    """Advise a small cache where touching a large one costs more than reading anew."""
    cache_size = evidence.settings.values.get("cache_size")
    regime = _regime(evidence)
    if regime is None or not isinstance(cache_size, int) or cache_size <= SMALL_CACHE:
        return
    saved = {
        use: _saved_by_small_cache(use, evidence.page_bytes, regime) for use in evidence.shapes
    }
    total = evidence.instructions
    whole = sum(saved.values())
    if whole < SAVED_SHARE_MIN * total:
        return
    heaviest = sorted(filter(saved.get, saved), key=lambda use: -saved[use])
    heap = sum(use.heap_instructions or 0 for use in heaviest)
    yield Advice(
        code="cache-too-large",
        sentence=(
            f"Keep fewer SQLite pages in the cache: PRAGMA cache_size = {SMALL_CACHE} instead of "
            f"{cache_size:,}, as each Wasm page of it that a message touches is charged for"
        ),
        cites=tuple(
            cited(
                evidence.heaviest(use),
                f"{use.statement_count:,} times",
                f"{use.heap_instructions:,} of {use.instructions:,} instructions for the heap",
            )
            for use in heaviest[:3]
        ),
        gain=f"expected: {whole:,} of {total:,} instructions less ({percent(whole, total)})",
        statements=tuple(use.heaviest for use in heaviest),
        share=heap / total,
    )


def small_caches(evidence: AdviceEvidence) -> Iterator[Advice]:
    """Advise a larger cache where statements read the same SQLite pages again and again."""
    cache_size = evidence.settings.values.get("cache_size")
    if not isinstance(cache_size, int):
        return
    found = [use for use in evidence.mattering("read", "write") if _is_read_anew(evidence, use)]
    if not found:
        return
    most = [evidence.heaviest(use).stable.os_pages_accessed for use in found]
    needed = int(HEADROOM * max(most) * OS_PAGE_BYTES / evidence.page_bytes)
    if needed <= cache_size:
        return
    again = sum(use.bytes_read - use.os_pages_accessed * OS_PAGE_BYTES for use in found)
    yield Advice(
        code="cache-too-small",
        sentence=(
            "Keep in the cache what a statement goes through more than once: PRAGMA cache_size = "
            f"{needed} instead of {cache_size:,}"
        ),
        cites=tuple(
            cited(evidence.heaviest(use), f"{counted(use.bytes_read, 'byte')} read in all")
            for use in found[:3]
        ),
        gain=f"expected: {counted(again, 'byte')} less to read",
        statements=tuple(use.heaviest for use in found),
        share=min(1.0, sum(map(evidence.share, found))),
    )


def _regime(evidence: AdviceEvidence) -> PriceRegime | None:
    """Return what was charged, where that was counted, and the heap is charged by Wasm pages."""
    regime = PRICE_REGIMES.get(str(evidence.settings.values.get("price_regime")))
    if not evidence.has_instructions or regime is None or not regime.costs.heap_region_accessed:
        return None
    return regime


def _saved_by_small_cache(use: ShapeUse, page_bytes: int, regime: PriceRegime) -> int:
    """Return what a small cache saves at least: as though each hit were read anew."""
    heap = (use.heap_instructions or 0) - use.statement_count * SMALL_CACHE_HEAP
    hits = use.hits or 0
    anew = regime.stable_call_cost(accesses=hits, bytes_moved=hits * page_bytes)
    return max(0, heap - anew)


def _is_read_anew(evidence: AdviceEvidence, use: ShapeUse) -> bool:
    """Tell whether reading SQLite pages again costs more than keeping them all would."""
    accessed_bytes = use.os_pages_accessed * OS_PAGE_BYTES
    if use.bytes_read < READS_PER_OS_PAGE * accessed_bytes:
        return False
    wasm_pages = WASM_PAGES_KEPT * use.os_pages_accessed / OS_PAGES_PER_WASM_PAGE
    kept = (_regime(evidence) or regime_of(None)).heap_cost_max(1) * wasm_pages
    least = SAVED_SHARE_MIN * evidence.instructions if evidence.has_instructions else 0
    return use.bytes_read - accessed_bytes > max(kept, least)
