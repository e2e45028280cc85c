"""Rows of values for one statement, out of a CSV file.

**Which column goes where.** The statement alone decides, so no data is ever taken for a heading:

* Its parameters are ``?``: every line is a row, its fields bound in order.
* Its parameters have names (``:name``, ``@name``, ``$name``): the first line is a heading that
  must name each of them, with or without the prefix. Columns that no parameter is named after
  are skipped, and their order does not matter.

**Limitations.** ``?`` and names in one statement are refused together with a CSV file.
"""

import csv
import math
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from sqlstable.ic.units import INT64_MAX, INT64_MIN

Row: TypeAlias = tuple[object, ...]

FIELD_CHARACTERS_MAX: Final = (1 << 31) - 1
"""Longer fields are not CSV for Python, whose own bound of 131 072 is lower than SQLite's."""

# All that can hide a parameter, and the parameters. Source: sqlite3GetToken, SQLite 3.54.1.
_TOKEN: Final = re.compile(
    r"'[^']*+'|\"[^\"]*+\"|`[^`]*+`|\[[^\]]*+\]|--[^\n]*+|/\*[^*]*+(?:\*(?!/)[^*]*+)*+\*/"
    r"|[A-Za-z0-9_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*+"
    r"|(?P<number>\?[0-9]*+)|(?P<name>[:@$#][A-Za-z0-9_$\x80-\U0010ffff]++)"
)

_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,18}")
_REAL: Final = re.compile(
    r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]+(?:[eE][+-]?[0-9]+)?|[eE][+-]?[0-9]+)|\.[0-9]+)"
)

_NAMES_SHOWN_MAX: Final = 8


class RowsError(Exception):
    """A CSV file cannot be used; the text says why, without naming the file."""


def read_rows(path: Path, sql: str) -> tuple[tuple[Row, ...], Sequence[int]]:
    """Return the rows that a CSV file has for a statement, and the lines in which they begin.

    The values of a row are in the order of the statement's parameters.

    Raises:
        RowsError: The file cannot be read, or does not go with the statement.
    """
    names, has_numbered = parameters_of(sql)
    if names and has_numbered:
        raise RowsError(
            f"the statement has both ? and {names[0]}; use one kind of parameters, so that it is "
            "clear whether the first line is a heading"
        )
    if path.exists() and not path.is_file():
        raise RowsError("cannot be read: it is no regular file; give the path of a CSV file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file, _long_fields():
            return _rows(file, names)
    except OSError as error:
        raise RowsError(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RowsError("is not UTF-8; convert it") from error


def _rows(file: Iterable[str], names: Sequence[str]) -> tuple[tuple[Row, ...], Sequence[int]]:
    numbers = array("Q")
    lines = _equally_long(file, numbers)
    heading = next(lines, None) if names else None
    if heading is None:
        rows = tuple(tuple(map(_value, fields)) for fields in lines)
    else:
        places = _places(heading, names)
        rows = tuple(tuple(_value(fields[place]) for place in places) for fields in lines)
    if not rows:
        raise RowsError("has no rows; write one line per run")
    return rows, numbers[len(numbers) - len(rows) :]


def _equally_long(file: Iterable[str], numbers: "array[int]") -> Iterator[list[str]]:
    """Yield the lines of a CSV file, once each is known to be as long as the first.

    Where each begins is added to ``numbers``: a field may have several lines.
    """
    reader = csv.reader(file, strict=True)
    first, next_line = 0, 1
    try:
        for fields in reader:
            numbers.append(next_line)
            next_line = reader.line_num + 1
            if not fields:
                raise RowsError(f'line {reader.line_num} is blank; remove it, or write ""')
            first = first or len(fields)
            if len(fields) != first:
                raise RowsError(
                    f"line {reader.line_num} has another number of fields than the first row, "
                    f"{len(fields)} instead of {first}; give every row as many"
                )
            yield fields
    except csv.Error as error:
        raise RowsError(f"line {reader.line_num} is not CSV: {error}") from error


def _places(heading: Sequence[str], names: Sequence[str]) -> list[int]:
    """Return the column of each parameter."""
    found = [name.strip() for name in heading]
    places = []
    for name in names:
        columns = [at for at, text in enumerate(found) if text in (name, name[1:])]
        if len(columns) != 1:
            shown = ", ".join(map(repr, found[:_NAMES_SHOWN_MAX]))
            raise RowsError(
                f"line 1 must name each parameter of the statement once, and {name} is there "
                f"{len(columns)} times; it has {shown}. Write a heading, or ? for the parameters"
            )
        places += columns
    return places


def parameters_of(sql: str) -> tuple[tuple[str, ...], bool]:
    """Return the names of a statement's parameters as SQLite counts them, and whether it has ?.

    Examples:
        >>> parameters_of("SELECT :a, @b, ':c' -- :d", )
        ((':a', '@b'), False)
        >>> parameters_of("INSERT INTO t$1 VALUES (?, ?2)")
        ((), True)
    """
    marks = list(_TOKEN.finditer(sql))
    names = dict.fromkeys(mark["name"] for mark in marks if mark["name"])
    return tuple(names), any(mark["number"] for mark in marks)


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let fields be long in a block: Python keeps one bound for the whole process."""
    before = csv.field_size_limit(FIELD_CHARACTERS_MAX)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _value(text: str) -> int | float | str | None:
    """Return the value that a CSV field stands for.

    An empty field is NULL, quoted or not: the csv module does not tell them apart. A whole
    number is an integer, a decimal or exponential one a real. The rest is text, and so are
    needless leading zeros and plus signs, which mark a code rather than a number, and what
    passes 64 bits or the largest real, which would not come back as it was written.

    Examples:
        >>> [_value(text) for text in ("", "-12", "0.5", "1e3", "007", "+1", "x")]
        [None, -12, 0.5, 1000.0, '007', '+1', 'x']
        >>> _value("9223372036854775807"), _value("9223372036854775808"), _value("1e999")
        (9223372036854775807, '9223372036854775808', '1e999')
    """
    if not text:
        return None
    if _INTEGER.fullmatch(text):
        integer = int(text)
        return integer if INT64_MIN <= integer <= INT64_MAX else text
    if _REAL.fullmatch(text):
        real = float(text)
        return real if math.isfinite(real) else text
    return text
