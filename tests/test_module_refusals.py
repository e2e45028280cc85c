"""What the Internet Computer refuses to install is refused, in its words."""

import pytest

from sqlstable.errors import ModuleError
from sqlstable.ic.system_calls import SYSTEM_CALLS
from sqlstable.wasm.module_file import ModuleFile
from sqlstable.wasm.rewrite.bytereader import name, unsigned
from sqlstable.wasm.rewrite.operators import CODES
from sqlstable.wasm.rewrite.rewriter import RewriteOptions, rewrite
from sqlstable.wasm.rewrite.validation import (
    FUNCTION_COMPLEXITY_MAX,
    FUNCTION_OPERATORS_MAX,
    SYSTEM_EXPORTS,
    UNSUPPORTED_OPERATORS,
    check_function,
)
from tests.bare_machine import wasm_of


def repeated(text, count):
    fields = "".join(text.replace("#", str(index)) for index in range(count))
    return f"(module {fields})"


REFUSED = {
    "another's function": (
        '(module (import "env" "invoke_vi" (func (param i32))))',
        "Module imports function 'invoke_vi' from 'env' that is not exported by the runtime.",
    ),
    "an unknown system call": (
        '(module (import "ic0" "call_later" (func)))',
        "Module imports function 'call_later' from 'ic0' that is not exported by the runtime.",
    ),
    "a system call from elsewhere": (
        '(module (import "env" "msg_reply" (func)))',
        'function "msg_reply" from "env", expected to be imported from one of ["ic0"] instead.',
    ),
    "WASI": (
        '(module (import "wasi_snapshot_preview1" "fd_write" (func)))',
        "link ic-wasi-polyfill and run wasi2ic",
    ),
    "parameters of a system call": (
        '(module (import "ic0" "msg_reply_data_append" (func (param i32))))',
        "Expected input params [I32, I32] for 'msg_reply_data_append', got [I32].",
    ),
    "the result of a system call": (
        '(module (import "ic0" "time" (func)))',
        "Expected return type [I64] for 'time', got [].",
    ),
    "a 32-bit call in a 64-bit module": (
        '(module (import "ic0" "stable_size" (func (result i32))) (memory i64 1))',
        "Modules with 64-bit memory do not have it",
    ),
    "32-bit pointers in a 64-bit module": (
        '(module (import "ic0" "msg_reject" (func (param i32 i32))) (memory i64 1))',
        "Expected input params [I64, I64] for 'msg_reject', got [I32, I32].",
    ),
    "an imported global": (
        '(module (import "env" "base" (global i32)))',
        "Importing globals is not allowed.",
    ),
    "an imported table": (
        '(module (import "env" "table" (table 1 funcref)))',
        "Only tables imported from env.table are allowed",
    ),
    "an imported memory": (
        '(module (import "env" "memory" (memory 1)))',
        "imports its memory",
    ),
    "a method as query and update": (
        '(module (func (export "canister_query f")) (func (export "canister_update f")))',
        "Duplicate function 'f' exported multiple times with different call types: update, query,",
    ),
    "parameters of a method": (
        '(module (func (export "canister_update f") (param i32)))',
        "Expected input params [] for 'canister_update f', got [I32].",
    ),
    "the result of a timer": (
        '(module (func (export "canister_global_timer") (result i64) (i64.const 1)))',
        "Expected return type [] for 'canister_global_timer', got [I64].",
    ),
    "a reserved function": (
        '(module (func (export "canister_something")))',
        "Exporting reserved function 'canister_something' with \"canister_\" prefix",
    ),
    "a method without a space": (
        '(module (func (export "canister_update")))',
        "Exporting reserved function 'canister_update' with \"canister_\" prefix",
    ),
    "a reserved symbol": (
        '(module (memory (export "stable_memory") 1))',
        "Exporting reserved symbol stable_memory not allowed.",
    ),
    "the start function's name": (
        '(module (func (export "canister_start")))',
        "Exporting reserved symbol canister_start not allowed.",
    ),
    "too many methods": (
        repeated('(func (export "canister_query #"))', 1001),
        "is 1001 which exceeds 1000.",
    ),
    "names of methods too long": (
        repeated(f'(func (export "canister_query {"x" * 300}#"))', 70),
        "is 21130 which exceeds the allowed limit of 20000.",
    ),
    "a table of external references": (
        "(module (table 1 externref))",
        "Table element type must be funcref, got externref",
    ),
    "a global of a reference": (
        "(module (global (mut externref) (ref.null extern)))",
        "Unsupported global type: externref",
    ),
    "too many globals": (
        repeated("(global i32 (i32.const #))", 1001),
        "Wasm module defined 1001 globals which exceeds the maximum number allowed 1000.",
    ),
    "too many functions": (
        repeated("(func)", 50_001),
        "Wasm module defined 50001 functions which exceeds the maximum number allowed 50000.",
    ),
    "a large 64-bit memory": (
        "(module (memory i64 98305))",
        "98305 pages which exceeds the maximum allowed size of 98304 pages.",
    ),
    "a data segment at an i64": (
        '(module (memory 1) (data (offset (i64.const 0)) "x"))',
        "Invalid offset expression in data segment for 32bit memory",
    ),
    "a data segment outside": (
        '(module (memory 1) (data (i32.const 65530) "hello, world"))',
        "Wasm module has invalid data segment of 12 bytes at 65530.",
    ),
    "a data segment far outside": (
        '(module (memory i64 1) (data (i64.const -1) "x"))',
        "Wasm module has invalid data segment of 1 bytes at 18446744073709551615.",
    ),
    "relaxed vectors": (
        "(module (func (param v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 0)) drop))",
        "relaxed SIMD",
    ),
    "a wrong type": (
        "(module (func (result i32)))",
        "wasm module wasmtime::Module::validate() failed with type mismatch",
    ),
    "a local that is none": (
        "(module (func (result i64) (local.get 0)))",
        "Wasmtime failed to validate",
    ),
}


@pytest.mark.parametrize(("text", "words"), REFUSED.values(), ids=REFUSED)
def test_what_a_replica_refuses_is_refused_in_its_words(text, words):
    with pytest.raises(ModuleError) as refused:
        rewrite(wasm_of(text))
    assert words in str(refused.value)
    # What it says is followed by the way out.
    assert str(refused.value).rstrip().endswith((".", "it", "own", "tools for canisters"))
    assert "Traceback" not in str(refused.value)


def test_every_system_call_can_be_imported_as_the_table_says():
    for is_64 in (False, True):
        imports = []
        for call in SYSTEM_CALLS.values():
            if is_64 and call.is_32_only:
                continue
            parameters, results = (" ".join(part) for part in call.signature(is_64=is_64))
            imports.append(
                f'(import "ic0" "{call.name}" (func (param {parameters}) (result {results})))'
            )
        memory = "(memory i64 1)" if is_64 else "(memory 1)"
        rewritten = rewrite(wasm_of(f"(module {''.join(imports)} {memory})"))
        assert len(rewritten.imports) == len(imports)


def test_every_function_that_a_replica_calls_can_be_exported():
    names = [*SYSTEM_EXPORTS, "canister_update a", "canister_query b", "canister_composite_query c"]
    exports = "".join(f'(export "{name}" (func $f))' for name in names)
    assert set(names) <= rewrite(wasm_of(f"(module (func $f) {exports})")).exports


@pytest.mark.parametrize("operator", sorted(UNSUPPORTED_OPERATORS))
def test_operators_that_change_a_table_are_refused(operator):
    code = {
        "table.grow": "(drop (table.grow (ref.null func) (i32.const 1)))",
        "table.set": "(table.set (i32.const 0) (ref.null func))",
        "table.fill": "(table.fill (i32.const 0) (ref.null func) (i32.const 1))",
        "table.copy": "(table.copy (i32.const 0) (i32.const 0) (i32.const 1))",
        "table.init": "(table.init 0 (i32.const 0) (i32.const 0) (i32.const 1))",
    }[operator]
    wasm = wasm_of(
        f"""(module (import "ic0" "msg_reply" (func)) (table 1 funcref) (elem func) (func)
        (func {code}))"""
    )
    words = f"contains a function at index 2 with unsupported instruction {operator}."
    with pytest.raises(ModuleError, match=words):
        rewrite(wasm)
    assert rewrite(wasm, RewriteOptions(is_deployed=False)).operator_count


def test_reading_a_table_is_allowed():
    rewrite(
        wasm_of(
            """(module (table 1 funcref)
            (func (result i32) (drop (table.get (i32.const 0))) (table.size)))"""
        )
    )


CALL = CODES["call"] + b"\0"
NOP = CODES["nop"]


@pytest.mark.parametrize(
    ("operators", "words"),
    [
        ([CALL] * (FUNCTION_COMPLEXITY_MAX // 50 + 1), "index 7 with complexity 1000050 which"),
        ([NOP] * (FUNCTION_OPERATORS_MAX + 1), "index 7 with complexity 1000001 which"),
    ],
    ids=["calls", "operators"],
)
def test_functions_have_a_largest_complexity(operators, words):
    with pytest.raises(ModuleError, match=words):
        check_function(operators, 7)
    check_function(operators[:-1], 7)


def with_sections(*sections):
    wasm = wasm_of("(module (func))")
    for title, size in sections:
        whole = name(title) + bytes(size)
        wasm += b"\0" + unsigned(len(whole)) + whole
    return wasm


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ([("icp:protected x", 1)], "Custom section 'icp:protected x' has no public/private scope"),
        ([("icp:public", 1)], "must have a space after the public/private scope"),
        ([("icp:public a", 1), ("icp:private a", 1)], "name a already exists"),
        ([("icp:public a", 600_000), ("icp:public b", 600_000)], "size 1200002 bytes, allowed"),
        ([(f"icp:public {at}", 1) for at in range(17)], "defined 17 custom sections"),
    ],
    ids=["scope", "space", "twice", "size", "count"],
)
def test_custom_sections_for_the_internet_computer_are_checked(sections, words):
    with pytest.raises(ModuleError, match=words):
        rewrite(with_sections(*sections))


def test_other_custom_sections_are_nobodys_business():
    sections = [("name2", 2_000_000), *((f"x{at}", 1) for at in range(100)), ("icp:private ", 3)]
    wasm = with_sections(*sections, *((f"icp:public {at}", 1) for at in range(15)))
    rewrite(wasm)
    assert len(ModuleFile.of(wasm).metadata) == 16


def test_a_module_of_too_many_bytes_is_refused():
    code = bytes((12 << 20) + 1)
    with pytest.raises(ModuleError, match="code section size of 12582913 exceeds the maximum"):
        rewrite(b"\0asm\1\0\0\0\x0a" + unsigned(len(code)) + code)
    with pytest.raises(ModuleError, match="Wasm module size of 104857608 exceeds"):
        rewrite(b"\0asm\1\0\0\0" + bytes(100 << 20))
