"""What a value becomes in a column of another type, and whether it comes back.

A column's affinity converts what is stored in it; sqlite.org/datatype3.html, section 3. Numbers in
texts become numbers in a numeric column, numbers become texts in a TEXT column, integers become
floats in a REAL column; a BLOB column, and ANY of a STRICT table, take everything as it is. A
STRICT table refuses what does not become its column's type; sqlite.org/stricttables.html.
"""

from typing import Final

from sqlstable.schema.schema_objects import Affinity

_NUMERIC: Final = ("INTEGER", "NUMERIC")
_AS_IT_IS: Final = ("BLOB", "ANY")

_IS_NUMBER: Final = "typeof({x}) = 'text' AND {x} = CAST({x} AS NUMERIC)"
"""A text that a numeric column makes a number: the cast lends its affinity to the comparison."""

_IS_WHOLE: Final = (
    "typeof({x}) = 'real' AND {x} = CAST({x} AS INTEGER) AND {x} <> -9223372036854775808"
)
"""A float that an integer column makes an integer; the least one stays a float."""


def lost(
    column: str, source: Affinity, target: Affinity, *, is_source_strict: bool = False
) -> str | None:
    """Return the condition under which a value does not come back; None where each one does.

    Args:
        column: SQL of the value.
        source: What the column makes of values.
        target: What it is to make of them.
        is_source_strict: Whether it holds values of its own type alone.

    Examples:
        >>> lost("x", "INTEGER", "NUMERIC") is None, lost("x", "REAL", "INTEGER") is None
        (True, True)
        >>> lost("x", "INTEGER", "TEXT", is_source_strict=True) is None
        True
        >>> lost("x", "BLOB", "TEXT")
        "typeof(x) IN ('integer', 'real')"
    """
    is_number_kept = source in (*_NUMERIC, "REAL") and target in _NUMERIC
    if source == target or target in _AS_IT_IS or is_number_kept:
        return None
    if source in _AS_IT_IS:
        return _lost_from_anything(target).format(x=column)
    if target == "TEXT":
        if source == "INTEGER" and is_source_strict:
            return None
        back = "NUMERIC" if source in _NUMERIC else "REAL"
        return f"typeof({column}) = 'real' AND CAST(CAST({column} AS TEXT) AS {back}) <> {column}"
    if source != "TEXT":
        # The least integer becomes a float that is equal, and too large to become one again.
        return (
            f"typeof({column}) = 'integer' AND "
            f"(CAST({column} AS REAL) <> {column} OR {column} = -9223372036854775808)"
        )
    number = "REAL" if target == "REAL" else "NUMERIC"
    is_number = _IS_NUMBER.format(x=column)
    return f"{is_number} AND CAST(CAST({column} AS {number}) AS TEXT) COLLATE BINARY <> {column}"


def refused(column: str, target: Affinity) -> str | None:
    """Return the condition under which a STRICT column refuses a value; None where it never does.

    Examples:
        >>> refused("x", "ANY") is None
        True
        >>> refused("x", "TEXT")
        "typeof(x) = 'blob'"
    """
    number = _IS_NUMBER.format(x=column)
    whole = (
        f"({_IS_WHOLE.format(x=column)}) OR "
        f"({number} AND typeof(CAST({column} AS NUMERIC)) = 'integer')"
    )
    conditions = {
        "INTEGER": f"NOT (typeof({column}) IN ('null', 'integer') OR {whole})",
        "REAL": f"NOT (typeof({column}) IN ('null', 'integer', 'real') OR ({number}))",
        "TEXT": f"typeof({column}) = 'blob'",
        "BLOB": f"typeof({column}) NOT IN ('null', 'blob')",
    }
    return conditions.get(target)


def always_stored(source: Affinity, target: Affinity) -> bool:
    """Return whether a STRICT column takes whatever another STRICT column holds.

    Examples:
        >>> always_stored("INTEGER", "TEXT"), always_stored("TEXT", "INTEGER")
        (True, False)
    """
    wide = {"INTEGER": ("REAL", "TEXT"), "REAL": ("TEXT",)}
    return target in ("ANY", source) or target in wide.get(source, ())


def _lost_from_anything(target: Affinity) -> str:
    if target == "TEXT":
        return "typeof({x}) IN ('integer', 'real')"
    if target == "REAL":
        return f"typeof({{x}}) = 'integer' OR ({_IS_NUMBER})"
    return f"({_IS_NUMBER}) OR ({_IS_WHOLE})"
