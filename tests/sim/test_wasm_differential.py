"""The same SQL on both engines: the same rows and errors, OS pages and database bytes.

Rule 4: they agree in fresh and cold messages, and in warm ones until the first trap, after which
the native engine begins with an empty cache and counts one more opening in the database's header.
So after a trap both are upgraded here. Journals in stable memory are compared by the accesses to
them, not byte by byte: SQLite puts a random number into each header.
"""

import re
import tarfile
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.datasets import MissingDataError
from benchmarks.tpch import data_folder, tpch
from sqlstable import Canister, SqlError, StableMemory, Trap
from sqlstable.database.settings import PRESETS
from sqlstable.engine.native.native_engine import is_complete
from sqlstable.workload.execution import run_steps
from sqlstable.workload.script import parse_script
from tests.sim.test_differential import BEGINNING, OWN_LAYOUTS, memory_with_buckets_apart, runs
from tests.test_wasm_journals import without_journals
from tests.used_pages import used_pages

EXAMPLES = Path(__file__).parents[2] / "examples"


class Engines:
    """One canister on each engine, told the same.

    Build lean has a page cache of its own, so what it reads, and what of it lies in SQLite pages
    that hold nothing, is its own, too.
    """

    def __init__(self, **options):
        # The limits of a memory that is given are its own.
        limits = options.get("limits", "latest")
        memory = options.pop("memory", lambda: StableMemory(limits=limits))
        self.has_journals = options.pop("has_journals", False)
        self.options = options
        self.build = options.pop("build", None)
        self.has_same_cache = self.build != "lean"
        self.native = Canister(memory=memory(), **options)
        self.wasm = Canister(memory=memory(), engine="wasm", build=self.build, **options)

    def close(self):
        self.native.close()
        self.wasm.close()

    def send(self, kind, statements, **options):
        replies = []
        for canister in (self.native, self.wasm):
            with canister.message(kind, **options) as message:
                outcomes = [outcome(message, sql) for sql in statements]
            replies.append((outcomes, message.reply))
        (theirs, native), (ours, wasm) = replies
        assert ours == theirs
        assert wasm.discarded_writes == native.discarded_writes
        if self.has_same_cache and not (kind == "query" and _mentions_fts5(statements)):
            self.check_footprints(native, wasm, statements)
        self.check()

    def check_footprints(self, native, wasm, statements):
        if wasm.discarded_writes:
            # The native engine's queries have a connection of their own, whose change counter
            # moves with each transaction: one more write to the database's first SQLite page.
            start = self.native.vfs.store.placement.map.address(0) >> 12
            first = range(start, start + max(self.native.settings.page_size >> 12, 1))
            ours, theirs = (set(pages(one)[1]).union(first) for one in (wasm, native))
            assert ours == theirs, statements
        else:
            assert pages(wasm) == pages(native), statements

    def check(self):
        if not self.has_same_cache:
            ours, theirs = (
                used_pages(
                    one.image(), lambda sql, one=one: one.query(sql).rows, one.settings.layout
                )
                for one in (self.wasm, self.native)
            )
        else:
            ours, theirs = self.wasm.image(), self.native.image()
            if self.has_journals:
                ours, theirs = without_journals(ours), without_journals(theirs)
        assert ours == theirs

    def upgrade(self):
        replies = [canister.upgrade() for canister in (self.native, self.wasm)]
        assert pages(replies[0]) == pages(replies[1])
        self.check()

    def trap(self, statements):
        for canister in (self.native, self.wasm):
            before = canister.image()
            with suppress(Trap), canister.message() as message:
                for sql in statements:
                    outcome(message, sql)
                message.trap()
            assert canister.image() == before
        self.upgrade()

    def exchange(self):
        """Let each engine go on with the image of the other."""
        images = [StableMemory.from_image(one.image()) for one in (self.wasm, self.native)]
        self.close()
        self.native = Canister(memory=images[0], **self.options)
        self.wasm = Canister(memory=images[1], engine="wasm", build=self.build, **self.options)
        self.check()


def _mentions_fts5(statements):
    """FTS5 keeps what it has read with a connection, and the native engine's queries have another.

    So one of the engines reads the configuration of table f anew where the other knows it.
    """
    return any(re.search(r"\bf\b", sql) for sql in statements)


def outcome(message, sql):
    try:
        return message.execute(sql)
    except SqlError as error:
        return str(error)


def pages(reply):
    footprint = reply.footprint
    return footprint.accessed.tolist(), footprint.dirty.tolist()


ATTACHED = (
    "ATTACH 'other.db' AS o",
    "CREATE TABLE IF NOT EXISTS o.u (x, y)",
    "ATTACH 'third.db' AS p",
    "CREATE TABLE IF NOT EXISTS p.u (x UNIQUE, y)",
)
BESIDE = (
    "BEGIN",
    "INSERT INTO o.u SELECT id, a FROM t0",
    "INSERT OR IGNORE INTO p.u SELECT x % 50, y FROM o.u",
    "DELETE FROM o.u WHERE rowid % 3 = 0",
    "SAVEPOINT s",
    "UPDATE p.u SET y = zeroblob(600)",
    "ROLLBACK TO s",
)


@pytest.mark.slow
@settings(max_examples=60)
@given(runs(OWN_LAYOUTS), st.booleans(), st.sampled_from(["standard", "lean"]))
def test_random_sql_does_the_same_on_both_engines(run, attaches, build):
    circumstances, steps = run
    engines = Engines(
        page_size=circumstances.page_size,
        layout="raw" if circumstances.layout == "raw" else "managed",
        journal_mode=circumstances.journal_mode,
        cache_size=circumstances.cache_size,
        bucket_pages=1,
        depth="pages",
        memory=memory_with_buckets_apart if circumstances.layout == "apart" else StableMemory,
        has_journals=circumstances.layout != "raw",
        build=build,
    )
    attaches = attaches and circumstances.layout != "raw"
    with closing(engines):
        engines.send("update", [f"PRAGMA auto_vacuum = {circumstances.auto_vacuum}", *BEGINNING])
        for index, (kind, *rest) in enumerate(steps):
            if attaches:
                engines.send("update", ATTACHED)
                end = "ROLLBACK" if index % 3 == 0 else "COMMIT"
                engines.send("update", [*BESIDE, end, "VACUUM o"])
                engines.send("query", ["SELECT count(*), sum(length(y)) FROM o.u"], cache="cold")
            if kind == "update":
                engines.send("update", rest[0])
            elif kind == "query" and not (attaches and rest[1] == "fresh"):
                engines.send("query", rest[0], cache=rest[1])
            elif kind == "trap":
                engines.trap(rest[0])
            elif kind == "upgrade":
                engines.upgrade()
            if attaches:
                engines.upgrade()
        engines.exchange()
        engines.send("update", ["PRAGMA integrity_check", "SELECT count(*) FROM t0"])


@pytest.mark.slow
@settings(max_examples=15)
@given(runs(("managed",)), st.sampled_from(sorted(PRESETS)))
def test_presets_do_the_same_on_both_engines(run, preset):
    engines = Engines(preset=preset, bucket_pages=2, depth="pages", has_journals=True)
    with closing(engines):
        engines.send("update", BEGINNING)
        for kind, *rest in run[1]:
            if kind == "update":
                engines.send("update", rest[0])
            elif kind == "trap":
                engines.trap(rest[0])
            else:
                engines.exchange()


def compare_script(text):
    steps = parse_script(text, is_complete=is_complete)
    seen = []
    for engine in ("native", "wasm"):
        rows = []
        with Canister(engine=engine, trace=":memory:", owners=False) as canister:
            outcome = run_steps(
                canister,
                steps,
                cache="cold",
                on_rows=lambda _step, _statement, found, rows=rows: rows.append(found),
            )
            with closing(canister.trace()) as trace:
                told = [
                    (message.kind, message.outcome, message.trap, message.image_bytes)
                    for message in trace.messages
                ]
                statements = [
                    (each.sql, each.kind, each.shape, each.row_count, each.runs, each.plan)
                    for each in trace.statements
                ]
                queries = [message.stable for message in trace.messages if message.kind == "query"]
            seen.append((outcome, rows, told, statements, queries, canister.image()))
    native, wasm = seen
    assert wasm[:5] == native[:5]
    return native[5] == wasm[5], any(step.kind == "trap" for step in steps)


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.sql")))
def test_the_example_scripts_do_the_same_on_both_engines(name):
    is_equal, has_trap = compare_script((EXAMPLES / name).read_text(encoding="utf-8"))
    # After a trap the native engine opens the database anew, which its header counts.
    assert is_equal or has_trap


# -- public data -----------------------------------------------------------------------------------


def public_data(*parts):
    path = data_folder().joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path.name} is not in the folder of public data")
    return path


@pytest.mark.slow
@pytest.mark.external
def test_tpc_h_does_the_same_on_both_engines(tmp_path, monkeypatch):
    public_data("tpch", "queries.sql")
    monkeypatch.setattr("benchmarks.tpch.SCALE", 0.01)
    try:
        data = tpch(data_folder(), tmp_path)
    except MissingDataError as error:
        pytest.skip(str(error))
    engines = Engines(limits=None, depth="pages")
    with closing(engines):
        engines.send("update", [*data.tables.values()])
        for table in data.tables:
            rows = list(data.rows(table))
            marks = ", ".join("?" * len(rows[0]))
            for canister in (engines.native, engines.wasm):
                with canister.message() as message, message.transaction():
                    message.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
            engines.check()
        engines.send("update", [*data.indexes, "ANALYZE"])
        for sql in data.queries.values():
            engines.send("query", [sql], cache="cold")


def sqllogic_records(text):
    """Yield kind and SQL of each record that SQLite is to run."""
    for block in re.split(r"\n\s*\n", text):
        lines = [line for line in block.splitlines() if line.strip() and line[0] != "#"]
        conditions = [line.split()[:2] for line in lines if re.match(r"(only|skip)if ", line)]
        lines = [line for line in lines if not re.match(r"(only|skip)if ", line)]
        is_ours = all((word == "onlyif") == (name == "sqlite") for word, name in conditions)
        if not lines or not is_ours or lines[0].split()[0] not in ("statement", "query"):
            continue
        yield lines[0].split()[0], "\n".join(lines[1:]).partition("\n----")[0]


@pytest.mark.slow
@pytest.mark.external
def test_sqllogictest_scripts_do_the_same_on_both_engines():
    """Each script on both engines, 40 records to a message."""
    archive = public_data("sqllogictest", "evidence-and-select.tar.xz")
    with tarfile.open(archive) as scripts:
        names = [name for name in scripts.getnames() if "/evidence/" in f"/{name}"]
        texts = [
            scripts.extractfile(name).read().decode() for name in names if name.endswith(".test")
        ]
    for text in texts:
        records = list(sqllogic_records(text))[:400]
        with closing(Engines(limits=None, depth="pages")) as engines:
            for start in range(0, len(records), 40):
                part = [sql for _, sql in records[start : start + 40]]
                engines.send("update", part)
