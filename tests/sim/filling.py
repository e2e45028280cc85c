"""A canister on a file system that really is full, again and again.

Run by `tests/sim/test_full_disk.py` on a small file system of its own::

    python -m tests.sim.filling FOLDER DURABILITY
"""

import errno
import json
import os
import sys
from collections import Counter
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path

from sqlstable import Canister, ImageError, Trap
from sqlstable.memory.image import durable
from sqlstable.memory.image.durable import CommitPipeline

STEP_BYTES = 4096


class Ballast:
    """A file that takes all space but so many bytes."""

    def __init__(self, folder):
        self.path = folder / "ballast"
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT)

    def leave(self, free_bytes):
        size_bytes = os.fstat(self.descriptor).st_size
        with suppress(OSError):
            while True:
                written = os.pwrite(self.descriptor, b"b" * STEP_BYTES, size_bytes)
                size_bytes += written
        os.ftruncate(self.descriptor, max(size_bytes - free_bytes, 0))


def assert_names_the_reason(refused):
    assert os.strerror(errno.ENOSPC) in str(refused), refused


def digest(path):
    return sha256(path.read_bytes()).hexdigest()


def assert_sound(canister, rows):
    with canister.message("query") as message:
        assert message.execute("SELECT count(*), coalesce(sum(n), 0) FROM t") == [
            (rows, rows * (rows + 1) // 2)
        ]
        assert message.execute("PRAGMA integrity_check") == [("ok",)]


def insert(canister, number, size_bytes):
    canister.update("INSERT INTO t VALUES (?, randomblob(?))", (number, size_bytes))


def fill_up(path, ballast, durability, counts):
    """Send messages of several sizes with less and less space, then with all of it again."""
    rows = 0
    with closing(Canister(path, durability=durability, bucket_pages=1)) as canister:
        assert canister.memory.backing.flat is None, "a file system in memory is not mapped"
        canister.update("CREATE TABLE t (n INTEGER PRIMARY KEY, x BLOB)")
        for free_bytes in range(0, 400_000, STEP_BYTES):
            ballast.leave(free_bytes)
            before = digest(path)
            size_bytes = (100, 20_000, 90_000, 150_000)[free_bytes // STEP_BYTES % 4]
            try:
                insert(canister, rows + 1, size_bytes)
            except Trap as trap:
                assert_names_the_reason(trap)
                assert digest(path) == before
                assert_sound(canister, rows)
                counts["trapped"] += 1
                ballast.leave(700_000)
                insert(canister, rows + 1, size_bytes)
            else:
                counts["had room"] += 1
            rows += 1
            canister.update("DELETE FROM t WHERE n <= ?", (0,))
            if rows % 8 == 0:
                assert_sound(canister, rows)
        ballast.leave(0)
        assert_sound(canister, rows)
    with closing(Canister(path, durability=durability)) as canister:
        assert canister.recovery is None
        assert_sound(canister, rows)
    return rows


def die_before_applying(path, durability, rows):
    """Leave a message in the log that is not in the image at all."""
    child = os.fork()
    if child == 0:
        CommitPipeline._apply = lambda *_: os._exit(7)
        insert(Canister(path, durability=durability), rows + 1, 50_000)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7, status


def recover_when_full(path, ballast, durability, rows, counts):
    """The space of a message was reserved before it was committed, so recovery needs none."""
    log_path = path.with_name(path.name + "-log")
    for _ in range(3):
        ballast.leave(500_000)
        die_before_applying(path, durability, rows)
        rows += 1
        ballast.leave(0)
        before = digest(path), digest(log_path)
        with closing(Canister(path, read_only=True)) as canister:
            assert "in memory only" in canister.recovery
            assert_sound(canister, rows)
        assert (digest(path), digest(log_path)) == before
        with closing(Canister(path, durability=durability)) as canister:
            assert "recovered from its log" in canister.recovery
            assert_sound(canister, rows)
            counts["recovered when full"] += 1
    return rows


def make_when_full(path, ballast, durability, counts):
    """A new image on a full file system, and one with room for a part of its first message."""
    for free_bytes in range(0, 800_000, 8 * STEP_BYTES):
        ballast.leave(free_bytes)
        try:
            canister = Canister(path, durability=durability, bucket_pages=1)
        except (ImageError, Trap) as refused:
            assert_names_the_reason(refused)
            counts["refused"] += 1
        else:
            with closing(canister), suppress(Trap):
                canister.update("CREATE TABLE t (n INTEGER PRIMARY KEY, x BLOB)")
                assert_sound(canister, 0)
                counts["made"] += 1
        assert not path.with_name(path.name + "-log").exists()
        path.unlink(missing_ok=True)


def main(folder, durability):
    # A log of 64 MiB would not fit here.
    durable.CHECKPOINT_BYTES = 400_000
    counts = Counter()
    folder = Path(folder)
    path = folder / "ledger.stable"
    ballast = Ballast(folder)
    rows = fill_up(path, ballast, durability, counts)
    rows = recover_when_full(path, ballast, durability, rows, counts)
    make_when_full(folder / "new.stable", ballast, durability, counts)
    sys.stdout.write(json.dumps(counts) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
