"""Opening an image file: locks, refusals, and the recovery of what was cut off.

An image file is stable memory as it is: its length is the stable size, bytes never written are
holes, and nothing of ours is in it. While it is open for writing, a log lies beside it under the
same name with ``-log`` behind it; both together are the image. A clean close removes the log.

=====================  ===========================================================================
the file is            then
=====================  ===========================================================================
not there              it is made, empty, if asked for
open elsewhere         the opening is refused, with the owner's process id
left with a log        the log is recovered first, and `ImageFile.recovery` says what was done
not writable           queries only; a pending log is applied in memory
=====================  ===========================================================================

The lock is an ``flock`` on the image: it goes with its process however that ends. It would
survive in a forked child, whose descriptors are closed for that reason.
"""

import errno
import fcntl
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from time import clock_gettime_ns, monotonic_ns, time_ns
from typing import Final
from uuid import UUID
from weakref import WeakSet, finalize

from sqlstable.errors import ImageError, SettingsError, Trap
from sqlstable.ic.units import MIB, WASM_PAGE_BYTES, amount
from sqlstable.ic.words import DISCARDED_KINDS
from sqlstable.memory.image.belonging import find_misfit, may_lack_sectors, pending_records
from sqlstable.memory.image.commitlog import (
    UNKNOWN_BOOT,
    LogHeader,
    Record,
    read_header,
    read_records,
)
from sqlstable.memory.image.durability import DURABILITIES, Durability
from sqlstable.memory.image.durable import (
    CUT_OFF,
    CommitPipeline,
    NotCommittedError,
    PageChange,
    PatchedFile,
    apply_records,
    reason,
)
from sqlstable.memory.image.filebacking import FileBacking, open_backing
from sqlstable.memory.image.osfile import OsFile, ReadFile, flush_folder
from sqlstable.sqlite.header import SQLITE_MAGIC

LOG_SUFFIX: Final = "-log"

_PIECE_BYTES: Final = MIB
_NOT_WRITABLE: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_OPENED: Final = os.O_NONBLOCK
"""With every opening of a file that is there: one of a pipe would wait for its other end."""

OWN_APPLICATION_IDS: Final = frozenset({b"SqSt", b"SqSw"})
"""What traces and files of results have at offset 68 of their header: databases, and no images."""

_DATABASE: Final = "{name} is a SQLite database, no image; sqlstable import {name} IMAGE makes one"

LOOK_AGAIN_NS: Final = 1_000_000
"""The file's time is looked at before a message that begins so long after the last look.

Not before each: Linux answers the question with a finer time stamp at the next write, and writes
the inode for it, which makes the next flush half as slow again (measured, kernel 6.18, ext4).
"""

_CLOCK_REALTIME_COARSE: Final = 5
"""The clock that Linux stamps files by, a tick behind the exact one. Source: linux/time.h."""

_GRAINS_NS: Final = (2 * 10**9, 10**9, 10**7, 1000, 100, 1)
"""What file systems cut the times of files down to: FAT, old ext, exFAT, UDF, NTFS, and others."""


class ImageFile:
    """An image file that is open, and locked until it is closed.

    Attributes:
        name: What errors call it: the path as it was given.
        recovery: One line on what was recovered when it was opened, or None.
        backing: Its committed bytes.
        is_read_only: Whether only queries may run.
        durability: What a commit survives; None where there are no commits.
        committed: What was committed last, or None.
        on_whole: Is told, when the image is left whole and still locked, what the system says of
            its file.
    """

    def __init__(
        self,
        name: str,
        image: OsFile,
        *,
        view: ReadFile,
        backing: FileBacking,
        pipeline: CommitPipeline | None,
        log: OsFile | None,
        log_path: Path,
        recovery: str | None,
    ) -> None:
        """Take over open files; `open_image` makes one."""
        self.name = name
        self.recovery = recovery
        self.backing = backing
        self.is_read_only = pipeline is None
        self.durability = None if pipeline is None else pipeline.durability
        self.wasm_pages = view.size() // WASM_PAGE_BYTES
        self.committed: PageChange | None = None
        self.on_whole: Callable[[os.stat_result], None] | None = None
        self._image = image
        self._view = view
        self._pipeline = pipeline
        self._log = log
        self._log_path = log_path
        self._refusal: str | None = None
        self._is_closed = False
        self._has_times = backing.flat is not None
        self._size_bytes = image.size()
        self._looked_ns = 0
        # Between which times the file's own is, as long as nobody else writes.
        self._earliest_ns = self._latest_ns = os.fstat(image.descriptor).st_mtime_ns
        self._closer = finalize(self, _close_all, image, log)
        _OPEN.add(self)

    @property
    def path(self) -> Path:
        """Where the file is, links followed."""
        return self._log_path.with_name(self._log_path.name.removesuffix(LOG_SUFFIX))

    @property
    def file(self) -> OsFile:
        """The file itself, which between messages of an image that may be written is the image."""
        return self._image

    @property
    def map_descriptor(self) -> int | None:
        """Of the file where it may be mapped as it is; None where it must be read."""
        is_whole = self._view is self._image
        return self._image.descriptor if is_whole and self.backing.flat is not None else None

    def check(self, kind: str) -> None:
        """Refuse a message that cannot be, before it begins.

        Raises:
            ImageError: The image was changed by somebody else, could not be brought up to date,
                or belongs to another process.
            Trap: It is read-only, and the message is no query.
        """
        if self._refusal is None and (
            monotonic_ns() - self._looked_ns > LOOK_AGAIN_NS
            or os.lseek(self._image.descriptor, 0, os.SEEK_END) != self._size_bytes
        ):
            self._refusal = self._find_change() or self._mend_log()
        if self._refusal is not None:
            raise ImageError(f"{self.name}: {self._refusal}")
        if self.is_read_only and kind not in DISCARDED_KINDS:
            raise Trap(
                f"{self.name} is read-only, so only queries run on it; make it writable and open "
                f"it again for messages of kind {kind}"
            )

    def commit(self, change: PageChange) -> None:
        """Make one message permanent.

        Raises:
            NotCommittedError: It could not be; nothing has changed.
        """
        pipeline = self._pipeline
        assert pipeline is not None
        if self._refusal is not None:
            raise NotCommittedError(self._refusal)
        # An exception from outside may come anywhere; then the log decides what was committed.
        self._refusal = CUT_OFF
        began_ns = _stamp_ns()
        try:
            pipeline.commit(change)
        except NotCommittedError:
            # Space may have been reserved, which has changed the file's time.
            self._expect_times(began_ns, is_written=False)
            self._refusal = pipeline.failure
            raise
        self.wasm_pages = change.wasm_pages_after
        self._size_bytes = change.wasm_pages_after * WASM_PAGE_BYTES
        self._expect_times(began_ns, is_written=bool(change.dirty))
        self.committed = change
        self._refusal = pipeline.failure

    def close(self) -> None:
        """Leave the image whole and alone, if it is; closing twice does no harm.

        Raises:
            ImageError: The image could not be flushed; its log is kept.
        """
        if self._is_closed:
            # The first time may have been cut off anywhere by an exception from outside.
            self._closer()
            _close_all(self._image, self._log)
            return
        self._is_closed = True
        self.backing.close()
        try:
            # An image that somebody else has changed, or a forked child's, is left as it is.
            if self._pipeline is not None and self._refusal is None:
                self._finish(self._pipeline)
        except OSError as error:
            raise ImageError(
                f"{self.name} could not be closed cleanly, and keeps its log: {reason(error)}"
            ) from error
        finally:
            _OPEN.discard(self)
            self._closer()

    def disown(self) -> None:
        """Let go in a forked child: the image is the parent's."""
        self._refusal = (
            "the image was opened before this process was forked, and is its parent's; open "
            "another image in the child"
        )
        with suppress(OSError):
            # Its map holds the file open, too, and with it the parent's lock.
            self.backing.resized(0)
        self.backing.disown(f"{self.name}: {self._refusal}")
        if self._closer.detach() is not None:
            # Without unlocking: the lock is one with the parent's.
            self._image.close()
            if self._log is not None:
                self._log.close()

    def read(self, address: int, length: int) -> bytes:
        """Return committed bytes, not through the map, which would keep in memory what it shows.

        Raises:
            OSError: They cannot be read, or are not there any more.
        """
        data = self._view.read(address, length)
        if len(data) < length:
            raise OSError(errno.EIO, f"{self.name} ends at byte {address + len(data)} now")
        return data

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """Yield what may be other than zero, each piece with its address and at most 1 MiB."""
        for start, stop in self._view.extents():
            for address in range(start, stop, _PIECE_BYTES):
                yield address, self._view.read(address, min(_PIECE_BYTES, stop - address))

    def _finish(self, pipeline: CommitPipeline) -> None:
        change = self._find_change(is_log_told_apart=True)
        if change is not None:
            raise ImageError(f"{self.name}: {change}")
        # Blocks that were reserved behind the end go.
        self._image.resize(self.wasm_pages * WASM_PAGE_BYTES)
        pipeline.flush()
        if self.on_whole is not None:
            self.on_whole(os.fstat(self._image.descriptor))
        self._log_path.unlink(missing_ok=True)
        if pipeline.durability == "power":
            # Else the log could be back after a loss of power, beside whatever is here then.
            flush_folder(self._log_path.parent)

    def _mend_log(self) -> str | None:
        """Write a log anew that somebody has cut off; says why it could not be."""
        log, pipeline = self._log, self._pipeline
        if log is None or pipeline is None:
            return None
        # To ask for the log's time would make its next flush slower, see `LOOK_AGAIN_NS`.
        if os.lseek(log.descriptor, 0, os.SEEK_END) >= pipeline.log_bytes:
            return None
        try:
            pipeline.renew_log()
        except OSError as error:
            return (
                f"somebody has cut off its log, which cannot be written anew: {reason(error)}. The "
                "image is whole; close it, mend that, and open it again"
            )
        return None

    def _expect_times(self, began_ns: int, *, is_written: bool) -> None:
        """Note between which times a commit has stamped the file, if it has."""
        ended_ns = time_ns()
        # The clock may have been set back meanwhile.
        low, high = (began_ns, ended_ns) if began_ns <= ended_ns else (ended_ns, began_ns)
        if is_written:
            self._earliest_ns, self._latest_ns = low, high
        else:
            self._earliest_ns = min(self._earliest_ns, low)
            self._latest_ns = max(self._latest_ns, high)

    def _is_time_ours(self, time_ns: int) -> bool:
        # An older time is as foreign as a newer one: who restores a copy may set it back.
        grain = next(grain for grain in _GRAINS_NS if time_ns % grain == 0)
        return self._earliest_ns // grain * grain <= time_ns <= self._latest_ns

    def _has_names(self, found: os.stat_result, log: OsFile, *, is_log_told_apart: bool) -> bool:
        """Whether the names where the next opening looks lead to this image and this log.

        The log is told apart from another one before it is removed only: to ask for its time would
        make its next flush slower, see `LOOK_AGAIN_NS`. Until then the image's lock is enough,
        without which none of ours makes a log.
        """
        log_path = self._log_path
        try:
            there = os.lstat(log_path.with_name(log_path.name.removesuffix(LOG_SUFFIX)))
            if not os.path.samestat(there, found):
                return False
            if is_log_told_apart:
                return os.path.samestat(os.lstat(log_path), os.fstat(log.descriptor))
        except OSError:
            return False
        return os.access(log_path, os.F_OK)

    def _find_change(self, *, is_log_told_apart: bool = False) -> str | None:
        """Look at the file, and say what somebody else has done to it."""
        self._looked_ns = monotonic_ns()
        log, found = self._log, os.fstat(self._image.descriptor)
        if found.st_nlink == 0:
            what = "it was deleted"
        elif found.st_size != self._size_bytes:
            what = f"it had {self._size_bytes} bytes and has {found.st_size}"
        elif self._has_times and not self._is_time_ours(found.st_mtime_ns):
            # Network file systems change times by themselves, a while after the write.
            what = "it was written to"
        elif log is not None and not self._has_names(
            found, log, is_log_told_apart=is_log_told_apart
        ):
            what = "it was moved, or its log deleted"
        else:
            self._earliest_ns = self._latest_ns = found.st_mtime_ns
            return None
        return (
            f"somebody else has changed the image while it was open: {what}. No message begins "
            "any more; close it and restore it from a copy, its log is kept"
        )


def _stamp_ns() -> int:
    """Return a time that no file is stamped before which is written to now."""
    # Elsewhere no file is mapped, and times are not looked at.
    return clock_gettime_ns(_CLOCK_REALTIME_COARSE) if sys.platform == "linux" else time_ns()


_OPEN: Final[WeakSet[ImageFile]] = WeakSet()


def _disown_all() -> None:
    for image in list(_OPEN):
        image.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)


def open_image(
    path: Path | str,
    *,
    capacity_bytes: int,
    durability: str = "process",
    is_read_only: bool = False,
    is_created: bool = True,
    use_map: bool | None = None,
) -> ImageFile:
    """Open an image file and lock it; what its log still holds is recovered first.

    Args:
        path: The file; a symbolic link is followed.
        capacity_bytes: Highest address plus one that will ever be used.
        durability: ``process``: an answered message survives the end of the process, whatever
            ends it. ``power``: it survives a loss of power, too.
        is_read_only: Whether to open for queries only; a file that is not writable is, anyway.
        is_created: Whether a file that is not there is made.
        use_map: Whether to read through a map; None decides by the file system.

    Raises:
        ImageError: There is no such file, it is no image, is open elsewhere, or its log cannot
            be used. Nothing was changed.
        SettingsError: ``durability`` is unknown.
    """
    if durability not in DURABILITIES:
        raise SettingsError(
            f"durability is {durability!r}; it must be one of {', '.join(DURABILITIES)}"
        )
    name = str(path)
    with _refusing(name), ExitStack() as undo:
        real_path = Path(os.path.realpath(path))
        log_path = real_path.with_name(real_path.name + LOG_SUFFIX)
        image, is_writable, is_new = _open_file(
            real_path, name, undo, is_read_only=is_read_only, is_created=is_created
        )
        _lock(image, name, log_path, is_shared=not is_writable)
        if is_new:
            # Not before it is locked: somebody else may have opened it since it was made.
            undo.callback(real_path.unlink, missing_ok=True)
        _check_names(image, real_path, name)
        if is_writable:
            opened = _open_for_writing(
                name,
                image,
                log_path,
                undo,
                capacity_bytes=capacity_bytes,
                durability="power" if durability == "power" else "process",
                use_map=use_map,
            )
        else:
            opened = _open_for_reading(
                name, image, log_path, capacity_bytes=capacity_bytes, use_map=use_map
            )
        undo.pop_all()
        return opened


def _open_for_reading(
    name: str, image: OsFile, log_path: Path, *, capacity_bytes: int, use_map: bool | None
) -> ImageFile:
    view: ReadFile = image
    recovery = None
    log = _open_log(log_path)
    if log is not None:
        with closing(log):
            _, _, pending = _read_log(image, log, name, log_path)
            if pending:
                view = PatchedFile(image, log, pending)
                recovery = f"{_describe(name, pending)}; in memory only, the files stay as they are"
    _check_length(view, name)
    backing = (
        open_backing(image, capacity_bytes, use_map=use_map)
        if view is image
        else FileBacking(view, capacity_bytes, None)
    )
    return ImageFile(
        name,
        image,
        view=view,
        backing=backing,
        pipeline=None,
        log=None,
        log_path=log_path,
        recovery=recovery,
    )


def _open_for_writing(
    name: str,
    image: OsFile,
    log_path: Path,
    undo: ExitStack,
    *,
    capacity_bytes: int,
    durability: Durability,
    use_map: bool | None,
) -> ImageFile:
    recovery = _recover(name, image, log_path, is_flushed=durability == "power")
    _check_length(image, name)
    header = LogHeader(durability, os.getpid(), os.urandom(16), read_boot_id())
    log = _make_log(log_path, header, image)
    undo.callback(log.close)
    undo.callback(log_path.unlink, missing_ok=True)
    if durability == "power":
        image.flush()
        log.flush()
        flush_folder(log_path.parent)
    backing = open_backing(image, capacity_bytes, use_map=use_map)
    pipeline = CommitPipeline(
        image,
        log,
        header=header,
        read=backing.read,
        on_resized=backing.resized,
    )
    return ImageFile(
        name,
        image,
        view=image,
        backing=backing,
        pipeline=pipeline,
        log=log,
        log_path=log_path,
        recovery=recovery,
    )


# -- the file and its lock ------------------------------------------------------------------------


def _open_file(
    path: Path, name: str, undo: ExitStack, *, is_read_only: bool, is_created: bool
) -> tuple[OsFile, bool, bool]:
    """Return the open file, whether it may be written, and whether it was made just now."""
    is_writable = not is_read_only
    is_new = False
    try:
        descriptor = os.open(path, _OPENED | (os.O_RDWR if is_writable else os.O_RDONLY))
    except FileNotFoundError:
        if not (is_created and is_writable):
            raise ImageError(
                f"there is no image file {name}; sqlstable import APP.db {name} makes one"
            ) from None
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        is_new = True
    except OSError as error:
        if error.errno not in _NOT_WRITABLE or not is_writable:
            raise
        is_writable = False
        descriptor = os.open(path, _OPENED | os.O_RDONLY)
    undo.callback(os.close, descriptor)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise ImageError(f"{name} is not a regular file, so it cannot be an image")
    return OsFile(descriptor), is_writable, is_new


def _lock(image: OsFile, name: str, log_path: Path, *, is_shared: bool) -> None:
    operation = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    try:
        fcntl.flock(image.descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ImageError(f"{name} is open in {_owner(log_path)}; close it there first") from None


def _owner(log_path: Path) -> str:
    """Say who has the image open, as far as its log tells."""
    process_id = None
    with suppress(ImageError, OSError):
        log = _open_log(log_path)
        if log is not None:
            with closing(log):
                header = read_header(log, str(log_path))
                process_id = None if header is None else header.process_id
    if process_id is None:
        return "another process, or twice in this one, for reading"
    return "this process already" if process_id == os.getpid() else f"process {process_id}"


def _check_names(image: OsFile, path: Path, name: str) -> None:
    found = os.fstat(image.descriptor)
    if found.st_nlink > 1:
        raise ImageError(
            f"{name} has {found.st_nlink} names (hard links), and its log lies beside one of them "
            "only; copy it to a file of its own"
        )
    if not path.exists() or path.stat().st_ino != found.st_ino:
        raise ImageError(f"{name} was replaced while it was being opened; try again")


def _check_length(view: ReadFile, name: str) -> None:
    wasm_pages, rest = divmod(view.size(), WASM_PAGE_BYTES)
    if rest:
        msg = (
            f"{name} is {view.size()} bytes long, {rest} more than "
            f"{amount(wasm_pages, 'Wasm page')} of {WASM_PAGE_BYTES}; it is truncated, or not an "
            "image of stable memory"
        )
        if view.read(0, 16) == SQLITE_MAGIC:
            msg = _DATABASE.format(name=name)
        raise ImageError(msg)
    # A file of ours may be as long as an image in layout raw, which is a database, too.
    if view.read(0, 16) == SQLITE_MAGIC and view.read(68, 4) in OWN_APPLICATION_IDS:
        raise ImageError(_DATABASE.format(name=name))


# -- the log --------------------------------------------------------------------------------------


def _open_log(log_path: Path, *, is_written: bool = False) -> OsFile | None:
    access = os.O_RDWR if is_written else os.O_RDONLY
    try:
        descriptor = os.open(log_path, _OPENED | access | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        if not is_written or error.errno not in _NOT_WRITABLE | {errno.EISDIR}:
            raise
        # Only recovery with flushes writes to it, and says so where it cannot.
        return _open_log(log_path)
    log = OsFile(descriptor)
    if not stat.S_ISREG(os.fstat(log.descriptor).st_mode):
        log.close()
        raise ImageError(f"{log_path} is not a regular file, so it is no log; move it away")
    return log


def _make_log(log_path: Path, header: LogHeader, image: OsFile) -> OsFile:
    mode = stat.S_IMODE(os.fstat(image.descriptor).st_mode)
    try:
        log = OsFile(os.open(log_path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode))
    except OSError as error:
        raise ImageError(
            f"no log can be made at {log_path}: {reason(error)}; make the folder writable, or "
            "open the image read-only"
        ) from error
    try:
        log.write(0, [header.encode()])
    except BaseException:
        log.close()
        log_path.unlink(missing_ok=True)
        raise
    return log


def _read_log(
    image: ReadFile, log: OsFile, name: str, log_path: Path
) -> tuple[LogHeader | None, Sequence[Record], Sequence[Record]]:
    """Return the header of a log that continues an image, what counts in it, and what is pending.

    Raises:
        ImageError: It does not continue this image.
    """
    header = read_header(log, str(log_path))
    records = [] if header is None else read_records(log, header, str(log_path))
    if header is None or not records:
        return header, [], []
    boot_id = read_boot_id()
    lacks_sectors = may_lack_sectors(records, header, boot_id)
    misfit = find_misfit(image, log, records, header, lacks_sectors=lacks_sectors)
    if misfit is not None:
        msg = (
            f"{log_path} is the log of another image, or of another state of {name}: {misfit}. "
            f"Restore the two together, or move {log_path} away to open the image as it is"
        )
        if header.boot_id != boot_id and header.durability == "process":
            msg += (
                ". The system was started anew since the log was written, and a loss of power may "
                "have torn the image: durability power is made for that"
            )
        raise ImageError(msg)
    return header, records, pending_records(records, lacks_sectors=lacks_sectors)


def _recover(name: str, image: OsFile, log_path: Path, *, is_flushed: bool) -> str | None:
    """Finish what a log holds, and remove it; returns one line on what was done."""
    log = _open_log(log_path, is_written=True)
    if log is None:
        return None
    with closing(log):
        header, records, pending = _read_log(image, log, name, log_path)
        if header is not None:
            is_flushed = is_flushed or header.durability == "power"
            try:
                apply_records(image, log, records, header, pending=pending, is_flushed=is_flushed)
            except OSError as error:
                raise ImageError(
                    f"{name} could not be recovered from its log: {reason(error)}; nothing is "
                    "lost, mend that and open it again"
                ) from error
    log_path.unlink()
    if is_flushed:
        # Else it could be back after a loss of power, beside an image that has gone on.
        flush_folder(log_path.parent)
    if not pending:
        return f"{name} was not closed; all that was answered is there"
    return _describe(name, pending)


def read_boot_id() -> bytes:
    """Return 16 bytes that tell this start of the system from others, as far as it names it."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")
        return UUID(text.strip()).bytes
    except (OSError, ValueError):
        return UNKNOWN_BOOT


def _describe(name: str, records: Sequence[Record]) -> str:
    messages = "the last message" if len(records) == 1 else f"the last {len(records)} messages"
    os_pages = sum(len(record.entry.after) for record in records)
    changed = amount(os_pages, "OS page")
    return f"{name} was not closed; {messages} ({changed}) recovered from its log"


def _close_all(image: OsFile, log: OsFile | None) -> None:
    if image.descriptor >= 0:
        with suppress(OSError):
            # A view of the map that somebody still has would keep the file open, and locked.
            fcntl.flock(image.descriptor, fcntl.LOCK_UN)
    image.close()
    if log is not None:
        log.close()


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Turn what the system refuses into `ImageError`."""
    try:
        yield
    except OSError as error:
        raise ImageError(f"{name} cannot be opened as an image: {reason(error)}") from error
    except ValueError as error:
        raise ImageError(f"{name!r} cannot be the name of an image: {error}") from error
