"""A canister on an image that is there already, for commands that change what it holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from sqlstable.cli.failures import UsageError
from sqlstable.cli.options import LATEST, chosen_limits
from sqlstable.cli.places import check_regular, note_recovery

if TYPE_CHECKING:
    from sqlstable.canister.canister import Canister
    from sqlstable.ic.words import EngineName

ImageArgument = Annotated[
    Path, typer.Argument(metavar="IMAGE", help="An image file, which is changed in place.")
]


@contextmanager
def opened_image(
    image: Path,
    *,
    engine: "EngineName" = "native",
    build: str | None = None,
    layout: str | None = None,
    limits: str = LATEST,
    is_read_only: bool = False,
) -> "Iterator[Canister]":
    """Yield a canister on an image, in the layout that it has.

    Raises:
        UsageError: It is not there, or is a database and no image.
        ImageError: It is damaged, or open elsewhere.
    """
    from sqlstable.canister.canister import Canister
    from sqlstable.layout.layout import Peek
    from sqlstable.layout.layouts import recognised
    from sqlstable.memory.stable import StableMemory

    check_regular(image)
    if not image.exists():
        raise UsageError(
            f"there is no image {image}; sqlstable import makes one of a database, and echo "
            f"'SELECT 1;' | sqlstable run - --image {quote(str(image))} an empty one"
        )
    if layout is None:
        with StableMemory.open(image, limits=None, is_read_only=True, is_created=False) as memory:
            note_recovery(memory)
            found = recognised(Peek.at(memory))
            layout = None if found is None else found.name
    with Canister(
        image,
        engine=engine,
        build=build,
        layout=layout,
        limits=chosen_limits(limits),
        read_only=is_read_only,
    ) as canister:
        yield canister
