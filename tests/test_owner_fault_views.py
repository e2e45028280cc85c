"""Damage that leaves owners unknown, from the image to every view that shows owners."""

import json
import re
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sqlstable import Canister
from sqlstable.cli import app

ROOT = re.compile(rb"table(one|two)(one|two)(.)CREATE TABLE", re.DOTALL)
FAULT = "two: SQLite page 2 has a second owner"


def call(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.fixture
def damaged(tmp_path):
    """An image in which two tables have one root."""
    path = tmp_path / "damaged.stable"
    with closing(Canister(path)) as canister:
        canister.update("CREATE TABLE one (x)")
        canister.update("CREATE TABLE two (y)")
        canister.update("INSERT INTO one VALUES (1), (2)")
    content = bytearray(path.read_bytes())
    roots = {found[1]: found for found in ROOT.finditer(bytes(content))}
    content[roots[b"two"].start(3)] = roots[b"one"][3][0]
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("engine", ["native", pytest.param("wasm", marks=pytest.mark.slow)])
def test_a_fault_of_the_owners_is_shown_wherever_owners_are(damaged, tmp_path, engine):
    script, trace = tmp_path / "read.sql", tmp_path / "read.trace"
    Path(script).write_text("SELECT * FROM two; SELECT * FROM one;", encoding="utf-8")
    shown = call("run", script, "--image", damaged, "--engine", engine, "--trace", trace)
    views = [call("report", trace, "--by", by) for by in ("statement", "shape", "owner", "message")]
    for text in (shown, *views):
        assert FAULT in " ".join(text.split())
    for text in (shown, *views[:3]):
        assert "(unknown)" in text
        assert not re.search("(one|two) +█", text)
    [fault] = json.loads(call("report", trace, "--format", "json"))["owner_faults"]
    assert fault == {"since_message": 0, "text": FAULT}
