"""Canisters that keep their stable memory in a file, and canisters that threads share."""

import gc
import os
import threading
from functools import partial
from pathlib import Path

import apsw
import pytest

from sqlstable import (
    Canister,
    CanisterModule,
    ImageError,
    MessageError,
    SettingsError,
    SqlError,
    StableMemory,
    TraceError,
    Trap,
    open_trace,
)
from sqlstable.testing import trap_at
from tests.test_cli import call

ACCOUNTS = "CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER)"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.stable"


def balances(canister):
    return canister.query("SELECT id, balance FROM account ORDER BY id").rows


@pytest.mark.parametrize("durability", [None, "process", "power"])
@pytest.mark.parametrize("layout", ["managed", "raw"])
def test_a_file_keeps_what_memory_would_have_kept(path, layout, durability):
    in_memory = Canister(layout=layout)
    with Canister(path, layout=layout, durability=durability) as canister:
        for each in (in_memory, canister):
            each.update(ACCOUNTS)
            each.update("INSERT INTO account VALUES (1, 10), (2, 20)")
            with pytest.raises(SqlError):
                each.update("INSERT INTO account VALUES (3, 30), (1, 1)")
            each.upgrade()
            each.update("UPDATE account SET balance = balance + 1")
        assert canister.image() == in_memory.image()
        assert canister.status().settings["durability"] == (durability or "process")
    assert path.read_bytes() == in_memory.image()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_file_is_gone_on_with(path):
    with Canister(path) as canister:
        canister.update(ACCOUNTS)
        canister.update("INSERT INTO account VALUES (1, 10)")
        assert canister.recovery is None
    before = path.read_bytes()
    with Canister(path) as canister:
        assert balances(canister) == [(1, 10)]
    assert path.read_bytes() == before
    with Canister(path, page_size=8192) as canister:
        assert canister.settings.page_size == 4096
        canister.update("INSERT INTO account VALUES (2, 20)")
    with Canister(memory=StableMemory.from_image(path)) as copy:
        assert balances(copy) == [(1, 10), (2, 20)]


def test_a_read_only_canister_answers_queries_and_traps_updates(path):
    with Canister(path) as canister:
        canister.update(ACCOUNTS)
        canister.update("INSERT INTO account VALUES (1, 10)")
    before = path.read_bytes()
    with Canister(path, read_only=True) as canister:
        assert balances(canister) == [(1, 10)]
        reply = canister.query("UPDATE account SET balance = 0; SELECT balance FROM account")
        assert reply.rows == [(0,)]
        for change in (
            lambda: canister.update("UPDATE account SET balance = 0"),
            canister.upgrade,
            canister.reinstall,
        ):
            with pytest.raises(Trap, match="read-only, so only queries run"):
                change()
        assert balances(canister) == [(1, 10)]
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_arguments_that_do_not_go_together_are_refused_before_anything_is_made(path):
    with pytest.raises(SettingsError, match="both"):
        Canister(path, memory=StableMemory())
    with pytest.raises(SettingsError, match="durability concerns an image file"):
        Canister(durability="power")
    with pytest.raises(SettingsError, match="read_only concerns an image file"):
        Canister(read_only=True)
    with pytest.raises(SettingsError, match="durability is 'paper'"):
        Canister(path, durability="paper")
    with pytest.raises(SettingsError, match="page_size"):
        Canister(path, page_size=1000)
    with pytest.raises(ImageError, match="there is no image file"):
        Canister(path, read_only=True)
    assert not path.exists()


def test_a_trap_at_any_access_leaves_the_file_as_it_was(path):
    with Canister(path) as canister:
        canister.update(ACCOUNTS)
        canister.update("INSERT INTO account VALUES (1, 10), (2, 20)")
        before, number = path.read_bytes(), -1
        while True:
            number += 1
            try:
                with trap_at(canister, number):
                    canister.update("UPDATE account SET balance = balance + 1")
            except Trap:
                assert path.read_bytes() == before
                assert balances(canister) == [(1, 10), (2, 20)]
                continue
            break
        assert number >= 1
        assert balances(canister) == [(1, 11), (2, 21)]


# -- reinstallation -------------------------------------------------------------------------------


@pytest.mark.parametrize("is_file", [False, True])
def test_a_reinstallation_leaves_a_new_canister(path, is_file):
    fresh = Canister()
    canister = Canister(path if is_file else None)
    canister.update(ACCOUNTS)
    canister.update("INSERT INTO account VALUES (1, zeroblob(9000000))")
    assert canister.memory.wasm_pages > fresh.memory.wasm_pages
    canister.reinstall()
    assert canister.image() == fresh.image()
    for each in (fresh, canister):
        each.update("CREATE TABLE other (x); INSERT INTO other VALUES (7)")
    assert canister.image() == fresh.image()
    assert canister.query("SELECT x FROM other").rows == [(7,)]
    canister.close()
    if is_file:
        assert path.read_bytes() == fresh.image()


@pytest.mark.parametrize("is_file", [False, True])
def test_a_reinstallation_that_fails_leaves_the_old_canister(path, is_file):
    canister = Canister(path if is_file else None)
    canister.update(ACCOUNTS)
    canister.update("INSERT INTO account VALUES (1, 10)")
    before = canister.image()
    failures = iter([None, RuntimeError("not this time")])

    def set_up(connection):
        failure = next(failures, None)
        if failure is not None:
            raise failure

    canister.on_connect(set_up)
    with pytest.raises(RuntimeError, match="not this time"):
        canister.reinstall()
    assert canister.image() == before
    assert balances(canister) == [(1, 10)]
    canister.update("INSERT INTO account VALUES (2, 20)")
    assert balances(canister) == [(1, 10), (2, 20)]
    canister.close()


# -- threads --------------------------------------------------------------------------------------


def in_thread(action):
    """Run an action in a thread of its own; returns what it raised, or None."""
    raised = []

    def run():
        try:
            action()
        except Exception as error:  # noqa: BLE001  the caller looks at it
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    return raised[0] if raised else None


def test_threads_that_share_a_canister_run_one_message_after_the_other(path):
    canister = Canister(path)
    canister.update(ACCOUNTS)
    canister.update("INSERT INTO account VALUES (1, 0)")
    rounds, problems = 25, []

    def work():
        try:
            for _ in range(rounds):
                with canister.message("update") as message:
                    ((balance,),) = message.execute("SELECT balance FROM account")
                    message.execute("UPDATE account SET balance = ?", (balance + 1,))
                canister.query("SELECT count(*) FROM account")
        except Exception as error:  # noqa: BLE001  the main thread looks at it
            problems.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []
    # Read and written in one message each, so no increment is lost.
    assert balances(canister) == [(1, 4 * rounds)]
    canister.close()


def test_a_message_is_ended_by_the_thread_that_began_it():
    with Canister() as canister:
        canister.update(ACCOUNTS)
        with canister.message("update") as message:
            message.execute("INSERT INTO account VALUES (1, 10)")
            error = in_thread(lambda: message.__exit__(None, None, None))
            assert isinstance(error, MessageError)
            assert "by the thread that began it" in str(error)
            message.execute("INSERT INTO account VALUES (2, 20)")
        assert balances(canister) == [(1, 10), (2, 20)]


def test_a_refused_message_leaves_the_canister_to_other_threads():
    with Canister() as canister:
        canister.update(ACCOUNTS)
        with canister.message("update"), pytest.raises(MessageError, match="one message at a"):
            canister.update("INSERT INTO account VALUES (1, 10)")
        assert in_thread(lambda: canister.update("INSERT INTO account VALUES (2, 20)")) is None
        assert balances(canister) == [(2, 20)]


# -- many -----------------------------------------------------------------------------------------


PROCESS = Path("/proc/self")


def resident_bytes():
    return int((PROCESS / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptor_count():
    return sum(1 for _ in (PROCESS / "fd").iterdir())


@pytest.mark.slow
@pytest.mark.skipif(not PROCESS.exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("is_file", [False, True])
def test_a_thousand_canisters_leak_neither_memory_nor_names_nor_descriptors(path, is_file):
    def one():
        with Canister(path if is_file else None, depth="pages") as canister:
            canister.update("CREATE TABLE IF NOT EXISTS t (x)")
            canister.update("INSERT INTO t VALUES (1)")
            canister.query("SELECT * FROM t")

    for _ in range(100):
        one()
    gc.collect()
    names, descriptors = len(apsw.vfs_names()), descriptor_count()
    before = resident_bytes()
    for _ in range(1000):
        one()
    assert len(apsw.vfs_names()) == names
    assert descriptor_count() == descriptors
    assert resident_bytes() - before < 10_000_000


def test_a_trace_of_an_open_canister_is_not_taken_over(tmp_path):
    trace, image = tmp_path / "a.trace", tmp_path / "a.stable"
    with Canister(trace=trace) as first:
        first.update("CREATE TABLE t (a)")
        module = partial(CanisterModule, "@counter.wasm", image=image)
        for begin in (partial(Canister, image), module):
            with pytest.raises(TraceError, match=r"a\.trace is still being written; close its"):
                begin(trace=trace, overwrite_trace=True)
        refused = call("run", "-", "--trace", str(trace), "--force", stdin="SELECT 1;")
        assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
        assert "a.trace is still being written" in refused.stderr
        # Nor is anything else made.
        assert not image.exists()
        first.update("CREATE TABLE u (a)")
    with open_trace(trace) as kept:
        assert [statement.sql for statement in kept.statements][-1] == "CREATE TABLE u (a)"
    Canister(image, trace=trace, overwrite_trace=True).close()
