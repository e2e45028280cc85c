"""Connections on a memory, and what they may do together."""

import apsw

from sqlstable import StableMemory, StableVFS

SETUP = (
    "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)",
    "INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three')",
)


class Place:
    """Connections on one file: in stable memory, or plain."""

    def __init__(self, path=None):
        self.path = path
        self.memory = self.vfs = None
        if path is None:
            self.memory = StableMemory()
            self.vfs = StableVFS(self.memory, bucket_pages=1)
        self.connections = []
        self.cursors = {}
        self.busy_calls = []
        self.answers = []

    def open(self, journal, *, attached=False, cache_size=None):
        if self.path is None:
            connection = apsw.Connection("main.db", vfs=self.vfs.name)
        else:
            connection = apsw.Connection(str(self.path / "main.db"))
        self.connections.append(connection)
        connection.execute(f"PRAGMA journal_mode = {journal}").fetchall()
        if cache_size is not None:
            connection.execute(f"PRAGMA cache_size = {cache_size}")
        if attached:
            other = "other.db" if self.path is None else self.path / "other.db"
            connection.execute(f"ATTACH '{other}' AS other")
            connection.execute(f"PRAGMA other.journal_mode = {journal}").fetchall()
        return connection

    def close(self):
        for cursor in self.cursors.values():
            cursor.close(force=True)
        for connection in self.connections:
            connection.close(force=True)
        if self.vfs is not None:
            self.vfs.unregister()
            self.memory.close()

    # -- steps ----------------------------------------------------------------------------------

    def run(self, step):
        """Do a step, and note what it answers."""
        kind, number, *arguments = step
        self.answers.append((step, getattr(self, kind)(number, *arguments)))

    def sql(self, number, text):
        try:
            return self.connections[number].execute(text).fetchall()
        except apsw.Error as error:
            return type(error).__name__

    def begin_reading(self, number):
        """A cursor stands on its first row, under a shared lock."""
        self.end_reading(number)
        try:
            cursor = self.connections[number].execute("SELECT * FROM t ORDER BY id")
            self.cursors[number] = cursor
            return next(cursor, None)
        except apsw.Error as error:
            return type(error).__name__

    def read_on(self, number):
        cursor = self.cursors.get(number)
        try:
            return None if cursor is None else next(cursor, None)
        except apsw.Error as error:
            return type(error).__name__

    def end_reading(self, number):
        cursor = self.cursors.pop(number, None)
        if cursor is not None:
            cursor.close(force=True)

    def on_busy(self, number, actions):
        """A busy handler that does one step at each call, and gives up after the last."""
        actions = list(actions)

        def handler(count):
            self.busy_calls.append((number, count))
            if not actions:
                return False
            self.run(actions.pop(0))
            return True

        self.connections[number].set_busy_handler(handler)

    def state(self):
        return [(one.in_transaction, one.txn_state("main")) for one in self.connections]


def set_up(places, journal, connections=3, **options):
    for place in places:
        for _ in range(connections):
            place.open(journal, **options)
        for sql in SETUP:
            place.connections[0].execute(sql)


W = "INSERT INTO t (x) VALUES ('w')"
