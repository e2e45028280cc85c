"""``sqlstable run``: run a workload script, and report what each statement touched."""

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sqlstable.canister.canister import Canister
from sqlstable.canister.hosts import Flavour, open_memory
from sqlstable.cli.failures import RunError, UsageError, note
from sqlstable.cli.installation import OpenCanister, OpenMemory, install
from sqlstable.cli.options import (
    CACHE_STATES,
    ENGINE_NAMES,
    LATEST,
    Build,
    BuildOption,
    CacheOption,
    CacheSizeOption,
    DatabaseOption,
    DurabilityOption,
    EngineChoice,
    EngineOption,
    ForceOption,
    Format,
    FormatOption,
    GrowthOption,
    ImageOption,
    JournalModeOption,
    LayoutOption,
    LimitsOption,
    PageSizeOption,
    PresetOption,
    RowsOption,
    TraceOption,
    View,
    ViewOption,
    check_durability,
    chosen_limits,
)
from sqlstable.cli.output import screen
from sqlstable.cli.progress import MessageProgress
from sqlstable.cli.report import write_report
from sqlstable.cli.rows import RowPrinter
from sqlstable.cli.source import Script, read_script
from sqlstable.database.loading import SERIALIZED_BYTES_MAX
from sqlstable.database.settings import resolve_settings
from sqlstable.database.transfer import read_database
from sqlstable.engine.protocol import CacheState
from sqlstable.errors import ImageError, TraceError
from sqlstable.ic.limits import Limits
from sqlstable.trace.file import Trace
from sqlstable.workload.run import OnRows, RunOutcome, run_steps


def run_script(  # noqa: PLR0913  each is an option
    *,
    script: Annotated[
        str, typer.Argument(metavar="SCRIPT.sql", help="SQL with --@ directives; - reads stdin.")
    ],
    database: DatabaseOption = None,
    image: ImageOption = None,
    durability: DurabilityOption = None,
    layout: LayoutOption = None,
    preset: PresetOption = None,
    page_size: PageSizeOption = None,
    cache_size: CacheSizeOption = None,
    journal_mode: JournalModeOption = None,
    growth: GrowthOption = None,
    engine: EngineOption = EngineChoice.NATIVE,
    build: BuildOption = None,
    limits: LimitsOption = LATEST,
    cache: CacheOption = None,
    trace: TraceOption = None,
    force: ForceOption = False,
    rows: RowsOption = False,
    output_format: FormatOption = Format.TABLE,
    by: ViewOption = View.STATEMENT,
) -> None:
    """Run a workload script and report the OS pages that each statement touched."""
    _check_options(image, durability, rows=rows, output_format=output_format)
    open_canister = partial(
        Canister,
        preset=preset,
        layout=layout,
        page_size=page_size,
        cache_size=cache_size,
        journal_mode=journal_mode,
        growth=growth,
    )
    request = _Request(
        script=read_script(script),
        database=None if database is None else _read(database),
        page_size=page_size,
        image=image,
        durability=durability or "process",
        limits=chosen_limits(limits),
        layout=resolve_settings(**open_canister.keywords).layout,
        cache=None if cache is None else CACHE_STATES[cache],
        open_memory=partial(open_memory, ENGINE_NAMES[engine], _flavour(engine, build)),
        on_rows=RowPrinter(screen()) if rows else None,
    )
    outcome, recorded = _play(
        request,
        partial(
            open_canister,
            engine=ENGINE_NAMES[engine],
            build=build,
            trace=":memory:" if trace is None else _free_path(trace, force=force),
            overwrite_trace=force,
        ),
    )
    try:
        with recorded:
            write_report(recorded, output_format, by)
    except BrokenPipeError:
        # Nobody reads on; that the run failed still has to be said.
        if outcome.failure is None:
            raise
    if trace is not None and output_format is Format.TABLE:
        note(f"the trace is in {trace}; sqlstable report {trace} shows its other views")
    if outcome.failure is not None:
        if image is not None and _has_answered(outcome):
            note(f"what was answered before stays in {image}")
        raise RunError(outcome.failure)


def _has_answered(outcome: RunOutcome) -> bool:
    return outcome.messages - outcome.intended_traps > (outcome.failed_message is not None)


@dataclass(frozen=True, slots=True)
class _Request:
    """A run that can begin: whatever the command line names has been looked at."""

    script: Script
    database: bytes | None
    page_size: int | None
    "As asked for; a database that is imported has its own."
    image: Path | None
    durability: str
    limits: Limits | None
    layout: str
    cache: CacheState | None
    open_memory: OpenMemory
    on_rows: OnRows | None


def _play(request: _Request, open_canister: OpenCanister) -> tuple[RunOutcome, Trace]:
    """Run the script; returns how it ended, and the trace, which stays readable."""
    script = request.script
    canister = install(
        open_canister,
        image=request.image,
        durability=request.durability,
        limits=request.limits,
        layout=request.layout,
        database=request.database,
        page_size=request.page_size,
        open_memory=request.open_memory,
    )
    try:
        if not script.steps:
            note(f"{script.name} holds no statements, so nothing was run")
        with MessageProgress(script.message_count, quiet=request.on_rows is not None) as progress:
            outcome = run_steps(
                canister,
                script.steps,
                cache=request.cache,
                name=script.name,
                on_step=progress.on_step,
                on_rows=request.on_rows,
            )
    except BaseException:
        # What came first is what counts.
        with suppress(ImageError, TraceError):
            canister.close()
        with suppress(ImageError):
            canister.memory.close()
        raise
    return _closed(canister, outcome)


def _closed(canister: Canister, outcome: RunOutcome) -> tuple[RunOutcome, Trace]:
    """Close the canister; what cannot be left whole is a failure, if it is the first."""
    try:
        canister.close()
    except (ImageError, TraceError) as error:
        outcome = replace(outcome, failure=outcome.failure or str(error))
    finally:
        # Also where the trace could not be finished: the image is left whole and alone.
        canister.memory.close()
    try:
        return outcome, canister.trace()
    except TraceError as error:
        raise RunError(outcome.failure or str(error)) from error


def _check_options(
    image: Path | None, durability: str | None, *, rows: bool, output_format: Format
) -> None:
    if rows and output_format is not Format.TABLE:
        raise UsageError(
            f"--rows does not go with --format {output_format}, whose output is one document; "
            "leave one of the two out"
        )
    check_durability(durability)
    if durability is not None and image is None:
        raise UsageError("--durability concerns an image file; name one with --image")


def _flavour(engine: EngineChoice, build: Build | None) -> Flavour:
    if build is not None and engine is not EngineChoice.WASM:
        raise UsageError("--build concerns the wasm engine; add --engine wasm, or leave it out")
    return Flavour(None if build is None else build.value)


def _read(database: Path) -> bytes:
    """Read a database that one message is to import, so that all of it must be in memory."""
    if database.is_file() and database.stat().st_size > SERIALIZED_BYTES_MAX:
        raise UsageError(
            f"{database} has {database.stat().st_size} bytes, more than the "
            f"{SERIALIZED_BYTES_MAX} that one message can import here; make an image of it with "
            f"sqlstable import {database} IMAGE, and run on that with --image IMAGE"
        )
    return read_database(database)


def _free_path(path: Path, *, force: bool) -> Path:
    if path.exists() and not force:
        raise UsageError(
            f"{path} exists already; choose another file, or add --force if it is an old trace"
        )
    return path
