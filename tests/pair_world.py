"""Pairs of schemas, databases full of difficult values, and a witness of what a schema is.

The witness asks PRAGMAs and compares texts by words of its own: nothing of `sqlstable.schema`.
"""

import random
import re
import tomllib
from contextlib import suppress
from pathlib import Path

import apsw

PAIRS = tomllib.loads(
    (Path(__file__).parent / "data" / "schema_pairs.toml").read_text(encoding="utf-8")
)["pair"]

VALUES = (
    *(None, 0, 1, -1, 2, 3, 7, 42, 2**53 + 1, -(2**63), 2**63 - 1),
    *(float("inf"), 0.0, 1.5, -2.0, 3.0, 0.1, 1e300, 123456789.12345679, 5e-324),
    *("", "a", "A", "b", "x", "X", "Y", "007", "12", "1.50", " 3 ", "1e3", "ä", "🙂", "it's"),
    *(b"", b"\x00\xff", b"abc", '{"b": 1}', "{", "2026-01-01"),
)
WORD = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/|\w+|\S""", re.DOTALL
)


def pair_options(pair):
    """Return the keywords of `check_schemas` that a pair asks for."""
    renames = dict(it.split("=") for it in pair.get("rename", ()))
    return {"renames": renames, "dropped": pair.get("drop", ())}


def made(path, sql):
    """Return a connection to a new database."""
    connection = apsw.Connection(str(path))
    connection.execute(sql).fetchall()
    return connection


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def tables(connection):
    """Return the ordinary and virtual tables, those that SQLite keeps for itself left out."""
    rows = connection.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'virtual')"
        " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
    )
    return [name for (name,) in rows]


def fill(connection, seed, row_count=40, values=VALUES):
    """Write rows that the schema accepts; those that it refuses are left out."""
    rng = random.Random(seed)
    connection.execute("PRAGMA foreign_keys = on")
    for _ in range(2):
        for table in tables(connection):
            columns = [
                (name, declared)
                for _, name, declared, _, _, _, hidden in connection.execute(
                    "SELECT * FROM pragma_table_xinfo(?)", (table,)
                )
                if hidden == 0
            ]
            row = None
            for _ in range(row_count):
                row = insert(connection, rng, table, columns, values, row)
    # Keys are given and taken, so that rowids have gaps.
    for table in tables(connection):
        with suppress(apsw.Error):
            connection.execute(
                f"DELETE FROM {quoted(table)} WHERE rowid % 7 = 3"
                f" OR rowid = (SELECT max(rowid) FROM {quoted(table)})"
            )
    connection.execute("PRAGMA foreign_keys = off")


def insert(connection, rng, table, columns, values, before):
    """Write a row, which often shares values with the one before; returns it."""
    row = [value_for(rng, declared, values) for _, declared in columns]
    if before is not None and rng.random() < 0.4:
        kept, pairs = rng.randrange(len(row)), zip(row, before, strict=True)
        row = [new if at == kept else old for at, (new, old) in enumerate(pairs)]
    names = ", ".join(quoted(name) for name, _ in columns)
    marks = ", ".join("?" * len(columns))
    with suppress(apsw.Error):
        connection.execute(f"INSERT INTO {quoted(table)} ({names}) VALUES ({marks})", row)
    return row


def value_for(rng, declared, values):
    if rng.random() < 0.1:
        return None
    if rng.random() < 0.6:
        if "INT" in declared.upper():
            return rng.randrange(-5, rng.choice((6, 60)))
        if "CHAR" in declared.upper() or "TEXT" in declared.upper():
            return rng.choice("abcxyz") * rng.randrange(1, 4)
    return rng.choice(values)


def content(connection):
    """Return all rows of all tables with their types, in no order."""
    found = {}
    for table in tables(connection):
        columns = [
            name
            for _, name, _, _, _, _, hidden in connection.execute(
                "SELECT * FROM pragma_table_xinfo(?)", (table,)
            )
            if hidden in (0, 2, 3)
        ]
        picked = ", ".join(f"typeof({quoted(it)}), quote({quoted(it)})" for it in columns)
        found[table] = sorted(connection.execute(f"SELECT {picked} FROM {quoted(table)}"))
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'").fetchall():
        rows = connection.execute("SELECT name, seq FROM sqlite_sequence WHERE seq > 0")
        # SQLite never lets go of that table.
        found["sqlite_sequence"] = sorted(rows)
    return {name: rows for name, rows in found.items() if rows}


def described(connection):
    """Return what PRAGMAs and normalised texts say of a schema."""
    found = {}
    for table in tables(connection):
        ask = lambda pragma, name=table: connection.execute(  # noqa: E731
            f"SELECT * FROM pragma_{pragma}(?)", (name,)
        ).fetchall()
        metadata = [connection.column_metadata("main", table, row[1]) for row in ask("table_xinfo")]
        indexes = sorted(
            (
                (
                    "" if name.startswith("sqlite_autoindex") else name,
                    unique,
                    origin,
                    partial,
                    tuple(row[2:] for row in ask("index_xinfo", name)),
                )
                for _, name, unique, origin, partial in ask("index_list")
            ),
            key=repr,
        )
        xinfo = [
            (number, name, declared.upper(), *rest[:1], words(rest[1]), *rest[2:])
            for number, name, declared, *rest in ask("table_xinfo")
        ]
        foreign = sorted(row[2:] for row in map(with_parent(connection), ask("foreign_key_list")))
        listed = connection.execute(
            "SELECT type, wr, strict FROM pragma_table_list WHERE schema = 'main' AND name = ?",
            (table,),
        ).fetchall()
        columns = [((it[0] or "").upper(), it[1].upper(), *it[2:]) for it in metadata]
        found[table] = (xinfo, columns, indexes, foreign, listed)
    for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_schema"):
        if kind in ("view", "trigger"):
            found[kind, name] = words(sql)
        if kind == "table" and name in found:
            found[kind, name] = sorted(words(sql))
    return found


def with_parent(connection):
    """Return what fills in the parent's key where a foreign key names none."""

    def fill_in(row):
        keys = [
            name
            for _, name, _, _, _, position in connection.execute(
                "SELECT * FROM pragma_table_info(?)", (row[2],)
            )
            if position == row[1] + 1
        ]
        target = row[4] or (keys[0] if keys else None)
        return (row[0], 0, row[2].lower(), row[3], target, *row[5:])

    return fill_in


def words(sql):
    """Return the words of a text: no quotes around names, no comments, no case but in strings."""
    found = []
    for word in WORD.findall(sql or ""):
        if word.startswith(("--", "/*")):
            continue
        if word.startswith('"'):
            found.append(word[1:-1].replace('""', '"').lower())
        elif word[0] in "`[":
            found.append(word[1:-1].lower())
        else:
            found.append(word if word[0] == "'" else word.lower())
    return found


def problems(connection):
    """Return what the two checks of SQLite find."""
    try:
        orphans = sorted(map(repr, connection.execute("PRAGMA foreign_key_check").fetchall()))
    except apsw.SQLError as error:
        # A foreign key that references no key of its parent.
        orphans = [str(error)]
    return connection.execute("PRAGMA integrity_check").fetchall(), orphans


def columns_of(connection, table):
    rows = connection.execute("SELECT * FROM pragma_table_xinfo(?)", (table,)).fetchall()
    return [(row[1], row[2]) for row in rows if row[6] == 0]


def statements_of(connection, seed):
    """Yield statements that name their columns, of which all tables of the old schema are full."""
    rng = random.Random(seed)
    for table in tables(connection):
        columns = columns_of(connection, table)
        names = ", ".join(quoted(name) for name, _ in columns)
        for _ in range(6):
            row = [value_for(rng, declared, (None, 1, "a", 2.5, b"b")) for _, declared in columns]
            marks = ", ".join("?" * len(columns))
            yield f"INSERT INTO {quoted(table)} ({names}) VALUES ({marks})", row
        for name, declared in columns:
            value = value_for(rng, declared, (3, "c"))
            yield (
                f"UPDATE {quoted(table)} SET {quoted(name)} = ? WHERE {quoted(name)} = ?",
                (
                    value,
                    value_for(rng, declared, (1, "a")),
                ),
            )
            yield f"DELETE FROM {quoted(table)} WHERE {quoted(name)} = ?", (value,)
        # In hexadecimal, because a trigger may have made text of any bytes.
        picked = ", ".join(f"typeof({quoted(it)}), hex({quoted(it)})" for it, _ in columns)
        yield f"SELECT {picked} FROM {quoted(table)}", ()


def outcome(connection, sql, values):
    try:
        rows = connection.execute(sql, values).fetchall()
    except apsw.Error as error:
        return type(error).__name__
    return sorted(map(repr, rows))


def works_alike(old, new, seed):
    """Carry statements out on two databases, of which what worked on one works on the other.

    Returns:
        How many worked.
    """
    worked = 0
    for sql, values in statements_of(old, seed):
        before = outcome(old, sql, values)
        if isinstance(before, list):
            worked += 1
            assert outcome(new, sql, values) == before, sql
        else:
            # What the old schema refused is no statement of a program that runs.
            new.execute("SAVEPOINT refused")
            outcome(new, sql, values)
            new.execute("ROLLBACK TO refused; RELEASE refused")
    return worked
