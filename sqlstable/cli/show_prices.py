"""``sqlstable prices``: the price lists with their sources, and what a total rests on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sqlstable.cli.failures import UsageError
from sqlstable.cli.opened_trace import opened_trace
from sqlstable.cli.options import AssumeOption, chosen_prices
from sqlstable.cli.output import screen, write, write_data

if TYPE_CHECKING:
    from sqlstable.ic.prices import PriceRegime

ListArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME|DATE]", help="One list in detail, with its weights. [default: all lists]"
    ),
]
SensitivityOption = Annotated[
    Path | None,
    typer.Option(
        "--sensitivity",
        metavar="TRACE",
        help="How far the total of a trace moves with each assumption, and with all of them; "
        "under the list that is named, or the one that it was recorded under.",
    ),
]
DataFormatOption = Annotated[
    Literal["table", "json"],
    typer.Option("--format", metavar="table|json", help="A table to read, or data."),
]


def show_prices(
    *,
    name: ListArgument = None,
    sensitivity: SensitivityOption = None,
    assume: AssumeOption = None,
    output_format: DataFormatOption = "table",
) -> None:
    """Show the price lists: dates, formulas, sources, and what they assume."""
    from sqlstable.ic.assumptions import assumed, parsed_assumptions
    from sqlstable.ic.prices import PRICE_REGIMES
    from sqlstable.report.price_json import price_lists_json
    from sqlstable.report.price_lists import render_price_lists

    if sensitivity is not None:
        if assume:
            raise UsageError(
                "--sensitivity tries all that can be assumed, so that --assume says nothing; leave "
                "one of the two out"
            )
        _show_sensitivity(sensitivity, name, is_json=output_format == "json")
        return
    lists: tuple[PriceRegime, ...]
    if name is None:
        values = parsed_assumptions(assume or [])
        lists = tuple(assumed(it, values) for it in PRICE_REGIMES.values())
    else:
        lists = (chosen_prices(name, assume, way="say sqlstable prices"),)
    if output_format == "json":
        write_data([price_lists_json(lists, weights=name is not None)])
        return
    target = screen()
    write(
        render_price_lists(
            lists,
            width=target.width,
            color_system=target.color_system,
            weights=name is not None,
        )
    )


def _show_sensitivity(path: Path, name: str | None, *, is_json: bool) -> None:
    from sqlstable.analysis.pricing.price_comparison import sensitivity
    from sqlstable.analysis.pricing.trace_prices import recorded_prices
    from sqlstable.ic.prices import regime_of
    from sqlstable.report.price_json import sensitivity_json
    from sqlstable.report.price_table import render_sensitivity
    from sqlstable.trace.format.stream import StreamedTrace

    asked = None if name is None else chosen_prices(name, None)
    with opened_trace(path) as trace:
        regime = asked or recorded_prices(trace.settings) or regime_of(None)
        found = sensitivity(StreamedTrace(trace), regime)
    if is_json:
        write_data([sensitivity_json(found)])
        return
    target = screen()
    write(render_sensitivity(found, width=target.width, color_system=target.color_system))
