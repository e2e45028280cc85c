"""Snapshots of canisters: on both engines, in memory and on image files."""

import dataclasses
import json
from datetime import UTC, datetime

import pytest

from sqlstable import Canister, ImageError, MessageError, SnapshotError
from sqlstable.report.as_json import render_json
from tests.one_canister import trap
from tests.snapshot_world import KINDS, add, fill, grow, opened, owners, tree


@pytest.fixture(name="kind", params=KINDS)
def kind_fixture(request):
    return request.param


@pytest.fixture(name="canister")
def canister_fixture(kind, tmp_path):
    with opened(kind, tmp_path) as canister:
        fill(canister)
        yield canister


def test_loading_brings_back_bytes_and_answers_of_then(canister):
    image = canister.image()
    taken = canister.take_snapshot()
    add(canister, "later")
    assert canister.load_snapshot(taken).outcome == "committed"
    assert canister.image() == image
    assert owners(canister) == ["o0", "o1", "o2"]
    add(canister, "again")
    assert owners(canister)[-1] == "again"


def test_taking_one_is_no_message_and_changes_nothing(canister):
    image, count = canister.image(), canister.message_count
    canister.take_snapshot()
    assert (canister.image(), canister.message_count) == (image, count)


def test_loading_is_one_message_of_its_own_kind(canister):
    taken = canister.take_snapshot()
    add(canister, "later")
    count = canister.message_count
    reply = canister.load_snapshot(taken, label="back")
    assert canister.message_count == count + 1
    assert (reply.message.kind, reply.message.label) == ("load_snapshot", "back")
    # Those that one message had changed, and no more.
    assert 1 <= reply.footprint.os_pages_dirty <= 3


def test_only_what_has_changed_is_copied(canister):
    first = canister.take_snapshot()
    assert first.os_pages_copied > 3
    assert canister.take_snapshot().os_pages_copied == 0
    reply = canister.update("UPDATE account SET owner = 'x' WHERE id = 1")
    assert canister.take_snapshot().os_pages_copied == reply.footprint.os_pages_dirty
    assert canister.query("SELECT 1").rows
    assert canister.take_snapshot().os_pages_copied == 0


@pytest.mark.slow
def test_each_of_several_is_what_it_was_whatever_is_loaded_and_deleted(canister):
    images, taken = [], []
    for number in range(6):
        add(canister, f"n{number}")
        if number == 3:
            grow(canister)
        images.append(canister.image())
        taken.append(canister.take_snapshot())
    for at in (0, 4, 2, 5, 1, 3):
        canister.load_snapshot(taken[at])
        assert canister.image() == images[at]
    for gone in (2, 0, 5, 4):
        canister.delete_snapshot(taken[gone])
        for at in (1, 3):
            canister.load_snapshot(taken[at])
            assert canister.image() == images[at]
    assert [one.id for one in canister.snapshots] == [taken[1].id, taken[3].id]
    add(canister, "behind all")
    image, last = canister.image(), canister.take_snapshot()
    canister.load_snapshot(taken[1])
    canister.delete_snapshot(taken[1])
    canister.delete_snapshot(taken[3])
    canister.load_snapshot(last)
    assert canister.image() == image


def test_stable_memory_shrinks_with_a_snapshot_and_only_with_one(canister):
    taken, size = canister.take_snapshot(), canister.status().stable_size_bytes
    grow(canister)
    assert canister.status().stable_size_bytes > size
    canister.load_snapshot(taken)
    assert canister.status().stable_size_bytes == size
    assert owners(canister) == ["o0", "o1", "o2"]
    grow(canister)
    add(canister, "later")
    assert canister.query("PRAGMA integrity_check").rows == [("ok",)]


def test_what_one_is_said_to_be(canister):
    taken = canister.take_snapshot()
    assert canister.snapshots == (taken,)
    assert taken.taken_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert taken.canister_version == canister.message_count
    parts = (taken.stable_size_bytes, taken.heap_size_bytes, taken.module_size_bytes)
    assert taken.stable_size_bytes == canister.status().stable_size_bytes
    assert taken.size_bytes == sum(parts)
    assert taken.instructions == 2_000_000_000 + taken.size_bytes
    slices = sum(-(-part // 2_000_000) for part in parts)
    assert taken.transfer_instructions == slices * 5_000_000 + taken.size_bytes
    assert (taken.heap_size_bytes > 0) == (canister.machine.name == "wasm")
    assert len(taken.id) == 36
    with pytest.raises(dataclasses.FrozenInstanceError):
        taken.id = "other"


def test_an_eleventh_is_refused_and_may_replace_one(canister):
    taken = [canister.take_snapshot() for _ in range(10)]
    image = canister.image()
    with pytest.raises(SnapshotError, match=r"10 snapshots, as many as .* delete one, or let"):
        canister.take_snapshot()
    assert canister.snapshots == tuple(taken)
    add(canister, "later")
    new = canister.take_snapshot(replace=taken[4])
    assert [one.id for one in canister.snapshots] == [
        *(one.id for at, one in enumerate(taken) if at != 4),
        new.id,
    ]
    assert new.id not in {one.id for one in taken}
    canister.load_snapshot(taken[5])
    assert canister.image() == image


def test_one_that_is_not_there_is_refused_with_those_that_are(canister):
    taken = canister.take_snapshot()
    for ask in (canister.load_snapshot, canister.delete_snapshot):
        with pytest.raises(SnapshotError, match=f"no snapshot ff, it has {taken.number};"):
            ask("ff")
    with pytest.raises(SnapshotError, match="no snapshot ff"):
        canister.take_snapshot(replace="ff")
    assert canister.snapshots == (taken,)


def test_another_canisters_snapshot_is_refused(canister, kind, tmp_path_factory):
    canister.take_snapshot()
    image = canister.image()
    with opened(kind, tmp_path_factory.mktemp("other")) as other:
        fill(other, 99)
        theirs = other.take_snapshot()
    with pytest.raises(SnapshotError, match="is not this canister's"):
        canister.load_snapshot(theirs)
    assert canister.image() == image


def test_snapshots_outlive_an_upgrade_and_a_reinstallation(canister):
    taken = canister.take_snapshot()
    canister.upgrade()
    assert owners(canister) == ["o0", "o1", "o2"]
    canister.reinstall()
    assert canister.query("SELECT name FROM sqlite_schema").rows == []
    canister.load_snapshot(taken)
    assert owners(canister) == ["o0", "o1", "o2"]


def test_an_empty_canister_takes_none_and_loads_one(canister):
    taken = canister.take_snapshot()
    canister.uninstall()
    with pytest.raises(SnapshotError, match="the canister is empty"):
        canister.take_snapshot()
    canister.load_snapshot(taken)
    assert canister.state == "running"
    assert owners(canister) == ["o0", "o1", "o2"]


def test_none_is_taken_inside_of_a_message_or_of_a_closed_canister(canister):
    with canister.message("update") as message:
        message.execute("DELETE FROM account")
        with pytest.raises(MessageError, match="is open"):
            canister.take_snapshot()
    canister.close()
    with pytest.raises(MessageError, match="closed"):
        canister.take_snapshot()


def test_a_trapped_message_and_a_query_are_not_in_it(canister):
    canister.take_snapshot()
    canister.query("DELETE FROM account")
    trap(canister, "DELETE FROM account")
    assert canister.take_snapshot().os_pages_copied == 0


# -- on an image file -----------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["process", "power"])
def test_snapshots_survive_the_process_and_copies_go_on_from_them(tmp_path, durability):
    with opened("native file", tmp_path, durability=durability) as canister:
        fill(canister)
        first = canister.take_snapshot()
        add(canister, "a")
    with opened("native file", tmp_path, durability=durability) as canister:
        assert canister.snapshots == (first,)
        reply = canister.update("UPDATE account SET owner = 'b' WHERE owner = 'a'")
        copied = canister.take_snapshot().os_pages_copied
        # What changed before the image was closed, and after it was opened.
        assert 1 <= copied <= 1 + reply.footprint.os_pages_dirty + 1
        canister.load_snapshot(first.id)
        assert owners(canister) == ["o0", "o1", "o2"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "ledger.stable",
        "ledger.stable.snapshots",
    }


def test_a_read_only_image_lists_its_snapshots_and_takes_none(tmp_path):
    with opened("native file", tmp_path) as canister:
        fill(canister)
        taken = canister.take_snapshot()
    before = tree(tmp_path)
    with opened("native file", tmp_path, read_only=True) as canister:
        assert canister.snapshots == (taken,)
        with pytest.raises(SnapshotError, match="read-only"):
            canister.take_snapshot()
        with pytest.raises(SnapshotError, match="read-only"):
            canister.delete_snapshot(taken)
        with pytest.raises(Exception, match="read-only"):
            canister.load_snapshot(taken)
        canister.download_snapshot(taken, tmp_path / "out")
    after = {name: data for name, data in tree(tmp_path).items() if not name.startswith("out")}
    assert after == before


def test_an_image_that_somebody_has_replaced_is_compared(tmp_path):
    path = tmp_path / "ledger.stable"
    with opened("native file", tmp_path) as canister:
        fill(canister)
        taken = canister.take_snapshot()
    with Canister(tmp_path / "other.stable") as canister:
        fill(canister, 400)
        image = canister.image()
    (tmp_path / "other.stable").replace(path)
    with opened("native file", tmp_path) as canister:
        again = canister.take_snapshot()
        canister.load_snapshot(taken)
        assert owners(canister) == ["o0", "o1", "o2"]
        canister.load_snapshot(again)
        assert canister.image() == image


def test_nothing_is_watched_where_no_snapshots_are(tmp_path):
    with opened("native file", tmp_path) as canister:
        fill(canister)
        assert canister.memory.changed is None
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.stable"]


# -- engines --------------------------------------------------------------------------------------


def test_the_heap_comes_back_on_the_wasm_engine():
    with Canister(engine="wasm") as canister:
        fill(canister)
        canister.update("CREATE TEMP TABLE only_in_the_heap (x)")
        canister.update("INSERT INTO only_in_the_heap VALUES (7)")
        taken = canister.take_snapshot()
        canister.upgrade()
        with pytest.raises(Exception, match="no such table"):
            canister.query("SELECT x FROM only_in_the_heap")
        canister.load_snapshot(taken)
        assert canister.query("SELECT x FROM only_in_the_heap").rows == [(7,)]


def test_a_load_that_fails_brings_the_heap_back_too(tmp_path):
    with Canister(engine="wasm", layout="managed") as canister:
        fill(canister)
        canister.update("CREATE TEMP TABLE only_in_the_heap (x)")
        canister.download_snapshot(canister.take_snapshot(), tmp_path / "out")
        stable = tmp_path / "out" / "stable_memory.bin"
        stable.write_bytes(b"XXX" + stable.read_bytes()[3:])
        taken = canister.upload_snapshot(tmp_path / "out")
        image = canister.image()
        with pytest.raises(ImageError):
            canister.load_snapshot(taken)
        assert canister.image() == image
        assert canister.query("SELECT count(*) FROM only_in_the_heap").rows == [(0,)]
        assert owners(canister) == ["o0", "o1", "o2"]


def test_a_snapshot_of_another_module_is_refused_unless_stable_memory_is_enough(tmp_path):
    with Canister(engine="wasm") as canister:
        fill(canister)
        canister.download_snapshot(canister.take_snapshot(), tmp_path / "out")
    for options, refusal in (
        ({"engine": "native"}, "the native engine runs none"),
        ({"engine": "wasm", "build": "lean"}, "of another module"),
    ):
        with Canister(**options) as canister:
            fill(canister, 9)
            image = canister.image()
            uploaded = canister.upload_snapshot(tmp_path / "out")
            with pytest.raises(SnapshotError, match=refusal):
                canister.load_snapshot(uploaded)
            assert canister.image() == image
            canister.load_snapshot(uploaded, stable_only=True)
            assert owners(canister) == ["o0", "o1", "o2"]


def test_a_snapshot_of_another_layout_is_refused_and_nothing_changes(tmp_path):
    with Canister(layout="raw") as canister:
        fill(canister)
        canister.download_snapshot(canister.take_snapshot(), tmp_path / "out")
    with Canister(layout="managed") as canister:
        fill(canister, 9)
        image, count = canister.image(), canister.message_count
        uploaded = canister.upload_snapshot(tmp_path / "out")
        with pytest.raises(ImageError, match=r"manager|layout"):
            canister.load_snapshot(uploaded)
        assert (canister.image(), canister.message_count) == (image, count)
        assert len(owners(canister)) == 9


def test_a_trace_has_the_load_among_its_messages(tmp_path):
    with Canister(trace=":memory:") as canister:
        fill(canister)
        taken = canister.take_snapshot()
        add(canister, "later")
        canister.load_snapshot(taken)
        assert owners(canister) == ["o0", "o1", "o2"]
        with canister.trace() as trace:
            kinds = [message.kind for message in trace.messages]
    assert kinds == ["install", "update", "update", "update", "load_snapshot", "query"]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_a_load_that_runs_no_code_has_no_instructions_and_the_sum_is_that_of_the_others(engine):
    with Canister(engine=engine, trace=":memory:") as canister:
        canister.update("CREATE TABLE a (v)")
        loaded = canister.load_snapshot(canister.take_snapshot()).message
        canister.update("INSERT INTO a VALUES (1)")
        with canister.trace() as trace:
            messages, total = trace.messages, trace.summary.instructions
            said = json.loads("".join(render_json(trace)))["messages"][loaded.index]["instructions"]
            frame = trace.messages_frame()
    counted = [it.instructions.total for it in messages if it.instructions is not None]
    assert (loaded.kind, loaded.instructions, said) == ("load_snapshot", None, None)
    assert messages[loaded.index].instructions is None
    assert frame["instructions_total"].isna()[loaded.index]
    if engine == "wasm":
        assert len(counted) == len(messages) - 1
        assert total.total == sum(counted)
    else:
        assert (counted, total) == ([], None)
