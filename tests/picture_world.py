"""A page that holds the pictures of a trace and nothing else, for tests of them."""

import base64
import gzip
import hashlib
import json
from importlib.resources import files

import numpy as np
from jinja2 import Environment

from sqlstable.report.html.pictures.payload import payload
from sqlstable.report.html.pictures.pictures_of import pictures_of
from sqlstable.report.html.pictures.scripts import page_script, style

GROUND = """body { background: light-dark(#fff, #161a21); color: light-dark(#1d2330, #e6e9ef); }"""

FRAME = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Pictures</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;
script-src {script_hash}; style-src {style_hash}">
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<style>{style}</style></head><body><main><h1>Pictures</h1>{figures}</main>
<script type="application/octet-stream" id="pictures-data">{data}</script>
<script>{script}</script></body></html>"""


def picture_page(trace):
    pictures = pictures_of(trace)
    folder = files("sqlstable.report.html.pictures")
    source = (folder / "figure.html.j2").read_text(encoding="utf-8")
    figure = Environment(autoescape=True).from_string(source).module.figure
    return FRAME.format(
        style=style() + GROUND,
        figures="\n".join(figure(picture) for picture in pictures),
        data=payload(pictures),
        script=page_script(),
        script_hash=hash_of(page_script()),
        style_hash=hash_of(style() + GROUND),
    )


def hash_of(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


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
