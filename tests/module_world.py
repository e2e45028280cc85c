"""Canisters of modules made by hand, run without a replica, and what is observed of them."""

from contextlib import contextmanager

import wasmtime

from sqlstable.errors import Trap
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.ic.words import DISCARDED_KINDS
from sqlstable.module.observing import ModuleObservation
from sqlstable.replica.executed import Executed
from sqlstable.replica.housed import HousedCanister
from sqlstable.trace.format.file import TraceWriter
from sqlstable.wasm.environment import RejectData, ReplyData
from sqlstable.wasm.program import make_program
from sqlstable.wasm.shimstore import wasm_memory


class HandRun:
    """A module on a stable memory, whose messages are run one by one."""

    def __init__(self, wat, *, writer=None, limits="latest", regime="memory-tracker", **options):
        wasm = bytes(wasmtime.wat2wasm(wat))
        program = make_program(
            wasm, name="by hand", regime=PRICE_REGIMES[regime], watches_heap=True
        )
        memory = wasm_memory(lambda _reach: program, limits=limits)
        self.canister = HousedCanister("app", b"", memory, module=wasm)
        self.writer = writer or TraceWriter(None, {})
        self.observation = ModuleObservation("app", self.writer, module_name="app.wasm", **options)
        self.number = 0

    @property
    def memory(self):
        return self.canister.memory

    def run(self, kind, method, argument=b"", **facts):
        """Run a message: call the export of its method."""
        self.memory.begin(kind)
        machine = self.canister.instance
        prefix = "query" if kind == "query" else "update"
        answer = trap = None
        try:
            reply = machine.call(f"canister_{prefix} {method}", argument)
            answer = {1: ReplyData(reply), 2: RejectData(reply)}.get(machine.tell().answer)
        except Trap as raised:
            trap = self.memory.poison(raised)
        is_kept = trap is None and kind not in DISCARDED_KINDS
        status = machine.tell()
        executed = Executed(
            number=self.number,
            canister="app",
            kind=kind,
            method=method,
            argument=argument,
            answer=answer,
            trap=trap,
            status=status,
            instructions=machine.instruction_limit - status.counter,
            is_kept=is_kept,
            **facts,
        )
        self.number += 1
        self.observation.before_end(self.canister, executed, is_kept=is_kept)
        if is_kept:
            self.memory.commit()
        else:
            self.memory.rollback()
        self.observation.after_end(self.canister, executed)
        return executed

    def trace(self):
        """Return what its trace has so far."""
        return self.observation.trace()

    def close(self):
        """Let go of it."""
        self.observation.close()
        self.memory.close()


@contextmanager
def hand_run(wat, **options):
    """Run a module in a ``with`` block."""
    made = HandRun(wat, **options)
    try:
        yield made
    finally:
        made.close()
