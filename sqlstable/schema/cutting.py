"""A migration cut into messages: rows are copied range by range, and then everything switches.

The code sees the old schema, whole, until the last message; then the new one, whole. Until then
the new tables are filled under names of their own::

    begin   makes the new tables, and what keeps them in step
    copy    takes a range of the key of one table; as many messages as it needs
    switch  does all the rest: drops the old tables, gives the new ones their names, makes indexes

**Writes meanwhile.** Triggers on the old table note the key of each row that is written, in
``_sqlstable_changed_N``. Each message of the migration first takes the rows of these keys out of
the new table, and puts in what the old one has by now; so does the switch. A trigger that noted
rows instead of keys would follow the conflict clause of the statement that fired it, and
``INSERT OR IGNORE`` could lose a row without a word. ``REPLACE`` deletes rows without firing a
trigger: before each insert and update the rows are noted, too, that share a unique value with the
new one. Where rows of the new table cannot be found by the old one's key, or a unique index is
partial or on an expression, writes are refused by triggers, with an error that says so.

**Invariants**

* How far a copy is, is written in the message that copies.
* What is in the new table is what the old one has for these keys, or the keys are noted.
* A run goes on only with the text and the schema that it began with.

``_sqlstable_run`` (key, value)
    ``name`` and ``checksum`` of the target, ``schema`` (checksum of the old one),
    ``schema_version`` (SQLite's counter, which VACUUM moves too), ``reason`` (why there is no way
    back), ``rows_per_message``, ``left`` (rows that were to be brought up to date).
``_sqlstable_copies`` (number, source, target, rows, is_done, k1 … k8)
    Of each table that is copied: rows so far, and the key of the last one.
``_sqlstable_changed_N`` (k1 …, is_out)
    Keys of rows that were written since; ``is_out``: the new table does not have them any more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlstable.database.library import quoted
from sqlstable.schema.ledger import RESERVED_PREFIX, Execute
from sqlstable.schema.schema_model import Schema
from sqlstable.schema.schema_objects import SchemaTable
from sqlstable.schema.schema_verdicts import Copy, Migration
from sqlstable.schema.sql_tokens import lower, tokens_of, unquoted
from sqlstable.schema.table_life import guard, unguard

KEY_COLUMNS_MAX: Final = 8
"""Tables with longer keys are copied in one piece."""

_COPYING: Final = "copying"
_TRIGGERS: Final = (
    *("after_insert", "after_update", "after_delete"),
    *("before_insert", "before_update"),
)
_ROWIDS: Final = ("rowid", "_rowid_", "oid")

_KEYS: Final = ", ".join(f"k{number}" for number in range(1, KEY_COLUMNS_MAX + 1))

_MAKE: Final = f"""
CREATE TABLE _sqlstable_run (key TEXT NOT NULL PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE _sqlstable_copies (number INTEGER PRIMARY KEY, source TEXT NOT NULL,
    target TEXT NOT NULL, rows INTEGER NOT NULL, is_done INTEGER NOT NULL, {_KEYS});
"""

_READ_COPIES: Final = (
    f"SELECT number, rows, is_done, {_KEYS} FROM _sqlstable_copies ORDER BY number"  # noqa: S608  our own
)


@dataclass(frozen=True, slots=True)
class CutCopy:
    """One table that is copied by ranges of its key."""

    number: int
    "Counted from 1."
    copy: Copy
    target_key: tuple[str, ...] | None
    "Columns of the new table that hold the old one's key; None where nothing finds rows by it."

    @property
    def log(self) -> str:
        """The table of keys that were written."""
        return f"{RESERVED_PREFIX}changed_{self.number}"

    @property
    def marks(self) -> tuple[str, ...]:
        """Names of the columns that keep a key."""
        return tuple(f"k{number}" for number in range(1, len(self.copy.key) + 1))


@dataclass(frozen=True, slots=True)
class CutPlan:
    """A migration taken apart into what may come first, what is cut, and what comes last."""

    first: tuple[str, ...]
    "Statements that make the new tables."
    copies: tuple[CutCopy, ...]
    last: tuple[str, ...]
    "All others: the switch."


@dataclass(frozen=True, slots=True)
class CopyState:
    """How far a table is copied."""

    rows: int
    is_done: bool
    last_key: tuple[Any, ...] | None
    "Of the last row that was copied; None before the first."


@dataclass(frozen=True, slots=True)
class RunState:
    """How far a migration is."""

    facts: dict[str, Any]
    copies: tuple[CopyState, ...]

    @property
    def rows(self) -> int:
        """Rows that have been copied, or taken by statements that are cut."""
        return sum(it.rows for it in self.copies) + int(self.facts.get("rows", 0))

    @property
    def left(self) -> float:
        """Rows that were to be brought up to date when that was done last; at first more."""
        left: float = self.facts.get("left", math.inf)
        return left


def plan_of(migration: Migration, execute: Execute, old: Schema, new: Schema) -> CutPlan:
    """Take a migration apart.

    Args:
        migration: From the old schema to the new one.
        execute: Asks the database about its indexes.
        old: The schema that the database has.
        new: The schema that it is to have.
    """
    first: list[str] = []
    copies: list[CutCopy] = []
    last: list[str] = []
    cut = [it.copies for it in migration.steps if _is_cut(it.copies, old)]
    targets = {lower(it.target) for it in cut if it is not None}
    for step in migration.steps:
        copy = step.copies
        if copy is not None and lower(copy.target) in targets:
            key = None
            if unique_keys(execute, copy.source) is not None:
                key = _target_key(copy, old, new.table(step.table or ""))
            copies.append(CutCopy(len(copies) + 1, copy, key))
        elif _table_made(step.sql) in targets:
            first.append(step.sql)
        else:
            last.append(step.sql)
    return CutPlan(tuple(first), tuple(copies), tuple(last))


def unique_keys(execute: Execute, table: str) -> tuple[tuple[str, ...], ...] | None:
    """Return conditions that find the rows that ``REPLACE`` deletes; None where none can.

    Each has, for one unique index, ``column = NEW.column`` with the index's collation. The key
    that rows are copied by is none of them: what has the same key is the same row.

    Examples:
        >>> from sqlstable.database.trial_copy import Scratch
        >>> with Scratch() as scratch:
        ...     _ = scratch.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a UNIQUE, b)")
        ...     unique_keys(scratch.execute, "t")
        (('"a" = NEW."a" COLLATE BINARY',),)
    """
    found = []
    indexes = execute('SELECT name, "unique", origin, partial FROM pragma_index_list(?)', (table,))
    is_keyed = execute("SELECT wr FROM pragma_table_list(?) WHERE schema = 'main'", (table,))
    for name, is_unique, origin, is_partial in indexes:
        if not is_unique or (origin == "pk" and is_keyed == [(1,)]):
            continue
        columns = execute(
            "SELECT cid, name, coll FROM pragma_index_xinfo(?) WHERE key ORDER BY seqno", (name,)
        )
        if is_partial or any(cid < 0 for cid, _, _ in columns):
            return None
        found.append(
            tuple(f"{quoted(it)} = NEW.{quoted(it)} COLLATE {coll}" for _, it, coll in columns)
        )
    return tuple(found)


# -- a run ----------------------------------------------------------------------------------------


def has_run(execute: Execute) -> bool:
    """Return whether a migration is under way."""
    return bool(execute("SELECT 1 FROM sqlite_schema WHERE name = '_sqlstable_run'"))


def read_run(execute: Execute) -> RunState | None:
    """Return how far a migration is; None where there is none."""
    if not has_run(execute):
        return None
    facts: dict[str, Any] = dict(execute("SELECT key, value FROM _sqlstable_run"))
    rows = execute(_READ_COPIES)
    return RunState(facts, tuple(_copy_state(row) for row in rows))


def begin_run(execute: Execute, plan: CutPlan, facts: dict[str, Any]) -> None:
    """Make the new tables, what keeps them in step, and the run's own tables."""
    make_run(execute)
    for sql in plan.first:
        execute(sql)
    for cut in plan.copies:
        names = (cut.number, cut.copy.source, cut.copy.target, 0, 0)
        execute(
            "INSERT INTO _sqlstable_copies (number, source, target, rows, is_done) "
            "VALUES (?, ?, ?, ?, ?)",
            names,
        )
        if cut.target_key is None:
            _refuse_writes(execute, cut)
        else:
            _note_writes(execute, cut)
    note_run(execute, **facts, schema_version=schema_version(execute))


def make_run(execute: Execute) -> None:
    """Make the run's own tables."""
    execute(_MAKE)


def note_run(execute: Execute, **facts: Any) -> None:  # noqa: ANN401  whatever SQLite keeps
    """Note facts about the run."""
    for fact in facts.items():
        execute("INSERT OR REPLACE INTO _sqlstable_run VALUES (?, ?)", fact)


def schema_version(execute: Execute) -> int:
    """Return SQLite's counter of changes of the schema, which VACUUM moves, too."""
    version: int = execute("PRAGMA schema_version")[0][0]
    return version


def copy_rows(execute: Execute, cut: CutCopy, state: CopyState, rows_max: int | None) -> CopyState:
    """Copy the next rows of a table, and note how far that is.

    Args:
        execute: Runs SQL in a transaction.
        cut: What is copied.
        state: How far it is.
        rows_max: At most so many rows; None for all that there are.
    """
    copy = cut.copy
    source, key = quoted(copy.source), ", ".join(copy.key)
    above = "" if state.last_key is None else f"WHERE ({key}) > ({_marks(state.last_key)})"
    params = state.last_key or ()
    last = None
    if rows_max is not None:
        read = f"SELECT {key} FROM {source} {above} ORDER BY {key} LIMIT 1 OFFSET ?"  # noqa: S608
        found = execute(read, (*params, rows_max - 1))
        last = found[0] if found else None
    is_done = last is None
    if last is None:
        backwards = ", ".join(f"{it} DESC" for it in copy.key)
        found = execute(f"SELECT {key} FROM {source} {above} ORDER BY {backwards} LIMIT 1", params)  # noqa: S608
        last = found[0] if found else None
    if last is None:
        new = CopyState(state.rows, is_done=True, last_key=state.last_key)
    else:
        upto = f"{'AND' if above else 'WHERE'} ({key}) <= ({_marks(last)})"
        execute(f"{_insert(copy)} {above} {upto} ORDER BY {key}", (*params, *last))
        count = execute("SELECT changes()")[0][0]
        if cut.target_key is not None:
            # Rows may have come in that are noted, and were behind the last one when they were.
            execute(f"UPDATE {cut.log} SET is_out = 0 WHERE is_out")  # noqa: S608  our own
        new = CopyState(state.rows + count, is_done=is_done, last_key=last)
    _note_copy(execute, cut, new)
    return new


def catch_up(execute: Execute, cut: CutCopy, state: CopyState, rows_max: int | None) -> int:
    """Bring rows that were written since into the new table; returns how many were looked at."""
    if cut.target_key is None:
        return 0
    copy, log, marks = cut.copy, cut.log, ", ".join(cut.marks)
    target, target_key = quoted(copy.target), ", ".join(cut.target_key)
    # All of them go before one comes back: a unique value may have moved from row to row.
    noted = f"(SELECT {marks} FROM {log} WHERE NOT is_out)"  # noqa: S608  our own
    execute(f"DELETE FROM {target} WHERE ({target_key}) IN {noted}")  # noqa: S608  quoted
    execute(f"UPDATE {log} SET is_out = 1 WHERE NOT is_out")  # noqa: S608  our own
    limit = -1 if rows_max is None else rows_max
    count: int = execute(f"SELECT count(*) FROM (SELECT 1 FROM {log} LIMIT {limit})")[0][0]  # noqa: S608
    if count == 0:
        return 0
    noted = f"(SELECT {marks} FROM {log} ORDER BY {marks} LIMIT {limit})"  # noqa: S608  our own
    key = ", ".join(copy.key)
    if state.is_done:
        execute(f"{_insert(copy)} WHERE ({key}) IN {noted}")
    elif state.last_key is not None:
        # The rows behind the last one that was copied are still to come.
        upto = f"({key}) <= ({_marks(state.last_key)})"
        execute(f"{_insert(copy)} WHERE ({key}) IN {noted} AND {upto}", state.last_key)
    execute(f"DELETE FROM {log} WHERE ({marks}) IN {noted}")  # noqa: S608  our own
    return count


def waiting(execute: Execute, cut: CutCopy) -> int:
    """Return how many rows were written that are still to be brought into the new table."""
    if cut.target_key is None:
        return 0
    count: int = execute(f"SELECT count(*) FROM {cut.log}")[0][0]  # noqa: S608  our own
    return count


def end_run(execute: Execute, plan: CutPlan) -> None:
    """Take away what the run has made, but the new tables."""
    for cut in plan.copies:
        _let_writes(execute, cut)
    execute("DROP TABLE _sqlstable_copies; DROP TABLE _sqlstable_run")


def abandon_run(execute: Execute) -> None:
    """Give a run up: the new tables go, with the rows that were copied, and all is as before."""
    copies = execute("SELECT number, source, target FROM _sqlstable_copies")
    for number, source, target in copies:
        empty = Copy(source, target, (), (), ())
        _let_writes(execute, CutCopy(number, empty, None))
        execute(f"DROP TABLE IF EXISTS {quoted(target)}")
    execute("DROP TABLE _sqlstable_copies; DROP TABLE _sqlstable_run")


# -- writes meanwhile -----------------------------------------------------------------------------


def _refuse_writes(execute: Execute, cut: CutCopy) -> None:
    source = cut.copy.source
    guard(
        execute,
        source,
        _COPYING,
        f"table {source} is being migrated: it can be read, and writes are refused until the "
        "migration ends or is abandoned, as rows of the new table cannot be found by the old key",
    )


def _note_writes(execute: Execute, cut: CutCopy) -> None:
    source = cut.copy.source
    marks = ", ".join(cut.marks)
    execute(
        f"CREATE TABLE {cut.log} ({marks}, is_out INTEGER NOT NULL DEFAULT 0, "
        f"PRIMARY KEY ({marks})) WITHOUT ROWID"
    )
    old, new = _note(cut, "OLD"), _note(cut, "NEW")
    displaced = "".join(
        _note(cut, quoted(source), f"FROM {quoted(source)} WHERE {' AND '.join(key)}")
        for key in unique_keys(execute, source) or ()
    )
    _trigger(execute, cut, "after_insert", f"AFTER INSERT ON {quoted(source)}", new)
    _trigger(execute, cut, "after_update", f"AFTER UPDATE ON {quoted(source)}", old + new)
    _trigger(execute, cut, "after_delete", f"AFTER DELETE ON {quoted(source)}", old)
    if displaced:
        _trigger(execute, cut, "before_insert", f"BEFORE INSERT ON {quoted(source)}", displaced)
        _trigger(execute, cut, "before_update", f"BEFORE UPDATE ON {quoted(source)}", displaced)


def _note(cut: CutCopy, row: str, rest: str = "") -> str:
    """Return SQL that notes the keys of rows that are not noted yet.

    No conflict can arise, so it does the same whatever the statement that fires it says of them.
    """
    key = [f"{row}.{it}" for it in cut.copy.key]
    # Without its affinity a value is looked up by the index.
    same = " AND ".join(f"l.{mark} = +{it}" for mark, it in zip(cut.marks, key, strict=True))
    return (
        f"INSERT INTO {cut.log} ({', '.join(cut.marks)}) SELECT {', '.join(key)} "  # noqa: S608
        f"{rest} {'AND' if rest else 'WHERE'} "
        f"NOT EXISTS (SELECT 1 FROM {cut.log} AS l WHERE {same}); "
    )


def _trigger(execute: Execute, cut: CutCopy, name: str, when: str, body: str) -> None:
    execute(f"CREATE TRIGGER {_trigger_name(cut, name)} {when} BEGIN {body} END")


def _let_writes(execute: Execute, cut: CutCopy) -> None:
    """Undo `_refuse_writes` or `_note_writes`; the old table may be gone, and its triggers too."""
    unguard(execute, cut.copy.source, _COPYING)
    for name in _TRIGGERS:
        execute(f"DROP TRIGGER IF EXISTS {_trigger_name(cut, name)}")
    execute(f"DROP TABLE IF EXISTS {cut.log}")


def _trigger_name(cut: CutCopy, name: str) -> str:
    return f"{RESERVED_PREFIX}{_COPYING}_{name}_{cut.number}"


# -- inside ---------------------------------------------------------------------------------------


def _is_cut(copy: Copy | None, old: Schema) -> bool:
    """Return whether a copy can be cut: by a key of some columns, of a table that has triggers."""
    if copy is None or not 0 < len(copy.key) <= KEY_COLUMNS_MAX:
        return False
    source = old.table(copy.source)
    return source is not None and not source.is_virtual


def _target_key(copy: Copy, old: Schema, new: SchemaTable | None) -> tuple[str, ...] | None:
    """Return the new table's columns with the old one's key, if they are the new one's key."""
    source = old.table(copy.source)
    if new is None or source is None:
        return None
    own = [_column(it, new) for it in copy.columns]
    read = [_column(it, source) for it in copy.expressions]
    found = []
    for column in copy.key:
        name = _column(column, source)
        if name not in read:
            return None
        found.append(read.index(name))
    if {own[at] for at in found} != _key_of(new):
        return None
    return tuple(copy.columns[at] for at in found)


def _key_of(table: SchemaTable) -> set[str]:
    """Return the columns that find a row of a table at once."""
    if not table.is_without_rowid:
        return {_ROWIDS[0]}
    assert table.primary_key is not None
    return set(map(lower, table.primary_key.columns))


def _column(sql: str, table: SchemaTable) -> str:
    """Return what a column is called, by whatever name; an expression is as it is."""
    name = _name(sql)
    if table.rowid_column is not None and name == lower(table.rowid_column):
        return _ROWIDS[0]
    if name in _ROWIDS and table.column(name) is None:
        return _ROWIDS[0]
    return name


def _table_made(sql: str) -> str | None:
    """Return the name of the table that a statement makes, if it does."""
    keys = [token.key for token in tokens_of(sql)[:3]]
    return keys[2] if keys[:2] == ["create", "table"] and len(keys) > 2 else None


def _insert(copy: Copy) -> str:
    return (
        f"INSERT OR ABORT INTO {quoted(copy.target)} ({', '.join(copy.columns)}) "  # noqa: S608
        f"SELECT {', '.join(copy.expressions)} FROM {quoted(copy.source)}"
    )


def _note_copy(execute: Execute, cut: CutCopy, state: CopyState) -> None:
    key = state.last_key or ()
    sets = "".join(f", {mark} = ?" for mark in cut.marks[: len(key)])
    execute(
        f"UPDATE _sqlstable_copies SET rows = ?, is_done = ?{sets} WHERE number = ?",  # noqa: S608
        (state.rows, int(state.is_done), *key, cut.number),
    )


def _copy_state(row: tuple[Any, ...]) -> CopyState:
    _, rows, is_done, *key = row
    # No part of a key is NULL.
    known = tuple(it for it in key if it is not None)
    return CopyState(rows, bool(is_done), known or None)


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _name(sql: str) -> str:
    return lower(unquoted(sql))
