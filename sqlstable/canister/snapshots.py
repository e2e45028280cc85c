"""The snapshots of one canister: taken, listed, put back, deleted, downloaded and uploaded.

`Snapshots` needs a stable memory and nothing that runs on it; a canister gives it its heap as well
(`sqlstable.canister.snapshot_door`). What is copied is what has changed since the last one: the
memory tells `ChangedPages` of every message, and the image file says when it is closed how it was
left. Where nobody knows, as after a kill, all is compared, or shared with the image where the file
system shares blocks.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from os import fstat, stat_result
from pathlib import Path
from typing import Any, Final

import numpy as np

from sqlstable.canister.heap_door import HeapImage
from sqlstable.errors import SnapshotError
from sqlstable.ic.snapshot_costs import (
    SNAPSHOTS_MAX,
    transfer_instructions,
    whole_instructions,
)
from sqlstable.ic.units import OS_PAGE_BYTES, OS_PAGES_PER_WASM_PAGE, WASM_PAGE_BYTES, amount
from sqlstable.layout.layout import Peek
from sqlstable.layout.layouts import recognised
from sqlstable.memory.image.osfile import ReadFile
from sqlstable.memory.snapshots.changed import ChangedPages
from sqlstable.memory.snapshots.cloning import can_clone
from sqlstable.memory.snapshots.folder import (
    ALWAYS,
    CHUNKS_NAME,
    HEAP_NAME,
    MODULE_NAME,
    STABLE_NAME,
    FolderPart,
    open_folder,
    write_folder,
)
from sqlstable.memory.snapshots.intake import Put, put_layer, put_module
from sqlstable.memory.snapshots.layers import (
    NO_OS_PAGES,
    LayeredBytes,
    OsPages,
    runs_of,
)
from sqlstable.memory.snapshots.metadata import make_metadata
from sqlstable.memory.snapshots.shelf import SHELF_SUFFIX, Shelf, number_of
from sqlstable.memory.snapshots.shelf_index import Head, Identity, Index, Stored
from sqlstable.memory.snapshots.source import Committed, differing, put_back
from sqlstable.memory.stable import StableMemory
from sqlstable.spelling import spelled

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot of a canister."""

    id: str
    "Hexadecimal: eight bytes of number, then the canister."
    number: int
    "Counted from 0 over all that the canister ever had; may stand for the identifier."
    taken_at: datetime
    "When it was taken by the canister's clock, which is pinned."
    size_bytes: int
    "Module, heap, stable memory and chunks; the canister pays for storing them."
    os_pages_copied: int
    """OS pages of stable memory that were copied for it: those that had changed since the last one.
    Of an image's first one, those that the file system has stored, or none where it shares them."""
    canister_version: int
    "How many messages the canister had behind it; of one that was uploaded, what it says itself."
    instructions: int
    "What taking it costs on the Internet Computer, and loading it."
    transfer_instructions: int
    "What downloading it costs there, and uploading it, its metadata apart."
    stable_size_bytes: int
    "Stable memory in it."
    heap_size_bytes: int
    "Heap in it; 0 where none was taken, as on the native engine."
    module_size_bytes: int
    "Module in it, likewise."
    is_uploaded: bool
    "Whether it came from a folder."
    origin: str = field(repr=False)
    "Whose it is: the path of the image file, or something that tells canisters in memory apart."


class Snapshots:
    """The snapshots of one stable memory.

    Args:
        memory: It. Of an image file, they are kept in a folder beside it.

    Examples:
        >>> memory = StableMemory()
        >>> with memory.message("update"):
        ...     _ = memory.grow(1)
        ...     memory.write(0, b"kept")
        >>> snapshots = Snapshots(memory)
        >>> taken = snapshots.take()
        >>> with memory.message("update"):
        ...     memory.write(0, b"gone")
        >>> with memory.message("load_snapshot"):
        ...     snapshots.put_back(taken.id)
        >>> memory.read(0, 4), taken.os_pages_copied, taken.instructions
        (b'kept', 1, 2000065536)
    """

    def __init__(self, memory: StableMemory) -> None:
        """Read what there is; an image that is open for writing is watched from now on."""
        self.memory = memory
        image = memory.image_file
        folder, name = None, "a canister in memory"
        if image is not None:
            folder, name = image.path.with_name(image.path.name + SHELF_SUFFIX), image.path.name
        is_flushed = image is not None and image.durability == "power"
        self.shelf = Shelf(folder, _canister_of(name), is_flushed=is_flushed)
        if image is None or not image.is_read_only:
            self._watch()

    def listed(self) -> tuple[Snapshot, ...]:
        """Return all, the oldest first."""
        return tuple(map(self._shown, self.shelf.index.stored))

    def get(self, snapshot_id: str) -> Snapshot:
        """Return one.

        Raises:
            SnapshotError: There is none of that name.
        """
        return self._shown(self.shelf.find(snapshot_id))

    def heap_of(self, snapshot_id: str) -> HeapImage | None:
        """Return the heap that a snapshot has, with its module; None where it has none.

        Raises:
            SnapshotError: It is damaged.
        """
        stored = self.shelf.find(snapshot_id)
        if stored.wasm_module is None:
            return None
        values = stored.metadata.global_values
        known = tuple(value for value in values if value is not None)
        if len(known) < len(values):
            raise SnapshotError("a global of the snapshot has no value, so its heap cannot run")
        heap = b"" if stored.wasm_memory is None else self.shelf.read(stored.wasm_memory)
        return HeapImage(self.shelf.read(stored.wasm_module), heap, known)

    # -- between messages -----------------------------------------------------------------------

    def take(
        self,
        *,
        replace_id: str | None = None,
        heap: HeapImage | None = None,
        canister_version: int = 0,
        now: str = "2026-01-01 00:00:00",
    ) -> Snapshot:
        """Take a snapshot of what is committed.

        Args:
            replace_id: One that goes when the new one is there.
            heap: What runs on the memory.
            canister_version: How many messages there were.
            now: The canister's time, UTC.

        Raises:
            SnapshotError: There are as many as there may be, or there is no room.
        """
        shelf = self._ready(replace_id)
        name, layers, copied = self._copy()
        metadata = make_metadata(
            # One nanosecond later each, so that no two say the same of themselves.
            taken_at_ns=_nanoseconds(now) + shelf.index.next_number,
            canister_version=canister_version,
            stable_memory_size=self.memory.wasm_pages * WASM_PAGE_BYTES,
            **({} if heap is None else _described(heap)),
        )
        with self._undoing(name):
            stored = Stored(shelf.index.canister, metadata, (*layers, name), copied, ALWAYS)
            if heap is not None:
                stored = replace(
                    stored,
                    wasm_module=put_module(shelf, heap.module),
                    wasm_memory=shelf.put([(heap.wasm_memory,)], ".heap"),
                )
            return self._keep(stored, replace_id, is_head=True)

    def delete(self, snapshot_id: str) -> None:
        """Delete a snapshot; the others stay as they are.

        Raises:
            SnapshotError: There is none of that name.
        """
        gone = self.shelf.find(snapshot_id)
        self._check_writable()
        self.shelf.prepare()
        self.shelf.keep(self._without(self.shelf.index, gone.snapshot_id))
        self.shelf.fold()

    def download(self, snapshot_id: str, folder: Path | str, *, resume: bool = False) -> None:
        """Write a snapshot as the folder that dfx and icp-cli read.

        Args:
            snapshot_id: Which.
            folder: Where; made, or empty.
            resume: Whether to go on with a download that was cut off.

        Raises:
            SnapshotError: Something lies there, or there is no room.
        """
        stored = self.shelf.find(snapshot_id)
        with ExitStack() as stack:
            files: dict[str, ReadFile] = {}
            files[STABLE_NAME] = stack.enter_context(closing(self._bytes_of(stored)))
            for name, file in ((MODULE_NAME, stored.wasm_module), (HEAP_NAME, stored.wasm_memory)):
                if file is not None:
                    files[name] = stack.enter_context(closing(self.shelf.open(file)))
            parts = [FolderPart(name, files.get(name)) for name in stored.names]
            for digest, file, _ in stored.chunks:
                chunk = stack.enter_context(closing(self.shelf.open(file)))
                parts.append(FolderPart(f"{CHUNKS_NAME}/{digest}.bin", chunk))
            write_folder(folder, stored.metadata, parts, resume=resume)

    def upload(self, folder: Path | str, *, replace_id: str | None = None) -> Snapshot:
        """Take a snapshot in that was downloaded to a folder.

        Args:
            folder: What dfx, icp-cli or `download` has written.
            replace_id: One that goes when the new one is there.

        Raises:
            SnapshotError: The folder is damaged or not whole, or there is no room.
        """
        source = open_folder(folder)
        shelf, put = self._ready(replace_id), Put()
        with self._undoing(put.names):
            return self._keep(put.folder(shelf, source), replace_id, is_head=False)

    # -- in a message ---------------------------------------------------------------------------

    def put_back(self, snapshot_id: str) -> None:
        """Let the open message make stable memory what a snapshot says.

        Raises:
            SnapshotError: There is none of that name, it is damaged, or too large.
        """
        stored = self.shelf.find(snapshot_id)
        with closing(self._bytes_of(stored)) as other:
            put_back(self.memory, other, self._may_differ(stored, other))

    # -- copying --------------------------------------------------------------------------------

    def _copy(self) -> tuple[str, tuple[str, ...], int]:
        """Copy what has changed.

        Returns:
            The file, the layers below it, and how many OS pages were copied.
        """
        memory, shelf, head = self.memory, self.shelf, self.shelf.index.head
        source, image, changed = Committed(memory), memory.image_file, memory.changed
        if head is not None:
            with closing(shelf.open_layers(head.layers)) as below:
                os_pages = None
                if below.wasm_pages > source.wasm_pages:
                    pass
                elif changed is not None and changed.is_known:
                    os_pages = _ascending(changed, source.wasm_pages)
                elif image is None or not can_clone(image.path.parent, image.path):
                    either = np.union1d(source.filled(), below.filled())
                    os_pages = np.concatenate([NO_OS_PAGES, *differing(source, below, either)])
            if os_pages is not None:
                name = put_layer(shelf, source, os_pages, is_whole=False)
                return name, head.layers, len(os_pages)
        if image is not None:
            name, copied_bytes = shelf.put_image(image.file, source.wasm_pages * WASM_PAGE_BYTES)
            return name, (), -(-copied_bytes // OS_PAGE_BYTES)
        os_pages = source.filled()
        return put_layer(shelf, source, os_pages, is_whole=True), (), len(os_pages)

    # -- the shelf ------------------------------------------------------------------------------

    def _ready(self, replace_id: str | None) -> Shelf:
        """Check that there may be one more, and tidy up."""
        self._check_writable()
        _check_room(self.shelf, replace_id)
        self.shelf.prepare()
        return self.shelf

    def _keep(self, stored: Stored, replace_id: str | None, *, is_head: bool) -> Snapshot:
        """Let a snapshot be there from now on."""
        shelf, index = self.shelf, self.shelf.index
        number = index.next_number
        stored = replace(stored, snapshot_id=f"{number:016x}{index.canister}")
        index = replace(index, next_number=number + 1, stored=(*index.stored, stored))
        if is_head:
            index = replace(index, head=Head(stored.layers))
        if replace_id is not None:
            index = self._without(index, shelf.find(replace_id).snapshot_id)
        shelf.keep(index)
        if is_head:
            self._watched().start_over()
        shelf.fold()
        return self._shown(shelf.find(stored.snapshot_id))

    def _without(self, index: Index, snapshot_id: str) -> Index:
        """Return an index without a snapshot; what has changed is counted from another one then."""
        gone = next(one for one in index.stored if one.snapshot_id == snapshot_id)
        left, head = index.without(snapshot_id), index.head
        if head is None or head.layers != gone.layers:
            return left
        layer_name = gone.layers[-1]
        if len(gone.layers) == 1:
            return replace(left, head=None)
        try:
            with closing(self.shelf.open_layers((layer_name,))) as top:
                self._watched().add(top.layers[0].filled().tolist())
        except SnapshotError:
            # A damaged one can be deleted like any other.
            self._watched().forget()
        return replace(left, head=Head(gone.layers[:-1]))

    def _shown(self, stored: Stored) -> Snapshot:
        image = self.memory.image_file
        return _shown(stored, f"memory {id(self.memory)}" if image is None else str(image.path))

    def _bytes_of(self, stored: Stored) -> LayeredBytes:
        found = self.shelf.open_layers(stored.layers)
        if found.size() != stored.metadata.stable_memory_size:
            found.close()
            raise SnapshotError(
                f"snapshot {stored.snapshot_id} is damaged: its stable memory has {found.size()} "
                f"bytes instead of {stored.metadata.stable_memory_size}; delete it"
            )
        return found

    def _may_differ(self, stored: Stored, other: LayeredBytes) -> OsPages | None:
        """Return the OS pages that may differ between now and a snapshot; None: any."""
        head, changed = self.shelf.index.head, self.memory.changed
        if head is None or changed is None or not changed.is_known:
            return None
        common = sum(1 for one, two in zip(head.layers, stored.layers, strict=False) if one == two)
        if not common:
            return None
        found = [_ascending(changed, self.memory.wasm_pages)]
        with closing(self.shelf.open_layers(head.layers)) as mine:
            for layer in (*mine.layers[common:], *other.layers[common:]):
                if layer.is_whole:
                    return None
                found.append(layer.filled())
        return np.unique(np.concatenate(found))

    @contextmanager
    def _undoing(self, names: str | Sequence[str]) -> Iterator[None]:
        """Take files away that no snapshot has come to need."""
        try:
            yield
        except BaseException:
            for name in [names] if isinstance(names, str) else names:
                if name not in self.shelf.index.files:
                    self.shelf.discard(name)
            raise

    # -- what has changed -----------------------------------------------------------------------

    def _check_writable(self) -> None:
        self.memory.check("query")
        image = self.memory.image_file
        if image is not None and image.is_read_only:
            raise SnapshotError(
                f"{image.name} is read-only, and so are its snapshots; make it writable, and open "
                "it again"
            )

    def _watched(self) -> ChangedPages:
        assert self.memory.changed is not None
        return self.memory.changed

    def _watch(self) -> None:
        """Go on counting what changes, from where an image was left if that is known."""
        memory, image, index = self.memory, self.memory.image_file, self.shelf.index
        memory.changed = changed = ChangedPages()
        changed.forget()
        if image is None:
            return
        image.on_whole = self._leave
        head = index.head
        if head is None or head.changed is None:
            return
        if head.image == _identity(fstat(image.file.descriptor)):
            changed.start_over()
            for first, count in head.changed:
                changed.add(range(first, first + count))
        with suppress(SnapshotError):
            # Before the first message: whoever is killed leaves what nobody knows. Where it cannot
            # be written, the time of the image's file says as much.
            self.shelf.keep(replace(index, head=Head(head.layers)))

    def _leave(self, found: stat_result) -> None:
        """Say how the image is left."""
        index, changed = self.shelf.index, self.memory.changed
        if index.head is None or changed is None or not changed.is_known:
            return
        os_pages = _ascending(changed, self.memory.wasm_pages)
        runs = tuple((int(os_pages[a]), b - a) for a, b in runs_of(os_pages))
        with suppress(SnapshotError):
            self.shelf.keep(replace(index, head=Head(index.head.layers, runs, _identity(found))))


def check_beside(image: Path, *, wanted_id: str | None = None, is_one_more: bool = False) -> None:
    """Refuse what the snapshots beside an image do not allow, before the image is opened.

    Args:
        image: The image file.
        wanted_id: One that has to be there.
        is_one_more: Whether there has to be room for one, or one that it replaces.

    Raises:
        SnapshotError: They do not allow it, or are damaged.
    """
    place = image.resolve()
    shelf = Shelf(place.with_name(place.name + SHELF_SUFFIX), _canister_of(place.name))
    if is_one_more:
        _check_room(shelf, wanted_id)
    elif wanted_id is not None:
        shelf.find(wanted_id)


def _check_room(shelf: Shelf, replace_id: str | None) -> None:
    stored = shelf.index.stored
    if replace_id is not None:
        shelf.find(replace_id)
    elif len(stored) >= SNAPSHOTS_MAX:
        raise SnapshotError(
            f"the canister has {amount(len(stored), 'snapshot')}, as many as the Internet "
            f"Computer allows ({SNAPSHOTS_MAX}); delete one, or let the new one replace it, "
            f"such as the oldest, {stored[0].snapshot_id}"
        )


def _shown(stored: Stored, origin: str) -> Snapshot:
    said = stored.metadata
    chunks = [size for _, _, size in stored.chunks]
    blobs = (said.wasm_module_size, said.wasm_memory_size, said.stable_memory_size)
    seconds, nanoseconds = divmod(said.taken_at_ns, 10**9)
    try:
        taken_at = datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1000)
    except (OverflowError, ValueError, OSError):
        taken_at = datetime.max.replace(tzinfo=UTC)
    return Snapshot(
        stored.snapshot_id,
        number_of(stored.snapshot_id),
        taken_at,
        stored.size_bytes,
        stored.os_pages_copied,
        said.canister_version,
        whole_instructions(stored.size_bytes),
        transfer_instructions([*blobs, *chunks]),
        said.stable_memory_size,
        said.wasm_memory_size,
        said.wasm_module_size,
        stored.is_uploaded,
        origin,
    )


def _described(heap: HeapImage) -> dict[str, Any]:
    return {
        "wasm_module_size": len(heap.module),
        "wasm_memory_size": len(heap.wasm_memory),
        "global_values": heap.global_values,
    }


def _ascending(changed: ChangedPages, wasm_pages: int) -> OsPages:
    os_pages = np.fromiter(changed.os_pages, np.int64, len(changed.os_pages))
    os_pages.sort()
    return os_pages[os_pages < wasm_pages * OS_PAGES_PER_WASM_PAGE]


def _identity(found: stat_result) -> Identity:
    return Identity(found.st_size, found.st_mtime_ns, found.st_ino)


def _canister_of(name: str) -> str:
    """Return an identifier made of a name: ten bytes, as a canister's."""
    return f"{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:16]}0101"


def _nanoseconds(now: str) -> int:
    moment = datetime.fromisoformat(now)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    elapsed = moment - _EPOCH
    return ((elapsed.days * 86_400 + elapsed.seconds) * 10**6 + elapsed.microseconds) * 1000


def snapshots_beside(memory: StableMemory) -> Snapshots | None:
    """Return the snapshots that lie beside an image file; None where there are none yet.

    Before its first message: what is changed from now on is to be known. Damaged ones tell when
    somebody asks for them, and keep nobody from the image.
    """
    image = memory.image_file
    if image is None or not image.path.with_name(image.path.name + SHELF_SUFFIX).is_dir():
        return None
    with suppress(SnapshotError):
        return Snapshots(memory)
    return None


def load_alone(snapshots: Snapshots, snapshot_id: str, *, is_layout_checked: bool = True) -> int:
    """Load a snapshot in a message of its own, where nothing runs on the memory.

    Args:
        snapshots: Of the memory.
        snapshot_id: One of them.
        is_layout_checked: Whether what the memory holds, and the snapshot, must be of one layout.

    Returns:
        How many OS pages it has changed.

    Raises:
        SnapshotError: As `Snapshots.put_back`; or the layout is another one.
    """
    memory = snapshots.memory
    number = snapshots.get(snapshot_id).number
    before = recognised(Peek.at(memory))
    with memory.message("load_snapshot"):
        memory.limit(None)
        snapshots.put_back(snapshot_id)
        after = recognised(Peek.at(memory))
        if is_layout_checked and before is not None and after is not before:
            name = "none that is known" if after is None else after.name
            raise SnapshotError(
                f"the layout of snapshot {number} is {name}, and that of the image {before.name}; "
                f"{spelled('is_layout_checked=False', '--force')} loads it all the same"
            )
        return len(memory.bytemap.dirty)
