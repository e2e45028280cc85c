"""``sqlstable import``: make an image of stable memory that holds a database."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from sqlstable.canister.canister import Canister, Status
from sqlstable.cli.failures import RunError
from sqlstable.cli.options import (
    LATEST,
    GrowthOption,
    LayoutOption,
    LimitsOption,
    PresetOption,
    check_durability,
    chosen_limits,
)
from sqlstable.cli.output import write
from sqlstable.cli.places import flush_folder, new_image
from sqlstable.cli.progress import LoadProgress
from sqlstable.database.loading import DatabaseSource, load, open_source
from sqlstable.database.settings import Settings, resolve_settings
from sqlstable.errors import ImageError, Trap
from sqlstable.ic.limits import Limits
from sqlstable.memory.commitlog import DURABILITIES
from sqlstable.memory.stable import StableMemory
from sqlstable.report.numbers import size
from sqlstable.report.text import clean


def import_database(
    *,
    database: Annotated[
        Path, typer.Argument(metavar="APP.db", help="A SQLite database; it is only read.")
    ],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The image file to make.")],
    layout: LayoutOption = None,
    preset: PresetOption = None,
    growth: GrowthOption = None,
    limits: LimitsOption = LATEST,
    durability: Annotated[
        str | None,
        typer.Option(
            "--durability",
            metavar="|".join(DURABILITIES),
            help="With power, the image is flushed to its device before it takes its place. "
            f"[default: {DURABILITIES[0]}]",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the image if there is one already.")
    ] = False,
) -> None:
    """Make an image of stable memory that holds a database, for run --image and canisters."""
    settings = resolve_settings(preset=preset, layout=layout, growth=growth)
    chosen = chosen_limits(limits)
    check_durability(durability)
    with (
        LoadProgress(database.name) as progress,
        open_source(database, on_tick=progress.on_tick) as source,
        new_image(image, force=force) as partial,
        _saying_why(image, partial),
    ):
        status = _make(
            partial,
            source,
            settings,
            limits=chosen,
            durability=durability or "process",
            progress=progress,
        )
    if durability == "power":
        flush_folder(Path(os.path.realpath(image)).parent)
    write(_line(status, image))


def _make(
    partial: Path,
    source: DatabaseSource,
    settings: Settings,
    *,
    limits: Limits | None,
    durability: str,
    progress: LoadProgress,
) -> Status:
    """Fill a new image, and return what a canister finds in it."""
    memory = StableMemory.open(partial, limits=limits, durability=durability)
    try:
        load(
            memory,
            source,
            layout=settings.layout,
            bucket_pages=settings.bucket_pages,
            growth=settings.growth,
            on_bytes=lambda done_bytes: progress.on_bytes(done_bytes, source.size_bytes),
        )
        canister = Canister(
            memory=memory, layout=settings.layout, preset=settings.preset, growth=settings.growth
        )
        status = canister.status()
        assert memory.image_file is not None
        # Where the last message could not be brought from the log into the image, it says so now.
        memory.image_file.check("query")
        canister.close()
    except BaseException:
        # What happened first is what counts.
        with suppress(ImageError):
            memory.close()
        raise
    return status


@contextmanager
def _saying_why(image: Path, partial: Path) -> Iterator[None]:
    """Tell what the system refused from what is wrong about the database or the options."""
    try:
        yield
    except (Trap, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{image} could not be made: {reason}") from error
    except ImageError as error:
        if isinstance(error.__cause__, OSError):
            reason = error.__cause__.strerror
        elif str(partial) in str(error):
            reason = str(error).removeprefix(f"{partial}: ").partition(";")[0]
        else:
            raise
        raise RunError(f"{image} could not be made: {reason}") from error


def _line(status: Status, image: Path) -> str:
    parts = ", ".join(
        f"{part.name} {size(part.size_bytes)}" for part in status.growth.parts if part.size_bytes
    )
    return (
        f"database {size(status.database_size_bytes)}, stable memory "
        f"{size(status.stable_size_bytes)} in {clean(str(image))}: {parts}\n"
    )
