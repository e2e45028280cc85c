"""The demo: it runs, says the same each time, tells the truth, and never waits for nobody."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from sqlstable import Canister
from sqlstable.cli import app
from sqlstable.cli import demo as command
from sqlstable.cli.scene import Check, Meter, Scene, scene_lines
from sqlstable.report.grid import render
from sqlstable.workload import shop
from tests.children import run_child

ALL_SQL = (shop.SCHEMA, *shop.QUESTIONS, shop.INDEXES, shop.NEW_PURCHASE, *shop.INSERTS.values())


def show(*options, stdin=""):
    return CliRunner().invoke(app, ["demo", *options], input=stdin)


@pytest.fixture(scope="module")
def shown():
    """What the demo prints."""
    result = show()
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def loaded_canister():
    canister = Canister(owners=True)
    canister.update(shop.SCHEMA)
    with canister.message("update") as message:
        message.execute("BEGIN")
        for table, rows in shop.shop_rows().items():
            message.executemany(shop.INSERTS[table], rows)
        message.execute("COMMIT")
    return canister


@pytest.mark.slow
def test_two_runs_print_the_same(shown):
    assert show().stdout == shown


def test_the_shop_is_told_when_no_story_is_named(shown):
    assert show("shop").stdout == shown


def test_all_checks_hold(shown):
    assert len(re.findall(r"✓", shown)) == 4
    assert "✗" not in shown
    assert "integrity_check: ok" in shown


def test_the_output_fits_100_columns_and_has_no_colour(shown):
    assert max(map(len, shown.splitlines())) <= 100
    assert "\x1b" not in shown


@pytest.mark.slow
@pytest.mark.parametrize("width", [40, 60])
def test_a_narrow_terminal_gets_every_word(shown, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    narrow = show().stdout
    assert max(map(len, narrow.splitlines())) <= width
    words = re.compile(r"[\w?(),.;'\"=-]*\w[\w?(),.;'\"=-]*")
    assert set(words.findall(shown)) <= set(words.findall(narrow))


def test_no_page_is_called_just_that(shown):
    assert not re.findall(r"(?<!OS )(?<!SQLite )(?<!Wasm )\bpages?\b", shown)


def test_the_sql_fits_a_narrow_terminal():
    assert max(len(line) for sql in ALL_SQL for line in sql.splitlines()) <= 80 - 3


def test_its_numbers_are_those_of_the_same_workload_elsewhere(shown):
    with loaded_canister() as canister:
        size = canister.status().database_size_bytes // 4096
        before = {}
        for sql in shop.QUESTIONS:
            used = before[sql] = canister.query(sql).footprint.os_pages_accessed
            assert f"OS pages accessed  {used} of {size} " in shown
        canister.update(shop.INDEXES)
        for sql in (shop.JOIN, shop.COMPLICATED):
            after = canister.query(sql).footprint.os_pages_accessed
            assert re.search(rf" {before[sql]} → +{after}   ▼", shown)
        dirty = canister.update(shop.NEW_PURCHASE).footprint.os_pages_dirty
        assert f"of the {dirty} OS pages written" in shown
        upgrade = canister.upgrade().footprint
        assert f"read {upgrade.os_pages_accessed} OS pages to open" in " ".join(shown.split())


def test_it_shows_once_where_the_tables_lie(shown):
    lines = re.findall(r"^ +[\d,]+  ([a-z*.]{1,32})$", shown, re.MULTILINE)
    assert 5 <= len(lines) <= 12
    assert lines[0].startswith("fffffffff.......")
    assert "(memory manager), 9 OS pages" in shown


def test_step_goes_on_where_nobody_can_press_a_key(shown):
    assert show("--step").stdout == shown


def test_step_waits_for_each_scene_and_ends_with_the_input(shown, monkeypatch):
    monkeypatch.setattr(command, "is_terminal", lambda stream: stream is sys.stdin)
    result = show("--step", stdin="\n\n")
    assert result.exit_code == 0
    assert result.stdout == shown
    assert result.stderr.count("Enter for the next scene") == 8


@pytest.mark.slow
def test_step_ends_without_any_input(shown):
    result = run_child("-m", "sqlstable", "demo", "--step", stdin=subprocess.DEVNULL, text=False)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.decode() == shown


def test_an_answer_that_changed_is_shown_and_fails_the_demo(monkeypatch):
    take = shop.take_proof
    taken = []

    def take_another(canister, folder):
        found = take(canister, folder)
        taken.append(found)
        if len(taken) == 2:
            found = replace(found, answers=(), answers_sha256="0" * 64)
        return found

    monkeypatch.setattr(shop, "take_proof", take_another)
    result = show()
    assert result.exit_code == 1
    assert re.search(r"✗ answers to .*, then 000000000000…", result.stdout)
    assert "Something was lost" in result.stdout
    assert (
        result.stderr == "Error: a check of the demo does not hold; see the scene marked with ✗\n"
    )


def test_the_shop_is_the_same_for_the_same_seed():
    assert shop.shop_rows() == shop.shop_rows()
    assert shop.shop_rows() != shop.shop_rows(seed=1)


def test_every_row_of_the_shop_refers_to_one_that_is_there():
    rows = shop.shop_rows()
    ids = {table: {row[0] for row in rows[table]} for table in ("customer", "product", "purchase")}
    assert {customer for _, customer, _, _ in rows["purchase"]} <= ids["customer"]
    assert {purchase for purchase, _, _ in rows["line"]} <= ids["purchase"]
    assert {product for _, product, _ in rows["line"]} <= ids["product"]


def test_a_snapshot_is_the_same_after_an_upgrade_and_another_after_an_update(tmp_path):
    with loaded_canister() as canister:
        before = shop.take_proof(canister, tmp_path)
        canister.upgrade()
        assert shop.take_proof(canister, tmp_path) == before
        canister.update("UPDATE purchase SET day = '2030-01-01' WHERE customer = 421")
        after = shop.take_proof(canister, tmp_path)
    assert after.integrity == before.integrity == "ok"
    assert after.answers_sha256 != before.answers_sha256
    assert after.database_sha256 != before.database_sha256


def test_a_scene_of_many_owners_sums_up_the_last_ones():
    owners = tuple((f"table_{number}", 10 - number) for number in range(9))
    meter = Meter("accessed", os_pages=54, database_os_pages=100, owners=owners)
    text = render(
        scene_lines(Scene("Many", "They are many.", meter=meter), 1, 80),
        width=80,
        color_system=None,
    )
    assert "table_4" in text
    assert "table_5" not in text
    assert re.search(r"4 more +14 ", text)


def test_a_scene_without_owners_still_shows_its_total():
    meter = Meter("accessed", os_pages=0, database_os_pages=100, owners=())
    scene = Scene("None", "Nothing was read.", meter=meter, checks=(Check("fine", holds=True),))
    text = render(scene_lines(scene, 1, 80), width=80, color_system=None)
    assert "OS pages accessed  0 of 100" in text


@pytest.mark.slow
def test_the_measured_engine_tells_the_same_story(shown):
    result = show("--engine", "wasm")
    assert (result.exit_code, result.stderr) == (0, "")
    # Only there are instructions counted, and often the limit of which most was used.
    assert "instructions, 0." in result.stdout
    native, wasm = (re.sub("limit: .*", "", text) for text in (shown, result.stdout))
    story, _, _ = native.partition("\nengine native")
    assert wasm.partition("\nengine wasm")[0] == story
