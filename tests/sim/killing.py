"""A small process that forks canisters on an image file, has them killed, and looks at the rest.

Run by `tests/sim/test_kills.py`; prints counts as JSON, or fails with what was found::

    python -m tests.sim.killing SCENARIO DURABILITY FOLDER COUNT SEED

The ledger holds accounts whose balances have a constant sum. Message *n* moves an amount between
two of them, and keeps *n*; both follow from *n* alone, so that what an image should hold after
*n* messages is known without having seen them run.
"""

import json
import os
import shutil
import signal
import struct
import sys
import time
from collections import Counter
from contextlib import closing
from itertools import count
from pathlib import Path
from random import Random
from select import select

import apsw

from sqlstable import Canister, Hooks
from sqlstable.memory.image import durable, osfile

ACCOUNTS = 120
BALANCE = 1000
PADDING = "x" * 400
"""So that the accounts fill a dozen SQLite pages."""

ENTRIES_KEPT = 12


# -- the ledger -----------------------------------------------------------------------------------


def transfer_of(number):
    """From whom, to whom, how much, and how many bytes go with it, in message ``number``."""
    choose = Random(number)
    source, target = choose.sample(range(ACCOUNTS), 2)
    size_bytes = choose.choice((0, 10, 100, 5000, 90_000 if number % 9 == 0 else 20))
    return source, target, choose.randint(1, 9), size_bytes


def send(canister, number):
    with canister.message("update") as message:
        transfer(message, number)


def transfer(message, number):
    source, target, amount, size_bytes = transfer_of(number)
    message.execute("UPDATE account SET balance = balance - ? WHERE id = ?", (amount, source))
    message.execute("UPDATE account SET balance = balance + ? WHERE id = ?", (amount, target))
    message.execute("INSERT INTO entry VALUES (?, zeroblob(?))", (number, size_bytes))
    message.execute("DELETE FROM entry WHERE number <= ?", (number - ENTRIES_KEPT,))


def send_call(canister, number, answer):
    """Send a call that awaits between two messages, and tell of both."""
    with canister.message("update") as message:
        transfer(message, number)
        with message.awaiting():
            answer(number)
        transfer(message, number + 1)
    answer(number + 1)


def found_in(canister):
    """All that the ledger holds, or None where there is no ledger."""
    with canister.message("query") as message:
        assert message.execute("PRAGMA integrity_check") == [("ok",)]
        if not message.execute("SELECT 1 FROM sqlite_schema WHERE name = 'account'"):
            return None
        balances = [row[0] for row in message.execute("SELECT balance FROM account ORDER BY id")]
        numbers = [row[0] for row in message.execute("SELECT number FROM entry ORDER BY number")]
    assert sum(balances) == ACCOUNTS * BALANCE
    return numbers[-1] if numbers else 0, balances, numbers


class Model:
    """What a ledger holds after so many messages."""

    def __init__(self):
        self.balances = [[BALANCE] * ACCOUNTS]

    def after(self, number):
        while len(self.balances) <= number:
            source, target, amount, _ = transfer_of(len(self.balances))
            balances = [*self.balances[-1]]
            balances[source] -= amount
            balances[target] += amount
            self.balances.append(balances)
        kept = range(max(number - ENTRIES_KEPT, 0) + 1, number + 1)
        return number, self.balances[number], [*kept]


SCHEMA = (
    "CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER, padding TEXT)",
    "CREATE TABLE entry (number INTEGER PRIMARY KEY, body BLOB)",
)


def fill(execute, executemany):
    for sql in SCHEMA:
        execute(sql)
    rows = [(i, BALANCE, PADDING) for i in range(ACCOUNTS)]
    executemany("INSERT INTO account VALUES (?, ?, ?)", rows)


def open_canister(path, durability, **options):
    return Canister(path, durability=durability, bucket_pages=1, depth="pages", **options)


def make_ledger(path, durability):
    with open_canister(path, durability) as canister, canister.message("update") as message:
        fill(message.execute, message.executemany)


# -- killing --------------------------------------------------------------------------------------


class KillBefore:
    """Counts the system calls that change files, and kills this process before one of them."""

    NAMES = ("pwrite", "pwritev", "ftruncate", "fdatasync", "fsync", "unlink")

    def __init__(self, at):
        self.at, self.seen = at, 0
        for name in self.NAMES:
            setattr(os, name, self.counted(getattr(os, name)))
        real_open = os.open
        making = self.counted(real_open)

        def open_counted(path, flags, *rest, **options):
            return (making if flags & os.O_CREAT else real_open)(path, flags, *rest, **options)

        os.open = open_counted
        osfile._fallocate = self.counted(osfile._fallocate)

    def counted(self, function):
        def wrapper(*args, **options):
            self.step()
            return function(*args, **options)

        return wrapper

    def step(self):
        if self.seen == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.seen += 1


class Child:
    """A forked process; what it answered is read when it is gone."""

    def __init__(self, function):
        self.reading, writing = os.pipe()
        self.process_id = os.fork()
        if self.process_id == 0:
            status = 1
            try:
                function(lambda number: os.write(writing, struct.pack("<q", number)))
                status = 0
            finally:
                os._exit(status)
        os.close(writing)

    def wait_for_answer(self):
        select([self.reading], [], [])

    def kill(self):
        os.kill(self.process_id, signal.SIGKILL)

    def wait(self):
        """Return the numbers that it answered, and whether it was killed."""
        with os.fdopen(self.reading, "rb") as pipe:
            data = pipe.read()
        _, status = os.waitpid(self.process_id, 0)
        is_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert is_killed or status == 0, f"the child ended with {status}"
        return [number for (number,) in struct.iter_unpack("<q", data)], is_killed


class Image:
    """An image file and its log, which can be set back."""

    def __init__(self, folder, durability):
        self.path = Path(folder, "ledger.stable")
        self.log_path = Path(folder, "ledger.stable-log")
        self.durability = durability
        self.counts = Counter()

    def files(self):
        both = (self.path, self.log_path)
        return {path: path.read_bytes() for path in both if path.exists()}

    def put(self, files):
        for path in (self.path, self.log_path):
            # A file that was cut to nothing is flushed by ext4 when it is closed; a new one is not.
            path.unlink(missing_ok=True)
            if path in files:
                path.write_bytes(files[path])

    def open(self, **options):
        return open_canister(self.path, self.durability, **options)

    def look(self, allowed, *, in_memory=False):
        """Recover, and return what is there, which must be allowed."""
        had_log = self.log_path.exists()
        if in_memory and self.path.exists():
            before = self.files()
            with closing(Canister(self.path, read_only=True, depth="pages")) as reader:
                seen = found_in(reader)
            assert self.files() == before
            self.counts["in_memory"] += 1
        with closing(self.open()) as canister:
            assert (canister.recovery is not None) == had_log, canister.recovery
            found = found_in(canister)
            recovered = canister.recovery is not None and "recovered from its log" in (
                canister.recovery
            )
        assert found in allowed, f"found {found and found[0]}"
        if in_memory:
            assert seen == found
        self.counts["kills"] += 1
        self.counts["recovered"] += recovered
        return found


# -- scenarios ------------------------------------------------------------------------------------


def commits(image, messages, seed):
    """Kill each message at every system call that it makes."""
    model = Model()
    make_ledger(image.path, image.durability)
    for number in range(1, messages + 1):
        files = image.files()
        allowed = [model.after(number - 1), model.after(number)]
        for at in count():
            image.put(files)

            def run(answer, at=at, number=number):
                canister = image.open()
                switch = KillBefore(at)
                send(canister, number)
                # Also when all is done, and nobody has been told.
                switch.step()
                answer(number)
                switch.at = -1
                canister.close()

            answers, is_killed = Child(run).wait()
            if not is_killed:
                assert answers == [number]
                break
            found = image.look(allowed, in_memory=(number + at) % 5 == 0)
            image.counts["kept_unanswered"] += found == allowed[1]
        image.counts["messages"] += 1
        with closing(image.open()) as canister:
            assert canister.recovery is None
            assert found_in(canister) == allowed[1]


def awaits(image, calls, seed):
    """Kill each call that awaits at every system call that it makes."""
    model = Model()
    make_ledger(image.path, image.durability)
    for number in range(1, 2 * calls, 2):
        files = image.files()
        for at in count():
            image.put(files)

            def run(answer, at=at, number=number):
                canister = image.open()
                switch = KillBefore(at)

                def told(which):
                    # Also when all is done, and nobody has been told.
                    switch.step()
                    answer(which)

                send_call(canister, number, told)
                switch.at = -1
                canister.close()

            answers, is_killed = Child(run).wait()
            answered = max([number - 1, *answers])
            if not is_killed:
                assert answers == [number, number + 1]
                break
            found = image.look([model.after(answered), model.after(min(answered, number) + 1)])
            image.counts["at_the_await"] += found == model.after(number)


def instants(image, kills, seed):
    """Kill a process that sends message after message, from outside, at any time."""
    model, choose = Model(), Random(seed)
    make_ledger(image.path, image.durability)
    last = 0
    for kill in range(kills):

        def run(answer, first=last + 1):
            canister = image.open()
            answer(-1)
            for number in count(first):
                send(canister, number)
                answer(number)

        child = Child(run)
        if kill % 2:
            # On a busy machine opening takes longer than most instants.
            child.wait_for_answer()
        time.sleep(choose.expovariate(1 / 0.008))
        child.kill()
        answers, is_killed = child.wait()
        assert is_killed
        answered = max([last, *answers])
        allowed = [model.after(answered), model.after(answered + 1)]
        found = image.look(allowed, in_memory=kill % 10 == 0)
        image.counts["messages"] += found[0] - last
        image.counts["kept_unanswered"] += found[0] - answered
        image.counts["killed_while_opening"] += not answers
        last = found[0]


def cut_off(image, action, files, allowed):
    """Kill an action at each system call; yields what each leaves, after it was looked at."""
    for at in count():
        image.put(files)

        def run(answer, at=at):
            canister = image.open()
            switch = KillBefore(at)
            action(canister)
            switch.step()
            switch.at = -1
            canister.close()

        _, is_killed = Child(run).wait()
        if not is_killed:
            return
        left = image.files()
        image.look(allowed, in_memory=True)
        yield left


def recoveries(image, messages, seed):
    """Kill the process that recovers, at each system call; and each that recovers after it."""
    model = Model()
    make_ledger(image.path, image.durability)
    for number in range(1, messages + 1):
        files = image.files()
        allowed = [model.after(number - 1), model.after(number)]
        for left in cut_off(image, lambda canister, n=number: send(canister, n), files, allowed):
            image.put(left)
            found = image.look(allowed)
            image.put(left)
            for at in count():

                def run(answer, at=at):
                    KillBefore(at)
                    # Not closed: what is left behind is the next one's.
                    image.open()

                _, is_killed = Child(run).wait()
                if not is_killed:
                    break
                image.counts["recoveries_killed"] += 1
            assert image.look(allowed) == found
        image.put(files)
        with closing(image.open()) as canister:
            send(canister, number)


def paying(number):
    """Return a hook that makes the transfer of message ``number``."""
    return lambda message: transfer(message, number)


def hooked(image, files, messages, model):
    """Kill two upgrades at each call; the second one makes two transfers in hooks, or none."""
    first = Hooks(pre_upgrade=paying(messages + 2), post_upgrade=paying(messages + 1))

    def grow(message):
        memory = message.memory
        memory.write(memory.grow(1) * 65_536, b"the start function")

    def upgrade(canister):
        canister.upgrade(hooks=first)
        canister.upgrade(hooks=Hooks(start=grow, post_upgrade=paying(messages + 3)))

    allowed = [model.after(messages + more) for more in (0, 1, 3)]
    found = []
    for left in cut_off(image, upgrade, files, allowed):
        image.put(left)
        found.append(image.look(allowed)[0] - messages)
    assert set(found) == {0, 1, 3}, found
    return len(found)


def life_cycle(image, messages, seed):
    """Kill a reinstallation, an upgrade, an import, a first opening and a close at each call."""
    model = Model()
    make_ledger(image.path, image.durability)
    with closing(image.open()) as canister:
        for number in range(1, messages + 1):
            send(canister, number)
    files, full = image.files(), model.after(messages)

    def each(action, files, allowed):
        return sum(1 for _ in cut_off(image, action, files, allowed))

    def reinstall(canister):
        canister.reinstall()

    def import_ledger(canister):
        canister.import_database(database)

    database = image.path.with_name("app.db")
    with closing(apsw.Connection(str(database))) as connection:
        fill(connection.execute, connection.executemany)
    image.counts["reinstall"] = each(reinstall, files, [full, None])
    image.counts["upgrade"] = each(lambda canister: canister.upgrade(), files, [full])
    image.counts["upgrade_hooks"] = hooked(image, files, messages, model)
    image.counts["close"] = each(lambda canister: canister.close(), files, [full])
    image.put(files)
    with closing(image.open()) as canister:
        canister.reinstall()
    empty = image.files()
    image.counts["import"] = each(import_ledger, empty, [None, model.after(0)])
    image.put({})
    for at in count():
        image.put({})

        def run(answer, at=at):
            KillBefore(at)
            image.open()

        _, is_killed = Child(run).wait()
        if not is_killed:
            break
        image.look([None])
        image.counts["first_opening"] += 1


SCENARIOS = {one.__name__: one for one in (commits, awaits, instants, recoveries, life_cycle)}


def main(scenario, durability, folder, number, seed):
    # Small enough that every sweep passes checkpoints, and cuts the log, now and then.
    durable.CHECKPOINT_BYTES = 100_000
    durable.LOG_BYTES_KEPT = 80_000
    durable.LOG_FILLED_BYTES = 30_000
    image = Image(folder, durability)
    try:
        SCENARIOS[scenario](image, int(number), int(seed))
    except BaseException:
        shutil.copytree(folder, f"{folder}-failed", dirs_exist_ok=True)
        sys.stderr.write(f"left in {folder}-failed; so far {dict(image.counts)}\n")
        raise
    sys.stdout.write(json.dumps(image.counts) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
