"""Commands on images that fail on the way: full disks, Ctrl-C, crashes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sqlstable.cli import progress
from sqlstable.cli import running as run_command
from sqlstable.database import transfer
from sqlstable.errors import TraceError
from sqlstable.memory.image import osfile
from tests.cli_images import (  # noqa: F401  fixtures
    TRANSFER,
    bad_folder_fixture,
    cents,
    cut_off,
    image_fixture,
)
from tests.test_cli import (
    ENVIRONMENT,
    call,
    contents,
    folder,  # noqa: F401  a fixture
)

SEAL_BYTES = 24


def assert_failed(result, folder, before, reason):  # noqa: F811
    """Assert a failure of one line, after which every file is as it was."""
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert result.stderr == f"Error: {reason}\n"
    assert contents(folder) == before


@pytest.mark.parametrize("call_name", ["write", "write_runs", "resize"])
def test_a_full_disk_leaves_nothing_of_an_import(bad_folder, monkeypatch, call_name):
    before = contents(bad_folder)
    really = getattr(osfile.OsFile, call_name)
    for failing in range(1, 40):
        calls = []

        def fail(self, *arguments, calls=calls, failing=failing):
            calls.append(arguments)
            if len(calls) == failing:
                raise OSError(28, "No space left on device")
            return really(self, *arguments)

        monkeypatch.setattr(osfile.OsFile, call_name, fail)
        result = call("import", "app.db", "new.stable")
        monkeypatch.setattr(osfile.OsFile, call_name, really)
        if len(calls) < failing:
            assert result.exit_code == 0
            return
        if call_name == "write" and sum(map(len, calls[failing - 1][1])) == SEAL_BYTES:
            # A record that is not sealed leaves recovery more to do, and that is all.
            assert result.exit_code == 0
            Path("new.stable").unlink()
            continue
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: new.stable could not be made: ")
        assert result.stderr.endswith("No space left on device\n")
        assert contents(bad_folder) == before
    pytest.fail("the sweep did not come to its end")


@pytest.mark.parametrize("durability", ["process", "power"])
def test_a_full_disk_fails_a_run_and_leaves_what_was_answered(image, monkeypatch, durability):
    really_write = osfile.OsFile.write
    really_run = run_command.run_steps
    calls = []

    def write(self, offset, parts):
        calls.append(offset)
        # Each message writes its record, and then its OS pages.
        if len(calls) > 4:
            raise OSError(28, "No space left on device")
        really_write(self, offset, parts)

    def run_steps(canister, steps, **options):
        patch.setattr(osfile.OsFile, "write", write)
        return really_run(canister, steps, **options)

    script = "INSERT INTO account (cents) VALUES (1);\n" * 9
    with monkeypatch.context() as patch:
        patch.setattr(run_command, "run_steps", run_steps)
        result = call("run", "-", "--image", image, "--durability", durability, stdin=script)
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr.splitlines()[-1]
    answered = result.stdout.count("INSERT INTO account")
    assert 1 < answered < 9
    there = cents(image)
    assert there[:2] == [100, 200]
    assert answered - 1 <= len(there[2:]) <= answered


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_leaves_nothing_of_an_extraction(bad_folder, monkeypatch):
    before = contents(bad_folder)
    really_open = Path.open

    def open_(path, mode="r", *rest, **options):
        file = really_open(path, mode, *rest, **options)
        if "x" in mode:
            file.close()
            file = really_open("/dev/full", "wb", buffering=0)
        return file

    monkeypatch.setattr(Path, "open", open_)
    for arguments in (("out.db",), ("app.db", "--force")):
        result = call("extract", "ledger.stable", *arguments)
        reason = f"{arguments[0]} could not be made: No space left on device"
        assert_failed(result, bad_folder, before, reason)


def test_ctrl_c_leaves_the_image_of_a_run_with_what_was_answered(image, monkeypatch):
    def on_step(_self, _step, messages):
        if messages == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(progress.MessageProgress, "on_step", on_step)
    script = "--@ repeat 9\nINSERT INTO account (cents) VALUES (1);"
    result = call("run", "-", "--image", image, stdin=script)
    assert result.exit_code == 130
    assert result.stderr.endswith("Error: interrupted in stdin, line 2\n")
    assert result.stdout.count("INSERT INTO account") == 2
    assert not Path(f"{image}-log").exists()
    assert cents(image) == [100, 200, 1, 1]


@pytest.mark.parametrize("target", ["new.stable", "ledger.stable"])
def test_ctrl_c_leaves_nothing_of_an_import(bad_folder, monkeypatch, target):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    before = contents(bad_folder)
    for name in ("DatabaseSource.pieces", "check"):
        with monkeypatch.context() as patch:
            patch.setattr(f"sqlstable.database.foreign.{name}", interrupt)
            result = call("import", "app.db", target, "--force")
        assert (result.exit_code, result.stderr) == (130, "Error: interrupted\n")
        assert contents(bad_folder) == before


def test_ctrl_c_leaves_nothing_of_an_extraction(bad_folder, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    before = contents(bad_folder)
    for name in ("extract_database", "find_damage"):
        with monkeypatch.context() as patch:
            patch.setattr(f"sqlstable.cli.extract.{name}", interrupt)
            result = call("extract", "ledger.stable", "app.db", "--force")
        assert (result.exit_code, result.stderr) == (130, "Error: interrupted\n")
        assert contents(bad_folder) == before


CRASHES = {
    "before the log goes": (Path, "unlink", False),
    "between log and image": (Path, "unlink", True),
    "before the image comes": (Path, "replace", False),
    "after the image came": (Path, "replace", True),
}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("moment", CRASHES)
def test_a_crash_while_an_image_is_replaced_leaves_one_of_the_two(bad_folder, moment):
    # The log of the old image would fit the new one, which is a copy of the old one.
    assert call("extract", "ledger.stable", "ledger.db").exit_code == 0
    assert call("import", "ledger.db", "ledger.stable", "--force").exit_code == 0
    cut_off("ledger.stable")
    child = os.fork()
    if child == 0:
        crash_at(*CRASHES[moment])
        call("import", "ledger.db", "ledger.stable", "--force")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    is_new = moment == "after the image came"
    assert cents("ledger.stable") == ([100, 200] if is_new else [1100, 200])
    assert cents("ledger.stable") == ([100, 200] if is_new else [1100, 200])


def crash_at(owner, name, is_after):
    """End the process before or after a call that concerns the old image's log, or a place."""
    really = getattr(owner, name)

    def crash(path, *arguments, **options):
        concerned = name == "replace" or path.name == "ledger.stable-log"
        # The pending log goes first, when the old image is recovered; then our own one.
        concerned = (
            concerned
            and ".partial" not in path.name
            and (name == "replace" or path.stat().st_size <= 4096)
        )
        if concerned and not is_after:
            os._exit(9)
        result = really(path, *arguments, **options)
        if concerned:
            os._exit(9)
        return result

    setattr(owner, name, crash)


@pytest.mark.slow
def test_a_killed_import_leaves_the_old_image_as_it_was(bad_folder):
    program = (
        "import os, signal, sqlstable.cli as cli\n"
        "from sqlstable.database import checking, foreign, transfer\n"
        "def pieces(source):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "foreign.DatabaseSource.pieces = pieces\n"
        "cli.main()\n"
    )
    before = Path("ledger.stable").read_bytes()
    arguments = ["import", "app.db", "ledger.stable", "--force"]
    command = [sys.executable, "-c", program, *arguments]
    assert subprocess.run(command, check=False, env=ENVIRONMENT).returncode == -9
    assert Path("ledger.stable").read_bytes() == before
    assert cents("ledger.stable") == [100, 200]
    result = call("import", "app.db", "ledger.stable", "--force")
    assert (result.exit_code, result.stderr) == (0, "")


def test_names_that_are_no_text_are_fine_or_refused(bad_folder):
    image, database = os.fsdecode(b"a\xff.stable"), os.fsdecode(b"o\xff \x1b[31m.db")
    assert call("import", "app.db", image).exit_code == 0
    assert call("run", "-", "--image", image, stdin="SELECT x FROM t;").exit_code == 0
    result = call("extract", image, database)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert Path(database).read_bytes() == Path("app.db").read_bytes()
    result = call("import", database, "new.stable")
    assert result.exit_code == 2
    assert "has a name that is no UTF-8" in result.stderr
    assert "\x1b" not in result.stderr


def test_a_place_that_is_taken_meanwhile_is_left_alone(bad_folder, monkeypatch):
    really_make = transfer.make_image

    def make(*arguments, **options):
        really_make(*arguments, **options)
        Path("new.stable").write_bytes(b"somebody else's")

    monkeypatch.setattr("sqlstable.cli.import_.make_image", make)
    result = call("import", "app.db", "new.stable")
    assert result.exit_code == 2
    assert "has been made by somebody else meanwhile" in result.stderr
    assert Path("new.stable").read_bytes() == b"somebody else's"
    assert not [path for path in bad_folder.iterdir() if "partial" in path.name]


def test_a_trace_that_breaks_off_leaves_the_image_whole(image, monkeypatch):
    really_run = run_command.run_steps

    def fail(*_, **__):
        raise TraceError("the trace cannot be written: no space")

    def run_steps(canister, steps, **options):
        outcome = really_run(canister, steps, **options)
        patch.setattr("sqlstable.trace.format.writer.TraceWriter._flush", fail)
        return outcome

    with monkeypatch.context() as patch:
        patch.setattr(run_command, "run_steps", run_steps)
        result = call("run", "-", "--image", image, "--trace", "a.trace", stdin=TRANSFER)
    assert result.exit_code == 1
    assert "unfinished" in result.stdout
    assert result.stderr.endswith("Error: the trace cannot be written: no space\n")
    assert not Path(f"{image}-log").exists()
    assert cents(image) == [107, 193]
