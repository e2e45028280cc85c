"""SQL cut into tokens, as SQLite cuts it: what two texts have to share to mean the same.

Spaces and comments do not count, nor does case outside of strings, nor how a name is quoted. A
quoted name that SQLite would read as a word of its own, such as ``"null"``, keeps its quotes.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

TokenKind = Literal["name", "string", "blob", "number", "sign"]

_TOKEN: Final = re.compile(
    r"""
    (?P<space>   [ \t\n\f\r]+ | --[^\n]* | /\*(?:.|\n)*?(?:\*/|\Z) )
  | (?P<blob>    [xX]'[0-9a-fA-F]*' )
  | (?P<string>  '(?:[^']|'')*' )
  | (?P<quoted>  "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\] )
  | (?P<number>  0[xX][0-9a-fA-F_]+
               | (?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9_]+)? )
  | (?P<name>    [A-Za-z_\x80-\U0010ffff][0-9A-Za-z_$\x80-\U0010ffff]* )
  | (?P<sign>    <<|<=|<>|>>|>=|==|!=|\|\||->>|->|. )
    """,
    re.VERBOSE | re.DOTALL,
)

_WORDS: Final = frozenset(
    ("null", "true", "false", "current_time", "current_date", "current_timestamp")
)
"""Names that mean something else without quotes."""

_SAME: Final = {"==": "=", "!=": "<>"}


@dataclass(frozen=True, slots=True)
class SqlToken:
    """One token of a SQL text."""

    kind: TokenKind
    text: str
    "As it is written."
    key: str
    "What it means: a name without its quotes and in lower case, all else as it counts."
    start: int
    "Characters of the text in front of it."
    is_quoted: bool = False

    @property
    def end(self) -> int:
        """Characters of the text up to its end."""
        return self.start + len(self.text)


def tokens_of(sql: str) -> tuple[SqlToken, ...]:
    """Return the tokens of a SQL text that SQLite has accepted.

    Examples:
        >>> [token.key for token in tokens_of('CHECK ("Price" >= 0) -- free')]
        ['check', '(', 'price', '>=', '0', ')']
    """
    return tuple(_token(found) for found in _TOKEN.finditer(sql) if found.lastgroup != "space")


def meaning(sql: str | None) -> tuple[str, ...]:
    """Return what two texts that mean the same have in common; nothing for no text.

    Examples:
        >>> meaning("a>0 /* free */") == meaning('"A" > 0')
        True
        >>> meaning("a = 'X'") == meaning("a = 'x'")
        False
    """
    return () if sql is None else tuple(token.key for token in tokens_of(sql))


def quoted(name: str) -> str:
    """Return a name as SQL takes it, whatever it is.

    Examples:
        >>> print(quoted('a "b" c'))
        "a ""b"" c"
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as a SQL string.

    Examples:
        >>> literal("it's")
        "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def unquoted(text: str) -> str:
    """Return the name that a token means, without its quotes."""
    first = text[:1]
    if first == "[":
        return text[1:-1]
    if first in ('"', "`", "'"):
        return text[1:-1].replace(first * 2, first)
    return text


@lru_cache(maxsize=8192)
def lower(name: str) -> str:
    """Return a name in lower case as SQLite has it: only ASCII letters have two cases.

    Examples:
        >>> lower("ÄB")
        'Äb'
    """
    return name if name.isascii() and name.islower() else "".join(map(_lower, name))


def _lower(character: str) -> str:
    return character.lower() if character.isascii() else character


def _token(found: "re.Match[str]") -> SqlToken:
    kind, text, start = found.lastgroup, found[0], found.start()
    match kind:
        case "quoted":
            name = lower(unquoted(text))
            key = f'"{name}"' if name in _WORDS else name
            return SqlToken("name", text, key, start, is_quoted=True)
        case "name":
            return SqlToken("name", text, lower(text), start)
        case "number":
            return SqlToken("number", text, text.lower().replace("_", ""), start)
        case "blob":
            return SqlToken("blob", text, text.lower(), start)
        case "string":
            return SqlToken("string", text, text, start)
        case _:
            return SqlToken("sign", text, _SAME.get(text, text), start)
