"""How a canister's schema changes, as its user asks for it."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sqlstable.canister.life import Life
from sqlstable.canister.reply import Reply

if TYPE_CHECKING:
    from sqlstable.canister.migrating import MigrationMessage, MigrationReport
    from sqlstable.schema.schema_status import SchemaStatus


class SchemaDoor:
    """The part of `sqlstable.canister.canister.Canister` that is about its schema."""

    _life: Life

    def migrate(
        self,
        schema: Path | str,
        *,
        renames: Mapping[str, str] | None = None,
        dropped: Collection[str] = (),
        rows_per_message: int | None = None,
        switch: bool = True,
        on_message: "Callable[[MigrationMessage], None] | None" = None,
    ) -> "MigrationReport":
        """Migrate to a schema by as many update messages as it takes.

        Tables that are made anew are copied by ranges of their key, while the old ones are read
        and written on; the last message switches to the new schema, whole. Whatever comes between
        two messages, a trap, a kill, an upgrade, writes: calling this again goes on from there.
        An upgrade with the same ``schema`` does what is left.

        Args:
            schema: As for `upgrade`: SQL, the path of a SQL file, or a folder of numbered
                migrations, each of which is one message.
            renames: What is renamed, which no schema says: ``{"table": "table"}`` or
                ``{"table.column": "table.column"}``.
            dropped: Each ``table.column`` that is dropped, though its like is new.
            rows_per_message: At most so many rows are copied by one message; None finds out by
                what the message before has used of its limits.
            switch: False stops before the last message, so that an upgrade brings new code and new
                schema together.
            on_message: Is given each message of the migration.

        Raises:
            MigrationError: It is refused; the database is as it was before the message.
            SqlError: SQLite refused a statement of it.
            LimitTrap: A message crosses a limit that cannot be cut.

        Examples:
            >>> from sqlstable import Canister
            >>> with Canister() as canister:
            ...     _ = canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")
            ...     _ = canister.update("INSERT INTO t VALUES (1, '7'), (2, '8')")
            ...     report = canister.migrate("CREATE TABLE t (id INTEGER PRIMARY KEY, x INTEGER)")
            ...     canister.query("SELECT x FROM t").rows
            [(7,), (8,)]
            >>> [one.doing for one in report.messages]
            ['begin', 'copy', 'switch']
        """
        from sqlstable.canister.migrating import migrate  # noqa: PLC0415  few ask for it

        return migrate(
            self._life,
            schema,
            renames=renames,
            dropped=dropped,
            rows_per_message=rows_per_message,
            switch=switch,
            on_message=on_message,
        )

    def abandon_migration(self) -> Reply:
        """Give up the migration that is under way: what was copied goes, all is as before.

        Raises:
            MigrationError: There is none.
        """
        from sqlstable.canister.migrating import abandon_migration  # noqa: PLC0415  few ask for it

        return abandon_migration(self._life)

    def rollback_schema(self, *, without_removed: bool = False) -> Reply:
        """Take back the last migration, by the way back that the ledger keeps of it.

        Tables that a whole schema has put on their way out since are what they were before it;
        the reply's ``notes`` name them.

        Args:
            without_removed: Whether to go back though a table that was there before has been
                removed since, and stays gone.

        Raises:
            MigrationError: There is none, it is forward only, it would drop rows, or a table was
                removed since.
        """
        from sqlstable.canister.migrating import rollback_schema  # noqa: PLC0415  few ask for it

        return rollback_schema(self._life, without_removed=without_removed)

    def deprecate_table(self, name: str) -> Reply:
        """Refuse writes to a table from now on; it can be read.

        Raises:
            MigrationError: There is no such table, or it is not live.

        Examples:
            >>> from sqlstable import Canister
            >>> with Canister() as canister:
            ...     _ = canister.update("CREATE TABLE t (x)")
            ...     _ = canister.deprecate_table("t")
            ...     _ = canister.restore_table("t")
            ...     canister.update("INSERT INTO t VALUES (1)").outcome
            'committed'
        """
        from sqlstable.canister.migrating import move_table  # noqa: PLC0415  few ask for it

        return move_table(self._life, "deprecate", name)

    def restore_table(self, name: str) -> Reply:
        """Let a deprecated or unused table be live again, with all its rows.

        Raises:
            MigrationError: It is neither.
        """
        from sqlstable.canister.migrating import move_table  # noqa: PLC0415  few ask for it

        return move_table(self._life, "restore", name)

    def remove_table(self, name: str) -> Reply:
        """Drop an unused table, with its rows; nothing else drops one.

        Raises:
            MigrationError: It is not unused.
        """
        from sqlstable.canister.migrating import move_table  # noqa: PLC0415  few ask for it

        return move_table(self._life, "remove", name)

    def schema_status(self) -> "SchemaStatus":
        """Return what the ledger says: migrations, the life of tables, and how far one is.

        Raises:
            MigrationError: The ledger is damaged, or of a newer version.
        """
        from sqlstable.canister.migrating import schema_status  # noqa: PLC0415  few ask for it

        return schema_status(self._life)
