"""Traces as commands take them: opened, under other prices where some were asked for."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from sqlstable.cli.failures import UsageError
from sqlstable.cli.options import ReportFormat, chosen_prices, note_native_reach
from sqlstable.cli.output import screen, write, write_data
from sqlstable.cli.places import check_regular
from sqlstable.errors import TraceError
from sqlstable.report.views import By

if TYPE_CHECKING:
    from sqlstable.ic.prices import PriceRegime
    from sqlstable.trace.format.reader import Trace

ComparePricesOption = Annotated[
    bool,
    typer.Option(
        "--compare-prices",
        help="What every price list makes of the trace, part by part; with --by also of each "
        "statement, shape or message.",
    ),
]


class Repricing(NamedTuple):
    """Other prices than those that a trace was recorded under."""

    prices: str | None
    assume: Sequence[str]

    def regime(self, trace: "Trace") -> "PriceRegime":
        """Return them; what is not said is as it was recorded."""
        from sqlstable.analysis.pricing.trace_prices import recorded_prices

        before = recorded_prices(trace.settings)
        if self.prices is not None or before is None:
            return chosen_prices(self.prices, self.assume)
        named = {text.partition("=")[0] for text in self.assume}
        kept = [f"{name}={value}" for name, value in before.assumptions if name not in named]
        return chosen_prices(before.name, [*kept, *self.assume])


@contextmanager
def opened_trace(path: Path, repricing: Repricing | None = None) -> "Iterator[Trace]":
    """Open a trace, under other prices where some were asked for."""
    from sqlstable.trace.format.reader import open_trace

    check_regular(path)
    with open_trace(path) as trace, found_sound(path):
        if repricing is None:
            yield trace
            return
        from sqlstable.analysis.pricing.repriced import repriced
        from sqlstable.cli.progress import work_shown

        regime = repricing.regime(trace)
        if trace.settings.values.get("engine") == "native":
            note_native_reach(repricing.assume, regime)
        with work_shown("pricing the trace"):
            found = repriced(trace, regime)
        with found:
            yield found


def check_alone(given: Mapping[str, object]) -> None:
    """Refuse what a comparison of prices has no use for."""
    for option, value in given.items():
        if value is not None and value is not False:
            raise UsageError(
                f"--compare-prices and {option} do not go together; leave one of them out"
            )


def write_price_comparison(
    path: Path, output_format: ReportFormat, by: By | None, assume: Sequence[str] | None
) -> None:
    """Write what each price list makes of a trace on stdout.

    Raises:
        UsageError: Rows or format are none of a comparison.
    """
    from sqlstable.analysis.pricing.price_comparison import COMPARED_BY, compare_prices
    from sqlstable.cli.progress import work_shown
    from sqlstable.ic.assumptions import parsed_assumptions
    from sqlstable.report.price_json import price_comparison_csv, price_comparison_json
    from sqlstable.report.price_table import render_price_comparison
    from sqlstable.trace.format.stream import StreamedTrace

    rows = next((it for it in COMPARED_BY if it == (by or "trace")), None)
    if rows is None:
        raise UsageError(
            f"--compare-prices goes by {', '.join(COMPARED_BY[1:])}, not --by {by}; leave one out"
        )
    values = parsed_assumptions(assume or [])
    with opened_trace(path) as trace, work_shown("pricing the trace"):
        found = compare_prices(StreamedTrace(trace), by=rows, assume=values)
    match output_format:
        case "table":
            target = screen()
            write(
                render_price_comparison(found, width=target.width, color_system=target.color_system)
            )
        case "json":
            write_data([price_comparison_json(found)])
        case "csv":
            write_data(price_comparison_csv(found))
        case _:
            raise UsageError("--format parquet is of an --export; use table, json or csv")


@contextmanager
def found_sound(path: Path) -> Iterator[None]:
    """Take what breaks over a trace for its damage: files come from anywhere."""
    try:
        yield
    except (AssertionError, LookupError, TypeError, ValueError) as error:
        raise TraceError(
            f"{path} is damaged: its records contradict each other "
            f"({type(error).__name__}: {error})"
        ) from error
