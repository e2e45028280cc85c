"""What is given as an argument: Candid text, JSON, or raw bytes."""

import json
import re
from typing import Any, Final

from sqlstable.errors import CandidError

_MESSAGE: Final = re.compile(r"(?:0x)?((?:4449444c)(?:[0-9a-f]{2})*)", re.IGNORECASE)
"""Hexadecimal digits of a Candid message, which begins with ``DIDL``."""

_HEX: Final = re.compile(r"(?:0x)?((?:[0-9a-f]{2})*)", re.IGNORECASE)


def message_of_hex(text: str) -> bytes | None:
    r"""Return the Candid message that is written in hexadecimal digits, or None if it is none.

    Examples:
        >>> message_of_hex("4449444c0000")
        b'DIDL\x00\x00'
        >>> message_of_hex("(5)") is None
        True
    """
    found = _MESSAGE.fullmatch(text.strip())
    return bytes.fromhex(found[1]) if found else None


def bytes_of_hex(text: str) -> bytes:
    r"""Return any bytes that are written in hexadecimal digits, with ``0x`` before them or not.

    Raises:
        CandidError: Something else is written there.

    Examples:
        >>> bytes_of_hex("0x00ff")
        b'\x00\xff'
    """
    found = _HEX.fullmatch(text.strip())
    if found is None:
        raise CandidError(
            f"{text[:40]!r} is not hexadecimal: two digits for each byte, such as 4449444c0000"
        )
    return bytes.fromhex(found[1])


def json_of(value: Any) -> str | None:  # noqa: ANN401  whatever JSON has
    """Return the JSON of an argument that is not Candid text, or None if it is.

    Args:
        value: JSON as Python has it, with bytes for blobs; or a text, which is JSON if it begins
            like an object or an array: no Candid text does.

    Raises:
        CandidError: JSON has nothing like it.

    Examples:
        >>> json_of({"name": "ana", "key": b"ab"})
        '{"name": "ana", "key": "0x6162"}'
        >>> json_of('("ana")') is None
        True
    """
    if isinstance(value, str):
        return value if value.lstrip()[:1] in ("{", "[") else None
    try:
        return json.dumps(value, default=_of_bytes, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise CandidError(
            f"the argument has no JSON: {error}; give texts, numbers, lists, dicts, bytes, or "
            'None, and "NaN" or "Infinity" as texts'
        ) from error


def _of_bytes(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return "0x" + bytes(value).hex()
    raise TypeError(f"{type(value).__name__} is no JSON")
