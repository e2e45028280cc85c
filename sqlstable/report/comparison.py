"""Two traces as one table for the terminal: before and after, statement by statement."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Final

from rich.text import Text

from sqlstable.analysis.compare import (
    INSTRUCTIONS_TOLERANCE,
    Change,
    Comparison,
    StatementPair,
    change_counts,
)
from sqlstable.analysis.totals import Totals
from sqlstable.ic.words import CALL_KIND
from sqlstable.report.call_words import is_of_module
from sqlstable.report.cost_words import cycle_words
from sqlstable.report.frame import (
    ARROW,
    INSTRUCTIONS,
    glossary_lines,
    provenance_lines,
    setting_changes,
    title,
)
from sqlstable.report.grid import GAP, WIDTH_MIN, Cell, ColorSystem, cell, paragraph, render
from sqlstable.report.measures import Measured, Sum, TableMeasure, shown_measures
from sqlstable.report.messages import sum_lines
from sqlstable.report.numbers import UNKNOWN, count, counted
from sqlstable.report.plan_words import plan_lines
from sqlstable.report.table import Column, Table, number
from sqlstable.report.text import clean, fit, shorten
from sqlstable.report.view import ROWS_MAX, Look, ends, more_lines
from sqlstable.trace.model import Statement

STATEMENT_WIDTH_MIN: Final = 14
MARK_HEADING: Final = "change"

_TITLE: Final = "What changed in stable memory: before → after, in OS pages of 4 KiB"

EMPTY: Final = "Both traces are without statements: there is nothing to compare."

_MARKS: Final[Mapping[Change, tuple[str, str]]] = {
    "better": ("▼ better", "green"),
    "worse": ("▲ worse", "bold red"),
    "mixed": ("◆ mixed", "yellow"),
    "same": ("= same", "dim"),
    "added": ("+ added", ""),
    "removed": ("- removed", ""),
}

_PLAIN_MARKS: Final[Mapping[Change, tuple[str, str]]] = {
    **_MARKS,
    "better": ("▼ less", "cyan"),
    "worse": ("▲ more", "cyan"),
    "mixed": ("◆ mixed", "cyan"),
}
"""Where the runs differ in more than their statements, more is no judgement."""

_FELL: Final = "OS pages (by any number) or instructions (by more than 1 %) fell"
assert INSTRUCTIONS_TOLERANCE == 0.01, "the text says how much"

_GLOSSARY: Final = (
    ("accessed", "OS pages read or written, before and after; one number where nothing changed"),
    ("dirty", "OS pages written, even with equal bytes"),
    ("better", f"{_FELL}, and none rose; worse: the reverse; mixed: one of each"),
    ("- and +", "lines of the query plan that went, and that came"),
)
_PLAIN_GLOSSARY: Final = (
    *_GLOSSARY[:2],
    ("less", f"{_FELL}, and none rose; more: the reverse; mixed: one of each"),
    _GLOSSARY[-1],
)


def render_comparison(
    comparison: Comparison,
    *,
    width: int = 100,
    color_system: ColorSystem | None = None,
    plan: bool = False,
    settings: bool = False,
) -> str:
    """Return a comparison as a table of text.

    Args:
        comparison: What ``sqlstable.analysis.compare.compare`` found.
        width: Columns of the terminal; no line is wider. Less than ``WIDTH_MIN`` counts as that.
        color_system: One of rich's, for a terminal; None for plain text.
        plan: Whether plans that did not change are shown, too.
        settings: Whether all settings are named, and not only those that are not the default.
    """
    width = max(width, WIDTH_MIN)
    after = comparison.after_settings
    lines = [
        *title(_TITLE, width),
        *setting_changes(comparison.before_settings, after, width, all_settings=settings),
        *caution_lines(comparison, width),
        Text(),
    ]
    if comparison.pairs:
        lines += [*_table_lines(comparison, Look(width, plan=plan)), Text()]
        lines += [*glossary_lines(glossary(comparison), after, width), Text()]
    else:
        lines += [*paragraph(EMPTY, width), Text()]
    lines += provenance_lines([comparison.before_settings, after], (), width)
    return render(lines, width=width, color_system=color_system)


def marks_of(comparison: Comparison) -> Mapping[Change, tuple[str, str]]:
    """Return the word for each change, and its style; more is worse where like is with like."""
    return _MARKS if comparison.is_like_with_like else _PLAIN_MARKS


def glossary(comparison: Comparison) -> list[tuple[str, str]]:
    """Return the words of a comparison, each with what it means."""
    words = [*(_GLOSSARY if comparison.is_like_with_like else _PLAIN_GLOSSARY)]
    if of_calls(comparison):
        # Without plans.
        del words[-1]
    if comparison.before.instructions or comparison.after.instructions:
        words.append(INSTRUCTIONS)
    return words


def caution_lines(comparison: Comparison, width: int) -> list[Text]:
    """Say what beside the statements makes numbers differ; nothing where nothing does."""
    if comparison.is_like_with_like:
        return []
    causes = [clean(name) for name in comparison.differing_settings]
    others = comparison.other_cache_count
    if others:
        states = next(
            f"{pair.cache_before}{ARROW}{pair.cache_after}"
            for pair in comparison.pairs
            if pair.other_cache
        )
        causes.append(f"the heap of {counted(others, 'statement')} ({clean(states)})")
    differ = "differs" if len(causes) == 1 else "differ"
    text = (
        f"not like with like: {', '.join(causes)} {differ}, so that more is not worse, nor less "
        "better"
    )
    if "engine" in comparison.differing_settings and others:
        text += "; queries are cold by default on the native engine, warm on wasm: --cache sets it"
    return paragraph(text, width, style="yellow")


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of numbers, before and after; None where a side has none."""

    number: str
    text: str
    sides: tuple[Measured | None, Measured | None]
    hits: tuple[int | None, int | None] = (None, None)
    row_count: str = ""
    mark: tuple[str, str] = ("", "")
    style: str = ""


def _table_lines(comparison: Comparison, look: Look) -> list[Text]:
    width = look.width
    marks = marks_of(comparison)
    first, hidden, last, same = _shown(comparison.pairs)
    sums = _sum_rows(comparison)
    rows = [*(_pair_row(pair, marks) for pair in (*first, *last)), *sums]
    columns = _columns(rows)
    if of_calls(comparison):
        columns = [
            replace(it, heading="call") if it.heading == "statement" else it
            for it in columns
            if it.heading not in ("hits", "rows")
        ]
    table = Table.holding(columns, rows, width)
    indent = table.widths[0] + GAP

    def lines(pairs: Sequence[StatementPair]) -> Iterator[Text]:
        for pair in pairs:
            row = _pair_row(pair, marks)
            yield from table.row(row)
            if not table.has(MARK_HEADING):
                yield Text(" " * indent + row.mark[0], style=row.mark[1])
            yield from _detail_lines(pair, indent, look)

    body = [*lines(first), *more_lines(hidden, "more changed statement", width), *lines(last)]
    if same:
        text = f"… and {same} without any change: --format csv or json for all"
        body += paragraph(text, width, style="italic")
    return [
        *table.framed(body, sums=sums, stacked=(MARK_HEADING,)),
        *paragraph(changes_counted(comparison), width, style="bold"),
        *_instruction_lines(comparison, width),
    ]


def _instruction_lines(comparison: Comparison, width: int) -> list[Text]:
    lines: list[Text] = []
    for name, total in (("before", comparison.before), ("after", comparison.after)):
        found = sum_lines(total, width - GAP, has_statements=not of_calls(comparison))
        if found:
            lines.append(Text(f"{name}:"))
            found += _cycle_lines(total, width - GAP)
            lines += [Text(" " * GAP).append_text(line) for line in found]
    return lines


def _cycle_lines(total: Totals, width: int) -> list[Text]:
    """Say what all messages of one side cost; nothing where that is not known."""
    words = "" if total.cycles is None else cycle_words(total.cycles, total.cycles_as_update)
    return paragraph(words, width) if words else []


def _shown(
    pairs: Sequence[StatementPair],
) -> tuple[Sequence[StatementPair], int, Sequence[StatementPair], str]:
    """Return the pairs at both ends, how many lie between, and how many more did not change."""
    if len(pairs) <= ROWS_MAX:
        return *ends(pairs), ""
    changed = [pair for pair in pairs if _is_news(pair)]
    return *ends(changed), counted(len(pairs) - len(changed), "statement")


def _is_news(pair: StatementPair) -> bool:
    return pair.change != "same" or pair.plan_changed or pair.different_result_size


def _pair_row(pair: StatementPair, marks: Mapping[Change, tuple[str, str]]) -> _Row:
    before, after = pair.before, pair.after
    statement = after or before
    assert statement is not None
    rows = [count(it.row_count) for it in (before, after) if it is not None]
    return _Row(
        number=str(statement.index) if after is not None else UNKNOWN,
        text=clean(statement.sql) or "(empty statement)",
        sides=(before, after),
        hits=_sides(pair, lambda it: it.sqlite.hits),
        row_count=rows[-1],
        mark=marks[pair.change],
    )


def _sides(
    pair: StatementPair, number: Callable[[Statement], int | None]
) -> tuple[int | None, int | None]:
    return (
        None if pair.before is None else number(pair.before),
        None if pair.after is None else number(pair.after),
    )


def _sum_rows(comparison: Comparison) -> list[_Row]:
    spent = comparison.paired_instructions
    paired = (Sum(comparison.paired_before, spent[0]), Sum(comparison.paired_after, spent[1]))
    noun = "calls" if of_calls(comparison) else "statements"
    return [
        _Row("", f"{noun} in both", paired, style="bold"),
        _Row("", "all messages", (comparison.before, comparison.after), style="bold"),
    ]


def changes_counted(comparison: Comparison) -> str:
    """Say how many statements changed how, and how many plans."""
    marks = marks_of(comparison)
    counts = change_counts(comparison)
    plans = sum(pair.plan_changed for pair in comparison.pairs)
    words = [f"{count(number)} {marks[change][0][2:]}" for change, number in counts.items()]
    if of_calls(comparison):
        return ", ".join(words)
    return f"{', '.join(words)}; {counted(plans, 'plan')} changed"


def of_calls(comparison: Comparison) -> bool:
    """Whether both traces are of modules, and no SQL was seen in either."""
    sides = [it for pair in comparison.pairs for it in (pair.before, pair.after) if it is not None]
    settings = (comparison.before_settings, comparison.after_settings)
    return all(map(is_of_module, settings)) and all(it.kind == CALL_KIND for it in sides)


# -- how it is laid out --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _ChangeColumn:
    """Two numbers with an arrow between them, or one number where they are equal."""

    before_width: int
    after_width: int

    @classmethod
    def holding(cls, pairs: Sequence[tuple[int | None, int | None]]) -> "_ChangeColumn":
        """Return the column that holds these numbers."""
        changed = [before for before, after in pairs if before != after]
        return cls(
            before_width=max((len(count(before)) for before in changed), default=0),
            after_width=max(len(count(after)) for _, after in pairs),
        )

    def text(self, before: int | None, after: int | None) -> str:
        """Spell one change."""
        ending = f"{count(after):>{self.after_width}}"
        if before == after:
            return ending
        return f"{count(before):>{self.before_width}}{ARROW}{ending}"


def _columns(rows: Sequence[_Row]) -> list[Column[_Row]]:
    measures = shown_measures(side for row in rows for side in row.sides if side is not None)
    return [
        number("  #", lambda it: it.number, style="dim"),
        Column("statement", _text_cell, rest_min=STATEMENT_WIDTH_MIN),
        *(_measure_column(measure, rows) for measure in measures),
        _hits_column(rows),
        number("rows", lambda it: it.row_count, drop=2),
        Column(MARK_HEADING, lambda it, _: cell(*it.mark), width_max=9, drop=7),
    ]


def _text_cell(row: _Row, width: int) -> Cell:
    return [Text(line, style=row.style) for line in shorten(row.text, width, lines_max=2)]


def _measure_column(measure: TableMeasure, rows: Sequence[_Row]) -> Column[_Row]:
    change = _ChangeColumn.holding([_both(row, measure) for row in rows])
    return number(
        measure.heading,
        lambda row: change.text(*_both(row, measure)),
        drop=measure.drop,
        style=lambda row: row.style or "bold" * measure.is_main,
    )


def _hits_column(rows: Sequence[_Row]) -> Column[_Row]:
    change = _ChangeColumn.holding([row.hits for row in rows])
    return number("hits", lambda row: change.text(*row.hits) if _has_hits(row) else "", drop=1)


def _has_hits(row: _Row) -> bool:
    return row.number != "" or row.hits != (None, None)


def _both(row: _Row, measure: TableMeasure) -> tuple[int | None, int | None]:
    before, after = row.sides
    return (
        None if before is None else measure.of(before),
        None if after is None else measure.of(after),
    )


def _detail_lines(pair: StatementPair, indent: int, look: Look) -> Iterator[Text]:
    """Yield what the numbers do not say: another result, another plan, a plan where asked for."""
    width = look.width
    if pair.before is None or pair.after is None:
        only = pair.after or pair.before
        if look.plan and only is not None:
            yield from plan_lines(only.plan, only.loops, width, indent=indent)
        return
    margin = " " * indent
    if pair.different_result_size:
        text = f"different result size: {result_change(pair.before, pair.after)}"
        yield Text(margin + fit(text, width - indent), style="yellow")
    if pair.plan_changed:
        for sign, line in plan_changes(pair.before.plan, pair.after.plan):
            style = {"-": "red", "+": "green"}.get(sign, "dim")
            yield Text(f"{margin}{sign} {fit(line, width - indent - 2)}", style=style)
    elif look.plan:
        yield from plan_lines(pair.after.plan, pair.after.loops, width, indent=indent)


def result_change(before: Statement, after: Statement) -> str:
    """Say how the size of a result changed."""
    rows = f"{count(before.row_count)}{ARROW}{counted(after.row_count, 'row')}"
    runs = f"{count(before.runs)}{ARROW}{counted(after.runs, 'run')}"
    words = [rows] if before.row_count != after.row_count else []
    return ", ".join([*words, runs] if before.runs != after.runs else words)


def plan_changes(before: Sequence[str], after: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the lines of both plans with a sign: "-" gone, "+" new, " " in both."""
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    for operation, i, k, j, m in matcher.get_opcodes():
        if operation == "equal":
            yield from ((" ", _plan_line(line)) for line in before[i:k])
            continue
        yield from (("-", _plan_line(line)) for line in before[i:k])
        yield from (("+", _plan_line(line)) for line in after[j:m])


def _plan_line(line: str) -> str:
    """Return a line of a plan, safe to print, with the indentation that shows its depth."""
    depth = len(line) - len(line.lstrip(" "))
    return " " * min(depth, 20) + clean(line)
