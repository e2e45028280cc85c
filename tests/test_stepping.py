"""Running the steps of a workload: what is done, what is expected, how a run ends."""

import pytest
import wasmtime

from sqlstable.errors import ScriptError
from sqlstable.module.module_world import IN_MEMORY, ModuleWorld
from sqlstable.workload.stepping.ready_steps import ready_steps
from sqlstable.workload.stepping.step_parsing import parse_workload
from sqlstable.workload.stepping.step_running import prepare_workload, run_module_steps
from tests.small_modules import COUNTER, GUESTBOOK, READY, RELAY


class Stepped:
    """What a workload did."""

    def __init__(self, text, folder=READY, *, did=None, keep_going=False, image=None):
        steps = parse_workload(text, name="w")
        workload = prepare_workload(steps, name="w", folder=folder, did=did)
        world = ModuleWorld(trace=IN_MEMORY)
        try:
            self.outcome = run_module_steps(world, workload, keep_going=keep_going, image=image)
            self.traces = {name: world.trace(name) for name in world.traced}
        finally:
            world.close()
        self.failure = self.outcome.failure

    def messages(self, name="counter"):
        with self.traces[name] as trace:
            return [*trace.messages]


def stepped(text, **given):
    return Stepped(f"install counter.wasm '(10)'\n{text}", **given)


def test_the_ready_workload_comes_to_what_it_says():
    ran = Stepped(ready_steps("@counter"))
    assert ran.failure is None
    assert ran.outcome.done == 211
    assert ran.messages()[3].label == "two hundred more"


def test_steps_are_messages_with_labels_callers_and_numbers():
    ran = stepped("label five\nas ana update add '(5)'\nrepeat 3 update add '({i})'\ncall get")
    assert ran.failure is None
    found = [(it.kind, it.label, it.call.text) for it in ran.messages()]
    assert found == [
        ("install", None, "install(10 : nat64)"),
        ("update", "five", "add(5 : nat64)"),
        ("update", None, "add(0 : nat64)"),
        ("update", None, "add(1 : nat64)"),
        ("update", None, "add(2 : nat64)"),
        ("query", None, "get()"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("update fail", "w, line 2: update fail: it trapped: this counter fails"),
        ("update refuse", "w, line 2: update refuse: rejected (4 CANISTER_REJECT"),
        ("update add '(1)'\nexpect trap", "expected a trap, but it replied (11 : nat64)"),
        ("update add '(1)'\nexpect reject", "expected a reject, but it replied (11 : nat64)"),
        ("update add '(1)'\nexpect pending", "expected no answer yet, but it replied"),
        (
            "update add '(1)'\n(12)",
            "w, line 2: it replied (11 : nat64), expected (12 : nat64) (w, line 3)",
        ),
        ("update refuse\nexpect reject 5", "expected reject code 5, but rejected (4"),
        ("update refuse\nexpect reject 'no'", "expected a reject that says 'no', but it says"),
        ("update refuse\nexpect trap", "expected a trap, but rejected (4"),
        ("update fail\nexpect trap 'bounds'", "expected a trap that says 'bounds', but it says"),
        ("update fail\nexpect reply", "expected a reply, but it trapped"),
        ("update add '(1)'\nexpect dirty < 2", "dirty is 2, expected < 2 (w, line 3)"),
        ("update add '(\"a\")'", "w, line 2: update add: "),
        ("update ad", "the interface has no method 'ad'; it has add"),
        ("query add '(1)'", "w, line 2: query add: rejected (5"),
        ("timer", "w, line 2: timer: the timer of counter is not set"),
        ("upgrade relay.wasm", "there is no file"),
    ],
)
def test_what_comes_to_something_else_fails_with_its_line(text, said):
    try:
        failure = stepped(text).failure
    except ScriptError as error:
        failure = str(error)
    assert said in failure


@pytest.mark.parametrize(
    "text",
    [
        "update fail\nexpect trap",
        "update fail\nexpect trap 'counter fails'\nexpect reject 5",
        "update fail\nexpect reject",
        "update refuse\nexpect reject 4 refuses",
        "update add '(5)'\nexpect reply\nexpect reply '15'\nexpect reply '(15 : nat64)'",
        "update add '(5)'\n(\n  15 : nat64, // as dfx has it\n)",
        "update add '(5)'\nexpect accessed = 2\nexpect messages = 1\nexpect reply-bytes = 15",
        "update add_later '(5, 60)'\nadvance 1m\nexpect messages = 1\nquery get\n(15)",
        "update add_later '(5, 60)'\ntimer\nquery get\n(15)",
        "repeat 3 update add '({i})'\nexpect instructions < 1M",
        "stop\nupdate add '(1)'\nexpect reject\nstart\nupdate add '(1)'\n(11)",
        "uninstall\nquery get\nexpect reject",
        "update add 0x4449444c0001780500000000000000\n(15)",
        "update add '[5]'\nexpect reply '[\"15\"]'",
    ],
)
def test_what_is_expected_is_no_failure(text):
    assert stepped(text).failure is None


def test_a_run_ends_at_a_failure_unless_it_is_to_go_on():
    text = "update fail\nupdate add '(1)'\nupdate refuse"
    assert stepped(text).outcome.done == 2
    ran = stepped(text, keep_going=True)
    assert (ran.outcome.done, ran.outcome.failures) == (4, 2)
    assert "line 2" in ran.failure


def test_what_is_sent_waits_and_what_is_expected_of_it_is_looked_at_by_await():
    ran = stepped("send add '(1)'\n(11)\nsend add '(2)'\n(13)\nawait\nexpect messages = 2")
    assert ran.failure is None
    ran = stepped("send add '(1)'\n(12)\nawait")
    assert "w, line 4: line 2: it replied (11 : nat64), expected (12 : nat64)" in ran.failure
    ran = stepped("send refuse\nquery get")
    assert "w, line 2: send refuse: rejected (4" in ran.failure


def test_several_canisters_know_each_other_by_name():
    ran = Stepped(
        f"create counter\ninstall relay={RELAY}\ninstall counter={COUNTER} '(10)'\n"
        "update relay.ask '(principal \"{counter.id}\")'\n(10)\nexpect messages = 3\n"
        "query relay.ask_query '(principal \"{counter.id}\")'\n(10)\n"
        "update relay.ask_and_fail '(principal \"{counter.id}\")'\nexpect trap 'callback fails'\n"
        "update relay.ask '(principal \"{ana.id}\")'\nexpect reject\n"
        "heartbeat relay\nquery relay.asked\n(4)"
    )
    assert ran.failure is None
    assert set(ran.traces) == {"counter", "relay"}
    assert [it.kind for it in ran.messages("relay")][:3] == ["install", "update", "callback"]


def test_arguments_come_from_files(tmp_path):
    (tmp_path / "entry.did").write_text('("from {i} a file")\n')
    (tmp_path / "blob.bin").write_bytes(bytes.fromhex("4449444c0001710161"))
    ran = Stepped(
        f"install {GUESTBOOK}\nrepeat 2 update sign @entry.did\nquery read '(1)'\n"
        '("from 1 a file")\nupdate sign @blob.bin\nquery read (2)\n("a")',
        folder=tmp_path,
    )
    assert ran.failure is None
    ran = Stepped(f"install {GUESTBOOK}\nupdate sign @gone.did", folder=tmp_path)
    assert "there is no file" in ran.failure


def test_a_blob_of_a_file_is_all_its_bytes(tmp_path):
    wasm = wasmtime.wat2wasm(
        """(module (memory 1)
          (import "ic0" "msg_arg_data_size" (func $size (result i32)))
          (import "ic0" "msg_arg_data_copy" (func $copy (param i32 i32 i32)))
          (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
          (import "ic0" "msg_reply" (func $reply))
          (func (export "canister_update echo")
            (call $copy (i32.const 0) (i32.const 0) (call $size))
            (call $append (i32.const 0) (call $size)) (call $reply)))""".replace(
            "(memory 1)", ""
        ).replace("(func (export", "(memory 1) (func (export")
    )
    (tmp_path / "echo.wasm").write_bytes(wasm)
    (tmp_path / "all.bin").write_bytes(bytes(range(256)))
    text = "install echo.wasm\nupdate echo (blob_of_file)\nexpect reply (blob_of_file)"
    ran = Stepped(text.replace("blob_of_file", "{file:all.bin}"), folder=tmp_path)
    assert ran.failure is None


def test_an_image_is_gone_on_with(tmp_path):
    image = tmp_path / "counter.stable"
    assert stepped("update add '(5)'", image=image).failure is None
    ran = Stepped("install counter.wasm\nquery get\n(15)", image=image)
    assert ran.failure is None
    assert ran.messages()[0].kind == "upgrade"


def test_what_is_missing_is_said_before_anything_runs(tmp_path):
    for text, said in (
        ("install gone.wasm", "w, line 1: there is no file"),
        (f"install {COUNTER} --did gone.did", "gone.did; --did takes the interface"),
        (f"install {tmp_path}", "is a folder"),
        (f"install {__file__}", "give the .wasm file of a canister"),
        ("install app.wasm\nas aaaaa-bb update add", "is no principal"),
    ):
        (tmp_path / "app.wasm").write_bytes(COUNTER.read_bytes())
        with pytest.raises(ScriptError) as raised:
            Stepped(text, folder=tmp_path)
        assert said in str(raised.value)
