"""Timelines for other viewers: slices nest and add up, the files are what their formats say."""

import json

import jsonschema
import pytest
from hypothesis import given, settings

import sqlstable
from sqlstable.analysis.timeline import timeline, unit_of
from sqlstable.report.timeline_json import render_chrome_trace, render_speedscope
from tests.cli_images import call
from tests.hand_built import HandBuiltTrace, traces
from tests.report_world import one_statement

NUMBER = {"type": "number"}

# The fields used here, as Google's "Trace Event Format" describes them.
TRACE_EVENTS = {
    "type": "object",
    "required": ["traceEvents"],
    "properties": {
        "displayTimeUnit": {"enum": ["ms", "ns"]},
        "otherData": {"type": "object"},
        "traceEvents": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["ph", "name", "pid", "args"],
                "properties": {
                    "ph": {"enum": ["X", "C", "M"]},
                    "name": {"type": "string"},
                    "cat": {"type": "string"},
                    "ts": {"type": "number", "minimum": 0},
                    "dur": {"type": "number", "minimum": 0},
                    "pid": {"type": "integer"},
                    "tid": {"type": "integer"},
                    "args": {"type": "object"},
                },
                "additionalProperties": False,
                "allOf": [
                    {
                        "if": {"properties": {"ph": {"const": "X"}}},
                        "then": {"required": ["ts", "dur", "tid", "cat"]},
                    },
                    {
                        "if": {"properties": {"ph": {"const": "C"}}},
                        "then": {"properties": {"args": {"patternProperties": {"": NUMBER}}}},
                    },
                ],
            },
        },
    },
}

# The fields used here, as speedscope's file-format-spec.ts declares them.
SPEEDSCOPE = {
    "type": "object",
    "required": ["$schema", "shared", "profiles"],
    "properties": {
        "$schema": {"const": "https://www.speedscope.app/file-format-schema.json"},
        "exporter": {"type": "string"},
        "name": {"type": "string"},
        "activeProfileIndex": {"type": "integer"},
        "shared": {
            "type": "object",
            "required": ["frames"],
            "properties": {
                "frames": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string"}},
                        "additionalProperties": False,
                    },
                }
            },
            "additionalProperties": False,
        },
        "profiles": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "name", "unit", "startValue", "endValue", "events"],
                "properties": {
                    "type": {"const": "evented"},
                    "name": {"type": "string"},
                    "unit": {"enum": ["bytes", "microseconds", "none", "seconds"]},
                    "startValue": NUMBER,
                    "endValue": NUMBER,
                    "events": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["type", "frame", "at"],
                            "properties": {
                                "type": {"enum": ["O", "C"]},
                                "frame": {"type": "integer", "minimum": 0},
                                "at": NUMBER,
                            },
                            "additionalProperties": False,
                        },
                    },
                },
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}


def check_nesting(found):
    assert found.length >= 0
    if found.children:
        edges = [edge for child in found.children for edge in (child.start, child.stop)]
        assert edges == sorted(edges)
        assert edges[0] == found.start
        assert edges[-1] == found.stop
        assert sum(child.length for child in found.children) == found.length
    for child in found.children:
        check_nesting(child)


def check_files(trace):
    """Both files are valid, and end where the timeline ends; returns them."""
    slices = [*timeline(trace)]
    end = slices[-1].stop if slices else 0
    events = json.loads("".join(render_chrome_trace(trace)))
    jsonschema.validate(events, TRACE_EVENTS)
    per = {"instructions": 1_000, "calls": 1}[unit_of(trace)]
    stops = [it["ts"] + it["dur"] for it in events["traceEvents"] if it["ph"] == "X"]
    assert max(stops, default=0) == pytest.approx(end / per)
    profile = json.loads("".join(render_speedscope(trace)))
    jsonschema.validate(profile, SPEEDSCOPE)
    check_profile(profile, end)
    return events, profile


def check_profile(profile, end):
    """Events are in order, and each frame that was opened is closed, the last one first."""
    (found,) = profile["profiles"]
    assert (found["startValue"], found["endValue"]) == (0, end)
    at, opened = 0, []
    for event in found["events"]:
        assert event["at"] >= at
        at = event["at"]
        if event["type"] == "O":
            opened.append(event["frame"])
            assert event["frame"] < len(profile["shared"]["frames"])
        else:
            assert opened.pop() == event["frame"]
    assert not opened


@settings(max_examples=40)
@given(traces())
def test_slices_nest_add_up_and_make_valid_files(trace):
    at = 0
    for found in timeline(trace):
        assert found.start == at
        check_nesting(found)
        at = found.stop
    check_files(trace)


@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_the_axis_is_what_the_messages_come_to(engine, tmp_path):
    path = tmp_path / "a.trace"
    with sqlstable.Canister(engine=engine, trace=path) as canister:
        canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT)")
        with canister.message() as message:
            message.executemany("INSERT INTO t (s) VALUES (?)", [("a",), ("b",)])
        canister.upgrade()
        canister.query("SELECT count(*) FROM t")
    with sqlstable.open_trace(path) as trace:
        *_, last = timeline(trace)
        if engine == "wasm":
            whole = sum(it.instructions.total for it in trace.messages)
        else:
            whole = sum(
                calls.read + calls.write + calls.size + calls.grow
                for calls in (it.stable.calls for it in trace.messages)
            )
        assert last.stop == whole
        events, _ = check_files(trace)
    names = [it["name"] for it in events["traceEvents"] if it["ph"] == "X"]
    assert "INSERT INTO t (s) VALUES (?)" in names
    assert {"instructions": "nanosecond", "calls": "microsecond"}[unit_of(trace)] in events[
        "otherData"
    ]["axis"]


def test_an_empty_trace_has_an_empty_axis():
    events, profile = check_files(HandBuiltTrace())
    assert [it["ph"] for it in events["traceEvents"]] == ["M", "M"]
    assert profile["profiles"][0]["events"] == []


def test_hostile_names_are_shown_and_do_nothing():
    sql = "SELECT '</script>\x1b[31m\u202e' -- \ud800 " + "x" * 9_000
    text = "".join(render_chrome_trace(one_statement(sql)))
    assert "\x1b" not in text
    events, profile = check_files(one_statement(sql))
    longest = max(len(it["name"]) for it in (*events["traceEvents"], *profile["shared"]["frames"]))
    assert longest <= 120
    shown = next(it for it in events["traceEvents"] if it.get("cat") == "statement")
    assert "\u202e" not in json.dumps(shown, ensure_ascii=False)


@pytest.fixture
def trace_file(tmp_path):
    path = tmp_path / "a.trace"
    with sqlstable.Canister(trace=path) as canister:
        canister.query("SELECT 1")
    return path


@pytest.mark.parametrize(
    ("name", "key"), [("chrome-trace", "traceEvents"), ("speedscope", "shared")]
)
def test_the_command_writes_them(trace_file, name, key):
    assert key in json.loads(call("report", str(trace_file), "--export", name).stdout)
    refused = call("report", str(trace_file), "--export", name, "--format", "csv")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert f"--export {name} writes JSON, not --format csv; leave --format out" in refused.stderr
