"""Which page cache each message of a trace meets, and what it does there.

A page cache lives in the heap. A cold or fresh query begins with an empty one; on the wasm engine
what a query or a trapped message reads is forgotten with its heap, while a warm query of the native
one shares that of updates; after an upgrade, and after a trap on the native engine, all is gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sqlstable.analysis.trace_source import TraceSource
from sqlstable.analysis.whatif.cache_events import NOT_CACHED, CacheEvents, Flags
from sqlstable.analysis.whatif.sqlite_cache import SqliteCache
from sqlstable.ic.words import WIPING_KINDS
from sqlstable.trace.model import Message

_GOES_ON: Final = 0
"""The next message finds what this one left."""
_OWN: Final = 1
"""It begins with nothing, and leaves nothing."""
_FORGOTTEN: Final = 2
"""It finds what the last message left, and so does the next."""
_LAST: Final = 3
"""It finds what the last message left, and the next one finds nothing."""


@dataclass(frozen=True, slots=True)
class MessageHeap:
    """The accesses of one message, and what becomes of its page cache."""

    start: int
    stop: int
    "Its accesses are those from ``start`` to ``stop - 1``."
    fate: int


def message_heaps(trace: TraceSource, events: CacheEvents) -> list[MessageHeap]:
    """Return the heaps of all messages, in order; those without accesses may let a heap go, too."""
    engine = trace.settings.values.get("engine")
    borders = np.searchsorted(events.message, np.arange(len(trace.messages) + 1)).tolist()
    return [
        MessageHeap(start, stop, _fate(message, engine))
        for message, start, stop in zip(trace.messages, borders, borders[1:], strict=False)
    ]


def _fate(message: Message, engine: object) -> int:
    if message.kind == "query" and message.cache in ("cold", "fresh"):
        return _OWN
    if message.kind in ("upgrade", *WIPING_KINDS):
        # An upgrade that keeps the heap began with a warm one.
        return _LAST if message.cache is None else _GOES_ON
    is_trapped = message.outcome == "trapped"
    if engine == "wasm":
        return _FORGOTTEN if is_trapped or message.kind == "query" else _GOES_ON
    return _LAST if is_trapped else _GOES_ON


def run_through(events: CacheEvents, heaps: Sequence[MessageHeap], size: int) -> tuple[Flags, int]:
    """Run a trace through a page cache.

    Args:
        events: The accesses of the trace.
        heaps: What its messages run on.
        size: cache_size, in SQLite pages.

    Returns:
        Which accesses still go to stable memory, where a page that is written counts as written
        however often; and how many writes there are.
    """
    kept = np.ones(len(events), bool)
    warm, writes = SqliteCache(size), 0
    for heap in heaps:
        if heap.fate == _FORGOTTEN and _is_reading(events, heap):
            pages = events.page[heap.start : heap.stop].tolist()
            kept[heap.start : heap.stop] = warm.look_all(pages)
            continue
        cache = warm
        if heap.fate == _OWN:
            cache = SqliteCache(size)
        elif heap.fate == _FORGOTTEN:
            cache = warm.copy()
        before = cache.writes
        kept[heap.start : heap.stop] = _missed(cache, events, heap)
        writes += cache.writes - before
        if heap.fate == _LAST:
            warm = SqliteCache(size)
    uncached = events.is_write & (events.page == NOT_CACHED)
    return kept, writes + int(np.count_nonzero(uncached))


def _is_reading(events: CacheEvents, heap: MessageHeap) -> bool:
    """Tell whether a message does nothing but read through its page cache, or nothing at all."""
    part = slice(heap.start, heap.stop)
    return bool(events.page[part].all()) and not events.is_write[part].any()


def _missed(cache: SqliteCache, events: CacheEvents, heap: MessageHeap) -> list[bool]:
    """Return which accesses of a message go to stable memory."""
    part = slice(heap.start, heap.stop)
    if _is_reading(events, heap):
        return cache.read_all(events.page[part].tolist())
    columns = (events.page, events.is_write, events.is_changed, events.is_undone)
    kept: list[bool] = []
    start = 0
    rows = zip(*(it[part].tolist() for it in (*columns, events.ends_transaction)), strict=True)
    for page, is_write, is_changed, is_undone, is_end in rows:
        # What a rollback writes back is no use of a page.
        is_use = page != NOT_CACHED and not (is_write and is_undone)
        is_miss = is_use and cache.use(page, dirty=is_write or is_changed)
        kept.append(is_miss or is_write or page == NOT_CACHED)
        if is_end:
            if is_undone and not cache.roll_back():
                # Nothing was spilled, so nothing had to be written back.
                done = slice(heap.start + start, heap.start + len(kept))
                unwritten = ~events.is_write[done] | (events.page[done] == NOT_CACHED)
                kept[start:] = (unwritten & kept[start:]).tolist()
            cache.commit()
            start = len(kept)
    return kept


def room_needed(events: CacheEvents, heaps: Sequence[MessageHeap]) -> int:
    """Return the smallest cache_size in which no page ever has to go, nor to be spilled."""
    warm: set[int] = set()
    largest = 0
    for heap in heaps:
        found = set(events.page[heap.start : heap.stop].tolist()) - {NOT_CACHED}
        held = len(found) if heap.fate == _OWN else len(found - warm) + len(warm)
        largest = max(largest, held)
        if heap.fate == _GOES_ON:
            warm |= found
        elif heap.fate == _LAST:
            warm = set()
    return SqliteCache.size_for(largest)
