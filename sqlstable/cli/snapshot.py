"""``sqlstable snapshot``: take snapshots of an image, and load, download and upload them."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from sqlstable.cli.failures import UsageError
from sqlstable.cli.output import screen, write
from sqlstable.cli.places import check_regular, note_recovery
from sqlstable.database.settings import DEFAULTS
from sqlstable.report.numbers import counted, size
from sqlstable.report.text import clean

if TYPE_CHECKING:
    from sqlstable.canister.snapshots import Snapshot, Snapshots

Format = Literal["table", "json"]

ImageArgument = Annotated[
    Path,
    typer.Argument(
        metavar="IMAGE", help="An image file; its snapshots lie in IMAGE.snapshots beside it."
    ),
]
IdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="The snapshot: its number, or its whole identifier.")
]
ReplaceOption = Annotated[
    str | None,
    typer.Option("--replace", metavar="ID", help="A snapshot that goes once the new one is there."),
]
NowOption = Annotated[
    str | None,
    typer.Option(
        "--now",
        metavar="DATETIME",
        help=f"The time that the snapshot says, UTC. [default: {DEFAULTS.now}]",
    ),
]
FormatOption = Annotated[
    Format, typer.Option("--format", help="What to write: table (text) or json.")
]

_FORMAT: Final = "sqlstable snapshots"
_FORMAT_VERSION: Final = 1


def take(
    *,
    image: ImageArgument,
    replace: ReplaceOption = None,
    now: NowOption = None,
    output_format: FormatOption = "table",
) -> None:
    """Take a snapshot of an image: a copy of what has changed since the last.

    An image holds stable memory, and so does its snapshot: it has neither module nor heap.
    """
    moment = DEFAULTS.now if now is None else now
    _check_moment(moment)
    _check(image, wanted_id=replace, is_one_more=True)
    with _snapshots(image) as snapshots:
        taken = snapshots.take(replace_id=replace, now=moment)
    copied = counted(taken.os_pages_copied, "OS page")
    text = f"taken of {clean(str(image))}: {_described(taken)}; {copied} copied"
    _tell(taken, output_format, text)


def list_all(*, image: ImageArgument, output_format: FormatOption = "table") -> None:
    """List the snapshots of an image, with what they cost."""
    with _snapshots(image, is_read_only=True) as snapshots:
        listed = snapshots.listed()
        taken_bytes = snapshots.shelf.size_on_disk()
    if output_format == "json":
        write(_as_json(listed))
        return
    if not listed:
        write(f"{clean(str(image))} has no snapshots; sqlstable snapshot take makes one\n")
        return
    write(_as_table(listed, taken_bytes, screen().width))


def load(
    *,
    image: ImageArgument,
    snapshot: IdArgument,
    stable_only: Annotated[
        bool,
        typer.Option(
            "--stable-only", help="Leave out a module and its heap, which an image does not keep."
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Load it though its layout is another one.")
    ] = False,
) -> None:
    """Put a snapshot in the place of what an image holds now.

    It is one message: if it fails, the image is as it was. What the image held is lost, unless a
    snapshot has it.
    """
    # Whoever has lost the image, and has its snapshots, gets it back.
    is_lost = not image.exists() and image.with_name(f"{image.name}.snapshots").is_dir()
    _check(image, wanted_id=snapshot, is_created=is_lost)
    with ExitStack() as undo:
        if is_lost:
            undo.callback(image.unlink, missing_ok=True)
        _load(image, snapshot, stable_only=stable_only, force=force, is_created=is_lost)
        undo.pop_all()


def _load(image: Path, snapshot: str, *, stable_only: bool, force: bool, is_created: bool) -> None:
    from sqlstable.canister.snapshots import load_alone

    with _snapshots(image, is_created=is_created) as snapshots:
        found = snapshots.get(snapshot)
        if found.module_size_bytes and not stable_only:
            raise UsageError(
                f"snapshot {found.number} has a module and its heap, and an image keeps stable "
                "memory only; add --stable-only to load that alone"
            )
        os_pages = load_alone(snapshots, found.id, is_layout_checked=not force)
    changed = counted(os_pages, "OS page")
    write(f"{clean(str(image))} is what snapshot {found.number} holds, {changed} changed\n")


def delete(*, image: ImageArgument, snapshot: IdArgument) -> None:
    """Delete a snapshot of an image."""
    _check(image, wanted_id=snapshot)
    with _snapshots(image) as snapshots:
        found = snapshots.get(snapshot)
        snapshots.delete(found.id)
        left = len(snapshots.listed())
    write(f"snapshot {found.number} of {clean(str(image))} deleted; {left} left\n")


def download(
    *,
    image: ImageArgument,
    snapshot: IdArgument,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A new folder, or an empty one.")
    ],
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with a download into the folder that was cut off."),
    ] = False,
) -> None:
    """Write a snapshot as the folder that dfx and icp-cli upload."""
    with _snapshots(image, is_read_only=True) as snapshots:
        found = snapshots.get(snapshot)
        snapshots.download(found.id, folder, resume=resume)
    what = f"snapshot {found.number} of {clean(str(image))}"
    write(f"{clean(str(folder))}: {what}, {_described(found)}\n")


def upload(
    *,
    image: ImageArgument,
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="What dfx, icp-cli or download here has written."),
    ],
    replace: ReplaceOption = None,
    output_format: FormatOption = "table",
) -> None:
    """Take in the folder that dfx or icp-cli has downloaded a snapshot to.

    An image that is not there is made, empty. The snapshot is one of the image's then, and changes
    nothing before it is loaded.
    """
    from sqlstable.memory.snapshots.folder import open_folder

    open_folder(folder)
    _check(image, wanted_id=replace, is_one_more=True, is_created=True)
    shelf = image.with_name(f"{image.name}.snapshots")
    with ExitStack() as undo:
        if not image.exists():
            undo.callback(image.unlink, missing_ok=True)
            if not shelf.exists():
                undo.callback(rmtree, shelf, ignore_errors=True)
        with _snapshots(image, is_created=True) as snapshots:
            uploaded = snapshots.upload(folder, replace_id=replace)
        undo.pop_all()
    places = f"of {clean(str(image))} uploaded from {clean(str(folder))}"
    _tell(uploaded, output_format, f"{places}: {_described(uploaded)}")


# -- inside ---------------------------------------------------------------------------------------


def _check_moment(now: str) -> None:
    try:
        moment = datetime.fromisoformat(now)
    except ValueError:
        raise UsageError(f"--now is {now!r}; give a date and time such as {DEFAULTS.now}") from None
    # Kept as nanoseconds since 1970 in 64 bits, which end in 2554; a day less for time zones.
    if not date(1970, 1, 2) <= moment.date() <= date(2554, 7, 20):
        raise UsageError(
            f"--now is {now!r}, and snapshots keep times from 1970-01-02 to 2554-07-20"
        )


def _check(
    image: Path,
    *,
    wanted_id: str | None = None,
    is_one_more: bool = False,
    is_created: bool = False,
) -> None:
    """Refuse what will not be done before the image is opened, which changes its folder."""
    from sqlstable.canister.snapshots import check_beside

    check_regular(image)
    if is_created or image.exists():
        check_beside(image, wanted_id=wanted_id, is_one_more=is_one_more)


@contextmanager
def _snapshots(
    image: Path, *, is_read_only: bool = False, is_created: bool = False
) -> "Iterator[Snapshots]":
    """Open an image, without anything that runs on it."""
    from sqlstable.canister.snapshots import Snapshots
    from sqlstable.memory.stable import StableMemory

    check_regular(image)
    with StableMemory.open(
        image, limits=None, is_read_only=is_read_only, is_created=is_created
    ) as memory:
        note_recovery(memory)
        yield Snapshots(memory)


def _described(found: "Snapshot") -> str:
    parts = [f"stable memory {size(found.stable_size_bytes)}"]
    if found.module_size_bytes:
        parts += [f"heap {size(found.heap_size_bytes)}", f"module {size(found.module_size_bytes)}"]
    return ", ".join(parts)


def _tell(found: "Snapshot", output_format: Format, text: str) -> None:
    write(_as_json((found,)) if output_format == "json" else f"snapshot {found.number} {text}\n")


def _as_json(listed: "tuple[Snapshot, ...]") -> str:
    document = {"format": _FORMAT, "version": _FORMAT_VERSION, "snapshots": [*map(_values, listed)]}
    return json.dumps(document, indent=2) + "\n"


def _values(found: "Snapshot") -> dict[str, Any]:
    values = asdict(found)
    del values["origin"]
    return values | {"taken_at": found.taken_at.isoformat()}


def _as_table(listed: "tuple[Snapshot, ...]", taken_bytes: int | None, width: int) -> str:
    from rich.text import Text

    from sqlstable.report.grid import cell, paragraph
    from sqlstable.report.table import Column, Table, number

    columns: list[Column[Snapshot]] = [
        number("number", lambda it: it.number),
        Column("taken", lambda it, _: cell(f"{it.taken_at:%Y-%m-%d %H:%M}"), rest_min=16),
        number("stable\nmemory", lambda it: size(it.stable_size_bytes)),
        number("heap", lambda it: size(it.heap_size_bytes), drop=3),
        number("OS pages\ncopied", _copied, drop=2),
        number("instructions\nto take or load", lambda it: f"{it.instructions:,}"),
        number("to download\nor upload", lambda it: f"{it.transfer_instructions:,}", drop=1),
    ]
    table = Table.holding(columns, listed, width)
    said = (
        f"{counted(len(listed), 'snapshot')} of at most {_most()}"
        + ("" if taken_bytes is None else f", {size(taken_bytes)} on disk without holes")
        + ". Instructions are those of the Internet Computer, which also charges for storing each "
        "snapshot whole. Times are the canister's, which is pinned: what take --now has said, or "
        f"{DEFAULTS.now}."
    )
    lines = [*table.heading(), *(line for it in listed for line in table.row(it))]
    lines += [*table.left_out(way="--format json"), Text(), *paragraph(said, width)]
    return "".join(f"{line.plain.rstrip()}\n" for line in lines)


def _copied(found: "Snapshot") -> int | str:
    return "uploaded" if found.is_uploaded else found.os_pages_copied


def _most() -> int:
    from sqlstable.ic.snapshot_costs import SNAPSHOTS_MAX

    return SNAPSHOTS_MAX
