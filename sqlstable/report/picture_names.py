"""The names of still pictures, and what their files end with, for those who only choose one."""

from importlib import import_module
from types import ModuleType
from typing import Literal

from sqlstable.errors import SettingsError

PictureName = Literal[
    "page-map",
    "page-time",
    "reuse",
    "miss-ratio",
    "working-set",
    "regions",
    "growth",
    "hot-set",
]
"""A picture of a trace."""

PictureChoice = Literal[PictureName, "all"]
"""What pictures to draw."""

PictureEnding = Literal[".png", ".svg", ".pdf"]
"""What the name of a picture's file ends with, which says its format."""


def drawing_room() -> ModuleType:
    """Return `sqlstable.report.pictures.drawing`, for which matplotlib has to be there.

    Raises:
        SettingsError: It is not.
    """
    try:
        return import_module("sqlstable.report.pictures.drawing")
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise SettingsError(
            "matplotlib, which draws pictures, is missing; install sqlstable with its extra plot, "
            "as in pip install '.[plot]'"
        ) from error
