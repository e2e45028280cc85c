"""Threads that wait for each other, with a switch between them at nearly every instruction.

Each has a connection of its own over one `StableVFS`, and another process has an image of its own
open meanwhile, which nobody else gets. Whatever was answered must be there; nothing is answered
with an error, because each thread waits for its turn.
"""

import json
import subprocess
import sys
from contextlib import closing
from threading import Thread

import apsw
import pytest

from sqlstable import ImageError, StableMemory, StableVFS
from tests.children import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.sim]

THREADS = 4
INSERTS = 50_000
INSERTS_PER_OPENING = 10
SWITCHING_S = 1e-6


@pytest.fixture
def switching():
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCHING_S)
    yield
    sys.setswitchinterval(before)


def insert_all(vfs, number, count, found):
    """Insert ``count`` rows, each in a transaction; ``found`` gets what went wrong."""
    looking = "SELECT max(i) FROM t WHERE thread = ?"
    try:
        for start in range(0, count, INSERTS_PER_OPENING):
            with closing(apsw.Connection("main.db", vfs=vfs.name)) as connection:
                # Without a rest: whoever sleeps is no test of threads.
                connection.set_busy_handler(lambda _: True)
                connection.execute("PRAGMA journal_mode = memory").fetchall()
                for index in range(start, min(count, start + INSERTS_PER_OPENING)):
                    connection.execute("INSERT INTO t VALUES (?, ?)", (number, index)).fetchall()
                connection.execute(looking, (number,)).fetchall()
    except Exception as error:  # noqa: BLE001  any is one too many
        found.append(repr(error))


def insert_by_threads(memory, inserts):
    """Let threads insert beside each other; returns what was found wrong."""
    found = []
    vfs = StableVFS(memory)
    with closing(vfs.connect()) as connection:
        connection.execute("PRAGMA journal_mode = memory; CREATE TABLE t (thread, i)").fetchall()
    each = inserts // THREADS
    threads = [
        Thread(target=insert_all, args=(vfs, number, each, found)) for number in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with closing(vfs.connect()) as connection:
        rows = connection.execute(
            "SELECT thread, count(*), count(DISTINCT i), max(i) FROM t GROUP BY thread"
        ).fetchall()
        if rows != [(number, each, each, each - 1) for number in range(THREADS)]:
            found.append(f"rows {rows}")
        if connection.execute("PRAGMA integrity_check").get != "ok":
            found.append("integrity")
    vfs.unregister()
    if memory.kind is not None:
        found.append(f"a message ({memory.kind}) is left")
    return found


def test_threads_that_wait_for_each_other_lose_no_insert(switching, tmp_path):
    image = tmp_path / "other.stable"
    command = [sys.executable, "-m", "tests.sim.test_threads", str(image)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "open\n"
        refused = 0
        for _ in range(50):
            with pytest.raises(ImageError, match=f"process {other.pid}"):
                StableMemory.open(image)
            refused += 1
        assert insert_by_threads(StableMemory(), INSERTS) == []
        answer, _ = other.communicate("go on\n")
    assert json.loads(answer) == []
    assert refused == 50
    with StableMemory.open(image) as memory:
        assert memory.image_file.recovery is None


if __name__ == "__main__":
    sys.setswitchinterval(SWITCHING_S)
    with StableMemory.open(sys.argv[1]) as own:
        sys.stdout.write("open\n")
        sys.stdout.flush()
        wrong = insert_by_threads(own, 2000)
        sys.stdin.readline()
    sys.stdout.write(json.dumps(wrong))
