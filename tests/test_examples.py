"""The examples run on their own, say the same twice, and what they claim is so."""

import contextlib
import functools
import io
import os
import re
import runpy
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import sqlstable
from sqlstable.workload.script import DIRECTIVES, parse_script

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = (
    *("account_ledger", "await_ledger", "change_the_schema", "forum_search", "game_world"),
    *("long_run", "music_shop", "survive_kill", "upgrade_hooks", "warm_heap"),
)

LINES_MAX = 60
COLUMNS_MAX = 100
BARE_PAGE = re.compile(r"(?<!OS )(?<!SQLite )(?<!Wasm )\bpages?\b", re.IGNORECASE)

# Whichever test comes first runs a script, and all others look at what it found.
pytestmark = pytest.mark.slow


@functools.cache
def run(name):
    """Run a script in this process; return its numbers and what it printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        numbers = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]()
    return numbers, out.getvalue()


def test_every_script_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_on_its_own_and_prints_the_same_again(name, tmp_path):
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "7",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        timeout=900,
        check=False,
    )
    assert done.stderr == b""
    assert done.returncode == 0
    _, text = run(name)
    assert done.stdout.decode().splitlines() == text.splitlines()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_story_is_short_and_never_speaks_of_bare_pages(name):
    numbers, text = run(name)
    lines = text.splitlines()
    assert 10 < len(lines) <= LINES_MAX
    assert max(map(len, lines)) <= COLUMNS_MAX
    prose = " ".join(text.split())
    for trap in getattr(numbers, "traps", {}).values():
        prose = prose.replace(trap or "", "")  # the Internet Computer's own words
    assert BARE_PAGE.findall(prose) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_uses_public_names_only(name):
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    assert re.findall(r"^(?:from|import) sqlstable.*", text, re.MULTILINE) == ["import sqlstable"]
    used = set(re.findall(r"\bsqlstable\.(\w+)", text))
    assert used <= set(sqlstable.__all__)
    assert f"python examples/{name}.py" in text.split('"""')[1]


# --- music shop ----------------------------------------------------------------------------


def test_a_join_by_keys_touches_few_os_pages_in_a_shop_of_any_size():
    small, large = run("music_shop")[0].catalogues
    assert large.tracks == 10 * small.tracks
    assert large.os_pages > 9 * small.os_pages
    for catalogue in (small, large):
        fresh, cold, warm = (catalogue.join[cache] for cache in ("fresh", "cold", "warm"))
        assert fresh.rows == cold.rows == warm.rows == 1
        assert warm.os_pages == 0 < cold.os_pages <= fresh.os_pages
        assert sum(cold.owners.values()) == cold.os_pages
        assert all(step.startswith("SEARCH") for step in cold.plan)
    # At most one more level in each of three B-trees.
    assert large.join["cold"].os_pages <= small.join["cold"].os_pages + 3


def test_an_index_spares_os_pages_to_a_query_and_costs_each_sale_some():
    sales = run("music_shop")[0].sales
    before, after = sales.before, sales.after
    assert before.plan[0] == "SCAN invoice_line"
    assert all(step.startswith("SEARCH") for step in after.plan)
    assert before.rows == after.rows > 0
    assert after.os_pages < before.os_pages < sales.os_pages
    assert sum(after.owners.values()) == after.os_pages
    assert {"invoice_by_customer", "line_by_invoice"} <= after.owners.keys() - before.owners.keys()
    assert sales.os_pages_dirty_after > sales.os_pages_dirty_before
    assert sales.os_pages_dirty_indexing > 0


def test_the_invoices_of_a_customer_lie_apart():
    shop = runpy.run_path(str(EXAMPLES / "music_shop.py"))
    after = run("music_shop")[0].sales.after
    numbers = range(1, shop["INVOICES"] + 1)
    invoices = [number for number in numbers if shop["invoice"](number)[1] == shop["CUSTOMER"]]
    assert after.rows == len(invoices) * shop["LINES_PER_INVOICE"]
    assert after.owners["invoice"] > len(invoices)
    assert after.owners["invoice_line"] > len(invoices)


# --- account ledger ------------------------------------------------------------------------


def test_the_money_is_all_there():
    ledger, _ = run("account_ledger")
    constants = runpy.run_path(str(EXAMPLES / "account_ledger.py"))
    total = constants["ACCOUNTS"] * constants["OPENING_CENTS"]
    assert len(ledger.totals_cents) == 5
    assert set(ledger.totals_cents.values()) == {total}
    assert ledger.integrity_check == "ok"
    assert ledger.transfers == len(ledger.uses) * constants["TRANSFERS"]
    assert ledger.wrong_accounts == 0


def test_a_mishap_leaves_nothing():
    ledger, text = run("account_ledger")
    assert [mishap.error.split(":")[0] for mishap in ledger.mishaps] == [
        "Trap",
        "SqlError",
        "MessageError",
    ]
    assert all(mishap.image_unchanged for mishap in ledger.mishaps)
    assert "CHANGED" not in text


def test_an_upgrade_costs_the_same_for_a_small_and_a_large_database():
    small, large = run("account_ledger")[0].upgrades
    assert large.database_os_pages > 5 * small.database_os_pages
    assert large.os_pages_accessed == small.os_pages_accessed
    assert large.os_pages_dirty == small.os_pages_dirty == 0
    assert small.image_unchanged
    assert large.image_unchanged


def test_transfers_together_share_os_pages_and_one_transaction_writes_each_once():
    ledger, _ = run("account_ledger")
    single, together, transaction = ledger.uses.values()
    assert single.messages == 200
    assert together.messages == transaction.messages == 1
    assert ledger.os_pages_dirty_max <= 3
    assert together.os_pages_dirty == transaction.os_pages_dirty < single.os_pages_dirty / 10
    assert together.writes > 10 * transaction.writes
    assert transaction.writes == transaction.os_pages_dirty
    assert transaction.bytes_written == 4096 * transaction.writes


# --- await ledger --------------------------------------------------------------------------


def test_a_ledger_that_takes_off_behind_the_await_pays_twice():
    naive = run("await_ledger")[0]["naive"]
    assert [(it.owner, it.paid, it.left) for it in naive.accounts] == [
        ("ada", 200, 0),
        ("ben", 200, 0),
        ("cleo", 100, 0),
    ]
    assert [it.is_right for it in naive.accounts] == [False, False, True]


def test_the_sound_ledger_pays_each_user_once():
    sound = run("await_ledger")[0]["sound"]
    assert all(it.is_right for it in (*sound.before_resuming, *sound.accounts))
    assert [(it.paid, it.left, it.pending) for it in sound.accounts] == [(100, 0, 0)] * 3
    assert [it.pending for it in sound.before_resuming] == [100, 0, 0]
    assert sound.errors == ("ada: a mistake behind the await",)


# --- forum search --------------------------------------------------------------------------


def test_a_search_touches_fewer_os_pages_than_a_scan_as_long_as_it_finds_few():
    looks = run("forum_search")[0].looks
    for text in ("canister", "memory"):
        scan, match = looks[f"LIKE: {text}"], looks[f"MATCH: {text}"]
        assert scan.rows == match.rows
        assert scan.owners.keys() == {"post", "sqlite_schema"}
        assert "post_text_data" in match.owners
        assert sum(match.owners.values()) == match.os_pages_accessed[0]
        best, newest = (looks[f"MATCH, {which} 10: {text}"] for which in ("best", "newest"))
        assert best.rows == newest.rows == 10
        assert "post_text_docsize" in best.owners
        assert "post_text_docsize" not in newest.owners
        assert newest.os_pages_accessed < best.os_pages_accessed
    rare, common = looks["MATCH: canister"], looks["MATCH: memory"]
    assert rare.os_pages_accessed[0] < looks["LIKE: canister"].os_pages_accessed[0] / 10
    assert common.os_pages_accessed[0] >= looks["LIKE: memory"].os_pages_accessed[0]


def test_the_search_index_costs_each_post_some_and_one_of_them_many_os_pages():
    forum, _ = run("forum_search")
    plain, indexed = forum.looks["post, no index"], forum.looks["post, index"]
    assert len(plain.os_pages_dirty) == len(indexed.os_pages_dirty) == 100
    assert sum(indexed.os_pages_dirty) > 5 * sum(plain.os_pages_dirty)
    dirty = sorted(indexed.os_pages_dirty)
    assert dirty[-1] > 10 * dirty[50]
    assert next(iter(indexed.owners)) == "post_text_data"
    assert forum.os_pages_after > forum.os_pages_before


def test_triggers_keep_the_search_index_right():
    forum, _ = run("forum_search")
    assert forum.found_equal
    assert "check" in forum.looks
    pieces, optimized = forum.looks["in pieces"], forum.looks["optimized"]
    assert pieces.rows == optimized.rows > 0
    assert optimized.os_pages_accessed < pieces.os_pages_accessed


# --- game world ----------------------------------------------------------------------------


def test_entities_clustered_by_region_share_os_pages():
    worlds = run("game_world")[0].worlds
    for page_size in (1024, 4096, 16384):
        spread, clustered = (worlds[name, page_size] for name in ("spread", "clustered"))
        assert spread.entities_moved == clustered.entities_moved == 300
        assert clustered.os_pages_dirty < spread.os_pages_dirty / 3
        assert clustered.bytes_written < spread.bytes_written / 3
    small, vacuumed = (worlds[name, 1024] for name in ("clustered", "clustered, vacuumed"))
    assert vacuumed.os_pages_dirty < small.os_pages_dirty


def test_larger_sqlite_pages_write_more_for_entities_that_lie_apart():
    worlds = run("game_world")[0].worlds
    small, middle, large = (worlds["spread", page_size] for page_size in (1024, 4096, 16384))
    assert small.bytes_written < middle.bytes_written < large.bytes_written


def test_a_tick_reads_from_the_heap_until_an_upgrade_wipes_it():
    worlds = run("game_world")[0].worlds
    for name in ("spread", "clustered"):
        world = worlds[name, 4096]
        assert world.os_pages_only_read == 0 < world.os_pages_only_read_upgraded


def test_a_budget_tells_the_layouts_apart():
    game, _ = run("game_world")
    assert "modified pages in the stable memory" in game.traps["spread"]
    assert "limit 200 KB for regular messages" in game.traps["spread"]
    assert game.traps["clustered"] is None
    most = max(world.os_pages_dirty_max for world in game.worlds.values())
    assert most < game.os_pages_dirty_limit


# --- survive kill --------------------------------------------------------------------------


def test_what_was_answered_survives_and_nothing_else():
    story, _ = run("survive_kill")
    constants = runpy.run_path(str(EXAMPLES / "survive_kill.py"))
    assert story.total_cents == constants["ACCOUNTS"] * constants["OPENING_CENTS"]
    answered = 0
    for life, transfers in zip(story.lives, constants["KILLS"], strict=True):
        answered += transfers
        assert (life.answered, life.transfers) == (transfers, answered)
        assert (life.total_cents, life.integrity_check) == (story.total_cents, "ok")
        assert life.signal == signal.SIGKILL
        assert life.has_log
        assert "ledger.stable was not closed" in life.recovery
    assert not story.log_at_end


# --- workload script -----------------------------------------------------------------------


def shop_script():
    return (EXAMPLES / "shop.sql").read_text(encoding="utf-8")


def tables(rows_of):
    names = ("product", "customer", "sale")
    return {name: rows_of(f"SELECT * FROM {name} ORDER BY 1") for name in names}


def test_the_workload_script_has_the_steps_that_it_shows():
    script = shop_script()
    steps = parse_script(script, is_complete=sqlite3.complete_statement)
    assert {step.kind for step in steps} == {"auto", "update", "query", "trap", "upgrade"}
    assert {step.label for step in steps if step.repeat > 1} == {
        "what a customer bought, with an index",
        "sale",
    }
    words = set(re.findall(r"^--@ (\w+)", script, re.MULTILINE))
    assert {"label", "repeat", "upgrade", "query"} <= words <= set(DIRECTIVES)


def test_the_workload_script_does_the_same_in_plain_sqlite_and_in_a_canister():
    script = shop_script()
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(script)
        assert not connection.in_transaction
        plain = tables(lambda sql: connection.execute(sql).fetchall())
        index = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'index'").fetchall()
    assert {name: len(rows) for name, rows in plain.items()} == {
        "product": 500,
        "customer": 2_000,
        "sale": 20_001,
    }
    assert index == [("sale_by_customer",)]
    with sqlstable.Canister() as canister:
        for step in parse_script(script, is_complete=sqlite3.complete_statement):
            send_once(canister, step)
        assert tables(lambda sql: canister.query(sql).rows) == plain


def send_once(canister, step):
    if step.kind == "upgrade":
        canister.upgrade()
        return
    only_reads = all(statement.sql.startswith("SELECT") for statement in step.statements)
    expected = pytest.raises(sqlstable.Trap) if step.kind == "trap" else contextlib.nullcontext()
    with expected, canister.message("query" if only_reads else "update") as message:
        for statement in step.statements:
            message.execute(statement.sql)
        if step.kind == "trap":
            message.trap()


def test_hooks_save_carts_from_the_second_upgrade_on_and_a_broken_version_changes_nothing():
    versions, printed = run("upgrade_hooks")
    assert [version.carts for version in versions] == [0, 0, 40, 40]
    assert [version.outcome for version in versions] == [
        *["committed"] * 3,
        "failed: no such table: carts",
    ]
    assert [part.name for part in versions[2].parts] == ["pre_upgrade", "post_upgrade"]
    assert "the carts\nsurvive only from the second upgrade on" in printed


def test_the_warm_heap_is_that_of_updates_only():
    looks, printed = run("warm_heap")
    first, second, update, warm, again = looks
    assert first.os_pages == second.os_pages == update.os_pages > 1
    assert warm.os_pages == again.os_pages == 0
    assert first.instructions == second.instructions > warm.instructions == again.instructions
    assert f"{warm.instructions:,}" in printed


# --- long run --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["none", "incremental", "full"])
def test_ten_thousand_messages_reuse_space_and_do_not_get_slower(name):
    modes, _ = run("long_run")
    mode = modes[name]
    assert (mode.rows[0], mode.integrity_check) == (mode.rows[1], "ok")
    assert len(set(mode.stable_bytes)) == 1
    # In each wave of rows, a tenth of the messages, the file grows to what it grew to in the first.
    first, *later = (max(mode.file_bytes[at : at + 100]) for at in range(0, 1000, 100))
    assert max(later) < 1.05 * first
    for exponent in (mode.os_page_exponent, mode.work_exponent):
        assert exponent.low < 0.02
        assert exponent.high < 0.12
        assert abs(exponent.value) < 0.05


def test_what_auto_vacuum_does_to_the_file_of_a_long_run():
    none, incremental, full = run("long_run")[0].values()
    assert none.file_bytes == sorted(none.file_bytes)
    assert none.free_bytes > 100_000 > incremental.free_bytes >= full.free_bytes == 0
    assert max(full.file_bytes) > 1.3 * min(full.file_bytes[100:])
    assert len(incremental.steps) == 200
    assert none.steps == full.steps == []
    assert none.stable_bytes[-1] == incremental.stable_bytes[-1] == full.stable_bytes[-1]


def test_what_was_sold_while_rows_were_copied_is_not_lost():
    numbers, printed = run("change_the_schema")
    assert numbers["sold"] == numbers["sevens"] > 3
    assert "table coupon is unused since schema upgrade 2" in printed
