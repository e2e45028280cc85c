"""A canister that lives through everything that can happen to one, beside a model of its answers.

Steps mix what people mix: messages, traps, awaits, upgrades with and without hooks, snapshots,
reinstallations, other schemas, other engines, other processes' openings. The model is a dictionary
of rows; it knows nothing of pages, heaps or files.
"""

import sqlite3
from contextlib import closing, suppress
from dataclasses import astuple, dataclass, field, replace
from random import Random

import pytest

from sqlstable import Canister, Hooks, MessageError, SnapshotError, Trap

ROWS_MAX = 400
SNAPSHOTS_MAX = 10
SCHEMA = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); CREATE INDEX t_v ON t (v)"
WIDER = (
    "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, note TEXT DEFAULT 'none');"
    "CREATE INDEX t_v ON t (v)"
)


@dataclass(frozen=True)
class Kept:
    """What stable memory is to hold."""

    rows: dict[int, str] = field(default_factory=dict)
    is_wide: bool = False
    has_table: bool = True


class CallerError(Exception):
    """Ends a message as an error of the caller does."""


class World:
    """One canister and its model.

    Args:
        seed: Of the steps.
        folder: Empty, for files.
        options: Keywords of the canister.
        is_file: Whether stable memory is an image file.
        engines: Among which an image file is handed on.
    """

    def __init__(self, seed, folder, options, *, is_file=False, engines=("native",)):
        self.random = Random(seed)
        self.folder, self.options, self.engines = folder, options, engines
        self.path = folder / "canister.stable" if is_file else None
        self.kept = Kept(has_table=False)
        self.snapshots = {}
        self.told = []
        self.canister = self.opened()
        self.make_table()

    def opened(self):
        self.engine = self.random.choice(self.engines)
        return Canister(self.path, engine=self.engine, **self.options)

    def close(self):
        self.canister.close()

    # -- one step after the other --------------------------------------------------------------

    def run(self, count):
        steps = [getattr(self, name) for name in STEPS]
        for _ in range(count):
            step = self.random.choices(steps, STEPS.values())[0]
            self.told.append(step.__name__)
            step()
            self.check()

    def check(self):
        if not self.kept.has_table:
            return
        cache = self.random.choice(("fresh", "cold", "warm"))
        rows = self.canister.query("SELECT id, v FROM t ORDER BY id", cache=cache).rows
        assert rows == sorted(self.kept.rows.items()), self.told

    def check_trace(self):
        """Every access of every message has an owner or a name."""
        if "trace" not in self.options:
            return
        with self.canister.trace() as trace:
            messages = list(trace.messages)
            assert [it.index for it in messages] == list(range(self.canister.message_count))
            accesses = sum(len(block) for block in trace.access_blocks())
            calls = sum(sum(astuple(it.stable.calls)) for it in messages)
            assert accesses == calls

    def change(self, send, kept):
        """Send one change of some rows, and return what is kept then."""
        rows = dict(kept.rows)
        kind = self.random.randrange(4)
        if kind < 2 and len(rows) < ROWS_MAX:
            first = max(rows, default=0) + 1
            made = {first + at: self.text() for at in range(self.random.choice((1, 3, 40)))}
            for number, text in made.items():
                send("INSERT INTO t (id, v) VALUES (?, ?)", (number, text))
            rows |= made
        elif kind == 2:
            text, part = self.text(), self.random.randrange(1, 5)
            send("UPDATE t SET v = ? WHERE id % ? = 0", (text, part))
            rows |= {number: text for number in rows if number % part == 0}
        else:
            part = self.random.randrange(2, 7)
            send("DELETE FROM t WHERE id % ? = 1", (part,))
            rows = {number: text for number, text in rows.items() if number % part != 1}
        return replace(kept, rows=rows)

    def text(self):
        return chr(97 + self.random.randrange(26)) * self.random.choice((1, 30, 700, 9_000))

    # -- messages -------------------------------------------------------------------------------

    def update(self):
        with self.canister.message("update") as message:
            self.kept = self.change(message.execute, self.kept)

    def trapped(self):
        with suppress(CallerError), self.canister.message("update") as message:
            self.change(message.execute, self.kept)
            raise CallerError

    def discarded(self):
        with self.canister.message("query") as message:
            self.change(message.execute, self.kept)

    def awaited(self):
        """Of a call in two messages, what stands behind the await may trap; others come between.

        An upgrade that comes between leaves no code to go on with.
        """
        is_trapped = self.random.random() < 0.5
        between = self.random.choice((None, "update", "trapped", "discarded", "upgrade"))
        expected = pytest.raises(Trap) if between == "upgrade" else suppress(CallerError)
        with expected, self.canister.message("update") as message:
            self.kept = self.change(message.execute, self.kept)
            if between is None:
                message.commit_point()
            else:
                with message.awaiting():
                    self.told.append(f"between: {between}")
                    getattr(self, between)()
                    self.check()
            kept = self.change(message.execute, self.kept)
            if is_trapped:
                raise CallerError
            self.kept = kept

    # -- the life cycle -------------------------------------------------------------------------

    def upgrade(self):
        self.canister.upgrade()

    def upgrade_with_hooks(self):
        """Hooks of two codes run, and write; any may trap, and then nothing has happened."""
        trapping = self.random.choice((None, "pre_upgrade", "start", "post_upgrade"))
        is_skipped = self.random.random() < 0.2
        # The old code is there by an upgrade of its own, whose hooks do nothing yet.
        ran, kept = [], self.kept

        def hook(message):
            nonlocal kept
            ran.append(message.part)
            if message.part != "start":
                kept = self.change(message.execute, kept)
            if message.part == trapping:
                message.trap("no further")

        old = Hooks(pre_upgrade=hook)
        new = Hooks(start=hook, post_upgrade=hook)
        self.canister.upgrade(hooks=old)
        parts = ["pre_upgrade", "start", "post_upgrade"][is_skipped:]
        try:
            self.canister.upgrade(hooks=new, skip_pre_upgrade=is_skipped)
        except Trap:
            assert ran == parts[: parts.index(trapping) + 1]
            assert self.canister.hooks is old
        else:
            assert trapping not in parts
            assert ran == parts
            assert self.canister.hooks is new
            self.kept = kept
        # The hooks are for this step alone.
        self.canister.upgrade(hooks=Hooks(), skip_pre_upgrade=True)

    def stop_and_start(self):
        self.canister.stop()
        with pytest.raises(MessageError):
            self.canister.query("SELECT 1")
        self.canister.start()

    def reinstall(self):
        self.canister.reinstall()
        self.make_table()

    def uninstall(self):
        self.canister.uninstall()
        self.canister.reinstall()
        self.make_table()

    def make_table(self):
        self.canister.update(SCHEMA)
        self.kept = Kept()

    def widen(self):
        """The schema goes forward, and back."""
        self.canister.upgrade(schema=SCHEMA if self.kept.is_wide else WIDER)
        self.kept = replace(self.kept, is_wide=not self.kept.is_wide)

    # -- snapshots ------------------------------------------------------------------------------

    def take_snapshot(self):
        if len(self.snapshots) == SNAPSHOTS_MAX:
            self.delete_snapshot()
        self.snapshots[self.canister.take_snapshot().id] = self.kept, self.engine

    def load_snapshot(self):
        if self.snapshots:
            snapshot = self.random.choice(sorted(self.snapshots))
            kept, engine = self.snapshots[snapshot]
            is_other = engine != self.engine
            if is_other and engine == "wasm":
                # It has a heap and a module, which the native engine cannot go on with.
                with pytest.raises(SnapshotError):
                    self.canister.load_snapshot(snapshot)
                self.check()
            self.canister.load_snapshot(snapshot, stable_only=is_other)
            self.kept = kept

    def delete_snapshot(self):
        if self.snapshots:
            snapshot = self.random.choice(sorted(self.snapshots))
            self.canister.delete_snapshot(snapshot)
            del self.snapshots[snapshot]

    # -- processes ------------------------------------------------------------------------------

    def reopen(self):
        """An image file is closed, and opened by the next, perhaps on another engine."""
        if self.path is not None:
            self.canister.close()
            self.canister = self.opened()

    def extract(self):
        """Plain SQLite has the same answers."""
        target = self.folder / f"extracted-{len(self.told)}.db"
        self.canister.extract_database(target)
        with closing(sqlite3.connect(target)) as plain:
            assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            rows = plain.execute("SELECT id, v FROM t ORDER BY id").fetchall()
        assert rows == sorted(self.kept.rows.items())


STEPS = {
    "update": 8,
    "trapped": 3,
    "discarded": 3,
    "awaited": 3,
    "upgrade": 2,
    "upgrade_with_hooks": 4,
    "stop_and_start": 1,
    "reinstall": 0.3,
    "uninstall": 0.3,
    "widen": 2,
    "take_snapshot": 3,
    "load_snapshot": 3,
    "delete_snapshot": 1,
    "reopen": 2,
    "extract": 0.5,
}
"""Names of steps, and how often each is taken."""
