"""Awaiting inside a message: what it has done is committed, and it goes on as another message.

On the Internet Computer each await cuts a call into messages: the state is committed there, other
messages run until the awaited call has answered, and what goes on has page and instruction limits
of its own. A trap undoes the message in which it happens, and none before it.

Source: dfinity/developer-docs, ``message-execution-properties.md``, properties 1 (one message at a
time, atomic) and 5 (a trap discards the current message; earlier ones stay).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import get_ident
from types import TracebackType
from typing import Final

from sqlstable.canister.life import Life
from sqlstable.canister.machine import Call
from sqlstable.canister.reply import Reply
from sqlstable.canister.turns import Block
from sqlstable.engine.statements import Params, Rows, Statements
from sqlstable.errors import MessageError, Trap
from sqlstable.memory.stable import StableMemory

_OPEN_AT_AWAIT: Final = (
    "the message cannot await with {}; {}. On the Internet Computer the state is "
    "committed at an await as it is, and other messages run before this one goes on: their writes "
    "would become part of the transaction, and a ROLLBACK, a trap or an upgrade would lose both "
    "or leave half of them. COMMIT before the await, with a row that says what is pending, and "
    "finish or undo it in a transaction of its own behind it; {} lets a "
    "transaction stay open, though never a cursor"
)
_LEAVE_OPEN: Final = "allow_open_transaction=True"
_LEAVE_OPEN_IN_SCRIPTS: Final = (
    "--@ await allow-open-transaction, or --allow-open-transaction of sqlstable run and %%stable,"
)

_OTHER_CODE: Final = (
    "the canister got other code or another heap while message {} awaited, so there is nothing "
    "that can go on; on the Internet Computer its callback would point into other code. Stop a "
    "canister before an upgrade: it waits until nothing awaits"
)


class Awaits(Block):
    """What a message needs to be several in a row, one behind each await.

    Invariant: it is open, or it awaits, or neither: then its block has not begun, or is over.

    What it begins with is set by `Message`, or here for all: every message is made, and few await.
    """

    _call: Call
    "Of the message that is open, or was last."
    _life: Life
    _memory: StableMemory
    _statements: Statements
    _run: Callable[[str, Params], Rows]
    _allows_open: bool
    "Whether an SQL transaction may stay open where it awaits or ends."
    _rows: Rows
    _replies: tuple[Reply, ...] = ()
    "Of the messages that an await has ended."
    _running = 0
    "Statements and windows that are in progress; more than one where SQL calls back."
    _is_waiting = False
    "Whether it awaits."
    _is_between = False
    "Whether the last thing it did was to commit at an await."

    def commit_point(self, *, label: str | None = None) -> None:
        """Await: commit what the message has done so far, and go on as another message.

        A later trap rolls back only to here. What goes on has fresh page and instruction limits.
        Messages that other threads have waiting run first; `awaiting` lets this thread send some.

        Args:
            label: Name of what goes on in reports; None keeps the message's own.

        Raises:
            MessageError: The message cannot await here: it is a query, or not open, or another
                thread's; or an SQL transaction, a cursor or a statement is open. Nothing has
                happened then, and the message may go on.
            Trap: What was done so far could not be committed; nothing of it remains.

        Examples:
            >>> from sqlstable.canister.canister import Canister
            >>> canister = Canister()
            >>> with canister.message() as message:
            ...     _ = message.execute("CREATE TABLE t (x)")
            ...     message.commit_point()
            ...     _ = message.execute("INSERT INTO t VALUES (1)")
            >>> [reply.message.continues for reply in message.replies]
            [None, 1]
        """
        with self.awaiting(label=label):
            pass

    def awaiting(self, *, label: str | None = None) -> AbstractContextManager[None]:
        """Await, and let other messages run in a ``with`` block; behind it the message goes on.

        As `commit_point`, whose arguments and errors it has, but the canister is free meanwhile, as
        it is on the Internet Computer until the awaited call has answered. An exception in the
        block, such as a trap of a message sent there, is an awaited call that failed: what goes
        on may catch it around the block, and undo what was done before. What comes from outside,
        such as Ctrl-C, ends the call there: nothing goes on.

        Examples:
            >>> from sqlstable.canister.canister import Canister
            >>> with Canister() as canister, canister.message() as message:
            ...     _ = message.execute("CREATE TABLE t (x)")
            ...     with message.awaiting():
            ...         _ = canister.update("INSERT INTO t VALUES ('another message')")
            ...     message.execute("SELECT x FROM t")
            [('another message',)]
        """
        return Awaiting(self, label)

    @property
    def reply(self) -> Reply:
        """What the message answered; for one that trapped, what it had touched until then.

        Raises:
            MessageError: The message has not ended.
        """
        ended = self._call.ended
        if ended is None or self._is_waiting:
            raise MessageError("the message has no reply yet: read it after its with block")
        if self._is_between:
            return self._replies[-1]
        return Reply([] if ended.facts.trap is not None else self._rows, ended)

    @property
    def replies(self) -> tuple[Reply, ...]:
        """What it answered at each await, and at its end, in order; those that are there yet."""
        if self._call.ended is None or self._is_between:
            return self._replies
        return (*self._replies, self.reply)

    def pause(self) -> None:
        """Commit what there is, and let the canister go; `Awaiting` calls this."""
        self._check_open()
        self._check_may_await()
        life, call = self._life, self._call
        life.call = None
        self._run = not_open
        try:
            trap = life.end(call)
        finally:
            life.turns.give(self)
        if trap is not None:
            raise trap
        assert call.ended is not None
        self._replies += (Reply(self._rows, call.ended),)
        self._rows = []
        self._is_between = self._is_waiting = True
        life.awaiting.add(self)

    def resume(self, label: str | None) -> None:
        """Go on as another message; `Awaiting` calls this.

        Raises:
            Trap: The canister has other code or another heap meanwhile.
            MessageError: The canister is closed, or another thread has begun the message.
        """
        awaited, life = self._call, self._life
        if not self._is_waiting:
            raise MessageError("the message that awaited is over: its own with block was left")
        life.turns.take(self)
        try:
            self._is_between = self._is_waiting = False
            life.awaiting.discard(self)
            self._call = Call(awaited.kind, "warm", label or awaited.label, continues=awaited.index)
            statements = life.begin(self._call)
        except BaseException:
            life.turns.give(self)
            raise
        assert statements is not None
        self._statements = statements
        self._run = statements.execute
        self._look_for_heap()
        if self._memory.trap is not None:
            raise self._memory.trap

    @property
    def _is_open(self) -> bool:
        return self._life.call is self._call

    def _look_for_heap(self) -> None:
        """Trap where the heap is not that of the message that this one goes on from."""
        before = self._call.continues
        if before is not None and before < self._life.last_step:
            self._memory.poison(Trap(_OTHER_CODE.format(before)))

    def forsake(self, error: BaseException | None) -> None:
        """End a message that is not open: where it still awaits, nothing of it goes on."""
        if self._is_waiting:
            self._is_waiting = False
            self._life.awaiting.discard(self)
            if error is None:
                raise MessageError(
                    "the message was left while it awaits; what it had committed stays, and "
                    "nothing goes on. Leave the block of awaiting() before that of the message"
                )

    def _check_may_await(self) -> None:
        """Refuse to commit where something would be torn in two.

        Raises:
            MessageError: The message cannot await here.
        """
        if self.kind == "query":
            raise MessageError(
                "a query has no commit point: what it writes is discarded, whatever it awaits; "
                "use an update"
            )
        if self._running:
            raise MessageError(
                "the message cannot await inside of a statement or a window; call commit_point() "
                "or awaiting() between them"
            )
        left = self._statements.unfinished(keep_transaction=self._allows_open)
        if left is not None:
            raise MessageError(_OPEN_AT_AWAIT.format(left, "nothing has happened", _LEAVE_OPEN))

    def refuse_to_tear(self) -> None:
        """Refuse to end at a script's await, which is to be told from an end, with what is open.

        Raises:
            MessageError: A transaction or a cursor is open, and the message is to be rolled back.
        """
        left = self._statements.unfinished(keep_transaction=self._allows_open)
        if left is not None:
            raise MessageError(
                _OPEN_AT_AWAIT.format(left, "it was rolled back", _LEAVE_OPEN_IN_SCRIPTS)
            )

    def _check_open(self) -> None:
        if self._is_waiting:
            raise MessageError(
                "the message awaits; it goes on behind the block of awaiting(), and until then "
                "other messages run"
            )
        if not self._is_open:
            raise MessageError("the message is not open; use it inside its with block")
        if self._memory.thread != get_ident():
            raise MessageError(
                "a message is used by the thread that began it; use one for each thread"
            )
        trap = self._memory.trap
        if trap is not None:
            raise trap


class Awaiting:
    """A block in which a message awaits, and other messages may run."""

    def __init__(self, message: Awaits, label: str | None) -> None:
        self._message = message
        self._label = label
        self._thread = get_ident()

    def __enter__(self) -> None:
        """Commit, and let the canister go."""
        self._message.pause()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Go on as another message, unless the call is cut off from outside, as by Ctrl-C."""
        if error is not None and not isinstance(error, Exception):
            self._message.forsake(error)
            return
        if self._thread != get_ident():
            raise MessageError("a message goes on in the thread that began it")
        self._message.resume(self._label)


def not_open(sql: str, params: Params) -> Rows:
    """Execute nothing: a message that is not open never comes here."""
    raise AssertionError(sql, params)
