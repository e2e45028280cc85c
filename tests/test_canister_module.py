"""A canister's module from Python: calls, answers, upgrades, what they took."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import wasmtime

import sqlstable
from sqlstable import (
    CanisterModule,
    MessageError,
    SettingsError,
    Trap,
    open_trace,
)
from sqlstable.analysis.advice.advise import advise
from sqlstable.candid.interface import Interface
from sqlstable.errors import CandidError, LimitTrap, ModuleError
from sqlstable.report.as_table import render_table
from tests.small_modules import COUNTER, GUESTBOOK, RELAY

WAT_NO_MEMORY = """(module
  (import "ic0" "msg_reply" (func $reply))
  (func (export "canister_update go") (call $reply)))"""

WAT_ENDLESS = """(module (memory 1)
  (func (export "canister_update go") (loop (br 0))))"""

WAT_SILENT = """(module (memory 1) (func (export "canister_update go")))"""


def assembled(text):
    return bytes(wasmtime.wat2wasm(text))


@pytest.fixture(name="counter")
def counter_fixture():
    with CanisterModule(COUNTER, "(10)", trace=":memory:") as counter:
        yield counter


# -- calls ---------------------------------------------------------------------------------------


def test_a_call_has_a_reply_and_what_it_took(counter):
    reply = counter.update("add", "(5)")
    assert (reply.answer, reply.text, reply.value) == ("reply", "(15 : nat64)", 15)
    assert reply.data == bytes.fromhex("4449444c000178") + (15).to_bytes(8, "little")
    assert reply.footprint.dirty.tolist() == [0, 1]
    assert reply.message.kind == "update"
    assert 0 < reply.instructions == reply.message.instructions.total
    assert counter.reply == 15
    assert counter.footprint.os_pages_dirty == 2
    assert counter.last is reply


@pytest.mark.parametrize(
    "argument",
    [
        *("(5)", "(5 : nat64)", "[5]", '["5"]', (5,), 5),
        bytes.fromhex("4449444c000178") + b"\5" + bytes(7),
    ],
)
def test_arguments_are_text_json_values_or_bytes(counter, argument):
    assert counter.update("add", argument).value == 15


def test_nothing_of_a_query_is_kept_and_equal_runs_are_equal(counter):
    first, second = counter.query("get"), counter.query("get")
    assert first.value == second.value == 10
    assert first.instructions == second.instructions
    assert first.message.outcome == "discarded"


def test_a_trap_is_raised_and_leaves_nothing(counter):
    with pytest.raises(Trap, match="this counter fails"):
        counter.update("fail")
    assert counter.last.answer == "reject"
    assert counter.last.footprint.os_pages_dirty == 2
    assert counter.query("get").value == 10


def test_a_reject_is_no_trap(counter):
    reply = counter.update("refuse")
    assert (reply.answer, reply.trap, int(reply.rejection.code)) == ("reject", None, 4)
    assert reply.rejection.message == "this counter refuses"
    with pytest.raises(MessageError, match=r"refuse has no reply: rejected \(4"):
        _ = reply.value
    with pytest.raises(MessageError, match="has no reply"):
        _ = counter.reply


def test_no_answer_is_neither_reply_nor_reject():
    with CanisterModule(assembled(WAT_SILENT)) as silent:
        reply = silent.update("go")
        assert reply.answer == "reject"
        assert "did not" in reply.rejection.message


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ('("five")', "add takes (nat64)"),
        ("(5, 6)", "add takes (nat64)"),
        ("(5", "add takes (nat64)"),
        ((-1,), "add takes (nat64)"),
    ],
)
def test_an_argument_of_other_types_is_refused_before_anything_runs(counter, argument, said):
    with pytest.raises(CandidError) as raised:
        counter.update("add", argument)
    assert said in str(raised.value)
    assert counter.last.message.kind == "install"


HALF = "\ud800"

NO_TEXTS = {
    "no method": (lambda it: it.update(None), TypeError, "a method is a text, not None"),
    "a number": (lambda it: it.query(5), TypeError, "a method is a text, not 5, a int"),
    "half a method": (lambda it: it.update(HALF), SettingsError, "lone surrogate as character 0"),
    "half an argument": (lambda it: it.update("add", f'("{HALF}")'), CandidError, "character 2"),
    "half a value": (lambda it: it.update("add", [HALF]), CandidError, "hex escape"),
    "half a caller": (lambda it: it.query("get", caller=HALF), SettingsError, "a caller is Uni"),
    "a caller": (lambda it: it.query("get", caller=5), TypeError, "a caller is a text, not 5"),
    "half a label": (lambda it: it.query("get", label=HALF), SettingsError, "a label is Unicode"),
    "no time": (lambda it: it.advance(float("nan")), SettingsError, "by nan s; .* in 2554"),
    "endless": (lambda it: it.advance(float("inf")), SettingsError, "by inf s; .* in 2554"),
    "very long": (lambda it: it.advance(1e300), SettingsError, "64 bits"),
    "long": (lambda it: it.advance(10**30), SettingsError, "64 bits"),
    "a time": (lambda it: it.advance("5"), TypeError, "a number of seconds, not by '5', a str"),
}


@pytest.mark.parametrize(("call", "kind", "said"), NO_TEXTS.values(), ids=NO_TEXTS)
def test_what_cannot_be_called_is_refused_with_words(counter, call, kind, said):
    with pytest.raises(kind, match=said):
        call(counter)
    assert counter.update("add", "(5)").value == 15


def test_a_time_is_a_datetime():
    with pytest.raises(TypeError, match="a time is a datetime, not 'foo', a str"):
        CanisterModule(COUNTER, "(10)", time="foo")


def test_a_method_that_is_not_there_is_named(counter):
    with pytest.raises(CandidError, match="no method 'ad'; it has add"):
        counter.update("ad")


def test_without_an_interface_text_and_bytes_do():
    with CanisterModule(assembled(WAT_NO_MEMORY)) as bare:
        assert bare.interface is None
        assert bare.update("go").data == b""
        with pytest.raises(CandidError, match="nobody says them; give did="):
            bare.update("go", (1,))


def test_an_interface_can_be_given():
    did = "service : { go : (nat8) -> () }"
    with CanisterModule(assembled(WAT_NO_MEMORY), did=did) as bare:
        with pytest.raises(CandidError, match="go takes"):
            bare.update("go")
        assert bare.update("go", (1,)).answer == "reply"
    with CanisterModule(assembled(WAT_NO_MEMORY), did=Interface.of_did(did)) as bare:
        assert set(bare.interface.methods) == {"go"}


def test_an_interface_beside_the_module_is_found(tmp_path):
    (tmp_path / "app.wasm").write_bytes(assembled(WAT_NO_MEMORY))
    (tmp_path / "app.did").write_text("service : { go : () -> () }")
    with CanisterModule(tmp_path / "app.wasm") as app:
        assert [*app.interface.methods] == ["go"]


# -- life ----------------------------------------------------------------------------------------


def test_an_upgrade_keeps_stable_memory_and_a_reinstallation_does_not(counter):
    counter.update("add", (5,))
    assert counter.upgrade().answer == "reply"
    assert counter.query("get").value == 15
    counter.reinstall(argument="(3)")
    assert counter.query("get").value == 3


def test_what_hooks_save_is_there_after_an_upgrade():
    with CanisterModule(GUESTBOOK) as book:
        for number in range(40):
            assert book.update("sign", (f"guest {number}",)).value == number
        upgraded = book.upgrade()
        assert [part.name for part in upgraded.message.parts] == ["pre_upgrade", "post_upgrade"]
        assert book.query("read", (7,)).value == "guest 7"
        assert book.query("find", ("guest 7",)).value == 1
        assert book.query("count").value == 40


def test_an_upgrade_to_what_is_no_module_changes_nothing(counter):
    with pytest.raises(ModuleError):
        counter.upgrade(b"no module")
    assert counter.query("get").value == 10
    assert set(counter.interface.methods) >= {"add", "get"}


def test_an_image_keeps_stable_memory_and_is_gone_on_with(tmp_path):
    image = tmp_path / "counter.stable"
    with CanisterModule(COUNTER, "(10)", image=image) as counter:
        counter.update("add", (5,))
    with CanisterModule(COUNTER, image=image) as counter:
        assert counter.query("get").value == 15


def test_an_image_without_the_heap_that_a_module_keeps_says_so(tmp_path):
    title = b"icp:private enhanced-orthogonal-persistence"
    module = assembled(WAT_NO_MEMORY) + bytes([0, len(title) + 1, len(title)]) + title
    with (
        pytest.warns(RuntimeWarning, match="keeps stable memory alone"),
        CanisterModule(module, image=tmp_path / "app.stable") as app,
    ):
        assert app.update("go").answer == "reply"


def test_what_never_ran_has_no_figures():
    with CanisterModule(assembled(WAT_NO_MEMORY)) as bare:
        reply = bare.update("gone")
        assert (reply.answer, reply.executed) == ("reject", ())
        assert "rejected" in repr(reply)
        for figure in ("instructions", "footprint"):
            with pytest.raises(MessageError, match="gone ran no message: rejected"):
                getattr(reply, figure)


def test_what_is_closed_says_so():
    with CanisterModule(COUNTER, "(10)", name="app") as counter:
        pass
    assert repr(counter) == "CanisterModule(app, closed)"
    assert "closed" in counter._repr_html_()
    for act in (lambda: counter.query("get"), counter.heartbeat, lambda: counter.advance(1)):
        with pytest.raises(MessageError, match="closed"):
            act()


def test_time_stands_still_unless_it_is_told_to_go_on(counter):
    counter.update("add_later", (7, 60))
    counter.advance(59)
    assert counter.query("get").value == 10
    ran = counter.advance(1)
    assert [it.kind for it in ran.messages] == ["timer"]
    assert counter.query("get").value == 17
    with pytest.raises(SettingsError, match="is not set"):
        counter.timer()
    counter.update("add_later", (7, 3600))
    counter.timer()
    assert counter.query("get").value == 24


def test_time_is_what_one_says():
    time = datetime(2026, 7, 1, tzinfo=UTC)
    with CanisterModule(COUNTER, "(1)", time=time) as counter:
        counter.update("add_later", (1, 10))
        counter.timer()
        assert counter.last.executed[0].time_ns == int(time.timestamp() + 10) * 10**9


# -- several -------------------------------------------------------------------------------------


def test_canisters_call_each_other_and_each_message_has_its_own_footprint():
    with CanisterModule(RELAY, canisters={"counter": (COUNTER, "(10)")}, trace=":memory:") as relay:
        counter = relay.canister("counter")
        reply = relay.update("ask", (counter.principal,))
        assert reply.value == 10
        assert [(it.kind, it.call.calls_made) for it in reply.messages] == [
            ("update", 1),
            ("replicated_query", 0),
            ("callback", 0),
        ]
        assert [it.canister for it in reply.executed] == ["relay", "counter", "relay"]
        assert relay.query("asked").value == 1
        with relay.trace() as trace:
            assert [it.kind for it in trace.messages] == ["install", "update", "callback", "query"]


def test_a_callback_that_traps_leaves_what_came_before_it():
    with CanisterModule(RELAY, canisters={"counter": (COUNTER, "(10)")}) as relay:
        counter = relay.canister("counter")
        with pytest.raises(Trap, match="the callback fails"):
            relay.update("ask_and_fail", (counter.principal,))
        assert relay.query("asked").value == 1


def test_a_call_to_nobody_is_rejected_and_handed_on():
    with CanisterModule(RELAY) as relay:
        reply = relay.update("ask", ("rrkah-fqaaa-aaaaa-aaaaq-cai",))
        assert reply.answer == "reject"
        assert "rrkah-fqaaa-aaaaa-aaaaq-cai" in reply.rejection.message
        with pytest.raises(SettingsError, match="there is no canister 'counter'"):
            relay.canister("counter")


def test_heartbeats_run_when_asked():
    with CanisterModule(RELAY) as relay:
        relay.heartbeat()
        relay.heartbeat()
        assert relay.query("asked").value == 2


# -- observed ------------------------------------------------------------------------------------


def test_a_trace_file_has_every_message(tmp_path):
    path = tmp_path / "counter.trace"
    with CanisterModule(COUNTER, "(10)", trace=path) as counter:
        counter.update("add", (5,), label="five")
    with open_trace(path) as trace:
        last = trace.messages[-1]
        assert (last.label, last.call.text, last.call.answer_text) == (
            *("five", "add(5 : nat64)", "(15 : nat64)"),
        )


def test_two_runs_are_identical(tmp_path):
    def run(name):
        with CanisterModule(COUNTER, "(10)", trace=tmp_path / name) as counter:
            for number in range(5):
                counter.update("add", (number,))
            counter.upgrade()
        with open_trace(tmp_path / name) as trace:
            return [*trace.messages], [*trace.statements]

    assert run("a.trace") == run("b.trace")


def test_a_notebook_shows_replies_and_canisters(counter):
    assert "add : (nat64)" in counter._repr_html_()
    assert "(15 : nat64)" in counter.update("add", (5,))._repr_html_()
    with counter.trace() as trace:
        assert "<table" in trace._repr_html_()
    with pytest.raises(Trap):
        counter.update("fail")
    assert "trapped" in counter.last._repr_html_()


def test_callers_are_names_or_principals(counter):
    counter.update("add", (1,), caller="ana")
    assert len(counter.last.executed[0].caller) == 29
    counter.update("add", (1,), caller="2vxsx-fae")
    assert counter.last.executed[0].caller == b"\x04"
    with pytest.raises(SettingsError, match="is no principal"):
        counter.update("add", (1,), caller="aaaaa-bb")


# -- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("missing.wasm", "there is no file missing.wasm"),
        (Path(), "is a folder"),
        (b"", "module"),
        (b"hello", "module"),
        (b"\x1f\x8b\x08" + bytes(40), "module"),
    ],
)
def test_what_is_no_module_is_refused(module, said):
    with pytest.raises(ModuleError, match=said):
        CanisterModule(module)


def test_init_says_what_it_takes():
    with pytest.raises(CandidError, match=r"init takes \(nat64\)"):
        CanisterModule(COUNTER)


def test_an_endless_loop_ends_at_the_limit():
    update = replace(sqlstable.latest_limits().update, instructions_max=10_000_000)
    few = replace(sqlstable.latest_limits(), update=update)
    with (
        CanisterModule(assembled(WAT_ENDLESS), limits=few) as endless,
        pytest.raises(Trap, match="instructions for single message execution"),
    ):
        endless.update("go")


def test_a_heap_beyond_the_setting_is_named_and_nobody_is_told_to_split_the_message():
    module = """(module (memory 1) (func (export "canister_update go")
      (drop (memory.grow (i32.const 49152)))))"""
    with CanisterModule(assembled(module), trace=":memory:") as canister:
        with pytest.raises(LimitTrap, match="exceeded its current Wasm memory limit"):
            canister.update("go")
        with canister.trace() as trace:
            shown = render_table(trace)
            assert [it.code for it in advise(trace)] == []
    assert "1 message over a limit: message 1 (trapped by wasm_memory_limit)" in shown


def test_a_trace_that_was_not_asked_for_is_not_there():
    with CanisterModule(COUNTER, "(1)") as counter:
        with pytest.raises(MessageError, match="there is no trace"):
            counter.trace()
        with pytest.raises(MessageError, match="nothing has been called"):
            _ = counter.canister("counter").footprint
