"""Canisters with snapshots, for the tests of these."""

import hashlib
import json

from sqlstable import Canister

KINDS = ["native", "wasm", "native file", "wasm file"]


def opened(kind, folder, **options):
    """Return a canister of an engine, in memory or on a file."""
    engine, _, place = kind.partition(" ")
    return Canister(folder / "ledger.stable" if place else None, engine=engine, **options)


def fill(canister, count=3):
    canister.update("CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT)")
    with canister.message() as message:
        message.executemany(
            "INSERT INTO account (owner) VALUES (?)", [(f"o{n}",) for n in range(count)]
        )


def owners(canister):
    return [row[0] for row in canister.query("SELECT owner FROM account ORDER BY id").rows]


def add(canister, owner):
    canister.update("INSERT INTO account (owner) VALUES (?)", (owner,))


def grow(canister, size=20_000_000):
    """Make stable memory larger than one bucket."""
    canister.update("CREATE TABLE large (body)")
    canister.update("INSERT INTO large VALUES (zeroblob(?))", (size,))


def tree(folder):
    """All files below a folder, with their bytes; None for a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def hand_made(folder, stable, *, module=b"", heap=b"", chunks=(), **fields):
    """Write the folder of a snapshot by hand, as dfx does."""
    folder.mkdir()
    hashes = [hashlib.sha256(chunk).digest() for chunk in chunks]
    metadata = {
        "source": {"taken_from_canister": None},
        "taken_at_timestamp": 1_764_380_000_123_456_789,
        "wasm_module_size": len(module),
        "globals": [{"i32": 1048576}],
        "wasm_memory_size": len(heap),
        "stable_memory_size": len(stable),
        "wasm_chunk_store": [{"hash": [*digest]} for digest in hashes],
        "canister_version": 17,
        "certified_data": [1, 2],
        "global_timer": "inactive",
        "on_low_wasm_memory_hook_status": "condition_not_satisfied",
        **fields,
    }
    (folder / "metadata.json").write_text(json.dumps(metadata, indent=2))
    (folder / "wasm_module.bin").write_bytes(module)
    (folder / "wasm_memory.bin").write_bytes(heap)
    if stable:
        (folder / "stable_memory.bin").write_bytes(stable)
    if chunks:
        (folder / "wasm_chunk_store").mkdir()
    for digest, chunk in zip(hashes, chunks, strict=True):
        (folder / "wasm_chunk_store" / f"{digest.hex()}.bin").write_bytes(chunk)
    return folder
