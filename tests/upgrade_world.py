"""Upgrades with hooks in every part, canisters that know what their heap was, and faults."""

from contextlib import contextmanager
from dataclasses import dataclass, replace

from sqlstable import Canister, Hooks, Trap, latest_limits
from sqlstable.canister.machine import open_vfs
from sqlstable.canister.native_machine import NativeMachine
from sqlstable.sqlite.header import CHANGE_COUNTER_OFFSET

ENGINES = ("native", "wasm")
LAYOUTS = ("managed", "raw")


def note(message):
    """Say in the database which part has run, on more SQLite pages than one."""
    message.execute("INSERT INTO part VALUES (?)", (message.part,))
    message.executemany(
        "INSERT INTO filler (body) VALUES (printf('%.*c', 900, ?))", [(c,) for c in "abcdef"]
    )
    message.execute("SELECT count(*) FROM filler WHERE body > 'b'")


def start(message):
    """Touch stable memory itself, behind what anybody else has, in bytes of two OS pages."""
    memory = message.memory
    if memory.size() == 0:
        # The layout's first write makes it its own.
        return
    end = memory.grow(1) * 65_536
    memory.write(end + 4_090, b"the start function")
    assert memory.read(end + 4_094, 5) == b"start"


def init(message):
    """Make what is there before anybody sends a message."""
    message.execute("CREATE TABLE part (name TEXT)")
    message.execute("CREATE TABLE filler (id INTEGER PRIMARY KEY, body TEXT)")
    note(message)


HOOKS = Hooks(init=init, start=start, pre_upgrade=note, post_upgrade=note)
KEEPING = replace(HOOKS, keeps_heap=True)

SETUP = (
    "CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT, balance INTEGER)",
    "CREATE INDEX account_owner ON account (owner)",
    "INSERT INTO account (owner, balance) VALUES ('alice', 10), ('bob', 5), ('carol', 0)",
    "PRAGMA cache_size = 77",
    "CREATE TEMP TABLE scratch (x)",
    "INSERT INTO scratch VALUES (1), (2), (3)",
    "SELECT sum(balance) FROM account",
)
"""What leaves a database, and a heap to be told from a new one."""

PROBES = (
    "PRAGMA cache_size",
    "SELECT last_insert_rowid(), changes(), total_changes()",
    "SELECT count(*), sum(x) FROM scratch",
    "SELECT owner FROM account ORDER BY owner",
    "SELECT name FROM part",
    "SELECT count(*) FROM filler",
    "SELECT random()",
    "INSERT INTO account (owner, balance) VALUES ('dora', 1) RETURNING id",
)
"""Updates whose answers depend on the heap, too."""


def fill(canister):
    for sql in SETUP:
        canister.update(sql)


def answers(canister, *, has_temp=True):
    """What the probes answer; on the wasm engine also what they cost, which tells all of a heap."""
    probes = [sql for sql in PROBES if has_temp or "scratch" not in sql]
    replies = [canister.update(sql) for sql in probes]
    if canister.machine.name == "native":
        return [reply.rows for reply in replies]
    return [(reply.rows, reply.message.instructions, reply.message.stable) for reply in replies]


def comparable_image(canister):
    """The image; of the native engine without the counters of SQLite's changes.

    SQLite counts once for each connection that holds its lock, and the native engine opens
    connections that a canister does not.
    """
    image = bytearray(canister.image())
    if canister.machine.name == "native":
        header = canister.vfs.store.placement.map.address(0)
        for at in (CHANGE_COUNTER_OFFSET, VERSION_VALID_FOR_OFFSET):
            image[header + at : header + at + 4] = bytes(4)
    return bytes(image)


VERSION_VALID_FOR_OFFSET = 92


@dataclass
class State:
    """What a failed step must leave as it was."""

    image: bytes
    heap: bytes | None
    hooks: Hooks
    state: str
    message_count: int

    @classmethod
    def of(cls, canister):
        machine = getattr(canister.memory.store, "machine", None)
        return cls(
            canister.image(),
            None if machine is None else machine.heap_bytes(),
            canister.hooks,
            canister.state,
            canister.message_count,
        )


class Faults:
    """Traps the access with one index, of all that a canister of one engine makes in a block.

    On the native engine what SQLite asks of the file is an access, and so is what that asks of
    stable memory: some are met twice, which does no harm.
    """

    def __init__(self):
        self.at = self.count = None

    def machine(self, memory):
        """Make a native machine whose accesses are seen, those of each new heap as well."""
        real_touch, real_grow = memory.touch, memory.grow

        def touch(*arguments, **keywords):
            self.meet(memory)
            real_touch(*arguments, **keywords)

        def grow(*arguments, **keywords):
            self.meet(memory)
            return real_grow(*arguments, **keywords)

        def make_vfs(memory, opening):
            vfs = open_vfs(memory, opening)
            vfs.store.messages.interceptor = lambda _kind: self.meet(memory)
            return vfs

        memory.touch, memory.grow = touch, grow
        return NativeMachine(memory, depth="counters", make_vfs=make_vfs)

    def meet(self, memory):
        if self.count is None:
            return
        index, self.count = self.count, self.count + 1
        if index == self.at:
            raise memory.poison(Trap(f"injected trap: access {index}"))

    @contextmanager
    def trap(self, canister, at):
        """Trap at the access with this index, the first of a message having 0."""
        if canister.machine.name == "native":
            self.at, self.count = at, 0
            try:
                yield
            finally:
                self.at = self.count = None
            return
        store = canister.memory.store
        real = store._new_machine

        def new_machine(program):
            # Of a reinstallation.
            machine = real(program)
            machine.set_value("trap_at", at)
            return machine

        store.machine.set_value("trap_at", at)
        store._new_machine = new_machine
        try:
            yield
        finally:
            store._new_machine = real
            store.machine.set_value("trap_at", -1)


def make_canister(engine, layout, path=None, *, faults=None, hooks=HOOKS, **keywords):
    """Return a canister of two, one with faults, the other its twin, filled equally."""
    if engine == "native" and faults is not None:
        keywords["machine"] = faults.machine
    canister = Canister(path, engine=engine, layout=layout, hooks=hooks, **keywords)
    fill(canister)
    return canister


@contextmanager
def limited(canister, kind, **values):
    """Let the limits of one kind of message be others in a block."""
    memory = canister.memory
    known = memory.limits
    limits = latest_limits() if known is None else known
    memory.limits = replace(limits, **{kind: replace(limits.of(kind), **values)})
    try:
        yield
    finally:
        memory.limits = known
