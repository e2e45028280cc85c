"""Two traces as one table for the terminal: before and after, statement by statement."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final

from rich.text import Text

from sqlstable.analysis.compare import Change, Comparison, StatementPair, change_counts
from sqlstable.report.frame import (
    ARROW,
    glossary_lines,
    provenance_lines,
    setting_changes,
    title,
)
from sqlstable.report.grid import (
    GAP,
    WIDTH_MIN,
    ColorSystem,
    Column,
    Grid,
    cell,
    grid,
    number_column,
    paragraph,
    render,
    rule,
    text_column,
)
from sqlstable.report.numbers import UNKNOWN, count, counted
from sqlstable.report.text import clean, fit, shorten
from sqlstable.trace.model import StableUse, Statement

ROWS_MAX: Final = 60
"""Up to so many rows the table shows all; with more, those that are the same go first."""
ROWS_FIRST: Final = 40
ROWS_LAST: Final = 10
assert ROWS_FIRST + ROWS_LAST < ROWS_MAX

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

_GLOSSARY: Final = (
    ("accessed", "OS pages read or written, before and after; one number where nothing changed"),
    ("dirty", "OS pages written, even with equal bytes"),
    ("better", "accessed or dirty fell, and neither rose; worse: the reverse; mixed: one of each"),
    ("- and +", "lines of the query plan that went, and that came"),
)


def render_comparison(
    comparison: Comparison, *, width: int = 100, color_system: ColorSystem | None = None
) -> str:
    """Return a comparison as a table of text.

    Args:
        comparison: What ``sqlstable.analysis.compare.compare`` found.
        width: Columns of the terminal; no line is wider. Less than ``WIDTH_MIN`` counts as that.
        color_system: One of rich's, for a terminal; None for plain text.
    """
    width = max(width, WIDTH_MIN)
    after = comparison.after_settings
    lines = [
        *title(_TITLE, width),
        *setting_changes(comparison.before_settings, after, width),
        Text(),
    ]
    if comparison.pairs:
        lines += [*_table_lines(comparison, width), Text()]
        lines += [*glossary_lines(_GLOSSARY, after, width), Text()]
    else:
        lines += [*paragraph(EMPTY, width), Text()]
    lines += provenance_lines([comparison.before_settings, after], (), width)
    return render(lines, width=width, color_system=color_system)


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of numbers, before and after; None where a side has none."""

    number: str
    text: str
    accessed: tuple[int | None, int | None]
    dirty: tuple[int | None, int | None]
    hits: tuple[int | None, int | None] = (None, None)
    row_count: str = ""
    mark: tuple[str, str] = ("", "")
    style: str = ""


def _table_lines(comparison: Comparison, width: int) -> list[Text]:
    shown, omissions = _shown(comparison.pairs)
    rows = [_pair_row(pair) for pair in shown]
    sums = _sum_rows(comparison)
    table = _Table.holding([*rows, *sums], width)
    lines = [*table.grid.heading(), rule(width)]
    for place, (pair, row) in enumerate(zip(shown, rows, strict=True)):
        if place in omissions:
            lines += paragraph(omissions[place], width, style="italic")
        lines += table.lines(row)
        lines += _detail_lines(pair, table.grid.columns[0].width + GAP, width)
    if len(shown) in omissions:
        lines += paragraph(omissions[len(shown)], width, style="italic")
    lines.append(rule(width))
    for row in sums:
        lines += table.lines(row)
    return [*lines, *paragraph(_counts(comparison), width, style="bold")]


def _shown(pairs: Sequence[StatementPair]) -> tuple[list[StatementPair], dict[int, str]]:
    """Return the pairs to show, and by their places what to say in front of them."""
    if len(pairs) <= ROWS_MAX:
        return list(pairs), {}
    changed = [pair for pair in pairs if _is_news(pair)]
    same = counted(len(pairs) - len(changed), "statement")
    omissions = {}
    if len(changed) > ROWS_MAX:
        hidden = counted(len(changed) - ROWS_FIRST - ROWS_LAST, "more changed statement")
        omissions[ROWS_FIRST] = f"… {hidden}: --format csv or json for all"
        changed = [*changed[:ROWS_FIRST], *changed[-ROWS_LAST:]]
    omissions[len(changed)] = f"… and {same} without any change: --format csv or json for all"
    return changed, omissions


def _is_news(pair: StatementPair) -> bool:
    return pair.change != "same" or pair.plan_changed or pair.different_result_size


def _pair_row(pair: StatementPair) -> _Row:
    before, after = pair.before, pair.after
    statement = after or before
    assert statement is not None
    rows = [count(it.row_count) for it in (before, after) if it is not None]
    return _Row(
        number=str(statement.index) if after is not None else UNKNOWN,
        text=clean(statement.sql) or "(empty statement)",
        accessed=_sides(pair, lambda it: it.stable.os_pages_accessed),
        dirty=_sides(pair, lambda it: it.stable.os_pages_dirty),
        hits=_sides(pair, lambda it: it.sqlite.hits),
        row_count=rows[-1],
        mark=_MARKS[pair.change],
    )


def _sides(
    pair: StatementPair, number: Callable[[Statement], int | None]
) -> tuple[int | None, int | None]:
    return (
        None if pair.before is None else number(pair.before),
        None if pair.after is None else number(pair.after),
    )


def _sum_rows(comparison: Comparison) -> list[_Row]:
    before, after = comparison.before, comparison.after
    return [
        _sum_row("statements in both", comparison.paired_before, comparison.paired_after),
        _sum_row("all messages", before.stable, after.stable),
    ]


def _sum_row(text: str, before: StableUse, after: StableUse) -> _Row:
    return _Row(
        number="",
        text=text,
        accessed=(before.os_pages_accessed, after.os_pages_accessed),
        dirty=(before.os_pages_dirty, after.os_pages_dirty),
        style="bold",
    )


def _counts(comparison: Comparison) -> str:
    counts = change_counts(comparison)
    plans = sum(pair.plan_changed for pair in comparison.pairs)
    words = [f"{count(number)} {change}" for change, number in counts.items()]
    return f"{', '.join(words)}; {counted(plans, 'plan')} changed"


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


@dataclass(frozen=True, slots=True)
class _Table:
    """Columns as wide as their contents need; the SQL gets what is left."""

    grid: Grid
    accessed: _ChangeColumn
    dirty: _ChangeColumn
    hits: _ChangeColumn

    @classmethod
    def holding(cls, rows: Sequence[_Row], width: int) -> "_Table":
        """Return the table that holds these rows."""
        accessed = _ChangeColumn.holding([row.accessed for row in rows])
        dirty = _ChangeColumn.holding([row.dirty for row in rows])
        hits = _ChangeColumn.holding([row.hits for row in rows])
        columns = (
            number_column("  #", [row.number for row in rows]),
            Column("statement", 0),
            number_column("OS pages\naccessed", [accessed.text(*row.accessed) for row in rows]),
            number_column("dirty", [dirty.text(*row.dirty) for row in rows]),
            number_column("hits", [hits.text(*row.hits) for row in rows]),
            number_column("rows", [row.row_count for row in rows]),
            text_column("change", [row.mark[0] for row in rows], width_max=9),
        )
        fitted = grid(columns, width=width, text=1, text_width_min=14, drop=[4, 5])
        return cls(fitted, accessed, dirty, hits)

    def lines(self, row: _Row) -> list[Text]:
        """Lay out one row."""
        text = shorten(row.text, self.grid.text_width, lines_max=2)
        known = row.number != "" or row.hits != (None, None)
        cells = [
            cell(row.number, "dim"),
            [Text(line, style=row.style) for line in text],
            cell(self.accessed.text(*row.accessed), row.style or "bold"),
            cell(self.dirty.text(*row.dirty), row.style),
            cell(self.hits.text(*row.hits) if known else ""),
            cell(row.row_count),
            cell(*row.mark),
        ]
        return self.grid.row(cells)


def _detail_lines(pair: StatementPair, indent: int, width: int) -> Iterator[Text]:
    """Yield what the numbers do not say: another result, another plan."""
    if pair.before is None or pair.after is None:
        return
    margin = " " * indent
    if pair.different_result_size:
        text = f"different result size: {_result_change(pair.before, pair.after)}"
        yield Text(margin + fit(text, width - indent), style="yellow")
    if pair.plan_changed:
        for sign, line in _plan_changes(pair.before.plan, pair.after.plan):
            style = {"-": "red", "+": "green"}.get(sign, "dim")
            yield Text(f"{margin}{sign} {fit(line, width - indent - 2)}", style=style)


def _result_change(before: Statement, after: Statement) -> str:
    rows = f"{count(before.row_count)}{ARROW}{counted(after.row_count, 'row')}"
    runs = f"{count(before.runs)}{ARROW}{counted(after.runs, 'run')}"
    words = [rows] if before.row_count != after.row_count else []
    return ", ".join([*words, runs] if before.runs != after.runs else words)


def _plan_changes(before: Sequence[str], after: Sequence[str]) -> Iterator[tuple[str, str]]:
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
