"""Plans and columns of statements, from a copy of the schema: never from the canister.

To ask the canister's module would change its heap, take its time, and have to be undone. So what a
statement's plan depends on is kept a second time, in an in-memory database of APSW without a row:
the schema, its statistics, and the few settings that planning heeds. It is read from stable memory
once, and then follows the statements that change it, transactions included.

**Invariants**

* Nothing here touches the module, its heap, or what is counted.
* What was followed in a message is taken back with it: the copy is made anew from what is there.
* Where the copy is not known to be right there is no plan, never a wrong one.
"""

import re
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from typing import Any, Final, NamedTuple

import apsw

from sqlstable.database.trial_copy import cut_statements
from sqlstable.engine.inspector import prepare
from sqlstable.engine.pragmas import PROCESS_WIDE
from sqlstable.engine.statements import Params
from sqlstable.errors import ImageError
from sqlstable.sqlite.plan_rows import plan_lines

_KNOWN_MAX: Final = 10_000
_KNOWN_CHARACTERS_MAX: Final = 10_000_000
_COLUMNS_MAX: Final = 100

_VM_STEPS_MAX: Final = 100_000
"""No statement runs longer on the copy; one that makes a table from a query could."""

_LEADING: Final = re.compile(r"(?:\s|;|--[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z))*", re.DOTALL)
_FIRST_WORD: Final = re.compile(r"\w*")
_SCHEMA: Final = frozenset(("create", "drop", "alter"))
_TRANSACTION: Final = frozenset(("begin", "commit", "end", "rollback", "savepoint", "release"))
_CONCERNS: Final = _SCHEMA | _TRANSACTION | {"analyze", "pragma", "attach", "detach"}
"""First words of statements that may have to be followed."""

_OWN_TABLES: Final = "sqlite_"
_STATISTICS: Final = re.compile(
    r"\s*analyze\b|\s*pragma\b.*\boptimize\b|\bsqlite_(?:stat\d|schema|master)\b",
    re.IGNORECASE | re.DOTALL,
)
"""What changes statistics, or the schema by hand, if it is not only read."""

_PLANNING_PRAGMA: Final = re.compile(
    r"\s*pragma\s+(?:\w+\s*\.\s*)?(automatic_index|case_sensitive_like|foreign_keys"
    r"|full_column_names|short_column_names|legacy_alter_table|reverse_unordered_selects"
    r"|temp_store|trusted_schema)\s*[=(]",
    re.IGNORECASE,
)

_PROCESS_PRAGMAS: Final = PROCESS_WIDE.keys() - {"threads"}
"""They would change this process and not the copy; threads belong to a connection."""

_TABLE_OF_QUERY: Final = re.compile(
    r"""(\s*create\s+(?:temp\s+|temporary\s+)?table\s+(?:if\s+not\s+exists\s+)?
    (?:(?:\w+|"[^"]*"|`[^`]*`|\[[^\]]*\])\s*\.\s*)?(?:\w+|"[^"]*"|`[^`]*`|\[[^\]]*\])\s+as\s)
    (.*)""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)

_MADE_LIKE: Final = re.compile(r"\s*create\s+(?=table|view|trigger)", re.IGNORECASE)

_READ_SCHEMA: Final = """SELECT CAST(sql AS BLOB) FROM main.sqlite_schema WHERE sql IS NOT NULL
ORDER BY CASE WHEN sql LIKE 'create virtual%' THEN 0 WHEN type = 'table' THEN 1
              WHEN type = 'index' THEN 2 ELSE 3 END, rowid"""
_READ_TEMPORARY: Final = """SELECT sql FROM temp.sqlite_schema WHERE sql IS NOT NULL
ORDER BY CASE WHEN type = 'table' THEN 1 WHEN type = 'index' THEN 2 ELSE 3 END, rowid"""
_READ_STATISTICS_TABLES: Final = """SELECT name FROM main.sqlite_schema
WHERE name IN ('sqlite_stat1', 'sqlite_stat4')"""
_LOAD_STATISTICS: Final = "ANALYZE sqlite_schema"


class Plan(NamedTuple):
    """What SQLite says of a text before it runs."""

    lines: tuple[str, ...]
    "Of EXPLAIN QUERY PLAN, for its first statement."
    is_readonly: bool


NO_PLAN: Final = Plan((), is_readonly=False)


class Piece(NamedTuple):
    """One statement of a text that has run."""

    sql: str
    is_readonly: bool


class _Heap(NamedTuple):
    """What is not in stable memory."""

    pragmas: tuple[tuple[str, str], ...] = ()
    "Of each that planning heeds its name and the statement that set it last, in that order."
    temporary: tuple[str, ...] = ()
    "What makes the temporary tables, views, indexes and triggers."
    is_hidden: bool = False
    "Whether the open transaction has changed the schema."


class Plans:
    """Answers questions about statements of one canister.

    Args:
        observing: Gives a connection that sees the database as it is now, unrecorded.
        foreign_keys: Whether the canister's connection enforces them at first.
    """

    def __init__(
        self,
        observing: Callable[[], AbstractContextManager[apsw.Connection]],
        *,
        foreign_keys: bool,
    ) -> None:
        """Take note; the schema is read when the first question comes."""
        self.is_autocommit = True
        "Whether the canister was outside of a transaction when it was followed last."
        self._observing = observing
        self._foreign_keys = foreign_keys
        self._copy: apsw.Connection | None = None
        self._is_wrong = False
        "Whether the copy is not what the canister has, until it can be made anew."
        self._known: dict[str, tuple[Plan, bool]] = {}
        self._known_characters = 0
        self._columns: dict[str, tuple[str, ...]] = {}
        self._now = self._kept = _Heap()
        self._is_kept_autocommit = True
        self._is_followed = False

    # -- asking ---------------------------------------------------------------------------------

    def learn(self, sql: str, params: Params) -> None:
        """Ask for the plan of the first statement of a text, unless it is known."""
        if sql in self._known:
            return
        self._known_characters += len(sql)
        if len(self._known) >= _KNOWN_MAX or self._known_characters > _KNOWN_CHARACTERS_MAX:
            self._known.clear()
            self._known_characters = len(sql)
        copy = self._ready()
        plan = NO_PLAN if copy is None or self._is_wrong else plan_of(copy, sql, params)
        self._known[sql] = plan, _concerns(sql)

    def known(self, sql: str) -> tuple[Plan, bool]:
        """Return the plan that was learned for a text, and whether it may have to be followed."""
        return self._known.get(sql) or (NO_PLAN, _concerns(sql))

    def cut(self, sql: str) -> list[tuple[str, Plan]]:
        """Return the statements of a text, with what is known of each without its values."""
        texts = cut_statements(sql)
        if len(texts) < 2:
            return [(sql, self.known(sql)[0])]
        copy = None if self._is_wrong else self._copy
        plans = [NO_PLAN if copy is None else plan_of(copy, text, None) for text in texts[1:]]
        return list(zip(texts, (self.known(sql)[0], *plans), strict=True))

    def columns(self, sql: str, params: Params) -> tuple[str, ...] | None:
        """Return the names of a statement's columns, or None where they are not known."""
        found = self._columns.get(sql)
        if found is None:
            copy = self._ready()
            prepared = None if copy is None else prepare(copy, sql, params)
            if prepared is None:
                return None
            if len(self._columns) >= _COLUMNS_MAX:
                self._columns.clear()
            found = self._columns[sql] = prepared.columns
        return found

    # -- following ------------------------------------------------------------------------------

    def follow(
        self, pieces: Iterable[Piece], params: Params, *, is_autocommit: bool, is_sure: bool
    ) -> None:
        """Do to the copy what the canister's statements have done to its schema.

        Args:
            pieces: The statements that ran, in order.
            params: Values that they were given.
            is_autocommit: Whether no transaction is open behind them.
            is_sure: Whether ``pieces`` are all that ran.
        """
        self._is_followed = True
        for piece in pieces:
            self._follow_one(piece, params)
        copy = self._copy
        if not is_sure:
            self._is_wrong = True
            self._forget()
        if copy is not None and copy.getautocommit() != is_autocommit:
            # SQLite itself has undone the transaction; or has begun one that is not seen here.
            self._run("ROLLBACK" if is_autocommit else "BEGIN", None)
            self._forget()
        self.is_autocommit = is_autocommit
        if is_autocommit:
            self._now = self._now._replace(is_hidden=False)
            if self._is_wrong:
                self._drop()

    def keep(self) -> None:
        """Take note that a message is committed."""
        if self._is_followed:
            self._note_temporary()
            self._kept, self._is_kept_autocommit = self._now, self.is_autocommit
            self._is_followed = False

    def take_back(self) -> None:
        """Take note that a message is undone, and the heap as it was before."""
        if self._is_followed:
            self.close()

    def renew(self) -> None:
        """Take note that the open message has a new heap."""
        if self._kept != _Heap() or not self._is_kept_autocommit:
            self._close()
            self._now = _Heap()
            self.is_autocommit = self._is_followed = True

    def close(self) -> None:
        """Close the copy, and go back to where the last message was kept."""
        self._close()
        self._now, self.is_autocommit = self._kept, self._is_kept_autocommit
        self._is_followed = False

    def _follow_one(self, piece: Piece, params: Params) -> None:
        sql = _LEADING.sub("", piece.sql, count=1).rstrip("; \t\r\n")
        word = _first_word(sql)
        if word in _TRANSACTION:
            self._run(sql, None)
            if word == "rollback":
                self._forget()
        elif word in _SCHEMA:
            self._now = self._now._replace(is_hidden=True)
            self._run(_without_rows(sql), params)
            self._forget()
        elif word == "pragma" and (found := _PLANNING_PRAGMA.match(sql)):
            name = found[1].lower()
            others = [pragma for pragma in self._now.pragmas if pragma[0] != name]
            self._now = self._now._replace(pragmas=(*others, (name, sql)))
            self._run(sql, None)
            self._forget()
        elif word == "attach" or (_STATISTICS.search(sql) and not _only_reads(piece, word)):
            self._now = self._now._replace(is_hidden=True)
            self._is_wrong = True
            self._forget()

    def _run(self, sql: str, params: Params) -> None:
        """Run a statement on the copy, if there is one; where it fails, the copy is wrong."""
        if self._copy is None:
            return
        try:
            self._copy.execute(sql, params, can_cache=False).fetchall()
        except (apsw.Error, UnicodeError):
            self._is_wrong = True

    def _note_temporary(self) -> None:
        if self._copy is not None:
            found = self._copy.execute(_READ_TEMPORARY).fetchall()
            temporary = tuple(_MADE_LIKE.sub("CREATE TEMP ", str(row[0])) for row in found)
            self._now = self._now._replace(temporary=temporary)

    # -- the copy -------------------------------------------------------------------------------

    def _ready(self) -> apsw.Connection | None:
        """Return the copy, made if need be; None where it cannot be made now."""
        if self._copy is None and not self._now.is_hidden:
            copy = self._made()
            if not self.is_autocommit:
                copy.execute("BEGIN")
            self._copy = copy
        return self._copy

    def _made(self) -> apsw.Connection:
        # A statement that is kept goes on counting its steps where it left off, and would in the
        # end be stopped for what all its runs took together.
        copy = apsw.Connection(":memory:", statementcachesize=0)
        copy.authorizer = _authorize
        copy.config(apsw.SQLITE_DBCONFIG_DQS_DDL, 1)
        copy.execute("PRAGMA page_size = 512").fetchall()
        copy.execute(f"PRAGMA foreign_keys = {int(self._foreign_keys)}").fetchall()
        schema, statistics = self._read()
        # Settings come first, as one of them drops temporary objects; these hide others.
        made = ("BEGIN", *schema, *statistics, *self._now.temporary, "COMMIT")
        for sql in (*(sql for _, sql in self._now.pragmas), *made):
            _try(copy, sql)
        copy.set_progress_handler(lambda: True, _VM_STEPS_MAX)
        self._is_wrong = False
        return copy

    def _read(self) -> tuple[list[str], list[str]]:
        """Return what makes the schema, and what brings its statistics in."""
        schema: list[str] = []
        statistics: list[str] = []
        # Of a damaged database the module itself will tell; what comes before an error counts.
        with suppress(apsw.Error, ImageError, UnicodeDecodeError), self._observing() as database:
            # SQLite's names of encodings are Python's, too.
            encoding = str(database.pragma("encoding"))
            for row in database.execute(_READ_SCHEMA):
                with suppress(UnicodeDecodeError):
                    schema.append(row[0].decode(encoding))
            for (table,) in database.execute(_READ_STATISTICS_TABLES).fetchall():
                for row in database.execute(f"SELECT * FROM main.{table}"):  # noqa: S608  one of two
                    values = ", ".join(map(apsw.format_sql_value, row))
                    statistics.append(f"INSERT INTO {table} VALUES ({values})")  # noqa: S608
        if statistics:
            # The first makes the tables, the last heeds them.
            statistics = [_LOAD_STATISTICS, *statistics, _LOAD_STATISTICS]
        return schema, statistics

    def _drop(self) -> None:
        """Make the copy anew at the next question."""
        self._note_temporary()
        self._close()

    def _close(self) -> None:
        self._forget()
        self._is_wrong = False
        if self._copy is not None:
            self._copy.close(force=True)
            self._copy = None

    def _forget(self) -> None:
        self._known.clear()
        self._known_characters = 0
        self._columns.clear()


def plan_of(connection: apsw.Connection, sql: str, params: Params) -> Plan:
    """Return the plan of the first statement; none where SQLite refuses it, or it has none."""
    seen = 0
    is_readonly = False

    def on_statement(cursor: apsw.Cursor, _sql: str, _params: Any) -> bool:  # noqa: ANN401  APSW's
        nonlocal seen, is_readonly
        # SQLite says of an EXPLAIN what it would say of the statement behind it.
        is_readonly = cursor.is_readonly and (seen == 0 or is_readonly)
        seen += 1
        return seen == 1

    cursor = connection.cursor()
    cursor.exec_trace = on_statement
    rows: list[tuple[Any, ...]] = []
    try:
        for row in cursor.execute("EXPLAIN QUERY PLAN " + sql, params, can_cache=False):
            rows.append(row)  # noqa: PERF402  what came before an error counts
    except (apsw.Error, UnicodeError):
        if not seen:
            return NO_PLAN
    finally:
        cursor.close(force=True)
    return Plan(plan_lines(rows), is_readonly)


def _concerns(sql: str) -> bool:
    """Return whether statements of a text may have to be followed; too often does no harm.

    Examples:
        >>> _concerns("INSERT INTO t VALUES ('create;')"), _concerns("SELECT 1; DROP TABLE t")
        (False, True)
        >>> _concerns("SELECT 1; /* a; b */ DROP TABLE t"), _concerns("SELECT 1 -- create")
        (True, False)
    """
    lowered = sql.lower()
    if _OWN_TABLES in lowered or _first_word(sql) in _CONCERNS:
        return True
    if ";" not in sql:
        return False
    if "--" in sql or "/*" in sql:
        # A comment may have semicolons, and hide where a statement begins.
        return any(word in lowered for word in _CONCERNS)
    return any(_first_word(part) in _CONCERNS for part in sql.split(";")[1:])


def _first_word(sql: str) -> str:
    start = _LEADING.match(sql)
    found = _FIRST_WORD.match(sql, 0 if start is None else start.end())
    return "" if found is None else found[0].lower()


def _without_rows(sql: str) -> str:
    """Return what makes the same table, without the rows that a query would fill it with.

    Examples:
        >>> print(_without_rows("CREATE TABLE t AS SELECT 1 AS a"))
        CREATE TABLE t AS SELECT * FROM (SELECT 1 AS a
        ) LIMIT 0
        >>> _without_rows("CREATE TABLE t (a)")
        'CREATE TABLE t (a)'
    """
    found = _TABLE_OF_QUERY.fullmatch(sql)
    if found is None:
        return sql
    # On a line of its own, lest a comment swallow it.
    return f"{found[1]}SELECT * FROM ({found[2]}\n) LIMIT 0"  # noqa: S608  the statement's own SQL


def _only_reads(piece: Piece, word: str) -> bool:
    return piece.is_readonly and word not in ("analyze", "pragma")


def _try(connection: apsw.Connection, sql: str) -> None:
    """Run what may fail: a virtual table has made its shadow tables, a function is missing."""
    with suppress(apsw.Error):
        connection.execute(sql, can_cache=False).fetchall()


def _authorize(
    operation: int,
    first: str | None,
    second: str | None,
    _database: str | None,
    _trigger: str | None,
) -> int:
    """Refuse what would reach beyond the copy: files, and settings of the process."""
    if operation == apsw.SQLITE_ATTACH:
        return apsw.SQLITE_DENY
    if operation == apsw.SQLITE_PRAGMA and (first or "").lower() in _PROCESS_PRAGMAS:
        return apsw.SQLITE_OK if second is None else apsw.SQLITE_DENY
    return apsw.SQLITE_OK
