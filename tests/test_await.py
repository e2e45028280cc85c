"""Messages that await: what is committed, who runs meanwhile, and what is refused."""

import asyncio
import csv
import threading
import time
from contextlib import ExitStack
from dataclasses import replace

import apsw
import pytest

import sqlstable
from sqlstable.canister.canister import Canister
from sqlstable.errors import MessageError, SqlError, Trap
from sqlstable.report.as_csv import render_csv
from sqlstable.report.as_json import document
from sqlstable.report.as_table import render_table
from sqlstable.workload import hazard
from sqlstable.workload.hazard import Remains
from tests.test_wasm_journals import without_journals

ENGINES = ("native", "wasm")
COUNT = "SELECT count(*) FROM t"


@pytest.fixture(params=ENGINES)
def canister(request):
    with Canister(engine=request.param, trace=":memory:") as made:
        made.update("CREATE TABLE t (x)")
        yield made


def count(canister):
    return canister.query(COUNT).rows[0][0]


def send(message, body):
    with message:
        body(message)


def refused(error, canister, body, match=None):
    """Send a message that ends by an error, and return it."""
    message = canister.message()
    with pytest.raises(error, match=match):
        send(message, body)
    return message


def values(canister):
    return [value for (value,) in canister.query("SELECT x FROM t ORDER BY rowid").rows]


# -- what is committed ----------------------------------------------------------------------------


def test_a_trap_rolls_back_to_the_await_alone(canister):
    images = []

    def body(message):
        message.execute("INSERT INTO t VALUES ('before')")
        message.commit_point()
        images.append(canister.image())
        message.execute("INSERT INTO t VALUES ('behind')")
        message.trap("later")

    message = refused(Trap, canister, body, "later")
    assert [canister.image()] == images
    assert values(canister) == ["before"]
    assert [it.outcome for it in message.replies] == ["committed", "trapped"]
    assert message.reply.outcome == "trapped"


def test_a_trap_before_the_await_leaves_nothing(canister):
    before = canister.image()

    def body(message):
        message.execute("INSERT INTO t VALUES ('before')")
        message.trap()

    message = refused(Trap, canister, body)
    assert canister.image() == before
    assert [it.outcome for it in message.replies] == ["trapped"]


def test_each_part_has_rows_and_limits_of_its_own(canister):
    with canister.message(label="call") as message:
        message.execute("INSERT INTO t VALUES (1) RETURNING x")
        assert message.replies == ()
        message.commit_point()
        assert [it.rows for it in message.replies] == [[(1,)]]
        message.execute("INSERT INTO t VALUES (2) RETURNING x")
        message.commit_point(label="last")
        message.execute(COUNT)
    assert [it.rows for it in message.replies] == [[(1,)], [(2,)], [(2,)]]
    assert message.reply.rows == [(2,)]
    parts = [it.message for it in message.replies]
    assert [it.label for it in parts] == ["call", "call", "last"]
    assert [it.continues for it in parts] == [None, parts[0].index, parts[1].index]
    used = [{use.name: use.used for use in it.limits} for it in parts]
    assert used[2]["stable_os_pages_dirty"] == 0 < used[0]["stable_os_pages_dirty"]
    if canister.machine.name == "wasm":
        assert all(it["instructions"] > 0 for it in used)


def test_page_limits_begin_anew_behind_an_await():
    latest = sqlstable.latest_limits()
    limits = replace(latest, update=replace(latest.update, os_pages_dirty_max=6))
    fill = "INSERT INTO t VALUES (zeroblob(12000))"
    with Canister(limits=limits) as canister:
        canister.update("CREATE TABLE t (x)")
        refused(Trap, canister, lambda it: (it.execute(fill), it.execute(fill)), "modified pages")
        with canister.message() as message:
            message.execute(fill)
            message.commit_point()
            message.execute(fill)
        assert count(canister) == 2


# -- who runs meanwhile ---------------------------------------------------------------------------


def test_other_messages_run_at_an_await(canister):
    with canister.message(label="call") as message:
        message.execute("INSERT INTO t VALUES ('before')")
        with message.awaiting():
            assert values(canister) == ["before"]
            canister.update("INSERT INTO t VALUES ('between')", label="other")
        message.execute("INSERT INTO t VALUES ('behind')")
    assert values(canister) == ["before", "between", "behind"]
    first, last = (it.message for it in message.replies)
    assert (last.continues, last.index) == (first.index, first.index + 3)


def test_a_trap_behind_an_await_leaves_what_others_did(canister):
    def body(message):
        message.execute("INSERT INTO t VALUES ('before')")
        with message.awaiting():
            canister.update("INSERT INTO t VALUES ('between')")
        message.execute("INSERT INTO t VALUES ('behind')")
        message.trap()

    refused(Trap, canister, body)
    assert values(canister) == ["before", "between"]


def test_a_message_that_fails_meanwhile_is_an_awaited_call_that_failed(canister):
    with canister.message() as message:
        message.execute("INSERT INTO t VALUES ('pending')")
        try:
            with message.awaiting(), canister.message() as other:
                other.trap("no")
        except Trap:
            message.execute("DELETE FROM t")
    assert values(canister) == []
    assert message.reply.outcome == "committed"

    def body(message):
        message.execute("INSERT INTO t VALUES ('pending')")
        with message.awaiting():
            canister.update("nonsense")

    message = refused(SqlError, canister, body)
    assert [it.outcome for it in message.replies] == ["committed", "trapped"]
    assert values(canister) == ["pending"]


def test_a_call_that_is_cut_off_while_it_awaits_does_not_go_on(canister):
    def body(message):
        message.execute("INSERT INTO t VALUES ('before')")
        with message.awaiting():
            raise KeyboardInterrupt

    message = refused(KeyboardInterrupt, canister, body)
    assert [it.outcome for it in message.replies] == ["committed"]
    assert message.reply is not None
    canister.stop()
    canister.start()
    assert values(canister) == ["before"]


def test_a_task_that_is_cancelled_while_its_call_awaits_does_not_go_on(canister):
    async def call():
        with canister.message() as message:
            message.execute("INSERT INTO t VALUES ('before')")
            with message.awaiting():
                await asyncio.sleep(60)
            message.execute("INSERT INTO t VALUES ('behind')")

    async def late():
        await asyncio.wait_for(call(), 0.001)

    with pytest.raises(TimeoutError):
        asyncio.run(late())
    assert values(canister) == ["before"]


def test_messages_may_await_inside_of_each_other_and_crosswise(canister):
    with canister.message() as one:
        one.execute("INSERT INTO t VALUES ('one')")
        with one.awaiting(), canister.message() as two:
            two.execute("INSERT INTO t VALUES ('two')")
            with two.awaiting():
                canister.update("INSERT INTO t VALUES ('three')")
            two.execute("INSERT INTO t VALUES ('two again')")
        one.execute("INSERT INTO t VALUES ('one again')")
    assert values(canister) == ["one", "two", "three", "two again", "one again"]
    first, second = canister.message(), canister.message()
    with ExitStack() as stack:
        stack.enter_context(first)
        pauses = [first.awaiting()]
        pauses[0].__enter__()
        stack.enter_context(second)
        pauses.append(second.awaiting())
        pauses[1].__enter__()
        pauses[0].__exit__(None, None, None)
        first.execute("INSERT INTO t VALUES ('first goes on')")
        first.__exit__(None, None, None)
        pauses[1].__exit__(None, None, None)
        second.execute("INSERT INTO t VALUES ('second goes on')")
    assert values(canister)[-2:] == ["first goes on", "second goes on"]


def test_tasks_of_asyncio_take_turns_at_their_awaits(canister):
    """No task goes on before all have asked."""

    async def call(name, all_asked):
        with canister.message(label=name) as message:
            message.execute("INSERT INTO t VALUES (?)", (f"{name} asks",))
            with message.awaiting():
                await all_asked.wait()
            message.execute("INSERT INTO t VALUES (?)", (f"{name} goes on",))
        return message

    async def together():
        all_asked = asyncio.Barrier(3)
        return await asyncio.gather(*(call(it, all_asked) for it in ("ada", "ben", "cleo")))

    messages = asyncio.run(together())
    assert values(canister)[:3] == ["ada asks", "ben asks", "cleo asks"]
    assert sorted(values(canister)[3:]) == ["ada goes on", "ben goes on", "cleo goes on"]
    for message in messages:
        first, last = (it.message for it in message.replies)
        assert (last.continues, last.label) == (first.index, first.label)


def test_a_task_that_waits_inside_of_a_message_is_told_where_to_wait(canister):
    async def holds():
        with canister.message() as message:
            message.execute("INSERT INTO t VALUES (1)")
            await asyncio.sleep(0)

    async def sends():
        canister.update("INSERT INTO t VALUES (2)")

    async def both():
        return await asyncio.gather(holds(), sends(), return_exceptions=True)

    _, error = asyncio.run(both())
    assert isinstance(error, MessageError)
    assert "let others run where it awaits (message.awaiting)" in str(error)
    assert values(canister) == [1]


def test_other_threads_come_first_at_an_await(canister):
    is_waiting = threading.Event()

    def send():
        with Watched(canister, is_waiting) as message:
            message.execute("INSERT INTO t VALUES ('thread')")

    with canister.message() as message:
        message.execute("INSERT INTO t VALUES ('before')")
        thread = threading.Thread(target=send)
        thread.start()
        is_waiting.wait()
        queue_up(canister, 2)
        message.commit_point()
        message.execute("INSERT INTO t VALUES ('behind')")
    thread.join()
    assert values(canister) == ["before", "thread", "behind"]


class Watched:
    """A message that says when it is about to take its turn."""

    def __init__(self, canister, about_to_wait):
        self.message, self.about_to_wait = canister.message(), about_to_wait

    def __enter__(self):
        self.about_to_wait.set()
        return self.message.__enter__()

    def __exit__(self, *error):
        return self.message.__exit__(*error)


def queue_up(canister, tickets):
    """Wait until so many blocks have their place in the queue."""
    while len(canister._life.turns._tickets) < tickets:
        time.sleep(0.001)


# -- what is refused, and changes nothing ---------------------------------------------------------


@pytest.mark.parametrize(
    ("statements", "text"),
    [
        (("BEGIN", "INSERT INTO t VALUES (2)"), "an open SQL transaction"),
        (("SAVEPOINT s",), "an open SQL transaction"),
    ],
)
def test_an_open_transaction_is_refused_with_the_reason(canister, statements, text):
    with canister.message() as message:
        message.execute("INSERT INTO t VALUES (1)")
        for sql in statements:
            message.execute(sql)
        number = canister.message_count
        with pytest.raises(MessageError, match=f"cannot await with {text}; nothing has happened"):
            message.commit_point()
        with pytest.raises(MessageError, match="COMMIT before the await, with a row that says"):
            message.awaiting().__enter__()
        assert (canister.message_count, message.replies) == (number, ())
        message.execute("COMMIT")
        message.commit_point()
        assert len(message.replies) == 1
    assert count(canister) == len(statements)


def test_an_open_cursor_is_refused_even_where_a_transaction_is_allowed(canister):
    canister.update("INSERT INTO t VALUES (1), (2)")
    with canister.message(allow_open_transaction=True) as message:
        cursor = message.cursor("SELECT x FROM t")
        assert next(cursor) == (1,)
        with pytest.raises(MessageError, match=r"cannot await with 1 open cursor\(s\)"):
            message.commit_point()
        assert next(cursor) == (2,)
        cursor.close()
        message.commit_point()


def test_a_query_has_no_commit_point(canister):
    with canister.message("query") as message:
        message.execute(COUNT)
        with pytest.raises(MessageError, match="a query has no commit point"):
            message.commit_point()
        assert message.execute(COUNT) == [(0,)]
    assert len(message.replies) == 1


def test_outside_of_its_block_a_message_cannot_await(canister):
    message = canister.message()
    with pytest.raises(MessageError, match="not open; use it inside its with block"):
        message.commit_point()
    with message:
        pass
    with pytest.raises(MessageError, match="not open; use it inside its with block"):
        message.commit_point()
    assert len(message.replies) == 1


def test_after_a_trap_there_is_no_commit_point(canister):
    before = canister.image()

    def body(message):
        message.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(Trap):
            message.trap("no")
        message.commit_point()

    refused(Trap, canister, body, "no")
    assert canister.image() == before


def test_two_awaits_in_a_row_are_two_messages_as_on_the_internet_computer(canister):
    with canister.message() as message:
        message.execute("INSERT INTO t VALUES (1)")
        message.commit_point()
        message.commit_point()
    assert [len(it.statements) for it in message.replies] == [1, 0, 0]
    assert count(canister) == 1


def test_another_thread_cannot_await_for_a_message(canister):
    with canister.message() as message:
        message.execute("INSERT INTO t VALUES (1)")
        assert "the thread that began it" in str(error_in_thread(message.commit_point))
        block = message.awaiting()
        with block:
            error = error_in_thread(lambda: block.__exit__(None, None, None))
            assert "goes on in the thread that began it" in str(error)
        message.execute("INSERT INTO t VALUES (2)")
    assert count(canister) == 2


def error_in_thread(act):
    caught = []

    def run():
        try:
            act()
        except MessageError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return caught[0]


def test_a_message_that_awaits_is_not_used(canister):
    with canister.message() as message:
        with message.awaiting():
            for act in (
                lambda: message.execute("SELECT 1"),
                lambda: message.executemany("INSERT INTO t VALUES (?)", [(1,)]),
                message.commit_point,
                message.trap,
            ):
                with pytest.raises(MessageError, match="the message awaits; it goes on behind"):
                    act()
            with pytest.raises(MessageError, match="no reply yet"):
                _ = message.reply
        message.execute("INSERT INTO t VALUES (1)")
    assert count(canister) == 1


def test_statements_and_windows_in_progress_cannot_await(canister):
    def rows(message):
        yield (1,)
        message.commit_point()

    with canister.message() as message:
        with pytest.raises(MessageError, match="inside of a statement or a window"):
            message.executemany("INSERT INTO t VALUES (?)", rows(message))
        with (
            pytest.raises(MessageError, match="inside of a statement or a window"),
            message.window("backup"),
        ):
            message.commit_point()
        message.execute("DELETE FROM t")
        message.commit_point()


def test_a_function_that_sql_calls_cannot_await():
    held = []
    caught = []

    def awaits():
        try:
            held[0].execute("SELECT 1")
            held[0].commit_point()
        except MessageError as error:
            caught.append(str(error))

    def setup(connection: apsw.Connection) -> None:
        connection.create_scalar_function("awaits", awaits, 0)

    with Canister() as canister:
        canister.on_connect(setup)
        canister.update("CREATE TABLE t (x)")
        with canister.message() as message:
            held.append(message)
            message.execute("INSERT INTO t SELECT awaits()")
        assert "inside of a statement" in caught[0]
        assert len(message.replies) == 1


@pytest.mark.parametrize("step", ["upgrade", "reinstall"])
def test_a_message_does_not_go_on_in_another_heap(canister, step):
    def body(message):
        message.execute("INSERT INTO t VALUES (1)")
        with message.awaiting():
            getattr(canister, step)()

    message = refused(
        Trap, canister, body, "got other code or another heap while message 2 awaited"
    )
    assert [it.outcome for it in message.replies] == ["committed", "trapped"]
    assert canister.query("SELECT count(*) FROM sqlite_schema").rows == [(step == "upgrade",)]


def test_a_heap_that_is_kept_has_other_code_all_the_same(canister):
    code = sqlstable.Hooks(keeps_heap=True)

    def body(message):
        with message.awaiting():
            canister.upgrade(hooks=code, wasm_memory_persistence="keep")

    refused(Trap, canister, body, "got other code or another heap while message 2 awaited")


def test_a_canister_stops_when_nothing_awaits(canister):
    with canister.message() as message:
        with (
            message.awaiting(),
            pytest.raises(MessageError, match="1 message awaiting, and a canister stops when"),
        ):
            canister.stop()
        message.execute("INSERT INTO t VALUES (1)")
    canister.stop()
    canister.upgrade()
    canister.start()
    assert count(canister) == 1


def test_a_hook_cannot_await(canister):
    refusals, messages = [], []

    def hook(it):
        for act in (it.commit_point, it.awaiting, messages[0].commit_point, messages[0].execute):
            try:
                act(*["SELECT 1"] * (act == messages[0].execute))
            except MessageError as error:
                refusals.append(str(error))
        it.execute("INSERT INTO t VALUES ('hook')")

    def body(message):
        messages.append(message)
        with message.awaiting():
            canister.upgrade(hooks=sqlstable.Hooks(post_upgrade=hook))

    refused(Trap, canister, body, "got other code")
    assert [it[:20] for it in refusals] == [
        *["the hook post_upgrad"] * 2,
        *["the message awaits; "] * 2,
    ]
    assert values(canister) == ["hook"]


def test_a_closed_canister_does_not_go_on():
    canister = Canister()

    def body(message):
        with message.awaiting():
            canister.close()

    message = refused(MessageError, canister, body, "the canister is closed")
    assert len(message.replies) == 1


def test_a_message_left_while_it_awaits_is_over(canister):
    message = canister.message()
    message.__enter__()
    message.execute("INSERT INTO t VALUES (1)")
    block = message.awaiting()
    block.__enter__()
    with pytest.raises(MessageError, match="left while it awaits; what it had committed stays"):
        message.__exit__(None, None, None)
    with pytest.raises(MessageError, match="the message that awaited is over"):
        block.__exit__(None, None, None)
    assert count(canister) == 1
    assert not canister._life.awaiting


def test_what_a_message_continues_is_one_that_has_ended(canister):
    for wrong in (-1, canister.message_count):
        with pytest.raises(MessageError, match="must be the index of a message that has ended"):
            canister.message(continues=wrong)


# -- on request -----------------------------------------------------------------------------------


def test_a_transaction_may_stay_open_over_an_await_on_request(canister):
    with canister.message(allow_open_transaction=True) as message:
        message.execute("BEGIN; INSERT INTO t VALUES ('first')")
        message.commit_point()
        message.execute("INSERT INTO t VALUES ('second'); COMMIT")
    assert values(canister) == ["first", "second"]
    canister.update("BEGIN; INSERT INTO t VALUES ('third')", allow_open_transaction=True)
    canister.update("COMMIT")
    assert count(canister) == 3
    with pytest.raises(MessageError, match="ended with an open SQL transaction"):
        canister.update("BEGIN; INSERT INTO t VALUES ('fourth')")


# -- what reports say -----------------------------------------------------------------------------


def test_reports_say_which_messages_are_one_call(canister):
    with canister.message(label="pay") as message:
        message.execute("INSERT INTO t VALUES (1)")
        with message.awaiting():
            canister.update("INSERT INTO t VALUES (2)")
        message.execute("INSERT INTO t VALUES (3)")
    with canister.trace() as trace:
        assert [it.continues for it in trace.messages] == [None, None, None, None, 2]
        assert [it["continues"] for it in document(trace)["messages"]] == [None] * 4 + [2]
        rows = list(csv.DictReader(render_csv(trace, by="message").splitlines()))
        assert [it["continues"] for it in rows] == ["", "", "", "", "2"]
        for by in ("statement", "message"):
            assert "continues message 2" in render_table(trace, by=by, width=120)
        assert trace.messages_frame()["continues"].tolist()[4] == 2
    assert "continues message 2" in message.reply._repr_html_()


# -- a heap that goes, with a transaction in it ---------------------------------------------------


@pytest.mark.parametrize("journal_mode", hazard.JOURNALS)
@pytest.mark.parametrize("size", hazard.CACHES)
def test_both_engines_lose_an_open_transaction_in_the_same_way(journal_mode, size):
    images = []
    for engine in ENGINES:
        with hazard.bank(engine, journal_mode, size) as canister:
            canister.update(f"BEGIN; {hazard.INTEREST}", allow_open_transaction=True)
            canister.update(hazard.PAYMENT, allow_open_transaction=True)
            canister.upgrade()
            images.append(without_journals(canister.image()))
    assert images[0] == images[1]


@pytest.mark.parametrize("engine", ENGINES)
def test_what_remains_of_a_transaction_goes_by_journal_and_cache(engine):
    for found in hazard.hazards(engine):
        of, kept = found.remains, (0, 0, "ok")
        facts = {ending: (it.changed, it.paid, it.check) for ending, it in of.items()}
        has_file = found.journal_mode in ("delete", "truncate", "persist")
        if found.size == "fits" or has_file:
            assert facts["trap and upgrade"] == facts["ROLLBACK"] == kept
        else:
            assert 0 < of["trap and upgrade"].changed < hazard.ROWS
            assert of["trap and upgrade"].check != "ok"
            assert (facts["ROLLBACK"] == kept) == (found.journal_mode == "memory")
        if engine == "wasm":
            # The heap comes back, and with it the transaction, in which all others are now.
            assert of["trap"] == Remains(hazard.ROWS, 1, "ok", is_open=True)
            assert found.seen == hazard.ROWS
        else:
            assert facts["trap"] == facts["trap and upgrade"]
            assert not of["trap"].is_open
        # Nothing keeps what the other message was told is there.
        assert not any(it.is_whole for name, it in of.items() if name != "trap")


def test_a_later_update_is_told_of_the_transaction_and_may_end_it(canister):
    canister.update("BEGIN; INSERT INTO t VALUES ('one')", allow_open_transaction=True)
    assert canister.query(COUNT, cache="warm").rows == [(1,)]
    with pytest.raises(MessageError, match="which an earlier message had left open; it was rolled"):
        canister.update("INSERT INTO t VALUES ('two')")
    if canister.machine.name == "wasm":
        canister.update("ROLLBACK")
    canister.update("INSERT INTO t VALUES ('three')")
    assert values(canister) == ["three"]


def test_closing_is_no_rollback_either(tmp_path):
    path = tmp_path / "bank.stable"
    for journal_mode, expected in (("delete", (0, "ok")), ("memory", (380, "damaged"))):
        with Canister(path, journal_mode=journal_mode, cache_size=10) as canister:
            canister.update(hazard.SCHEMA)
            with canister.message() as message, message.transaction():
                message.executemany(hazard.FILL, [(it,) for it in range(1, hazard.ROWS + 1)])
            canister.update(f"BEGIN; {hazard.INTEREST}", allow_open_transaction=True)
        with Canister(path, journal_mode=journal_mode, cache_size=10) as canister:
            found = hazard.look(canister)
        assert (found.changed, "ok" if found.check == "ok" else "damaged") == expected
        path.unlink()
