"""``sqlstable schema check``: what it prints, its exit status, and what it refuses."""

import json

import apsw
import pytest
from typer.testing import CliRunner

from sqlstable import Canister
from sqlstable.cli import app

OLD = """
CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL, age INTEGER);
CREATE TABLE pet (id INTEGER PRIMARY KEY, owner INTEGER REFERENCES person (id) ON DELETE CASCADE);
"""
NEW = """
CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL, age INTEGER CHECK (age >= 0));
CREATE TABLE pet (id INTEGER PRIMARY KEY, owner INTEGER REFERENCES person (id) ON DELETE CASCADE);
"""
ROWS = "INSERT INTO person VALUES (1, 'ann', 7), (2, 'bob', 9); INSERT INTO pet VALUES (1, 2)"


def checked(*arguments, status=0):
    """Run the command; returns what it wrote."""
    done = CliRunner().invoke(app, ["schema", "check", *map(str, arguments)])
    assert done.exit_code == status, done.output
    return done.stdout, done.stderr


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "old.sql").write_text(OLD)
    (tmp_path / "new.sql").write_text(NEW)
    connection = apsw.Connection(str(tmp_path / "app.db"))
    connection.execute(OLD + ROWS)
    connection.close()
    return tmp_path


def test_the_verdict_comes_first_then_changes_then_sql(files):
    out, err = checked("old.sql", "new.sql")
    lines = out.splitlines()
    assert lines[0] == "forward only: there is a migration, and something may not come back"
    assert lines[4] == "forward only  added constraint person: CHECK (age >= 0)"
    assert max(map(len, lines)) <= 80
    assert out.index("the way there") < out.index("PRAGMA foreign_keys = off;")
    assert not err
    # What is printed as SQL is SQL.
    script = out[out.index("PRAGMA foreign_keys") : out.index("the way back")]
    connection = apsw.Connection(":memory:")
    connection.execute(OLD + ROWS + ";" + script)
    assert connection.execute("SELECT count(*) FROM pet").get == 1
    with pytest.raises(apsw.ConstraintError):
        connection.execute("UPDATE person SET age = -1")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_rows_of_a_database_decide_and_the_cost_is_measured(files, engine):
    before = (files / "app.db").read_bytes()
    out, _ = checked("app.db", "new.sql", "--engine", engine, "--format", "json")
    found = json.loads(out)
    assert found["verdict"] == "both ways"
    cost = found["cost"]
    assert (cost["fits"], cost["rows_copied"]) == (True, 2)
    assert cost["os_pages_dirty"] >= max(it["os_pages_dirty"] for it in cost["steps"]) > 0
    assert (cost["instructions"] is not None) == (engine == "wasm")
    assert [it["sql"] for it in cost["steps"]] == [it["sql"] for it in found["migration"]["steps"]]
    assert (files / "app.db").read_bytes() == before


def test_rows_that_stand_in_the_way_are_named(files):
    connection = apsw.Connection(str(files / "app.db"))
    connection.execute("UPDATE person SET age = -3 WHERE id = 2")
    connection.close()
    before = (files / "app.db").read_bytes()
    out, err = checked("app.db", "new.sql", status=1)
    assert out.startswith("incompatible: ")
    assert "1 row breaks CHECK (age >= 0): id 2 age -3" in " ".join(out.split())
    assert "the way there" not in out
    assert err.startswith("Error: there is no migration")
    assert (files / "app.db").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["raw", "froghub", "ic-sqlite-vfs"])
def test_an_image_of_any_layout_is_measured_in_its_own(files, layout):
    with Canister(files / "app.stable", layout=layout) as canister:
        canister.import_database(files / "app.db")
    found = json.loads(checked("app.stable", "new.sql", "--format", "json")[0])
    assert (found["verdict"], found["cost"]["rows_copied"]) == ("both ways", 2)
    assert found["cost"]["settings"]["layout"] == layout


@pytest.mark.slow
def test_images_and_snapshots_are_read_as_databases_are(files):
    image = files / "app.stable"
    with Canister(image) as canister:
        canister.import_database(files / "app.db")
    before = image.read_bytes()
    folder = files / "snapshot"
    folder.mkdir()
    (folder / "stable_memory.bin").write_bytes(before)
    for source in (image, folder):
        out, _ = checked(source, files / "new.sql")
        assert out.startswith("both ways: ")
        assert "fits one upgrade; 2 rows copied" in out
    assert image.read_bytes() == before
    # What sqlstable keeps in a database for itself is no part of its schema.
    with Canister(image) as canister:
        canister.upgrade(schema=NEW)
    assert checked(image, files / "new.sql", "--require", "both-ways")[0].startswith("same: ")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("old.sql", "old.sql", "--require", "both-ways"), 0, ""),
        (("old.sql", "new.sql", "--require", "forward"), 0, ""),
        (("old.sql", "new.sql", "--require", "both-ways"), 1, "--require both-ways asks for more"),
        (("old.sql", "absent.sql"), 2, "absent.sql cannot be read: No such file"),
        (("old.sql", "."), 2, "is no snapshot of a canister"),
        (("old.sql", "new.sql", "--rename", "a=b"), 2, "nothing in the old schema is called a"),
        (("old.sql", "new.sql", "--rename", "person"), 2, "write OLD=NEW"),
        (("old.sql", "new.sql", "--rename", "person=dog"), 2, "the new schema has no such table"),
        (("old.sql", "new.sql", "--drop", "dog"), 2, "nothing in the old schema is called dog"),
        (("old.sql", "new.sql", "--engine", "wasm"), 2, "give --database"),
        (("old.sql", "new.sql", "--format", "csv"), 2, "choose --format table or json"),
        (("new.sql", "old.sql", "--database", "app.db"), 2, "app.db has another schema than new"),
        (("old.sql", "new.sql", "--database", "old.sql"), 2, "old.sql is no database"),
        (
            ("old.sql", "new.sql", "--database", "app.stable", "--layout", "raw"),
            2,
            "leave --layout",
        ),
        (("latin.sql", "new.sql"), 2, "byte 14 is 0xe9; save it as UTF-8"),
        (("zero.sql", "new.sql"), 2, "zero byte in line 2"),
        (("attach.sql", "new.sql"), 2, "ATTACH is refused"),
        (("wrong.sql", "new.sql"), 2, 'line 1: near "TABLET"'),
        (("module.sql", "new.sql"), 2, "no such module: absent"),
        (("endless.sql", "new.sql"), 2, "takes more than"),
        (("cut.db", "new.sql"), 2, "cut.db is truncated"),
        (("huge.sql", "new.sql"), 2, "give the database itself"),
        (("damaged.db", "new.sql"), 2, "is damaged: "),
        (("spoilt.db", "new.sql"), 2, "malformed database schema"),
    ],
)
def test_status_and_refusals(files, arguments, status, words):
    (files / "latin.sql").write_bytes(b"CREATE TABLE t\xe9 (a)")
    (files / "zero.sql").write_bytes(b"CREATE TABLE\n t (\0a)")
    (files / "attach.sql").write_text("ATTACH 'other.db' AS other")
    (files / "wrong.sql").write_text("CREATE TABLET t (a)")
    (files / "module.sql").write_text("CREATE VIRTUAL TABLE t USING absent (a)")
    (files / "endless.sql").write_text(
        "CREATE TABLE t AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
        "SELECT count(*) AS i FROM n"
    )
    (files / "cut.db").write_bytes((files / "app.db").read_bytes()[:5000])
    data = (files / "app.db").read_bytes()
    # The root of a table's B-tree, and the text that says what the table is.
    (files / "damaged.db").write_bytes(data[:4096] + b"\xff" * 4096 + data[8192:])
    (files / "spoilt.db").write_bytes(data.replace(b"CREATE TABLE pet", b"CREATE TABEL pet"))
    if "app.stable" in arguments:
        with Canister(files / "app.stable") as canister:
            canister.import_database(files / "app.db")
    if "huge.sql" in arguments:
        (files / "huge.sql").write_bytes(b"-- row\n" * 1_200_000)
    _, err = checked(*arguments, status=status)
    assert words in err
    assert err.count("Error: ") == (status > 0)
