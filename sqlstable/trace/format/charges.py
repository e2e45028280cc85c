"""What price lists charge for, as rows of a trace and back."""

from collections.abc import Callable
from operator import attrgetter
from typing import Final

from sqlstable.ic.charged import CHARGED_UNITS, Charged, Payloads
from sqlstable.trace.format.schema import (
    CHARGED_COLUMNS,
    CHARGES_SINCE_VERSION,
    COMPUTATION_TABLES,
    PAYLOAD_FIELDS,
)
from sqlstable.trace.format.storage import OF_MESSAGES, OF_STATEMENTS, Row, TracePart

unit_row: Final[Callable[[object], Row]] = attrgetter(*CHARGED_UNITS)
"""Gives the columns of units, behind those of computation."""

payload_row: Final[Callable[[object], Row]] = attrgetter(*PAYLOAD_FIELDS)
"""Gives the columns of payloads."""

NOT_COMPUTED: Final = (None,) * len(COMPUTATION_TABLES)
NOT_CHARGED: Final = (None,) * len(CHARGED_COLUMNS)
NO_PAYLOADS: Final = (None,) * len(PAYLOAD_FIELDS)


def charges_by_index(snapshot: TracePart, key: str) -> dict[int, Row]:
    """Return rows by their index, which is that of a message or of a statement.

    Args:
        snapshot: The trace, or a part of it.
        key: ``message_index`` or ``statement_index``.
    """
    if snapshot.version < CHARGES_SINCE_VERSION:
        return {}
    bounds = OF_MESSAGES if key == "message_index" else OF_STATEMENTS
    table = key.replace("_index", "_charge")
    rows = snapshot.select(f"SELECT * FROM {table} WHERE {bounds}")  # noqa: S608  our own names
    return {row[0]: row[1:] for row in rows}


def charged_of(row: Row | None) -> Charged | None:
    """Return what a row says is charged for; None where it says nothing."""
    if row is None or row[len(COMPUTATION_TABLES)] is None:
        return None
    found = {
        name: number
        for name, number in zip(COMPUTATION_TABLES, row, strict=False)
        if number is not None
    }
    return Charged(found or None, *row[len(COMPUTATION_TABLES) : len(CHARGED_COLUMNS)])


def payloads_of(row: Row | None) -> Payloads | None:
    """Return what a message brought and sent, likewise."""
    if row is None or row[-1] is None:
        return None
    return Payloads(*row[len(CHARGED_COLUMNS) :])
