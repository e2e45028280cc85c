"""Carrying out ``sqlstable run``: a canister, a script on it, and the report of what it did."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple

from sqlstable.canister.canister import Canister
from sqlstable.canister.choices import Choices
from sqlstable.cli.failures import InterruptedRunError, RunError, UsageError, note
from sqlstable.cli.installation import install
from sqlstable.cli.on_connect import load_setups
from sqlstable.cli.options import (
    Format,
)
from sqlstable.cli.output import screen
from sqlstable.cli.progress import MessageProgress, engine_notes
from sqlstable.cli.report import write_report, write_trace_page
from sqlstable.cli.rows import RowPrinter
from sqlstable.cli.script_source import Script, read_script
from sqlstable.cli.still_pictures import write_pictures
from sqlstable.database.checking import Setup
from sqlstable.database.foreign import DatabaseSource, SourceOptions, open_source
from sqlstable.errors import ImageError, TraceError
from sqlstable.ic.units import GIB
from sqlstable.ic.words import CacheState
from sqlstable.report.numbers import counted
from sqlstable.report.picture_names import PictureChoice
from sqlstable.report.view import Look
from sqlstable.report.views import By
from sqlstable.trace.format.file import Trace
from sqlstable.workload.execution import RunOutcome, run_steps
from sqlstable.workload.placeholders import Value

_IMPORTED_BYTES_MAX: Final = 2 * GIB


@dataclass(frozen=True, slots=True)
class Workload:
    """What is to be run."""

    script: str
    "Path of the script, or ``-``, or the name of a ready one."
    params: Mapping[str, Value]
    "Other values for its parameters."
    database: Path | None
    "What is imported first."
    cache: CacheState | None
    on_connect: Path | None
    "Defines what connections are given."
    keep_going: bool = field(kw_only=True)
    allow_open_transaction: bool = field(kw_only=True)
    "Whether SQL transactions may stay open over awaits and the ends of messages."


class Pictures(NamedTuple):
    """Which pictures are drawn, and where they go."""

    name: PictureChoice | None
    place: Path | None


@dataclass(frozen=True, slots=True)
class Output:
    """What is kept and shown of a run."""

    trace: Path | None
    format: Format
    view: By
    look: Look
    pictures: Pictures
    rows: bool = field(kw_only=True)
    page: Path | None = field(kw_only=True)
    "Where a page for a browser goes."
    force: bool = field(kw_only=True)
    "Whether an old trace or page may be replaced."


def run(workload: Workload, choices: Choices, output: Output) -> None:
    """Run a script, and report it however it ended.

    Raises:
        RunError: It failed.
        InterruptedRunError: Ctrl-C ended it; what came before is reported.
    """
    outcome, recorded = played(workload, choices, shows_rows=output.rows)
    try:
        with recorded:
            # The page first: it is kept, even where nobody reads the report to its end.
            if output.page is not None:
                called = "stdin" if workload.script == "-" else Path(workload.script).name
                write_trace_page(recorded, output.page, name=called, force=output.force)
            name, place = output.pictures
            if name is not None and place is not None:
                write_pictures(recorded, name, place, force=output.force)
            write_report(recorded, output.format, output.view, output.look)
    except BrokenPipeError:
        # Nobody reads on; that the run failed still has to be said.
        if outcome.failure is None:
            raise
    if output.trace is not None and (output.format == "table" or outcome.is_interrupted):
        note(
            f"the trace is in {output.trace}; sqlstable report {output.trace} shows its other views"
        )
    if outcome.failure is None:
        return
    if choices.path is not None and _has_answered(outcome):
        note(f"what was answered before stays in {choices.path}")
    if outcome.left_out:
        note(
            f"left out: {counted(outcome.left_out, 'message')} behind the await of one that failed"
        )
    if outcome.is_interrupted:
        raise InterruptedRunError(outcome.failure)
    many = f"{counted(outcome.failures, 'message')} failed, the first: "
    raise RunError((many if outcome.failures > 1 else "") + outcome.failure)


def played(
    workload: Workload, choices: Choices, *, shows_rows: bool = False
) -> tuple[RunOutcome, Trace]:
    """Run a script in a canister of its own; returns how it ended, and the trace, to be closed."""
    script = read_script(workload.script, workload.params)
    setups = load_setups(workload.on_connect)
    with engine_notes(), _source(workload.database, choices, setups) as database:
        canister = install(choices, database, setups)
    return _play(canister, script, workload, shows_rows=shows_rows)


def _has_answered(outcome: RunOutcome) -> bool:
    failed = max(outcome.failures, outcome.failed_message is not None)
    return outcome.messages - outcome.intended_traps > failed


def _play(
    canister: Canister, script: Script, workload: Workload, *, shows_rows: bool
) -> tuple[RunOutcome, Trace]:
    """Run the script; returns how it ended, and the trace, which stays readable."""
    try:
        if not script.steps:
            note(f"{script.name} holds no statements, so nothing was run")
        with MessageProgress(script.message_count, quiet=shows_rows) as progress:
            outcome = run_steps(
                canister,
                script.steps,
                cache=workload.cache,
                name=script.name,
                keep_going=workload.keep_going,
                allow_open_transaction=workload.allow_open_transaction,
                on_step=progress.on_step,
                on_rows=RowPrinter(screen()) if shows_rows else None,
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


@contextmanager
def _source(
    database: Path | None, choices: Choices, setups: Sequence[Setup]
) -> Iterator[DatabaseSource | None]:
    """Look at the database that one message is to import, so that all of it is staged."""
    if database is None:
        yield None
        return
    options = SourceOptions(setups=setups, page_size=choices.page_size)
    with open_source(database, options) as source:
        if source.size_bytes > _IMPORTED_BYTES_MAX:
            raise UsageError(
                f"{database} has {source.size_bytes} bytes, more than the {_IMPORTED_BYTES_MAX} "
                "that one message can import here; make an image of it with sqlstable import "
                f"{database} IMAGE, and run on that with --image IMAGE"
            )
        yield source
