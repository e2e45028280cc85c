"""Making the canister of a run: on an image file or in memory, with or without a database."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path

from sqlstable.canister.canister import Canister
from sqlstable.canister.choices import Choices
from sqlstable.canister.machines import open_memory
from sqlstable.cli.failures import UsageError, note
from sqlstable.cli.places import check_regular, note_recovery
from sqlstable.database.checking import Setup
from sqlstable.database.foreign import DatabaseSource
from sqlstable.database.vfs import StableVFS
from sqlstable.errors import ImageError
from sqlstable.memory.stable import StableMemory
from sqlstable.report.numbers import size


def install(
    choices: Choices, database: DatabaseSource | None, setups: Sequence[Setup] = ()
) -> Canister:
    """Return the canister in which a script can run.

    Args:
        choices: What the command line asks for; an image that holds a database has a page size
            of its own.
        database: What is imported first.
        setups: Run on each connection.

    Raises:
        ImageError: The image cannot be used; then an old one is as it was, and a new one is gone.
        UsageError: The image holds a database already, and another one is to be imported, or
            another size of SQLite pages was asked for.
    """
    if choices.path is None:
        return _filled(_made(choices), setups, database)
    image = Path(choices.path)
    check_regular(image)
    was_there = os.path.exists(image)  # noqa: PTH110  also for a name that is too long
    memory = open_memory(choices)
    was_empty = memory.wasm_pages == 0
    try:
        note_recovery(memory)
        if database is not None:
            _check_has_no_database(memory, image, choices.settings.layout)
        _check_page_size(memory, image, choices)
        canister = _opened(choices, memory, image)
        return _filled(canister, setups, database)
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
    size_bytes, _ = _found(memory, image, layout)
    if size_bytes:
        raise UsageError(
            f"{image} has a database of {size_bytes} bytes already; leave --database out to go on "
            "with it, or choose another image"
        )


def _check_page_size(memory: StableMemory, image: Path, choices: Choices) -> None:
    """Refuse another size of SQLite pages than the image has, before anything is changed."""
    page_size = choices.page_size
    if page_size is None:
        return
    size_bytes, own_page_size = _found(memory, image, choices.settings.layout)
    if size_bytes and own_page_size != page_size:
        raise UsageError(
            f"{image} has SQLite pages of {own_page_size} bytes, and --page-size asks for "
            f"{page_size}; leave it out, or make another image: sqlstable extract {image} APP.db, "
            f"then sqlstable import APP.db NEW --page-size {page_size}"
        )


def _found(memory: StableMemory, image: Path, layout: str) -> tuple[int, int]:
    """Return how many bytes the image's database and each of its SQLite pages have."""
    if memory.wasm_pages == 0:
        return 0, 0
    with _naming(image):
        vfs = StableVFS(memory, layout=layout)
        vfs.adopt_page_size()
    vfs.unregister()
    return vfs.store.size_bytes, vfs.store.page_size


def _opened(choices: Choices, memory: StableMemory, image: Path) -> Canister:
    """Make the canister, and say what it goes on with."""
    assert memory.image_file is not None
    is_new = memory.wasm_pages == 0
    with _naming(image):
        canister = _made(replace(choices, path=None, durability=None, memory=memory))
    if not is_new:
        status = canister.status()
        is_read_only = memory.image_file.is_read_only
        note(
            f"going on with {image}: stable memory {size(status.stable_size_bytes)}, "
            f"database {size(status.database_size_bytes)}"
            + ("; it is read-only: queries run, updates fail" if is_read_only else "")
        )
    return canister


def _made(choices: Choices) -> Canister:
    return Canister(**{field.name: getattr(choices, field.name) for field in fields(choices)})


@contextmanager
def _naming(image: Path) -> Iterator[None]:
    """Say which image it is that holds something wrong."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{image}: {error}") from error


def _filled(
    canister: Canister, setups: Sequence[Setup], database: DatabaseSource | None
) -> Canister:
    """Give the canister its functions and its database, if there are any."""
    try:
        for setup in setups:
            canister.on_connect(setup)
        if database is not None:
            for text in canister.import_database(database).notes:
                note(text)
    except BaseException:
        canister.close()
        raise
    return canister
