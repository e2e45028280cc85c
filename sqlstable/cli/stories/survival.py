"""The story of survival: what wipes a canister's heap, and that the same answers come back.

A *twin* in this process answers the same messages, and nothing ever happens to it: what survives
is compared with it, byte for byte.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Self

from sqlstable.canister.canister import Canister
from sqlstable.canister.hooks import HookMessage, Hooks
from sqlstable.cli.fates import Band, Fate, fates_of
from sqlstable.cli.scene import Check, Scene
from sqlstable.cli.stories.kill import kill_in_message
from sqlstable.cli.story import Stage, Story
from sqlstable.errors import SqlError, Trap
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.report.numbers import count, counted, size
from sqlstable.trace.model import Message
from sqlstable.workload import bank
from sqlstable.workload.bank import Account

IMAGE_NAME: Final = "bank.stable"

LOST: Final = "Something was lost: this is a bug of sqlstable, please report it."

BUG: Final = "the new code has a bug"
"""What the new code traps with."""

NATIVE_HEAP: Final = (
    ". The native engine cannot bring them back; the Internet Computer does, and --engine wasm"
)

_SHA256_DIGITS: Final = 12
_KILLED_SQL: Final = f"""\
{bank.TAKE_FEE};
--                                                          <- kill -9 here
{bank.PAY_FEE};"""


@dataclass(frozen=True, slots=True)
class Act:
    """Something that happened to the canister: a line of the summary."""

    name: str
    heap: str
    stable: str
    account: Account
    "What was there behind it."
    os_pages: int
    "Accessed on the way."
    instructions: int | None
    "None where nobody counted them."

    @classmethod
    def of(cls, name: str, heap: str, stable: str, account: Account, message: Message) -> Self:
        """Return what happened by a message."""
        instructions = message.instructions
        return cls(
            name,
            heap,
            stable,
            account,
            message.stable.os_pages_accessed,
            None if instructions is None else instructions.total,
        )


@dataclass(frozen=True, slots=True)
class Halfway:
    """What had happened when a hook trapped."""

    accessed: tuple[int, ...]
    "OS pages, by their indexes."
    dirty: tuple[int, ...]
    total_cents: int
    "In all accounts, as the hook saw them."


@dataclass(frozen=True, slots=True)
class Pages:
    """Where the database lies in stable memory."""

    count: int
    places: dict[int, int]
    "Of each OS page its place in the database, from 0."

    @classmethod
    def of(cls, canister: Canister) -> Self:
        """Look at a canister."""
        pages = canister.status().database_size_bytes // OS_PAGE_BYTES
        find = canister.vfs.store.placement.map.address
        places = {find(place * OS_PAGE_BYTES) // OS_PAGE_BYTES: place for place in range(pages)}
        return cls(pages, places)

    def of_database(self, os_pages: Iterable[int]) -> list[int]:
        """Return the places of those OS pages that are the database's."""
        return [self.places[os_page] for os_page in os_pages if os_page in self.places]


class _Bank:
    """The story on its way.

    Args:
        stage: Where it is played.
        resources: What is open, and closed at the end.
    """

    def __init__(self, stage: Stage, resources: ExitStack) -> None:
        self._stage = stage
        self._resources = resources
        self._image = stage.folder / IMAGE_NAME
        self._twin = resources.enter_context(Canister(engine=stage.engine))
        self._canister: Canister
        self._beginning: Account
        self._acts: list[Act] = []

    def scenes(self) -> Iterator[Scene]:
        """Play one scene after the other."""
        yield self._kill()
        yield self._restart()
        yield self._upgrade()
        yield self._trapped_upgrade()
        yield self._summary()

    # -- the scenes -----------------------------------------------------------------------------

    def _kill(self) -> Scene:
        with Canister(self._image, engine=self._stage.engine) as canister:
            bank.load(canister)
            beginning = self._beginning = bank.take_account(canister)
            pages = Pages.of(canister)
        found = kill_in_message(self._image, self._stage.engine)
        bank.load(self._twin)
        # Like the process that was killed, it begins with a new heap.
        self._twin.upgrade()
        for number in found.answered:
            bank.send(self._twin, number)
        dirty, cached = map(pages.of_database, (found.dirty, found.cached))
        checks = [
            Check("the process ended without a last word", found.was_killed),
            Check("the image file is byte for byte what it was before", found.image_kept),
        ]
        return Scene(
            headline="kill -9 in the middle of a message",
            sql=_KILLED_SQL,
            event=(
                f"A process keeps a bank in an image file: {count(found.account_count)} accounts, "
                f"{_money(beginning.total_cents)} in all. It has answered "
                f"{counted(len(found.answered), 'transfer')}. Now it has taken a fee from every "
                "account, and given it to nobody yet: "
                f"{_money(beginning.total_cents - found.total_cents)} are nowhere. Then "
                f"it is killed: {found.end}."
            ),
            bands=(
                _heap(pages, cached, "gone"),
                _stable(
                    pages,
                    f"; {count(len(dirty))} that the message had written never got there",
                    back=dirty,
                ),
            ),
            checks=self._stage.checked(checks),
            reading=(
                "What a message writes stays apart from stable memory until the message ends. This "
                "one never did."
            ),
        )

    def _restart(self) -> Scene:
        canister = self._canister = self._resources.enter_context(
            Canister(self._image, engine=self._stage.engine, trace=":memory:")
        )
        with canister.trace() as trace:
            opening = trace.messages[0]
        said = canister.recovery or "nothing"
        account, checks = self._compared()
        self._acts.append(Act.of("kill -9 in a message", "gone", "stayed", account, opening))
        answered = account.transfer_count - self._beginning.transfer_count
        return Scene(
            headline="Another process opens the image",
            event=f"Opening it says: {said.replace(str(self._image), self._image.name)}.",
            facts=_taken(opening),
            checks=checks,
            reading=(
                f"All {counted(answered, 'answered transfer')} are there, and of the fee nothing: "
                f"{_money(account.total_cents)} again."
                if self._stage.checks_hold
                else LOST
            ),
        )

    def _upgrade(self) -> Scene:
        cached = self._warm()
        pages = Pages.of(self._canister)
        sessions = self._sessions()
        reply = self._canister.upgrade()
        wiped = _wiped(sessions, self._sessions())
        account, checks = self._compared(wiped)
        used = reply.footprint
        mine = len(pages.of_database(used.accessed.tolist()))
        self._acts.append(Act.of("upgrade", "gone", "stayed", account, reply.message))
        return Scene(
            headline="An upgrade",
            sql="-- new code is installed: the heap is wiped, stable memory stays",
            bands=(
                _heap(pages, cached, "gone"),
                _stable(pages),
            ),
            facts=_taken(reply.message),
            checks=checks,
            reading=(
                f"Nothing was lost, and nothing copied: {counted(mine, 'OS page')} of the database "
                f"and {count(used.os_pages_accessed - mine)} of the memory manager were read to "
                f"open it again, {count(used.os_pages_dirty) if used.os_pages_dirty else 'none'} "
                "written."
                if self._stage.checks_hold
                else LOST
            ),
        )

    def _trapped_upgrade(self) -> Scene:
        canister, cached, pages = self._canister, self._warm(), Pages.of(self._canister)
        sessions, found = self._sessions(), list[Halfway]()

        def post_upgrade(message: HookMessage) -> None:
            message.execute(bank.TAKE_FEE)
            touched = canister.memory.store.bytemap
            used = tuple(touched.accessed), tuple(touched.dirty)
            found.append(Halfway(*used, message.execute(bank.TOTAL)[0][0]))
            message.trap(BUG)

        try:
            canister.upgrade(hooks=Hooks(post_upgrade=post_upgrade))
        except Trap as trap:
            trapped = str(trap)
        else:
            trapped = "nothing"
        half_way = found[0]
        dirty = pages.of_database(half_way.dirty)
        account, checks = self._compared(
            Check(f"the upgrade trapped: {trapped}", trapped == BUG), self._heap_check(sessions)
        )
        is_kept = self._stage.engine == "wasm"
        fate: Fate = "stayed" if is_kept else "gone"
        self._acts.append(
            Act("upgrade that traps", fate, "stayed", account, len(half_way.accessed), None)
        )
        missing = account.total_cents - half_way.total_cents
        return Scene(
            headline="An upgrade that traps",
            sql=f"-- post_upgrade of the new code\n{bank.TAKE_FEE};",
            bands=(
                _heap(pages, cached, fate, "" if is_kept else NATIVE_HEAP),
                _stable(
                    pages,
                    f"; the new code had written {count(len(dirty))} of them",
                    back=dirty,
                ),
            ),
            event=(
                f"The new code takes the fee once more, and traps: {trapped}. Until then it had "
                f"accessed {counted(len(half_way.accessed), 'OS page')}, "
                f"{count(len(half_way.dirty))} of them dirty, and {_money(missing)} were nowhere."
            ),
            checks=checks,
            reading=(
                "An upgrade is one message, from the first hook to the last: the old code is back, "
                "and all that it had."
                if self._stage.checks_hold
                else LOST
            ),
        )

    def _summary(self) -> Scene:
        self._stage.settings = self._canister.status().settings
        rows = [
            (
                act.name,
                act.heap,
                act.stable,
                count(act.os_pages),
                count(act.instructions),
                act.account.answers_sha256[:_SHA256_DIGITS],
            )
            for act in self._acts
        ]
        answers = {act.account.answers_sha256 for act in self._acts}
        return Scene(
            headline="The same answers each time",
            columns=("what happened", "heap", "stable", "OS pages", "instructions", "answers"),
            rows=rows,
            checks=self._stage.checked(
                [Check(f"the same answers {counted(len(rows), 'time')}", len(answers) == 1)]
            ),
            reading=(
                "What lies in stable memory survives what wipes the heap. OS pages accessed and "
                "instructions: of opening the database again, or until the trap."
            ),
        )

    # -- inside ---------------------------------------------------------------------------------

    def _warm(self) -> list[int]:
        """Have something in the heap: questions that are asked as updates leave what they read.

        SQLite keeps a copy of each SQLite page that an update accesses, and its cache has room for
        more of them than the database has.

        Returns:
            Places of the copies.
        """
        canister, cached = self._canister, set[int]()
        canister.update(bank.SESSION)
        for sql in bank.QUESTIONS:
            cached.update(canister.update(sql).footprint.accessed.tolist())
        return Pages.of(canister).of_database(cached)

    def _heap_check(self, sessions: int | None) -> Check:
        """Check that the heap is the old one; the native engine has started a new one."""
        after = self._sessions()
        words = f"TEMP table session: {_rows(sessions)}, then {_rows(after)}"
        if self._stage.engine == "native":
            return Check(f"{words}: see the heap above", after is None)
        asked = (self._canister.query(sql, cache="warm") for sql in bank.QUESTIONS)
        read = sum(reply.footprint.os_pages_accessed for reply in asked)
        return Check(
            f"{words}; the questions find all in the heap: {counted(read, 'OS page')} accessed",
            bool(sessions) and after == sessions and read == 0,
        )

    def _sessions(self) -> int | None:
        """Return how many rows the TEMP table has; None where there is none."""
        try:
            rows = self._canister.query(bank.SESSIONS).rows
        except SqlError:
            return None
        return int(rows[0][0])

    def _compared(self, *checks: Check) -> tuple[Account, tuple[Check, ...]]:
        """Compare the canister with its twin, and take note of other checks."""
        account, twin = map(bank.take_account, (self._canister, self._twin))
        return account, self._stage.checked([*checks, *_checks(account, twin, self._beginning)])


def _checks(account: Account, twin: Account, beginning: Account) -> list[Check]:
    money, then = _money(account.total_cents), _money(beginning.total_cents)
    return [
        Check(
            f"answers to {counted(len(bank.QUESTIONS), 'question')}: sha-256 "
            f"{_both(account.answers_sha256, twin.answers_sha256)}",
            account.answers_sha256 == twin.answers_sha256,
        ),
        Check(f"money: {money}, at the beginning {then}", money == then),
        Check(f"integrity_check: {account.integrity}", account.integrity == "ok"),
        Check(
            f"all {size(account.stable_size_bytes)} of stable memory: sha-256 "
            f"{_both(account.stable_sha256, twin.stable_sha256)}",
            account.stable_sha256 == twin.stable_sha256,
        ),
    ]


def _both(mine: str, twins: str) -> str:
    mine, twins = mine[:_SHA256_DIGITS], twins[:_SHA256_DIGITS]
    return f"{mine}…, as the twin's" if mine == twins else f"{mine}…, the twin's {twins}…"


def _wiped(before: int | None, after: int | None) -> Check:
    return Check(
        f"TEMP table session: {_rows(before)}, then {_rows(after)}",
        bool(before) and after is None,
    )


def _rows(number: int | None) -> str:
    return "not there" if number is None else counted(number, "row")


def _heap(pages: Pages, cached: Sequence[int], fate: Fate, note: str = "") -> Band:
    return Band(
        "heap",
        fates_of(pages.count, there=cached, gone=fate == "gone"),
        f"{fate}: SQLite's copies of {counted(len(cached), 'OS page')}, and the TEMP table "
        f"session{note}",
    )


def _stable(pages: Pages, note: str = "", *, back: Iterable[int] = ()) -> Band:
    fates = fates_of(pages.count, there=range(pages.count), back=back)
    words = f"stayed: {counted(pages.count, 'OS page')} of the database{note}"
    return Band("stable memory", fates, words)


def _taken(message: Message) -> tuple[tuple[str, str], ...]:
    used, instructions = message.stable, message.instructions
    return (
        (
            "OS pages",
            f"accessed {count(used.os_pages_accessed)}, dirty {count(used.os_pages_dirty)}",
        ),
        (
            "instructions",
            "not counted; --engine wasm does"
            if instructions is None
            else f"{count(instructions.total)}",
        ),
    )


def _money(cents: int) -> str:
    return f"{cents / 100:,.2f}"


def _play(stage: Stage) -> Generator[Scene]:
    with ExitStack() as resources:
        yield from _Bank(stage, resources).scenes()


STORY: Final = Story(
    title="sqlstable: what survives?",
    introduction=(
        "A canister has two memories. The heap is wiped at each upgrade; stable memory stays. Here "
        "SQLite keeps a bank in stable memory, and whatever can happen to it does. A twin answers "
        "the same messages, and nothing ever happens to it: each time, what is there is compared "
        "with what the twin has."
    ),
    glossary=(
        ("heap", "SQLite's page cache, prepared statements, TEMP tables"),
        ("OS page", "4 KiB of stable memory"),
        ("accessed", "OS pages read or written"),
        ("dirty", "OS pages written"),
    ),
    scenes=_play,
    engine="wasm",
    next_title="Now your own:",
    next_commands=(
        ("sqlstable run your.sql --image your.stable", "your statements, kept in a file"),
    ),
)
