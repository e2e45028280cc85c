"""The management canister of a replica."""

from hashlib import sha256

import pytest

from sqlstable.ic.principals import MANAGEMENT, canister_id, principal_text
from sqlstable.replica.management_interface import MISSING, management_interface
from sqlstable.replica.rejects import RejectCode
from tests.replica_world import REPLY, add, counters, manage, script_module, scripted

A, B = map(canister_id, range(2))
SOMEBODY = b"\x05\x02"


def ask(replica, method, fields=None, **options):
    """Call a method with JSON, and return what it replies as JSON, or its reject."""
    interface = management_interface()
    arguments = [] if fields is None else [fields]
    data = interface.encode(method, arguments)
    result = replica.update("aaaaa-aa", method, data, **options)
    if result.rejection is not None:
        return result.rejection
    reply = interface.decode_reply_json(method, result.reply)
    return reply[0] if reply else None


def blob(data):
    return "0x" + data.hex()


def test_a_canister_is_made_installed_and_deleted_by_candid_alone():
    with scripted() as replica:
        made = ask(replica, "provisional_create_canister_with_cycles", {"amount": 5_000})
        name = made["canister_id"]
        assert (name, replica.canister(name).cycles) == (principal_text(A), 5_000)
        arguments = {
            "mode": "install",
            "canister_id": name,
            "wasm_module": blob(script_module()),
            "arg": blob(add(3)),
        }
        assert ask(replica, "install_code", arguments) is None
        assert counters(replica, name) == (3, 3)
        upgrade = {"upgrade": {"skip_pre_upgrade": True}}
        assert ask(replica, "install_code", {**arguments, "mode": upgrade}) is None
        assert counters(replica, name) == (6, 6)
        status = ask(replica, "canister_status", {"canister_id": name})
        assert status["status"] in ("running", {"running": None})
        assert status["module_hash"] == blob(sha256(script_module()).digest())
        assert status["memory_metrics"]["stable_memory_size"] == 65_536
        assert ask(replica, "stop_canister", {"canister_id": name}) is None
        assert ask(replica, "delete_canister", {"canister_id": name}) is None
        assert ask(replica, "canister_status", {"canister_id": name}).error_code == "IC0301"


def test_only_controllers_control():
    with scripted("a") as replica:
        for method, more in (
            ("stop_canister", {}),
            ("uninstall_code", {}),
            ("canister_status", {}),
            ("update_settings", {"settings": {}}),
            ("upload_chunk", {"chunk": "0x00"}),
        ):
            fields = {"canister_id": principal_text(A), **more}
            refused = ask(replica, method, fields, caller=SOMEBODY)
            assert refused.error_code == "IC0512"
            assert refused.message.splitlines()[1] == "Canister's controllers: 2vxsx-fae"
        change = {"controllers": [principal_text(SOMEBODY)], "freezing_threshold": 7}
        fields = {"canister_id": principal_text(A), "settings": change}
        assert ask(replica, "update_settings", fields) is None
        assert replica.canister("a").settings.freezing_threshold == 7
        stop = {"canister_id": principal_text(A)}
        assert ask(replica, "stop_canister", stop).error_code == "IC0512"
        assert ask(replica, "stop_canister", stop, caller=SOMEBODY) is None


def test_a_module_is_installed_from_its_chunks():
    module, name = script_module(), principal_text(A)
    with scripted() as replica:
        replica.create("a")
        parts = [module[:1000], module[1000:]]
        for part in parts:
            got = ask(replica, "upload_chunk", {"canister_id": name, "chunk": blob(part)})
            assert got == {"hash": blob(sha256(part).digest())}
        stored = ask(replica, "stored_chunks", {"canister_id": name})
        assert {it["hash"] for it in stored} == {blob(sha256(it).digest()) for it in parts}
        fields = {
            "mode": "install",
            "target_canister": name,
            "chunk_hashes_list": [{"hash": blob(sha256(it).digest())} for it in parts],
            "wasm_module_hash": blob(sha256(module).digest()),
            "arg": blob(add(4)),
        }
        wrong = {**fields, "wasm_module_hash": blob(bytes(32))}
        assert "does not match given hash" in ask(replica, "install_chunked_code", wrong).message
        assert ask(replica, "install_chunked_code", fields) is None
        assert counters(replica, "a") == (4, 4)


def test_randomness_is_seeded_and_differs_from_call_to_call():
    def drawn(seed):
        with scripted(seed=seed) as replica:
            return [ask(replica, "raw_rand") for _ in range(3)]

    assert drawn(1) == drawn(1)
    assert len({*drawn(1), *drawn(2)}) == 6
    assert all(len(it) == 2 + 64 for it in drawn(1))


@pytest.mark.parametrize("method", sorted(MISSING))
def test_what_needs_a_network_is_rejected_and_says_what_is_missing(method):
    with scripted() as replica:
        rejection = replica.update("aaaaa-aa", method).rejection
        assert rejection.code is RejectCode.CANISTER_REJECT
        assert rejection.message.startswith(f"{method} cannot be answered here: there is no ")
        assert MISSING[method] in rejection.message


def test_bad_calls_are_rejected():
    with scripted("a") as replica:
        unknown = replica.update(MANAGEMENT, "make_coffee").rejection
        assert unknown.message == "Management canister has no method 'make_coffee'"
        broken = replica.update(MANAGEMENT, "stop_canister", b"junk").rejection
        assert broken.error_code == "IC0408"
        assert broken.message.startswith("Error decoding candid: ")
        info = ask(replica, "canister_info", {"canister_id": principal_text(B)})
        assert info.error_code == "IC0301"


def test_cycles_are_deposited_with_a_call():
    with scripted("a", "b") as replica:
        a, b = replica.canister("a"), replica.canister("b")
        before = a.cycles + a.cycles_paid, b.cycles
        data = management_interface().encode("deposit_cycles", [{"canister_id": principal_text(B)}])
        script = manage("deposit_cycles", data, cycles=77, reply=add(1) + REPLY)
        assert replica.update("a", "run", script).reply is not None
        assert (a.cycles + a.cycles_paid, b.cycles) == (before[0] - 77, before[1] + 77)


def test_a_canister_makes_another_one_and_pays_for_it():
    fee = 500_000_000_000
    with scripted("a") as replica:
        data = management_interface().encode("create_canister", [{}])
        poor = manage("create_canister", data, cycles=fee - 1, reject=b"K" + REPLY)
        assert replica.update("a", "run", poor).reply[:1] == b"\4"
        rich = manage("create_canister", data, cycles=fee + 5, reply=REPLY)
        assert replica.update("a", "run", rich).reply is not None
        made = replica.canister(B)
        assert (made.cycles, made.controllers) == (5, (A,))


def test_a_canister_that_stops_itself_waits_for_itself_until_that_takes_too_long():
    with scripted("a") as replica:
        a = replica.canister("a")
        a.settings.controllers = (A,)
        total = a.cycles
        data = management_interface().encode("stop_canister", [{"canister_id": principal_text(A)}])
        script = manage("stop_canister", data, cycles=5, reject=b"K" + REPLY)
        assert replica.update("a", "run", script).is_pending
        assert replica.update("a", "run", REPLY).rejection.error_code == "IC0509"
        assert replica.advance(299) == ()
        (executed,) = replica.advance(2)
        assert executed.argument == b"IC0206: Stop canister request timed out"
        assert a.status == 3
        assert a.cycles + a.cycles_paid + replica.cycles_under_way == total


def test_a_canister_upgrades_itself_while_it_awaits():
    with scripted("a") as replica:
        replica.canister("a").settings.controllers = (A,)
        fields = {
            "mode": {"upgrade": None},
            "canister_id": principal_text(A),
            "wasm_module": blob(script_module()),
            "arg": blob(add(5)),
        }
        data = management_interface().encode("install_code", [fields])
        result = replica.update("a", "run", add(7) + manage("install_code", data, reply=REPLY))
        assert [it.kind for it in result.executed] == ["update", "upgrade", "callback"]
        assert counters(replica, "a") == (1_000_012, 1_000_012)
