"""The wasm engine on images and settings: what goes together, from the command line too."""

import json
import os
import signal
import subprocess
import sys

import pytest
from jsonschema import Draft202012Validator

import sqlstable
import sqlstable.testing
from sqlstable import (
    Canister,
    ImageError,
    SettingsError,
    Trap,
)
from sqlstable.memory.image.imagefile import ImageFile
from sqlstable.report.json_schema import report_schema
from sqlstable.wasm import calls, overlay
from tests.children import run_child
from tests.wasm_world import canister_fixture, costs, fill, filled_fixture  # noqa: F401  fixtures

# -- images --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "growth"), [("managed", "bucket"), ("managed", "wasm-page"), ("raw", "bucket")]
)
def test_either_engine_opens_the_image_of_the_other(layout, growth):
    images = []
    for engine in ("native", "wasm"):
        with Canister(engine=engine, layout=layout, growth=growth) as canister:
            fill(canister)
            images.append(canister.image())
    assert images[0] == images[1]
    memory = sqlstable.StableMemory.from_image(images[0])
    with Canister(engine="wasm", layout=layout, memory=memory) as canister:
        canister.update("DELETE FROM t WHERE id > 9")
        canister.update("VACUUM")
        image = canister.image()
    memory = sqlstable.StableMemory.from_image(image)
    with Canister(layout=layout, memory=memory) as canister:
        assert canister.query("SELECT count(*) FROM t").rows == [(10,)]
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]


def test_a_database_comes_in_and_goes_out(tmp_path, filled):
    filled.extract_database(tmp_path / "app.db")
    with Canister(engine="wasm", page_size=1024) as canister:
        canister.import_database(tmp_path / "app.db")
        assert canister.settings.page_size == 4096
        assert canister.query("SELECT count(*) FROM t").rows == [(300,)]
        canister.update("PRAGMA page_size = 8192; VACUUM")
        assert canister.settings.page_size == 8192
        assert canister.status().database_size_bytes % 8192 == 0


def test_an_image_file_survives(tmp_path):
    path = tmp_path / "ledger.stable"
    with Canister(path, engine="wasm") as canister:
        fill(canister)
        image = canister.image()
    assert path.read_bytes() == image
    with Canister(path) as native:
        assert native.query("SELECT count(*) FROM t").rows == [(300,)]
        native.update("DELETE FROM t WHERE id = 1")
    with Canister(path, engine="wasm") as canister:
        assert canister.query("SELECT count(*) FROM t").rows == [(299,)]
        with pytest.raises(Trap), canister.message() as message:  # noqa: PT012
            message.execute("DELETE FROM t")
            message.trap()
        assert canister.query("SELECT count(*) FROM t").rows == [(299,)]
        canister.reinstall()
        canister.update("CREATE TABLE after (x)")
        image = canister.image()
    assert path.read_bytes() == image


@pytest.mark.parametrize("is_mapped", [True, False])
def test_an_image_is_the_same_however_it_is_laid_over_stable_memory(
    tmp_path, monkeypatch, is_mapped
):
    if not is_mapped:
        monkeypatch.setattr(ImageFile, "map_descriptor", None)
    monkeypatch.setattr(overlay, "DROPPED_BYTES", 1 << 16)
    path = tmp_path / "ledger.stable"
    with Canister(engine="wasm", bucket_pages=1) as plain:
        for _ in range(2):
            with Canister(path, engine="wasm", bucket_pages=1) as canister:
                for one in (plain, canister):
                    one.update("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, x)")
                    for index in range(60):
                        sql = "INSERT INTO t (x) VALUES (printf('%.*c', ?, 'x'))"
                        one.update(sql, (index * 200,))
                        one.update("UPDATE t SET x = x || '!' WHERE id % 7 = ?", (index % 7,))
                        one.query("DELETE FROM t")
                    one.upgrade()
                assert canister.image()[65_536:] == plain.image()[65_536:]
            assert path.read_bytes()[65_536:] == plain.image()[65_536:]


KILLED = """
import sys, sqlstable
canister = sqlstable.Canister(sys.argv[1], engine="wasm")
canister.update("CREATE TABLE IF NOT EXISTS t (x)")
while True:
    with canister.message() as message:
        message.executemany("INSERT INTO t VALUES (?)", [("x" * 900,)] * 5)
    print(canister.query("SELECT count(*) FROM t").rows[0][0], flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX's")
def test_what_was_answered_is_there_after_a_kill(tmp_path):
    path = tmp_path / "killed.stable"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    )
    answered = 0
    while answered < 400:
        answered = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read().split()
    process.wait()
    process.stdout.close()
    answered = int(rest[-1]) if rest and rest[-1].isdigit() else answered
    with Canister(path, engine="wasm") as canister:
        assert canister.query("SELECT count(*) FROM t").rows[0][0] >= answered
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]


def test_a_read_only_image_takes_queries(tmp_path):
    path = tmp_path / "ledger.stable"
    with Canister(path, engine="wasm") as canister:
        fill(canister)
    before = path.read_bytes()
    with Canister(path, engine="wasm", read_only=True) as canister:
        for _ in range(2):
            assert canister.query("SELECT count(*) FROM t").rows == [(300,)]
        with pytest.raises(Trap, match="read-only"):
            canister.update("DELETE FROM t")
        assert canister.query("DELETE FROM t").discarded_writes
        assert canister.query("SELECT count(*) FROM t").rows == [(300,)]
    assert path.read_bytes() == before


def test_images_of_something_else_are_refused(tmp_path):
    memory = sqlstable.StableMemory.from_image(b"MGX".ljust(65_536, b"\1"))
    with pytest.raises(ImageError):
        Canister(engine="wasm", memory=memory)
    with Canister() as canister:
        canister.update("CREATE TABLE t (x)")
        image = bytearray(canister.image())
    at = image.index(b"SQLite format 3") + 18
    image[at : at + 2] = b"\2\2"
    memory = sqlstable.StableMemory.from_image(bytes(image))
    with pytest.raises(ImageError, match="WAL mode"):
        Canister(engine="wasm", memory=memory)


# -- settings ------------------------------------------------------------------------------------


def test_what_does_not_go_together_is_refused(filled, tmp_path):
    with pytest.raises(SettingsError, match="build"):
        Canister(engine="wasm", build="fast")
    with pytest.raises(SettingsError, match="concerns the wasm engine"):
        Canister(build="lean")
    with pytest.raises(SettingsError, match="journal_mode wal is not available"):
        Canister(engine="wasm", journal_mode="wal")
    with pytest.raises(SettingsError, match="cannot be called from a Wasm module"):
        filled.on_connect(print)
    memory = sqlstable.StableMemory.open(tmp_path / "a.stable")
    with memory, pytest.raises(SettingsError, match="give its path"):
        Canister(engine="wasm", memory=memory)


def test_faults_on_demand_are_for_the_native_engine(filled):
    with pytest.raises(SettingsError, match="native engine only"):
        sqlstable.testing.count_accesses(filled, lambda: filled.update("DELETE FROM t"))


def test_without_wasmtime_there_is_one_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "wasmtime", None)
    with pytest.raises(
        SettingsError,
        match=r"install sqlstable again, or pip install wasmtime==[\d.]+, or use engine native",
    ):
        Canister(engine="wasm")


def test_the_public_way_of_calling_does_the_same_and_warns_once(monkeypatch):
    with Canister(engine="wasm") as quick:
        fill(quick)
        expected = costs(quick.query("SELECT * FROM t"))
    calls._quick_call.cache_clear()
    monkeypatch.setattr(calls, "_private_interface", object)
    try:
        with pytest.warns(RuntimeWarning, match="unchecked call") as seen:
            slow = Canister(engine="wasm")
        with slow:
            fill(slow)
            assert costs(slow.query("SELECT * FROM t")) == expected
            with pytest.raises(Trap, match="no"), slow.message() as message:
                message.trap("no")
            # A new machine, and no second warning.
            slow.reinstall()
        assert len(seen) == 1
    finally:
        calls._quick_call.cache_clear()


# -- the command line ------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_line_runs_scripts_on_the_wasm_engine(tmp_path):
    script = tmp_path / "script.sql"
    script.write_text(
        "CREATE TABLE t (x);\nINSERT INTO t VALUES (1), (2);\n--@ upgrade\nSELECT x FROM t;\n"
    )
    image = tmp_path / "image.stable"
    options = ("--engine", "wasm", "--image", image, "--build", "profile", "--format", "json")
    result = run_child("-m", "sqlstable", "run", script, *options)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    settings = report["settings"]
    assert (settings["engine"], settings["build"], settings["measured"]) == (
        "wasm",
        "profile",
        True,
    )
    last = report["messages"][-1]
    assert last["cache"] == "warm"
    assert last["instructions"]["total"] > report["statements"][-1]["instructions"]["total"]
    assert last["heap"]["wasm_pages_accessed"] > 0
    assert report["statements"][-1]["loops"][0]["rows_visited"] == 2
    assert report["totals"]["instructions"]["measured"]
    Draft202012Validator(report_schema()).validate(report)
    table = run_child("-m", "sqlstable", "run", script, "--engine", "wasm")
    assert "instructions: computation" in table.stdout
    with Canister(image) as native:
        assert native.query("SELECT x FROM t").rows == [(1,), (2,)]


def test_the_command_line_refuses_a_build_of_the_native_engine(tmp_path):
    script = tmp_path / "script.sql"
    script.write_text("SELECT 1;")
    result = run_child("-m", "sqlstable", "run", script, "--build", "lean")
    assert (result.returncode, result.stdout) == (2, "")
    assert "add --engine wasm" in result.stderr
