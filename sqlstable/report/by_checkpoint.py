"""The view with one row for each checkpoint interval: what messages leave for the replica."""

import json
from collections.abc import Iterator
from typing import Final

from rich.text import Text

from sqlstable.analysis.checkpoints.intervals import (
    CHUNK_BYTES,
    HEAP_DELTA_BYTES,
    MESSAGES_PER_ROUND,
    REHASHED_OF,
    ROUNDS,
    CheckpointInterval,
    checkpoint_intervals,
    messages_per_round,
)
from sqlstable.analysis.fitting.circumstances import limit_value, trace_limits
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.errors import TraceError
from sqlstable.report.grid import Cell, cell, paragraph
from sqlstable.report.numbers import UNKNOWN, count, counted, percent, size
from sqlstable.report.table import Column, Table, number
from sqlstable.report.text import clean, fit
from sqlstable.report.view import Fields, Look, Row, View, ends, more_lines, named

FORMAT: Final = "sqlstable-checkpoints"
VERSION: Final = 1

NAME_WIDTH_MIN: Final = 20

_SECONDS: Final = "5.6 to 11 minutes"
"""Source: dfinity/developer-docs docs/references/resource-limits.md @ b58cf042, 2026-08-18."""


def model_words(trace: TraceSource) -> str:
    """Say which messages are taken to fall into one interval."""
    each = messages_per_round(trace.settings)
    if each is None:
        return "modelled: all messages before one checkpoint; --messages-per-round for others"
    return (
        f"modelled: {counted(each, 'message')} in each round, a checkpoint after {ROUNDS} rounds "
        f"({_SECONDS}); queries take no round"
    )


def subnet_words(trace: TraceSource) -> str:
    """Say of how much a share of a subnet's heap delta is, on the day of a trace's limits."""
    limits = trace_limits(trace.settings)
    known = limit_value("heap_delta_subnet_bytes", limits) or HEAP_DELTA_BYTES
    day = "by today's limits" if limits is None else f"by the limits of {limits.date}"
    return f"a subnet may have a heap delta of {size(known)} between two checkpoints, {day}"


def checkpoint_words(found: CheckpointInterval) -> str:
    """Say in one line what an interval leaves."""
    heap = "" if found.is_heap_counted else " (heap not counted)"
    return (
        f"{counted(found.os_pages_dirty, 'OS page')} dirty, overlay {size(found.overlay_bytes)}, "
        f"{counted(found.chunks_new, 'new chunk')} of 1 MiB to hash; heap delta "
        f"{size(found.heap_delta_bytes)}{heap}, "
        f"{percent(found.heap_delta_bytes, found.heap_delta_bytes_max)} of the subnet's"
    )


def checkpoint_lines(trace: TraceSource, width: int) -> list[Text]:
    """Say of a trace what it leaves for a checkpoint; nothing where it leaves nothing."""
    try:
        found = checkpoint_intervals(trace)
    except TraceError as error:
        # The rest of the table is sound, and says more than this line.
        return paragraph(f"left for a checkpoint: not known, as {clean(str(error))}", width)
    if not any(it.os_pages_dirty for it in found):
        return []
    most = max(found, key=lambda it: it.overlay_bytes)
    which = "" if len(found) == 1 else f"largest of {len(found)}: "
    return paragraph(f"left for a checkpoint: {which}{checkpoint_words(most)}", width)


def _lines(trace: TraceSource, look: Look) -> list[Text]:
    found = checkpoint_intervals(trace)
    first, hidden, last = ends(found)
    table = Table.holding(_columns(), [*first, *last], look.width)
    body = [
        *(line for it in first for line in table.row(it)),
        *more_lines(hidden, "more interval", look.width),
        *(line for it in last for line in table.row(it)),
    ]
    lines = [*table.framed(body), *paragraph(model_words(trace), look.width, style="bold")]
    lines += paragraph(subnet_words(trace), look.width)
    if not all(it.is_heap_counted for it in found):
        words = "heap delta without the heap, which nobody watched: --engine wasm"
        lines += paragraph(words, look.width, style="italic")
    return lines


def _columns() -> list[Column[CheckpointInterval]]:
    return [
        number("#", lambda it: str(it.index), style="dim"),
        Column("messages", _messages_cell, rest_min=NAME_WIDTH_MIN),
        number("OS pages\ndirty", lambda it: it.os_pages_dirty, style="bold"),
        number("ranges", lambda it: it.range_count, drop=3),
        number("overlay", lambda it: size(it.overlay_bytes)),
        number("new\nchunks", lambda it: it.chunks_new, drop=6),
        number("hashed\nagain", lambda it: it.chunks_rehashed, drop=2),
        number("hashed\nper byte", lambda it: _ratio(it.hashed_bytes_each), drop=5),
        number("by chunks\nof memory", lambda it: _ratio(it.chunk_bytes_each), drop=4),
        number("heap\ndelta", lambda it: size(it.heap_delta_bytes)),
        number("of\nsubnet", lambda it: percent(it.heap_delta_bytes, it.heap_delta_bytes_max)),
    ]


def _messages_cell(found: CheckpointInterval, width: int) -> Cell:
    words = f"{found.first_message} to {found.last_message}"
    if found.first_message == found.last_message:
        words = str(found.first_message)
    return cell(fit(f"{words}: {count(found.committed_count)} committed", width))


def _ratio(found: float | None) -> str:
    """Spell a ratio.

    Examples:
        >>> _ratio(1.0063), _ratio(42.666), _ratio(None)
        ('1.006', '42.7', '-')
    """
    if found is None:
        return UNKNOWN
    return f"{found:.3f}" if found < 10 else f"{found:,.1f}"


_COUNTED: Final = (
    *("index", "first_message", "last_message", "round_count", "committed_count"),
    *("os_pages_dirty", "os_pages_dirty_sum", "range_count", "overlay_count", "overlay_bytes"),
    *("chunks_new", "chunks_rehashed", "chunks_touched", "stable_bytes", "heap_delta_bytes"),
    *("heap_delta_bytes_max", "is_heap_counted"),
)
_RATIOS: Final = ("hashed_bytes_each", "chunk_bytes_each", "subnet_share")
_DIGITS: Final = 6


def _rounded(found: CheckpointInterval) -> Row:
    ratios = (getattr(found, name) for name in _RATIOS)
    return [None if it is None else round(it, _DIGITS) for it in ratios]


_FIELDS: Final = (named(*_COUNTED), Fields(_RATIOS, _rounded))


def _json(trace: TraceSource) -> Iterator[str]:
    names = (*_COUNTED, *_RATIOS)
    found = [
        dict(zip(names, [value for each in _FIELDS for value in each.of(it)], strict=True))
        for it in checkpoint_intervals(trace)
    ]
    document = {
        "format": FORMAT,
        "version": VERSION,
        MESSAGES_PER_ROUND: messages_per_round(trace.settings),
        "rounds_per_checkpoint": ROUNDS,
        "model": model_words(trace),
        "heap_delta_of": subnet_words(trace),
        "checkpoints": found,
    }
    yield json.dumps(document, indent=2) + "\n"


VIEW: Final = View(
    by="checkpoint",
    title="What messages leave for each checkpoint, and for certification",
    glossary=(
        ("dirty", "different OS pages of stable memory that committed messages wrote"),
        ("overlay", "the file that a checkpoint writes: these OS pages, 24 B a range, 12 B"),
        ("new", f"chunks of {size(CHUNK_BYTES)} of that file, which are hashed"),
        ("again", f"chunks hashed though nothing changed: every {REHASHED_OF}th of the others"),
        ("per byte", "bytes of new chunks of the overlay hashed for each byte of a dirty OS page"),
        ("by chunks", "the same if chunks of stable memory were hashed, as before overlays"),
        (
            "delta",
            "what is dirty after each message, added up, heap included; of subnet: of what it may",
        ),
    ),
    lines=_lines,
    items=checkpoint_intervals,
    fields=_FIELDS,
    json=_json,
    is_one_pass=True,
)
