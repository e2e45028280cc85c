"""Where the pictures of a report go: one file, or a folder with all of them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

from sqlstable.cli.failures import UsageError, note
from sqlstable.cli.places import OutputKind, check_output, new_output
from sqlstable.report.numbers import counted
from sqlstable.report.picture_names import PictureChoice, PictureEnding, PictureName, drawing_room

if TYPE_CHECKING:
    from sqlstable.trace.format.reader import Trace

ALL: Final = "all"
ALL_ENDING: Final[PictureEnding] = ".svg"
"""Of the files in a folder of all pictures: what scales, and opens in any browser."""

_KINDS: Final[dict[PictureEnding, OutputKind]] = {
    ".png": OutputKind("picture", b"\x89PNG", mark=b"sqlstable"),
    ".svg": OutputKind("picture", b"<?xml", mark=b"sqlstable"),
    ".pdf": OutputKind("picture", b"%PDF", mark=b"sqlstable"),
}


def check_pictures(picture: PictureChoice | None, output: Path | None, *, force: bool) -> None:
    """Refuse places where pictures cannot go, before anything is read.

    Raises:
        UsageError: A place is taken, cannot be used, or ends with something else.
        SettingsError: The library that draws is missing.
    """
    if picture is None or output is None:
        if picture is not None:
            raise UsageError(f"--picture {picture} needs a place: --output {_example(picture)}")
        if output is not None:
            raise UsageError("--output is where a picture goes; add --picture NAME")
        return
    if picture == ALL:
        _check_folder(output)
    for _, path, ending in _places(picture, output):
        if path.parent.is_dir() or picture != ALL:
            check_output(path, _KINDS[ending], force=force)
    drawing_room()


def _check_folder(folder: Path) -> None:
    if os.path.lexists(folder) and not folder.is_dir():
        raise UsageError(f"{folder} is a file; --picture all needs the name of a folder")
    if not folder.absolute().parent.is_dir():
        raise UsageError(f"the folder of {folder} is not there; make it first")


def write_pictures(trace: "Trace", picture: PictureChoice, output: Path, *, force: bool) -> None:
    """Draw one picture, or all, into files, and say where they are."""
    from sqlstable.cli.progress import work_shown

    drawing = drawing_room()
    figures = drawing.Figures(trace)
    places = list(_places(picture, output))
    if picture == ALL:
        output.mkdir(exist_ok=True)
    for name, path, ending in places:
        shown = work_shown(f"drawing {name}")
        with shown, new_output(path, _KINDS[ending], force=force) as partial:
            drawing.save_picture(figures, name, partial, ending)
    what = counted(len(places), "picture") if picture == ALL else f"the picture {picture}"
    note(f"{what} in {output}")


def _places(
    picture: PictureChoice, output: Path
) -> Iterator[tuple[PictureName, Path, PictureEnding]]:
    if picture == ALL:
        for name in get_args(PictureName):
            yield name, output / f"{name}{ALL_ENDING}", ALL_ENDING
        return
    if output.is_dir():
        raise UsageError(
            f"{output} is a folder; name a file in it, as {output / _example(picture)}"
        )
    for ending in _KINDS:
        if output.suffix.lower() == ending:
            yield picture, output, ending
            return
    endings = ", ".join(_KINDS)
    raise UsageError(f"{os.fspath(output)} must end with one of {endings}, which says its format")


def _example(picture: PictureChoice) -> str:
    return "FOLDER" if picture == ALL else f"{picture}{ALL_ENDING}"
