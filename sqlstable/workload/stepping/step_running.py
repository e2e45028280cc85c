"""Running the steps of a workload on canisters of modules, and saying how that went."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from sqlstable.errors import (
    CandidError,
    ImageError,
    ScriptError,
    SettingsError,
    SqlstableError,
    TraceError,
)
from sqlstable.ic.principals import principal_text
from sqlstable.module.callers import caller_of
from sqlstable.module.module_reply import ModuleReply
from sqlstable.module.module_source import (
    READY_MARK,
    ModuleSource,
    module_path,
    read_module_source,
)
from sqlstable.module.module_world import ModuleWorld
from sqlstable.replica.call_contexts import FromOutside
from sqlstable.replica.code_steps import InstallMode
from sqlstable.workload.stepping.expecting import difference
from sqlstable.workload.stepping.step_model import ModuleStep
from sqlstable.workload.stepping.step_texts import (
    argument_of_file,
    filled,
    find_file,
    missing_words,
)

OnMessage = Callable[[ModuleStep, int], None]
"""Is told of each step that has been done, and how many there were."""

_FINAL_ERRORS: Final = (ImageError, TraceError)
"""What ends a run even if it is to go on after failures."""

_OF_CODE: Final[Mapping[str, InstallMode]] = {
    "install": "install",
    "upgrade": "upgrade",
    "reinstall": "reinstall",
}
_OF_TIME: Final = ("advance", "await", "heartbeat", "timer")
_CALLS: Final = {"update": False, "query": True, "call": None}
"""Whether each is a query; None: as the method is."""

_KEPT: Final = {"keep": True, "replace": False}


@dataclass(frozen=True, slots=True)
class ModuleWorkload:
    """A workload that is ready to run: every file that it names has been read."""

    steps: tuple[ModuleStep, ...]
    name: str
    "What errors call it."
    folder: Path
    "Where relative files lie."
    sources: Mapping[tuple[str, str], ModuleSource] = field(repr=False)
    "Modules by path and interface, as they are written."

    @property
    def message_count(self) -> int:
        """How many steps are done if none fails."""
        return sum(step.repeat for step in self.steps)

    @property
    def first(self) -> str | None:
        """The canister that is meant where none is named."""
        names = [it.canister for it in self.steps if it.word in ("create", "install") and it.line]
        return names[0] if names else next((it.canister for it in self.steps), None)


@dataclass(frozen=True, slots=True)
class SteppingOutcome:
    """How a run ended."""

    done: int
    "Steps that were done, each repetition counted."
    failure: str | None = None
    "The first one, with its line."
    failures: int = 0
    is_interrupted: bool = False


def prepare_workload(
    steps: Sequence[ModuleStep],
    *,
    name: str,
    folder: Path,
    before: Sequence[ModuleStep] = (),
    did: str | None = None,
) -> ModuleWorkload:
    """Read every module that steps name.

    Args:
        steps: What `sqlstable.workload.stepping.step_parsing.parse_workload` returned.
        name: What errors call the workload.
        folder: Where relative files lie.
        before: Steps that come before its own, of the command line.
        did: The interface of the first module, if it does not say that itself.

    Raises:
        ScriptError: A file is missing, or is not what it should be, or a caller is none.
    """
    before = [replace(it, line=0) for it in before]
    first = next((it for it in steps if it.word == "install"), None)
    with_did = [_with_did(it, did) if it is first and did is not None else it for it in steps]
    sources: dict[tuple[str, str], ModuleSource] = {}
    for step in [*before, *with_did]:
        try:
            caller_of(step.caller)
            key = step.target, step.options.get("did", "")
            if step.word in _OF_CODE and step.target:
                sources.setdefault(key, _source(*key, folder))
        except ScriptError as error:
            raise ScriptError(f"{place(name, step)}: {error}") from None
        except SqlstableError as error:
            raise ScriptError(f"{place(name, step)}: {error}") from error
    return ModuleWorkload((*before, *with_did), name, folder, sources)


def place(name: str, step: ModuleStep) -> str:
    """Say where a step stands."""
    if not step.line:
        return f"--canister {step.canister}={step.target}"
    return f"{name}, line {step.line}"


def run_module_steps(
    world: ModuleWorld,
    workload: ModuleWorkload,
    *,
    image: Path | None = None,
    keep_going: bool = False,
    on_message: OnMessage | None = None,
) -> SteppingOutcome:
    """Run a workload; what fails ends it, unless it is to go on.

    Args:
        world: What it runs on, empty.
        workload: Its steps.
        image: A file that keeps the stable memory of the first canister.
        keep_going: Whether it goes on after a step that failed.
        on_message: Is told of each step that was done.
    """
    run = _SteppingRun(world, workload, image)
    if workload.first is not None:
        world.be_first(workload.first)
    failures = 0
    first_failure: str | None = None
    is_interrupted = False
    try:
        for step in workload.steps:
            for number in range(step.repeat):
                failure, is_final = run.fails(step, number)
                if failure is not None:
                    failures += 1
                    first_failure = first_failure or f"{place(workload.name, step)}: {failure}"
                    if is_final or not keep_going:
                        return SteppingOutcome(run.done, first_failure, failures)
                if on_message is not None:
                    on_message(step, run.done)
        failure = run.end()
        if failure is not None:
            failures += 1
            first_failure = first_failure or f"{workload.name}, {failure}"
    except KeyboardInterrupt:
        is_interrupted = True
        said = f"interrupted in {workload.name}, line {run.line}"
        first_failure = f"{said}; before that: {first_failure}" if first_failure else said
    return SteppingOutcome(run.done, first_failure, failures, is_interrupted)


class _SteppingRun:
    """A run on its way."""

    def __init__(self, world: ModuleWorld, workload: ModuleWorkload, image: Path | None) -> None:
        self.done = 0
        self.line = 0
        self._world = world
        self._workload = workload
        self._image = image
        self._sent: list[tuple[ModuleStep, int, FromOutside]] = []
        "Calls whose answers nobody has asked for yet."

    def fails(self, step: ModuleStep, number: int) -> tuple[str | None, bool]:
        """Do a step once; returns why it failed, and whether nothing may come behind that."""
        self.line = step.line
        try:
            return self._failure(step, number), False
        except SqlstableError as error:
            what = f"{step.word} {step.target}".rstrip()
            text = f"{what}: {error}"
            if isinstance(error, CandidError) and step.argument is None and step.word in _OF_CODE:
                text += f"; write {what} '(…)'"
            return text, isinstance(error, _FINAL_ERRORS)

    def _failure(self, step: ModuleStep, number: int) -> str | None:
        """Do a step once; returns in what it came to something else than expected."""
        reply = self._do(step, number)
        self.done += 1
        failure = None if reply is None else self._found(step, number, reply)
        if step.word == "await":
            failure = failure or self.unanswered()
        return failure

    def end(self) -> str | None:
        """Let run what waits still, as ``await`` does; returns what came to something else."""
        if not self._sent:
            return None
        line = f"line {self._sent[0][0].line}"
        try:
            self._world.advance(0)
            return self.unanswered()
        except SqlstableError as error:
            return f"{line}: {error}"

    # -- doing ----------------------------------------------------------------------------------

    def _do(self, step: ModuleStep, number: int) -> ModuleReply | None:
        if step.word == "create":
            self._create(step)
            return None
        if step.word in _OF_TIME:
            return self._let_time_pass(step)
        if step.word in _OF_CODE:
            return self._change_code(step, number)
        assert step.canister is not None
        if step.word == "send":
            self._send(step, number)
            return None
        if step.word in _CALLS:
            return self._world.call(
                step.canister,
                step.target,
                self._argument(step, number),
                is_query=_CALLS[step.word],
                caller=step.caller,
                label=step.label,
            )
        return self._world.life(step.word, step.canister)

    def _send(self, step: ModuleStep, number: int) -> None:
        assert step.canister is not None
        argument = self._argument(step, number)
        ticket = self._world.send(
            step.canister, step.target, argument, caller=step.caller, label=step.label
        )
        self._sent.append((step, number, ticket))

    def unanswered(self) -> str | None:
        """Say what has become of a call that was sent, if that is not what was expected."""
        sent, self._sent = self._sent, []
        for step, number, ticket in sent:
            assert step.canister is not None
            reply = self._world.answer_to(step.canister, step.target, ticket)
            failure = self._found(step, number, reply)
            if failure is not None:
                return f"line {step.line}: {failure}"
        return None

    def _let_time_pass(self, step: ModuleStep) -> ModuleReply:
        world = self._world
        if step.word == "heartbeat":
            return world.heartbeat(step.canister)
        if step.word == "timer":
            assert step.canister is not None
            return world.timer(step.canister)
        return world.advance(step.seconds)

    def _change_code(self, step: ModuleStep, number: int) -> ModuleReply:
        world, name = self._world, step.canister
        assert name is not None
        if step.word == "install" and name not in world.names:
            self._create(step)
        source = world.source(name)
        if step.target:
            source = self._workload.sources[step.target, step.options.get("did", "")]
        if source is None:
            raise SettingsError(f"canister {name} has no module to {step.word}; name one")
        kept = step.options.get("wasm-memory-persistence")
        return world.install(
            name,
            source,
            self._argument(step, number),
            mode=_OF_CODE[step.word],
            caller=step.caller,
            label=step.label,
            skip_pre_upgrade="skip-pre-upgrade" in step.options,
            keep_heap=None if kept is None else _KEPT[kept],
        )

    def _create(self, step: ModuleStep) -> None:
        assert step.canister is not None
        cycles = step.options.get("cycles", "").replace("_", "")
        self._world.create(
            step.canister,
            canister_id=step.options.get("id"),
            cycles=int(cycles) if cycles else None,
            image=self._image if step.canister == self._workload.first else None,
        )

    def _argument(self, step: ModuleStep, number: int) -> str | bytes | None:
        if step.argument is None:
            return None
        if step.argument.startswith("@"):
            found = argument_of_file(step.argument[1:], self._workload.folder)
            return found if isinstance(found, bytes) else self._filled(found, step, number)
        return self._filled(step.argument, step, number)

    def _filled(self, text: str, step: ModuleStep, number: int) -> str:
        return filled(
            text,
            number=number if step.is_repeated else None,
            principal=self._principal,
            folder=self._workload.folder,
        )

    def _principal(self, name: str) -> str:
        if name in self._world.names:
            return self._world.principal(name)
        return principal_text(caller_of(name))

    # -- expecting ------------------------------------------------------------------------------

    def _found(self, step: ModuleStep, number: int, reply: ModuleReply) -> str | None:
        """Say in what a step came to something else than expected; None where it did not."""
        name = self._workload.name
        is_said = False
        for expected in step.expectations:
            is_said |= expected.kind != "measure"
            text = None if expected.text is None else self._filled(expected.text, step, number)
            found = difference(replace(expected, text=text), reply)
            if found is not None:
                return f"{found} ({name}, line {expected.line})"
        if is_said:
            return None
        what = f"{step.word} {step.target}".rstrip()
        is_call = step.word not in _OF_TIME
        if is_call and reply.answer != "reply":
            return f"{what}: {reply.fate}"
        trap = next((it.trap for it in reply.executed if it.trap is not None), None)
        if not is_call and trap is not None:
            return f"{what}: it trapped: {trap}"
        return None


def _with_did(step: ModuleStep, did: str) -> ModuleStep:
    return replace(step, options={"did": did, **step.options})


def _source(path: str, did: str, folder: Path) -> ModuleSource:
    found = module_path(find_file(path, folder) if path[:1] != READY_MARK else path)
    if not found.exists():
        raise ScriptError(
            f"{missing_words(path, folder)}; give the module as it is deployed: NAME.wasm or "
            "NAME.wasm.gz"
        )
    interface = find_file(did, folder) if did else None
    if interface is not None and not interface.exists():
        raise ScriptError(f"{missing_words(did, folder)}; --did takes the interface, a .did file")
    return read_module_source(found, interface)
