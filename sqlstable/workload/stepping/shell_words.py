r"""Cutting a text of steps into lines of words, as a shell cuts what is typed there.

One step stands on a line; a quote, a bracket or a ``\`` at the end of a line carries it on. Words
are those of a POSIX shell, with two differences:

* an unquoted word that begins with ``(``, ``[`` or ``{`` goes on to the bracket that closes it, so
  that Candid and JSON need no quotes;
* nothing is expanded: ``$NAME``, ``$(…)`` and backquotes are refused, as their values are not here.

A line that begins with a parenthesis is no step but a reply, as ``dfx`` prints it below a call.
``$ `` in front of a line, as terminals show it, is left out; ``#`` begins a comment.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

from sqlstable.errors import ScriptError

_CLOSERS: Final = {"(": ")", "[": "]", "{": "}"}
_BLANKS: Final = " \t\r\f\v\ufeff"
_PROMPT: Final = re.compile(r"[$%] +")
_PLAIN: Final = re.compile(rf"[^{_BLANKS}\n'\"\\`$]+")
_SINGLE: Final = re.compile(r"'([^']*)'")
_DOUBLE: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED: Final = re.compile(r'\\(["\\$`])|\\\n')
_EXPANDED: Final = re.compile(r"\$(?=[A-Za-z_({])|`")
_SPACE: Final = re.compile(r"(?:[ \t\r\f\v\ufeff]|\\\r?\n)+")
_BRACKETED: Final = re.compile(
    r"[^()\[\]{}\"/]+|\"(?:[^\"\\]|\\.)*\"|//[^\n]*|/\*.*?\*/|[/()\[\]{}]|\"", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class StepLine:
    """One step of a workload, as words."""

    number: int
    "Line on which it begins, counted from 1."
    words: tuple[str, ...]
    bare: bool = False
    "Whether it is a reply in parentheses, which is then its one word."


def read_lines(text: str, *, name: str = "workload") -> Iterator[StepLine]:
    r"""Yield the lines of a workload that say something.

    Args:
        text: The whole workload.
        name: What errors call it.

    Raises:
        ScriptError: A quote or a bracket is never closed, or a shell would have to expand a word.

    Examples:
        >>> for line in read_lines('''
        ... $ update add_user '("ana")'   # a user
        ... (0 : nat)
        ... query top (10,
        ...            "all")
        ... '''):
        ...     print(line.number, line.words)
        2 ('update', 'add_user', '("ana")')
        3 ('(0 : nat)',)
        4 ('query', 'top', '(10,\n           "all")')
    """
    yield from _WordReader(text, name).lines()


class _WordReader:
    """Where reading has come to."""

    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self._name = name
        self._at = 0
        self._counted = 0, 1
        "A place in the text, and the number of its line."

    def lines(self) -> Iterator[StepLine]:
        while self._at < len(self._text):
            self._skip_space()
            prompt = _PROMPT.match(self._text, self._at)
            if prompt is not None:
                self._at = prompt.end()
            number, is_bare = self._number(self._at), self._text[self._at : self._at + 1] == "("
            words = tuple(self._words())
            if words:
                if is_bare and len(words) > 1:
                    self._fail(number, "nothing but a comment may follow a reply on its line")
                yield StepLine(number, words, is_bare)

    def _words(self) -> Iterator[str]:
        """Yield the words up to the end of the line, which is behind what stays open there."""
        text = self._text
        while True:
            self._skip_space()
            match text[self._at : self._at + 1]:
                case "":
                    return
                case "\n":
                    self._at += 1
                    return
                case "#":
                    end = text.find("\n", self._at)
                    self._at = len(text) if end < 0 else end
                case "(" | "[" | "{":
                    yield self._bracketed()
                case _:
                    yield self._word()

    def _word(self) -> str:
        """Read one word of quoted and unquoted pieces."""
        text, parts = self._text, list[str]()
        while self._at < len(text) and text[self._at] not in _BLANKS + "\n":
            start = self._at
            match text[start]:
                case "'":
                    parts.append(self._quoted(_SINGLE))
                case '"':
                    parts.append(_ESCAPED.sub(r"\1", self._quoted(_DOUBLE)))
                    self._refuse_expansion(text[start : self._at].replace(r"\$", ""), start)
                case "\\":
                    if text[start + 1 : start + 2] in ("\n", "\r"):
                        break
                    parts.append(text[start + 1 : start + 2])
                    self._at += 2
                case "$" | "`":
                    self._refuse_expansion(text[start : start + 2], start)
                    parts.append(text[start])
                    self._at += 1
                case _:
                    plain = _PLAIN.match(text, start)
                    assert plain is not None
                    parts.append(plain.group())
                    self._at = plain.end()
        return "".join(parts)

    def _quoted(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            quote = self._text[self._at]
            self._fail(self._number(self._at), f"{quote} opens here and never closes; add {quote}")
        self._at = found.end()
        return found[1]

    def _bracketed(self) -> str:
        """Read up to the bracket that closes the one that stands here."""
        start, open_brackets = self._at, list[str]()
        for piece in _BRACKETED.finditer(self._text, start):
            mark = piece.group()
            if mark in _CLOSERS:
                open_brackets.append(_CLOSERS[mark])
            elif open_brackets and mark == open_brackets[-1]:
                open_brackets.pop()
                if not open_brackets:
                    self._at = piece.end()
                    return self._text[start : self._at]
            elif mark in (")", "]", "}", '"'):
                words = f"{mark} closes nothing" if mark != '"' else '" opens and never closes'
                self._fail(self._number(piece.start()), words)
        bracket = self._text[start]
        text = f"{bracket} opens here and never closes; add {_CLOSERS[bracket]}"
        raise ScriptError(f"{self._name}, line {self._number(start)}: {text}")

    def _refuse_expansion(self, piece: str, at: int) -> None:
        found = _EXPANDED.search(piece)
        if found is not None:
            self._fail(
                self._number(at),
                f"{self._text[at : at + 20].split()[0]} is something that a shell puts a value "
                "for, which is not known here; write the value, in single quotes",
            )

    def _skip_space(self) -> None:
        found = _SPACE.match(self._text, self._at)
        if found is not None:
            self._at = found.end()

    def _number(self, at: int) -> int:
        before, number = self._counted
        # Errors look back; all else goes forward, and counts each line feed once.
        number += self._text.count("\n", before, at) if at >= before else 0
        if at >= before:
            self._counted = at, number
            return number
        return self._text.count("\n", 0, at) + 1

    def _fail(self, number: int, text: str) -> NoReturn:
        raise ScriptError(f"{self._name}, line {number}: {text}")
