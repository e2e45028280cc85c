"""A snapshot as a folder: what ``dfx canister snapshot download`` and ``icp-cli`` write and read.

=======================================  =========================================================
``metadata.json``                        see `sqlstable.memory.snapshots.metadata`
``wasm_module.bin``                      the module; dfx writes it if empty, too
``wasm_memory.bin``                      the heap, likewise
``stable_memory.bin``                    an image; icp-cli writes it if empty, too, dfx does not
``wasm_chunk_store/<sha256>.bin``        a chunk each; icp-cli makes the folder if it is empty, too
``.download_progress.json``              icp-cli: how far a download has come. Files have their
                                         full length from the beginning
``.upload_progress.json``, ``<id>.json``  how far an upload has come, of icp-cli and of dfx; they
                                         concern another canister, and are left alone
=======================================  =========================================================

An interrupted download of dfx has no such file: what is shorter than it should be goes on where it
ends. Both are gone on with here.

**Limitations.** The format has checksums of the chunks only. What was changed inside of a file and
left its length is seen when the snapshot is loaded, if at all.
"""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlstable.errors import SnapshotError
from sqlstable.ic.snapshot_costs import SLICE_BYTES
from sqlstable.memory.image.durable import reason
from sqlstable.memory.image.osfile import OsFile, ReadFile
from sqlstable.memory.snapshots.metadata import METADATA_NAME, Metadata
from sqlstable.spelling import spelled

MODULE_NAME: Final = "wasm_module.bin"
HEAP_NAME: Final = "wasm_memory.bin"
STABLE_NAME: Final = "stable_memory.bin"
CHUNKS_NAME: Final = "wasm_chunk_store"

ALWAYS: Final = (MODULE_NAME, HEAP_NAME, STABLE_NAME)
"""What dfx and icp-cli both find where they look for it."""

_PROGRESS_NAME: Final = ".download_progress.json"
_PROGRESS_KEYS: Final = {
    MODULE_NAME: "wasm_module",
    HEAP_NAME: "wasm_memory",
    STABLE_NAME: "stable_memory",
}
_SLICES_A_NOTE: Final = 32
"""So many slices are written between two notes of how far it has come."""

_METADATA_BYTES_MAX: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class FolderPart:
    """One file of a folder.

    Attributes:
        name: Below the folder.
        file: Its bytes, or None where it is empty.
    """

    name: str
    file: ReadFile | None = None

    @property
    def size_bytes(self) -> int:
        """Length in bytes."""
        return 0 if self.file is None else self.file.size()


@dataclass(frozen=True, slots=True)
class SnapshotFolder:
    """A folder that was checked; its files are opened when they are wanted."""

    path: Path
    metadata: Metadata
    names: tuple[str, ...]
    "What it has beside ``metadata.json``, the chunks by the name of their folder."

    def open(self, name: str) -> OsFile:
        """Return one file, to be closed.

        Raises:
            SnapshotError: It cannot be read.
        """
        return _opened(self.path / name)

    def chunk_name(self, digest: str) -> str:
        """Return the name of a chunk."""
        return f"{CHUNKS_NAME}/{digest}.bin"


def is_folder_of_snapshot(path: Path) -> bool:
    """Return whether a folder looks like that of a snapshot."""
    return path.is_dir() and (path / METADATA_NAME).exists()


def open_folder(path: Path | str) -> SnapshotFolder:
    """Check the folder of a snapshot; nothing is written, nor read but metadata and chunks.

    Raises:
        SnapshotError: It is none, was not downloaded whole, or is damaged.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise SnapshotError(f"{folder} is no folder; give the one a snapshot was downloaded to")
    if not os.path.lexists(folder / METADATA_NAME):
        raise SnapshotError(
            f"{folder} has no {METADATA_NAME}, so it is not the folder of a snapshot"
        )
    metadata = Metadata.parse(_small_file(folder / METADATA_NAME), str(folder / METADATA_NAME))
    if os.path.lexists(folder / _PROGRESS_NAME):
        raise SnapshotError(
            f"{folder} was not downloaded whole: {_PROGRESS_NAME} says so; download again with "
            f"{_resume()}"
        )
    for name, size_bytes in _sizes(metadata).items():
        _check_size(folder / name, size_bytes)
    for digest in metadata.chunks:
        _check_chunk(folder / CHUNKS_NAME / f"{digest}.bin", digest)
    names = (*_sizes(metadata), CHUNKS_NAME)
    return SnapshotFolder(folder, metadata, tuple(it for it in names if (folder / it).exists()))


def write_folder(
    path: Path | str, metadata: Metadata, parts: Sequence[FolderPart], *, resume: bool = False
) -> None:
    """Write the folder of a snapshot, or what is missing of one that was cut off.

    Holes stay holes. What could not be written leaves nothing; what was killed can be gone on
    with.

    Args:
        path: The folder; made, or empty.
        metadata: What is said of the snapshot.
        parts: Its other files; a name without a dot is a folder.
        resume: Whether to go on with what lies there.

    Raises:
        SnapshotError: Something else lies there, or there is no room.
    """
    folder = Path(path)
    is_made = _check_place(folder, metadata, resume=resume)
    try:
        progress = _Progress.read(folder, is_new=not resume)
        if not resume:
            folder.mkdir(exist_ok=True)
            (folder / METADATA_NAME).write_bytes(metadata.data)
        progress.write()
        for part in parts:
            _write_part(folder, part, progress)
        progress.end()
    except SnapshotError:
        # What was to be written is damaged, or something lies in the way.
        if not resume:
            _remove(folder, parts, is_made=is_made)
        raise
    except OSError as error:
        if not resume:
            _remove(folder, parts, is_made=is_made)
        raise SnapshotError(
            f"the snapshot cannot be written to {folder}: {reason(error)}"
            + (f"; what was there stays, {_resume()} goes on with it" if resume else "")
        ) from error


def _resume() -> str:
    return spelled("resume=True", "--resume")


def _check_place(folder: Path, metadata: Metadata, *, resume: bool) -> bool:
    """Check that a folder can be written; returns whether it is made for it."""
    if not os.path.lexists(folder):
        if resume:
            raise SnapshotError(f"{folder} is not there, so there is no download to go on with")
        if not folder.parent.is_dir():
            raise SnapshotError(f"the folder of {folder} is not there; make it first")
        return True
    if not folder.is_dir():
        raise SnapshotError(f"{folder} is no folder; choose another place")
    if not resume:
        if any(folder.iterdir()):
            raise SnapshotError(
                f"{folder} is not empty; choose another folder, or go on with an interrupted "
                f"download by {_resume()}"
            )
        return False
    if not os.path.lexists(folder / METADATA_NAME):
        raise SnapshotError(f"{folder} has no {METADATA_NAME}, so no download was begun there")
    if _small_file(folder / METADATA_NAME) != metadata.data:
        raise SnapshotError(
            f"{folder} holds another snapshot, or another state of it: its {METADATA_NAME} "
            "differs; choose another folder"
        )
    return False


class _Progress:
    """How far a download has come, as icp-cli notes it."""

    def __init__(self, folder: Path, said: dict[str, dict[str, Any]] | None) -> None:
        self._path = folder / _PROGRESS_NAME
        self._said = said
        "None where a download of dfx is gone on with, which the lengths of its files tell."

    @classmethod
    def read(cls, folder: Path, *, is_new: bool) -> "_Progress":
        """Read what an interrupted download has noted.

        Raises:
            SnapshotError: It is damaged.
        """
        begun = {key: {"frontier": 0, "ahead": []} for key in _PROGRESS_KEYS.values()}
        path = folder / _PROGRESS_NAME
        if is_new:
            return cls(folder, begun)
        if not os.path.lexists(path):
            return cls(folder, None)
        try:
            said = json.loads(_small_file(path))
            found = {key: dict(said[key]) for key in begun}
            assert all(
                isinstance(number, int) and number >= 0
                for one in found.values()
                for number in (one["frontier"], *one["ahead"])
            )
        except (AssertionError, ValueError, KeyError, TypeError) as error:
            raise SnapshotError(f"{path} is damaged; download into another folder") from error
        return cls(folder, found)

    def missing(self, name: str, path: Path, size_bytes: int) -> Iterator[tuple[int, int]]:
        """Yield first byte and length of each slice that is still to be written."""
        there = path.stat().st_size if path.exists() else 0
        said = None if self._said is None else self._said.get(_PROGRESS_KEYS.get(name, ""))
        if said is None:
            # As dfx appends, the slices of one that was cut off begin anywhere.
            for offset in range(min(there, size_bytes), size_bytes, SLICE_BYTES):
                yield offset, min(SLICE_BYTES, size_bytes - offset)
            return
        frontier, ahead = said["frontier"], set(said["ahead"])
        for offset in range(0, size_bytes, SLICE_BYTES):
            is_there = offset < frontier or offset in ahead
            if not is_there or offset >= there:
                yield offset, min(SLICE_BYTES, size_bytes - offset)

    def note(self, name: str, frontier: int) -> None:
        """Note that all below is written."""
        if self._said is not None and name in _PROGRESS_KEYS:
            said = self._said[_PROGRESS_KEYS[name]]
            said["frontier"] = max(said["frontier"], frontier)
            said["ahead"] = [offset for offset in said["ahead"] if offset > frontier]
            self.write()

    def write(self) -> None:
        """Write the file anew."""
        if self._said is not None:
            new = self._path.with_name(f"{_PROGRESS_NAME}.tmp")
            new.write_text(json.dumps(self._said, indent=2), encoding="utf-8")
            new.replace(self._path)

    def end(self) -> None:
        """Take the file away: the folder is whole."""
        for name in (_PROGRESS_NAME, f"{_PROGRESS_NAME}.tmp"):
            self._path.with_name(name).unlink(missing_ok=True)


def _write_part(folder: Path, part: FolderPart, progress: _Progress) -> None:
    path = folder / part.name
    if "." not in part.name:
        path.mkdir(exist_ok=True)
        return
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise SnapshotError(f"{path} is no regular file; download into another folder")
    size_bytes = part.size_bytes
    missing = list(progress.missing(part.name, path, size_bytes))
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    target = OsFile(os.open(path, flags, 0o666))
    try:
        if target.size() > size_bytes:
            raise SnapshotError(
                f"{path} has {target.size()} bytes, and the snapshot's has {size_bytes}; download "
                "into another folder"
            )
        if target.size() == 0 and part.file is not None:
            # What is zero stays a hole; somewhere else something may lie there already.
            missing = list(_filled(part.file))
        target.resize(size_bytes)
        for done, (offset, length) in enumerate(missing, start=1):
            assert part.file is not None
            target.write(offset, [part.file.read(offset, length)])
            if done % _SLICES_A_NOTE == 0:
                progress.note(part.name, offset + length)
        progress.note(part.name, size_bytes)
    finally:
        target.close()


def _filled(file: ReadFile) -> Iterator[tuple[int, int]]:
    """Yield first byte and length of what may be other than zero, by slices."""
    for start, stop in file.extents():
        for offset in range(start, stop, SLICE_BYTES):
            yield offset, min(SLICE_BYTES, stop - offset)


def _remove(folder: Path, parts: Sequence[FolderPart], *, is_made: bool) -> None:
    """Take back what could not be finished; the folder was empty, or not there."""
    if is_made:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for name in (
        METADATA_NAME,
        _PROGRESS_NAME,
        f"{_PROGRESS_NAME}.tmp",
        *(it.name for it in parts),
    ):
        with suppress(OSError):
            (folder / name).unlink()
    with suppress(OSError):
        (folder / CHUNKS_NAME).rmdir()


def _sizes(metadata: Metadata) -> Mapping[str, int]:
    return {
        MODULE_NAME: metadata.wasm_module_size,
        HEAP_NAME: metadata.wasm_memory_size,
        STABLE_NAME: metadata.stable_memory_size,
    }


def _check_size(path: Path, size_bytes: int) -> None:
    if not os.path.lexists(path):
        if size_bytes:
            raise SnapshotError(
                f"{path} is missing, and {METADATA_NAME} says that it has {size_bytes} bytes; "
                "download the snapshot again"
            )
        return
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no regular file"
        raise SnapshotError(f"{path} is {kind}; a snapshot consists of files of its own")
    if found.st_size != size_bytes:
        is_short = found.st_size < size_bytes
        way = f"download it again, with {_resume()}" if is_short else "it is damaged"
        raise SnapshotError(
            f"{path} has {found.st_size} bytes, and {METADATA_NAME} says that it has "
            f"{size_bytes}; {way}"
        )


def _check_chunk(path: Path, digest: str) -> None:
    if not os.path.lexists(path):
        raise SnapshotError(f"{path} is missing, a chunk that {METADATA_NAME} names")
    file = _opened(path)
    try:
        hashed = hashlib.sha256()
        for offset in range(0, file.size(), SLICE_BYTES):
            hashed.update(file.read(offset, SLICE_BYTES))
    finally:
        file.close()
    if hashed.hexdigest() != digest:
        raise SnapshotError(
            f"{path} is damaged: its SHA-256 is {hashed.hexdigest()}, and its name says another"
        )


def _small_file(path: Path) -> bytes:
    file = _opened(path)
    try:
        if file.size() > _METADATA_BYTES_MAX:
            raise SnapshotError(f"{path} has {file.size()} bytes; it is not what its name says")
        return file.read(0, file.size())
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read: {reason(error)}") from error
    finally:
        file.close()


def _opened(path: Path) -> OsFile:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
    try:
        file = OsFile(os.open(path, flags))
    except OSError as error:
        link = " (it is a symbolic link)" if path.is_symlink() else ""
        raise SnapshotError(f"{path} cannot be read: {reason(error)}{link}") from error
    if not stat.S_ISREG(os.fstat(file.descriptor).st_mode):
        file.close()
        raise SnapshotError(f"{path} is no regular file; a snapshot consists of files of its own")
    return file
