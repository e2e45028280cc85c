"""``sqlstable schema deprecate``, ``restore``, ``remove`` and ``rollback``: one step by hand."""

from typing import Annotated

import typer

from sqlstable.cli.image_canister import ImageArgument, opened_image
from sqlstable.cli.options import LayoutOption
from sqlstable.cli.output import write
from sqlstable.report.text import clean

TableArgument = Annotated[str, typer.Argument(metavar="TABLE", help="Its name.")]


def deprecate_table(
    *, image: ImageArgument, table: TableArgument, layout: LayoutOption = None
) -> None:
    """Refuse writes to a table of an image from now on; it can be read."""
    with opened_image(image, layout=layout) as canister:
        canister.deprecate_table(table)
    _tell(image, table, "is deprecated: it is read, and writes are refused")


def restore_table(
    *, image: ImageArgument, table: TableArgument, layout: LayoutOption = None
) -> None:
    """Let a deprecated or unused table of an image be live again, with all its rows."""
    with opened_image(image, layout=layout) as canister:
        canister.restore_table(table)
    _tell(image, table, "is live again")


def remove_table(
    *, image: ImageArgument, table: TableArgument, layout: LayoutOption = None
) -> None:
    """Drop an unused table of an image, with its rows; nothing else drops one."""
    with opened_image(image, layout=layout) as canister:
        canister.remove_table(table)
    _tell(image, table, "is removed")


def roll_back(
    *,
    image: ImageArgument,
    without_removed: Annotated[
        bool,
        typer.Option(
            "--without-removed",
            help="Go back though a table was removed since, which stays gone with its rows.",
        ),
    ] = False,
    layout: LayoutOption = None,
) -> None:
    """Take back the last migration of an image, by the way back that its ledger keeps."""
    with opened_image(image, layout=layout) as canister:
        last = canister.schema_status().ledger.applied
        reply = canister.rollback_schema(without_removed=without_removed)
    write(f"{clean(str(image))}: migration {clean(last[-1].title)} is taken back\n")
    for it in reply.notes:
        write(f"  {clean(it)}\n")


def _tell(image: object, table: str, words: str) -> None:
    write(f"{clean(str(image))}: table {clean(table)} {words}\n")
