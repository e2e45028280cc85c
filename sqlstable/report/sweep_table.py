"""A script under several settings, as a table with its Pareto front, and what to make of it."""

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from sqlstable.analysis.advice.advice import Advice
from sqlstable.analysis.scaling.pareto import SweepResults, SweepRow
from sqlstable.analysis.scaling.runs import Scalar
from sqlstable.report.frame import (
    named_lines,
    parameter_lines,
    provenance_lines,
    settings_lines,
    title,
)
from sqlstable.report.grid import Cell, ColorSystem, paragraph, render
from sqlstable.report.numbers import UNKNOWN, counted, percent, size
from sqlstable.report.table import Column, Table, number, words
from sqlstable.report.text import clean, shorten
from sqlstable.report.view import ends, more_lines
from sqlstable.trace.model import TraceSettings

NOTE_WIDTH_MIN: Final = 14
VALUE_WIDTH_MAX: Final = 16
ROWS_NAMED_MAX: Final = 30

ON_FRONT: Final = "front"
"""What marks a row that nothing beats."""


def render_sweep(
    found: SweepResults,
    *,
    advice: Sequence[Advice],
    design: str,
    width: int,
    color_system: ColorSystem | None,
    settings: bool = False,
) -> str:
    """Return the whole report of ``sqlstable sweep`` as text.

    Args:
        found: The rows.
        advice: What to make of them.
        design: Which combinations were run, in words.
        width: Columns of the terminal.
        color_system: One of rich's, or None for plain text.
        settings: Whether all settings that do not vary are named.
    """
    shared = TraceSettings(shared_settings(found))
    lines = [
        *title(f"The script under {counted(len(found.rows), 'combination')} of settings", width),
        *settings_lines(shared, width, all_settings=settings),
        *parameter_lines(shared_parameters(found), width),
        *paragraph(f"varied: {', '.join(map(clean, found.varied))}; {design}", width),
        Text(),
        *_table_lines(found, width),
        *_front_lines(found, width),
        *_advice_lines(advice, width),
        Text(),
        *(line for name, text in _glossary(found) for line in named_lines(name, text, width)),
        *provenance_lines([shared], (), width),
    ]
    return render(lines, width=width, color_system=color_system)


def shared_settings(found: SweepResults) -> dict[str, object]:
    """Return the settings that all rows which ran have in common."""
    listed = [row.result.settings for row in found.rows if row.result.settings]
    if not listed:
        return {}
    return {
        name: value
        for name, value in listed[0].items()
        if name not in found.varied and all(it.get(name) == value for it in listed)
    }


def shared_parameters(found: SweepResults) -> dict[str, Scalar]:
    """Return the parameters of the script that do not vary; all else has its default."""
    first = found.rows[0].result.parameters if found.rows else {}
    return {name: value for name, value in first.items() if name not in found.varied}


def _table_lines(found: SweepResults, width: int) -> list[Text]:
    first, hidden, last = ends(found.rows)
    shown = [*first, *last]
    table = Table.holding(_columns(found), shown, width)
    body = [line for row in first for line in table.row(row)]
    body += more_lines(hidden, "more combination", width)
    body += [line for row in last for line in table.row(row)]
    return table.framed(body)


def _columns(found: SweepResults) -> list[Column[SweepRow]]:
    has_instructions = any(row.result.instructions is not None for row in found.rows)
    return [
        number("#", lambda it: str(it.number), style="dim"),
        *(_choice_column(name) for name in found.varied),
        *([number("instr.", lambda it: _of(it, "instructions"))] if has_instructions else []),
        number("accessed", lambda it: _of(it, "os_pages_accessed"), drop=3),
        number("dirty", lambda it: _of(it, "os_pages_dirty")),
        number("stable memory", _stable, drop=1),
        Column("", _note_cell, rest_min=NOTE_WIDTH_MIN),
    ]


def _choice_column(name: str) -> Column[SweepRow]:
    return words(
        clean(name).replace("_", "\n", 1),
        lambda it: [clean(choice_words(it.choices.get(name)))],
        width_max=VALUE_WIDTH_MAX,
    )


def choice_words(value: Scalar) -> str:
    """Spell what was chosen.

    Examples:
        >>> choice_words(4096), choice_words(None), choice_words("raw")
        ('4096', 'none', 'raw')
    """
    return "none" if value is None else str(value)


def _of(row: SweepRow, name: str) -> int | None:
    return getattr(row.result, name) if row.result.failure is None else None


def _stable(row: SweepRow) -> str:
    return size(row.result.stable_bytes) if row.result.failure is None else UNKNOWN


def _note_cell(row: SweepRow, width: int) -> Cell:
    if row.result.failure is not None:
        lines = shorten(clean(row.result.failure), width, lines_max=3)
        return [Text(line, style="red") for line in lines]
    return [Text(ON_FRONT if row.is_on_front else "", style="bold green")]


def _front_lines(found: SweepResults, width: int) -> list[Text]:
    front = found.front
    if not front:
        return paragraph("no combination ran to its end", width, style="bold red")
    numbers = ", ".join(str(row.number) for row in front[:ROWS_NAMED_MAX])
    more = ", …" * (len(front) > ROWS_NAMED_MAX)
    lines = paragraph(f"Pareto front: {numbers}{more}", width, style="bold")
    work = "instructions" if found.has_instructions else "OS pages accessed"
    for place, what in enumerate((work, "OS pages dirty", "stable memory")):
        lines += paragraph(_least(found, place, what), width)
    failed = sum(row.result.failure is not None for row in found.rows)
    if failed:
        text = f"{counted(failed, 'combination')} failed; a row says why, and is not compared"
        lines += paragraph(text, width, style="red")
    return lines


def _least(found: SweepResults, place: int, what: str) -> str:
    """Say which row has least of one objective, and how much less than the first one that ran."""
    done = [row for row in found.rows if row.result.failure is None]
    values = [row.objectives(has_instructions=found.has_instructions)[place] for row in done]
    least = min(values)
    where = [str(row.number) for row, value in zip(done, values, strict=True) if value == least]
    rows = f"row {where[0]}" if len(where) == 1 else f"rows {', '.join(where[:ROWS_NAMED_MAX])}"
    share = f", {percent(least, values[0])} of row {done[0].number}'s" if least < values[0] else ""
    spelled = size(least) if place == 2 else f"{least:,}"
    return f"least {what}: {rows}, {spelled}{share}"


def _advice_lines(advice: Sequence[Advice], width: int) -> list[Text]:
    lines: list[Text] = []
    for each in advice:
        lines.append(Text())
        lines += paragraph(clean(each.sentence), width, style="bold yellow")
        for text in (*each.cites, *([each.gain] if each.gain else [])):
            lines += paragraph(clean(text), width, indent=2)
    return lines


def _glossary(found: SweepResults) -> tuple[tuple[str, str], ...]:
    work = "instructions" if found.has_instructions else "OS pages accessed"
    mixed = any(row.result.instructions is not None for row in found.rows)
    why = (
        ", as not every engine here counts instructions" if mixed != found.has_instructions else ""
    )
    return (
        (
            "accessed",
            "OS pages read or written, each counted once in its message, over all messages",
        ),
        ("dirty", "OS pages written, likewise"),
        (
            ON_FRONT,
            (
                f"no other row is at least as good in {work}, OS pages dirty and size of stable "
                f"memory, and better in one{why}"
            ),
        ),
    )
