"""What stable memory consists of: the parts add up, and what grew is named."""

import csv
from contextlib import closing
from dataclasses import replace

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

import sqlstable
from sqlstable.analysis.growth import Growth, filling, growth_at_end, growth_steps
from sqlstable.canister.canister import Canister
from sqlstable.errors import TraceError
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.ic.words import GROW
from sqlstable.report.as_csv import render_csv
from sqlstable.report.as_json import document
from sqlstable.report.as_table import render_table
from sqlstable.trace.model import StableArea, TraceSettings
from tests.hand_built import NASTY_TEXT, SETTINGS, HandBuiltTrace, accesses, message, use

BUCKET = 128 * WASM_PAGE_BYTES
FILL = (
    "INSERT INTO t (b) WITH RECURSIVE n (i) AS "
    "(SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {}) SELECT zeroblob(900) FROM n"
)
MANAGER = StableArea(
    0, "memory manager", "memory manager", None, WASM_PAGE_BYTES, WASM_PAGE_BYTES,
    WASM_PAGE_BYTES, 34_848, 0,
)  # fmt: skip


def area(name, kind="database", *, memory_id=120, buckets=1, used=4096, free=0, message=0):
    """Return an area of whole buckets."""
    size = buckets * BUCKET
    return StableArea(message, name, kind, memory_id, size, BUCKET, size, used, free)


def many_files(listed_at=0):
    """Return the areas of a database, its journal, a directory, and somebody else's memory."""
    rows = (
        area("main.db", used=160 * 4096, free=10 * 4096),
        area("main.db-journal", "journal", memory_id=122, used=4616),
        area("file directory", "file directory", memory_id=121, used=64),
        area("(memory 3)", "other memory", memory_id=3, used=65_536),
        MANAGER,
    )
    return tuple(replace(row, message=listed_at) for row in rows)


def trace_of(*images, areas=(), kinds=()):
    """Return a trace whose messages end with stable memory of these sizes."""
    named = [*kinds, *["update"] * (len(images) - len(kinds))]
    messages = [
        message(index, named[index], (), use(0), image_bytes=size)
        for index, size in enumerate(images)
    ]
    return HandBuiltTrace(messages=messages, areas=areas)


# -- the parts add up ------------------------------------------------------------------------------


@st.composite
def areas(draw):
    unit = draw(st.sampled_from([1, 2, 128, 65_535])) * WASM_PAGE_BYTES
    allocated = draw(st.integers(0, 5)) * unit
    used = draw(st.integers(0, allocated))
    return StableArea(
        message=0,
        name=draw(st.sampled_from(["main.db", "orders.db", "main.db-journal"])),
        kind=draw(st.sampled_from(["database", "journal", "wal"])),
        memory_id=draw(st.sampled_from([None, 120])),
        allocated_bytes=allocated,
        unit_bytes=unit,
        size_bytes=draw(st.integers(used, allocated)),
        used_bytes=used,
        free_bytes=draw(st.integers(0, used)),
    )


@given(areas())
def test_what_fills_an_area_adds_up_to_it(area):
    filled = filling(area)
    parts = (filled.data_bytes, filled.free_bytes, filled.rounding_bytes, filled.unused_bytes)
    assert sum(parts) == area.allocated_bytes
    assert min(parts) >= 0
    assert filled.rounding_bytes < area.unit_bytes
    assert filled.unused_bytes % area.unit_bytes == 0


@given(st.lists(areas(), max_size=5), st.integers(0, 2**40))
def test_the_parts_add_up_to_stable_memory(listed, unclaimed):
    stable = sum(it.allocated_bytes for it in listed) + unclaimed
    growth = Growth(0, stable, tuple(listed))
    assert sum(part.size_bytes for part in growth.parts) == stable
    assert growth.unclaimed_bytes == unclaimed


@pytest.mark.parametrize("layout", ["managed", "raw"])
@pytest.mark.parametrize("bucket_pages", [1, 3, 128])
@pytest.mark.parametrize("page_size", [512, 4096, 65_536])
def test_the_parts_of_a_canister_add_up_after_each_message(layout, bucket_pages, page_size):
    """The witnesses are SQLite's own counts of SQLite pages."""
    chosen = {"bucket_pages": bucket_pages} if layout == "managed" else {}
    with Canister(layout=layout, page_size=page_size, trace=":memory:", **chosen) as canister:
        for sql in (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, b)",
            FILL.format(400),
            "DELETE FROM t WHERE id % 3",
            "DELETE FROM t WHERE id > 200; VACUUM",
            FILL.format(700),
            "DELETE FROM t WHERE id > 100",
        ):
            canister.update(sql)
            status = canister.status()
            growth = status.growth
            assert growth.stable_bytes == status.stable_size_bytes == len(canister.image())
            assert sum(part.size_bytes for part in growth.parts) == growth.stable_bytes
            counts = canister.query("PRAGMA page_count; PRAGMA freelist_count").rows
            free = counts[-1][0] * page_size
            filled = filling(growth.main)
            assert (filled.free_bytes, growth.main.used_bytes) == (free, status.database_size_bytes)
        with canister.trace() as trace:
            assert_explained(trace)
            assert growth_at_end(trace) == canister.status().growth


def assert_explained(trace):
    """Every growth of stable memory is named, and nothing else is."""
    steps = growth_steps(trace)
    size = 0
    for it in trace.messages:
        if it.kind == "reinstall":
            size = 0
        step = steps.get(it.index)
        assert it.image_bytes - size == (step.grown_bytes if step else 0)
        if step:
            assert sum(part.size_bytes for part in step.areas) == step.grown_bytes
        size = it.image_bytes
    assert sum(part.size_bytes for part in growth_at_end(trace).parts) == size


def test_buckets_that_the_database_does_not_reach_any_more_are_unused():
    with Canister(bucket_pages=1) as canister:
        canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, b)")
        canister.update(FILL.format(400))
        before = canister.status().growth
        canister.update("DELETE FROM t WHERE id > 10; VACUUM")
        growth = canister.status().growth
    assert growth.stable_bytes == before.stable_bytes
    assert filling(before.main).unused_bytes == 0
    assert filling(growth.main).unused_bytes == before.main.allocated_bytes - WASM_PAGE_BYTES


def test_memory_that_no_file_has_is_nobodys():
    memory = sqlstable.StableMemory()
    with Canister(memory=memory) as canister:
        canister.update("CREATE TABLE t (x)")
        memory.begin("update")
        memory.grow(3)
        memory.commit()
        growth = canister.status().growth
    assert growth.unclaimed_bytes == 3 * WASM_PAGE_BYTES
    assert growth.parts[-1].name == "(nobody's)"


def test_an_empty_memory_in_layout_raw_has_parts_of_nothing():
    with Canister(layout="raw") as canister:
        growth = canister.status().growth
    assert [part.size_bytes for part in growth.parts] == [0, 0, 0]


def trapped(canister, sql):
    """Run SQL in a message that traps after it."""

    def run():
        with canister.message("update") as message:
            message.execute(sql)
            raise sqlstable.Trap("no")

    with pytest.raises(sqlstable.Trap):
        run()


# -- what grew when --------------------------------------------------------------------------------


def test_growth_is_explained_across_upgrade_trap_and_reinstall():
    with Canister(bucket_pages=1, trace=":memory:") as canister:
        canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, b)")
        canister.update(FILL.format(500))
        canister.upgrade()
        trapped(canister, FILL.format(900))
        canister.reinstall()
        canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, b)")
        with canister.trace() as trace:
            assert_explained(trace)
            steps = growth_steps(trace)
    assert sorted(steps) == [0, 1, 2, 5, 6]
    assert [part.name for part in steps[0].areas] == ["memory manager"]
    assert [part.name for part in steps[2].areas] == ["main.db"]


def test_an_image_that_was_there_did_not_grow():
    with Canister() as canister:
        canister.update("CREATE TABLE t (x)")
        image = canister.image()
    memory = sqlstable.StableMemory.from_image(image)
    with Canister(memory=memory, trace=":memory:") as canister:
        canister.query("SELECT * FROM t")
        with canister.trace() as trace:
            assert growth_steps(trace) == {}
            assert growth_at_end(trace).stable_bytes == len(image)


def test_the_end_is_noted_however_the_trace_ends(tmp_path):
    path = tmp_path / "run.trace"
    with Canister(trace=path) as canister:
        canister.update("CREATE TABLE t (x)")
        canister.update(FILL.replace("(b)", "").format(100))
        with canister.trace() as trace:
            assert growth_at_end(trace).message == 2
        canister.update("DELETE FROM t")
        expected = canister.status().growth
    with sqlstable.open_trace(path) as trace:
        assert growth_at_end(trace) == expected
        assert [it.message for it in trace.areas if it.kind == "database"] == [0, 1, 2, 3]


def test_a_reinstall_of_the_same_size_starts_anew():
    trace = trace_of(
        BUCKET + WASM_PAGE_BYTES,
        BUCKET + WASM_PAGE_BYTES,
        areas=(area("main.db"), MANAGER, area("main.db", message=1), replace(MANAGER, message=1)),
        kinds=("install", "reinstall"),
    )
    assert growth_steps(trace)[1].grown_bytes == BUCKET + WASM_PAGE_BYTES


@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_loading_a_snapshot_grows_and_shrinks_by_the_difference(engine):
    with Canister(engine=engine, bucket_pages=1, trace=":memory:") as canister:
        canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, b)")
        small, small_bytes = canister.take_snapshot(), len(canister.image())
        canister.load_snapshot(small)
        canister.update(FILL.format(500))
        large, large_bytes = canister.take_snapshot(), len(canister.image())
        canister.load_snapshot(small)
        canister.load_snapshot(large)
        with canister.trace() as trace:
            assert_explained(trace)
            steps = {index: it for index, it in growth_steps(trace).items() if index > 1}
            text = render_table(trace, by="message")
            listed = {row["index"]: row for row in document(trace)["messages"]}
    grown_bytes = large_bytes - small_bytes
    assert {index: it.grown_bytes for index, it in steps.items()} == {
        3: grown_bytes, 4: -grown_bytes, 5: grown_bytes,
    }  # fmt: skip
    assert [part.name for part in steps[4].areas] == ["main.db"]
    assert [text.count(f"stable memory {verb} by") for verb in ("grew", "shrank")] == [4, 1]
    assert listed[2]["growth"] is None
    assert listed[4]["growth"]["before_bytes"] == large_bytes


def test_of_an_image_that_grew_unseen_before_the_listing_nothing_is_claimed():
    trace = trace_of(BUCKET, 2 * BUCKET, areas=(area("main.db", buckets=2, message=1),))
    assert growth_steps(trace)[1].areas == ()


def test_what_the_first_message_grew_is_taken_off():
    first = message(0, "update", (), use(0), image_bytes=5 * BUCKET)
    calls = replace(first.stable.calls, grow=1)
    first = replace(first, stable=replace(first.stable, calls=calls))
    grown = (("open", accesses((GROW, 0, 128, -1))),)
    trace = HandBuiltTrace(messages=[first], outside_by_message=(grown,))
    step = growth_steps(trace)[0]
    assert (step.before_bytes, step.after_bytes, step.areas) == (4 * BUCKET, 5 * BUCKET, ())


def test_each_file_that_grew_is_named():
    after = tuple(replace(it, message=1) for it in (area("main.db"), MANAGER))
    trace = trace_of(WASM_PAGE_BYTES, BUCKET + WASM_PAGE_BYTES, 4 * BUCKET + WASM_PAGE_BYTES,
                     areas=(MANAGER, *after, *many_files(listed_at=2)))  # fmt: skip
    steps = growth_steps(trace)
    assert [(it.name, it.size_bytes) for it in steps[2].areas] == [
        ("main.db-journal", BUCKET),
        ("file directory", BUCKET),
        ("(memory 3)", BUCKET),
    ]


@pytest.mark.parametrize(
    ("areas", "words"),
    [
        ((area("main.db", buckets=9),), "its areas have 75497472"),
        ((area("main.db", message=7),), "after message 7, and has 1 messages"),
    ],
)
def test_areas_that_contradict_the_messages_are_damage(areas, words):
    with pytest.raises(TraceError, match=words):
        growth_at_end(trace_of(BUCKET, areas=areas))


def test_a_recording_says_what_there_is_and_what_each_transaction_grew():
    memory = sqlstable.StableMemory()
    vfs = sqlstable.StableVFS(memory, bucket_pages=1)
    with closing(apsw.Connection("main.db", vfs=vfs.name)) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, b)")
        with sqlstable.record(connection) as recording:
            for count in (10, 300):
                connection.execute(FILL.format(count))
            connection.execute("SELECT count(*) FROM t").fetchall()
        sizes = [it.image_bytes for it in recording.messages]
        growth = growth_at_end(recording)
    vfs.unregister()
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[1] == sizes[-1] == memory.wasm_pages * WASM_PAGE_BYTES
    assert sum(part.size_bytes for part in growth.parts) == sizes[-1]
    assert 1 in growth_steps(recording)


# -- reports ---------------------------------------------------------------------------------------


def explained(**settings):
    """Return a trace with several files, and what its settings say besides."""
    values = TraceSettings({**SETTINGS.values, **settings})
    sizes = (WASM_PAGE_BYTES, 4 * BUCKET + WASM_PAGE_BYTES)
    trace = trace_of(*sizes, areas=(MANAGER, *many_files(listed_at=1)))
    return replace(trace, settings=values)


@pytest.mark.parametrize("by", ["statement", "shape", "owner", "message"])
def test_every_table_says_what_stable_memory_consists_of(by):
    words = " ".join(render_table(explained(), by=by).split())
    assert (
        "stable memory 32.1 MiB at the end: data 600.0 KiB, free SQLite pages 40.0 KiB, bucket "
        "rounding 7.4 MiB, main.db-journal 8.0 MiB, file directory 8.0 MiB, (memory 3) 8.0 MiB, "
        "memory manager 64.0 KiB"
    ) in words


def test_the_table_of_messages_says_what_grew():
    text = render_table(explained(), by="message")
    line = next(it for it in text.splitlines() if "grew" in it)
    assert line.strip().startswith("stable memory grew by 32.0 MiB: main.db 8.0 MiB, main.db-j")


def test_a_listing_older_than_the_last_message_says_of_when_it_is():
    trace = trace_of(*[4 * BUCKET + WASM_PAGE_BYTES] * 3, areas=many_files())
    assert "stable memory 32.1 MiB after message 0: data" in render_table(trace)


def test_many_files_are_added_up():
    files = [area(f"{number}.db", memory_id=number) for number in range(40)]
    text = " ".join(render_table(trace_of(40 * BUCKET, areas=tuple(files))).split())
    assert "8.db 8.0 MiB, 31 more parts 248.0 MiB" in text


@given(st.lists(NASTY_TEXT, max_size=15), st.sampled_from([80, 100]))
@settings(max_examples=50)
def test_whatever_files_are_called_no_line_is_wider_than_asked(names, width):
    listed = [MANAGER, *(area(name, "journal", memory_id=9) for name in names)]
    sizes = (WASM_PAGE_BYTES, WASM_PAGE_BYTES + len(names) * BUCKET)
    trace = trace_of(*sizes, areas=(MANAGER, *(replace(it, message=1) for it in listed)))
    for line in render_table(trace, by="message", width=width).splitlines():
        assert cell_len(line) <= width


def test_json_and_csv_say_what_grew():
    made = document(explained())
    assert made["totals"]["growth"]["stable_bytes"] == 4 * BUCKET + WASM_PAGE_BYTES
    assert [it["growth"] is None for it in made["messages"]] == [True, False]
    assert sum(it["size_bytes"] for it in made["messages"][1]["growth"]["areas"]) == 4 * BUCKET
    rows = list(csv.DictReader(render_csv(explained(), by="message").splitlines()))
    assert [row["grown_bytes"] for row in rows] == ["0", str(4 * BUCKET)]


def test_wal_is_said_not_to_be_available_in_canisters():
    words = " ".join(render_table(explained(journal_mode="wal")).split())
    assert "journal_mode wal is not available in canisters" in words
    assert "its costs are not those of a canister" in words


@pytest.mark.parametrize(
    ("mode", "layout", "is_said"),
    [
        ("delete", "managed", True),
        ("truncate", "managed", True),
        ("persist", "managed", False),
        ("delete", "raw", False),
        ("memory", "managed", False),
    ],
)
def test_delete_and_truncate_are_said_to_cost_what_persist_costs(mode, layout, is_said):
    words = " ".join(render_table(explained(journal_mode=mode, layout=layout)).split())
    assert ("cost what persist costs" in words) == is_said


def test_growth_and_durability_are_stated_or_named_as_not_set():
    stated = render_table(explained(growth="bucket", durability="process"), settings=True)
    assert "growth bucket" in stated
    assert "durability process" in stated
    unset = " ".join(render_table(explained(), settings=True).split())
    assert "not set or not known: preset, growth, durability" in unset


# -- files beside the database ---------------------------------------------------------------------


@pytest.fixture
def canister():
    """Return a canister whose SQL function ``note(id, n)`` writes n OS pages of a memory."""
    with Canister(bucket_pages=2, trace=":memory:") as made:
        manager = made.vfs.cabinet.manager

        def note(memory_id, os_pages):
            beside = manager.get(memory_id)
            missing = -(-os_pages * 4096 // WASM_PAGE_BYTES) - beside.size()
            if missing > 0:
                beside.grow(missing)
            for number in range(os_pages):
                beside.write(number * 4096, b"x")
            return os_pages

        made.on_connect(lambda connection: connection.create_scalar_function("note", note))
        made.update("CREATE TABLE t (x)")
        yield made


def owners_of(canister):
    """Return the owners of the last statement, without the database's own."""
    with canister.trace() as trace:
        assert_explained(trace)
        found = trace.statements[-1].owners
    return [(it.name, it.kind, it.os_pages_accessed, it.os_pages_dirty) for it in found
            if it.name not in ("t", "sqlite_schema")]  # fmt: skip


def test_os_pages_of_a_memory_made_in_the_message_are_its_own(canister):
    canister.update("INSERT INTO t SELECT note(7, 40)")
    assert owners_of(canister) == [
        ("(memory 7)", "other memory", 40, 40),
        ("(memory manager)", "memory manager", 1, 1),
    ]
    assert "(memory 7)" in [part.name for part in canister.status().growth.parts]


def test_a_memory_that_the_rollback_removed_is_named_all_the_same(canister):
    trapped(canister, "INSERT INTO t SELECT note(7, 40)")
    assert owners_of(canister)[0] == ("(memory 7)", "other memory", 40, 40)


def test_a_memory_that_a_query_made_is_named_all_the_same(canister):
    canister.query("SELECT note(7, 40)")
    assert owners_of(canister)[0] == ("(memory 7)", "other memory", 40, 40)


def test_a_bucket_of_a_memory_that_is_gone_goes_to_the_next_owner(canister):
    trapped(canister, "INSERT INTO t SELECT note(7, 3)")
    canister.update("INSERT INTO t SELECT note(9, 3)")
    assert owners_of(canister)[0] == ("(memory 9)", "other memory", 3, 3)


def test_without_further_files_none_are_looked_for(monkeypatch):
    with Canister(trace=":memory:") as canister:
        canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, b)")
        canister.update(FILL.format(10))
        monkeypatch.setattr(canister.vfs, "stable_files", None)
        canister.update(FILL.format(10))
        canister.query("SELECT * FROM t")
        monkeypatch.undo()


@pytest.mark.parametrize("mode", ["delete", "truncate", "persist"])
@pytest.mark.parametrize(("preset", "growth"), [(None, "bucket"), ("ic-rusqlite", "wasm-page")])
def test_a_journal_in_stable_memory_is_an_owner_and_a_part(mode, preset, growth):
    with Canister(preset=preset, journal_mode=mode, trace=":memory:") as canister:
        canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, b)")
        canister.update(FILL.format(300))
        canister.update("UPDATE t SET b = zeroblob(899)")
        (journal,) = (it for it in owners_of(canister) if it[1] == "journal")
        assert journal[0] == "main.db-journal"
        assert journal[3] > 60
        parts = {part.name: part.size_bytes for part in canister.status().growth.parts}
        assert parts["main.db-journal"] == parts["(file directory)"] == BUCKET
        assert canister.settings.growth == growth
        with canister.trace() as trace:
            words = " ".join(render_table(trace, by="message", settings=True).split())
    assert "main.db-journal 8.0 MiB" in words
    assert f"growth {growth}" in words
    assert ("cost what persist costs" in words) == (mode != "persist")


def test_a_journal_that_the_rollback_removed_is_named_all_the_same():
    with Canister(journal_mode="persist", trace=":memory:") as canister:
        trapped(canister, "CREATE TABLE t (x)")
        names = [it[0] for it in owners_of(canister)]
    assert {"main.db-journal", "(file directory)"} < set(names)
    assert "(other memory)" not in names


def test_an_attached_database_is_an_owner_and_a_part():
    with Canister(trace=":memory:", bucket_pages=1) as canister:
        canister.on_connect(lambda connection: connection.execute("ATTACH 'orders.db' AS orders"))
        canister.update("CREATE TABLE orders.item (id INTEGER PRIMARY KEY, b)")
        canister.update(FILL.format(90).replace("INTO t", "INTO orders.item"))
        (owner,) = (it for it in owners_of(canister) if it[1] == "database")
        assert owner[0] == "orders.db"
        assert owner[3] > 20
        canister.update("DELETE FROM orders.item")
        (area,) = (it for it in canister.status().growth.areas if it.name == "orders.db")
        free = canister.query("PRAGMA orders.freelist_count").rows[0][0]
        assert 4096 * free == area.free_bytes > 20 * 4096
