"""``metadata.json`` of a snapshot's folder, as dfx and icp-cli write it.

Both save what ``read_canister_snapshot_metadata`` answers, with serde_json's pretty printer: two
spaces, no line feed at the end. What was read is kept as its very bytes, so that fields nobody
knows here come back as they were.

=============================  ===================================================================
``source``                     ``{"taken_from_canister": null}``, ``{"metadata_upload": null}``
``taken_at_timestamp``         nanoseconds since 1970
``wasm_module_size``           bytes of ``wasm_module.bin``
``globals``                    of the module, each such as ``{"i32": 1048576}``, or null
``wasm_memory_size``           bytes of ``wasm_memory.bin``, the heap
``stable_memory_size``         bytes of ``stable_memory.bin``
``wasm_chunk_store``           of each chunk ``{"hash": [0, 255, …]}``, its SHA-256
``canister_version``           a number that each message of the canister increases
``certified_data``             bytes
``global_timer``               ``"inactive"``, ``{"active": 9}`` or null
``on_low_wasm_memory_hook_…``  ``"condition_not_satisfied"``, ``"ready"`` … or null
=============================  ===================================================================

Source: ``ReadCanisterSnapshotMetadataResult`` of the crate ic-management-canister-types, 0.7.1 and
0.8.0, serialised; ``dfinity/sdk`` src/dfx/src/commands/canister/snapshot.rs and ``dfinity/icp-cli``
crates/icp-cli/src/operations/snapshot_transfer.rs, read 2026-11-29.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlstable.errors import SnapshotError
from sqlstable.ic.units import WASM_PAGE_BYTES

METADATA_NAME: Final = "metadata.json"

_SIZES: Final = ("wasm_module_size", "wasm_memory_size", "stable_memory_size")
_NUMBERS: Final = ("taken_at_timestamp", *_SIZES, "canister_version")
_UINT64_MAX: Final = (1 << 64) - 1
_HASH_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is said of a snapshot.

    Examples:
        >>> made = make_metadata(taken_at_ns=1, canister_version=4, stable_memory_size=65536)
        >>> Metadata.parse(made.data) == made, made.stable_memory_size
        (True, 65536)
    """

    data: bytes
    "The file, byte for byte."
    taken_at_ns: int
    wasm_module_size: int
    wasm_memory_size: int
    stable_memory_size: int
    canister_version: int
    chunks: tuple[str, ...] = ()
    "SHA-256 of each chunk, in hexadecimal."
    global_values: tuple[tuple[str, Any] | None, ...] = ()
    "Type and value of each global; None where whoever wrote it did not know either."

    @classmethod
    def parse(cls, data: bytes, name: str = METADATA_NAME) -> "Metadata":
        """Read the file.

        Raises:
            SnapshotError: It is damaged, or says something that nobody knows here.
        """
        try:
            values = json.loads(data.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise SnapshotError(f"{name} is damaged: it is no JSON ({error})") from error
        if not isinstance(values, dict):
            raise SnapshotError(f"{name} is damaged: it holds no object")
        for field in _NUMBERS:
            value = values.get(field)
            if type(value) is not int or not 0 <= value <= _UINT64_MAX:
                said = "has no" if field not in values else f"says {str(value)[:40]!r} for"
                raise SnapshotError(
                    f"{name} {said} {field}, and a number is needed; it is damaged, or of a newer "
                    "format than is known here"
                )
        for field in _SIZES[1:]:
            if values[field] % WASM_PAGE_BYTES:
                raise SnapshotError(
                    f"{name} is damaged: {field} is {values[field]}, and memories consist of whole "
                    f"Wasm pages of {WASM_PAGE_BYTES} bytes"
                )
        _check_kinds(values, name)
        return cls(
            data,
            values["taken_at_timestamp"],
            values["wasm_module_size"],
            values["wasm_memory_size"],
            values["stable_memory_size"],
            values["canister_version"],
            tuple(_hash_of(chunk, name) for chunk in _list(values, "wasm_chunk_store", name)),
            tuple(_global_of(value, name) for value in _list(values, "globals", name)),
        )

    @property
    def size_bytes(self) -> int:
        """Bytes of module, heap and stable memory, as the Internet Computer charges for them.

        Chunks count, too; how large each is only its file says.
        """
        return self.wasm_module_size + self.wasm_memory_size + self.stable_memory_size


def make_metadata(
    *,
    taken_at_ns: int,
    canister_version: int,
    stable_memory_size: int,
    wasm_module_size: int = 0,
    wasm_memory_size: int = 0,
    global_values: Sequence[tuple[str, Any]] = (),
) -> Metadata:
    """Return what is said of a snapshot that is taken here.

    Certified data, timer and chunks are not simulated: there are none.
    """
    values: Mapping[str, Any] = {
        "source": {"taken_from_canister": None},
        "taken_at_timestamp": taken_at_ns,
        "wasm_module_size": wasm_module_size,
        "globals": [{kind: value} for kind, value in global_values],
        "wasm_memory_size": wasm_memory_size,
        "stable_memory_size": stable_memory_size,
        "wasm_chunk_store": [],
        "canister_version": canister_version,
        "certified_data": [],
        "global_timer": "inactive",
        "on_low_wasm_memory_hook_status": "condition_not_satisfied",
    }
    return Metadata.parse(json.dumps(values, indent=2, ensure_ascii=False).encode())


def _check_kinds(values: Mapping[str, Any], name: str) -> None:
    """Refuse what those who upload the folder would not read either.

    What may be null may be missing, as serde reads it. Fields that nobody knows are left alone.
    """
    for field, wanted, is_such in _KINDS:
        value = values.get(field)
        if value is None and field != "certified_data":
            continue
        if not is_such(value):
            raise SnapshotError(
                f"{name} says {json.dumps(value)[:40]} for {field}, which is {wanted}; it is "
                "damaged, or of a newer format than is known here"
            )


def _is_number(value: object, most: int) -> bool:
    return type(value) is int and 0 <= value <= most


def _is_bytes(value: object) -> bool:
    return isinstance(value, list) and all(_is_number(byte, 255) for byte in value)


def _is_timer(value: object) -> bool:
    if isinstance(value, dict):
        return [*value] == ["active"] and _is_number(value["active"], _UINT64_MAX)
    return value == "inactive"


def _is_source(value: object) -> bool:
    names = [*value] if isinstance(value, dict) else []
    return names in (["taken_from_canister"], ["metadata_upload"])


def _is_hook_status(value: object) -> bool:
    return value in ("condition_not_satisfied", "ready", "executed")


_KINDS: Final[tuple[tuple[str, str, Callable[[object], bool]], ...]] = (
    ("source", 'null, {"taken_from_canister": null} or {"metadata_upload": null}', _is_source),
    ("certified_data", "a list of bytes", _is_bytes),
    ("global_timer", 'null, "inactive" or {"active": nanoseconds}', _is_timer),
    (
        "on_low_wasm_memory_hook_status",
        'null, "condition_not_satisfied", "ready" or "executed"',
        _is_hook_status,
    ),
)


def _list(values: Mapping[str, Any], field: str, name: str) -> list[Any]:
    found = values.get(field)
    if not isinstance(found, list):
        raise SnapshotError(
            f"{name} has no list of {field}; it is damaged, or of a newer format than is known here"
        )
    return found


def _hash_of(chunk: object, name: str) -> str:
    found = chunk.get("hash") if isinstance(chunk, dict) else None
    try:
        assert isinstance(found, list)
        digest = bytes(found)
    except (AssertionError, TypeError, ValueError):
        digest = b""
    if len(digest) != _HASH_BYTES:
        raise SnapshotError(
            f"{name} is damaged: a chunk's hash is a list of {_HASH_BYTES} bytes, and one is "
            f"{str(found)[:40]}"
        )
    return digest.hex()


def _global_of(value: object, name: str) -> tuple[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or len(value) != 1:
        raise SnapshotError(f"{name} is damaged: a global is {str(value)[:40]}")
    ((kind, number),) = value.items()
    return str(kind), number
