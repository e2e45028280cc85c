"""Candid's own crates as a WebAssembly module: what carries out every conversion.

`carry_out` sends one request to the module (``module/src/lib.rs`` has the format) and returns its
answer. It runs in a store of its own with bounds on stack, memory and instructions, so that no
input can end the process or keep it busy for long; where one of them is reached, the store is
thrown away. Loading what was compiled takes milliseconds, see `sqlstable.wasm.cache`.
"""

import atexit
import gc
import hashlib
import json
import platform
import re
import struct
import threading
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from sqlstable.errors import CandidError, ModuleError
from sqlstable.ic.units import GIB
from sqlstable.wasm import cache as kept
from sqlstable.wasm.program import WASMTIME_VERSION, wasmtime_module
from sqlstable.wasm.stack import check_thread, set_stack, wasm_stack_bytes

BINARIES_NAME: Final = "binaries"
MODULE_NAME: Final = "candid.wasm"
CHECKSUM_NAME: Final = "candid.json"

MEMORY_BYTES_MAX: Final = GIB
"""Linear memory of the module; a value of 2 MiB, the longest message, needs some 100 MiB."""

FUEL_MAX: Final = 20_000_000_000
"""Instructions of the module for one request: some 10 s."""

INTERFACES_MAX: Final = 256
"""Interfaces that are kept ready; with more, all are forgotten and loaded again when needed."""


@dataclass(frozen=True, slots=True)
class KnownBuild:
    """What is known of the module that comes with the package."""

    compiler: str
    sha256: str


def known_build() -> KnownBuild:
    """Return what the last build has written down."""
    text = files(__package__).joinpath(BINARIES_NAME, CHECKSUM_NAME).read_text(encoding="utf-8")
    return KnownBuild(**json.loads(text))


def read_module() -> bytes:
    r"""Return the module.

    Raises:
        ModuleError: Its file is missing or was changed.

    Examples:
        >>> read_module()[:4]
        b'\x00asm'
    """
    try:
        data = files(__package__).joinpath(BINARIES_NAME, MODULE_NAME).read_bytes()
    except OSError as error:
        raise ModuleError(
            f"the module {MODULE_NAME} cannot be read: {error}; install sqlstable anew"
        ) from error
    found, expected = hashlib.sha256(data).hexdigest(), known_build().sha256
    if found != expected:
        raise ModuleError(
            f"the module {MODULE_NAME} has SHA-256 {found}, and {expected} was built; install "
            "sqlstable anew, or build it by python -m sqlstable.candid.build_candid"
        )
    return data


INIT_SECTION: Final = "candid:args"
"""The custom section in which Motoko's compiler leaves the types of init arguments."""


@dataclass(frozen=True, slots=True)
class InterfaceSource:
    """The texts that an interface is made of."""

    main: str
    init: str = ""
    imports: tuple[tuple[str, bool, str], ...] = ()
    "Name, whether it is its service that is imported, and text, in order of definition."


def carry_out(kind: str, *fields: str | bytes | InterfaceSource) -> bytes:
    """Let the module carry out a request.

    Args:
        kind: One letter, see ``module/src/lib.rs``.
        fields: Its fields, last the one that places in failures are in; an interface stands for
            its number.

    Raises:
        CandidError: The module refuses, or a bound is reached.
        ModuleError: The module is damaged.
        SettingsError: wasmtime is missing, or this thread has too little stack.
    """
    check_thread()
    with _LOCK:
        return _RUNNING.carry_out(kind, *fields)


def load_interface(source: InterfaceSource) -> dict[str, Any]:
    """Load an interface and return what the module says of it.

    Raises:
        CandidError: It is malformed.
    """
    check_thread()
    with _LOCK:
        return _RUNNING.described(source)


class _Running:
    """The module in a store, made when it is first needed and after each trap."""

    def __init__(self) -> None:
        self._store: Any = None
        self._exports: dict[str, Any] = {}
        self._interfaces: dict[InterfaceSource, tuple[str, dict[str, Any]]] = {}

    def carry_out(self, kind: str, *fields: str | bytes | InterfaceSource) -> bytes:
        if len(self._interfaces) >= INTERFACES_MAX:
            self.forget()
        numbered = [self._loaded(it)[0] if isinstance(it, InterfaceSource) else it for it in fields]
        text = numbered[-1]
        return self._ask(kind, *numbered, texts={"": text if isinstance(text, str) else ""})

    def described(self, source: InterfaceSource) -> dict[str, Any]:
        return self._loaded(source)[1]

    def forget(self) -> None:
        self._store = None
        self._exports = {}
        self._interfaces = {}

    def _loaded(self, source: InterfaceSource) -> tuple[str, dict[str, Any]]:
        found = self._interfaces.get(source)
        if found is None:
            imports = [
                part
                for name, is_service, text in source.imports
                for part in (name, "service" if is_service else "type", text)
            ]
            texts = {name: text for name, _, text in source.imports}
            texts |= {"": source.main, INIT_SECTION: source.init}
            answer = self._ask("L", source.main, source.init, *imports, texts=texts)
            number, _, text = answer.partition(b"\n")
            found = self._interfaces[source] = (number.decode(), json.loads(text))
        return found

    def _ask(self, kind: str, *fields: str | bytes, texts: dict[str, str]) -> bytes:
        encoded = [_utf8(it) if isinstance(it, str) else it for it in fields]
        request = kind.encode() + b"".join(struct.pack("<I", len(it)) + it for it in encoded)
        wasmtime = _wasmtime()
        if self._store is None:
            self._start()
        try:
            status, body = self._exchange(request)
        except wasmtime.Trap as trap:
            self.forget()
            raise CandidError(_reason(trap, len(request))) from None
        if status:
            raise _failure(json.loads(body), texts)
        return body

    def _exchange(self, request: bytes) -> tuple[int, bytes]:
        store, exports = self._store, self._exports
        store.set_fuel(FUEL_MAX)
        memory = exports["memory"]
        start = exports["allocate"](store, len(request))
        memory.write(store, request, start)
        answer = exports["carry_out"](store, start, len(request))
        exports["release"](store, start, len(request))
        (length,) = struct.unpack("<I", memory.read(store, answer, answer + 4))
        body = bytes(memory.read(store, answer + 4, answer + 4 + length))
        exports["release"](store, answer, length + 4)
        return body[0], body[1:]

    def _start(self) -> None:
        wasmtime = _wasmtime()
        module = _compiled()
        store = wasmtime.Store(_engine())
        store.set_limits(memory_size=MEMORY_BYTES_MAX)
        store.set_fuel(FUEL_MAX)
        instance = wasmtime.Instance(store, module, [])
        self._exports = dict(instance.exports(store))
        self._store = store


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        near = text[max(error.start - 10, 0) : error.start + 10]
        raise CandidError(
            f"Candid is Unicode text, and {near!r} has a lone surrogate as character "
            f"{error.start}; leave it out"
        ) from None


def _reason(trap: Any, request_bytes: int) -> str:  # noqa: ANN401  wasmtime's
    code = getattr(trap.trap_code, "name", "")
    if code in ("STACK_OVERFLOW", "MEMORY_OUT_OF_BOUNDS"):
        return (
            "the value or type is nested too deeply for Candid's reader; "
            "canisters cannot read it either"
        )
    if code == "OUT_OF_FUEL":
        return (
            f"working on {request_bytes} bytes takes more than {FUEL_MAX} instructions; "
            "give a smaller value, or show it as hexadecimal digits"
        )
    return (
        f"Candid's reader gives up on {request_bytes} bytes: the value needs more than "
        f"{MEMORY_BYTES_MAX // GIB} GiB, or cannot be written; show it as hexadecimal digits"
    )


def _failure(said: dict[str, Any], texts: dict[str, str]) -> CandidError:
    """Return the error that the module reports, with line and column where it is in a text."""
    message, source = _SOURCE_PLACE.sub("", said["message"]), said["source"]
    if said["start"] is None:
        where = f"{source}: " if source else ""
        return CandidError(f"{where}{message}", source=source)
    text = texts[source].encode()
    start = min(said["start"], len(text))
    before = text[:start].decode(errors="replace")
    line = before.count("\n") + 1
    column = len(before) - (before.rfind("\n") + 1) + 1
    near = text[start : max(said["end"], start)].decode(errors="replace")
    quoted = f" at {near[:_QUOTED_MAX]!r}" if near.strip() else ""
    where = f"{source}, line" if source else "line"
    return CandidError(
        f"{where} {line}, column {column}{quoted}: {message}",
        line=line,
        column=column,
        source=source,
    )


_SOURCE_PLACE: Final = re.compile(r" at \S+\.rs:\d+")
"""A line of the crates' own sources, which is of no use to anybody else."""

_QUOTED_MAX: Final = 40
"""Characters of a text that are quoted where it is wrong."""


# -- compiled -------------------------------------------------------------------------------------


@cache
def _wasmtime() -> Any:  # noqa: ANN401  a module
    # Its version is looked up once, which takes longer than a request.
    return wasmtime_module()


@cache
def _engine() -> Any:  # noqa: ANN401  wasmtime's
    wasmtime = _wasmtime()
    config = wasmtime.Config()
    set_stack(config)
    config.consume_fuel = True
    atexit.register(_end)
    return wasmtime.Engine(config)


@cache
def _compiled() -> Any:  # noqa: ANN401  wasmtime's
    wasmtime = _wasmtime()
    engine = _engine()
    key = kept.key_of(
        *("candid", known_build().sha256, f"wasmtime {WASMTIME_VERSION}"),
        f"{platform.system()} {platform.machine()}, stack {wasm_stack_bytes()}, fuel",
    )
    content = kept.load(key)
    if content is not None:
        try:
            return wasmtime.Module.deserialize(engine, bytes(content))
        except wasmtime.WasmtimeError:
            # Of another processor, perhaps: compiled anew.
            pass
    module = wasmtime.Module(engine, read_module())
    kept.keep(key, bytes(module.serialize()))
    return module


def _end() -> None:
    """Let go of everything while wasmtime is still able to free it: the process ends."""
    _RUNNING.forget()
    _compiled.cache_clear()
    _engine.cache_clear()
    gc.collect()


_LOCK: Final = threading.Lock()
_RUNNING: Final = _Running()
