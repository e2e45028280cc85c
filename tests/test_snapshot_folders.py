"""Snapshots as the folders that dfx and icp-cli write: opened, resumed, written back, refused."""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from sqlstable import Canister, ImageError, SnapshotError, SqlError
from sqlstable.memory.snapshots.metadata import Metadata, make_metadata
from tests.snapshot_world import add, fill, grow, hand_made, opened, owners, tree

VECTORS = Path(__file__).parent / "vectors" / "snapshot_metadata"


def ledger_image(count=3):
    with Canister() as canister:
        fill(canister, count)
        return canister.image()


IMAGE = ledger_image()
MODULE = b"\0asm\1\0\0\0" + b"somebody's module"
HEAP = bytes(range(256)) * 256


@pytest.fixture(name="real")
def real_fixture(tmp_path):
    """A folder such as a deployed canister has, with everything that there can be."""
    return hand_made(
        tmp_path / "real", IMAGE, module=MODULE, heap=HEAP, chunks=(b"one", b"two" * 1000)
    )


# -- metadata.json --------------------------------------------------------------------------------


def test_what_serde_json_writes_is_written_byte_for_byte():
    made = make_metadata(
        taken_at_ns=1_767_225_600_000_000_000,
        canister_version=17,
        stable_memory_size=131_072,
        wasm_module_size=3,
        wasm_memory_size=65_536,
        global_values=[("i32", 1_048_576)],
    )
    assert made.data == (VECTORS / "taken.json").read_bytes()


def test_every_kind_of_field_is_read_and_kept_as_it_is():
    data = (VECTORS / "every_kind.json").read_bytes()
    said = Metadata.parse(data)
    assert said.data == data
    assert said.taken_at_ns == 1_764_380_000_123_456_789
    assert said.chunks == (bytes(37 * i % 256 for i in range(32)).hex(),)
    kinds = [None if one is None else one[0] for one in said.global_values]
    assert kinds == ["i32", "i64", "f32", "f64", "f64", "f64", "v128", None]
    assert Metadata.parse((VECTORS / "empty.json").read_bytes()).size_bytes == 0


BAD_METADATA = {
    "no JSON": (b"{", "no JSON"),
    "not UTF-8": (b"\xff\xfe", "no JSON"),
    "nested without end": (b"[" * 100_000, "no JSON"),
    "a list": (b"[]", "no object"),
    "no sizes": (b"{}", "has no taken_at_timestamp"),
}


@pytest.mark.parametrize("name", BAD_METADATA)
def test_metadata_that_cannot_be_read_is_refused(name):
    data, reason = BAD_METADATA[name]
    with pytest.raises(SnapshotError, match=reason):
        Metadata.parse(data)


BAD_FIELDS = {
    "a number as text": ({"stable_memory_size": "131072"}, "says '131072' for stable_memory_size"),
    "a negative size": ({"wasm_module_size": -1}, "for wasm_module_size"),
    "a size beyond 64 bits": ({"wasm_module_size": 1 << 64}, "for wasm_module_size"),
    "half a Wasm page": ({"stable_memory_size": 100_000}, "whole Wasm pages of 65536 bytes"),
    "a truth": ({"canister_version": True}, "for canister_version"),
    "no list of chunks": ({"wasm_chunk_store": None}, "no list of wasm_chunk_store"),
    "a short hash": ({"wasm_chunk_store": [{"hash": [1, 2]}]}, "a list of 32 bytes"),
    "a hash of texts": ({"wasm_chunk_store": [{"hash": ["a"] * 32}]}, "a list of 32 bytes"),
    "globals as an object": ({"globals": {}}, "no list of globals"),
    "a global of two types": ({"globals": [{"i32": 1, "i64": 2}]}, "a global is"),
}


@pytest.mark.parametrize("name", BAD_FIELDS)
def test_a_field_that_nobody_knows_how_to_read_is_refused(tmp_path, name):
    fields, reason = BAD_FIELDS[name]
    folder = hand_made(tmp_path / "real", IMAGE, **fields)
    refused(folder, reason)


# -- opened and written back ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["native", "native file", "wasm", "wasm file"])
def test_a_folder_comes_back_byte_for_byte(real, tmp_path, kind):
    said = json.loads((real / "metadata.json").read_text())
    # Of a later format, perhaps; and written with other spaces.
    said["a_field_of_tomorrow"] = {"deep": [1.0, None]}
    (real / "metadata.json").write_text(json.dumps(said, indent=3) + "\n")
    with opened(kind, tmp_path) as canister:
        uploaded = canister.upload_snapshot(real)
        canister.download_snapshot(uploaded, tmp_path / "back")
    assert tree(tmp_path / "back") == tree(real)
    assert uploaded.canister_version == 17
    assert uploaded.size_bytes == len(MODULE) + len(HEAP) + len(IMAGE) + 3 + 3000


@pytest.mark.parametrize("files", ["dfx", "icp-cli"])
def test_what_dfx_and_icp_cli_leave_out_stays_out(tmp_path, files):
    folder = hand_made(tmp_path / "real", b"", module=MODULE)
    if files == "icp-cli":
        (folder / "wasm_memory.bin").unlink()
        (folder / "stable_memory.bin").touch()
        (folder / "wasm_chunk_store").mkdir()
    with Canister() as canister:
        canister.download_snapshot(canister.upload_snapshot(folder), tmp_path / "back")
    assert tree(tmp_path / "back") == tree(folder)


def test_progress_of_an_upload_elsewhere_is_left_alone(real):
    for name in (".upload_progress.json", "000000000000000000000000000000010101.json", ".lock"):
        (real / name).write_text("{}")
    before = tree(real)
    with Canister() as canister:
        canister.upload_snapshot(real)
    assert tree(real) == before


def test_a_real_canisters_stable_memory_is_loaded_where_that_is_asked_for(real):
    with Canister() as canister:
        uploaded = canister.upload_snapshot(real)
        with pytest.raises(SnapshotError, match=r"has a module of .* stable_only"):
            canister.load_snapshot(uploaded)
        canister.load_snapshot(uploaded, stable_only=True)
        assert owners(canister) == ["o0", "o1", "o2"]
        add(canister, "here")
        assert owners(canister)[-1] == "here"


def test_a_download_uploaded_and_loaded_is_the_same(tmp_path):
    for kind in ("native", "wasm"):
        with opened(kind, tmp_path) as canister, opened(kind, tmp_path) as other:
            fill(canister)
            grow(canister, 9_000_000)
            taken = canister.take_snapshot()
            canister.download_snapshot(taken, tmp_path / kind)
            other.load_snapshot(other.upload_snapshot(tmp_path / kind))
            assert other.image() == canister.image()
            assert owners(other) == owners(canister)
        stable = tmp_path / kind / "stable_memory.bin"
        # What was never written takes no room.
        assert stable.stat().st_blocks * 512 < stable.stat().st_size


# -- resumed --------------------------------------------------------------------------------------


@pytest.fixture(name="large", scope="module")
def large_fixture(tmp_path_factory):
    """A canister with a snapshot of several slices, and its folder."""
    with Canister() as canister:
        fill(canister, 400)
        with canister.message() as message:
            message.execute("CREATE TABLE body (x)")
            rows = [(bytes([n]) * 700_000,) for n in range(1, 10)]
            message.executemany("INSERT INTO body VALUES (?)", rows)
        taken = canister.take_snapshot()
        folder = tmp_path_factory.mktemp("large") / "whole"
        canister.download_snapshot(taken, folder)
        yield canister, taken, folder


def test_a_download_of_dfx_that_was_cut_off_goes_on_where_it_ends(large, tmp_path):
    canister, taken, whole = large
    for length in (0, 1, 2_000_000, 3_456_789, (whole / "stable_memory.bin").stat().st_size):
        folder = tmp_path / str(length)
        shutil.copytree(whole, folder)
        os.truncate(folder / "stable_memory.bin", length)
        canister.download_snapshot(taken, folder, resume=True)
        assert tree(folder) == tree(whole)
    folder = tmp_path / "metadata only"
    folder.mkdir()
    shutil.copy(whole / "metadata.json", folder)
    canister.download_snapshot(taken, folder, resume=True)
    assert tree(folder) == tree(whole)


def test_a_download_of_icp_cli_that_was_cut_off_gets_the_slices_that_are_missing(large, tmp_path):
    canister, taken, whole = large
    data = (whole / "stable_memory.bin").read_bytes()
    for name, frontier, ahead in (("none", 0, []), ("some", 2_000_000, [6_000_000])):
        folder = tmp_path / name
        shutil.copytree(whole, folder)
        there = bytearray(len(data))
        for start in [*range(0, frontier, 2_000_000), *ahead]:
            there[start : start + 2_000_000] = data[start : start + 2_000_000]
        # A slice was being written when it was cut off.
        there[4_000_000:4_100_000] = data[4_000_000:4_100_000]
        (folder / "stable_memory.bin").write_bytes(there)
        begun = {"frontier": 0, "ahead": []}
        said = {"wasm_module": begun, "wasm_memory": begun}
        said["stable_memory"] = {"frontier": frontier, "ahead": ahead}
        (folder / ".download_progress.json").write_text(json.dumps(said))
        refused(folder, "was not downloaded whole")
        canister.download_snapshot(taken, folder, resume=True)
        assert tree(folder) == tree(whole)


BAD_RESUMES = {
    "nothing there": (shutil.rmtree, "is not there"),
    "no metadata": (lambda it: (it / "metadata.json").unlink(), "no download was begun there"),
    "another snapshot": (
        lambda it: (it / "metadata.json").write_bytes((VECTORS / "taken.json").read_bytes()),
        "holds another snapshot",
    ),
    "a file too long": (
        lambda it: os.truncate(it / "stable_memory.bin", 90_000_000),
        "has 90000000 bytes, and the snapshot's has",
    ),
    "damaged progress": (
        lambda it: (it / ".download_progress.json").write_text('{"wasm_module": 3}'),
        "is damaged; download into another folder",
    ),
    "a link": (
        lambda it: (
            (it / "stable_memory.bin").rename(it / "elsewhere"),
            (it / "stable_memory.bin").symlink_to("elsewhere"),
        ),
        "no regular file",
    ),
}


@pytest.mark.parametrize("name", BAD_RESUMES)
def test_a_download_is_not_resumed_where_it_cannot_be(large, tmp_path, name):
    canister, taken, whole = large
    damage, reason = BAD_RESUMES[name]
    folder = tmp_path / "folder"
    shutil.copytree(whole, folder)
    damage(folder)
    before = tree(tmp_path)
    with pytest.raises(SnapshotError, match=reason):
        canister.download_snapshot(taken, folder, resume=True)
    after = tree(tmp_path)
    after.pop("folder/.download_progress.json", None)
    before.pop("folder/.download_progress.json", None)
    assert after == before


def test_a_place_that_is_taken_is_refused_and_left_alone(large, tmp_path):
    canister, taken, _ = large
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").touch()
    before = tree(tmp_path)
    for name, reason in (
        ("file", "is no folder"),
        ("folder", "is not empty"),
        ("no/where", "the folder of .* is not there"),
    ):
        with pytest.raises(SnapshotError, match=reason):
            canister.download_snapshot(taken, tmp_path / name)
    assert tree(tmp_path) == before


# -- damaged --------------------------------------------------------------------------------------


def refused(folder, reason):
    """A canister refuses a folder, and is as it was."""
    with Canister() as canister:
        fill(canister, 7)
        taken, image, before = canister.take_snapshot(), canister.image(), tree(folder)
        with pytest.raises(SnapshotError, match=reason):
            canister.upload_snapshot(folder)
        assert canister.snapshots == (taken,)
        assert canister.image() == image
        shelf = canister._life.snapshots.shelf
        assert set(shelf._in_memory) == shelf.index.files
        assert tree(folder) == before


FILES = ["metadata.json", "wasm_module.bin", "wasm_memory.bin", "stable_memory.bin", "chunk"]


def file_in(folder, name):
    chunk = next((folder / "wasm_chunk_store").iterdir())
    return chunk if name == "chunk" else folder / name


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("length", [0, 1, -1])
def test_a_truncated_file_is_refused(real, name, length):
    path = file_in(real, name)
    os.truncate(path, length % path.stat().st_size if length < 0 else length)
    refused(real, r"no JSON|has \d+ bytes, and metadata.json says|SHA-256")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(real, name):
    file_in(real, name).unlink()
    refused(real, r"is missing|has no metadata.json")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_too_long_is_refused(real, name):
    path = file_in(real, name)
    path.write_bytes(path.read_bytes() + b"x" * 65_536)
    refused(real, r"no JSON|it is damaged|SHA-256")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("what", ["link", "folder", "pipe"])
def test_what_is_no_file_of_its_own_is_refused(real, tmp_path, name, what):
    path = file_in(real, name)
    path.rename(tmp_path / "elsewhere")
    if what == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif what == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
        # Reading the tree would wait for its other end.
        with Canister() as canister, pytest.raises(SnapshotError, match="no regular file"):
            canister.upload_snapshot(real)
        return
    refused(real, r"symbolic link|no regular file|cannot be read")


WRONG_KINDS = [
    *(("global_timer", value) for value in (True, "active", {"active": -1}, {"inactive": 1}, 9)),
    *(("certified_data", value) for value in ("zzz", None, [256], [True], {})),
    *(("on_low_wasm_memory_hook_status", value) for value in (-1, "done", ["ready"])),
    *(("source", value) for value in (5, "metadata_upload", {}, {"elsewhere": None})),
]


@pytest.mark.parametrize(("field", "value"), WRONG_KINDS)
def test_a_field_of_another_kind_is_refused_by_its_name(real, field, value):
    said = json.loads((real / "metadata.json").read_text())
    (real / "metadata.json").write_text(json.dumps(said | {field: value}))
    refused(real, f"for {field}, which is")


RIGHT_KINDS = [
    *(("global_timer", value) for value in (None, {"active": 2**64 - 1})),
    *(("on_low_wasm_memory_hook_status", value) for value in (None, "ready", "executed")),
    *(("source", value) for value in (None, {"metadata_upload": None})),
    ("nobody_knows_it", {"kept": [1.5]}),
]


@pytest.mark.parametrize(("field", "value"), RIGHT_KINDS)
def test_every_value_that_the_types_allow_is_kept(real, field, value):
    said = json.loads((real / "metadata.json").read_text()) | {field: value}
    assert Metadata.parse(json.dumps(said).encode()).data == json.dumps(said).encode()


def test_a_chunk_with_one_flipped_bit_is_refused(real):
    path = file_in(real, "chunk")
    data = bytearray(path.read_bytes())
    data[1] ^= 4
    path.write_bytes(data)
    refused(real, "its SHA-256 is")


@pytest.mark.parametrize("at", [0, 1, 3, 65_536, 65_536 + 16, 65_536 + 100])
def test_a_flipped_byte_of_stable_memory_is_seen_when_it_is_loaded(tmp_path, at):
    """In a manager's header, and in a database's."""
    data = bytearray(IMAGE)
    data[at] ^= 0xFF
    folder = hand_made(tmp_path / "real", bytes(data))
    with Canister() as canister:
        fill(canister, 7)
        image, uploaded = canister.image(), canister.upload_snapshot(folder)
        with suppress(ImageError, SqlError):
            canister.load_snapshot(uploaded)
            # The format has no checksum, and SQLite reads the byte at no opening.
            assert canister.image() == bytes(data)
            assert at > 65_536
            return
        assert canister.image() == image
        assert len(owners(canister)) == 7


def test_things_that_are_no_folder_of_a_snapshot_are_refused(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with Canister() as canister:
        for name, reason in (
            ("file", "is no folder"),
            ("nowhere", "is no folder"),
            ("empty", "has no metadata.json"),
        ):
            with pytest.raises(SnapshotError, match=reason):
                canister.upload_snapshot(tmp_path / name)
