"""Making the canister of a run: on an image file or in memory, with or without a database."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from sqlstable.canister.canister import Canister
from sqlstable.canister.hosts import Place
from sqlstable.cli.failures import UsageError, note
from sqlstable.cli.places import check_regular
from sqlstable.database.vfs import StableVFS
from sqlstable.errors import ImageError
from sqlstable.ic.limits import Limits
from sqlstable.memory.stable import StableMemory
from sqlstable.report.numbers import size


class OpenCanister(Protocol):
    """Makes a canister with the settings of the command line."""

    def __call__(
        self, *, memory: StableMemory | None = None, limits: Limits | None = None
    ) -> Canister:
        """Make it, in a memory or in one of its own with these limits."""
        ...


OpenMemory = Callable[[Place], StableMemory]
"""Opens an image for an engine."""


def install(
    open_canister: OpenCanister,
    *,
    image: Path | None,
    durability: str,
    limits: Limits | None,
    layout: str,
    database: bytes | None,
    page_size: int | None,
    open_memory: OpenMemory,
) -> Canister:
    """Return the canister in which a script can run.

    Args:
        open_canister: Makes it.
        image: Keeps its stable memory; None for this process's memory.
        durability: ``process`` or ``power``, with an image.
        limits: Limits to enforce, or None.
        layout: ``managed`` or ``raw``.
        database: What is imported first.
        page_size: As asked for; a database that is imported has its own.
        open_memory: Opens an image for the engine.

    Raises:
        ImageError: The image cannot be used; then an old one is as it was, and a new one is gone.
        UsageError: The image holds a database already, and another one is to be imported.
    """
    if image is None:
        return _with_database(open_canister(limits=limits), database, page_size=page_size)
    check_regular(image)
    was_there = os.path.exists(image)  # noqa: PTH110  also for a name that is too long
    memory = open_memory(Place(image, limits, durability))
    was_empty = memory.wasm_pages == 0
    try:
        _note_recovery(memory)
        if database is not None:
            _check_has_no_database(memory, image, layout)
        canister = _opened(open_canister, memory, image)
        return _with_database(canister, database, page_size=page_size)
    except BaseException:
        with suppress(ImageError):
            memory.close()
            if not was_there:
                Path(os.path.realpath(image)).unlink()
            elif was_empty:
                os.truncate(image, 0)
        raise


def _check_has_no_database(memory: StableMemory, image: Path, layout: str) -> None:
    """Refuse to import over another database, before anything is changed."""
    assert memory.image_file is not None
    if memory.image_file.is_read_only:
        raise UsageError(f"{image} is read-only, so no database can be imported into it")
    if memory.wasm_pages == 0:
        return
    with _naming(image):
        vfs = StableVFS(memory, layout=layout)
    size_bytes = vfs.store.size_bytes
    vfs.unregister()
    if size_bytes:
        raise UsageError(
            f"{image} has a database of {size_bytes} bytes already; leave --database out to go on "
            "with it, or choose another image"
        )


def _opened(open_canister: OpenCanister, memory: StableMemory, image: Path) -> Canister:
    """Make the canister, and say what it goes on with."""
    assert memory.image_file is not None
    is_new = memory.wasm_pages == 0
    with _naming(image):
        canister = open_canister(memory=memory)
    if not is_new:
        status = canister.status()
        is_read_only = memory.image_file.is_read_only
        note(
            f"going on with {image}: stable memory {size(status.stable_size_bytes)}, "
            f"database {size(status.database_size_bytes)}"
            + ("; it is read-only: queries run, updates fail" if is_read_only else "")
        )
    return canister


@contextmanager
def _naming(image: Path) -> Iterator[None]:
    """Say which image it is that holds something wrong."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{image}: {error}") from error


def _with_database(
    canister: Canister, database: bytes | None, *, page_size: int | None
) -> Canister:
    """Import the database, if there is one."""
    if database is None:
        return canister
    try:
        canister.import_database(database)
    except BaseException:
        canister.close()
        raise
    own_page_size = canister.settings.page_size
    if page_size not in (None, own_page_size):
        note(f"the database keeps its own page_size, {own_page_size} and not {page_size}")
    return canister


def _note_recovery(memory: StableMemory) -> None:
    assert memory.image_file is not None
    if memory.image_file.recovery is not None:
        note(memory.image_file.recovery)
