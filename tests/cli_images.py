"""An image with two accounts for the tests of commands, and what it holds."""

import os
import shutil
from pathlib import Path

import pytest

from sqlstable import Canister
from tests.images import unsealed
from tests.test_cli import (
    call,
    folder,  # noqa: F401  a fixture
    make_database,
)

LEDGER = """\
CREATE TABLE account (id INTEGER PRIMARY KEY, cents INTEGER);
INSERT INTO account (cents) VALUES (100), (200);
"""
TRANSFER = """\
BEGIN;
UPDATE account SET cents = cents - 7 WHERE id = 2;
UPDATE account SET cents = cents + 7 WHERE id = 1;
COMMIT;
"""
ASK = "SELECT cents FROM account ORDER BY id;\n"


@pytest.fixture(name="image")
def image_fixture(folder):  # noqa: F811
    """The name of an image that holds a ledger, in small buckets."""
    with Canister("ledger.stable", bucket_pages=1) as canister:
        for sql in LEDGER.splitlines():
            canister.update(sql)
    return "ledger.stable"


def cents(image):
    """Return what is in the accounts of an image."""
    with Canister(image) as canister:
        return [row[0] for row in canister.query(ASK).rows]


def cut_off(image):
    """Leave an image as kill -9 does that comes between a message's log and its image."""
    with Canister(image) as canister:
        before = Path(image).read_bytes()
        canister.update("UPDATE account SET cents = cents + 1000 WHERE id = 1")
        log = Path(f"{image}-log").read_bytes()
    Path(image).write_bytes(before)
    Path(f"{image}-log").write_bytes(unsealed(log))


def write_protected(monkeypatch, *names):
    """Let files be as if write-protected, which chmod cannot do for root."""
    really_open = os.open

    def open_(path, flags, *rest, **options):
        if Path(path).name in names and flags & (os.O_RDWR | os.O_WRONLY):
            raise PermissionError(13, "Permission denied", str(path))
        return really_open(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", open_)


@pytest.fixture(name="bad_folder")
def bad_folder_fixture(image, folder):  # noqa: F811
    """A folder full of files that are not what they are taken for."""
    make_database("app.db")
    make_database("late.db")
    assert call("import", "app.db", "app.raw", "--layout", "raw").exit_code == 0
    whole = Path(image).read_bytes()
    shutil.copyfile(image, "pending.stable")
    cut_off("pending.stable")
    log = Path("pending.stable-log").read_bytes()
    files = {
        "cut.stable": whole[:-100],
        "short.stable": whole[:65_536],
        "random.stable": bytes(range(255, -1, -1)) * 256,
        "zeros.stable": bytes(65_536),
        "empty.stable": b"",
        "header.stable": whole[:4] + b"\xff\xff" + whole[6:],
        "foreign.stable": whole[:65_536] + bytes(65_536),
        "foreign.stable-log": log,
        "newer.stable": whole,
        "newer.stable-log": log[:8] + (3).to_bytes(4, "little") + log[12:],
        "nolog.stable": whole,
        "nolog.stable-log": b"my own log\n" * 500,
        "orphan.stable-log": log,
        "late.db-wal": b"a log that waits",
        "early.db-journal": b"a journal that waits",
        "random.db": bytes(range(256)) * 20,
        "cut.db": Path("app.db").read_bytes()[:5000],
        "garbled.db": Path("app.db").read_bytes()[:4096] + b"\xff" * 4096,
        "text.txt": b"some text\n",
    }
    for name, data in files.items():
        Path(name).write_bytes(data)
    Path("sub").mkdir()
    os.mkfifo("pipe")
    Path("dangling").symlink_to("nowhere")
    return folder
