"""What an expression of a schema names, and what can be known of it without rows."""

import logging
from collections.abc import Container
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import apsw

from sqlstable.schema.sql_tokens import lower, meaning, tokens_of

if TYPE_CHECKING:
    from sqlglot import exp

_NEVER_FAIL: Final = frozenset(
    (
        *("lower", "upper", "length", "octet_length", "trim", "ltrim", "rtrim", "substr"),
        *("substring", "coalesce", "ifnull", "nullif", "iif", "typeof", "instr", "hex"),
        *("unicode", "round", "sign", "min", "max", "date", "time", "datetime", "julianday"),
        *("unixepoch", "strftime", "json_valid", "replace", "quote"),
    )
)
"""Functions that have an answer for every value."""

_WORDS_BEFORE_PARENTHESES: Final = frozenset(
    ("in", "and", "or", "not", "then", "else", "when", "case", "is", "between", "like", "glob")
)


def mentions(expression: str | None) -> frozenset[str]:
    """Return all names in an expression, as they are compared; functions among them.

    Examples:
        >>> sorted(mentions('lower("A") > b'))
        ['a', 'b', 'lower']
    """
    if expression is None:
        return frozenset()
    return frozenset(it.key for it in tokens_of(expression) if it.kind == "name")


def is_constant(expression: str) -> bool:
    """Return whether a default is a single value, which needs no row and no time.

    Examples:
        >>> is_constant("-5"), is_constant("('a')"), is_constant("1 + 1"), is_constant("now()")
        (True, True, False, False)
    """
    tokens = tokens_of(expression)
    while len(tokens) > 2 and (tokens[0].key, tokens[-1].key) == ("(", ")"):
        tokens = tokens[1:-1]
    if tokens and tokens[0].key in ("+", "-"):
        tokens = tokens[1:]
    if len(tokens) != 1:
        return False
    token = tokens[0]
    if token.kind == "name":
        # SQLite takes a bare name, and one in quotes, for a text.
        return not token.key.startswith("current_")
    return token.kind in ("string", "number", "blob")


def is_true(expression: str) -> bool:
    """Return whether an expression of constants is true, or cannot be computed.

    Examples:
        >>> is_true("typeof(x'00') = 'blob'"), is_true("1 = 2")
        (True, False)
    """
    connection = apsw.Connection(":memory:")
    try:
        return bool(connection.execute(f"SELECT ({expression}) IS 1").get)
    except apsw.Error:
        return True
    finally:
        connection.close(force=True)


def can_fail(*expressions: str | None) -> bool:
    """Return whether an expression may have no answer for some value, as json_extract.

    Examples:
        >>> can_fail("lower(a)"), can_fail("a > 0", "json_extract(b, '$.c')")
        (False, True)
    """
    for expression in expressions:
        keys = ("",) if expression is None else meaning(expression)
        for name, sign in pairwise(keys):
            is_call = sign == "(" and (name[:1].isalpha() or name[:1] == "_")
            if is_call and name not in _NEVER_FAIL | _WORDS_BEFORE_PARENTHESES:
                return True
        if any(key in ("->", "->>") for key in keys):
            return True
    return False


def allows_all_of(wider: str, narrower: str, *, texts: Container[str] = ()) -> bool:
    """Return whether one CHECK surely accepts each row that another one accepts.

    Known are longer lists of ``IN`` and farther bounds of one column; all else is not known.

    Args:
        wider: The one that may accept more.
        narrower: The one that may accept less.
        texts: Columns of TEXT, where a bound is compared as a text, in lower case.

    Examples:
        >>> allows_all_of("kind IN ('a', 'b', 'c')", "kind IN ('b', 'a')")
        True
        >>> allows_all_of("price >= 0", "price > 0"), allows_all_of("price > 1", "price > 0")
        (True, False)
    """
    if meaning(wider) == meaning(narrower):
        return True
    trees = [_parsed(it) for it in (wider, narrower)]
    if trees[0] is None or trees[1] is None:
        return False
    lists = [_in_list(tree) for tree in trees]
    if lists[0] is not None and lists[1] is not None:
        return lists[0][0] == lists[1][0] and lists[0][1] >= lists[1][1]
    bounds = [_bound(tree) for tree in trees]
    if bounds[0] is None or bounds[1] is None or bounds[0][0].strip('"`[]') in texts:
        return False
    return bounds[0][:2] == bounds[1][:2] and bounds[0][2] <= bounds[1][2]


def _parsed(expression: str) -> "exp.Expr | None":
    # Imported here because it takes a tenth of a second, and few schemas change a CHECK.
    import sqlglot  # noqa: PLC0415

    logger = logging.getLogger("sqlglot")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        select = sqlglot.parse_one(f"SELECT {expression}", read="sqlite")
    except (sqlglot.errors.SqlglotError, RecursionError, ValueError, AttributeError):
        return None
    finally:
        logger.disabled = was_disabled
    return select.expressions[0] if len(select.expressions) == 1 else None


def _in_list(tree: "exp.Expr | None") -> "tuple[str, frozenset[str]] | None":
    from sqlglot import exp  # noqa: PLC0415

    is_list = isinstance(tree, exp.In) and isinstance(tree.this, exp.Column)
    if not is_list or tree is None or not tree.expressions:
        return None
    values = [it for it in tree.expressions if isinstance(it, exp.Literal)]
    if len(values) != len(tree.expressions):
        return None
    return lower(tree.this.sql("sqlite")), frozenset(it.sql("sqlite") for it in values)


def _bound(tree: "exp.Expr | None") -> "tuple[str, bool, tuple[float, bool]] | None":
    """Return the column, whether the bound is one from below, and how near the bound is."""
    from sqlglot import exp  # noqa: PLC0415

    if not isinstance(tree, exp.GT | exp.GTE | exp.LT | exp.LTE):
        return None
    is_lower, is_open = isinstance(tree, exp.GT | exp.GTE), isinstance(tree, exp.GT | exp.LT)
    number = _number(tree.args.get("expression"))
    if number is None or not isinstance(tree.this, exp.Column):
        return None
    return lower(tree.this.sql("sqlite")), is_lower, (number if is_lower else -number, is_open)


def _number(tree: "exp.Expr | None") -> float | None:
    from sqlglot import exp  # noqa: PLC0415

    if isinstance(tree, exp.Neg):
        number = _number(tree.this)
        return None if number is None else -number
    if isinstance(tree, exp.Literal) and not tree.is_string:
        return float(tree.name)
    return None
