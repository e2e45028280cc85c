"""Builds the canisters of our own sources in Rust and Motoko, for the tests of real modules.

``python tests/modules/build.py`` puts them into ``tests/modules/build``, or into the folder that
``SQLSTABLE_MODULES`` names; nothing of them is checked in. Rust needs cargo with the target
wasm32-unknown-unknown, Motoko needs node with npm. What is missing is said, and the other half is
built all the same. Exit status 1 if something failed, 3 if something is missing.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import wasmtime

HERE = Path(__file__).resolve().parent
FOLDER = Path(os.environ.get("SQLSTABLE_MODULES") or HERE / "build")
TARGET = "wasm32-unknown-unknown"
MISSING = 3
SECTION = "icp:public candid:service"


class MissingError(Exception):
    """A tool that building needs is not there."""


def build_rust(folder):
    """Build the workspace, and give each module its interface."""
    for tool in ("cargo", "rustc"):
        if shutil.which(tool) is None:
            raise MissingError(f"the Rust canisters need {tool}")
    add_target()
    source = HERE / "rust"
    target = Path(os.environ.get("CARGO_TARGET_DIR") or source / "target")
    command = ["cargo", "build", "--release", "--locked", "--target", TARGET, "--quiet"]
    run(command, source, CARGO_TARGET_DIR=str(target))
    for module in sorted((target / TARGET / "release").glob("*.wasm")):
        if (source / module.stem).is_dir():
            wasm = with_interface(module.read_bytes())
            (folder / module.name).write_bytes(wasm)


def add_target():
    """Add the target where rustup has not got it yet; a cargo without rustup has it or not."""
    if has_target():
        return
    if shutil.which("rustup") is not None:
        subprocess.run(
            ["rustup", "target", "add", TARGET], cwd=HERE / "rust", stdout=2, check=False
        )
    if not has_target():
        raise MissingError(f"the Rust canisters need the target {TARGET} (rustup target add)")


def has_target():
    """Tell whether the compiler has the target's standard library."""
    command = ["rustc", "--print", "target-libdir", "--target", TARGET]
    told = subprocess.run(command, cwd=HERE / "rust", capture_output=True, text=True, check=False)
    return told.returncode == 0 and Path(told.stdout.strip()).is_dir()


def build_motoko(folder):
    """Compile the actors by the compiler that npm has."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            raise MissingError(f"the Motoko canisters need {tool}")
    source = HERE / "motoko"
    run(["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"], source)
    run(["node", "compile.js", str(folder)], source)


def with_interface(wasm):
    """Return a module with its interface in a custom section, where tools look for it.

    The module itself says it, by the export that ``ic_cdk::export_candid!`` makes.
    """
    store = wasmtime.Store()
    module = wasmtime.Module(store.engine, wasm)
    linker = wasmtime.Linker(store.engine)
    linker.define_unknown_imports_as_traps(module)
    exports = linker.instantiate(store, module).exports(store)
    start = exports["get_candid_pointer"](store)
    memory = exports["memory"]
    data = memory.read(store, start, memory.data_len(store))
    text = bytes(data[: data.index(0)])
    name = SECTION.encode()
    content = leb(len(name)) + name + text
    return wasm + b"\0" + leb(len(content)) + content


def leb(value):
    """Return an unsigned number as WebAssembly has it."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def tell(text):
    """Write a line."""
    sys.stdout.write(f"{text}\n")


def run(command, folder, **variables):
    """Run a command whose words go to stderr."""
    subprocess.run(command, cwd=folder, env={**os.environ, **variables}, stdout=2, check=True)


def main():
    """Build both halves."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    status = 0
    for build in (build_rust, build_motoko):
        begin = time.monotonic()
        try:
            build(FOLDER)
        except MissingError as missing:
            tell(f"{missing}, which is not there")
            status = status or MISSING
        except subprocess.CalledProcessError as error:
            tell(f"{' '.join(error.cmd)} ended with status {error.returncode}")
            status = 1
        else:
            tell(f"{build.__name__}: {time.monotonic() - begin:.0f} s")
    return status


if __name__ == "__main__":
    sys.exit(main())
