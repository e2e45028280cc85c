"""A lock that says that somebody is still writing a trace; it goes with its process.

It is an ``flock`` on the log beside the trace, which is there for as long as the trace is written.
SQLite locks the trace itself and the log's index, and closing any descriptor of those would give
SQLite's locks up; it takes none on the log.

Limitations: where a file system lets SQLite keep no log, nobody can tell.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path


class WriteLock:
    """The lock of one writer."""

    def __init__(self, trace: Path) -> None:
        """Take it, where there is a log to lock."""
        self._process = os.getpid()
        self._descriptor = -1
        with suppress(OSError):
            self._descriptor = os.open(_log_of(trace), os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self) -> None:
        """Give it back; doing so twice does no harm."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        # A forked child has the parent's lock: to close its descriptor leaves it, to unlock it
        # would not. And the parent's close alone would leave it to the child.
        if os.getpid() == self._process:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def is_being_written(trace: Path) -> bool:
    """Whether a writer holds the lock of a trace, in this process or another one."""
    try:
        descriptor = os.open(_log_of(trace), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _log_of(trace: Path) -> Path:
    # SQLite follows links first, and keeps its log beside the file itself.
    trace = trace.resolve()
    return trace.with_name(f"{trace.name}-wal")
