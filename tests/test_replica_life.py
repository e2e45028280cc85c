"""The life of a canister in a replica: install, upgrade, reinstall, stop; and what fails of it."""

import pytest

from sqlstable.errors import SettingsError
from sqlstable.ic.limits import latest_limits
from sqlstable.ic.principals import canister_id
from sqlstable.replica.replica import Replica
from sqlstable.wasm.instance import Instance
from tests.replica_world import (
    REPLY,
    TRAP,
    add,
    call,
    counters,
    script_module,
    scripted,
)

A, B = map(canister_id, range(2))

STARTING = script_module("(func $first (call $count (i64.const 10000))) (start $first)")


def test_install_runs_start_and_init():
    with scripted() as replica:
        replica.create("a")
        result = replica.install("a", STARTING, add(5), label="first")
        (executed,) = result.executed
        assert (executed.kind, executed.label, executed.is_kept) == ("install", "first", True)
        assert [it.name for it in executed.parts] == ["start", "init"]
        assert executed.instructions == sum(it.instructions for it in executed.parts)
        assert counters(replica, "a") == (10_005, 10_005)


def test_an_upgrade_asks_the_old_code_and_keeps_stable_memory():
    with scripted("a") as replica:
        replica.update("a", "run", add(7) + REPLY)
        version = replica.canister("a").version
        result = replica.install("a", script_module(), add(20), mode="upgrade")
        (executed,) = result.executed
        assert [it.name for it in executed.parts] == ["pre_upgrade", "post_upgrade"]
        assert counters(replica, "a") == (1_000_027, 1_000_027)
        assert replica.canister("a").version == version + 1
        replica.install("a", script_module(), mode="upgrade", skip_pre_upgrade=True)
        assert counters(replica, "a") == (1_000_027, 1_000_027)


@pytest.mark.parametrize("mode", ["upgrade", "reinstall"])
def test_a_step_that_fails_leaves_everything_as_it_was(mode):
    with scripted("a") as replica:
        replica.update("a", "run", add(7) + b"G" + bytes([9, 0, 0, 0]) + b"D" + REPLY)
        canister = replica.canister("a")

        def facts():
            return (
                *(canister.module, canister.version, canister.timer_ns, canister.cycles),
                *(canister.certified_data, counters(replica, "a")),
            )

        before = facts()
        result = replica.install("a", STARTING, add(1) + TRAP, mode=mode)
        assert result.rejection.error_code == "IC0503"
        assert [it.is_kept for it in result.executed] == [False]
        assert facts() == before
        broken = replica.install("a", b"\0asm\1\0\0\0\xff", mode=mode)
        assert broken.rejection.error_code == "IC0505"
        assert "Canister's Wasm module is not valid: " in broken.rejection.message
        assert facts() == before
        # The heap is there as it was, and works.
        replica.update("a", "run", add(1) + REPLY)
        assert counters(replica, "a") == (8, 8)


def test_a_reinstallation_begins_with_nothing():
    with scripted("a") as replica:
        replica.update("a", "run", add(7) + b"D" + REPLY)
        replica.install("a", script_module(), add(2), mode="reinstall")
        assert counters(replica, "a") == (2, 2)
        assert replica.canister("a").certified_data == b""
        again = replica.install("a", script_module())
        assert again.rejection.error_code == "IC0514"


def test_uninstalled_code_is_gone_and_can_be_installed_again():
    with scripted("a") as replica:
        replica.update("a", "run", add(7) + REPLY)
        assert [it.kind for it in replica.uninstall("a").executed] == ["uninstall"]
        assert replica.update("a", "run").rejection.error_code == "IC0537"
        replica.install("a", script_module(), add(3))
        assert counters(replica, "a") == (3, 3)


def test_uninstalling_rejects_what_is_awaited():
    with scripted("a", "b") as replica:
        script = add(1) + call(B, REPLY, reply=add(5) + REPLY)
        ticket = replica.submit("a", "run", script)
        assert replica.step()
        replica.uninstall("a")
        rejection = replica.result(ticket).rejection
        assert (rejection.error_code, rejection.message) == (
            "IC0406",
            "Canister has been uninstalled.",
        )
        assert replica.waiting_count == 0
        replica.install("a", script_module())
        assert counters(replica, "a") == (0, 0)


def test_a_stopping_canister_takes_answers_only():
    with scripted("a", "b") as replica:
        script = call(B, REPLY, reply=add(5) + REPLY)
        ticket = replica.submit("a", "run", script)
        assert replica.step()
        other = replica.submit("b", "run", call(A, REPLY, reject=b"K" + REPLY))
        stopped = replica.stop("a")
        assert stopped.reply is not None
        assert replica.result(ticket).reply is not None
        # The reject says that it is stopping, with code 5.
        assert int.from_bytes(replica.result(other).reply[:8], "little") == 5
        assert replica.update("a", "run").rejection.error_code == "IC0508"
        assert replica.query("a", "look").rejection.message.endswith("is stopped")
        replica.start("a")
        assert counters(replica, "a") == (5, 5)


def test_an_upgrade_between_call_and_callback_runs_the_new_code():
    with scripted("a", "b") as replica:
        ticket = replica.submit("a", "run", call(B, REPLY, reply=add(5) + REPLY))
        assert replica.step()
        assert replica.install("a", script_module(), mode="upgrade").reply is not None
        # Scripts of callbacks lie in the heap, which is a new one: the callback does nothing.
        assert replica.result(ticket).rejection.error_code == "IC0506"
        assert counters(replica, "a") == (1_000_000, 1_000_000)


def test_only_stopped_canisters_are_deleted():
    with scripted("a", "b") as replica:
        assert replica.delete("a").rejection.error_code == "IC0510"
        replica.stop("a")
        assert replica.delete("a").reply is not None
        with pytest.raises(SettingsError, match="there is no canister 'a'; there are: b"):
            replica.canister("a")
        result = replica.update("b", "run", call(A, reject=b"K" + REPLY))
        assert int.from_bytes(result.reply[:8], "little") == 3


def test_an_image_keeps_stable_memory_for_another_process(tmp_path):
    image = tmp_path / "a.stable"
    with scripted() as replica:
        replica.create("a", image=image)
        replica.install("a", script_module(), add(3))
    with scripted() as replica:
        replica.create("a", image=image)
        refused = replica.install("a", script_module())
        assert "holds 1 Wasm pages; upgrade to go on with them" in refused.rejection.message
        result = replica.install("a", script_module(), add(4), mode="upgrade")
        assert [it.name for it in result.executed[0].parts] == ["post_upgrade"]
        assert counters(replica, "a") == (7, 7)


def test_compiling_counts_against_the_limit_of_the_step():
    with scripted() as replica:
        replica.create("a")
        (executed,) = replica.install("a", script_module()).executed
        # 6,000 for each operator of the module, with those that metering puts in.
        assert executed.compile_instructions > 6_000 * 300
        assert executed.compile_instructions % 6_000 == 0
        left = executed.status.counter
        assert left == (
            latest_limits().upgrade.instructions_max
            - executed.instructions
            - executed.heap_instructions
            - executed.compile_instructions
        )


LOW = '(func (export "canister_on_low_wasm_memory") (call $count (i64.const 7)))'


def test_the_hook_for_low_memory_runs_once_below_the_threshold():
    with scripted("a", module=script_module(LOW)) as replica:
        settings = replica.canister("a").settings
        settings.wasm_memory_threshold = settings.wasm_memory_limit
        result = replica.update("a", "run", call(A, REPLY, reply=REPLY))
        assert [it.kind for it in result.executed] == [
            "update",
            "low_memory",
            "update",
            "callback",
        ]
        assert counters(replica, "a") == (7, 7)


def test_a_heap_beyond_its_setting_is_a_trap_of_updates_only():
    with scripted("a") as replica:
        replica.update("a", "run", add(3) + REPLY)
        replica.canister("a").settings.wasm_memory_limit = 63 << 16
        refused = replica.update("a", "run", add(4) + REPLY).rejection
        assert refused.error_code == "IC0539"
        assert "limit of 4128768 bytes. The peak Wasm memory usage was 4194304 bytes" in (
            refused.message
        )
        assert counters(replica, "a") == (3, 3)
        assert replica.install("a", script_module(), mode="upgrade").rejection.error_code == (
            "IC0539"
        )
        replica.heartbeat("a")
        assert counters(replica, "a") == (103, 103)


def test_an_interrupt_takes_the_message_back_and_nothing_else(monkeypatch):
    with scripted("a", "b") as replica:
        execute = Instance.execute

        def interrupted(self, entry, argument, environment):
            result = execute(self, entry, argument, environment)
            if environment.self_id == B:
                raise KeyboardInterrupt
            return result

        monkeypatch.setattr(Instance, "execute", interrupted)
        with pytest.raises(KeyboardInterrupt):
            replica.update("b", "run", add(5) + REPLY)
        monkeypatch.undo()
        assert counters(replica, "b") == (0, 0)
        assert replica.stop("b").reply is not None
        replica.start("b")
        replica.update("b", "run", add(6) + REPLY)
        assert counters(replica, "b") == (6, 6)


@pytest.mark.parametrize("seconds", [-1, 2**34, 1e30, float("inf"), float("nan")])
def test_time_passes_within_what_a_canister_can_be_told(seconds):
    replica = Replica()
    before = replica.time_ns
    with pytest.raises(SettingsError, match="time was to advance"):
        replica.advance(seconds)
    assert replica.time_ns == before
    replica.close()
    with pytest.raises(SettingsError, match="1970"):
        Replica(time_ns=[-1, 1 << 64][seconds > 0])


def test_a_balance_has_128_bits():
    replica = Replica()
    for cycles in (-1, 1 << 128):
        with pytest.raises(SettingsError, match="cycles"):
            replica.create("app", cycles=cycles)
    assert replica.create("app", cycles=(1 << 128) - 1)
    replica.close()
