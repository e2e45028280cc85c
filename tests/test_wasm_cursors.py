"""Cursors that stay open inside a message, and texts that run for many rows, on both engines."""

import sys
from contextlib import closing

import pytest

from sqlstable import Canister, MessageError, SqlError, Trap
from tests.doors import series

SETUP = (
    "CREATE TABLE t (id INTEGER PRIMARY KEY, a)",
    f"INSERT INTO t SELECT i, printf('%.200c', 'x') FROM {series(300)}",
    "CREATE TABLE u (x)",
)


def made(engine, **options):
    canister = Canister(engine=engine, cache_size=12, bucket_pages=1, **options)
    for sql in SETUP:
        canister.update(sql)
    return canister


def interleaved(message):
    """Statements that run while others stand at a row."""
    found = []
    outer = message.cursor("SELECT id FROM t WHERE id > ?", (20,))
    found.append(next(outer))
    message.execute("INSERT INTO u VALUES (1)")
    message.execute("UPDATE t SET a = 'q' WHERE id BETWEEN 22 AND 30")
    found.append(next(outer))
    for row in message.cursor("SELECT id, a FROM t ORDER BY id LIMIT 30"):
        found += [row, next(outer)]
    outer.close()
    with closing(message.cursor("DELETE FROM t WHERE id > 250 RETURNING id")) as some:
        found.append(next(some))
    found.append(message.execute("SELECT count(*) FROM t"))
    found.append(list(message.cursor("SELECT 1; SELECT 2 UNION SELECT 3")))
    found.append(list(message.cursor("SELECT :a, random() = random()", {"a": "named"})))
    found.append(list(message.cursor("-- nothing")))
    return found


def for_many_rows(message):
    """A text of several statements, for each row."""
    sql = "INSERT INTO u VALUES (?); INSERT INTO u SELECT x + ? FROM u WHERE x = ?; SELECT 7 FROM u"
    found = [message.executemany(sql, [(1, 2, 1), (3, 4, 3), (5, 6, 5)])]
    sql = "INSERT INTO u VALUES (:a); SELECT :b"
    found.append(message.executemany(sql, [{"a": 1, "b": b"x"}, {"a": 2, "b": None}]))
    return found


@pytest.mark.parametrize("depth", ["pages", "counters"])
@pytest.mark.parametrize("run", [interleaved, for_many_rows])
def test_both_engines_do_and_record_the_same(run, depth):
    seen = []
    for engine in ("native", "wasm"):
        with made(engine, depth=depth) as canister:
            with canister.message() as message:
                rows = run(message)
            reply = message.reply
            told = [
                (one.sql, one.kind, one.row_count, one.runs, one.plan, one.stable, one.phases)
                for one in reply.statements
            ]
            pages = reply.footprint.accessed.tolist(), reply.footprint.dirty.tolist()
            seen.append((rows, pages, reply.message.stable, told, canister.image()))
    for native, wasm in zip(*seen, strict=True):
        assert wasm == native
    spent = [one.instructions for one in reply.statements]
    assert all(one.computation > 0 for one in spent)
    assert sum(one.total for one in spent) <= reply.message.instructions.total


def test_a_cursor_goes_with_its_message_and_its_errors_are_sqlites():
    with made("wasm") as canister:
        message = canister.message()
        with pytest.raises(MessageError, match=r"1 open cursor\(s\)"), message:  # noqa: PT012
            cursor = message.cursor("SELECT id FROM t")
            next(cursor)
        assert list(cursor) == []
        cursor.close()
        with canister.message() as message:
            cursor = message.cursor("SELECT iif(id < 3, id, json(id || '{')) FROM t")
            assert next(cursor) == (1,)
            assert next(cursor) == (2,)
            with pytest.raises(SqlError, match="malformed JSON"):
                next(cursor)
            with pytest.raises(SqlError, match="no such table"):
                message.cursor("SELECT * FROM missing")
            with pytest.raises(
                SqlError, match="2 parameters, and 1 of the 1 values given are left"
            ):
                message.cursor("SELECT ?, ?", (1,))
            with pytest.raises(SqlError) as caught:
                message.executemany("INSERT INTO u VALUES (?); SELECT nope", [(1,), (2,)])
            assert caught.value.row == 1
            assert message.execute("SELECT count(*) FROM u") == [(1,)]
        with pytest.raises(Trap), canister.message() as message:  # noqa: PT012
            for _ in message.cursor("SELECT id FROM t"):
                message.execute("DELETE FROM t WHERE id > 9")
                message.trap()
        assert canister.query("SELECT count(*) FROM t").rows == [(300,)]


def test_a_step_that_is_cut_off_takes_no_call_of_later_messages():
    def at_call(frame, _event, _arg):
        return at_line if frame.f_code.co_name == "_send_cursor" else None

    def at_line(frame, _event, _arg):
        # The first line behind the one that names the cursor.
        if frame.f_locals["self"]._stepped is not None:
            raise KeyboardInterrupt
        return at_line

    def cut_off():
        with canister.message() as message:
            before = sys.gettrace()
            sys.settrace(at_call)
            try:
                message.cursor("SELECT id FROM t")
            finally:
                sys.settrace(before)

    with made("wasm", trace=":memory:") as canister:
        with pytest.raises(KeyboardInterrupt):
            cut_off()
        canister.update("INSERT INTO u VALUES (1); INSERT INTO u VALUES (2)")
        canister.update("INSERT INTO u VALUES (3)")
        told = [each.sql for each in canister.trace().statements[-3:]]
    assert told == [f"INSERT INTO u VALUES ({number})" for number in (1, 2, 3)]
