"""``sqlstable extract``: take a database out of an image of stable memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from sqlstable.cli.failures import RunError, UsageError, note
from sqlstable.cli.on_connect import load_setups
from sqlstable.cli.options import IntegrityCheckOption, OnConnectOption
from sqlstable.cli.output import write
from sqlstable.cli.places import image_in, new_database, note_recovery
from sqlstable.cli.progress import LoadProgress
from sqlstable.database.checking import find_damage
from sqlstable.database.foreign import way_out
from sqlstable.database.settings import resolve_settings
from sqlstable.database.transfer import extract_database
from sqlstable.database.vfs import StableVFS
from sqlstable.errors import ImageError
from sqlstable.layout.files import StableFileInfo
from sqlstable.layout.layout import Peek
from sqlstable.layout.layouts import LAYOUT_NAMES, recognised
from sqlstable.memory.stable import StableMemory
from sqlstable.report.numbers import counted, size
from sqlstable.report.text import clean

_FILES_SHOWN: Final = 8


def extract_to_file(
    *,
    image: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGE",
            help="An image file, or the folder of a snapshot; it is only read.",
        ),
    ],
    database: Annotated[
        Path, typer.Argument(metavar="APP.db", help="The SQLite database to make.")
    ],
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="An attached database, not the main one."),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            "--layout",
            metavar="|".join(LAYOUT_NAMES),
            help="Of the image. [default: found out by its first bytes]",
        ),
    ] = None,
    on_connect: OnConnectOption = None,
    integrity_check: IntegrityCheckOption = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the database if there is one already.")
    ] = False,
) -> None:
    """Take a database out of an image of stable memory, as a plain SQLite file."""
    resolve_settings(layout=layout)
    image = image_in(image)
    setups = load_setups(on_connect)
    with (
        LoadProgress(database.name) as progress,
        StableMemory.open(image, limits=None, is_read_only=True, is_created=False) as memory,
        _opened(memory, image, layout) as vfs,
    ):
        note_recovery(memory)
        others = _other_names(vfs, image, name)
        with new_database(database, force=force, image=image) as partial:
            size_bytes = _extract(vfs, name, partial, progress, image=image, database=database)
            findings = find_damage(
                str(partial), setups=setups, is_thorough=integrity_check, on_tick=progress.on_tick
            )
    write(f"{clean(str(database))}: a SQLite database of {size(size_bytes)}\n")
    for gap in findings.gaps:
        note(f"{database}: {gap}; {way_out()}")
    if others and name is None:
        note(
            f"{image} holds {counted(len(others), 'more database')}: {', '.join(others)}; "
            "--name takes one of them out"
        )
    if findings.damage:
        check = "integrity_check" if integrity_check else "quick_check"
        raise RunError(
            f"{database} is taken out as it is, and damaged: {check} finds "
            f"{'; '.join(findings.damage)}"
        )


@contextmanager
def _opened(memory: StableMemory, image: Path, layout: str | None) -> Iterator[StableVFS]:
    try:
        vfs = StableVFS(memory, layout=layout or _found(memory))
    except ImageError as error:
        raise ImageError(f"{image}: {error}") from error
    try:
        yield vfs
    finally:
        vfs.unregister()


def _found(memory: StableMemory) -> str:
    """Return the layout of an image; as raw, what is of none is refused when it is opened."""
    layout = recognised(Peek.at(memory))
    return "raw" if layout is None else layout.name


def _other_names(vfs: StableVFS, image: Path, name: str | None) -> list[str]:
    """Return the databases that are not asked for.

    Raises:
        UsageError: The one that is asked for is not there.
    """
    files = vfs.stable_files()
    names = [file.name for file in files if file.kind == "database" and file.used_bytes]
    wanted = name or vfs.main_name
    if wanted not in names:
        raise UsageError(f"{image} holds no {_missing(name)}; it has {_listed(files)}")
    return [found for found in names if found != wanted]


def _missing(name: str | None) -> str:
    return "database where the main one lies" if name is None else f"database named {name}"


def _listed(files: tuple[StableFileInfo, ...]) -> str:
    there = [f"{it.name} ({it.kind}, {size(it.used_bytes)})" for it in files if it.used_bytes]
    more = len(there) - _FILES_SHOWN
    return ", ".join([*there[:_FILES_SHOWN], *([f"{more} more"] if more > 0 else [])]) or "nothing"


def _extract(
    vfs: StableVFS,
    name: str | None,
    partial: Path,
    progress: LoadProgress,
    *,
    image: Path,
    database: Path,
) -> int:
    files = vfs.stable_files()
    total_bytes = next(it.used_bytes for it in files if it.name == (name or vfs.main_name))
    try:
        return extract_database(
            vfs,
            partial,
            name=None if name == vfs.main_name else name,
            on_bytes=lambda done_bytes: progress.on_bytes(done_bytes, total_bytes),
        )
    except ImageError as error:
        if isinstance(error.__cause__, OSError):
            raise RunError(f"{database} could not be made: {error.__cause__.strerror}") from error
        raise ImageError(f"{image}: {error}") from error
