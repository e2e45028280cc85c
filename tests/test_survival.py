"""The story of survival: the same text each time, true, and it says so where something is lost."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sqlstable import Canister
from sqlstable.cli import app
from sqlstable.cli import demo as command
from sqlstable.cli.fates import Band, band_lines, fates_of
from sqlstable.cli.inks import INKS
from sqlstable.cli.pace import pause_s
from sqlstable.cli.stories import kill, survival
from sqlstable.memory.snapshots import cloning, shelf
from sqlstable.report.grid import render
from sqlstable.workload import bank
from tests.children import environment, run_child

STORY = ("-m", "sqlstable", "demo", "survival")


def show(*options, stdin=""):
    return CliRunner().invoke(app, ["demo", "survival", *options], input=stdin)


@pytest.fixture(scope="module")
def shown():
    """What the story prints."""
    result = show()
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


# -- always the same ------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_prints_the_same_elsewhere_and_leaves_nothing_behind(shown, tmp_path):
    for name in ("one", "another place, with a longer name"):
        folder = tmp_path / name
        folder.mkdir()
        done = run_child(*STORY, env=environment(TMPDIR=str(folder)), cwd=folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == shown
        assert not list(folder.iterdir())
        assert str(folder) not in done.stdout


@pytest.mark.slow
def test_without_an_input_it_is_told_as_well(shown):
    closed = f"exec {sys.executable} {' '.join(STORY)} --step <&-"
    done = subprocess.run(
        ["/bin/sh", "-c", closed], env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == shown


@pytest.mark.slow
def test_step_waits_before_each_scene_but_the_first(shown, monkeypatch):
    monkeypatch.setattr(command, "is_terminal", lambda stream: stream is sys.stdin)
    result = show("--step")
    assert result.stdout == shown
    scenes = len(re.findall(r"^── \d", shown, re.MULTILINE))
    assert result.stderr.count("Enter for the next scene") == scenes - 1 > 1


@pytest.mark.slow
def test_slowly_it_says_the_same_and_stays_as_long_as_one_reads(shown, monkeypatch):
    pauses = []
    monkeypatch.setattr(command, "sleep", pauses.append)
    assert show("--slow").stdout == shown
    assert len(pauses) == len(shown.splitlines())
    assert 60 < sum(pauses) < 300


@pytest.mark.slow
def test_the_native_engine_tells_the_same_story_without_instructions(shown):
    result = show("--engine", "native")
    assert (result.exit_code, result.stderr) == (0, "")
    scenes = [text.partition("\nengine ")[0] for text in (result.stdout, shown)]
    assert re.search(r"instructions  [\d,]{9,}", scenes[1])
    # The native engine starts a new heap where an upgrade has trapped; it says so.
    assert "The native engine cannot bring back SQLite's copies" in " ".join(scenes[0].split())
    native, wasm = (
        re.sub(r"instructions  .*|  +[\d,-]+ +(?=[0-9a-f]{12}\n)", "", text).partition("── 4")[0]
        for text in scenes
    )
    assert native == wasm


@pytest.mark.slow
def test_on_native_what_is_modelled_of_the_heap_is_said_where_it_shows():
    text = " ".join(show("--engine", "native").stdout.split())
    trap, loaded = (text.partition(f"── {n} ")[2].partition(f"── {n + 1} ")[0] for n in (4, 6))
    assert "TEMP tables it does bring back: these are modelled" in trap
    assert "✓ TEMP table session: 3 rows, then 3 rows ✓" in trap
    assert "all that it had" not in trap
    assert "The TEMP table session is gone, too" in loaded
    assert "✓ TEMP table session: 3 rows, then not there ✓" in loaded
    rows = text.partition("── 7 ")[2]
    assert "trap in an upgrade partly stayed" in rows
    assert "Partly: TEMP tables came back, which is modelled" in rows


@pytest.mark.slow
def test_no_number_is_the_file_systems(shown, monkeypatch):
    # What of a file is stored, and not a hole, is each file system's own.
    def more(*arguments):
        return cloning.copy_sparse(*arguments) + 7 * 4096

    monkeypatch.setattr(shelf, "clone", lambda *_: False)
    monkeypatch.setattr(shelf, "copy_sparse", more)
    assert show().stdout == shown


@pytest.mark.slow
@pytest.mark.parametrize("width", [40, 80])
def test_a_narrow_terminal_gets_every_word(shown, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    narrow = show().stdout
    assert max(map(len, narrow.splitlines())) <= width
    story = shown.partition("The same answers each time")[0]
    assert set(re.findall(r"\w+", story)) <= set(re.findall(r"\w+", narrow))


@pytest.mark.slow
def test_an_ascii_terminal_shows_what_became_of_pages(shown):
    done = run_child(*STORY, env=environment(PYTHONIOENCODING="ascii"), text=False)
    assert done.returncode == 0
    text = done.stdout.decode("ascii")
    assert "?" not in text.replace("survives?", "")
    assert re.search(r"stable memory +#+%+#+\n", text)


# -- it is true -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_opens_with_the_kill_and_all_checks_hold(shown):
    first = re.search(r"^── (.*)", shown, re.MULTILINE)[1]
    assert first.startswith("1  kill -9 in the middle of a message")
    assert len(re.findall("✓", shown)) >= 10
    assert "✗" not in shown


@pytest.mark.slow
def test_its_numbers_are_those_of_the_same_messages_elsewhere(shown):
    text = " ".join(shown.split())
    with Canister() as canister:
        bank.load(canister)
        canister.upgrade()
        total = canister.query(bank.TOTAL).rows[0][0]
        first = bank.PAST_TRANSFER_COUNT + 1
        cached = set()
        for number in range(first, first + kill.ANSWERED):
            cached.update(bank.send(canister, number).footprint.accessed.tolist())
        reply = canister.update(bank.TAKE_FEE)
        missing = total - canister.query(bank.TOTAL).rows[0][0]
        cached.update(reply.footprint.accessed.tolist())
        pages = canister.status().database_size_bytes // 4096
        opened = canister.upgrade().footprint
    assert f"{total / 100:,.2f} in all" in text
    assert f"{missing / 100:,.2f} are nowhere" in text
    assert f"It has answered {kill.ANSWERED} transfers" in text
    dirty = reply.footprint.os_pages_dirty
    assert f"stayed: {pages} OS pages of the database; {dirty} that the message had" in text
    assert f"gone: SQLite's copies of {len(cached)} OS pages, and" in text
    assert shown.partition("── 2")[0].count("▒") == dirty + 1
    assert f"accessed {opened.os_pages_accessed}, dirty 0" in text


@pytest.mark.slow
def test_the_picture_has_a_cell_for_each_page(shown):
    picture = shown.partition("   heap           ")[2].partition("gone: ")[0]
    stable = shown.partition("   stable memory  ")[2].partition("stayed: ")[0]
    for cells in (picture, stable):
        assert len(re.findall("[█▒░·]", cells)) == 73


def test_what_the_heap_is_said_to_have_copies_of_is_read_without_stable_memory():
    with Canister() as canister:
        bank.load(canister)
        canister.upgrade()
        first = canister.update(bank.QUESTIONS[-1])
        again = canister.update(bank.QUESTIONS[-1])
    assert first.footprint.os_pages_accessed > 3
    assert again.footprint.os_pages_accessed == 0
    assert again.statements[0].sqlite.hits >= first.footprint.os_pages_accessed


# -- and if it were not ---------------------------------------------------------------------------


def reopened_with(monkeypatch, change):
    """Let something happen to the canister that the second scene opens."""

    def opened(path=None, **options):
        if path is None or not Path(path).exists():
            return Canister(path, **options)
        change(Path(path))
        canister = Canister(path, **options)
        change(canister)
        return canister

    monkeypatch.setattr(survival, "Canister", opened)


def failed(result):
    assert result.exit_code == 1
    said = "Error: a check of the demo does not hold; see the scene marked with ✗\n"
    assert result.stderr == said
    return [line for line in result.stdout.splitlines() if "✗" in line]


@pytest.mark.slow
def test_a_lost_byte_that_no_answer_needs_is_noticed(monkeypatch):
    def lose(canister):
        if isinstance(canister, Canister):
            memory = canister.memory
            memory.begin("update")
            memory.write(canister.memory.wasm_pages * 65536 - 1, b"\1")
            memory.commit()

    reopened_with(monkeypatch, lose)
    lines = failed(show())
    assert all("of stable memory: sha-256" in line for line in lines)
    assert len(lines) >= 2


@pytest.mark.slow
def test_lost_money_is_noticed(monkeypatch):
    def lose(canister):
        if isinstance(canister, Canister):
            canister.update("UPDATE account SET cents = cents - 1 WHERE id = 421")

    reopened_with(monkeypatch, lose)
    result = show()
    assert any("money: 2,499,999.99" in line for line in failed(result))
    assert survival.LOST in " ".join(result.stdout.split())


@pytest.mark.slow
def test_a_byte_of_the_file_that_changed_is_noticed_however_it_shows(monkeypatch):
    def damage(path):
        if isinstance(path, Path):
            with path.open("r+b") as file:
                file.seek(17 * 4096 + 100)
                byte = file.read(1)
                file.seek(17 * 4096 + 100)
                file.write(bytes([byte[0] ^ 1]))

    reopened_with(monkeypatch, damage)
    assert failed(show())


@pytest.mark.slow
def test_a_snapshot_that_is_not_loaded_is_noticed(monkeypatch):
    monkeypatch.setattr(Canister, "load_snapshot", lambda canister, _: canister.upgrade())
    assert (
        failed(show())[-1].strip() == "✗ no such table: account; in: SELECT sum(cents) FROM account"
    )


@pytest.mark.slow
def test_a_reinstall_that_wipes_nothing_is_noticed(monkeypatch):
    monkeypatch.setattr(Canister, "reinstall", lambda canister: canister.upgrade())
    (line,) = failed(show())
    assert line.strip() == "✗ the database, 292.0 KiB, has no answers: None"


@pytest.mark.slow
def test_an_upgrade_that_goes_through_is_noticed(monkeypatch):
    monkeypatch.setattr(survival.HookMessage, "trap", lambda *_: None)
    lines = failed(show())
    assert lines[0].strip() == "✗ the upgrade trapped: nothing"
    assert any("money: 2,495,000.00" in line for line in lines)


@pytest.mark.slow
def test_a_process_that_is_not_killed_is_noticed(monkeypatch):
    monkeypatch.setattr(kill, "_kill", lambda process: process.stdin.close())
    lines = failed(show())
    assert lines[0].strip() == "✗ the process ended without a last word"


@pytest.mark.slow
def test_a_process_that_ends_too_early_is_an_error(monkeypatch):
    monkeypatch.setattr(kill, "VICTIM", "sqlstable.cli.stories.nobody")
    result = show()
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: the process that was to be killed ended before: ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_system_without_kill_9_says_so(shown, monkeypatch):
    monkeypatch.setattr(kill, "SIGKILL", 0)
    result = show()
    assert result.exit_code == 0
    assert "since this system has no kill -9" in " ".join(result.stdout.split())


# -- Ctrl-C ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.0, 0.4, 0.8])
def test_ctrl_c_leaves_neither_files_nor_processes(tmp_path, after_s):
    process = subprocess.Popen(
        [sys.executable, *STORY, "--slow"],
        env=environment(TMPDIR=str(tmp_path), PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "sqlstable: what survives?\n"
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "Error: interrupted\n"
    assert not list(tmp_path.iterdir())
    assert not processes_with(str(tmp_path))


def processes_with(word):
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if word in line and path.parent.name != str(os.getpid()):
            found.append(line)
    return found


# -- pictures, colours, pace ----------------------------------------------------------------------


def luminance(colour):
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("ink", INKS)
def test_colours_are_read_on_black_and_on_white(ink):
    assert (luminance(ink) + 0.05) / 0.05 >= 4.5
    assert 1.05 / (luminance(ink) + 0.05) >= 4.5


@pytest.mark.slow
def test_nothing_is_dim_in_colour(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    codes = re.findall(r"\x1b\[([\d;]+)m", show().stdout)
    assert len(codes) > 100
    assert not {"2", "36"} & {part for it in codes for part in re.sub("38;2;.*", "", it).split(";")}


def test_a_band_says_by_characters_what_became_of_pages():
    bands = [
        Band("heap", fates_of(20, there=[0, 3], fate="gone"), "two copies"),
        Band("stable", fates_of(20, there=range(20), back=[1]), "all of it"),
    ]
    assert render(band_lines(bands, 30), width=30, color_system=None).splitlines() == [
        "heap    ░··░············",
        "        ····",
        "        two copies",
        "stable  █▒██████████████",
        "        ████",
        "        all of it",
        "█ stayed",
        "▒ was written, is as it was",
        "░ gone   · no copy in the heap",
    ]


def test_a_picture_is_seen_at_once_and_words_are_read():
    assert pause_s("   heap   ░░░░░░░░░░░░░░") < pause_s("   heap   and fourteen letters")
    assert pause_s("") > pause_s("   sqlstable")
