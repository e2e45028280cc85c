"""The text of CREATE TABLE taken apart, for what no PRAGMA tells.

That is CHECK, the names of constraints, their conflict clauses, what a generated column is computed
by, and whether a foreign key is deferred. The text is one that SQLite has accepted and keeps in
``sqlite_schema``, so that its grammar (sqlite.org/lang_createtable.html) need not be checked again.
"""

from dataclasses import dataclass, field
from typing import Final

from sqlstable.schema.schema_objects import CheckRule, ForeignKeyRule
from sqlstable.schema.sql_tokens import SqlToken, tokens_of, unquoted

_OF_TABLES: Final = frozenset({"constraint", "primary", "unique", "check", "foreign"})


@dataclass(slots=True)
class KeyText:
    """A PRIMARY KEY or UNIQUE constraint: each term a column, its collation, whether descending."""

    is_primary: bool
    terms: list[tuple[str, str | None, bool]]
    conflict: str = "ABORT"
    name: str | None = None


@dataclass(slots=True)
class ColumnText:
    """What the text says of one column."""

    name: str
    expression: str | None = None
    not_null_conflict: str = "ABORT"


@dataclass(slots=True)
class TableText:
    """What the text says of one table."""

    columns: list[ColumnText] = field(default_factory=list)
    keys: list[KeyText] = field(default_factory=list)
    checks: list[CheckRule] = field(default_factory=list)
    foreign_keys: list[ForeignKeyRule] = field(default_factory=list)


def take_table_apart(sql: str) -> TableText:
    """Return what the text of CREATE TABLE says.

    Examples:
        >>> text = take_table_apart("CREATE TABLE t (a CONSTRAINT few CHECK (a < 9), b UNIQUE)")
        >>> text.checks, [key.terms for key in text.keys]
        ([CheckRule(expression='a < 9', name='few')], [[('b', None, False)]])
    """
    return _Reader(sql).table()


def items_between(sql: str, tokens: tuple[SqlToken, ...], opening: int) -> tuple[list[str], int]:
    """Return the texts between commas in parentheses, and the index of the closing one.

    Args:
        sql: The text.
        tokens: Its tokens.
        opening: Index of the opening parenthesis.
    """
    items, depth, start = [], 0, tokens[opening].end
    for index in range(opening, len(tokens)):
        key = tokens[index].key if tokens[index].kind == "sign" else ""
        depth += (key == "(") - (key == ")")
        if depth == 0 or (key == "," and depth == 1):
            items.append(sql[start : tokens[index].start].strip())
            start = tokens[index].end
        if depth == 0:
            return [item for item in items if item], index
    return items, len(tokens)


class _Reader:
    """Goes through the tokens of one table."""

    def __init__(self, sql: str) -> None:
        self._sql = sql
        self._tokens = tokens_of(sql)
        self._at = 0
        self._found = TableText()
        self._name: str | None = None

    def table(self) -> TableText:
        while not self._is("("):
            self._at += 1
        self._at += 1
        while not self._is(")"):
            if self._is(","):
                self._at += 1
            elif self._word() in _OF_TABLES:
                self._table_constraint()
            else:
                self._column()
        return self._found

    # -- tokens ---------------------------------------------------------------------------------

    def _is(self, key: str) -> bool:
        return self._at >= len(self._tokens) or (
            self._tokens[self._at].key == key and not self._tokens[self._at].is_quoted
        )

    def _word(self) -> str:
        """Return a word of the grammar; empty where there is none."""
        if self._at >= len(self._tokens):
            return ""
        token = self._tokens[self._at]
        return token.key if token.kind == "name" and not token.is_quoted else ""

    def _takes(self, *words: str) -> bool:
        """Step over words if these are next."""
        start = self._at
        for word in words:
            if self._word() != word:
                self._at = start
                return False
            self._at += 1
        return True

    def _named(self) -> str:
        self._at += 1
        return unquoted(self._tokens[self._at - 1].text)

    def _inside(self) -> str:
        """Step over what is in parentheses, and return it."""
        start, depth = self._tokens[self._at].end, 0
        while True:
            token = self._tokens[self._at]
            if token.kind == "sign":
                depth += (token.key == "(") - (token.key == ")")
            self._at += 1
            if depth == 0:
                return self._sql[start : token.start].strip()

    def _conflict(self) -> str:
        return self._named().upper() if self._takes("on", "conflict") else "ABORT"

    # -- columns --------------------------------------------------------------------------------

    def _column(self) -> None:
        column = ColumnText(self._named())
        self._found.columns.append(column)
        self._name = None
        while not (self._is(",") or self._is(")")):
            if not self._column_constraint(column):
                # A word of its type, or a part of a default that is no expression.
                if self._is("("):
                    self._inside()
                else:
                    self._at += 1

    def _column_constraint(self, column: ColumnText) -> bool:
        if self._takes("constraint"):
            self._name = self._named()
            return True
        if self._takes("not", "null"):
            column.not_null_conflict = self._conflict()
        elif self._takes("default"):
            if self._is("("):
                self._inside()
        elif self._takes("collate"):
            self._at += 1
        elif self._takes("primary", "key"):
            is_descending = self._takes("desc") or (self._takes("asc") and False)
            self._key([(column.name, None, is_descending)], is_primary=True)
        elif self._takes("unique"):
            self._key([(column.name, None, False)], is_primary=False)
        elif self._takes("check"):
            self._check()
        elif self._takes("generated", "always", "as") or (
            self._word() == "as" and self._takes("as")
        ):
            column.expression = self._inside()
        elif self._takes("references"):
            self._references((column.name,))
        else:
            return False
        self._name = None
        return True

    # -- constraints ----------------------------------------------------------------------------

    def _table_constraint(self) -> None:
        if self._takes("constraint"):
            self._name = self._named()
            return
        if self._takes("primary", "key"):
            terms = self._terms()
            self._takes("autoincrement")
            self._key(terms, is_primary=True)
        elif self._takes("unique"):
            self._key(self._terms(), is_primary=False)
        elif self._takes("check"):
            self._check()
            self._conflict()
        elif self._takes("foreign", "key"):
            columns = tuple(name for name, _, _ in self._terms())
            self._takes("references")
            self._references(columns)
        else:
            self._at += 1
        self._name = None

    def _terms(self) -> list[tuple[str, str | None, bool]]:
        """Step over ``(a COLLATE nocase DESC, b)``, and return what it says."""
        terms: list[tuple[str, str | None, bool]] = []
        self._at += 1
        while not self._takes_sign(")"):
            name, collation, is_descending = self._named(), None, False
            while not (self._is(",") or self._is(")")):
                if self._takes("collate"):
                    collation = self._named()
                else:
                    is_descending |= self._word() == "desc"
                    self._at += 1
            terms.append((name, collation, is_descending))
            self._takes_sign(",")
        return terms

    def _takes_sign(self, sign: str) -> bool:
        is_there = self._is(sign)
        self._at += is_there
        return is_there

    def _key(self, terms: list[tuple[str, str | None, bool]], *, is_primary: bool) -> None:
        conflict = self._conflict()
        self._found.keys.append(KeyText(is_primary, terms, conflict, self._name))
        self._takes("autoincrement")

    def _check(self) -> None:
        self._found.checks.append(CheckRule(self._inside(), self._name))

    def _references(self, columns: tuple[str, ...]) -> None:
        parent = self._named()
        parents = tuple(name for name, _, _ in self._terms()) if self._is("(") else ()
        actions = {"update": "NO ACTION", "delete": "NO ACTION"}
        is_deferred = False
        while True:
            if self._word() == "on" and self._word_after() in actions:
                self._at += 1
                event = self._named().lower()
                action = self._named().upper()
                if action in ("SET", "NO"):
                    action = f"{action} {self._named().upper()}"
                actions[event] = action
            elif self._takes("match"):
                self._at += 1
            elif self._takes("not", "deferrable"):
                self._initially()
            elif self._takes("deferrable"):
                is_deferred = self._initially()
            else:
                break
        self._found.foreign_keys.append(
            ForeignKeyRule(
                columns,
                parent,
                parents,
                on_update=actions["update"],
                on_delete=actions["delete"],
                is_deferred=is_deferred,
                name=self._name,
            )
        )

    def _word_after(self) -> str:
        after = self._at + 1
        return self._tokens[after].key if after < len(self._tokens) else ""

    def _initially(self) -> bool:
        return self._takes("initially") and self._named().lower() == "deferred"
