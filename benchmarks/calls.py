"""What one call of an empty method takes at each door, for a canister as ``ic-cdk`` builds it.

``python -m benchmarks.calls MODULE.wasm METHOD [INIT]`` calls an update without arguments, best of
seven times so many calls, the processor's seconds: of the engine alone (a message begun, executed
and committed), of a replica with its call contexts, and of `sqlstable.CanisterModule` with the
reply read. ``benchmarks/modules.py`` says how such modules are come by.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import MICROSECONDS, interleaved_minima, markdown
from sqlstable import CanisterModule
from sqlstable.ic.contexts import Context
from sqlstable.ic.prices import regime_of
from sqlstable.replica.replica import Replica
from sqlstable.wasm import shim
from sqlstable.wasm.environment import EntryExport, Environment
from sqlstable.wasm.instance import Instance
from sqlstable.wasm.program import make_program
from sqlstable.wasm.rewrite.rewriter import START_EXPORT

EMPTY = b"DIDL\0\0"
NO_LIMIT = 1 << 62


def engine_call(path: Path, method: str, argument: bytes) -> Callable[[], object]:
    """Return a call of the engine alone."""
    program = make_program(
        path.read_bytes(), name=path.name, regime=regime_of(None), watches_heap=True
    )
    instance = Instance(program, stable_wasm_pages_max=1 << 16, limits=None)
    update = Environment(Context.UPDATE, method_name=method)

    def run(entry: str, sent: bytes, environment: Environment) -> None:
        instance.begin_message(shim.INSTRUCTIONS_MAX, NO_LIMIT, NO_LIMIT)
        instance.execute(EntryExport(entry), sent, environment)
        instance.prepare_commit()
        instance.commit(is_new_heap=False)

    if START_EXPORT in program.layout.exports:
        run(START_EXPORT, b"", Environment(Context.START))
    run("canister_init", argument, Environment(Context.INIT))
    export = f"canister_update {method}"
    return lambda: run(export, EMPTY, update)


def replica_call(path: Path, method: str, argument: bytes) -> Callable[[], object]:
    """Return a call of a replica."""
    replica = Replica()
    replica.create("called")
    assert replica.install("called", path.read_bytes(), argument).rejection is None
    return lambda: replica.update("called", method, EMPTY)


def door_call(path: Path, method: str, argument: bytes) -> Callable[[], object]:
    """Return a call of the front door."""
    module = CanisterModule(path, argument)
    return lambda: module.update(method).answer


def timed(call: Callable[[], object], calls: int) -> Callable[[], float]:
    """Return what measures the seconds of one of many calls."""

    def seconds() -> float:
        start = time.process_time()
        for _ in range(calls):
            call()
        return (time.process_time() - start) / calls

    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", type=Path)
    parser.add_argument("method")
    parser.add_argument("init", nargs="?", default=EMPTY.hex(), help="bytes of init's argument")
    parser.add_argument("--calls", type=int, default=1000)
    given = parser.parse_args()
    argument = bytes.fromhex(given.init)
    doors = {"engine": engine_call, "replica": replica_call, "CanisterModule": door_call}
    actions = {
        name: timed(make(given.module, given.method, argument), given.calls)
        for name, make in doors.items()
    }
    found = interleaved_minima(actions, runs=7)
    rows = [(name, f"{seconds * MICROSECONDS:.1f}") for name, seconds in found.items()]
    print(markdown((f"an update {given.method} of {given.module.name}", "µs"), rows))


if __name__ == "__main__":
    main()
