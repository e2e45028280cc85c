"""A copy of a database in this process's memory, to try on it what may not be done to the original.

Nothing of it is recorded, limited or kept. A large database is not copied whole: of each table a
bounded sample is enough to find out what a statement does to rows.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, Self

import apsw

from sqlstable.database.checking import Setup
from sqlstable.database.library import quoted
from sqlstable.errors import SqlError

WHOLE_BYTES_MAX: Final = 16 << 20
"""Databases up to this size are copied whole."""

SAMPLE_ROWS: Final = 1000
"""Rows of each table in a sample: the first and the last by the order in which they lie."""

_SEMICOLON: Final = re.compile(
    r"""'[^']*'|"[^"]*"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?(?:\*/|\Z)|;""", re.DOTALL
)
"""Semicolons, and literals and comments as wholes: those in there are not asked about."""

_LEADING: Final = re.compile(r"(?:\s|;|--[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z))*", re.DOTALL)

_OBJECTS: Final = """
SELECT type, name, sql FROM sqlite_schema
WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid
"""


def cut_statements(text: str) -> tuple[str, ...]:
    """Return the statements of a text, each with its semicolon, without what stands before it.

    Examples:
        >>> cut_statements("SELECT ';'; /* one */ CREATE TRIGGER a DELETE ON b BEGIN SELECT 1; END")
        ("SELECT ';';", 'CREATE TRIGGER a DELETE ON b BEGIN SELECT 1; END')
    """
    found: list[str] = []
    start = _after_space(text, 0)
    for mark in _SEMICOLON.finditer(text, start):
        # One that was skipped since, or that stands inside of a trigger, ends nothing.
        stop = mark.end()
        if mark[0] == ";" and stop > start and apsw.complete(text[start:stop]):
            found.append(text[start:stop])
            start = _after_space(text, stop)
    if start < len(text):
        found.append(text[start:].rstrip())
    return tuple(found)


def _after_space(text: str, start: int) -> int:
    match = _LEADING.match(text, start)
    assert match is not None
    return match.end()


class Scratch:
    """A database in this process's memory.

    Examples:
        >>> with Scratch() as scratch:
        ...     _ = scratch.execute("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
        ...     scratch.execute("SELECT x + ? FROM t", (2,))
        [(3,)]
    """

    is_whole: bool = True
    "Whether it has all rows of what it is a copy of."

    def __init__(self) -> None:
        self.connection = apsw.Connection(":memory:")

    @classmethod
    def copy_of(cls, source: apsw.Connection, size_bytes: int, setup: Setup | None = None) -> Self:
        """Return a copy of a database, whole or a sample of it.

        Args:
            source: Reads the original.
            size_bytes: Of the original.
            setup: Gives the copy's connection what the database needs.

        Raises:
            SqlError: The database needs what is not here, such as a module.
        """
        scratch = cls()
        try:
            if setup is not None:
                setup(scratch.connection)
            if size_bytes <= WHOLE_BYTES_MAX:
                with scratch.connection.backup("main", source, "main") as backup:
                    backup.step()
            else:
                scratch.is_whole = False
                _sample(source, scratch.connection)
        except apsw.Error as error:
            scratch.close()
            raise SqlError(f"no copy can be made of the database: {error}") from error
        return scratch

    def execute(self, sql: str, params: Any = None) -> list[tuple[Any, ...]]:  # noqa: ANN401  as APSW
        """Run SQL, and return its rows.

        Raises:
            SqlError: SQLite refused it.
        """
        try:
            return list(self.connection.execute(sql, params))
        except (apsw.Error, UnicodeDecodeError) as error:
            raise SqlError(f"{error}; in: {' '.join(sql.split())[:200]}") from error

    def close(self) -> None:
        """Let it go."""
        self.connection.close(force=True)

    def __enter__(self) -> Self:
        """Use it in a ``with`` block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _sample(source: apsw.Connection, target: apsw.Connection) -> None:
    """Copy the schema, and of each table its first and last rows."""
    objects = list(source.execute(_OBJECTS))
    kinds = {row[1]: row[2] for row in source.execute("PRAGMA main.table_list")}
    target.execute("PRAGMA foreign_keys = off")
    with target:
        for kind, name, sql in objects:
            if kind == "table" and kinds.get(name) != "shadow":
                target.execute(sql)
                if kinds.get(name) == "table":
                    _sample_table(source, target, name)
        for kind, _, sql in objects:
            if kind != "table":
                target.execute(sql)


def _sample_table(source: apsw.Connection, target: apsw.Connection, name: str) -> None:
    infos = source.execute(f"PRAGMA main.table_xinfo({quoted(name)})")
    names = [quoted(row[1]) for row in infos if row[6] == 0]
    columns = ", ".join(names)
    count = SAMPLE_ROWS // 2
    write = f"INSERT OR IGNORE INTO {quoted(name)} ({columns}) VALUES"
    marks = ", ".join("?" * len(names))
    for rows in _ends(source, name, columns, count):
        for row in rows:
            target.execute(f"{write} ({marks})", row)


def _ends(
    source: apsw.Connection, name: str, columns: str, count: int
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the first rows, and the last ones where rows have numbers."""
    read = f"SELECT {columns} FROM {quoted(name)}"  # noqa: S608  quoted
    try:
        first = list(source.execute(f"{read} ORDER BY rowid LIMIT {count}"))
    except apsw.SQLError:
        yield list(source.execute(f"{read} LIMIT {2 * count}"))
        return
    yield first
    if len(first) == count:
        beyond = (
            f"rowid > (SELECT rowid FROM {quoted(name)} ORDER BY rowid LIMIT 1 OFFSET {count - 1})"  # noqa: S608
        )
        yield list(source.execute(f"{read} WHERE {beyond} ORDER BY rowid DESC LIMIT {count}"))
