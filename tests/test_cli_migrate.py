"""``sqlstable schema migrate`` and its neighbours as their users meet them."""

import json
import re
import sqlite3
from pathlib import Path

import pytest

from tests.test_cli import call

OLD = "CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT, balance TEXT);\n"
MORE = "CREATE TABLE old (x);\n"
NEW = OLD.replace("balance TEXT", "balance INTEGER")
IMAGE = "app.stable"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("old.sql").write_text(OLD + MORE)
    Path("new.sql").write_text(NEW)
    connection = sqlite3.connect("app.db")
    connection.executescript(OLD + MORE)
    connection.executemany(
        "INSERT INTO account (owner, balance) VALUES (?, ?)",
        [(f"o{index}", str(index)) for index in range(30)],
    )
    connection.commit()
    connection.close()
    assert call("import", "app.db", IMAGE).exit_code == 0


def said(*arguments):
    result = call("schema", *arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def refused(*arguments, status=2):
    """Return the error of a command that fails, and see that no byte has changed."""
    before = Path(IMAGE).read_bytes()
    result = call("schema", *arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert "Traceback" not in result.stderr
    assert Path(IMAGE).read_bytes() == before
    return " ".join(result.stderr.split())


def test_an_image_is_migrated_by_messages():
    lines = said("migrate", IMAGE, "new.sql", "--rows-per-message", 12).splitlines()
    assert lines[0] == "app.stable: 5 messages, 30 rows copied"
    assert re.fullmatch(r"  nearest limit: .+ of .+, <?[\d.]+%", lines[4])
    assert lines[1:4] == [
        "  begin         1 message  makes what rows are copied to",
        "  copy         3 messages  30 rows",
        "  switch        1 message",
    ]
    assert "table old is deprecated since schema upgrade 0: writes refused" in lines
    assert said("migrate", IMAGE, "new.sql") == "app.stable: there is nothing to do\n"


@pytest.mark.parametrize("options", [(), ("--prepare",), ("--rows-per-message", 10)])
@pytest.mark.parametrize("is_numbered", [False, True])
def test_the_messages_that_are_named_are_all_that_were_sent(options, is_numbered):
    Path("steps").mkdir()
    Path("steps/0001_up.sql").write_text("UPDATE account SET owner = 'x'; CREATE TABLE t (x)")
    new = "steps" if is_numbered else "new.sql"
    first, *more = said("migrate", IMAGE, new, *options).splitlines()
    parts = [re.fullmatch(r"  [a-z ]{8} +(\d+) messages?(  .*)?", line) for line in more]
    assert sum(int(it[1]) for it in parts if it) == int(first.split()[1])
    assert ("copied" in first) != is_numbered
    assert "0 rows" not in first.split()
    assert not any("nothing" in line for line in more)


def test_whole_pieces_are_looked_behind():
    lines = said("migrate", IMAGE, "new.sql", "--rows-per-message", 10).splitlines()
    assert lines[1:5] == [
        "  begin         1 message  makes what rows are copied to",
        "  copy         3 messages  30 rows",
        "  look          1 message  finds no rows left",
        "  switch        1 message",
    ]


def test_an_image_is_prepared_and_upgraded():
    assert "the switch waits" in " ".join(said("migrate", IMAGE, "new.sql", "--prepare").split())
    assert "the switch waits" in " ".join(said("migrate", IMAGE, "new.sql", "--prepare").split())
    assert "table account: 30 of 30 rows copied; writes are kept in step" in said("status", IMAGE)
    words = refused("migrate", IMAGE, "old.sql")
    assert "a migration to new.sql is under way (30 rows are copied), and old.sql is not" in words
    lines = said("migrate", IMAGE, "new.sql", "--upgrade").splitlines()
    assert lines[0] == "migration 1, to new.sql: both ways"
    assert re.fullmatch(r"  the upgrade: \d+ OS pages accessed, \d+ dirty", lines[-2])
    assert lines[-1].startswith("  nearest limit: ")
    assert "  migration 1, to new.sql: both ways" in said("status", IMAGE).splitlines()


def test_a_migration_is_given_up():
    said("migrate", IMAGE, "new.sql", "--prepare")
    assert "is given up" in said("migrate", IMAGE, "--abandon")
    assert "no migration is under way" in refused("migrate", IMAGE, "--abandon")


def test_a_table_goes_step_by_step():
    said("migrate", IMAGE, "new.sql", "--upgrade")
    assert "table old: deprecated since schema upgrade 1, 0 rows" in said("status", IMAGE)
    assert "only an unused one is removed" in refused("remove", IMAGE, "old")
    assert "is live again" in said("restore", IMAGE, "old")
    assert "is deprecated: it is read" in said("deprecate", IMAGE, "old")
    assert "table old is unused" in said("migrate", IMAGE, "new.sql", "--upgrade")
    assert "unused since schema upgrade 2, 0 rows; sqlstable" in said("status", IMAGE)
    assert said("remove", IMAGE, "old") == "app.stable: table old is removed\n"
    assert "there is no table old; the tables are: account" in refused("restore", IMAGE, "old")


def test_migrations_of_a_folder_are_applied_and_taken_back():
    folder = Path("migrations")
    folder.mkdir()
    (folder / "0001_note.sql").write_text("CREATE TABLE note (x)")
    (folder / "0001_note.down.sql").write_text("DROP TABLE note")
    assert "migration 0001_note: both ways" in said("migrate", IMAGE, folder)
    assert "migration 0001_note: both ways" in said("status", IMAGE)
    assert said("rollback", IMAGE) == "app.stable: migration 0001_note is taken back\n"
    assert "there is nothing to take back" in refused("rollback", IMAGE)
    (folder / "0003_c.sql").write_text("SELECT 1")
    assert "holds no migration 0002" in refused("migrate", IMAGE, folder)


@pytest.mark.parametrize("has_way_back", [False, True])
def test_what_is_advised_where_a_file_is_gone_does_work(has_way_back):
    folder = Path("migrations")
    folder.mkdir()
    for number, name in enumerate("abc", start=1):
        (folder / f"000{number}_{name}.sql").write_text(f"CREATE TABLE {name} (x)")
        if number < 3 or has_way_back:
            (folder / f"000{number}_{name}.down.sql").write_text(f"DROP TABLE {name}")
    said("migrate", IMAGE, folder)
    for file in (*folder.glob("0002*"), *folder.glob("0003*")):
        file.unlink()
    words = refused("migrate", IMAGE, folder)
    assert ("sqlstable schema rollback, 2 times" in words) == has_way_back
    assert "put it back" in words
    if has_way_back:
        said("rollback", IMAGE)
        said("rollback", IMAGE)
        assert said("migrate", IMAGE, folder) == "app.stable: there is nothing to do\n"


def test_an_empty_image_is_made_as_advised_and_migrated():
    words = refused("migrate", "fresh.stable", "new.sql")
    assert "echo 'SELECT 1;' | sqlstable run - --image fresh.stable an empty one" in words
    assert call("run", "-", "--image", "fresh.stable", stdin="SELECT 1;").exit_code == 0
    assert "migration 1, to new.sql" in said("migrate", "fresh.stable", "new.sql")


def test_a_folder_of_migrations_is_not_checked():
    Path("migrations").mkdir()
    Path("migrations/0001_a.sql").write_text("CREATE TABLE a (x)")
    words = refused("check", IMAGE, "migrations")
    assert "migrations is a folder of numbered migrations, and these are not checked" in words
    assert "sqlstable schema migrate IMAGE migrations" in words


def test_status_is_there_for_programs_too():
    assert "has no ledger" in said("status", IMAGE)
    said("migrate", IMAGE, "new.sql", "--prepare")
    fields = json.loads(said("status", IMAGE, "--format", "json"))
    assert fields["under_way"]["copies"] == [
        {"source": "account", "rows": 30, "rows_total": 30, "is_kept": True}
    ]
    assert fields["migrations"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("migrate", "app.db", "new.sql"), "sqlstable import app.db IMAGE makes one"),
        (("migrate", "nothing", "new.sql"), "there is no image nothing; sqlstable import"),
        (("migrate", IMAGE), "there is no NEW; give a SQL file, or a folder"),
        (("migrate", IMAGE, "new.sql", "--abandon"), "and takes no NEW"),
        (("migrate", IMAGE, "nothing.sql"), "is no file and no folder of migrations"),
        (("migrate", IMAGE, "new.sql", "--upgrade", "--prepare"), "leave one of them out"),
        (("migrate", IMAGE, "new.sql", "--rename", "x"), "--rename x is no pair"),
        (("migrate", IMAGE, "new.sql", "--rows-per-message", 0), "rows-per-message"),
        (("deprecate", IMAGE, "nothing"), "there is no table nothing; the tables are"),
        (("status", "app.db"), "sqlstable import app.db IMAGE makes one"),
    ],
)
def test_misuse_says_what_to_do_and_changes_nothing(arguments, words):
    assert words in refused(*arguments)
