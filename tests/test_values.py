"""Values to bind, and texts that cannot be: the same on both engines, converted or refused."""

import enum
import fractions
import subprocess
import sys
from collections import ChainMap, OrderedDict, UserString, deque
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import NamedTuple
from uuid import UUID

import apsw
import numpy as np
import pytest

from sqlstable import Canister, SettingsError, SqlError, StableMemory
from sqlstable.database.values import bindable
from tests.children import run_python

ENGINES = ("native", "wasm")


@pytest.fixture(scope="module")
def canisters():
    opened = {engine: Canister(engine=engine) for engine in ENGINES}
    for canister in opened.values():
        canister.update("CREATE TABLE t (x)")
    yield opened
    for canister in opened.values():
        canister.close()


class Grade(enum.IntEnum):
    GOOD = 1


class Colour(enum.StrEnum):
    RED = "red"


class Plain(enum.Enum):
    ONE = 1


class Odd(int):
    """A number that says something else of itself."""

    def __int__(self):
        return 99

    def __add__(self, other):
        return 99


class Text(str):
    __slots__ = ()

    def __str__(self):
        return "other"


class Bytes(bytes):
    def __bytes__(self):
        return b"other"


class Half(float):
    def __float__(self):
        return 99.0


class Pair(NamedTuple):
    a: int
    b: int


class NAType:
    """As pandas' NA is called, which need not be there."""

    def __bool__(self):
        raise TypeError


class NaTType(datetime):
    """As pandas' NaT is: a datetime that is none."""


class Iterables:
    """Gives its values anew each time."""

    def __iter__(self):
        return iter((1, 2))


class Broken:
    def __iter__(self):
        return 5


def boxed(value):
    """An array without dimensions around an object."""
    box = np.empty((), dtype=object)
    box[()] = value
    return box


MOMENT = datetime.fromisoformat("2024-02-29 12:30:05.250")
CONVERTED = [
    *((None, None), (1, 1), (1.5, 1.5), ("x", "x"), (b"x", b"x"), ("", ""), (b"", b"")),
    *((True, 1), (False, 0), (-(2**63), -(2**63)), (2**63 - 1, 2**63 - 1)),
    *((float("inf"), float("inf")), (float("nan"), None), ("a\0b", "a\0b"), ("\U0001f4a9", "💩")),
    *((Grade.GOOD, 1), (Colour.RED, "red"), (Odd(5), 5), (Text("own"), "own")),
    *((Bytes(b"own"), b"own"), (Half(0.5), 0.5)),
    *((kind(3), 3) for kind in (np.int8, np.int16, np.int32, np.int64, np.intc)),
    *((kind(3), 3) for kind in (np.uint8, np.uint16, np.uint32, np.uint64)),
    *((kind(0.5), 0.5) for kind in (np.float16, np.float32, np.float64, np.longdouble)),
    *((np.bool_(1), 1), (np.str_("x"), "x"), (np.bytes_(b"x"), b"x"), (np.float64("nan"), None)),
    *((np.arange(3).max(), 2), (np.array([1.5])[0], 1.5)),
    *((np.array(one), one) for one in (5, 1.5, "x", b"x")),
    *((np.array(None, dtype=object), None), (np.array(date(2024, 2, 29)), "2024-02-29")),
    *((np.array("NaT", "datetime64"), None), (np.ma.array(5, mask=False), 5)),
    *((np.ma.masked, None), (np.ma.array(5, mask=True), None)),
    *((np.datetime64("2024-02-29"), "2024-02-29"), (np.datetime64("NaT"), None)),
    (np.datetime64("2024-02-29T12:30:05.250000000"), "2024-02-29 12:30:05.25"),
    (np.datetime64("2024-02-29T12:30"), "2024-02-29 12:30"),
    *((np.timedelta64("NaT"), None), (NAType(), None), (NaTType(2024, 1, 1), None)),
    *((date(2024, 2, 29), "2024-02-29"), (time(12, 30), "12:30:00")),
    (MOMENT, "2024-02-29 12:30:05.250000"),
    (MOMENT.replace(tzinfo=UTC), "2024-02-29 12:30:05.250000+00:00"),
    (datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2))), "2024-01-01 00:00:00+02:00"),
    *((bytearray(b"x"), b"x"), (memoryview(b"xyz")[::2], b"xz"), (apsw.zeroblob(3), bytes(3))),
    (memoryview(np.arange(2, dtype="<i2")), b"\0\0\1\0"),
    *((Path("a/b"), "a/b"), (PurePosixPath("/x"), "/x")),
]


def released():
    view = memoryview(b"x")
    view.release()
    return view


REFUSED = [
    (2**63, "is 9223372036854775808; SQLite's integers have 64 bits, up to 9223372036854775807: b"),
    (-(2**63) - 1, "is -9223372036854775809; SQLite's integers have 64 bits"),
    (10**5000, "is a number of 16610 bits; SQLite's integers have 64 bits"),
    (np.uint64(2**63), "is 9223372036854775808; SQLite's integers have 64 bits"),
    ("\ud800", "is not to be had in UTF-8: 'utf-8' codec can't encode character '\\ud800'"),
    (Decimal("0.1"), "is of type Decimal; SQLite takes None, int, float, str and bytes: bind str("),
    (UUID(int=1), "is of type UUID; SQLite takes None, int, float, str and bytes: bind str(value)"),
    (
        timedelta(1),
        "is of type timedelta; SQLite takes None, int, float, str and bytes: bind value",
    ),
    (np.timedelta64(1, "s"), "is of type timedelta64; SQLite takes None, int, float, str and byte"),
    (Plain.ONE, "is of type Plain; SQLite takes None, int, float, str and bytes: bind value.value"),
    (1j, "is of type complex; SQLite takes None, int, float, str and bytes: bind value.real and"),
    (np.complex128(1), "is of type complex128; SQLite takes None, int, float, str and bytes"),
    (np.void(b"x"), "is of type void; SQLite takes None, int, float, str and bytes"),
    (
        np.arange(3),
        "is of type ndarray; SQLite takes None, int, float, str and bytes: bind value.to",
    ),
    (
        np.array([5]),
        "is of type ndarray; SQLite takes None, int, float, str and bytes: bind value.",
    ),
    (boxed(np.arange(2)), "is of type ndarray; SQLite takes None, int, float, str and bytes: bind"),
    (boxed([1]), "is of type list; SQLite takes None, int, float, str and bytes: bind json.dumps"),
    ([1], "is of type list; SQLite takes None, int, float, str and bytes: bind json.dumps(value)"),
    (
        (1,),
        "is of type tuple; SQLite takes None, int, float, str and bytes: bind json.dumps(value)",
    ),
    ({"a": 1}, "is of type dict; SQLite takes None, int, float, str and bytes: bind json.dumps(va"),
    ({1}, "is of type set; SQLite takes None, int, float, str and bytes"),
    (object(), "is of type object; SQLite takes None, int, float, str and bytes"),
    (fractions.Fraction(1, 2), "is of type Fraction; SQLite takes None, int, float, str and bytes"),
    (UserString("x"), "is of type UserString; SQLite takes None, int, float, str and bytes"),
    (SimpleNamespace(), "is of type SimpleNamespace; SQLite takes None, int, float, str and byte"),
    (released(), "is a memoryview that cannot be read: operation forbidden on released"),
    (apsw.zeroblob(2**33), "is a blob of 8589934592 zeros; SQLite's longest has 1000000000 bytes"),
    (len, "is of type builtin_function_or_method; SQLite takes None"),
]


def outcome(call):
    """What a call gives: its rows, or the text of its refusal."""
    try:
        return call()
    except SqlError as error:
        return f"refused: {error}"


def both(canisters, call):
    native, wasm = (outcome(lambda c=canisters[engine]: call(c)) for engine in ENGINES)
    assert native == wasm
    return native


@pytest.mark.parametrize(
    ("value", "expected"), CONVERTED, ids=[type(one).__name__ for one, _ in CONVERTED]
)
def test_a_value_is_bound_as_a_person_expects(canisters, value, expected):
    def rows(canister):
        return canister.query("SELECT ?1, typeof(?1)", (value,)).rows

    ((found, kind),) = both(canisters, rows)
    assert (type(found), found) == (type(expected), expected)
    plain = canisters["native"].query("SELECT typeof(?)", (expected,)).rows
    assert plain == [(kind,)]
    assert both(canisters, lambda c: c.query("SELECT :a", {"a": value}).rows) == [(expected,)]
    assert both(canisters, lambda c: many(c, "SELECT ?", [(value,), (value,)])) == [(expected,)] * 2
    assert both(canisters, lambda c: stepped(c, "SELECT ?", (value,))) == [(expected,)]


def many(canister, sql, rows):
    with canister.message("query") as message:
        return message.executemany(sql, rows)


def stepped(canister, sql, params):
    with canister.message("query") as message:
        cursor = message.cursor(sql, params)
        try:
            return list(cursor)
        finally:
            cursor.close()


@pytest.mark.parametrize(
    ("value", "reason"), REFUSED, ids=[type(one).__name__ for one, _ in REFUSED]
)
def test_a_value_that_sqlite_does_not_know_is_refused_with_its_position(canisters, value, reason):
    sql = "SELECT ?, ?"
    text = both(canisters, lambda c: c.query(sql, (1, value)).rows)
    assert text.startswith(f"refused: parameter 2 {reason}")
    text = both(canisters, lambda c: c.query("SELECT :a", {"a": value}).rows)
    assert text.startswith(f"refused: parameter :a {reason}")
    text = both(canisters, lambda c: many(c, sql, iter([(1, 2), (3, 4), (value, 5)])))
    assert text.startswith("refused: parameter 1 of row 3 ")
    assert reason in text
    text = both(canisters, lambda c: stepped(c, sql, (value, 1)))
    assert text.startswith(f"refused: parameter 1 {reason}")


PARAMS = [
    ((1, 2), [(1, 2)]),
    ([1, 2], [(1, 2)]),
    (Pair(1, 2), [(1, 2)]),
    (deque((1, 2)), [(1, 2)]),
    (range(1, 3), [(1, 2)]),
    ((number for number in (1, 2)), None),
    (np.array([1, 2]), [(1, 2)]),
    ("ab", "refused: the parameters are of type str; give a tuple, such as (value,), or a dict"),
    (b"ab", "refused: the parameters are of type bytes; give a tuple, such as (value,)"),
    (bytearray(2), "refused: the parameters are of type bytearray; give a tuple"),
    ({1, 2}, "refused: the parameters are of type set; give a tuple, such as (value,)"),
    (5, "refused: the parameters are of type int; give a tuple, such as (value,)"),
    (np.array(5), "refused: the parameters are of type ndarray; give a tuple, such as (value,)"),
    (np.ma.masked, "refused: the parameters are of type MaskedConstant; give a tuple, such as"),
    (np.ma.array([1, 2]), [(1, 2)]),
    (np.ma.array([1, 2], mask=[True, False]), [(None, 2)]),
    (Iterables(), [(1, 2)]),
    ({"a": 1, "b": 2}.values(), [(1, 2)]),
    ({1: 1, 2: 2}.keys(), "refused: the parameters are of type dict_keys; give a tuple, such as"),
    (Broken(), "refused: the parameters are of type Broken; give a tuple, such as (value,)"),
    (object(), "refused: the parameters are of type object; give a tuple"),
]


@pytest.mark.parametrize(
    ("params", "expected"), PARAMS, ids=[type(one).__name__ for one, _ in PARAMS]
)
def test_parameters_are_a_sequence_or_refused(canisters, params, expected):
    if expected is None:
        # It gives its values once.
        for canister in canisters.values():
            given = (number for number in (1, 2))
            assert canister.query("SELECT ?, ?", given).rows == [(1, 2)]
        return
    found = both(canisters, lambda c: c.query("SELECT ?, ?", params).rows)
    assert found == expected or found.startswith(expected)


@pytest.mark.parametrize(
    "named", [{"a": 1, "b": True}, OrderedDict(a=1, b=1), ChainMap({"a": 1}, {"b": 1})], ids=repr
)
def test_named_parameters_are_any_mapping(canisters, named):
    assert both(canisters, lambda c: c.query("SELECT :a, $b", named).rows) == [(1, 1)]


NAMES = "names only; give a tuple, or call the parameter :name"
EMPTY = ("", ";", " \n;", "-- nothing; ? ", "/* nothing */", "/* open", "\ufeff", "--" * 999)
QUOTED = """SELECT /* ? */ :a -- '?
    WHERE '?' = "?" AND (SELECT 1 AS [?]) AND (SELECT 1 AS `?`) AND 'it''s ?' LIKE '%?'"""
LEFT = "of the {} values given are left for it; in: "
WRONG = [
    ("SELECT ?, ?", (1,), "the statement has 2 parameters, and 1 " + LEFT.format(1)),
    ("SELECT ?", (1, 2), "the statement has 1 parameters, and 2 " + LEFT.format(2)),
    ("SELECT ?", (), "the statement has 1 parameters, and 0 " + LEFT.format(0)),
    ("SELECT 1", (1,), "the statement has 0 parameters, and 1 " + LEFT.format(1)),
    ("SELECT ?; SELECT ?, ?", (1, 2), "the statement has 2 parameters, and 1 " + LEFT.format(2)),
    ("SELECT ?", None, "the statement has 1 parameters, and no values are given; in: SELECT ?"),
    ("SELECT :a", {}, "the statement has a parameter named a, and no value of that name is given"),
    ("SELECT $a", {"b": 1}, "the statement has a parameter named a, and no value of that name is"),
    ("SELECT ?1", {"a": 1}, "the statement has a parameter ?1, and the values given have " + NAMES),
    ("SELECT ?1", {"1": 1}, "the statement has a parameter ?1, and the values given have " + NAMES),
    ("SELECT ?1, :a", {"1": 1, "a": 2}, "the statement has a parameter ?1, and the values given"),
    ("SELECT ?, :a", {"a": 2}, "the statement has a parameter ?, and the values given have names"),
    ("SELECT :a; SELECT ?2", {"a": 2}, "the statement has a parameter ?2, and the values given"),
    ("SELECT ?", {}, "the statement has a parameter ?, and the values given have " + NAMES),
    ("SELECT :a", {"b": 1}, "the statement has a parameter named a, and no value of that name is"),
    ("SELECT @a", {}, "the statement has a parameter named a, and no value of that name is given;"),
    ("SELECT :a", {":a": 1}, "the statement has a parameter named a, and no value of that name is"),
    ("SELECT $a::b(c)", {"b": 1}, "the statement has a parameter named a::b(c), and no value of"),
    ("SELECT :é", {"e": 1}, "the statement has a parameter named é, and no value of that name is"),
    ("SELECT :a; SELECT :b", {"a": 1}, "the statement has a parameter named b, and no value of"),
    ("SELECT 1", {1: 2}, "a parameter{} is named 1, which is of type int; names are str"),
    ("SELECT :a", {"a": 1, 1: 2}, "a parameter{} is named 1, which is of type int; names are str"),
    ("SELECT 1", {"\ud800": 1}, "the name of a parameter{} is not to be had in UTF-8"),
    *((sql, (1,), "there is no statement in the SQL, and 1 value") for sql in EMPTY),
    *((sql, {"a": 1}, []) for sql in EMPTY),
    *((sql, (), []) for sql in EMPTY),
    (QUOTED, {"a": 1}, [(1,)]),
    ("SELECT :1", {"1": 1}, [(1,)]),
    ("SELECT :é", {"é": 1}, [(1,)]),
    ("SELECT :a", {1: 1}, "a parameter{} is named 1, which is of type int; names are str"),
    ("SELECT :a", {"\ud800": 1}, "the name of a parameter{} is not to be had in UTF-8"),
    ("SELECT :a", (1,), [(1,)]),
    ("SELECT :a", {"a": 1, "b": 2}, [(1,)]),
]


@pytest.mark.parametrize(("sql", "params", "expected"), WRONG, ids=repr)
def test_parameters_that_do_not_fit_are_refused_in_the_same_words(canisters, sql, params, expected):
    calls = {
        "": lambda c: c.query(sql, params).rows,
        " of row 1": lambda c: many(c, sql, [params]),
        None: lambda c: stepped(c, sql, params),
    }
    for place, call in calls.items():
        if place and params is None:
            continue
        found = both(canisters, call)
        if isinstance(expected, str):
            assert found.startswith("refused: " + expected.format(place or ""))
        else:
            assert found == expected


def test_comments_and_quotes_without_an_end_are_looked_through_in_no_time():
    """A search that tries every way to part them would never end."""
    for text in ("-" * 9999, "/*" * 9999, "'" * 9999, "[" * 9999, "-- " * 9999 + "\nx", ";" * 9999):
        bindable((1,), f"-- {text}\nSELECT")
        with suppress(SqlError):
            bindable({"a": 1}, f"SELECT {text} ?")
    with pytest.raises(SqlError, match="no statement"):
        bindable((1,), "--" * 9999)


TEXTS = [
    ("SELECT 1\0", "refused: the SQL has a NUL character, at 8; SQLite would stop there"),
    ("SELECT '\ud800'", "refused: the SQL is not to be had in UTF-8: 'utf-8' codec can't encode"),
    (b"SELECT 1", "refused: the SQL is of type bytes; give a str"),
    (None, "refused: the SQL is of type NoneType; give a str"),
    (["SELECT 1"], "refused: the SQL is of type list; give a str"),
]


@pytest.mark.parametrize(("sql", "expected"), TEXTS, ids=repr)
def test_sql_that_is_no_text_is_refused(canisters, sql, expected):
    assert both(canisters, lambda c: c.query(sql).rows).startswith(expected)
    assert both(canisters, lambda c: many(c, sql, [(1,)])).startswith(expected)


@pytest.mark.parametrize("rows", ["ab", b"ab", {"a": 1}, 5, None], ids=repr)
def test_rows_of_parameters_that_are_none_are_refused(canisters, rows):
    found = both(canisters, lambda c: many(c, "SELECT ?", rows))
    assert found.startswith(f"refused: the rows of parameters are of type {type(rows).__name__}; ")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (None, "row 2 of the parameters is None; give a sequence or a mapping"),
        ("ab", "the parameters of row 2 are of type str; give a tuple"),
        (5, "the parameters of row 2 are of type int; give a tuple"),
    ],
    ids=repr,
)
def test_a_row_that_is_none_is_refused_with_its_number(canisters, row, reason):
    found = both(canisters, lambda c: many(c, "SELECT ?", [(1,), row]))
    assert found.startswith(f"refused: {reason}")


@pytest.mark.parametrize("engine", ENGINES)
def test_text_in_a_result_that_is_not_utf8_is_refused_with_the_way_out(canisters, engine):
    for call in (stepped, lambda c, sql, params: c.query(sql, params).rows):
        with pytest.raises(SqlError, match=r"is not UTF-8: .*; ask for CAST\(… AS BLOB\)"):
            call(canisters[engine], "SELECT CAST(x'ff' AS TEXT)", None)
        assert call(canisters[engine], "SELECT CAST(x'ff' AS BLOB)", None) == [(b"\xff",)]


def test_an_error_of_a_users_own_function_stays_what_it_is():
    with Canister() as canister:

        def fail(_value):
            raise ValueError("my own")

        canister.on_connect(lambda connection: connection.create_scalar_function("fail", fail, 1))
        canister.upgrade()
        with pytest.raises(ValueError, match="my own"):
            canister.query("SELECT fail(?)", (1,))


# -- SQLite's own limits --------------------------------------------------------------------------


LIMITS = {
    "randomblob": ("SELECT length(randomblob(2000000000))", "string or blob too big"),
    "zeroblob": ("SELECT length(zeroblob(2000000000))", "string or blob too big"),
    "columns of a result": ("SELECT " + ",".join("1" * 2500), "too many columns in result set"),
    "columns of a table": (
        "CREATE TABLE w (" + ",".join(f"c{number}" for number in range(2100)) + ")",
        "too many columns on w",
    ),
    "depth": ("SELECT " + "+".join("1" * 1200), "Expression tree is too large (maximum depth 1000"),
    "terms": ("SELECT 1 UNION " * 600 + "SELECT 1", "too many terms in compound SELECT"),
    "variables": ("SELECT ?40000", "variable number must be between ?1 and ?32766"),
    "arguments": ("SELECT max(" + ",".join("1" * 1200) + ")", "too many arguments on function max"),
    "pattern": ("SELECT 'a' LIKE hex(zeroblob(60000))", "LIKE or GLOB pattern too complex"),
    "attached": (
        ";".join(f"ATTACH ':memory:' AS a{number}" for number in range(130)),
        "too many attached databases - max ",
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_of_sqlite_ends_in_its_own_words(canisters, name):
    sql, words = LIMITS[name]
    for engine in ("native",) if name == "attached" else ENGINES:
        with pytest.raises(SqlError) as caught:
            canisters[engine].update(sql)
        assert str(caught.value).startswith(words)
        assert canisters[engine].query("SELECT 1").rows == [(1,)]


@pytest.mark.parametrize(
    "length", ["NULL", "0", "-5", "'7'", "' 7x'", "'x'", "2.9", "'1e1'", "x'3132'", "9e99 < 0"]
)
def test_randomblob_takes_any_value_as_sqlite_does(canisters, length):
    """The native engine draws them itself, from the seed."""
    with apsw.Connection(":memory:") as plain:
        expected = plain.execute(f"SELECT length(randomblob({length}))").get
    found = both(canisters, lambda c: c.query(f"SELECT length(randomblob({length}))").rows)
    assert found == [(expected,)]


@pytest.mark.slow
def test_a_random_blob_larger_than_python_draws_at_once_is_drawn():
    with Canister(limits=None) as canister:
        assert canister.query("SELECT length(randomblob(300000000))").rows == [(300_000_000,)]


@pytest.mark.parametrize("limits", [5, 5.0, [], b"2024-01-01", "soon"], ids=repr)
def test_limits_that_are_no_date_are_refused(limits):
    for make in (Canister, StableMemory):
        with pytest.raises(SettingsError, match="is not a date; write it as YYYY-MM-DD"):
            make(limits=limits)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_memory_that_does_not_suffice_is_said_in_its_own_words(tmp_path):
    script = tmp_path / "large.sql"
    script.write_text("SELECT randomblob(900000000);", encoding="utf-8")
    code = """
    import resource, sys
    from sqlstable.cli import main
    resource.setrlimit(resource.RLIMIT_DATA, (400_000_000,) * 2)
    sys.argv = ["sqlstable", "run", sys.argv[1]]
    sys.stderr = sys.stdout
    try:
        main()
    except SystemExit as ended:
        print("ended with", ended.code)
    """
    said = run_python(code, script, stdin=subprocess.DEVNULL)
    assert said.endswith("ended with 1\n")
    assert "Error: there is not enough memory for this; ask for less in one statement" in said


# -- speed ----------------------------------------------------------------------------------------


def test_plain_values_are_handed_on_as_they_are():
    """Not so much as a copy is made of them."""
    for params in (None, (1, "x", None), [1.5, b"x"], {"a": 1}, ()):
        assert bindable(params) is params


@pytest.mark.slow
def test_pandas_values_are_bound_where_pandas_is_there(canisters):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2], "b": [0.5, None], "c": ["x", None]})
    rows = [tuple(row) for row in frame.itertuples(index=False)]
    assert both(canisters, lambda c: many(c, "SELECT ?, ?, ?", rows)) == [
        (1, 0.5, "x"),
        (2, None, None),
    ]
    values = (pandas.NA, pandas.NaT, pandas.Timestamp("2024-02-29 12:30"), frame["a"].iloc[0])
    found = both(canisters, lambda c: c.query("SELECT ?, ?, ?, ?", values).rows)
    assert found == [(None, None, "2024-02-29 12:30:00", 1)]
    assert both(canisters, lambda c: c.query("SELECT ?", frame["a"].head(1)).rows) == [(1,)]
