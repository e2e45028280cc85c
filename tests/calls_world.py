"""Modules that make system calls, and executions of them in contexts of all kinds."""

from dataclasses import replace
from functools import cache

import wasmtime

from sqlstable.errors import Trap
from sqlstable.ic.contexts import Context
from sqlstable.ic.prices import PRICE_REGIMES, SystemCosts
from sqlstable.ic.system_calls import SYSTEM_CALLS
from sqlstable.wasm.environment import EntryExport, Environment, ExecutionResult, ReplyData
from sqlstable.wasm.instance import Instance
from sqlstable.wasm.packing import usage_header
from sqlstable.wasm.program import make_program
from sqlstable.wasm.shim import pointers_put_in

NO_LIMIT = (1 << 63) - 1
INSTRUCTIONS = 1 << 50
REGIME = replace(PRICE_REGIMES["wasm-native"], costs=SystemCosts(dirty_os_page=0))
FREE = replace(
    REGIME, name="free", costs=SystemCosts(*([0] * len(SystemCosts.__dataclass_fields__)))
)

HEADER, _ = usage_header()
USAGE = HEADER + bytes(40)

PLACES = {"dst": 1000, "src": 2000, "name_src": 2000, "callee_src": 2000, "params_src": 3000}
"""Where the arguments of the calls below point to; 'key' stands at 2000, and at 3000 the usage of
an HTTP outcall."""

SIZES = {"size": 3, "name_size": 3, "callee_size": 2, "params_size": len(USAGE)}


def calls(*, is_64):
    """The calls of modules with such memories."""
    return [call for call in SYSTEM_CALLS.values() if not (is_64 and call.is_32_only)]


def imported(*, is_64):
    """The text of the imports of them all, by their names."""
    lines = []
    for call in calls(is_64=is_64):
        parameters, results = call.signature(is_64=is_64)
        types = f"(param {' '.join(parameters)}) (result {' '.join(results)})"
        lines.append(f'(import "ic0" "{call.name}" (func ${call.name} {types}))')
    return "\n".join(lines)


def instance_of(text, *, is_64=False, regime=REGIME, name="calls"):
    """A module of all imports, a heap of one Wasm page, and more fields."""
    address = "i64" if is_64 else "i32"
    usage = "".join(f"\\{byte:02x}" for byte in USAGE)
    wasm = wasmtime.wat2wasm(f"""(module
        {imported(is_64=is_64)}
        (memory {address} 1)
        (data ({address}.const 2000) "key")
        (data ({address}.const 3000) "{usage}")
        {text})""")
    program = make_program(bytes(wasm), name=name, regime=regime, watches_heap=False)
    instance = Instance(program, stable_wasm_pages_max=100, limits=None)
    assert instance.set_stable_size(1)
    return instance


def made_with(call, *, is_64, **changes):
    """The text of a call with arguments that fit, or others."""
    pointer = "i64" if is_64 else "i32"
    arguments = []
    for name, kind in call.parameters:
        value = changes.get(name, {**PLACES, **SIZES}.get(name, 0))
        arguments.append(f"({kind.replace('I', pointer)}.const {value})")
    text = f"(call ${call.name} {' '.join(arguments)})"
    return f"(drop {text})" if call.result else text


def prelude(call, *, is_64):
    """What has to come before."""
    if call.name.startswith("call_") and call.name != "call_new":
        return made_with(SYSTEM_CALLS["call_new"], is_64=is_64)
    return ""


@cache
def all_calls(*, is_64, is_free=False):
    """A module that makes each call by itself (``plain``), or behind what it needs (``ready``)."""
    functions = []
    for call in calls(is_64=is_64):
        text = made_with(call, is_64=is_64)
        before = prelude(call, is_64=is_64)
        for kind, code in (("plain", text), ("ready", before + text), ("before", before)):
            functions.append(f'(func (export "canister_update {kind} {call.name}") {code})')
    regime = FREE if is_free else REGIME
    return instance_of("\n".join(functions), is_64=is_64, regime=regime)


def code_of(code, *, is_64=False, regime=REGIME, functions=""):
    """A module whose one update runs code, written with ``ptr`` for the type of pointers.

    Bytes 0 to 99 of its heap are what it replies with ``$tell``.
    """
    text = f"""
        (func $tell
          (call $msg_reply_data_append (ptr.const 0) (ptr.const 100)) (call $msg_reply))
        {functions}
        (func (export "canister_update run") {code})"""
    return instance_of(pointers_put_in(text, is_64=is_64), is_64=is_64, regime=regime)


def run_code(code, environment=None, argument=b"", **options):
    """What one execution of code leaves, or its trap."""
    environment = environment or environment_of(Context.UPDATE)
    return run(code_of(code, **options), "canister_update run", environment, argument)[0]


def told(code, environment=None, argument=b"", **options):
    """The first 100 bytes of the heap behind code."""
    found = run_code(f"{code} (call $tell)", environment, argument, **options)
    assert isinstance(found, ExecutionResult), found
    assert isinstance(found.answer, ReplyData), found
    return found.answer.data


def environment_of(context, **changes):
    """An environment in which every call finds something."""
    found = {
        "certificate": b"certificate"
        if context in (Context.QUERY, Context.COMPOSITE_QUERY)
        else None,
        "variables": (("key", "value"),),
        "caller": b"caller",
        "self_id": bytes.fromhex("00000000000000040101"),
        "subnet_id": b"subnet",
        "method_name": "method",
        "reject_message": b"message",
        "reject_code": 4 if context in (Context.REJECT, Context.COMPOSITE_REJECT) else 0,
        "caller_info": (b"info", b"signer"),
    }
    return Environment(context, **{**found, **changes})


def run(instance, name, environment, argument=b"1234"):
    """What one execution leaves, or its trap; and the instructions that it took."""
    instance.begin_message(INSTRUCTIONS, NO_LIMIT, NO_LIMIT)
    try:
        found = instance.execute(EntryExport(name), argument, environment)
    except Trap as trap:
        found = trap
    used = INSTRUCTIONS - instance.tell().counter
    instance.rollback(is_new_heap=False)
    return found, used


def u128(data, at=0):
    return int.from_bytes(data[at : at + 16], "little")


def u64(data, at=0):
    return int.from_bytes(data[at : at + 8], "little")
