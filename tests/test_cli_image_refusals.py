"""What the commands refuse about images and databases, each with its reason."""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest

from sqlstable.cli import running as run_command
from tests.cli_images import (  # noqa: F401  fixtures
    bad_folder_fixture,
    cents,
    image_fixture,
    write_protected,
)
from tests.test_cli import (
    ENVIRONMENT,
    assert_refused,
    call,
    contents,
    folder,  # noqa: F401  a fixture
)

# What opens an image refuses these, whether it writes or reads.
BAD_IMAGES = {
    "sub": "sub is a folder",
    "pipe": "pipe is a pipe",
    "app.db": "app.db is a SQLite database, no image; sqlstable import app.db IMAGE makes one",
    "cut.stable": "cut.stable is 130972 bytes long, 65436 more than 1 Wasm page of",
    "short.stable": "short.stable: ",
    "random.stable": "random.stable: ",
    "header.stable": "header.stable: ",
    "foreign.stable": "foreign.stable-log is the log of another image, or of another state",
    "newer.stable": "newer.stable-log has format version 3, and only 2 is known",
    "nolog.stable": "nolog.stable-log is not a log of sqlstable",
}

BAD_RUNS = {
    **{("--image", name): reason for name, reason in BAD_IMAGES.items()},
    ("--image", "missing/a.stable"): "missing/a.stable cannot be opened",
    ("--image", "x" * 300): "File name too long",
    ("--image", "dangling/a.stable"): "dangling/a.stable cannot be opened",
    ("--image", "app.raw"): "app.raw: ",
    ("--image", "ledger.stable", "--layout", "raw"): "the image has layout managed, not raw",
    ("--image", "ledger.stable", "--database", "app.db"): (
        "ledger.stable has a database of 8192 bytes already; leave --database out"
    ),
    ("--image", "ledger.stable", "--database", "app.db", "--journal-mode", "wal"): "wal",
    ("--image", "new.stable", "--database", "cut.db"): "cut.db is truncated",
    ("--image", "new.stable", "--layout", "raw", "--journal-mode", "persist"): "journal_mode",
    ("--image", "new.stable", "--limits", "2020-01-01"): "the earliest date is 2021-05-10",
    ("--image", "new.stable", "--durability", "sometimes"): "durability is 'sometimes'",
    ("--image", "new.stable", "--growth", "fast"): "growth is 'fast'",
    ("--durability", "power"): "--durability concerns an image file",
}

BAD_EXTRACTS = {
    **{(name, "out.db"): reason for name, reason in BAD_IMAGES.items()},
    ("missing.stable", "out.db"): "there is no image file missing.stable",
    ("dangling", "out.db"): "there is no image file dangling",
    ("empty.stable", "out.db"): "empty.stable holds no database where the main one lies",
    ("zeros.stable", "out.db"): "zeros.stable holds no database where the main one lies",
    ("ledger.stable", "app.db"): "app.db exists already; choose another file, or add --force",
    ("ledger.stable", "sub"): "sub is a folder",
    ("ledger.stable", "sub", "--force"): "sub is a folder",
    ("ledger.stable", "pipe", "--force"): "pipe is a pipe",
    ("ledger.stable", "dangling", "--force"): "dangling is a link to a file that is not there",
    ("ledger.stable", "text.txt", "--force"): "text.txt exists and is not a SQLite database",
    ("ledger.stable", "ledger.stable", "--force"): "ledger.stable is the image itself",
    ("app.raw", "app.raw", "--force"): "app.raw is the image itself",
    ("ledger.stable", "late.db", "--force"): "late.db-wal lies there",
    ("ledger.stable", "early.db"): "early.db-journal lies there",
    ("ledger.stable", "missing/out.db"): "the folder of missing/out.db is not there",
    ("ledger.stable", "y" * 300): "cannot be made: File name too long",
    ("ledger.stable", "out.db", "--layout", "raw"): "the image has layout managed, not raw",
    ("app.raw", "out.db", "--layout", "managed"): "app.raw: ",
    ("ledger.stable", "out.db", "--layout", "paper"): "layout is 'paper'",
    ("ledger.stable", "out.db", "--name", "other.db"): "holds no database named other.db",
    ("ledger.stable",): "Missing argument",
}

BAD_IMPORTS = {
    ("missing.db", "new.stable"): "missing.db is not a file",
    ("sub", "new.stable"): "sub is not a file",
    ("pipe", "new.stable"): "pipe is not a file",
    ("shop.sql", "new.stable"): "shop.sql is not a SQLite database",
    ("random.db", "new.stable"): "random.db is not a SQLite database",
    ("cut.db", "new.stable"): "cut.db is truncated",
    ("garbled.db", "new.stable"): "garbled.db",
    ("ledger.stable", "new.stable"): "ledger.stable is an image of stable memory",
    ("app.db", "ledger.stable"): "ledger.stable exists already; choose another file, or add",
    ("app.db", "app.db"): "app.db exists already",
    ("app.db", "sub", "--force"): "sub is a folder",
    ("app.db", "pipe", "--force"): "pipe is a pipe",
    ("app.db", "dangling", "--force"): "dangling is a link to a file that is not there",
    ("app.db", "text.txt", "--force"): "text.txt exists and is not an image",
    ("app.db", "random.stable", "--force"): "random.stable exists and is not an image",
    ("app.db", "late.db", "--force"): "late.db is a SQLite database, no image",
    ("app.db", "app.db", "--force"): "app.db is a SQLite database, no image",
    ("app.db", "cut.stable", "--force"): "cut.stable is 130972 bytes long",
    ("app.db", "foreign.stable", "--force"): "foreign.stable-log is the log of another image",
    ("app.db", "newer.stable", "--force"): "newer.stable-log has format version 3",
    (
        "app.db",
        "orphan.stable",
    ): "there is no image orphan.stable, but its log orphan.stable-log is there",
    ("app.db", "orphan.stable", "--force"): "there is no image orphan.stable, but its log",
    ("app.db", "missing/new.stable"): "the folder of missing/new.stable is not there",
    ("app.db", "z" * 300): "cannot be made: File name too long",
    ("app.db", "new.stable", "--layout", "stacked"): "layout is 'stacked'",
    ("app.db", "new.stable", "--preset", "mysql"): "no preset is named 'mysql'",
    ("app.db", "new.stable", "--growth", "fast"): "growth is 'fast'",
    ("app.db", "new.stable", "--durability", "sometimes"): "durability is 'sometimes'",
    ("app.db", "new.stable", "--limits", "2020-01-01"): "the earliest date is 2021-05-10",
    ("app.db", "new.stable", "--page-size", "500"): "page_size is 500",
    ("app.db",): "Missing argument",
}


def assert_line(result, folder, before, reason):  # noqa: F811
    """Assert a refusal of one clear line, after which every file is as it was."""
    if "Usage:" not in result.stderr:
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1, result.stderr
        assert ".partial" not in result.stderr
    assert_refused(result, folder, before, reason)


@pytest.mark.parametrize(("options", "reason"), BAD_RUNS.items(), ids=str)
def test_a_bad_image_is_refused_and_nothing_changes(bad_folder, options, reason):
    before = contents(bad_folder)
    assert_line(call("run", "shop.sql", *options), bad_folder, before, reason)


@pytest.mark.parametrize(("arguments", "reason"), BAD_EXTRACTS.items(), ids=str)
def test_a_bad_extraction_is_refused_and_nothing_changes(bad_folder, arguments, reason):
    before = contents(bad_folder)
    assert_line(call("extract", *arguments), bad_folder, before, reason)


@pytest.mark.parametrize(("arguments", "reason"), BAD_IMPORTS.items(), ids=str)
def test_a_bad_import_is_refused_and_nothing_changes(bad_folder, arguments, reason):
    before = contents(bad_folder)
    assert_line(call("import", *arguments), bad_folder, before, reason)


def test_a_database_too_large_for_one_message_is_shown_the_way(bad_folder, monkeypatch):
    shutil.copyfile("app.db", "large.db")
    # The header says where the database ends, and so much is loaded.
    os.truncate("large.db", 3 * 2**30)
    monkeypatch.setattr(run_command, "_IMPORTED_BYTES_MAX", 4096)
    result = call("run", "shop.sql", "--database", "large.db")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "sqlstable import large.db IMAGE, and run on that with --image" in result.stderr
    assert call("import", "large.db", "large.stable").exit_code == 0


@contextmanager
def opened_elsewhere(image):
    """Let another process have an image open; yields its process id."""
    program = (
        "import sys, sqlstable\n"
        "with sqlstable.Canister(sys.argv[1]):\n"
        "    print('open', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, image],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout.readline() == b"open\n"
        yield process.pid
        process.stdin.close()


@pytest.mark.slow
def test_an_image_that_is_open_elsewhere_is_left_alone(bad_folder):
    with opened_elsewhere("ledger.stable") as process_id:
        before = contents(bad_folder)
        for arguments in (
            ("run", "shop.sql", "--image", "ledger.stable"),
            ("extract", "ledger.stable", "out.db"),
            ("import", "app.db", "ledger.stable", "--force"),
        ):
            reason = f"ledger.stable is open in process {process_id}; close it there first"
            assert_line(call(*arguments), bad_folder, before, reason)
    assert cents("ledger.stable") == [100, 200]


def test_a_write_protected_image_is_not_replaced(bad_folder, monkeypatch):
    write_protected(monkeypatch, "ledger.stable")
    before = contents(bad_folder)
    result = call("import", "app.db", "ledger.stable", "--force")
    assert_line(result, bad_folder, before, "ledger.stable is write-protected")
    result = call("run", "shop.sql", "--image", "ledger.stable", "--database", "app.db")
    assert_line(result, bad_folder, before, "ledger.stable is read-only, so no database")


def test_a_database_that_stable_memory_cannot_hold_is_refused(bad_folder, monkeypatch):
    before = contents(bad_folder)
    monkeypatch.setattr("sqlstable.layout.placement.ManagedPlacement.grow_to", lambda *_: False)
    for arguments in (("new.stable",), ("ledger.stable", "--force")):
        result = call("import", "app.db", *arguments)
        assert_line(result, bad_folder, before, "more than stable memory can hold")
