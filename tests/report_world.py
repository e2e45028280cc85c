"""Traces of one and of many statements, and lines of their reports."""

from sqlstable.report.views import VIEWS
from tests.hand_built import (
    HandBuiltTrace,
    message,
    owner,
    statement,
    use,
)

COLUMN_VIEWS = [by for by in VIEWS if by not in ("advice", "locality", "os-page", "checkpoint")]
"""The views that count what records say; the others are sentences, or come from accesses."""


def one_statement(sql, **changes):
    """Return a trace of one query."""
    made = statement(0, 0, sql, 1, owners=(owner("t", 1),), **changes)
    return HandBuiltTrace(messages=(message(0, "query", (0,), use(1)),), statements=(made,))
