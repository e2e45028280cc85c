"""Making the machine that was chosen, on a memory that is given or to be made."""

from sqlstable.canister.choices import Choices
from sqlstable.canister.machine import Machine
from sqlstable.canister.native_machine import NativeMachine
from sqlstable.errors import SettingsError
from sqlstable.memory.stable import StableMemory


def make_machine(choices: Choices) -> Machine:
    """Return the machine that was chosen.

    Raises:
        SettingsError: wasmtime is missing, or a setting is not one of its.
        ImageError: The image file cannot be used.
    """
    memory = open_memory(choices) if choices.memory is None else choices.memory
    try:
        return _machine_on(memory, choices)
    except BaseException:
        if choices.memory is None:
            memory.close()
        raise


def open_memory(choices: Choices) -> StableMemory:
    """Return the memory of an engine: on an image file, or empty in this process.

    Raises:
        SettingsError: wasmtime is missing, or there is no such build.
        ImageError: The image file cannot be used.
    """
    if choices.engine == "wasm":
        from sqlstable.canister.measured_machine import open_wasm_memory  # noqa: PLC0415  slow to import

        return open_wasm_memory(choices)
    _check_native(choices)
    if choices.path is None:
        return StableMemory(limits=choices.limits)
    return StableMemory.open(
        choices.path,
        limits=choices.limits,
        durability=choices.durability or "process",
        is_read_only=choices.read_only,
    )


def _check_native(choices: Choices) -> None:
    if choices.engine == "both":
        return
    for name, value in (("build", choices.build), ("track_heap", choices.track_heap)):
        if value is not None:
            raise SettingsError(
                f"{name} concerns the wasm engine; leave it out, or choose engine='wasm'"
            )


def _machine_on(memory: StableMemory, choices: Choices) -> Machine:
    if choices.machine is not None:
        return choices.machine(memory)
    if choices.engine == "native":
        _check_native(choices)
        return NativeMachine(memory, depth=choices.depth, prices=choices.regime)
    if choices.engine == "both":
        from sqlstable.canister.both_machine import BothMachine  # noqa: PLC0415  slow to import

        return BothMachine(memory, choices)
    from sqlstable.canister.measured_machine import (  # noqa: PLC0415  slow to import
        MeasuredMachine,
        adopted_memory,
    )

    return MeasuredMachine(
        adopted_memory(memory, choices),
        depth=choices.depth,
        prices=choices.regime if choices.prices is not None else None,
    )
