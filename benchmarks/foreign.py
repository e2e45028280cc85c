"""What canister modules of others take here, against goals.

    python -m benchmarks.foreign [--quick] [MODULE.wasm ...]

Messages of an empty canister; compute-bound kernels against plain wasmtime without metering, side
by side in one process; and how long modules take to be compiled and to come from the cache: a
synthetic one of 2 MB, and those that are named. Where one of them is `tests/modules/rust/store`, an
update of it that does nothing is measured, too.
"""

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import wasmtime

from benchmarks.foreign_kernels import KERNELS, synthetic_module
from benchmarks.goals import Outcome, goal_table
from benchmarks.measure import MICROSECONDS, geometric_mean, interleaved_minima, markdown
from sqlstable.ic.prices import PRICE_REGIMES, REPLICA
from sqlstable.replica.replica import Replica
from sqlstable.wasm import shim
from sqlstable.wasm.environment import ReplyData
from sqlstable.wasm.instance import Instance
from sqlstable.wasm.program import NEAR_BYTES, Program, _engine, make_program
from sqlstable.wasm.rewrite.rewriter import RewriteOptions, rewrite
from sqlstable.wasm.shimstore import wasm_memory

NO_LIMIT: Final = (1 << 63) - 1

EMPTY: Final = """(module
  (import "ic0" "msg_reply" (func $reply))
  (memory 1)
  (func (export "canister_update empty") (call $reply)))"""


def program_of(wasm: bytes, name: str, reach_bytes: int = NEAR_BYTES) -> Program:
    """Return a program with heap marks, in today's regime."""
    regime = PRICE_REGIMES["memory-tracker"]
    return make_program(wasm, name=name, regime=regime, watches_heap=True, reach_bytes=reach_bytes)


# -- messages ------------------------------------------------------------------------------------


def empty_update_us(calls: int) -> dict[str, float]:
    """Return microseconds of an empty update: of the instance alone, and of a memory with it."""
    wasm = bytes(wasmtime.wat2wasm(EMPTY))
    instance = Instance(program_of(wasm, "empty"), stable_wasm_pages_max=100, limits=None)
    memory = wasm_memory(lambda reach: program_of(wasm, "empty", reach))

    def alone() -> None:
        instance.begin_message(shim.INSTRUCTIONS_MAX, NO_LIMIT, NO_LIMIT)
        instance.call("canister_update empty", b"DIDL\0\0")
        instance.prepare_commit()
        instance.commit(is_new_heap=False)

    def whole() -> None:
        memory.begin("update")
        memory.store.machine.call("canister_update empty", b"DIDL\0\0")  # type: ignore[attr-defined]
        memory.commit()

    def timed(action: Callable[[], None]) -> Callable[[], float]:
        def seconds() -> float:
            start = time.process_time()
            for _ in range(calls):
                action()
            return (time.process_time() - start) / calls

        return seconds

    found = interleaved_minima(
        {"instance alone": timed(alone), "stable memory and instance": timed(whole)}, runs=7
    )
    memory.close()
    instance.close()
    return {name: seconds * MICROSECONDS for name, seconds in found.items()}


def cdk_update_us(path: Path, calls: int) -> float:
    """Return microseconds of an update that does nothing, of a canister made with ``ic-cdk``.

    It goes the whole way of `Replica.update`: from outside, by the queue, with its environment.
    """
    replica = Replica()
    replica.create("store")
    replica.install("store", path.read_bytes(), _TITLE)

    def seconds() -> float:
        start = time.process_time()
        for _ in range(calls):
            replica.update("store", "nothing", b"DIDL\0\0")
        return (time.process_time() - start) / calls

    assert isinstance(replica.update("store", "nothing", b"DIDL\0\0").answer, ReplyData)
    found = min(seconds() for _ in range(7))
    replica.close()
    return found * MICROSECONDS


_TITLE: Final = b"DIDL\0\1\x71\1x"
"""A text, for the ``canister_init`` of `tests/modules/rust/store`."""


# -- kernels -------------------------------------------------------------------------------------


def plain(wasm: bytes, *, has_canonical_nans: bool = False) -> Callable[[], int]:
    """Return a kernel in plain wasmtime, as it is configured by default."""
    config = wasmtime.Config()
    config.cranelift_nan_canonicalization = has_canonical_nans
    engine = wasmtime.Engine(config)
    store = wasmtime.Store(engine)
    instance = wasmtime.Instance(store, wasmtime.Module(engine, wasm), [])
    function = instance.exports(store)["canister_update kernel"]
    return lambda: function(store)  # type: ignore[operator]


def metered(wasm: bytes) -> Callable[[], int]:
    """Return a kernel with its instructions counted, and no heap marks."""
    rewritten = rewrite(wasm, RewriteOptions(weights=REPLICA))
    engine = _engine(NEAR_BYTES)
    store = wasmtime.Store(engine)
    store.set_epoch_deadline(1 << 60)
    kinds = {"counter": wasmtime.ValType.i64(), "heap_size": wasmtime.ValType.i32()}
    values: dict[str, Any] = {"counter": 1 << 62, "heap_size": rewritten.heap.minimum}
    linker = wasmtime.Linker(engine)
    limits = wasmtime.Limits(rewritten.heap.minimum, None)
    linker.define(store, "sqlstable", "heap", wasmtime.Memory(store, wasmtime.MemoryType(limits)))
    for name in ("counter", "heap_size", "trap_code"):
        kind = wasmtime.GlobalType(kinds.get(name, wasmtime.ValType.i32()), mutable=True)
        made = wasmtime.Global(store, kind, values.get(name, 0))
        linker.define(store, "sqlstable", name, made)
    instance = linker.instantiate(store, wasmtime.Module(engine, rewritten.wasm))
    function = instance.exports(store)["canister_update kernel"]
    return lambda: function(store)  # type: ignore[operator]


def watched(wasm: bytes, name: str) -> Callable[[], int]:
    """Return a kernel as a canister runs it: counted, heap marks on, in a message."""
    instance = Instance(program_of(wasm, name), stable_wasm_pages_max=100, limits=None)

    def run() -> int:
        instance.begin_message(shim.INSTRUCTIONS_MAX, NO_LIMIT, NO_LIMIT)
        instance.call("canister_update kernel", b"")
        instance.commit(is_new_heap=False)
        return 0

    return run


def kernel_ratios(scale: int, runs: int) -> dict[str, tuple[float, float, float, float]]:
    """Return milliseconds of each kernel in plain wasmtime, and the ratios of others to that."""
    found = {}
    for name, text in KERNELS.items():
        wasm = bytes(wasmtime.wat2wasm(text.replace("SCALE", str(scale))))
        variants = {
            "plain": plain(wasm),
            "canonical": plain(wasm, has_canonical_nans=True),
            "metered": metered(wasm),
            "watched": watched(wasm, name),
        }

        def seconds_of(action: Callable[[], int]) -> Callable[[], float]:
            def seconds() -> float:
                start = time.process_time()
                action()
                return time.process_time() - start

            return seconds

        least = interleaved_minima(
            {key: seconds_of(action) for key, action in variants.items()}, runs=runs
        )
        first = least["plain"]
        others = (least[key] / first for key in ("canonical", "metered", "watched"))
        found[name] = (first * 1e3, *others)
        gc.collect()
    return found


# -- compiling -----------------------------------------------------------------------------------


def compile_seconds(wasm: bytes, name: str) -> tuple[float, float, float]:
    """Return the seconds of the first compilation, by the clock and of the processor.

    And those of loading from the cache, by the clock.
    """
    old = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        try:
            program_of(bytes(wasmtime.wat2wasm(EMPTY)), "first")  # the shim
            start, start_cpu = time.perf_counter(), time.process_time()
            program_of(wasm, name)
            first, cpu = time.perf_counter() - start, time.process_time() - start_cpu
            gc.collect()
            cached = []
            for _ in range(3):
                start = time.perf_counter()
                program_of(wasm, name)
                cached.append(time.perf_counter() - start)
                gc.collect()
        finally:
            if old is None:
                del os.environ["XDG_CACHE_HOME"]
            else:
                os.environ["XDG_CACHE_HOME"] = old
    return first, cpu, min(cached)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", type=Path)
    parser.add_argument("--quick", action="store_true", help="small and once")
    chosen = parser.parse_args(arguments)
    calls, scale, runs = (200, 1, 2) if chosen.quick else (2_000, 10, 9)
    outcomes = []

    print("## Messages of an empty canister\n")
    empty = empty_update_us(calls)
    for path in chosen.modules:
        if b"canister_update nothing" in path.read_bytes():
            empty[f"replica, `nothing` of {path.name}"] = cdk_update_us(path, calls)
    print(markdown(("what", "µs"), [(name, f"{found:.1f}") for name, found in empty.items()]))
    outcomes.append(Outcome("empty update, heap marks on, µs", 60, max(empty.values())))

    print("\n## Kernels\n")
    ratios = kernel_ratios(scale, runs)
    rows = [
        (name, f"{row[0]:.1f}", *(f"{ratio:.2f}" for ratio in row[1:]))
        for name, row in ratios.items()
    ]
    means = [geometric_mean(row[at] for row in ratios.values()) for at in (1, 2, 3)]
    rows.append(("geometric mean", "", *(f"{mean:.2f}" for mean in means)))
    header = ("kernel", "plain ms", "canonical NaN ÷", "counted ÷", "heap marks too ÷")
    print(markdown(header, rows))
    outcomes.append(Outcome("kernels counted ÷ plain, geometric mean", 1.6, means[1]))
    outcomes.append(Outcome("kernels with heap marks ÷ plain, geometric mean", 2.2, means[2]))

    print("\n## Compiling\n")
    modules = {"synthetic, 2 MB": synthetic_module(100_000 if chosen.quick else 2_000_000)}
    modules |= {path.name: path.read_bytes() for path in chosen.modules}
    found = {name: compile_seconds(wasm, name) for name, wasm in modules.items()}
    rows = [
        (name, f"{len(modules[name]) / 1e6:.2f}", f"{first:.1f}", f"{cpu:.1f}", f"{cached:.3f}")
        for name, (first, cpu, cached) in found.items()
    ]
    print(markdown(("module", "MB", "first s", "of the processor s", "from cache s"), rows))
    _, cpu, cached = found["synthetic, 2 MB"]
    outcomes.append(Outcome("first compilation of 2 MB, processor's seconds", 10, cpu))
    outcomes.append(Outcome("from the cache, s", 0.1, cached))

    print("\n## Goals\n")
    print(goal_table(outcomes))


if __name__ == "__main__":
    main()
