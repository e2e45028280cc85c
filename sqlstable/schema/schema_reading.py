"""SQL made into objects of a schema, by SQLite itself.

What is there SQLite says, through its PRAGMAs; only what no PRAGMA tells is taken from the texts
(`sqlstable.schema.table_text`). Schemas are not trusted: SQL runs in an empty database in memory,
may do nothing but define things there, and only for so long.

===========================================  ======================================================
a SQL text has                               then
===========================================  ======================================================
CREATE, ALTER, DROP                          they are carried out, in order
INSERT, UPDATE, SELECT, PRAGMA, BEGIN …      they are left out, and a note says so
TEMP tables, views and triggers              likewise: they are not in the database
ATTACH, DETACH, VACUUM INTO, sqlite_schema   the text is refused
===========================================  ======================================================
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import apsw

from sqlstable.database.checking import prepare
from sqlstable.errors import SchemaError
from sqlstable.schema.schema_objects import (
    Affinity,
    SchemaColumn,
    SchemaIndex,
    SchemaTable,
    SchemaTrigger,
    SchemaView,
    UniqueRule,
)
from sqlstable.schema.sql_tokens import SqlToken, lower, quoted, tokens_of
from sqlstable.schema.table_text import KeyText, TableText, items_between, take_table_apart

SQL_CHARACTERS_MAX: Final = 8_000_000
"""A longer text is a dump of rows; the database itself says the same sooner."""

STEPS_MAX: Final = 20_000_000
"""Steps of SQLite's virtual machine that making a schema may take: some seconds."""

_STEPS_BETWEEN_LOOKS: Final = 10_000

_LEFT_OUT: Final = frozenset(
    (
        *("insert", "replace", "update", "delete", "select", "with", "values", "explain"),
        *("analyze", "vacuum", "reindex", "pragma"),
        *("begin", "commit", "end", "rollback", "savepoint", "release"),
    )
)
_CARRIED_OUT: Final = frozenset({"create", "alter", "drop"})

_GENERATED: Final = {2: "virtual", 3: "stored"}
"""What ``hidden`` of ``table_xinfo`` says; sqlite.org/pragma.html."""


def objects_of_sql(text: str, *, name: str) -> dict[str, Any]:
    """Return the fields of a `Schema` that SQL makes.

    Raises:
        SchemaError: It makes none.
    """
    connection = apsw.Connection(":memory:")
    try:
        prepare(connection, ())
        notes = define(connection, text, name=name)
        return {**objects_of(connection, name=name), "notes": notes}
    finally:
        connection.close(force=True)


def define(connection: apsw.Connection, text: str, *, name: str) -> tuple[str, ...]:
    """Carry out what defines things; returns what was left out, a sentence each.

    Raises:
        SchemaError: SQLite refuses a statement, or it does more than define things.
    """
    if len(text) > SQL_CHARACTERS_MAX:
        raise SchemaError(
            f"{name} has {len(text)} characters, more than {SQL_CHARACTERS_MAX}; give the database "
            "itself, or a file without its rows"
        )
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise SchemaError(f"{name} has a zero byte in line {line}; SQL is text, remove it")
    left_out: Counter[str] = Counter()
    with _Limits(connection):
        for words, sql, line in _statements(text):
            if _is_temporary(words) or words[0].key in _LEFT_OUT:
                _check_left_out(words, name=name, line=line)
                left_out["CREATE TEMP" if _is_temporary(words) else words[0].key.upper()] += 1
            elif words[0].key not in _CARRIED_OUT:
                raise SchemaError(_refused(words, name=name, line=line))
            else:
                _carry_out(connection, sql, name=name, line=line)
    return tuple(
        f"{name}: {count} {word} left out: no part of a schema" for word, count in left_out.items()
    )


def objects_of(connection: apsw.Connection, *, name: str) -> dict[str, Any]:
    """Return the fields of a `Schema` that a connection's main database has.

    Raises:
        SchemaError: SQLite cannot read a part of it.
    """
    try:
        rows = connection.execute(
            "SELECT type, name, tbl_name, sql FROM main.sqlite_schema ORDER BY rowid"
        ).fetchall()
        listed = connection.execute(
            "SELECT name, type, wr, strict FROM pragma_table_list WHERE schema = 'main'"
        ).fetchall()
        kinds = {str(row[0]): row[1:] for row in listed}
        tables = [
            _table(connection, str(it[1]), str(it[3]), kinds[str(it[1])])
            for it in rows
            if it[0] == "table" and _is_own(str(it[1]), kinds)
        ]
        own = {lower(it.name) for it in tables}
        return {
            "tables": tuple(tables),
            "indexes": tuple(
                _index(connection, str(it[1]), str(it[2]), str(it[3]))
                for it in rows
                if it[0] == "index" and it[3] is not None and lower(str(it[2])) in own
            ),
            "views": tuple(
                SchemaView(str(it[1]), str(it[3]), _view_columns(connection, str(it[1])))
                for it in rows
                if it[0] == "view"
            ),
            "triggers": tuple(
                SchemaTrigger(str(it[1]), str(it[2]), str(it[3]))
                for it in rows
                if it[0] == "trigger"
            ),
        }
    except (apsw.Error, UnicodeDecodeError, KeyError) as error:
        raise SchemaError(f"the schema of {name} cannot be read: {error}") from error


def affinity_of(declared: str, *, is_strict: bool = False) -> Affinity:
    """Return what SQLite makes of values; sqlite.org/datatype3.html, section 3.1.

    Examples:
        >>> affinity_of("VARCHAR(20)"), affinity_of("DATETIME"), affinity_of("")
        ('TEXT', 'NUMERIC', 'BLOB')
    """
    text = declared.upper()
    if is_strict and text == "ANY":
        return "ANY"
    if "INT" in text:
        return "INTEGER"
    if any(word in text for word in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if not text or "BLOB" in text:
        return "BLOB"
    return "REAL" if any(word in text for word in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


# -- statements -----------------------------------------------------------------------------------


def _statements(text: str) -> Iterator[tuple[tuple[SqlToken, ...], str, int]]:
    """Yield the tokens of each statement, its text, and its line, from 1."""
    waiting: list[SqlToken] = []
    line, counted = 1, 0
    for token in tokens_of(text):
        if token.key != ";" or token.kind != "sign" or _is_inside_trigger(waiting):
            waiting.append(token)
        elif waiting:
            line += text.count("\n", counted, waiting[0].start)
            counted = waiting[0].start
            yield tuple(waiting), text[waiting[0].start : token.start], line
            waiting = []
    if waiting:
        line += text.count("\n", counted, waiting[0].start)
        yield tuple(waiting), text[waiting[0].start :], line


def _is_inside_trigger(tokens: list[SqlToken]) -> bool:
    """Return whether a semicolon goes on: a trigger ends with ``; END``, as sqlite3_complete."""
    words = [it.key for it in tokens[:3]]
    is_trigger = words[:2] == ["create", "trigger"] or (
        words[:1] == ["create"] and words[1:2] in (["temp"], ["temporary"]) and "trigger" in words
    )
    return is_trigger and [it.key for it in tokens[-2:]] != [";", "end"]


def _is_temporary(words: tuple[SqlToken, ...]) -> bool:
    keys = [it.key for it in words[:7]]
    if keys[0] == "create":
        is_in_temp = any(
            keys[at] == "temp" and keys[at + 1] == "." for at in range(1, len(keys) - 1)
        )
        return keys[1:2] in (["temp"], ["temporary"]) or is_in_temp
    return keys[0] in _CARRIED_OUT and "temp" in keys[2:5] and "." in keys[3:6]


def _check_left_out(words: tuple[SqlToken, ...], *, name: str, line: int) -> None:
    keys = {it.key for it in words[:8]}
    if words[0].key in ("insert", "replace", "update", "delete") and keys & {
        "sqlite_schema",
        "sqlite_master",
    }:
        raise SchemaError(
            f"{name}, line {line}: it writes to sqlite_schema, as a dump with virtual tables does; "
            "give the database itself, or CREATE VIRTUAL TABLE"
        )


def _refused(words: tuple[SqlToken, ...], *, name: str, line: int) -> str:
    word = words[0].text[:40]
    if words[0].key in ("attach", "detach"):
        return (
            f"{name}, line {line}: {word.upper()} is refused: a schema is that of one database; "
            "remove the statement"
        )
    return f"{name}, line {line}: {word!r} begins no SQL statement that is known; is it a SQL file?"


def _carry_out(connection: apsw.Connection, sql: str, *, name: str, line: int) -> None:
    try:
        connection.execute(sql).fetchall()
    except apsw.InterruptError as error:
        raise SchemaError(
            f"{name}, line {line}: the statement takes more than {STEPS_MAX} steps of SQLite, "
            "which no definition needs"
        ) from error
    except (apsw.Error, UnicodeError) as error:
        start = " ".join(sql[:100].split())
        raise SchemaError(f"{name}, line {line}: {error}: {start[:60]}") from error


class _Limits:
    """Lets statements only define things in the main database, and only for so long."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._looks_left = STEPS_MAX // _STEPS_BETWEEN_LOOKS

    def __enter__(self) -> None:
        self._connection.set_authorizer(_decide)
        self._connection.set_progress_handler(self._look, _STEPS_BETWEEN_LOOKS)

    def __exit__(self, *_: object) -> None:
        self._connection.set_authorizer(None)
        self._connection.set_progress_handler(None)

    def _look(self) -> bool:
        self._looks_left -= 1
        return self._looks_left < 0


_DENIED: Final = frozenset({apsw.SQLITE_ATTACH, apsw.SQLITE_DETACH, apsw.SQLITE_TRANSACTION})
"""PRAGMA is not among them: of the text's own none is carried out, and R*Tree asks by one."""


def _decide(action: int, first: str | None, *_: str | None) -> int:
    is_loading = action == apsw.SQLITE_FUNCTION and "load_extension" in map(str, _)
    return apsw.SQLITE_DENY if action in _DENIED or is_loading else apsw.SQLITE_OK


# -- objects --------------------------------------------------------------------------------------


def _is_own(name: str, kinds: dict[str, Any]) -> bool:
    return kinds[name][0] in ("table", "virtual") and not lower(name).startswith("sqlite_")


def _table(connection: apsw.Connection, name: str, sql: str, kind: tuple[Any, ...]) -> SchemaTable:
    what, is_without_rowid, is_strict = kind
    rows = connection.execute("SELECT * FROM pragma_table_xinfo(?, 'main')", (name,)).fetchall()
    if what == "virtual":
        tokens = tokens_of(sql)
        using = next(at for at, it in enumerate(tokens) if it.key == "using" and not it.is_quoted)
        has_arguments = using + 2 < len(tokens)
        return SchemaTable(
            name,
            sql,
            tuple(_column(connection, name, row, TableText(), is_strict=False) for row in rows),
            module=tokens[using + 1].key,
            arguments=tuple(items_between(sql, tokens, using + 2)[0]) if has_arguments else (),
        )
    text = take_table_apart(sql)
    columns = tuple(_column(connection, name, row, text, is_strict=bool(is_strict)) for row in rows)
    keys = [(it.is_primary, _unique_rule(it, columns)) for it in text.keys]
    return SchemaTable(
        name,
        sql,
        columns,
        primary_key=next((rule for is_primary, rule in keys if is_primary), None),
        uniques=tuple(rule for is_primary, rule in keys if not is_primary),
        checks=tuple(text.checks),
        foreign_keys=tuple(text.foreign_keys),
        is_without_rowid=bool(is_without_rowid),
        is_strict=bool(is_strict),
        is_autoincrement=any(
            connection.column_metadata("main", name, it.name)[4]
            for it in columns
            if it.key_position
        ),
    )


def _column(
    connection: apsw.Connection,
    table: str,
    row: tuple[Any, ...],
    text: TableText,
    *,
    is_strict: bool,
) -> SchemaColumn:
    _, name, declared, is_not_null, default, key_position, hidden = row
    said = next((it for it in text.columns if lower(it.name) == lower(name)), None)
    collation = connection.column_metadata("main", table, name)[1]
    return SchemaColumn(
        name,
        declared or "",
        affinity_of(declared or "", is_strict=is_strict),
        bool(is_not_null),
        default,
        collation or "BINARY",
        key_position,
        generated=_GENERATED.get(hidden),  # type: ignore[arg-type]  # the values of a literal
        expression=None if said is None else said.expression,
        is_hidden=hidden == 1,
        not_null_conflict="ABORT" if said is None else said.not_null_conflict,
    )


def _unique_rule(key: KeyText, columns: tuple[SchemaColumn, ...]) -> UniqueRule:
    own = {lower(it.name): it for it in columns}
    return UniqueRule(
        tuple(own[lower(name)].name for name, _, _ in key.terms),
        tuple(
            (collation or own[lower(name)].collation).upper() for name, collation, _ in key.terms
        ),
        tuple(is_descending for _, _, is_descending in key.terms),
        key.conflict,
        key.name,
    )


def _index(connection: apsw.Connection, name: str, table: str, sql: str) -> SchemaIndex:
    tokens = tokens_of(sql)
    opening = next(at for at, it in enumerate(tokens) if it.kind == "sign" and it.key == "(")
    items, closing = items_between(sql, tokens, opening)
    rows = connection.execute(
        "SELECT cid, name, desc, coll FROM pragma_index_xinfo(?, 'main') WHERE key", (name,)
    ).fetchall()
    is_partial = closing + 1 < len(tokens)
    return SchemaIndex(
        name,
        table,
        sql,
        tuple(_term(row, item) for row, item in zip(rows, items, strict=True)),
        is_unique=tokens[1].key == "unique",
        where=sql[tokens[closing + 1].end :].strip() if is_partial else None,
    )


def _term(row: tuple[Any, ...], item: str) -> str:
    cid, name, is_descending, collation = row
    if cid == -2:
        # An expression tells its own collation and direction.
        return item
    column = "rowid" if cid == -1 else quoted(name)
    return f"{column} COLLATE {collation}" + (" DESC" if is_descending else "")


def _view_columns(connection: apsw.Connection, name: str) -> tuple[str, ...]:
    try:
        rows = connection.execute(
            "SELECT name FROM pragma_table_xinfo(?, 'main')", (name,)
        ).fetchall()
    except apsw.SQLError:
        # What it shows is not there, which SQLite says only when it is used.
        return ()
    return tuple(str(row[0]) for row in rows)
