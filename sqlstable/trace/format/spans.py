"""How the accesses of a message followed each other, and in which phases: a few bytes.

A statement's accesses, and those of each outside entry, are blocks of their own. A span takes the
next so many of one of them, and says in which phase they happened; the spans of a message in order
give its accesses in order.

Layout, in the terms of `sqlstable.trace.format.columns`, packed as a segment of
`sqlstable.trace.blocks` is::

    spans          span count v | body bytes v | packed bytes v | packed body
    body           entry | phase | access count       three columns, one value for each span

``entry`` counts, from 0, what has accesses in the message: its statements in order, then its
outside entries. ``phase`` is a position in `sqlstable.ic.words.PHASES`, -1 outside of statements.
"""

import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from sqlstable.errors import TraceError
from sqlstable.trace.blocks import pack, unpack
from sqlstable.trace.format.columns import FEW_VALUES, ByteReader, encode_column, encode_few
from sqlstable.trace.model import AccessSpan

SPANS_MAX: Final = 1 << 26
"""A message with more, which would fill a gigabyte, is kept without."""


def encode_spans(spans: Sequence[AccessSpan]) -> bytes:
    """Return the bytes that keep spans.

    Examples:
        >>> encoded = encode_spans([AccessSpan(0, 1, 5), AccessSpan(0, 2, 3)])
        >>> decode_spans(encoded)
        [AccessSpan(entry=0, phase=1, access_count=5), AccessSpan(entry=0, phase=2, access_count=3)]
    """
    return _encode_few(tuple(spans)) if len(spans) < FEW_VALUES else _encode(spans)


# Equal work has equal spans.
@lru_cache(maxsize=4096)
def _encode_few(spans: tuple[AccessSpan, ...]) -> bytes:
    return pack(b"".join(map(encode_few, zip(*spans, strict=True))), len(spans))


def _encode(spans: Sequence[AccessSpan]) -> bytes:
    columns = np.array(spans, dtype=np.int64).T
    return pack(b"".join(map(encode_column, np.ascontiguousarray(columns))), len(spans))


def decode_spans(encoded: bytes) -> list[AccessSpan]:
    """Return the spans of a message.

    Raises:
        TraceError: The bytes are damaged.
    """
    try:
        count, body = unpack(ByteReader(memoryview(encoded)), SPANS_MAX, 3 * 8 * SPANS_MAX)
        columns = [body.few(count) for _ in AccessSpan._fields]
    except (ValueError, IndexError, zlib.error) as error:
        raise TraceError(f"the order of accesses is damaged: {error}") from error
    if not body.at_end() or min(columns[0]) < 0 or min(columns[2]) < 1:
        raise TraceError("the order of accesses is damaged: it has spans that no message has")
    return [*map(AccessSpan._make, zip(*columns, strict=True))]
