"""Progress bars on stderr, for work that takes long and somebody who watches."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from rich.console import Console
from rich.progress import Progress, TaskID

from sqlstable.cli.failures import note
from sqlstable.cli.output import is_terminal
from sqlstable.report.numbers import size

if TYPE_CHECKING:
    from sqlstable.workload.script import ScriptStep
    from sqlstable.workload.stepping.step_model import ModuleStep

PATIENCE_S: Final = 1.0
"""Work that is done sooner shows no bar."""


@contextmanager
def engine_notes() -> Iterator[None]:
    """Tell somebody who watches what the engine says of long work, such as compiling."""
    if not is_terminal(sys.stderr):
        yield
        return
    with notes_told(note):
        yield


@contextmanager
def notes_told(tell: Callable[[str], None]) -> Iterator[None]:
    """Hand on what the engine says of long work in a block."""
    logger, handler = logging.getLogger("sqlstable"), _Notes(tell)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


class _Notes(logging.Handler):
    """Hands on what is logged."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Hand on one record."""
        self._tell(record.getMessage())


@contextmanager
def work_shown(description: str) -> Iterator[None]:
    """Show that work goes on which does not tell how far it is; on a terminal only."""
    if not is_terminal(sys.stderr):
        yield
        return
    progress = Progress(console=Console(stderr=True), transient=True)
    progress.add_task(description, total=None)
    timer = Timer(PATIENCE_S, progress.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        # One that never started would leave an empty line on a simple terminal.
        if progress.live.is_started:
            progress.stop()


class WorkProgress:
    """Shows how much of some work is done; on a terminal only, and gone at the end.

    Args:
        quiet: Shows nothing at all, because something else is written to the terminal.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._is_wanted = not quiet and is_terminal(sys.stderr)
        self._begin_s = monotonic()
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, description: str, *, done: int = 0, total: int | None = None) -> None:
        """Show how far the work is, as soon as it has taken a while.

        Args:
            description: What is being done.
            done: How much is.
            total: How much there is, or None where nobody knows.
        """
        if not self._is_wanted:
            return
        if self._progress is None:
            if monotonic() - self._begin_s < PATIENCE_S:
                return
            self._progress = Progress(console=Console(stderr=True), transient=True)
            self._task = self._progress.add_task(description, total=total)
            self._progress.start()
        self._progress.update(self._task, completed=done, total=total, description=description)


class MessageProgress(WorkProgress):
    """Shows how many messages of a run are done.

    Args:
        message_count: Messages of the whole run.
        quiet: Shows nothing at all, because something else is written to the terminal.
    """

    def __init__(self, message_count: int, *, quiet: bool) -> None:
        super().__init__(quiet=quiet)
        self._message_count = message_count

    def on_step(self, step: "ScriptStep | ModuleStep", messages: int) -> None:
        """Take note of a message that has ended."""
        description = f"{messages:,} messages, line {step.line}"
        self.show(description, done=messages, total=self._message_count)


class LoadProgress(WorkProgress):
    """Shows how much of a database has been checked, and carried over.

    Args:
        name: What is shown of the database's path.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def on_tick(self) -> None:
        """Take note that the check goes on."""
        self.show(f"checking {self._name}")

    def on_bytes(self, done_bytes: int, total_bytes: int) -> None:
        """Take note of what has been carried over."""
        description = f"{size(done_bytes)} of {size(total_bytes)}"
        self.show(description, done=done_bytes, total=total_bytes)
