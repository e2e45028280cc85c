"""What a trace says of the messages of a module, whatever it is."""

import json
import re

import jsonschema
import pytest
import wasmtime

from sqlstable.analysis.compare import compare
from sqlstable.errors import Trap
from sqlstable.ic.limits import latest_limits
from sqlstable.ic.words import MESSAGE_KINDS, PHASES
from sqlstable.module.observing import ModuleObservation, ReplicaObservation
from sqlstable.replica.executed import PartRun
from sqlstable.replica.replica import Replica
from sqlstable.report.as_json import document, render_json
from sqlstable.report.as_table import render_table
from sqlstable.report.comparison import render_comparison
from sqlstable.report.html.as_html import render_comparison_html, render_html
from sqlstable.report.json_schema import report_schema
from sqlstable.report.timeline_json import render_chrome_trace, render_speedscope
from sqlstable.report.views import VIEWS
from sqlstable.trace.format.file import TraceWriter, open_trace
from sqlstable.wasm.environment import Callback, OutgoingCall, ReplyData
from tests.module_world import hand_run

WAT = r"""(module
 (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
 (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
 (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
 (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
 (import "ic0" "msg_reply" (func $reply))
 (import "ic0" "msg_reject" (func $reject (param i32 i32)))
 (memory 1)
 (data (i32.const 0) "hello no")
 (func (export "canister_update fill") (drop (call $grow (i64.const 40)))
   (call $write (i64.const 5000) (i64.const 0) (i64.const 60000))
   (call $write (i64.const 1500000) (i64.const 0) (i64.const 60000))
   (call $append (i32.const 0) (i32.const 5)) (call $reply))
 (func (export "canister_query look")
   (call $read (i64.const 100) (i64.const 5000) (i64.const 4000))
   (call $write (i64.const 0) (i64.const 0) (i64.const 1))
   (call $reject (i32.const 6) (i32.const 2)))
 (func (export "canister_update silent"))
 (func (export "canister_update bad")
   (call $write (i64.const 0) (i64.const 0) (i64.const 10)) unreachable)
)"""


def ran(made):
    """Run one message of each fate."""
    back = Callback(0, 0)
    calls = (OutgoingCall(b"", "silent", back, back, None, b""),)
    made.run("update", "fill", b"DIDL\0\0", label="first", calls=calls)
    made.run("query", "look")
    made.run("callback", "silent", continues=0)
    made.run("update", "bad")
    made.run("timer", "silent")


@pytest.fixture(name="trace", scope="module")
def trace_fixture(tmp_path_factory):
    path = tmp_path_factory.mktemp("module") / "app.trace"
    with hand_run(WAT, writer=TraceWriter(path, {})) as made:
        ran(made)
    with open_trace(path) as trace:
        yield trace


def test_a_message_without_sql_is_one_statement_with_all_that_the_message_did(trace):
    assert [it.sql for it in trace.statements] == [
        "fill(0x4449444c0000)",
        "look()",
        "reply of silent()",
        "bad()",
        "silent()",
    ]
    assert [it.shape for it in trace.statements] == [
        "update fill",
        "query look",
        "callback silent",
        "update bad",
        "timer silent",
    ]
    for message, statement in zip(trace.messages, trace.statements, strict=True):
        assert message.statements == (statement.index,)
        assert (statement.kind, message.outside) == ("call", ())
        assert statement.stable == message.stable == statement.phases["run"]
        assert statement.instructions == message.instructions
        spent = statement.phase_instructions
        assert (
            sum(spent.values())
            == spent["run"]
            == message.instructions.total - (message.instructions.heap)
        )
        assert {phase for phase in PHASES if statement.phases[phase].calls.write} <= {"run"}
        owned = sum(owner.os_pages_accessed for owner in statement.owners)
        assert owned == message.stable.os_pages_accessed


def test_reply_reject_trap_and_no_answer_are_four_things(trace):
    found = [(it.outcome, it.call.answer, it.call.answer_text) for it in trace.messages]
    assert found == [
        ("committed", "reply", None),
        ("discarded", "reject", "no"),
        ("committed", "none", None),
        ("trapped", "none", None),
        ("committed", "none", None),
    ]
    assert [it.call.answer_bytes for it in trace.messages] == [5, 2, 0, 0, 0]
    assert trace.messages[1].discarded_writes
    assert trace.messages[3].trap == "unreachable"
    assert [it.continues for it in trace.messages] == [None, None, 0, None, None]
    assert [it.label for it in trace.messages] == ["first", *[None] * 4]


def test_limits_and_heap_are_those_of_the_kind_of_message(trace):
    used = [{it.name: (it.used, it.limit) for it in one.limits} for one in trace.messages]
    assert used[0]["stable_os_pages_dirty"] == (30, 524_288)
    assert used[1]["stable_os_pages_accessed"][1] == 262_144
    most = latest_limits().of("callback").instructions_max
    assert used[2]["instructions"] == (trace.messages[2].instructions.total, most)
    assert used[1]["instructions"][1] == 5_000_000_000
    assert trace.messages[0].heap.wasm_pages_accessed == 1
    assert trace.messages[2].heap.wasm_pages_accessed == 0


def test_the_settings_say_which_module_it_was_and_nothing_of_sqlite(trace):
    values = trace.settings.values
    assert (values["engine"], values["canister"], values["module"]) == ("module", "app", "app.wasm")
    assert len(values["module_sha256"]) == 64
    assert values["price_regime"] == "memory-tracker"
    assert {values[name] for name in ("sqlite", "page_size", "layout", "cache_size")} == {None}


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize("by", VIEWS)
def test_every_view_shows_a_module(trace, by, width):
    text = render_table(trace, by=by, width=width, settings=width == 140)
    assert all(len(line) <= width for line in text.splitlines())


def words_of(text):
    return {word.strip(".,;:()'").lower() for word in text.split()}


@pytest.mark.parametrize("by", VIEWS)
def test_no_view_speaks_of_sql_where_there_is_none(trace, by):
    text = render_table(trace, by=by)
    if by == "advice":
        text = text.replace("all rules are about SQL", "").replace("its statements", "")
    assert not words_of(text) & {"sqlite", "sqlite's", "sql", "hits", "cache_size"}
    if by not in ("message", "locality"):
        assert not words_of(text) & {"statement", "statements"}


def test_the_first_screen_says_what_each_call_cost_and_touched_and_answered(trace):
    text = render_table(trace, width=100)
    for words in ("update · replied, 5 B", "query · rejected, 2 B", "update · trapped"):
        assert words in text
    assert "callback · continues 0 · no answer" in " ".join(render_table(trace, width=140).split())
    assert re.search(r"fill\(0x\w+\) +681,426 +<0.01% +30 +30 +1 +0 +0-1 MiB", text)
    assert "total of 5 calls" in text
    assert "1 replied · 1 rejected · 1 no answer · 1 trapped" in text


def test_two_builds_are_compared_like_with_like():
    with hand_run(WAT) as one, hand_run(WAT.replace("60000", "30000")) as other:
        ran(one)
        ran(other)
        with one.trace() as before, other.trace() as after:
            comparison = compare(before, after)
            text = render_comparison(comparison)
            page = render_comparison_html(before, after)
    assert "Calls, before and after" in page
    assert "Statements, before" not in page
    assert "Paired by their SQL" not in page
    assert comparison.is_like_with_like
    assert "▼ better" in text
    assert "module_sha256" in text
    assert not words_of(text) & {"sqlite", "statement", "statements", "hits", "plans"}


def test_json_keeps_to_the_schema_and_has_calls(trace):
    found = json.loads("".join(render_json(trace)))
    jsonschema.validate(found, report_schema())
    assert found == document(trace)
    assert found["messages"][1]["call"] == {
        "method": "look",
        "text": "look()",
        "answer": "reject",
        "answer_bytes": 2,
        "answer_text": "no",
        "calls_made": 0,
    }


def test_the_schema_knows_every_kind_of_message():
    kinds = report_schema()["$defs"]["message"]["properties"]["kind"]["enum"]
    assert set(kinds) == set(MESSAGE_KINDS)


def test_a_page_and_timelines_are_made_of_a_module(trace):
    assert "app.trace" in render_html(trace, name="app.trace")
    page = render_html(trace)
    assert "Nothing to advise: all rules are about SQL, and none was seen" in page
    assert '<th scope="col">heap</th>' not in page
    for render in (render_chrome_trace, render_speedscope):
        assert json.loads("".join(render(trace)))
    frame = trace.messages_frame()
    assert frame["answer"].tolist() == ["reply", "reject", "none", "none", "none"]
    assert len(trace.statements_frame()) == 5


def test_owners_of_a_trace_read_back_are_those_that_were_found(trace):
    found = {}
    for block in trace.access_blocks():
        for statement, owner in zip(block.statement.tolist(), block.owner.tolist(), strict=True):
            found.setdefault(statement, set()).add(trace.access_owners[owner].name)
    for statement in trace.statements:
        names = {it.name for it in statement.owners}
        assert found.get(statement.index, set()) - {"(unknown)"} == names


def test_compiling_and_parts_of_an_upgrade_are_told():
    parts = (PartRun("pre_upgrade", 3, 1, 100), PartRun("post_upgrade", 5, 2, 50))
    with hand_run(WAT) as made:
        made.run("upgrade", "silent", parts=parts, compile_instructions=1_000_000)
        [message] = made.trace().messages
        [statement] = made.trace().statements
    assert [it.name for it in message.parts] == ["pre_upgrade", "post_upgrade"]
    assert message.instructions.total == 1_000_001
    assert statement.phase_instructions["prepare"] == 1_000_000
    assert message.limits[0].used == 5


def test_without_a_trace_messages_are_attributed_when_somebody_asks():
    with hand_run(WAT) as made:
        made.observation._writer = None
        ran(made)
        ended = made.observation.take_ended()
        assert made.observation.take_ended() == []
        assert [it.attribute().message.index for it in ended] == list(range(5))
        assert ended[0].attribute().footprint().os_pages_dirty == 30


def test_two_runs_give_equal_traces(tmp_path):
    texts = []
    for name in ("a", "b"):
        with hand_run(WAT, writer=TraceWriter(tmp_path / name, {})) as made:
            ran(made)
        with open_trace(tmp_path / name) as trace:
            texts.append("".join(render_json(trace)))
    assert texts[0] == texts[1]


def test_a_trap_is_the_message_and_not_the_run():
    with hand_run(WAT) as made:
        executed = made.run("update", "bad")
        assert isinstance(executed.trap, Trap)
        assert isinstance(made.run("update", "fill").answer, ReplyData)
        assert made.memory.wasm_pages == 40


def test_bytes_that_a_message_has_grown_were_zeros_before_it():
    with hand_run(WAT) as made:
        made.memory.begin("update")
        made.canister.instance.call("canister_update fill", b"")
        assert made.memory.peek(5000, 5) == b"hello"
        assert made.memory.peek_before(4990, 9000) == bytes(9000)
        made.memory.rollback()


class Costs:
    """What messages cost as the replica says it."""

    def __init__(self):
        self.of = {}

    def before_end(self, canister, executed, *, is_kept):
        pass

    def after_end(self, canister, executed):
        spent = executed.instructions + executed.heap_instructions + executed.compile_instructions
        self.of.setdefault(canister.name, []).append(spent)


@pytest.mark.parametrize(
    ("kind", "argument", "text"),
    [
        ("callback", b"DIDL\0\0", "reply of silent(0x4449444c0000)"),
        ("callback", b"IC0503: no\x1b", "reject of silent: IC0503: no\x1b"),
        ("callback", b"", "reply of silent()"),
        ("cleanup", b"", "cleanup of silent"),
        ("timer", b"", "silent()"),
    ],
)
def test_what_came_back_from_a_call_is_no_call(kind, argument, text):
    with hand_run(WAT) as made:
        made.run(kind, "silent", argument)
        with made.trace() as trace:
            assert trace.statements[0].sql == text
            assert "\x1b" not in render_table(trace)


def test_a_replica_is_watched_canister_by_canister():
    module = bytes(wasmtime.wat2wasm(WAT))
    costs = Costs()
    watching = ReplicaObservation(
        lambda name: ModuleObservation(name, TraceWriter(None, {}), module_name=f"{name}.wasm")
    )
    replica = Replica()
    replica.watchers += [watching, costs]
    for name in ("app", "other", "third"):
        replica.create(name)
        replica.install(name, module)
    replica.update("app", "fill", label="much")
    replica.query("app", "look")
    replica.update("other", "fill")
    replica.install("app", module, mode="upgrade")
    replica.install("app", module, mode="reinstall")
    replica.update("app", "bad")
    replica.uninstall("app")
    kinds = {}
    for name, observation in watching.canisters.items():
        with observation.trace() as trace:
            kinds[name] = [it.kind for it in trace.messages]
            assert trace.settings["canister"] == name
            assert trace.settings["module"] == f"{name}.wasm"
            assert [it.index for it in trace.messages] == list(range(len(trace.messages)))
            assert [it.instructions.total for it in trace.messages] == costs.of[name]
            render_table(trace)
            if name == "app":
                assert trace.messages[1].label == "much"
                assert trace.messages[1].stable.os_pages_dirty == 30
                assert trace.messages[4].image_bytes == trace.messages[6].image_bytes == 0
                assert trace.messages[5].trap is not None
    watching.close()
    replica.close()
    assert kinds["app"] == [
        *("install", "update", "query", "upgrade", "reinstall", "update", "uninstall")
    ]
    assert kinds["other"] == ["install", "update"]
    assert kinds["third"] == ["install"]


def test_bytes_of_a_memory_that_is_wiped_are_those_that_it_had():
    with hand_run(WAT) as made:
        made.run("update", "fill")
        made.memory.begin("reinstall")
        made.memory.wipe()
        assert made.memory.wasm_pages == 0
        assert made.memory.peek_before(5000, 5) == b"hello"
        assert made.memory.peek_before(40 * 65_536 - 2, 5) == bytes(5)
        made.memory.rollback()
        assert made.memory.peek(5000, 5) == b"hello"


@pytest.mark.parametrize("traps", [False, True])
def test_an_installation_alone_is_of_a_module(traps):
    body = "unreachable" if traps else ""
    module = bytes(wasmtime.wat2wasm(f'(module (func (export "canister_init") {body}))'))
    observation = ModuleObservation("app", TraceWriter(None, {}), module_name="app.wasm")
    replica = Replica()
    replica.watchers.append(observation)
    replica.create("app")
    assert (replica.install("app", module).rejection is not None) == traps
    with observation.trace() as trace:
        assert [it.outcome for it in trace.messages] == ["trapped" if traps else "committed"]
        assert trace.settings["engine"] == "module"
        assert trace.settings["module_bytes"] == len(module)
        assert "SQL" not in render_table(trace)
    observation.close()
    replica.close()
