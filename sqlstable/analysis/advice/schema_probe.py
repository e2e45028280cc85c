"""A trace's schema without its rows: how would SQLite execute this, were there that index?

Nothing of a trace is executed but the statements that made its schema, and of those only what
defines tables, views and indexes; everything else is explained. An authorizer keeps it so,
whatever a file claims to be a schema.

**Limitations.** Plans come from the SQLite of this Python, without statistics and without the
application's own functions, collations and virtual tables. Where it cannot compile a statement,
there is no plan, and nothing is advised.
"""

import re
import sqlite3
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from sqlstable.sqlite.plan_rows import plan_lines
from sqlstable.trace.model import SchemaObject

SQL_CHARACTERS_MAX: Final = 20_000
"""Longer statements are bulk loads or generated; none of them is compiled."""

_OBJECTS_MAX: Final = 2_000
"""Objects of a schema that are made; a larger one has no probe."""

_DEFINING: Final = frozenset(
    {
        sqlite3.SQLITE_CREATE_INDEX,
        sqlite3.SQLITE_CREATE_TABLE,
        sqlite3.SQLITE_CREATE_VIEW,
        sqlite3.SQLITE_DROP_INDEX,
        sqlite3.SQLITE_REINDEX,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_DELETE,
    }
)
"""What making a schema does."""

_EXPLAINED: Final = frozenset(
    {
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_RECURSIVE,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_DELETE,
    }
)
"""What statements do whose plans are asked for; they are explained only."""

_LOOKED_UP: Final = frozenset({sqlite3.SQLITE_PRAGMA, *_EXPLAINED})
"""What asking for columns does."""

_ORDER: Final = ("table", "view", "index")


@dataclass(frozen=True, slots=True)
class ProbedColumn:
    """One column of a table."""

    name: str
    type: str
    "As it was declared, in upper case; empty where it was not."
    key_position: int
    "Its place in the primary key, from 1; 0 where it is not part of it."


@dataclass(frozen=True, slots=True)
class ProbedIndex:
    """One index of a table."""

    name: str
    origin: str
    "c for CREATE INDEX, u for a UNIQUE constraint, pk for a primary key."
    is_unique: bool
    columns: tuple[str, ...]
    "In order; an expression is an empty name."


class SchemaProbe:
    """A schema to ask questions of; names are found whatever their case."""

    def __init__(self, objects: Sequence[SchemaObject]) -> None:
        self._objects = {(it.type, it.name): it for it in objects if it.sql}

    @property
    def is_known(self) -> bool:
        """Whether there is a schema at all."""
        return 0 < len(self._objects) <= _OBJECTS_MAX

    @cached_property
    def tables(self) -> dict[str, SchemaObject]:
        """Tables with rows of their own, by name in lower case; virtual ones are left out."""
        return {
            name.lower(): it
            for (kind, name), it in self._objects.items()
            if kind == "table" and not name.lower().startswith("sqlite_") and not _is_virtual(it)
        }

    def columns(self, table: str) -> tuple[ProbedColumn, ...]:
        """Return the columns of a table, hidden ones left out; none where it is unknown."""
        return tuple(
            ProbedColumn(name, (declared or "").upper(), key)
            for _, name, declared, _, _, key in self._asked(
                "SELECT * FROM pragma_table_info(?)", (table,)
            )
        )

    def indexes(self, table: str) -> tuple[ProbedIndex, ...]:
        """Return the indexes of a table; none where it is unknown."""
        return tuple(
            ProbedIndex(name, origin, bool(unique), self._index_columns(name))
            for _, name, unique, origin, _ in self._asked(
                "SELECT * FROM pragma_index_list(?)", (table,)
            )
        )

    def referencing(self, table: str) -> tuple[str, ...]:
        """Return the columns of a table that reference others."""
        rows = self._asked('SELECT "from" FROM pragma_foreign_key_list(?)', (table,))
        return tuple(name for (name,) in rows)

    def plan(self, sql: str, *indexes: str) -> tuple[str, ...] | None:
        """Return the plan of a statement, were there further indexes; None where it has none.

        Args:
            sql: One statement, which is not executed.
            indexes: CREATE INDEX statements; they are gone afterwards.
        """
        if not self.is_known or len(sql) > SQL_CHARACTERS_MAX:
            return None
        connection = self._connection
        with suppress(sqlite3.Error, ValueError), _savepoint(connection):
            with _allowing(connection, _DEFINING):
                for index in indexes:
                    connection.execute(index)
            with _allowing(connection, _EXPLAINED):
                return plan_lines(_explained(connection, sql))
        return None

    def close(self) -> None:
        """Let go of it; it is made anew when it is asked again."""
        connection = self.__dict__.pop("_connection", None)
        if connection is not None:
            connection.close()

    @cached_property
    def _connection(self) -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        if self.is_known:
            with _allowing(connection, _DEFINING):
                for it in sorted(self._objects.values(), key=_place):
                    if it.type in _ORDER and not it.name.lower().startswith("sqlite_"):
                        with suppress(sqlite3.Error, ValueError):
                            connection.execute(it.sql or "")
        return connection

    def _index_columns(self, name: str) -> tuple[str, ...]:
        rows = self._asked("SELECT name FROM pragma_index_info(?) ORDER BY seqno", (name,))
        return tuple(column or "" for (column,) in rows)

    def _asked(self, sql: str, parameters: Sequence[str]) -> list[tuple[Any, ...]]:
        with suppress(sqlite3.Error, ValueError), _allowing(self._connection, _LOOKED_UP):
            return self._connection.execute(sql, parameters).fetchall()
        return []


class _Unbound(dict[str, None]):
    """NULL for each parameter that has a name."""

    def __missing__(self, _: str) -> None:
        return None


def _explained(connection: sqlite3.Connection, sql: str) -> list[tuple[int, int, int, str]]:
    """Explain a statement, whatever parameters it has: which value they have is not known."""
    explain = f"EXPLAIN QUERY PLAN {sql}"
    with suppress(sqlite3.ProgrammingError):
        return connection.execute(explain, _Unbound()).fetchall()
    try:
        return connection.execute(explain).fetchall()
    except sqlite3.ProgrammingError as error:
        needed = re.search(r"statement uses ([0-9]{1,5}),", str(error))
        if needed is None:
            raise
    with warnings.catch_warnings():
        # Names beside places are deprecated in our own programs; these are other people's.
        warnings.simplefilter("ignore", DeprecationWarning)
        return connection.execute(explain, (None,) * int(needed[1])).fetchall()


@contextmanager
def _savepoint(connection: sqlite3.Connection) -> Iterator[None]:
    """Undo what is done inside."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


@contextmanager
def _allowing(connection: sqlite3.Connection, actions: frozenset[int]) -> Iterator[None]:
    """Let statements do nothing else inside."""

    def decide(action: int, *_: str | None) -> int:
        return sqlite3.SQLITE_OK if action in actions else sqlite3.SQLITE_DENY

    connection.set_authorizer(decide)
    try:
        yield
    finally:
        connection.set_authorizer(None)


def _is_virtual(it: SchemaObject) -> bool:
    return re.match(r"CREATE\s+VIRTUAL\b", it.sql or "", re.IGNORECASE) is not None


def _place(it: SchemaObject) -> int:
    return _ORDER.index(it.type) if it.type in _ORDER else len(_ORDER)
