"""Messages of SQL that run out of instructions, and a witness of where they do.

The witness is a canister whose heap is not charged: only its counter stops it. A message that is
given as many instructions as it had used at one place goes on to the next one, so that it is walked
through place by place; what the heap had cost there is worked out from the regions it has touched.
"""

import random
from contextlib import suppress
from dataclasses import dataclass, replace

from sqlstable import Canister, LimitTrap, SqlError, Trap
from sqlstable.ic.limits import latest_limits
from sqlstable.wasm import shim
from sqlstable.wasm.shimstore import shim_of

FILL = (
    "CREATE TABLE t (x INTEGER PRIMARY KEY, y TEXT UNIQUE);"
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 300)"
    " INSERT INTO t SELECT i, 'row ' || i || hex(zeroblob(20)) FROM n"
)
REGION = 80_000
"""Instructions for a region of the heap first accessed, and again for one first written: today's
price list."""


@dataclass(frozen=True)
class Place:
    """How far a message came."""

    call: int
    "Index of the call of the module in which it was stopped, or which it has ended."
    used: int
    heap: int
    log: bytes
    border_count: int
    is_tested: bool

    @property
    def total(self):
        return self.used + self.heap


def limited(kind, instructions):
    """Today's limits, but for instructions of messages of a kind."""
    limits = latest_limits()
    of_kind = replace(getattr(limits, kind), instructions_max=instructions)
    return replace(limits, **{kind: of_kind})


class World:
    """A canister, and one message of it that can be run again and again.

    Args:
        kind: Of the message.
        body: Does something with the message, and yields after each call of the module.
        options: Of the canister.
    """

    def __init__(self, kind, body, *, cache="warm", region=REGION, **options):
        self.kind, self.body, self.region = kind, body, region
        self.cache = {} if kind == "update" else {"cache": cache}
        self.canister = Canister(engine="wasm", **options)
        self.canister.update(FILL)
        self.machine = shim_of(self.canister.memory).machine
        self.begun = None
        "Where the message begins, once it has run."
        self.ends = []
        "Where its calls end."
        self.trap = None
        "Of the message that ran last."

    def heap_bytes(self):
        return self.machine.heap_bytes()

    def run(self, instructions):
        """Run the message with so many instructions; returns where it stopped, or its end.

        It traps there, too, so that it can be run again.
        """
        canister = self.canister
        # SQL's random numbers go by the number of the message.
        canister._life.machine.go_on_from(6)
        canister.memory.limits = limited(self.kind, instructions)
        self.ends, self.begun, self.trap, stopped = [], None, None, None
        before = canister.image(), self.heap_bytes()
        with suppress(Trap), canister.message(self.kind, **self.cache) as message:
            self.begun = self._place(is_tested=False)
            try:
                for _ in self.body(message):
                    self.ends.append(self._place(is_tested=False))
                message.trap()
            except LimitTrap as trap:
                stopped, self.trap = self._place(is_tested=True), trap
                raise
        canister.memory.limits = latest_limits()
        assert (canister.image(), self.heap_bytes()) == before
        # A heap that is made in the message may be too dear for it already.
        return stopped or (self.ends[-1] if self.ends else None)

    def _place(self, *, is_tested):
        machine = self.machine
        status = machine.tell()
        regions = status.heap_regions_accessed + status.heap_regions_written
        return Place(
            len(self.ends),
            machine.instruction_limit - status.counter,
            self.region * regions,
            machine.noted(shim.LOG, status.log_count),
            status.border_count,
            is_tested,
        )

    def close(self):
        self.canister.close()


def walk(witness, start, ends):
    """Yield the places behind one, in their order: tests of the counter, and ends of calls."""
    at = start
    while True:
        found = witness.run(at.used)
        for end in ends[at.call :]:
            if not found.is_tested or end.call < found.call:
                yield end
        if not found.is_tested:
            return
        assert found.used > at.used
        yield found
        at = found


def first_over(places, limit):
    """Return the first place beyond a limit."""
    return next(place for place in places if place.total > limit)


def random_body(seed):
    """Return a body of a few statements; some of them are refused."""
    draw = random.Random(seed)
    texts = (
        "SELECT count(*) FROM t WHERE y LIKE '%7%'",
        "SELECT max(x) FROM t; SELECT random(), hex(randomblob(3))",
        "INSERT INTO t (y) VALUES (hex(randomblob(8)))",
        "UPDATE t SET y = y || 'x' WHERE x < 4",
        "DELETE FROM t WHERE x % 90 = 1",
        "INSERT INTO t VALUES (7, 'there already')",
        "SELECT * FROM nowhere",
        "CREATE TABLE u AS SELECT x FROM t LIMIT 5; DROP TABLE u",
    )
    steps = [draw.choice((*texts, "many", "cursor")) for _ in range(3)]

    def body(message):
        cursor = None
        for step in steps:
            match step:
                case "many":
                    with suppress(SqlError):
                        message.executemany("INSERT INTO t (y) VALUES (?)", [("a",), ("b",)])
                case "cursor" if cursor is None:
                    cursor = message.cursor("SELECT y FROM t ORDER BY y DESC")
                case "cursor":
                    next(cursor)
                    yield
                    next(cursor)
                case _:
                    with suppress(SqlError):
                        message.execute(step)
            yield
        if cursor is not None:
            cursor.close()
            yield

    return body
