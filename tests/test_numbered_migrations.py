"""Numbered migrations: what a folder may hold, what was applied, and ways back tried on a copy."""

import re

import pytest

from sqlstable.database.trial_copy import SAMPLE_ROWS, Scratch, cut_statements
from sqlstable.errors import MigrationError, SqlError
from sqlstable.schema.ledger import (
    LEDGER_VERSION,
    Applied,
    Ledger,
    count_upgrade,
    forget_applied,
    has_ledger,
    make_ledger,
    note_applied,
    read_ledger,
)
from sqlstable.schema.migrations import (
    TableStep,
    applied_as,
    make_migration,
    pending,
    read_migrations,
    run_steps,
)
from sqlstable.schema.trial import contents, difference, limits_of, reasons_against


def folder_of(path, **texts):
    path.mkdir(exist_ok=True)
    for name, text in texts.items():
        (path / f"{name.replace('__', '.')}.sql").write_text(text)
    return path


def refusal(call, *args):
    with pytest.raises(MigrationError) as caught:
        call(*args)
    return str(caught.value)


def test_a_folder_is_read_in_order_with_its_ways_back(tmp_path):
    folder = folder_of(
        tmp_path,
        **{"0002_owner": "ALTER TABLE a ADD owner;", "0001_first": "CREATE TABLE a (x); -- all"},
        **{"0002_owner__down": "ALTER TABLE a DROP owner"},
    )
    (folder / "README.md").write_text("not SQL")
    first, second = read_migrations(folder)
    assert (first.title, first.up, first.down) == ("0001_first", ("CREATE TABLE a (x);",), None)
    assert second.down == ("ALTER TABLE a DROP owner",)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), "holds no migrations"),
        (("0002_b",), "holds no migration 0001"),
        (("0001_a", "0003_c"), "holds no migration 0002, and goes on with 0003_c.sql"),
        (("0001_a", "0001_b"), "0001_a.sql and 0001_b.sql .* have the same number"),
        (("0001_a", "1_b"), "have the same number"),
        (("0001_a", "0001_a__down", "0001_b__down"), "have the same number"),
        (("0001_a", "0002_b__down"), "leads back from a migration that is not there"),
        (("0001_a", "notes"), "notes.sql is no numbered migration"),
        (("0000_a",), "is no numbered migration"),
    ],
)
def test_a_folder_with_a_hole_is_refused(tmp_path, names, words):
    folder = folder_of(tmp_path / "it", **dict.fromkeys(names, "SELECT 1"))
    assert re.search(words, refusal(read_migrations, folder))


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "0001_a.sql").write_bytes(b"SELECT '\xff'")
    assert "is not UTF-8: byte 8" in refusal(read_migrations, tmp_path)


@pytest.mark.parametrize(
    "sql",
    [
        *("COMMIT", "BEGIN", "END", "ROLLBACK", "SAVEPOINT a", "RELEASE a", "VACUUM"),
        *("ATTACH 'a' AS b", "DETACH b", "PRAGMA journal_mode = delete", "/* */ commit"),
        *("PRAGMA foreign_keys = off", "DROP TABLE _sqlstable_ledger", 'DROP TABLE "_SQLSTABLE_x"'),
    ],
)
def test_what_reaches_beyond_the_message_is_refused(sql):
    text = f"CREATE TABLE t (x); {sql};"
    assert "migration 0001_a cannot hold" in refusal(make_migration, 1, "a", text)
    assert "the way back of" in refusal(make_migration, 1, "a", "SELECT 1", text)


def test_words_that_only_look_like_that_are_not():
    text = """
    INSERT INTO t VALUES ('COMMIT; ATTACH');  -- COMMIT;
    CREATE TRIGGER a AFTER INSERT ON t BEGIN SELECT 1; END;
    PRAGMA user_version = 3;
    """
    assert len(make_migration(1, "a", text).up) == 3


def test_directives_are_steps_between_statements():
    migration = make_migration(1, "a", "SELECT 1;\n--@ deprecate old one\nSELECT 2;")
    assert migration.up == ("SELECT 1;", TableStep("deprecate", "old one"), "SELECT 2;")
    assert "--@ drop t" in refusal(make_migration, 1, "a", "--@ drop t")


def test_statements_are_cut_where_sqlite_ends_them():
    trigger = "CREATE TRIGGER a DELETE ON b BEGIN SELECT 1; SELECT 2; END"
    assert cut_statements(f";; {trigger};/* ; */ SELECT ';' ") == (f"{trigger};", "SELECT ';'")
    assert cut_statements(" -- nothing") == ()
    literals = """INSERT INTO t VALUES ('a;''b;', ";", `;`, [;], /*;*/ 1);"""
    assert cut_statements(f"{literals} --;\n{literals};SELECT 1") == (
        literals,
        literals,
        "SELECT 1",
    )
    # What never ends is one statement, as far as can be told.
    assert cut_statements("SELECT 1; SELECT '; SELECT 2;") == ("SELECT 1;", "SELECT '; SELECT 2;")


# -- the ledger -----------------------------------------------------------------------------------


@pytest.fixture
def scratch():
    with Scratch() as it:
        yield it


def test_reading_a_ledger_that_is_not_there_makes_none(scratch):
    assert read_ledger(scratch.execute) == Ledger()
    assert not has_ledger(scratch.execute)


def test_a_ledger_gives_back_what_was_noted(scratch):
    make_ledger(scratch.execute)
    count_upgrade(scratch.execute, 7)
    rows = [Applied(1, "numbered", "a", "c", 7, "forward only", "why", None)]
    rows.append(Applied(2, "numbered", "b", "d", 7, "both ways", None, "DROP VIEW v"))
    for row in rows:
        note_applied(scratch.execute, row)
    assert read_ledger(scratch.execute) == Ledger(LEDGER_VERSION, 7, tuple(rows))
    forget_applied(scratch.execute, 2)
    assert read_ledger(scratch.execute).applied == (rows[0],)


def test_a_ledger_of_the_future_is_refused(scratch):
    make_ledger(scratch.execute)
    scratch.execute("UPDATE _sqlstable_ledger SET value = 99 WHERE key = 'version'")
    assert "of version 99" in refusal(read_ledger, scratch.execute)


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE _sqlstable_tables",
        "DELETE FROM _sqlstable_ledger",
        "UPDATE _sqlstable_ledger SET value = 'x' WHERE key = 'version'",
        "ALTER TABLE _sqlstable_migrations RENAME COLUMN way TO road",
    ],
)
def test_a_damaged_ledger_is_refused(scratch, sql):
    make_ledger(scratch.execute)
    scratch.execute(sql)
    assert "is damaged, or somebody else's" in refusal(read_ledger, scratch.execute)


def test_what_was_applied_stays_as_it_was():
    one, two = make_migration(1, "a", "SELECT 1"), make_migration(2, "b", "SELECT 2", "SELECT 3")
    ledger = Ledger(applied=(applied_as(one, 1, "no way back"), applied_as(two, 1, None)))
    three = make_migration(3, "c", "SELECT 3")
    assert pending((one, two, three), ledger) == (three,)
    assert pending((one, two), ledger) == ()
    # Line ends of another system are no edit.
    assert pending((make_migration(1, "a", "SELECT 1\r\n"), two), ledger) == ()
    for edited in (("SELECT 1", "SELECT 3"), ("SELECT 2", "SELECT 4"), ("SELECT 2", None)):
        other = make_migration(2, "b", *edited)
        assert "was edited after it was applied" in refusal(pending, (one, other), ledger)
    assert "0002_b was applied, and is not in the folder" in refusal(pending, (one,), ledger)


def test_a_database_follows_migrations_or_schemas_and_not_both():
    ledger = Ledger(applied=(Applied(1, "schema", "new", "c", 1, "forward only", "", None),))
    assert "follows whole schemas" in refusal(
        pending, (make_migration(1, "a", "SELECT 1"),), ledger
    )


# -- running, and ways back -----------------------------------------------------------------------


def test_a_migration_drops_no_table(scratch):
    scratch.execute("CREATE TABLE t (x); CREATE TABLE u (x)")
    text = refusal(run_steps, scratch.execute, ("DROP TABLE t",), "it")
    assert "it drops table t" in text
    assert "--@ deprecate t" in text


def test_renaming_a_table_or_making_it_anew_drops_none(scratch):
    scratch.execute("CREATE TABLE t (x); CREATE VIRTUAL TABLE f USING fts5 (a)")
    anew = "CREATE TABLE n (y); DROP TABLE t; ALTER TABLE n RENAME TO t; ALTER TABLE f RENAME TO g"
    run_steps(scratch.execute, cut_statements(anew), "it")
    run_steps(scratch.execute, ("ALTER TABLE t RENAME TO u",), "it")


def trial(before, *pairs):
    with Scratch() as scratch:
        scratch.execute(before)
        migrations = [
            make_migration(number, "m", *pair) for number, pair in enumerate(pairs, start=1)
        ]
        return list(reasons_against(scratch, migrations).values())


def test_a_way_back_that_leads_back_is_promised():
    pair = ("ALTER TABLE t ADD y; CREATE INDEX i ON t (y)", "DROP INDEX i; ALTER TABLE t DROP y")
    second = ("ALTER TABLE t RENAME TO u", "ALTER TABLE u RENAME TO t")
    assert trial("CREATE TABLE t (x); INSERT INTO t VALUES (1)", pair, second) == [None, None]


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (("SELECT 1", None), "there is no 0001_m.down.sql"),
        (
            ("SELECT 1", "DELETE FROM t"),
            r"of 2 rows of table t 2 come back otherwise, or not: \(1,\)",
        ),
        (("SELECT 1", "INSERT INTO t VALUES (3)"), r"table t has 1 more rows, such as \(3,\)"),
        (("SELECT 1", "UPDATE t SET x = x + 0.5"), r"\(1,\) as \(1.5,\)"),
        (("SELECT 1", "UPDATE t SET x = x * 1.0"), r"\(1,\) as \(1.0,\)"),
        (("CREATE VIEW v AS SELECT 1", "SELECT 1"), "view v is still there"),
        (("SELECT 1", "DROP INDEX i"), "index i is gone"),
        (("SELECT 1", "ALTER TABLE t ADD z"), "table t is defined otherwise"),
        (("SELECT 1", "DROP TABLE none"), "no such table: none"),
        (("SELEC 1", "SELECT 1"), "it could not be tried: .*syntax error"),
    ],
)
def test_a_way_back_that_does_not_is_not(pair, words):
    before = "CREATE TABLE t (x); CREATE INDEX i ON t (x); INSERT INTO t VALUES (1), (2)"
    (reason,) = trial(before, pair)
    assert re.search(words, reason)


def test_moving_a_table_along_its_life_has_a_way_back():
    pair = ("--@ deprecate t", "--@ restore t")
    assert trial("CREATE TABLE t (x); INSERT INTO t VALUES (1)", pair) == [None]


def test_a_large_database_is_tried_on_a_sample(scratch, monkeypatch):
    monkeypatch.setattr("sqlstable.database.trial_copy.WHOLE_BYTES_MAX", 0)
    scratch.execute("""
        CREATE TABLE t (id INTEGER PRIMARY KEY, x, y AS (x + 1)); CREATE INDEX i ON t (x);
        CREATE TABLE w (k TEXT PRIMARY KEY, v) WITHOUT ROWID; CREATE VIEW v AS SELECT * FROM w;
        INSERT INTO w VALUES ('a', 1);
        CREATE VIRTUAL TABLE f USING fts5 (a); INSERT INTO f VALUES ('word')""")
    scratch.connection.executemany("INSERT INTO t (x) VALUES (?)", [(1,)] * (3 * SAMPLE_ROWS))
    with Scratch.copy_of(scratch.connection, 1) as copy:
        ids = [row[0] for row in copy.execute("SELECT id FROM t ORDER BY id")]
        assert len(ids) == SAMPLE_ROWS
        assert (ids[0], ids[-1]) == (1, 3 * SAMPLE_ROWS)
        assert copy.execute("SELECT * FROM v") == [("a", 1)]
        assert limits_of(copy) == "tried on 1,000 rows of each table"
    with Scratch.copy_of(scratch.connection, 0) as copy:
        assert limits_of(copy) is None
        assert difference(contents(scratch.execute), contents(copy.execute)) is None


def test_what_cannot_be_copied_says_so(scratch):
    scratch.execute("CREATE TABLE t (x)")
    scratch.execute("PRAGMA writable_schema = on; UPDATE sqlite_schema SET sql = 'CREATE x'")
    with Scratch() as broken:
        broken.connection.deserialize("main", scratch.connection.serialize("main"))
        with pytest.raises(SqlError, match="no copy can be made"):
            Scratch.copy_of(broken.connection, 1 << 40)
