"""Faults through the whole stack: real files, real openings, canisters on top.

First it is shown that real openings make the very calls that are simulated in
`tests/sim/test_storage_faults.py`; then states found there are opened here, calls of real files
fail, and exceptions come from outside.
"""

import errno
import os
import sys
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from random import Random

import pytest

from sqlstable import Canister, ImageError, StableMemory, Trap
from sqlstable.memory.image import durable, imagefile
from sqlstable.memory.image.osfile import OsFile
from tests.images import (
    DURABILITIES,
    LAST,
    READERS,
    TWO,
    descriptor_count,
    files_in,
    log_of,
    make_pending,
    open_descriptors,
    refusal,
    resident_bytes,
    send,
    unchanged,
    using,
)
from tests.sim.messages import SCRIPTS, Message, Run, close_simulated, endings, models, page


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.stable"


# -- the real calls are those of the simulation ---------------------------------------------------


@pytest.fixture(autouse=True)
def _little_is_filled_ahead(monkeypatch):
    """Of a mebibyte of zeros each sector would double the states that are looked at."""
    monkeypatch.setattr(durable, "LOG_FILLED_BYTES", 512)


@pytest.fixture(autouse=True)
def short_logs(monkeypatch):
    """Logs that grow by little, so that they are grown often."""
    monkeypatch.setattr(durable, "LOG_FILLED_BYTES", 4096)


class Journal:
    """Notes the calls that a real opening makes, as the simulated storage does."""

    def __init__(self, monkeypatch):
        self.calls = []
        journal = self

        class Traced(OsFile):
            def note(self, kind, offset=0, length=0):
                name = Path(f"/proc/self/fd/{self.descriptor}").readlink().name
                journal.calls.append((name, kind, offset, length))

            def write(self, offset, parts):
                self.note("write", offset, sum(map(len, parts)))
                super().write(offset, parts)

            def write_runs(self, runs, data):
                for (start, _), part in zip(runs, data, strict=True):
                    self.write(start, (part,))

            def resize(self, size_bytes):
                self.note("resize", size_bytes)
                super().resize(size_bytes)

            def reserve(self, offset, length):
                self.note("reserve", offset, length)
                super().reserve(offset, length)

            def flush(self):
                self.note("flush")
                super().flush()

        real_open, real_unlink, real_folder = os.open, os.unlink, imagefile.flush_folder

        def opened(path, flags, *rest, **options):
            if flags & os.O_CREAT:
                self.calls.append((Path(path).name, "create", 0, 0))
            return real_open(path, flags, *rest, **options)

        def unlink(path, **options):
            self.calls.append((Path(path).name, "unlink", 0, 0))
            real_unlink(path, **options)

        def flush_folder(folder):
            self.calls.append(("", "flush_folder", 0, 0))
            real_folder(folder)

        monkeypatch.setattr(imagefile, "OsFile", Traced)
        monkeypatch.setattr(imagefile, "flush_folder", flush_folder)
        monkeypatch.setattr(os, "open", opened)
        monkeypatch.setattr(os, "unlink", unlink)


@DURABILITIES
@pytest.mark.parametrize("name", SCRIPTS)
def test_openings_messages_and_closes_make_the_calls_that_are_simulated(
    tmp_path, monkeypatch, name, durability
):
    monkeypatch.setattr(durable, "CHECKPOINT_BYTES", 16_384)
    monkeypatch.setattr(durable, "LOG_BYTES_KEPT", 16_384)
    simulated = Run(SCRIPTS[name], durability)
    simulated.open()
    simulated.go_on(2)
    left = simulated.storage.live_state()
    simulated.open()
    simulated.go_on()
    close_simulated(simulated.storage, simulated.pipeline)

    journal = Journal(monkeypatch)
    memory = StableMemory.open(tmp_path / "image", durability=durability)
    for message in SCRIPTS[name][:2]:
        send(memory, message)
    # As a kill would: only the image counts, the log has random bytes in it.
    memory.image_file._closer()
    assert (tmp_path / "image").read_bytes() == left["image"]
    assert (tmp_path / "image-log").stat().st_size == len(left["image-log"])
    memory = StableMemory.open(tmp_path / "image", durability=durability)
    for message in SCRIPTS[name][2:]:
        send(memory, message)
    memory.close()
    expected = [(one.name, one.kind, one.offset, one.length) for one in simulated.storage.calls]
    assert journal.calls == expected


def assert_opens(folder, state, allowed, durability):
    """Put a state on a real file system, and open it: to read, to write, and again."""
    for name in ("image", "image-log"):
        (folder / name).unlink(missing_ok=True)
    for name, data in state.items():
        (folder / name).write_bytes(data)
    seen = None
    if "image" in state:
        with unchanged(folder), StableMemory.open(folder / "image", is_read_only=True) as memory:
            seen = memory.image()
        assert seen in allowed
    for _ in range(2):
        with StableMemory.open(folder / "image", durability=durability) as memory:
            found = memory.image()
            assert seen is None or found == seen
            seen = found
        assert seen in allowed
        assert files_in(folder) == {"image": seen}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_states_that_a_loss_of_power_leaves_open_on_a_real_file_system(tmp_path, monkeypatch, name):
    monkeypatch.setattr(durable, "CHECKPOINT_BYTES", 16_384)
    choose = Random(name)
    for run in endings(SCRIPTS[name], "power"):
        state = run.storage.sample_power_state(choose)
        assert_opens(tmp_path, state, [*run.allowed, b""][: 2 if run.answered else 3], "process")


@pytest.mark.slow
@DURABILITIES
@pytest.mark.parametrize("name", SCRIPTS)
def test_states_that_a_kill_leaves_open_on_a_real_file_system(tmp_path, name, durability):
    for run in endings(SCRIPTS[name], durability):
        assert_opens(tmp_path, run.storage.live_state(), [*run.allowed], "process")


# -- calls that fail, through the whole stack -----------------------------------------------------


class Failing:
    """Makes one call of the files of an image fail; the calls are counted from `arm` on."""

    KINDS = ("write", "resize", "reserve", "flush")

    def __init__(self, monkeypatch):
        self.at, self.seen, self.number = None, 0, errno.EIO
        failing = self

        class Fails(OsFile):
            """Before the call, nothing of it is done."""

        def failing_call(kind):
            real = getattr(OsFile, kind)

            def call(self, *arguments):
                failing.step()
                return real(self, *arguments)

            return call

        for kind in self.KINDS:
            setattr(Fails, kind, failing_call(kind))

        def write_runs(self, runs, data):
            for (start, _), part in zip(runs, data, strict=True):
                self.write(start, (part,))

        Fails.write_runs = write_runs
        monkeypatch.setattr(imagefile, "OsFile", Fails)

    def arm(self, at, number=errno.ENOSPC):
        self.at, self.seen, self.number = at, 0, number

    def step(self):
        index, self.seen = self.seen, self.seen + 1
        if index == self.at:
            if self.number is None:
                raise KeyboardInterrupt
            raise OSError(self.number, os.strerror(self.number))


@READERS
@DURABILITIES
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=["full disk", "i/o error"])
def test_a_message_whose_calls_fail_traps_or_is_left_to_the_log(
    path, monkeypatch, durability, number, use_map
):
    monkeypatch.setattr(imagefile, "open_backing", using(use_map))
    failing = Failing(monkeypatch)
    before, after = models([*TWO, LAST])[-2:]
    outcomes = []
    for at in count():
        path.unlink(missing_ok=True)
        memory = StableMemory.open(path, durability=durability)
        for message in TWO:
            send(memory, message)
        failing.arm(at, number)
        try:
            send(memory, LAST)
        except Trap as trap:
            text = str(trap)
            assert os.strerror(number) in text
            memory.rollback()
            assert memory.image() == before == path.read_bytes()
            outcomes.append("trapped")
            # As soon as there is space again, all goes on.
            send(memory, LAST)
        else:
            if failing.seen <= at:
                failing.arm(None)
                break
            if memory.image_file._refusal is None:
                # The record could not be sealed, or the log made longer in advance: recovery has
                # more to do, or messages take longer, and that is all.
                outcomes.append("went on")
            else:
                outcomes.append("left to the log")
            for kind in ("update", "query") if outcomes[-1] == "left to the log" else ():
                with pytest.raises(ImageError, match="the last message is committed, but the"):
                    memory.begin(kind)
        failing.arm(None)
        memory.close()
        with StableMemory.open(path, durability=durability) as again:
            assert ("was not closed" in (again.image_file.recovery or "")) == (
                outcomes[-1] == "left to the log"
            )
            assert again.image() == after == path.read_bytes()
    memory.close()
    assert outcomes.count("went on") == (1 if durability == "process" else 2)
    decided = [outcome for outcome in outcomes if outcome != "went on"]
    assert decided == sorted(decided, key=["trapped", "left to the log"].index)
    assert set(decided) == {"trapped", "left to the log"}


@DURABILITIES
def test_a_close_that_fails_keeps_the_log_and_says_so(path, monkeypatch, durability):
    failing = Failing(monkeypatch)
    for at in count():
        memory = StableMemory.open(path, durability=durability)
        send(memory, Message(2, page("x", at)))
        failing.arm(at, errno.EIO)
        try:
            memory.close()
        except ImageError as error:
            text = str(error)
            assert text == (
                f"{path} could not be closed cleanly, and keeps its log: Input/output error"
            )
            assert log_of(path).exists()
            assert not open_descriptors(path.parent)
        else:
            # A note that finds no room does no harm: the flush behind it does not fail.
            noted = durability == "power" and failing.seen > at
            if not noted:
                break
    failing.arm(None)
    assert at == (1 if durability == "process" else 3)
    assert not log_of(path).exists()


@DURABILITIES
def test_an_opening_whose_calls_fail_is_refused_and_loses_nothing(path, monkeypatch, durability):
    expected = make_pending(path, durability=durability)
    failing = Failing(monkeypatch)
    for at in count():
        failing.arm(at, errno.EIO)
        try:
            memory = StableMemory.open(path, durability=durability)
        except ImageError as error:
            text = str(error)
            assert "Input/output error" in text
            assert not open_descriptors(path.parent)
            with StableMemory.open(path, is_read_only=True) as reader:
                assert reader.image() == expected
        else:
            if failing.seen <= at:
                break
            # A note that finds no room does no harm: the flush behind it does not fail.
            assert durability == "power"
            assert memory.image() == expected
            failing.arm(None)
            memory.close()
            path.unlink()
            make_pending(path, durability=durability)
    failing.arm(None)
    assert at >= 2
    assert memory.image() == expected
    memory.close()


def test_no_file_is_left_where_an_opening_fails(path, monkeypatch):
    failing = Failing(monkeypatch)
    failing.arm(0)
    assert "No space left on device" in refusal(path)
    assert files_in(path.parent) == {}


# -- an exception from outside, such as Ctrl-C ----------------------------------------------------


class InterruptAtLine:
    """Raises `KeyboardInterrupt` before a line of the commit, as a signal handler would."""

    MODULES = ("durable.py", "imagefile.py", "osfile.py", "stable.py", "commitlog.py")

    def __init__(self, at):
        self.at, self.seen = at, 0

    def trace(self, frame, event, _):
        if Path(frame.f_code.co_filename).name not in self.MODULES:
            return None
        if event == "line":
            index, self.seen = self.seen, self.seen + 1
            if index == self.at:
                raise KeyboardInterrupt
        return self.trace

    def __enter__(self):
        self.previous = sys.gettrace()
        sys.settrace(self.trace)

    def __exit__(self, *_):
        sys.settrace(self.previous)


INTERRUPTED = {
    "an update": [Message(2, {**page("last"), **page("last", at=20)})],
    "growth": [Message(4, page("far", at=50))],
    "a wipe": [Message(1, page("new", at=3), is_wiped=True)],
}


@pytest.mark.slow
@READERS
@DURABILITIES
@pytest.mark.parametrize("name", INTERRUPTED)
def test_an_exception_from_outside_at_any_line_of_a_commit_loses_nothing(
    tmp_path, monkeypatch, durability, name, use_map
):
    monkeypatch.setattr(imagefile, "open_backing", using(use_map))
    (message,) = INTERRUPTED[name]
    allowed = models([*TWO, message])[-2:]
    next_message = Message(5, page("next", at=2))
    found = set()
    for at in count():
        path = tmp_path / f"{at}.stable"
        memory = StableMemory.open(path, durability=durability)
        for one in TWO:
            send(memory, one)
        is_interrupted = False
        memory.begin("update")
        if message.is_wiped:
            memory.wipe()
        memory.grow(message.wasm_pages - memory.wasm_pages)
        for number, data in message.pages.items():
            memory.write(number << 12, data)
        try:
            with InterruptAtLine(at):
                memory.commit()
        except KeyboardInterrupt:
            is_interrupted = True
            if memory.kind is not None:
                memory.rollback()
        expected = allowed
        with suppress(ImageError):
            with memory.message("query"):
                seen = memory.image()
            # It goes on: then what it shows is what there is, and the next message comes on top.
            assert seen in allowed
            last = models([*TWO, *([message] if seen == allowed[1] else []), next_message])[-1]
            expected = [seen]
            with suppress(ImageError):
                send(memory, next_message)
                expected = [last]
        with suppress(ImageError):
            memory.close()
        with StableMemory.open(path) as again:
            assert again.image() in expected
            found.add((expected[0] == allowed[0], again.image_file.recovery is None))
        path.unlink()
        if not is_interrupted:
            break
    assert at > 30
    assert len(found) > 1


@READERS
@DURABILITIES
def test_an_exception_from_outside_in_any_call_loses_nothing(
    path, monkeypatch, durability, use_map
):
    monkeypatch.setattr(imagefile, "open_backing", using(use_map))
    failing = Failing(monkeypatch)
    allowed = models([*TWO, LAST])[-2:]
    for at in count():
        path.unlink(missing_ok=True)
        memory = StableMemory.open(path, durability=durability)
        for message in TWO:
            send(memory, message)
        failing.arm(at, None)
        try:
            send(memory, LAST)
        except KeyboardInterrupt:
            failing.arm(None)
            memory.rollback()
            try:
                memory.begin("query")
            except ImageError as error:
                text = str(error)
                assert "was cut off while it was being committed; close the image" in text
            else:
                assert memory.image() == allowed[0]
                memory.rollback()
            memory.close()
        else:
            failing.arm(None)
            memory.close()
            break
        with StableMemory.open(path) as again:
            assert again.image() in allowed
    assert at >= 4


# -- canisters on image files ---------------------------------------------------------------------


def test_a_canister_on_a_read_only_image_answers_queries_and_traps_updates(path):
    with Canister(path) as canister:
        canister.update("CREATE TABLE t (x); INSERT INTO t VALUES (7)")
    with unchanged(path.parent), Canister(path, read_only=True) as canister:
        assert canister.query("SELECT x FROM t").rows == [(7,)]
        with pytest.raises(Trap, match="is read-only, so only queries run on it"):
            canister.update("INSERT INTO t VALUES (8)")
        assert canister.query("SELECT count(*) FROM t").rows == [(1,)]


def test_a_canister_whose_commit_fails_traps_and_goes_on(path, monkeypatch):
    failing = Failing(monkeypatch)
    with Canister(path) as canister:
        canister.update("CREATE TABLE t (x)")
        before = path.read_bytes()
        failing.arm(0)
        with pytest.raises(Trap, match="No space left on device"):
            canister.update("INSERT INTO t VALUES (zeroblob(300000))")
        failing.arm(None)
        assert path.read_bytes()[: len(before)] == before
        assert canister.query("SELECT count(*) FROM t").rows == [(0,)]
        canister.update("INSERT INTO t VALUES (zeroblob(300000))")
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
    with Canister(path) as canister:
        assert canister.recovery is None
        assert canister.query("SELECT length(x) FROM t").rows == [(300_000,)]


@DURABILITIES
def test_a_canister_whose_image_fails_behind_the_commit_is_finished_at_the_next_opening(
    path, monkeypatch, durability
):
    failing = Failing(monkeypatch)
    found = []
    for at in count():
        path.unlink(missing_ok=True)
        canister = Canister(path, durability=durability)
        canister.update("CREATE TABLE t (x)")
        failing.arm(at, errno.EIO)
        try:
            canister.update("INSERT INTO t VALUES (zeroblob(300000))")
            answered = True
        except Trap:
            answered = False
        is_over = failing.seen <= at
        failing.arm(None)
        if answered and canister.memory.image_file._refusal is not None:
            with pytest.raises(ImageError, match="is committed, but the image could not"):
                canister.query("SELECT 1")
        canister.close()
        with Canister(path) as again:
            assert again.query("SELECT count(*) FROM t").rows == [(int(answered),)]
            assert again.query("PRAGMA integrity_check").rows == [("ok",)]
        if is_over:
            break
        found.append(answered)
    assert set(found) == {False, True}


@pytest.mark.slow
@DURABILITIES
def test_ctrl_c_at_any_line_of_a_canisters_commit_loses_nothing(tmp_path, durability):
    found = set()
    for at in count(step=3):
        path = tmp_path / f"{at}.stable"
        canister = Canister(path, durability=durability, bucket_pages=1)
        canister.update("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
        answered = False
        with suppress(KeyboardInterrupt), interrupted_commit(canister.memory, at) as interrupt:
            canister.update("INSERT INTO t VALUES (zeroblob(90000))")
            answered = True
        with suppress(ImageError):
            canister.close()
        with Canister(path) as again:
            ((rows,),) = again.query("SELECT count(*) FROM t").rows
            assert again.query("PRAGMA integrity_check").rows == [("ok",)]
        assert rows == 2 if answered else rows in {1, 2}
        found.add(rows)
        path.unlink()
        if interrupt.seen <= at:
            break
    assert answered
    assert found == {1, 2}


@contextmanager
def interrupted_commit(memory, at):
    """Interrupt the commits of a memory at a line."""
    interrupt = InterruptAtLine(at)
    real = memory.commit

    def commit():
        with interrupt:
            real()

    memory.commit = commit
    yield interrupt


def test_a_refused_canister_leaves_nothing_open(path):
    with Canister(path), pytest.raises(ImageError, match="is open in this process already"):
        Canister(path)
    assert not open_descriptors(path.parent)
    path.write_bytes(b"x" * 65_536)
    with unchanged(path.parent), pytest.raises(ImageError):
        Canister(path)
    assert not open_descriptors(path.parent)


@pytest.mark.slow
def test_hundreds_of_canisters_leak_neither_descriptors_nor_memory(path):
    with Canister(path) as canister:
        canister.update("CREATE TABLE t (x); INSERT INTO t VALUES (1)")

    def use(times):
        for _ in range(times):
            with Canister(path) as canister:
                canister.update("UPDATE t SET x = x + 1")

    use(40)
    before = resident_bytes(), descriptor_count()
    use(300)
    assert resident_bytes() - before[0] < 8 << 20
    assert descriptor_count() == before[1]
