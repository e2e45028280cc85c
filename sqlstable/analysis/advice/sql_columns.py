"""Which columns a statement compares, orders and needs, table by table.

What is found is a guess at an index, to be tried on the schema (`schema_probe`): a name that two
tables have counts for both, and nobody has to know here what SQLite's planner can do with it.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sqlglot import exp

SQL_CHARACTERS_MAX: Final = 4_000
"""Longer statements are not taken apart: it would take longer than it helps."""

ColumnsOf = Callable[[str], tuple[str, ...]]
"""Returns the columns of a table, none where there is no such table."""


@dataclass(frozen=True, slots=True)
class TableColumns:
    """What a statement does with one table that it names."""

    table: str
    alias: str
    "What plans call it."
    equal: tuple[str, ...]
    "Columns compared for equality, in the order of the text."
    ranged: tuple[str, ...]
    "Columns compared otherwise."
    ordered: tuple[str, ...]
    "Columns that the result is ordered by, all in one direction; empty where there are others."
    needed: tuple[str, ...]
    "All columns of it that the statement names; empty where it asks for all there are."


@dataclass(frozen=True, slots=True)
class TakenApart:
    """A statement, as far as advice needs it."""

    tables: tuple[TableColumns, ...]
    is_aggregate: bool
    "It adds up or groups rows, so that rows returned say nothing of rows needed."
    has_limit: bool
    has_star: bool
    "It asks for all columns of some table."
    order_column: str | None
    "The first column that the result is ordered by."


def take_apart(sql: str, columns_of: ColumnsOf) -> TakenApart | None:
    """Return what a statement does with its tables; None where it is not understood.

    Examples:
        >>> sql = "SELECT b FROM t WHERE a = 1 ORDER BY c LIMIT 3"
        >>> found = take_apart(sql, lambda table: ("a", "b", "c"))
        >>> found.tables[0].equal, found.tables[0].ordered, found.has_limit
        (('a',), ('c',), True)
    """
    tree = _parsed(sql)
    return None if tree is None else _taken_apart(tree, columns_of)


@lru_cache(maxsize=64)
def _parsed(sql: str) -> "exp.Expr | None":
    if len(sql) > SQL_CHARACTERS_MAX:
        return None
    # Imported here because it takes a tenth of a second, and most reports have nothing to advise.
    import sqlglot  # noqa: PLC0415

    logger = logging.getLogger("sqlglot")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        tree = sqlglot.parse_one(sql, read="sqlite")
    except (sqlglot.errors.SqlglotError, RecursionError, ValueError, AttributeError):
        return None
    finally:
        logger.disabled = was_disabled
    return None if isinstance(tree, sqlglot.exp.Command) else tree


def _taken_apart(tree: "exp.Expr", columns_of: ColumnsOf) -> TakenApart:
    from sqlglot import exp  # noqa: PLC0415

    compared = tuple(_compared(tree))
    order = tree.args.get("order")
    tables = tuple(
        _table_columns(tree, table, columns_of, compared)
        for table in tree.find_all(exp.Table)
        if columns_of(table.name)
    )
    return TakenApart(
        tables=tables,
        is_aggregate=any(
            select.args.get("group") or any(it.find(exp.AggFunc) for it in select.expressions)
            for select in tree.find_all(exp.Select)
        ),
        has_limit=tree.args.get("limit") is not None,
        has_star=any(_is_star(it) for it in tree.find_all(exp.Select)),
        order_column=next((it.name for it in _ordered(order)), None),
    )


def _table_columns(
    tree: "exp.Expr",
    table: "exp.Table",
    columns_of: ColumnsOf,
    compared: Iterable[tuple["exp.Column", bool]],
) -> TableColumns:
    from sqlglot import exp  # noqa: PLC0415

    own = {name.lower(): name for name in columns_of(table.name)}

    def names(columns: "Iterable[exp.Column]") -> tuple[str, ...]:
        found = (
            own.get(it.name.lower())
            for it in columns
            if not it.table or it.table.lower() == table.alias_or_name.lower()
        )
        return tuple(dict.fromkeys(filter(None, found)))

    ordered = list(_ordered(tree.args.get("order")))
    in_order = names(ordered)
    select = table.find_ancestor(exp.Select)
    has_star = select is not None and _is_star(select)
    return TableColumns(
        table=table.name,
        alias=table.alias_or_name,
        equal=names(column for column, is_equal in compared if is_equal),
        ranged=names(column for column, is_equal in compared if not is_equal),
        ordered=in_order if len(in_order) == len(ordered) else (),
        needed=() if has_star else names(tree.find_all(exp.Column)),
    )


def _compared(tree: "exp.Expr") -> "Iterator[tuple[exp.Column, bool]]":
    """Yield each column that some term compares, and whether for equality."""
    from sqlglot import exp  # noqa: PLC0415

    for join in tree.find_all(exp.Join):
        for name in join.args.get("using") or ():
            yield exp.column(name.name), True
    equal, ranged = (exp.EQ, exp.In, exp.Is), (exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between)
    for term in tree.find_all(*equal, *ranged):
        # What stands in an alternative, or is denied, does not bound the rows by itself.
        if term.find_ancestor(exp.Or, exp.Not, exp.Case) is not None:
            continue
        if isinstance(term.parent, exp.Update):  # what is set, and not a comparison
            continue
        for side in (term.this, term.args.get("expression")):
            if isinstance(side, exp.Column):
                yield side, isinstance(term, equal)


def _ordered(order: "exp.Expr | None") -> "Iterator[exp.Column]":
    """Yield the columns that a result is ordered by; none where their directions differ."""
    from sqlglot import exp  # noqa: PLC0415

    terms = [] if order is None else order.expressions
    if len({bool(term.args.get("desc")) for term in terms}) > 1:
        return
    for term in terms:
        if not isinstance(term.this, exp.Column):
            return
        yield term.this


def _is_star(select: "exp.Select") -> bool:
    return any(it.is_star for it in select.expressions)
