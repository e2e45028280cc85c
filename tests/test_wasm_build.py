"""The built modules: what is in them, and that building gives them again."""

import hashlib
import os
import shutil
from pathlib import Path

import apsw
import pytest

from sqlstable import SettingsError
from sqlstable.engine.measured.module import build, builds
from sqlstable.engine.measured.module.build import build_all, main
from sqlstable.engine.measured.module.builds import ALL_BUILDS, BUILDS, checksums, load
from sqlstable.errors import BuildError, ModuleError
from sqlstable.wasm.rewrite.binary import FUNCTION
from sqlstable.wasm.rewrite.module_reader import read_module
from sqlstable.wasm.rewrite.operators import cut, name_of, numbers_of
from tests.witness_host import Host

ONLY_IN_APSW = {
    "ENABLE_CARRAY": "its values come from C pointers, which SQL has none of",
    "ENABLE_COLUMN_METADATA": "tells C programs where columns come from; prepares cost more",
    "ENABLE_SESSION": "for C programs",
    "ENABLE_SETLK_TIMEOUT": "locks between processes",
    "MAX_ATTACHED=125": "more than 30 make each prepare dearer; canisters have SQLite's 10",
    "MAX_MMAP_SIZE=0x1000000000000LL": "a canister maps no files; the native engine maps none",
    "MAX_WORKER_THREADS=8": "a canister has one thread",
    "MUTEX_PTHREADS": "a canister has one thread",
    "TEMP_STORE=1": "the native engine sets temp_store = memory",
    "THREADSAFE=1": "a canister has one thread",
}

ONLY_IN_THE_MODULE = {
    "ENABLE_BYTECODE_VTAB": "tables that show bytecode",
    "MAX_ATTACHED=10": "see above",
    "MAX_MMAP_SIZE=0": "see above",
    "MAX_WORKER_THREADS=0": "see above",
    "MUTEX_OMIT": "see above",
    "OMIT_LOAD_EXTENSION": "a canister loads no shared libraries",
    "OMIT_WAL": "a canister has no write-ahead log; the VFS refuses the mode by name",
    "TEMP_STORE=3": "temporary tables lie in the heap, whatever is set",
    "THREADSAFE=0": "see above",
}

ONLY_IN_BUILD = {
    "standard": (set(), set()),
    "profile": ({"ENABLE_STMT_SCANSTATUS"}, set()),
    "lean": ({"MAX_EXPR_DEPTH=200"}, {"MAX_EXPR_DEPTH=1000"}),
}


def options_of(name):
    found = {option for (option,) in Host(build=name).rows("PRAGMA compile_options")}
    return {option for option in found if not option.startswith("COMPILER=")}


@pytest.mark.parametrize("name", sorted(BUILDS))
def test_compile_options_are_apsws_but_for_reasons(name):
    wheel = {option for option in apsw.compile_options if not option.startswith("COMPILER=")}
    added, taken = ONLY_IN_BUILD[name]
    expected = wheel - set(ONLY_IN_APSW) | set(ONLY_IN_THE_MODULE) | added
    assert options_of(name) == expected - taken


def test_both_engines_are_one_sqlite():
    host = Host()
    assert host.rows("SELECT sqlite_source_id()") == [(apsw.sqlite3_sourceid(),)]
    assert apsw.sqlite3_sourceid() == builds.SQLITE_SOURCE_ID


@pytest.mark.parametrize("name", sorted(ALL_BUILDS))
def test_imports_are_of_the_internet_computer_only(name):
    module = read_module(load(name))
    assert {(item.module, item.name) for item in module.imports} == {
        ("ic0", call)
        for call in (
            *("stable64_size", "stable64_grow", "stable64_read", "stable64_write"),
            *("msg_arg_data_size", "msg_arg_data_copy", "msg_reply_data_append", "msg_reply"),
            *("performance_counter", "trap"),
        )
    }
    assert {export.name for export in module.exports} == {
        *("memory", "canister_init", "canister_post_upgrade"),
        *("canister_update execute", "canister_query execute"),
        *("canister_update cursor", "canister_query cursor"),
        # What the compiler's library starts with; the entry points call it themselves.
        "_initialize",
        *(("canister_pre_upgrade",) if name == "heap" else ()),
    }


@pytest.mark.parametrize("name", sorted(ALL_BUILDS))
def test_a_mark_costs_the_same_wherever_it_is(name):
    module = read_module(load(name))
    calls = [item.name for item in module.imported(FUNCTION)]
    counter = calls.index("performance_counter")
    marks = 0
    for body in module.bodies:
        operators = cut(body.data, body.start, body.stop)
        for before, call, after in zip(operators, operators[1:], operators[2:], strict=False):
            if name_of(call) == "call" and numbers_of(call) == [counter]:
                assert (name_of(before), name_of(after)) == ("i32.const", "drop")
                assert numbers_of(before)[0] & 0x7F == 0x53
                marks += 1
    assert marks == 19


def test_the_built_files_are_those_of_the_checksums():
    assert set(checksums()) == set(ALL_BUILDS)
    for name in ALL_BUILDS:
        assert hashlib.sha256(load(name)).hexdigest() == checksums()[name]


def test_a_changed_or_missing_file_is_refused(monkeypatch, tmp_path):
    shutil.copytree(build.BINARIES, tmp_path / "binaries")
    monkeypatch.setattr(builds, "_binaries", lambda: tmp_path / "binaries")
    path = tmp_path / "binaries" / "standard.wasm"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModuleError, match=r"standard\.wasm has SHA-256"):
        load("standard")
    path.unlink()
    with pytest.raises(ModuleError, match=r"standard\.wasm cannot be read"):
        load("standard")


def test_an_unknown_build_is_refused():
    with pytest.raises(SettingsError, match="no build of the module is named 'fast'"):
        load("fast")


def test_another_tarball_or_amalgamation_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(build, "_check_compiler", lambda: None)
    tarball = tmp_path / "other.tgz"
    tarball.write_bytes(b"other")
    assert main(["--check", "--tarball", str(tarball)]) == 1
    assert "other.tgz has SHA-256" in capsys.readouterr().err
    for name in ("sqlite3.c", "sqlite3.h"):
        (tmp_path / name).write_text("/* other */")
    assert main(["--check", "--amalgamation", str(tmp_path)]) == 1
    assert "sqlite3.c has SHA-256" in capsys.readouterr().err
    assert main(["--check", "--tarball", str(tmp_path / "missing.tgz")]) == 1
    assert "the tarball cannot be read" in capsys.readouterr().err


@pytest.mark.slow
def test_building_again_gives_the_same_bytes(tmp_path):
    given = os.environ.get("SQLSTABLE_SQLITE_TARBALL")
    try:
        built = build_all(ALL_BUILDS, tmp_path, tarball=Path(given) if given else None)
    except BuildError as error:
        pytest.skip(f"the modules cannot be built here: {error}")
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in built.items()}
    assert sums == checksums()
