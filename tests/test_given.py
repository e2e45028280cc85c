"""What a canister is given: a memory of its own, and choices and SQL of the right kind."""

import gc
from datetime import date
from pathlib import Path

import pytest

from sqlstable import Canister, MessageError, SettingsError, SqlError, StableMemory

ENGINES = ("native", "wasm", "both")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("other", ENGINES)
def test_a_second_canister_over_a_memory_is_refused_and_changes_nothing(engine, other):
    with Canister(engine=engine) as canister:
        canister.update("CREATE TABLE t (a)")
        before = canister.image()
        with pytest.raises(SettingsError, match="belongs to another canister"):
            Canister(engine=other, memory=canister.memory)
        assert canister.image() == before
        canister.update("INSERT INTO t VALUES (1)")
        assert canister.query("SELECT a FROM t").rows == [(1,)]


def test_a_copy_is_a_memory_of_its_own():
    with Canister() as canister:
        canister.update("CREATE TABLE t (a)")
        with Canister(memory=StableMemory.from_image(canister.image())) as copy:
            copy.update("INSERT INTO t VALUES (1)")
        assert canister.query("SELECT count(*) FROM t").rows == [(0,)]


def test_a_canister_that_nobody_has_any_more_holds_no_memory():
    memory = StableMemory()
    gc.disable()
    try:
        Canister(memory=memory)
        with Canister(memory=memory) as canister:
            assert canister.query("SELECT 1").rows == [(1,)]
    finally:
        gc.enable()


@pytest.mark.parametrize("layout", ["managed", "raw"])
@pytest.mark.parametrize("first", ENGINES)
@pytest.mark.parametrize("second", ENGINES)
def test_a_given_memory_outlives_the_canister_and_another_goes_on_with_it(first, second, layout):
    memory = StableMemory()
    with Canister(engine=first, layout=layout, memory=memory) as canister:
        canister.update("CREATE TABLE t (a); INSERT INTO t VALUES (1)")
        with pytest.raises(SettingsError, match="belongs to another canister"):
            Canister(engine=second, layout=layout, memory=memory)
        image = canister.image()
    assert memory.image() == image
    with Canister(engine=second, layout=layout, memory=memory) as canister:
        assert canister.query("SELECT a FROM t").rows == [(1,)]
        canister.update("INSERT INTO t VALUES (2)")
    with Canister(engine=first, layout=layout, memory=memory) as canister:
        assert canister.query("SELECT a FROM t").rows == [(1,), (2,)]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_given_memory_has_become_as_small_as_its_canister_has(engine):
    memory = StableMemory()
    with Canister(engine=engine, memory=memory, bucket_pages=1) as canister:
        canister.update("CREATE TABLE t AS SELECT zeroblob(1000000) AS a")
    large = memory.wasm_pages
    with Canister(engine=engine, memory=memory, bucket_pages=1) as canister:
        canister.reinstall()
        image = canister.image()
    assert memory.image() == image
    assert memory.wasm_pages < large


@pytest.mark.parametrize("engine", ENGINES)
def test_a_given_memory_has_what_was_answered_before_an_error(engine):
    memory = StableMemory()

    def fail():
        with Canister(engine=engine, memory=memory) as canister:
            canister.update("CREATE TABLE t (a)")
            canister.update("nonsense")

    with pytest.raises(SqlError):
        fail()
    with Canister(memory=memory) as canister:
        assert canister.query("SELECT count(*) FROM t").rows == [(0,)]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_closed_memory_is_refused(engine):
    memory = StableMemory()
    memory.close()
    with pytest.raises(SettingsError, match="closed"):
        Canister(engine=engine, memory=memory)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_closed_canister_has_no_image(engine):
    canister = Canister(engine=engine)
    canister.close()
    with pytest.raises(MessageError, match="closed"):
        canister.image()


def test_an_image_for_a_memory_is_refused_in_a_line():
    with Canister() as canister, pytest.raises(SettingsError) as refused:
        Canister(memory=canister.image())
    assert len(str(refused.value)) < 120


@pytest.mark.parametrize("kind", [str, Path])
def test_an_image_and_its_trace_are_two_files(tmp_path, kind):
    path = tmp_path / "new.image"
    with pytest.raises(SettingsError, match="both the image and the trace"):
        Canister(path, trace=kind(path), overwrite_trace=True)
    assert list(tmp_path.iterdir()) == []


def test_memory_is_no_name_of_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="leave the path out"):
        Canister(":memory:")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"path": 5}, "path is 5, of type int; name a file"),
        ({"trace": 5}, "trace is 5, of type int"),
        ({"memory": "x"}, "give a StableMemory"),
        ({"engine": "both", "measure": 25}, "give a text"),
        ({"now": date(2026, 1, 1)}, "of type date; give a text"),
        ({"assume": ["stable-write-charges=once"]}, "give a dict"),
    ],
)
def test_a_choice_of_another_type_is_named_with_what_it_may_be(choice, words):
    with pytest.raises(SettingsError, match=words):
        Canister(**choice)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("sql", [5, None, b"SELECT 1"])
def test_what_is_no_text_is_no_sql_on_any_engine(engine, sql):
    with Canister(engine=engine) as canister:
        with pytest.raises(SqlError, match="the SQL is of type"):
            canister.query(sql)
        assert canister.query("SELECT 1").rows == [(1,)]
