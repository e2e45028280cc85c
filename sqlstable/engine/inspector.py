"""Asking SQLite about a statement before it runs: does it only read?

The questions go to a connection of their own, which nothing records: it reads the database as it
is, marks no OS page, and takes no lock. What a statement would change there stays there.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import apsw

from sqlstable.database.checking import Setup
from sqlstable.database.vfs import StableVFS
from sqlstable.engine.pragmas import READING_PRAGMAS
from sqlstable.engine.state import NOTHING_SET, give_databases
from sqlstable.engine.statements import Params

_READING_PRAGMAS_WITHOUT_ARGUMENT: Final = frozenset(
    (
        *("application_id", "auto_vacuum", "collation_list", "compile_options", "database_list"),
        *("encoding", "freelist_count", "function_list", "module_list", "page_count"),
        *("page_size", "pragma_list", "schema_version", "user_version"),
    )
)
"""They tell of the database or of SQLite itself.

Others, such as ``foreign_keys``, tell of a connection, and belong on the one that the updates use.
"""

_CONNECTION_MATTERS: Final = frozenset(
    (
        apsw.SQLITE_TRANSACTION,
        apsw.SQLITE_SAVEPOINT,
        apsw.SQLITE_ATTACH,
        apsw.SQLITE_DETACH,
    )
)
"""What SQLite calls read-only, because it changes the connection and not the database."""


class Inspector:
    """Answers questions about statements; opened when the first one comes.

    Args:
        vfs: Gives the database.
        setups: What every connection is set up with, such as functions of one's own.
        is_foreign: Whether the database came from elsewhere, and its schema is not trusted.
    """

    def __init__(
        self,
        vfs: StableVFS,
        setups: Sequence[Setup],
        *,
        is_foreign: bool,
    ) -> None:
        """Take note; nothing is opened yet."""
        self._vfs = vfs
        self._setups = setups
        self._is_foreign = is_foreign
        self._connection: apsw.Connection | None = None
        self.state = NOTHING_SET
        "What the workload has set; `close` makes the next question heed a change."

    def is_readonly(self, sql: str, params: Params = None) -> bool:
        """Return whether a statement can run now, and only reads.

        Args:
            sql: One statement.
            params: Values of its parameters; any will do that fit in number.
        """
        if self._connection is None:
            self._connection = self._open()
        prepared = prepare(self._connection, sql, params)
        return prepared is not None and prepared.only_reads

    def close(self) -> None:
        """Close the connection; a later question opens it again."""
        if self._connection is not None:
            self._connection.close(force=True)
            self._connection = None

    def _open(self) -> apsw.Connection:
        connection = self._vfs.observe()
        connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0 if self._is_foreign else 1)
        for setup in self._setups:
            # Without it, what needs it is taken for an update, which is always right.
            with suppress(apsw.Error):
                setup(connection)
        if self.state.has_names:
            with suppress(apsw.Error):
                give_databases(connection, self.state, only_looks=True)
        connection.authorizer = _authorize
        return connection


@dataclass(frozen=True, slots=True)
class Prepared:
    """What SQLite says of a statement that it has prepared."""

    only_reads: bool
    columns: tuple[str, ...]
    "Names of the columns of its rows; empty for a statement that returns none."


def prepare(connection: apsw.Connection, sql: str, params: Params) -> Prepared | None:
    """Prepare a statement and let it go again without a step.

    Returns:
        None where SQLite refuses it.
    """
    found: list[Prepared] = []

    def on_prepared(cursor: apsw.Cursor, _sql: str, _params: Any) -> bool:  # noqa: ANN401  APSW's
        columns = tuple(column[0] for column in cursor.get_description())
        found.append(Prepared(bool(cursor.is_explain or cursor.is_readonly), columns))
        return False

    cursor = connection.cursor()
    cursor.exec_trace = on_prepared
    try:
        # Without the statement cache, whose other entries would be pushed out.
        cursor.execute(sql, params, can_cache=False)
    except (apsw.Error, UnicodeError):
        pass  # Also where on_prepared has ended it: then there is something to return.
    finally:
        cursor.close(force=True)
    return found[0] if found else None


def _authorize(
    operation: int,
    first: str | None,
    second: str | None,
    _database: str | None,
    _trigger: str | None,
) -> int:
    """Let SQLite refuse what is not for a query, before it takes effect here."""
    if operation in _CONNECTION_MATTERS:
        return apsw.SQLITE_DENY
    if operation != apsw.SQLITE_PRAGMA:
        return apsw.SQLITE_OK
    name = (first or "").lower()
    if name in READING_PRAGMAS or (second is None and name in _READING_PRAGMAS_WITHOUT_ARGUMENT):
        return apsw.SQLITE_OK
    return apsw.SQLITE_DENY
