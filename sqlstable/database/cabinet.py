"""All SQLite files of one memory: which there are, where each lies, and who watches over them.

In layout managed every database is a file in stable memory, and so is its rollback journal.
Super-journals and temporary files are heap: a message commits whole, so that
nobody ever needs them again. In layout raw there is one database, and journals are heap too.
"""

from typing import TYPE_CHECKING, Final

import apsw

from sqlstable.database.heapfile import HeapFile
from sqlstable.database.implicit import Messages
from sqlstable.database.stablefile import StableFile
from sqlstable.database.store import DatabaseStore
from sqlstable.errors import ImageError
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.layout.directory import (
    DIRECTORY_MEMORY_ID,
    NAME_BYTES_MAX,
)
from sqlstable.layout.files import StableFileInfo, file_size_bytes
from sqlstable.layout.layout import Layout, Peek
from sqlstable.layout.layouts import check_layout
from sqlstable.layout.placement import NamedPlacement
from sqlstable.memory.manager import NO_OWNER
from sqlstable.memory.stable import StableMemory
from sqlstable.sqlite.header import HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

MAIN_NAME: Final = "main.db"
"""What the main database is called where nobody has named it yet."""

JOURNAL_SUFFIX: Final = "-journal"
"""What SQLite appends to the name of a database."""

_SUFFIXES: Final = (JOURNAL_SUFFIX, "-wal")
"""The second one is SQLite's, too, and old images have files of such names."""

_NAME_BYTES_MAX: Final = NAME_BYTES_MAX - max(map(len, _SUFFIXES))


class Cabinet:
    """The files of one memory.

    Args:
        memory: The stable memory; empty, or holding an image of the same layout.
        layout: Where files lie.
        page_size: Bytes of a SQLite page of the main database.
        bucket_pages: Wasm pages of a bucket of a new memory manager.
        growth: ``bucket`` or ``wasm-page``; layout raw always grows by Wasm pages.
        implicit_messages: Whether SQL transactions make messages by themselves.

    Raises:
        ImageError: The memory holds something else, or something damaged; it is left alone.
    """

    def __init__(
        self,
        memory: StableMemory,
        *,
        layout: Layout,
        page_size: int,
        bucket_pages: int,
        growth: str,
        implicit_messages: bool,
    ) -> None:
        """Open the layout; a new memory manager is written into an empty memory."""
        self.memory = memory
        self.growth = growth
        self.page_size = page_size
        self.messages = Messages(memory, implicit=implicit_messages)
        self._opened_main_name: str | None = None
        self._stores: dict[str, DatabaseStore] = {}
        self._stable: dict[str, StableFile] = {}
        check_layout(layout, Peek.at(memory))
        self.messages.opened = opened = layout.open(
            memory,
            bucket_pages=bucket_pages,
            growth=growth,
            is_read_only=self.messages.is_read_only,
        )
        self.manager = opened.manager
        self.directory = opened.directory
        self.store = DatabaseStore(
            self.messages, opened.main, page_size=page_size, record=opened.record
        )
        memory.watchers.append(self.messages)

    def close(self) -> None:
        """Stop watching the memory, and hold none of it any more."""
        if self.messages in self.memory.watchers:
            self.memory.watchers.remove(self.messages)
        for store in self.messages.stores:
            assert isinstance(store, DatabaseStore)
            store.close()
        # Nothing refers in a circle any more: all of it goes with the last reference to the VFS.
        self.messages.disband()
        self._stores.clear()
        self._stable.clear()

    # -- names ----------------------------------------------------------------------------------

    @property
    def main_name(self) -> str:
        """Name of the main database."""
        recorded = None if self.directory is None else self.directory.main_name
        return recorded or self._opened_main_name or MAIN_NAME

    def database(self, name: str, *, is_created: bool) -> DatabaseStore:
        """Return the database of a name; the first one ever named is the main database.

        Args:
            name: As SQLite gives it.
            is_created: Whether one that is not there may be made.

        Raises:
            apsw.CantOpenError: There is no such database, or no room for its name.
            ImageError: There is one, and it is damaged.
        """
        is_main_named = self._opened_main_name is not None or (
            self.directory is not None and self.directory.main_name is not None
        )
        if not is_main_named:
            self._opened_main_name = name
        if name == self.main_name:
            return self.store
        store = self._stores.get(name) or self._further_store(name)
        if not is_created and not store.size_bytes and not store.files:
            raise _missing(name)
        return store

    def existing(self, name: str) -> DatabaseStore:
        """Return a database that is there, for looking; asking gives no name to anything.

        Raises:
            apsw.CantOpenError: There is no such database.
            ImageError: There is one, and it is damaged.
        """
        if name == self.main_name:
            return self.store
        if self._entry_kind(name) != "database":
            raise _missing(name)
        return self._stores.get(name) or self._further_store(name)

    def stable_file(self, name: str) -> StableFile | None:
        """Return a journal, or None where its place is the heap."""
        if self.directory is None:
            return None
        file = self._stable.get(name)
        if file is None:
            self.directory.check_usable()
            _check_length(self.main_name)
            if self._entry_kind(name) not in (None, "journal") or name == self.main_name:
                raise apsw.CantOpenError(f"{name!r} should be a journal, and is another file")
            store = self._database_of(name)
            placement = self._named(name, "journal")
            file = StableFile(self.messages, placement, is_dead=store.is_writer_dead)
            self._stable[name] = store.journal = file
        return file

    def heap_file(self, name: str) -> HeapFile:
        """Return a file of the heap by its name."""
        return self.messages.heap.setdefault(name, HeapFile())

    def exists(self, name: str) -> bool:
        """Whether a file exists; no stable memory is involved."""
        stable = self._stable.get(name)
        if stable is not None:
            return stable.exists
        entry = None if self.directory is None else self.directory.entries.get(name)
        if entry is None and name != self._opened_main_name and name not in self._stores:
            # The usual answer: SQLite asks for two files at the beginning of each transaction.
            return name in self.messages.heap
        if entry is not None and entry.kind != "database":
            found = self._known_stable(name)
            return found is not None and found.exists
        return self.database(name, is_created=True).size_bytes > 0

    def delete(self, name: str) -> None:
        """Delete a journal."""
        stable = self._known_stable(name)
        if stable is not None:
            stable.delete()
        self.messages.heap.pop(name, None)

    def hot_databases(self) -> list[str]:
        """Return the databases with a journal that nobody has open: half of a transaction."""
        if self.directory is None:
            return []
        journals = [
            entry.name for entry in self.directory.entries.values() if entry.kind == "journal"
        ]
        return [name.removesuffix(JOURNAL_SUFFIX) for name in journals if self._is_hot(name)]

    # -- looking --------------------------------------------------------------------------------

    def stable_files(self) -> tuple[StableFileInfo, ...]:
        """Return what lies in stable memory, the main database first; nothing is recorded."""
        return tuple(self._listed())

    def _listed(self) -> "Iterator[StableFileInfo]":
        yield from self._main()
        if self.manager is None:
            return
        directory = self.directory
        entries = () if directory is None else directory.entries.values()
        named = {entry.memory_id: entry for entry in entries}
        held = {*self.manager.owners(), *self.manager.sizes()}
        for memory_id in sorted(held - {self.store.placement.memory_id, NO_OWNER}):
            size_bytes = self.manager.get(memory_id).size() * WASM_PAGE_BYTES
            entry = named.get(memory_id)
            if entry is not None:
                used = self._used_bytes(entry.name, entry.kind)
                yield self._info(memory_id, entry.name, entry.kind, used)
            elif memory_id == DIRECTORY_MEMORY_ID and directory is not None and directory.entries:
                used = directory.used_bytes
                yield self._info(memory_id, "(file directory)", "file directory", used)
            else:
                yield self._info(memory_id, f"(memory {memory_id})", "other memory", size_bytes)

    def _main(self) -> "Iterator[StableFileInfo]":
        """Yield the main database, and what the layout keeps in front of it."""
        place, record = self.store.placement, self.store.record
        base, unit_bytes = place.map.base, place.map.bucket_bytes
        starts = tuple(place.map.starts) if self.memory.wasm_pages else ()
        allocated_bytes = len(starts) * unit_bytes
        if self.manager is None:
            allocated_bytes = self.memory.wasm_pages * WASM_PAGE_BYTES
        skipped, rest = divmod(base, unit_bytes)
        yield StableFileInfo(
            name=self.main_name,
            kind="database",
            memory_id=place.memory_id,
            allocated_bytes=max(allocated_bytes - base, 0),
            size_bytes=place.allocated_bytes,
            used_bytes=self.store.size_bytes,
            bucket_addresses=tuple(it + rest * (not n) for n, it in enumerate(starts[skipped:])),
        )
        if record is not None and starts:
            yield StableFileInfo(
                name=f"({record.kind})",
                kind=record.kind,
                memory_id=place.memory_id,
                allocated_bytes=base,
                size_bytes=base,
                used_bytes=record.used_bytes,
                bucket_addresses=starts[: skipped + (rest > 0)],
            )

    def _info(self, memory_id: int, name: str, kind: str, used_bytes: int) -> StableFileInfo:
        assert self.manager is not None
        manager = self.manager
        addresses = tuple(map(manager.bucket_address, manager.buckets(memory_id)))
        return StableFileInfo(
            name=name,
            kind=kind,
            memory_id=memory_id,
            allocated_bytes=len(addresses) * manager.bucket_bytes,
            size_bytes=manager.get(memory_id).size() * WASM_PAGE_BYTES,
            used_bytes=used_bytes,
            bucket_addresses=addresses,
        )

    def _used_bytes(self, name: str, kind: str) -> int:
        store = self._stores.get(name)
        if store is not None:
            return store.size_bytes
        placement = self._named(name, kind)
        size_bytes = placement.allocated_bytes
        try:
            if kind != "database":
                file = self._known_stable(name)
                return file.size_bytes if file is not None and file.exists else 0
            start = self.memory.peek(placement.map.address(0), min(HEADER_BYTES, size_bytes))
            return file_size_bytes(start, size_bytes)
        except ImageError:
            # Who opens it, or the database that it is a journal of, is told.
            return size_bytes

    # -- inside ---------------------------------------------------------------------------------

    def _further_store(self, name: str) -> DatabaseStore:
        if self.directory is None:
            raise apsw.CantOpenError(
                f"the stable memory holds one database file, opened as {self.main_name!r}; "
                f"{name!r} would be a second one: use layout managed, attach ':memory:', or give "
                "it a VFS of its own"
            )
        self.directory.check_usable()
        for one in (name, self.main_name):
            _check_length(one)
        if name.endswith(_SUFFIXES):
            raise apsw.CantOpenError(
                f"{name!r} is what SQLite calls a file beside a database; give the database a name "
                f"that does not end in {' or '.join(_SUFFIXES)}"
            )
        placement = self._named(name, "database")
        store = DatabaseStore(self.messages, placement, page_size=self.page_size, is_main=False)
        self._stores[name] = store
        return store

    def _database_of(self, journal_name: str) -> DatabaseStore:
        return self.database(journal_name.removesuffix(JOURNAL_SUFFIX), is_created=True)

    def _named(self, name: str, kind: str) -> NamedPlacement:
        assert self.manager is not None
        assert self.directory is not None
        return NamedPlacement(
            self.manager,
            self.directory,
            growth=self.growth,
            name=name,
            kind=kind,
            get_main_name=lambda: self.main_name,
            before_write=lambda: self.messages.intercept("write"),
        )

    def _is_hot(self, journal_name: str) -> bool:
        try:
            if not self.exists(journal_name):
                return False
            return not self._database_of(journal_name).has_live_journal()
        except ImageError:
            # The database is damaged: who opens it is told, and the others go on.
            return False

    def _known_stable(self, name: str) -> StableFile | None:
        """Return a journal that is open or has a place; nothing is made for a question."""
        file = self._stable.get(name)
        if file is None and self._entry_kind(name) == "journal":
            file = self.stable_file(name)
        return file

    def _entry_kind(self, name: str) -> str | None:
        entry = None if self.directory is None else self.directory.entries.get(name)
        return None if entry is None else entry.kind


def _check_length(name: str) -> None:
    """Check that a name, and those of the files beside it, fit into the directory.

    Raises:
        apsw.CantOpenError: It is too long.
    """
    length = len(name.encode())
    if not 0 < length <= _NAME_BYTES_MAX:
        raise apsw.CantOpenError(
            f"the name of the database has {length} bytes; with further files beside it in stable "
            f"memory it can have 1 to {_NAME_BYTES_MAX}"
        )


def _missing(name: str) -> apsw.CantOpenError:
    return apsw.CantOpenError(
        f"stable memory holds no database {name!r}; `StableVFS.stable_files` lists what it holds"
    )
