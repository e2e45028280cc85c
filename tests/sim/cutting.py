"""A small process in which an exception is raised at every place of a message, one after the other.

Run by `tests/test_interrupts.py` and `tests/sim/test_interrupt_sweep.py`, as a wrong end may
be that of the process; prints counts as JSON, or fails with the places and what was found there::

    python -m tests.sim.cutting SCENARIO ENGINE memory|FOLDER trace|plain STEP

A place is an event of a trace function in the package's own code: a line that begins, a function
that is entered, or one that returns. ``STEP`` takes each n-th of them; 1 takes all.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import apsw

import sqlstable
from sqlstable import Canister, Hooks, ImageError, SqlError, Trap

PACKAGE = str(Path(sqlstable.__file__).parent)


class Cut(KeyboardInterrupt):
    """What is raised: an exception from outside, as Ctrl-C raises it."""


class Places:
    """Counts places while it is installed, and raises at one of them.

    Args:
        at: Number of the place, from 1 on; 0 raises nowhere.
    """

    def __init__(self, at=0):
        self.at = at
        self.count = 0
        self.where = None

    def __enter__(self):
        sys.settrace(self.on_call)
        return self

    def __exit__(self, *_):
        sys.settrace(None)

    def on_call(self, frame, event, arg):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        self.on_event(frame, event, arg)
        return self.on_event

    def on_event(self, frame, event, arg):
        if event != "exception":
            self.count += 1
            if self.count == self.at:
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno} {event}"
                raise Cut(self.where)
        return self.on_event


# -- the canister that is cut off ----------------------------------------------------------------


def made_database():
    with closing(apsw.Connection(":memory:")) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, pad TEXT)")
        connection.executemany("INSERT INTO t VALUES (?, 1, 'x')", [(n,) for n in range(ROWS)])
        return connection.serialize("main")


ROWS = 30
EXTRA_MAX = 40

PADDING = "x" * 700
"""So that the rows fill several SQLite pages."""


DATABASE = made_database()


class Model:
    """A canister with its options, and what it must hold: one of few states, exactly.

    The table ``t`` holds ``ROWS`` rows and one more for each message that was answered; the sum of
    a column is constant. A message that was cut off is there whole, or not at all.
    """

    def __init__(self, options, folder):
        self.options = options
        self.path = None if folder is None else Path(folder) / "app.stable"
        self.canister = None
        self.extra = 0

    def open(self):
        self.reopen()
        if not self.canister.query("SELECT 1 FROM sqlite_schema WHERE name = 't'").rows:
            self.fill()

    def reopen(self):
        self.canister = Canister(self.path, **self.options)

    def fill(self):
        if self.canister.state == "empty":
            self.canister.reinstall()
        with self.canister.message() as message:
            message.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, pad TEXT)")
            message.execute("CREATE INDEX by_n ON t (n)")
            message.executemany(
                "INSERT INTO t VALUES (?, 1, ?)", [(number, PADDING) for number in range(ROWS)]
            )
        self.extra = 0

    def look(self):
        """How many rows there are beside the first ones, or None where there is no table."""
        if self.canister.state == "empty":
            assert self.canister.image() == b""
            return None
        with self.canister.message("query") as message:
            found = message.execute("PRAGMA integrity_check")
            assert found == [("ok",)], found
            if not message.execute("SELECT 1 FROM sqlite_schema WHERE name = 't'"):
                return None
            count, total = message.execute("SELECT count(*), sum(n) FROM t")[0]
        assert total in (count, None), (count, total)
        return count - ROWS

    def close(self):
        canister, self.canister = self.canister, None
        canister.close()


def update(model):
    model.canister.update("INSERT INTO t (n, pad) VALUES (1, ?)", (PADDING,))


def first_update(model):
    # A text that nobody has seen, and a row that makes stable memory grow.
    size = 400_000 + model.extra
    model.canister.update(f"INSERT INTO t (n, pad) VALUES (1, zeroblob({size}))")


def several(model):
    with model.canister.message() as message:
        message.execute("INSERT INTO t (n, pad) VALUES (4, 'a')")
        message.executemany("UPDATE t SET n = n + ? WHERE id = ?", [(-1, 1), (-1, 2), (-1, 3)])
        assert len(list(message.cursor("SELECT id FROM t WHERE id < 9"))) == 9
        with message.transaction():
            message.execute("UPDATE t SET n = 1 WHERE id < 9 OR n = 4")
            message.execute("SELECT n FROM t WHERE id = 1")


def awaiting(model):
    # As `update` does, twice, and something between that changes no sum.
    with model.canister.message() as message:
        message.execute("INSERT INTO t (n, pad) VALUES (1, ?)", (PADDING,))
        with message.awaiting():
            model.canister.update("UPDATE t SET pad = 'another message' WHERE id = 1")
        message.execute("INSERT INTO t (n, pad) VALUES (1, ?)", (PADDING,))


def trapping(model):
    with suppress(Trap), model.canister.message() as message:
        message.execute("UPDATE t SET n = 5")
        message.trap("on purpose")


def refused(model):
    with suppress(SqlError):
        model.canister.update("INSERT INTO nowhere VALUES (1)")


def query(cache):
    def run(model):
        reply = model.canister.query("SELECT sum(n) FROM t WHERE id < 9", cache=cache)
        assert reply.rows == [(9,)], reply.rows

    return run


def writing_query(model):
    model.canister.query("DELETE FROM t")


def upgrade(model):
    model.canister.upgrade()


def add(message):
    message.execute("INSERT INTO t (n, pad) VALUES (1, ?)", (PADDING,))


def touch(message):
    memory = message.memory
    if memory.size():
        # Else it is installed anew, and the layout's first write makes the memory its own.
        memory.write(memory.grow(1) * 65_536 + 4_090, b"the start function")


def shuffle(message):
    message.execute("UPDATE t SET n = 3 - n WHERE id < 3")
    message.execute("UPDATE t SET n = 3 - n WHERE id < 3")


CODE = Hooks(pre_upgrade=shuffle, start=touch, post_upgrade=add)
KEEPING = replace(CODE, keeps_heap=True)


def upgrade_hooks(model):
    model.canister.upgrade(hooks=CODE)


def upgrade_keep(model):
    model.canister.upgrade(hooks=KEEPING, wasm_memory_persistence="keep")


def uninstall(model):
    model.canister.uninstall()


def reinstall(model):
    model.canister.reinstall()


def bring_in(model):
    model.canister.import_database(DATABASE)


def on_connect(model):
    model.canister.on_connect(lambda _connection: None)


def close(model):
    model.canister.close()


def take_snapshot(model):
    full = len(model.canister.snapshots) == 10
    model.canister.take_snapshot(replace=model.canister.snapshots[0] if full else None)


def load_snapshot(model):
    # What was taken last holds what there is, and the pages that were written since go back.
    model.canister.load_snapshot(model.canister.snapshots[-1])


def snapshot_and_write(model):
    if model.look() is None:
        model.fill()
    take_snapshot(model)
    with model.canister.message() as message:
        shuffle(message)


class Scenario(NamedTuple):
    """What is cut off."""

    run: Callable[[Model], None]
    adds: int = 0
    "Rows that it adds."
    wipes: bool = False
    prepares: Callable[[Model], None] | None = None
    "What is done before, uncut."


def empty(model):
    model.canister.reinstall()
    model.extra = None


SCENARIOS = {
    "update": Scenario(update, adds=1),
    "first_update": Scenario(first_update, adds=1),
    "several": Scenario(several, adds=1),
    "awaiting": Scenario(awaiting, adds=2),
    "trapping": Scenario(trapping),
    "refused": Scenario(refused),
    "cold_query": Scenario(query("cold")),
    "warm_query": Scenario(query("warm")),
    "fresh_query": Scenario(query("fresh")),
    "writing_query": Scenario(writing_query),
    "upgrade": Scenario(upgrade),
    "upgrade_hooks": Scenario(upgrade_hooks, adds=1),
    "upgrade_keep": Scenario(upgrade_keep, adds=1),
    "uninstall": Scenario(uninstall, wipes=True),
    "reinstall": Scenario(reinstall, wipes=True),
    "import": Scenario(bring_in, prepares=empty),
    "take_snapshot": Scenario(take_snapshot),
    "load_snapshot": Scenario(load_snapshot, prepares=snapshot_and_write),
    "close": Scenario(close),
}


class Sweep:
    """Cuts one scenario off at each place in turn, and looks at what is left."""

    def __init__(self, scenario, model, step):
        self.scenario = scenario
        self.model = model
        self.step = step
        self.counts = Counter()
        self.failures = []

    def run(self):
        at, is_cut = 1, True
        while is_cut:
            is_cut = self.cut(at)
            at += self.step
        self.model.close()
        return self

    def cut(self, at):
        """Cut at one place; returns whether the scenario has so many."""
        model, scenario = self.model, self.scenario
        if model.canister is None:
            model.open()
        if (model.extra or 0) > EXTRA_MAX:
            # So that a look does not take longer and longer.
            model.canister.reinstall()
            model.extra = None
        if model.extra is None and scenario.prepares is None:
            model.fill()
        if scenario.prepares is not None:
            scenario.prepares(model)
        before = model.extra
        after = None if scenario.wipes else (before or 0) + scenario.adds
        if scenario.prepares is not None:
            after = 0
        places = Places(at)
        try:
            with places:
                scenario.run(model)
        except Cut:
            pass
        except BaseException as error:  # noqa: BLE001  whatever it is, it is wrong
            self.fail(places, f"raised {error!r}")
        # The place is told before anything may end the process.
        if places.where is None:
            model.extra = after
            return False
        self.counts["places"] += 1
        try:
            # One that awaits may be there up to its await.
            is_adding = scenario.adds > 1
            self.check(places, tuple(range(before, after + 1)) if is_adding else (before, after))
        except BaseException as error:  # noqa: BLE001
            self.fail(places, repr(error))
            self.start_over()
        return True

    def check(self, places, states):
        model = self.model
        if self.scenario.run is close:
            model.close()
            model.open()
            if model.path is None:
                states = (0, 0)
        thread = Thread(target=self.look_from_elsewhere, daemon=True)
        self.elsewhere = None
        thread.start()
        thread.join(20)
        assert not thread.is_alive(), "another thread waits for ever"
        if isinstance(self.elsewhere, ImageError):
            # The log decides, as the error says.
            assert "cut off while it was being committed" in str(self.elsewhere), self.elsewhere
            self.counts["reopened"] += 1
            model.close()
            model.reopen()
            found = model.look()
        else:
            assert not isinstance(self.elsewhere, BaseException), self.elsewhere
            found = self.elsewhere
        assert found in states, (found, states)
        self.counts["new" if found == states[-1] else "old"] += 1
        model.extra = found
        if found is not None:
            update(model)
            model.extra += 1
        if model.options.get("trace") and self.counts["places"] % 50 == 0:
            with model.canister.trace() as trace:
                assert trace.messages

    def look_from_elsewhere(self):
        try:
            self.elsewhere = self.model.look()
        except BaseException as error:  # noqa: BLE001  handed over
            self.elsewhere = error

    def start_over(self):
        with suppress(BaseException):
            self.model.canister.close()
        self.model.canister = None
        if self.model.path is not None:
            for path in self.model.path.parent.glob("app.stable*"):
                path.unlink()
        self.model.open()
        self.model.extra = self.model.look()

    def fail(self, places, what):
        self.failures.append(f"{places.at} {places.where}: {what}")


def quiet(hook):
    """Return a hook that says nothing of cuts."""

    def tell(*told):
        kind = told[0] if isinstance(told[0], type) else told[0].exc_type
        if not issubclass(kind, Cut):
            hook(*told)

    return tell


def main(scenario, engine, place, trace, step):
    # What is raised in a callback that cannot pass it on is told here; that is no failure.
    sys.excepthook = quiet(sys.excepthook)
    sys.unraisablehook = quiet(sys.unraisablehook)
    options = {"engine": engine}
    if trace == "trace":
        options["trace"] = ":memory:"
    folder = None if place == "memory" else place
    sweep = Sweep(SCENARIOS[scenario], Model(options, folder), int(step)).run()
    answer = {**sweep.counts, "failures": sweep.failures}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
