"""Making the machine of an engine, on a memory that is given or to be made."""

from sqlstable.canister.choices import Flavour, Place
from sqlstable.canister.machine import EngineName, Machine
from sqlstable.canister.native_machine import NativeMachine
from sqlstable.errors import SettingsError
from sqlstable.memory.stable import StableMemory
from sqlstable.trace.recording.recorder import Depth


def make_machine(
    engine: EngineName,
    flavour: Flavour,
    memory: StableMemory | Place,
    *,
    depth: Depth,
) -> Machine:
    """Return the machine of an engine, on a memory that is given or to be made.

    Raises:
        SettingsError: wasmtime is missing, or a setting is not one of its.
        ImageError: The image file cannot be used.
    """
    if isinstance(memory, Place):
        memory = open_memory(engine, flavour, memory)
    if engine == "native":
        _check_native(flavour)
        return NativeMachine(memory, depth=depth)
    from sqlstable.canister.measured_machine import (  # noqa: PLC0415  slow to import
        MeasuredMachine,
        adopted_memory,
    )

    return MeasuredMachine(adopted_memory(memory, flavour), depth=depth)


def open_memory(engine: EngineName, flavour: Flavour, place: Place) -> StableMemory:
    """Return the memory of an engine: on an image file, or empty in this process.

    Raises:
        SettingsError: wasmtime is missing, or there is no such build.
        ImageError: The image file cannot be used.
    """
    if engine == "wasm":
        from sqlstable.canister.measured_machine import open_wasm_memory  # noqa: PLC0415  slow to import

        return open_wasm_memory(flavour, place)
    _check_native(flavour)
    if place.path is None:
        return StableMemory(limits=place.limits)
    return StableMemory.open(
        place.path,
        limits=place.limits,
        durability=place.durability or "process",
        is_read_only=place.read_only,
    )


def _check_native(flavour: Flavour) -> None:
    for name, value in (("build", flavour.build), ("track_heap", flavour.track_heap)):
        if value is not None:
            raise SettingsError(
                f"{name} concerns the wasm engine; leave it out, or choose engine='wasm'"
            )
