"""``sqlstable report``: any view of a trace file, or of what changed between two."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sqlstable.cli.exporting import Export, check_export, write_export
from sqlstable.cli.failures import UsageError
from sqlstable.cli.held_against import HeldAgainst, MessagesPerRoundOption, RelimitOption
from sqlstable.cli.html_page import check_place, write_page
from sqlstable.cli.opened_trace import (
    ComparePricesOption,
    Repricing,
    check_alone,
    opened_trace,
    write_price_comparison,
)
from sqlstable.cli.options import (
    AssumeOption,
    ForceOption,
    HtmlOption,
    MapByOption,
    MapCurveOption,
    MapOption,
    OutputOption,
    PictureOption,
    PlanOption,
    ReportFormat,
    ReportFormatOption,
    ReportViewOption,
    RepriceOption,
    SettingsOption,
    chosen_map,
)
from sqlstable.cli.output import has_half_blocks, screen, write, write_data
from sqlstable.cli.places import check_regular
from sqlstable.cli.still_pictures import check_pictures, write_pictures
from sqlstable.report.views import By, view_named

if TYPE_CHECKING:
    from sqlstable.report.view import Look
    from sqlstable.trace.format.reader import Trace


def report_trace(  # noqa: PLR0913  each is an option
    *,
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="Written by run --trace.")],
    other: Annotated[
        Path | None,
        typer.Option("--compare", metavar="OTHER", help="A later trace: shows what changed to it."),
    ] = None,
    export: Annotated[
        Export | None,
        typer.Option(
            help="accesses (in order), statements, messages: one row each, as CSV or with --format "
            "parquet. chrome-trace, speedscope: messages on one axis, as JSON for Perfetto or "
            "speedscope.app."
        ),
    ] = None,
    html: HtmlOption = None,
    picture: PictureOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    output_format: ReportFormatOption = "table",
    by: ReportViewOption = None,
    limits: RelimitOption = None,
    messages_per_round: MessagesPerRoundOption = None,
    prices: RepriceOption = None,
    assume: AssumeOption = None,
    compares_prices: ComparePricesOption = False,
    is_map: MapOption = False,
    map_by: MapByOption = None,
    map_curve: MapCurveOption = None,
    plan: PlanOption = False,
    all_settings: SettingsOption = False,
) -> None:
    """Show a trace file: what was touched, and whose it was."""
    from sqlstable.report.view import Look

    if compares_prices:
        alone = {"--compare": other, "--export": export, "--html": html, "--picture": picture}
        held_at = {"--prices": prices, "--limits": limits, "--map": is_map, "--plan": plan}
        check_alone({**alone, **held_at, "--messages-per-round": messages_per_round})
        write_price_comparison(trace, output_format, by, assume)
        return
    repricing = Repricing(prices, assume or []) if prices or assume else None
    by, drawn = chosen_map(by or "statement", is_map=is_map, by=map_by, curve=map_curve)
    held = HeldAgainst.chosen(limits, messages_per_round, by)
    look = Look(plan=plan, settings=all_settings, map=drawn)
    check_plan(by, look)
    _check_one_output(html, export, picture, output_format, by)
    _check_force(html, picture, output, force=force)
    if other is not None:
        _check_comparison(export, picture, by)
    check_export(export, output_format, output, force=force)
    for path in filter(None, (trace, other)):
        check_regular(path)
    check_place(html, force=force)
    check_pictures(picture, output if export is None else None, force=force)
    with opened_trace(trace, repricing) as recorded, held.of(recorded) as first:
        if other is not None:
            with opened_trace(other, repricing) as later, held.of(later) as second:
                if html is not None:
                    write_comparison_page((first, second), (trace, other), html, force=force)
                else:
                    write_comparison((first, second), (trace, other), output_format, look)
        elif html is not None:
            write_trace_page(first, html, name=trace.name, force=force)
        elif picture is not None and output is not None:
            write_pictures(first, picture, output, force=force)
        elif export is not None:
            write_export(first, export, output_format, output, force=force)
        else:
            write_report(first, output_format, by, look)


def _check_force(
    html: Path | None, picture: str | None, output: Path | None, *, force: bool
) -> None:
    if force and html is None and picture is None and output is None:
        raise UsageError("--force concerns the file of --html or --output; name one, or leave it")


def _check_comparison(export: str | None, picture: str | None, by: By) -> None:
    """Refuse what a comparison of two traces does not have."""
    if export is not None or picture is not None:
        option = "--export" if picture is None else "--picture"
        raise UsageError(f"--compare and {option} do not go together; leave one of them out")
    if by != "statement":
        raise UsageError(f"--compare goes statement by statement, not --by {by}; leave --by out")


def _check_one_output(
    html: Path | None,
    export: str | None,
    picture: str | None,
    output_format: ReportFormat,
    by: By,
) -> None:
    """Refuse two outputs at once; an export knows the one format that it may be given."""
    options = {
        "--html": html is not None,
        f"--picture {picture}": picture is not None,
        f"--by {by}": picture is not None and by != "statement",
        f"--export {export}": export is not None,
        f"--format {output_format}": output_format != "table" and export is None,
    }
    given = [option for option, is_given in options.items() if is_given]
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]} do not go together; leave one of them out")


def check_plan(view: By, look: "Look") -> None:
    """Refuse plans where no row is executed by one.

    Raises:
        UsageError: The rows are owners or messages.
    """
    if look.plan and not view_named(view).has_plans:
        raise UsageError(f"--plan goes with statements and shapes, not --by {view}; leave one out")


def write_report(trace: "Trace", output_format: ReportFormat, view: By, look: "Look") -> None:
    """Write a trace on stdout."""
    from sqlstable.cli.progress import work_shown
    from sqlstable.report.as_table import render_table
    from sqlstable.trace.format.stream import StreamedTrace

    match output_format:
        case "table":
            target = screen()
            with work_shown("reading the trace"):
                text = render_table(
                    # What goes through all statements more than once is quicker with all in memory.
                    StreamedTrace(trace) if view_named(view).is_one_pass else trace,
                    by=view,
                    width=target.width,
                    color_system=target.color_system,
                    plan=look.plan,
                    settings=look.settings,
                    map_look=replace(look.map, has_half_blocks=has_half_blocks(target)),
                )
            write(text)
        case "json":
            from sqlstable.report.as_json import render_json

            render = view_named(view).json or render_json
            write_data(render(StreamedTrace(trace)))
        case "csv":
            from sqlstable.report.as_csv import render_csv

            write_data([render_csv(trace, by=view)])


def write_trace_page(trace: "Trace", page: Path, *, name: str, force: bool) -> None:
    """Write a trace as a page for a browser.

    Args:
        trace: What was recorded.
        page: Where the page goes; ``-`` is stdout.
        name: What the page is called.
        force: Whether an old page may be replaced.
    """
    from sqlstable.report.html.as_html import render_html

    write_page(page, lambda: render_html(trace, name=name), force=force)


def write_comparison_page(
    traces: "tuple[Trace, Trace]", paths: tuple[Path, Path], page: Path, *, force: bool
) -> None:
    """Write what changed from one trace to another as a page for a browser."""
    from sqlstable.report.html.as_html import render_comparison_html

    names = (paths[0].name, paths[1].name)
    write_page(page, lambda: render_comparison_html(*traces, names=names), force=force)


def write_comparison(
    traces: "tuple[Trace, Trace]",
    paths: tuple[Path, Path],
    output_format: ReportFormat,
    look: "Look",
) -> None:
    """Write what changed from one trace to another on stdout."""
    from sqlstable.analysis.compare import compare
    from sqlstable.report.as_csv import render_comparison_csv
    from sqlstable.report.as_json import render_comparison_json
    from sqlstable.report.comparison import render_comparison
    from sqlstable.report.text import clean

    comparison = compare(*traces)
    match output_format:
        case "table":
            target = screen()
            before, after = (clean(str(path)) for path in paths)
            text = render_comparison(
                comparison,
                width=target.width,
                color_system=target.color_system,
                plan=look.plan,
                settings=look.settings,
            )
            write(f"before: {before}\nafter:  {after}\n\n{text}")
        case "json":
            write_data([render_comparison_json(comparison)])
        case "csv":
            write_data([render_comparison_csv(comparison)])
