"""Values to bind: what SQLite knows goes through, what means one of these becomes it.

SQLite has five types, Python's side of it is None, int, float, str and bytes. A value of another
type is converted where anybody would expect the same, and refused with the way out where not;
it is the same for both engines, which see plain values only.

==============================================  ================================================
given                                           bound
==============================================  ================================================
bool; subclasses of int, float, str, bytes       the plain value, also of enums that are such
numpy's numbers, bools, texts; NaT, masked       the plain value; NULL
numpy's arrays without dimensions                their one value
pandas' NA, NaT                                  NULL
date, time, datetime (pandas' Timestamp too)     their ISO form, with a space in the middle
numpy's datetime64                               likewise
bytearray, memoryview                            bytes
`apsw.zeroblob`                                  a blob of zeros
paths                                            their text
==============================================  ================================================

The quick way through costs a look at the types. Numbers that are too large and texts that are not
Unicode are left to the engine, and `find_fault` finds them when it has complained.

What engines would do differently is decided before one is asked: names are text, ``?`` and ``?1``
take no value by name, and where there is no statement no value is given by position.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

import apsw
import numpy as np

from sqlstable.errors import SqlError
from sqlstable.ic.units import INT64_MAX, INT64_MIN, amount

Params = Sequence[Any] | dict[str, Any] | None
"""Values bound to a statement: a sequence, or a dictionary for named parameters."""

_PLAIN: Final = frozenset({type(None), int, float, str, bytes})
_SEQUENCES: Final = frozenset({tuple, list})


_BLOB_BYTES_MAX: Final = 1_000_000_000
"""Source: SQLite's default of ``SQLITE_MAX_LENGTH``, sqlite.org/limits.html."""

_TAKEN: Final = "SQLite takes None, int, float, str and bytes"

_WAYS_OUT: Final[tuple[tuple[type, str], ...]] = (
    (Decimal, "bind str(value) to keep every digit, or float(value) to calculate with it"),
    (UUID, "bind str(value), or value.bytes"),
    (np.timedelta64, "bind value / numpy.timedelta64(1, 's')"),
    (timedelta, "bind value.total_seconds()"),
    (complex, "bind value.real and value.imag"),
    (np.complexfloating, "bind value.real and value.imag"),
    (Enum, "bind value.value, or value.name"),
    (np.ndarray, "bind value.tobytes(), or each of its elements"),
    (Mapping, "bind json.dumps(value)"),
    (list, "bind json.dumps(value), or each of its elements"),
    (tuple, "bind json.dumps(value), or each of its elements"),
)


_BEGINS_EMPTY: Final = " \t\n\f\r;\ufeff-/"
_EMPTY: Final = re.compile(
    r"(?:[ \t\n\f\r;\ufeff]++|--[^\n]*+|/\*(?>.*?(?:\*/|\Z)))*+\Z", re.DOTALL
)
"""What SQLite finds no statement in."""

_QUOTED: Final = re.compile(
    r"""'[^']*+'|"[^"]*+"|`[^`]*+`|\[[^\]]*+\]|--[^\n]*+|/\*(?>.*?(?:\*/|\Z))""", re.DOTALL
)
_NUMBERED: Final = re.compile("[?][0-9]*")
_NOT_GIVEN: Final = re.compile("no value is given for parameter '(.*?)'; in: ", re.DOTALL)
"""How the wasm engine says it; the native one raises `KeyError`."""


class _RefusedError(Exception):
    """A value that cannot be bound; the text has no position yet."""


def bindable(params: Params, sql: str = "SELECT", *, place: str = "") -> Params:
    """Return parameters whose values are of types that SQLite knows.

    Args:
        params: A sequence, or a mapping for named parameters; None for none.
        sql: What they are for.
        place: Which parameters they are, for errors.

    Raises:
        SqlError: They are none of these, do not go with the SQL, or a value cannot be bound; the
            text has its position.

    Examples:
        >>> bindable((True, date(2024, 2, 29), bytearray(b"x")))
        (1, '2024-02-29', b'x')
    """
    if params is None:
        return None
    kind = type(params)
    if kind in _SEQUENCES:
        if _PLAIN.issuperset(map(type, params)):
            if type(sql) is str and sql[:1] not in _BEGINS_EMPTY:
                return params
        else:
            params = _converted(params, place, convert=_plain)
    elif not (
        kind is dict
        and _PLAIN.issuperset(map(type, params.values()))  # type: ignore[union-attr]
        and _are_plain_names(params)
    ):
        params = _converted(params, place, convert=_plain)
    if isinstance(sql, str):
        _check_fit(sql, params)
    return params


def _are_plain_names(names: Iterable[object]) -> bool:
    try:
        return "".join(names).isascii()  # type: ignore[arg-type]  # the error says so
    except TypeError:
        return False


def _check_fit(sql: str, params: Params) -> None:
    """Refuse what one engine would take for something else than the other."""
    if isinstance(params, dict):
        numbered = _NUMBERED.search(_QUOTED.sub(" ", sql)) if "?" in sql else None
        if numbered is not None:
            raise SqlError(
                f"the statement has a parameter {numbered[0]}, and the values given have names "
                "only; give a tuple, or call the parameter :name"
            )
    elif params and _EMPTY.match(sql):
        raise SqlError(
            f"there is no statement in the SQL, and {amount(len(params), 'value')} for it"
        )


def bindable_rows(rows: Iterable[Params], sql: str = "SELECT") -> "BindableRows":
    """Return rows of parameters, each `bindable`, converted as they are asked for.

    Raises:
        SqlError: They are not rows.
    """
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise SqlError(
            f"the rows of parameters are of type {type(rows).__name__}; give a list of tuples, or "
            "of dictionaries"
        )
    return BindableRows(rows, sql)


class BindableRows:
    """Rows of parameters; remembers the one that was asked for last."""

    def __init__(self, rows: Iterable[Params], sql: str) -> None:
        """Wrap rows; each is read once."""
        self._given = rows
        self._rows = iter(rows)
        self._sql = sql
        self.number = 0
        self.last: Params = None
        self._is_refused = False
        "Whether the last one could not be bound."

    def __iter__(self) -> Iterator[Params]:
        try:
            for row in self._rows:
                self.number += 1
                if row is None:
                    raise SqlError(  # noqa: TRY301  it is an error of the row, as others are
                        f"row {self.number} of the parameters is None; give a sequence or a mapping"
                    )
                self.last = bindable(row, self._sql, place=self.place)
                yield self.last
        except SqlError:
            self._is_refused = True
            raise

    def rest(self) -> Iterable[Params]:
        """Return the rows that nobody has asked for, where all are at hand as in a list.

        There are none behind one that could not be bound.
        """
        given = self._given
        if not isinstance(given, Sequence) or self._is_refused:
            return ()
        return bindable_rows(given[self.number :])

    @property
    def place(self) -> str:
        """Which row it is, for errors."""
        return f" of row {self.number}"


def find_fault(sql: object, params: Params, *, place: str = "") -> SqlError | None:
    """Say what of a statement or its parameters no engine takes, after one has complained."""
    try:
        encoded_sql(sql)
        if params is not None:
            _converted(params, place, convert=_checked)
    except SqlError as error:
        return error
    return None


def explain_foreign(error: Exception, sql: str, params: Params) -> SqlError | None:
    """Say in our words what Python's own error means that came out of an engine, or None.

    None also where it came out of a function of the user's.
    """
    if isinstance(error, UnicodeDecodeError):
        return SqlError(f"a text in the result is not UTF-8: {error}; ask for CAST(… AS BLOB)")
    name = _name_missing(error)
    if (
        name is not None
        and isinstance(params, Mapping)
        and name not in params
        and re.search(rf"[:@$]{re.escape(name)}(?!\w)", sql)
    ):
        given = ", ".join(map(str, params)) or "none"
        return SqlError(
            f"the statement has a parameter named {name}, and no value of that name is given; "
            f"given: {given}"
        )
    return None


def _name_missing(error: Exception) -> str | None:
    if isinstance(error, KeyError) and len(error.args) == 1:
        return str(error.args[0])
    found = _NOT_GIVEN.match(str(error)) if isinstance(error, SqlError) else None
    return None if found is None else found[1]


def encoded_sql(sql: object) -> bytes:
    """Return SQL in UTF-8, checked as far as that can be without SQLite.

    Raises:
        SqlError: It is no text, or one that SQLite would not take whole.
    """
    if not isinstance(sql, str):
        raise SqlError(f"the SQL is of type {type(sql).__name__}; give a str")
    if "\0" in sql:
        raise SqlError(
            f"the SQL has a NUL character, at {sql.index(chr(0))}; SQLite would stop there"
        )
    try:
        return sql.encode()
    except UnicodeEncodeError as error:
        raise SqlError(f"the SQL is not to be had in UTF-8: {error}") from None


def _converted(params: object, place: str, *, convert: Callable[[Any], Any]) -> Params:
    """Convert each value, and say which one cannot be."""
    if isinstance(params, Mapping):
        named = {_checked_name(name, place): value for name, value in params.items()}
        return {
            name: _placed(value, f":{name.lstrip(':@$')}{place}", convert)
            for name, value in named.items()
        }
    values = _values_of(params)
    if values is None:
        raise SqlError(
            f"the parameters{place} are of type {type(params).__name__}; give a tuple, such as "
            "(value,), or a dictionary for named ones"
        )
    return tuple(
        _placed(value, f"{number}{place}", convert) for number, value in enumerate(values, 1)
    )


def _values_of(params: object) -> Iterator[object] | None:
    """Return what gives the values one by one; None of what is no sequence of them."""
    if isinstance(params, str | bytes | bytearray | memoryview | AbstractSet):
        return None
    try:
        return iter(params)  # type: ignore[call-overload,no-any-return]  # the error says so
    except TypeError:
        # Such as an array without dimensions, which says that it is iterable.
        return None


def _checked_name(name: object, place: str) -> str:
    if not isinstance(name, str):
        raise SqlError(
            f"a parameter{place} is named {name!r}, which is of type {type(name).__name__}; names "
            "are str"
        )
    return _checked_text(name, f"the name of a parameter{place}")


def _placed(value: object, position: str, convert: Callable[[Any], Any]) -> object:
    try:
        return convert(value)
    except _RefusedError as error:
        raise SqlError(f"parameter {position} {error}") from None


def _checked(value: object) -> object:
    """Convert a value, and look at what the quick way leaves to the engine."""
    plain = _plain(value)
    if isinstance(plain, int) and not INT64_MIN <= plain <= INT64_MAX:
        raise _RefusedError(
            f"is {_shortened(plain)}; SQLite's integers have 64 bits, up to {INT64_MAX}: bind "
            "str(value), or float(value)"
        )
    if isinstance(plain, apsw.zeroblob) and plain.length() > _BLOB_BYTES_MAX:
        raise _RefusedError(
            f"is a blob of {plain.length()} zeros; SQLite's longest has {_BLOB_BYTES_MAX} bytes"
        )
    if isinstance(plain, str):
        try:
            plain.encode()
        except UnicodeEncodeError as error:
            raise _RefusedError(
                f"is not to be had in UTF-8: {error}; bind "
                "value.encode('utf-8', 'surrogatepass'), a blob"
            ) from None
    return plain


def _checked_text(text: str, what: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SqlError(f"{what} is not to be had in UTF-8: {error}") from None
    return text


def _shortened(number: int) -> str:
    # Python refuses to write out numbers of thousands of digits.
    return str(number) if number.bit_length() < 400 else f"a number of {number.bit_length()} bits"


def _plain(value: object) -> object:  # noqa: PLR0911  one case each
    """Return a value of a type that SQLite knows."""
    if type(value) in _PLAIN:
        return value
    if _is_missing(value):
        return None
    if isinstance(value, np.generic | np.ndarray):
        return _plain_scalar(value)
    # By the type's own method: a subclass may say something else of itself.
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return bytes.__bytes__(value)
    if isinstance(value, datetime):
        return value.isoformat(" ")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, bytearray | memoryview):
        return _plain_buffer(value)
    if isinstance(value, apsw.zeroblob):
        # Both engines know it.
        return value
    raise _refused(value)


def _plain_buffer(value: bytearray | memoryview) -> bytes:
    try:
        return bytes(value)
    except (ValueError, BufferError) as error:
        raise _RefusedError(f"is a {type(value).__name__} that cannot be read: {error}") from None


def _plain_scalar(value: np.generic | np.ndarray[Any, Any]) -> object:
    if isinstance(value, np.ndarray):
        one: object = value[()] if value.ndim == 0 else value
        if isinstance(one, np.ndarray) and not _is_missing(one):
            raise _refused(value)
        return _plain(one)
    if isinstance(value, np.datetime64):
        # Without trailing zeros of a second's parts, and a space for the T, as SQLite writes it.
        text = str(value).replace("T", " ")
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, np.floating):
        return float(value)
    # A timedelta64 is one of numpy's integers, too.
    if isinstance(value, np.integer | np.bool_) and not isinstance(value, np.timedelta64):
        return int(value)
    if isinstance(value, np.str_):
        return str(value)
    if isinstance(value, np.bytes_):
        return bytes(value)
    raise _refused(value)


def _is_missing(value: object) -> bool:
    """Whether it is one of the values that stand for none, without importing who made it."""
    if isinstance(value, np.datetime64 | np.timedelta64):
        return bool(np.isnat(value))
    return type(value).__name__ in {"NAType", "NaTType", "MaskedConstant"}


def _refused(value: object) -> _RefusedError:
    name = type(value).__name__
    way_out = next((text for kind, text in _WAYS_OUT if isinstance(value, kind)), None)
    return _RefusedError(f"is of type {name}; {_TAKEN}" + (f": {way_out}" if way_out else ""))
