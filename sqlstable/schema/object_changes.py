"""What becomes of whole tables, of indexes, views and triggers."""

from collections.abc import Collection, Iterator
from itertools import chain

from sqlstable.schema.column_changes import EACH_ROW, TablePair, added_names, column_changes
from sqlstable.schema.constraint_changes import (
    constraint_changes,
    duplicates,
    is_held,
    unique_terms,
)
from sqlstable.schema.expressions import can_fail, is_constant, mentions
from sqlstable.schema.sameness import index_content, index_key, table_key, text_key
from sqlstable.schema.schema_model import Schema
from sqlstable.schema.schema_objects import (
    SchemaColumn,
    SchemaIndex,
    SchemaTable,
    SchemaTrigger,
    SchemaView,
)
from sqlstable.schema.schema_verdicts import Probe, SchemaChange
from sqlstable.schema.sql_tokens import lower, meaning
from sqlstable.schema.virtual_changes import virtual_changes
from sqlstable.spelling import spelled


def all_changes(
    old: Schema, new: Schema, *, dropped: Collection[str] = ()
) -> Iterator[SchemaChange]:
    """Yield all that is another thing in the new schema, renames done.

    Args:
        old: The schema as it is, under its new names.
        new: The schema that it is to be.
        dropped: Tables and ``table.column`` that are known to be dropped, and not renamed.
    """
    known = {lower(name) for name in dropped}
    yield from _table_changes(old, new, known)
    yield from _index_changes(old, new)
    yield from _view_changes(old, new)
    yield from _trigger_changes(old, new)


# -- tables ---------------------------------------------------------------------------------------


def _table_changes(old: Schema, new: Schema, known: Collection[str]) -> Iterator[SchemaChange]:
    removed = [it for it in old.tables if new.table(it.name) is None]
    added = [it for it in new.tables if old.table(it.name) is None]
    for table in removed:
        twin = next((it for it in added if _are_alike(table, it)), None)
        if twin is not None and lower(table.name) not in known:
            yield _unclear_table(table, twin)
        else:
            yield _removed_table(table)
    for table in added:
        yield SchemaChange(
            "added",
            "table",
            table.name,
            "both ways",
            "no row of the old schema is touched",
            table.name,
            way_back="what was written to it is lost",
        )
    for table in new.tables:
        before = old.table(table.name)
        if before is not None and table_key(before, old) != table_key(table, new):
            found = list(_pair_changes(TablePair(before, table, old, new), known))
            yield from found or [_other(table)]


def _other(table: SchemaTable) -> SchemaChange:
    """Return a change that no rule has a word for."""
    reason = "its definition is another one"
    return SchemaChange(
        "changed", "table", table.name, "forward only", reason, table.name, old_code="differs"
    )


def _are_alike(old: SchemaTable, new: SchemaTable) -> bool:
    """Return whether a new table could be the old one under another name."""
    sides = [[(lower(it.name), it.affinity) for it in table.columns] for table in (old, new)]
    return sides[0] == sides[1] and old.module == new.module


def _naming(name: str, twin: str) -> str:
    """Name the two ways of saying what becomes of something."""
    return spelled(
        f"renames={{{name!r}: {twin!r}}} or dropped=[{name!r}]",
        f"--rename {name}={twin} or --drop {name}",
    )


def _unclear_table(table: SchemaTable, twin: SchemaTable) -> SchemaChange:
    return SchemaChange(
        "removed",
        "table",
        table.name,
        "incompatible",
        f"it may be called {twin.name} now, or its rows may be lost: say which, with "
        f"{_naming(table.name, twin.name)}",
        table.name,
        old_code="fails",
        needs_value=True,
    )


def _removed_table(table: SchemaTable) -> SchemaChange:
    is_derived = table.module == "fts5" and any(
        meaning(it)[:2] == ("content", "=") and meaning(it)[2:] != ("''",) for it in table.arguments
    )
    if is_derived:
        return SchemaChange(
            "removed",
            "table",
            table.name,
            "both ways",
            "what it indexes lies in another table, and is indexed again on the way back",
            table.name,
            old_code="fails",
        )
    return SchemaChange(
        "removed",
        "table",
        table.name,
        "forward only",
        "its rows are lost",
        table.name,
        old_code="fails",
        probe=Probe(table.name, EACH_ROW, (), "forward only", "would be lost"),
    )


def _pair_changes(pair: TablePair, known: Collection[str]) -> Iterator[SchemaChange]:
    old, new = pair.old, pair.new
    if old.is_virtual and new.is_virtual:
        yield from virtual_changes(old, new)
    elif old.is_virtual != new.is_virtual:
        yield SchemaChange(
            "changed",
            "table",
            new.name,
            "incompatible",
            "a virtual table and one that is not have nothing in common",
            new.name,
            old_code="fails",
            needs_value=True,
        )
    else:
        unclear = dict(_unclear_columns(pair, known))
        for change in column_changes(pair):
            yield unclear.get(change.name, change) if change.kind == "removed" else change
        yield from constraint_changes(pair)


def _unclear_columns(pair: TablePair, known: Collection[str]) -> Iterator[tuple[str, SchemaChange]]:
    """Yield columns that may have been renamed: one is gone, and its like stands in its place."""
    for old in pair.removed:
        name = f"{pair.old.name}.{old.name}"
        twin = next((it for it in pair.added if _is_like(pair, old, it)), None)
        if twin is None or lower(name) in known:
            continue
        yield (
            name,
            SchemaChange(
                "removed",
                "column",
                name,
                "incompatible",
                f"it may be called {twin.name} now, or its values may be lost: say which, with "
                f"{_naming(name, twin.name)}",
                pair.old.name,
                old_code="fails",
                needs_value=True,
            ),
        )


def _is_like(pair: TablePair, old: SchemaColumn, new: SchemaColumn) -> bool:
    if not old.is_stored or not new.is_stored:
        return False
    is_same = (meaning(old.type), old.is_not_null, old.key_position) == (
        meaning(new.type),
        new.is_not_null,
        new.key_position,
    )
    return is_same and _place(pair, pair.old, old) == _place(pair, pair.new, new)


def _place(pair: TablePair, table: SchemaTable, column: SchemaColumn) -> tuple[str, int]:
    """Return the nearest column in front that both tables have, and how far it is."""
    kept, distance = "", 0
    for it in table.columns:
        if it is column:
            break
        is_common = pair.old.column(it.name) is not None and pair.new.column(it.name) is not None
        kept, distance = (lower(it.name), 0) if is_common else (kept, distance + 1)
    return kept, distance


# -- indexes --------------------------------------------------------------------------------------


def _index_changes(old: Schema, new: Schema) -> Iterator[SchemaChange]:
    before = {lower(it.name): it for it in old.indexes}
    after = {lower(it.name): it for it in new.indexes}
    gone = [it for it in old.indexes if lower(it.name) not in after]
    for index in new.indexes:
        twin = before.get(lower(index.name))
        if twin is None:
            same = next((it for it in gone if index_content(it) == index_content(index)), None)
            if same is not None:
                gone.remove(same)
                reason = f"it was called {same.name}, and is made anew"
                yield SchemaChange("renamed", "index", index.name, "both ways", reason, index.table)
            else:
                yield _new_index(old, new, index)
        elif index_key(twin) != index_key(index):
            yield _changed_index(old, new, twin, index)
    for index in gone:
        if new.table(index.table) is not None:
            yield _lost_index(old, new, index)


def _pair_of(old: Schema, new: Schema, table: str) -> TablePair | None:
    before, after = old.table(table), new.table(table)
    if before is None or after is None or before.is_virtual or after.is_virtual:
        return None
    return TablePair(before, after, old, new)


def _unique_columns(index: SchemaIndex) -> set[tuple[str, str]] | None:
    terms = [meaning(it) for it in index.terms]
    if all(it[1:2] == ("collate",) for it in terms):
        return {(it[0], it[2]) for it in terms}
    return None


def _new_index(
    old: Schema, new: Schema, index: SchemaIndex, *, twin: SchemaIndex | None = None
) -> SchemaChange:
    pair = _pair_of(old, new, index.table)
    kind, said = ("added", "") if twin is None else ("changed", "it is another one now; ")
    wanted = _unique_columns(index)
    is_old_unique = (
        pair is not None and wanted is not None and is_held(wanted, unique_terms(pair, is_old=True))
    )
    if twin is not None and twin.is_unique and twin.where is None and wanted is not None:
        known = _unique_columns(twin)
        is_old_unique |= known is not None and is_held(wanted, [known])
    if index.is_unique and pair is not None and not is_old_unique:
        return SchemaChange(
            kind,  # type: ignore[arg-type]  # one of the words
            "index",
            index.name,
            "forward only",
            f"{said}it is UNIQUE: the migration stops at rows that share it",
            index.table,
            old_code="refused",
            probe=_index_probe(pair, index),
        )
    expressions = [it for it in index.terms if meaning(it)[1:2] != ("collate",)]
    if pair is not None and can_fail(*expressions, index.where):
        return SchemaChange(
            kind,  # type: ignore[arg-type]  # one of the words
            "index",
            index.name,
            "forward only",
            f"{said}what it computes may fail for some rows, where the migration stops",
            index.table,
            old_code="refused",
            probe=_failing_probe(pair, expressions, index.where),
        )
    return SchemaChange(
        kind,  # type: ignore[arg-type]  # one of the words
        "index",
        index.name,
        "both ways",
        f"{said}it is made from the rows",
        index.table,
    )


def _index_probe(pair: TablePair, index: SchemaIndex) -> Probe:
    names = {name for term in index.terms for name in mentions(term)} | mentions(index.where)
    fresh = [it for it in pair.added if lower(it.name) in names]
    if not fresh:
        columns = [it.name for it in pair.old.columns if lower(it.name) in names]
        terms = [_without_direction(it) for it in index.terms]
        return duplicates(pair.old.name, terms, columns, where=index.where)
    is_null = any(it.is_stored and it.default is None for it in fresh)
    if is_null and index.where is None and _unique_columns(index) is not None:
        return Probe(pair.old.name, "0", (), "incompatible", "")
    known = all(it.is_stored and is_constant(it.default or "") for it in fresh)
    if known and index.where is None and _unique_columns(index) is not None:
        kept = [
            _without_direction(it) for it in index.terms if meaning(it)[0] not in added_names(pair)
        ]
        return duplicates(pair.old.name, kept, [])
    return Probe(pair.old.name, EACH_ROW, (), "incompatible", "might be equal")


def _without_direction(term: str) -> str:
    words = term.rsplit(maxsplit=1)
    return words[0] if len(words) == 2 and words[1].lower() in ("asc", "desc") else term


def _failing_probe(pair: TablePair, expressions: list[str], where: str | None) -> Probe:
    # Never true, but not known to be so before each row has been asked.
    terms = " OR ".join(f"typeof({_without_direction(it)}) = ''" for it in expressions)
    kept = f"({where})" if where else "1"
    condition = f"{kept} AND ({terms})" if terms else f"typeof{kept} = ''"
    return Probe(pair.old.name, condition, (), "incompatible", "make it fail")


def _changed_index(
    old: Schema, new: Schema, before: SchemaIndex, after: SchemaIndex
) -> SchemaChange:
    if index_content(before) == index_content(after):
        return SchemaChange(
            "renamed", "index", after.name, "both ways", "its name is spelt otherwise", after.table
        )
    change = _new_index(old, new, after, twin=before)
    pair = _pair_of(old, new, after.table)
    wanted = _unique_columns(before)
    is_lost = before.is_unique and pair is not None and wanted is not None
    if is_lost and pair is not None and wanted not in unique_terms(pair, is_old=False):
        return SchemaChange(
            change.kind,
            "index",
            change.name,
            change.verdict,
            f"{change.reason}; an upsert ON CONFLICT on what was unique fails",
            change.table,
            old_code="fails",
            way_back="it stops at rows that share what was unique",
            probe=change.probe,
        )
    return change


def _lost_index(old: Schema, new: Schema, index: SchemaIndex) -> SchemaChange:
    pair = _pair_of(old, new, index.table)
    wanted = _unique_columns(index)
    is_kept = pair is not None and wanted in unique_terms(pair, is_old=False)
    if not index.is_unique or is_kept:
        reason = "no row changes" if not is_kept else "it holds by another rule; no row changes"
        return SchemaChange("removed", "index", index.name, "both ways", reason, index.table)
    return SchemaChange(
        "removed",
        "index",
        index.name,
        "both ways",
        "it was UNIQUE; no row changes; an upsert ON CONFLICT on it fails",
        index.table,
        old_code="fails",
        way_back="it stops at rows that share it",
    )


# -- views and triggers ---------------------------------------------------------------------------


def _view_changes(old: Schema, new: Schema) -> Iterator[SchemaChange]:
    before = {lower(it.name): it for it in old.views}
    after = {lower(it.name): it for it in new.views}
    for view in new.views:
        twin = before.get(lower(view.name))
        if twin is None:
            reason = "it shows rows and has none"
            yield SchemaChange("added", "view", view.name, "both ways", reason)
        elif text_key(twin) != text_key(view):
            yield _changed_view(twin, view)
    for view in old.views:
        if lower(view.name) not in after:
            reason = "it showed rows and had none"
            yield SchemaChange("removed", "view", view.name, "both ways", reason, old_code="fails")


def _changed_view(old: SchemaView, new: SchemaView) -> SchemaChange:
    gone = {lower(it) for it in old.columns} - {lower(it) for it in new.columns}
    names = [it for it in old.columns if lower(it) in gone]
    if names:
        reason = f"it shows {', '.join(names)} no longer"
        return SchemaChange("changed", "view", new.name, "both ways", reason, old_code="fails")
    reason = "it may show other rows; it has none of its own"
    return SchemaChange("changed", "view", new.name, "both ways", reason, old_code="differs")


def _trigger_changes(old: Schema, new: Schema) -> Iterator[SchemaChange]:
    before = {lower(it.name): it for it in old.triggers}
    after = {lower(it.name): it for it in new.triggers}
    for trigger in new.triggers:
        twin = before.get(lower(trigger.name))
        if twin is None:
            yield _trigger(trigger, "added", "it acts from now on; no row changes")
        elif text_key(twin) != text_key(trigger):
            yield _trigger(trigger, "changed", "it acts otherwise from now on; no row changes")
    gone = [it for it in old.triggers if lower(it.name) not in after]
    for trigger in gone:
        if _has_place(new, trigger):
            yield _trigger(trigger, "removed", "it acts no longer; no row changes")


def _trigger(it: SchemaTrigger, kind: str, reason: str) -> SchemaChange:
    return SchemaChange(
        kind,  # type: ignore[arg-type]  # one of the words
        "trigger",
        it.name,
        "both ways",
        reason,
        it.table,
        old_code="differs",
    )


def _has_place(schema: Schema, trigger: SchemaTrigger) -> bool:
    names = chain((it.name for it in schema.tables), (it.name for it in schema.views))
    return lower(trigger.table) in {lower(name) for name in names}
