"""The wasm engine as a canister's host: memory, engine, and its notes as a trace has them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Final, overload

import numpy as np
import numpy.typing as npt

from sqlstable.canister.hosts import EngineName, Flavour, Place
from sqlstable.database.checking import Setup
from sqlstable.database.settings import Settings
from sqlstable.database.vfs import StableVFS
from sqlstable.engine.measured.measured_engine import WasmEngine
from sqlstable.engine.measured.module.builds import BUILDS, load_program
from sqlstable.engine.measured.notes import (
    CallNote,
    HeapTouched,
    Mark,
    MessageNotes,
    TakenLog,
)
from sqlstable.errors import ImageError, SettingsError
from sqlstable.ic import words
from sqlstable.ic.limits import Limits, resolve_limits
from sqlstable.ic.prices import regime_of
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.ic.words import INSTRUCTION_PHASES, CacheState
from sqlstable.layout.filemap import FileMap
from sqlstable.memory.stable import StableMemory
from sqlstable.trace.model import HeapUse, Instructions, LoopUse
from sqlstable.trace.recording.raw import (
    PREPARE_ERROR,
    OutsideSpan,
    RawMessage,
    RawStatement,
    Span,
    StatementText,
    clean_sql,
)
from sqlstable.trace.recording.recorder import Depth
from sqlstable.trace.shape import kind_of
from sqlstable.wasm.program import Program
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

_Rows = npt.NDArray[np.int64]


class WasmHost:
    """SQLite in a Wasm module on a `StableMemory` over a `ShimStore`."""

    engine_name: EngineName = "wasm"
    cache: CacheState = "warm"

    def __init__(self, memory: StableMemory, *, depth: Depth) -> None:
        """Note everything that happens in ``memory``."""
        self.memory = memory
        self._store = shim_of(memory)
        self.recorder = WasmRecorder(memory, depth=depth)
        self.vfs: StableVFS | None = None
        self.engine: WasmEngine | None = None
        self._settings: Settings | None = None
        self._old: tuple[WasmEngine, Settings] | None = None

    def open_vfs(self, settings: Settings) -> None:
        """Look at what stable memory holds; where it is empty, the module comes first."""
        self._settings = settings
        if self.memory.wasm_pages:
            self._look(settings)

    def open_engine(self, settings: Settings, setups: Sequence[Setup], *, is_foreign: bool) -> None:
        """Start the module on a new heap."""
        engine = WasmEngine(
            self.memory,
            settings,
            counters=self.recorder.depth == "counters",
            is_foreign=is_foreign,
        )
        self._settings = settings
        self.engine = engine
        self.recorder.engine = engine
        engine.open()
        if self.vfs is None:
            self._look(settings)
        assert self.vfs is not None
        engine.look_through(self.vfs)
        for setup in setups:
            engine.on_connect(setup)

    def close_heap(self) -> None:
        """Let go of engine and VFS; the memory still has the heap."""
        if self.engine is not None:
            assert self._settings is not None
            self._old = (self.engine, self._settings)
            self.engine.close()
            self.engine = None
        if self.vfs is not None:
            self.vfs.unregister()
            self.vfs = None

    def drop_heap(self) -> None:
        """Close what can be closed; the memory still has the heap."""
        with suppress(Exception):
            self.close_heap()
        if self.engine is not None and self._settings is not None:
            self._old = (self.engine, self._settings)
        self.engine = self.vfs = None
        if self._old is not None:
            self._old[0].discard_heap()
        self.recorder.start_over()

    def revive(self, start: Callable[[], None]) -> None:
        """Go on with the heap that the memory's rollback has brought back."""
        if self._old is None:
            # There never was one: an image that only takes queries.
            self.memory.begin("query")
            self.memory.limit(None)
            try:
                start()
                self._store.keep_heap()
            finally:
                self.memory.rollback()
            return
        engine, settings = self._old
        self._look(settings)
        assert self.vfs is not None
        engine.look_through(self.vfs)
        self.engine = self.recorder.engine = engine

    def adopt(self, vfs: StableVFS) -> None:
        """Nothing: the notes have addresses."""

    def capture(self) -> None:
        """Take note of the open message, which is about to end."""
        self.recorder.capture()

    def settle(self, *, is_watched: bool) -> None:
        """Let the VFS follow what messages have done."""
        engine, vfs = self.engine, self.vfs
        if engine is None or vfs is None or not self._store.is_behind:
            return
        page_size = engine.page_size()
        is_other = page_size is not None and page_size != vfs.store.page_size
        if is_watched or is_other:
            catch_up(self.memory)
        if is_other:
            vfs.store.is_page_size_stale = True

    def described(self) -> dict[str, object]:
        """Return the settings that are the engine's own."""
        program = self._store.machine.program
        return {
            "engine": self.engine_name,
            "sqlite": SQLITE_VERSION,
            "build": program.name,
            "measured": True,
            "price_regime": program.regime.name,
            "track_heap": program.watches_heap,
        }

    def let_go(self) -> None:
        """Nothing: the memory is closed next."""

    def _look(self, settings: Settings) -> None:
        with self._store.looking():
            vfs = StableVFS(
                self.memory,
                layout=settings.layout,
                page_size=settings.page_size,
                bucket_pages=settings.bucket_pages,
                growth=settings.growth,
                now=settings.now,
                implicit_messages=False,
            )
        self.vfs = vfs
        hot = vfs.cabinet.hot_databases()
        if hot:
            raise ImageError(
                f"the image has a journal of {hot[0]} that was left in the middle of a "
                "transaction, which the wasm engine does not play back; open it with the native "
                "engine once"
            )


def open_wasm_memory(flavour: Flavour, place: Place) -> StableMemory:
    """Return a memory for the wasm engine, empty or on an image file.

    Raises:
        SettingsError: wasmtime is missing, or there is no such build.
        ImageError: The image file cannot be used.
    """
    limits = resolve_limits(place.limits)
    make = _program_maker(flavour, limits)
    if place.path is None:
        return wasm_memory(make, limits=limits)
    return open_image_memory(
        make,
        place.path,
        limits=limits,
        durability=place.durability or "process",
        is_read_only=place.read_only,
    )


def adopted_memory(memory: StableMemory, flavour: Flavour) -> StableMemory:
    """Return a memory for the wasm engine that holds what another one does, or is it already.

    Raises:
        SettingsError: It is an image file of the native engine, or of another build.
    """
    if isinstance(memory.store, ShimStore):
        program = memory.store.machine.program
        for name, wanted, found in (
            ("build", flavour.build, program.name),
            ("track_heap", flavour.track_heap, program.watches_heap),
        ):
            if wanted is not None and wanted != found:
                raise SettingsError(f"{name} is {wanted!r}, and the memory was made for {found!r}")
        return memory
    if memory.image_file is not None:
        raise SettingsError(
            "the memory is an image file that the native engine has open; give its path instead, "
            "as in Canister(path, engine='wasm')"
        )
    copy = open_wasm_memory(flavour, Place(limits=memory.limits))
    if copy.grow(memory.wasm_pages) < 0:
        copy.close()
        raise SettingsError(
            f"the memory has {memory.wasm_pages} Wasm pages, more than the wasm engine reaches; "
            "keep it in an image file"
        )
    for address, data in _pieces(memory):
        copy.write(address, data)
    return copy


def _pieces(memory: StableMemory) -> Iterator[tuple[int, bytes]]:
    zeros = bytes(WASM_PAGE_BYTES)
    for address in range(0, memory.wasm_pages * WASM_PAGE_BYTES, WASM_PAGE_BYTES):
        data = memory.peek(address, WASM_PAGE_BYTES)
        if data != zeros:
            yield address, data


def _program_maker(flavour: Flavour, limits: Limits | None) -> Callable[[int], Program]:
    name, track_heap = flavour.build or DEFAULT_BUILD, flavour.track_heap
    if name not in BUILDS:
        raise SettingsError(f"build is {name!r}; it must be one of {', '.join(BUILDS)}")
    regime = regime_of(limits)
    is_watched = regime.charges_heap if track_heap is None else track_heap

    def make(reach_bytes: int) -> Program:
        return load_program(name, regime, watches_heap=is_watched, reach_bytes=reach_bytes)

    return make


class WasmRecorder:
    """Gives what the wasm engine has noted in the form of a recorder."""

    def __init__(self, memory: StableMemory, *, depth: Depth) -> None:
        self.depth: Depth = depth
        self.engine: WasmEngine | None = None
        self._store = shim_of(memory)
        self._outside: list[OutsideSpan] = []
        self._notes: MessageNotes | None = None

    @contextmanager
    def outside(self, name: str) -> Iterator[None]:
        """Bill the accesses of a block to nobody's statement, under ``name``."""
        start = self._position()
        try:
            yield
        finally:
            stop = self._position()
            if stop > start:
                self._outside.append(OutsideSpan(start, stop, name))

    def capture(self) -> None:
        """Copy what the shim has, before the message ends."""
        assert self.engine is not None
        self._notes = self.engine.take_notes()

    def so_far(self) -> TakenLog:
        """Return the accesses of the message captured last, and keep it."""
        return _NO_ACCESSES if self._notes is None else self._notes.log

    def take(self) -> RawMessage:
        """Return the message captured last."""
        notes, self._notes = self._notes, None
        outside = tuple(self._outside)
        self._outside.clear()
        if notes is None:
            if self.engine is not None:
                self.engine.take_notes()
            return RawMessage(_NO_ACCESSES, (), ())
        statements = NotedStatements(notes)
        extra = tuple(statements.failed_spans()) if notes.has_failure else ()
        return RawMessage(notes.log, statements, (*outside, *extra), lambda: _costs(notes))

    def start_over(self) -> None:
        """Forget what was noted."""
        self._outside.clear()
        self._notes = None

    def _position(self) -> int:
        return self._store.machine.tell().log_count


_NO_ACCESSES: Final = TakenLog(b"", FileMap.of((), bucket_bytes=1))


def _costs(notes: MessageNotes) -> tuple[Instructions, HeapUse | None]:
    total, stable_part, heap_part = notes.cost
    heap = notes.heap
    return (
        Instructions(total, total - stable_part - heap_part, stable_part, heap_part),
        None if heap is None else HeapUse(*heap),
    )


# -- statements ----------------------------------------------------------------------------------

_PHASE_OF: Final[Mapping[int, int]] = {
    Mark.GLUE: words.RUN,
    Mark.PREPARE: words.PREPARE,
    Mark.RUN: words.RUN,
    Mark.COMMIT: words.COMMIT,
    Mark.ENCODE: words.RUN,
}
"""Whom accesses are billed to, by the mark that they follow."""

_INSTRUCTIONS_OF: Final = {
    "prepare": Mark.PREPARE,
    "run": Mark.RUN,
    "commit": Mark.COMMIT,
    "reply": Mark.ENCODE,
}

assert set(_PHASE_OF) == set(Mark)
assert tuple(_INSTRUCTIONS_OF) == INSTRUCTION_PHASES

_MARK, _INSTRUCTIONS, _LOG, _CHARGES, _REGIONS, _OS_PAGES = range(6)


class NotedStatements(Sequence[RawStatement]):
    """The statements of a message, worked out when somebody asks."""

    def __init__(self, notes: MessageNotes) -> None:
        self._notes = notes
        self._length = sum(1 if call.is_trapped else len(call.results) for call in notes.calls)
        self._made: list[RawStatement] | None = None
        self._failed: list[OutsideSpan] = []

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> RawStatement: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[RawStatement]: ...

    def __getitem__(self, index: int | slice) -> RawStatement | Sequence[RawStatement]:
        return self._all()[index]

    def __iter__(self) -> Iterator[RawStatement]:
        return iter(self._all())

    def failed_spans(self) -> list[OutsideSpan]:
        """Return the accesses of what could not be prepared."""
        self._all()
        return self._failed

    def _all(self) -> list[RawStatement]:
        if self._made is None:
            self._made = [
                statement for call in self._notes.calls for statement in self._of_call(call)
            ]
            assert len(self._made) == self._length
        return self._made

    def _of_call(self, call: CallNote) -> Iterator[RawStatement]:
        rows = self._notes.border_rows()[call.border_start : call.border_stop]
        end = np.array([call.end_row], dtype=np.int64)
        table = np.concatenate((rows, end))
        starts = np.flatnonzero(rows[:, _MARK] == Mark.PREPARE).tolist()
        if call.is_trapped:
            yield self._trapped(call, table)
            return
        indexes = iter(range(len(call.results)))
        for start, stop in pairwise((*starts, len(rows))):
            group = table[start : stop + 1]
            if Mark.RUN in group[:-1, _MARK]:
                yield self._statement(call, next(indexes), group)
                continue
            span = OutsideSpan(int(group[0, _LOG]), int(group[-1, _LOG]), PREPARE_ERROR)
            if span.stop > span.start:
                self._failed.append(span)

    def _statement(self, call: CallNote, index: int, group: _Rows) -> RawStatement:
        result = call.results[index]
        readonly = result.facts.is_readonly
        sql = _cleaned(result.facts.cut_from(call.sql))
        plan = call.plans[index] if index < len(call.plans) else ()
        text = StatementText(sql, kind_of(sql, readonly=readonly), readonly, plan)
        counters = result.counters
        costs, phases = self._costs(group)
        return RawStatement(
            text,
            _spans(group),
            call.row_counts[index],
            max(1, result.runs),
            None if counters is None else counters.cache_hits,
            None if counters is None else counters.vm_steps,
            None if counters is None else counters.fullscan_steps,
            None if counters is None else counters.sorts,
            costs,
            phases,
            tuple(
                LoopUse(loop.name, loop.plan, loop.loops, loop.visits, loop.estimated_rows)
                for loop in result.loops
            ),
        )

    def _trapped(self, call: CallNote, table: _Rows) -> RawStatement:
        """A call that trapped has told nothing of its statements: they count as one."""
        sql = clean_sql(call.sql)
        readonly = call.is_readonly
        plan = call.plans[0] if call.plans else ()
        text = StatementText(sql, kind_of(sql, readonly=readonly), readonly, plan)
        if len(table) < 2:
            stop = int(table[-1, _LOG])
            return RawStatement(text, ((stop, stop, words.RUN),), 0, 1, None, None, None, None)
        costs, phases = self._costs(table)
        return RawStatement(text, _spans(table), 0, 1, None, None, None, None, costs, phases)

    def _costs(self, group: _Rows) -> tuple[Instructions, dict[str, int]]:
        notes = self._notes
        spent, marks = np.diff(group[:, _INSTRUCTIONS]), group[:-1, _MARK]
        phases = {name: int(spent[marks == mark].sum()) for name, mark in _INSTRUCTIONS_OF.items()}
        stable_part = int(group[-1, _CHARGES] - group[0, _CHARGES]) + notes.log.stable_cost(
            int(group[0, _LOG]), int(group[-1, _LOG]), notes.regime
        )
        heap = 0
        if notes.watches_heap:
            before, after = int(group[0, _REGIONS]), int(group[-1, _REGIONS])
            touched = HeapTouched(
                (after & _LOW) - (before & _LOW),
                (after >> 32) - (before >> 32),
                int(group[-1, _OS_PAGES] - group[0, _OS_PAGES]),
                0,
            )
            heap = touched.cost(notes.regime)
        counted = sum(phases.values())
        return Instructions(counted + heap, counted - stable_part, stable_part, heap), phases


_LOW: Final = (1 << 32) - 1


def _cleaned(sql: str) -> str:
    """Return a statement without what SQLite skips before it: comments, and bare semicolons."""
    cleaned = clean_sql(sql)
    while cleaned.startswith(";"):
        cleaned = clean_sql(cleaned[1:])
    return cleaned


def _spans(group: _Rows) -> tuple[Span, ...]:
    """Return who is billed for which accesses, neighbours of one phase joined."""
    logs, marks = group[:, _LOG], group[:-1, _MARK]
    moved = np.flatnonzero(np.diff(logs))
    spans: list[Span] = []
    for index in moved.tolist():
        start, stop, phase = int(logs[index]), int(logs[index + 1]), _PHASE_OF[int(marks[index])]
        if spans and spans[-1][1] == start and spans[-1][2] == phase:
            spans[-1] = (spans[-1][0], stop, phase)
        else:
            spans.append((start, stop, phase))
    at = int(logs[0])
    return tuple(spans) or ((at, at, words.RUN),)
