"""Canisters of our own sources in Rust and Motoko, as their compilers build them."""

import pytest

from sqlstable import CanisterModule
from sqlstable.errors import Trap
from tests.real_modules import real_module

pytestmark = pytest.mark.slow


def store(**options):
    return CanisterModule(real_module("store"), '("notes")', **options)


def motoko_notes(**options):
    return CanisterModule(real_module("notes"), '("notes")', **options)


def caller():
    """A canister that calls, and the one that it calls."""
    module = CanisterModule(
        real_module("caller"), canisters={"store": (real_module("store"), '("notes")')}
    )
    return module, module.canister("store")


def steps(reply):
    """Who ran, and as what."""
    return [(it.canister, it.kind, it.method) for it in reply.executed]


def owners(statement):
    return {(it.name, it.kind, it.role): it.os_pages_accessed for it in statement.owners}


# -- one canister ----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [store, motoko_notes], ids=["rust", "motoko"])
def test_notes_are_kept_and_found(make):
    with make() as canister:
        assert canister.update("put", (5, "five")).value is None
        assert canister.update("put", (5, "fünf")).value == "five"
        assert canister.query("get", (5,)).value == "fünf"
        assert canister.query("get", (6,)).value is None


@pytest.mark.parametrize("make", [store, motoko_notes], ids=["rust", "motoko"])
def test_a_trap_leaves_nothing_of_its_message(make):
    with make() as canister:
        canister.update("put", (5, "five"))
        before = canister.query("counts").value
        with pytest.raises(Trap, match="on purpose"):
            canister.update("put_and_trap", (6, "six"))
        assert canister.last.answer == "reject"
        assert canister.query("counts").value == before
        assert canister.query("get", (6,)).value is None


@pytest.mark.parametrize("make", [store, motoko_notes], ids=["rust", "motoko"])
def test_two_runs_are_identical(make):
    def run():
        with make() as canister:
            replies = [
                canister.update("put", (5, "five")),
                canister.update("fill", (200, 100)),
                canister.query("get", (5,)),
                canister.upgrade(argument='("notes")'),
                canister.query("counts"),
            ]
            return [(it.instructions, str(it.footprint), it.executed) for it in replies]

    assert run() == run()


def test_stable_memory_survives_an_upgrade_and_the_heap_of_rust_does_not():
    with store() as canister:
        canister.update("fill", (1000, 100))
        assert canister.query("counts").value == (1000, 1000)
        assert canister.upgrade().answer == "reply"
        assert canister.query("counts").value == (1000, 0)
        assert canister.query("title").value == "notes"


def test_the_heap_of_motoko_survives_but_for_what_is_transient():
    with motoko_notes() as canister:
        canister.update("put", (5, "five"))
        canister.update("fill", (100, 10))
        # Notes, writes, calls of put.
        assert canister.query("counts").value == (100, 101, 1)
        canister.upgrade(argument='("other notes")')
        assert canister.query("counts").value == (100, 101, 0)
        assert canister.query("heading").value == "other notes"
        canister.reinstall(argument='("notes")')
        assert canister.query("counts").value == (0, 0, 0)


def test_pages_of_a_stable_map_belong_to_its_nodes():
    with store(trace=":memory:") as canister:
        filled = canister.update("fill", (1000, 100))
        found = canister.query("get", (500,))
        with canister.trace() as trace:
            statements = list(trace.statements)
        assert filled.footprint.os_pages_dirty > 1000 * 100 // 4096
        assert found.footprint.os_pages_accessed in range(2, 6)
        assert found.footprint.os_pages_dirty == 0
        assert statements[-1].sql == "get(500 : nat64)"
        assert set(owners(statements[-1])) == {
            ("memory 3", "stable B-tree", "internal"),
            ("memory 3", "stable B-tree", "leaf"),
        }


def test_pages_of_sqlite_belong_to_tables_and_indexes():
    with CanisterModule(real_module("sql"), trace=":memory:") as canister:
        assert canister.update("fill", (1000,)).value == {"Ok": None}
        assert canister.query("count").value == {"Ok": 1000}
        assert canister.query("of_age", (30,)).value["Ok"][0] == "person 90"
        with canister.trace() as trace:
            found = owners(list(trace.statements)[-1])
        assert ("person", "table", "leaf") in found
        assert ("person_age", "index", "leaf") in found
        canister.upgrade()
        assert canister.query("count").value == {"Ok": 1000}


def test_stable_memory_stays_in_an_image(tmp_path):
    path = tmp_path / "notes.stable"
    with store(image=path) as canister:
        canister.update("put", (7, "seven"))
    with store(image=path) as canister:
        assert canister.query("get", (7,)).value == "seven"


def test_a_ledger_knows_who_calls():
    def account(owner):
        return f'record {{ owner = principal "{owner}"; subaccount = null }}'

    anonymous, other = "2vxsx-fae", "aaaaa-aa"
    given = f"(record {{ holder = {account(anonymous)}; supply = 1_000 : nat; fee = 1 : nat64 }})"
    with CanisterModule(real_module("ledger"), given) as ledger:
        sent = f"(record {{ to = {account(other)}; amount = 400 : nat; memo = null }})"
        assert ledger.update("transfer", sent).value == {"Ok": 1}
        assert ledger.query("balance_of", f"({account(anonymous)})").value == 600
        assert ledger.query("balance_of", f"({account(other)})").value == 400
        refused = ledger.update("transfer", sent.replace("400", "700"))
        assert refused.value == {"Err": {"InsufficientFunds": {"balance": 600}}}
        assert ledger.query("blocks").value == 2


def test_a_wrong_argument_and_a_missing_method_are_said():
    with store() as canister:
        with pytest.raises(Exception, match="nat64"):
            canister.update("put", '("five", 5)')
        with pytest.raises(Exception, match="no method"):
            canister.update("absent")
        with pytest.raises(Trap, match="No more values on the wire"):
            canister.update("put", b"DIDL\0\0")
        assert canister.query("counts").value == (0, 0)


# -- several canisters -----------------------------------------------------------------------------


def test_calls_and_callbacks_are_messages_of_their_own():
    module, other = caller()
    with module:
        reply = module.update("put_there", f'(principal "{other.principal}", 7 : nat64, "seven")')
        assert reply.value == {"Ok": "seven"}
        assert steps(reply) == [
            ("caller", "update", "put_there"),
            ("store", "update", "put"),
            ("caller", "callback", "put"),
            ("store", "replicated_query", "get"),
            ("caller", "callback", "get"),
        ]
        assert module.query("steps").value == 3
        found = module.query("get_there", f'(principal "{other.principal}", 7 : nat64)')
        assert found.value == {"Ok": "seven"}


def test_a_trap_behind_a_call_leaves_what_was_before_it():
    module, other = caller()
    with module:
        with pytest.raises(Trap, match="behind the call"):
            module.update(
                "put_there_and_trap", f'(principal "{other.principal}", 8 : nat64, "eight")'
            )
        assert steps(module.last)[-1] == ("caller", "cleanup", "put")
        assert other.query("get", (8,)).value == "eight"
        assert module.query("steps").value == 1


def test_a_call_that_nobody_takes_is_rejected():
    module, other = caller()
    with module:
        absent = "bw4dl-smaaa-aaaaa-qaacq-cai"
        rejected = module.update("put_there", f'(principal "{absent}", 8 : nat64, "eight")')
        assert "3: " in rejected.value["Err"]
        assert absent in rejected.value["Err"]
        bad = module.update("call_raw", f'(principal "{other.principal}", "absent", blob "")')
        assert "absent" in bad.value["Err"]
        told = module.update("tell", f'(principal "{other.principal}", 9 : nat64, "nine")')
        assert told.value is True
        assert other.query("get", (9,)).value == "nine"


def test_motoko_calls_rust():
    with CanisterModule(
        real_module("relay"), canisters={"store": (real_module("store"), '("notes")')}
    ) as relay:
        there = relay.canister("store").principal
        assert relay.update("put_there", f'(principal "{there}", 7, "seven")').value is None
        assert relay.update("put_there", f'(principal "{there}", 7, "7")').value == "seven"
        relay.update("put_there", '(principal "aaaaa-aa", 7, "seven")')
        assert relay.query("counts").value == (2, 1)
