"""The measured machine: SQLite in a Wasm module, whose instructions are counted."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple, NoReturn

from sqlstable.canister.asked import Request
from sqlstable.canister.choices import Choices
from sqlstable.canister.heap_door import HeapDoor
from sqlstable.canister.machine import Call, Ended, Look, Opening, finish, open_vfs
from sqlstable.canister.measured_parts import MeasuredParts
from sqlstable.canister.noted import raw_message
from sqlstable.database.checking import Setup
from sqlstable.database.extent import state_size
from sqlstable.database.vfs import StableVFS
from sqlstable.engine.measured.measured_engine import WasmEngine
from sqlstable.engine.measured.module.builds import BUILDS, load, load_program
from sqlstable.errors import ImageError, SettingsError, Trap
from sqlstable.ic.assumptions import check_counted, price_settings
from sqlstable.ic.limits import resolve_limits
from sqlstable.ic.prices import PriceRegime
from sqlstable.ic.words import CacheState, Depth, PartName, RunEngineName
from sqlstable.memory.copying import copy_memory
from sqlstable.memory.stable import StableMemory
from sqlstable.trace.recording.raw import OutsideSpan
from sqlstable.wasm.instance import call_each
from sqlstable.wasm.program import Program
from sqlstable.wasm.rewrite.rewriter import START_EXPORT
from sqlstable.wasm.shimstore import (
    ShimStore,
    catch_up,
    open_image_memory,
    shim_of,
    wasm_memory,
)

SQLITE_VERSION: Final = "3.54.1"
"""Of the amalgamation that the modules are built from."""

DEFAULT_BUILD: Final = "standard"

PRE_UPGRADE: Final = "canister_pre_upgrade"
"""What the Internet Computer calls before an upgrade, where a module exports it."""


class BeforeStep(NamedTuple):
    """What there was before a step of the life cycle, which may fail."""

    memory_number: int
    engine: WasmEngine
    opening: Opening
    message_number: int
    "Messages that the engine had run; SQL's random() goes by it."


class MeasuredMachine:
    """SQLite in a Wasm module.

    Args:
        memory: The stable memory, with the instance that works on it.
        depth: Of the record.
        asks_plans: Whether statements are recorded with their plans.
        prices: What was asked for, and the memory's instance counts by; by default what it does.
    """

    name: RunEngineName = "wasm"
    cache: CacheState = "warm"

    def __init__(
        self,
        memory: StableMemory,
        *,
        depth: Depth,
        asks_plans: bool = True,
        prices: PriceRegime | None = None,
    ) -> None:
        store = shim_of(memory)
        program = store.machine.program
        exports: dict[PartName, str] = {"pre_upgrade": PRE_UPGRADE, "start": START_EXPORT}
        self.own_parts: frozenset[PartName] = frozenset(
            part for part, name in exports.items() if name in program.layout.exports
        )
        self.memory = memory
        self.depth: Depth = depth
        self.described: dict[str, object] = {
            "engine": self.name,
            "sqlite": SQLITE_VERSION,
            "build": program.name,
            "measured": True,
            **price_settings(prices or program.regime),
            "price_regime": program.regime.name,
            "track_heap": program.watches_heap,
        }
        self._prices = prices or program.regime
        self.heap_door: HeapDoor | None = HeapDoor(store, partial(load, program.name))
        self._store = store
        self._asks_plans = asks_plans
        self._has_counters = depth == "counters"
        self._parts = MeasuredParts(memory)
        self._has_started = False
        "Whether the module's start function has run in the open message."
        self._outside: list[OutsideSpan] = []
        self._vfs: StableVFS | None = None
        self._engine: WasmEngine | None = None
        self._opening: Opening
        self._old: tuple[WasmEngine, Opening] | None = None
        "The heap that the memory has, while there is no engine for it."
        self._before_step: BeforeStep | None = None
        "Until the message behind a step begins."

    @property
    def view(self) -> StableVFS | None:
        """What the observer looks through, up to date."""
        if self._vfs is not None:
            self._settle(self._vfs, is_watched=True)
        return self._vfs

    def start(self, opening: Opening) -> WasmEngine:
        """Start the module on a new heap; see `Machine.start`."""
        memory = self.memory
        if memory.kind is not None:
            return self._open(opening)
        if self._old is not None:
            engine, opening = self._old
            self._go_on(engine, opening)
        else:
            # There never was one: an image that only takes queries.
            memory.begin("query")
            memory.limit(None)
            try:
                engine = self._open(opening)
                self._store.keep_heap()
            finally:
                memory.rollback()
        engine.take_notes()
        return engine

    def stop(self, *, is_whole: bool = True) -> None:
        """Let go of engine and VFS; the memory still has the heap."""
        if is_whole:
            self._close()
            return
        self.memory.seal()
        with suppress(Exception):
            self._close()
        if self._engine is not None:
            self._old = (self._engine, self._opening)
        self._engine = self._vfs = None
        if self._old is not None:
            self._old[0].discard_heap()
        self._outside.clear()
        self.memory.recover()
        before = self._before_step
        if before is not None and not self.memory.has_committed_since(before.memory_number):
            # The heap is that of before, and so is what its engine knows of it.
            before.engine.discard_heap()
            before.engine.message_number = before.message_number
            self._old = before.engine, before.opening

    def go_on_from(self, message_number: int) -> None:
        """Let the heap have run so many messages, by which SQL's random numbers go."""
        assert self._engine is not None
        self._engine.message_number = message_number

    def repeat(self, messages: Iterable[tuple[int, Sequence[Request]]]) -> None:
        """Live through updates that nobody wants to know anything of, all in one message.

        Args:
            messages: The number of each on its heap, and what it asks; none changes schema,
                settings or transactions.

        Raises:
            Trap: One of them trapped; nothing of all has happened.
        """
        memory, engine = self.memory, self._engine
        assert engine is not None
        engine.begin("update", "warm")
        memory.begin("update")
        memory.limit(None)
        try:
            sent = _sent(engine, messages)
            call_each(self._store.machine, "canister_update execute", sent)
            memory.commit()
        except BaseException:
            engine.discard_heap()
            memory.rollback()
            raise
        engine.end(discarded=False)

    def begin(self, call: Call) -> None:
        """Begin the memory's message, with the heap that the call wants, or a step's next part."""
        if self.memory.kind is not None and call.part is not None:
            self._begin_part(call)
            return
        self._parts.reset()
        self._has_started = False
        self._before_step = None
        if call.cache is None:
            now = self._old if self._engine is None else (self._engine, self._opening)
            if now is not None:
                self._before_step = BeforeStep(self.memory.number, *now, now[0].message_number)
        must_enter = False
        if call.cache is not None:
            assert self._engine is not None
            must_enter = self._engine.begin(call.kind, call.cache)
        self.memory.begin(call.kind)
        if not call.is_limited:
            self.memory.limit(None)
        if must_enter:
            assert self._engine is not None
            with self.outside("open"):
                self._engine.enter()

    def end(self, call: Call, look: Look | None) -> Ended:
        """Commit, discard or roll back, and say what happened."""
        memory, engine, vfs = self.memory, self._engine, self._vfs
        if engine is None:
            # Uninstalled: whoever was there last has nothing more to say.
            assert self._old is not None
            engine = self._old[0]
        elif vfs is not None and call.cache is None:
            # A step's owners are looked for behind its end, where nothing may fail any more.
            self._settle(vfs, is_watched=True)
        self._parts.end(call)
        # The shim forgets with the message.
        notes = engine.take_notes()
        notes.earlier_heaps = tuple(self._parts.heaps)
        status = notes.status
        used = status.accessed_count, status.dirty_count
        facts, trap = finish(
            call,
            memory,
            used,
            look,
            accesses=notes.log.taken,
            end=engine.end,
            discard=engine.discard_heap,
            prices=self._prices,
        )
        raw = raw_message(notes, self._outside, trap)
        self._outside.clear()
        if vfs is None:
            return Ended(facts, raw, trap, self._opening.settings.page_size)
        if call.is_committed or look is not None:
            self._settle(vfs, is_watched=look is not None)
        if vfs.store.is_page_size_stale:
            vfs.adopt_page_size()
        return Ended(facts, raw, trap, vfs.store.page_size)

    @contextmanager
    def outside(self, name: str, /) -> Iterator[None]:
        """Bill the accesses of a block to nobody's statement, under ``name``."""
        start = self._position()
        try:
            yield
        finally:
            stop = self._position()
            if stop > start:
                self._outside.append(OutsideSpan(start, stop, name))

    def on_connect(self, setup: Setup) -> NoReturn:
        """Refuse: a Wasm module calls no Python.

        Raises:
            SettingsError: Always.
        """
        raise SettingsError(
            "functions and collations of Python cannot be called from a Wasm module; use the "
            "native engine for them, or SQL"
        )

    def _begin_part(self, call: Call) -> None:
        self._parts.next(call)
        if self._engine is not None:
            self._engine.begin("update", "warm")
        if call.part == "pre_upgrade" and call.part in self.own_parts:
            self._run(PRE_UPGRADE)
        elif call.part == "start" and call.part in self.own_parts:
            if self._engine is None:
                # Else the heap is kept, and the new code finds it as it is.
                self._store.renew_heap()
                self._store.machine.renew_heap()
                self._has_started = True
            self._run(START_EXPORT)

    def _run(self, name: str) -> None:
        """Call an entry point of the module's own, in a part of its own."""
        try:
            self._store.machine.call(name, b"")
        except Trap as trap:
            raise self.memory.poison(trap) from None

    def _open(self, opening: Opening) -> WasmEngine:
        self._opening = opening
        if self.memory.wasm_pages:
            # Where it is empty, the module comes first.
            vfs = self._look(opening)
            opening = self._opening = opening.adopting(vfs)
            if self.memory.kind != "query":
                # The module goes by the header.
                state_size(vfs.store)
            elif hot := vfs.cabinet.hot_databases():
                raise ImageError(
                    f"the image has a journal of {hot[0]} that was left in the middle of a "
                    "transaction, which SQLite plays back where it may write; open the image once "
                    "without read_only"
                )
        self._engine = engine = WasmEngine(
            self.memory,
            opening.settings,
            counters=self._has_counters,
            is_foreign=opening.is_foreign,
            noted=None if self._old is None else self._old[0].calls,
            asks_plans=self._asks_plans,
        )
        wanted = None if self.heap_door is None else self.heap_door.wanted
        if wanted is None or self.heap_door is None:
            engine.open(has_started=self._has_started)
        else:
            self.heap_door.put(wanted)
        engine.look_through(self._vfs or self._look(opening))
        return engine

    def _go_on(self, engine: WasmEngine, opening: Opening) -> None:
        """Go on with the heap that the memory's rollback has brought back."""
        engine.look_through(self._look(opening))
        self._engine = engine

    def _look(self, opening: Opening) -> StableVFS:
        with self._store.looking():
            vfs = open_vfs(self.memory, opening)
        self._vfs = vfs
        return vfs

    def _close(self) -> None:
        if self._engine is not None:
            self._old = (self._engine, self._opening)
            self._engine.close()
            self._engine = None
        if self._vfs is not None:
            self._vfs.unregister()
            self._vfs = None

    def _settle(self, vfs: StableVFS, *, is_watched: bool) -> None:
        """Let the VFS follow what messages have done; at once if ``is_watched``."""
        if self._engine is None or not self._store.is_behind:
            return
        page_size = self._engine.database.page_size()
        is_other = page_size is not None and page_size != vfs.store.page_size
        if is_watched or is_other:
            catch_up(self.memory)
        if is_other:
            vfs.store.is_page_size_stale = True

    def _position(self) -> int:
        return self._store.machine.tell().log_count


def _sent(engine: WasmEngine, messages: Iterable[tuple[int, Sequence[Request]]]) -> Iterator[bytes]:
    """Yield what messages send to the module, one request after the other."""
    for number, requests in messages:
        engine.message_number = number
        for request in requests:
            sent = engine.request_of(*request)
            if sent is not None:
                yield sent


def open_wasm_memory(choices: Choices) -> StableMemory:
    """Return a memory for the wasm engine, empty or on an image file.

    Raises:
        SettingsError: wasmtime is missing, or there is no such build.
        ImageError: The image file cannot be used.
    """
    limits = resolve_limits(choices.limits)
    make = _program_maker(choices)
    if choices.path is None:
        return wasm_memory(make, limits=limits)
    return open_image_memory(
        make,
        choices.path,
        limits=limits,
        durability=choices.durability or "process",
        is_read_only=choices.read_only,
    )


def adopted_memory(memory: StableMemory, choices: Choices) -> StableMemory:
    """Return a memory for the wasm engine that holds what another one does, or is it already.

    Raises:
        SettingsError: It is an image file of the native engine, or of another build.
    """
    if isinstance(memory.store, ShimStore):
        program = memory.store.machine.program
        for name, wanted, found in (
            ("build", choices.build, program.name),
            ("track_heap", choices.track_heap, program.watches_heap),
            ("prices", choices.prices and choices.regime.name, program.regime.name),
        ):
            if wanted is not None and wanted != found:
                raise SettingsError(f"{name} is {wanted!r}, and the memory was made for {found!r}")
        return memory
    if memory.image_file is not None:
        raise SettingsError(
            "the memory is an image file that the native engine has open; give its path instead, "
            "as in Canister(path, engine='wasm')"
        )
    copy = open_wasm_memory(replace(choices, path=None, memory=None, limits=memory.limits))
    try:
        copy_memory(memory, copy)
    except SettingsError as error:
        copy.close()
        raise SettingsError(f"{error}; keep it in an image file") from None
    return copy


def _program_maker(choices: Choices) -> Callable[[int], Program]:
    name, track_heap = choices.build or DEFAULT_BUILD, choices.track_heap
    if name not in BUILDS:
        raise SettingsError(f"build is {name!r}; it must be one of {', '.join(BUILDS)}")
    regime = check_counted(choices.regime)
    is_watched = regime.charges_heap if track_heap is None else track_heap

    def make(reach_bytes: int) -> Program:
        return load_program(name, regime, watches_heap=is_watched, reach_bytes=reach_bytes)

    return make
