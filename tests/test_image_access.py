"""Who may open an image file, and what becomes of it when somebody else changes it."""

import errno
import os
import shutil
import signal
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from sqlstable import ImageError, StableMemory
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.memory.image import imagefile
from tests.children import another_process, run_python
from tests.images import (
    DURABILITIES,
    HOLD,
    TWO,
    log_of,
    make,
    make_pending,
    open_descriptors,
    refusal,
    send,
    unchanged,
    wait_for_a_tick,
)
from tests.sim.messages import Message, models, page


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.stable"


# -- who may open it ------------------------------------------------------------------------------


def test_a_second_process_is_refused_with_the_owners_process_id(path):
    with another_process(HOLD, path) as owner:
        text = refusal(path)
        assert text == f"{path} is open in process {owner.pid}; close it there first"
        assert refusal(path, is_read_only=True) == text
        owner.communicate("\n")
    # It ended without closing, and its lock went with it.
    with StableMemory.open(path) as memory:
        assert "was not closed" in memory.image_file.recovery


def test_an_owner_that_was_killed_leaves_no_lock(path):
    with another_process(HOLD, path) as owner:
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
        StableMemory.open(path).close()


def test_the_same_process_is_refused_too(path):
    with StableMemory.open(path), pytest.raises(ImageError, match="is open in this process alr"):
        StableMemory.open(path)
    StableMemory.open(path).close()


def test_readers_share_and_keep_writers_out(path):
    make(path)
    with another_process(HOLD, path, "read-only") as owner:
        with StableMemory.open(path, is_read_only=True) as one:
            assert one.image() == models(TWO)[-1]
            with StableMemory.open(path, is_read_only=True) as two:
                assert two.image() == one.image()
        assert "is open in another process, or twice in this one, for reading" in refusal(path)
        owner.communicate("\n")
    StableMemory.open(path).close()


def test_whoever_loses_the_race_to_make_an_image_leaves_it_to_the_winner(path, monkeypatch):
    """One process makes the file, another locks it first: the file must stay."""
    real_lock = imagefile._lock
    winners = []

    def lock_late(*arguments, **options):
        if not winners:
            winners.append(None)
            winners.append(StableMemory.open(path))
        real_lock(*arguments, **options)

    monkeypatch.setattr(imagefile, "_lock", lock_late)
    with pytest.raises(ImageError, match="is open in this process already"):
        StableMemory.open(path)
    winner = winners[1]
    send(winner, TWO[0])
    send(winner, TWO[1])
    winner.close()
    assert path.read_bytes() == models(TWO)[-1]


FORK = """
    import os, sys
    from sqlstable import ImageError, MessageError, StableMemory, Trap
    path, where = sys.argv[1:]
    memory = StableMemory.open(path)
    with memory.message():
        memory.grow(1)
        memory.write(0, b"parent")
    if where == "inside":
        memory.begin("update")
        memory.write(0, b"inside")
    child = os.fork()
    if child == 0:
        if where == "inside":
            try:
                memory.commit()
            except Trap as trap:
                assert "is its parent's" in str(trap), trap
                memory.rollback()
            else:
                os._exit(3)
        for kind in ("query", "update"):
            try:
                memory.begin(kind)
            except ImageError as error:
                assert "is its parent's; open another image in the child" in str(error), error
            else:
                os._exit(4)
        try:
            memory.image()
        except ImageError as error:
            assert "is its parent's; open another image in the child" in str(error), error
        else:
            os._exit(5)
        assert not [n for n in os.listdir("/proc/self/fd") if path in link(n)]
        if where == "close":
            memory.close()
        # Some children leave as Python programs do, others at once.
        sys.exit(0) if where != "kill" else os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    if where == "inside":
        memory.commit()
        assert memory.read(0, 6) == b"inside"
    with memory.message():
        memory.write(0, b"after!")
    grandchild = os.fork()
    if grandchild == 0:
        import time
        time.sleep(60)
        os._exit(0)
    memory.close()
    # The child that lives on does not keep the image locked.
    with StableMemory.open(path) as again:
        assert again.image_file.recovery is None
        assert again.read(0, 6) == b"after!"
        os.kill(grandchild, 9)
        os.waitpid(grandchild, 0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["outside", "inside", "close", "kill"])
def test_a_forked_child_cannot_write_and_does_no_harm(path, where):
    link = """
    def link(number):
        try:
            return os.readlink("/proc/self/fd/" + number)
        except OSError:
            return ""
"""
    code = FORK.replace(
        "    path, where = sys.argv[1:]\n", link + "    path, where = sys.argv[1:]\n"
    )
    run_python(code, path, where)
    assert path.read_bytes()[:6] == b"after!"
    assert not log_of(path).exists()


ORPHAN = """
    import os, sys, time
    from sqlstable import StableMemory
    memory = StableMemory.open(sys.argv[1])
    with memory.message():
        memory.grow(1)
        memory.write(0, b"parent")
    held = memory.backing.read(0, 6)
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, b"!")
        # The pipe of the output closes with this process, and it is not to be waited for.
        os.close(1)
        os.close(2)
        sys.stdin.read()
        os._exit(0)
    os.read(reading, 1)
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_the_child_of_an_owner_that_was_killed_keeps_no_lock(path):
    with another_process(ORPHAN, path) as owner:
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
        with StableMemory.open(path) as memory:
            assert "was not closed" in memory.image_file.recovery
            assert memory.read(0, 6) == b"parent"


def test_a_view_that_is_held_keeps_no_lock(path):
    make(path)
    memory = StableMemory.open(path)
    held = memory.backing.read(0, 10)
    memory.close()
    with StableMemory.open(path) as again:
        assert again.read(0, 10) == bytes(held)


# -- read-only files and folders ------------------------------------------------------------------


@contextmanager
def open_to_all():
    """A folder that an unprivileged process can reach; pytest's own ones are private."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


DROPPED = """
    import os, sys
    from sqlstable import ImageError, StableMemory, Trap
    # Python's own modules may lie where only the one who may do all can read them.
    import sqlstable.memory.image.imagefile
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    path = sys.argv[1]
"""


@pytest.mark.slow
@pytest.mark.parametrize("is_pending", [False, True])
def test_a_file_that_may_not_be_written_is_opened_for_queries(is_pending):
    with open_to_all() as folder:
        path = folder / "ledger.stable"
        if is_pending:
            expected = make_pending(path)
        else:
            make(path)
            expected = path.read_bytes()
        for one in folder.iterdir():
            one.chmod(0o444)
        with unchanged(folder):
            seen = run_python(
                DROPPED
                + """
    with StableMemory.open(path) as memory:
        print(memory.image_file.recovery, memory.image().hex())
        try:
            memory.begin("update")
        except Trap as trap:
            assert "is read-only, so only queries run on it" in str(trap), trap
        else:
            raise SystemExit("an update began")
        """,
                path,
            )
        recovery, image = seen.rsplit(None, 1)
        assert image == expected.hex()
        assert ("in memory only" in recovery) == is_pending


@pytest.mark.slow
def test_a_folder_that_may_not_be_written_is_refused_and_can_be_read():
    with open_to_all() as folder:
        path = folder / "ledger.stable"
        make(path)
        path.chmod(0o666)
        with unchanged(folder):
            run_python(
                DROPPED
                + """
    try:
        StableMemory.open(path)
    except ImageError as error:
        assert "no log can be made at" in str(error), error
        assert "make the folder writable, or open the image read-only" in str(error), error
    else:
        raise SystemExit("it was opened")
    try:
        StableMemory.open(path + "-new")
    except ImageError as error:
        assert "cannot be opened as an image: Permission denied" in str(error), error
    with StableMemory.open(path, is_read_only=True) as memory:
        assert memory.wasm_pages == 2
        """,
                path,
            )


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_whatever_forbids_writing_makes_a_reader(path, monkeypatch, number):
    make(path)
    real = os.open

    def forbid(name, flags, *rest, **options):
        if flags & (os.O_RDWR | os.O_CREAT):
            raise OSError(number, os.strerror(number))
        return real(name, flags, *rest, **options)

    monkeypatch.setattr(os, "open", forbid)
    with StableMemory.open(path) as memory:
        assert memory.image_file.is_read_only
        assert memory.image_file.durability is None
        assert memory.image() == models(TWO)[-1]


# -- changed underneath ---------------------------------------------------------------------------


def truncate(path):
    os.truncate(path, WASM_PAGE_BYTES)


def grow(path):
    os.truncate(path, 9 * WASM_PAGE_BYTES)


def rewrite(path):
    with path.open("r+b") as file:
        file.write(b"foreign")
    # Clocks of file systems tick a few hundred times a second only.
    os.utime(path, ns=(time.time_ns() + 10**9,) * 2)


def delete(path):
    path.unlink()


def replace(path):
    path.with_name("other").write_bytes(bytes(WASM_PAGE_BYTES))
    path.with_name("other").rename(path)


def link(path):
    path.with_name("second name").hardlink_to(path)


def move(path):
    path.rename(path.with_name("moved"))


def delete_log(path):
    log_of(path).unlink()


def look_again(memory):
    """As if some time had gone by since the last look."""
    memory.image_file._looked_ns = 0


def rename_a_copy_into_its_place(path):
    """What is open lives on under another name."""
    path.rename(path.with_name("moved"))
    shutil.copy2(path.with_name("moved"), path)


def set_time_back(path):
    """To a time before everything, which a copy with kept times may have."""
    os.utime(path, ns=(10**18, 10**18))


def set_time_back_a_little(path):
    """To a time before the last message, but not by whole seconds."""
    time_ns = path.stat().st_mtime_ns - 123_456_789
    os.utime(path, ns=(time_ns, time_ns))


TIMES = (rewrite, set_time_back, set_time_back_a_little)

CHANGES = {
    truncate: "it had 131072 bytes and has 65536",
    grow: "it had 131072 bytes and has 589824",
    rewrite: "it was written to",
    set_time_back: "it was written to",
    set_time_back_a_little: "it was written to",
    rename_a_copy_into_its_place: "it was moved, or its log deleted",
    delete: "it was deleted",
    replace: "it was deleted",
    move: "it was moved, or its log deleted",
    delete_log: "it was moved, or its log deleted",
}


@DURABILITIES
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_an_image_that_was_changed_underneath_takes_no_more_messages(path, change, durability):
    memory = StableMemory.open(path, durability=durability)
    if change in TIMES and not memory.image_file._has_times:
        memory.close()
        pytest.skip("times are not looked at where a file is read by pread")
    for message in TWO:
        send(memory, message)
    change(path)
    look_again(memory)
    text = f"somebody else has changed the image while it was open: {CHANGES[change]}. No message"
    with unchanged(path.parent):
        for kind in ("query", "update", "upgrade"):
            for _ in range(2):
                with pytest.raises(ImageError, match=text):
                    memory.begin(kind)
        memory.close()
        assert log_of(path).exists() == (change is not delete_log)
        assert not open_descriptors(path.parent)


@DURABILITIES
def test_a_second_name_of_an_open_image_stops_nothing_and_is_refused_by_the_next_opening(
    path, durability
):
    """Some backup tools make one; what is open goes by the file, whatever its names are."""
    second = path.with_name("second name")
    with StableMemory.open(path, durability=durability) as memory:
        send(memory, TWO[0])
        link(path)
        look_again(memory)
        send(memory, TWO[1])
        assert memory.image() == models(TWO)[-1]
        with pytest.raises(ImageError, match="second name is open in"):
            StableMemory.open(second)
    assert path.read_bytes() == models(TWO)[-1]
    assert "has 2 names (hard links), and its log lies beside one of them only" in refusal(path)


@DURABILITIES
@pytest.mark.parametrize("size_bytes", [0, 100, 4096])
def test_a_log_that_somebody_cut_off_is_written_anew(path, durability, size_bytes):
    memory = StableMemory.open(path, durability=durability)
    for message in TWO:
        send(memory, message)
    for number in range(3):
        os.truncate(log_of(path), size_bytes)
        look_again(memory)
        memory.begin("query")
        memory.rollback()
        assert log_of(path).stat().st_size > 4096
        send(memory, Message(2, page("more", number, at=number + 6)))
    expected = memory.image()
    # Killed now, the image is whole, and its log knows it.
    image, log = path.read_bytes(), log_of(path).read_bytes()
    memory.close()
    path.write_bytes(image)
    log_of(path).write_bytes(log)
    with StableMemory.open(path) as again:
        assert again.image() == expected
    path.write_bytes(models(TWO)[-1])
    log_of(path).write_bytes(log)
    assert "is the log of another image, or of another state of" in refusal(path)


def test_a_log_that_was_cut_off_and_cannot_be_written_is_said(path, monkeypatch):
    memory = StableMemory.open(path)
    send(memory, TWO[0])
    os.truncate(log_of(path), 0)
    look_again(memory)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(memory.image_file._log, "write", fail, raising=False)
    with pytest.raises(ImageError, match="cannot be written anew: No space left on device"):
        memory.begin("update")
    memory.close()
    assert path.read_bytes() == models(TWO)[1]


@DURABILITIES
@pytest.mark.parametrize("change", [truncate, grow], ids=lambda change: change.__name__)
def test_another_length_is_noticed_at_once(path, change, durability):
    """Whatever else is looked at now and then only: a map must not be read beyond its file."""
    memory = StableMemory.open(path, durability=durability)
    send(memory, TWO[0])
    memory.image_file._looked_ns = time.monotonic_ns() + 10**15
    change(path)
    with pytest.raises(ImageError, match="it had 131072 bytes and has"):
        memory.begin("query")
    memory.close()


def test_a_change_that_is_first_seen_at_the_close_keeps_the_log(path):
    memory = StableMemory.open(path)
    send(memory, TWO[0])
    truncate(path)
    with unchanged(path.parent):
        with pytest.raises(ImageError, match="somebody else has changed the image"):
            memory.close()
        assert log_of(path).exists()
        memory.close()


@DURABILITIES
def test_a_copy_with_kept_times_put_back_is_noticed_whatever_its_time(path, durability):
    """Also where its time is the very one that was seen before the last message."""
    memory = StableMemory.open(path, durability=durability)
    if not memory.image_file._has_times:
        memory.close()
        pytest.skip("times are not looked at where a file is read by pread")
    send(memory, TWO[0])
    backup = path.with_name("backup")
    shutil.copy2(path, backup)
    look_again(memory)
    memory.begin("query")
    memory.rollback()
    wait_for_a_tick(path)
    send(memory, TWO[1])
    shutil.copy2(backup, path)
    look_again(memory)
    text = "somebody else has changed the image while it was open: it was written to"
    with unchanged(path.parent):
        with pytest.raises(ImageError, match=text):
            memory.begin("update")
        memory.close()
        assert log_of(path).exists()


@DURABILITIES
@pytest.mark.parametrize("grain_ns", [1, 100, 1000, 10**7, 10**9, 2 * 10**9])
def test_times_that_a_file_system_cuts_down_are_our_own(path, durability, grain_ns, monkeypatch):
    real_fstat = os.fstat

    class Coarse:
        def __init__(self, found):
            self.found = found
            self.st_mtime_ns = found.st_mtime_ns // grain_ns * grain_ns

        def __getattr__(self, name):
            return getattr(self.found, name)

    monkeypatch.setattr(imagefile.os, "fstat", lambda descriptor: Coarse(real_fstat(descriptor)))
    with StableMemory.open(path, durability=durability) as memory:
        for number in range(30):
            send(memory, Message(2, page("more", number)))
            look_again(memory)
            if number % 3 == 0:
                memory.begin("query")
                memory.rollback()


@DURABILITIES
@pytest.mark.parametrize("is_used_again", [False, True])
def test_two_owners_after_a_rename_leave_each_other_alone(path, durability, is_used_again):
    """The second opens a copy under the first one's name, and has a log of its own there."""
    moved = path.with_name("moved")
    first = StableMemory.open(path, durability=durability)
    send(first, TWO[0])
    rename_a_copy_into_its_place(path)
    with StableMemory.open(path, durability=durability) as second:
        with unchanged(path.parent):
            if is_used_again:
                look_again(first)
                with pytest.raises(ImageError, match="it was moved, or its log deleted"):
                    first.begin("update")
                first.close()
            else:
                with pytest.raises(ImageError, match="it was moved, or its log deleted"):
                    first.close()
        send(second, TWO[1])
        assert log_of(path).exists()
    assert path.read_bytes() == models(TWO)[-1]
    assert moved.read_bytes() == models(TWO)[1]
    assert not log_of(path).exists()


@DURABILITIES
def test_a_log_of_somebody_else_is_not_removed_by_a_close(path, durability):
    memory = StableMemory.open(path, durability=durability)
    send(memory, TWO[0])
    log_of(path).unlink()
    log_of(path).write_bytes(b"another")
    with pytest.raises(ImageError, match="it was moved, or its log deleted"):
        memory.close()
    assert log_of(path).read_bytes() == b"another"
