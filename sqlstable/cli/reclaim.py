"""``sqlstable reclaim``: what is free in a database, and what giving it back costs and leaves."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sqlstable.cli.failures import RunError, UsageError
from sqlstable.cli.many_runs import whole_numbers
from sqlstable.cli.options import (
    LATEST,
    BucketPagesOption,
    CacheSizeOption,
    EngineOption,
    Format,
    FormatOption,
    LayoutOption,
    LimitsOption,
    PresetOption,
    SettingsOption,
    chosen_limits,
)
from sqlstable.cli.output import screen, write, write_data
from sqlstable.cli.places import check_regular
from sqlstable.cli.progress import WorkProgress, engine_notes

if TYPE_CHECKING:
    from sqlstable.analysis.reclaimable import ReclaimReport


def reclaim_space(  # noqa: PLR0913  each is an option
    *,
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="An image of stable memory, a snapshot's folder, or a SQLite database; it is only "
            "read, and everything is tried on copies.",
        ),
    ],
    step: Annotated[
        str | None,
        typer.Option(
            "--step",
            metavar="COUNT,…",
            help="SQLite pages that a step of incremental vacuum cuts off. "
            "[default: 100,1000,10000]",
        ),
    ] = None,
    engine: EngineOption = "native",
    layout: LayoutOption = None,
    preset: PresetOption = None,
    cache_size: CacheSizeOption = None,
    bucket_pages: BucketPagesOption = None,
    limits: LimitsOption = LATEST,
    output_format: FormatOption = "table",
    all_settings: SettingsOption = False,
) -> None:
    """Say what a database has free, what gives it back at what cost, and what stays to be paid."""
    from sqlstable.workload.reclaiming import STEPS, reclaim

    if not path.is_dir():
        check_regular(path)
    if not path.exists():
        raise UsageError(f"there is no file {path}")
    steps = whole_numbers("--step", step) or STEPS
    with engine_notes(), WorkProgress() as progress:
        report = reclaim(
            path,
            engine=engine,
            layout=layout,
            preset=preset,
            cache_size=cache_size,
            bucket_pages=bucket_pages,
            limits=chosen_limits(limits),
            steps=steps,
            on_way=lambda name: progress.show(f"trying {name}"),
        )
    _write(report, output_format, all_settings=all_settings)
    if report.vacuum.failure is not None:
        raise RunError(f"VACUUM failed on a copy of {path}: {report.vacuum.failure}")


def _write(report: "ReclaimReport", output_format: Format, *, all_settings: bool) -> None:
    match output_format:
        case "table":
            from sqlstable.report.reclaim_table import render_reclaim

            target = screen()
            write(
                render_reclaim(
                    report,
                    width=target.width,
                    color_system=target.color_system,
                    settings=all_settings,
                )
            )
        case "json":
            from sqlstable.report.reclaim_data import render_reclaim_json

            write_data(render_reclaim_json(report))
        case "csv":
            from sqlstable.report.reclaim_data import render_reclaim_csv

            write_data(render_reclaim_csv(report))
