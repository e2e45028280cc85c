"""The rows of sqlite_schema that name trees, read from the leaves of its own tree.

SQLite itself would have to parse all of a schema anew whenever a table comes, and refuses schemas
that the owners of SQLite pages can do with: an unknown module, a name that is no text. Only the
first four columns are looked at::

    record   header bytes H, varint | serial types, a varint each | values
    columns  type, name, tbl_name, rootpage, sql

Names are kept with every byte: what is no text in the database's encoding is escaped as
``surrogateescape`` does it, so that different names stay different.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from sqlstable.errors import ImageError
from sqlstable.sqlite.btree import next_overflow, payloads_of, varint_at
from sqlstable.sqlite.header import Header

_COLUMNS: Final = 4
_INTEGER_BYTES: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
"""Bytes of an integer, by serial type."""
_FIRST_BLOB: Final = 12
"""Serial types from here on are blobs (even) and texts (odd)."""
_ENCODINGS: Final = {2: "utf-16-le", 3: "utf-16-be"}


class SchemaRow(NamedTuple):
    """One table or index that has a tree."""

    name: str
    table: str
    kind: str
    root: int


SchemaLeaf = dict[bytes, SchemaRow | None]
"""The rows of one leaf by what is kept of them there, and where they go on; None for those without
a root."""


def schema_rows(
    content: bytes,
    *,
    number: int,
    header: Header,
    read: Callable[[int], bytes],
    known: SchemaLeaf | None = None,
) -> SchemaLeaf:
    """Return the rows of one leaf of the schema's tree.

    Args:
        content: The whole SQLite page.
        number: Its number.
        header: Of the database.
        read: Returns the content of another SQLite page, for rows that overflow.
        known: Rows of the same leaf as it was: most are still there.

    Raises:
        ImageError: A row is damaged.
    """
    known, rows = known or {}, SchemaLeaf()
    for payload, size, overflow in payloads_of(content, number=number, usable=header.usable_bytes):
        # Long rows can begin alike, but not go on in the same place.
        key = payload + overflow.to_bytes(4, "big") if overflow else payload
        if key in rows:
            raise ImageError("the schema has the same row twice")
        if key in known and not overflow:
            rows[key] = known[key]
        else:
            rows[key] = _row(payload, size, overflow, header, read)
    return rows


def shown_name(name: str) -> str:
    r"""Return a name as it can be shown: bytes that are no text become ``\xe9``.

    Examples:
        >>> shown_name(b"caf\xe9".decode("utf-8", "surrogateescape"))
        'caf\\xe9'
    """
    if name.isprintable():
        return name
    return "".join(map(_shown_character, name))


def _shown_character(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if 0xD800 <= code <= 0xDFFF else character


def _row(
    payload: bytes, size: int, overflow: int, header: Header, read: Callable[[int], bytes]
) -> SchemaRow | None:
    payload = _lengthened(payload, 9, size, overflow, header, read)
    values_at, at = varint_at(payload, 0)
    payload = _lengthened(payload, values_at, size, overflow, header, read)
    types: list[int] = []
    while len(types) < _COLUMNS and at < values_at:
        serial_type, at = varint_at(payload, at)
        types.append(serial_type)
    if len(types) < _COLUMNS:
        raise ImageError("a row of the schema has too few columns")
    sizes = [_value_bytes(serial_type) for serial_type in types]
    payload = _lengthened(payload, values_at + sum(sizes), size, overflow, header, read)
    values, at = [], values_at
    for value_bytes in sizes:
        values.append(payload[at : at + value_bytes])
        at += value_bytes
    root = _integer(types[3], values[3])
    if root <= 0:
        return None
    kind, name, table = (_text(value, header) for value in values[:3])
    return SchemaRow(name, table, kind, root)


def _lengthened(
    payload: bytes,
    wanted: int,
    size: int,
    overflow: int,
    header: Header,
    read: Callable[[int], bytes],
) -> bytes:
    """Return at least so many bytes of a payload, or all, and follow its overflow for them."""
    wanted = min(wanted, size)
    if len(payload) >= wanted:
        return payload
    # From the start, because a circle would otherwise not be noticed.
    pieces, have = [payload], len(payload)
    while overflow and have < wanted:
        content = read(overflow)
        overflow = next_overflow(content)
        pieces.append(content[4 : header.usable_bytes])
        have += len(pieces[-1])
    if have < wanted:
        raise ImageError("a row of the schema ends too early")
    return b"".join(pieces)


def _value_bytes(serial_type: int) -> int:
    if serial_type >= _FIRST_BLOB:
        return (serial_type - _FIRST_BLOB) // 2
    return 8 if serial_type == 7 else _INTEGER_BYTES.get(serial_type, 0)


def _integer(serial_type: int, value: bytes) -> int:
    """Return the number, or 0 where it is none."""
    if serial_type in _INTEGER_BYTES:
        return int.from_bytes(value, "big", signed=True)
    return 1 if serial_type == 9 else 0


def _text(value: bytes, header: Header) -> str:
    encoding = _ENCODINGS.get(header.text_encoding)
    if encoding is None:
        return value.decode("utf-8", "surrogateescape")
    return value.decode(encoding, "replace" if len(value) % 2 else "surrogatepass")
