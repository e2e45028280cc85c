r"""Parameters of a script: literals that a comment names, for another value to take their place.

A marker is a comment directly in front of a literal::

    INSERT INTO item SELECT value, hex(randomblob(8)) FROM generate_series(1, /*@rows*/ 1000);

The script stays plain SQL: ``sqlite3`` and ``sqlstable run`` see 1000. Whoever gives ``rows``
another value (``--param rows=1e5``) has the literal replaced, wherever the marker of that name
stands. Because the value becomes a literal again, SQLite plans as for any other script.

**Invariants**

- Only what a marker names is replaced; every other character stays, so lines keep their numbers.
- Markers inside of strings, quoted names and other comments are text, and mean nothing.
- One name has one default, and one kind: a number stays a number, a text stays a text.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from sqlstable.errors import ScriptError, SettingsError

Value = int | float | str
"""What can take the place of a literal."""

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]{0,63}"
_NUMBER: Final = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_TEXT: Final = r"'(?:[^']|'')*+'"

# All that can hide a marker, and the markers.
_MARK: Final = re.compile(
    rf"(?P<marker>/\*@[ \t]*+(?P<name>[^*]*?)[ \t]*\*/[ \t\r\n]*+)"
    rf"(?:(?P<text>{_TEXT})|(?P<number>{_NUMBER})(?![A-Za-z0-9_.$]))?"
    rf"|{_TEXT}|\"[^\"]*+\"|`[^`]*+`|\[[^\]]*+\]|--[^\n]*+|/\*(?s:.*?)\*/"
)
_WHOLE_NAME: Final = re.compile(_NAME)
_WHOLE_NUMBER: Final = re.compile(_NUMBER)
_INTEGER_DIGITS_MAX: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A literal that a marker names."""

    name: str
    default: Value
    line: int
    "Where the name stands first, counted from 1."


def find_placeholders(text: str, *, name: str = "script") -> dict[str, Placeholder]:
    """Return the parameters of a script by their names, in the order in which they come.

    Raises:
        ScriptError: A marker has no literal behind it, or a name two defaults.

    Examples:
        >>> found = find_placeholders("SELECT /*@rows*/ 1000, /*@who*/'ann', '/*@no*/ 1'")
        >>> [(it.name, it.default) for it in found.values()]
        [('rows', 1000), ('who', 'ann')]
    """
    found: dict[str, Placeholder] = {}
    for mark in _markers(text):
        line = text.count("\n", 0, mark.start()) + 1
        one = _placeholder(mark, line=line, script=name)
        first = found.setdefault(one.name, one)
        if first.default != one.default:
            raise ScriptError(
                f"{name}, line {line}: parameter {one.name} is {one.default!r} here and "
                f"{first.default!r} on line {first.line}; give it one default, or two names"
            )
    return found


def fill_placeholders(text: str, values: Mapping[str, Value], *, name: str = "script") -> str:
    """Return the script with other values in the places of literals.

    Args:
        text: The script.
        values: By names of parameters; those that are not named keep their default.
        name: What errors call the script.

    Raises:
        ScriptError: A marker is wrong.
        SettingsError: The script has no such parameter, or one of another kind.

    Examples:
        >>> fill_placeholders("SELECT /*@rows*/ 1000, '1000';", {"rows": 5})
        "SELECT /*@rows*/ 5, '1000';"
    """
    found = find_placeholders(text, name=name)
    for key, value in values.items():
        _check_value(found, key, value, script=name)
    pieces, end = [], 0
    for mark in _markers(text):
        key = mark["name"]
        if key in values:
            pieces += [text[end : mark.start()], mark["marker"], literal(values[key])]
            end = mark.end()
    return "".join([*pieces, text[end:]])


def literal(value: Value) -> str:
    """Return a value as SQL writes it.

    Examples:
        >>> literal(1000), literal(0.5), literal("it's")
        ('1000', '0.5', "'it''s'")
    """
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


def read_value(text: str) -> Value:
    """Return what a word of the command line stands for; ``1e5`` is a whole number.

    Examples:
        >>> read_value("1e5"), read_value("0.5"), read_value("-3"), read_value("ann")
        (100000, 0.5, -3, 'ann')
    """
    if not _WHOLE_NUMBER.fullmatch(text):
        return text
    if re.fullmatch(r"[+-]?[0-9]{1,30}", text):
        return int(text)
    number = float(text)
    is_whole = math.isfinite(number) and number == int(number) and abs(number) < _INTEGER_DIGITS_MAX
    return int(number) if is_whole else number


def _markers(text: str) -> Iterator[re.Match[str]]:
    return (mark for mark in _MARK.finditer(text) if mark["marker"] is not None)


def _placeholder(mark: re.Match[str], *, line: int, script: str) -> Placeholder:
    name = mark["name"]
    if not _WHOLE_NAME.fullmatch(name):
        raise ScriptError(
            f"{script}, line {line}: {name[:80]!r} is no name for a parameter; write a letter, "
            "then letters, digits and underscores, as in /*@rows*/ 1000"
        )
    if mark["text"] is not None:
        return Placeholder(name, mark["text"][1:-1].replace("''", "'"), line)
    if mark["number"] is None:
        raise ScriptError(
            f"{script}, line {line}: /*@{name}*/ stands before no literal; write its default "
            f"directly behind it, as in /*@{name}*/ 1000"
        )
    return Placeholder(name, read_value(mark["number"]), line)


def _check_value(found: Mapping[str, Placeholder], name: str, value: Value, *, script: str) -> None:
    if name not in found:
        known = ", ".join(found) or "none"
        raise SettingsError(
            f"{script} has no parameter {name[:80]!r}; it has {known}. A parameter is a literal "
            f"with a comment before it: /*@{name[:80]}*/ 1000"
        )
    if isinstance(value, str) != isinstance(found[name].default, str):
        kind = "text" if isinstance(found[name].default, str) else "a number"
        raise SettingsError(f"parameter {name} of {script} is {kind}, and {value!r} is none")
    if isinstance(value, str) and "\0" in value:
        raise SettingsError(
            f"parameter {name} holds a NUL character, which SQL cannot; leave it out"
        )
    if not isinstance(value, str) and not abs(value) < _INTEGER_DIGITS_MAX:
        raise SettingsError(f"parameter {name} is {value}; it must be below 2^63")
