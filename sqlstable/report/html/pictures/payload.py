"""What the scripts of a page draw, as one text: columns of whole numbers, gzipped, in base64.

::

    base64( gzip( header length     4 bytes, little-endian
                  header            JSON, UTF-8: for each picture id, facts, columns
                  planes            for each column its lowest bytes, then the next ones … ) )

Base64 has no character that means anything in HTML, so no name or statement can leave its place.
A column's bytes stand apart by their weight, because the high ones are mostly equal and go away
when they are compressed. The same pictures give the same bytes: gzip's clock is set to 0.
"""

import base64
import gzip
import json
from collections.abc import Iterable
from typing import Final

import numpy as np

from sqlstable.report.html.pictures.picture import Integers, Json, Picture
from sqlstable.report.html.sheet import Sheet

_COMPRESSION: Final = 6
"""A level higher takes three times as long for half a per cent."""


def payload(pictures: Iterable[Picture | Sheet]) -> str:
    """Return the facts and columns of pictures or sheets, packed; ``unpack`` undoes it."""
    header: list[Json] = []
    planes: list[bytes] = []
    for picture in pictures:
        described = [
            _packed(name, column, planes) for name, column in sorted(picture.columns.items())
        ]
        header.append({"id": picture.id, "facts": dict(picture.facts), "columns": described})
    told = json.dumps(header, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()
    raw = b"".join((len(told).to_bytes(4, "little"), told, *planes))
    return base64.b64encode(gzip.compress(raw, _COMPRESSION, mtime=0)).decode("ascii")


def _packed(name: str, column: Integers, planes: list[bytes]) -> Json:
    """Add the planes of a column, and return how to read them."""
    bias = 1 if len(column) and int(column.min()) < 0 else 0
    values = column.astype(np.int64) + bias
    assert not len(values) or int(values.min()) >= 0
    width = 1
    while len(values) and int(values.max()) >= 1 << (8 * width):
        width += 1
    by_weight = values.astype("<i8").view(np.uint8).reshape(-1, 8).T[:width]
    planes.append(np.ascontiguousarray(by_weight).tobytes())
    return {"name": name, "width": width, "count": len(values), "bias": bias}
