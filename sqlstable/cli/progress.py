"""A progress bar on stderr, for work that takes long and somebody who watches."""

import sys
from time import monotonic
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import Progress, TaskID

from sqlstable.cli.output import is_terminal
from sqlstable.workload.script import ScriptStep

PATIENCE_S: Final = 1.0
"""Work that is done sooner shows no bar."""


class MessageProgress:
    """Shows how many messages of a run are done; on a terminal only, and gone at the end.

    Args:
        message_count: Messages of the whole run.
        quiet: Shows nothing at all, because something else is written to the terminal.
    """

    def __init__(self, message_count: int, *, quiet: bool) -> None:
        """Wait: the bar appears when it is worth it."""
        self._message_count = message_count
        self._is_wanted = not quiet and is_terminal(sys.stderr)
        self._begin_s = monotonic()
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        """Watch a run."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the bar."""
        if self._progress is not None:
            self._progress.stop()

    def on_step(self, step: ScriptStep, messages: int) -> None:
        """Take note of a message that has ended."""
        if not self._is_wanted:
            return
        if self._progress is None:
            if monotonic() - self._begin_s < PATIENCE_S:
                return
            self._progress = Progress(console=Console(stderr=True), transient=True)
            self._task = self._progress.add_task("messages", total=self._message_count)
            self._progress.start()
        self._progress.update(
            self._task, completed=messages, description=f"{messages:,} messages, line {step.line}"
        )
