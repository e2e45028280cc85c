"""How a script grows, as a table: exponents, limits ahead, plans that change, and the check."""

from collections.abc import Iterator, Sequence
from typing import Final

from rich.text import Text

from sqlstable.analysis.scaling.growing import (
    EXTRAPOLATION_MAX,
    Checked,
    Grown,
    Reach,
    ScaleResults,
    Series,
)
from sqlstable.analysis.scaling.laws import CONFIDENCE, CONSTANT, DRIFT, MISFIT, POWER, Fit
from sqlstable.report.frame import (
    named_lines,
    parameter_lines,
    provenance_lines,
    settings_lines,
    title,
)
from sqlstable.report.grid import Cell, ColorSystem, paragraph, render
from sqlstable.report.limit_words import limit_words
from sqlstable.report.numbers import UNKNOWN, count, counted, size
from sqlstable.report.table import Column, Table, number, words
from sqlstable.report.text import clean, shorten
from sqlstable.report.view import ends, more_lines
from sqlstable.trace.model import LimitUse, TraceSettings

TEXT_WIDTH_MIN: Final = 20
GROWTH_WIDTH_MAX: Final = 18
CHECKED_SHOWN_MAX: Final = 12
REACHES_SHOWN_MAX: Final = 20
CHANGES_SHOWN_MAX: Final = 20
PLAN_LINES_MAX: Final = 3

MEASURE_WORDS: Final = {
    "os_pages_accessed": "OS pages accessed",
    "os_pages_dirty": "OS pages dirty",
    "instructions": "instructions",
    "used_bytes": "stable bytes in use",
}
"""What each measure counts."""

_SYMBOLS: Final = {"logarithmic": "ln n", "linear": "n", "n log n": "n·ln n", "quadratic": "n²"}

GLOSSARY: Final = (
    ("grows as", f"n^k by log-log least squares, k with {CONFIDENCE:.0%} confidence (Student's t)"),
    (
        "bends",
        "no power law: another law fits far better, and k in parentheses is an average only",
    ),
    (
        "interval",
        (
            f"{CONFIDENCE:.0%}, the hull over the laws that the sizes leave standing (AIC), none "
            f"taken to hold better than {MISFIT:.0%} or half a SQLite page, nor beyond the sizes "
            f"than to ±{DRIFT} of an exponent; wide where sizes are few"
        ),
    ),
    ("beyond", "nothing tells that growth goes on as it did: a check there does"),
)


def render_scale(
    found: ScaleResults, *, width: int, color_system: ColorSystem | None, settings: bool = False
) -> str:
    """Return the whole report of ``sqlstable scale`` as text.

    Args:
        found: What was fitted.
        width: Columns of the terminal.
        color_system: One of rich's, or None for plain text.
        settings: Whether all settings are named.
    """
    described = TraceSettings(dict(found.settings))
    lines = [
        *title(f"How the script grows with {clean(found.parameter)}", width),
        *settings_lines(described, width, all_settings=settings),
        *parameter_lines(found.fixed, width),
        *paragraph(f"{clean(found.parameter)}: {_sizes(found.sizes)}", width, style="bold"),
        *_few_lines(found, width),
        *_failure_lines(found, width),
        Text(),
        *_statement_lines(found, width),
        *_run_lines(found, width),
        Text(),
        *_limit_lines(found, width),
        *_cache_lines(found, width),
        *_plan_lines(found, width),
        *_check_lines(found, width),
        Text(),
        *(line for name, text in GLOSSARY for line in named_lines(name, text, width)),
        *provenance_lines([described], (), width),
    ]
    return render(lines, width=width, color_system=color_system)


def growth_words(series: Series | None) -> str:
    """Say how a measure grows, in a few characters.

    Examples:
        >>> from sqlstable.analysis.scaling.laws import fit
        >>> sizes, values = (1e3, 1e4, 1e5), (12.0, 120.0, 1200.0)
        >>> growth_words(Series("os_pages_accessed", sizes, values, fit(sizes, values)))
        'n^1.00 ±0.01'
        >>> growth_words(None), growth_words(Series("os_pages_dirty", sizes, values, None, "few"))
        ('-', 'few')
    """
    if series is None:
        return UNKNOWN
    if series.fit is None:
        return series.reason
    if series.fit.is_constant:
        return "not at all"
    exponent = series.fit.exponent
    if not exponent.is_power_law:
        return f"bends (n^{exponent.value:.2f})"
    return f"n^{exponent.value:.2f} ±{exponent.high - exponent.value:.2f}"


def law_words(found: Fit) -> str:
    """Spell the law that fits best.

    Examples:
        >>> from sqlstable.analysis.scaling.laws import fit
        >>> law_words(fit([1000, 10_000, 100_000], [17, 125, 1205]))
        '5.0 + 0.012·n'
    """
    law = found.best
    a, b = law.coefficients
    if law.name == POWER:
        return f"{_short(a)}·n^{b:.2f}"
    if law.name == CONSTANT:
        return _short(a)
    sign = "+" if b >= 0 else "-"
    return f"{_short(a)} {sign} {_short(abs(b))}·{_SYMBOLS[law.name]}"


def size_words(value: float) -> str:
    """Spell a size; what is rounded says so by having few digits.

    Examples:
        >>> size_words(1000), size_words(0.5), size_words(123_456_789)
        ('1,000', '0.5', '123.5M')
    """
    return f"{value:g}" if value < 1 else count(value)


def reach_words(reach: Reach, parameter: str, largest: float) -> str:
    """Say at which size a message, or the run, meets a limit.

    Args:
        reach: What was found.
        parameter: What the sizes are of.
        largest: The largest size that was measured.
    """
    what = f"{_named(reach.grown)}: {_limit_name(reach.limit)}"
    if reach.observed is not None:
        before, first = reach.observed
        between = f"between {size_words(before)} and " if before else "at or below "
        return f"{what} reached {between}{size_words(first)} {parameter}: seen, the message trapped"
    assert reach.size is not None
    low = UNKNOWN if reach.low is None else size_words(_rounded(reach.low))
    high = "no end" if reach.high is None else size_words(_rounded(reach.high))
    times = reach.size / largest
    beyond = f", {times:,.1f} times beyond what was measured" if times > 1 else ""
    at = size_words(_rounded(reach.size))
    return f"{what} reached at {at} {parameter} ({low} to {high}){beyond}"


# -- parts of the report -------------------------------------------------------------------------


def _sizes(sizes: Sequence[float]) -> str:
    return " · ".join(map(size_words, sizes))


def _few_lines(found: ScaleResults, width: int) -> list[Text]:
    if len(found.sizes) > 4:
        return []
    text = (
        f"{counted(len(found.sizes), 'size')} leave few degrees of freedom, so intervals are wide; "
        "more sizes narrow them"
    )
    return paragraph(text, width, style="yellow")


def _failure_lines(found: ScaleResults, width: int) -> list[Text]:
    lines: list[Text] = []
    for at, failure in found.failures:
        text = f"at {size_words(at)} the script failed: {clean(failure)}"
        lines += paragraph(text, width, style="bold red")
    return lines


def _statement_lines(found: ScaleResults, width: int) -> list[Text]:
    first, hidden, last = ends(found.statements)
    shown = [*first, *last]
    table = Table.holding(_columns(found, shown), shown, width)
    body = [line for row in first for line in table.row(row)]
    body += more_lines(hidden, "more statement", width)
    body += [line for row in last for line in table.row(row)]
    return table.framed(body)


def _columns(found: ScaleResults, shown: Sequence[Grown]) -> list[Column[Grown]]:
    columns = [
        number("#", lambda it: str(it.index), style="dim"),
        Column("statement", _text_cell, rest_min=TEXT_WIDTH_MIN),
        *_measure_columns("os_pages_accessed", "accessed", drop=6),
        *_measure_columns("os_pages_dirty", "dirty", drop=2),
    ]
    if any(it.of("instructions") for it in shown):
        columns += _measure_columns("instructions", "instr.", drop=5)
    return columns


def _measure_columns(measure: str, heading: str, *, drop: int) -> list[Column[Grown]]:
    return [
        number(f"{heading}\nlargest", lambda it: _largest(it, measure), drop=drop),
        words(
            f"{heading}\ngrows as",
            lambda it: [growth_words(it.of(measure))],
            width_max=GROWTH_WIDTH_MAX,
            drop=0 if measure == "os_pages_accessed" else drop - 1,
        ),
    ]


def _largest(grown: Grown, measure: str) -> float | str | None:
    series = grown.of(measure)
    return series.values[-1] if series is not None else None


def _text_cell(grown: Grown, width: int) -> Cell:
    return [Text(line) for line in shorten(clean(grown.text), width, lines_max=2)]


def _run_lines(found: ScaleResults, width: int) -> list[Text]:
    """Say by which laws the whole run grows."""
    said = [
        f"{MEASURE_WORDS[series.measure]} {law_words(series.fit)}"
        for series in found.run.series
        if series.fit is not None
    ]
    if not said:
        return []
    text = f"the whole run, n being {clean(found.parameter)}: {'; '.join(said)}"
    return paragraph(text, width, style="bold")


def _limit_lines(found: ScaleResults, width: int) -> list[Text]:
    parameter, largest = clean(found.parameter), found.sizes[-1]
    lines: list[Text] = []
    for reach in found.reaches[:REACHES_SHOWN_MAX]:
        style = "bold red" if reach.observed is not None else "bold"
        lines += paragraph(reach_words(reach, parameter, largest), width, style=style)
    lines += more_lines(max(0, len(found.reaches) - REACHES_SHOWN_MAX), "more limit", width)
    nearest = _nearest(found)
    if not found.reaches and nearest:
        text = (
            f"no limit is met within {EXTRAPOLATION_MAX:,.0f} times the largest size, as far as "
            f"the laws hold; nearest at {size_words(largest)}: {nearest}"
        )
        lines += paragraph(text, width, style="bold")
    return lines


def _cache_lines(found: ScaleResults, width: int) -> list[Text]:
    """Say where SQLite's cache does not hold the database any more."""
    at = found.cache.size()
    if at is None:
        return []
    text = (
        f"SQLite's cache, {size(found.cache.cache_bytes)}, holds the database up to about "
        f"{size_words(_rounded(at))} {clean(found.parameter)}; beyond, SQLite pages are read again "
        "that were cached, for which the upper ends of OS pages accessed allow"
    )
    return paragraph(text, width, style="yellow")


def _nearest(found: ScaleResults) -> str:
    uses = [(use, it) for it in found.messages for use in it.limits if use.limit]
    if not uses:
        return ""
    use, message = max(uses, key=lambda it: it[0].used / it[0].limit)
    return f"{_named(message)}, {limit_words(use)}"


def _plan_lines(found: ScaleResults, width: int) -> list[Text]:
    lines: list[Text] = []
    for grown, change in found.plan_changes[:CHANGES_SHOWN_MAX]:
        before, after = change.before_os_pages_accessed, change.after_os_pages_accessed
        jump = f"×{after / before:,.2f}" if before else "from none"  # noqa: RUF001  "times"
        text = (
            f"statement {grown.index}: the plan changed between {size_words(change.before_size)} "
            f"and {size_words(change.after_size)}; OS pages accessed {count(before)} → "
            f"{count(after)} ({jump}, size ×{change.after_size / change.before_size:,.2f})"  # noqa: RUF001  likewise
        )
        lines += paragraph(text, width, style="bold yellow")
        for name, plan in (("before", change.before_plan), ("after", change.after_plan)):
            lines += paragraph(f"{name}: {_plan_words(plan)}", width, indent=2)
    hidden = max(0, len(found.plan_changes) - CHANGES_SHOWN_MAX)
    return [*lines, *more_lines(hidden, "more change", width)]


def _plan_words(plan: Sequence[str]) -> str:
    shown = "; ".join(clean(line).strip() for line in plan[:PLAN_LINES_MAX]) or "none"
    return shown + "; …" * (len(plan) > PLAN_LINES_MAX)


def _check_lines(found: ScaleResults, width: int) -> list[Text]:
    check = found.check
    if check is None:
        return paragraph("not checked by a real run beyond these sizes", width, style="yellow")
    inside = sum(row.is_inside for row in check.rows)
    lines: list[Text] = []
    if check.failure is not None:
        text = f"at {size_words(check.size)} the script failed: {clean(check.failure)}"
        lines += paragraph(text, width, style="bold red")
    what = (
        f"checked by a real run at {size_words(check.size)}, "
        f"{check.size / found.sizes[-1]:,.1f} times the largest size"
        if check.failure is None
        else "of what it ran before that"
    )
    text = f"{what}: {inside} of {counted(len(check.rows), 'prediction')} inside the interval"
    is_right = check.failure is None and check.rows and inside == len(check.rows)
    style = "bold green" if is_right else "bold yellow"
    lines += paragraph(text, width, style=style)
    for row in list(_outside(check.rows))[:CHECKED_SHOWN_MAX]:
        lines += paragraph(f"outside: {checked_words(row)}", width, indent=2)
    for row in check.rows:
        if row.grown.level == "run" and row.is_inside:
            lines += paragraph(f"inside: {checked_words(row)}", width, indent=2)
    return lines


def _outside(rows: Sequence[Checked]) -> Iterator[Checked]:
    return (row for row in rows if not row.is_inside)


def checked_words(row: Checked) -> str:
    """Say what was predicted and what was measured."""
    spell = _bytes if row.measure == "used_bytes" else _whole
    said = row.prediction
    return (
        f"{_named(row.grown)}, {MEASURE_WORDS[row.measure]}: {spell(row.real)}; predicted "
        f"{spell(said.value)} ({spell(said.low)} to {spell(said.high)})"
    )


def _whole(value: float) -> str:
    return count(value if value < 10 and value != round(value) else round(value))


def _bytes(value: float) -> str:
    return size(round(value))


def _named(grown: Grown) -> str:
    if grown.level == "run":
        return "the whole run"
    label = f' "{clean(grown.label)}"' if grown.label is not None else ""
    return f"{grown.level} {grown.index}{label}"


def _limit_name(use: LimitUse) -> str:
    return (
        limit_words(LimitUse(use.name, use.limit, use.limit))
        .partition(" of ")[2]
        .rpartition(",")[0]
    )


def _short(value: float) -> str:
    """Spell a coefficient in two to four digits."""
    return count(round(value)) if abs(value) >= 1000 else f"{value:#.2g}".rstrip(".")


def _rounded(value: float) -> float:
    """Round to two digits: intervals are no better."""
    return float(f"{value:.2g}")
