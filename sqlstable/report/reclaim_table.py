"""Ways to give free SQLite pages back, as a table, and what to do."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rich.text import Text

from sqlstable.analysis.reclaimable import NewImage, ReclaimReport, Way
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.ic.idle_burn import DAY_S, MONTH_DAYS
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.report.frame import named_lines, provenance_lines, settings_lines, title
from sqlstable.report.grid import Cell, ColorSystem, cell, paragraph, render
from sqlstable.report.limit_words import limit_words
from sqlstable.report.money_words import cycles_words
from sqlstable.report.numbers import UNKNOWN, count, counted, percent, size
from sqlstable.report.table import Column, Table, number
from sqlstable.report.text import clean, fit, shorten
from sqlstable.trace.model import TraceSettings

_VERDICT_WIDTH_MIN: Final = 13

GLOSSARY: Final = {
    "messages": "update messages that it takes; accessed, dirty and instr. are the most in one",
    "fits": "whether the largest message stays within the limits of an update, and its share of "
    "the nearest one",
    "free": "SQLite pages on the freelist: the next rows go there before the file grows",
    "stable": "stable memory, which never shrinks and is charged by its size, for as long as it is "
    "there",
}


@dataclass(frozen=True, slots=True)
class _TriedRow:
    """One line of numbers; what does not apply is None."""

    text: str
    style: str
    messages: int | None
    file_bytes: int
    free: int
    stable_bytes: int
    accessed: int | None = None
    dirty: int | None = None
    instructions: int | None = None


def render_reclaim(
    report: ReclaimReport, *, width: int, color_system: ColorSystem | None, settings: bool = False
) -> str:
    """Return the whole report of ``sqlstable reclaim`` as text.

    Args:
        report: What was found.
        width: Columns of the terminal.
        color_system: One of rich's, or None for plain text.
        settings: Whether all settings are named.
    """
    stated = TraceSettings(dict(report.settings))
    lines = [
        *title(f"What is free in {clean(report.source)}, and what gives it back", width),
        *settings_lines(stated, width, all_settings=settings),
        *_held_lines(report, width),
        Text(),
        *_table_lines(report, width),
        *(line for text in report.advice for line in _advice_lines(text, width)),
        Text(),
        *(line for name, text in _glossary(report) for line in named_lines(name, text, width)),
        *provenance_lines([stated], (), width),
    ]
    return render(lines, width=width, color_system=color_system)


def _held_lines(report: ReclaimReport, width: int) -> list[Text]:
    free = counted(report.free_sqlite_pages, "free SQLite page")
    parts = [f"{clean(part.name)} {size(part.size_bytes)}" for part in report.parts]
    buckets = (
        "no buckets"
        if report.bucket_bytes is None
        else f"buckets of {counted(report.bucket_bytes // WASM_PAGE_BYTES, 'Wasm page')}"
    )
    return [
        *paragraph(
            f"database {size(report.file_bytes)}, {free} of {count(report.page_size)} bytes; "
            f"auto_vacuum {report.auto_vacuum}",
            width,
        ),
        *paragraph(
            f"stable memory {size(report.stable_bytes)}, "
            f"{counted(report.wasm_pages, 'Wasm page')}, {buckets}: {', '.join(parts)}",
            width,
        ),
    ]


def _table_lines(report: ReclaimReport, width: int) -> list[Text]:
    first = _TriedRow(
        "as it is", "", None, report.file_bytes, report.free_sqlite_pages, report.stable_bytes
    )
    rows = [(way, _row(way)) for way in report.ways]
    images = [_image_row(report, image) for image in report.images]
    columns = _columns(has_instructions=report.has_instructions)
    table = Table.holding(columns, [first, *(row for _, row in rows), *images], width)
    body = table.row(first)
    for way, row in rows:
        body += [*paragraph(_name(way), width, style="bold"), *table.row(row)]
        if way.failure is not None:
            failure = shorten(clean(way.failure), width - 2, lines_max=3)
            body += [Text(f"  {line}", style="red") for line in failure]
    if images:
        body += paragraph("a new image of the vacuumed database", width, style="bold")
    for row in images:
        body += table.row(row)
    return table.framed(body)


def _image_row(report: ReclaimReport, image: NewImage) -> _TriedRow:
    buckets = "" if image.bucket_pages is None else f" {image.bucket_pages}"
    name = f"  {image.layout}{buckets}"
    return _TriedRow(name, "", None, report.vacuum.file_bytes, 0, image.stable_bytes)


def _name(way: Way) -> str:
    name = clean(way.name)
    if way.failure is None and way.messages_run < way.messages:
        return f"{name}, {count(way.messages_run)} of {counted(way.messages, 'message')} run"
    return name


def _row(way: Way) -> _TriedRow:
    verdict, style = _verdict(way)
    is_known = way.messages_run > 0
    return _TriedRow(
        verdict,
        style,
        way.messages,
        way.file_bytes,
        way.free_sqlite_pages,
        way.stable_bytes,
        way.os_pages_accessed if is_known else None,
        way.os_pages_dirty if is_known else None,
        way.instructions,
    )


def _verdict(way: Way) -> tuple[str, str]:
    if way.failure is not None:
        return "  failed", "red"
    if way.tightest is None:
        return "", ""
    share = percent(way.tightest.used, way.tightest.limit)
    return (f"  fits, {share}", "green") if way.fits else (f"  exceeds, {share}", "bold red")


def _columns(*, has_instructions: bool) -> list[Column[_TriedRow]]:
    return [
        Column("", _text_cell, rest_min=_VERDICT_WIDTH_MIN),
        number("messages", lambda it: it.messages),
        number("file", lambda it: size(it.file_bytes)),
        number("free", lambda it: it.free),
        number("stable", lambda it: size(it.stable_bytes)),
        number("accessed", lambda it: it.accessed),
        number("dirty", lambda it: it.dirty, drop=1),
        *([number("instr.", lambda it: _millions(it.instructions))] if has_instructions else []),
    ]


def _text_cell(row: _TriedRow, width: int) -> Cell:
    return cell(fit(row.text, width), row.style)


def _millions(instructions: int | None) -> str:
    if instructions is None:
        return UNKNOWN
    for unit, letter in ((10**12, "T"), (10**9, "B")):
        if instructions >= unit:
            return f"{instructions / unit:.1f}{letter}"
    return f"{instructions / 10**6:.1f}M"


def _advice_lines(text: str, width: int) -> Iterator[Text]:
    first, *others = paragraph(text, width, indent=2)
    yield Text(f"- {first.plain.lstrip()}")
    yield from others


def _glossary(report: ReclaimReport) -> Iterator[tuple[str, str]]:
    yield from GLOSSARY.items()
    exceeded = [way.tightest for way in report.ways if way.fits is False and way.tightest]
    if report.images:
        yield "new image", "by layout, and Wasm pages of a bucket; the first as it is now"
    if exceeded:
        yield "exceeds", "; ".join(dict.fromkeys(limit_words(use) for use in exceeded))
    if not report.has_instructions:
        yield (
            "instr.",
            "not counted by the native engine, and have a limit: --engine wasm counts them",
        )
    fees = CycleFees()
    month = fees.memory(size_bytes=report.stable_bytes, seconds=MONTH_DAYS * DAY_S)
    words = (
        f"to hold {size(report.stable_bytes)} costs {cycles_words(month)} cycles a month on a "
        f"subnet of {fees.node_count} nodes; what all of a canister costs: sqlstable status"
    )
    yield "storage", words
