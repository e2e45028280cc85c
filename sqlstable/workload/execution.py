"""Running the steps of a workload script on a canister.

Each step is sent as often as it says, one message at a time. The run stops at the first message
that fails, unless it is told to keep going; a trap that the script asks for is no failure. Ctrl-C
ends the run after the message that it has undone.

**Rules**

* A step of kind ``auto`` is a query if all its statements only read, else an update. SQLite
  decides, as late as the step begins: by then the tables that it reads are there.
* A statement with parameters runs once per row. One that writes is a single statement with many
  runs; one that reads is executed for each row, so that each has its own footprint.
* Rows are handed over when their message has ended well: one that traps answers nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from sqlstable.canister.canister import Canister
from sqlstable.canister.message import Message
from sqlstable.canister.reply import Reply
from sqlstable.engine.statements import Rows
from sqlstable.errors import ImageError, MessageError, SqlError, SqlstableError, TraceError, Trap
from sqlstable.ic.words import CacheState, CallKind
from sqlstable.workload.script import ScriptStatement, ScriptStep

TRAP_TEXT: Final = "the script says --@ trap"
"""What a trap asked for is called in reports."""


@dataclass(frozen=True, slots=True)
class StatementRows:
    """What one statement of a message returned."""

    columns: tuple[str, ...]
    "Names of the columns; at least one."
    rows: Rows
    "All rows; none where nothing matched."


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended."""

    messages: int
    "Messages that ended, upgrades, reinstallations and traps included."
    intended_traps: int
    "How many of them trapped because the script says so."
    failure: str | None
    "What failed first, with the script's name and line; None where nothing did."
    failed_message: int | None
    "Index in the trace of the message that failed first; None where none did, or none had begun."
    failures: int = 0
    "How many steps failed, repetitions counted; more than one only where the run kept going."
    is_interrupted: bool = False
    "Whether Ctrl-C ended the run; the failure says in which line."
    left_out: int = 0
    "How many steps were not run, because the message that they go on from had failed."


OnStep: TypeAlias = Callable[[ScriptStep, int], None]
"""Is told after each message its step, and how many messages have ended so far."""

OnRows: TypeAlias = Callable[[ScriptStep, ScriptStatement, StatementRows], None]
"""Is told what a statement returned, when its message has ended well."""

OnReply: TypeAlias = Callable[[ScriptStep, Reply], None]
"""Is told what a message did as soon as it has ended, however it ended."""


_FINAL_ERRORS: Final = (ImageError, TraceError)
"""After these no message can succeed, or none be recorded."""


def run_steps(  # noqa: PLR0913  each is a choice of its own
    canister: Canister,
    steps: Sequence[ScriptStep],
    *,
    cache: CacheState | None = None,
    name: str = "script",
    keep_going: bool = False,
    allow_open_transaction: bool = False,
    trap_text: str = TRAP_TEXT,
    on_step: OnStep | None = None,
    on_rows: OnRows | None = None,
    on_reply: OnReply | None = None,
) -> RunOutcome:
    """Run the steps of a script, one message after the other.

    Args:
        canister: It is changed as the steps say, and left open.
        steps: What `sqlstable.workload.script.parse_script` returned.
        cache: State of the heap when a query begins, None for what the engine has by default;
            updates are always warm.
        name: What failures call the script.
        keep_going: Whether what follows a failed message is run, too. An image or a trace that
            cannot be written any more ends the run even so. What goes on from the failed message
            is left out.
        allow_open_transaction: Whether an SQL transaction may stay open when a message ends or
            awaits; a step may say so by itself.
        trap_text: What a trap asked for is called in reports.
        on_step: Called after each message, for showing progress.
        on_rows: Called for each statement that returns rows, once for each message.
        on_reply: Called for each message that has ended, before its rows are handed over.

    Returns:
        How it ended. What SQLite, the script or the limits refuse is a failure there, and so is
        Ctrl-C; only errors of the callbacks are raised.

    Examples:
        >>> from sqlite3 import complete_statement
        >>> from sqlstable.workload.script import parse_script
        >>> steps = parse_script(
        ...     "CREATE TABLE note (body TEXT); SELECT body FROM missing;",
        ...     is_complete=complete_statement,
        ... )
        >>> with Canister() as canister:
        ...     outcome = run_steps(canister, steps)
        >>> outcome.messages, outcome.failure
        (2, 'script, line 1: no such table: missing; in: SELECT body FROM missing')
    """
    run = _Run(canister, name=name, keep_going=keep_going, cache=cache)
    run.on_step, run.on_rows, run.on_reply = on_step, on_rows, on_reply
    run.allows_open, run.trap_text = allow_open_transaction, trap_text
    is_interrupted = False
    try:
        for index, step in enumerate(steps):
            if not run.play(step, index):
                break
    except KeyboardInterrupt:
        is_interrupted = True
        run.note_interrupt()
    return RunOutcome(
        messages=run.messages,
        intended_traps=run.intended_traps,
        failure=run.failure,
        failed_message=run.failed_message,
        failures=run.failures,
        is_interrupted=is_interrupted,
        left_out=run.left_out,
    )


class _Run:
    """A run on its way.

    Invariant: ``line`` is the line of what was begun last: a step, or a statement inside of it.
    """

    def __init__(
        self,
        canister: Canister,
        *,
        name: str,
        keep_going: bool,
        cache: CacheState | None,
    ) -> None:
        self.messages = 0
        self.intended_traps = 0
        self.failure: str | None = None
        self.failed_message: int | None = None
        self.failures = self.left_out = 0
        self.line = 0
        self.row_place = ""
        "Line of a CSV file whose row was refused last, where that is what failed."
        self.on_step: OnStep | None = None
        self.on_rows: OnRows | None = None
        self.on_reply: OnReply | None = None
        self.allows_open = False
        self.trap_text = TRAP_TEXT
        self._gone: set[int] = set()
        "Indexes of steps that failed, or were left out."
        self._last_messages: dict[int, int] = {}
        "Of steps that await: index in the trace of the last message."
        self._continues: int | None = None
        self._canister = canister
        self._name = name
        self._keep_going = keep_going
        self._cache = cache
        self._first_message = canister.message_count

    def play(self, step: ScriptStep, index: int) -> bool:
        """Send one step as often as it says; returns whether the run goes on."""
        self.line = step.line
        if step.continues in self._gone:
            self._gone.add(index)
            self.left_out += 1
            return True
        self._continues = None
        if step.continues is not None:
            self._continues = self._last_messages.get(step.continues)
        kind = self._kind(step)
        for _ in range(step.repeat):
            self.line, self.row_place = step.line, ""
            answers: list[tuple[ScriptStatement, StatementRows]] = []
            error = self._error_of(step, kind, answers)
            if error is not None:
                self._gone.add(index)
                self._note_failure(error)
                if not self._keep_going or isinstance(error, _FINAL_ERRORS):
                    return False
            else:
                self.messages += 1
                for statement, rows in answers:
                    assert self.on_rows is not None
                    self.on_rows(step, statement, rows)
            if self.on_step is not None:
                self.on_step(step, self.messages)
        if step.await_after:
            self._last_messages[index] = self._canister.message_count - 1
        return True

    def note_interrupt(self) -> None:
        """Say where Ctrl-C was pressed; the message that it undid is in the trace."""
        self.messages = self._canister.message_count - self._first_message
        self.failure = f"interrupted in {self._name}, line {self.line}" + (
            f"; before that: {self.failure}" if self.failure is not None else ""
        )

    def _kind(self, step: ScriptStep) -> str:
        if step.kind != "auto":
            return step.kind
        return "query" if all(map(self._only_reads, step.statements)) else "update"

    def _only_reads(self, statement: ScriptStatement) -> bool:
        row = statement.params[0] if statement.params else None
        return self._canister.engine.is_readonly(statement.sql, row)

    # -- one message ----------------------------------------------------------------------------

    def _error_of(
        self, step: ScriptStep, kind: str, answers: list[tuple[ScriptStatement, StatementRows]]
    ) -> Exception | None:
        """Send one message; returns why it failed."""
        try:
            self._send(step, kind, answers)
        except SqlstableError as error:
            return error
        return None

    def _note_failure(self, error: Exception) -> None:
        self.failures += 1
        index = self._first_message + self.messages
        has_message = self._canister.message_count > index
        self.messages += has_message
        if self.failure is None:
            self.failure = f"{self._name}, line {self.line}: {self.row_place}{error}"
            self.failed_message = index if has_message else None

    def _send(
        self, step: ScriptStep, kind: str, answers: list[tuple[ScriptStatement, StatementRows]]
    ) -> None:
        match kind:
            case "upgrade":
                self._tell(step, self._canister.upgrade(label=step.label))
            case "reinstall":
                self._tell(step, self._canister.reinstall(label=step.label))
            case "trap":
                self._send_trapping(step)
            case "query":
                self._send_message(step, "query", answers)
            case _:
                assert kind == "update"
                self._send_message(step, "update", answers)

    def _send_message(
        self, step: ScriptStep, kind: CallKind, answers: list[tuple[ScriptStatement, StatementRows]]
    ) -> None:
        message = self._canister.message(
            kind,
            cache=self._cache,
            label=step.label,
            allow_open_transaction=self.allows_open or step.allow_open_transaction,
            continues=self._continues,
        )
        try:
            with message:
                for statement in step.statements:
                    rows = self._execute(message, statement)
                    columns = self._columns(statement)
                    if columns:
                        answers.append((statement, StatementRows(columns, rows)))
                # What is refused from here on concerns the message as a whole.
                self.line = step.line
                if step.await_after:
                    message.refuse_to_tear()
        finally:
            self._tell_of(step, message)

    def _tell_of(self, step: ScriptStep, message: Message) -> None:
        """Hand over what a message did, unless it never began."""
        try:
            reply = message.reply
        except MessageError:
            return
        self._tell(step, reply)

    def _tell(self, step: ScriptStep, reply: Reply) -> None:
        if self.on_reply is not None:
            self.on_reply(step, reply)

    def _send_trapping(self, step: ScriptStep) -> None:
        trap = Trap(self.trap_text)
        message = self._canister.message("update", label=step.label, continues=self._continues)
        try:
            with message:
                for statement in step.statements:
                    self._execute(message, statement)
                raise trap
        except Trap as raised:
            if raised is not trap:
                raise
            self.intended_traps += 1
        finally:
            self._tell_of(step, message)

    def _execute(self, message: Message, statement: ScriptStatement) -> Rows:
        self.line = statement.line
        if statement.params is None:
            return message.execute(statement.sql)
        number = 0
        try:
            if not self._only_reads(statement):
                return message.executemany(statement.sql, statement.params)
            rows: Rows = []
            for params in statement.params:
                number += 1
                rows += message.execute(statement.sql, params)
        except SqlError as error:
            number = number or error.row or 0
            if number and statement.params_lines:
                line = statement.params_lines[number - 1]
                self.row_place = f"{statement.params_file}, line {line}: "
            raise
        return rows

    def _columns(self, statement: ScriptStatement) -> tuple[str, ...]:
        """Return the columns of a statement that has just run; asked only if somebody looks."""
        if self.on_rows is None:
            return ()
        row = statement.params[0] if statement.params else None
        return self._canister.engine.columns(statement.sql, row)
