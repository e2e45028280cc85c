"""Texts of a workload with what they stand for put in: numbers, principals, files."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sqlstable.errors import ScriptError
from sqlstable.ic.units import MIB

ARGUMENT_BYTES_MAX: Final = 64 * MIB
"""What an argument may have; the Internet Computer takes 2 MiB, and 10 on one subnet."""

_PLACE: Final = re.compile(r"\{(?:(?P<i>i)|(?P<name>[A-Za-z_][\w-]*)\.id|file:(?P<file>[^{}]+))\}")
_MESSAGE: Final = b"DIDL"


def filled(text: str, *, number: int | None, principal: Callable[[str], str], folder: Path) -> str:
    r"""Return a text with its places filled.

    Args:
        text: With ``{i}`` for the number of the repetition, ``{NAME.id}`` for the principal of a
            canister or caller, ``{file:PATH}`` for a blob with what is in a file.
        number: From 0; None where nothing is repeated, and ``{i}`` is no place.
        principal: Returns the principal of a name.
        folder: Where relative files lie.

    Raises:
        ScriptError: A file cannot be read.

    Examples:
        >>> filled('({i}, principal "{app.id}", variant { i })',
        ...        number=7, principal=lambda name: f"id-of-{name}", folder=Path())
        '(7, principal "id-of-app", variant { i })'
    """

    def put(found: re.Match[str]) -> str:
        if found["i"]:
            return found.group() if number is None else str(number)
        if found["name"]:
            return principal(found["name"])
        return blob_text(read_bytes(found["file"], folder))

    return _PLACE.sub(put, text)


def blob_text(data: bytes) -> str:
    r"""Return bytes as Candid writes a blob.

    Examples:
        >>> blob_text(b'a"\\0')
        'blob "a\\22\\5c0"'
    """
    plain = {it: chr(it) for it in range(0x20, 0x7F) if chr(it) not in '"\\'}
    return f'blob "{"".join(plain.get(it) or f"{chr(92)}{it:02x}" for it in data)}"'


def argument_of_file(path: str, folder: Path) -> str | bytes:
    """Return the argument that is in a file: a Candid message, or text.

    Raises:
        ScriptError: It cannot be read, or is neither.
    """
    data = read_bytes(path, folder)
    if data.startswith(_MESSAGE):
        return data
    try:
        return data.decode().strip()
    except UnicodeDecodeError:
        raise ScriptError(
            f"{path} is neither Candid text nor a Candid message, which begins with DIDL; a blob "
            "goes into an argument as {file:PATH}"
        ) from None


def read_bytes(path: str, folder: Path) -> bytes:
    """Return what is in a file.

    Raises:
        ScriptError: It cannot be read, or is too large.
    """
    found = find_file(path, folder)
    try:
        size = found.stat().st_size
        if size > ARGUMENT_BYTES_MAX:
            raise ScriptError(
                f"{path} has {size:,} bytes; an argument has at most {ARGUMENT_BYTES_MAX:,} here"
            )
        return found.read_bytes()
    except FileNotFoundError:
        raise ScriptError(missing_words(path, folder)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ScriptError(f"{path} cannot be read: {reason}") from None


def find_file(path: str, folder: Path) -> Path:
    """Return where a file lies: beside the workload, or where the command runs."""
    beside = folder / path
    return beside if beside.exists() or not Path(path).exists() else Path(path)


def missing_words(path: str, folder: Path) -> str:
    """Say where a file was looked for."""
    places = [it for it in (folder / path, Path(path)) if not Path(path).is_absolute()]
    where = " or ".join(dict.fromkeys(map(str, places))) or path
    return f"there is no file {where}"
