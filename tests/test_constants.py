"""Numbers that the C sources, the shim and Python must agree on: each read where it stands."""

import re
from importlib.resources import files

import pytest

from sqlstable.database import cabinet, stablefile
from sqlstable.engine.measured import codec, cursors
from sqlstable.engine.measured.notes import Mark
from sqlstable.ic import words
from sqlstable.ic.units import OS_PAGE_BYTES, OS_PAGE_SHIFT, WASM_PAGE_BYTES
from sqlstable.layout import directory, froghub
from sqlstable.layout.layouts import LAYOUTS
from sqlstable.memory import manager, signatures
from sqlstable.sqlite import header
from sqlstable.wasm import shim
from sqlstable.wasm.traps import TrapCode

SOURCES = files("sqlstable.engine.measured.module") / "source"
SHIM = "".join(
    (files("sqlstable.wasm") / "shim" / name).read_text(encoding="utf-8")
    for name in ("memory.wat", "calls.wat")
)


def source(name):
    return (SOURCES / name).read_text(encoding="utf-8")


def defined(name, prefix=""):
    """What a C source defines as a number, by name without the prefix."""
    found = re.findall(rf"^#define {prefix}(\w+) (0x[0-9a-f]+|\d+)u?\b", source(name), re.MULTILINE)
    return {key: int(value, 0) for key, value in found}


def enumerated(name, prefix):
    """The names of an enumeration that begin so, numbered as C numbers them."""
    for body in re.findall(r"\benum \{([^}]*)\}", source(name)):
        items = re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL).replace(" ", "").split(",")
        numbers, following = {}, 0
        for item in filter(None, (item.strip() for item in items)):
            key, _, value = item.partition("=")
            numbers[key] = following = int(value, 0) if value else following
            following += 1
        if all(key.startswith(prefix) for key in numbers):
            return {key.removeprefix(prefix): number for key, number in numbers.items()}
    raise AssertionError((name, prefix))


def name_in_c(name):
    return name.upper().replace("-", "_")


def global_of(name, type_):
    found = re.search(rf"\(global \${name} {type_} \({type_}\.const (\d+)\)\)", SHIM)
    assert found is not None, name
    return int(found.group(1))


@pytest.mark.parametrize("kind", ["READ", "WRITE", "SIZE", "GROW"])
def test_the_shim_numbers_accesses_as_traces_do(kind):
    assert global_of(kind, "i64") == getattr(words, kind)


def test_what_the_driver_does_is_marked_beside_the_kinds_of_access():
    assert global_of("OF_DRIVER", "i64") == shim.OF_DRIVER > words.GROW


@pytest.mark.parametrize("code", [code for code in TrapCode if code is not TrapCode.WASM])
def test_the_shim_numbers_traps_as_the_driver_does(code):
    assert global_of(code.name, "i32") == code.value


def test_borders_are_marked_with_the_phases_of_a_statement():
    assert defined("ic0.h", "PHASE_") == {mark.name: mark for mark in Mark}
    assert defined("ic0.h")["MARK_TYPE"] == shim.BORDER
    phases = (words.PREPARE, words.RUN, words.COMMIT, words.REPLY)
    assert phases == tuple(range(len(words.INSTRUCTION_PHASES)))
    assert [mark - 1 for mark in Mark if mark is not Mark.GLUE] == list(phases)


def test_the_module_lays_a_memory_out_as_the_memory_manager_does():
    assert defined("module.h")["WASM_PAGE_BYTES"] == WASM_PAGE_BYTES
    found = defined("placement.c")
    assert found["DATABASE_MEMORY_ID"] == directory.DATABASE_MEMORY_ID
    for name in ("MEMORIES_MAX", "BUCKETS_MAX", "NO_OWNER", "HEADER_BYTES"):
        assert found[name] == getattr(manager, name), name
    assert found["BUCKETS_OFFSET_BYTES"] == manager.BUCKETS_OFFSET
    assert set(re.findall(r'"(MGR)"', source("placement.c"))) == {signatures.MANAGER_MAGIC.decode()}


def test_the_module_knows_a_database_by_its_header():
    assert defined("vfs.c")["DATABASE_HEADER_BYTES"] == header.HEADER_BYTES
    [magic] = re.findall(r'memcmp\(bytes, "([^"]*)", 16\)', source("vfs.c"))
    assert magic.encode() + b"\0" == header.SQLITE_MAGIC


def test_settings_are_numbered_as_the_module_reads_them():
    assert defined("canister.c")["NAME_BYTES_MAX"] == codec.NAME_BYTES_MAX
    known = {layout.name: layout.traits.module_settings for layout in LAYOUTS}
    plain, behind = (
        defined("module.h")[name] for name in ("SETTINGS_VERSION", "SETTINGS_VERSION_BEHIND_LENGTH")
    )
    layouts = enumerated("module.h", "LAYOUT_")
    assert layouts == {name_in_c(name): known[name][1] for name in ("managed", "raw")}
    assert known["managed"][0] == known["raw"][0] == plain
    assert known["froghub"] == (behind, known["raw"][1])
    assert defined("vfs.c")["LENGTH_BYTES"] == froghub.LENGTH_BYTES
    growths = {name_in_c(name): it for name, it in codec._GROWTHS.items()}
    assert enumerated("module.h", "GROWTH_") == growths
    journals = {name_in_c(name): number for name, number in codec._JOURNALS.items()}
    assert enumerated("module.h", "JOURNAL_") == journals
    assert defined("module.h")["SETTINGS_VERSION_FILES"] == codec._FILES_VERSION


def test_the_module_keeps_further_files_as_the_directory_says():
    found = defined("files.c")
    for name in ("DATABASE_MEMORY_ID", "DIRECTORY_MEMORY_ID", "ENTRY_BYTES", "NAME_BYTES_MAX"):
        assert found[name] == getattr(directory, name), name
    ids = directory.FURTHER_MEMORY_IDS
    assert range(found["FIRST_MEMORY_ID"], found["LAST_MEMORY_ID"] + 1) == ids
    assert found["JOURNAL_HEADER_BYTES"] == stablefile.HEADER_BYTES
    assert found["SUFFIX_BYTES_MAX"] == len(cabinet.JOURNAL_SUFFIX)
    [magic] = re.findall(r"journal_magic\[MAGIC_BYTES\] = \{([^}]*)\}", source("files.c"))
    assert bytes(int(byte, 0) for byte in magic.split(",")) == header.JOURNAL_MAGIC
    [start] = re.findall(r'memcpy\(bytes, "(\w+)\\1", 9\)', source("files.c"))
    assert (start.encode(), directory.VERSION) == (directory.MAGIC, 1)
    kinds = enumerated("files.c", "KIND_")
    assert [kind.lower() for kind in kinds][1:] == list(directory.KINDS[1:])


def test_requests_and_replies_are_numbered_as_the_module_writes_them():
    for name, number in enumerated("execute.c", "RECORD_").items():
        assert getattr(codec, f"_{name}") == number, name
    for name, number in enumerated("execute.c", "VALUE_").items():
        assert getattr(codec, f"_{name}") == number, name
    for name, number in enumerated("execute.c", "CURSOR_").items():
        assert getattr(cursors, f"CURSOR_{name}") == number, name
    assert (codec._POSITIONAL, codec._NAMED) == (1, 2)
    assert "enum { POSITIONAL = 1, NAMED };" in source("execute.c")


def test_pages_have_the_sizes_that_shifts_in_hot_paths_assume():
    assert (1 << OS_PAGE_SHIFT, 1 << 16) == (OS_PAGE_BYTES, WASM_PAGE_BYTES)
    assert OS_PAGE_SHIFT == 12
    assert header.SQLITE_PAGE_BYTES_MAX == WASM_PAGE_BYTES, "no SQLite page crosses a Wasm page"
