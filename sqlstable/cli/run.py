"""``sqlstable run``: run a workload script, and report what each statement touched."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from sqlstable.canister.canister import Canister
from sqlstable.cli.failures import RunError, UsageError, note
from sqlstable.cli.options import (
    CACHE_STATES,
    Cache,
    CacheOption,
    CacheSizeOption,
    DatabaseOption,
    ForceOption,
    Format,
    FormatOption,
    JournalModeOption,
    LayoutOption,
    LimitsOption,
    PageSizeOption,
    PresetOption,
    RowsOption,
    TraceOption,
    View,
    ViewOption,
)
from sqlstable.cli.output import screen
from sqlstable.cli.progress import MessageProgress
from sqlstable.cli.report import write_report
from sqlstable.cli.rows import RowPrinter
from sqlstable.cli.source import Script, read_script
from sqlstable.database.settings import resolve_settings
from sqlstable.database.transfer import read_database
from sqlstable.engine.protocol import CacheState
from sqlstable.ic.limits import Limits
from sqlstable.memory.stable import resolve_limits
from sqlstable.trace.file import Trace
from sqlstable.workload.run import OnRows, RunOutcome, run_steps

LATEST: Final = "latest"
NO_LIMITS: Final = "none"


def run_script(  # noqa: PLR0913  each is an option
    *,
    script: Annotated[
        str, typer.Argument(metavar="SCRIPT.sql", help="SQL with --@ directives; - reads stdin.")
    ],
    database: DatabaseOption = None,
    layout: LayoutOption = None,
    preset: PresetOption = None,
    page_size: PageSizeOption = None,
    cache_size: CacheSizeOption = None,
    journal_mode: JournalModeOption = None,
    limits: LimitsOption = LATEST,
    cache: CacheOption = Cache.COLD,
    trace: TraceOption = None,
    force: ForceOption = False,
    rows: RowsOption = False,
    output_format: FormatOption = Format.TABLE,
    by: ViewOption = View.STATEMENT,
) -> None:
    """Run a workload script and report the OS pages that each statement touched."""
    if rows and output_format is not Format.TABLE:
        raise UsageError(
            f"--rows does not go with --format {output_format}, whose output is one document; "
            "leave one of the two out"
        )
    resolve_settings(
        preset=preset,
        layout=layout,
        page_size=page_size,
        cache_size=cache_size,
        journal_mode=journal_mode,
    )
    request = _Request(
        script=read_script(script),
        database=None if database is None else read_database(database),
        page_size=page_size,
        cache=CACHE_STATES[cache],
        on_rows=RowPrinter(screen()) if rows else None,
    )
    open_canister = partial(
        Canister,
        preset=preset,
        layout=layout,
        page_size=page_size,
        cache_size=cache_size,
        journal_mode=journal_mode,
        limits=_limits(limits),
        trace=":memory:" if trace is None else _free_path(trace, force=force),
        overwrite_trace=force,
    )
    outcome, recorded = _play(request, open_canister)
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
        raise RunError(outcome.failure)


@dataclass(frozen=True, slots=True)
class _Request:
    """A run that can begin: whatever the command line names has been looked at."""

    script: Script
    database: bytes | None
    page_size: int | None
    "As asked for; a database that is imported has its own."
    cache: CacheState
    on_rows: OnRows | None


def _play(request: _Request, open_canister: Callable[[], Canister]) -> tuple[RunOutcome, Trace]:
    """Run the script; returns how it ended, and the trace, which stays readable."""
    script = request.script
    with open_canister() as canister:
        if request.database is not None:
            _import(canister, request.database, page_size=request.page_size)
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
    return outcome, canister.trace()


def _import(canister: Canister, database: bytes, *, page_size: int | None) -> None:
    canister.import_database(database)
    own_page_size = canister.settings.page_size
    if page_size not in (None, own_page_size):
        note(f"the database keeps its own page_size, {own_page_size} and not {page_size}")


def _limits(text: str) -> Limits | None:
    return None if text.lower() == NO_LIMITS else resolve_limits(text)


def _free_path(path: Path, *, force: bool) -> Path:
    if path.exists() and not force:
        raise UsageError(
            f"{path} exists already; choose another file, or add --force if it is an old trace"
        )
    return path
