"""Putting the parts of a snapshot on its shelf: layers, modules, and what a folder holds."""

from collections.abc import Iterator
from contextlib import closing

import numpy as np

from sqlstable.ic.snapshot_costs import SLICE_BYTES
from sqlstable.ic.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.memory.image.osfile import OsFile
from sqlstable.memory.snapshots.folder import (
    ALWAYS,
    HEAP_NAME,
    MODULE_NAME,
    STABLE_NAME,
    SnapshotFolder,
)
from sqlstable.memory.snapshots.layers import (
    LAYER_SUFFIX,
    NO_OS_PAGES,
    OsPages,
    batches_of,
    layer_parts,
    runs_of,
)
from sqlstable.memory.snapshots.shelf import Shelf
from sqlstable.memory.snapshots.shelf_index import Stored
from sqlstable.memory.snapshots.source import Committed


def put_layer(shelf: Shelf, source: Committed, os_pages: OsPages, *, is_whole: bool) -> str:
    """Copy OS pages of a stable memory; returns the file."""
    contents = map(source.parts, batches_of(os_pages))
    parts = layer_parts(os_pages, contents, wasm_pages=source.wasm_pages, is_whole=is_whole)
    return shelf.put(parts, LAYER_SUFFIX)


def put_module(shelf: Shelf, module: bytes) -> str:
    """Return a file with a module, which snapshots share."""
    for one in shelf.index.stored:
        is_alike = one.metadata.wasm_module_size == len(module)
        if is_alike and one.wasm_module is not None and shelf.read(one.wasm_module) == module:
            return one.wasm_module
    return shelf.put([(module,)], ".wasm")


class Put:
    """What has been put on a shelf and no index names yet."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.names: list[str] = []

    def folder(self, shelf: Shelf, source: SnapshotFolder) -> Stored:
        """Copy all that a folder holds.

        Raises:
            SnapshotError: There is no room, or a file cannot be read.
        """
        stable = self._noted(_put_stable(shelf, source))
        blobs = {name: self._blob(shelf, source, name) for name in (MODULE_NAME, HEAP_NAME)}
        chunks = []
        for digest in source.metadata.chunks:
            name = source.chunk_name(digest)
            with closing(source.open(name)) as file:
                chunks.append((digest, self._noted(_copied(shelf, file, ".chunk")), file.size()))
        return Stored(
            shelf.index.canister,
            source.metadata,
            (stable,),
            0,
            source.names,
            blobs[MODULE_NAME],
            blobs[HEAP_NAME],
            tuple(chunks),
            is_uploaded=True,
        )

    def _blob(self, shelf: Shelf, source: SnapshotFolder, name: str) -> str | None:
        if name in ALWAYS and name not in source.names:
            return None
        with closing(source.open(name)) as file:
            return self._noted(_copied(shelf, file, ".part")) if file.size() else None

    def _noted(self, name: str) -> str:
        self.names.append(name)
        return name


def _put_stable(shelf: Shelf, source: SnapshotFolder) -> str:
    """Copy stable memory; holes stay holes."""
    size_bytes = source.metadata.stable_memory_size
    if not size_bytes:
        return shelf.put(layer_parts(NO_OS_PAGES, (), wasm_pages=0, is_whole=True), LAYER_SUFFIX)
    with closing(source.open(STABLE_NAME)) as file:
        if shelf.folder is not None:
            return shelf.put_image(file, size_bytes)[0]
        spans = [
            np.arange(start // OS_PAGE_BYTES, -(-stop // OS_PAGE_BYTES))
            for start, stop in file.extents()
        ]
        os_pages = np.concatenate([NO_OS_PAGES, *spans])
        parts = layer_parts(
            os_pages,
            _contents(file, os_pages),
            wasm_pages=size_bytes // WASM_PAGE_BYTES,
            is_whole=True,
        )
        return shelf.put(parts, LAYER_SUFFIX)


def _contents(file: OsFile, os_pages: OsPages) -> Iterator[tuple[bytes]]:
    for first, stop in runs_of(os_pages):
        start, length = int(os_pages[first]) * OS_PAGE_BYTES, (stop - first) * OS_PAGE_BYTES
        yield (file.read(start, length),)


def _copied(shelf: Shelf, file: OsFile, suffix: str) -> str:
    offsets = range(0, file.size(), SLICE_BYTES)
    return shelf.put(((file.read(offset, SLICE_BYTES),) for offset in offsets), suffix)
