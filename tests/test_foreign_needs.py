"""What a database from elsewhere needs and nobody has, and names that are no files."""

from contextlib import closing
from pathlib import Path

import apsw
import pytest

import sqlstable
from sqlstable import Canister, ImageError
from tests.foreign_databases import define, make, needy_fixture  # noqa: F401  a fixture
from tests.images import files_in
from tests.test_cli import call

# -- what only the database's own program has -----------------------------------------------------


def test_what_can_be_read_is_used_and_what_is_missing_is_named(needy, tmp_path):
    path, said = needy
    with Canister() as canister:
        (text,) = canister.import_database(path).notes
        assert said in text
        assert "; Canister.on_connect can define what is missing" in text
        assert canister.query("SELECT id FROM note").rows == [(7,)]
    for options in ((), ("--integrity-check",)):
        result = call("import", path, tmp_path / "deck.stable", "--force", *options)
        assert result.exit_code == 0
        assert said in result.stderr
        result = call("extract", tmp_path / "deck.stable", tmp_path / "out.db", "--force", *options)
        assert result.exit_code == 0
        assert said in result.stderr
        assert (tmp_path / "out.db").read_bytes() == path.read_bytes()


def test_on_connect_gives_what_is_missing_to_an_import(needy, tmp_path):
    path, _ = needy
    for is_thorough in (False, True):
        with Canister() as canister:
            canister.on_connect(define)
            reply = canister.import_database(path, integrity_check=is_thorough, page_size=512)
            assert all("its copy of 512" in note for note in reply.notes)
            assert len(canister.query("SELECT name FROM deck ORDER BY name").rows) == 2
            canister.update("INSERT INTO deck (name) VALUES (5)")
    (tmp_path / "setup.py").write_text(
        "import apsw\n"
        "def on_connect(connection):\n"
        "    connection.create_collation('unicase', lambda a, b: (a > b) - (a < b))\n"
        "    connection.create_scalar_function('checked', lambda value: value,\n"
        "        flags=apsw.SQLITE_INNOCUOUS | apsw.SQLITE_DETERMINISTIC)\n"
    )
    option = ("--on-connect", tmp_path / "setup.py")
    result = call("import", path, tmp_path / "deck.stable", *option)
    assert (result.exit_code, result.stderr) == (0, "")
    result = call("extract", tmp_path / "deck.stable", tmp_path / "out.db", *option)
    assert (result.exit_code, result.stderr) == (0, "")
    ask = "SELECT name FROM deck ORDER BY name;"
    for place in (("--database", path), ("--image", tmp_path / "deck.stable")):
        result = call("run", "-", *place, *option, "--rows", stdin=ask)
        assert result.exit_code == 0, result.stderr


def test_sqlite_pages_of_another_size_need_what_the_schema_names(needy, tmp_path):
    path, _ = needy
    before = files_in(tmp_path)
    result = call("import", path, tmp_path / "deck.stable", "--page-size", "512")
    assert result.exit_code == 2
    assert "cannot be copied with SQLite pages of another size" in result.stderr
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("CREATE VIRTUAL TABLE f USING nobody(x)", "no such module: nobody"),
        ("CREATE VIRTUAL TABLE f USING fts5(x, tokenize='nobody')", "no such tokenizer: nobody"),
    ],
)
def test_a_module_or_tokenizer_nobody_has_is_no_damage(tmp_path, schema, said):
    path = tmp_path / "app.db"
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("CREATE TABLE note (id); INSERT INTO note VALUES (7)")
        connection.execute("CREATE VIRTUAL TABLE f USING fts5(x)")
        connection.execute("PRAGMA writable_schema = on")
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'f'", (schema,))
    with Canister() as canister:
        notes = canister.import_database(path).notes
        (note,) = notes
        assert said in note
        assert canister.query("SELECT id FROM note").rows == [(7,)]


def test_damage_is_told_from_what_is_missing(needy):
    path, _ = needy
    content = bytearray(path.read_bytes())
    with closing(apsw.Connection(str(path))) as connection:
        sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'note'"
        (root,) = connection.execute(sql).fetchone()
    content[(root - 1) * 4096 : (root - 1) * 4096 + 8] = b"\xff" * 8
    path.write_bytes(content)
    with Canister() as canister, pytest.raises(ImageError, match=r"damaged|malformed"):
        canister.import_database(path)


def test_the_thorough_check_finds_what_an_index_lacks_and_the_quick_one_does_not(tmp_path):
    path = tmp_path / "app.db"
    make(path)
    with closing(apsw.Connection(str(path))) as connection:
        # What is changed while the schema knows of no index stays as it was in the index.
        connection.execute("PRAGMA writable_schema = on")
        schema = connection.execute("SELECT * FROM sqlite_schema WHERE type = 'index'").fetchall()
        connection.execute("DELETE FROM sqlite_schema WHERE type = 'index'")
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("UPDATE account SET owner = 'nobody' WHERE id = 5")
        connection.execute("PRAGMA writable_schema = on")
        connection.executemany("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", schema)
    assert call("import", path, tmp_path / "quick.stable").exit_code == 0
    result = call("import", path, tmp_path / "thorough.stable", "--integrity-check")
    assert result.exit_code == 2
    assert "is damaged: row 5 missing from index account_owner" in result.stderr
    with Canister() as canister, pytest.raises(ImageError, match="is damaged"):
        canister.import_database(path, integrity_check=True)


BAD_SETUPS = {
    "def on_connect(": "SyntaxError",
    "1 / 0": "ZeroDivisionError: division by zero",
    "on_connect = 7": "defines no on_connect(connection)",
    "def on_connect(connection): 1 / 0": "has failed: ZeroDivisionError",
    "def on_connect(): pass": "has failed: TypeError",
    "def on_connect(connection): connection.execute('SELECT nobody()')": "no such function",
}


@pytest.mark.parametrize("text", BAD_SETUPS)
@pytest.mark.parametrize("command", ["import", "run"])
def test_a_setup_that_fails_is_told_in_a_line(tmp_path, text, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "app.db")
    Path("setup.py").write_text(text)
    before = files_in(tmp_path)
    arguments = {
        "import": ("import", "app.db", "app.stable"),
        "run": ("run", "-", "--database", "app.db", "--image", "app.stable"),
    }[command]
    result = call(*arguments, "--on-connect", "setup.py", stdin="SELECT 1;")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert BAD_SETUPS[text] in result.stderr
    assert "should not have happened" not in result.stderr
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing.py", "No such file"), (".", "is a folder"), ("app.db", "cannot be run")],
)
def test_a_setup_that_is_none_is_refused(tmp_path, name, reason, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "app.db")
    result = call("import", "app.db", "app.stable", "--on-connect", name)
    assert result.exit_code == 2
    assert reason in result.stderr


# -- names and kinds of input ---------------------------------------------------------------------


SPECIAL = (":memory:", "file::memory:", "file:app.db?mode=ro", "a?mode=memory", "a#b%41", "a b'\"")


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_file_is_a_file_whatever_it_is_called(tmp_path, name, mode, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / name, before=f"PRAGMA journal_mode = {mode}")
    before = files_in(tmp_path)
    for path in (name, f"./{name}", tmp_path / name):
        with Canister() as canister:
            canister.import_database(path)
            assert canister.query("SELECT count(*) FROM account").rows == [(301,)]
    assert files_in(tmp_path) == before
    assert call("import", name, "app.stable").exit_code == 0
    result = call("run", "-", "--database", name, stdin="SELECT count(*) FROM account;")
    assert result.exit_code == 0, result.stderr
    assert call("extract", "app.stable", f"{name} out").exit_code == 0
    with Canister("app.stable") as canister:
        canister.extract_database(f"{name} again")
    assert Path(f"{name} again").read_bytes() == Path(f"{name} out").read_bytes()


@pytest.mark.parametrize("name", ["", ":memory:", "file:app.db", "app.db\0", "x" * 300])
def test_a_name_that_is_no_file_is_refused(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Canister() as canister, pytest.raises(ImageError, match="is not a file"):
        canister.import_database(name)


def test_the_bytes_of_a_database_are_checked_like_a_file(tmp_path):
    make(tmp_path / "app.db", version={28: 0})
    data = (tmp_path / "app.db").read_bytes()
    with Canister() as canister:
        canister.import_database(data)
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
    for bad, reason in ((data[:5000], "damaged|malformed"), (b"nothing", "is not a SQLite")):
        with Canister() as canister, pytest.raises(ImageError, match=reason):
            canister.import_database(bad)


def test_another_size_of_sqlite_pages_than_that_of_an_image_is_refused(tmp_path):
    make(tmp_path / "app.db")
    image = tmp_path / "app.stable"
    assert call("import", tmp_path / "app.db", image).exit_code == 0
    before = image.read_bytes()
    result = call("run", "-", "--image", image, "--page-size", "8192", stdin="SELECT 1;")
    assert result.exit_code == 2
    assert "has SQLite pages of 4096 bytes, and --page-size asks for 8192" in result.stderr
    assert "sqlstable import APP.db NEW --page-size 8192" in result.stderr
    assert image.read_bytes() == before
    result = call("run", "-", "--image", image, "--page-size", "4096", stdin="SELECT 1;")
    assert result.exit_code == 0


@pytest.mark.parametrize("page_size", [0, -1, 500, 1000, 131_072])
def test_a_size_that_no_sqlite_page_has_is_refused(tmp_path, page_size):
    make(tmp_path / "app.db")
    for arguments in (
        ("import", tmp_path / "app.db", tmp_path / "app.stable"),
        ("run", "-", "--database", tmp_path / "app.db"),
    ):
        result = call(*arguments, "--page-size", page_size, stdin="SELECT 1;")
        assert result.exit_code == 2
        assert f"page_size is {page_size}" in result.stderr
    with Canister() as canister, pytest.raises(sqlstable.SettingsError, match="page_size is"):
        canister.import_database(tmp_path / "app.db", page_size=page_size)
