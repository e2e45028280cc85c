"""The pytest fixture ``stable_budget``: what it holds, what it tells, and what it leaves alone."""

import json
import tomllib
from pathlib import Path

import pytest

from sqlstable import Canister, CanisterModule
from sqlstable.errors import BudgetError
from sqlstable.stable_budget import KeptBaselines, StableBudget
from tests.children import environment, run_child

ROOT = Path(__file__).parents[1]
PLUGIN = "sqlstable.pytest_plugin"
ENVIRONMENT = {**environment(), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

SETUP = """
CREATE TABLE note (id INTEGER PRIMARY KEY, author INTEGER, body TEXT);
CREATE INDEX note_author ON note (author);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
INSERT INTO note SELECT i, i % 300, 'note ' || i FROM n;
"""
FIND = "SELECT body FROM note WHERE author = 42"

TESTS = f"""
SETUP = '''{SETUP}'''
FIND = "{FIND}"

def test_kept(stable_budget):
    with stable_budget(setup=SETUP, os_pages_accessed=15, no_scan=True) as canister:
        canister.query(FIND)

def test_exceeded(stable_budget):
    setup = SETUP.replace("CREATE INDEX", "--")
    with stable_budget(setup=setup, os_pages_accessed=4, no_scan=True) as canister:
        canister.query(FIND)

def test_two_blocks(stable_budget):
    for _ in range(2):
        with stable_budget(setup=SETUP) as canister:
            canister.query(FIND)

def test_unused():
    pass
"""


def run_tests(folder, *arguments):
    return run_child(
        *("-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", "-q", *arguments),
        env=ENVIRONMENT,
        cwd=folder,
    )


@pytest.fixture
def hold():
    return StableBudget("a test", KeptBaselines(None, is_update=False, threshold=0))


def noted(**keywords):
    canister = Canister(trace=":memory:", **keywords)
    canister.update("CREATE TABLE note (author INTEGER, body TEXT)")
    canister.update("INSERT INTO note VALUES (42, 'one')")
    return canister


def test_the_package_names_its_plugin_for_pytest():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # One name for all ways in: pytest refuses a plugin that comes under two.
    assert project["entry-points"] == {"pytest11": {PLUGIN: PLUGIN}}


def test_starting_pytest_imports_nothing_but_the_plugin(tmp_path):
    (tmp_path / "test_modules.py").write_text(
        "import sys\n\ndef test_modules():\n"
        "    roots = ('sqlstable', 'apsw', 'numpy', 'rich')\n"
        "    found = {it for it in sys.modules if it.split('.')[0] in roots}\n"
        f"    assert found == {{'sqlstable', '{PLUGIN}'}}\n"
    )
    done = run_tests(tmp_path)
    assert done.returncode == 0, done.stdout


def test_without_pytest_the_package_is_whole():
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "import sqlstable\n"
        "for name in sqlstable.__all__: getattr(sqlstable, name)\n"
        "import sqlstable.cli.check\n"
    )
    done = run_child("-c", code, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_tests_fail_with_numbers_statement_and_table_and_keep_baselines(tmp_path):
    (tmp_path / "test_costs.py").write_text(TESTS)
    done = run_tests(tmp_path)
    assert "1 failed, 3 passed" in done.stdout
    for told in (
        "OS pages accessed, budget 4 in message 3 (query)",
        "scans note, and may not in message 3 (query)",
        f"goes through all of note (SCAN note): {FIND}",
        "test_costs.py::test_exceeded",
    ):
        assert told in done.stdout
    # The traceback ends at the test's own lines.
    assert "stable_budget.py" not in done.stdout

    kept = ("--stable-baseline", "costs.json")
    assert run_tests(tmp_path, *kept).returncode == 1
    assert "there is no file costs.json" in run_tests(tmp_path, *kept).stdout
    run_tests(tmp_path, *kept, "--stable-update-baseline")
    first = (tmp_path / "costs.json").read_bytes()
    run_tests(tmp_path, *kept, "--stable-update-baseline", "-k", "kept")
    assert (tmp_path / "costs.json").read_bytes() == first
    assert list(json.loads(first)["tests"]) == [
        *(f"test_costs.py::test_{name}" for name in ("exceeded", "kept", "two_blocks")),
        "test_costs.py::test_two_blocks #2",
    ]
    (tmp_path / "test_costs.py").write_text(TESTS.replace("i < 3000", "i < 6000"))
    (tmp_path / "pytest.ini").write_text("[pytest]\nstable_baseline = costs.json\n")
    done = run_tests(tmp_path)
    assert "2 failed" not in done.stdout
    assert "3 failed, 1 passed" in done.stdout
    assert "OS pages accessed regressed by" in done.stdout
    assert "3 failed" not in run_tests(tmp_path, "--stable-threshold", "500").stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--stable-update-baseline"], "--stable-update-baseline needs --stable-baseline FILE"),
        (["--stable-threshold", "-1"], "--stable-threshold -1 is no number from 0 on"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_any_test(tmp_path, arguments, told):
    done = run_tests(tmp_path, *arguments)
    assert done.returncode == 4
    assert told in done.stderr


# -- in this process -------------------------------------------------------------------------------


def test_messages_of_the_block_alone_are_held(hold):
    with noted() as canister:
        with hold(canister, rows=1, os_pages_dirty=0) as same:
            assert same is canister
            canister.query("SELECT * FROM note")
        canister.update("INSERT INTO note VALUES (43, 'two')")
        with pytest.raises(pytest.fail.Exception) as caught, hold(canister, rows=1):
            canister.query("SELECT * FROM note")
    told = str(caught.value).splitlines()
    assert told[0] == "2 rows, budget 1 in message 5 (query)"
    assert told[1] == "  most of it (2): SELECT * FROM note"


def test_what_breaks_in_the_block_comes_out_as_it_is(hold):
    def fail(canister):
        with hold(canister, rows=0):
            canister.query("SELECT * FROM note")
            raise ZeroDivisionError

    with noted() as canister, pytest.raises(ZeroDivisionError):
        fail(canister)


def test_a_module_is_held_as_a_canister_is(hold):
    with CanisterModule("@counter.wasm", "(10)", trace=":memory:") as app:
        with hold(app, instructions=1_000_000, reply_bytes=100, limit="1%"):
            app.update("add", (5,))
        over = pytest.raises(pytest.fail.Exception, match="instructions, budget 9 in message")
        with over, hold(app, instructions=9):
            app.update("add", (5,))


@pytest.mark.slow
def test_a_budget_of_instructions_runs_where_they_are_counted(hold):
    with hold(setup="CREATE TABLE t (a)", instructions=50_000_000, limit="10%") as canister:
        assert canister.query("SELECT * FROM t").message.instructions is not None


def test_a_canister_of_its_own_has_what_it_is_given(hold, tmp_path):
    script = tmp_path / "setup.sql"
    script.write_text("CREATE TABLE t (a); INSERT INTO t VALUES (1);")
    with hold(setup=script, rows=1, page_size=1024, layout="raw") as canister:
        assert canister.query("SELECT a FROM t").rows == [(1,)]
    with Canister() as other:
        other.update("CREATE TABLE t (a)")
        other.extract_database(tmp_path / "app.db")
    with hold(database=tmp_path / "app.db", rows=0) as canister:
        canister.query("SELECT a FROM t")


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({"instrucions": 1}, "no 'instrucions'; did you mean instructions?"),
        ({"page_sise": 1}, "no 'page_sise'; did you mean page_size"),
        ({"rows": "many"}, "rows is 'many'; it is a whole number"),
        ({"rows": -1}, "rows is -1; it is a number from 0 on"),
        ({"limit": 10}, "limit is 10; it is a text with a per cent sign"),
        ({"on": 3}, "on is int; it is a Canister or a CanisterModule"),
    ],
)
def test_what_cannot_be_meant_is_refused(hold, chosen, told):
    with refused(told):
        hold(**chosen)


def refused(told):
    return pytest.raises(BudgetError, match=told)


def test_blocks_that_would_hold_nothing_are_refused(hold):
    with noted() as canister:
        with refused("no message was sent in the block"), hold(canister, rows=1):
            pass
        with refused("setup and database are of a canister that it makes"):
            hold(canister, setup="SELECT 1", rows=1)
        with refused("there is no 'page_size'"):
            hold(canister, page_size=512)
    with Canister() as bare, refused('make it with trace=":memory:"'), hold(bare, rows=1):
        bare.query("SELECT 1")
    made = hold(setup="SELECT * FROM x", rows=1)
    with refused("stable_budget: setup, line 1: no such table: x"), made:
        pass


def test_a_baseline_of_a_test_says_what_regressed(tmp_path):
    path = str(tmp_path / "kept.json")

    def run(rows, *, is_update=False):
        kept = KeptBaselines(path, is_update=is_update, threshold=0)
        with noted() as canister, StableBudget("a test", kept)(canister):
            canister.update("INSERT INTO note VALUES (1, ?)", ("x" * rows * 4096,))
        kept.write()

    run(1, is_update=True)
    before = Path(path).read_bytes()
    run(1)
    with pytest.raises(pytest.fail.Exception, match=r"update: INSERT INTO note .* regressed by"):
        run(5)
    assert Path(path).read_bytes() == before
    for text, told in (
        ("", "is no baseline of tests"),
        ("{}", "is no baseline of tests, or of"),
    ):
        Path(path).write_text(text)
        with refused(told):
            run(1)
    Path(path).unlink()
    with refused("there is no file"):
        run(1)
