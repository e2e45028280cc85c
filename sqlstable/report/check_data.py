"""What a check has found as one JSON document, for programs."""

import json
import math
from collections.abc import Iterator
from typing import Final

from sqlstable.analysis.checking.baseline_changes import BaselineChanges, EntryChange
from sqlstable.analysis.checking.budget_model import LimitBudget, NumberBudget, ScanBudget
from sqlstable.analysis.checking.held_budget import BudgetVerdict
from sqlstable.report.as_json import Json
from sqlstable.report.check_words import CheckReport, failure_lines

CHECK_FORMAT: Final = "sqlstable-check"
CHECK_VERSION: Final = 1


def render_check_json(report: CheckReport) -> Iterator[str]:
    """Yield pieces of JSON text, in ASCII.

    ``budgets`` has one object for each budget, ``baseline`` is null where none was compared.
    """
    document: dict[str, Json] = {
        "format": CHECK_FORMAT,
        "version": CHECK_VERSION,
        "settings": {name: _plain(value) for name, value in report.settings.values.items()},
        "nodes": report.nodes,
        "passed": report.is_passed,
        "messages_estimated": report.estimated_count,
        "budgets": [_verdict(it) for it in report.verdicts],
        "baseline": None if report.changes is None else _changes(report.changes),
    }
    yield json.dumps(document, indent=2, allow_nan=False) + "\n"


def _plain(value: object) -> Json:
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _verdict(found: BudgetVerdict) -> dict[str, Json]:
    budget = found.budget
    allowed: Json = None
    match budget:
        case NumberBudget(bound=bound):
            allowed = bound
        case LimitBudget(percent=percent):
            allowed = f"{percent.normalize():f}%"
        case ScanBudget(tables=tables):
            allowed = list(tables)
    limit = found.limit
    return {
        "scope": budget.target.scope,
        "name": budget.target.name or None,
        "budget": budget.key,
        "allowed": allowed,
        "measured": found.measured,
        "limit": None
        if limit is None
        else {"name": limit.name, "used": limit.used, "limit": limit.limit},
        "share": None if found.share is None else float(found.share),
        "estimated": found.is_estimated,
        "kept": found.is_kept,
        "sure": found.is_sure,
        "held_against": found.held_count,
        "exceeded_in": found.exceeded_count,
        "estimated_in": found.estimated_count,
        "message": None if found.message is None else found.message.index,
        "statement": None if found.statement is None else found.statement.sql,
        "scans": [
            {"table": it.scan.table, "plan": it.scan.line, "sql": it.statement.sql}
            for it in found.scans
        ],
        "trapped_messages": list(found.trapped),
        "text": [] if found.is_kept else list(failure_lines(found)),
    }


def _changes(found: BaselineChanges) -> dict[str, Json]:
    return {
        "noise_threshold_percent": found.noise_percent,
        "unchanged": found.unchanged_count,
        "changes": [_change(it) for it in found.changes],
    }


def _change(found: EntryChange) -> dict[str, Json]:
    change = found.change
    percent = None if change is None else change.percent
    return {
        "change": found.kind,
        **found.name._asdict(),
        "measure": found.measure or None,
        "previous": None if change is None else change.previous,
        "value": None if change is None else change.current,
        "percent": None if percent is None or math.isinf(percent) else percent,
        "position": found.position,
        "count": found.count,
        "of": found.of,
        "tables": list(found.tables),
    }
