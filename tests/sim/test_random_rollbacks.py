"""Random modules that are cut off at random instants: a rollback leaves nothing behind.

Two instances of each module get the same calls. One of them is cut off before each, at random
instants, and rolled back: heap, globals, tables and stable memory are as before each time, and what
follows is the same in both, instruction by instruction.
"""

import ctypes
import random
from dataclasses import replace

import pytest
import wasmtime
from wasmtime import _bindings

from sqlstable.errors import ModuleError, Trap
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.wasm import shim
from sqlstable.wasm.instance import Instance, stable_bytes
from sqlstable.wasm.program import make_program
from sqlstable.wasm.rewrite.binary import FUNCTION, Body, Export, FunctionType
from sqlstable.wasm.rewrite.bytereader import signed, unsigned
from sqlstable.wasm.rewrite.module_reader import read_module
from tests.random_modules import smith, wasm_tools

NO_LIMIT = (1 << 63) - 1
INSTRUCTIONS = 200_000
STABLE = """(module
  (import "ic0" "stable64_size" (func (result i64)))
  (import "ic0" "stable64_grow" (func (param i64) (result i64)))
  (import "ic0" "stable64_write" (func (param i64 i64 i64)))
  (import "ic0" "stable64_read" (func (param i64 i64 i64)))
  (import "ic0" "msg_reply" (func)))"""
CALLS_STABLE = (
    # grow by one Wasm page; write and read a few bytes anywhere in the first two
    "41 01 AC 10 %(stable64_grow)s 1A",
    "42 %(where)s 42 %(heap)s 42 %(size)s 10 %(stable64_write)s",
    "42 %(heap)s 42 %(where)s 42 %(size)s 10 %(stable64_read)s",
)


def constant(kind, generator):
    number = generator.choice([0, 1, 3, 100, 65_000, -1, generator.randrange(1 << 16)])
    match kind:
        case 0x7F:
            return b"\x41" + signed(number)
        case 0x7E:
            return b"\x42" + signed(number)
        case 0x7D:
            return b"\x43" + generator.randbytes(4)
        case 0x7C:
            return b"\x44" + generator.randbytes(8)
        case 0x7B:
            return b"\xfd\x0c" + generator.randbytes(16)
        case _:
            return bytes([0xD0, kind])


def canister_of(wasm, generator):
    """Return a random module whose functions are methods, with constants for their parameters.

    Each method works on stable memory before and behind, as far as the module imports the calls.
    """
    module = read_module(wasm)
    imported = {
        item.name: unsigned(index).hex() for index, item in enumerate(module.imported(FUNCTION))
    }
    plain = FunctionType(b"", b"")
    bodies, exports = [], []
    for index in range(len(module.imported(FUNCTION)), module.function_count):
        kind = module.type_of(index)
        code = stable_code(imported, generator)
        code += b"".join(constant(parameter, generator) for parameter in kind.parameters)
        code += b"\x10" + unsigned(index) + b"\x1a" * len(kind.results)
        code += stable_code(imported, generator) + b"\x0b"
        exports.append(
            Export(f"canister_update f{index}", FUNCTION, module.function_count + len(bodies))
        )
        bodies.append(Body((), 0, code, 0, len(code)))
    made = replace(
        module,
        types=(*module.types, plain),
        functions=(*module.functions, *[len(module.types)] * len(bodies)),
        bodies=(*module.bodies, *bodies),
        exports=tuple(exports),
    )
    return made.encode(), [item.name for item in exports]


def stable_code(imported, generator):
    values = imported | {
        "where": signed(generator.randrange(2 << 16)).hex(),
        "heap": signed(generator.randrange(1 << 15)).hex(),
        "size": signed(generator.randrange(5000)).hex(),
    }
    code = b""
    for text in CALLS_STABLE:
        try:
            code += bytes.fromhex(text % values)
        except KeyError:
            continue
    return code


WIDTHS = (4, 8, 4, 8, 16)
"""Bytes of a value, by wasmtime's number for its type."""


def global_values(instance):
    """Return what the mutable globals hold, without what lies beside it in wasmtime's records."""
    records = instance.globals.values()
    record, start = ctypes.sizeof(_bindings.wasmtime_val_t), _bindings.wasmtime_val_t.of.offset
    return [
        records[at + start : at + start + WIDTHS[records[at]]]
        for at in range(0, len(records), record)
    ]


def state(instance):
    """All that the next message could find; tables cannot change."""
    return instance.heap_bytes(), global_values(instance), stable_bytes(instance)


def ran(instance, name, instructions):
    """Call a method in a message of its own, which stays open; returns how it ended."""
    instance.begin_message(instructions, NO_LIMIT, NO_LIMIT)
    try:
        reply = instance.call(name, b"")
    except Trap as trap:
        return str(trap), None
    return reply, instructions - instance.tell().counter


def instances_of(seed, generator, tmp_path):
    """Return two instances of a random module, or None for one that is refused."""
    available = tmp_path / "available.wasm"
    available.write_bytes(wasmtime.wat2wasm(STABLE))
    wasm = smith(
        seed,
        memory64_enabled=seed % 3 == 0,
        available_imports=available,
        max_imports=5,
        min_imports=3,
        reference_types_enabled=False,
        max_instructions=200,
        disallow_traps=seed % 4 == 0,
    )
    try:
        canister, names = canister_of(wasm, generator)
        program = make_program(
            canister,
            name=f"random {seed}",
            regime=PRICE_REGIMES["memory-tracker"],
            watches_heap=bool(seed % 2),
        )
        pair = [Instance(program, stable_wasm_pages_max=20, limits=None) for _ in range(2)]
    except ModuleError:
        return None
    return pair, names


def simulated(seed, tmp_path):
    """Run one simulation; returns how many messages were cut off, and how many ran to their end."""
    generator = random.Random(seed)
    found = instances_of(seed, generator, tmp_path)
    if found is None:
        return 0, 0
    (cut, whole), names = found
    cut_off = ended = 0
    for _ in range(10):
        name = generator.choice(names)
        before = state(cut)
        for _ in range(2):
            limit = generator.choice([5, 50, 500, 200_000, 400_000])
            ran(cut, name, generator.randrange(limit))
            cut.rollback(is_new_heap=False)
            assert state(cut) == before, (seed, name)
            cut_off += 1
        outcomes = [ran(one, name, INSTRUCTIONS) for one in (cut, whole)]
        assert outcomes[0] == outcomes[1], (seed, name)
        told = [one.tell() for one in (cut, whole)]
        assert told[0] == told[1]
        for one in (cut, whole):
            if outcomes[0][1] is None:
                one.rollback(is_new_heap=False)
            else:
                one.prepare_commit()
                one.commit(is_new_heap=False)
        ended += outcomes[0][1] is not None
        assert state(cut) == state(whole), (seed, name)
    for one in (cut, whole):
        one.close()
    return cut_off, ended


def test_what_is_cut_off_anywhere_leaves_nothing_of_a_random_module(tmp_path, monkeypatch):
    wasm_tools()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    counts = [simulated(seed, tmp_path) for seed in range(40)]
    assert sum(cut_off for cut_off, _ in counts) > 300
    assert sum(ended for _, ended in counts) > 30


@pytest.mark.parametrize("kind", ["i32", "i64"])
def test_a_dropped_segment_comes_back_with_the_next_execution(kind):
    text = f"""(module (memory {kind} 1) (data $d "hello")
        (func (export "canister_update f")
          (memory.init $d ({kind}.const 0) (i32.const 0) (i32.const 5)) (data.drop $d))
        (func (export "canister_update twice")
          (data.drop $d) (memory.init $d ({kind}.const 0) (i32.const 0) (i32.const 5))))"""
    program = make_program(
        bytes(wasmtime.wat2wasm(text)),
        name="dropping",
        regime=PRICE_REGIMES["memory-tracker"],
        watches_heap=True,
    )
    instance = Instance(program, stable_wasm_pages_max=1, limits=None)
    for _ in range(3):
        assert ran(instance, "canister_update f", shim.INSTRUCTIONS_MAX)[0] == b""
        assert instance.heap_bytes().startswith(b"hello")
        instance.commit(is_new_heap=False)
        assert "out of bounds" in ran(instance, "canister_update twice", 10_000)[0]
        instance.rollback(is_new_heap=False)
    instance.close()
