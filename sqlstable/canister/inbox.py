"""How a canister takes messages: one statement or text as an update or a query, or a block."""

from sqlstable.canister.life import Life
from sqlstable.canister.machine import Machine
from sqlstable.canister.message import Message
from sqlstable.canister.reply import Reply
from sqlstable.engine.statements import Params
from sqlstable.ic.words import CacheState, CallKind


class Inbox:
    """The part of a canister's front door that takes messages.

    Attributes:
        machine: What they run on.
    """

    machine: Machine
    _life: Life

    def update(
        self,
        sql: str,
        params: Params = None,
        *,
        label: str | None = None,
        allow_open_transaction: bool = False,
    ) -> Reply:
        """Run SQL as one update message; it commits whole, or leaves nothing.

        Args:
            sql: One or more statements.
            params: Values to bind: a sequence, or a dictionary for named parameters.
            label: Name of the message in reports.
            allow_open_transaction: As for `message`.

        Raises:
            SqlError: SQLite refused a statement.
            Trap: The message trapped; nothing it did remains.
        """
        message = Message(
            self._life, "update", label=label, allow_open_transaction=allow_open_transaction
        )
        with message:
            message.execute(sql, params)
        return message.reply

    def query(
        self,
        sql: str,
        params: Params = None,
        *,
        cache: CacheState | None = None,
        label: str | None = None,
    ) -> Reply:
        """Run SQL as one query message; whatever it writes is discarded.

        Args:
            sql: One or more statements.
            params: Values to bind.
            cache: State of the heap: ``fresh`` (the database is just being opened), ``cold``
                (schema and statements are there, SQLite's page cache is empty) or ``warm`` (as
                earlier messages left it). On the native engine cold is the default, and a warm
                query leaves in the heap what it cached; on the wasm engine warm is, and leaves
                nothing, as on the Internet Computer.
            label: Name of the message in reports.

        Raises:
            SqlError: SQLite refused a statement.
            Trap: The message trapped.
        """
        message = Message(self._life, "query", cache=cache or self.machine.cache, label=label)
        with message:
            message.execute(sql, params)
        return message.reply

    def message(
        self,
        kind: CallKind = "update",
        *,
        cache: CacheState | None = None,
        label: str | None = None,
        allow_open_transaction: bool = False,
        keep_open: bool = False,
        continues: int | None = None,
    ) -> Message:
        """Return a message to be used in a ``with`` block, for several statements.

        Args:
            kind: ``update`` or ``query``.
            cache: State of a query's heap, as for `query`.
            label: Name of the message in reports.
            allow_open_transaction: Lets an SQL transaction stay open when the message ends or
                awaits. On the Internet Computer that is dangerous: other messages come between,
                and what was spilled before a trap stays.
            keep_open: The old name of ``allow_open_transaction``.
            continues: Index of the message that this one goes on from, for reports;
                `Message.commit_point` and `Message.awaiting` say it by themselves.

        Examples:
            >>> from sqlstable import Canister
            >>> with Canister() as canister:
            ...     with canister.message("update") as message:
            ...         _ = message.execute("CREATE TABLE t (x)")
            ...         _ = message.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
            ...     message.reply.statements[1].runs
            2
        """
        return Message(
            self._life,
            kind,
            cache=cache or self.machine.cache,
            label=label,
            allow_open_transaction=allow_open_transaction or keep_open,
            continues=continues,
        )
