"""What is looked at before a message begins, and which path it takes where addresses run out."""

import sys

import apsw
import pytest

import sqlstable
from sqlstable import Canister, StableMemory
from sqlstable.database import hotpath
from sqlstable.layout import raw_layout
from sqlstable.layout.placement import RawPlacement
from sqlstable.memory import backing, bytemap
from tests.children import run_python
from tests.images import DURABILITIES


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.stable"


# -- the image is checked before it is looked into ------------------------------------------------


CUT_OFF = """
    import os, sys
    from sqlstable import Canister, ImageError
    path, layout = sys.argv[1:]
    canister = Canister(path, layout=layout)
    canister.update("CREATE TABLE t (x)")
    for _ in range(60):
        canister.update("INSERT INTO t VALUES (zeroblob(3000))")
    os.truncate(path, 0)
    for call in (
        lambda: canister.query("SELECT count(*) FROM t"),
        lambda: canister.query("SELECT count(*) FROM t", cache="fresh"),
        lambda: canister.update("DELETE FROM t"),
        canister.upgrade,
        canister.reinstall,
        canister.status,
        canister.image,
        canister.memory.image,
        lambda: canister.extract_database(path + ".db"),
        lambda: canister.import_database(b"SQLite format 3"),
    ):
        try:
            call()
        except ImageError as error:
            assert "and has 0. No message begins any more" in str(error), error
        else:
            raise SystemExit("not refused")
    canister.close()
    print("alive")
"""


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["managed", "raw"])
def test_no_call_looks_into_an_image_that_was_cut_off(path, layout):
    """Where it does, the process is killed by SIGBUS."""
    assert run_python(CUT_OFF, path, layout) == "alive\n"


FORKED = """
    import os, sys
    from sqlstable import Canister, ImageError, Limits, StableMemory
    path, engine = sys.argv[1:]
    canister = Canister(path, engine=engine)
    canister.update("CREATE TABLE t (x)")
    memory = canister.memory
    calls = {
        "query": lambda: canister.query("SELECT count(*) FROM t"),
        "query without a table": lambda: canister.query("SELECT 1"),
        "update": lambda: canister.update("INSERT INTO t VALUES (1)"),
        "message": lambda: canister.message().__enter__(),
        "upgrade": canister.upgrade,
        "reinstall": canister.reinstall,
        "import": lambda: canister.import_database(b"SQLite format 3"),
        "extract": lambda: canister.extract_database(path + ".db"),
        "status": canister.status,
        "image": canister.image,
        "memory.image": memory.image,
        "memory.peek": lambda: memory.peek(0, 4),
        "memory.read": lambda: memory.read(0, 4),
        "memory.begin": lambda: memory.begin("query"),
        "memory.reset": memory.reset,
    }
    if engine == "wasm":
        # What an observer sees there is the child's own copy.
        del calls["memory.peek"]
    child = os.fork()
    if child == 0:
        for name, call in calls.items():
            for _ in range(2):
                try:
                    call()
                except ImageError as error:
                    text = "was opened before this process was forked, and is its parent's; open"
                    assert text in str(error), (name, error)
                else:
                    print(name, "was not refused", flush=True)
                    os._exit(1)
        canister.close()
        canister.close()
        memory.close()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    canister.update("INSERT INTO t VALUES (1)")
    assert canister.query("SELECT count(*) FROM t").rows == [(1,)]
    canister.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_after_a_fork_each_call_gives_the_one_error_and_the_parent_goes_on(path, engine):
    run_python(FORKED, path, engine)


# -- where addresses run out ----------------------------------------------------------------------


def assert_works(canister):
    canister.update("CREATE TABLE t (x)")
    canister.update("INSERT INTO t VALUES (zeroblob(9000)), (1)")
    assert canister.query("SELECT count(*) FROM t").rows == [(2,)]
    canister.close()


@DURABILITIES
@pytest.mark.parametrize("maps", range(5))
def test_the_slow_path_is_taken_where_only_some_addresses_are_left(
    path, monkeypatch, maps, durability
):
    """Committed bytes, staged bytes and marks: each may be the one that finds no room."""
    left = [maps]

    class Scarce(backing.MappedBacking):
        def __init__(self, capacity_bytes):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(12, "Cannot allocate memory")
            super().__init__(capacity_bytes)

    class ScarceMaps:
        ACCESS_COPY = bytemap.mmap.ACCESS_COPY

        def mmap(self, *arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(12, "Cannot allocate memory")
            return real(*arguments, **options)

    real = bytemap.mmap.mmap
    monkeypatch.setattr(backing, "MappedBacking", Scarce)
    monkeypatch.setattr(bytemap, "mmap", ScarceMaps())
    assert_works(Canister())
    left[0] = maps
    assert_works(Canister(path, durability=durability))


SCARCE = """
    import resource, sys
    from sqlstable import Canister
    gigabytes = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (gigabytes * 10**9,) * 2)
    for path in (None, sys.argv[1]):
        with Canister(path) as canister:
            canister.update("CREATE TABLE t (x)")
            canister.update("INSERT INTO t VALUES (1)")
            assert canister.query("SELECT * FROM t").rows == [(1,)]
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="flat views are used on Linux only")
@pytest.mark.parametrize("gigabytes", [20, 500, 600, 800, 1200])
def test_a_canister_works_under_any_limit_of_addresses(path, gigabytes):
    run_python(SCARCE, path, gigabytes)


MANY = """
    import sys
    from sqlstable import Canister
    canisters = []
    for number in range(140):
        canisters.append(Canister(f"{sys.argv[1]}/{number}.stable"))
        canisters[-1].update("CREATE TABLE t (x)")
    flat = [canister.memory.staging.flat is not None for canister in canisters]
    assert not all(flat), "the addresses sufficed for all"
    for canister in canisters:
        canister.update("INSERT INTO t VALUES (1)")
        assert canister.query("SELECT * FROM t").rows == [(1,)]
        canister.close()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="flat views are used on Linux only")
def test_more_images_are_open_at_once_than_have_addresses(tmp_path):
    run_python(MANY, tmp_path)


# -- where a file begins --------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [512, 4096, 65_536])
@pytest.mark.parametrize("origin", [0, 8, 4095, 4096, 4097, 65_536])
def test_counts_are_of_os_pages_wherever_the_file_begins(monkeypatch, origin, page_size):
    monkeypatch.setattr(raw_layout, "RawPlacement", lambda memory: RawPlacement(memory, origin))
    with Canister(layout="raw", page_size=page_size, owners=False, trace=":memory:") as canister:
        canister.update("CREATE TABLE t (x)")
        canister.update(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) "
            "INSERT INTO t SELECT randomblob(1000) FROM n"
        )
        path = canister.vfs.store._paths.write.__qualname__
        assert ("slow" in path) == (origin % 4096 != 0)
        reply = canister.query("SELECT x FROM t")
        assert len(reply.rows) == 400
        accessed = reply.footprint.os_pages_accessed
        size_bytes = canister.vfs.store.size_bytes
        first, last = origin // 4096, (origin + size_bytes - 1) // 4096
        # A scan reads all of a database that is one table, and the limits count what it reports.
        assert last - first <= accessed <= last - first + 1
        used = {limit.name: limit.used for limit in reply.limits}
        assert used["stable_os_pages_accessed"] == accessed


def test_a_quick_path_of_a_file_that_begins_inside_an_os_page_is_a_bug(monkeypatch):
    with Canister(layout="raw", owners=False) as canister:
        canister.update("CREATE TABLE t (x)")
        with pytest.raises(AssertionError):
            hotpath._views(canister.vfs.store, 8)


# -- what a recording says ------------------------------------------------------------------------


@pytest.mark.parametrize("durability", [None, "process", "power"])
def test_a_recording_states_the_durability_of_its_image(path, durability):
    memory = (
        StableMemory() if durability is None else StableMemory.open(path, durability=durability)
    )
    with memory:
        vfs = sqlstable.StableVFS(memory)
        connection = apsw.Connection("main.db", vfs=vfs.name)
        with sqlstable.record(connection) as trace:
            connection.execute("CREATE TABLE t (x)")
        assert trace.settings["durability"] == durability
        connection.close()
        vfs.unregister()
