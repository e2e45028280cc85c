"""Canisters of our own sources in Rust and Motoko, beside each other in a replica."""

import pytest

from sqlstable.candid.interface import Interface
from sqlstable.ic.principals import principal_text
from sqlstable.replica.replica import Replica
from sqlstable.wasm.module_file import ModuleFile
from tests.real_modules import real_module

pytestmark = pytest.mark.slow


class Talking:
    """Installs modules, and calls them in Candid."""

    def __init__(self):
        self.replica = Replica()
        self.interfaces = {}

    def install(self, name, argument="()", mode="install"):
        module = real_module(name).read_bytes()
        if mode == "install":
            self.replica.create(name)
        interface = self.interfaces[name] = interface_of(module)
        return self.replica.install(name, module, interface.encode_init(argument), mode=mode)

    def call(self, name, method, argument="()", *, is_query=False):
        interface = self.interfaces[name]
        call = self.replica.query if is_query else self.replica.update
        self.result = call(name, method, interface.encode(method, argument))
        if self.result.reply is None:
            return self.result.rejection
        return interface.decode_reply(method, self.result.reply)

    def ran(self):
        return [(it.canister, it.kind) for it in self.result.executed]

    def principal(self, name):
        return f'principal "{principal_text(self.replica.canister(name).id)}"'


def interface_of(module):
    metadata = ModuleFile.of(module).metadata
    arguments = metadata.get("candid:args")
    service = metadata["candid:service"].content
    return Interface.of_module(service, b"" if arguments is None else arguments.content)


@pytest.fixture
def talking():
    made = Talking()
    yield made
    made.replica.close()


def test_rust_calls_rust(talking):
    talking.install("store", '("notes")')
    talking.install("caller")
    store = talking.principal("store")
    assert talking.call("caller", "put_there", f'({store}, 2, "two")') == (
        '(variant { Ok = opt "two" })'
    )
    assert talking.ran() == [
        ("caller", "update"),
        ("store", "update"),
        ("caller", "callback"),
        ("store", "replicated_query"),
        ("caller", "callback"),
    ]
    rejection = talking.call("caller", "put_there_and_trap", f'({store}, 3, "three")')
    assert "behind the call" in rejection.message
    assert talking.ran()[2:] == [("caller", "callback"), ("caller", "cleanup")]
    # The store has it, and the caller has counted its first step only.
    assert talking.call("store", "get", "(3)", is_query=True) == '(opt "three")'
    assert talking.call("caller", "steps", is_query=True) == "(4 : nat64)"
    assert talking.call("caller", "tell", f'({store}, 4, "four")') == "(true)"
    assert talking.call("caller", "get_there", f"({store}, 4)", is_query=True) == (
        '(variant { Ok = opt "four" })'
    )
    assert talking.call("caller", "put_there", '(principal "aaaaa-aa", 1, "")') == (
        "(variant { Err = \"4: IC0407: Management canister has no method \\'put\\'\" })"
    )


def test_motoko_calls_rust_and_keeps_its_heap(talking):
    talking.install("store", '("notes")')
    talking.install("relay")
    talking.install("notes", '("title")')
    store = talking.principal("store")
    assert talking.call("relay", "put_there", f'({store}, 9, "nine")') == "(null)"
    assert talking.call("store", "get", "(9)", is_query=True) == '(opt "nine")'
    assert talking.call("relay", "counts", is_query=True) == "(1 : nat, 0 : nat)"
    talking.call("notes", "put", '(5, "five")')
    assert "on purpose" in talking.call("notes", "put_and_trap", '(6, "six")').message
    (upgrade,) = talking.install("notes", '("title")', mode="upgrade").executed
    assert [it.name for it in upgrade.parts] == ["pre_upgrade", "start", "post_upgrade"]
    # What is transient begins anew, and the rest is there.
    assert talking.call("notes", "counts", is_query=True) == "(1 : nat, 1 : nat, 0 : nat)"
    assert talking.call("notes", "get", "(5)", is_query=True) == '(opt "five")'


def test_two_runs_of_real_canisters_are_identical():
    def run():
        other = Talking()
        other.install("store", '("notes")')
        other.install("caller")
        other.call("caller", "put_there", f'({other.principal("store")}, 2, "two")')
        told = [repr(it) for it in other.result.executed]
        other.replica.close()
        return told

    assert run() == run()
