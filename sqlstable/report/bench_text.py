"""Benchmarks as text: what ``canbench`` prints, and below it what the message touched.

Lines of a benchmark, the summary and the table of changes are those that users of ``canbench``
read, and scripts search; ``message:`` is a further part of each benchmark.

Source: dfinity/canbench canbench-bin/src/{print_benchmark,summary,table,fmt}.rs @ f35fd97, 2026;
the words of the lines only.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from rich.text import Text

from sqlstable.analysis.benching.bench_changes import (
    BenchEntry,
    ChangeKind,
    MetricChange,
    MetricSummary,
    Spread,
    significant,
    status_mark,
    summaries,
)
from sqlstable.analysis.benching.measured_bench import METRICS, BenchResult, Measurement, Touched
from sqlstable.report.grid import ColorSystem, render
from sqlstable.report.text import clean

SEPARATOR: Final = "-" * 51
"""Between the parts of the output."""

ROWS_SHOWN_MAX: Final = 50

_STEPS: Final = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))
_EXACT_BELOW: Final = 10_000
"""Smaller numbers are shown whole where a benchmark is shown."""

_STYLES: Final[Mapping[ChangeKind, str]] = {"regressed": "bold red", "improved": "bold green"}

_SIGNS: Final[Mapping[ChangeKind, str]] = {
    "regressed": "🔴",
    "improved": "🟢",
    "new": "\N{HEAVY PLUS SIGN}",
}
_WORDS: Final[Mapping[ChangeKind, str]] = {
    "regressed": "regressions",
    "improved": "improvements",
    "new": "new benchmarks",
}
_ALONE: Final[Mapping[ChangeKind, str]] = {
    "regressed": "Regressions detected",
    "improved": "Improvements detected",
    "new": "New benchmarks added",
}

_COLUMNS: Final = ("status", "name", "calls", "ins", "ins Δ%", "HI", "HI Δ%", "SMI", "SMI Δ%")
_LEGEND: Final = (
    "ins = instructions, HI = heap_increase, SMI = stable_memory_increase, Δ% = percent change"
)


def render_bench(lines: Iterable[Text], color_system: ColorSystem | None) -> str:
    r"""Turn lines into text that is as wide as they are.

    Examples:
        >>> render_bench([Text("Benchmark: put")], None)
        'Benchmark: put\n'
    """
    kept = list(lines)
    width = max((line.cell_len for line in kept), default=1)
    return render(kept, width=max(width, 1), color_system=color_system)


def bench_lines(
    name: str, new: BenchResult, old: BenchResult | None, noise_percent: float
) -> Iterator[Text]:
    """Yield the lines of one benchmark."""
    title = Text("Benchmark: ").append(clean(name), style="bold")
    yield title if old is not None else title.append(" ").append("(new)", style="bold blue")
    before = {} if old is None else dict(old.measurements())
    for scope, measured in new.measurements():
        if scope is None:
            yield Text("  total:")
        else:
            yield Text()
            yield Text(f"  {clean(scope)} (scope):")
        kept = before.get(scope)
        names = METRICS if scope is None else ("calls", *METRICS)
        yield from (_metric_line(metric, measured, kept, noise_percent) for metric in names)
    if new.touched is not None:
        yield from _touched_lines(new.touched)


def _metric_line(
    metric: str, new: Measurement, old: Measurement | None, noise_percent: float
) -> Text:
    value = new.value(metric)
    shown = _number(value) + (" pages" if metric.endswith("increase") else "")
    if old is None:
        return Text(f"    {metric}: {shown} (new)")
    change = MetricChange(value, old.value(metric))
    percent = change.percent
    assert percent is not None
    if percent == 0:
        return Text(f"    {metric}: {shown} (no change)")
    if math.isinf(percent):
        return Text("    ").append(f"{metric}: {shown} (regressed from 0)", style="bold red")
    kind = change.kind(noise_percent)
    if kind == "unchanged":
        return Text(f"    {metric}: {shown} ({percent:.2f}%) (change within noise threshold)")
    words = f"{metric}: {shown} ({kind} by {abs(percent):.2f}%)"
    return Text("    ").append(words, style=_STYLES[kind])


def _touched_lines(touched: Touched) -> Iterator[Text]:
    yield Text()
    yield Text("  message:")
    regions = _pair(touched.regions_accessed, touched.regions_dirty)
    heap_regions = _pair(touched.heap_regions_accessed, touched.heap_regions_dirty)
    rows = (
        ("instructions", _number(touched.instructions)),
        ("instructions at today's prices", _number(touched.instructions_today)),
        ("cycles as an update, today", _number(touched.cycles)),
        ("stable OS pages", _pair(touched.os_pages_accessed, touched.os_pages_dirty)),
        ("stable regions of 64 KiB", regions),
        ("heap OS pages", _pair(touched.heap_os_pages_accessed, touched.heap_os_pages_dirty)),
        ("heap regions of 64 KiB", heap_regions),
    )
    yield from (Text(f"    {name}: {value}") for name, value in rows)


def _pair(accessed: int, dirty: int) -> str:
    return f"{_number(accessed)} accessed, {_number(dirty)} dirty"


def _number(value: int) -> str:
    """Shorten a number as ``canbench`` does.

    Examples:
        >>> _number(9999), _number(3_390_000)
        ('9999', '3.39 M')
    """
    if value < _EXACT_BELOW:
        return str(value)
    return _scaled(value, "{:.2f} {}")


def _scaled(value: float, form: str) -> str:
    for step, unit in _STEPS:
        if abs(value) >= step:
            return form.format(value / step, unit)
    return str(value)


def summary_lines(entries: Sequence[BenchEntry], noise_percent: float) -> Iterator[Text]:
    """Yield how each metric changed over all benchmarks."""
    yield Text("Summary:")
    for index, summary in enumerate(summaries(entries, noise_percent)):
        if index:
            yield Text()
        yield from _metric_summary(summary)


def _metric_summary(summary: MetricSummary) -> Iterator[Text]:
    counts = summary.counts
    yield Text(f"  {summary.metric}:")
    yield Text(f"    status:   {_status(counts)}")
    total = sum(counts.values())
    parts = " | ".join(f"{kind} {count}" for kind, count in counts.items())
    yield Text(f"    counts:   [total {total} | {parts}]")
    yield Text(f"    change:   {_spread(summary.delta, _human_delta)}")
    yield Text(f"    change %: {_spread(summary.percent, _human_percent)}")


def _status(counts: Mapping[ChangeKind, int]) -> str:
    there = [kind for kind in _SIGNS if counts[kind]]
    if not there:
        return "No significant changes 👍"
    signs = "".join(_SIGNS[kind] for kind in there)
    if len(there) == 1:
        return f"{_ALONE[there[0]]} {signs}"
    words = [_WORDS[kind] for kind in there]
    text = " and ".join(words) if len(words) == 2 else f"{words[0]}, {words[1]}, and {words[2]}"
    return f"{text.capitalize()} {signs}"


def _spread(spread: Spread | None, shown: Callable[[float], str]) -> str:
    if spread is None:
        return "n/a"
    parts = (
        ("max", spread.maximum),
        ("p75", spread.p75),
        ("median", spread.median),
        ("p25", spread.p25),
        ("min", spread.minimum),
    )
    return f"[{' | '.join(f'{name} {shown(value)}' for name, value in parts)}]"


def _human_delta(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:+.0f}" if abs(value) < 1000 else _scaled(value, "{:+.2f}{}")


def _human_percent(value: float) -> str:
    return f"{value:.2f}%" if abs(value) < 0.01 else f"{value:+.2f}%"


def change_table(entries: Sequence[BenchEntry], noise_percent: float) -> Iterator[Text]:
    """Yield the table of what is new or changed; nothing where nothing is."""
    found = significant(entries, noise_percent)
    if not found:
        return
    yield Text("Only significant changes:")
    yield from _grid([_row(it, noise_percent) for it in found])
    yield Text()
    yield Text(_LEGEND)


def _row(entry: BenchEntry, noise_percent: float) -> list[str]:
    calls = "" if entry.scope is None else _human(entry.changes["calls"].current)
    row = [status_mark(entry, noise_percent), clean(entry.name), calls]
    for metric in METRICS:
        change = entry.changes[metric]
        percent = change.percent
        row += [_human(change.current), "" if percent is None else _human_percent(percent)]
    return row


def _human(value: int) -> str:
    return _scaled(value, "{:.2f}{}")


def _grid(rows: list[list[str]]) -> Iterator[Text]:
    if len(rows) > ROWS_SHOWN_MAX:
        half = ROWS_SHOWN_MAX // 2
        left_out = len(rows) - ROWS_SHOWN_MAX
        words = f"... {left_out} row{'' if left_out == 1 else 's'} omitted ..."
        rows = [*rows[:half], ["...", words, *[""] * 7], *rows[half - ROWS_SHOWN_MAX :]]
    # Characters of UTF-8 in bytes: the widths that scripts which cut these tables know.
    widths = [
        max(len(_COLUMNS[index].encode()), *(len(row[index].encode()) for row in rows))
        for index in range(len(_COLUMNS))
    ]
    yield _grid_line(_COLUMNS, widths)
    yield Text("|" + "".join(f"{'-' * (width + 2)}|" for width in widths))
    yield from (_grid_line(row, widths) for row in rows)


def _grid_line(row: Sequence[str], widths: Sequence[int]) -> Text:
    line = "|"
    for index, (text, width) in enumerate(zip(row, widths, strict=True)):
        place = text.center if index == 0 else text.ljust if index == 1 else text.rjust
        line += f" {place(width)} |"
    return Text(line)


def prices_line(regime: str) -> str:
    """Say what instructions were counted by.

    Examples:
        >>> prices_line("wasm-native")[:19]
        'Prices: wasm-native'
    """
    words = {
        "wasm-native": "as published figures, which PocketIC 13 counts (--limits latest: today's)",
        "memory-tracker": "today's; published figures have those of --limits 2026-05-06",
    }
    return f"Prices: {regime}, {words.get(regime, 'an older list')}"
