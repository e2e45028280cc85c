"""What a message has asked of its SQL, so that another engine can be asked the same."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from sqlstable.database.values import BindableRows, Params
from sqlstable.engine.statements import Cursor, Rows, Statements
from sqlstable.errors import SqlError

ROWS_KEPT_MAX: Final = 1_000_000
"""Rows of parameters of one message that are kept for the other engine."""


class Request(NamedTuple):
    """One call of a message."""

    sql: str
    params: Params
    rows: list[Params] | None
    "Those of `Statements.executemany`, whose statement runs once for each; None: it runs once."

    def ask(self, statements: Statements) -> None:
        """Ask another engine the same.

        Raises:
            SqlError: SQLite refused.
            Trap: The message trapped inside.
        """
        if self.rows is None:
            statements.execute(self.sql, self.params)
        else:
            statements.executemany(self.sql, self.rows)


class AskedStatements:
    """Passes on what a message asks, and takes note of it.

    Args:
        statements: What executes it.
    """

    def __init__(self, statements: Statements) -> None:
        self.requests: list[Request] = []
        self.failure_count = 0
        "How many were refused by SQLite."
        self.refusal = ""
        "Why the other engine cannot be asked the same; empty: it can."
        self.row_count = 0
        "Rows of parameters that are kept."
        self._statements = statements

    def start_over(self) -> None:
        """Begin a message."""
        self.requests = []
        self.failure_count = 0
        self.refusal = ""
        self.row_count = 0

    def execute(self, sql: str, params: Params = None, /) -> Rows:
        """Execute one or more statements; see `Statements.execute`."""
        self.requests.append(Request(sql, params, None))
        try:
            return self._statements.execute(sql, params)
        except Exception:
            self.failure_count += 1
            raise

    def executemany(self, sql: str, rows: Iterable[Params]) -> Rows:
        """Execute one statement once for each row of parameters."""
        kept: list[Params] = []
        self.requests.append(Request(sql, None, kept))
        try:
            return self._statements.executemany(sql, self._keeping(rows, kept))
        except Exception:
            self.failure_count += 1
            if isinstance(rows, BindableRows):
                # The other engine is sent all rows at once, up to one that is none.
                with suppress(SqlError):
                    deque(self._keeping(rows.rest(), kept), maxlen=0)
            raise

    def open_cursor(self, sql: str, params: Params = None) -> Cursor:
        """Begin a statement that the caller steps by itself."""
        self.refusal = "its caller steps through a cursor"
        return self._statements.open_cursor(sql, params)

    def explained(self, error: Exception, sql: str) -> Exception:
        """Return an error of `execute` as one of ours."""
        return self._statements.explained(error, sql)

    def unfinished(self, *, keep_transaction: bool = False) -> str | None:
        """Say what the message has left open and must not."""
        return self._statements.unfinished(keep_transaction=keep_transaction)

    def columns(self, sql: str, params: Params = None) -> tuple[str, ...]:
        """Return the names of the columns of a statement that this message ran."""
        return self._statements.columns(sql, params)

    def is_readonly(self, sql: str, params: Params = None) -> bool:
        """Return whether a statement can run now and only reads."""
        return self._statements.is_readonly(sql, params)

    def _keeping(self, rows: Iterable[Params], kept: list[Params]) -> Iterator[Params]:
        for row in rows:
            if self.row_count < ROWS_KEPT_MAX:
                self.row_count += 1
                kept.append(row)
            else:
                self.refusal = f"it binds more than {ROWS_KEPT_MAX:,} rows of parameters"
            yield row


def ask_all(
    requests: Iterable[Request], statements: Statements, explain: Callable[[str], None]
) -> None:
    """Ask another engine what a message asked; an SQL error ends one request, as it did before.

    Args:
        requests: Of the message.
        statements: The other engine's.
        explain: Is given the words of each error.

    Raises:
        Trap: The message trapped inside.
    """
    for request in requests:
        try:
            request.ask(statements)
        except SqlError as error:
            explain(str(error))
