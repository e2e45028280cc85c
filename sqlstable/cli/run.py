"""``sqlstable run``: run a workload script, and report what each statement touched."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from sqlstable.canister.choices import Choices
from sqlstable.cli.failures import UsageError
from sqlstable.cli.html_page import STDOUT, check_place
from sqlstable.cli.options import (
    LATEST,
    NO_LIMITS,
    AllowOpenTransactionOption,
    AssumeOption,
    BucketPagesOption,
    BuildOption,
    BytesChangedOption,
    CacheOption,
    CacheSizeOption,
    DatabaseOption,
    DepthOption,
    DurabilityOption,
    ForceOption,
    ForeignKeysOption,
    FormatOption,
    GrowthOption,
    HtmlOption,
    ImageOption,
    JournalModeOption,
    KeepGoingOption,
    LayoutOption,
    LimitsOption,
    MapByOption,
    MapOption,
    MeasureOption,
    NoEnforceOption,
    NowOption,
    OnConnectOption,
    OutputOption,
    OwnersOption,
    PageSizeOption,
    PictureOption,
    PlanOption,
    PresetOption,
    PricesOption,
    RowsOption,
    RunEngineOption,
    SeedOption,
    SettingsOption,
    TraceOption,
    TrackHeapOption,
    ViewOption,
    check_durability,
    chosen_limits,
    chosen_map,
    chosen_prices,
    note_native_reach,
)
from sqlstable.cli.places import check_regular
from sqlstable.cli.report import check_plan
from sqlstable.cli.running import Output, Pictures, Workload, run
from sqlstable.cli.script_params import (
    OneParamOption,
    ScriptArgument,
    ShowOption,
    lists_ready,
    single_params,
)
from sqlstable.cli.script_source import shows_script
from sqlstable.cli.still_pictures import check_pictures
from sqlstable.layout.layouts import layout_named
from sqlstable.report.view import Look

_KEYWORDS: Final = (
    *("engine", "measure", "build", "track_heap", "layout", "preset", "page_size", "cache_size"),
    *("journal_mode", "bucket_pages", "growth", "depth", "owners", "bytes_changed", "durability"),
    *("now", "seed", "foreign_keys"),
)
"""Options that the canister takes as they are, under their own names."""

_OF_WORKLOAD: Final = (
    *("script", "database", "cache", "on_connect", "keep_going", "allow_open_transaction"),
)
"""Likewise what it is that runs."""


def run_script(  # noqa: PLR0913  each is an option
    *,
    script: ScriptArgument,
    param: OneParamOption = None,
    show: ShowOption = False,
    database: DatabaseOption = None,
    on_connect: OnConnectOption = None,
    image: ImageOption = None,
    durability: DurabilityOption = None,
    layout: LayoutOption = None,
    preset: PresetOption = None,
    page_size: PageSizeOption = None,
    cache_size: CacheSizeOption = None,
    journal_mode: JournalModeOption = None,
    bucket_pages: BucketPagesOption = None,
    growth: GrowthOption = None,
    foreign_keys: ForeignKeysOption = None,
    now: NowOption = None,
    seed: SeedOption = None,
    engine: RunEngineOption = "native",
    measure: MeasureOption = "auto",
    build: BuildOption = None,
    track_heap: TrackHeapOption = None,
    limits: LimitsOption = LATEST,
    prices: PricesOption = None,
    assume: AssumeOption = None,
    no_enforce: NoEnforceOption = False,
    cache: CacheOption = None,
    keep_going: KeepGoingOption = False,
    allow_open_transaction: AllowOpenTransactionOption = False,
    trace: TraceOption = None,
    html: HtmlOption = None,
    picture: PictureOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    depth: DepthOption = "counters",
    owners: OwnersOption = True,
    bytes_changed: BytesChangedOption = False,
    rows: RowsOption = False,
    output_format: FormatOption = "table",
    by: ViewOption = "statement",
    is_map: MapOption = False,
    map_by: MapByOption = None,
    plan: PlanOption = False,
    all_settings: SettingsOption = False,
) -> None:
    """Run a workload script and report the OS pages that each statement touched."""
    given: dict[str, Any] = locals()
    params = single_params(param or [])
    if lists_ready(script) or shows_script(script, params, is_asked=show):
        return
    by, drawn = chosen_map(by, is_map=is_map, by=map_by)
    look = Look(plan=plan, settings=all_settings, map=drawn)
    drawn_to = Pictures(picture, output)
    shown = Output(trace, output_format, by, look, drawn_to, rows=rows, page=html, force=force)
    _check_output(shown)
    _check_durability(durability, image)
    held = chosen_limits(limits)
    choices = Choices(
        image,
        **{name: given[name] for name in _KEYWORDS},
        limits=held,
        prices=chosen_prices(prices, assume, held),
        enforce=not no_enforce,
        trace=trace or ":memory:",
        overwrite_trace=force,
    )
    _check_choices(choices, assume)
    workload = Workload(params=params, **{name: given[name] for name in _OF_WORKLOAD})
    run(workload, choices, shown)


def _check_output(output: Output) -> None:
    """Refuse what does not go together, before anything is touched."""
    check_plan(output.view, output.look)
    if output.rows and output.format != "table":
        raise UsageError(
            f"--rows does not go with --format {output.format}, whose output is one document; "
            "leave one of the two out"
        )
    if output.trace is not None:
        check_regular(output.trace)
        if output.trace.exists() and not output.force:
            raise UsageError(
                f"{output.trace} exists already; choose another file, or add --force if it is an "
                "old trace"
            )
    check_pictures(*output.pictures, force=output.force)
    check_place(output.page, force=output.force)
    if output.page == STDOUT:
        raise UsageError(
            "--html - would mix the page with the report on stdout; give the page a file, or keep "
            "the trace and use sqlstable report TRACE --html -"
        )
    if output.page is not None and output.trace is not None:
        pages = {Path(os.path.realpath(it)) for it in (output.page, output.trace)}
        if len(pages) == 1:
            raise UsageError("--html and --trace name the same file; give each its own")


def _check_durability(durability: str | None, image: Path | None) -> None:
    check_durability(durability)
    if durability is not None and image is None:
        raise UsageError("--durability concerns an image file; name one with --image")


def _check_choices(choices: Choices, assume: Sequence[str] | None) -> None:
    """Likewise of what the script runs on."""
    if not choices.enforce and choices.limits is None:
        raise UsageError(
            f"--no-enforce measures against limits, and --limits {NO_LIMITS} leaves none; leave "
            "one of the two out"
        )
    for name, value in (("--build", choices.build), ("--track-heap", choices.track_heap)):
        if value is not None and choices.engine == "native":
            raise UsageError(f"{name} concerns the wasm engine; add --engine wasm, or leave it out")
    if choices.measure != "auto" and choices.engine != "both":
        raise UsageError(
            "--measure concerns runs on both engines; add --engine both, or leave it out"
        )
    layout = layout_named(choices.settings.layout)
    if not layout.traits.has_buckets and choices.bucket_pages is not None:
        raise UsageError(
            f"--bucket-pages concerns layout managed; layout {layout.name} has no buckets"
        )
    if choices.engine == "native":
        note_native_reach(assume, choices.regime)
