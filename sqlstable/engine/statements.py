"""What a message can ask of the SQL that runs on a stable memory, whichever engine runs it."""

from collections.abc import Iterable, Iterator
from typing import Any, Final, Protocol

from sqlstable.database.values import Params
from sqlstable.errors import SqlError

__all__ = ["Cursor", "Params", "Rows", "Statements", "sql_error"]

Rows = list[tuple[Any, ...]]

_SQL_SHOWN_CHARACTERS: Final = 200

OPEN_TRANSACTION: Final = "an open SQL transaction"
EARLIER_TRANSACTION: Final = "an open SQL transaction, which an earlier message had left open"
"""What a message leaves open and must not; a query may leave one as it finds it."""


class Cursor(Protocol):
    """A statement that its caller steps row by row."""

    def __iter__(self) -> Iterator[tuple[Any, ...]]: ...

    def __next__(self) -> tuple[Any, ...]: ...

    def close(self) -> None:
        """End the statement, finished or not."""
        ...


class Statements(Protocol):
    """Executes the SQL of the open message, and answers questions about it."""

    def execute(self, sql: str, params: Params, /) -> Rows:
        """Execute one or more statements of the open message, and return all their rows.

        The caller keeps it for the message: a call costs no look-up. What it raises goes through
        `explained`.
        """
        ...

    def executemany(self, sql: str, rows: Iterable[Params]) -> Rows:
        """Execute one statement once for each row of parameters."""
        ...

    def open_cursor(self, sql: str, params: Params = None) -> Cursor:
        """Begin a statement that the caller steps by itself."""
        ...

    def explained(self, error: Exception, sql: str) -> Exception:
        """Return an error of `execute` as one of ours, with the statement it belongs to."""
        ...

    def unfinished(self, *, keep_transaction: bool = False) -> str | None:
        """Say what the message has left open and must not (a transaction, a cursor), or None."""
        ...

    def columns(self, sql: str, params: Params = None) -> tuple[str, ...]:
        """Return the names of the columns of a statement that this message ran; unrecorded."""
        ...

    def is_readonly(self, sql: str, params: Params = None) -> bool:
        """Return whether a statement can run now and only reads; unrecorded."""
        ...


def sql_error(words: str, sql: str) -> SqlError:
    """Return SQLite's refusal of a statement, with as much of it as helps."""
    shown = " ".join(sql.split())
    if len(shown) > _SQL_SHOWN_CHARACTERS:
        shown = shown[: _SQL_SHOWN_CHARACTERS - 1] + "…"
    return SqlError(f"{words}; in: {shown}")
