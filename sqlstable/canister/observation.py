"""Watching one canister: recorder, owners, and the trace that is written as messages end."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from sqlstable.analysis.growth import Growth
from sqlstable.canister.areas import list_areas, list_files
from sqlstable.canister.hosts import MessageRecorder
from sqlstable.database.vfs import StableVFS
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.ic.words import OS_PAGES_ACCESSED, OS_PAGES_DIRTY, STABLE_MEMORY_BYTES
from sqlstable.memory.stable import StableMemory
from sqlstable.trace.format.file import Trace, TraceWriter
from sqlstable.trace.model import LimitUse, OwnerRuns, OwnerUse, StableArea
from sqlstable.trace.ownership.file_owners import FileOwners
from sqlstable.trace.ownership.owners import NO_CHANGES, OwnerMap, owner_runs
from sqlstable.trace.recording.attribution import (
    Attributed,
    MessageFacts,
    accessed_sqlite_pages,
    attribute,
    dirty_sqlite_pages,
    owner_uses,
)
from sqlstable.trace.recording.owner_numbers import Places
from sqlstable.trace.recording.raw import RawMessage


class Observation:
    """What is observed of a canister's messages; nothing of it is ever recorded itself.

    Args:
        memory: The canister's stable memory.
        recorder: Keeps what happens there.
        writer: Writes the trace file, or None.
        owners: Whether owners of SQLite pages are kept up to date after each message.
    """

    def __init__(
        self,
        memory: StableMemory,
        recorder: MessageRecorder,
        *,
        writer: TraceWriter | None,
        owners: bool,
    ) -> None:
        self.recorder = recorder
        self.writer = writer
        self._memory = memory
        self._owner_map = OwnerMap() if owners else None
        self._owner_fault = ""
        self._reader: StoreReader | None = None
        # Overflow that the message about to end has met, and since when it has been as it was: the
        # message whose end was looked at last, or that gave trees other names.
        self._opening = self._met = NO_CHANGES
        self._is_behind = False
        "Whether a message was cut off, of which nobody knows what it has changed."
        self._generation, self._known_since = -1, 0
        self._files: FileOwners | None = None
        # Size of stable memory in Wasm pages when a committed message last showed its files, and
        # whether a message that was undone showed others since.
        self._files_wasm_pages, self._files_undone = -1, False
        # Likewise for what the trace says of its areas, and the message that says it.
        self._areas_wasm_pages = self._areas_message = -1
        self._last_areas: tuple[StableArea, ...] = ()
        self._message_count = 0
        self._statement_count = 0

    @property
    def message_count(self) -> int:
        """Messages that have ended so far."""
        return self._message_count

    @property
    def is_watching(self) -> bool:
        """Whether each message is looked at when it ends."""
        return self._owner_map is not None or self.writer is not None

    @property
    def has_owners(self) -> bool:
        """Whether owners are kept."""
        return self._owner_map is not None

    def watch(self, vfs: StableVFS) -> None:
        """Look at the database through this VFS from now on."""
        self.forget_vfs()
        self._reader = StoreReader(vfs)
        is_needed = self._owner_map is not None and vfs.bucket_pages is not None
        self._files = FileOwners(lambda: list_files(vfs)) if is_needed else None
        self._files_wasm_pages, self._files_undone = -1, False

    def forget_vfs(self) -> None:
        """Close the observer's connection, before its VFS goes."""
        if self._reader is not None:
            # Without a message open this may be the end, and nobody can look any more.
            self._last_areas = self._unsaid_areas()
            self._reader = self._files = None

    def drop_vfs(self) -> None:
        """Forget all that was known of a database whose last message was cut off somewhere."""
        self._reader = self._files = None
        self._last_areas = ()
        self._opening = self._met = NO_CHANGES
        self._is_behind = True
        if self._owner_map is not None:
            self._owner_map = OwnerMap()
            # The new one counts its generations from the beginning.
            self._generation = -1

    def before_end(self) -> None:
        """Look at what a message has accessed while the database can be seen as it was before.

        What it freed is gone when its accesses are attributed; a canister calls this.
        """
        owners, reader = self._owner_map, self._reader
        if owners is None or reader is None:
            return
        if owners.generation == 0:
            # An image that only takes queries is opened by no message.
            self._opening = owners.refresh(BeforeReader(reader))
        if not owners.may_meet:
            return
        accessed = accessed_sqlite_pages(self.recorder.so_far(), reader.page_size)
        unmet = owners.unmet(accessed)
        if unmet:
            self._met = owners.meet(BeforeReader(reader), unmet)

    def before_rollback(self) -> None:
        """Look at the files of a message that is about to be undone, if it made any.

        Its accesses are attributed when these files are gone; a canister calls this.
        """
        if self._files is not None and self._memory.wasm_pages != self._files_wasm_pages:
            self._files.refresh()
            self._files_undone = True

    def end_message(self, ended: "EndedMessage") -> None:
        """Take what was recorded; attribute it now if a trace wants it, else when asked."""
        raw = self.recorder.take()
        ended.index = self._message_count
        ended.raw = raw
        ended.first_statement = self._statement_count
        self._message_count += 1
        self._statement_count += len(raw.statements)
        ended.page_size = self._page_size()
        if self.is_watching:
            self._attribute_now(ended)

    def trace(self) -> Trace | None:
        """Return what the trace holds so far; None where no trace is written."""
        if self.writer is None:
            return None
        self._write_areas(self._unsaid_areas())
        return self.writer.trace()

    def growth(self, vfs: StableVFS) -> Growth:
        """Return what stable memory consists of now."""
        last = self._message_count - 1
        stable_bytes = self._memory.wasm_pages * WASM_PAGE_BYTES
        return Growth(last, stable_bytes, list_areas(vfs, last))

    def close(self) -> None:
        """Finish the trace."""
        self.forget_vfs()
        if self.writer is None:
            return
        try:
            self._write_areas(self._last_areas)
        finally:
            self.writer.close()

    def _page_size(self) -> int:
        return self._reader.page_size if self._reader is not None else 4096

    def _attribute_now(self, ended: "EndedMessage") -> None:
        runs = self._update_owners(ended)
        if ended.outcome == "committed":
            self._update_files(ended)
        if self._owner_map is not None:
            assert ended.raw is not None
            if ended.dirty is None:
                ended.dirty = dirty_sqlite_pages(ended.raw, ended.page_size)
            places = Places(self._owner_map, self._files, ended.dirty, ended.page_size)
            ended.owners = owner_uses(ended.raw, places)
            ended.dirty = None
        if self.writer is not None:
            attributed = ended.attribute()
            self.writer.write(
                attributed.message,
                attributed.statements,
                statement_accesses={
                    index: source() for index, source in attributed.statement_accesses.items()
                },
                outside_accesses=[source() for source in attributed.outside_accesses],
                owner_runs=runs,
                areas=self._changed_areas(ended),
                owner_fault=self._changed_fault(),
            )

    def _changed_fault(self) -> str | None:
        """Return what is wrong with the owners where that has changed, else None."""
        fault = "" if self._owner_map is None else self._owner_map.fault
        if fault == self._owner_fault:
            return None
        self._owner_fault = fault
        return fault

    def _update_files(self, ended: "EndedMessage") -> None:
        """Look at the files anew where buckets may have gone to others."""
        is_known = ended.wasm_pages == self._files_wasm_pages and not self._files_undone
        if self._files is not None and not is_known:
            self._files.refresh()
            self._files_wasm_pages, self._files_undone = ended.wasm_pages, False

    def _changed_areas(self, ended: "EndedMessage") -> tuple[StableArea, ...]:
        """Return the areas where the message changed the size of stable memory, else none."""
        is_new = ended.kind == "reinstall" or ended.wasm_pages != self._areas_wasm_pages
        if self._reader is None or not is_new:
            return ()
        self._areas_wasm_pages, self._areas_message = ended.wasm_pages, ended.index
        return self._reader.areas(ended.index)

    def _unsaid_areas(self) -> tuple[StableArea, ...]:
        """Return what stable memory consists of after the last message, unless the trace says."""
        last = self._message_count - 1
        is_between = self.writer is not None and self._memory.kind is None
        if not is_between or self._reader is None or last <= self._areas_message:
            return ()
        return self._reader.areas(last)

    def _write_areas(self, areas: tuple[StableArea, ...]) -> None:
        if areas and self.writer is not None and self.writer.is_open:
            self._areas_message = areas[0].message
            self.writer.write_areas(areas)

    def _update_owners(self, ended: "EndedMessage") -> list[OwnerRuns]:
        """Carry the owners past a message; returns what the trace is to say of them."""
        if self._owner_map is None or self._reader is None:
            return []
        owners, reader = self._owner_map, self._reader
        found = [(ended.index, self._opening), (self._known_since, self._met)]
        self._opening = self._met = NO_CHANGES
        if ended.outcome == "committed" or self._is_behind:
            assert ended.raw is not None
            if ended.kind in ("install", "reinstall") or self._is_behind:
                changes = owners.refresh(reader)
                self._is_behind = False
            else:
                ended.dirty = dirty_sqlite_pages(ended.raw, ended.page_size)
                changes = owners.update(reader, ended.dirty)
            found.append((ended.index, changes))
            if owners.generation != self._generation:
                self._generation, self._known_since = owners.generation, ended.index
            if ended.kind != "update":
                # Opening has filled a heap; what lies there is not read again.
                accessed = accessed_sqlite_pages(ended.raw.accesses, ended.page_size)
                found.append((self._known_since, owners.meet(reader, accessed)))
        if self.writer is None:
            return []
        return [owner_runs(owners.owners, *since) for since in found if len(since[1])]


class EndedMessage:
    """A message that has ended: what is known of it, and its attribution once that is asked for.

    Made for every message, so it only keeps what it is given.
    """

    __slots__ = (
        "_attributed",
        "cache",
        "dirty",
        "discarded_writes",
        "first_statement",
        "index",
        "kind",
        "label",
        "limits",
        "os_pages",
        "outcome",
        "owners",
        "page_size",
        "raw",
        "trap",
        "trap_limit",
        "wasm_pages",
    )

    def __init__(
        self,
        memory: StableMemory,
        kind: str,
        *,
        label: str | None = None,
        cache: str | None = None,
    ) -> None:
        """Note how much of the limits the message has used; it is still open."""
        bytemap = memory.bytemap
        self.kind = kind
        self.label = label
        self.cache = cache
        self.outcome = "committed"
        self.trap: str | None = None
        self.trap_limit: str | None = None
        self.discarded_writes = False
        self.limits = bytemap.limits
        self.os_pages = (len(bytemap.accessed), len(bytemap.dirty))
        self.wasm_pages = memory.wasm_pages
        self.raw: RawMessage | None = None
        self.dirty: set[int] | None = None
        self.owners: Sequence[tuple[OwnerUse, ...]] = ()
        self.index = self.first_statement = 0
        self.page_size = 0
        self._attributed: Attributed | None = None

    def attribute(self) -> Attributed:
        """Return the message with its statements; the first time with their accesses."""
        if self._attributed is not None:
            return self._attributed
        assert self.raw is not None
        attributed = attribute(
            self.raw,
            self._facts(),
            first_statement=self.first_statement,
            owners=self.owners,
        )
        # Who asks again wants numbers; the accesses may be many, and go.
        self.raw = None
        self._attributed = Attributed(
            attributed.message, attributed.statements, attributed.footprint
        )
        return attributed

    def _facts(self) -> MessageFacts:
        return MessageFacts(
            index=self.index,
            kind=self.kind,
            outcome=self.outcome,
            image_bytes=self.wasm_pages * WASM_PAGE_BYTES,
            label=self.label,
            trap=self.trap,
            discarded_writes=self.discarded_writes,
            cache=self.cache,
            limits=self._limits_used(),
            trap_limit=self.trap_limit,
            instructions_max=(
                None if self.limits is None else self.limits.of(self.kind).instructions_max
            ),
        )

    def _limits_used(self) -> tuple[LimitUse, ...]:
        if self.limits is None:
            return ()
        # Not those of the bytemap: it has none where they are not enforced.
        message, (accessed, dirty) = self.limits.of(self.kind), self.os_pages
        stable_bytes_max = self.limits.stable_memory_wasm_pages_max * WASM_PAGE_BYTES
        return (
            _limit_use(OS_PAGES_ACCESSED, accessed, message.os_pages_accessed_max),
            _limit_use(OS_PAGES_DIRTY, dirty, message.os_pages_dirty_max),
            _limit_use(STABLE_MEMORY_BYTES, self.wasm_pages * WASM_PAGE_BYTES, stable_bytes_max),
        )


# Small messages use the same few numbers; finding the record is quicker than making it.
_limit_use: Final = lru_cache(maxsize=1024)(LimitUse)


class StoreReader:
    """The database as it is now, for the owner map."""

    def __init__(self, vfs: StableVFS) -> None:
        """Look through ``vfs``."""
        self._vfs = vfs

    @property
    def page_size(self) -> int:
        """Bytes of a SQLite page."""
        return self._vfs.store.page_size

    def areas(self, message: int) -> tuple[StableArea, ...]:
        """Return what stable memory consists of now, after the message with this index."""
        return list_areas(self._vfs, message)

    def read_sqlite_page(self, number: int) -> bytes:
        """Return one SQLite page."""
        size = self.page_size
        return self._vfs.store.peek(size, (number - 1) * size)

    def read_before(self, number: int) -> bytes:
        """Return one SQLite page as it was when the open message began."""
        size = self.page_size
        return self._vfs.store.peek_before(size, (number - 1) * size)

    def size_bytes(self) -> int:
        """Return the size of the file."""
        return self._vfs.store.size_bytes


class BeforeReader:
    """The database as it was when the open message began, for the owner map."""

    def __init__(self, reader: StoreReader) -> None:
        self.read_sqlite_page = reader.read_before
        self.size_bytes = reader.size_bytes


def open_writer(
    trace: Path | str | None, settings: dict[str, object], *, overwrite: bool
) -> TraceWriter | None:
    """Return the writer of a trace file, or None where no trace is wanted."""
    if trace is None:
        return None
    return TraceWriter(None if trace == ":memory:" else trace, settings, overwrite=overwrite)
