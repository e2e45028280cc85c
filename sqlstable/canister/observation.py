"""Watching one canister: recorder, owners, and the trace that is written as messages end."""

from operator import call
from pathlib import Path

from sqlstable.analysis.growth import Growth
from sqlstable.canister.areas import file_owners, list_areas
from sqlstable.canister.ended import EndedMessage
from sqlstable.canister.machine import Ended, Look
from sqlstable.canister.trace_end import TraceEnd, trace_end
from sqlstable.database.vfs import StableVFS
from sqlstable.ic.accesses import TakenAccesses
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.ic.words import WIPING_KINDS
from sqlstable.memory.changes import bytes_changed
from sqlstable.memory.stable import StableMemory
from sqlstable.trace.format.file import Trace, TraceWriter, check_way
from sqlstable.trace.model import OwnerRuns, StableArea
from sqlstable.trace.ownership.file_owners import FileOwners
from sqlstable.trace.ownership.owners import NO_CHANGES, OwnerMap, owner_runs
from sqlstable.trace.recording.attribution import (
    MessageFacts,
    accessed_sqlite_pages,
    dirty_sqlite_pages,
    owner_uses,
)
from sqlstable.trace.recording.owner_numbers import Places
from sqlstable.trace.recording.raw import RawMessage


class Observation:
    """What is observed of a canister's messages; nothing of it is ever recorded itself.

    Args:
        memory: The canister's stable memory.
        writer: Writes the trace file, or None.
        owners: Whether owners of SQLite pages are kept up to date after each message.
        compares: Whether the trace says how many bytes each message has changed.
    """

    def __init__(
        self,
        memory: StableMemory,
        *,
        writer: TraceWriter | None,
        owners: bool,
        compares: bool = False,
    ) -> None:
        self.writer = writer
        self.look: Look | None = self._before_end if owners or writer is not None else None
        "Looks at each message that is about to end; None where nobody watches."
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
        # Size of stable memory when a committed message last showed its files, and
        # whether a message that was undone showed others since.
        self._files_image_bytes, self._files_undone = -1, False
        # Likewise for what the trace says of its areas, and the message that says it.
        self._areas_image_bytes = self._areas_message = -1
        self._last_areas: tuple[StableArea, ...] = ()
        self._last_end: TraceEnd | None = None
        "Schema and trees that the trace does not say yet."
        self._end_message = -1
        "How many messages had ended when schema and trees were written."
        self._compares = compares and writer is not None
        self._bytes_changed: int | None = None
        "By the message that is about to end."
        self.message_count = 0
        "Messages that have ended so far."
        self.statement_count = 0

    @property
    def has_owners(self) -> bool:
        """Whether owners are kept."""
        return self._owner_map is not None

    def watch(self, vfs: StableVFS) -> None:
        """Look at the database through this VFS from now on."""
        self.forget_vfs()
        self._reader = StoreReader(vfs)
        self._files = None if self._owner_map is None else file_owners(vfs)
        self._files_image_bytes, self._files_undone = -1, False

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

    def note(self, ended: Ended) -> EndedMessage:
        """Take what a machine says; attribute it now if a trace wants it, else when asked."""
        self.message_count += 1
        self.statement_count += len(ended.raw.statements)
        if self.look is None:
            return EndedMessage(ended.facts, ended.raw)
        return self._attribute_now(ended.facts, ended.raw, ended.page_size)

    def trace(self) -> Trace | None:
        """Return what the trace holds so far; None where no trace is written."""
        if self.writer is None:
            return None
        self._write_areas(self._unsaid_areas())
        self.see_end()
        self._write_end()
        return self.writer.trace()

    def growth(self, vfs: StableVFS) -> Growth:
        """Return what stable memory consists of now."""
        last = self.message_count - 1
        stable_bytes = self._memory.wasm_pages * WASM_PAGE_BYTES
        return Growth(last, stable_bytes, list_areas(vfs, last))

    def see_end(self) -> None:
        """Look at what the trace will say of the database, unless it says so already."""
        is_between = self.writer is not None and self._memory.kind is None
        if self._reader is not None and is_between and self._end_message != self.message_count:
            self._last_end = self._reader.end()

    def close(self) -> None:
        """Finish the trace."""
        self.forget_vfs()
        if self.writer is None:
            return
        try:
            self._write_end()
            self._write_areas(self._last_areas)
        finally:
            self.writer.close()

    def _before_end(self, accesses: TakenAccesses, is_kept: bool) -> None:  # noqa: FBT001  a callback
        """Look at what goes with a message, while it can be seen as it was."""
        if not is_kept:
            self._look_at_files()
        if self._compares:
            self._bytes_changed = bytes_changed(self._memory.store) if is_kept else 0
        owners, reader = self._owner_map, self._reader
        if owners is None or reader is None:
            return
        # What the message freed is gone when its accesses are attributed.
        if owners.generation == 0:
            # An image that only takes queries is opened by no message.
            self._opening = owners.refresh(BeforeReader(reader))
        if not owners.may_meet:
            return
        unmet = owners.unmet(accessed_sqlite_pages(accesses, reader.page_size))
        if unmet:
            self._met = owners.meet(BeforeReader(reader), unmet)

    def _look_at_files(self) -> None:
        """Look at the files of a message that is about to be undone, if it made any.

        Its accesses are attributed when these files are gone.
        """
        if (
            self._files is not None
            and self._memory.wasm_pages * WASM_PAGE_BYTES != self._files_image_bytes
        ):
            self._files.refresh()
            self._files_undone = True

    def _attribute_now(self, facts: MessageFacts, raw: RawMessage, page_size: int) -> EndedMessage:
        is_kept = facts.outcome == "committed"
        dirty = dirty_sqlite_pages(raw, page_size) if self._owner_map is not None else set()
        runs = self._update_owners(facts, raw, dirty, page_size)
        if is_kept:
            self._update_files(facts.image_bytes)
        ended, places = EndedMessage(facts, raw), None
        if self._owner_map is not None:
            places = Places(self._owner_map, self._files, dirty, page_size)
        if self.writer is not None:
            attributed = ended.attribute(places, bytes_changed=self._bytes_changed)
            self._bytes_changed = None
            sources = attributed.statement_accesses
            self.writer.write(
                attributed.message,
                attributed.statements,
                statement_accesses=dict(zip(sources, map(call, sources.values()), strict=True)),
                outside_accesses=[*map(call, attributed.outside_accesses)],
                owner_runs=runs,
                areas=self._changed_areas(facts),
                owner_fault=self._changed_fault(),
                address_runs=self._files.take_news() if self._files and self._files.news else (),
                order=attributed.order,
            )
        elif places is not None:
            # Owners change with the next message; everything else that is said of this can wait.
            ended.owners = owner_uses(raw, places)
        return ended

    def _changed_fault(self) -> str | None:
        """Return what is wrong with the owners where that has changed, else None."""
        fault = "" if self._owner_map is None else self._owner_map.fault
        if fault == self._owner_fault:
            return None
        self._owner_fault = fault
        return fault

    def _update_files(self, image_bytes: int) -> None:
        """Look at the files anew where buckets may have gone to others."""
        is_known = image_bytes == self._files_image_bytes and not self._files_undone
        if self._files is not None and not is_known:
            self._files.refresh()
            self._files_image_bytes, self._files_undone = image_bytes, False

    def _changed_areas(self, facts: MessageFacts) -> tuple[StableArea, ...]:
        """Return the areas where the message changed the size of stable memory, else none."""
        is_new = facts.kind in WIPING_KINDS or facts.image_bytes != self._areas_image_bytes
        if self._reader is None or not is_new:
            return ()
        self._areas_image_bytes, self._areas_message = facts.image_bytes, facts.message
        return self._reader.areas(facts.message)

    def _unsaid_areas(self) -> tuple[StableArea, ...]:
        """Return what stable memory consists of after the last message, unless the trace says."""
        last = self.message_count - 1
        is_between = self.writer is not None and self._memory.kind is None
        if not is_between or self._reader is None or last <= self._areas_message:
            return ()
        return self._reader.areas(last)

    def _write_areas(self, areas: tuple[StableArea, ...]) -> None:
        if areas and self.writer is not None and self.writer.is_open:
            self._areas_message = areas[0].message
            self.writer.write_areas(areas)

    def _write_end(self) -> None:
        end, self._last_end = self._last_end, None
        if end is not None and self.writer is not None and self.writer.is_open:
            self._end_message = self.message_count
            self.writer.write_end(end.objects, end.trees, trees_skipped=end.trees_skipped)

    def _update_owners(
        self, facts: MessageFacts, raw: RawMessage, dirty: set[int], page_size: int
    ) -> list[OwnerRuns]:
        """Carry the owners past a message; returns what the trace is to say of them."""
        if self._owner_map is None or self._reader is None:
            return []
        owners, reader, index = self._owner_map, self._reader, facts.message
        found = []
        if self._opening is not NO_CHANGES or self._met is not NO_CHANGES:
            found = [(index, self._opening), (self._known_since, self._met)]
            self._opening = self._met = NO_CHANGES
        if facts.outcome == "committed" or self._is_behind:
            if facts.kind in ("install", *WIPING_KINDS) or self._is_behind:
                changes = owners.refresh(reader)
                self._is_behind = False
            else:
                changes = owners.update(reader, dirty)
            found.append((index, changes))
            if owners.generation != self._generation:
                self._generation, self._known_since = owners.generation, index
            if facts.kind != "update":
                # Opening has filled a heap; what lies there is not read again.
                accessed = accessed_sqlite_pages(raw.accesses, page_size)
                found.append((self._known_since, owners.meet(reader, accessed)))
        if self.writer is None:
            return []
        return [owner_runs(owners.owners, *since) for since in found if len(since[1])]


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

    def end(self) -> TraceEnd:
        """Return what a trace that ends now says of the database."""
        return trace_end(self._vfs)

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


def check_trace(trace: Path | str | None, *, overwrite: bool) -> None:
    """Refuse a trace file that cannot be begun, before anything else is made.

    Raises:
        TraceError: There is a file already that may not be replaced.
    """
    if trace is not None and trace != ":memory:":
        check_way(Path(trace), overwrite=overwrite)


def open_writer(
    trace: Path | str | None, settings: dict[str, object], *, overwrite: bool
) -> TraceWriter | None:
    """Return the writer of a trace file, or None where no trace is wanted."""
    if trace is None:
        return None
    return TraceWriter(None if trace == ":memory:" else trace, settings, overwrite=overwrite)
