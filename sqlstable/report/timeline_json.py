"""A trace as a timeline for two well-known viewers, which know nothing of SQLite.

``chrome-trace`` is the Trace Event Format: Perfetto (ui.perfetto.dev) and ``chrome://tracing`` open
it. ``speedscope`` is the format of speedscope.app, with a flame graph and left-heavy sums.

Both have time on their axis, and here is none: one instruction is shown as a nanosecond, or, where
nobody counted instructions, one call of the stable memory API as a microsecond. The files say so.

Source: Trace Event Format, Google, "Trace Event Format" (complete events ``X``, counters ``C``,
metadata ``M``; ``ts`` and ``dur`` in microseconds); speedscope's ``file-format-spec.ts`` (evented
profiles).
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from sqlstable.analysis.timeline import Slice, Unit, timeline, unit_of
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.report.text import clean, fit

TimelineFormat = Literal["chrome-trace", "speedscope"]

SPEEDSCOPE_SCHEMA: Final = "https://www.speedscope.app/file-format-schema.json"

NAME_CHARACTERS_MAX: Final = 120
"""What a viewer shows of a name; the whole of it is among the facts."""

_PER_MICROSECOND: Final[Mapping[Unit, int]] = {"instructions": 1_000, "calls": 1}
_AXIS: Final[Mapping[Unit, str]] = {
    "instructions": "instructions: one is shown as a nanosecond",
    "calls": "calls of the stable memory API: one is shown as a microsecond",
}

_PROCESS, _THREAD = 1, 1
_COUNTED: Final = ("os_pages_accessed", "os_pages_dirty")


def render_chrome_trace(trace: TraceSource) -> Iterator[str]:
    """Yield the pieces of a file in the Trace Event Format, an event on each line."""
    unit = unit_of(trace)
    facts = {"axis": _AXIS[unit], **trace.settings.values}
    yield f'{{"displayTimeUnit":"ns","otherData":{_text(facts)},"traceEvents":[\n'
    yield _text(_named("process_name", "sqlstable"))
    yield ",\n" + _text(_named("thread_name", f"messages, axis: {_AXIS[unit]}"))
    for found in timeline(trace):
        for event in (*_events(found, unit), _counters(found, unit)):
            yield ",\n" + _text(event)
    yield "\n]}\n"


def render_speedscope(trace: TraceSource) -> Iterator[str]:
    """Yield the pieces of a file in speedscope's format."""
    unit = unit_of(trace)
    frames: dict[str, int] = {}
    end, separator = 0, ""
    # The ends come behind the events, so that a long trace is never held whole.
    yield f'{{"$schema":{_text(SPEEDSCOPE_SCHEMA)},"exporter":"sqlstable",'
    yield f'"name":{_text(f"sqlstable: {unit}")},"activeProfileIndex":0,"profiles":[{{'
    yield f'"type":"evented","name":{_text(f"messages, axis: {unit}")},"unit":"none","events":[\n'
    for found in timeline(trace):
        for event in _opened_and_closed(found, frames):
            yield separator + _text(event)
            separator = ",\n"
        end = found.stop
    yield f'\n],"startValue":0,"endValue":{end}}}],'
    yield f'"shared":{{"frames":{_text([{"name": name} for name in frames])}}}}}\n'


def _events(found: Slice, unit: Unit) -> Iterator[dict[str, Any]]:
    yield {
        "ph": "X",
        "name": _shown(found.name),
        "cat": found.category,
        "ts": _microseconds(found.start, unit),
        "dur": _microseconds(found.length, unit),
        "pid": _PROCESS,
        "tid": _THREAD,
        "args": {unit: found.length, **_known(found.facts)},
    }
    for child in found.children:
        yield from _events(child, unit)


def _counters(message: Slice, unit: Unit) -> dict[str, Any]:
    return {
        "ph": "C",
        "name": "OS pages of a message",
        "ts": _microseconds(message.start, unit),
        "pid": _PROCESS,
        "args": {name: message.facts[name] for name in _COUNTED},
    }


def _named(what: str, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": _PROCESS, "tid": _THREAD, "args": {"name": name}}


def _opened_and_closed(found: Slice, frames: dict[str, int]) -> Iterator[dict[str, Any]]:
    frame = frames.setdefault(_shown(found.name), len(frames))
    yield {"type": "O", "frame": frame, "at": found.start}
    for child in found.children:
        yield from _opened_and_closed(child, frames)
    yield {"type": "C", "frame": frame, "at": found.stop}


def _microseconds(count: int, unit: Unit) -> float:
    per = _PER_MICROSECOND[unit]
    return count if per == 1 else count / per


def _known(facts: Mapping[str, object]) -> dict[str, object]:
    """Return what is known, foreign text with nothing in it that a viewer would act on."""
    return {
        name: clean(value) if isinstance(value, str) else value
        for name, value in facts.items()
        if value is not None and value != ""
    }


def _shown(name: str) -> str:
    return fit(clean(name), NAME_CHARACTERS_MAX)


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), default=str)
