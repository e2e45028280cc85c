"""A module that exports life-cycle entry points of its own: each is called in a part of its own."""

from dataclasses import replace
from functools import cache
from itertools import count

import pytest

from sqlstable import Canister, Hooks, LimitTrap, Trap
from sqlstable.canister.measured_machine import MeasuredMachine
from sqlstable.engine.measured.module.builds import load
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.wasm.program import make_program
from sqlstable.wasm.rewrite.binary import FUNCTION, Body, Export, FunctionType
from sqlstable.wasm.rewrite.module_reader import read_module
from sqlstable.wasm.shimstore import wasm_memory
from tests.upgrade_world import State, answers, fill, init, limited

pytestmark = pytest.mark.slow

GROW = b"\x42\x01\x10%c\x1a"
"""i64.const 1, call ic0.stable64_grow, drop."""
SIZE = b"\x10%c\x1a"
"""call ic0.stable64_size, drop."""
END = b"\x0b"


def hooked():
    """Return the standard module with two functions more: canister_pre_upgrade, and its start."""
    module = read_module(load("standard"))
    imported = [item.name for item in module.imported(FUNCTION)]
    grow, size = imported.index("stable64_grow"), imported.index("stable64_size")
    bodies = []
    for code in (GROW % grow, SIZE % size):
        data = code + END
        bodies.append(Body((), 0, data, 0, len(data)))
    first, kind = module.function_count, len(module.types)
    return replace(
        module,
        types=(*module.types, FunctionType(b"", b"")),
        functions=(*module.functions, kind, kind),
        bodies=(*module.bodies, *bodies),
        exports=(*module.exports, Export("canister_pre_upgrade", FUNCTION, first)),
        start=first + 1,
    ).encode()


@cache
def program(reach_bytes):
    return make_program(
        hooked(),
        name="standard",
        regime=PRICE_REGIMES["memory-tracker"],
        watches_heap=True,
        has_borders=True,
        reach_bytes=reach_bytes,
    )


def canister_of(hooks=None):
    memory = wasm_memory(program)
    canister = Canister(
        memory=memory,
        machine=lambda memory: MeasuredMachine(memory, depth="counters"),
        hooks=hooks or Hooks(init=init),
    )
    fill(canister)
    return canister


def test_entry_points_of_the_module_run_in_parts_of_their_own():
    with canister_of() as canister:
        before = canister.memory.wasm_pages
        parts = canister.upgrade().parts
        assert canister.memory.wasm_pages == before + 1
        assert [part.name for part in parts] == ["pre_upgrade", "start", "post_upgrade"]
        assert [part.os_pages_accessed for part in parts] == [0, 0, 9 + 1]
        # Calls of the module cost instructions; the start function's are its own.
        assert parts[0].instructions > parts[1].instructions > 0
        assert parts[2].instructions > 500_000
        assert canister.query("SELECT owner FROM account").rows
        assert [part.name for part in canister.reinstall().parts] == ["start", "init"]


def test_hooks_of_python_run_behind_the_modules_own_in_the_same_part():
    sizes = []
    hooks = Hooks(init=init, pre_upgrade=lambda it: sizes.append(it.memory.size()))
    with canister_of(hooks=hooks) as canister:
        before = canister.memory.wasm_pages
        assert len(canister.upgrade().parts) == 3
        assert sizes == [before + 1]
        assert len(canister.upgrade(skip_pre_upgrade=True).parts) == 2
        assert canister.memory.wasm_pages == before + 1


def test_a_heap_that_is_kept_meets_the_start_function_as_it_is():
    hooks = Hooks(init=init, keeps_heap=True)
    with canister_of(hooks=hooks) as canister:
        parts = canister.upgrade(wasm_memory_persistence="keep").parts
        assert [part.name for part in parts] == ["pre_upgrade", "start"]
        assert canister.update("SELECT sum(x) FROM scratch").rows == [(6,)]


def test_a_trap_at_each_access_of_the_modules_own_parts_leaves_everything_as_it_was():
    with canister_of() as canister, canister_of() as twin:
        before, machine = State.of(canister), canister.memory.store.machine
        for at in count():
            machine.set_value("trap_at", at)
            try:
                canister.upgrade()
            except Trap as trap:
                found = str(trap)
            else:
                break
            machine.set_value("trap_at", -1)
            assert "injected" in found
            assert State.of(canister) == before
        # Growth in pre_upgrade, the question for the size in start, and what opens the database.
        assert at > 3
        machine.set_value("trap_at", -1)
        twin.upgrade()
        assert canister.image() == twin.image()
        assert answers(canister, has_temp=False) == answers(twin, has_temp=False)


def test_instructions_that_run_out_in_the_modules_own_parts_leave_everything_as_it_was():
    with canister_of() as canister, canister_of() as spare:
        own = sum(part.instructions for part in spare.upgrade().parts[:2])
        before = State.of(canister)
        for point in range(0, own, own // 12):
            with limited(canister, "upgrade", instructions_max=point), pytest.raises(LimitTrap):
                canister.upgrade()
            assert State.of(canister) == before
