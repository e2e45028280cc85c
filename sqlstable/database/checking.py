"""What is wrong with a SQLite database file, and what cannot be told.

A database may name collations, functions, tokenizers and modules that only its own program has.
It is sound all the same: what can be checked without them is checked, and the rest is named.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import apsw

from sqlstable.database.library import quoted

Tick = Callable[[], None]
"""Is called every few milliseconds of a long check; may raise, which ends it."""

SqliteConnection = apsw.Connection
SqliteError = apsw.Error
"""What SQLite refuses, by whomever it was asked."""

Setup = Callable[[SqliteConnection], None]
"""Gives a connection what its database needs: functions, collations, tokenizers, modules."""

_STEPS_BETWEEN_TICKS: Final = 100_000
"""Steps of SQLite's virtual machine: some milliseconds."""

_MISSING: Final = (
    "no such function",
    "unknown function",
    "unsafe use of",
    "no such collation",
    "no such module",
    "tokenizer",
)
"""What SQLite says where a database needs more than there is."""

_FINDINGS_MAX: Final = 3
_GAPS_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Findings:
    """The outcome of a check."""

    damage: tuple[str, ...]
    "What SQLite finds wrong, in its words; nothing where the database is sound."
    gaps: tuple[str, ...]
    "What could not be checked or cannot be used, and why; sentences without a full stop."
    collations: tuple[str, ...] = ()
    "Collations that nobody has defined."


def check(
    connection: apsw.Connection,
    *,
    setups: Sequence[Setup] = (),
    is_thorough: bool = False,
    on_tick: Tick | None = None,
) -> Findings:
    """Let SQLite check the whole of a database, and name what it needs and nobody has.

    Args:
        connection: On the database, as `prepare` leaves it.
        setups: What `prepare` ran.
        is_thorough: Whether indexes are compared with their tables, too (``integrity_check``),
            which takes several times as long as ``quick_check``.
        on_tick: Called while the check goes on.

    Raises:
        apsw.Error: The database cannot be read at all.
    """
    unknown: list[str] = []

    def stand_in(connection: apsw.Connection, name: str) -> None:
        # Structure does not depend on the order, and quick_check looks at nothing else.
        connection.create_collation(name, _by_code_point)
        if name not in unknown:
            unknown.append(name)

    def tick() -> bool:
        # Python's own signals are looked at here, too: Ctrl-C ends even a long check.
        if on_tick is not None:
            on_tick()
        return False

    aside = apsw.Connection(":memory:")
    prepare(aside, setups)
    connection.set_progress_handler(tick, _STEPS_BETWEEN_TICKS)
    for one in (connection, aside):
        one.collation_needed(stand_in)
    try:
        findings = _thorough(connection, unknown) if is_thorough else _quick(connection)
        gaps = [*findings.gaps, *_unusable(connection, aside)]
    finally:
        connection.set_progress_handler(None)
        aside.close(force=True)
    shown = [*dict.fromkeys(gaps[:_GAPS_MAX])]
    if len(gaps) > _GAPS_MAX:
        shown.append(f"{len(gaps) - _GAPS_MAX} more tables are like that")
    shown += [
        f"there is no collation {name} here, which columns or indexes need" for name in unknown
    ]
    return Findings(findings.damage, tuple(shown), tuple(unknown))


def prepare(connection: apsw.Connection, setups: Sequence[Setup]) -> None:
    """Give a connection to a foreign database its functions and collations, and no trust."""
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    for setup in setups:
        # One that writes has its turn when the database has come in.
        with suppress(apsw.ReadOnlyError):
            setup(connection)


def trust(connection: SqliteConnection) -> None:
    """Let the schema of a connection's own database use all functions that there are."""
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 1)


def find_damage(
    path: str,
    *,
    setups: Sequence[Setup] = (),
    is_thorough: bool = False,
    on_tick: Tick | None = None,
) -> Findings:
    """Check a database file in rollback mode, with nothing beside it; it is only read."""
    try:
        connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
        try:
            prepare(connection, setups)
            return check(connection, setups=setups, is_thorough=is_thorough, on_tick=on_tick)
        finally:
            connection.close(force=True)
    except (apsw.Error, UnicodeEncodeError) as error:
        return Findings((str(error),), ())


# -- inside ---------------------------------------------------------------------------------------


def _thorough(connection: apsw.Connection, unknown: list[str]) -> Findings:
    try:
        damage = _run(connection, "integrity_check")
        if not damage or not unknown:
            return Findings(damage, ())
        # An index in an order that nobody knows looks wrong.
        reason = f"there is no collation {unknown[0]}"
    except apsw.SQLError as error:
        reason = str(error)
    findings = _quick(connection)
    gap = f"quick_check took the place of integrity_check: {reason}"
    return Findings(findings.damage, (gap, *findings.gaps))


def _quick(connection: apsw.Connection) -> Findings:
    try:
        return Findings(_run(connection, "quick_check"), ())
    except apsw.SQLError as error:
        reason = error
    damage: list[str] = []
    gaps: list[str] = []
    for name, _ in _tables(connection):
        try:
            damage += _run(connection, "quick_check", name)
        except apsw.SQLError as error:
            gaps.append(f"{name} was not checked: {error}")
    if not gaps:
        # Not for a table's sake: then it is the database that cannot be read.
        raise reason
    return Findings(tuple(damage[:_FINDINGS_MAX]), tuple(gaps))


def _run(connection: apsw.Connection, pragma: str, table: str = "") -> tuple[str, ...]:
    argument = quoted(table) if table else str(_FINDINGS_MAX)
    rows = connection.execute(f"PRAGMA main.{pragma}({argument})").fetchall()
    return () if rows == [("ok",)] else tuple(str(row[0]) for row in rows[:_FINDINGS_MAX])


def _unusable(connection: apsw.Connection, aside: apsw.Connection) -> Iterator[str]:
    """Say which tables need something that nobody has; of the rows at most one is read.

    Args:
        connection: On the database.
        aside: On a database without tables, and with the same functions.
    """
    for name, kind in _tables(connection):
        reason = _missing(connection, aside, name, kind)
        if reason is not None:
            yield f"{name} cannot be used in full: {reason}"


def _missing(
    connection: apsw.Connection, aside: apsw.Connection, name: str, kind: str
) -> str | None:
    table = quoted(name)
    try:
        _compile(connection, f"SELECT * FROM main.{table}")  # noqa: S608  never run
        if kind == "virtual":
            # FTS5 looks for its tokenizer when it is used.
            connection.execute(
                f"SELECT 1 FROM main.{table} WHERE {table} MATCH 'a' LIMIT 1"  # noqa: S608
            ).fetchall()
        else:
            _compile(connection, f"INSERT INTO main.{table} DEFAULT VALUES")
            # On a connection that only reads, SQLite passes over CHECK.
            sql = (
                "SELECT CAST(sql AS BLOB) FROM main.sqlite_schema WHERE type = 'table' AND name = ?"
            )
            for (text,) in connection.execute(sql, (name,)).fetchall():
                assert isinstance(text, bytes)
                # What is no text there is in the name of a column, which nobody misses.
                _compile(aside, text.decode(str(connection.pragma("encoding")), "replace"))
    except apsw.SQLError as error:
        return str(error) if any(words in str(error) for words in _MISSING) else None
    return None


def _compile(connection: apsw.Connection, sql: str) -> None:
    """Let SQLite compile a statement, and run nothing of it."""
    cursor = connection.cursor()
    cursor.exec_trace = lambda *_: False
    with suppress(apsw.ExecTraceAbort):
        cursor.execute(sql, can_cache=False)


def _tables(connection: apsw.Connection) -> list[tuple[str, str]]:
    """Return the tables that a program uses, and the kind of each.

    Those whose names are no text are left out: no statement can speak of them.
    """
    encoding = str(connection.pragma("encoding"))
    rows = connection.execute(
        "SELECT CAST(name AS BLOB), type FROM pragma_table_list"
        " WHERE schema = 'main' AND type IN ('table', 'virtual')"
    ).fetchall()
    found = []
    for name, kind in rows:
        assert isinstance(name, bytes)
        with suppress(UnicodeDecodeError):
            found.append((name.decode(encoding), str(kind)))
    return [(name, kind) for name, kind in found if not _is_schema(name)]


def _is_schema(name: str) -> bool:
    return name in ("sqlite_schema", "sqlite_master")


def _by_code_point(first: str, second: str) -> int:
    return (first > second) - (first < second)
