"""What becomes of the keys and constraints of one table, and of the kind of table it is."""

from collections.abc import Iterable, Iterator, Sequence

import apsw

from sqlstable.schema.column_changes import EACH_ROW, TablePair, added_names, mentioned, over_old
from sqlstable.schema.empty_database import scratch
from sqlstable.schema.expressions import allows_all_of, is_constant
from sqlstable.schema.sameness import (
    check_key,
    foreign_columns,
    foreign_key,
    lowered,
    unique_columns,
    unique_key,
    unpaired,
)
from sqlstable.schema.schema_model import Schema
from sqlstable.schema.schema_objects import (
    CheckRule,
    ForeignKeyRule,
    SchemaTable,
    UniqueRule,
)
from sqlstable.schema.schema_verdicts import ChangeKind, OldCode, Probe, SchemaChange, Verdict
from sqlstable.schema.sql_tokens import lower, meaning, quoted

Terms = set[tuple[str, str]]
"""Columns that are unique together, each with its collation, in lower case."""


def constraint_changes(pair: TablePair) -> Iterator[SchemaChange]:
    """Yield what becomes of a table's kind, keys and constraints."""
    yield from _kind_changes(pair)
    yield from _key_changes(pair)
    yield from _unique_changes(pair)
    yield from _check_changes(pair)
    yield from _foreign_changes(pair)


def duplicates(
    table: str, terms: Sequence[str], columns: Sequence[str], *, where: str | None = None
) -> Probe:
    """Return what finds rows that are equal where a new rule wants them unique.

    Args:
        table: The table.
        terms: SQL of what is to be unique, each with its collation.
        columns: The columns to show.
        where: The condition of a partial index.
    """
    if not terms:
        # Each row has the same there, so that a second one is one too many.
        condition = f"(SELECT count(*) FROM {quoted(table)}) > 1"  # noqa: S608
        return Probe(table, condition, (), "incompatible", "would all be equal")
    listed = ", ".join(terms)
    kept = "" if where is None else f" WHERE {where}"
    shared = f"SELECT {listed} FROM {quoted(table)}{kept} GROUP BY {listed}"  # noqa: S608
    condition = f"({listed}) IN ({shared} HAVING count(*) > 1)"
    if where is not None:
        condition = f"({where}) AND {condition}"
    shown = ", ".join(columns) or "the expression"
    return Probe(table, condition, tuple(columns), "incompatible", f"share their {shown}")


def _change(
    pair: TablePair,
    kind: ChangeKind,
    what: str,
    verdict: Verdict,
    reason: str,
    *,
    old_code: OldCode = "works",
    way_back: str = "",
    probe: Probe | None = None,
) -> SchemaChange:
    return SchemaChange(
        kind,
        "constraint",
        f"{pair.new.name}: {what}",
        verdict,
        reason,
        pair.new.name,
        old_code=old_code,
        way_back=way_back,
        probe=probe,
    )


# -- the kind of table ----------------------------------------------------------------------------


def _kind_changes(pair: TablePair) -> Iterator[SchemaChange]:
    if pair.old.is_without_rowid != pair.new.is_without_rowid:
        yield _rowid_change(pair)
    if pair.old.is_strict != pair.new.is_strict:
        yield _table_change(
            pair,
            "STRICT now: values must be of their column's type"
            if pair.new.is_strict
            else "no longer STRICT: no row changes",
            "refused" if pair.new.is_strict else "works",
            way_back="" if pair.new.is_strict else "it stops at values of another type",
        )
    if pair.old.is_autoincrement != pair.new.is_autoincrement and not pair.new.is_without_rowid:
        yield _autoincrement_change(pair)


def _table_change(
    pair: TablePair, reason: str, old_code: OldCode = "works", *, way_back: str = ""
) -> SchemaChange:
    return SchemaChange(
        "changed",
        "table",
        pair.new.name,
        "both ways",
        reason,
        pair.new.name,
        old_code=old_code,
        way_back=way_back,
    )


def _rowid_change(pair: TablePair) -> SchemaChange:
    if not pair.new.is_without_rowid:
        return _table_change(pair, "it has rowids now; no row changes")
    old, key = pair.old, pair.new.primary_key
    assert key is not None
    may_be_null = [
        column.name
        for column in map(old.column, key.columns)
        if column is not None and not column.is_not_null and column.name != old.rowid_column
    ]
    reason = "WITHOUT ROWID now: its rows lie in the primary key, and rowid is no name any more"
    if not may_be_null:
        return _table_change(pair, reason, "fails")
    names = ", ".join(may_be_null)
    return SchemaChange(
        "changed",
        "table",
        pair.new.name,
        "forward only",
        f"{reason}; NULL is refused in {names}",
        pair.new.name,
        old_code="fails",
        probe=Probe(
            old.name,
            " OR ".join(f"{quoted(name)} IS NULL" for name in may_be_null),
            tuple(may_be_null),
            "incompatible",
            f"have NULL in {names}",
        ),
    )


def _autoincrement_change(pair: TablePair) -> SchemaChange:
    name = pair.old.name
    if pair.new.is_autoincrement:
        return _table_change(pair, "AUTOINCREMENT now: keys of deleted rows are not given again")
    column = quoted(pair.old.rowid_column or "rowid")
    highest = f"(SELECT coalesce(max({column}), 0) FROM {quoted(name)})"  # noqa: S608
    return SchemaChange(
        "changed",
        "table",
        pair.new.name,
        "forward only",
        "AUTOINCREMENT no longer: the highest key that ever was is lost, and keys of deleted rows "
        "may be given again",
        pair.new.name,
        old_code="differs",
        probe=Probe(
            "sqlite_sequence",
            f"name = '{name.replace(chr(39), chr(39) * 2)}' AND seq > {highest}",
            ("name", "seq"),
            "forward only",
            f"have a higher key of {name} in sqlite_sequence than its rows",
        ),
    )


# -- primary key and UNIQUE -----------------------------------------------------------------------


def _key_changes(pair: TablePair) -> Iterator[SchemaChange]:
    old, new = pair.old.primary_key, pair.new.primary_key
    if old is None and new is None:
        return
    if old is None:
        assert new is not None
        yield _new_key(pair, new, "added")
    elif new is None:
        yield _lost_key(pair, old)
    elif _columns(old) != _columns(new):
        is_kept = is_held(_columns(new), [_columns(old)]) and _has_key_values(pair, new)
        yield _wider_key(pair, new) if is_kept else _new_key(pair, new, "changed")
    elif pair.old.rowid_column != pair.new.rowid_column:
        yield _rowid_column_change(pair, new)
    elif unique_key(old) != unique_key(new):
        yield _same_columns(pair, old, new, "PRIMARY KEY")


def _columns(rule: UniqueRule) -> Terms:
    """Return what is unique: the order of columns makes no row equal to another."""
    return set(zip(lowered(rule.columns), lowered(rule.collations), strict=True))


def _has_key_values(pair: TablePair, new: UniqueRule) -> bool:
    """Return whether each row has what a new key asks of it, NULL and integers considered."""
    if pair.new.rowid_column is not None:
        return False
    columns = [pair.old.column(name) for name in new.columns]
    needs_all = pair.new.is_without_rowid
    return all(
        it is not None and (it.is_not_null or not needs_all or it.name == pair.old.rowid_column)
        for it in columns
    )


def _wider_key(pair: TablePair, new: UniqueRule) -> SchemaChange:
    return _change(
        pair,
        "changed",
        f"PRIMARY KEY ({', '.join(new.columns)})",
        "both ways",
        "it refuses less than the old one; no row changes; an upsert ON CONFLICT on that fails",
        old_code="fails",
        way_back="it stops at rows that share the old key",
    )


def _new_key(pair: TablePair, new: UniqueRule, kind: ChangeKind) -> SchemaChange:
    what = f"PRIMARY KEY ({', '.join(new.columns)})"
    terms = [
        f"{quoted(name)} COLLATE {collation}"
        for name, collation in zip(new.columns, new.collations, strict=True)
        if pair.old.column(name) is not None
    ]
    is_filled = len(terms) < len(new.columns)
    columns = [name for name in new.columns if pair.old.column(name) is not None]
    probe = duplicates(pair.old.name, terms, columns)
    conditions = [probe.condition]
    if pair.new.is_without_rowid:
        conditions += [f"{quoted(name)} IS NULL" for name in columns]
    if pair.new.rowid_column in columns:
        conditions.append(f"typeof({quoted(columns[0])}) <> 'integer'")
    if is_filled and pair.new.rowid_column is not None:
        return _change(
            pair,
            kind,
            what,
            "both ways",
            "rows that are there get keys in the order of their rowids",
            old_code="differs",
        )
    return _change(
        pair,
        kind,
        what,
        "incompatible",
        "it is another key, which rows that are there may share or lack",
        old_code="fails",
        way_back="it stops at rows that share the old key",
        probe=Probe(
            pair.old.name,
            " OR ".join(f"({it})" for it in conditions),
            tuple(columns),
            "incompatible",
            f"share or lack their {', '.join(columns) or 'key'}",
        ),
    )


def _lost_key(pair: TablePair, old: UniqueRule) -> SchemaChange:
    return _change(
        pair,
        "removed",
        f"PRIMARY KEY ({', '.join(old.columns)})",
        "both ways",
        "no row changes; an upsert ON CONFLICT on it fails",
        old_code="fails",
        way_back="it stops at rows that share the old key",
    )


def _rowid_column_change(pair: TablePair, new: UniqueRule) -> SchemaChange:
    what = f"PRIMARY KEY ({', '.join(new.columns)})"
    column = pair.new.rowid_column
    if column is None:
        text = "it is no longer the rowid; no row changes, and a row without it gets NULL or fails"
        return _change(pair, "changed", what, "both ways", text, old_code="differs")
    source = pair.old.column(column)
    is_integer = source is not None and source.affinity == "INTEGER" and pair.old.is_strict
    if is_integer and pair.old.is_without_rowid:
        text = "it is the rowid now; no row changes"
        return _change(pair, "changed", what, "both ways", text)
    return _change(
        pair,
        "changed",
        what,
        "forward only" if pair.old.is_without_rowid else "incompatible",
        "it is the rowid now, which is an integer in every row",
        old_code="refused",
        probe=Probe(
            pair.old.name,
            f"typeof({quoted(column)}) <> 'integer'",
            (column,),
            "incompatible",
            f"have no integer in {column}",
        ),
    )


def _same_columns(pair: TablePair, old: UniqueRule, new: UniqueRule, word: str) -> SchemaChange:
    what = f"{word} ({', '.join(new.columns)})"
    if old.conflict != new.conflict:
        text = f"ON CONFLICT {new.conflict}, and was {old.conflict}; no row changes"
        return _change(pair, "changed", what, "both ways", text, old_code="differs")
    if unique_columns(old) == unique_columns(new):
        return _change(pair, "changed", what, "both ways", "it has another name")
    text = "its columns have another order or direction; no row changes"
    return _change(pair, "changed", what, "both ways", text)


def _unique_changes(pair: TablePair) -> Iterator[SchemaChange]:
    removed, added = unpaired(pair.old.uniques, pair.new.uniques, unique_key)
    for new in added:
        old = next(
            (it for it in removed if set(lowered(it.columns)) == set(lowered(new.columns))), None
        )
        if old is not None:
            removed.remove(old)
        if old is not None and _columns(old) == _columns(new):
            yield _same_columns(pair, old, new, "UNIQUE")
        elif old is not None and is_held(_columns(new), [_columns(old)]):
            what, text = f"UNIQUE ({', '.join(new.columns)})", "it refuses less; no row changes"
            back = "it stops at rows that share it"
            yield _change(
                pair, "changed", what, "both ways", text, old_code="differs", way_back=back
            )
        else:
            yield new_unique(pair, new, kind="added" if old is None else "changed")
    for old in removed:
        yield lost_unique(pair, old)


def is_held(wanted: Terms, known: Iterable[Terms]) -> bool:
    """Return whether what is to be unique was so by a rule that was there.

    Rows that differ in some of their columns differ in more of them; and what no collation finds
    equal is not equal byte for byte, which is what BINARY compares.
    """
    names = dict(wanted)
    return any(
        all(names.get(name) in (collation, "binary") for name, collation in rule) for rule in known
    )


def unique_rules(table: SchemaTable) -> Iterator[Terms]:
    """Yield what a table's own constraints hold unique."""
    rules = (*table.uniques, *(() if table.primary_key is None else (table.primary_key,)))
    for rule in rules:
        yield _columns(rule)


def unique_terms(pair: TablePair, *, is_old: bool) -> list[Terms]:
    """Return all that is unique in a table: by constraint, or by an index over columns."""
    table, schema = (pair.old, pair.old_schema) if is_old else (pair.new, pair.new_schema)
    found = list(unique_rules(table))
    for index in schema.indexes_of(table.name):
        terms = [meaning(it) for it in index.terms]
        if index.is_unique and index.where is None and all(it[1:2] == ("collate",) for it in terms):
            found.append({(it[0], it[2]) for it in terms})
    return found


def new_unique(pair: TablePair, new: UniqueRule, *, kind: ChangeKind = "added") -> SchemaChange:
    """Return what a new UNIQUE constraint comes to."""
    what = f"UNIQUE ({', '.join(new.columns)})"
    wanted = _columns(new)
    if is_held(wanted, unique_terms(pair, is_old=True)):
        return _change(pair, kind, what, "both ways", "it held before, by another rule")
    fresh = [it for it in pair.added if lower(it.name) in {name for name, _ in wanted}]
    if any(it.is_stored and not it.is_not_null and it.default is None for it in fresh):
        text = "rows that are there have NULL in it, which is never equal"
        return _change(pair, kind, what, "both ways", text, old_code="works")
    terms = [
        f"{quoted(name)} COLLATE {collation}"
        for name, collation in zip(new.columns, new.collations, strict=True)
        if pair.old.column(name) is not None
    ]
    columns = [name for name in new.columns if pair.old.column(name) is not None]
    probe = duplicates(pair.old.name, terms, columns)
    if fresh and any(not (it.is_stored and is_constant(it.default or "")) for it in fresh):
        # What rows get there is known when they have it.
        probe = Probe(pair.old.name, EACH_ROW, (), "incompatible", "might be equal")
    if not terms:
        return _change(
            pair,
            kind,
            what,
            "incompatible",
            "rows that are there would all have the same in it",
            old_code="refused",
            probe=probe,
        )
    return _change(
        pair,
        kind,
        what,
        "forward only",
        "the migration stops at rows that share it",
        old_code="refused",
        probe=probe,
    )


def lost_unique(pair: TablePair, old: UniqueRule) -> SchemaChange:
    """Return what a removed UNIQUE constraint comes to."""
    what = f"UNIQUE ({', '.join(old.columns)})"
    if _columns(old) in unique_terms(pair, is_old=False):
        return _change(pair, "removed", what, "both ways", "it holds by another rule")
    return _change(
        pair,
        "removed",
        what,
        "both ways",
        "no row changes; an upsert ON CONFLICT on it fails",
        old_code="fails",
        way_back="it stops at rows that share it",
    )


# -- CHECK ----------------------------------------------------------------------------------------


def _check_changes(pair: TablePair) -> Iterator[SchemaChange]:
    removed, added = unpaired(pair.old.checks, pair.new.checks, check_key)
    for new in added:
        old = next((it for it in removed if _is_same(it, new)), None)
        if old is not None:
            removed.remove(old)
            yield _change(pair, "changed", _check(new), "both ways", "it has another name")
            continue
        old = next((it for it in removed if _is_wider(pair, new, it)), None)
        if old is not None:
            removed.remove(old)
            text = f"it accepts more than {_check(old)} did; no row changes"
            back = "it stops at rows that break the old rule"
            yield _change(pair, "changed", _check(new), "both ways", text, way_back=back)
        else:
            yield _new_check(pair, new)
    for old in removed:
        text, back = "no row changes", "it stops at rows that break it"
        yield _change(pair, "removed", _check(old), "both ways", text, way_back=back)
    kept = [it for it in pair.new.checks if it not in added]
    yield from (_new_check(pair, it) for it in kept if _is_compared_otherwise(pair, it))


def _is_same(old: CheckRule, new: CheckRule) -> bool:
    return meaning(old.expression) == meaning(new.expression)


def _is_wider(pair: TablePair, new: CheckRule, old: CheckRule) -> bool:
    texts = {lower(it.name) for it in pair.new.columns if it.affinity == "TEXT"}
    is_kept = not _is_compared_otherwise(pair, new)
    return is_kept and allows_all_of(new.expression, old.expression, texts=texts)


def _is_compared_otherwise(pair: TablePair, rule: CheckRule) -> bool:
    """Return whether a column that a CHECK names has another collation, affinity or expression."""
    changed = {
        lower(new.name)
        for old, new in pair.common
        if (lower(old.collation), old.affinity, meaning(old.expression))
        != (lower(new.collation), new.affinity, meaning(new.expression))
    }
    return any(lower(it.name) in changed for it in mentioned(pair, rule.expression))


def _check(rule: CheckRule) -> str:
    return f"CHECK ({' '.join(rule.expression.split())})"


def _new_check(pair: TablePair, new: CheckRule) -> SchemaChange:
    names = {lower(it.name) for it in mentioned(pair, new.expression)}
    fresh = added_names(pair)
    if names and names <= fresh:
        is_fulfilled = _holds_for_defaults(pair, new)
        if is_fulfilled:
            text = "rows that are there fulfil it"
            return _change(pair, "added", _check(new), "both ways", text)
        if is_fulfilled is False:
            return _change(
                pair,
                "added",
                _check(new),
                "incompatible",
                "the default breaks it, so that each row that is there would",
                old_code="fails",
                probe=Probe(pair.old.name, EACH_ROW, (), "incompatible", "would break it"),
            )
    condition = f"NOT ({over_old(pair, new.expression)})"
    shown = tuple(it.name for it in mentioned(pair, new.expression) if lower(it.name) not in fresh)
    return _change(
        pair,
        "added",
        _check(new),
        "forward only",
        "the migration stops at rows that break it",
        old_code="refused",
        probe=Probe(pair.old.name, condition, shown, "incompatible", f"break {_check(new)}"),
    )


def _holds_for_defaults(pair: TablePair, rule: CheckRule) -> bool | None:
    """Return whether rows that have nothing but defaults fulfil a rule; None where that varies."""
    fresh = [it for it in pair.added if lower(it.name) in added_names(pair)]
    columns = [it for it in fresh if it in mentioned(pair, rule.expression)]
    if any(not it.is_stored or not is_constant(it.default or "NULL") for it in columns):
        return None
    made = ", ".join(
        f"{quoted(it.name)} {it.type} DEFAULT ({it.default or 'NULL'}) COLLATE {it.collation}"
        for it in columns
    )
    name = quoted(pair.new.name)
    with scratch(Schema.from_sql(f"CREATE TABLE {name} ({made})")) as connection:
        connection.execute(f"INSERT INTO {name} DEFAULT VALUES")
        sql = f"SELECT ({rule.expression}) IS NOT 0 FROM {name}"  # noqa: S608
        try:
            rows = connection.execute(sql).fetchall()
        except apsw.Error:
            return None
    return bool(rows[0][0])


# -- FOREIGN KEY ----------------------------------------------------------------------------------


def _foreign_changes(pair: TablePair) -> Iterator[SchemaChange]:
    old_schema, new_schema = pair.old_schema, pair.new_schema
    new_keys = {id(it): foreign_key(it, new_schema) for it in pair.new.foreign_keys}
    old_keys = {id(it): foreign_key(it, old_schema) for it in pair.old.foreign_keys}
    all_keys = {**new_keys, **old_keys}
    removed, added = unpaired(
        pair.old.foreign_keys, pair.new.foreign_keys, lambda it: all_keys[id(it)]
    )
    for new in added:
        old = next(
            (
                it
                for it in removed
                if foreign_columns(it, old_schema) == foreign_columns(new, new_schema)
            ),
            None,
        )
        if old is None:
            yield _new_reference(pair, new)
        else:
            removed.remove(old)
            yield _other_actions(pair, old, new)
    for old in removed:
        has_action = {old.on_delete, old.on_update} & {"CASCADE", "SET NULL", "SET DEFAULT"}
        yield _change(
            pair,
            "removed",
            _reference(old),
            "both ways",
            "no row changes",
            old_code="differs" if has_action else "works",
            way_back="it stops at rows that reference nothing",
        )


def _reference(rule: ForeignKeyRule) -> str:
    parents = f" ({', '.join(rule.parent_columns)})" if rule.parent_columns else ""
    return f"FOREIGN KEY ({', '.join(rule.columns)}) REFERENCES {rule.parent}{parents}"


def _other_actions(pair: TablePair, old: ForeignKeyRule, new: ForeignKeyRule) -> SchemaChange:
    texts = [
        f"{word} {after}, and was {before}"
        for word, before, after in (
            ("ON DELETE", old.on_delete, new.on_delete),
            ("ON UPDATE", old.on_update, new.on_update),
            ("deferred", _yes(old.is_deferred), _yes(new.is_deferred)),
        )
        if before != after
    ]
    reason = f"{'; '.join(texts)}; no row changes" if texts else "it has another name"
    return _change(
        pair,
        "changed",
        _reference(new),
        "both ways",
        reason,
        old_code="differs" if texts else "works",
    )


def _yes(is_true: bool) -> str:  # noqa: FBT001  private
    return "yes" if is_true else "no"


def _new_reference(pair: TablePair, new: ForeignKeyRule) -> SchemaChange:
    fresh = [it for it in pair.added if lower(it.name) in lowered(new.columns)]
    if not has_parent_key(pair, new):
        return SchemaChange(
            "added",
            "constraint",
            f"{pair.new.name}: {_reference(new)}",
            "incompatible",
            f"SQLite calls it a mismatch: what it references is no key of {new.parent}, and no "
            "UNIQUE rule of it",
            pair.new.name,
            old_code="fails",
            needs_value=True,
        )
    if any(it.is_stored and it.default is None for it in fresh):
        text = "rows that are there have NULL in it, which references nothing"
        return _change(pair, "added", _reference(new), "both ways", text)
    return _change(
        pair,
        "added",
        _reference(new),
        "forward only",
        "the migration stops at rows that reference nothing",
        old_code="refused",
        probe=Probe(
            pair.old.name,
            _orphan_condition(pair, new),
            tuple(it for it in new.columns if pair.old.column(it) is not None),
            "incompatible",
            f"reference no row of {new.parent}",
        ),
    )


def has_parent_key(pair: TablePair, new: ForeignKeyRule) -> bool:
    """Return whether what is referenced can be; a table that is not there may come later."""
    parent = pair.new_schema.table(new.parent)
    if parent is None:
        return True
    columns, _, parents = foreign_columns(new, pair.new_schema)
    assert isinstance(columns, tuple)
    assert isinstance(parents, tuple)
    known = [parent.column(it) for it in parents]
    wanted = {(lower(it.name), lower(it.collation)) for it in known if it is not None}
    inside = TablePair(parent, parent, pair.new_schema, pair.new_schema)
    is_held = wanted in unique_terms(inside, is_old=False)
    return is_held and len(columns) == len(parents) == len(wanted)


def _orphan_condition(pair: TablePair, new: ForeignKeyRule) -> str:
    """Return the condition of rows whose parent is not there."""
    columns, parent_name, parents = foreign_columns(new, pair.new_schema)
    assert isinstance(columns, tuple)
    assert isinstance(parents, tuple)
    values = [_value(pair, name) for name in columns]
    is_there = " AND ".join(f"{value} IS NOT NULL" for value in values if value is not None)
    parent = pair.old_schema.table(str(parent_name))
    is_known = parent is not None and all(parent.column(it) is not None for it in parents)
    if parent is None or not is_known or None in values or len(columns) != len(parents):
        # The parent is empty, or what references it is not known yet.
        return is_there or EACH_ROW
    joined = " AND ".join(
        f"parent.{quoted(target)} = {value}" for value, target in zip(values, parents, strict=True)
    )
    return (
        f"{is_there} AND NOT EXISTS (SELECT 1 FROM {quoted(parent.name)} AS parent "  # noqa: S608
        f"WHERE {joined})"
    )


def _value(pair: TablePair, name: str) -> str | None:
    """Return SQL of what rows will have in a column; None where that is not known."""
    if pair.old.column(name) is not None:
        return f"{quoted(pair.old.name)}.{quoted(name)}"
    column = pair.new.column(name)
    is_known = column is not None and column.is_stored and is_constant(column.default or "")
    return f"({column.default})" if is_known and column is not None else None
