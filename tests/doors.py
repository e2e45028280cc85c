"""The lower door in tests: a memory, its VFS, and connections on it, all closed at the end."""

import apsw
import pytest

from sqlstable import MemoryManager, StableMemory, StableVFS

SCHEMA = "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)"


def series(last):
    """SQL for the numbers from 1 to the last one, to select from."""
    return (
        "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
        f"LIMIT {last}) SELECT i FROM n)"
    )


class Door:
    """A memory, its VFS, and the connections opened through it; all closed at the end."""

    def __init__(self, memory=None, **options):
        self.memory = memory if memory is not None else StableMemory()
        self.options = options
        self.vfs = StableVFS(self.memory, **options)
        self.connections = []

    def connect(self, *pragmas, name="main.db"):
        connection = apsw.Connection(name, vfs=self.vfs.name)
        self.connections.append(connection)
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").fetchall()
        return connection

    def reopen(self):
        """Only the bytes go on, as in an upgrade."""
        image = self.memory.image()
        self.close()
        self.__init__(StableMemory.from_image(image), **self.options)

    def close(self):
        for connection in self.connections:
            connection.close(force=True)
        self.vfs.unregister()
        self.memory.close()

    @property
    def kinds(self):
        return {info.name: info.kind for info in self.vfs.stable_files()}


@pytest.fixture(name="opened")
def opened_fixture():
    """Makes doors and closes them."""
    doors = []

    def make(*arguments, **options):
        doors.append(Door(*arguments, **options))
        return doors[-1]

    yield make
    for door in doors:
        door.close()


def rows(connection, sql="SELECT count(*), sum(length(x)) FROM t"):
    return connection.execute(sql).fetchall()


def is_sound(connection):
    return all(
        rows(connection, f"PRAGMA {name}.integrity_check") == [("ok",)]
        for _, name, _ in rows(connection, "PRAGMA database_list")
    )


def memory_with_buckets_apart():
    """A memory in which buckets of memory 3 lie between those of the database."""
    memory = StableMemory()
    manager = MemoryManager(memory, bucket_wasm_pages=1)
    for memory_id in (120, 3, 120, 3):
        manager.get(memory_id).grow(1)
    return memory
