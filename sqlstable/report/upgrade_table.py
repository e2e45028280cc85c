"""Ways of keeping data over an upgrade, as a table: what they cost, and where they end."""

import math
from collections.abc import Callable, Iterator
from typing import Final

from rich.text import Text

from sqlstable.analysis.scaling.laws import CONFIDENCE, Prediction
from sqlstable.analysis.upgrading.break_even import STORAGE_CYCLES, BreakEven, break_even
from sqlstable.analysis.upgrading.limits_reached import (
    CheckedLaw,
    FirstFailure,
    GrowthLaw,
    checked,
    first_failure,
    heap_law,
    upgrade_law,
)
from sqlstable.analysis.upgrading.upgrade_runs import (
    Mean,
    SizeRun,
    StrategyRun,
    UpgradeComparison,
    WayOfKeeping,
)
from sqlstable.report.frame import named_lines, settings_lines, title
from sqlstable.report.grid import ColorSystem, paragraph, render
from sqlstable.report.numbers import UNKNOWN, count, size
from sqlstable.report.table import Column, Table, number, words
from sqlstable.report.text import clean
from sqlstable.trace.model import TraceSettings

NAME_WIDTH_MIN: Final = 8

_Row = tuple[SizeRun, StrategyRun]


def render_upgrades(
    found: UpgradeComparison,
    *,
    width: int,
    color_system: ColorSystem | None,
    settings: bool = False,
) -> str:
    """Return the whole report of ``sqlstable upgrade compare`` as text.

    Args:
        found: What was measured.
        width: Columns of the terminal.
        color_system: One of rich's, or None for plain text.
        settings: Whether all settings are named.
    """
    described = TraceSettings(dict(found.settings))
    lines = [
        *title(f"Keeping data over an upgrade: {clean(found.script)}", width),
        *settings_lines(described, width, all_settings=settings),
        *(line for way in found.ways for line in named_lines(way.name, clean(way.summary), width)),
        Text(),
        *_measured_lines(found, width),
        *_failure_lines(found, width),
        Text(),
        *_growth_lines(found, width),
        *_check_lines(found, width),
        Text(),
        *_even_lines(found, width),
        Text(),
        *(line for name, text in _glossary(found) for line in named_lines(name, text, width)),
    ]
    return render(lines, width=width, color_system=color_system)


# -- what was measured ----------------------------------------------------------------------------


def _measured_lines(found: UpgradeComparison, width: int) -> list[Text]:
    checks = () if found.check is None else (found.check,)
    rows = [(at, run) for at in (*found.sizes, *checks) for run in at.runs]
    table = Table.holding(_columns(found), rows, width)
    body: list[Text] = []
    for index, row in enumerate(rows):
        if index and row[0] is not rows[index - 1][0]:
            body.append(Text())
        body += table.row(row)
    return table.framed(body)


def _columns(found: UpgradeComparison) -> list[Column[_Row]]:
    first = found.ways[0].name

    def at(row: _Row) -> str:
        if row[1].name != first or row[0].size is None:
            return ""
        return count(row[0].size)

    name = clean(found.size_name or "")
    columns: list[Column[_Row]] = [number(name, at)] if found.size_name else []
    return [
        *columns,
        number("database", lambda row: size(row[0].database_bytes) if row[1].name == first else ""),
        words("", lambda row: [row[1].name], width_max=12),
        number("upgrade", lambda row: _millions(row[1].upgrade)),
        number("OS pages", lambda row: _os_pages(row[1]), drop=3),
        number("peak heap", lambda row: size(row[1].heap_bytes)),
        number("a read", lambda row: _mean(row[1].reads), drop=2),
        number("a write", lambda row: _mean(row[1].writes), drop=1),
        Column("", lambda *_: [], rest_min=1),
    ]


def _millions(value: float | None) -> str:
    if value is None:
        return "failed"
    return f"{value / 1e6:,.1f} M" if value < 1e9 else f"{value / 1e9:,.2f} B"


def _os_pages(run: StrategyRun) -> str:
    return count(max(part.os_pages_accessed for part in run.parts)) if run.parts else UNKNOWN


def _mean(costs: tuple[int, ...]) -> str:
    return f"{Mean.of(costs).value / 1e6:,.2f} M" if costs else UNKNOWN


# -- where it ends --------------------------------------------------------------------------------


def _failure_lines(found: UpgradeComparison, width: int) -> list[Text]:
    lines: list[Text] = []
    checks = () if found.check is None else (found.check,)
    for at in (*found.sizes, *checks):
        for run in at.runs:
            if run.failure is not None:
                where = "" if at.size is None else f" at {count(at.size)} {found.size_name}"
                text = f"{run.name} failed{where}: {clean(run.failure)}"
                lines += paragraph(text, width, style="bold red")
    return lines


def _growth_lines(found: UpgradeComparison, width: int) -> list[Text]:
    if upgrade_law(found, found.ways[0].name) is None:
        text = "how it grows, and where it ends, needs three sizes or more of one workload"
        return paragraph(text, width, style="yellow")
    lines: list[Text] = []
    for way in found.ways:
        law, heap = upgrade_law(found, way.name), heap_law(found, way.name)
        text = (
            f"{way.name}: an upgrade grows as {grown_words(law)}, the heap as {grown_words(heap)}"
        )
        lines += paragraph(text, width, style="bold")
        lines += paragraph(failure_words(found, way), width, indent=2)
    return lines


def grown_words(grown: GrowthLaw | None) -> str:
    """Say how something grows beyond what it is without data, in a few characters."""
    if grown is None:
        return UNKNOWN
    exponent = grown.law.exponent
    half = (exponent.high - exponent.low) / 2
    bends = "" if exponent.is_power_law else " (bends)"
    return f"n^{abs(exponent.value):.2f} ±{half:.2f}{bends}"


def failure_words(found: UpgradeComparison, way: WayOfKeeping) -> str:
    """Say which limit a way of keeping data meets first, and where."""
    failure = first_failure(found, way)
    if failure is None:
        return "no limit is met, as far as the laws hold"
    at, data = failure.size, failure.database_bytes
    if math.isinf(at.value):
        return (
            f"fails first of {failure.cause} ({_limit(failure)}); these sizes are too small to say "
            "where: measure larger ones with --rows"
        )
    largest = max(it.size or 0 for it in found.sizes)
    return (
        f"fails first of {failure.cause} ({_limit(failure)}), with a database of "
        f"{_interval(data, _bytes)}, at {_interval(at, _rounded)} {found.size_name}: "
        f"{at.value / largest:,.0f} times beyond what was measured"
    )


def _interval(said: Prediction, spell: Callable[[float], str]) -> str:
    if said.low == said.high:
        return spell(said.value)
    high = "no end" if math.isinf(said.high) else spell(said.high)
    return f"{spell(said.value)} ({spell(said.low)} to {high})"


def _bytes(value: float) -> str:
    return size(max(0, round(value)))


def _limit(failure: FirstFailure) -> str:
    if failure.unit == "bytes":
        return size(failure.limit)
    return f"{count(failure.limit)} {failure.unit}"


def _rounded(value: float) -> str:
    """Spell a size in two digits: intervals are no better."""
    return count(float(f"{value:.2g}"))


def _check_lines(found: UpgradeComparison, width: int) -> list[Text]:
    check, rows = found.check, checked(found)
    if check is None or check.size is None or not rows:
        return paragraph("not checked by a real run beyond these sizes", width, style="yellow")
    inside = sum(row.is_inside for row in rows)
    style = "bold green" if inside == len(rows) else "bold yellow"
    text = (
        f"checked by a real run at {count(check.size)} {found.size_name}: {inside} of {len(rows)} "
        "predictions inside the interval"
    )
    lines = paragraph(text, width, style=style)
    for row in rows:
        lines += paragraph(_checked_words(row), width, indent=2)
    return lines


def _checked_words(row: CheckedLaw) -> str:
    spell = _millions if row.measure == "instructions" else _bytes
    side = "" if row.is_inside else "outside: "
    what = f"{row.name}, {_MEASURES[row.measure]}" if row.name else _MEASURES[row.measure]
    return f"{side}{what} {spell(row.real)}; predicted {_interval(row.said, spell)}"


_MEASURES: Final = {
    "instructions": "upgrade",
    "heap_bytes": "peak heap",
    "database_bytes": "the database",
}


# -- which is cheaper -----------------------------------------------------------------------------


def _even_lines(found: UpgradeComparison, width: int) -> list[Text]:
    stay = found.ways[0].name
    rates = f"{count(found.reads_per_day)} reads and {count(found.writes_per_day)} writes a day"
    lines = paragraph(f"break-even with {stay}, at {rates}", width, style="bold")
    at = found.sizes[-1]
    for way in found.ways[1:]:
        even = break_even(found, at, way.name)
        if even is not None:
            where = "" if at.size is None else f"{count(at.size)} {found.size_name}, "
            lines += paragraph(f"{where}{way.name}: {even_words(even)}", width, indent=2)
    if len(found.sizes) > 1:
        lines += paragraph("at each other size: --format csv", width, indent=2)
    return lines


def even_words(even: BreakEven) -> str:
    """Say up to how many upgrades a day a way of keeping data is cheaper than staying."""
    verb = "spares" if even.spared.value >= 0 else "costs"
    more = "" if even.spared.value >= 0 else " more"
    is_one = math.isinf(even.spared.half_width)
    half = "" if is_one else f" ±{_millions(even.spared.half_width)}"
    day = f"{verb} {_millions(abs(even.spared.value))}{half}{more} a day"
    storage = f"{_millions(abs(even.storage))} {'more' if even.storage >= 0 else 'less'} to hold"
    said = f"{day}, {storage}, {_millions(even.extra)} more an upgrade"
    if is_one:
        about = f"about {_rate(even.upgrades_per_day)}" if even.upgrades_per_day else "no"
        return (
            f"cheaper up to {about} upgrades a day; {said}; one message says nothing of others: "
            "repeat it (--@ repeat 20) for an interval"
        )
    if even.high == 0:
        return f"never cheaper; {said}"
    if even.upgrades_per_day == 0:
        return f"not cheaper, but for an error up to {_rate(even.high)} upgrades a day; {said}"
    return (
        f"cheaper up to {_rate(even.upgrades_per_day)} upgrades a day ({_rate(even.low)} to "
        f"{_rate(even.high)}); {said}"
    )


def _rate(value: float) -> str:
    if math.isinf(value):
        return "any number of"
    return f"{value:.2g}" if 0 < value < 10 else count(float(f"{value:.2g}"))


def _glossary(found: UpgradeComparison) -> Iterator[tuple[str, str]]:
    settings = dict(found.settings)
    text = (
        "instructions of pre_upgrade and post_upgrade together, computation, stable memory and "
        f"heap, at prices {clean(str(settings['price_regime']))}; compiling the module comes on "
        "top, for each alike"
    )
    yield "upgrade", text
    yield "OS pages", "of stable memory, accessed by the part that accesses more"
    text = (
        "the largest that it was, messages included: a heap never shrinks; one allocator for all, "
        "without rounding up"
    )
    yield "peak heap", text
    text = (
        "instructions of a message, the mean over the script's, warm; a query that is not "
        "replicated costs no cycles: give --reads-per-day 0"
    )
    yield "a read", text
    text = (
        f"n^k beyond what it is without data, k with {CONFIDENCE:.0%} confidence (Student's t); "
        f"limits of {clean(str(settings['limits']))}"
    )
    yield "grows as", text
    text = (
        f"heap and stable memory, at {count(STORAGE_CYCLES)} cycles a GiB and second; an "
        "instruction costs one cycle"
    )
    yield "to hold", text
    text = (
        "an upgrade to the same module; instructions by the weights in the replica's source, not "
        "by a replica; the limit of a slice (2 B) on a single call is left out"
    )
    yield "modelled", text
