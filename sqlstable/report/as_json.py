"""A trace as one JSON document, for programs.

``schema.json`` beside this module describes the format; ``format`` and ``version`` open every
document. Within a version fields are only added, never renamed or removed, so a reader must
ignore fields it does not know. What does not apply, or is not computed yet, is null.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, Final, TypeAlias

from sqlstable.analysis.advice.advice import Advice
from sqlstable.analysis.advice.advise import advise
from sqlstable.analysis.compare import Comparison, StatementPair, change_counts
from sqlstable.analysis.fitting.circumstances import trace_limits, trace_regime
from sqlstable.analysis.fitting.fit import message_fit, other_kind
from sqlstable.analysis.fitting.message_pace import message_pace, slice_overrun
from sqlstable.analysis.fitting.payload_limits import payload_uses
from sqlstable.analysis.groups import OwnerGroup, ShapeGroup, group_by_owner, group_by_shape
from sqlstable.analysis.growth import Growth, GrowthStep, filling, growth_steps
from sqlstable.analysis.pricing.message_cycles import cycles_as_update, message_cycles
from sqlstable.analysis.pricing.statement_prices import (
    StatementCycles,
    group_cycles,
    instruction_cycles,
    no_price,
)
from sqlstable.analysis.totals import Totals, around_statements, outside_use, totals
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.analysis.verdict import covered, estimated, not_counted, tightest_limit, verdict
from sqlstable.ic.words import PHASES
from sqlstable.report.fit_words import other_words
from sqlstable.report.frame import SETTINGS
from sqlstable.report.sample_json import sampling
from sqlstable.trace.fees import trace_fees
from sqlstable.trace.model import Message, StableArea, StableUse, Statement, TraceSettings

FORMAT: Final = "sqlstable-report"
COMPARISON_FORMAT: Final = "sqlstable-comparison"
VERSION: Final = 1
"""Raised only when a field changes its meaning or goes; new fields do not raise it."""

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
"""Whatever JSON can hold."""


def document(trace: TraceSource) -> dict[str, Json]:
    """Return a trace as plain data, in the form that ``schema.json`` describes."""
    return {
        name: list(value) if isinstance(value, Iterator) else value
        for name, value in _sections(trace)
    }


def _sections(trace: TraceSource) -> Iterator[tuple[str, "Json | Iterator[Json]"]]:
    """Yield the fields of a report in order; what can be long, piece by piece."""
    yield "format", FORMAT
    yield "version", VERSION
    yield "settings", _settings(trace.settings)
    steps = growth_steps(trace)
    yield "messages", (_message(trace, it, steps.get(it.index)) for it in trace.messages)
    cycles = instruction_cycles(trace)
    yield "statements", (_statement(it, cycles(it)) for it in trace.statements)
    yield "totals", _totals(totals(trace))
    yield "sampling", sampling(trace)
    yield "owner_faults", [_fields(fault) for fault in trace.owner_faults]
    yield "advice", [_advice(advice) for advice in advise(trace)]


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
        "instructions_in_both": {
            "before": _fields_or_null(comparison.paired_instructions[0]),
            "after": _fields_or_null(comparison.paired_instructions[1]),
        },
        "differing_settings": list(comparison.differing_settings),
    }


def render_json(trace: TraceSource) -> Iterator[str]:
    """Yield pieces of a trace as JSON text: the same text for the same trace, in ASCII."""
    return _rendered(_sections(trace))


def render_shape_json(trace: TraceSource) -> Iterator[str]:
    """Yield the same with ``shapes`` at the end: its statements put together by shape."""
    groups = group_by_shape(trace.statements, group_cycles(trace))
    return _rendered(chain(_sections(trace), [("shapes", map(_shape, groups))]))


def render_owner_json(trace: TraceSource) -> Iterator[str]:
    """Yield the same with ``owners`` at the end: whose OS pages its statements touched."""
    groups = group_by_owner(trace.statements, group_cycles(trace))
    return _rendered(chain(_sections(trace), [("owners", map(_owner, groups))]))


def _rendered(sections: Iterable[tuple[str, "Json | Iterator[Json]"]]) -> Iterator[str]:
    opening = "{\n"
    for name, value in sections:
        yield f"{opening}  {_dumped(name)}: "
        if isinstance(value, Iterator):
            yield from _dumped_items(value)
        else:
            yield _dumped(value, 2)
        opening = ",\n"
    yield "\n}\n"


def render_comparison_json(comparison: Comparison) -> str:
    """Return a comparison as JSON text: the same text for the same traces, in ASCII."""
    return _dumped(comparison_document(comparison)) + "\n"


def _dumped_items(items: Iterator[Json]) -> Iterator[str]:
    """Yield a list as `_dumped` spells it, item by item."""
    opening = "["
    for item in items:
        yield f"{opening}\n    {_dumped(item, 4)}"
        opening = ","
    yield "[]" if opening == "[" else "\n  ]"


def _dumped(data: Json, margin: int = 0) -> str:
    """Return data as `json.dumps` with an indent of two does, which spells that in Python slowly.

    Args:
        data: What is spelled, in ASCII: a terminal or pipe may not take anything else.
        margin: Columns by which all lines but the first are moved.

    Examples:
        >>> data = {"a": [1, {}, []], "ü": {"b": None}}
        >>> _dumped(data) == json.dumps(data, indent=2)
        True
    """
    spelled = _SPELLED.get(type(data))
    if spelled is not None:
        return spelled(data)
    if not data or not isinstance(data, _NESTED):
        return json.dumps(data, allow_nan=False)
    between = f",\n{' ' * (margin + 2)}"
    if isinstance(data, dict):
        opening, closing = "{}"
        items = [f"{_quoted(name)}: {_dumped(it, margin + 2)}" for name, it in data.items()]
    else:
        opening, closing = "[]"
        items = [_dumped(it, margin + 2) for it in data]
    return f"{opening}{between[1:]}{between.join(items)}\n{' ' * margin}{closing}"


_SPELLED: Final[Mapping[type, Callable[[Any], str]]] = {
    str: _quoted,
    int: int.__repr__,
    bool: {True: "true", False: "false"}.__getitem__,
    type(None): lambda _: "null",
}
"""How nearly all values are spelled; `json` does the others, one call each."""

_NESTED: Final = (dict, list, tuple)
"""What `json` takes that holds values."""


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
    fees = trace_fees(trace.settings)
    cycles, as_update = message_cycles(message, fees), cycles_as_update(message, fees)
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
        "heap": _fields_or_null(message.heap),
        "instructions": _fields_or_null(message.instructions),
        "cycles": cycles.total,
        "limits": [_fields(use) for use in message.limits],
        "verdict": verdict(message),
        "image_bytes": message.image_bytes,
        "growth": None if step is None else _step(step),
        "around_instructions": _fields_or_null(around_statements(trace, message)),
        "tightest_limit": _fields_or_null(tightest_limit(message)),
        "verdict_covers": list(covered(message)),
        "verdict_not_counted": list(not_counted(message)),
        "verdict_estimated": list(estimated(message)),
        "trap_limit": message.trap_limit,
        "continues": message.continues,
        "parts": [_fields(part) for part in message.parts],
        "call": _fields_or_null(message.call),
        **_fit(trace, message),
        "cycle_parts": _fields(cycles),
        "cycles_as_update": None if as_update is None else as_update.total,
    }


def _fit(trace: TraceSource, message: Message) -> dict[str, Json]:
    limits = trace_limits(trace.settings)
    found = message_fit(message, limits)
    other = other_kind(message, trace.statements, limits)
    pacing = message_pace(message, limits, trace_regime(trace.settings))
    return {
        "fit": found.word,
        "fit_as_other": None
        if other is None
        else {**_fields(other[1]), "kind": other[0], "words": other_words(found.word, *other)},
        "payload_limits": [_fields(use) for use in payload_uses(message)],
        "pace": {
            "slices": pacing.slices,
            "rounds": pacing.rounds,
            "seconds_min": _seconds(pacing.seconds_min),
            "seconds_max": _seconds(pacing.seconds_max),
            "slice_overrun": slice_overrun(trace, message),
        },
        "heap_delta": {"size_bytes": pacing.delta.size_bytes, **_fields(pacing.delta)},
    }


def _seconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)


def _statement(statement: Statement, cycles: StatementCycles) -> dict[str, Json]:
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
        "sqlite": _fields(statement.sqlite),
        "owners": [_fields(owner) for owner in statement.owners],
        "instructions": _fields_or_null(statement.instructions),
        "phase_instructions": (
            None if statement.phase_instructions is None else dict(statement.phase_instructions)
        ),
        "loops": [_fields(loop) for loop in statement.loops] or None,
        "cycles": cycles.paid,
        "cycles_as_update": cycles.as_update,
    }


def _shape(group: ShapeGroup) -> dict[str, Json]:
    return {
        **_fields(group),
        "stable": _stable(group.stable),
        "owners": [_fields(owner) for owner in group.owners],
        "instructions": _fields_or_null(group.instructions),
        "plans": [list(plan) for plan in group.plans],
    }


def _owner(group: OwnerGroup) -> dict[str, Json]:
    return {**_fields(group), "instructions": _fields_or_null(group.instructions)}


def _fields(record: Any) -> dict[str, Json]:  # noqa: ANN401  a dataclass with slots, its fields
    """Return a flat record under the names of its fields, in their order."""
    return {name: getattr(record, name) for name in record.__slots__}


def _fields_or_null(record: Any) -> Json:  # noqa: ANN401  likewise, or None
    return None if record is None else _fields(record)


def _stable(use: StableUse) -> dict[str, Json]:
    return {**_fields(use), "calls": _fields(use.calls)}


def _advice(advice: Advice) -> dict[str, Json]:
    return {**_fields(advice), "share": round(advice.share, 4)}


def _totals(total: Totals) -> dict[str, Json]:
    return {
        "stable": _stable(total.stable),
        "instructions": _fields_or_null(total.instructions),
        "cycles": None if total.cycles is None else total.cycles.total,
        "image_bytes": total.image_bytes,
        "growth": _growth(total.growth),
        "statement_instructions": _fields_or_null(total.statement_instructions),
        "around_instructions": _fields_or_null(total.around_instructions),
        "phase_instructions": (
            None if total.phase_instructions is None else dict(total.phase_instructions)
        ),
        "cycle_parts": _fields_or_null(total.cycles),
        "cycles_as_update": (
            None if total.cycles_as_update is None else total.cycles_as_update.total
        ),
    }


def _growth(growth: Growth | None) -> Json:
    if growth is None:
        return None
    return {
        "message": growth.message,
        "stable_bytes": growth.stable_bytes,
        "parts": [_fields(part) for part in growth.parts],
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
        "areas": [_fields(part) for part in step.areas],
    }


def _pair(pair: StatementPair) -> dict[str, Json]:
    return {
        "change": pair.change,
        "plan_changed": pair.plan_changed,
        "different_result_size": pair.different_result_size,
        "before": _side(pair.before),
        "after": _side(pair.after),
        "cache": {"before": pair.cache_before, "after": pair.cache_after},
    }


def _side(statement: Statement | None) -> Json:
    # Its price depends on its message, which a comparison does not hold.
    return None if statement is None else _statement(statement, no_price(statement))
