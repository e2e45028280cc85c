"""``sqlstable inspect``: what it says of each kind of image, and that it changes nothing."""

import gzip
import json
import os
import random
import struct
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from sqlstable import Canister
from tests import product_images
from tests.golden_files import check_golden
from tests.images import files_in, log_of
from tests.test_cli import call, folder, run_program  # noqa: F401  a fixture
from tests.test_product_layouts import shop

VECTORS = Path(__file__).parent / "vectors"


def vector(name):
    return gzip.decompress((VECTORS / f"{name}.bin.gz").read_bytes())


def structure(magic, *fields):
    return magic + b"\1" + struct.pack(*fields)


def with_two_databases():
    memories = {
        3: structure(b"SVC", "<Q", 7),
        120: product_images.ic_sqlite_vfs_memory(shop(16_384), flags=1, masks=[(40, 50)]),
        130: product_images.ic_sqlite_vfs_memory(shop(16_384)),
    }
    return product_images.managed(memories)


def managed_with_files():
    with Canister(bucket_pages=1, journal_mode="persist") as canister:
        canister.update("CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(9000))")
        canister.update("ATTACH 'other one.db' AS o; CREATE TABLE o.t (x)")
        canister.update("DELETE FROM t")
        return canister.image()


def motoko():
    head = b"MOREGION" + struct.pack("<IHQIQ", 2, 128, 1 << 20, 3, 17)
    return product_images.padded(head)


IMAGES = {
    "froghub": lambda: product_images.froghub(shop(4096)),
    "ic_sqlite_vfs": lambda: product_images.ic_sqlite_vfs(shop(16_384)),
    "ic_sqlite_vfs_old": lambda: product_images.ic_sqlite_vfs(shop(16_384), version=6),
    "ic_sqlite_vfs_twice": with_two_databases,
    "managed": managed_with_files,
    "raw": lambda: product_images.padded(shop(4096)) + bytes(65_536),
    "nim": lambda: product_images.padded(b"NIMSQLV1" + struct.pack("<I", 1)),
    "nim_old": lambda: bytes(1025 * 65_536) + product_images.padded(b"NIMSQLV1"),
    "motoko": motoko,
    "internet_identity": lambda: (
        product_images.padded(b"IIC\x09" + bytes(70))
        + product_images.managed({0: structure(b"BTR", "<16xQ", 5), 1: shop(512)})
    ),
    "one_structure": lambda: product_images.padded(structure(b"SMH", "<Q", 12)),
    "unknown": lambda: product_images.padded(b"hello there"),
    "zeros": lambda: bytes(2 * 65_536),
    "empty": lambda: b"",
    "truncated_manager": lambda: product_images.ic_sqlite_vfs(shop(16_384))[: 3 * 65_536],
    "damaged_database": lambda: damaged(product_images.padded(shop(4096)) + bytes(65_536)),
    **{
        name.replace(".", "_"): lambda name=name: vector(name)
        for name in (
            "canister_image",
            "memory_manager_sqlite_in_memory_120",
            "memory_manager_v071_reclaimed.a_after_reclaim",
        )
    },
}


def damaged(image):
    return image[:4096] + b"\xff" * 900 + image[4996:]


@pytest.mark.parametrize("name", IMAGES)
def test_what_is_said_of_each_kind_of_image(folder, name):  # noqa: F811
    (folder / "a.stable").write_bytes(IMAGES[name]())
    before = files_in(folder)
    result = call("inspect", "a.stable")
    is_damaged = name == "damaged_database"
    assert result.exit_code == is_damaged, result.output
    assert ("a.stable holds a damaged database; what" in result.stderr) == is_damaged
    check_golden(f"inspect_{name}.txt", result.stdout)
    document = json.loads(call("inspect", "a.stable", "--format", "json").stdout)
    assert document["format"] == "sqlstable inspection"
    assert document["size_bytes"] == len(before["a.stable"])
    if document["growth"]:
        assert sum(part["size_bytes"] for part in document["growth"]) == document["size_bytes"]
    assert files_in(folder) == before


@pytest.mark.parametrize("name", ["froghub", "ic_sqlite_vfs", "managed", "raw"])
def test_what_is_said_to_type_next_works(folder, name):  # noqa: F811
    (folder / "a.stable").write_bytes(IMAGES[name]())
    (folder / "SCRIPT.sql").write_text("SELECT count(*) FROM sqlite_schema")
    found = json.loads(call("inspect", "a.stable", "--format", "json").stdout)["next"]
    assert len(found) >= 2
    for command in found:
        program, *arguments = command.replace("'other one.db'", "other~one.db").split()
        assert program == "sqlstable"
        result = call(*(word.replace("~", " ") for word in arguments))
        assert result.exit_code == 0, result.output


def test_a_snapshot_is_a_folder(folder):  # noqa: F811
    snapshot = folder / "a snapshot"
    snapshot.mkdir()
    (snapshot / "stable_memory.bin").write_bytes(IMAGES["froghub"]())
    (snapshot / "metadata.json").write_text("{}")
    result = call("inspect", "a snapshot")
    assert result.exit_code == 0
    check_golden("inspect_snapshot.txt", result.stdout)


def test_plain_databases_and_traces_are_told(folder):  # noqa: F811
    (folder / "app.db").write_bytes(shop(4096)[: 4096 * 162])
    (folder / "wal.db").write_bytes(shop(4096))
    with closing(apsw.Connection("wal.db")) as plain:
        plain.execute("PRAGMA journal_mode = wal").fetchall()
        plain.execute("CREATE TABLE more (x)")
        (folder / "copy.db").write_bytes((folder / "wal.db").read_bytes())
        (folder / "copy.db-wal").write_bytes((folder / "wal.db-wal").read_bytes())
    (folder / "whole.db").write_bytes(
        product_images.database("CREATE TABLE t (x)", page_size=65_536)
    )
    assert call("run", "shop.sql", "--trace", "a.trace").exit_code == 0
    before = files_in(folder)
    texts = [call("inspect", name) for name in ("app.db", "copy.db", "whole.db", "a.trace")]
    assert [one.exit_code for one in texts] == [0, 0, 0, 0]
    size = (folder / "a.trace").stat().st_size
    said = "".join(one.stdout for one in texts[:3])
    check_golden("inspect_databases.txt", said)
    assert "a trace of sqlstable" in texts[3].stdout
    assert "sqlstable report a.trace" in texts[3].stdout
    assert size
    assert files_in(folder) == before


def test_quick_leaves_integrity_unchecked_and_says_so(folder):  # noqa: F811
    (folder / "a.stable").write_bytes(IMAGES["damaged_database"]())
    assert "integrity: not checked (--quick)" in call("inspect", "a.stable", "--quick").stdout
    result = call("inspect", "a.stable", "--quick", "--format", "json")
    assert json.loads(result.stdout)["memories"][0]["integrity"] is None


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["missing.stable"], 2, "there is no file missing.stable"),
        (["."], 2, "without stable_memory.bin"),
        (["odd.txt"], 1, "odd.txt has 11 bytes"),
        (["some-log"], 2, "some-log is the log of an image"),
        (["pipe"], 2, "a pipe"),
        (["shop.sql", "--format", "csv"], 2, "choose --format table or json"),
        (["cut.stable"], 2, "it is truncated"),
    ],
)
def test_bad_input_gets_one_line_and_changes_nothing(folder, arguments, status, text):  # noqa: F811
    (folder / "odd.txt").write_bytes(b"hello there")
    (folder / "some-log").write_bytes(b"SQSTLOG\n" + bytes(90))
    (folder / "cut.stable").write_bytes(IMAGES["froghub"]()[:-1])
    os.mkfifo(folder / "pipe")
    names = sorted(one.name for one in folder.iterdir())
    result = call("inspect", *arguments)
    assert result.exit_code == status
    assert text in result.stderr
    assert result.stderr.count("\n") <= 3
    assert sorted(one.name for one in folder.iterdir()) == names


def test_a_log_beside_an_image_is_looked_through_and_named(folder):  # noqa: F811
    canister = Canister("a.stable")
    canister.update("CREATE TABLE t (x)")
    image, log = (folder / "a.stable").read_bytes(), log_of(folder / "a.stable").read_bytes()
    canister.close()
    (folder / "b.stable").write_bytes(image)
    log_of(folder / "b.stable").write_bytes(log)
    before = files_in(folder)
    result = call("inspect", "b.stable")
    assert result.exit_code == 0, result.output
    assert "integrity: ok" in result.stdout
    assert files_in(folder) == before


def test_holes_are_not_read(folder):  # noqa: F811
    with (folder / "big.stable").open("wb") as file:
        file.write(IMAGES["froghub"]())
        file.truncate(400 * (1 << 30))
    result = call("inspect", "big.stable")
    assert result.exit_code == 0
    assert "400.0 GiB" in result.stdout
    assert "integrity: ok" in result.stdout


def test_write_protected_files_are_looked_at(folder):  # noqa: F811
    (folder / "a.stable").write_bytes(IMAGES["raw"]())
    (folder / "a.stable").chmod(0o444)
    assert call("inspect", "a.stable").exit_code == 0


@pytest.mark.parametrize("seed", range(60))
def test_damaged_images_never_give_a_traceback(folder, seed):  # noqa: F811
    rng = random.Random(seed)
    image = bytearray(rng.choice([*IMAGES.values()][:6])())
    for _ in range(rng.randrange(1, 9)):
        image[rng.choice((0, 2080, 65_536, 131_072)) + rng.randrange(200)] = rng.randrange(256)
    if rng.randrange(3) == 0:
        del image[rng.randrange(1, len(image) // 65_536) * 65_536 :]
    (folder / "a.stable").write_bytes(image)
    result = call("inspect", "a.stable")
    assert result.exit_code in (0, 1, 2), result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert (folder / "a.stable").read_bytes() == image


def test_names_are_shown_as_a_shell_takes_them(folder):  # noqa: F811
    name = "it's \x1b[31m.stable"
    (folder / name).write_bytes(IMAGES["froghub"]())
    result = call("inspect", name)
    assert "extract $'it\\x27s \\x1b[31m.stable' app.db" in result.stdout
    assert "\x1b" not in result.stdout
    odd = os.fsdecode(b"\xff.stable")
    (folder / odd).write_bytes(IMAGES["froghub"]())
    for extra in ((), ("--format", "json")):
        done = run_program("inspect", odd, *extra)
        assert (done.returncode, done.stderr) == (0, b"")


def test_sqlite_pages_that_a_product_has_not_are_noted(folder):  # noqa: F811
    for page_size in (4096, 16_384):
        with Canister("one.stable", layout="ic-sqlite-vfs", page_size=page_size) as canister:
            canister.update("CREATE TABLE t (x)")
        shown = call("inspect", "one.stable").stdout
        assert ("may not open the image" in shown) == (page_size == 4096)
        Path("one.stable").unlink()
        log_of(Path("one.stable")).unlink(missing_ok=True)


def test_names_that_begin_with_a_dash_are_no_options(folder):  # noqa: F811
    Path("-dash.stable").write_bytes(IMAGES["froghub"]())
    shown = call("inspect", "./-dash.stable").stdout
    assert "next    sqlstable extract ./-dash.stable app.db" in shown


def test_an_image_that_was_cut_off_is_told_from_a_manager_inside_of_one(folder):  # noqa: F811
    Path("cut.stable").write_bytes(IMAGES["ic_sqlite_vfs"]()[:-1])
    result = call("inspect", "cut.stable")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "a memory manager's header, so its end is missing" in result.stderr


@pytest.mark.parametrize(("at", "version"), [(19, 3), (19, 0xFF), (19, 1)])
def test_a_version_that_run_refuses_is_not_called_sound(folder, at, version):  # noqa: F811
    with Canister("a.stable", layout="raw") as canister:
        canister.update("CREATE TABLE t (x)")
    image = bytearray(Path("a.stable").read_bytes())
    image[at] = version
    Path("a.stable").write_bytes(image)
    Path("one.sql").write_text("INSERT INTO t VALUES (1)")
    shown = call("inspect", "a.stable")
    ran = call("run", "one.sql", "--image", "a.stable", "--layout", "raw")
    assert (shown.exit_code == 0) == (ran.exit_code == 0), (shown.output, ran.output)
