"""Steps of a canister's life that change its code: each is one message, which is kept whole or not.

Order and limits are the Internet Computer's: an upgrade runs ``canister_pre_upgrade`` of the old
code, compiles the new one, which costs instructions of the same limit, and runs its start function
and ``canister_post_upgrade``. Each of these is a part, whose OS pages count from nothing. Whatever
fails leaves the canister as it was, with the old code.

Source:
    dfinity/ic rs/execution_environment/src/execution/{install,upgrade}.rs @ 1bc0a5953, 2025-10-31;
    interface specification, "Code installation".
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

from sqlstable.errors import ModuleError, SettingsError, Trap
from sqlstable.ic.contexts import Context
from sqlstable.ic.limit_tables import LIMITS
from sqlstable.ic.limits import Limits
from sqlstable.ic.principals import principal_text
from sqlstable.replica.housed import HousedCanister
from sqlstable.replica.message_runner import MessageRunner
from sqlstable.replica.rejects import Reason, Rejection, error_from, no_module, rejected
from sqlstable.replica.step_run import StepRun
from sqlstable.wasm.environment import ANONYMOUS
from sqlstable.wasm.module_file import ModuleFile
from sqlstable.wasm.program import Program
from sqlstable.wasm.shimstore import open_image_memory, wasm_memory

InstallMode = Literal["install", "reinstall", "upgrade"]
"""What becomes of what was there before."""

KeepHeap = bool | Literal["auto"] | None
"""``wasm_memory_persistence`` of an upgrade: True for keep, False for replace, None for neither.

``auto`` does what tools do: keep where old and new code have enhanced orthogonal persistence.
"""

ProgramOf = Callable[[bytes, str, int], Program]
"""Makes a program of a module that is not compressed, its name, and the bytes that each memory is
to reserve."""

_COMPILE_COST: Final = LIMITS["instructions_compile_wasm_instruction"].at(date.max).value


@dataclass(frozen=True, slots=True)
class CodeStep:
    """What is asked for."""

    mode: InstallMode
    module: bytes
    argument: bytes = b""
    skip_pre_upgrade: bool = False
    keep_heap: KeepHeap = "auto"
    caller: bytes = ANONYMOUS
    label: str | None = None


class CodeSteps:
    """Installs, upgrades and uninstalls.

    Args:
        runner: Runs the messages.
        program_of: Makes programs.
        limits: Of memories and messages.
    """

    def __init__(self, runner: MessageRunner, program_of: ProgramOf, limits: Limits | None) -> None:
        self._runner = runner
        self._program_of = program_of
        self._limits = limits

    def install(self, canister: HousedCanister, step: CodeStep) -> Rejection | None:
        """Install, reinstall or upgrade; returns why not, or None where it is done."""
        try:
            file = ModuleFile.of(step.module)
            refusal = self._refusal(canister, step, file)
            if refusal is not None:
                return refusal

            def make(reach_bytes: int) -> Program:
                return self._program_of(file.wasm, canister.name, reach_bytes)

            had_memory = canister.memory is not None
            self._have_memory(canister, make)
            refusal = self._has_contents(canister, step, had_memory=had_memory)
            if refusal is None:
                refusal = self._run(canister, step, file, make, is_new=not had_memory)
        except ModuleError as error:
            words = f"Canister's Wasm module is not valid: {error}"
            refusal = error_from(canister.id, Reason.INVALID_WASM, words)
            had_memory = canister.module is not None
        if refusal is not None and not had_memory and canister.module is None:
            self._forget_memory(canister)
        return refusal

    def uninstall(self, canister: HousedCanister, *, caller: bytes, label: str | None) -> None:
        """Let code, heap and stable memory go."""
        if canister.module is not None:
            step = StepRun(self._runner, canister, "uninstall", b"", caller, label)
            with step:
                step.memory.wipe()
            step.end()
        canister.module, canister.module_hash, canister.metadata = None, b"", {}
        canister.exports = frozenset()
        canister.timer_ns, canister.certified_data = 0, b""
        canister.chunks.clear()

    # -- inside ---------------------------------------------------------------------------------

    def _run(
        self,
        canister: HousedCanister,
        step: CodeStep,
        file: ModuleFile,
        make: Callable[[int], Program],
        *,
        is_new: bool,
    ) -> Rejection | None:
        run = StepRun(
            self._runner,
            canister,
            step.mode,
            step.argument,
            step.caller,
            step.label,
            module=step.module,
        )
        is_upgrade = step.mode == "upgrade"
        with run:
            if step.mode == "reinstall":
                run.memory.wipe()
            if is_upgrade and not step.skip_pre_upgrade and canister.module is not None:
                run.part("pre_upgrade", "canister_pre_upgrade", Context.PRE_UPGRADE)
            run.next_code()
            run.charge(_COMPILE_COST * compiled_operators(make))
            keeps_heap = is_upgrade and keeps(canister, step, file)
            if not is_new:
                try:
                    canister.store.install(make, keeps_heap=keeps_heap)
                except SettingsError as error:
                    raise Trap(str(error)) from None
            run.start()
            name = "canister_post_upgrade" if is_upgrade else "canister_init"
            run.part("post_upgrade" if is_upgrade else "init", name, Context.INIT, step.argument)
        rejection = run.end()
        if rejection is None:
            canister.module, canister.module_hash = step.module, file.hash
            canister.metadata = file.metadata
            canister.exports = canister.instance.program.layout.exports
            if not is_upgrade and not run.has_certified:
                canister.certified_data = b""
        return rejection

    def _have_memory(self, canister: HousedCanister, make: Callable[[int], Program]) -> None:
        if canister.memory is not None:
            return
        if canister.image is None:
            canister.memory = wasm_memory(make, limits=self._limits)
        else:
            canister.memory = open_image_memory(
                make,
                canister.image,
                limits=self._limits,
                durability=canister.durability,
                is_read_only=False,
            )

    @staticmethod
    def _forget_memory(canister: HousedCanister) -> None:
        if canister.memory is not None:
            canister.memory.close()
            canister.memory = None

    @staticmethod
    def _has_contents(
        canister: HousedCanister, step: CodeStep, *, had_memory: bool
    ) -> Rejection | None:
        """Refuse to install over an image that holds something."""
        assert canister.memory is not None
        if had_memory or step.mode != "install" or not canister.memory.wasm_pages:
            return None
        return rejected(
            Reason.NOT_EMPTY,
            f"the image {canister.image} holds {canister.memory.wasm_pages} Wasm pages; upgrade to "
            "go on with them, or reinstall to begin with an empty stable memory",
        )

    @staticmethod
    def _refusal(canister: HousedCanister, step: CodeStep, file: ModuleFile) -> Rejection | None:
        if step.mode == "install" and canister.module is not None:
            return rejected(
                Reason.NOT_EMPTY,
                f"Canister {principal_text(canister.id)} cannot be installed because the canister "
                "is not empty. Try installing with mode='reinstall' instead.",
            )
        if step.mode != "upgrade":
            return None
        if canister.module is None and canister.image is None:
            return no_module(canister.id)
        is_new_ready = file.keeps_heap
        if step.keep_heap is None and canister.keeps_heap:
            return rejected(
                Reason.CONTRACT_VIOLATION,
                "Missing upgrade option: Enhanced orthogonal persistence requires the "
                "`wasm_memory_persistence` upgrade option.",
            )
        if step.keep_heap is True and not is_new_ready:
            return rejected(
                Reason.CONTRACT_VIOLATION,
                "Invalid upgrade option: The `wasm_memory_persistence: opt Keep` upgrade option "
                "requires that the new canister module supports enhanced orthogonal persistence.",
            )
        return None


def keeps(canister: HousedCanister, step: CodeStep, file: ModuleFile) -> bool:
    """Return whether an upgrade goes on with the heap."""
    if canister.module is None:
        return False
    if step.keep_heap == "auto":
        return canister.keeps_heap and file.keeps_heap
    return bool(step.keep_heap)


def compiled_operators(make: Callable[[int], Program]) -> int:
    """Return what compiling a program is charged for."""
    from sqlstable.wasm.program import NEAR_BYTES  # noqa: PLC0415

    return getattr(make(NEAR_BYTES).layout, "operator_count", 0)
