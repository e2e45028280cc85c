"""Places of files: refused where they are not free, and new ones filled whole or not at all."""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from sqlstable.cli.failures import UsageError, note
from sqlstable.errors import ImageError
from sqlstable.memory.signatures import MANAGER_SIGNATURE
from sqlstable.sqlite.header import SQLITE_MAGIC

if TYPE_CHECKING:
    from sqlstable.memory.image.folderlock import FolderLock
    from sqlstable.memory.stable import StableMemory

_FIRST_BYTES: Final = 24
"""A layout keeps a length of eight bytes in front of SQLite's magic."""

STABLE_NAME: Final = "stable_memory.bin"
"""The file of a snapshot's folder that has stable memory."""

METADATA_NAME: Final = "metadata.json"
"""The one that says what the snapshot is."""

_PREFIX: Final = "sqlstable-"
_SUFFIX: Final = ".partial"
"""Of the folders in which new files are made."""

_TRIES: Final = 9

_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_regular(path: Path) -> None:
    """Refuse a folder, a pipe, a device: opening some of them waits for ever.

    Raises:
        UsageError: There is something that is no regular file.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    for is_kind, kind in _KINDS:
        if is_kind(mode):
            if (path / STABLE_NAME).is_file():
                raise UsageError(
                    f"{path} is the folder of a snapshot; sqlstable snapshot upload IMAGE {path} "
                    f"and snapshot load IMAGE make an image of it, {path / STABLE_NAME} is one "
                    "already"
                )
            raise UsageError(f"{path} is {kind}; give the path of a file")


def image_in(path: Path) -> Path:
    """Return an image that is only read: a file, or what the folder of a snapshot has.

    Raises:
        UsageError: It is something else.
        SnapshotError: The folder is damaged, or was not downloaded whole.
    """
    if path.is_dir() and (path / METADATA_NAME).exists():
        from sqlstable.memory.snapshots.folder import open_folder

        open_folder(path)
    if path.is_dir() and (path / STABLE_NAME).exists():
        path = path / STABLE_NAME
    check_regular(path)
    return path


@contextmanager
def new_image(image: Path, *, force: bool) -> Iterator[Path]:
    """Yield the path under which to make an image; at the end it takes its place.

    After an error, and after Ctrl-C, nothing is left, and what was there before is there. An old
    image is recovered and locked first, so that nobody opens it while it is being replaced.

    Args:
        image: Where the image is to be.
        force: Whether an old image may be replaced.

    Raises:
        UsageError: The place is taken, or cannot be used.
        ImageError: The old image is open elsewhere, or damaged.
    """
    target = Path(os.path.realpath(image))
    with ExitStack() as stack:
        old = _locked_old(image, target, force=force)
        if old is not None:
            stack.callback(_let_go, old)
        partial = stack.enter_context(_folder_beside(image, target)) / "image"
        yield partial
        if old is None:
            _check_free(image)
        else:
            partial.chmod(stat.S_IMODE(target.stat().st_mode))
            # Before the image it belongs to: what is in it is in the old image already, and a log
            # beside the new one could be taken for its own.
            _log_of(target).unlink(missing_ok=True)
        partial.replace(target)


@contextmanager
def new_database(database: Path, *, force: bool, image: Path) -> Iterator[Path]:
    """Yield the path under which to make a SQLite database; at the end it takes its place.

    Args:
        database: Where the database is to be.
        force: Whether an old database may be replaced.
        image: Where it comes from, which is never replaced.

    Raises:
        UsageError: The place is taken, or cannot be used.
    """
    target = Path(os.path.realpath(database))
    for suffix in ("-wal", "-journal"):
        if os.path.lexists(f"{target}{suffix}"):
            raise UsageError(
                f"{database}{suffix} lies there, and SQLite would take it for a part of the new "
                "database; close the database it belongs to, or move it away"
            )
    if os.path.lexists(database):
        _check_replaceable(database, force=force, kind="database")
        if image.exists() and target.samefile(image):
            raise UsageError(f"{database} is the image itself; choose another file")
        first_bytes = _first_bytes(database)
        if first_bytes and not first_bytes.startswith(SQLITE_MAGIC):
            raise UsageError(
                f"{database} exists and is not a SQLite database, so it is not replaced; choose "
                "another file"
            )
    with _folder_beside(database, target) as folder:
        partial = folder / "database"
        yield partial
        if not force:
            _check_free(database)
        elif target.exists():
            partial.chmod(stat.S_IMODE(target.stat().st_mode))
        partial.replace(target)


@dataclass(frozen=True, slots=True)
class OutputKind:
    """A kind of file that reports are written to, and how an old one is told from other files."""

    name: str
    first_bytes: bytes
    mark: bytes = b""
    "Stands somewhere in every file of this kind that was made here."


PAGE: Final = OutputKind("page", b"<!doctype html>", mark=b"sqlstable")
"""An HTML page."""


@contextmanager
def new_output(path: Path, kind: OutputKind, *, force: bool) -> Iterator[Path]:
    """Yield the path under which to make a file of a report; at the end it takes its place.

    Args:
        path: Where the file is to be.
        kind: What it is.
        force: Whether an old file of that kind may be replaced.

    Raises:
        UsageError: The place is taken, or cannot be used.
    """
    target = Path(os.path.realpath(path))
    check_output(path, kind, force=force)
    with _folder_beside(path, target) as folder:
        partial = folder / "output"
        yield partial
        if not force:
            _check_free(path)
        elif target.exists():
            partial.chmod(stat.S_IMODE(target.stat().st_mode))
        partial.replace(target)


def check_output(path: Path, kind: OutputKind, *, force: bool) -> None:
    """Refuse a place where such a file cannot go, before anything is done for it.

    Raises:
        UsageError: The place is taken, or the folder is not there.
    """
    if not os.path.lexists(path):
        if not Path(os.path.realpath(path)).parent.is_dir():
            raise UsageError(f"the folder of {path} is not there; make it first")
        return
    _check_replaceable(path, force=force, kind=kind.name)
    first_bytes = _first_bytes(path)
    is_ours = first_bytes.startswith(kind.first_bytes) and kind.mark in path.read_bytes()
    if first_bytes and not is_ours:
        raise UsageError(
            f"{path} exists and is not a {kind.name} of sqlstable, so it is not replaced; choose "
            "another file"
        )


def note_recovery(memory: "StableMemory") -> None:
    """Say what was recovered from the log of an image, if there was one."""
    assert memory.image_file is not None
    if memory.image_file.recovery is not None:
        note(memory.image_file.recovery)


def _locked_old(image: Path, target: Path, *, force: bool) -> "StableMemory | None":
    """Return the image to be replaced, locked and recovered; None where there is none."""
    if not os.path.lexists(image):
        if os.path.lexists(_log_of(target)):
            raise UsageError(
                f"there is no image {image}, but its log {_log_of(image)} is there; bring the two "
                "together again, or move the log away"
            )
        return None
    _check_replaceable(image, force=force, kind="image")
    first_bytes = _first_bytes(image)
    is_image = first_bytes.startswith((MANAGER_SIGNATURE, SQLITE_MAGIC))
    if any(first_bytes) and not is_image and not first_bytes.endswith(SQLITE_MAGIC):
        raise UsageError(
            f"{image} exists and is not an image of stable memory, so it is not replaced; choose "
            "another file"
        )
    from sqlstable.memory.stable import StableMemory

    old = StableMemory.open(image, limits=None, is_created=False)
    assert old.image_file is not None
    if old.image_file.is_read_only:
        old.close()
        raise UsageError(f"{image} is write-protected, so it is not replaced; remove it yourself")
    return old


def _let_go(old: "StableMemory") -> None:
    # Where it has been replaced, its file has no name any more, and that is what it complains of.
    with suppress(ImageError):
        old.close()


def _check_replaceable(path: Path, *, force: bool, kind: str) -> None:
    check_regular(path)
    if not path.exists():
        raise UsageError(f"{path} is a link to a file that is not there; remove it")
    if not force:
        raise UsageError(
            f"{path} exists already; choose another file, or add --force if it is an old {kind}"
        )


def _check_free(path: Path) -> None:
    if os.path.lexists(path):
        raise UsageError(f"{path} has been made by somebody else meanwhile, and is left alone")


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_FIRST_BYTES)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def _folder_beside(path: Path, target: Path) -> Iterator[Path]:
    """Yield a new folder beside a file, which goes with all that is in it.

    It is locked, so that what a killed process has left behind can be told from it, and goes first.
    """
    if not target.parent.is_dir():
        raise UsageError(f"the folder of {path} is not there; make it first")
    try:
        with suppress(FileNotFoundError):
            # This refuses a name that is too long.
            target.lstat()
        _remove_abandoned(target.parent)
        folder, lock = _locked_folder(target.parent)
    except OSError as error:
        raise UsageError(f"{path} cannot be made: {error.strerror}") from error
    with closing(lock), folder as name:
        yield Path(name)


def _locked_folder(parent: Path) -> "tuple[TemporaryDirectory[str], FolderLock]":
    # Not everything that looks for a place needs POSIX's locks.
    from sqlstable.memory.image.folderlock import FolderLock

    for _ in range(_TRIES):
        folder = TemporaryDirectory(prefix=_PREFIX, suffix=_SUFFIX, dir=parent)
        with suppress(FileNotFoundError):
            lock = FolderLock(Path(folder.name))
            if lock.take():
                return folder, lock
            lock.close()
        # Somebody who tidies up was quicker than the lock.
        folder.cleanup()
    raise OSError(errno.EBUSY, f"folders in {parent} cannot be locked")


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders of processes that were killed; those of others are locked."""
    from sqlstable.memory.image.folderlock import FolderLock

    for folder in parent.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError), closing(FolderLock(folder)) as lock:
            if not folder.is_symlink() and lock.take():
                shutil.rmtree(folder)


def _log_of(target: Path) -> Path:
    # Image files need POSIX's locks; other commands do not.
    from sqlstable.memory.image.imagefile import LOG_SUFFIX

    return target.with_name(target.name + LOG_SUFFIX)
