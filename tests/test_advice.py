"""Advice: known mistakes are named, and following it helps; sound workloads get none."""

import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest

from sqlstable import Canister, open_trace
from sqlstable.analysis.advice.advice import KEYWORDS, Advice, counted, quoted, short_sql
from sqlstable.analysis.advice.advise import advise
from sqlstable.analysis.advice.schema_probe import SchemaProbe
from sqlstable.analysis.advice.sql_columns import take_apart
from sqlstable.report.as_csv import render_csv
from sqlstable.report.as_json import document
from sqlstable.report.as_table import render_table
from sqlstable.trace.model import SchemaObject
from tests.advice_workloads import MISTAKES, load, measured, record, tracks
from tests.hand_built import HandBuiltTrace, message, owner, statement, use
from tests.test_benchmarks import public_data
from tests.test_cli import call

PAGE = Path("docs/explanation/advice.md").read_text(encoding="utf-8")
TRACK = "CREATE TABLE track (id INTEGER PRIMARY KEY, artist TEXT, title TEXT, seconds INTEGER)"
HOSTILE = '\x1b[31m<script>"`]\u202e' + "x" * 5000


def table(name, sql):
    return SchemaObject("table", name, name, sql)


def index(name, of, sql):
    return SchemaObject("index", name, of, sql)


SCHEMA = (table("track", TRACK),)


def scanning(sql, *, schema=SCHEMA, name="track", rows=1, plan=None, **changes):
    """Return a trace of one statement that scans a table of 500 OS pages."""
    plan = (f"SCAN {name}",) if plan is None else plan
    known = {"kind": "read", "owners": (owner("track", 500),), "plan": plan, "row_count": rows}
    made = statement(0, 0, sql, 500, **{**known, **changes})
    return HandBuiltTrace(
        messages=(message(0, "query", (0,), use(500)),), statements=(made,), schema=tuple(schema)
    )


def created(trace):
    """The indexes that are advised."""
    found = [it for it in advise(trace) if it.code == "missing-index"]
    return [it.sentence.partition("scan: ")[2] for it in found]


# -- known mistakes ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda it: it.code)
def test_a_known_mistake_is_named_and_following_the_advice_helps(mistake, tmp_path):
    with (
        record(mistake, tmp_path / "mistaken.trace", mended=False) as mistaken,
        record(mistake, tmp_path / "mended.trace", mended=True) as mended,
    ):
        found = advise(mistaken)
        assert [it.code for it in found] == [mistake.code], found
        assert mistake.names in found[0].sentence + "\n".join(found[0].cites)
        assert found[0].gain.startswith(("expected", "measured"))
        numbers = measured(mistaken, mistake), measured(mended, mistake)
        assert numbers[0] > mistake.smaller_by * numbers[1]
        what = mistake.measure.replace("os_pages", "OS pages").replace("_", " ")
        assert f"| `{mistake.code}` | {what} | {numbers[0]:,} | {numbers[1]:,} |" in PAGE
        assert advise(mended) == ()


@pytest.mark.slow
def test_an_advised_index_is_used_as_it_was_written(tmp_path):
    """The SQL of the sentence itself is executed, and the numbers beneath it keep their word."""
    path, image = tmp_path / "before.trace", tmp_path / "a.stable"
    sql = "SELECT title FROM track WHERE artist = 'artist 42'"
    with Canister(image, trace=path) as canister:
        tracks(canister)
        canister.query(sql)
    with open_trace(path) as trace:
        (advice,) = advise(trace)
    with Canister(image) as canister:
        canister.update(advice.sentence.partition("scan: ")[2])
        after = canister.query(sql).footprint.os_pages_accessed
    at_most = int(re.search("at most ([0-9]+) OS pages", advice.gain)[1])
    assert after <= at_most < 40


# -- sound workloads -----------------------------------------------------------------------------


def many_reads(canister):
    tracks(canister)
    for number in range(50):
        canister.query("SELECT title FROM track WHERE id = ?", (number,))


def whole_scans(canister):
    tracks(canister)
    canister.query("SELECT count(*), max(length(title)) FROM track")
    canister.query("SELECT artist, count(*) FROM track GROUP BY artist")
    canister.query("SELECT * FROM track")


def small_tables(canister):
    canister.update("CREATE TABLE currency (code TEXT PRIMARY KEY, name TEXT)")
    load(canister, "INSERT INTO currency VALUES (?, ?)", ((f"C{n}", f"n {n}") for n in range(99)))
    for number in range(40):
        canister.query("SELECT * FROM currency WHERE name = ?", (f"n {number}",))
        canister.query("SELECT * FROM currency WHERE code = ?", (f"C{number}",))


def unselective(canister):
    tracks(canister)
    canister.query("SELECT title FROM track WHERE id % 2 = 0")
    canister.query("SELECT title FROM track WHERE artist > 'artist 1'")


def first_parts(canister):
    tracks(canister)
    for number in range(20):
        canister.query(
            "SELECT title FROM track ORDER BY id LIMIT 20 OFFSET ?", (20 * (number % 2),)
        )


def indexed_joins(canister):
    tracks(canister)
    canister.update("CREATE TABLE play (id INTEGER PRIMARY KEY, track_id REFERENCES track)")
    canister.update("CREATE INDEX play_track ON play(track_id)")
    load(canister, "INSERT INTO play (track_id) VALUES (?)", ((n % 700,) for n in range(6000)))
    for number in range(20):
        sql = "SELECT title FROM play JOIN track ON track.id = track_id WHERE track_id = ?"
        canister.query(sql, (number,))


def people_at_once(canister):
    canister.update("CREATE TABLE sale (id INTEGER PRIMARY KEY, cents INTEGER)")
    for number in range(100):
        canister.update("INSERT INTO sale (cents) VALUES (?)", (number,))
        canister.query("SELECT cents FROM sale WHERE id = ?", (number,))


def constraints(canister):
    canister.update("CREATE TABLE user (id INTEGER PRIMARY KEY, email TEXT UNIQUE)")
    canister.update("CREATE UNIQUE INDEX user_email ON user(lower(email))")
    load(canister, "INSERT INTO user (email) VALUES (?)", ((f"{n}@x",) for n in range(5000)))
    for number in range(20):
        canister.query("SELECT email FROM user WHERE id = ?", (number,))


def loading_alone(canister):
    tracks(canister)
    canister.update("CREATE INDEX track_artist ON track(artist)")


def bulk_changes(canister):
    tracks(canister)
    canister.update("UPDATE track SET title = upper(title)")
    canister.update("DELETE FROM track WHERE id % 3 = 0")


SOUND = [
    *(many_reads, whole_scans, small_tables, unselective, first_parts, indexed_joins),
    *(people_at_once, constraints, loading_alone, bulk_changes),
]


@pytest.mark.slow
@pytest.mark.parametrize("run", SOUND, ids=lambda it: it.__name__)
def test_a_sound_workload_gets_no_advice(run, tmp_path):
    path = tmp_path / "sound.trace"
    with Canister(trace=path) as canister:
        run(canister)
    with open_trace(path) as trace:
        assert advise(trace) == ()
        assert "advice" not in render_table(trace)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["native", "wasm"])
@pytest.mark.parametrize("script", sorted(Path("examples").glob("*.sql")), ids=lambda it: it.name)
def test_the_examples_are_sound(script, engine, tmp_path):
    path = tmp_path / "a.trace"
    assert call("run", script, "--engine", engine, "--trace", path).exit_code == 0
    with open_trace(path) as trace:
        assert advise(trace) == ()


CHINOOK = {
    "SELECT Title FROM Album JOIN Artist USING (ArtistId) WHERE Artist.Name = 'AC/DC'": None,
    "SELECT c.LastName, sum(i.Total) FROM Customer AS c JOIN Invoice AS i"
    " ON c.CustomerId = i.CustomerId GROUP BY c.CustomerId ORDER BY 2 DESC": None,
    "SELECT t.Name, count(*) FROM Track AS t JOIN InvoiceLine AS l ON l.TrackId = t.TrackId"
    " GROUP BY t.TrackId ORDER BY 2 DESC LIMIT 10": None,
    "SELECT g.Name, count(*) FROM Genre AS g JOIN Track AS t USING (GenreId) GROUP BY 1": None,
    "SELECT * FROM Track WHERE Composer LIKE '%Young%'": None,
    "SELECT * FROM Track WHERE TrackId = 5": None,
    "SELECT count(*) FROM Track WHERE Milliseconds > 300000": None,
    # The one that nobody made an index for.
    "SELECT * FROM Track WHERE Name = 'Thunderstruck'": "CREATE INDEX Track_Name ON Track(Name)",
}


@pytest.mark.slow
@pytest.mark.external
@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_chinook_lacks_one_index_that_its_queries_need(engine, tmp_path):
    database = public_data("chinook", "chinook.sqlite")
    with Canister(engine=engine, trace=tmp_path / "a.trace") as canister:
        canister.import_database(database)
        for sql in CHINOOK:
            canister.query(sql)
    with open_trace(tmp_path / "a.trace") as trace:
        assert created(trace) == [it for it in CHINOOK.values() if it]
        assert len(advise(trace)) == 1


# -- which index ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "indexes"),
    [
        ("SELECT title FROM track WHERE artist = 'a'", ["track(artist)"]),
        ("SELECT t.title FROM track AS t WHERE t.Artist = 'a'", ["track(artist)"]),
        ("SELECT title FROM track WHERE artist = ? AND seconds > :a", ["track(artist, seconds)"]),
        ("SELECT sum(seconds) FROM track WHERE artist = 'a'", ["track(artist, seconds)"]),
        ("SELECT title FROM track ORDER BY seconds LIMIT 5", ["track(seconds)"]),
        ("SELECT title FROM track WHERE artist IN ('a', 'b')", ["track(artist)"]),
        ("SELECT title FROM track WHERE artist BETWEEN 'a' AND 'b'", ["track(artist)"]),
        ("WITH w AS (SELECT * FROM track) SELECT id FROM w WHERE artist = 'a'", ["track(artist)"]),
        # What no index of columns can help.
        ("SELECT title FROM track WHERE lower(artist) = 'a'", []),
        ("SELECT title FROM track WHERE artist LIKE '%a'", []),
        ("SELECT title FROM track WHERE artist = 'a' OR seconds = 1 OR title > 'a'", []),
        ("SELECT title FROM track WHERE NOT artist = 'a'", []),
        ("SELECT sum(seconds) FROM track WHERE seconds > 5", []),
        ("SELECT title FROM track ORDER BY seconds", []),
        ("SELECT title FROM track", []),
    ],
)  # fmt: skip
def test_columns_that_are_compared_are_indexed_where_sqlite_would_use_it(sql, indexes):
    name = "t" if " AS t" in sql else "track"
    assert [it.rpartition(" ON ")[2] for it in created(scanning(sql, name=name))] == indexes


def test_an_index_that_is_there_at_the_end_is_not_advised():
    sql = "SELECT title FROM track WHERE artist = 'a'"
    made = index("by_artist", "track", "CREATE INDEX by_artist ON track(artist)")
    assert created(scanning(sql, schema=(table("track", TRACK), made))) == []
    # A partial one does not serve, and its name is taken.
    partial = "CREATE INDEX track_artist ON track(artist) WHERE seconds > 9"
    schema = (table("track", TRACK), index("track_artist", "track", partial))
    assert created(scanning(sql, schema=schema)) == ["CREATE INDEX track_artist_ ON track(artist)"]


def test_names_are_quoted_where_sqlite_needs_it():
    schema = (table("track", TRACK), table("or der", 'CREATE TABLE "or der" ("group" TEXT, b)'))
    trace = scanning('SELECT b FROM "or der" WHERE [GROUP] = 1', schema=schema, name="or der")
    moved = replace(trace.statements[0], owners=(owner("or der", 500),))
    trace = replace(trace, statements=(moved,))
    assert created(trace) == ['CREATE INDEX "or der_group" ON "or der"("group")']


def test_a_table_without_rowid_is_indexed_like_any_other():
    schema = (
        table("track", TRACK.replace("INTEGER PRIMARY KEY", "TEXT PRIMARY KEY") + " WITHOUT ROWID"),
    )
    sql = "SELECT title FROM track WHERE artist = 'a'"
    assert created(scanning(sql, schema=schema)) == ["CREATE INDEX track_artist ON track(artist)"]


@pytest.mark.parametrize("sql", ["UPDATE track SET seconds = 1 WHERE title = 'a'",
                                 "DELETE FROM track WHERE title = 'a'"])  # fmt: skip
def test_few_rows_that_are_changed_are_found_by_an_index(sql):
    assert created(scanning(sql, kind="write")) == ["CREATE INDEX track_title ON track(title)"]
    most = scanning(sql, kind="write", owners=(owner("track", 500, 300),))
    assert created(most) == []


def test_rows_that_are_needed_are_not_looked_up_one_by_one():
    sql = "SELECT title FROM track WHERE artist = 'a'"
    assert created(scanning(sql, rows=200)) != []
    assert created(scanning(sql, rows=300)) == []


@pytest.mark.parametrize("create", ["CREATE TEMP TABLE track (artist, title)",
                                    'create temporary view "TRACK" as select 1'])  # fmt: skip
def test_a_temp_table_hides_the_one_that_the_schema_has(create):
    trace = scanning("SELECT title FROM track WHERE artist = 'a'")
    made = statement(1, 0, create, kind="ddl")
    assert created(replace(trace, statements=(*trace.statements, made))) == []


def test_views_and_virtual_tables_get_no_index():
    view = SchemaObject("view", "v", "v", "CREATE VIEW v AS SELECT * FROM track WHERE artist = 'a'")
    text = table("fts", "CREATE VIRTUAL TABLE fts USING fts5(body)")
    schema = (table("track", TRACK), view, text)
    assert created(scanning("SELECT title FROM v", schema=schema)) == []
    assert (
        created(scanning("SELECT body FROM fts WHERE body = 'a'", schema=schema, name="fts")) == []
    )


# -- hostile input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        *("", ";", "SELECT", "nonsense", "SELECT 1; DROP TABLE track", "ATTACH 'x.db' AS x"),
        *("PRAGMA writable_schema = 1", "SELECT * FROM nobody", f"SELECT '{HOSTILE}' FROM track"),
        *("(" * 3000, f'SELECT "{HOSTILE}" FROM track WHERE artist = 1', "SELECT f(x) FROM track"),
        "SELECT " + ", ".join(["title"] * 9000) + " FROM track WHERE artist = 'a'",
        "VACUUM INTO 'written.db'",
    ],
)
def test_sql_that_nobody_understands_gets_no_index_and_no_word(
    sql, caplog, capfd, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.DEBUG):
        assert created(scanning(sql)) == []
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == [], "looking at SQL executes none of it"


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH '{file}' AS x",
        "VACUUM INTO '{file}'",
        (
            "CREATE TABLE track AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n)"
            " SELECT * FROM n"
        ),
        "PRAGMA journal_mode = wal",
        "SELECT load_extension('{file}')",
        "nonsense",
        HOSTILE,
        None,
        "\x00",
    ],
)
def test_a_schema_is_never_executed_but_for_what_it_defines(sql, tmp_path):
    file = tmp_path / "made.db"
    hostile = table("track", sql and sql.replace("{file}", str(file)))
    assert created(scanning("SELECT title FROM track WHERE artist = 1", schema=(hostile,))) == []
    assert not file.exists()


def test_a_trace_without_a_schema_or_with_too_large_a_one_has_no_index_advice():
    sql = "SELECT title FROM track WHERE artist = 'a'"
    assert created(scanning(sql, schema=())) == []
    many = [table(f"t{number}", f"CREATE TABLE t{number} (x)") for number in range(3000)]
    assert created(scanning(sql, schema=(table("track", TRACK), *many))) == []


def test_hostile_names_do_no_harm_in_any_format():
    quoted_name = '"' + HOSTILE.replace('"', '""') + '"'
    schema = (table(HOSTILE, f"CREATE TABLE {quoted_name} (a, b)"),)
    trace = scanning(f"SELECT b FROM {quoted_name} WHERE a = 1", schema=schema, name=HOSTILE)
    trace = replace(
        trace, statements=(replace(trace.statements[0], owners=(owner(HOSTILE, 500),)),)
    )
    assert len(created(trace)) <= 1
    for text in (render_table(trace, by="advice"), render_table(trace)):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert render_csv(trace, by="advice").count("\n") >= 1
    assert len(document(trace)["advice"]) == len(advise(trace))


def test_an_empty_trace_has_no_advice():
    assert advise(HandBuiltTrace()) == ()
    assert render_csv(HandBuiltTrace(), by="advice").count("\n") == 1


# -- how it is told ------------------------------------------------------------------------------


def test_the_strongest_advice_stands_below_every_table_and_all_of_it_in_its_view():
    trace = scanning("SELECT title FROM track WHERE artist = 'a'")
    words = " ".join(render_table(trace).split())
    create = "CREATE INDEX track_artist ON track(artist)"
    assert f"advice Add an index, so that SQLite need not scan: {create}" in words
    assert "(expected: at most 5 OS pages instead of 500); --by advice" in words
    view = " ".join(render_table(trace, by="advice").split())
    assert "statement 0, SELECT title FROM track WHERE artist = 'a': 500 OS pages accessed" in view
    assert view.count(create) == 1
    header, row = render_csv(trace, by="advice").splitlines()[:2]
    assert header == "code,sentence,gain,share,cites,statements"
    assert row.startswith("missing-index,")


def test_words_of_advice():
    assert counted(1, "query") == "1 query"
    assert short_sql("x" * 500).endswith("…")
    assert "SELECT" in KEYWORDS
    assert quoted("Größe") == '"Größe"'
    assert Advice("a", "b", (), None, (), 0.0) == Advice("a", "b", (), None, (), 0.0)


def test_sql_is_taken_apart():
    columns = {"a": ("x", "y"), "b": ("x", "z")}.get
    found = take_apart(
        "SELECT * FROM a JOIN b USING (x) WHERE a.y > 1 ORDER BY z DESC LIMIT 1",
        lambda name: columns(name, ()),
    )
    assert found.has_star
    assert found.has_limit
    assert [(it.table, it.equal, it.ranged, it.ordered) for it in found.tables] == [
        ("a", ("x",), ("y",), ()),
        ("b", ("x",), (), ("z",)),
    ]
    assert take_apart("SELECT " + "x" * 10_000, lambda _: ()) is None


def test_a_probe_forgets_an_index_that_it_tried():
    probe = SchemaProbe((table("track", TRACK),))
    sql = "SELECT title FROM track WHERE artist = ?"
    before = probe.plan(sql)
    assert probe.plan(sql, "CREATE INDEX i ON track(artist)") != before
    assert probe.plan(sql) == before == ("SCAN track",)
    assert [it.name for it in probe.columns("TRACK")] == ["id", "artist", "title", "seconds"]
    probe.close()
