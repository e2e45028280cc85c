"""What a shelf of snapshots holds, and the file that says so."""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from sqlstable.errors import SnapshotError
from sqlstable.memory.snapshots.layers import IMAGE_SUFFIX, SUMS_SUFFIX
from sqlstable.memory.snapshots.metadata import Metadata

INDEX_NAME: Final = "index.json"

_FORMAT: Final = "sqlstable snapshots"
_VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class Stored:
    """One snapshot on a shelf."""

    snapshot_id: str
    "Its number and its canister, in hexadecimal."
    metadata: Metadata
    layers: tuple[str, ...]
    "Files with its stable memory, from the lowest to its own."
    os_pages_copied: int
    names: tuple[str, ...]
    "What its folder has beside ``metadata.json``."
    wasm_module: str | None = None
    "File with the module; None where there is none."
    wasm_memory: str | None = None
    "File with the heap; None where there is none."
    chunks: tuple[tuple[str, str, int], ...] = ()
    "SHA-256 of each chunk, its file and its bytes."
    is_uploaded: bool = False

    @property
    def size_bytes(self) -> int:
        """Bytes of module, heap, stable memory and chunks."""
        return self.metadata.size_bytes + sum(size for _, _, size in self.chunks)

    @property
    def files(self) -> set[str]:
        """Every file that it needs."""
        parts = {name for name in (self.wasm_module, self.wasm_memory) if name is not None}
        return {*with_sums(self.layers), *parts, *(file for _, file, _ in self.chunks)}


@dataclass(frozen=True, slots=True)
class Identity:
    """By what an image file is told to be as it was left."""

    size_bytes: int
    modified_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Head:
    """The layers from which the canister has gone on, and what has changed since."""

    layers: tuple[str, ...]
    changed: tuple[tuple[int, int], ...] | None = None
    "First OS page and number of each run that has changed; None where nobody knows."
    image: Identity | None = None
    "The image file when that was written."


@dataclass(frozen=True, slots=True)
class Index:
    """All snapshots of a canister.

    Examples:
        >>> index = Index("2a")
        >>> Index.parse(index.data) == index
        True
    """

    canister: str
    "What the identifiers of its snapshots end in, hexadecimal."
    next_number: int = 0
    stored: tuple[Stored, ...] = ()
    "The oldest first."
    head: Head | None = None

    @property
    def files(self) -> set[str]:
        """Every file that is needed."""
        head = () if self.head is None else self.head.layers
        return {*with_sums(head), *(name for one in self.stored for name in one.files)}

    def without(self, snapshot_id: str) -> Self:
        """Return the same without a snapshot."""
        left = tuple(one for one in self.stored if one.snapshot_id != snapshot_id)
        return replace(self, stored=left)

    @property
    def data(self) -> bytes:
        """The file."""
        head = self.head
        values: dict[str, Any] = {
            "canister": self.canister,
            "next_number": self.next_number,
            "snapshots": [_said(one) for one in self.stored],
            "head": None
            if head is None
            else {
                "layers": head.layers,
                "changed": head.changed,
                "image": head.image
                and [head.image.size_bytes, head.image.modified_ns, head.image.inode],
            },
        }
        body = json.dumps(values, separators=(",", ":"))
        front = {"format": _FORMAT, "version": _VERSION, "crc32": zlib.crc32(body.encode())}
        return f"{json.dumps(front)}\n{body}\n".encode()

    @classmethod
    def parse(cls, data: bytes, name: str = INDEX_NAME) -> "Index":
        """Read the file.

        Raises:
            SnapshotError: It is damaged, or of a newer format.
        """
        front, _, body = data.partition(b"\n")
        try:
            said = json.loads(front)
            if said["format"] != _FORMAT:
                raise SnapshotError(f"{name} does not say what snapshots there are: {said}")
            if said["version"] != _VERSION:
                raise SnapshotError(
                    f"{name} has format version {said['version']}, and {_VERSION} is known here; "
                    "another release of sqlstable reads it"
                )
            body = body.removesuffix(b"\n")
            assert said["crc32"] == zlib.crc32(body), "its checksum is wrong"
            return _read(json.loads(body))
        except (AssertionError, ValueError, TypeError, KeyError) as error:
            raise SnapshotError(
                f"{name} is damaged ({error}), so nobody knows what snapshots there are; restore "
                "its folder from a copy, or move it away"
            ) from error


def sums_name(image_name: str) -> str:
    """Return the name of the file with the checksums of an image.

    Examples:
        >>> sums_name("3.image")
        '3.sums'
    """
    return image_name.removesuffix(IMAGE_SUFFIX) + SUMS_SUFFIX


def with_sums(layers: Sequence[str]) -> list[str]:
    """Return the files of layers, with those that hold checksums."""
    return [*layers, *(sums_name(name) for name in layers if name.endswith(IMAGE_SUFFIX))]


def _said(one: Stored) -> dict[str, Any]:
    return {
        "id": one.snapshot_id,
        "metadata": one.metadata.data.decode(),
        "layers": one.layers,
        "os_pages_copied": one.os_pages_copied,
        "names": one.names,
        "wasm_module": one.wasm_module,
        "wasm_memory": one.wasm_memory,
        "chunks": one.chunks,
        "is_uploaded": one.is_uploaded,
    }


def _read(values: dict[str, Any]) -> Index:
    stored = tuple(
        Stored(
            one["id"],
            Metadata.parse(one["metadata"].encode()),
            tuple(one["layers"]),
            one["os_pages_copied"],
            tuple(one["names"]),
            one["wasm_module"],
            one["wasm_memory"],
            tuple((digest, file, size) for digest, file, size in one["chunks"]),
            one["is_uploaded"],
        )
        for one in values["snapshots"]
    )
    return Index(
        values["canister"],
        values["next_number"],
        stored,
        _head_of(values["head"]),
    )


def _head_of(said: dict[str, Any] | None) -> Head | None:
    if said is None:
        return None
    runs, image = said["changed"], said["image"]
    return Head(
        tuple(said["layers"]),
        None if runs is None else tuple((first, count) for first, count in runs),
        None if image is None else Identity(*image),
    )


def foldable(index: Index) -> tuple[str, str] | None:
    """Return a layer that no snapshot ends with any more, and the one right above it."""
    tops = {one.layers[-1] for one in index.stored}
    for one in index.stored:
        for lower, upper in zip(one.layers, one.layers[1:], strict=False):
            if lower not in tops:
                return lower, upper
    return None


def folded(index: Index, pair: tuple[str, str], into: str) -> Index:
    """Return the same with one layer in the place of two."""

    def names(layers: Sequence[str]) -> tuple[str, ...]:
        kept = [into if name == pair[1] else name for name in layers]
        return tuple(name for name in kept if name != pair[0] or name == into)

    def once(layers: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(names(layers)))

    head = index.head
    return replace(
        index,
        stored=tuple(replace(one, layers=once(one.layers)) for one in index.stored),
        head=None if head is None else replace(head, layers=once(head.layers)),
    )
