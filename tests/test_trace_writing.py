"""A trace file while it is written: who may look, and what a cut leaves."""

import gc
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sqlstable.trace.format.file as trace_file
from sqlstable.errors import TraceError
from sqlstable.report.as_table import render_table
from sqlstable.report.views import VIEWS
from sqlstable.trace.format.file import (
    TraceWriter,
    open_trace,
)
from tests.trace_by_hand import (  # noqa: F401  a fixture
    CREATION,
    MESSAGES,
    SETTINGS,
    STATEMENTS,
    assert_equal,
    path_fixture,
    scan,
    write_by_hand,
)


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_trace_is_readable_while_it_is_written(tmp_path, in_memory):
    writer = TraceWriter(None if in_memory else tmp_path / "a.trace", {})
    write_by_hand(writer, 1)
    with writer.trace() as trace:
        assert trace.messages == MESSAGES[:1]
        write_by_hand_rest(writer)
        assert trace.messages == MESSAGES[:1]
        assert trace.statements == STATEMENTS[:1]
    late = writer.trace()
    writer.close()
    assert late.messages == MESSAGES
    late.close()
    with writer.trace() as trace:
        assert trace.messages == MESSAGES
        assert trace.settings["closed"] is True


def write_by_hand_rest(writer):
    for message in MESSAGES[1:]:
        writer.write(message, [STATEMENTS[index] for index in message.statements])


def test_another_process_may_read_while_it_is_written(tmp_path):
    with TraceWriter(tmp_path / "a.trace", {}) as writer:
        write_by_hand(writer, 2)
        writer.update_settings({"depth": "counters"})
        with open_trace(tmp_path / "a.trace") as trace:
            assert trace.settings.values == {"closed": False, "depth": "counters"}
            assert trace.messages == MESSAGES[:2]
            writer.write(MESSAGES[2], [])
            writer.close()
            assert trace.statements == STATEMENTS[:3]
    with open_trace(tmp_path / "a.trace") as trace:
        assert trace.settings["closed"] is True
        assert trace.messages == MESSAGES[:3]


READING = """
import contextlib, sqlite3, sys
with contextlib.closing(sqlite3.connect(sys.argv[1])) as connection:
    print(connection.execute("SELECT count(*) FROM message").fetchone())
"""


@pytest.mark.parametrize("is_refused", [False, True])
def test_who_looks_at_a_trace_leaves_the_writer_its_log_and_its_locks(tmp_path, is_refused):
    path = tmp_path / "a.trace"
    with TraceWriter(path, {}) as writer:
        write_by_hand(writer, 1)
        writer.trace().close()
        if is_refused:
            with pytest.raises(TraceError, match="exists; remove it"):
                TraceWriter(path, {})
        else:
            open_trace(path).close()
        # The last one to close a database takes its log in and deletes it; that is not this one.
        command = [sys.executable, "-c", READING, path]
        subprocess.run(command, check=True, capture_output=True)
        assert path.with_name("a.trace-wal").exists()
        write_by_hand_rest(writer)
    with open_trace(path) as trace:
        assert trace.messages == MESSAGES


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_looking_for_a_trace_leaves_nothing_beside_another_database(tmp_path, mode):
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"PRAGMA journal_mode = {mode}; CREATE TABLE t (x)")
        for suffix in ("", "-wal"):
            if Path(f"{path}{suffix}").exists():
                shutil.copyfile(f"{path}{suffix}", tmp_path / f"copy.db{suffix}")
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    for name in ("app.db", "copy.db"):
        with pytest.raises(TraceError, match="is a SQLite database but not a trace"):
            open_trace(tmp_path / name)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_trace_shows_the_messages_of_one_moment_whatever_is_asked_first(tmp_path, in_memory):
    with TraceWriter(None if in_memory else tmp_path / "a.trace", {}) as writer:
        write_by_hand(writer, 1)
        trace = writer.trace()
        assert len(trace.statements) == 1
        write_by_hand_rest(writer)
        writer.trace().close()
        assert trace.messages == MESSAGES[:1]
        assert {run.since_message for run in trace.owners} == {0}
        with pytest.raises(TraceError, match="no statement with the index 3"):
            trace.accesses(3)
        with pytest.raises(TraceError, match="no message with the index 3"):
            trace.outside_accesses(3)
        trace.close()


@pytest.mark.slow
def test_reports_of_a_trace_that_another_process_is_writing(tmp_path):
    """One moment for everything: statements, phases, costs and messages belong together."""
    program = """
import sys
import time
from dataclasses import replace
from sqlstable.trace.format.file import TraceWriter
from tests.trace_by_hand import CREATION, MESSAGES, STATEMENTS
with TraceWriter(sys.argv[1], {"engine": "native"}) as writer:
    print("started", flush=True)
    for index in range(10**9):
        message = replace(MESSAGES[3], index=index, statements=(index,))
        statement = replace(STATEMENTS[0], index=index, message=index)
        writer.write(message, [statement], statement_accesses={index: [CREATION]})
        time.sleep(0.001)  # lest the reports get longer than anybody waits
"""
    path = tmp_path / "live.trace"
    writing = subprocess.Popen(
        [sys.executable, "-c", program, path],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    try:
        assert writing.stdout.readline() == b"started\n"
        counts = []
        while len(counts) < 8 or counts[-1] == counts[0]:
            assert writing.poll() is None
            with open_trace(path) as trace:
                if not trace.messages:
                    continue
                by = VIEWS[len(counts) % len(VIEWS)]
                assert "unfinished: " in render_table(trace, by=by)
                assert len(trace.messages) == len(trace.statements)
                assert trace.messages[-1].index == len(trace.messages) - 1
                counts.append(len(trace.messages))
        assert counts[-1] > counts[0]
        assert writing.poll() is None
    finally:
        writing.kill()
        writing.communicate()


def test_a_trace_in_memory_outlives_its_writer():
    writer = TraceWriter(None, {})
    write_by_hand(writer)
    trace = writer.trace()
    writer.close()
    del writer
    gc.collect()
    assert trace.messages == MESSAGES
    trace.close()


def test_settings_may_come_late(tmp_path):
    with TraceWriter(tmp_path / "a.trace", {"engine": "native", "closed": True}) as writer:
        writer.update_settings({"sqlite": "3.54.1", "engine": "wasm"})
        with pytest.raises(TraceError, match="the setting seed cannot be kept"):
            writer.update_settings({"seed": object()})
    with open_trace(tmp_path / "a.trace") as trace:
        assert trace.settings.values == {"engine": "wasm", "closed": True, "sqlite": "3.54.1"}


@pytest.mark.parametrize("over", [1 - trace_file.FLUSH_MESSAGES, -1, 0, 1, 300])
def test_a_run_that_is_cut_off_leaves_a_readable_trace(tmp_path, over):
    """What a killed process leaves behind is what is in its files at that moment."""
    count = trace_file.FLUSH_MESSAGES + over
    (tmp_path / "later").mkdir()
    with TraceWriter(tmp_path / "a.trace", SETTINGS, clock=float) as writer:
        for index in range(count):
            writer.write(replace(MESSAGES[2], index=index), [])
        for file in tmp_path.glob("a.trace*"):
            shutil.copy(file, tmp_path / "later" / file.name)
    with open_trace(tmp_path / "later" / "a.trace") as trace:
        assert len(trace.messages) == count // trace_file.FLUSH_MESSAGES * trace_file.FLUSH_MESSAGES
        assert trace.settings.values == {**SETTINGS, "closed": False}
    with closing(sqlite3.connect(tmp_path / "later" / "a.trace")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_leaves_its_parents_trace_alone(tmp_path):
    with TraceWriter(tmp_path / "a.trace", {}) as writer:
        writer.write(MESSAGES[2], [])
        child = os.fork()
        if not child:
            try:
                with pytest.raises(TraceError, match=f"process {os.getppid()}, of which this one"):
                    writer.write(replace(MESSAGES[2], index=7), [])
                with pytest.raises(TraceError, match="is a fork"):
                    writer.trace()
                writer.close()
            except BaseException:  # noqa: BLE001  told by the status
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        writer.write(replace(MESSAGES[2], index=8), [])
    with open_trace(tmp_path / "a.trace") as trace:
        assert [message.index for message in trace.messages] == [MESSAGES[2].index, 8]


def test_a_slow_run_can_be_watched(tmp_path):
    seconds = [0.0]
    with TraceWriter(tmp_path / "a.trace", {}, clock=lambda: seconds[0]) as writer:
        for index, now in enumerate([0.9, 1.0, 1.9, 2.1, 2.2]):
            seconds[0] = now
            writer.write(replace(MESSAGES[2], index=index), [])
        with open_trace(tmp_path / "a.trace") as trace:
            assert len(trace.messages) == 4


def test_messages_with_many_accesses_are_committed_at_once(tmp_path):
    random = np.random.default_rng(1)
    accesses = replace(scan(0, 100_000), address=random.integers(0, 2**50, 100_000))
    with TraceWriter(tmp_path / "a.trace", {}) as writer:
        writer.write(MESSAGES[0], STATEMENTS[:1], statement_accesses={0: [accesses]})
        with open_trace(tmp_path / "a.trace") as trace:
            assert_equal(trace.accesses(0), accesses)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills a process by a signal")
def test_a_killed_process_leaves_a_readable_trace(tmp_path):
    program = """
import os, signal, sys
from sqlstable.trace.format.file import TraceWriter
from sqlstable.trace.model import Message, StableUse
writer = TraceWriter(sys.argv[1], {})
for index in range(1000):
    writer.write(Message(index, "update", None, "committed", None, False, "warm", (), StableUse(),
                         (), (), 0), [])
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "a.trace"],
        check=False,
        cwd=Path(trace_file.__file__).parents[2],
    )
    assert done.returncode == -signal.SIGKILL
    with open_trace(tmp_path / "a.trace") as trace:
        # On a slow machine more of them, because a second has passed.
        assert len(trace.messages) >= 1000 - 1000 % trace_file.FLUSH_MESSAGES
        assert trace.settings["closed"] is False
    with TraceWriter(tmp_path / "a.trace", {}, overwrite=True):
        pass
    with open_trace(tmp_path / "a.trace") as trace:
        assert trace.messages == ()


@pytest.mark.slow
def test_many_small_statements_are_written_fast(tmp_path):
    count = 5000
    start = time.process_time()
    with TraceWriter(tmp_path / "a.trace", {}) as writer:
        for index in range(count):
            message = replace(MESSAGES[3], index=index, statements=(index,))
            statement = replace(STATEMENTS[3], index=index, message=index)
            writer.write(message, [statement], statement_accesses={index: [CREATION]})
    # Measured: 55 µs each. The limit leaves room for slow machines.
    assert (time.process_time() - start) / count < 0.001
    with open_trace(tmp_path / "a.trace") as trace:
        assert len(trace.statements) == count
