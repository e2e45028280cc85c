"""The native machine: APSW on a `StableMemory`, with the recorder of own connections."""

from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Self

from sqlstable.canister.heap_door import HeapDoor
from sqlstable.canister.machine import (
    Call,
    Ended,
    Look,
    MakeVFS,
    Opening,
    Parts,
    finish,
    forget,
    open_vfs,
)
from sqlstable.database.checking import Setup
from sqlstable.database.extent import state_size
from sqlstable.database.library import sqlite_version
from sqlstable.database.vfs import StableVFS
from sqlstable.engine.native.link import Heap
from sqlstable.engine.native.native_engine import NativeEngine
from sqlstable.engine.native.step_bound import StepBound
from sqlstable.ic.assumptions import price_settings
from sqlstable.ic.prices import PriceRegime, regime_of
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.ic.words import WIPING_KINDS, CacheState, Depth, PartName, RunEngineName
from sqlstable.memory.accesslog import AccessLog
from sqlstable.memory.stable import StableMemory
from sqlstable.trace.recording.recorder import Recorder


@dataclass(frozen=True, slots=True)
class Left:
    """What is known of a heap, for the connections that stand for it later."""

    heap: Heap = field(default_factory=Heap)
    message_number: int = 0
    "Messages that it has run; SQL's random() goes by it."

    @classmethod
    def of(cls, engine: NativeEngine) -> Self:
        """Take what an engine's committed messages have left."""
        return cls(engine.heap, engine.message_number)


class NativeMachine:
    """SQLite in this process.

    Args:
        memory: The stable memory.
        depth: Of the record.
        make_vfs: What SQLite's files come from.
        prices: What the trace names, to say what its stable memory costs; by default today's.
    """

    name: RunEngineName = "native"
    cache: CacheState = "cold"
    own_parts: frozenset[PartName] = frozenset()

    def __init__(
        self,
        memory: StableMemory,
        *,
        depth: Depth,
        make_vfs: MakeVFS = open_vfs,
        prices: PriceRegime | None = None,
    ) -> None:
        self.memory = memory
        self.depth: Depth = depth
        self._prices = regime = prices or regime_of(memory.limits)
        self.described: dict[str, object] = {
            "engine": self.name,
            "sqlite": sqlite_version(),
            **(
                price_settings(regime)
                if regime.assumptions or regime.day
                else {"prices": regime.name}
            ),
        }
        self.heap_door: HeapDoor | None = None
        self.view: StableVFS | None = None
        self._log = AccessLog(OS_PAGE_BYTES)
        self.recorder = Recorder(self._log, depth=depth)
        self._make_vfs = make_vfs
        self._engine: NativeEngine | None = None
        self._left = Left()
        "What the heap was that was let go last."
        self._before_step: tuple[int, Left] | None = None
        """How many messages the memory had begun before a step, and what the heap was then; until
        the message behind the step begins."""
        self._parts = Parts(memory)
        self._part_starts: list[int] = []
        "Where parts of a step begin in the log."
        self._bound = StepBound(memory)

    def start(self, opening: Opening) -> NativeEngine:
        """Open the connection of the updates; see `Machine.start`."""
        if self.memory.kind is not None:
            return self._open(opening)
        self.memory.begin("query")
        self.memory.limit(None)
        try:
            engine = self._open(opening)
        finally:
            self.memory.rollback()
        engine.resume(self._left.heap)
        engine.message_number = self._left.message_number
        self.recorder.take()
        return engine

    def stop(self, *, is_whole: bool = True) -> None:
        """Close all connections; see `Machine.stop`."""
        if is_whole:
            self._close()
            return
        self.memory.seal()
        with suppress(Exception):
            self._close()
        # What could not be closed goes with its last reference, and its log with it.
        self._engine = self.view = self.memory.log = None
        self._log = AccessLog(OS_PAGE_BYTES)
        self.recorder.start_over(self._log)
        self.memory.recover()
        before = self._before_step
        if before is not None and not self.memory.has_committed_since(before[0]):
            self._left = before[1]

    def begin(self, call: Call) -> None:
        """Choose a connection, and begin the memory's message, or the next part of a step."""
        if self.memory.kind is not None and call.part is not None:
            self._begin_part(call)
            return
        self._parts.running = None
        self._part_starts.clear()
        if self._bound.is_on:
            self._bound.reset()
        self._before_step = None
        if call.cache is None:
            left = self._left if self._engine is None else Left.of(self._engine)
            self._before_step = self.memory.number, left
        must_enter = False
        if call.cache is not None:
            assert self._engine is not None
            must_enter = self._engine.begin(call.kind, call.cache)
        self.memory.begin(call.kind)
        if not call.is_limited:
            self.memory.limit(None)
        if must_enter:
            assert self._engine is not None
            with self.recorder.outside("open"):
                self._engine.enter()

    def end(self, call: Call, look: Look | None) -> Ended:
        """Commit, discard or roll back, and say what happened."""
        memory, engine, vfs, log = self.memory, self._engine, self.view, self._log
        if (
            self._parts.running is not None
            and self._parts.end(call, self._used, None)
            and vfs is not None
        ):
            vfs.store.rebind()
        bytemap = memory.store.bytemap
        facts, trap = finish(
            call,
            memory,
            (len(bytemap.accessed), len(bytemap.dirty)),
            look,
            accesses=log.so_far,
            end=forget if engine is None else engine.end,
            discard=forget if engine is None else engine.discard_heap,
            prices=self._prices,
        )
        if vfs is not None and call.is_committed and call.kind in WIPING_KINDS:
            # What was written behind the wipe lies in an image file from the commit on.
            vfs.store.rebind()
        raw = self.recorder.take()
        if self._part_starts:
            raw = raw._replace(part_starts=tuple(self._part_starts))
        if vfs is not None and vfs.store.is_page_size_stale:
            # Not before the log is taken, which is still in the old unit.
            vfs.adopt_page_size()
            log.sqlite_page_bytes = vfs.store.page_size
        return Ended(facts, raw, trap, log.sqlite_page_bytes)

    def outside(self, name: str, /) -> AbstractContextManager[None]:
        """Bill the accesses of a block to nobody's statement, under ``name``."""
        return self.recorder.outside(name)

    def on_connect(self, setup: Setup) -> None:
        """Run ``setup`` on every connection, those that are open and those to come."""
        assert self._engine is not None
        self._engine.on_connect(setup)

    @property
    def _used(self) -> tuple[int, int]:
        """OS pages that the message, or its part, has accessed and dirtied."""
        bytemap = self.memory.store.bytemap
        return len(bytemap.accessed), len(bytemap.dirty)

    def _begin_part(self, call: Call) -> None:
        self._parts.next(call, self._used, None)
        self._part_starts.append(self._log.position())
        if self.view is not None:
            # What it reads lies elsewhere from here on.
            self.view.store.rebind()
        self._bound.is_on = True
        # A hook writes there without any connection, too.
        self.memory.log = self._log
        if self._engine is not None:
            self._engine.begin("update", "warm")

    def _open(self, opening: Opening) -> NativeEngine:
        memory, log = self.memory, self._log
        memory.log = log
        self.view = vfs = self._make_vfs(memory, opening)
        opening = opening.adopting(vfs)
        log.sqlite_page_bytes = vfs.store.page_size
        if memory.kind != "query":
            # The measured engine goes by the header, too.
            state_size(vfs.store)
        engine = NativeEngine(
            vfs,
            opening.settings,
            self._bound.watching(self.recorder.attach),
            is_foreign=opening.is_foreign,
        )
        try:
            for setup in opening.setups:
                engine.on_connect(setup)
            engine.open()
        except BaseException:
            engine.close()
            raise
        self._engine = engine
        return engine

    def _close(self) -> None:
        if self._engine is not None:
            self._left = Left.of(self._engine)
            self._engine.close()
            self._engine = None
        if self.view is not None:
            self.view.unregister()
            self.view = None
        self.memory.log = None
