"""Hooks and the life cycle: what runs when, with which limits, and every misuse."""

from contextlib import closing, suppress
from dataclasses import replace
from threading import Thread

import pytest

from sqlstable import (
    Canister,
    Hooks,
    ImageError,
    LimitTrap,
    MemoryManager,
    MessageError,
    MigrationError,
    Part,
    SettingsError,
    SqlError,
    Trap,
    latest_limits,
    open_trace,
)
from tests.upgrade_world import ENGINES, HOOKS, KEEPING, State, make_canister

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT sum(x) FROM c"


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


def named(calls, part):
    return lambda message: calls.append((part, message.part))


def all_named(calls, code):
    parts = ("init", "start", "pre_upgrade", "post_upgrade")
    return Hooks(**{part: named(calls, f"{code} {part}") for part in parts})


# -- what runs when -------------------------------------------------------------------------------


@pytest.mark.slow
def test_hooks_run_in_the_order_of_the_internet_computer(engine):
    calls = []
    one, two = all_named(calls, "one"), all_named(calls, "two")
    with Canister(engine=engine, hooks=one) as canister:
        canister.update("CREATE TABLE t (x)")
        canister.query("SELECT * FROM t")
        assert calls == [("one start", "start"), ("one init", "init")]
        calls.clear()
        canister.upgrade()
        canister.upgrade(hooks=two)
        canister.upgrade(hooks=one, skip_pre_upgrade=True)
        assert [call for call, _ in calls] == [
            *("one pre_upgrade", "one start", "one post_upgrade"),
            *("one pre_upgrade", "two start", "two post_upgrade"),
            *("one start", "one post_upgrade"),
        ]
        calls.clear()
        canister.reinstall(two)
        canister.reinstall()
        assert [call for call, _ in calls] == ["two start", "two init"] * 2
        assert canister.hooks is two
        calls.clear()
        canister.uninstall()
        assert calls == []


def test_an_image_that_is_opened_is_not_installed_again(tmp_path, engine):
    calls = []
    for expected in (["one start", "one init"], []):
        with Canister(
            tmp_path / "a.stable", engine=engine, hooks=all_named(calls, "one")
        ) as canister:
            assert [call for call, _ in calls] == expected
            canister.update("CREATE TABLE IF NOT EXISTS t (x)")
        calls.clear()


def test_what_pre_upgrade_saves_from_the_heap_post_upgrade_finds(engine):
    """The heap's TEMP tables die; a virtual memory beside the database's keeps what they held."""

    def save(message):
        (total,) = message.execute("SELECT sum(x) FROM cart")[0]
        memory = MemoryManager(message.memory).get(7)
        memory.grow(1)
        memory.write(0, total.to_bytes(8, "big"))

    def restore(message):
        with pytest.raises(SqlError, match="no such table"):
            message.execute("SELECT * FROM cart")
        total = int.from_bytes(MemoryManager(message.memory).get(7).read(0, 8), "big")
        message.execute("CREATE TEMP TABLE cart (x)")
        message.execute("INSERT INTO cart VALUES (?)", (total,))

    with Canister(engine=engine, hooks=Hooks(pre_upgrade=save, post_upgrade=restore)) as canister:
        canister.update("CREATE TEMP TABLE cart (x)")
        canister.update("INSERT INTO cart VALUES (20), (22)")
        for _ in range(2):
            canister.upgrade()
            assert canister.query("SELECT x FROM cart").rows == [(42,)]
        canister.update("CREATE TABLE t AS SELECT zeroblob(20000000) AS x")
        assert canister.query("SELECT x FROM cart").rows == [(42,)]


@pytest.mark.slow
def test_a_heap_is_kept_where_both_say_so(engine):
    with make_canister(engine, "managed", hooks=KEEPING) as canister:
        warm = canister.query("SELECT owner FROM account", cache="warm")
        reply = canister.upgrade(wasm_memory_persistence="keep")
        assert [part.name for part in reply.parts] == ["pre_upgrade", "start", "post_upgrade"]
        assert [entry.name for entry in reply.message.outside] == ["message"]
        assert canister.update("SELECT sum(x) FROM scratch").rows == [(6,)]
        assert canister.update("PRAGMA cache_size").rows == [(77,)]
        again = canister.query("SELECT owner FROM account", cache="warm")
        assert again.rows == warm.rows
        assert again.footprint.os_pages_accessed == warm.footprint.os_pages_accessed == 0
        canister.upgrade(wasm_memory_persistence="replace")
        with pytest.raises(SqlError, match="no such table: scratch"):
            canister.update("SELECT sum(x) FROM scratch")
        assert canister.update("PRAGMA cache_size").rows == [(500,)]


def test_the_rules_of_keeping_are_those_of_the_internet_computer(engine):
    with make_canister(engine, "managed", hooks=KEEPING) as canister:
        before = State.of(canister)
        for keywords, error, words in (
            ({}, MessageError, "requires the `wasm_memory_persistence` upgrade option"),
            ({"hooks": HOOKS}, MessageError, "requires the `wasm_memory_persistence`"),
            ({"hooks": HOOKS, "wasm_memory_persistence": "keep"}, MessageError, "opt Keep"),
            ({"wasm_memory_persistence": "kept"}, SettingsError, "keep, replace, or None"),
        ):
            with pytest.raises(error, match=words):
                canister.upgrade(**keywords)
            assert State.of(canister) == before
        canister.upgrade(hooks=HOOKS, wasm_memory_persistence="replace")
        canister.upgrade(hooks=KEEPING, wasm_memory_persistence="keep")
        assert canister.hooks is KEEPING


# -- parts ----------------------------------------------------------------------------------------


def test_parts_count_each_by_itself(engine):
    with make_canister(engine, "managed") as canister:
        reply = canister.upgrade()
        parts = reply.parts
        assert [part.name for part in parts] == ["pre_upgrade", "start", "post_upgrade"]
        # Both hooks write the same SQLite pages: the message has touched them once.
        assert sum(part.os_pages_dirty for part in parts) > reply.message.stable.os_pages_dirty
        assert parts[1] == Part("start", 2, 2, None if engine == "native" else 0)
        used = {use.name: use.used for use in reply.limits}
        assert used["stable_os_pages_accessed"] == max(it.os_pages_accessed for it in parts)
        if engine == "wasm":
            total = sum(part.instructions for part in parts)
            assert total == reply.message.instructions.total == used["instructions"]
        assert canister.query("SELECT 1").parts == ()


def test_a_step_without_hooks_has_the_part_that_opens_the_database(engine):
    with Canister(engine=engine) as canister:
        (part,) = canister.upgrade().parts
        assert (part.name, part.os_pages_accessed, part.os_pages_dirty) == ("post_upgrade", 9, 0)
        (part,) = canister.reinstall().parts
        assert part.name == "init"


def test_parts_are_in_the_trace(tmp_path, engine):
    path = tmp_path / "a.trace"
    with make_canister(engine, "managed", trace=path) as canister:
        parts = canister.upgrade().parts
    with open_trace(path) as trace:
        assert trace.messages[-1].parts == parts
        assert [part.name for part in trace.messages[0].parts] == ["start", "init"]


def test_both_engines_count_the_same_os_pages():
    counts = []
    for engine in ENGINES:
        with make_canister(engine, "managed") as canister:
            parts = canister.upgrade().parts
            counts.append([(it.name, it.os_pages_accessed, it.os_pages_dirty) for it in parts])
    assert counts[0][1:] == counts[1][1:]
    # The old heap is warm on both, but the native engine's holds what its queries did not read.
    assert counts[0][0][2] == counts[1][0][2]


def test_a_trace_says_which_statements_are_the_hooks(engine):
    with make_canister(engine, "managed", trace=":memory:") as canister:
        canister.upgrade()
        with closing(canister.trace()) as trace:
            upgrade = trace.messages[-1]
            texts = [trace.statements[index].sql for index in upgrade.statements]
    assert [text.split()[0] for text in texts] == ["INSERT", "INSERT", "SELECT"] * 2


# -- hooks that misbehave -------------------------------------------------------------------------


ENDLESS_BUT_FOR_ITS_LIMIT = (
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 20000) "
    "SELECT sum(x) FROM c"
)


def limits_of(kind, **values):
    limits = latest_limits()
    return replace(limits, **{kind: replace(limits.of(kind), **values)})


@pytest.mark.parametrize("part", ["pre_upgrade", "post_upgrade"])
def test_sql_that_never_ends_is_ended(engine, part):
    limits = limits_of("upgrade", instructions_max=20_000_000)

    def endless(message):
        message.execute(ENDLESS)

    old = Hooks(pre_upgrade=endless) if part == "pre_upgrade" else Hooks()
    with Canister(engine=engine, hooks=old, limits=limits) as canister:
        canister.update("CREATE TEMP TABLE mine (x)")
        before = State.of(canister)
        with pytest.raises(LimitTrap, match="limit of 20000000 instructions for single") as caught:
            canister.upgrade(hooks=Hooks(post_upgrade=endless))
        assert ("estimated, from 150000 steps" in str(caught.value)) == (engine == "native")
        assert caught.value.limit == "instructions"
        assert State.of(canister) == before
        assert canister.query("SELECT * FROM mine").rows == []
        # What is not a hook's is not bounded by them on the native engine.
        canister.update("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 9000)"
                        " SELECT sum(x) FROM c")  # fmt: skip


def test_steps_are_counted_once_however_many_watch_the_connection():
    query = ENDLESS_BUT_FOR_ITS_LIMIT
    with Canister() as canister:
        steps = canister.query(query).statements[0].sqlite.vm_steps
    allowed = limits_of("upgrade", instructions_max=200 * steps)
    with Canister(limits=allowed) as canister:
        canister.upgrade(hooks=Hooks(post_upgrade=lambda message: message.execute(query)))


def test_a_hook_cannot_close_its_canister(engine):
    with Canister(engine=engine) as canister:
        canister.update("CREATE TABLE t (x)")
        before = State.of(canister)
        with pytest.raises(MessageError, match="close the canister behind it"):
            canister.upgrade(hooks=Hooks(post_upgrade=lambda _: canister.close()))
        assert State.of(canister) == before


@pytest.mark.parametrize("schema", ["", 5, b"CREATE TABLE t (x)"])
def test_what_is_no_schema_is_refused(schema):
    with Canister() as canister, pytest.raises(MigrationError, match="give SQL that begins"):
        canister.upgrade(schema=schema)


def test_a_hook_that_overwrites_the_database_is_refused_before_that_is_committed(engine):
    def wild(message):
        message.memory.write(65_536, b"\xff" * 8192)

    with Canister(engine=engine) as canister:
        canister.update("CREATE TABLE t (x)")
        before = State.of(canister)
        with pytest.raises(ImageError, match=r"begin with b'\\xff"):
            canister.upgrade(hooks=Hooks(post_upgrade=wild))
        assert State.of(canister) == before
        assert canister.query("SELECT * FROM t").rows == []


def test_a_hook_that_never_ends_but_touches_more_and_more_is_ended(engine):
    limits = limits_of("upgrade", os_pages_dirty_max=40)

    def endless(message):
        while True:
            message.execute("INSERT INTO t VALUES (zeroblob(3000))")

    with Canister(engine=engine, limits=limits) as canister:
        canister.update("CREATE TABLE t (x)")
        before = State.of(canister)
        with pytest.raises(LimitTrap, match="modified pages in the stable memory"):
            canister.upgrade(hooks=Hooks(post_upgrade=endless))
        assert State.of(canister) == before


def refused(canister, hook, error, words, *, part="post_upgrade"):
    """Assert that a hook is refused with one error, and that nothing has changed."""
    before = State.of(canister)
    with pytest.raises(error, match=words):
        canister.upgrade(hooks=Hooks(**{part: hook}))
    assert State.of(canister) == before
    assert canister.query("SELECT count(*) FROM account").rows == [(3,)]


@pytest.mark.slow
def test_each_misuse_in_a_hook_is_one_error_and_changes_nothing(engine):
    with make_canister(engine, "managed", hooks=Hooks(init=HOOKS.init)) as canister:
        one = "a canister runs one message at a time"
        for hook in (
            lambda _: canister.upgrade(),
            lambda _: canister.update("DELETE FROM account"),
            lambda _: canister.query("SELECT 1"),
            lambda _: canister.message().__enter__(),
            lambda _: canister.uninstall(),
            lambda _: canister.stop(),
            lambda _: canister.on_connect(print),
        ):
            refused(canister, hook, MessageError, one)
            refused(canister, hook, MessageError, one, part="start")
        refused(canister, lambda it: it.execute("BEGIN"), MessageError, "an open SQL transaction")
        refused(canister, lambda it: it.execute("SELECT none"), SqlError, "no such column")
        refused(canister, lambda it: it.execute("SELECT ?", (1, 2)), SqlError, "2")
        refused(
            canister,
            lambda it: it.executemany("INSERT INTO account (id) VALUES (?)", [(9,), (9,)]),
            SqlError,
            "UNIQUE constraint failed",
        )
        refused(
            canister, lambda it: it.execute("SELECT 1"), MessageError, "no database", part="start"
        )
        refused(canister, lambda it: it.trap("enough"), Trap, "enough")
        refused(canister, lambda it: it.memory.read(1 << 40, 1), Trap, "out of bounds")
        refused(canister, lambda: None, TypeError, "takes 0 positional arguments")


def test_a_trap_that_a_hook_swallows_is_a_trap_all_the_same(engine):
    def swallow(message):
        message.execute("DELETE FROM account")
        for _ in range(2):
            with pytest.raises(Trap, match="enough"):
                message.trap("enough")
        with pytest.raises(Trap, match="enough"):
            message.execute("SELECT 1")

    with make_canister(engine, "managed", hooks=Hooks(init=HOOKS.init)) as canister:
        refused(canister, swallow, Trap, "enough")


def grow(message):
    """Let a virtual memory of one's own grow, whose buckets the database must know."""
    MemoryManager(message.memory).get(9).grow(200)


def grow_first(message):
    grow(message)
    message.execute("CREATE TABLE t AS SELECT zeroblob(9000000) AS x")


@pytest.mark.slow
def test_a_manager_of_a_hooks_own_meets_no_open_database(engine):
    """Both would hand out the same buckets."""
    with make_canister(engine, "managed", hooks=Hooks(init=HOOKS.init)) as canister:
        refused(canister, grow, MessageError, "let virtual memories grow in pre_upgrade or start")
    old = Hooks(init=HOOKS.init, pre_upgrade=grow_first)
    with make_canister(engine, "managed", hooks=old) as canister:
        before = State.of(canister)
        with pytest.raises(MessageError, match="has read before; run SQL first"):
            canister.upgrade()
        assert State.of(canister) == before
    old = replace(old, pre_upgrade=grow, keeps_heap=True)
    with make_canister(engine, "managed", hooks=old) as canister:
        with pytest.raises(MessageError, match="let virtual memories grow in pre_upgrade or start"):
            canister.upgrade(wasm_memory_persistence="keep")
        canister.upgrade(wasm_memory_persistence="replace", hooks=Hooks(start=grow))
        canister.update("CREATE TABLE t AS SELECT zeroblob(20000000) AS x")
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
        manager = MemoryManager(canister.memory)
        assert manager.get(9).size() == 400
        assert manager.get(9).read(0, 400 * 65_536) == bytes(400 * 65_536)


def test_an_interrupt_that_a_hook_swallows_ends_the_upgrade_all_the_same(engine):
    def swallow(message):
        message.execute("DELETE FROM account")
        statements = message._statements
        real = statements.execute
        statements.execute = interrupted
        for sql in ("SELECT 1", "SELECT 2"):
            with suppress(KeyboardInterrupt, Trap):
                message.execute(sql)
        statements.execute = real

    def interrupted(sql, params):
        raise KeyboardInterrupt

    with make_canister(engine, "managed", hooks=Hooks(init=HOOKS.init)) as canister:
        refused(canister, swallow, Trap, "cut off by KeyboardInterrupt")


def test_an_error_says_in_which_part_it_was(engine):
    with Canister(engine=engine) as canister, pytest.raises(ValueError, match="no") as caught:
        canister.upgrade(hooks=Hooks(start=lambda _: int("no")))
    assert caught.value.__notes__ == ["in start; nothing of the step remains"]


def test_an_error_that_a_hook_catches_is_none(engine):
    def catch(message):
        with pytest.raises(SqlError, match="no such table"):
            message.execute("SELECT * FROM nowhere")
        message.execute("CREATE TABLE nowhere (x)")

    with Canister(engine=engine) as canister:
        assert canister.upgrade(hooks=Hooks(post_upgrade=catch)).outcome == "committed"
        assert canister.query("SELECT * FROM nowhere").rows == []


def test_a_hook_message_that_is_kept_does_nothing(engine):
    kept = []
    with Canister(engine=engine, hooks=Hooks(post_upgrade=kept.append)) as canister:
        canister.upgrade()
        (message,) = kept
        for use in (
            lambda: message.execute("SELECT 1"),
            lambda: message.executemany("SELECT ?", [(1,)]),
            lambda: message.memory,
            message.trap,
        ):
            with pytest.raises(MessageError, match="the hook post_upgrade has ended"):
                use()
        assert canister.query("SELECT 1").rows == [(1,)]


def test_a_hook_is_of_one_thread(engine):
    errors = []

    def elsewhere(message):
        def run():
            try:
                message.execute("SELECT 1")
            except MessageError as error:
                errors.append(str(error))

        thread = Thread(target=run)
        thread.start()
        thread.join()

    with Canister(engine=engine, hooks=Hooks(post_upgrade=elsewhere)) as canister:
        canister.upgrade()
    assert errors == ["the hook post_upgrade runs in another thread; use its message there"]


def test_what_is_no_hook_is_refused():
    with pytest.raises(SettingsError, match="the hook init is 'SELECT 1', which cannot be called"):
        Hooks(init="SELECT 1")
    with pytest.raises(TypeError):
        Hooks(on_upgrade=print)
    words = "give a Hooks, as in"
    with pytest.raises(SettingsError, match=words):
        Canister(hooks=print)
    with Canister() as canister:
        for step in (canister.reinstall, lambda it: canister.upgrade(hooks=it)):
            with pytest.raises(SettingsError, match=words):
                step({"post_upgrade": print})
        assert canister.message_count == 1


def test_an_installation_whose_hook_fails_leaves_no_canister(tmp_path, engine):
    def fail(message):
        message.execute("CREATE TABLE t (x)")
        raise ValueError("no")

    path = tmp_path / "a.stable"
    with pytest.raises(ValueError, match="no"):
        Canister(path, engine=engine, hooks=Hooks(init=fail))
    with Canister(path, engine=engine) as canister:
        assert canister.query("SELECT name FROM sqlite_schema").rows == []


# -- stopped and empty canisters ------------------------------------------------------------------


def test_a_stopped_canister_takes_no_messages_but_steps(engine):
    with make_canister(engine, "managed") as canister:
        expected = canister.query("SELECT owner FROM account").rows
        canister.stop()
        canister.stop()
        assert canister.state == "stopped"
        before = State.of(canister)
        for send in (canister.update, canister.query):
            with pytest.raises(MessageError, match="Canister is stopped; start it"):
                send("SELECT 1")
        with pytest.raises(MessageError, match="Canister is stopped"), canister.message():
            raise AssertionError
        assert State.of(canister) == before
        canister.upgrade()
        assert canister.state == "stopped"
        canister.start()
        canister.start()
        assert canister.query("SELECT owner FROM account").rows == expected


def test_a_canister_is_not_stopped_inside_of_a_message(engine):
    with Canister(engine=engine) as canister, canister.message() as message:
        with pytest.raises(MessageError, match="one message at a time"):
            canister.stop()
        message.execute("CREATE TABLE t (x)")
    assert canister.state == "running"


def test_an_empty_canister_has_nothing_until_code_is_installed(tmp_path, engine):
    path = tmp_path / "a.stable"
    with make_canister(engine, "managed", path, trace=":memory:") as canister:
        reply = canister.uninstall(label="gone")
        assert (reply.outcome, reply.parts, reply.message.image_bytes) == ("committed", (), 0)
        assert (canister.state, canister.image(), path.stat().st_size) == ("empty", b"", 0)
        empty = "the canister contains no Wasm module"
        for use, words in (
            (lambda: canister.update("SELECT 1"), empty),
            (lambda: canister.query("SELECT 1"), empty),
            (canister.upgrade, empty),
            (canister.status, empty),
            (lambda: canister.extract_database(tmp_path / "a.db"), empty),
            (lambda: canister.import_database(b""), empty),
            (canister.uninstall, "has no code to uninstall"),
        ):
            with pytest.raises(MessageError, match=words):
                use()
        assert "running" not in repr(canister)
        canister.stop()
        assert canister.state == "empty"
        canister.start()
        canister.reinstall()
        assert canister.state == "running"
        assert canister.query("SELECT name FROM part").rows == [("init",)]
        with closing(canister.trace()) as trace:
            kinds = [message.kind for message in trace.messages][-3:]
        assert kinds == ["uninstall", "reinstall", "query"]


def test_an_empty_canister_is_closed_and_opened_again(tmp_path, engine):
    path = tmp_path / "a.stable"
    with make_canister(engine, "managed", path) as canister:
        canister.uninstall()
    with Canister(path, engine=engine) as canister:
        # A file says nothing of code: whoever opens it brings the code.
        assert canister.state == "running"
        assert canister.query("SELECT name FROM sqlite_schema").rows == []


def test_a_reinstallation_of_an_empty_canister_that_fails_leaves_it_empty(engine):
    def fail(message):
        raise ValueError("no")

    with make_canister(engine, "managed") as canister:
        canister.uninstall()
        with pytest.raises(ValueError, match="no"):
            canister.reinstall(Hooks(init=fail))
        assert (canister.state, canister.image()) == ("empty", b"")
        canister.reinstall(HOOKS)
        assert canister.state == "running"


# -- owners ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("keeps", [False, True])
def test_owners_of_what_hooks_made_are_known(engine, keeps):
    table = Hooks(init=lambda m: m.execute("CREATE TABLE a (v)"), keeps_heap=keeps)
    index = Hooks(post_upgrade=lambda m: m.execute("CREATE INDEX av ON a (v)"), keeps_heap=keeps)
    with Canister(engine=engine, hooks=table, trace=":memory:") as canister:
        inserted = canister.update("INSERT INTO a VALUES (1)")
        canister.upgrade(hooks=index, wasm_memory_persistence="keep" if keeps else None)
        indexed = canister.update("INSERT INTO a VALUES (2)")
        canister.reinstall(hooks=table)
        again = canister.update("INSERT INTO a VALUES (1)")
        with canister.trace() as trace:
            assert trace.owner_faults == ()
    names = [
        {use.name for statement in reply.statements for use in statement.owners}
        for reply in (inserted, indexed, again)
    ]
    assert "a" in names[0]
    assert "av" in names[1]
    assert "a" in names[2]
    assert "av" not in names[2]
