"""A message of a canister: several statements that commit whole or leave nothing.

One that awaits is several messages in a row, see `sqlstable.canister.awaits`.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import get_ident
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

from sqlstable.canister.awaits import Awaits, not_open
from sqlstable.canister.choices import check_choice
from sqlstable.canister.life import Life
from sqlstable.canister.machine import Call
from sqlstable.canister.refusals import explained
from sqlstable.canister.turns import Leaving
from sqlstable.database.values import bindable, bindable_rows
from sqlstable.engine.statements import Cursor, Params, Rows
from sqlstable.errors import MessageError, SqlError, Trap
from sqlstable.ic.words import CACHE_STATES, CacheState, CallKind
from sqlstable.spelling import spelled

T = TypeVar("T")


class Message(Awaits):
    """A message of a canister, used in a ``with`` block.

    Attributes:
        kind: ``update`` or ``query``.
        reply: What the message answered; there once the block has ended. Of one that awaits: what
            it answered at its end.
        replies: What it answered at each await, and at its end.
    """

    def __init__(
        self,
        life: Life,
        kind: CallKind,
        *,
        cache: CacheState = "cold",
        label: str | None = None,
        allow_open_transaction: bool = False,
        continues: int | None = None,
    ) -> None:
        """Prepare; the block begins the message."""
        if kind not in ("update", "query"):
            check_choice("kind", kind, ("update", "query"))
        if cache not in CACHE_STATES:
            check_choice("cache", cache, CACHE_STATES)
        if continues is not None and not 0 <= continues < life.observation.message_count:
            raise MessageError(
                f"continues is {continues!r}; it must be the index of a message that has ended, of "
                f"which there are {life.observation.message_count}"
            )
        self.kind = kind
        state: CacheState = "warm" if kind == "update" else cache
        self._call = Call(kind, state, label, continues=continues)
        self._life = life
        self._memory = life.memory
        self._run = not_open
        self._allows_open = allow_open_transaction
        self._rows = []

    def execute(self, sql: str, params: Params = None) -> Rows:
        """Run one or more statements, and return their rows.

        Raises:
            SqlError: SQLite refused a statement; the message may go on.
            Trap: The message trapped; it cannot go on.
        """
        memory = self._memory
        if (
            self._life.call is not self._call
            or memory.trap is not None
            or memory.thread != get_ident()
        ):
            self._check_open()
        if params is not None:
            params = bindable(params, sql)
        self._running += 1
        try:
            rows = self._run(sql, params)
        except BaseException as error:
            explained = self._explained(error, sql, params)
            if explained is error:
                raise
            raise explained from error
        finally:
            self._running -= 1
        self._rows += rows
        return rows

    def executemany(self, sql: str, rows: Iterable[Params]) -> Rows:
        """Run one statement for each row of parameters: one statement with many runs.

        Outside of a `transaction` SQLite commits each row by itself, and writes the same SQLite
        pages again and again.

        Raises:
            SqlError: SQLite refused a statement; the message may go on.
            Trap: The message trapped; it cannot go on.
        """
        self._check_open()
        bound = bindable_rows(rows, sql)
        self._running += 1
        try:
            result = self._statements.executemany(sql, bound)
        except BaseException as error:
            explained = self._explained(error, sql, bound.last, place=bound.place)
            if isinstance(explained, SqlError):
                known = error.row if isinstance(error, SqlError) else None
                explained.row = bound.number if known is None else known
            if explained is error:
                raise
            raise explained from error
        finally:
            self._running -= 1
        self._rows += result
        return result

    def cursor(self, sql: str, params: Params = None) -> Cursor:
        """Begin a statement and return its rows one by one; close it before the message ends."""
        self._check_open()
        params = bindable(params, sql)
        with self._explaining(sql, params):
            cursor = self._statements.open_cursor(sql, params)
        return MessageCursor(self, cursor, sql, params)

    @contextmanager
    def window(self, name: str) -> Iterator[None]:
        """Bill the accesses of a ``with`` block to nobody's statement, under ``name``.

        For what is done on the connection itself (see `Canister.on_connect`): blob I/O, backups.
        """
        self._check_open()
        self._running += 1
        try:
            with self._life.machine.outside(name):
                yield
        finally:
            self._running -= 1

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run a block in one SQL transaction: BEGIN before it, COMMIT behind it.

        An exception undoes the block with ROLLBACK; the message may go on if it is caught.

        Examples:
            >>> from sqlstable.canister.canister import Canister
            >>> with Canister() as canister, canister.message() as message:
            ...     _ = message.execute("CREATE TABLE t (x)")
            ...     with message.transaction():
            ...         _ = message.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
        """
        self.execute("BEGIN")
        try:
            yield
        except BaseException:
            if self._memory.trap is None:
                self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    def trap(self, text: str = "the canister called trap") -> NoReturn:
        """Trap: nothing of the message remains.

        Raises:
            Trap: Always.
        """
        self._check_open()
        raise self._memory.poison(Trap(text))

    def step(self, run: Callable[[], T], sql: str, params: Params) -> T:
        """Let a cursor of the message do something; `MessageCursor` calls this.

        Raises:
            SqlError: SQLite refused.
            Trap: The message trapped.
            MessageError: It is another thread's.
        """
        if self._memory.thread not in (None, get_ident()):
            self._check_open()
        self._running += 1
        try:
            with self._explaining(sql, params):
                return run()
        finally:
            self._running -= 1

    def __enter__(self) -> Self:
        life = self._life
        if self._replies or self._call.ended is not None or life.call is self._call:
            raise MessageError("a message runs once; ask the canister for another one")
        life.turns.take(self)
        try:
            statements = life.begin(self._call)
        except BaseException:
            life.turns.give(self)
            raise
        assert statements is not None
        self._statements = statements
        self._run = statements.execute
        if self._call.continues is not None:
            self._look_for_heap()
        return self

    def _leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the message: commit, discard or roll back.

        Raises:
            Trap: The message had trapped, even if the block swallowed the exception.
            MessageError: An SQL transaction or a cursor was left open; or another thread began
                the message.
        """
        life = self._life
        if life.call is not self._call:
            self.forsake(error)
            return
        if self._memory.thread != get_ident():
            raise MessageError(
                "a message is ended by the thread that began it; leave its with block there"
            )
        life.call = None
        self._run = not_open
        left = None
        try:
            if error is None and self._memory.trap is None:
                left = self._statements.unfinished(keep_transaction=self._allows_open)
                if left is not None:
                    error = _left_open(self.kind, left)
            trap = life.end(self._call, error)
        finally:
            life.turns.give(self)
        if left is not None:
            assert error is not None
            raise error
        if trap is not None and error is None:
            raise trap

    __exit__ = Leaving(_leave)

    @contextmanager
    def _explaining(self, sql: str, params: Params) -> Iterator[None]:
        """Let errors of a block be ours."""
        try:
            yield
        except BaseException as error:
            explained = self._explained(error, sql, params)
            if explained is error:
                raise
            raise explained from error

    def _explained(
        self, error: BaseException, sql: str, params: Params, *, place: str = ""
    ) -> BaseException:
        """Return what is to be raised; the message cannot go on after an exception from outside."""
        if isinstance(error, Exception):
            return explained(self._statements, error, sql, params, place=place)
        if self._is_open:
            self._memory.poison(Trap(f"the message was cut off by {type(error).__name__}"))
        return error


class MessageCursor:
    """A statement of a message that is stepped row by row."""

    def __init__(self, message: Message, cursor: Cursor, sql: str, params: Params) -> None:
        self._message = message
        self._cursor = cursor
        self._sql = sql
        self._params = params

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Any, ...]:
        """Return the next row.

        Raises:
            SqlError: SQLite refused.
            Trap: The message trapped.
            MessageError: It is another thread's.
        """
        return self._message.step(lambda: next(self._cursor), self._sql, self._params)

    def close(self) -> None:
        """End the statement, finished or not.

        Raises:
            SqlError: SQLite refused, as it may when a statement that writes ends.
        """
        self._message.step(self._cursor.close, self._sql, self._params)


def _left_open(kind: str, left: str) -> MessageError:
    way = spelled(
        "allow_open_transaction=True", "--allow-open-transaction of sqlstable run and %%stable"
    )
    return MessageError(
        f"the {kind} message ended with {left}; it was rolled back. On the Internet Computer "
        "other messages run in between and would see or lose half of the work: end the "
        "transaction and close cursors before the message ends. A transaction alone may stay open "
        f"with {way}; in a script, at an await, with --@ await allow-open-transaction"
    )
