"""The files that a ``.did`` file imports, and those that these import."""

from pathlib import Path
from typing import Final

from sqlstable.candid.candid_module import carry_out
from sqlstable.errors import CandidError

IMPORTS_MAX: Final = 1000
"""Files that one interface may import."""


def imported(main: str, folder: Path | None) -> tuple[tuple[str, bool, str], ...]:
    """Return the name of each imported file, whether its service is wanted, and its text.

    They stand in the order in which Candid takes their definitions: what a file imports, then the
    file. Names are those by which each was imported first, from the folder of whoever imports it.

    Args:
        main: The text that imports.
        folder: Where it lies; None where it has no place.

    Raises:
        CandidError: A file is malformed or cannot be read, or there is no folder to read it from.
    """
    wants_service: dict[Path, bool] = {}
    found: list[tuple[str, Path, str]] = []

    def follow(text: str, base: Path | None, source: str) -> None:
        for line in _imports_of(text, source).splitlines():
            kind, _, name = line.partition(" ")
            if base is None:
                raise CandidError(
                    f"the interface imports {name!r}, and there is no folder to read that from; "
                    "give the folder, or one file without imports"
                )
            path = (base / name).absolute()
            is_known = path in wants_service
            wants_service[path] = wants_service.get(path, False) or kind == "service"
            if is_known:
                continue
            if len(wants_service) > IMPORTS_MAX:
                raise CandidError(f"the interface imports more than {IMPORTS_MAX} files")
            part = _read(path, name)
            follow(part, path.parent, name)
            found.append((name, path, part))

    follow(main, folder, "")
    return tuple((name, wants_service[path], text) for name, path, text in found)


def _imports_of(text: str, source: str) -> str:
    try:
        return carry_out("I", text).decode()
    except CandidError as error:
        if not source:
            raise
        raise CandidError(
            f"{source}, {error}", line=error.line, column=error.column, source=source
        ) from None


def _read(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CandidError(
            f"the interface imports {name!r}, which cannot be read: {error}"
        ) from error
