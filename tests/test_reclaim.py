"""What gives free SQLite pages back: against plain SQLite, file sizes, and `dbstat`."""

import csv
import io
import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

import sqlstable
from sqlstable import Canister, ImageError, SettingsError, StableMemory
from sqlstable.analysis.reclaimable import ReclaimReport
from sqlstable.ic.limits import latest_limits
from sqlstable.report.reclaim_table import render_reclaim
from sqlstable.workload import reclaiming
from sqlstable.workload.reclaiming import STEPS_RUN_MAX, reclaim
from tests import product_images
from tests.cli_images import bad_folder_fixture, image_fixture  # noqa: F401  fixtures
from tests.golden_files import check_golden
from tests.images import files_in
from tests.reclaim_world import MODES, Plain, answers, holey, image_of
from tests.test_cli import call, contents, folder, masked  # noqa: F401  fixtures

LAYOUTS = ("managed", "raw", "froghub", "ic-sqlite-vfs")


@pytest.fixture(scope="module")
def databases():
    return {mode: holey(mode=mode) for mode in MODES}


def written(place, data, name="app.db"):
    path = Path(place, name)
    path.write_bytes(data)
    return path


def check_against_plain(report, data, place):
    """Every way leaves what the same statements leave in plain SQLite."""
    for way in report.ways:
        with Plain(data, place) as plain:
            assert (report.file_bytes, report.free_sqlite_pages) == plain.sizes()
            for _ in range(way.messages_run):
                plain.run(way.sql)
            assert (way.file_bytes, way.free_sqlite_pages) == plain.sizes(), way.name


# -- the numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_sizes_are_those_of_plain_sqlite(databases, tmp_path, mode):
    report = reclaim(written(tmp_path, databases[mode]), steps=(7, 20, 100_000))
    assert report.auto_vacuum == mode
    assert (report.free_sqlite_pages > 20) == (mode != "full")
    check_against_plain(report, databases[mode], tmp_path)
    kinds = [way.kind for way in report.ways]
    steps = ["steps"] * 3 if mode == "incremental" else []
    assert kinds == ["vacuum", *(["switch"] if mode == "none" else []), *steps, "delete"]


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("page_size", [512, 4096, 65_536])
def test_every_layout_and_page_size(tmp_path, layout, page_size):
    data = holey(mode="incremental", page_size=page_size, rows=120)
    image = written(tmp_path, image_of(data, layout=layout, page_size=page_size), "a.stable")
    report = reclaim(image, layout=layout, steps=(3, 30))
    assert (report.page_size, report.settings["layout"]) == (page_size, layout)
    assert report.stable_bytes == image.stat().st_size
    assert sum(part.size_bytes for part in report.parts) == report.stable_bytes
    check_against_plain(report, data, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_both_engines_leave_the_same(databases, tmp_path, mode):
    path = written(tmp_path, databases[mode])
    native, wasm = reclaim(path), reclaim(path, engine="wasm")
    assert not native.has_instructions
    assert all(way.instructions > 100_000 for way in wasm.ways)
    for ours, theirs in zip(native.ways, wasm.ways, strict=True):
        for name in ("file_bytes", "free_sqlite_pages", "stable_bytes", "os_pages_dirty"):
            assert getattr(ours, name) == getattr(theirs, name), (ours.name, name)


def test_free_pages_are_those_that_dbstat_has_no_owner_for(databases, tmp_path):
    path = written(tmp_path, databases["none"])
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    owned = connection.execute("SELECT count(*) FROM dbstat").fetchone()[0]
    connection.close()
    report = reclaim(path)
    assert report.free_sqlite_pages == report.file_bytes // report.page_size - owned > 0
    assert report.free_bytes == report.free_sqlite_pages * 4096


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_new_image_is_as_large_as_one_that_is_made(databases, tmp_path, layout):
    image = written(tmp_path, image_of(databases["none"], layout=layout), "a.stable")
    report = reclaim(image, layout=layout)
    with Plain(databases["none"], tmp_path) as plain:
        plain.run(["VACUUM"])
        vacuumed = plain.path.read_bytes()
    assert [it.layout for it in report.images[:1]] == [layout]
    for new in report.images:
        buckets = {} if new.bucket_pages is None else {"bucket_pages": new.bucket_pages}
        assert len(image_of(vacuumed, layout=new.layout, **buckets)) == new.stable_bytes, new


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_takes_stable_memory_back(databases, layout):
    report = reclaim(image_of(databases["incremental"], layout=layout), steps=(10,))
    assert all(way.stable_bytes == report.stable_bytes for way in report.ways)


def test_what_is_accessed_is_what_a_canister_accesses(databases, tmp_path):
    image = image_of(databases["incremental"])
    report = reclaim(image, steps=(40,))
    way = next(way for way in report.ways if way.kind == "steps")
    with Canister(memory=StableMemory.from_image(image)) as canister:
        # What a report looks at first, so that the heap begins alike.
        replies = [canister.update(*way.sql) for _ in range(way.messages)]
        found = [reply.footprint for reply in replies]
    assert way.os_pages_accessed == max(len(it.accessed) for it in found)
    assert way.os_pages_dirty == max(len(it.dirty) for it in found)
    assert way.messages == math.ceil(report.free_sqlite_pages / 40)
    assert way.tightest.used == way.os_pages_accessed


@pytest.mark.parametrize("mode", MODES)
def test_no_way_changes_an_answer_but_the_deletion(databases, mode):
    report = reclaim(databases_image := image_of(databases[mode]), steps=(9, 200))
    for way in report.ways:
        with Canister(memory=StableMemory.from_image(databases_image)) as canister:
            before = answers(canister)
            for _ in range(way.messages):
                for sql in way.sql:
                    canister.update(sql)
            assert (answers(canister) == before) == (way.kind != "delete")
            canister.upgrade()
            assert (answers(canister) == before) == (way.kind != "delete")


def test_steps_get_shorter_with_their_size_and_many_are_not_all_run(tmp_path):
    data = holey(mode="incremental", page_size=512, rows=400)
    report = reclaim(image_of(data, page_size=512), steps=(1, 4, 4, 10_000))
    steps = [way for way in report.ways if way.kind == "steps"]
    assert [way.name.partition("(")[2] for way in steps] == ["1)", "4)", "10000)"]
    assert [way.os_pages_dirty for way in steps] == sorted(way.os_pages_dirty for way in steps)
    first = steps[0]
    assert first.messages == report.free_sqlite_pages > first.messages_run == STEPS_RUN_MAX
    assert first.free_sqlite_pages == report.free_sqlite_pages - STEPS_RUN_MAX
    text = render_reclaim(report, width=80, color_system=None)
    assert f"incremental_vacuum(1), 100 of {first.messages:,} messages run" in text


# -- limits and advice ----------------------------------------------------------------------------


def tight(**limits):
    """Today's limits, with others on an update and an upgrade."""
    now = latest_limits()
    return replace(
        now,
        update=replace(now.update, os_pages_accessed_max=limits["update"]),
        upgrade=replace(now.upgrade, os_pages_accessed_max=limits["upgrade"]),
    )


def test_what_does_not_fit_is_measured_to_its_end_and_said(databases):
    image = image_of(databases["incremental"])
    report = reclaim(image, limits=tight(update=45, upgrade=10_000), steps=(5, 5000))
    vacuum, small, large, _ = report.ways
    assert (vacuum.fits, vacuum.fits_upgrade, vacuum.free_sqlite_pages) == (False, True, 0)
    assert (small.fits, large.fits) == (True, False)
    advice = " ".join(report.advice)
    assert "does not fit in one update message" in advice
    assert "within an upgrade, whose limits are wider, it does" in advice
    assert f"Without VACUUM: {small.messages} messages of incremental_vacuum(5), none" in advice
    none = reclaim(image, limits=tight(update=45, upgrade=50), steps=(5,))
    assert "fits neither in one update message" in " ".join(none.advice)
    text = render_reclaim(report, width=80, color_system=None)
    assert "  exceeds, " in text
    assert f"exceeds   {vacuum.os_pages_accessed:,} of 45 OS pages accessed" in text


def test_without_limits_nothing_is_said_of_them(databases):
    report = reclaim(image_of(databases["none"]), limits=None)
    assert {way.fits for way in report.ways} == {None}
    assert "no limit applies" in report.advice[0]


def test_advice_for_a_database_without_free_pages():
    data = product_images.database("CREATE TABLE t (x)", "INSERT INTO t VALUES (1)")
    report = reclaim(image_of(data))
    assert report.free_sqlite_pages == 0
    assert report.advice[0].startswith("Nothing can be given back")
    assert "a new image of the vacuumed database would take as much" in report.advice[-1]
    assert report.advice[-1].endswith("with buckets of 16 Wasm pages 1.1 MiB.")


def test_auto_vacuum_that_is_off_is_named_with_its_way_out(databases):
    advice = " ".join(reclaim(image_of(databases["none"])).advice)
    assert "turning it on needs one VACUUM: PRAGMA auto_vacuum = incremental; VACUUM." in advice
    assert "8.0 MiB less to pay for" not in advice


def test_a_smaller_image_is_named_with_what_it_saves():
    with Canister(bucket_pages=1) as canister:
        canister.update("CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(900000))")
        canister.update("DELETE FROM t")
        report = reclaim(canister.image())
    saved = report.stable_bytes - report.images[0].stable_bytes
    assert saved > 800_000
    assert f"{saved / 1024:,.1f} KiB less to pay for" in report.advice[-1]
    assert "with buckets of" not in report.advice[-1]


def test_a_way_that_fails_is_shown_with_its_reason(databases, monkeypatch):
    whole = reclaiming._plans

    def with_a_bad_one(*arguments, **options):
        first, *others = whole(*arguments, **options)
        bad = reclaiming._Plan("delete", "DELETE of what is not there", ("DELETE FROM gone",))
        return [first, bad, *others]

    monkeypatch.setattr(reclaiming, "_plans", with_a_bad_one)
    report = reclaim(image_of(databases["none"]))
    bad = report.ways[1]
    assert (bad.fits, bad.messages_run, bad.os_pages_dirty) == (None, 0, 0)
    assert "no such table: gone" in bad.failure
    text = render_reclaim(report, width=80, color_system=None)
    assert "  failed" in text
    assert "no such table: gone" in text


def test_virtual_tables_and_odd_names_are_left_whole(tmp_path):
    data = product_images.database(
        "CREATE VIRTUAL TABLE text USING fts5(body)",
        "INSERT INTO text SELECT hex(randomblob(2000)) FROM (VALUES (1), (2), (3), (4))",
        'CREATE TABLE "a ""quoted"" name" (rowid TEXT, x)',
        'INSERT INTO "a ""quoted"" name" VALUES (1, 2), (3, 4)',
    )
    report = reclaim(image_of(data))
    assert report.ways[-1].name == 'DELETE half of a "quoted" name'
    assert all(way.failure is None for way in report.ways)
    only = product_images.database("CREATE TABLE t (k PRIMARY KEY) WITHOUT ROWID")
    assert [way.kind for way in reclaim(image_of(only)).ways] == ["vacuum", "switch"]


# -- the command ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_table_is_kept_and_fits_into_80_columns(folder, databases, monkeypatch):  # noqa: F811
    monkeypatch.setenv("COLUMNS", "80")
    written(folder, databases["incremental"])
    result = call("reclaim", "app.db", "--engine", "wasm", "--step", "10,100")
    assert result.exit_code == 0, result.stderr
    assert max(map(len, result.stdout.splitlines())) <= 80
    check_golden("reclaim_80.txt", masked(result.stdout))


def test_json_and_csv_have_every_number(folder, databases):  # noqa: F811
    path = written(folder, databases["none"])
    report = reclaim(path)
    found = json.loads(call("reclaim", "app.db", "--format", "json").stdout)
    assert (found["format"], found["version"]) == ("sqlstable-reclaim", 1)
    for name in ("file_bytes", "free_sqlite_pages", "auto_vacuum", "stable_bytes", "bucket_bytes"):
        assert found[name] == getattr(report, name)
    assert found["advice"] == list(report.advice)
    assert [way["file_bytes"] for way in found["ways"]] == [it.file_bytes for it in report.ways]
    assert found["ways"][0]["tightest"]["limit"] == 524_288
    rows = list(csv.DictReader(io.StringIO(call("reclaim", "app.db", "--format", "csv").stdout)))
    assert [row["kind"] for row in rows] == ["vacuum", "switch", "delete", *["image"] * 3]
    assert int(rows[0]["free_sqlite_pages_before"]) == report.free_sqlite_pages
    assert [int(row["stable_bytes"]) for row in rows[3:]] == [
        it.stable_bytes for it in report.images
    ]


def test_equal_input_gives_equal_bytes(folder, databases):  # noqa: F811
    written(folder, databases["incremental"])
    first, second = (call("reclaim", "app.db", "--format", "json").stdout for _ in range(2))
    assert first == second


def test_inspect_names_the_command_where_something_is_free(folder, databases):  # noqa: F811
    written(folder, databases["none"])
    Path("snap").mkdir()
    written(Path("snap"), image_of(databases["none"]), "stable_memory.bin")
    written(folder, databases["full"], "full.db")
    for name in ("app.db", "snap"):
        shown = call("inspect", name).stdout
        assert f"next    sqlstable reclaim {name}" in shown
        assert "of the database; the next rows go there" in shown
        assert call("reclaim", name).exit_code == 0
    assert "reclaim" not in call("inspect", "full.db").stdout


def test_nothing_that_is_looked_at_changes(folder, databases):  # noqa: F811
    written(folder, databases["none"])
    written(folder, image_of(databases["incremental"]), "a.stable").chmod(0o444)
    written(folder, image_of(databases["none"], layout="raw"), "raw.stable")
    Path("snap").mkdir()
    written(Path("snap"), image_of(databases["none"], layout="froghub"), "stable_memory.bin")
    before = contents(folder)
    for name in ("app.db", "a.stable", "raw.stable", "snap"):
        assert call("reclaim", name).exit_code == 0
        assert contents(folder) == before
    with sqlstable.Canister("a.stable", read_only=True):
        assert call("reclaim", "a.stable").exit_code == 0


def test_a_log_that_waits_beside_an_image_is_looked_through(bad_folder):
    whole = reclaim("ledger.stable")
    before = files_in(bad_folder)
    pending = reclaim("pending.stable")
    assert pending.file_bytes == whole.file_bytes
    assert files_in(bad_folder) == before


# -- bad input ------------------------------------------------------------------------------------


def test_bad_files_get_one_clear_error_and_stay_as_they_are(bad_folder):
    sound = {"app.db", "late.db", "ledger.stable", "app.raw", "pending.stable", "app.stable"}
    names = sorted({one.name for one in bad_folder.iterdir()} - sound)
    before = files_in(bad_folder)
    refused = 0
    for name in names:
        result = call("reclaim", name)
        assert result.exception is None or isinstance(result.exception, SystemExit), name
        assert result.exit_code in (0, 2), (name, result.output)
        if result.exit_code:
            refused += 1
            assert result.stdout == ""
            assert result.stderr.startswith("Error: "), result.stderr
            assert result.stderr.count("\n") <= 1, result.stderr
    assert refused >= len(names) - 3
    assert files_in(bad_folder) == before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["missing.db"], "there is no file missing.db"),
        (["."], "without stable_memory.bin"),
        (["empty.stable"], "is of no layout that opens here"),
        (["managed.stable"], "holds no database"),
        (["app.db", "--step", "0"], "a number of SQLite pages, from 1 on"),
        (["app.db", "--step", "ten"], "--step ten is no whole number"),
        (["app.db", "--layout", "nim"], "layout is 'nim'"),
        (["app.stable", "--layout", "raw"], "has layout managed, not raw"),
        (["app.db", "--limits", "soon"], "soon"),
        (["app.db", "--layout", "ic-sqlite-vfs", "--engine", "wasm"], "does not know layout"),
    ],
)
def test_usage_that_cannot_be_is_refused(folder, databases, arguments, text):  # noqa: F811
    written(folder, databases["none"])
    written(folder, image_of(databases["none"]), "app.stable")
    written(folder, b"", "empty.stable")
    memory = {3: b"other contents"}
    written(folder, product_images.managed(memory), "managed.stable")
    result = call("reclaim", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert text in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_image_in_use_is_refused(tmp_path):
    with Canister(tmp_path / "a.stable") as canister:
        canister.update("CREATE TABLE t (x)")
        before = files_in(tmp_path)
        with pytest.raises(ImageError, match="open"):
            reclaim(tmp_path / "a.stable")
        assert files_in(tmp_path) == before


def test_a_damaged_database_is_refused(databases, tmp_path):
    image = bytearray(image_of(databases["none"]))
    start = 65_536 + 4096 * 3
    image[start : start + 300] = b"\xff" * 300
    path = written(tmp_path, bytes(image), "a.stable")
    with pytest.raises(ImageError, match=r"the database in .*a.stable is damaged: "):
        reclaim(path)
    assert path.read_bytes() == image


def test_a_place_for_copies_that_is_not_there_is_named(databases, tmp_path, monkeypatch):
    path = written(tmp_path, databases["none"])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(ImageError, match=r"cannot be made: No such file.*; TMPDIR names"):
        reclaim(path)


def test_a_full_disk_is_named(databases, tmp_path, monkeypatch):
    path = written(tmp_path, databases["none"])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sqlstable.memory.image.osfile.OsFile.write", full)
    monkeypatch.setattr("sqlstable.memory.image.osfile.OsFile.write_runs", full)
    monkeypatch.setattr("sqlstable.memory.image.osfile.OsFile.resize", full)
    with pytest.raises(ImageError, match="No space left on device"):
        reclaim(path)


def test_a_notebook_shows_it_as_a_table_with_nothing_that_acts(tmp_path):
    data = product_images.database('CREATE TABLE "<b>t</b>" (x)')
    shown = reclaim(image_of(data))._repr_html_()
    assert shown.count("<tr>") == 5
    assert "DELETE half of &lt;b&gt;t&lt;/b&gt;" in shown
    assert "<li>Nothing can be given back" in shown


def test_a_report_names_the_command_where_much_is_free(folder):  # noqa: F811
    script = "CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob({})); DELETE FROM t"
    for size_bytes, is_named in ((2_000_000, True), (900_000, False)):
        Path("a.sql").write_text(script.format(size_bytes))
        shown = " ".join(call("run", "a.sql").stdout.split())
        assert ("sqlstable reclaim says what gives the free ones back" in shown) == is_named


def test_it_is_in_the_public_api():
    assert sqlstable.reclaim is reclaim
    assert sqlstable.ReclaimReport is ReclaimReport
    with pytest.raises(SettingsError, match="steps are"):
        reclaim(b"", steps=())
