"""A module that exports benchmarks, installed once; each benchmark is a message of its own.

As ``canbench`` does it: the module is installed with its argument, stable memory is filled if it
should be, and then each benchmark is a query, so that none finds what another one did. There are
no limits, as on a subnet for benchmarks.

Source: dfinity/canbench canbench-bin/src/lib.rs @ f35fd97, 2026.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from sqlstable.analysis.benching.measured_bench import BenchResult, Touched
from sqlstable.errors import CandidError, Trap
from sqlstable.ic.contexts import Context
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.ic.prices import PriceRegime, regime_of
from sqlstable.ic.units import OS_PAGE_BYTES, OS_PAGES_PER_WASM_PAGE, WASM_PAGE_BYTES
from sqlstable.wasm import shim
from sqlstable.wasm.environment import EntryExport, Environment, RejectData
from sqlstable.wasm.instance import Instance, put_stable
from sqlstable.wasm.module_file import ModuleFile
from sqlstable.wasm.program import NEAR_BYTES, make_program
from sqlstable.wasm.rewrite.module_reader import read_module
from sqlstable.wasm.rewrite.rewriter import START_EXPORT
from sqlstable.workload.benching.bench_reply import EMPTY_ARGUMENT, read_reply

PREFIX: Final = "canister_query __canbench__"
"""What the names of benchmarks begin with among a module's exports."""

_INIT: Final = "canister_init"
_NO_LIMIT: Final = 1 << 62

_SELF: Final = bytes.fromhex("ffffffffffe000000101")
"""The first canister of an application subnet: lxzze-o7777-77777-aaaaa-cai."""

_CYCLES: Final = 1_000_000_000_000_000
"""What ``canbench`` gives a canister."""

_TIME_NS: Final = 1_620_328_630_000_000_000
"""When a local replica's time begins: 2021-05-06."""


def module_bytes(path: Path) -> bytes:
    """Return a module as it is executed.

    Raises:
        ModuleError: It is no module, or compressed and damaged.
        OSError: It cannot be read.
    """
    return ModuleFile.of(path.read_bytes()).wasm


def bench_names(wasm: bytes, pattern: str = "") -> list[str]:
    """Return the names of a module's benchmarks that contain a text, in the module's order.

    Raises:
        ModuleError: The module is damaged, or needs what is not supported.
    """
    exports = read_module(wasm).exports
    names = [it.name.removeprefix(PREFIX) for it in exports if it.name.startswith(PREFIX)]
    return [name for name in names if pattern in name]


class BenchModule:
    """A module that is installed and can be measured; ``prints`` are those of the last benchmark.

    Args:
        wasm: The module, not compressed.
        name: What it is called where its compilation is told.
        regime: The prices.
        init_argument: For ``canister_init``.
        stable: What stable memory holds once the module is installed.
        variables: Environment variables of the canister.
        os_page_bytes: Size of the OS pages that are charged: 4096, or 16 384 on some computers.

    Raises:
        ModuleError: The module is damaged, or needs what is not supported.
        Trap: It trapped when it was installed.
    """

    def __init__(
        self,
        wasm: bytes,
        *,
        name: str,
        regime: PriceRegime,
        init_argument: bytes = b"",
        stable: bytes | None = None,
        variables: tuple[tuple[str, str], ...] = (),
        os_page_bytes: int = OS_PAGE_BYTES,
    ) -> None:
        program = make_program(
            wasm,
            name=name,
            regime=regime,
            watches_heap=True,
            is_benchmark=True,
            os_page_bytes=os_page_bytes,
        )
        self._regime = program.regime
        self._today = regime_of(None).for_heap(is_64=program.layout.is_64)
        self.prints: tuple[str, ...] = ()
        self._environment = Environment(
            Context.QUERY,
            self_id=_SELF,
            time_ns=_TIME_NS,
            cycle_balance=_CYCLES,
            variables=variables,
        )
        wasm_pages_max = NEAR_BYTES // WASM_PAGE_BYTES
        self._instance = Instance(program, stable_wasm_pages_max=wasm_pages_max, limits=None)
        self._install(init_argument)
        if stable is not None:
            self._fill(stable)

    def measure(self, name: str) -> BenchResult:
        """Run a benchmark; what it does is taken back.

        Raises:
            Trap: It trapped, or replied nothing, or something else.
        """
        instance = self._instance
        method = f"__canbench__{name}"
        instance.begin_message(shim.INSTRUCTIONS_MAX, _NO_LIMIT, _NO_LIMIT)
        try:
            left = instance.execute(
                EntryExport(f"canister_query {method}"),
                EMPTY_ARGUMENT,
                replace(self._environment, method_name=method),
            )
            touched = self._touched(instance.tell())
        finally:
            instance.rollback(is_new_heap=False)
        self.prints = left.prints
        if isinstance(left.answer, RejectData):
            words = left.answer.message.decode(errors="replace")
            raise Trap(f"the canister rejected the call: {words}")
        if left.answer is None:
            raise Trap("the canister did not produce a response")
        try:
            result = read_reply(left.answer.data)
        except CandidError as error:
            raise Trap(f"its reply cannot be read: {error}") from None
        return BenchResult(result.total, result.scopes, touched)

    def close(self) -> None:
        """Give everything back."""
        self._instance.close()

    def _install(self, argument: bytes) -> None:
        instance = self._instance
        exports = instance.program.layout.exports
        instance.begin_message(shim.INSTRUCTIONS_MAX, _NO_LIMIT, _NO_LIMIT)
        try:
            instance.renew_heap()
            for entry, context in ((START_EXPORT, Context.START), (_INIT, Context.INIT)):
                if entry in exports:
                    environment = replace(self._environment, context=context)
                    sent = argument if entry == _INIT else b""
                    instance.execute(EntryExport(entry), sent, environment)
            instance.prepare_commit()
        except BaseException:
            instance.rollback(is_new_heap=True)
            raise
        instance.commit(is_new_heap=True)

    def _fill(self, stable: bytes) -> None:
        if not self._instance.set_stable_size(-(-len(stable) // WASM_PAGE_BYTES)):
            raise Trap(f"this computer has no memory for {len(stable)} bytes of stable memory")
        put_stable(self._instance, 0, stable)

    def _touched(self, status: shim.ShimStatus) -> Touched:
        instance = self._instance
        accessed = instance.noted(shim.ACCESSED, status.accessed_count)
        dirty = instance.noted(shim.DIRTY, status.dirty_count)
        regions, dirty_regions = len(set(_regions(accessed))), len(set(_regions(dirty)))
        used = shim.INSTRUCTIONS_MAX - status.counter
        today = self._today
        used_today = used - status.page_charges + _heap_cost(today, status)
        used_today += today.stable_page_cost(
            wasm_pages_accessed=regions,
            wasm_pages_dirty=dirty_regions,
            os_pages_dirty=status.dirty_count,
        )
        return Touched(
            instructions=used + _heap_cost(self._regime, status),
            instructions_today=used_today,
            cycles=CycleFees(is_64=instance.program.layout.is_64).execution(
                instructions=used_today
            ),
            os_pages_accessed=status.accessed_count,
            os_pages_dirty=status.dirty_count,
            regions_accessed=regions,
            regions_dirty=dirty_regions,
            heap_os_pages_accessed=status.heap_os_pages_accessed,
            heap_os_pages_dirty=status.heap_os_pages_written,
            heap_regions_accessed=status.heap_regions_accessed,
            heap_regions_dirty=status.heap_regions_written,
        )


def _heap_cost(regime: PriceRegime, status: shim.ShimStatus) -> int:
    """Return what a message owes for its heap, which is not on its counter."""
    return regime.heap_cost(
        wasm_pages_accessed=status.heap_regions_accessed,
        wasm_pages_written=status.heap_regions_written,
        os_pages_written=status.heap_os_pages_priced,
    )


def _regions(os_pages: bytes) -> Iterator[int]:
    return (page // OS_PAGES_PER_WASM_PAGE for page in memoryview(os_pages).cast("q"))
