r"""Cutting a workload script into messages.

A workload script is plain SQL, so that ``sqlite3 < script.sql`` runs it too; what SQL cannot
say stands in comments, the directives. The grammar::

    script      = { statement | directive | blank | comment }
    statement   = SQL up to the first semicolon at which SQLite calls it complete;
                  the last one of a script may go without the semicolon
    transaction = BEGIN …        { statement }  COMMIT | END | ROLLBACK
                | SAVEPOINT name { statement }  RELEASE name | COMMIT | END | ROLLBACK
    directive   = "--@" word [ argument ], on a line of its own and between statements

    --@ update         the statements below are one update message
    --@ query          the statements below are one query message
    --@ await          the message awaits: what it did is committed, and what follows goes on as
                       another message; with ``allow-open-transaction`` behind it, even where an
                       SQL transaction is open
    --@ continue NAME  the message called NAME that awaits goes on; without NAME the last one
    --@ trap           the message ends here by a trap; before its first statement: at its end
    --@ upgrade        the canister is upgraded
    --@ reinstall      the canister is reinstalled
    --@ label NAME     the next message is called NAME
    --@ repeat N       the next message is sent N times, 1 to 1 000 000 000
    --@ params FILE    the next statement runs once per line of the CSV file, its fields bound;
                       `sqlstable.workload.params` says which field to which parameter

**Messages.** Below ``--@ update`` and ``--@ query`` everything up to the next ``update``,
``query``, ``upgrade``, ``reinstall``, ``await``, ``trap`` or the end of the script is one
message. Elsewhere a transaction is one update, and any other statement is a message alone,
whose kind SQLite decides when it runs.

**Await.** What follows an ``await`` goes on with the message: in an open transaction all up to
its end, elsewhere all up to the next directive. A writing statement alone, or a whole transaction,
above an ``await`` is an update that awaits there, as if ``update`` stood in front; any other
statement alone is refused, because only SQLite could say whether it writes. If a directive follows
at once, other messages run meanwhile, and ``continue`` goes on with the one that waits; if none
does, it never goes on. While a message waits that may leave a transaction open, so may all others.

**Label, repeat and trap** stand before a message, or directly below the ``--@ update`` or
``--@ query`` that opens it; each at most once. They hold for that message only, not for what
follows an ``await``. A step that traps is an update, whatever it was called: nothing of it
remains either way. If a trap falls inside a transaction, and the very next statement closes
that transaction, then that statement is left out: it is there for ``sqlite3``, and a message
that trapped never reaches it.

**Invariants**

- Only SQLite decides where a statement ends. The scanner here knows literals and comments just
  well enough not to ask at a semicolon inside of them, which keeps the work linear.
- No other statement is lost, and none is merged or changed: ``sql`` is the text of the script,
  without the blanks and comments before it, the closing semicolon, and the blanks before that.
- Lines end with a line feed, as in SQLite's own ``--`` comments; a carriage return is a blank.

**Limitations.** Commands of the ``sqlite3`` shell (``.import``) are refused. The text is taken
as it comes: NUL characters and undecodable bytes are for the caller to refuse.
"""

import re
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

from sqlstable.errors import ScriptError
from sqlstable.workload.params import Row, RowsError, read_rows

REPEAT_MAX: Final = 1_000_000_000
"""Most often that one message can be repeated."""

DIRECTIVES: Final = (
    "update",
    "query",
    "await",
    "trap",
    "upgrade",
    "reinstall",
    "label",
    "repeat",
    "params",
    "continue",
)
"""Every word that may follow ``--@``."""

_ARGUMENTS: Final = {"label": "NAME", "repeat": "N", "params": "FILE.csv"}
_OPEN: Final = "allow-open-transaction"
_MAY_HAVE_ARGUMENT: Final = frozenset(("await", "continue"))
assert _ARGUMENTS.keys() | _MAY_HAVE_ARGUMENT <= set(DIRECTIVES)

_SPACE: Final = " \t\n\f\r"
_LINE_COMMENT: Final = r"--[^\n]*+"
_BLOCK_COMMENT: Final = r"/\*[^*]*+(?:\*(?!/)[^*]*+)*+\*/"
_IGNORED: Final = rf"(?:[{_SPACE}]++|{_LINE_COMMENT}|{_BLOCK_COMMENT})*+"

# SQLite's tokenizer takes a byte order mark for a blank, wherever joined files left one.
_GAP: Final = re.compile(rf"[{_SPACE}\ufeff;]++|{_LINE_COMMENT}|{_BLOCK_COMMENT}")

# All that can hide a semicolon, and the semicolon. A doubled quote needs no care: 'a''b' is
# scanned as two literals side by side, which hide the same text.
_MARK: Final = re.compile(
    r"'[^']*+'|\"[^\"]*+\"|`[^`]*+`|\[[^\]]*+\]"
    rf"|(?P<directive>--@)|{_LINE_COMMENT}|{_BLOCK_COMMENT}"
    r"|(?P<semicolon>;)|(?P<unclosed>['\"`\[]|/\*)"
)
_CLOSERS: Final = {"'": "'", '"': '"', "`": "`", "[": "]", "/*": "*/"}

_TRIGGER_END: Final = re.compile(rf"{_IGNORED}END{_IGNORED}", re.IGNORECASE)

_DIRECTIVE: Final = re.compile(r"--@[ \t\f\r]*(?P<word>[^ \t\n\f\r]*)(?P<argument>[^\n]*)")

# SQLite's identifier characters: ASCII ones, and every character outside of ASCII.
_WORD: Final = r"[A-Za-z0-9_$\x80-\U0010ffff]++"
_FIRST_WORD: Final = re.compile(_WORD)
_WORD_OR_NAME: Final = re.compile(
    rf"{_LINE_COMMENT}|{_BLOCK_COMMENT}"
    r"|('(?:[^']++|'')*+'|\"(?:[^\"]++|\"\")*+\"|`(?:[^`]++|``)*+`|\[[^\]]*+\]"
    rf"|{_WORD})"
)
_ASCII_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_TRANSACTION_WORDS: Final = frozenset(
    ("begin", "commit", "end", "rollback", "savepoint", "release")
)

_WRITING_WORDS: Final = frozenset(
    ("insert", "update", "delete", "replace", "create", "drop", "alter", "reindex")
)
"""What begins a statement that writes, whatever the tables are; behind WITH only SQLite knows."""

_Levels: TypeAlias = tuple[str | None, ...]
"""What is open of a transaction, outermost first: None for BEGIN, else a savepoint's name."""


@dataclass(frozen=True, slots=True)
class ScriptStatement:
    """One SQL statement of a script."""

    sql: str
    """As in the script, without what stands before it and without the closing semicolon."""
    line: int
    """Line of the script where ``sql`` starts, counted from 1."""
    params: tuple[Row, ...] | None
    """One row of int, float, str or None per run, all equally long; None: run once, unbound."""
    params_file: str | None = None
    """Where the rows come from."""
    params_lines: Sequence[int] = ()
    """In which line of it each row begins."""


@dataclass(frozen=True, slots=True)
class ScriptStep:
    """One message of a script, or an upgrade or reinstallation."""

    kind: str
    """``auto`` (a query if all statements only read, else an update; SQLite decides),
    ``update``, ``query``, ``upgrade``, ``reinstall``, or ``trap`` (an update that traps after
    its last statement)."""
    statements: tuple[ScriptStatement, ...]
    """In order; empty for ``upgrade`` and ``reinstall`` only."""
    label: str | None
    """What ``--@ label`` calls it."""
    repeat: int
    """How many times it is sent; 1 or more."""
    line: int
    """Line of the directive that opens it, or else of its first statement, counted from 1."""
    await_after: bool
    """Whether an ``--@ await`` ended it."""
    continues: int | None = None
    """Index of the step that it goes on from, behind the ``--@ await`` that ended that one."""
    allow_open_transaction: bool = False
    """Whether an SQL transaction may be open when it ends."""


def parse_script(
    text: str,
    *,
    is_complete: Callable[[str], bool],
    base_folder: Path | None = None,
    name: str = "script",
) -> tuple[ScriptStep, ...]:
    """Cut a workload script into its steps.

    The work is linear in the text: ``is_complete`` sees each character once, in a trigger or at
    the end of the script twice.

    Args:
        text: The whole script; a byte order mark at its start is skipped.
        is_complete: ``sqlite3_complete`` of the SQLite that will run the script:
            ``apsw.complete``, or ``sqlite3.complete_statement``.
        base_folder: Where relative files of ``--@ params`` lie; None is the current folder.
        name: What errors call the script.

    Returns:
        The steps in order; none for a script without statements.

    Raises:
        ScriptError: The script, or a CSV file that it names, cannot be understood.

    Examples:
        >>> from sqlite3 import complete_statement
        >>> steps = parse_script('''
        ... CREATE TABLE note (body TEXT);  -- alone: one message
        ... BEGIN; INSERT INTO note VALUES ('a;b'); COMMIT;
        ... --@ upgrade
        ... --@ label count
        ... SELECT count(*) FROM note
        ... ''', is_complete=complete_statement)
        >>> for step in steps:
        ...     print(step.line, step.kind, step.label, [one.sql for one in step.statements])
        2 auto None ['CREATE TABLE note (body TEXT)']
        3 update None ['BEGIN', "INSERT INTO note VALUES ('a;b')", 'COMMIT']
        4 upgrade None []
        6 auto count ['SELECT count(*) FROM note']
    """
    collector = _Collector(name, base_folder or Path())
    for piece in _cut(text, is_complete=is_complete, name=name):
        if isinstance(piece, ScriptStatement):
            collector.add(piece)
        else:
            collector.obey(piece)
    return collector.finish()


@dataclass(frozen=True, slots=True)
class _Directive:
    """A line that begins with ``--@``."""

    word: str
    """One of ``DIRECTIVES``."""
    argument: str
    """The rest of its line, without blanks around it."""
    line: int
    """Counted from 1."""


def _fail(text: str, *, name: str, line: int) -> NoReturn:
    raise ScriptError(f"{name}, line {line}: {text}")


# --- text to statements and directives -----------------------------------------------------


def _cut(
    text: str, *, is_complete: Callable[[str], bool], name: str
) -> Iterator[ScriptStatement | _Directive]:
    """Yield the statements and directives of ``text`` in order."""
    position, line = 0, 1
    while position < len(text):
        gap = _GAP.match(text, position)
        if gap is None:
            sql_end, end = _find_end(text, position, line=line, is_complete=is_complete, name=name)
            sql = text[position:sql_end].rstrip(_SPACE)
            yield ScriptStatement(sql, line, None)
        else:
            end = gap.end()
            if text.startswith("--@", position):
                yield _read_directive(text, position, line=line, name=name)
        line += text.count("\n", position, end)
        position = end


def _find_end(
    text: str, start: int, *, line: int, is_complete: Callable[[str], bool], name: str
) -> tuple[int, int]:
    """Return where the statement at ``start`` ends, and where the text after it begins.

    SQLite refuses a semicolon outside of literals and comments only in a CREATE TRIGGER, and a
    trigger ends only at ``; END ;``. Asking nowhere else changes no answer, and keeps a long
    trigger, or one whose END was forgotten, from being read again for each of its semicolons.
    """
    if text[start] == ".":
        command = text[start : start + 80].split(maxsplit=1)[0]
        _fail(
            f"{command} is a command of the sqlite3 shell; a workload script holds only SQL "
            "and --@ directives",
            name=name,
            line=line,
        )
    refused = -1
    for mark in _MARK.finditer(text, start):
        position = mark.start()
        match mark.lastgroup:
            case "semicolon":
                may_end = refused < 0 or _TRIGGER_END.fullmatch(text, refused + 1, position)
                if may_end and is_complete(text[start : position + 1]):
                    return position, position + 1
                refused = position
            case "directive":
                _fail(
                    f"a directive stands inside the statement that begins on line {line}; "
                    "end that statement with a semicolon, or move the directive",
                    name=name,
                    line=line + text.count("\n", start, position),
                )
            case "unclosed":
                _fail_unclosed(text, start, mark, line=line, name=name)
            case _:
                pass  # A literal or a comment, closed: its semicolons end nothing.
    # On a line of its own, because the rest may end in a comment.
    if not is_complete(text[start:] + "\n;"):
        _fail(
            "the statement that begins here is not complete at the end of the script; "
            "a CREATE TRIGGER ends with END and a semicolon",
            name=name,
            line=line,
        )
    return len(text), len(text)


def _fail_unclosed(text: str, start: int, mark: re.Match[str], *, line: int, name: str) -> NoReturn:
    opener = mark.group()
    way_out = f"close it with {_CLOSERS[opener]}"
    if mark.start() == start:
        _fail(f"{opener} opens here and never closes; {way_out}", name=name, line=line)
    _fail(
        "the statement that begins here never ends: "
        f"{opener} opens on line {line + text.count(chr(10), start, mark.start())} "
        f"and never closes; {way_out}",
        name=name,
        line=line,
    )


def _read_directive(text: str, start: int, *, line: int, name: str) -> _Directive:
    """Return the directive that begins at ``start``, once its word and argument are known good."""
    before = text[text.rfind("\n", 0, start) + 1 : start]
    if before.strip(_SPACE + "\ufeff"):
        _fail("a directive needs a line of its own; move it to the next one", name=name, line=line)
    found = _DIRECTIVE.match(text, start)
    assert found is not None
    word = found["word"].lower()
    argument = found["argument"].strip(_SPACE)
    if word not in DIRECTIVES:
        known = ", ".join(DIRECTIVES)
        _fail(
            f"{found.group().strip(_SPACE)} is not a directive; the known ones are {known}",
            name=name,
            line=line,
        )
    wanted = _ARGUMENTS.get(word)
    if wanted is not None and not argument:
        _fail(f"--@ {word} lacks its argument; write --@ {word} {wanted}", name=name, line=line)
    if word == "await" and argument not in ("", _OPEN):
        _fail(f"--@ await takes no argument but {_OPEN}; remove {argument!r}", name=name, line=line)
    if wanted is None and argument and word not in _MAY_HAVE_ARGUMENT:
        _fail(f"--@ {word} takes no argument; remove {argument!r}", name=name, line=line)
    return _Directive(word, argument, line)


# --- statements and directives to steps ----------------------------------------------------


@dataclass(slots=True)
class _Message:
    """The message that is being collected."""

    kind: str
    line: int
    by_directive: bool
    """Whether only a directive ends it; otherwise the end of its transaction does."""
    may_be_empty: bool = False
    """Whether nobody wrote a directive for it: ``--@ await`` began it."""
    continues: int | None = None
    """Index of the step that it goes on from."""
    opener: str = ""
    """The directive that opened it."""
    label: str | None = None
    repeat: int = 1
    traps: bool = False
    levels: _Levels = ()
    statements: list[ScriptStatement] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A message that awaits, and has not gone on."""

    step: int
    """Its index."""
    kind: str
    label: str | None
    allows_open: bool
    """Whether it waits with an SQL transaction that may be open."""


class _Collector:
    """Puts statements and directives together into steps.

    Invariant: what waits belongs to something further down. ``params`` waits for a statement,
    the others for the first statement of a message, or an upgrade.
    """

    def __init__(self, name: str, base_folder: Path) -> None:
        self._name = name
        self._base_folder = base_folder
        self._steps: list[ScriptStep] = []
        self._message: _Message | None = None
        self._waiting: dict[str, _Directive] = {}
        self._awaiting: list[_Waiting] = []
        self._unreached: _Levels = ()
        # What ended by itself above the next directive: an await there is its own.
        self._ended: _Message | None = None

    def add(self, statement: ScriptStatement) -> None:
        """Add a statement to the open message, or to a new one."""
        unreached, self._unreached = self._unreached, ()
        if unreached and not _levels_after(unreached, statement.sql):
            return
        message, self._ended = self._message, None
        if message is None:
            message = self._open(_Message("auto", statement.line, by_directive=False))
        if message.statements:
            self._refuse_inside(message)
        else:
            message.label, message.repeat, message.traps = self._take_settings()
            self._awaiting = [it for it in self._awaiting if it.step != message.continues]
        message.statements.append(self._bind(statement))
        message.levels = _levels_after(message.levels, statement.sql)
        if message.by_directive:
            return
        if message.levels:
            message.kind = "update"
        else:
            self._close()
            self._ended = message

    def obey(self, directive: _Directive) -> None:
        """Do what a directive says."""
        self._unreached = ()
        if directive.word == "await":
            self._reopen(directive)
        message = self._message
        match directive.word:
            case "update" | "query":
                self._close()
                word, line = directive.word, directive.line
                self._open(_Message(word, line, by_directive=True, opener=word))
            case "continue":
                self._close()
                self._continue(directive)
            case "upgrade" | "reinstall":
                self._close()
                self._add_step_without_statements(directive)
            case "await" if message is not None and message.statements:
                self._await(message, directive)
            case "await":
                pass  # Nothing has run since the last message ended: there is nothing to end.
            case "trap" if message is not None and message.statements:
                self._unreached = message.levels
                message.traps = True
                self._close()
            case _:
                self._wait(directive)

    def finish(self) -> tuple[ScriptStep, ...]:
        """Return the steps, at the end of the script."""
        self._close()
        for directive in self._waiting.values():
            self._fail(
                directive.line,
                f"nothing follows --@ {directive.word} that it could apply to; "
                "put it before a message, or remove it",
            )
        return tuple(self._steps)

    def _fail(self, line: int, text: str) -> NoReturn:
        _fail(text, name=self._name, line=line)

    def _open(self, message: _Message) -> _Message:
        assert self._message is None
        self._message = message
        return message

    def _reopen(self, directive: _Directive) -> None:
        """Open once more, as an update, what ended by itself directly above an await."""
        message, self._ended = self._ended, None
        if message is None or self._message is not None or message.traps:
            return
        if message.kind == "auto":
            first = _first_word(message.statements[0].sql)
            if first not in _WRITING_WORDS:
                self._fail(
                    directive.line,
                    f"nothing says whether the statement on line {message.line} is an update that "
                    "could await; put --@ update in front of it, or remove --@ await",
                )
        message.kind, message.by_directive = "update", True
        self._steps.pop()
        self._open(message)

    def _await(self, message: _Message, directive: _Directive) -> None:
        """End the open message at an await, and open what goes on."""
        allows_open = bool(directive.argument)
        self._close(await_after=True, allows_open=allows_open)
        step: int | None = None
        if not message.traps:
            # A message that traps never comes to its await.
            step = len(self._steps) - 1
            self._awaiting.append(_Waiting(step, message.kind, message.label, allows_open))
        if message.by_directive or (message.levels and not message.traps):
            goes_on = replace(message, line=directive.line, may_be_empty=True, continues=step)
            goes_on.label, goes_on.repeat, goes_on.traps, goes_on.statements = None, 1, False, []
            self._open(goes_on)

    def _continue(self, directive: _Directive) -> None:
        """Open what goes on with a message that awaits."""
        name, line = directive.argument, directive.line
        found = [it for it in self._awaiting if name in ("", it.label)]
        if not found:
            called = f" called {name}" if name else ""
            self._fail(
                line, f"no message{called} awaits here; end one with --@ await before --@ continue"
            )
        kind, step = found[-1].kind, found[-1].step
        self._open(_Message(kind, line, by_directive=True, continues=step, opener="continue"))

    def _close(self, *, await_after: bool = False, allows_open: bool = False) -> None:
        """End the open message, if there is one."""
        self._ended = None
        message, self._message = self._message, None
        if message is None:
            return
        if message.statements:
            self._steps.append(
                ScriptStep(
                    kind="trap" if message.traps else message.kind,
                    statements=tuple(message.statements),
                    label=message.label,
                    repeat=message.repeat,
                    line=message.line,
                    await_after=await_after,
                    continues=message.continues,
                    allow_open_transaction=allows_open
                    or any(it.allows_open for it in self._awaiting),
                )
            )
        elif not message.may_be_empty:
            self._fail(
                message.line,
                f"--@ {message.opener} holds no statements; write some below it, or remove it",
            )

    def _add_step_without_statements(self, directive: _Directive) -> None:
        label, repeat, traps = self._take_settings()
        if traps:
            self._fail(
                directive.line,
                f"--@ trap stands before --@ {directive.word}, which runs no statements; "
                "put it before or into a message",
            )
        self._steps.append(
            ScriptStep(directive.word, (), label, repeat, directive.line, await_after=False)
        )

    def _wait(self, directive: _Directive) -> None:
        earlier = self._waiting.get(directive.word)
        if earlier is not None:
            target = "statement" if directive.word == "params" else "message"
            self._fail(
                directive.line,
                f"--@ {directive.word} stands on line {earlier.line} already, for the same "
                f"{target}; remove one",
            )
        self._waiting[directive.word] = directive

    def _refuse_inside(self, message: _Message) -> None:
        """Refuse a label or repeat with statements of one message above and below it."""
        for word in ("label", "repeat"):
            directive = self._waiting.get(word)
            if directive is not None:
                self._fail(
                    directive.line,
                    f"--@ {word} stands inside the message that begins on line {message.line}; "
                    "put it before that message, or end the message first",
                )

    def _take_settings(self) -> tuple[str | None, int, bool]:
        """Return the label, the repeat count and whether to trap, as they wait."""
        label = self._waiting.pop("label", None)
        repeat = self._waiting.pop("repeat", None)
        trap = self._waiting.pop("trap", None)
        return (
            None if label is None else label.argument,
            1 if repeat is None else self._read_repeat(repeat),
            trap is not None,
        )

    def _read_repeat(self, directive: _Directive) -> int:
        digits = re.fullmatch("[0-9]{1,10}", directive.argument)
        count = 0 if digits is None else int(digits.group())
        if not 1 <= count <= REPEAT_MAX:
            self._fail(
                directive.line,
                f"--@ repeat {directive.argument} is not a whole number from 1 to {REPEAT_MAX}",
            )
        return count

    def _bind(self, statement: ScriptStatement) -> ScriptStatement:
        """Return the statement with the rows of a waiting ``--@ params``."""
        directive = self._waiting.pop("params", None)
        if directive is None:
            return statement
        word = _first_word(statement.sql)
        if word in _TRANSACTION_WORDS:
            self._fail(
                directive.line,
                f"--@ params stands before {word.upper()}, which binds nothing; "
                "put it directly before the statement that does",
            )
        try:
            rows, lines = read_rows(self._base_folder / directive.argument, statement.sql)
        except RowsError as error:
            self._fail(directive.line, f"--@ params {directive.argument}: {error}")
        return replace(statement, params=rows, params_file=directive.argument, params_lines=lines)


# --- transactions --------------------------------------------------------------------------


def _first_word(sql: str) -> str:
    """Return the first word of a statement in lower case, or an empty text."""
    # Not str.lower: SQLite folds only ASCII, and the Kelvin sign is no K.
    word = _FIRST_WORD.match(sql)
    return "" if word is None else word.group().translate(_ASCII_LOWER)


def _levels_after(levels: _Levels, sql: str) -> _Levels:
    """Return what is open of the transaction after ``sql``; nothing when it has ended.

    As in SQLite, a name means the innermost savepoint of that name. What SQLite will refuse
    changes nothing.
    """
    first = _first_word(sql)
    if first not in _TRANSACTION_WORDS:
        return levels
    words = [word for word in _WORD_OR_NAME.findall(sql) if word]
    if first == "begin":
        return levels or (None,)
    if first == "savepoint":
        return (*levels, _savepoint_name(words[-1])) if len(words) > 1 else levels
    rolls_back_to = first == "rollback" and any(
        word.translate(_ASCII_LOWER) == "to" for word in words[1:]
    )
    if first != "release" and not rolls_back_to:
        return ()
    name = _savepoint_name(words[-1])
    if name not in levels:
        return levels
    index = len(levels) - 1 - levels[::-1].index(name)
    return levels[: index + 1] if rolls_back_to else levels[:index]


def _savepoint_name(word: str) -> str:
    """Return a savepoint's name as SQLite compares it, for a name that may be quoted."""
    if word[0] in "'\"`":
        word = word[1:-1].replace(word[0] * 2, word[0])
    elif word[0] == "[":
        word = word[1:-1]
    return word.translate(_ASCII_LOWER)
