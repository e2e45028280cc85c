"""A log beside an image that it does not continue: the routes that people take, end to end."""

import os
import shutil
import signal
from contextlib import closing

import pytest

from sqlstable import Canister, ImageError
from tests.children import another_process
from tests.images import DURABILITIES, files_in, log_of, unchanged, wait_for_a_tick
from tests.test_cli import call, folder  # noqa: F401

MISFIT = "is the log of another image, or of another state of "

ENGINES = pytest.mark.parametrize("engine", ["native", "wasm"])

WORK = """
    import sys
    from sqlstable import Canister
    path, durability, engine, count = sys.argv[1:]
    canister = Canister(path, durability=durability, engine=engine)
    for number in range(int(count)):
        canister.update("INSERT INTO account (cents) VALUES (?)", (1000 + number,))
    print("ready", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.stable"


def make(path):
    with Canister(path) as canister:
        canister.update("CREATE TABLE account (id INTEGER PRIMARY KEY, cents INTEGER)")
        canister.update("INSERT INTO account (cents) VALUES (1)")


def cents(path):
    with Canister(path) as canister:
        return [row[0] for row in canister.query("SELECT cents FROM account").rows]


def kill_a_run(path, durability, engine="native", count=3):
    with another_process(WORK, path, durability, engine, count) as owner:
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()


def assert_refused(path):
    """Whoever opens it is told what to do; nothing is lost; done, the backup is what it was."""
    for options in ({}, {"read_only": True}, {"durability": "power"}, {"engine": "wasm"}):
        with unchanged(path.parent), pytest.raises(ImageError) as caught:
            Canister(path, **options)
        assert f"{log_of(path)} {MISFIT}{path}: " in str(caught.value)
        assert f"move {log_of(path)} away to open the image as it is" in str(caught.value)


@pytest.mark.slow
@DURABILITIES
@ENGINES
@pytest.mark.parametrize("count", [1, 3])
def test_a_backup_put_in_the_place_of_a_killed_image_is_not_written_over(
    path, durability, engine, count
):
    make(path)
    backup = path.with_name("backup.stable")
    shutil.copy(path, backup)
    kill_a_run(path, durability, engine, count)
    shutil.copy(backup, path)
    assert_refused(path)
    log_of(path).rename(path.with_name("moved away"))
    assert cents(path) == [1]


@pytest.mark.slow
@DURABILITIES
def test_a_backup_of_a_later_state_is_not_written_over(path, durability):
    """Taken while the image was open, between two messages."""
    make(path)
    backup = path.with_name("backup.stable")
    with another_process(WORK, path, durability, "native", 2) as owner:
        shutil.copy(path, backup)
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
    with Canister(path, durability=durability) as canister:
        assert "was not closed" in canister.recovery
    kill_a_run(path, durability)
    shutil.copy(backup, path)
    assert_refused(path)


@pytest.mark.slow
@DURABILITIES
def test_the_log_of_a_killed_image_stays_with_it_wherever_both_are_copied(path, durability):
    make(path)
    kill_a_run(path, durability)
    there = path.with_name("there")
    there.mkdir()
    for one in (path, log_of(path)):
        shutil.copy(one, there / one.name)
    (there / path.name).rename(there / "other.stable")
    log_of(there / path.name).rename(log_of(there / "other.stable"))
    assert cents(there / "other.stable") == cents(path) == [1, 1000, 1001, 1002]
    assert sorted(files_in(there)) == ["other.stable"]


@DURABILITIES
def test_the_log_of_another_new_image_is_not_applied(tmp_path, durability):
    """The first message of every new image writes the same OS pages of the memory manager."""
    one, two = tmp_path / "one.stable", tmp_path / "two.stable"
    with Canister(one) as canister:
        canister.update("CREATE TABLE precious (x)")
        canister.update("INSERT INTO precious VALUES (1)")
    with closing(Canister(two, durability=durability)) as canister:
        canister.update("CREATE TABLE z (a)")
        shutil.copy(log_of(two), log_of(one))
        shutil.copy(log_of(two), tmp_path / "log")
    assert_refused(one)
    log_of(one).unlink()
    with Canister(one) as canister:
        assert canister.query("SELECT x FROM precious").rows == [(1,)]
    # Nor where the two differ in what somebody writes later.
    shutil.copy(two, one)
    with Canister(one) as canister:
        canister.update("INSERT INTO z VALUES (1)")
    shutil.copy(tmp_path / "log", log_of(one))
    assert_refused(one)


@DURABILITIES
def test_two_histories_of_one_base_are_not_merged(tmp_path, durability):
    """Neither writes an OS page that the other does, but for the database's first."""
    base, one, two = (tmp_path / f"{name}.stable" for name in ("base", "one", "two"))
    with Canister(base) as canister:
        for table in ("precious", "other"):
            canister.update(f"CREATE TABLE {table} (x)")
    for path in (one, two):
        shutil.copy(base, path)
    with closing(Canister(one, durability=durability)) as canister:
        canister.update("INSERT INTO precious VALUES (1)")
        with Canister(two) as other:
            other.update("INSERT INTO other VALUES (2)")
        shutil.copy(log_of(one), log_of(two))
    assert_refused(two)
    log_of(two).unlink()
    with Canister(two) as canister:
        assert canister.query("SELECT x FROM other").rows == [(2,)]
        assert canister.query("SELECT x FROM precious").rows == []


@pytest.mark.slow
@DURABILITIES
def test_a_copy_of_image_and_log_in_use_is_the_newest_state_or_refused(tmp_path, durability):
    """Whichever was copied first, and however many messages came between."""
    path = tmp_path / "app.stable"
    make(path)
    images, logs, states = [], [], []
    with closing(Canister(path, durability=durability)) as canister:
        for number in range(6):
            canister.update("INSERT INTO account (cents) VALUES (?)", (number,))
            images.append(path.read_bytes())
            logs.append(log_of(path).read_bytes())
            states.append([1, *range(number + 1)])
    for image_number, image in enumerate(images):
        for log_number, log in enumerate(logs):
            path.write_bytes(image)
            log_of(path).write_bytes(log)
            if image_number == log_number:
                assert cents(path) == states[log_number]
            else:
                assert_refused(path)
                log_of(path).unlink()


@pytest.mark.slow
@DURABILITIES
def test_the_command_line_refuses_a_backup_beside_the_log_of_a_killed_run(
    folder,  # noqa: F811
    durability,
):
    path = folder / "app.stable"
    make(path)
    shutil.copy(path, "backup.stable")
    kill_a_run(path, durability)
    shutil.copy("backup.stable", path)
    for arguments in (("run", "-", "--image", "app.stable"), ("extract", "app.stable", "out.db")):
        with unchanged(folder):
            result = call(*arguments, stdin="SELECT 1;")
        assert result.exit_code == 2
        text = " ".join(result.stderr.split())
        assert f"app.stable-log {MISFIT}app.stable: " in text
        assert "app.stable-log away to open the image as it is" in text
    log_of(path).unlink()
    assert cents(path) == [1]


@pytest.mark.slow
@DURABILITIES
@ENGINES
@pytest.mark.parametrize("is_message_next", [False, True])
def test_a_backup_with_kept_times_written_over_an_open_image_loses_nothing_in_silence(
    path, durability, engine, is_message_next
):
    make(path)
    backup = path.with_name("backup.stable")
    shutil.copy2(path, backup)
    canister = Canister(path, durability=durability, engine=engine)
    if not canister.memory.image_file._has_times:
        canister.close()
        pytest.skip("times are not looked at where a file is read by pread")
    # The backup's time must not lie within a tick of the clock from the update's.
    wait_for_a_tick(path)
    canister.update("UPDATE account SET cents = 2")
    shutil.copy2(backup, path)
    canister.memory.image_file._looked_ns = 0
    if is_message_next:
        for send in (canister.update, canister.query):
            with pytest.raises(ImageError, match="somebody else has changed the image while"):
                send("SELECT cents FROM account")
        canister.close()
    else:
        with pytest.raises(ImageError, match="somebody else has changed the image while"):
            canister.close()
    assert log_of(path).exists()
    assert_refused(path)
