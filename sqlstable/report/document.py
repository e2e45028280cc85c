"""A trace as one JSON document, for programs.

``schema.json`` beside this module describes the format; ``format`` and ``version`` open every
document. Within a version fields are only added, never renamed or removed, so a reader must
ignore fields it does not know. What does not apply, or is not computed yet, is null.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from sqlstable.analysis.compare import Comparison, StatementPair, change_counts
from sqlstable.analysis.growth import Growth, GrowthStep, Part, filling, growth_steps
from sqlstable.analysis.source import TraceSource
from sqlstable.analysis.totals import Totals, outside_use, totals
from sqlstable.analysis.verdict import verdict
from sqlstable.report.frame import SETTINGS
from sqlstable.trace.model import (
    PHASES,
    HeapUse,
    Instructions,
    LoopUse,
    Message,
    OwnerUse,
    StableArea,
    StableUse,
    Statement,
    TraceSettings,
)

FORMAT: Final = "sqlstable-report"
COMPARISON_FORMAT: Final = "sqlstable-comparison"
VERSION: Final = 1
"""Raised only when a field changes its meaning or goes; new fields do not raise it."""

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
"""Whatever JSON can hold."""


def document(trace: TraceSource) -> dict[str, Json]:
    """Return a trace as plain data, in the form that ``schema.json`` describes."""
    steps = growth_steps(trace)
    return {
        "format": FORMAT,
        "version": VERSION,
        "settings": _settings(trace.settings),
        "messages": [
            _message(trace, message, steps.get(message.index)) for message in trace.messages
        ],
        "statements": [_statement(statement) for statement in trace.statements],
        "totals": _totals(totals(trace)),
    }


def comparison_document(comparison: Comparison) -> dict[str, Json]:
    """Return a comparison as plain data; each statement has the form it has in ``document``."""
    before, after = comparison.before, comparison.after
    paired = comparison.paired_before, comparison.paired_after
    return {
        "format": COMPARISON_FORMAT,
        "version": VERSION,
        "settings": {
            "before": _settings(comparison.before_settings),
            "after": _settings(comparison.after_settings),
        },
        "statements": [_pair(pair) for pair in comparison.pairs],
        "changes": {str(change): count for change, count in change_counts(comparison).items()},
        "statements_in_both": {"before": _stable(paired[0]), "after": _stable(paired[1])},
        "totals": {"before": _totals(before), "after": _totals(after)},
    }


def render_json(trace: TraceSource) -> str:
    """Return a trace as JSON text: the same text for the same trace, in ASCII."""
    return _text(document(trace))


def render_comparison_json(comparison: Comparison) -> str:
    """Return a comparison as JSON text: the same text for the same traces, in ASCII."""
    return _text(comparison_document(comparison))


def _text(data: Mapping[str, Json]) -> str:
    # ASCII, because a terminal or pipe may not take anything else; JSON readers see no difference.
    return json.dumps(data, indent=2, allow_nan=False) + "\n"


def _settings(settings: TraceSettings) -> dict[str, Json]:
    names = dict.fromkeys((*SETTINGS, *settings.values))
    return {name: _plain(settings.values.get(name)) for name in names}


def _plain(value: object) -> Json:
    """Return a setting's value as JSON holds it; what JSON cannot hold becomes its text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and value - value == 0:  # neither infinite nor NaN
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value)


def _message(trace: TraceSource, message: Message, step: GrowthStep | None) -> dict[str, Json]:
    return {
        "index": message.index,
        "kind": message.kind,
        "label": message.label,
        "outcome": message.outcome,
        "trap": message.trap,
        "discarded_writes": message.discarded_writes,
        "cache": message.cache,
        "statements": list(message.statements),
        "stable": _stable(message.stable),
        "outside": _stable(outside_use(trace, message)),
        "outside_entries": [
            {"name": entry.name, "stable": _stable(entry.stable)} for entry in message.outside
        ],
        "heap": _heap(message.heap),
        "instructions": _instructions(message.instructions),
        "cycles": None,
        "limits": [
            {"name": use.name, "used": use.used, "limit": use.limit} for use in message.limits
        ],
        "verdict": verdict(message),
        "image_bytes": message.image_bytes,
        "growth": None if step is None else _step(step),
    }


def _statement(statement: Statement) -> dict[str, Json]:
    return {
        "index": statement.index,
        "message": statement.message,
        "sql": statement.sql,
        "shape": statement.shape,
        "kind": statement.kind,
        "row_count": statement.row_count,
        "runs": statement.runs,
        "plan": list(statement.plan),
        "stable": _stable(statement.stable),
        "phases": {phase: _stable(statement.phases[phase]) for phase in PHASES},
        "sqlite": {
            "hits": statement.sqlite.hits,
            "vm_steps": statement.sqlite.vm_steps,
            "fullscan_steps": statement.sqlite.fullscan_steps,
            "sorts": statement.sqlite.sorts,
        },
        "owners": [_owner(owner) for owner in statement.owners],
        "instructions": _instructions(statement.instructions),
        "phase_instructions": (
            None if statement.phase_instructions is None else dict(statement.phase_instructions)
        ),
        "loops": [_loop(loop) for loop in statement.loops] or None,
        "cycles": None,
    }


def _owner(owner: OwnerUse) -> dict[str, Json]:
    return {
        "name": owner.name,
        "table": owner.table,
        "kind": owner.kind,
        "role": owner.role,
        "os_pages_accessed": owner.os_pages_accessed,
        "os_pages_dirty": owner.os_pages_dirty,
    }


def _stable(use: StableUse) -> dict[str, Json]:
    return {
        "calls": {
            "read": use.calls.read,
            "write": use.calls.write,
            "size": use.calls.size,
            "grow": use.calls.grow,
        },
        "bytes_read": use.bytes_read,
        "bytes_written": use.bytes_written,
        "os_pages_accessed": use.os_pages_accessed,
        "os_pages_dirty": use.os_pages_dirty,
        "wasm_pages_accessed": use.wasm_pages_accessed,
        "wasm_pages_dirty": use.wasm_pages_dirty,
    }


def _instructions(use: Instructions | None) -> Json:
    if use is None:
        return None
    return {
        "total": use.total,
        "computation": use.computation,
        "stable": use.stable,
        "heap": use.heap,
        "measured": use.measured,
        "error_band": use.error_band,
    }


def _heap(use: HeapUse | None) -> Json:
    if use is None:
        return None
    return {
        "wasm_pages_accessed": use.wasm_pages_accessed,
        "wasm_pages_written": use.wasm_pages_written,
        "os_pages_written": use.os_pages_written,
        "size_bytes": use.size_bytes,
    }


def _loop(loop: LoopUse) -> Json:
    return {
        "name": loop.name,
        "plan": loop.plan,
        "loops": loop.loops,
        "rows_visited": loop.rows_visited,
        "rows_estimated": loop.rows_estimated,
    }


def _totals(total: Totals) -> dict[str, Json]:
    return {
        "stable": _stable(total.stable),
        "instructions": _instructions(total.instructions),
        "cycles": None,
        "image_bytes": total.image_bytes,
        "growth": _growth(total.growth),
    }


def _growth(growth: Growth | None) -> Json:
    if growth is None:
        return None
    return {
        "message": growth.message,
        "stable_bytes": growth.stable_bytes,
        "parts": [_part(part) for part in growth.parts],
        "areas": [_area(area) for area in growth.areas],
    }


def _area(area: StableArea) -> dict[str, Json]:
    filled = filling(area)
    return {
        "name": area.name,
        "kind": area.kind,
        "memory_id": area.memory_id,
        "allocated_bytes": area.allocated_bytes,
        "unit_bytes": area.unit_bytes,
        "size_bytes": area.size_bytes,
        "used_bytes": area.used_bytes,
        "data_bytes": filled.data_bytes,
        "free_bytes": filled.free_bytes,
        "rounding_bytes": filled.rounding_bytes,
        "unused_bytes": filled.unused_bytes,
    }


def _step(step: GrowthStep) -> dict[str, Json]:
    return {
        "before_bytes": step.before_bytes,
        "after_bytes": step.after_bytes,
        "areas": [_part(part) for part in step.areas],
    }


def _part(part: Part) -> dict[str, Json]:
    return {"name": part.name, "kind": part.kind, "size_bytes": part.size_bytes}


def _pair(pair: StatementPair) -> dict[str, Json]:
    return {
        "change": pair.change,
        "plan_changed": pair.plan_changed,
        "different_result_size": pair.different_result_size,
        "before": None if pair.before is None else _statement(pair.before),
        "after": None if pair.after is None else _statement(pair.after),
    }
