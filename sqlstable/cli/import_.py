"""``sqlstable import``: make an image of stable memory that holds a database."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from sqlstable.analysis.growth import Growth
from sqlstable.canister.areas import list_areas
from sqlstable.cli.failures import RunError, note
from sqlstable.cli.on_connect import load_setups
from sqlstable.cli.options import (
    LATEST,
    GrowthOption,
    IntegrityCheckOption,
    LayoutOption,
    LimitsOption,
    OnConnectOption,
    PresetOption,
    check_durability,
    chosen_limits,
)
from sqlstable.cli.output import write
from sqlstable.cli.places import new_image
from sqlstable.cli.progress import LoadProgress
from sqlstable.database.foreign import SourceOptions, open_source
from sqlstable.database.settings import imported_page_size, resolve_settings
from sqlstable.database.transfer import make_image
from sqlstable.database.vfs import StableVFS
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.memory.image.durability import DURABILITIES
from sqlstable.memory.image.osfile import flush_folder
from sqlstable.memory.stable import StableMemory
from sqlstable.report.numbers import size
from sqlstable.report.text import clean


def import_database(  # noqa: PLR0913  each is an option
    *,
    database: Annotated[
        Path, typer.Argument(metavar="APP.db", help="A SQLite database; it is only read.")
    ],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The image file to make.")],
    layout: LayoutOption = None,
    preset: PresetOption = None,
    page_size: Annotated[
        int | None,
        typer.Option(
            "--page-size",
            metavar="BYTES",
            help="Of a SQLite page, 512 to 65536, in the image. [default: as in the database]",
        ),
    ] = None,
    growth: GrowthOption = None,
    limits: LimitsOption = LATEST,
    on_connect: OnConnectOption = None,
    integrity_check: IntegrityCheckOption = False,
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
    settings = resolve_settings(preset=preset, layout=layout, growth=growth, page_size=page_size)
    chosen = chosen_limits(limits)
    check_durability(durability)
    setups = load_setups(on_connect)
    with LoadProgress(database.name) as progress, new_image(image, force=force) as partial:
        options = SourceOptions(
            setups=setups,
            is_thorough=integrity_check,
            page_size=imported_page_size(settings, page_size),
            scratch=partial.parent,
            on_tick=progress.on_tick,
        )
        with open_source(database, options) as source, _saying_why(image):
            make_image(
                partial,
                source,
                layout=settings.layout,
                bucket_pages=settings.bucket_pages,
                growth=settings.growth,
                limits=chosen,
                is_flushed=durability == "power",
                on_bytes=lambda done_bytes: progress.on_bytes(done_bytes, source.size_bytes),
            )
        text = _line(partial, settings.layout, image)
    if durability == "power":
        flush_folder(Path(os.path.realpath(image)).parent)
    write(text)
    for text in source.notes:
        note(text)


@contextmanager
def _saying_why(image: Path) -> Iterator[None]:
    """Tell what the system refused from what is wrong about the database or the options."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{image} could not be made: {error.strerror}") from error


def _line(made: Path, layout: str, image: Path) -> str:
    """Say what is in the image that has just been made."""
    with StableMemory.open(made, limits=None, is_read_only=True) as memory:
        vfs = StableVFS(memory, layout=layout)
        stable_bytes = memory.wasm_pages * WASM_PAGE_BYTES
        growth = Growth(0, stable_bytes, list_areas(vfs, 0))
        database_bytes = vfs.store.size_bytes
        vfs.unregister()
    parts = ", ".join(
        f"{part.name} {size(part.size_bytes)}" for part in growth.parts if part.size_bytes
    )
    return (
        f"database {size(database_bytes)}, stable memory {size(stable_bytes)} in "
        f"{clean(str(image))}: {parts}\n"
    )
