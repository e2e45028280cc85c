"""The Jupyter extension: ``%load_ext sqlstable``, then SQL in cells, as messages of a canister.

The extension keeps one canister, made when the first cell needs it. A cell is one message, a query
if all its statements only read, else an update, as in a workload script; a cell with lines of
``--@`` is a workload script. What a cell shows it also returns, so that ``_`` has it.

Whatever SQL, limits or options refuse is one line, and a message that is interrupted leaves
nothing, so that the next cell finds a sound canister.
"""

import atexit
import re
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import wraps
from threading import Event, Thread
from time import monotonic
from typing import Any, Final, Self, TypeVar

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import DisplayHandle, clear_output, display

from sqlstable.analysis.message_html import message_html, message_words, owner_words, verdict_words
from sqlstable.analysis.pricing.paid_words import paid_words
from sqlstable.canister.canister import Canister
from sqlstable.canister.reply import Reply
from sqlstable.cli.output import WIDTH_WITHOUT_TERMINAL, Screen
from sqlstable.cli.progress import PATIENCE_S, WorkProgress, notes_told
from sqlstable.cli.rows import row_pieces, value_text
from sqlstable.database.values import bindable, find_fault
from sqlstable.engine.native.native_engine import is_complete
from sqlstable.errors import MessageError, SqlstableError
from sqlstable.notebook_map import MapView
from sqlstable.notebook_options import (
    CANISTER,
    MAKING,
    MAP,
    STABLE,
    TRACE,
    TRAP,
    UPGRADE,
    CellError,
    MagicOptions,
)
from sqlstable.notebook_shows import register as register_shows
from sqlstable.report.as_table import render_table
from sqlstable.report.numbers import counted
from sqlstable.report.text import clean
from sqlstable.spelling import on_command_line
from sqlstable.trace.format.file import Trace
from sqlstable.trace.markup import ROWS_SHOWN, html_table, html_text
from sqlstable.trace.model import Message as TracedMessage
from sqlstable.workload.execution import TRAP_TEXT, RunOutcome, StatementRows, run_steps
from sqlstable.workload.params import parameters_of
from sqlstable.workload.script import ScriptStatement, ScriptStep, parse_script

T = TypeVar("T")

CELL: Final = "cell"
"""What errors call the cell."""

MESSAGES_SHOWN: Final = 10
"""Messages of a script whose details a cell shows."""

REDRAW_S: Final = 0.2
"""Seconds between two pictures of a bar."""

_TRAP_TEXT: Final = "the notebook says stable_trap"
"""What the trap of ``%stable_trap`` is called, on a line and in a cell."""

_SCRIPT: Final = re.compile(r"^\s*--@", re.MULTILINE)

_KEPT_AS: Final = "sqlstable_extension"
"""The attribute of a shell that keeps the extension."""


@dataclass(frozen=True, slots=True, eq=False)
class CellAnswer:
    """What a cell answers.

    Attributes:
        replies: One for each message, in order, the first ``MESSAGES_SHOWN`` of them.
        results: What the statements of these returned, each with its message's place in there.
        message_count: How many messages there were.
        failure: Why the run failed, where an error says so below; nothing says it twice.
    """

    replies: tuple[Reply, ...]
    results: tuple[tuple[int, ScriptStatement, StatementRows], ...]
    message_count: int
    failure: str | None = None

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """The rows that were returned last."""
        return self.results[-1][2].rows if self.results else []

    @property
    def columns(self) -> tuple[str, ...]:
        """Their columns."""
        return self.results[-1][2].columns if self.results else ()

    def _repr_html_(self) -> str:
        """Show rows, footprint by owner, cost and verdict of each message."""
        parts = []
        for place, reply in enumerate(self.replies):
            parts += [_rows_html(found) for at, _, found in self.results if at == place]
            parts.append(message_html(self._untold(reply.message), reply.statements, reply.fees))
        return "".join(parts) + html_text(self._left_out())

    def __repr__(self) -> str:
        lines = []
        screen = Screen(WIDTH_WITHOUT_TERMINAL, None)
        for place, reply in enumerate(self.replies):
            for at, statement, found in self.results:
                if at == place:
                    shown = found.rows[:ROWS_SHOWN]
                    pieces = row_pieces(statement.sql, found.columns, shown, screen)
                    more = len(found.rows) - len(shown)
                    rest = f", {counted(more, 'more row')} not shown" if more else ""
                    lines.append("".join(pieces).rstrip() + rest)
            lines += map(clean, _message_lines(reply, self._untold(reply.message)))
        return "\n".join([*lines, *filter(None, [self._left_out()])])

    def _untold(self, message: TracedMessage) -> TracedMessage:
        """Return a message without its trap, if that is why the run failed."""
        is_told = message.trap is not None and message.trap in (self.failure or "")
        return replace(message, trap=None) if is_told else message

    def _left_out(self) -> str:
        more = self.message_count - len(self.replies)
        return f"… and {counted(more, 'more message')}: %stable_trace has all" if more else ""


def _rows_html(found: StatementRows) -> str:
    """Return rows as a table; what is no number is spelled as in SQL."""
    shown = [
        tuple(it if isinstance(it, int | float) else value_text(it) for it in row)
        for row in found.rows[:ROWS_SHOWN]
    ]
    return html_table(counted(len(found.rows), "row"), found.columns, shown)


def _message_lines(reply: Reply, message: TracedMessage) -> Iterator[str]:
    statements = reply.statements
    yield message_words(message)
    if message.trap is not None:
        yield message.trap
    owners = owner_words(owner for statement in statements for owner in statement.owners)
    yield (
        f"{counted(message.stable.os_pages_accessed, 'OS page')} accessed, "
        f"{message.stable.os_pages_dirty:,} dirty{': ' * bool(owners)}{owners}"
        f"{' (statement by statement)' * bool(owners and len(statements) > 1)}"
    )
    if message.instructions is not None:
        cycles = paid_words(message, reply.fees)
        yield f"{message.instructions.total:,} instructions{' · ' * bool(cycles)}{cycles}"
    yield verdict_words(message)


# -- progress ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Bar:
    """One picture of how far some work is."""

    text: str
    done: int
    total: int
    seconds: int = 0

    def _repr_html_(self) -> str:
        value = f' value="{self.done}" max="{self.total}"' if self.total > 1 else ""
        return f"<progress{value}></progress> {html_text(repr(self))}"

    def __repr__(self) -> str:
        return f"{self.text} · {self.seconds} s"


class NotebookProgress:
    """A bar below the cell, shown once work has taken a while and gone when it is done.

    A thread draws it, so that it moves within one long message, too.
    """

    def __init__(self) -> None:
        self._bar = _Bar("running", 0, 0)
        self._begin_s = monotonic()
        self._over = Event()
        # Outputs belong to a cell by its context, which a thread does not have by itself.
        run = copy_context().run
        self._thread = Thread(target=run, args=(self._draw,), name="sqlstable bar", daemon=True)
        self._is_shown = False

    def show(self, description: str, *, done: int = 0, total: int | None = None) -> None:
        """Take note of how far the work is, as `sqlstable.cli.progress.WorkProgress.show` does."""
        self._bar = _Bar(description, done, total or 0)

    def _draw(self) -> None:
        handle: DisplayHandle | None = None
        wait_s = PATIENCE_S
        while not self._over.wait(wait_s):
            wait_s = REDRAW_S
            bar = replace(self._bar, seconds=int(monotonic() - self._begin_s))
            if handle is None:
                self._is_shown = True
                handle = display(bar, display_id=True)  # type: ignore[no-untyped-call]
            else:
                handle.update(bar)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._is_shown:
            # Goes when the next output comes, so that nothing jumps.
            clear_output(wait=True)  # type: ignore[no-untyped-call]


# -- the extension -------------------------------------------------------------------------------


def _on_one_line(magic: Callable[..., T]) -> Callable[..., T]:
    """Let whatever is refused be one line."""

    @wraps(magic)
    def guarded(*arguments: Any) -> T:  # noqa: ANN401  as the magic takes
        try:
            with on_command_line():
                return magic(*arguments)
        except CellError:
            raise
        except (SqlstableError, OSError) as error:
            raise CellError(str(error)) from None
        except KeyboardInterrupt:
            raise CellError("interrupted; nothing was changed") from None

    return guarded


class Extension:
    """What ``%load_ext sqlstable`` keeps: the canister of its cells."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._canister: Canister | None = None
        self._options: dict[str, object] = {}

    def register(self) -> None:
        """Give the shell its magics, each with its help."""
        magics: Sequence[tuple[Callable[..., object], str, MagicOptions]] = (
            (self.stable, "cell", STABLE),
            (self.stable_canister, "line", CANISTER),
            (self.stable_upgrade, "line", UPGRADE),
            (self.stable_trap, "line_cell", TRAP),
            (self.stable_trace, "line", TRACE),
            (self.stable_map, "line", MAP),
        )
        for magic, kind, parser in magics:
            guarded = _on_one_line(magic)
            guarded.__doc__ = parser.format_help()
            manager = self._shell.magics_manager
            manager.register_function(guarded, magic_kind=kind, magic_name=magic.__name__)

    def close(self) -> None:
        """Close the canister that is kept."""
        canister, self._canister = self._canister, None
        if canister is not None:
            canister.close()
            canister.memory.close()

    def stable(self, line: str, cell: str) -> CellAnswer:
        """Run a cell."""
        options = STABLE.read(line)
        into = None if options.into is None else _identifier(options.into)
        steps = _steps_of(cell, options.kind, options.label)
        answer = self._run(options, [self._bound(step) for step in steps])
        if into is not None:
            self._shell.user_ns[into] = answer
        return answer

    def stable_canister(self, line: str) -> Canister:
        """Return the canister of the cells, or another one."""
        options = CANISTER.read(line)
        chosen = _chosen(options)
        if chosen or options.new:
            if "image" in self._options:
                # Its file may be wanted again, and nothing in it is lost.
                self.close()
            # Before the old one goes: what is refused changes nothing.
            made = _make(chosen)
            self.close()
            self._canister, self._options = made, chosen
        return self._canister_for(options)

    def stable_upgrade(self, line: str) -> CellAnswer:
        """Upgrade the canister."""
        options = UPGRADE.read(line)
        return self._run(options, [_step("upgrade", (), options.label)])

    def stable_trap(self, line: str, cell: str = "") -> CellAnswer:
        """Trap at the end of an update."""
        options = TRAP.read(line)
        steps = _steps_of(cell, "update", options.label) if cell.strip() else ()
        statements = steps[0].statements if steps else ()
        return self._run(
            options, [self._bound(_step("trap", statements, options.label))], _TRAP_TEXT
        )

    def stable_trace(self, line: str) -> Trace:
        """Return the running trace."""
        options = TRACE.read(line)
        trace = self._canister_for(options).trace()
        if options.by is not None or options.plan:
            print(render_table(trace, by=options.by or "statement", plan=options.plan))  # noqa: T201  a cell shows it
        return trace

    def stable_map(self, line: str) -> MapView:
        """Return the map of the running trace."""
        options = MAP.read(line)
        with self._progress() as progress, self._canister_for(options).trace() as trace:
            progress.show("going through all accesses")
            return MapView.of(trace)

    # -- inside ---------------------------------------------------------------------------------

    def _run(
        self, options: Namespace, steps: Sequence[ScriptStep], trap_text: str = TRAP_TEXT
    ) -> CellAnswer:
        """Run steps on the canister, show what they did if one fails, and say so."""
        message_count = sum(step.repeat for step in steps)
        with self._progress() as progress:
            with notes_told(progress.show):
                canister = self._canister_for(options)
            collected = _Collected()
            outcome = run_steps(
                canister,
                steps,
                cache=getattr(options, "cache", None),
                name=CELL,
                allow_open_transaction=getattr(options, "allow_open_transaction", False),
                trap_text=trap_text,
                on_step=lambda step, done: progress.show(
                    f"{counted(done, 'message')}, line {step.line}", done=done, total=message_count
                ),
                on_rows=collected.on_rows,
                on_reply=collected.on_reply,
            )
        return collected.answer(outcome)

    def _progress(self) -> NotebookProgress | WorkProgress:
        """Return what shows progress: below a notebook's cell, else in the terminal."""
        return NotebookProgress() if hasattr(self._shell, "kernel") else WorkProgress()

    def _canister_for(self, options: Namespace) -> Canister:
        """Return the canister that a magic is about; the extension's own is made if missing."""
        chosen = _chosen(options)
        name = getattr(options, "canister", None)
        if name is not None:
            if chosen:
                raise CellError(
                    f"{_spelled(chosen)} cannot change the canister {name}; leave it out, or say "
                    f"it where {name} is made"
                )
            return self._named(name)
        if self._canister is None:
            self._canister = _make(chosen)
            self._options = chosen
        try:
            # Somebody may have taken it, and closed it.
            _ = self._canister.vfs
        except MessageError as error:
            raise CellError(f"{error}; %stable_canister --new begins another one") from None
        differing = {key: it for key, it in chosen.items() if self._options.get(key) != it}
        if differing:
            raise CellError(
                f"{_spelled(differing)} cannot change a canister that is there; "
                f"%stable_canister {_spelled(chosen)} begins another one"
            )
        return self._canister

    def _named(self, name: str) -> Canister:
        found = self._shell.user_ns.get(name)
        if isinstance(found, Canister):
            return found
        what = "is no canister" if name in self._shell.user_ns else "is not there"
        raise CellError(f"the variable {name} {what}; make it with {name} = sqlstable.Canister(…)")

    def _bound(self, step: ScriptStep) -> ScriptStep:
        """Return a step whose parameters have the values of variables."""
        return replace(step, statements=tuple(map(self._bind, step.statements)))

    def _bind(self, statement: ScriptStatement) -> ScriptStatement:
        names, has_numbered = parameters_of(statement.sql)
        if statement.params is not None or not (names or has_numbered):
            return statement
        place = f"{CELL}, line {statement.line}"
        if has_numbered:
            raise CellError(f"{place}: ? names no variable; write :name for the variable name")
        missing = [name for name in names if name[1:] not in self._shell.user_ns]
        if missing:
            raise CellError(f"{place}: there is no variable {missing[0][1:]} for {missing[0]}")
        row = bindable(tuple(self._shell.user_ns[name[1:]] for name in names), statement.sql)
        fault = find_fault(statement.sql, row, place=f"{place}, ")
        if fault is not None:
            raise fault
        assert isinstance(row, tuple)
        return replace(statement, params=(row,))


class _Collected:
    """What a run has answered so far, of its first messages."""

    def __init__(self) -> None:
        self._replies: list[Reply] = []
        self._results: list[tuple[int, ScriptStatement, StatementRows]] = []
        self._count = 0

    def on_reply(self, _step: ScriptStep, reply: Reply) -> None:
        """Keep what a message did."""
        self._count += 1
        if len(self._replies) < MESSAGES_SHOWN:
            self._replies.append(reply)

    def on_rows(self, _step: ScriptStep, statement: ScriptStatement, rows: StatementRows) -> None:
        """Keep what a statement returned."""
        if self._count <= MESSAGES_SHOWN:
            self._results.append((self._count - 1, statement, rows))

    def answer(self, outcome: RunOutcome) -> CellAnswer:
        """Return what there is to show.

        Raises:
            CellError: The run failed; what it did before is shown.
        """
        failure = outcome.failure
        answer = CellAnswer(tuple(self._replies), tuple(self._results), self._count, failure)
        if outcome.failure is None:
            return answer
        if self._replies:
            display(answer)  # type: ignore[no-untyped-call]
        raise CellError(outcome.failure)


def _steps_of(cell: str, kind: str | None, label: str | None) -> tuple[ScriptStep, ...]:
    """Return what a cell is to run: one message, or the steps of a script.

    Raises:
        ScriptError: It cannot be understood.
        CellError: It holds nothing, or says twice what it is.
    """
    steps = parse_script(cell, is_complete=is_complete, name=CELL)
    if not steps:
        raise CellError("the cell holds no statement; write SQL below its first line")
    if _SCRIPT.search(cell):
        if kind is not None or label is not None:
            raise CellError(
                "a cell with --@ lines is a script, which says itself what its messages are; "
                "leave the option out, or those lines"
            )
        return steps
    statements = tuple(statement for step in steps for statement in step.statements)
    return (_step(kind or "auto", statements, label),)


def _step(kind: str, statements: tuple[ScriptStatement, ...], label: str | None) -> ScriptStep:
    line = statements[0].line if statements else 1
    return ScriptStep(kind, statements, label, repeat=1, line=line, await_after=False)


def _chosen(options: Namespace) -> dict[str, object]:
    """Return the options that make a canister, those that were given."""
    found = {name: getattr(options, name, None) for name in MAKING}
    return {name: value for name, value in found.items() if value is not None}


def _make(chosen: dict[str, object]) -> Canister:
    keywords: dict[str, Any] = dict(chosen)
    if keywords.get("limits") == "none":
        keywords["limits"] = None
    if "measure" in keywords and keywords.get("engine") != "both":
        raise CellError(
            "--measure concerns runs on both engines; add --engine both, or leave it out"
        )
    return Canister(keywords.pop("image", None), trace=":memory:", **keywords)


def _spelled(chosen: dict[str, object]) -> str:
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in chosen.items())


def _identifier(name: str) -> str:
    if not name.isidentifier():
        raise CellError(f"--into {name} is no name of a variable; write one, as in --into answer")
    return name


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Give a shell the magics; IPython calls this on ``%load_ext sqlstable``."""
    unload_ipython_extension(shell)
    extension = Extension(shell)
    extension.register()
    register_shows(shell)
    atexit.register(extension.close)
    setattr(shell, _KEPT_AS, extension)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Close the canister of the cells; IPython calls this on ``%unload_ext sqlstable``."""
    extension: Extension | None = getattr(shell, _KEPT_AS, None)
    if extension is not None:
        atexit.unregister(extension.close)
        extension.close()
