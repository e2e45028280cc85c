"""The story of the await: what is committed there, who runs meanwhile, and what that costs.

A ledger pays twice, the same one written soundly pays once, and a transaction that is open across
an await is lost or left half done. What is wrong here is meant to be: the checks say that it is
as wrong as it is on the Internet Computer.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from typing import Final

from sqlstable.canister.canister import Canister
from sqlstable.canister.message import Message
from sqlstable.cli.scene import Check, Scene
from sqlstable.cli.story import Stage, Story
from sqlstable.engine.statements import Rows
from sqlstable.errors import MessageError, SqlError, Trap
from sqlstable.ic.words import EngineName
from sqlstable.report.numbers import count, counted
from sqlstable.workload import hazard, payouts
from sqlstable.workload.payouts import Pair

TRAP: Final = "array index out of bounds"
"""What the ledger traps with, as by a mistake in its code."""

BUG: Final = "This is a bug of sqlstable, please report it."

_PAY_FIRST: Final = """\
SELECT tokens FROM account WHERE owner = 'ada';          -- 100
--                         <- await: the bank pays 100
UPDATE account SET tokens = tokens - 100 WHERE owner = 'ada';"""

_NOTE_FIRST: Final = """\
BEGIN;
UPDATE account SET tokens = tokens - 100 WHERE owner = 'ada';
INSERT INTO payout (owner, tokens, state)
VALUES ('ada', 100, 'pending') RETURNING key;            -- 1
COMMIT;
--                         <- await: the bank pays 100 for "payout 1"
UPDATE payout SET state = 'paid' WHERE key = 1 AND state = 'pending';"""

_COLUMNS: Final = ("message", "call", "continues", "ended", "OS pages dirty", "instructions")


class _Awaits:
    """The story on its way."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def scenes(self) -> Iterator[Scene]:
        """Play one scene after the other."""
        yield self._twice()
        yield self._at_a_time()
        yield self._sound()
        yield self._refused()
        yield self._let_through()
        yield self._journals()

    # -- the ledger -----------------------------------------------------------------------------

    def _twice(self) -> Scene:
        def live(pair: Pair) -> None:
            _ask(payouts.pay_first, pair, "ada asks", mishap=_trap)
            _ask(payouts.pay_first, pair, "ada asks again")

        return self._paid_twice(
            "A ledger that pays twice",
            f"ada has {payouts.TOKENS} tokens in a ledger, and asks for them. The ledger calls the "
            "bank, which is an await, and takes the tokens off when it is answered. Right behind "
            f"that its code has a mistake, and it traps: {TRAP}. So ada asks again.",
            live,
            "The trap undid the message behind the await alone. What came before it is committed, "
            "and what the bank has paid nobody takes back: the tokens were still there.",
        )

    def _at_a_time(self) -> Scene:
        def live(pair: Pair) -> None:
            def meanwhile() -> None:
                _ask(payouts.pay_first, pair, "ada asks again")

            _ask(payouts.pay_first, pair, "ada asks", meanwhile=meanwhile)

        return self._paid_twice(
            "And without any mistake",
            "The same ledger. This time ada asks again while her first call awaits: then the "
            "canister is free, and other messages run.",
            live,
            "What was read before an await may not be so behind it. The CHECK of the table stopped "
            "the second debit, too late: both had paid.",
        )

    def _paid_twice(
        self, headline: str, event: str, live: Callable[[Pair], None], reading: str
    ) -> Scene:
        with closing(Pair.opened(self._stage.engine)) as pair:
            live(pair)
            paid, tokens = pair.paid, pair.tokens
            rows = _messages(pair.ledger)
        checks = [
            Check(
                f"the bank has paid {paid} for {payouts.TOKENS} tokens; in the ledger: {tokens}",
                paid == 2 * payouts.TOKENS and tokens == 0,
            )
        ]
        return Scene(
            headline=headline,
            sql=_PAY_FIRST,
            event=event,
            columns=_COLUMNS,
            rows=rows,
            checks=self._stage.checked(checks),
            reading=reading if self._stage.checks_hold else BUG,
        )

    def _sound(self) -> Scene:
        with closing(Pair.opened(self._stage.engine)) as pair:

            def meanwhile() -> None:
                _ask(payouts.note_first, pair, "ada asks again")

            _ask(payouts.note_first, pair, "ada asks", meanwhile=meanwhile, mishap=_trap)
            pending = pair.pending
            payouts.go_on(pair, "later")
            paid, tokens, left = pair.paid, pair.tokens, pair.pending
            rows = _messages(pair.ledger)
        checks = [
            Check(f"the trap left {counted(pending, 'payout')} pending", pending == 1),
            Check(
                f"the bank has paid {paid} for {payouts.TOKENS} tokens; in the ledger: {tokens}; "
                f"pending: {left}",
                (paid, tokens, left) == (payouts.TOKENS, 0, 0),
            ),
        ]
        return Scene(
            headline="The same ledger, written soundly",
            sql=_NOTE_FIRST,
            event=(
                "Before the await the tokens are taken off, and a payout is noted as pending, in "
                "one transaction. The bank pays once for each key. Now both happen at once: ada "
                "asks again meanwhile, and the ledger traps behind the await. Later whatever is "
                "pending is asked for once more, with the same key: the call later, whose first "
                "message runs no SQL. Between the calls, queries ask what is pending; they are "
                "messages, too, and not listed."
            ),
            columns=_COLUMNS,
            rows=rows,
            checks=self._stage.checked(checks),
            reading=(
                "Whoever comes in between finds the tokens gone. What a trap undoes is only the "
                "note that it was paid, and asking the bank again does no harm."
                if self._stage.checks_hold
                else BUG
            ),
        )

    # -- transactions ---------------------------------------------------------------------------

    def _refused(self) -> Scene:
        refusal = ""
        with hazard.bank(self._stage.engine, "memory", "spills") as canister:
            before = canister.message_count
            with canister.message() as message:
                message.execute("BEGIN")
                message.execute(hazard.INTEREST)
                try:
                    message.commit_point()
                except MessageError as error:
                    refusal = str(error)
                during = canister.message_count
                message.execute("COMMIT")
                message.commit_point()
            replies = len(message.replies)
        checks = [
            Check("nothing had happened: the message went on", refusal != "" and before == during),
            Check(f"with COMMIT before it, it awaits: {counted(replies, 'message')}", replies == 2),
        ]
        return Scene(
            headline="May a transaction be open there?",
            sql=f"BEGIN;\n{hazard.INTEREST};\n--                         <- await\nCOMMIT;",
            event=f"sqlstable says: {refusal}.",
            checks=self._stage.checked(checks),
            reading=(
                "The Internet Computer itself refuses nothing: it knows no transactions."
                if self._stage.checks_hold
                else BUG
            ),
        )

    def _let_through(self) -> Scene:
        found = hazard.measure(self._stage.engine, "memory", "spills")
        trap, upgrade = found.remains["trap"], found.remains["trap and upgrade"]
        total = count(hazard.ROWS)
        facts = [
            ("a query meanwhile", f"saw {count(found.seen)} of {total} rows changed"),
            ("another message", f"was answered: {hazard.PAYMENT}"),
            ("behind a trap", _remains(trap)),
            ("behind an upgrade", _remains(upgrade)),
            ("integrity_check", upgrade.check),
        ]
        checks = [
            Check(
                f"the database is half in one state and half in another: {count(upgrade.changed)} "
                f"of {total} rows are changed",
                0 < upgrade.changed < hazard.ROWS and upgrade.check != "ok",
            ),
            Check("the other message's row is lost, though it was answered", upgrade.paid == 0),
        ]
        return Scene(
            headline="Let through, it is lost, or half there",
            sql=(
                f"BEGIN;\n{hazard.INTEREST};       -- {total} rows\n"
                "--                         <- await, with allow_open_transaction=True\n"
                "--                         <- trap"
            ),
            facts=tuple(facts),
            checks=self._stage.checked(checks),
            reading=(
                "SQLite's page cache was full, so that some changed SQLite pages had come to "
                "stable memory before COMMIT: the await committed those. The rest was in the "
                "heap, and so was the journal that could have undone it."
                if self._stage.checks_hold
                else BUG
            ),
        )

    def _journals(self) -> Scene:
        rows, saved, kept = [], True, 0
        engines: tuple[EngineName, ...] = ("native",)
        if self._stage.engine != "native":
            engines = ("native", self._stage.engine)
        for engine in engines:
            for found in hazard.hazards(engine, ("spills",)):
                remains = found.remains
                cells = (_cell(remains[ending]) for ending in hazard.ENDINGS)
                rows.append((found.journal_mode, engine, *cells))
                has_file = found.journal_mode in ("delete", "truncate", "persist")
                after = remains["trap and upgrade"]
                saved = saved and (after.check == "ok") == has_file
                kept += after.paid + remains["ROLLBACK"].paid
        with Canister(engine=self._stage.engine, trace=":memory:") as canister:
            self._stage.settings = canister.status().settings
        if self._stage.engine != "native":
            self._stage.modelled = "scene 6: the heap after a trap (native engine)"
        checks = [
            Check(
                "delete, truncate and persist, whose journals are files in stable memory, save the "
                "database at an upgrade; memory and off do not",
                saved,
            ),
            Check("none saves the other message's row, though it was answered", kept == 0),
        ]
        return Scene(
            headline="Which journal saves what",
            event=(
                "The same with each journal mode. A cell says whether the database is whole, and "
                f"how many of the {count(hazard.ROWS)} rows are changed: all or none would be "
                "right. Behind a trap the native engine begins with a new page cache, so that the "
                "open transaction is lost there already, and what had come to stable memory of it "
                'stays. On the Internet Computer, and on wasm, the heap comes back: "still open", '
                "and all that comes next becomes part of the transaction."
            ),
            columns=("journal", "engine", *hazard.ENDINGS),
            rows=rows,
            checks=self._stage.checked(checks),
            reading=(
                "So: COMMIT before the await, with a row that says what is pending, and finish or "
                "undo it in a transaction of its own behind it."
                if self._stage.checks_hold
                else BUG
            ),
        )


def _ask(call: Callable[..., None], pair: Pair, label: str, **what: object) -> None:
    """Send a call, whatever becomes of it."""
    with suppress(Trap, SqlError):
        call(pair, label, **what)


def _trap(message: Message) -> None:
    message.trap(TRAP)


def _messages(ledger: Canister) -> Rows:
    """Return a row for each message of the calls, in order."""
    with ledger.trace() as trace:
        return [
            (
                it.index,
                it.label,
                "-" if it.continues is None else str(it.continues),
                it.outcome,
                it.stable.os_pages_dirty,
                "-" if it.instructions is None else count(it.instructions.total),
            )
            for it in trace.messages
            if it.label is not None
        ]


def _remains(found: hazard.Remains) -> str:
    other = "is there" if found.paid else "is gone"
    state = "; the transaction is still open" if found.is_open else ""
    return f"{count(found.changed)} of {count(hazard.ROWS)} changed, the other row {other}{state}"


def _cell(found: hazard.Remains) -> str:
    if found.is_open:
        return "still open"
    return f"{'whole' if found.check == 'ok' else 'DAMAGED'}, {count(found.changed)}"


def _play(stage: Stage) -> Generator[Scene]:
    yield from _Awaits(stage).scenes()


STORY: Final = Story(
    title="sqlstable: what does an await do to SQL?",
    introduction=(
        "On the Internet Computer a call that awaits is several messages. What it did before the "
        "await is committed, other messages run before it goes on, and a trap behind it undoes "
        "nothing of what came before. SQL's transactions know nothing of that."
    ),
    glossary=(
        ("call", "all messages between a request and its answer: each continues the one before"),
        ("dirty", "OS pages (4 KiB of stable memory) written"),
    ),
    scenes=_play,
    engine="wasm",
    next_title="Now your own:",
    next_commands=(
        ("sqlstable run your.sql", "with --@ await where your canister awaits"),
        ("python examples/await_ledger.py", "both ledgers, as Python"),
    ),
)
