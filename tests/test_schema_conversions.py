"""Whether values come back from columns of other types, against SQLite itself."""

import struct

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstable.schema.conversions import always_stored, lost, refused
from sqlstable.schema.schema_reading import affinity_of
from tests.pair_world import VALUES

AFFINITIES = ("INTEGER", "TEXT", "BLOB", "REAL", "NUMERIC")
STRICT = ("INTEGER", "TEXT", "BLOB", "REAL", "ANY")

NUMBERS = (
    "1",
    "+1",
    "1.0",
    ".5",
    "5.",
    "1e2",
    "0x10",
    "9223372036854775808",
    "1" * 25,
    "-0",
    "1 2",
)

values = st.one_of(
    st.sampled_from(VALUES),
    st.sampled_from(NUMBERS),
    st.integers(-(2**63), 2**63 - 1),
    st.binary(min_size=8, max_size=8)
    .map(lambda it: struct.unpack("d", it)[0])
    .filter(
        lambda it: it == it  # noqa: PLR0124  NaN is NULL in SQLite
    ),
    st.text(alphabet="0123456789.eE+- abc", max_size=8),
)


def through(value, *columns):
    """Return what a value has become in each of these columns, one after the other."""
    connection = apsw.Connection(":memory:")
    found = []
    for number, declared in enumerate(columns):
        connection.execute(f"CREATE TABLE t{number} (x {declared}")
        if number == 0:
            connection.execute("INSERT INTO t0 VALUES (?)", (value,))
        else:
            connection.execute(f"INSERT INTO t{number} SELECT x FROM t{number - 1}")
        found.append(connection.execute(f"SELECT typeof(x), quote(x) FROM t{number}").fetchall()[0])
    return connection, found


def is_true(connection, condition):
    return bool(connection.execute(f"SELECT ({condition}) IS 1 FROM t0").get)


@pytest.mark.parametrize("source", AFFINITIES)
@pytest.mark.parametrize("target", AFFINITIES)
@settings(max_examples=60, deadline=None)
@given(value=values)
def test_a_value_is_lost_where_it_is_said_to_be(source, target, value):
    assert affinity_of(source) == source
    condition = lost("x", source, target)
    connection, found = through(value, f"{source})", f"{target})", f"{source})")
    if condition is None:
        assert found[0] == found[2]
    else:
        assert (found[0] != found[2]) <= is_true(connection, condition)


@pytest.mark.parametrize("source", [*AFFINITIES, "strict ANY"])
@pytest.mark.parametrize("target", STRICT)
@settings(max_examples=60, deadline=None)
@given(value=values)
def test_a_strict_column_refuses_what_it_is_said_to(source, target, value):
    first = "ANY) STRICT" if source == "strict ANY" else f"{source})"
    condition = refused("x", target)
    connection, _ = through(value, first)
    is_refused = condition is not None and is_true(connection, condition)
    try:
        through(value, first, f"{target}) STRICT")
    except apsw.ConstraintError:
        assert is_refused
    else:
        assert not is_refused


@pytest.mark.parametrize("source", STRICT)
@pytest.mark.parametrize("target", STRICT)
@settings(max_examples=60, deadline=None)
@given(value=values)
def test_strict_columns_take_what_they_are_said_to(source, target, value):
    try:
        through(value, f"{source}) STRICT")
    except apsw.ConstraintError:
        return
    if not always_stored(source, target):
        return
    condition = lost("x", source, target, is_source_strict=True)
    connection, found = through(value, f"{source}) STRICT", f"{target}) STRICT")
    if condition is None or not is_true(connection, condition):
        _, found = through(value, *(f"{it}) STRICT" for it in (source, target, source)))
        assert found[0] == found[2]
