"""``sqlstable snapshot``, by what it prints and leaves behind."""

import json
from pathlib import Path

import pytest

from sqlstable import Canister
from tests.cli_images import TRANSFER, cents, image_fixture  # noqa: F401  a fixture
from tests.snapshot_world import hand_made, tree
from tests.test_cli import call, folder  # noqa: F401  a fixture


def snapshot(*arguments, status=0):
    done = call("snapshot", *arguments)
    assert done.exit_code == status, done.stderr
    return done.stdout if status == 0 else done.stderr


def transfer(image):
    Path("transfer.sql").write_text(TRANSFER)
    assert call("run", "transfer.sql", "--image", image).exit_code == 0


def test_a_round_trip_by_the_command_line(image, folder):  # noqa: F811
    # How many OS pages the first one copies, the file system says.
    front, _, back = snapshot("take", image).partition("; ")
    assert front == "snapshot 0 taken of ledger.stable: stable memory 128.0 KiB"
    assert back.endswith(" copied\n")
    transfer(image)
    assert "snapshot 1 taken of ledger.stable" in snapshot("take", image)
    assert snapshot("load", image, "0").startswith("ledger.stable is what snapshot 0 holds, ")
    assert cents(image) == [100, 200]
    snapshot("load", image, "1")
    assert cents(image) == [107, 193]
    assert snapshot("download", image, "0", "out").startswith("out: snapshot 0 of ledger.stable, ")
    assert "snapshot 2 of ledger.stable uploaded from out" in snapshot("upload", image, "out")
    snapshot("load", image, "2")
    assert cents(image) == [100, 200]
    assert snapshot("delete", image, "1") == "snapshot 1 of ledger.stable deleted; 2 left\n"


def test_the_list_fits_and_tells_what_each_costs(image, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert "has no snapshots; sqlstable snapshot take makes one" in snapshot("list", image)
    for _ in range(10):
        snapshot("take", image)
    text = snapshot("list", image)
    assert max(map(len, text.splitlines())) <= 80
    assert "2,000,131,072" in text
    assert "10 snapshots of at most 10" in text
    document = json.loads(snapshot("list", image, "--format", "json"))
    assert (document["format"], document["version"]) == ("sqlstable snapshots", 1)
    assert [one["number"] for one in document["snapshots"]] == [*range(10)]
    with Canister(image) as canister:
        listed = canister.snapshots
    assert [one["id"] for one in document["snapshots"]] == [one.id for one in listed]
    assert "as many as the Internet Computer allows" in snapshot("take", image, status=2)
    taken = json.loads(snapshot("take", image, "--replace", "3", "--format", "json"))
    assert taken["snapshots"][0]["number"] == 10


def test_a_new_image_comes_from_a_folder(image):
    snapshot("take", image)
    snapshot("download", image, "0", "out")
    snapshot("upload", "new.stable", "out")
    snapshot("load", "new.stable", "0")
    assert cents("new.stable") == [100, 200]
    assert Path("new.stable").read_bytes() == Path(image).read_bytes()


def test_an_image_that_was_lost_comes_back(image):
    before = Path(image).read_bytes()
    snapshot("take", image)
    transfer(image)
    snapshot("take", image)
    Path(image).unlink()
    snapshot("load", image, "0")
    assert Path(image).read_bytes() == before
    assert cents(image) == [100, 200]
    Path(image).unlink()
    assert "no snapshot 7" in snapshot("load", image, "7", status=2)
    assert not Path(image).exists()


def test_extract_and_inspect_take_a_folder(image):
    snapshot("take", image)
    snapshot("download", image, "0", "out")
    assert call("extract", "out", "app.db").exit_code == 0
    text = call("inspect", "out").stdout
    assert "note    taken at 2026-01-01 00:00:00 UTC: module 0 B, heap 0 B" in text
    assert "next    sqlstable snapshot upload app.stable out" in text
    Path("out/wasm_module.bin").write_bytes(b"x")
    assert call("extract", "out", "other.db").exit_code == 2
    assert "wasm_module.bin has 1 bytes" in call("inspect", "out").stdout
    refused = call("run", "transfer.sql", "--image", "out")
    assert refused.exit_code == 2


def test_a_module_is_left_out_only_where_that_is_asked_for(image):
    stable = Path(image).read_bytes()
    hand_made(Path("real"), stable, module=b"\0asm", heap=bytes(65_536))
    transfer(image)
    snapshot("upload", image, "real")
    refused = snapshot("load", image, "0", status=2)
    assert "--stable-only" in refused
    assert cents(image) == [107, 193]
    snapshot("load", image, "0", "--stable-only")
    assert cents(image) == [100, 200]


def test_another_layout_is_refused_unless_it_is_forced(image):
    with Canister("raw.stable", layout="raw") as canister:
        canister.update("CREATE TABLE t (x)")
    snapshot("take", "raw.stable")
    snapshot("download", "raw.stable", "0", "out")
    snapshot("upload", image, "out")
    before = Path(image).read_bytes()
    refused = snapshot("load", image, "0", status=2)
    assert "the layout of snapshot 0 is raw, and that of the image managed; --force" in refused
    assert Path(image).read_bytes() == before
    snapshot("load", image, "0", "--force")
    with Canister(image, layout="raw") as canister:
        assert canister.query("SELECT count(*) FROM t").rows == [(0,)]


MISUSES = [
    (("take", "nowhere.stable"), 2, "there is no image file nowhere.stable"),
    (("list", "nowhere.stable"), 2, "there is no image file nowhere.stable"),
    (("load", "ledger.stable", "7"), 2, "no snapshot 7, it has none"),
    (("delete", "ledger.stable", ""), 2, "no snapshot"),
    (("take", "ledger.stable", "--replace", "0"), 2, "no snapshot 0"),
    (("download", "ledger.stable", "0", "out"), 2, "no snapshot 0"),
    (("upload", "ledger.stable", "."), 2, "has no metadata.json"),
    (("upload", "ledger.stable", "ledger.stable"), 2, "is no folder"),
    (("take", "."), 2, "is a folder"),
    (("take",), 2, "Missing argument"),
    (("drop", "ledger.stable"), 2, "No such command"),
    (("list", "ledger.stable", "--format", "csv"), 2, "'csv' is not one of"),
]


@pytest.mark.parametrize(("arguments", "status", "reason"), MISUSES)
def test_misuse_gets_one_clear_error_and_changes_nothing(image, arguments, status, reason):
    before = tree(Path())
    assert reason in snapshot(*arguments, status=status)
    assert tree(Path()) == before


def test_a_damaged_folder_of_snapshots_keeps_nobody_from_the_image(image):
    snapshot("take", image)
    index = Path(f"{image}.snapshots/index.json")
    good = index.read_bytes()
    for bad, reason in (
        (good[:-20], "is damaged"),
        (good.replace(b'"crc32": ', b'"crc32": 1'), "its checksum is wrong"),
        (good.replace(b'"version": 2', b'"version": 3'), "another release of sqlstable reads it"),
        (b"", "is damaged"),
        (b"[]\n[]", "is damaged"),
    ):
        index.write_bytes(bad)
        for command in (("list", image), ("take", image), ("load", image, "0")):
            assert reason in snapshot(*command, status=2)
        assert cents(image) == [100, 200]
        assert index.read_bytes() == bad
    index.unlink()
    assert "has no index.json" in snapshot("list", image, status=2)
    index.write_bytes(good)
    layer = next(index.parent.glob("*.image"))
    layer.unlink()
    assert "cannot be read" in snapshot("load", image, "0", status=2)
    assert cents(image) == [100, 200]
    snapshot("delete", image, "0")
    assert "OS pages copied" in snapshot("take", image)


def test_a_damaged_layer_is_named_and_can_be_deleted(image):
    snapshot("take", image)
    transfer(image)
    snapshot("take", image)
    layer = next(Path(f"{image}.snapshots").glob("*.layer"))
    good = layer.read_bytes()
    damages = [
        (good[:-1], "bytes instead of"),
        (b"", "does not begin as one"),
        (good[:20] + b"x" + good[21:], "checksum of its head"),
        (good[:4096] + b"x" + good[4097:], "checksum of its table"),
        (good[:-2] + b"xx", "checksum of its checksums"),
    ]
    for bad, reason in damages:
        layer.write_bytes(bad)
        assert reason in snapshot("load", image, "1", status=2)
        assert cents(image) == [107, 193]
    snapshot("delete", image, "1")
    snapshot("load", image, "0")
    assert cents(image) == [100, 200]


def filled_os_pages(path):
    data = path.read_bytes()
    pieces = [data[start : start + 4096] for start in range(0, len(data), 4096)]
    return [index for index, piece in enumerate(pieces) if any(piece)]


def flip(path, os_page, at):
    with path.open("r+b") as file:
        file.seek(os_page * 4096 + at)
        byte = file.read(1)[0]
        file.seek(os_page * 4096 + at)
        file.write(bytes([byte ^ 0x10]))


@pytest.mark.parametrize("is_emptied", [False, True])
def test_flipped_bytes_of_an_image_layer_are_refused_by_their_os_page(image, is_emptied):
    """Each OS page is damaged for itself, and a load that needs it, or a download, refuses it."""
    snapshot("take", image)
    transfer(image)
    layer = Path(f"{image}.snapshots/0.image")
    before, good = Path(image).read_bytes(), layer.read_bytes()
    old, new = good, before.ljust(len(good), b"\0")
    refused = 0
    for os_page in filled_os_pages(layer):
        start = os_page * 4096
        if is_emptied:
            layer.write_bytes(good[:start] + bytes(4096) + good[start + 4096 :])
        else:
            flip(layer, os_page, 1000)
        reason = f"0.image, a layer of snapshots, is damaged: OS page {os_page} does not have the"
        assert reason in snapshot("download", image, "0", "out", status=2)
        assert not Path("out").exists()
        if old[start : start + 4096] != new[start : start + 4096]:
            assert reason in snapshot("load", image, "0", status=2)
            assert Path(image).read_bytes() == before
            refused += 1
        layer.write_bytes(good)
    assert refused
    snapshot("load", image, "0")
    assert cents(image) == [100, 200]


def test_flipped_bytes_of_a_layer_are_refused_by_their_os_page(image):
    snapshot("take", image)
    transfer(image)
    snapshot("take", image)
    transfer(image)
    before = Path(image).read_bytes()
    layer = next(Path(f"{image}.snapshots").glob("*.layer"))
    flip(layer, 2, 77)  # Behind its head and its table: the first OS page that it has.
    first = int.from_bytes(layer.read_bytes()[4096:4104], "little")
    assert f"is damaged: OS page {first} does not have" in snapshot("load", image, "1", status=2)
    assert Path(image).read_bytes() == before
    flip(layer, 2, 77)
    snapshot("load", image, "1")
    assert cents(image) == [107, 193]


def test_what_is_folded_into_an_image_has_its_checksums_from_then_on(image):
    snapshot("take", image)
    transfer(image)
    snapshot("take", image)
    after = Path(image).read_bytes()
    snapshot("delete", image, "0")
    layers = Path(f"{image}.snapshots")
    assert sorted(path.name for path in layers.iterdir()) == ["0.image", "0.sums", "index.json"]
    transfer(image)
    snapshot("load", image, "1")
    assert Path(image).read_bytes() == after
    transfer(image)
    for os_page in filled_os_pages(layers / "0.image"):
        flip(layers / "0.image", os_page, 0)
    assert "is damaged: OS page" in snapshot("load", image, "1", status=2)
    (layers / "0.sums").unlink()
    assert "0.sums, a part of a snapshot, cannot be read" in snapshot("load", image, "1", status=2)


REFUSED = [
    ("load", "ledger.stable", "77"),
    ("delete", "ledger.stable", "77"),
    ("take", "ledger.stable", "--replace", "77"),
    ("take", "ledger.stable"),
    ("upload", "ledger.stable", "out", "--replace", "77"),
    ("upload", "ledger.stable", "out"),
    ("upload", "ledger.stable", "empty"),
    ("upload", "new.stable", "empty"),
    ("upload", "new.stable", "missing"),
    ("upload", "new.stable", "out", "--replace", "0"),
]


def test_what_is_refused_leaves_every_file_as_it_was(image):
    for _ in range(10):
        snapshot("take", image)
    snapshot("download", image, "0", "out")
    Path("empty").mkdir()
    before, times = tree(Path()), Path(image).stat().st_mtime_ns
    for command in REFUSED:
        snapshot(*command, status=2)
        assert tree(Path()) == before, command
        assert Path(image).stat().st_mtime_ns == times, command


def test_a_narrow_list_says_what_it_leaves_out(image, monkeypatch):
    snapshot("take", image)
    monkeypatch.setenv("COLUMNS", "60")
    text = snapshot("list", image)
    assert max(map(len, text.splitlines())) <= 60
    joined = " ".join(text.split())
    assert "left out at this width: " in joined
    assert "to download or upload" in joined
    assert "or --format json" in joined
    monkeypatch.setenv("COLUMNS", "120")
    assert "left out" not in snapshot("list", image)


def test_the_time_of_a_snapshot_is_what_is_said(image):
    snapshot("take", image)
    snapshot("take", image, "--now", "2026-11-29 12:00")
    snapshot("take", image, "--now", "2026-11-29T13:00:00+01:00")
    text = snapshot("list", image)
    assert "2026-01-01 00:00" in text
    assert text.count("2026-11-29 12:00") == 2
    assert "take --now has said" in " ".join(text.split())
    before = tree(Path())
    for now in ("yesterday", "", "1969-12-31 23:59", "2555-01-01", "9999-12-31"):
        assert f"--now is {now!r}" in snapshot("take", image, "--now", now, status=2)
        assert tree(Path()) == before
