"""What a trace file refuses: to read what is damaged or foreign, and to write over it."""

import gc
import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import replace

import pytest

import sqlstable.trace.format.file as trace_file
from sqlstable import Canister
from sqlstable.errors import TraceError
from sqlstable.trace.format.file import (
    TRACE_FORMAT_VERSION,
    TraceWriter,
    open_trace,
)
from tests.sim.cutting import Cut, Places
from tests.trace_by_hand import (  # noqa: F401  fixtures
    CREATION,
    MESSAGES,
    SETTINGS,
    STATEMENTS,
    WITHOUT_END,
    assert_by_hand,
    assert_equal,
    documented_tables,
    path_fixture,
    plain_fixture,
    write_by_hand,
)

# Refusals to read -----------------------------------------------------------------------------


def refusal(path):
    with pytest.raises(TraceError) as refused:
        open_trace(path)
    return str(refused.value)


def test_a_missing_file(tmp_path):
    missing = tmp_path / "none.trace"
    assert refusal(missing).startswith(f"there is no trace file {missing}; sqlstable run")
    assert list(tmp_path.iterdir()) == []


def test_a_folder(tmp_path):
    assert "cannot be read: Is a directory" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"SQLite format 3\0", bytes(4096)])
def test_no_sqlite_file(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert refusal(tmp_path / "a").endswith("is not a trace: it is not a SQLite file")


def test_a_database_that_is_no_trace(tmp_path):
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        connection.execute("CREATE TABLE t (a)")
    text = refusal(tmp_path / "app.db")
    assert "is a SQLite database but not a trace" in text
    assert "0x00000000" in text
    assert "0x53715374" in text


@pytest.mark.parametrize("version", [0, TRACE_FORMAT_VERSION + 1, 2**31 - 1])
def test_another_format_version(path, plain, version):
    plain.execute(f"PRAGMA user_version = {version}")
    assert refusal(path) == (
        f"{path} has trace format version {version}, and this sqlstable reads up to "
        f"{TRACE_FORMAT_VERSION}; upgrade sqlstable"
    )


def read_everything(path):
    with open_trace(path) as trace:
        for message in trace.messages:
            trace.outside_accesses(message)
        for statement in trace.statements:
            trace.accesses(statement)
        _ = trace.owners, trace.areas, trace.owner_faults, trace.schema, trace.trees
        for _ in trace.access_blocks():
            pass


def assert_damaged(path):
    before = path.read_bytes()
    with pytest.raises(TraceError, match="damaged"):
        read_everything(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("table", sorted(documented_tables() - {"message"}))
def test_a_lost_table(path, plain, table):
    plain.execute("PRAGMA legacy_alter_table = ON")
    plain.execute(f"ALTER TABLE {table} RENAME TO lost")
    assert_damaged(path)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE settings SET value = '{' WHERE name = 'engine'",
        "UPDATE settings SET value = x'ff' WHERE name = 'engine'",
        "UPDATE message SET kind = CAST(x'ff' AS TEXT)",
        "DELETE FROM sql_text",
        "DELETE FROM statement_phase WHERE phase = 'run'",
        "DELETE FROM plan",
        "UPDATE statement_accesses SET block = x'' WHERE statement_index = 1",
        "UPDATE statement_accesses SET block = substr(block, 1, 20) WHERE statement_index = 1",
        "UPDATE statement_accesses SET block = 5",
        "UPDATE outside_accesses SET block = x'0102030405'",
    ],
)
def test_lost_rows_and_wrong_values(path, plain, damage):
    plain.execute(damage)
    plain.commit()
    assert_damaged(path)


def test_a_file_cut_short(path):
    path.write_bytes(path.read_bytes()[:20_000])
    assert_damaged(path)


@pytest.mark.slow
def test_any_damaged_part_raises_nothing_but_trace_errors(path):
    content = path.read_bytes()
    for start in range(100, len(content), 499):
        path.write_bytes(content[:start] + b"\xff" * 64 + content[start + 64 :])
        with suppress(TraceError):
            read_everything(path)


def test_a_damaged_block_names_its_place(path, plain):
    plain.execute("UPDATE statement_accesses SET block = x'00' WHERE statement_index = 1")
    plain.commit()
    with open_trace(path) as trace:
        with pytest.raises(TraceError, match=r"run\.trace, statement 1: a block .* is damaged"):
            trace.accesses(1)
        assert_equal(trace.accesses(0), CREATION)


@pytest.mark.slow
def test_a_locked_file(path, plain):
    plain.execute("BEGIN EXCLUSIVE")
    assert refusal(path) == f"{path} cannot be read now: database is locked; try again later"


def test_a_cut_off_trace_alone_in_a_folder_that_allows_no_further_file(tmp_path):
    with TraceWriter(tmp_path / "a.trace", {}):
        shutil.copy(tmp_path / "a.trace", tmp_path / "b.trace")
    # A file that nobody can create, not even an administrator: there is a folder of its name.
    (tmp_path / "b.trace-wal").mkdir()
    assert refusal(tmp_path / "b.trace").endswith(
        "unable to open database file; if its run was cut off, copy it with its -wal file to a "
        "writable folder"
    )


# Refusals to write ----------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("content", [b"", b"precious", b"SQLite format 3\0" + bytes(500)])
def test_a_foreign_file_is_never_replaced(tmp_path, content, overwrite):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(TraceError, match="exists and is not a trace; choose another file"):
        TraceWriter(tmp_path / "a", {}, overwrite=overwrite)
    assert (tmp_path / "a").read_bytes() == content


def test_a_folder_is_never_replaced(tmp_path):
    with pytest.raises(TraceError, match="is not a trace"):
        TraceWriter(tmp_path, {}, overwrite=True)


def test_a_trace_is_replaced_only_when_asked_for(path):
    before = path.read_bytes()
    with pytest.raises(TraceError, match="exists; remove it, choose another file, or ask for"):
        TraceWriter(path, {})
    assert path.read_bytes() == before
    with TraceWriter(path, {}, overwrite=True) as writer:
        write_by_hand(writer, 1)
    with open_trace(path) as trace:
        assert trace.messages == MESSAGES[:1]


def test_a_trace_that_is_being_written_is_never_replaced(tmp_path):
    path, link = tmp_path / "a.trace", tmp_path / "link"
    writer = TraceWriter(path, {})
    write_by_hand(writer, 1)
    link.symlink_to(path)
    for name in (path, link):
        with pytest.raises(TraceError) as refused:
            TraceWriter(name, {}, overwrite=True)
        assert str(refused.value) == (
            f"{name} is still being written; close its canister, let its run end, or choose "
            "another file"
        )
    # A reader of it, which SQLite lets go of its own locks for, changes nothing about that.
    open_trace(path).close()
    with pytest.raises(TraceError, match="still being written"):
        TraceWriter(path, {}, overwrite=True)
    reader = writer.trace()
    writer.close()
    with open_trace(path) as trace:
        assert trace.messages == MESSAGES[:1]
    with reader, TraceWriter(path, {}, overwrite=True):
        assert reader.messages == MESSAGES[:1]


def test_a_trace_of_a_canister_that_nobody_has_any_more_is_replaced(tmp_path):
    path = tmp_path / "a.trace"
    gc.disable()
    try:
        Canister(trace=path).update("CREATE TABLE t (a)")
        with Canister(trace=path, overwrite_trace=True) as canister:
            canister.query("SELECT 1")
    finally:
        gc.enable()
    with open_trace(path) as trace:
        assert [message.kind for message in trace.messages] == ["install", "query"]


def test_a_trace_that_another_process_is_writing_is_never_replaced(tmp_path):
    path = tmp_path / "a.trace"
    program = (
        "import sys; from sqlstable.trace.format.file import TraceWriter;"
        "writer = TraceWriter(sys.argv[1], {}); print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        with pytest.raises(TraceError, match="still being written"):
            TraceWriter(path, {}, overwrite=True)
        child.kill()
    TraceWriter(path, {}, overwrite=True).close()


def test_a_forked_child_neither_keeps_nor_gives_up_the_lock_of_its_parent(tmp_path):
    path = tmp_path / "a.trace"
    writer = TraceWriter(path, {})
    child = os.fork()
    if not child:
        writer.close()
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(TraceError, match="still being written"):
        TraceWriter(path, {}, overwrite=True)
    gate, opened = os.pipe()
    child = os.fork()
    if not child:
        os.close(opened)
        os.read(gate, 1)
        os._exit(0)
    writer.close()
    TraceWriter(path, {}, overwrite=True).close()
    os.close(opened)
    os.waitpid(child, 0)


def test_bad_settings_leave_an_existing_trace_alone(path):
    before = path.read_bytes()
    for value in ({1, 2}, float("nan"), object()):
        with pytest.raises(TraceError, match="the setting engine cannot be kept as JSON"):
            TraceWriter(path, {"engine": value}, overwrite=True)
    assert path.read_bytes() == before


def test_a_missing_folder(tmp_path):
    with pytest.raises(TraceError, match="cannot be written: unable to open"):
        TraceWriter(tmp_path / "none" / "a.trace", {})


def test_nothing_is_added_to_a_closed_trace(tmp_path):
    writer = TraceWriter(tmp_path / "a.trace", {})
    writer.close()
    writer.close()
    with pytest.raises(TraceError, match="is closed; nothing more can be added"):
        write_by_hand(writer)
    with pytest.raises(TraceError, match="is closed; nothing more can be added"):
        writer.update_settings({})


def test_messages_out_of_order_are_refused(tmp_path):
    writer = TraceWriter(tmp_path / "a.trace", {})
    writer.write(MESSAGES[2], [])
    writer.write(MESSAGES[2], [])
    with pytest.raises(TraceError, match="cannot be written: UNIQUE constraint failed"):
        writer.update_settings({})
    writer.close()


def test_a_flush_that_is_cut_off_anywhere_writes_each_message_once():
    for at in itertools.count(1, 3):
        with TraceWriter(None, {}) as writer:
            write_by_hand(writer, 1)
            places = Places(at)
            with suppress(Cut), places:
                writer.update_settings({"depth": "counters"})
            writer.write(MESSAGES[2], [])
            with writer.trace() as trace:
                assert trace.messages == (MESSAGES[0], MESSAGES[2]), places.where
        if places.where is None:
            break
    assert at > 20


def test_a_full_disk_keeps_what_was_committed(tmp_path):
    writer = TraceWriter(tmp_path / "a.trace", {}, clock=float)
    write_by_hand(writer, 1)
    writer.update_settings({"depth": "counters"})
    writer._shared.connection.execute("PRAGMA max_page_count = 1")
    writer.write(MESSAGES[2], [])
    large = replace(MESSAGES[2], trap="x" * 100_000)
    for index in range(3, 1 + trace_file.FLUSH_MESSAGES):
        writer.write(replace(large, index=index), [])
    with pytest.raises(TraceError, match="cannot be written: database or disk is full"):
        writer.write(replace(large, index=98), [])
    with pytest.raises(TraceError, match="disk is full; nothing more can be added"):
        writer.write(replace(MESSAGES[2], index=99), [])
    with writer.trace() as trace:
        assert trace.messages == MESSAGES[:1]
    writer.close()
    with open_trace(tmp_path / "a.trace") as trace:
        assert trace.messages == MESSAGES[:1]
        assert trace.settings.values == {"depth": "counters", "closed": False}


def test_accesses_that_fail_leave_no_part_of_their_message():
    def failing():
        yield CREATION
        raise ArithmeticError

    with TraceWriter(None, {}) as writer:
        with pytest.raises(ArithmeticError):
            writer.write(MESSAGES[0], STATEMENTS[:1], statement_accesses={0: failing()})
        write_by_hand(writer, 2)
        with writer.trace() as trace:
            assert trace.messages == MESSAGES[:2]


class InterruptedOnce(list):
    """Rows during whose insertion somebody presses Ctrl-C, once."""

    interrupted = False

    def __iter__(self):
        if not self.interrupted:
            self.interrupted = True
            raise KeyboardInterrupt
        return super().__iter__()


def test_an_interrupt_loses_nothing(tmp_path):
    writer = TraceWriter(tmp_path / "a.trace", SETTINGS)
    write_by_hand(writer)
    writer._rows["statement_phase"] = InterruptedOnce(writer._rows["statement_phase"])
    with pytest.raises(KeyboardInterrupt):
        writer.trace()
    writer.close()
    with open_trace(tmp_path / "a.trace") as trace:
        assert_by_hand(trace, **WITHOUT_END)
