"""What the script of a page makes of the pictures that it holds, for tests of them."""

import base64
import gzip
import json

import numpy as np


def unpacked(text):
    """Return facts and columns by picture: what the page's script makes of a payload."""
    raw = gzip.decompress(base64.b64decode(text))
    size = int.from_bytes(raw[:4], "little")
    found, start = {}, 4 + size
    for picture in json.loads(raw[4:start]):
        columns = {}
        for it in picture["columns"]:
            stop = start + it["width"] * it["count"]
            planes = np.frombuffer(raw[start:stop], np.uint8).reshape(it["width"], it["count"])
            weights = 256 ** np.arange(it["width"], dtype=np.int64)
            columns[it["name"]] = weights @ planes - it["bias"]
            start = stop
        found[picture["id"]] = (picture["facts"], columns)
    assert start == len(raw)
    return found
