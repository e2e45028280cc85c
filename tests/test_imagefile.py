"""Image files on a real file system: opened, recovered, or refused with the reason."""

import os
import shutil
import sqlite3
import struct
import zlib
from contextlib import closing, suppress
from random import Random

import pytest

from sqlstable import Canister, ImageError, MessageError, SettingsError, StableMemory, Trap
from sqlstable.ic.units import GIB
from sqlstable.memory.image import durable, imagefile
from sqlstable.memory.image.commitlog import CHECKSUM_BYTES, LogEntry, LogHeader, record_parts
from sqlstable.memory.image.imagefile import open_image
from sqlstable.trace.format.schema import TRACE_APPLICATION_ID
from sqlstable.workload.sweeping.results import RESULTS_APPLICATION_ID
from tests.images import (
    DURABILITIES,
    LAST,
    READERS,
    TWO,
    descriptor_count,
    files_in,
    left_behind,
    log_of,
    make,
    make_pending,
    mapped_bytes,
    open_descriptors,
    refusal,
    resident_bytes,
    send,
    unchanged,
    unchanged_file,
    using,
)
from tests.sim.messages import SCRIPTS, Message, filled, models, page


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.stable"


# -- plain use ------------------------------------------------------------------------------------


@READERS
@DURABILITIES
@pytest.mark.parametrize("name", SCRIPTS)
def test_an_image_file_is_stable_memory_as_it_is(path, monkeypatch, name, durability, use_map):
    monkeypatch.setattr(imagefile, "open_backing", using(use_map))
    images = models(SCRIPTS[name])
    memory = StableMemory.open(path, durability=durability)
    for message, image in zip(SCRIPTS[name], images[1:], strict=True):
        send(memory, message)
        assert memory.image() == image == path.read_bytes()
    assert log_of(path).exists()
    memory.close()
    assert files_in(path.parent) == {path.name: images[-1]}
    with StableMemory.open(path, is_read_only=True) as again:
        assert again.image() == images[-1]
        assert again.image_file.recovery is None
    assert StableMemory.from_image(path).image() == images[-1]


def test_what_a_message_did_not_commit_never_reaches_the_file(path):
    make(path)
    before = path.read_bytes()
    with StableMemory.open(path) as memory:
        for kind in ("query", "update"):
            memory.begin(kind)
            memory.grow(3)
            memory.write(0, b"gone")
            memory.rollback()
            assert path.read_bytes() == before
        with suppress(Trap), memory.message():
            memory.write(0, b"gone")
            memory.write(1 << 40, b"out of bounds")
        with suppress(ValueError), memory.message():
            memory.write(0, b"gone")
            raise ValueError
        assert path.read_bytes() == before == memory.image()
        with pytest.raises(MessageError, match="changed by messages only"):
            memory.write(0, b"outside")
        with pytest.raises(MessageError, match="changed by messages only"):
            memory.grow(1)
    assert path.read_bytes() == before


def test_closing_in_a_message_forgets_it_and_closing_twice_does_no_harm(path):
    make(path)
    before = path.read_bytes()
    memory = StableMemory.open(path)
    memory.begin("update")
    memory.grow(1)
    memory.write(0, b"gone")
    memory.close()
    memory.image_file.close()
    assert files_in(path.parent) == {path.name: before}
    assert not open_descriptors(path.parent)


def test_a_memory_that_is_forgotten_lets_go_and_leaves_its_log(path):
    memory = StableMemory.open(path)
    send(memory, TWO[0])
    del memory
    assert not open_descriptors(path.parent)
    with StableMemory.open(path) as again:
        assert "was not closed" in again.image_file.recovery
        assert again.image() == models(TWO)[1]


def test_the_file_is_made_only_when_asked_for(path):
    assert "there is no image file" in refusal(path, is_created=False)
    assert "there is no image file" in refusal(path, is_read_only=True)
    StableMemory.open(path).close()
    assert files_in(path.parent) == {path.name: b""}
    with StableMemory.open(path, is_created=False) as memory:
        assert memory.wasm_pages == 0


def test_an_unknown_durability_is_refused_before_anything_is_made(path):
    with pytest.raises(SettingsError, match="'paper'; it must be one of process, power"):
        StableMemory.open(path, durability="paper")
    assert not path.exists()


def test_the_log_has_the_rights_of_the_image(path):
    make(path)
    path.chmod(0o600)
    with StableMemory.open(path):
        assert log_of(path).stat().st_mode & 0o777 == 0o600


# -- recovery, and the line about it --------------------------------------------------------------


@DURABILITIES
@pytest.mark.parametrize("torn", [False, True])
def test_a_pending_message_is_finished_and_said_so_in_one_line(path, durability, torn):
    expected = make_pending(path, torn=torn, durability=durability)
    with StableMemory.open(path) as memory:
        assert memory.image_file.recovery == (
            f"{path} was not closed; the last message (1 OS page) recovered from its log"
        )
        assert memory.image() == expected == path.read_bytes()
        send(memory, Message(3, page("next", at=40)))
    with StableMemory.open(path) as memory:
        assert memory.image_file.recovery is None


def test_an_opening_that_was_killed_before_its_first_message_leaves_nothing_to_do(path):
    with left_behind(path, TWO[:1]) as left:
        log_of(left).write_bytes(log_of(left).read_bytes()[:4096])
        with StableMemory.open(left) as memory:
            assert memory.image_file.recovery == (
                f"{left} was not closed; all that was answered is there"
            )


@READERS
@DURABILITIES
def test_a_reader_applies_a_pending_log_in_memory_only(path, durability, use_map, monkeypatch):
    monkeypatch.setattr(imagefile, "open_backing", using(use_map))
    expected = make_pending(path, durability=durability)
    with unchanged(path.parent):
        for _ in range(2):
            with StableMemory.open(path, is_read_only=True) as memory:
                assert memory.image_file.recovery.endswith(
                    "recovered from its log; in memory only, the files stay as they are"
                )
                assert memory.image() == expected
                with memory.message("query"):
                    memory.write(0, b"discarded")
                assert memory.image() == expected
                with pytest.raises(Trap, match="is read-only, so only queries run on it; make it"):
                    memory.begin("update")
        assert StableMemory.from_image(path).image() == expected
        with pytest.raises(ImageError, match="no image file"):
            StableMemory.open(path.with_name("missing"), is_read_only=True)
    with StableMemory.open(path) as memory:
        assert memory.image() == expected


def test_a_reader_of_a_wiped_image_sees_zeros_where_nothing_was_written_since(path):
    messages = [*TWO, Message(1, page("new", at=3), is_wiped=True)]
    expected = make_pending(path, messages, torn=False)
    with unchanged(path.parent), StableMemory.open(path, is_read_only=True) as memory:
        assert memory.image() == expected
        with memory.message("query"):
            assert memory.read(0, 100) == bytes(100)
            assert memory.read((3 << 12) - 5, 8) == bytes(5) + filled("new")[:3]


# -- logs that do not belong ----------------------------------------------------------------------


FOREIGN = "is the log of another image, or of another state of "


@DURABILITIES
def test_the_log_of_another_image_is_refused(path, durability):
    make(path)
    for messages, reason in [
        ([Message(2, page("other", at=1)), Message(2, page("more"))], "OS page 1 is neither as it"),
        ([Message(5, page("x", at=70)), Message(6, {})], "the image has 131072 bytes, where the"),
    ]:
        # Power's logs begin with the first message since the opening; here that is the second.
        other = path.with_name("other.stable")
        make(other, messages[:1])
        log_of(path).write_bytes(log_behind(other, messages[1:], durability=durability))
        for options in ({}, {"is_read_only": True}, {"durability": "power"}):
            text = refusal(path, **options)
            assert FOREIGN + str(path) in text
            assert (
                f"Restore the two together, or move {log_of(path)} away to open the image" in text
            )
            if messages[0].wasm_pages > 2:
                assert reason in text
        log_of(path).unlink()
        other.unlink()


def log_behind(path, messages, **options):
    with left_behind(path, messages, **options) as left:
        data = log_of(left).read_bytes()
    shutil.rmtree(path.with_name("left"))
    return data


@DURABILITIES
def test_the_log_of_a_later_state_is_refused_beside_a_backup(path, monkeypatch, durability):
    """Whichever state a backup was taken of, the log fits it or is refused; never a mixture."""
    monkeypatch.setattr(durable, "CHECKPOINT_BYTES", 3 * 8192)
    choose = Random(3)
    messages = [Message(2, {})]
    messages += [Message(2, page(i, at=choose.randrange(32))) for i in range(13)]
    images = models(messages)
    backups = []
    with closing(StableMemory.open(path, durability=durability)) as memory:
        for message in messages:
            send(memory, message)
            backups.append(path.read_bytes())
        log = log_of(path).read_bytes()
    outcomes = []
    for backup in backups:
        path.write_bytes(backup)
        log_of(path).write_bytes(log)
        try:
            with StableMemory.open(path) as memory:
                # All messages, or those that the log holds behind the state of the backup.
                assert memory.image() == images[-1]
                outcomes.append("fits")
        except ImageError as error:
            text = str(error)
            assert FOREIGN in text
            assert path.read_bytes() == backup
            assert log_of(path).read_bytes() == log
            outcomes.append("refused")
            log_of(path).unlink()
    assert outcomes == sorted(outcomes, reverse=True)
    assert outcomes[0] == "refused"
    assert outcomes[-1] == "fits"
    # Every message was answered, so none of them is to be finished: only the newest state fits.
    assert outcomes.count("fits") == 1


@pytest.mark.slow
def test_the_log_of_a_ledger_is_refused_beside_every_older_backup(tmp_path):
    """Rows of fixed size, updated in place: neighbouring states differ in a few bytes."""
    path = tmp_path / "ledger.stable"
    choose = Random(1)
    canister = Canister(path)
    canister.update("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER, padding TEXT)")
    with canister.message() as message:
        rows = [(i, 1000, "x" * 30) for i in range(2000)]
        message.executemany("INSERT INTO account VALUES (?, ?, ?)", rows)
    backups = []
    for _ in range(30):
        backups.append(path.read_bytes())
        source, target = choose.sample(range(2000), 2)
        with canister.message() as message:
            message.execute("UPDATE account SET balance = balance - 1 WHERE id = ?", (source,))
            message.execute("UPDATE account SET balance = balance + 1 WHERE id = ?", (target,))
    log = log_of(path).read_bytes()
    canister.close()
    newest = path.read_bytes()
    accepted = 0
    for backup in backups:
        path.write_bytes(backup)
        log_of(path).write_bytes(log)
        try:
            StableMemory.open(path).close()
        except ImageError as error:
            text = str(error)
            assert FOREIGN in text
            assert path.read_bytes() == backup
        else:
            accepted += 1
            assert path.read_bytes() == newest
    # The last message was answered, so the state before it is not what a kill leaves.
    assert accepted == 0


BAD_LOGS = {
    "a diary": b"Dear diary, today I had a log",
    "a database": b"SQLite format 3\0" + bytes(5000),
    "zeros": bytes(5000),
    "zeros at first": bytes(100) + b"but not empty",
    "a newer version": b"SQSTLOG\n" + struct.pack("<I", 9) + bytes(9000),
    "an older version": b"SQSTLOG\n" + struct.pack("<I", 1) + bytes(9000),
    "a damaged header": b"SQSTLOG\n" + struct.pack("<I", 2) + b"?" * 9000,
}


@pytest.mark.parametrize("name", BAD_LOGS)
@pytest.mark.parametrize("is_read_only", [False, True])
@pytest.mark.parametrize("is_there", [False, True])
def test_a_log_that_is_none_is_refused_and_kept(path, name, is_read_only, is_there):
    if is_there:
        make(path)
    log_of(path).write_bytes(BAD_LOGS[name])
    text = refusal(path, is_read_only=is_read_only)
    if is_there or not is_read_only:
        assert str(log_of(path)) in text
        expected = {
            "a newer version": "has format version 9, and only 2 is known; open the image with a n",
            "an older version": "open the image once with sqlstable 0.1.0, which will recover it",
            "a damaged header": "is damaged: its header has a wrong checksum",
        }
        assert expected.get(name, "is not a log") in text


def test_what_lies_at_the_name_of_the_log_is_a_file_or_refused(path):
    make(path)
    log_of(path).mkdir()
    assert "is not a regular file, so it is no log; move it away" in refusal(path)
    log_of(path).rmdir()
    os.mkfifo(log_of(path))
    for is_read_only in (False, True):
        assert "is not a regular file" in refusal(path, is_read_only=is_read_only)
    log_of(path).unlink()
    target = path.with_name("elsewhere")
    target.write_bytes(b"")
    log_of(path).symlink_to(target)
    assert "Too many levels of symbolic links" in refusal(path)


@DURABILITIES
@pytest.mark.parametrize("os_page", [300, 1 << 52, 1 << 60])
def test_a_log_with_right_checksums_and_wrong_numbers_is_refused_and_nothing_written(
    path, os_page, durability
):
    make(path)
    header = LogHeader(durability, 1, b"i" * 16)
    size = CHECKSUM_BYTES[durability]
    crc = zlib.crc32(bytes(4096))
    entry = LogEntry(1, 2, 2, 0, 0, ((os_page << 12, 4096),), bytes(size), (crc,))
    parts = record_parts(zlib.crc32(header.log_id), entry, [bytes(4096)])
    log_of(path).write_bytes(header.encode() + b"".join(parts))
    for options in ({}, {"is_read_only": True}):
        text = refusal(path, **options)
        assert f"-log says what cannot be: record 1 changes OS page {os_page} of 2 Wasm p" in text
        assert "Move it away to open the image as it is" in text


def test_a_damaged_end_of_a_log_is_no_message(path):
    make_pending(path, torn=False)
    log = log_of(path).read_bytes()
    before = path.read_bytes()
    log_of(path).write_bytes(log[:8000])
    with StableMemory.open(path) as memory:
        assert "all that was answered is there" in memory.image_file.recovery
    assert path.read_bytes() == before


# -- paths and lengths ----------------------------------------------------------------------------


def test_folders_pipes_devices_and_missing_folders_are_refused(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for is_read_only in (False, True):
        for path in (folder, pipe):
            text = refusal(path, is_read_only=is_read_only)
            assert "is not a regular file" in text or "Is a directory" in text
    with pytest.raises(ImageError, match="is not a regular file"):
        StableMemory.open("/dev/null")
    missing = tmp_path / "no" / "such"
    with pytest.raises(ImageError, match="cannot be opened as an image: No such file"):
        StableMemory.open(missing / "x.stable")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ImageError, match="cannot be opened as an image: Not a directory"):
        StableMemory.open(tmp_path / "file" / "x.stable")
    for name in ("", "\0", "x" * 300):
        with pytest.raises(ImageError, match="cannot be"):
            StableMemory.open(name)
    assert sorted(files_in(tmp_path)) == ["file", "folder", "pipe"]


def test_a_symbolic_link_leads_to_the_image_and_its_log(path, tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    path.symlink_to(there / "real.stable")
    with StableMemory.open(path) as memory:
        send(memory, TWO[0])
        assert sorted(files_in(there)) == ["real.stable", "real.stable-log"]
        with pytest.raises(ImageError, match="is open in this process already"):
            StableMemory.open(there / "real.stable")
    assert files_in(there) == {"real.stable": models(TWO)[1]}
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(ImageError, match="Too many levels of symbolic links"):
        StableMemory.open(path)


def test_an_image_whose_log_cannot_have_a_name_is_not_made(tmp_path):
    longest = os.pathconf(tmp_path, "PC_NAME_MAX")
    assert "File name too long" in refusal(tmp_path / ("x" * (longest - 1)))
    assert files_in(tmp_path) == {}
    StableMemory.open(tmp_path / ("x" * (longest - 4))).close()


def test_an_image_with_two_names_is_refused(path):
    make(path)
    path.with_name("second").hardlink_to(path)
    text = refusal(path)
    assert "has 2 names (hard links), and its log lies beside one of them only; copy it" in text
    assert "has 2 names" in refusal(path, is_read_only=True)


def test_an_image_that_is_replaced_while_it_is_opened_is_refused(path, monkeypatch):
    make(path)
    real_lock = imagefile._lock

    def replace_first(*arguments, **options):
        path.with_name("new").write_bytes(b"")
        path.with_name("new").rename(path)
        real_lock(*arguments, **options)

    monkeypatch.setattr(imagefile, "_lock", replace_first)
    with pytest.raises(ImageError, match="was replaced while it was being opened; try again"):
        StableMemory.open(path)


@pytest.mark.parametrize("size_bytes", [1, 65_535, 65_537, 2 * 65_536 - 4096])
@pytest.mark.parametrize("is_read_only", [False, True])
def test_a_length_that_is_no_multiple_of_a_wasm_page_is_refused(path, size_bytes, is_read_only):
    path.write_bytes(bytes(size_bytes))
    text = refusal(path, is_read_only=is_read_only)
    assert f"is {size_bytes} bytes long, {size_bytes % 65_536} more than" in text


def test_a_plain_database_is_refused_with_the_way_to_import_it(path):
    path.write_bytes(b"SQLite format 3\0" + bytes(8176))
    assert f"is a SQLite database, no image; sqlstable import {path} IMAGE makes" in refusal(path)


def test_an_empty_file_is_an_empty_image(path):
    path.write_bytes(b"")
    with StableMemory.open(path) as memory:
        assert memory.wasm_pages == 0
        send(memory, TWO[0])
    assert path.read_bytes() == models(TWO)[1]


def test_an_image_larger_than_the_limits_is_refused(path):
    path.touch()
    os.truncate(path, 9 * GIB)
    with pytest.raises(ImageError, match="the image has 147456 Wasm pages, the limit is 131072"):
        StableMemory.open(path, limits="2022-01-01")
    assert not log_of(path).exists()
    assert path.stat().st_size == 9 * GIB
    StableMemory.open(path).close()


@pytest.mark.slow
@READERS
def test_five_hundred_gib_open_with_few_blocks_and_little_memory(path, use_map):
    path.touch()
    os.truncate(path, 500 * GIB)
    before = resident_bytes()
    image = open_image(path, capacity_bytes=500 * GIB, use_map=use_map)
    with StableMemory(image=image) as memory:
        for address in (0, 250 * GIB, 500 * GIB - 4096):
            with memory.message():
                assert memory.read(address, 5) == bytes(5)
                memory.write(address, b"there")
            with memory.message("query"):
                assert memory.read(address, 5) == b"there"
        assert resident_bytes() - before < 64 << 20
    found = path.stat()
    assert found.st_size == 500 * GIB
    # Three Wasm pages of space were asked for.
    assert found.st_blocks * 512 <= 1 << 20
    with StableMemory.open(path) as memory:
        assert sum(len(data) for _, data in memory.image_file.pieces()) <= 1 << 20


def test_growth_alone_makes_a_hole(path):
    with StableMemory.open(path) as memory, memory.message():
        memory.grow(1 << 20)
    assert path.stat().st_size == 64 * GIB
    assert path.stat().st_blocks * 512 < 1 << 20


# -- copies ---------------------------------------------------------------------------------------


@DURABILITIES
def test_a_copy_of_an_idle_image_is_whole_with_and_without_its_log(path, tmp_path, durability):
    memory = StableMemory.open(path, durability=durability)
    for number, message in enumerate([*TWO, LAST], start=1):
        send(memory, message)
        for with_log in (False, True):
            copy = tmp_path / f"copy{number}{with_log}"
            shutil.copy(path, copy)
            if with_log:
                shutil.copy(log_of(path), log_of(copy))
            with StableMemory.open(copy) as other:
                assert other.image() == models([*TWO, LAST])[number]
                # A copy of the log names the owner of the original; that does not matter.
                assert (other.image_file.recovery is not None) == with_log
                send(other, Message(4, page("apart", at=number)))
    memory.close()
    assert path.read_bytes() == models([*TWO, LAST])[-1]


def test_a_copy_with_a_pending_log_recovers_by_itself(path, tmp_path):
    expected = make_pending(path)
    copy = tmp_path / "elsewhere.stable"
    shutil.copy(path, copy)
    shutil.copy(log_of(path), log_of(copy))
    with unchanged_file(path), unchanged_file(log_of(path)), StableMemory.open(copy) as memory:
        assert memory.image() == expected


# -- leaks ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_thousands_of_openings_leak_neither_descriptors_nor_memory(path):
    make(path)

    def use(times):
        for number in range(times):
            memory = StableMemory.open(path, is_read_only=number % 5 == 0)
            with memory.message("query"):
                memory.read(0, 10)
            if number % 7:
                memory.close()
            else:
                del memory

    use(200)
    before = resident_bytes(), mapped_bytes(), descriptor_count()
    use(3000)
    assert resident_bytes() - before[0] < 4 << 20
    assert mapped_bytes() - before[1] < 64 << 20
    assert descriptor_count() == before[2]


def test_refused_openings_leak_no_descriptors(path):
    path.write_bytes(b"short")
    for _ in range(50):
        refusal(path)
    log_of(path).write_bytes(b"foreign")
    for _ in range(50):
        refusal(path)


@pytest.mark.parametrize("application_id", [TRACE_APPLICATION_ID, RESULTS_APPLICATION_ID])
def test_a_file_of_ours_is_no_image_however_long_it_is(path, application_id):
    connection = sqlite3.connect(path)
    connection.executescript(f"PRAGMA application_id = {application_id}; CREATE TABLE t (x)")
    connection.close()
    path.write_bytes(path.read_bytes().ljust(2 * 65536, b"\0"))
    before = path.read_bytes()
    with pytest.raises(ImageError, match="is a SQLite database, no image; sqlstable import"):
        StableMemory.open(path)
    assert path.read_bytes() == before
