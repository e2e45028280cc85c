"""Builds the small modules of our own, whose binaries are checked in beside their sources.

``python tests/modules/own.py`` writes them, ``--check`` compares them with what building gives.
The compiler of C is the PyPI package ziglang in the version that ``pyproject.toml`` names; without
it those in C are left as they are. The one in Rust is built where ``--rust`` asks for it.
"""

import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import wasmtime

from sqlstable.candid.build_candid import build

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
READY = ROOT / "sqlstable" / "module" / "ready"
EXAMPLES = ROOT / "examples"
ZIGLANG = "0.17.0"
FLAGS = (
    *("-target", "wasm32-freestanding", "-mcpu=mvp+bulk_memory+mutable_globals+sign_ext"),
    *("-O2", "-s", "-nostdlib", "-fno-builtin", "-Wl,--no-entry", "-Wall", "-Werror"),
)
SECTION = b"icp:public candid:service"


def has_compiler():
    """Tell whether C can be compiled here."""
    try:
        return version("ziglang") == ZIGLANG
    except PackageNotFoundError:
        return False


def texts():
    """Return the sources in text format."""
    return [*sorted(READY.glob("*.wat")), *sorted(HERE.glob("*.wat"))]


def programs():
    """Return the sources in C."""
    return sorted(EXAMPLES.glob("*/*.c"))


def projects():
    """Return the projects in Rust."""
    return [it.parent for it in sorted(READY.glob("*/Cargo.toml"))]


def built_text(source):
    """Return the module of a source in text format."""
    return bytes(wasmtime.wat2wasm(source.read_text(encoding="utf-8")))


def built_c(source):
    """Return the module of a C source, with its interface."""
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "module.wasm"
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, "-o", target, source.name]
        subprocess.run(command, cwd=source.parent, check=True)
        wasm = target.read_bytes()
    return wasm + section(source.with_suffix(".did").read_bytes())


def section(content):
    """Return a custom section that says what the module's methods take."""
    body = leb(len(SECTION)) + SECTION + content
    return b"\x00" + leb(len(body)) + body


def leb(number):
    """Return a number as the binary format has it."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def built_rust(source):
    """Return the module of a cargo project."""
    return build(source, source.name)


def main(arguments):
    """Write or check all; returns the exit status."""
    made = {source: built_text(source) for source in texts()}
    if "--rust" in arguments:
        made |= {source: built_rust(source) for source in projects()}
    if has_compiler():
        made |= {source: built_c(source) for source in programs()}
    else:
        say(f"left out what is in C: pip install ziglang=={ZIGLANG}")
    stale = [it for it, wasm in made.items() if not same(it.with_suffix(".wasm"), wasm)]
    if "--check" in arguments:
        say("\n".join(f"{it.name} gives another module" for it in stale) or "all are current")
        return 1 if stale else 0
    for source in stale:
        source.with_suffix(".wasm").write_bytes(made[source])
        say(f"wrote {source.stem}.wasm, {len(made[source]):,} bytes")
    return 0


def say(text):
    """Tell whoever builds."""
    sys.stdout.write(f"{text}\n")


def same(path, wasm):
    """Tell whether a file holds a module."""
    return path.exists() and path.read_bytes() == wasm


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
