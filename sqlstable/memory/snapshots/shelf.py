"""Where the snapshots of one canister are kept: a folder beside its image file, or this process.

A folder holds ``index.json``, which says what there is, and the files that it names. An index is
replaced by another one at once, and that is when a snapshot is there, or gone.

**Fault model.** The process may be killed at any instant, and any call may fail. Files that no
index names are removed at the next change. What is to be done behind such a change, folding a
layer that no snapshot ends with into the one above it, does no harm when it is done again, and is,
wherever it was cut off. Only who holds the lock of the image changes anything.

**Invariants**

* Each layer is the uppermost of exactly one snapshot, once folding is done.
* The sizes that the layers of a snapshot state never fall.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import numpy as np

from sqlstable.errors import SnapshotError
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.memory.backing import Bytes
from sqlstable.memory.image.durable import reason
from sqlstable.memory.image.osfile import OsFile, ReadFile, flush_folder
from sqlstable.memory.snapshots.cloning import clone, copy_sparse
from sqlstable.memory.snapshots.layers import (
    IMAGE_SUFFIX,
    LAYER_SUFFIX,
    Layer,
    LayeredBytes,
    MemoryFile,
    Sums,
    batches_of,
    layer_parts,
    read_image_layer,
    read_layer,
    runs_of,
    sums_of,
    sums_parts,
)
from sqlstable.memory.snapshots.shelf_index import (
    INDEX_NAME,
    Index,
    Stored,
    foldable,
    folded,
    sums_name,
)

SHELF_SUFFIX: Final = ".snapshots"
"""Of the folder beside an image file."""

_NEW_INDEX: Final = f"{INDEX_NAME}.new"
_OPENED: Final = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW


class Shelf:
    """The snapshots of one canister.

    Args:
        folder: Where they are, or None for this process's memory.
        canister: What their identifiers end in, hexadecimal; a folder that is there has its own.
        is_flushed: Whether what is kept survives a loss of power.

    Raises:
        SnapshotError: The folder is damaged, or of a newer format.
    """

    def __init__(self, folder: Path | None, canister: str, *, is_flushed: bool = False) -> None:
        self.folder = folder
        self._is_flushed = is_flushed
        self._in_memory: dict[str, bytes] = {}
        self.index = Index(canister)
        if folder is not None and folder.exists():
            self.index = self._read_index(folder)

    # -- reading --------------------------------------------------------------------------------

    def find(self, snapshot_id: str) -> Stored:
        """Return a snapshot, by its identifier or its number.

        Raises:
            SnapshotError: There is none of that name.
        """
        for one in self.index.stored:
            if snapshot_id in (one.snapshot_id, str(number_of(one.snapshot_id))):
                return one
        known = ", ".join(str(number_of(one.snapshot_id)) for one in self.index.stored)
        raise SnapshotError(
            f"the canister has no snapshot {snapshot_id}, it has {known or 'none'}; that of "
            "another canister comes in by downloading it there and uploading it here"
        )

    def open_layers(self, names: Sequence[str]) -> LayeredBytes:
        """Return the bytes that layers make; to be closed.

        Raises:
            SnapshotError: One is missing, or damaged.
        """
        layers: list[Layer] = []
        try:
            layers.extend(map(self.open_layer, names))
        except BaseException:
            for layer in layers:
                layer.file.close()
            raise
        return LayeredBytes(layers)

    def open_layer(self, name: str) -> Layer:
        """Return one layer, whose file is to be closed.

        Raises:
            SnapshotError: It is missing, or damaged.
        """
        sums = self._sums(name) if name.endswith(IMAGE_SUFFIX) else None
        file = self.open(name)
        try:
            if sums is not None:
                return read_image_layer(self._shown(name), file, sums)
            return read_layer(self._shown(name), file)
        except BaseException:
            file.close()
            raise

    def _sums(self, name: str) -> Sums:
        """Return the checksums of an image."""
        with closing(self.open(sums_name(name))) as file:
            return read_layer(self._shown(sums_name(name)), file).sums

    def open(self, name: str) -> ReadFile:
        """Return a file, to be closed.

        Raises:
            SnapshotError: It is missing, or no regular file.
        """
        if self.folder is None:
            return MemoryFile(self._in_memory[name])
        try:
            file = OsFile(os.open(self.folder / name, os.O_RDONLY | _OPENED))
        except OSError as error:
            raise SnapshotError(
                f"{self._shown(name)}, a part of a snapshot, cannot be read: {reason(error)}. "
                "Restore it from a copy, or delete the snapshot"
            ) from error
        if not stat.S_ISREG(os.fstat(file.descriptor).st_mode):
            file.close()
            raise SnapshotError(f"{self._shown(name)} is no regular file, so no part of a snapshot")
        return file

    def read(self, name: str) -> bytes:
        """Return all of a file.

        Raises:
            SnapshotError: It is missing, or no regular file.
        """
        with closing(self.open(name)) as file:
            return file.read(0, file.size())

    def size_on_disk(self) -> int | None:
        """Return the bytes that all snapshots take; None where the system does not tell."""
        if self.folder is None:
            return sum(map(len, self._in_memory.values()))
        found = [(self.folder / name) for name in self.index.files]
        return sum(path.stat().st_blocks * 512 for path in found if path.exists())

    # -- writing --------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the folder, and take away what was left behind; before anything is written.

        Raises:
            SnapshotError: The folder cannot be used.
        """
        try:
            if self.folder is not None and not self.folder.exists():
                self.folder.mkdir()
                self._write_index(self.index)
            self._sweep()
        except OSError as error:
            raise SnapshotError(
                f"snapshots cannot be kept in {self.folder}: {reason(error)}"
            ) from error
        self.fold()

    def put(self, parts: Iterable[Sequence[Bytes]], suffix: str = "") -> str:
        """Write a new file, which nobody knows before an index names it; returns its name.

        Args:
            parts: Its bytes, some pieces at a time.
            suffix: Of the name.

        Raises:
            SnapshotError: There is no room for it.
        """
        name = self._new_name(suffix)
        if self.folder is None:
            self._in_memory[name] = b"".join(piece for some in parts for piece in some)
            return name
        with self._refusing(name):
            self._write(name, parts)
        return name

    def _write(self, name: str, parts: Iterable[Sequence[Bytes]]) -> None:
        file = self._create(name)
        try:
            offset = 0
            for part in parts:
                file.write(offset, part)
                offset += sum(map(len, part))
            if self._is_flushed:
                file.flush()
        finally:
            file.close()

    def put_image(self, source: OsFile, size_bytes: int) -> tuple[str, int]:
        """Copy an image file as it is; returns the name, and how many bytes were moved for it.

        Raises:
            SnapshotError: There is no room for it.
        """
        assert self.folder is not None
        name, copied = self._new_name(IMAGE_SUFFIX), 0
        with self._refusing(name):
            file = self._create(name)
            try:
                if clone(source.descriptor, file.descriptor):
                    file.resize(size_bytes)
                else:
                    copied = copy_sparse(source, file, size_bytes)
                self._put_sums(name, sums_of(file), size_bytes)
                if self._is_flushed:
                    file.flush()
            finally:
                file.close()
        return name, copied

    def _put_sums(self, image_name: str, sums: Sums, size_bytes: int) -> None:
        """Write the checksums of an image, at once where there are some already."""
        assert self.folder is not None
        name = sums_name(image_name)
        new_name = f"{name}.new"
        with suppress(FileNotFoundError):
            (self.folder / new_name).unlink()
        with self._refusing(new_name):
            self._write(new_name, sums_parts(sums, wasm_pages=size_bytes // WASM_PAGE_BYTES))
            (self.folder / new_name).replace(self.folder / name)

    def keep(self, index: Index) -> None:
        """Let another index hold from now on; what it names is there.

        Raises:
            SnapshotError: It cannot be written; the one before holds.
        """
        if self.folder is not None:
            with self._refusing(_NEW_INDEX):
                self._write_index(index)
        self.index = index

    def fold(self) -> None:
        """Join layers that no snapshot ends with to those above them; doing it again is no harm.

        Where there is no room for it now, it is done at a later change.
        """
        with suppress(SnapshotError, OSError):
            while (pair := foldable(self.index)) is not None:
                self.keep(folded(self.index, pair, self._join(*pair)))
            self._sweep()

    # -- inside ---------------------------------------------------------------------------------

    def _join(self, lower_name: str, upper_name: str) -> str:
        """Make one layer of two, and return its name."""
        both = self.open_layers((lower_name, upper_name))
        lower, upper = both.layers
        try:
            if upper.is_whole:
                return upper_name
            if lower.os_pages is None:
                self._write_into(lower_name, both, upper)
                return lower_name
            os_pages = np.union1d(lower.filled(), upper.filled())
            contents = ([both.gather(batch).tobytes()] for batch in batches_of(os_pages))
            parts = layer_parts(
                os_pages, contents, wasm_pages=both.wasm_pages, is_whole=lower.is_whole
            )
            return self.put(parts, LAYER_SUFFIX)
        finally:
            both.close()

    def _write_into(self, name: str, both: LayeredBytes, upper: Layer) -> None:
        """Write a layer into the image below it, which shows the same with and without.

        Everybody who still sees the lower one sees the upper one above it, whose OS pages hide
        those that are of other bytes than their checksums meanwhile.
        """
        assert self.folder is not None
        with self._refusing(name):
            image = OsFile(os.open(self.folder / name, os.O_RDWR | _OPENED))
            try:
                image.resize(both.size())
                assert upper.os_pages is not None
                for batch in batches_of(upper.os_pages):
                    content = both.gather(batch)
                    for first, stop in runs_of(batch):
                        part = content[first:stop].data.cast("B")
                        image.write(int(batch[first]) << 12, [part])
                if self._is_flushed:
                    image.flush()
                sums = both.layers[0].sums.with_others(upper.sums)
                self._put_sums(name, sums, both.size())
            finally:
                image.close()

    def _new_name(self, suffix: str) -> str:
        """Return a name that no file has."""
        names = (
            self._in_memory if self.folder is None else [it.name for it in self.folder.iterdir()]
        )
        fronts = (name.partition(".")[0] for name in names)
        return f"{max((int(front) for front in fronts if front.isdigit()), default=-1) + 1}{suffix}"

    def _create(self, name: str) -> OsFile:
        assert self.folder is not None
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPENED
        return OsFile(os.open(self.folder / name, flags, 0o666))

    def _refusing(self, name: str) -> "_Refusing":
        return _Refusing(self, name)

    def discard(self, name: str) -> None:
        """Remove a file that no index names; what cannot be removed goes at the next change."""
        self._in_memory.pop(name, None)
        if self.folder is not None:
            with suppress(OSError):
                (self.folder / name).unlink()
            if name.endswith(IMAGE_SUFFIX):
                self.discard(sums_name(name))

    def _sweep(self) -> None:
        """Remove files of ours that no index names."""
        kept = {INDEX_NAME, *self.index.files}
        for name in self._in_memory.keys() - kept:
            del self._in_memory[name]
        for path in () if self.folder is None else self.folder.iterdir():
            is_ours = path.name == _NEW_INDEX or path.name.partition(".")[0].isdigit()
            if path.name not in kept and is_ours:
                path.unlink()

    def _write_index(self, index: Index) -> None:
        assert self.folder is not None
        path = self.folder / _NEW_INDEX
        with suppress(FileNotFoundError):
            path.unlink()
        file = self._create(_NEW_INDEX)
        try:
            file.write(0, [index.data])
            if self._is_flushed:
                file.flush()
        finally:
            file.close()
        path.replace(self.folder / INDEX_NAME)
        if self._is_flushed:
            flush_folder(self.folder)

    def _read_index(self, folder: Path) -> Index:
        try:
            data = (folder / INDEX_NAME).read_bytes()
        except FileNotFoundError:
            if {path.name for path in folder.iterdir()} <= {_NEW_INDEX}:
                # Made, and its maker killed before it said anything.
                return self.index
            raise SnapshotError(
                f"{folder} has no {INDEX_NAME}, so it holds no snapshots of an image; move it away"
            ) from None
        except OSError as error:
            raise SnapshotError(f"{folder} cannot be read: {reason(error)}") from error
        return Index.parse(data, self._shown(INDEX_NAME))

    def _shown(self, name: str) -> str:
        return name if self.folder is None else f"{self.folder.name}/{name}"


def number_of(snapshot_id: str) -> int:
    """Return the number in an identifier.

    Examples:
        >>> number_of("000000000000000a339131cf6b9bf65e0101")
        10
    """
    return int(snapshot_id[:16], 16)


class _Refusing:
    """Turns what the system refuses into `SnapshotError`; what was begun goes, whatever came."""

    def __init__(self, shelf: Shelf, name: str) -> None:
        self._shelf = shelf
        self._name = name

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        if error is None:
            return
        if self._name not in self._shelf.index.files:
            self._shelf.discard(self._name)
        if isinstance(error, OSError):
            raise SnapshotError(
                f"the snapshot cannot be written: {reason(error)}; nothing has changed"
            ) from error
