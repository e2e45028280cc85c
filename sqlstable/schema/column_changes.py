"""What becomes of the columns of one table."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlstable.schema.conversions import always_stored, lost, refused
from sqlstable.schema.expressions import can_fail, is_constant, is_true, mentions
from sqlstable.schema.sameness import lowered
from sqlstable.schema.schema_model import Schema
from sqlstable.schema.schema_objects import SchemaColumn, SchemaTable
from sqlstable.schema.schema_verdicts import ChangeKind, OldCode, Probe, SchemaChange, Verdict
from sqlstable.schema.sql_tokens import lower, meaning, quoted, tokens_of

EACH_ROW: Final = "1"
"""The condition that each row fulfils."""


@dataclass(frozen=True, slots=True)
class TablePair:
    """A table before and after, under its new names."""

    old: SchemaTable
    new: SchemaTable
    old_schema: Schema
    new_schema: Schema

    @property
    def common(self) -> tuple[tuple[SchemaColumn, SchemaColumn], ...]:
        """Columns that both have, in the new order."""
        pairs = ((self.old.column(it.name), it) for it in self.new.columns)
        return tuple((old, new) for old, new in pairs if old is not None)

    @property
    def removed(self) -> tuple[SchemaColumn, ...]:
        """Columns that the old one alone has."""
        return tuple(it for it in self.old.columns if self.new.column(it.name) is None)

    @property
    def added(self) -> tuple[SchemaColumn, ...]:
        """Columns that the new one alone has."""
        return tuple(it for it in self.new.columns if self.old.column(it.name) is None)

    def name_of(self, column: SchemaColumn) -> str:
        """Return how a column is called in what is printed."""
        return f"{self.new.name}.{column.name}"


def column_changes(pair: TablePair) -> Iterator[SchemaChange]:
    """Yield what becomes of each column, keys and constraints left out."""
    for column in pair.removed:
        yield _removed(pair, column)
    for column in pair.added:
        yield _added(pair, column)
    for old, new in pair.common:
        yield from _changed(pair, old, new)
    ranks = [[lower(it.name) for it in table.columns] for table in (pair.old, pair.new)]
    kept = [[name for name in one if name in ranks[0] and name in ranks[1]] for one in ranks]
    is_inserted = kept[0] == kept[1] and ranks[1][: len(kept[1])] != kept[1]
    if kept[0] != kept[1] or is_inserted:
        text = "a column is added before others" if is_inserted else "columns change places"
        yield SchemaChange(
            "changed",
            "table",
            pair.new.name,
            "both ways",
            f"{text}, for which the table is made anew; SELECT * shows it",
            pair.new.name,
        )


def drop_probe(table: SchemaTable, column: SchemaColumn) -> Probe:
    """Return what finds values that nothing could give back."""
    name = quoted(column.name)
    if column.default is not None and is_constant(column.default):
        condition = (
            f"{name} IS NOT ({column.default}) OR typeof({name}) <> typeof(({column.default}))"
        )
    else:
        condition = f"{name} IS NOT NULL"
    return Probe(
        table.name, condition, (column.name,), "forward only", f"have a value in {column.name}"
    )


def _removed(pair: TablePair, column: SchemaColumn) -> SchemaChange:
    name = f"{pair.old.name}.{column.name}"
    if not column.is_stored:
        reason = "its values are computed, and computed again on the way back"
        return SchemaChange(
            "removed", "column", name, "both ways", reason, pair.old.name, old_code="fails"
        )
    return SchemaChange(
        "removed",
        "column",
        name,
        "forward only",
        "its values are lost",
        pair.old.name,
        old_code="fails",
        probe=drop_probe(pair.old, column),
        needs_value=False,
    )


def _added(pair: TablePair, column: SchemaColumn) -> SchemaChange:
    name, table = pair.name_of(column), pair.new.name
    way_back = "what was written to it is lost"
    if not column.is_stored:
        return _computed(pair, column, "added", "its values are computed")
    has_default = column.default is not None and meaning(column.default) != ("null",)
    if column.is_not_null and not has_default:
        return SchemaChange(
            "added",
            "column",
            name,
            "incompatible",
            "it is NOT NULL and has no default, so that rows that are there have no value for it",
            table,
            old_code="fails",
            way_back=way_back,
            probe=Probe(pair.old.name, EACH_ROW, (), "incompatible", "would have no value"),
            needs_value=True,
        )
    if has_default and pair.new.is_strict:
        stopped = _refused_default(pair, column)
        if stopped is not None:
            return stopped
    if not has_default:
        reason = "rows that are there have NULL in it"
    elif is_constant(column.default or ""):
        reason = f"rows that are there have {column.default} in it"
    else:
        reason = f"rows that are there get what {column.default} gives when they are migrated"
    return SchemaChange("added", "column", name, "both ways", reason, table, way_back=way_back)


def _refused_default(pair: TablePair, column: SchemaColumn) -> SchemaChange | None:
    """Return what comes of a default that a STRICT table may refuse; None where it does not."""
    value = f"({column.default})"
    condition = refused(value, column.affinity)
    is_known = is_constant(column.default or "")
    if condition is None or (is_known and not is_true(condition)):
        return None
    verdict: Verdict = "incompatible" if is_known else "forward only"
    return SchemaChange(
        "added",
        "column",
        pair.name_of(column),
        verdict,
        f"a STRICT table refuses its default {column.default} where that is no {column.type}",
        pair.new.name,
        old_code="fails",
        way_back="what was written to it is lost",
        probe=Probe(
            pair.old.name, condition, (), "incompatible", f"would have no {column.type} in it"
        ),
    )


def _changed(pair: TablePair, old: SchemaColumn, new: SchemaColumn) -> Iterator[SchemaChange]:
    if old.generated != new.generated or meaning(old.expression) != meaning(new.expression):
        yield _generated(pair, old, new)
    elif old.is_stored:
        yield from _type_changes(pair, old, new)
    elif _is_computed_otherwise(pair, old, new):
        text = f"its type is {_type(new)}, and was {_type(old)}"
        if meaning(old.type) == meaning(new.type):
            text = "other values are refused in it"
        yield _computed(pair, new, "changed", text, "differs")
    if old.is_not_null != new.is_not_null and new.is_stored and not _by_key(pair, new):
        yield _nullability(pair, old, new)
    if old.not_null_conflict != new.not_null_conflict and old.is_not_null and new.is_not_null:
        yield _kept(pair, new, "another conflict clause belongs to NOT NULL", "differs")
    if meaning(old.default) != meaning(new.default):
        text = f"its default is {_default(new)}, and was {_default(old)}; no row changes"
        yield _kept(pair, new, text, "differs")
    if lower(old.collation) != lower(new.collation):
        text = (
            f"it is compared and sorted by {new.collation}, no longer by {old.collation}; no row "
            "changes"
        )
        yield _kept(pair, new, text, "differs")


def _is_computed_otherwise(pair: TablePair, old: SchemaColumn, new: SchemaColumn) -> bool:
    is_stricter = pair.new.is_strict and not pair.old.is_strict
    is_other = (meaning(old.type), old.is_not_null) != (meaning(new.type), new.is_not_null)
    return is_other or is_stricter


def _by_key(pair: TablePair, column: SchemaColumn) -> bool:
    """Return whether a column is NOT NULL only because a table WITHOUT ROWID has it in its key."""
    return pair.old.is_without_rowid != pair.new.is_without_rowid and column.key_position > 0


def _type(column: SchemaColumn) -> str:
    return column.type or "none"


def _default(column: SchemaColumn) -> str:
    return "NULL" if column.default is None else column.default


def _kept(pair: TablePair, column: SchemaColumn, reason: str, old_code: OldCode) -> SchemaChange:
    return SchemaChange(
        "changed",
        "column",
        pair.name_of(column),
        "both ways",
        reason,
        pair.new.name,
        old_code=old_code,
    )


def _generated(pair: TablePair, old: SchemaColumn, new: SchemaColumn) -> SchemaChange:
    if old.is_stored:
        name = quoted(old.name)
        return SchemaChange(
            "changed",
            "column",
            pair.name_of(new),
            "forward only",
            f"its values are computed as {new.expression}, and what was in it is lost",
            pair.new.name,
            old_code="fails",
            probe=Probe(
                pair.old.name,
                f"{name} IS NOT ({new.expression})",
                (old.name,),
                "forward only",
                f"have another value in {old.name}",
            ),
        )
    if new.is_stored:
        return _kept(pair, new, "its values are given and no longer computed", "differs")
    if meaning(old.expression) == meaning(new.expression):
        text = f"its values are {new.generated}, and were {old.generated}"
        return _computed(pair, new, "changed", text)
    text = f"its values are computed as {new.expression}, no longer {old.expression}"
    return _computed(pair, new, "changed", text, "differs")


def _computed(
    pair: TablePair,
    column: SchemaColumn,
    kind: ChangeKind,
    reason: str,
    old_code: OldCode = "works",
) -> SchemaChange:
    """Return what a computed column comes to: its values have to be ones that it may have."""
    value = f"({over_old(pair, column.expression or 'NULL')})"
    conditions = []
    if column.is_not_null:
        conditions.append(f"{value} IS NULL")
    condition = refused(value, column.affinity) if pair.new.is_strict else None
    if condition is not None:
        conditions.append(condition)
    if column.generated == "stored" and can_fail(column.expression):
        # Never true, but not known to be so before each row has been asked.
        conditions.append(f"typeof({value}) = ''")
    if not conditions:
        return SchemaChange(
            kind, "column", pair.name_of(column), "both ways", reason, pair.new.name, old_code
        )
    return SchemaChange(
        kind,
        "column",
        pair.name_of(column),
        "forward only",
        f"{reason}; the migration stops at rows where it may not have the value",
        pair.new.name,
        "refused",
        probe=Probe(
            pair.old.name,
            " OR ".join(f"({it})" for it in conditions),
            (),
            "incompatible",
            f"would have a value in {column.name} that it may not have",
        ),
    )


def _type_changes(pair: TablePair, old: SchemaColumn, new: SchemaColumn) -> Iterator[SchemaChange]:
    is_other_text = meaning(old.type) != meaning(new.type)
    if pair.new.is_strict and old.name != pair.old.rowid_column:
        condition = refused(quoted(old.name), new.affinity)
        is_taken = pair.old.is_strict and always_stored(old.affinity, new.affinity)
        if condition is not None and not is_taken and (is_other_text or not pair.old.is_strict):
            yield _strict(pair, old, new, condition, is_other_text=is_other_text)
            return
    is_source_strict = pair.old.is_strict
    condition = lost(
        quoted(old.name), old.affinity, new.affinity, is_source_strict=is_source_strict
    )
    said = f"its type is {_type(new)}, and was {_type(old)}"
    if condition is None:
        if is_other_text:
            is_same = old.affinity == new.affinity
            text = "SQLite stores the same values" if is_same else "each value comes back"
            yield _kept(pair, new, f"{said}; {text}", "works" if is_same else "differs")
        return
    if not is_other_text:
        said = "values are converted in a table that is no longer STRICT"
    yield SchemaChange(
        "changed",
        "column",
        pair.name_of(new),
        "forward only",
        f"{said}; some values are converted to {new.affinity} and do not come back",
        pair.new.name,
        old_code="differs",
        probe=Probe(
            pair.old.name,
            condition,
            (old.name,),
            "forward only",
            f"have a value in {old.name} that would not come back",
        ),
    )


def _strict(
    pair: TablePair, old: SchemaColumn, new: SchemaColumn, condition: str, *, is_other_text: bool
) -> SchemaChange:
    changed = f"its type is {_type(new)}, and was {_type(old)}; " if is_other_text else ""
    back = lost(quoted(old.name), old.affinity, new.affinity, is_source_strict=pair.old.is_strict)
    verdict: Verdict = "incompatible" if is_other_text and pair.old.is_strict else "forward only"
    return SchemaChange(
        "changed",
        "column",
        pair.name_of(new),
        verdict,
        f"{changed}a STRICT table refuses values that are no {new.type}",
        pair.new.name,
        old_code="refused",
        probe=Probe(
            pair.old.name,
            condition if back is None else f"({condition}) OR ({back})",
            (old.name,),
            "incompatible",
            f"have a value in {old.name} that is no {new.type}",
        ),
    )


def _nullability(pair: TablePair, old: SchemaColumn, new: SchemaColumn) -> SchemaChange:
    name = pair.name_of(new)
    if old.is_not_null:
        return SchemaChange(
            "changed",
            "column",
            name,
            "both ways",
            "NULL is allowed in it; no row changes",
            pair.new.name,
            way_back="it stops at rows that have NULL in it",
        )
    has_default = new.default is not None and meaning(new.default) != ("null",)
    filled = f"rows that have NULL in it get {new.default}" if has_default else ""
    return SchemaChange(
        "changed",
        "column",
        name,
        "forward only",
        f"it is NOT NULL now: {filled or 'the migration stops at rows that have NULL in it'}",
        pair.new.name,
        old_code="refused",
        probe=Probe(
            pair.old.name,
            f"{quoted(old.name)} IS NULL",
            (),
            "forward only" if has_default else "incompatible",
            f"have NULL in {old.name}",
        ),
    )


def mentioned(pair: TablePair, expression: str) -> tuple[SchemaColumn, ...]:
    """Return the columns of the new table that an expression names."""
    names = mentions(expression)
    return tuple(it for it in pair.new.columns if lower(it.name) in names)


def added_names(pair: TablePair) -> frozenset[str]:
    """Return the names of new columns, as they are compared."""
    return frozenset(lowered(it.name for it in pair.added))


def over_old(pair: TablePair, expression: str) -> str:
    """Return an expression over the old table: columns are compared as the new one compares them.

    New columns are the values that rows get in them.
    """
    values = {
        lower(it.name): (it.default or "NULL") if it.is_stored else (it.expression or "NULL")
        for it in pair.added
    }
    for old, new in pair.common:
        if lower(old.collation) != lower(new.collation):
            values[lower(new.name)] = f"{quoted(old.name)} COLLATE {new.collation}"
    pieces, at = [], 0
    for token in tokens_of(expression):
        if token.kind == "name" and token.key in values:
            pieces += [expression[at : token.start], f"({values[token.key]})"]
            at = token.end
    return "".join(pieces) + expression[at:]
