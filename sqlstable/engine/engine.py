"""The seam between a canister and what executes its SQL."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

from sqlstable.database.values import Params
from sqlstable.errors import SqlError
from sqlstable.ic.words import CacheState

if TYPE_CHECKING:
    import apsw

__all__ = ["Cursor", "Engine", "Params", "Rows", "sql_error"]

Rows = list[tuple[Any, ...]]

_SQL_SHOWN_CHARACTERS: Final = 200


class Cursor(Protocol):
    """A statement that its caller steps row by row."""

    def __iter__(self) -> Iterator[tuple[Any, ...]]: ...

    def __next__(self) -> tuple[Any, ...]: ...

    def close(self) -> None:
        """End the statement, finished or not."""
        ...


class Engine(Protocol):
    """Executes SQL on a stable memory, one message at a time.

    The canister has the memory's message open between `begin` and `end`; the engine has the heap.
    """

    def on_connect(self, setup: "Callable[[apsw.Connection], None]") -> None:
        """Run ``setup`` on every connection, those that are open and those to come.

        Raises:
            SettingsError: There are no connections in this process.
        """
        ...

    def open(self) -> None:
        """Start a new heap on the memory as it is: after install, upgrade and reinstall."""
        ...

    def begin(self, kind: str, cache: CacheState) -> bool:
        """Make the heap ready for a message of ``kind``; called before the memory's message.

        Returns:
            Whether `enter` is to be called inside of the message.
        """
        ...

    def enter(self) -> None:
        """Make the heap of a query that is not to be warm, as far as the message has to."""
        ...

    @property
    def execute(self) -> Callable[[str, Params], Rows]:
        """Executes statements of the open message, and returns all their rows.

        The caller keeps it for the message: a call costs no look-up. What it raises goes through
        `explained`.
        """
        ...

    def explained(self, error: Exception, sql: str) -> Exception:
        """Return an error of `execute` as one of ours, with the statement it belongs to."""
        ...

    def executemany(self, sql: str, rows: Iterable[Params]) -> Rows:
        """Execute one statement once for each row of parameters."""
        ...

    def open_cursor(self, sql: str, params: Params = None) -> Cursor:
        """Begin a statement that the caller steps by itself."""
        ...

    def is_readonly(self, sql: str, params: Params = None) -> bool:
        """Return whether a statement can run now and only reads; unrecorded."""
        ...

    def columns(self, sql: str, params: Params = None) -> tuple[str, ...]:
        """Return the names of the columns of a statement that this message ran; unrecorded."""
        ...

    def unfinished(self, *, keep_transaction: bool = False) -> str | None:
        """Say what the message has left open and must not (a transaction, a cursor), or None."""
        ...

    def end(self, *, discarded: bool) -> None:
        """Take note that the message is over; ``discarded`` when its writes were undone."""
        ...

    def discard_heap(self) -> None:
        """Let the heap go: after a trap, and before an upgrade."""
        ...

    def close(self) -> None:
        """Let everything go."""
        ...


def sql_error(words: str, sql: str) -> SqlError:
    """Return SQLite's refusal of a statement, with as much of it as helps."""
    shown = " ".join(sql.split())
    if len(shown) > _SQL_SHOWN_CHARACTERS:
        shown = shown[: _SQL_SHOWN_CHARACTERS - 1] + "…"
    return SqlError(f"{words}; in: {shown}")
