"""The shape of a statement, by which equal work is grouped, and its kind.

A thousand INSERTs that differ only in their literals are one line of a report. Their shape is
found from SQLite's tokens, so every text has one, also statements that SQLite refuses, PRAGMAs,
and syntax newer than this module. Where sqlglot understands the result, and writes it with the
same tokens, keywords and functions get one spelling: ``select`` and ``SELECT`` are equal work.

One regular expression splits the text. It follows SQLite's own tokenizer (``tokenize.c``)
where general SQL tokenizers differ: ``?1``, ``:name`` and ``$name::part(x)`` are one parameter,
``.5`` and ``1_000`` one number, and ``[name]`` is an identifier, as are names in backticks.
"""

import logging
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

# Longer texts are bulk loads, rarely seen twice; keeping them would cost more than it saves.
_CACHED_CHARACTERS_MAX: Final = 20_000
_CACHED_SHAPES_MAX: Final = 1024
_SPELLED_CHARACTERS_MAX: Final = 4000
"""Longer shapes keep their spelling: parsing them would take longer than it helps."""

_SPACE = r"[ \t\n\f\r\ufeff]+ | --[^\n]* | /\*.*?(?:\*/|\Z)"
_LETTER = r"A-Za-z_\u0080-\ufefe\uff00-\U0010ffff"
_TOKEN: Final = re.compile(
    rf"""
      (?P<space>   {_SPACE} )
    | (?P<literal> [xX]?'[^']*(?:''[^']*)*(?:'|\Z)
                 | 0[xX][0-9A-Fa-f_]+
                 | (?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9][0-9_]*)?
                 | \?[0-9]*
                 | [:@$](?:[{_LETTER}0-9$]|::)+(?:\([^()\s]*\))? )
    | (?P<word>    [{_LETTER}][{_LETTER}0-9$]* )
    | (?P<quoted>  "[^"]*(?:""[^"]*)*(?:"|\Z) | `[^`]*(?:``[^`]*)*(?:`|\Z) | \[[^\]]*(?:\]|\Z) )
    | (?P<mark>    ->>|->|\|\||<<|>>|<=|>=|==|!=|<>|. )
    """,
    re.VERBOSE | re.DOTALL,
)
# What most scripts differ in, found without looking at any other token.
_PLAIN_LITERAL: Final = re.compile(
    rf"""
      (?<![{_LETTER}0-9$]) [xX]'[^']*(?:''[^']*)*(?:'|\Z)
    | '[^']*(?:''[^']*)*(?:'|\Z)
    | (?<![{_LETTER}0-9$.])
      (?: 0[xX][0-9A-Fa-f_]+
        | (?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9][0-9_]*)? )
    """,
    re.VERBOSE | re.DOTALL,
)
# Where none of these begins outside of a string, each string and number is where it seems to be.
_NOT_PLAIN: Final = re.compile(r"""["`\[?:@$\ufeff]|--|/\*|[0-9\0][xX]\0|[0-9.][eE][+-]\0""")
_INSERTS_VALUES: Final = re.compile(
    r"\s*(?:INSERT|REPLACE)\b.*\bVALUES\b", re.IGNORECASE | re.DOTALL
)
_MAY_LOOK_UP: Final = re.compile(r"\b(?:SELECT|WHERE|ON|RETURNING|WITH|TABLE)\b", re.IGNORECASE)
_FIRST_WORD: Final = re.compile(rf"(?:{_SPACE} | [;(])* ([A-Za-z]*)", re.VERBOSE | re.DOTALL)

# After these a value can follow, so a sign there is part of a number, and NULL is a value.
_BEFORE_VALUE: Final = re.compile(
    r"[(,=<>+*/%&|-]|==|!=|<>|<=|>=|<<|>>|\|\||->>?"
    r"|AND|BETWEEN|BY|CASE|ELSE|LIKE|LIMIT|OFFSET|OR|RETURNING|SELECT|THEN|WHEN|WHERE",
    re.IGNORECASE,
)
_NAMED_VALUE: Final = re.compile(r"NULL|TRUE|FALSE", re.IGNORECASE)
# A parenthesis after any other word or name is taken for the arguments of a function.
_BEFORE_PARENTHESIS: Final = re.compile(
    r"ALL|AND|AS|BETWEEN|BY|CASE|CHECK|CONFLICT|DEFAULT|DISTINCT|ELSE|EXCEPT|EXISTS|FILTER|FROM"
    r"|GLOB|HAVING|IN|INTERSECT|IS|JOIN|KEY|LIKE|LIMIT|MATCH|MATERIALIZED|NOT|OFFSET|ON|OR|OVER"
    r"|PARTITION|REGEXP|RETURNING|SELECT|SET|THEN|UNION|UNIQUE|USING|VALUES|WHEN|WHERE",
    re.IGNORECASE,
)
# From the first of these on a name is a table's, whose columns may follow in parentheses …
_BEFORE_TABLE: Final = re.compile(r"INTO|TABLE|INDEX|REFERENCES", re.IGNORECASE)
# … also across these, as in CREATE TABLE IF NOT EXISTS and CREATE INDEX … ON.
_ACROSS_TO_TABLE: Final = re.compile(r"NOT|EXISTS|ON", re.IGNORECASE)

_KINDS: Final = {
    **dict.fromkeys(("INSERT", "UPDATE", "DELETE", "REPLACE"), "write"),
    **dict.fromkeys(("CREATE", "DROP", "ALTER", "VACUUM", "REINDEX", "ANALYZE"), "ddl"),
    **dict.fromkeys(("BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE"), "transaction"),
    **dict.fromkeys(("PRAGMA", "ATTACH", "DETACH"), "pragma"),
    "EXPLAIN": "read",
}


def shape_of(sql: str) -> str:
    """Return the statement with its literals replaced by ``?``, and evenly spaced.

    Literals are numbers with their sign, strings, blobs, bound parameters, and NULL, TRUE and
    FALSE where a value stands. Neighbouring literals in a list of ``IN``, and equal rows of
    ``VALUES``, are collapsed to one. Comments and the closing semicolon go, identifiers stay as
    they are written, keywords and functions become upper case. About 20 µs for a short statement
    whose shape was seen before; then from a cache.

    Args:
        sql: One statement; any text will do, none raises.

    Examples:
        >>> shape_of("insert into account(id,owner) values (1, 'alice'),  (-2, NULL) -- two")
        'INSERT INTO account (id, owner) VALUES (?, ?)'
        >>> shape_of("SELECT owner FROM account WHERE id IN (1, 2, :third) AND note IS NULL;")
        'SELECT owner FROM account WHERE id IN (?) AND note IS NULL'
    """
    if len(sql) > _CACHED_CHARACTERS_MAX:
        return _shape(sql)
    return _cached_shape(sql)


def kind_of(sql: str, *, readonly: bool) -> str:
    """Return what kind of statement this is: read, write, ddl, transaction or pragma.

    Args:
        sql: One statement; leading comments are skipped.
        readonly: SQLite's own word for it (``sqlite3_stmt_readonly``), which decides where the
            first keyword does not, as for ``WITH``.

    Examples:
        >>> kind_of("/* last */ WITH t AS (SELECT 1) INSERT INTO a SELECT * FROM t", readonly=False)
        'write'
        >>> kind_of("EXPLAIN QUERY PLAN DELETE FROM a", readonly=True)
        'read'
    """
    first = _FIRST_WORD.match(sql)
    assert first is not None, "every part of the pattern is optional"
    return _KINDS.get(first[1].upper()) or ("read" if readonly else "write")


def plan_key(sql: str) -> str | None:
    """Return what all statements with the same plan as this one have in common; None: ask.

    Literals can change a plan: a pattern of ``LIKE``, a value that a partial index is for, the
    number of a column to order by, whatever statistics know of. They cannot where rows of values
    are inserted and nothing is looked up, and only for such statements there is a key.

    Examples:
        >>> plan_key("INSERT INTO t VALUES (1, 'a')") == plan_key("INSERT INTO t VALUES (2, 'b')")
        True
        >>> plan_key("SELECT x FROM t WHERE x LIKE 'a%'")
    """
    if len(sql) > _CACHED_CHARACTERS_MAX or _INSERTS_VALUES.match(sql) is None:
        return None
    plain = _plain(sql)
    return None if plain is None or _MAY_LOOK_UP.search(plain) else plain


@lru_cache(maxsize=_CACHED_SHAPES_MAX)
def _cached_shape(sql: str) -> str:
    plain = _plain(sql)
    return _shape(sql) if plain is None else _shape_of_plain(plain)


@lru_cache(maxsize=_CACHED_SHAPES_MAX)
def _shape_of_plain(plain: str) -> str:
    return _shape(plain)


def _plain(sql: str) -> str | None:
    """Return a statement with ``?`` for its strings and numbers, which has the same shape.

    None where something else than literals may look like one, or hide one.
    """
    plain = _PLAIN_LITERAL.sub("\0", sql)
    if _NOT_PLAIN.search(plain) or plain.count("\0") < 1 or "\0" in sql:
        return None
    return plain.replace("\0", "?")


def _shape(sql: str) -> str:
    shape = _spaced(_one_row(_one_element(_without_literals(sql))))
    return _spelled(shape) if len(shape) <= _SPELLED_CHARACTERS_MAX else shape


@lru_cache(maxsize=_CACHED_SHAPES_MAX)
def _spelled(shape: str) -> str:
    """Return the shape with keywords as sqlglot spells them, if every token stays what it was."""
    # Imported here because it takes a tenth of a second, and most programs see no shape at all.
    import sqlglot  # noqa: PLC0415

    logger = logging.getLogger("sqlglot")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        parsed = sqlglot.parse_one(shape, read="sqlite")
        if isinstance(parsed, sqlglot.exp.Command):
            # Understood by its first word only.
            return shape
        text = parsed.sql(dialect="sqlite", normalize_functions="upper")
    except (sqlglot.errors.SqlglotError, RecursionError, ValueError, AttributeError):
        return shape
    finally:
        logger.disabled = was_disabled
    tokens, spelled = _without_literals(shape), _without_literals(text)
    if [token.upper() for token in tokens] != [token.upper() for token in spelled]:
        return shape
    # Names keep their own spelling: only words that sqlglot changed to upper case are keywords.
    return _spaced(
        [
            new if new.isupper() and old.isalpha() else old
            for old, new in zip(tokens, spelled, strict=True)
        ]
    )


def _without_literals(sql: str) -> list[str]:
    """Return the tokens, each literal as ``?``."""
    tokens: list[str] = []
    for match in _TOKEN.finditer(sql):
        group, text = match.lastgroup, match[0]
        if group == "space":
            continue
        if group == "literal":
            if tokens and tokens[-1] in ("-", "+") and _before_value(tokens[-2:-1]):
                tokens.pop()
            text = "?"
        elif group == "word" and _NAMED_VALUE.fullmatch(text) and _before_value(tokens[-1:]):
            text = "?"
        tokens.append(text)
    while tokens and tokens[-1] == ";":
        tokens.pop()
    return tokens


def _before_value(last: list[str]) -> bool:
    return bool(last) and _BEFORE_VALUE.fullmatch(last[0]) is not None


def _one_element(tokens: list[str]) -> list[str]:
    """Collapse ``IN (?, ?, ?)`` to ``IN (?)``."""
    kept: list[str] = []
    in_list = False
    for text in tokens:
        if text == "(":
            in_list = bool(kept) and kept[-1].upper() == "IN"
        elif text not in ("?", ","):
            in_list = False
        elif in_list and text == "?" and kept[-2:] == ["?", ","]:
            kept.pop()
            continue
        kept.append(text)
    return kept


def _one_row(tokens: list[str]) -> list[str]:
    """Collapse equal neighbours among the rows of ``VALUES`` to one."""
    kept: list[str] = []
    index = 0
    while index < len(tokens):
        kept.append(tokens[index])
        index += 1
        if kept[-1].upper() == "VALUES":
            last: list[str] = []
            for row, stop in _rows(tokens, index):
                if row != last:
                    kept += [",", *row] if last else row
                    last = row
                index = stop
    return kept


def _rows(tokens: list[str], start: int) -> Iterator[tuple[list[str], int]]:
    """Yield the rows in parentheses that begin at ``start``, each with the index after it."""
    while start < len(tokens) and tokens[start] == "(":
        stop = start
        depth = 0
        while stop < len(tokens):
            depth += {"(": 1, ")": -1}.get(tokens[stop], 0)
            stop += 1
            if depth == 0:
                break
        yield tokens[start:stop], stop
        if stop == len(tokens) or tokens[stop] != ",":
            return
        start = stop + 1


def _spaced(tokens: list[str]) -> str:
    parts: list[str] = []
    last = "("
    names_table = False
    for text in tokens:
        together = last in ("(", ".") or text in (",", ")", ".", ";")
        if text == "(" and not names_table:
            together = together or _calls(last)
        if not together:
            parts.append(" ")
        parts.append(text)
        names_table = _names_table(text, before=names_table)
        last = text
    return "".join(parts)


def _names_table(text: str, *, before: bool) -> bool:
    """Return whether a parenthesis after this holds columns, given that for what came before."""
    if not before:
        return _BEFORE_TABLE.fullmatch(text) is not None
    if _BEFORE_PARENTHESIS.fullmatch(text):
        return _ACROSS_TO_TABLE.fullmatch(text) is not None
    return text == "." or _is_name(text)


def _calls(name: str) -> bool:
    """Return whether a parenthesis belongs to the name before it, as in ``count(*)``."""
    return _is_name(name) and _BEFORE_PARENTHESIS.fullmatch(name) is None


def _is_name(text: str) -> bool:
    return text[0].isalpha() or text[0] in '_"`['
