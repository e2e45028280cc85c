"""Carrying out ``sqlstable canister``: the modules, their messages, and the report."""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlstable.cli.failures import InterruptedRunError, RunError, UsageError, note
from sqlstable.cli.output import write
from sqlstable.cli.progress import MessageProgress, engine_notes
from sqlstable.cli.report import (
    write_comparison,
    write_comparison_page,
    write_report,
    write_trace_page,
)
from sqlstable.cli.running import Output
from sqlstable.cli.step_source import StepText, read_step_text
from sqlstable.cli.still_pictures import write_pictures
from sqlstable.errors import ImageError, SqlstableError, TraceError
from sqlstable.ic.words import STACK_OVERFLOW
from sqlstable.module.canister_module import HEAP_NOT_KEPT, time_in_ns
from sqlstable.module.module_world import IN_MEMORY, ModuleWorld, trace_path
from sqlstable.report.numbers import counted
from sqlstable.report.text import clean
from sqlstable.trace.format.file import Trace, open_trace
from sqlstable.wasm.module_file import ModuleFile
from sqlstable.workload.stepping.step_parsing import parse_workload
from sqlstable.workload.stepping.step_running import (
    ModuleWorkload,
    SteppingOutcome,
    prepare_workload,
    run_module_steps,
)

if TYPE_CHECKING:
    from sqlstable.candid.interface import Interface
    from sqlstable.ic.limits import Limits
    from sqlstable.ic.prices import PriceRegime
    from sqlstable.module.profile import Profile

_FUNCTIONS_SHOWN: Final = 15


@dataclass(frozen=True, slots=True)
class CanisterRun:
    """What is to be run, and on what."""

    workload: str
    canisters: Sequence[str] = field(kw_only=True)
    "Steps that install further canisters."
    did: Path | None = field(kw_only=True)
    image: Path | None = field(kw_only=True)
    limits: "Limits | None" = field(kw_only=True)
    prices: "PriceRegime" = field(kw_only=True)
    track_heap: bool | None = field(kw_only=True)
    time: datetime | None = field(kw_only=True)
    seed: int = field(kw_only=True)
    os_page_bytes: int = field(kw_only=True)
    profile: Path | None = field(kw_only=True)
    keep_going: bool = field(kw_only=True)


def run_canister(run: CanisterRun, output: Output, compare: Path | None) -> None:
    """Run a workload of steps, and report it however it ended.

    Raises:
        ScriptError: The workload cannot be understood, or a file that it names is missing.
        RunError: It failed.
        InterruptedRunError: Ctrl-C ended it; what came before is reported.
    """
    source = read_step_text(run.workload)
    before = parse_workload("\n".join(run.canisters), name="--canister")
    names = [it.canister for it in before if it.canister is not None]
    steps = parse_workload(source.text, name=source.name, canisters=names)
    workload = prepare_workload(
        steps,
        name=source.name,
        folder=source.folder,
        before=before,
        did=None if run.did is None else str(run.did.resolve()),
    )
    if not steps:
        note(f"{source.name} holds no steps, so nothing was run; begin with install app.wasm")
    with _image_of(run.image) as image:
        played = _play(run, workload, output, image)
    outcome, traces, profile, _ = played
    with ExitStack() as stack:
        for trace in traces.values():
            stack.enter_context(trace)
        try:
            _show(traces, source, output, compare)
            if profile is not None and run.profile is not None:
                _show_profile(profile, run.profile, output)
                _note_stack(traces.values())
        except BrokenPipeError:
            if outcome.failure is None:
                raise
    _conclude(run, played, source)


class Played(NamedTuple):
    """What running the steps came to."""

    outcome: SteppingOutcome
    traces: "dict[str, Trace]"
    "Of each canister, still readable, the first one's first."
    profile: "Profile | None"
    interface: "Interface | None"
    "Of the first canister's module."


def _play(run: CanisterRun, workload: ModuleWorkload, output: Output, image: Path | None) -> Played:
    """Run the steps."""
    world = ModuleWorld(
        limits=run.limits,
        prices=run.prices,
        track_heap=run.track_heap,
        time_ns=time_in_ns(run.time),
        seed=run.seed,
        trace=output.trace or IN_MEMORY,
        overwrite_trace=output.force,
        has_profile=run.profile is not None,
        os_page_bytes=run.os_page_bytes,
    )
    try:
        with engine_notes(), MessageProgress(workload.message_count, quiet=False) as progress:
            outcome = run_module_steps(
                world,
                workload,
                image=image,
                keep_going=run.keep_going,
                on_message=progress.on_step,
            )
    except BaseException:
        with suppress(SqlstableError):
            world.close()
        raise
    try:
        world.close()
        traces = {name: world.trace(name) for name in world.traced}
    except (ImageError, TraceError) as error:
        raise RunError(outcome.failure or str(error)) from error
    first = [workload.first] if workload.first in traces else []
    ordered = dict.fromkeys([*first, *traces])
    kept = {name: found for name in ordered if name and (found := traces[name]) is not None}
    module = world.source(workload.first) if workload.first else None
    if image is not None and module is not None and ModuleFile.of(module.data).keeps_heap:
        note(HEAP_NOT_KEPT)
    interface = None if module is None else module.interface
    return Played(outcome, kept, world.profile(), interface)


def _note_stack(traces: Iterable[Trace]) -> None:
    """Say that a stack may have ended for the profile's sake only."""
    trapped = (trace.messages[index].trap for trace in traces for index in trace.summary.trapped)
    if STACK_OVERFLOW in trapped:
        note(
            "functions that are counted need about three times the stack, so that the stack "
            "overflow may be of --profile only; run it without"
        )


def _show_profile(profile: "Profile", place: Path, output: Output) -> None:
    """Write a profile to its file, and in a table the functions that used most."""
    profile.write(place)
    if output.format == "table":
        write(f"\nfunctions that used most instructions\n\n{profile.table(_FUNCTIONS_SHOWN)}")
        note(f"the profile is in {place}")


def _show(
    traces: Mapping[str, Trace], source: StepText, output: Output, compare: Path | None
) -> None:
    """Report the first canister, and in a table the others behind it."""
    names = list(traces)
    if not names:
        return
    first = traces[names[0]]
    if output.page is not None and compare is None:
        write_trace_page(first, output.page, name=Path(source.name).name, force=output.force)
    picture, place = output.pictures
    if picture is not None and place is not None:
        write_pictures(first, picture, place, force=output.force)
    if compare is not None:
        with open_trace(compare) as before:
            new = Path(output.trace or source.name)
            if output.page is not None:
                write_comparison_page(
                    (before, first), (compare, new), output.page, force=output.force
                )
            write_comparison((before, first), (compare, new), output.format, output.look)
    else:
        write_report(first, output.format, output.view, output.look)
    for name in names[1:]:
        if output.format == "table" and compare is None:
            write(f"\n\ncanister {clean(name)}\n\n")
            write_report(traces[name], output.format, output.view, output.look)
    _tell_left_out(names, output, compare)
    if output.trace is not None and output.format == "table":
        paths = [str(trace_path(output.trace, it, is_first=it == names[0])) for it in names]
        note(
            f"the trace is in {', '.join(paths)}; sqlstable report {output.trace} shows its other "
            "views"
        )


def _tell_left_out(names: Sequence[str], output: Output, compare: Path | None) -> None:
    """Say which canisters are not in what holds only the first."""
    first, *others = names
    options = {
        f"--format {output.format}": output.format != "table",
        "--compare": compare is not None,
        "--html": output.page is not None,
        f"--picture {output.pictures.name}": output.pictures.name is not None,
    }
    given = [option for option, is_given in options.items() if is_given]
    if not others or not given:
        return
    left_out = ", ".join(map(clean, others))
    kept = "--trace FILE keeps" if output.trace is None else f"--trace {output.trace} has kept"
    note(
        f"{' and '.join(given)} {'holds' if len(given) == 1 else 'hold'} canister {clean(first)} "
        f"alone and {'leaves' if len(given) == 1 else 'leave'} out {left_out}; {kept} a trace of "
        "each, to be reported with sqlstable report"
    )


def _conclude(run: CanisterRun, played: Played, source: StepText) -> None:
    """Say what there is to say behind the report."""
    outcome = played.outcome
    if outcome.failure is None:
        if source.is_module:
            _tell_methods(run, played.interface)
        return
    if run.image is not None and run.image.is_file() and outcome.done:
        note(f"what was answered before stays in {run.image}")
    if outcome.is_interrupted:
        raise InterruptedRunError(outcome.failure)
    many = f"{counted(outcome.failures, 'step')} failed, the first: "
    raise RunError((many if outcome.failures > 1 else "") + outcome.failure)


def _tell_methods(run: CanisterRun, interface: "Interface | None") -> None:
    """Say how to go on with a module that was only installed."""
    methods = [] if interface is None else [*interface.methods.values()]
    if not methods:
        note(
            "the module does not say what its methods take; give its interface with --did, and "
            f"write a workload: install {run.workload}, then update METHOD '(…)'"
        )
        return
    said = "; ".join(str(it) for it in methods)
    example = next((it for it in methods if it.mode == "update"), methods[0])
    word = "update" if example.mode == "update" else "query"
    given = " '(…)'" if example.arguments else ""
    note(
        f"it can be called: {said}. Write a workload: install {run.workload}, then {word} "
        f"{example.name}{given}"
    )


@contextmanager
def _image_of(given: Path | None) -> Iterator[Path | None]:
    """Yield the image file to run on; of a snapshot's folder a copy that is not kept."""
    from sqlstable.memory.snapshots.folder import STABLE_NAME, open_folder

    if given is None or not given.is_dir():
        yield given
        return
    folder = open_folder(given)
    with TemporaryDirectory(prefix="sqlstable-") as scratch:
        copy = Path(scratch) / STABLE_NAME
        if STABLE_NAME in folder.names:
            try:
                shutil.copyfile(given / STABLE_NAME, copy)
            except OSError as error:
                raise UsageError(
                    f"{given / STABLE_NAME} cannot be copied to be run on: {error.strerror}"
                ) from error
        note(f"runs on a copy of the stable memory in {given}, which stays as it is")
        yield copy
