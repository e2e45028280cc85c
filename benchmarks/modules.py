"""Which canister modules of others run here, and what the others need.

``python -m benchmarks.modules FOLDER`` takes a folder of modules (``.wasm``, ``.wasm.gz``), however
they got there, and tries each in a process of its own: it is read, rewritten, compiled, installed,
and its methods are called with the simplest arguments that their types allow, where the module says
its interface or they take none. Nothing is built or fetched here, and nothing is timed.

The table has a row for each module: how far it came, how many calls were answered by a reply, a
reject or a trap of the canister's own, whether it can be upgraded to itself, and what stood in
the way.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.measure import markdown
from sqlstable.candid.interface import Interface
from sqlstable.errors import CandidError, SqlstableError, Trap
from sqlstable.ic.prices import regime_of
from sqlstable.replica.replica import Replica
from sqlstable.wasm.module_file import CANDID_SECTION, PERSISTENCE_SECTION, ModuleFile
from sqlstable.wasm.program import make_program

CALLS_MAX: Final = 12
SECONDS_MAX: Final = 300

EMPTY: Final = b"DIDL\0\0"
"""No arguments."""

_KINDS: Final = ("canister_query ", "canister_update ", "canister_composite_query ")

_DEFAULTS: Final = {
    **dict.fromkeys(("nat", "nat8", "nat16", "nat32", "nat64"), "1"),
    **dict.fromkeys(("int", "int8", "int16", "int32", "int64"), "1"),
    "text": '"a"',
    "bool": "true",
    "null": "null",
    "blob": '"a"',
    "float32": "1.0",
    "float64": "1.0",
    "principal": 'principal "aaaaa-aa"',
}


@dataclass(slots=True)
class Tried:
    """How far a module came."""

    name: str
    size: int
    "Bytes of the module, decompressed."
    is_64: bool = False
    "Whether its heap has 64-bit addresses."
    reached: str = "read"
    "read, compiled, installed, called or upgraded: by itself, with all that it keeps."
    replied: int = 0
    rejected: int = 0
    trapped: int = 0
    obstacles: list[str] = field(default_factory=list)
    "What stood in the way, in the words that a user reads."


def try_module(path: Path) -> Tried:
    """Take a module as far as it goes."""
    data = path.read_bytes()
    tried = Tried(path.name, len(data))
    replica = Replica(limits="latest")
    try:
        module = ModuleFile.of(data)
        tried.size = len(module.wasm)
        program = make_program(
            module.wasm, name=path.name, regime=regime_of(None), watches_heap=True
        )
        tried.is_64 = program.layout.is_64
        tried.reached = "compiled"
        interface = interface_of(module)
        replica.create("tried")
        argument = EMPTY if interface is None else simplest(interface, None)
        installed = replica.install("tried", data, argument)
        if installed.rejection is not None:
            raise Trap(installed.rejection.message)
        tried.reached = "installed"
        for export, sent in calls_of(program.layout.exports, interface):
            call(replica, export, sent, tried)
            tried.reached = "called"
        upgraded = replica.install("tried", data, argument, mode="upgrade", keep_heap=keeps(module))
        if upgraded.rejection is not None:
            tried.obstacles.append(f"upgrade: {upgraded.rejection.message}")
        elif tried.reached == "called":
            tried.reached = "upgraded"
    except SqlstableError as error:
        tried.obstacles.append(f"{type(error).__name__}: {error}")
    finally:
        replica.close()
    return tried


def keeps(module: ModuleFile) -> bool | None:
    """Return how an upgrade treats the heap: kept where the module is made for that."""
    return True if PERSISTENCE_SECTION in module.metadata else None


def call(replica: Replica, export: str, argument: bytes, tried: Tried) -> None:
    """Call a method, and count how it was answered."""
    kind, method = export.split(" ", 1)
    run = replica.query if kind != "canister_update" else replica.update
    result = run("tried", method, argument)
    if result.reply is not None:
        tried.replied += 1
    elif result.is_pending:
        tried.obstacles.append(f"{export}: no answer yet")
    elif any(it.trap is not None for it in result.executed):
        tried.trapped += 1
        traps = [str(it.trap) for it in result.executed if it.trap is not None]
        tried.obstacles.append(f"{export}: {traps[0]}")
    else:
        tried.rejected += 1


def interface_of(module: ModuleFile) -> Interface | None:
    """Return what the module says of itself."""
    section = module.metadata.get(CANDID_SECTION)
    if section is None:
        return None
    arguments = module.metadata.get("candid:args")
    return Interface.of_module(section.content, b"" if arguments is None else arguments.content)


def calls_of(exports: frozenset[str], interface: Interface | None) -> Iterator[tuple[str, bytes]]:
    """Yield the exports that can be called, each with an argument."""
    names = [it for it in sorted(exports) if it.startswith(_KINDS)]
    for export in [it for it in names if "__" not in it.split(" ", 1)[1]][:CALLS_MAX]:
        method = export.split(" ", 1)[1]
        if interface is None:
            yield export, EMPTY
        elif method in interface.methods:
            # Records and variants by name take more than the simplest value.
            with suppress(CandidError):
                yield export, simplest(interface, method)


def simplest(interface: Interface, method: str | None) -> bytes:
    """Return the simplest argument that a method's types allow, of those that are no records."""
    types = interface.init if method is None else interface.methods[method].arguments
    values = [default_of(it) for it in types or ()]
    text = f"({', '.join(values)})"
    return interface.encode_init(text) if method is None else interface.encode(method, text)


def default_of(kind: str) -> str:
    """Return a value of a type as Candid text.

    Examples:
        >>> default_of("nat"), default_of("opt text"), default_of("vec nat8")
        ('1', 'null', 'vec {}')
    """
    if kind.startswith("opt "):
        return "null"
    if kind.startswith("vec "):
        return "vec {}"
    return _DEFAULTS.get(kind, "record {}")


def tried_apart(path: Path) -> Tried:
    """Try a module in a child process, which may die."""
    command = [sys.executable, "-m", "benchmarks.modules", "--one", str(path)]
    size = path.stat().st_size
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=SECONDS_MAX
        )
    except subprocess.TimeoutExpired:
        # Endless, or more instructions than this machine has time for.
        return Tried(path.name, size, "read", obstacles=[f"no end within {SECONDS_MAX} s"])
    if done.returncode != 0 or not done.stdout.startswith("{"):
        words = done.stderr.strip().splitlines()[-1:] or ["without a word"]
        return Tried(path.name, size, "CRASHED", obstacles=[f"{done.returncode}: {words[0]}"])
    return Tried(**json.loads(done.stdout))


def row(tried: Tried) -> list[str]:
    """Return a module's row of the table."""
    needs = tried.obstacles[0] if tried.obstacles else ""
    return [
        tried.name,
        f"{tried.size // 1000:,}",
        "64" if tried.is_64 else "32",
        tried.reached,
        str(tried.replied),
        str(tried.rejected),
        str(tried.trapped),
        " ".join(needs.split()).replace("|", "/").replace("bkyz2-fmaaa-aaaaa-qaaaq-cai: ", "")[:90],
    ]


def main() -> int:
    """Try all, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path())
    parser.add_argument("--one", type=Path, help="try one module, and print JSON")
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(asdict(try_module(arguments.one))))
        return 0
    found = []
    for path in sorted(arguments.folder.glob("*.wasm*")):
        found.append(tried_apart(path))
        print(path.name, found[-1].reached, file=sys.stderr)
    header = ("module", "kB", "bits", "reached", "replied", "rejected", "trapped", "first obstacle")
    print(markdown(header, [row(it) for it in found]))
    counts = {it.reached: 0 for it in found}
    for it in found:
        counts[it.reached] += 1
    print(f"\n{len(found)} modules: {', '.join(f'{n} {word}' for word, n in counts.items())}.")
    return int("CRASHED" in counts)


if __name__ == "__main__":
    sys.exit(main())
