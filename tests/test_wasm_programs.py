"""Programs of the wasm engine: compiled modules that are kept, and small they stay."""

import os
import random
import sys
from pathlib import Path

import pytest

import sqlstable
import sqlstable.testing
from sqlstable import (
    Canister,
    SqlstableError,
    StableMemory,
    Trap,
)
from sqlstable.ic.limits import NO_LIMIT
from sqlstable.wasm import cache
from tests.wasm_world import canister_fixture, filled_fixture, made  # noqa: F401  fixtures

# -- compiled modules ----------------------------------------------------------------------------


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache.cache_folder()


def test_the_cache_keeps_what_is_whole_and_its_own(cache_folder):
    key = cache.key_of("a")
    assert cache.load(key) is None
    cache.keep(key, b"compiled")
    assert cache.load(key) == b"compiled"
    assert cache_folder.stat().st_mode & 0o777 == 0o700
    path = cache_folder / key
    for damaged in (b"", path.read_bytes()[:-1], path.read_bytes()[:-1] + b"X"):
        whole = path.read_bytes()
        path.write_bytes(damaged)
        assert cache.load(key) is None
        path.write_bytes(whole)
    other = cache_folder / cache.key_of("b")
    path.replace(other)
    assert cache.load(cache.key_of("b")) is None


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
def test_the_cache_loads_nothing_that_others_may_write(cache_folder, tmp_path):
    key = cache.key_of("a")
    cache.keep(key, b"compiled")
    (cache_folder / key).chmod(0o666)
    assert cache.load(key) is None
    (cache_folder / key).chmod(0o600)
    elsewhere = tmp_path / "elsewhere"
    (cache_folder / key).replace(elsewhere)
    (cache_folder / key).symlink_to(elsewhere)
    assert cache.load(key) is None
    (cache_folder / key).unlink()
    elsewhere.replace(cache_folder / key)
    assert cache.load(key) == b"compiled"
    cache_folder.chmod(0o777)
    assert cache.load(key) is None
    cache.keep(key, b"other")
    cache_folder.chmod(0o700)
    assert cache.load(key) == b"compiled"


WAT = """
(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "call_perform" (func $known (result i32)))
  (memory 1)
  (func (export "canister_init"))
  (func (export "canister_update reply") (call $reply))
  (func (export "canister_update known") (drop (call $known))))
"""


def test_system_calls_that_cannot_be_made_trap_with_their_names(cache_folder):
    machine = made(WAT)
    machine.begin_message(1 << 40, NO_LIMIT, NO_LIMIT)
    machine.start("canister_init", b"")
    assert machine.call("canister_update reply", b"") == b""
    texts = {"known": "ic0.call_perform called when no call"}
    for name, text in texts.items():
        with pytest.raises(Trap, match=text):
            machine.call(f"canister_update {name}", b"")
        machine.rollback(is_new_heap=False)
        machine.begin_message(1 << 40, NO_LIMIT, NO_LIMIT)


def test_imports_from_elsewhere_are_refused(cache_folder):
    wat = '(module (import "wasi_snapshot_preview1" "fd_write" (func)) (memory 1))'
    with pytest.raises(sqlstable.errors.ModuleError, match="wasi2ic"):
        made(wat)


# -- staying small -------------------------------------------------------------------------------


def resident_bytes():
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_many_messages_and_upgrades_keep_no_memory(filled):
    def go_on(messages, upgrades):
        for index in range(messages):
            if index % 2:
                filled.query("SELECT body FROM t WHERE id = ?", (index % 300,))
            else:
                filled.update("UPDATE t SET body = ? WHERE id = ?", (f"b{index}", index % 300))
            if upgrades and index % (messages // upgrades) == 0:
                filled.upgrade()

    go_on(100, 10)
    before = resident_bytes()
    go_on(2000, 200)
    assert resident_bytes() - before < 25_000_000


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["managed", "raw"])
def test_damaged_images_give_errors_and_never_a_crash(layout):
    with Canister(layout=layout) as canister:
        canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")
        canister.update("CREATE INDEX t_x ON t (x)")
        rows = [(number, "x" * (number % 90)) for number in range(400)]
        with canister.message() as message:
            message.executemany("INSERT INTO t VALUES (?, ?)", rows)
        image = canister.image()
    start = 65_536 if layout == "managed" else 0
    draw, refused = random.Random(layout), 0
    for _ in range(40):
        damaged = bytearray(image)
        # The manager's tables, or the header and B-trees of the database.
        first = draw.choice((0, start, start))
        for _ in range(draw.randrange(1, 6)):
            damaged[first + int(draw.random() ** 3 * 60_000)] = draw.randrange(256)
        try:
            memory = StableMemory.from_image(bytes(damaged))
            with Canister(memory=memory, engine="wasm", layout=layout) as canister:
                canister.query("SELECT count(*), max(x) FROM t")
                canister.update("UPDATE t SET x = x || 'y'")
                canister.query("PRAGMA integrity_check")
        except SqlstableError:
            refused += 1
    assert 0 < refused < 40
