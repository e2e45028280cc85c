"""Requests, replies and settings: exact round trips, against a second reading of the layouts."""

import math
import struct
from contextlib import suppress

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlstable import SettingsError, SqlError
from sqlstable.database.settings import resolve_settings
from sqlstable.engine.measured.codec import (
    ReplyReader,
    decode_reply,
    encode_many,
    encode_request,
    encode_settings,
)
from sqlstable.errors import ModuleError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
VALUES = st.one_of(
    st.none(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(),
    TEXTS,
    st.binary(max_size=20),
)
PARAMS = st.one_of(st.lists(VALUES, max_size=5), st.dictionaries(NAMES, VALUES, max_size=5))


def exact(value):
    """A form in which equal means the same type and the same bits."""
    return struct.pack("<d", value) if isinstance(value, float) else value, type(value)


# -- a second reading of requests, and a writer of replies, as the module has them ----------------


class Walk:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, form):
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values[0]

    def counted(self):
        length = self.take("I")
        self.at += length
        return bytes(self.data[self.at - length : self.at])

    def value(self):
        kind = self.take("B")
        if kind == 0:
            return None
        if kind == 1:
            return self.take("q")
        if kind == 2:
            return self.take("d")
        return self.counted().decode() if kind == 3 else self.counted()

    def row(self):
        kind, count = self.take("B"), self.take("I")
        if kind == 1:
            return [self.value() for _ in range(count)]
        return {self.counted().decode(): self.value() for _ in range(count)}


def read_request(data):
    walk = Walk(data)
    flags = walk.take("I")
    key = walk.counted() if flags & 8 else None
    sql = walk.counted().decode()
    rows = [walk.row() for _ in range(walk.take("I"))]
    assert walk.at == len(data)
    return flags, key, sql, rows


def number(value):
    low, high = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + number(high) if high else bytes([low])


def signed(value):
    return number(2 * value if value >= 0 else -2 * value - 1)


def counted(data):
    return number(len(data)) + data


def written(value):
    if value is None:
        return b"\0"
    if isinstance(value, int):
        for kind, form in ((6, "b"), (7, "h"), (8, "i"), (1, "q")):
            bound = 1 << 8 * struct.calcsize(form) - 1
            if -bound <= value < bound:
                return struct.pack("<B" + form, kind, value)
    if isinstance(value, float):
        return struct.pack("<Bd", 2, value)
    if isinstance(value, str):
        return b"\3" + counted(value.encode())
    return b"\4" + counted(value)


def statement_record(columns, names=None):
    head = bytes([1]) + number(0) + number(800) + number(2) + number(columns)
    bits = 1 | 2 * 2 | 8 * (names is not None)
    return head + bytes([bits]) + b"".join(counted(name.encode()) for name in names or ())


def end_record(rows, *, counters=None):
    head = bytes([3]) + number(1) + number(rows) + signed(7) + signed(-(1 << 63))
    return head + bytes([counters is not None]) + b"".join(map(number, counters or ()))


FINISH = bytes([6, 1 | 2 * 2]) + number(0) + number(9) + number(8192) + number((1 << 64) - 1)


# -- requests -------------------------------------------------------------------------------------


@given(NAMES, PARAMS, st.booleans(), st.booleans(), st.none() | st.binary(max_size=8))
def test_a_request_holds_what_was_given(sql, params, names, cold, key):
    data = encode_request(sql, params, names=names, cold=cold, key=key)
    flags, found_key, found_sql, rows = read_request(data)
    assert (found_sql, found_key) == (sql, key)
    assert flags == names + 2 * cold + 8 * (key is not None)
    assert len(rows) == 1
    if isinstance(params, dict):
        assert list(rows[0]) == list(params)
        assert list(map(exact, rows[0].values())) == list(map(exact, params.values()))
    else:
        assert list(map(exact, rows[0])) == list(map(exact, params))


@given(st.lists(PARAMS, max_size=4))
def test_a_request_holds_many_rows(rows):
    data = encode_many("x", iter(rows), counters=True)
    if not rows:
        assert data is None
        return
    flags, _, _, found = read_request(data)
    assert flags == 16
    assert len(found) == len(rows)
    for row, expected in zip(found, rows, strict=True):
        assert isinstance(row, dict) == isinstance(expected, dict)
        assert len(row) == len(expected)


def test_buffers_booleans_and_blobs_of_zeros_are_values():
    data = encode_request("", (True, bytearray(b"a"), memoryview(b"b"), apsw.zeroblob(5)))
    assert data.endswith(
        struct.pack("<Bq", 1, 1) + b"\4\1\0\0\0a" + b"\4\1\0\0\0b" + struct.pack("<Bq", 5, 5)
    )


@pytest.mark.parametrize(
    ("sql", "params", "message"),
    [
        ("select 1\0", None, "the SQL has a NUL character, at 8"),
        ("\ud800", None, "the SQL is not to be had in UTF-8"),
        ("", (1 << 63,), "parameter 1 is 9223372036854775808; SQLite's integers have 64 bits"),
        ("", {"a": -(1 << 63) - 1}, "parameter a is -9223372036854775809"),
        ("", (1, [2]), "parameter 2 is of type list; SQLite takes None, int, float, str"),
        ("", ("\ud800",), "parameter 1 is not to be had in UTF-8"),
    ],
)
def test_what_sqlite_cannot_take_is_refused(sql, params, message):
    with pytest.raises(SqlError, match=message.replace("(", r"\(")):
        encode_request(sql, params)


# -- replies --------------------------------------------------------------------------------------


@given(
    st.integers(0, 4).flatmap(
        lambda columns: st.lists(
            st.lists(VALUES, min_size=columns, max_size=columns), min_size=columns > 0, max_size=6
        ).map(lambda rows: (columns, rows))
    ),
    st.data(),
)
def test_rows_arrive_exactly_however_they_are_cut(table, data):
    columns, rows = table
    stream = statement_record(columns, names=[f"c{i}" for i in range(columns)])
    for row in rows:
        stream += b"\2" + b"".join(map(written, row))
    stream += end_record(len(rows), counters=range(9)) + FINISH
    reader = ReplyReader()
    at = 0
    while at < len(stream):
        size = data.draw(st.integers(1, len(stream)))
        reader.feed(stream[at : at + size])
        at += size
    reply = reader.finish()
    assert [list(map(exact, row)) for row in reply.rows] == [list(map(exact, row)) for row in rows]
    (statement,) = reply.statements
    assert statement.facts.column_names == tuple(f"c{i}" for i in range(columns))
    assert (statement.runs, statement.changes, statement.last_rowid) == (1, 7, -(1 << 63))
    facts = statement.facts
    assert (facts.begin, facts.end, facts.parameter_count, facts.column_count) == (
        *(0, 800, 2, columns),
    )
    assert (facts.is_readonly, facts.explain) == (True, 2)
    assert statement.counters.vm_steps == 0
    assert statement.counters.cache_spills == 8
    finish = reply.finish
    assert (finish.is_autocommit, finish.txn_state, finish.total_changes) == (True, 2, 9)
    assert (finish.database_bytes, finish.heap_bytes) == (8192, (1 << 64) - 1)


def test_every_nan_keeps_its_bits():
    bits = 0x7FF0_0000_0000_0001
    row = b"\2\2" + struct.pack("<Q", bits)
    reply = decode_reply([statement_record(1), row, end_record(1), FINISH])
    (value,) = reply.rows[0]
    assert math.isnan(value)


def test_an_error_is_a_record():
    error = bytes([4]) + number(19) + number(2067) + number(0)
    error += counted(b"UNIQUE constraint failed")
    failure = decode_reply([statement_record(0), end_record(0), error, FINISH]).failure
    assert (failure.code, failure.extended_code, failure.offset) == (19, 2067, -1)
    assert failure.message == "UNIQUE constraint failed"


def test_text_that_is_not_utf_8_is_an_sql_error():
    row = b"\2\3" + counted(b"a\xff")
    with pytest.raises(SqlError, match="the text in column 0 of row 0 is not UTF-8"):
        decode_reply([statement_record(1), row])


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([], "cut off"),
        ([FINISH[:-1]], "cut off: its end is missing, and 15 bytes are left"),
        ([b"\6\1" + b"\x80" * 10], "a number of the reply has more than 10 bytes"),
        ([FINISH, FINISH], "a record of kind 6 follows the last one"),
        ([b"\x09"], "the reply has a record of kind 9"),
        ([b"\2"], "a record of kind 2 comes before any statement"),
        ([statement_record(1), b"\2\x09" + bytes(8)], "row 0 has a value of type 9"),
        ([statement_record(1), end_record(3)], "3 rows were sent, and 0 arrived"),
    ],
)
def test_what_is_no_reply_is_refused(chunks, message):
    with pytest.raises(ModuleError, match=message):
        decode_reply(chunks)


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_any_bytes_give_a_reply_or_a_clear_error(chunks):
    with suppress(ModuleError, SqlError):
        decode_reply(chunks)


# -- settings -------------------------------------------------------------------------------------


def test_settings_have_their_places():
    settings = resolve_settings(
        page_size=8192,
        cache_size=77,
        layout="managed",
        bucket_pages=9,
        growth="wasm-page",
        journal_mode="off",
        foreign_keys=True,
    )
    data = encode_settings(settings, now_ms=1 << 40, name="ü.db", is_foreign=True)
    head = struct.unpack_from("<10Iq", data)
    assert head == (1, 8192, 77, 0, 9, 1, 1, 1, 1, 5, 1 << 40)
    assert data[48:] == "ü.db".encode()


def test_further_files_come_behind_the_name():
    data = encode_settings(resolve_settings(journal_mode="persist"), now_ms=1, files=b"records")
    assert struct.unpack_from("<I20xI", data) == (4, 4)
    assert data[48:] == b"main.dbrecords"


@pytest.mark.parametrize("name", ["", "x" * 255, "a\0b"])
def test_names_that_do_not_fit_are_refused(name):
    with pytest.raises(SettingsError, match="the name of the database has"):
        encode_settings(resolve_settings(), now_ms=1, name=name)
