"""What a canister runs on: stable memory, engine and recorder that belong together, by name.

`Canister` knows one `Host` and no engine. `make_host` makes it; the native one is here, the one of
the wasm engine in `sqlstable.canister.wasm_host`, because wasmtime is slow to import.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final, Literal, Protocol

from sqlstable.database.checking import Setup
from sqlstable.database.library import sqlite_version
from sqlstable.database.settings import Settings
from sqlstable.database.vfs import StableVFS
from sqlstable.engine.engine import Engine
from sqlstable.engine.measured.module.builds import BUILDS
from sqlstable.engine.native.native_engine import Heap, NativeEngine
from sqlstable.errors import SettingsError
from sqlstable.ic.limits import Limits
from sqlstable.ic.words import CacheState
from sqlstable.memory.accesslog import AccessLog
from sqlstable.memory.image.durability import Durability
from sqlstable.memory.stable import StableMemory
from sqlstable.trace.recording.raw import RawMessage, TakenAccesses
from sqlstable.trace.recording.recorder import Depth, Recorder

EngineName = Literal["native", "wasm"]
ENGINES: Final[tuple[EngineName, ...]] = ("native", "wasm")
"""Names of the engines."""


class MessageRecorder(Protocol):
    """Keeps what happened in a message until it is taken."""

    depth: Depth

    def outside(self, name: str) -> AbstractContextManager[None]:
        """Bill the accesses of a block to nobody's statement, under ``name``."""
        ...

    def so_far(self) -> TakenAccesses:
        """Return the accesses of the open message, which is about to end."""
        ...

    def take(self) -> RawMessage:
        """Return what was recorded since the last call."""
        ...


class Host(Protocol):
    """Stable memory, engine and recorder of one canister.

    Attributes:
        engine_name: Of the engine, whether there is a heap or not.
        cache: What a query finds in the heap unless it asks for something else.
        vfs: What the observer looks through; None while there is no heap.
        engine: None while there is no heap.
    """

    engine_name: EngineName
    cache: CacheState
    vfs: StableVFS | None

    @property
    def memory(self) -> StableMemory:
        """The stable memory."""
        ...

    @property
    def recorder(self) -> MessageRecorder:
        """Keeps what happens."""
        ...

    @property
    def engine(self) -> Engine | None:
        """What executes the SQL."""
        ...

    def open_vfs(self, settings: Settings) -> None:
        """Look at what stable memory holds, in the open message; nothing where it is empty.

        Raises:
            ImageError: It holds something else than the layout.
        """
        ...

    def open_engine(self, settings: Settings, setups: Sequence[Setup], *, is_foreign: bool) -> None:
        """Start a heap in the open message; ``vfs`` is there afterwards."""
        ...

    def close_heap(self) -> None:
        """Let engine and VFS go."""
        ...

    def drop_heap(self) -> None:
        """Let engine and VFS go in whatever state they are, and what was recorded."""
        ...

    def revive(self, start: Callable[[], None]) -> None:
        """Have a heap again after a step that failed; ``start`` starts a new one."""
        ...

    def adopt(self, vfs: StableVFS) -> None:
        """Follow the page size of the database."""
        ...

    def capture(self) -> None:
        """Take note of the open message, which is about to end."""
        ...

    def settle(self, *, is_watched: bool) -> None:
        """Let the VFS follow what messages have done; at once if ``is_watched``."""
        ...

    def described(self) -> dict[str, object]:
        """Return the settings that are the engine's own."""
        ...

    def let_go(self) -> None:
        """Leave the memory alone; the canister is closed."""
        ...


class NativeHost:
    """APSW on a `StableMemory`."""

    engine_name: EngineName = "native"
    cache: CacheState = "cold"

    def __init__(self, memory: StableMemory, settings: Settings, *, depth: Depth) -> None:
        """Record everything that happens in ``memory``."""
        self.memory = memory
        log = AccessLog(settings.page_size)
        memory.log = log
        self._log = log
        self.recorder = Recorder(log, depth=depth)
        self.vfs: StableVFS | None = None
        self.engine: NativeEngine | None = None
        self._left = Heap()

    def open_vfs(self, settings: Settings) -> None:
        """Open the layout; a new memory manager is written into an empty memory."""
        self.vfs = StableVFS(
            self.memory,
            layout=settings.layout,
            page_size=settings.page_size,
            bucket_pages=settings.bucket_pages,
            growth=settings.growth,
            now=settings.now,
            implicit_messages=False,
        )

    def open_engine(self, settings: Settings, setups: Sequence[Setup], *, is_foreign: bool) -> None:
        """Open the connection of the updates."""
        assert self.vfs is not None
        engine = NativeEngine(self.vfs, settings, self.recorder.attach, is_foreign=is_foreign)
        for setup in setups:
            engine.on_connect(setup)
        try:
            engine.open()
        except BaseException:
            engine.close()
            raise
        self.engine = engine

    def close_heap(self) -> None:
        """Close all connections."""
        if self.engine is not None:
            self._left = self.engine.heap
            self.engine.close()
            self.engine = None
        if self.vfs is not None:
            self.vfs.unregister()
            self.vfs = None

    def drop_heap(self) -> None:
        """Close what can be closed; the rest goes with its last reference."""
        with suppress(Exception):
            self.close_heap()
        self.engine = self.vfs = None
        self._log = self.memory.log = AccessLog(self._log.sqlite_page_bytes)
        self.recorder.start_over(self._log)

    def revive(self, start: Callable[[], None]) -> None:
        """Start a new heap for the one that is gone, unlimited; nothing of the start is kept."""
        left = self._left
        self.memory.begin("query")
        self.memory.limit(None)
        try:
            start()
        finally:
            self.memory.rollback()
        assert self.engine is not None
        self.engine.resume(left)

    def adopt(self, vfs: StableVFS) -> None:
        """Log by this page size from now on."""
        self._log.sqlite_page_bytes = vfs.store.page_size

    def capture(self) -> None:
        """Nothing: the log outlives the message."""

    def settle(self, *, is_watched: bool) -> None:
        """Nothing: the VFS did it all."""

    def described(self) -> dict[str, object]:
        """Return the settings that are the engine's own."""
        return {"engine": self.engine_name, "sqlite": sqlite_version()}

    def let_go(self) -> None:
        """Record no more."""
        self.memory.log = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where stable memory is to be."""

    path: Path | str | None = None
    "An image file, or None for this process's memory."
    limits: Limits | date | str | None = "latest"
    durability: Durability | str | None = None
    "None: ``process``."
    read_only: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Flavour:
    """What there is to choose about the wasm engine; nothing for the native one."""

    build: str | None = None
    track_heap: bool | None = field(default=None, kw_only=True)


def chosen_cache_size(cache_size: int | None, preset: str | None, build: str | None) -> int | None:
    """Return the cache size that was asked for, or that a build of the wasm engine is made for.

    Examples:
        >>> chosen_cache_size(None, None, "lean"), chosen_cache_size(20, None, "lean")
        (6, 20)
    """
    found = BUILDS.get(build or "")
    if cache_size is not None or preset is not None or found is None:
        return cache_size
    return found.cache_size


def check_image_arguments(
    path: Path | str | None,
    memory: StableMemory | None,
    durability: str | None,
    *,
    read_only: bool,
) -> None:
    """Refuse arguments on where stable memory is that do not go together.

    Raises:
        SettingsError: Two places are named, or what concerns files without one.
    """
    if path is not None and memory is not None:
        raise SettingsError(
            f"the canister is given both {path} and a memory; leave one of the two out"
        )
    if path is None and (durability is not None or read_only):
        name = "read_only" if read_only else "durability"
        raise SettingsError(
            f"{name} concerns an image file, and none is given; name one, as in Canister(path)"
        )


def make_host(
    engine: EngineName,
    flavour: Flavour,
    settings: Settings,
    memory: StableMemory | Place,
    *,
    depth: Depth,
) -> Host:
    """Return the host of an engine, on a memory that is given or to be made.

    Raises:
        SettingsError: wasmtime is missing, or a setting is not one of its.
        ImageError: The image file cannot be used.
    """
    if isinstance(memory, Place):
        memory = open_memory(engine, flavour, memory)
    if engine == "native":
        _check_native(flavour)
        return NativeHost(memory, settings, depth=depth)
    from sqlstable.canister.wasm_host import WasmHost, adopted_memory  # noqa: PLC0415  slow to import

    return WasmHost(adopted_memory(memory, flavour), depth=depth)


def open_memory(engine: EngineName, flavour: Flavour, place: Place) -> StableMemory:
    """Return the memory of an engine: on an image file, or empty in this process.

    Raises:
        SettingsError: wasmtime is missing, or there is no such build.
        ImageError: The image file cannot be used.
    """
    if engine == "wasm":
        from sqlstable.canister.wasm_host import open_wasm_memory  # noqa: PLC0415  slow to import

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
