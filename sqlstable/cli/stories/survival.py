"""The story of survival: what wipes a canister's heap, and that the same answers come back.

A *twin* in this process answers the same messages, and nothing ever happens to it: what survives
is compared with it, byte for byte.
"""

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from typing import Final

from sqlstable.canister.canister import Canister
from sqlstable.canister.hooks import HookMessage, Hooks
from sqlstable.canister.snapshots import Snapshot
from sqlstable.cli.fates import Band, Fate
from sqlstable.cli.scene import Check, Scene
from sqlstable.cli.stories.kill import kill_in_message
from sqlstable.cli.stories.survival_parts import (
    SHA256_DIGITS,
    Act,
    Halfway,
    Pages,
    account_checks,
    heap_band,
    money,
    session_words,
    stable_band,
    taken,
)
from sqlstable.cli.story import Stage, Story
from sqlstable.errors import SqlError, Trap
from sqlstable.report.numbers import count, counted, size
from sqlstable.workload import bank
from sqlstable.workload.bank import Account

IMAGE_NAME: Final = "bank.stable"

LOST: Final = "Something was lost: this is a bug of sqlstable, please report it."

BUG: Final = "the new code has a bug"
"""What the new code traps with."""

NATIVE_HEAP: Final = (
    ". The native engine cannot bring back SQLite's copies; the Internet Computer does, and "
    "--engine wasm"
)
TEMP_MODELLED: Final = ". TEMP tables it does bring back: these are modelled"
TEMP_GONE: Final = ". The TEMP table session is gone, too: snapshots of native have no heap"

_COUNTED: Final = (
    "What lies in stable memory survives what wipes the heap, and a snapshot survives what wipes "
    "both. OS pages accessed and instructions are those of opening the database again; of the "
    "upgrade that traps, OS pages until then, and no instructions; of the snapshot, what the "
    "Internet Computer charges."
)
_PARTLY: Final = " Partly: TEMP tables came back, which is modelled, and SQLite's copies did not."

_KILLED_SQL: Final = f"""\
{bank.TAKE_FEE};
--                                                          <- kill -9 here
{bank.PAY_FEE};"""


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
        self._cached: set[int] = set()
        "OS pages that SQLite has a copy of in the heap."
        self._has_real_heap = stage.engine == "wasm"
        "Whether what a trap or a snapshot brings back of it can be brought back here."

    def scenes(self) -> Iterator[Scene]:
        """Play one scene after the other."""
        yield self._kill()
        yield self._restart()
        yield self._upgrade()
        yield self._trapped_upgrade()
        yield from self._snapshot()
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
                f"{money(beginning.total_cents)} in all, and in a TEMP table, session, who is "
                f"logged in. It has answered {counted(len(found.answered), 'transfer')}. Now it "
                "has taken a fee from every account, and given it to nobody yet: "
                f"{money(beginning.total_cents - found.total_cents)} are nowhere. Then "
                f"it is killed: {found.end}."
            ),
            bands=(
                heap_band(pages, cached, "gone", ", and the TEMP table session"),
                stable_band(
                    pages,
                    note=f"; {count(len(dirty))} that the message had written never got there",
                    back=dirty,
                ),
            ),
            checks=self._stage.checked(checks),
            reading=(
                "The heap is memory of the process, which ends with it. What a message writes "
                "stays apart from stable memory until the message ends. This one never did."
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
        self._acts.append(Act.of("kill -9", "gone", "stayed", account, opening))
        answered = account.transfer_count - self._beginning.transfer_count
        return Scene(
            headline="Another process opens the image",
            event=f"Opening it says: {said.replace(str(self._image), self._image.name)}.",
            facts=taken(opening),
            checks=checks,
            reading=(
                f"All {counted(answered, 'answered transfer')} are there, and of the fee nothing: "
                f"{money(account.total_cents)} again. {_bucket_words(canister, account)}"
                if self._stage.checks_hold
                else LOST
            ),
        )

    def _upgrade(self) -> Scene:
        cached = self._warm()
        pages = Pages.of(self._canister)
        sessions = self._sessions()
        reply = self._canister.upgrade()
        self._cached.clear()
        after = self._sessions()
        wiped = Check(session_words(sessions, after), bool(sessions) and after is None)
        account, checks = self._compared(wiped)
        used = reply.footprint
        mine = len(pages.of_database(used.accessed.tolist()))
        self._acts.append(Act.of("upgrade", "gone", "stayed", account, reply.message))
        return Scene(
            headline="An upgrade",
            sql="-- new code is installed: the heap is wiped, stable memory stays",
            bands=(
                heap_band(pages, cached, "gone", ", and the TEMP table session"),
                stable_band(pages),
            ),
            facts=taken(reply.message),
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
            Check(f"the upgrade trapped: {trapped}", trapped == BUG),
            self._heap_check(sessions, sessions),
        )
        fate: Fate = "stayed" if self._has_real_heap else "gone"
        if fate == "gone":
            self._cached.clear()
        heap, os_pages = self._or_here("stayed", "partly"), len(half_way.accessed)
        self._acts.append(Act("trap in an upgrade", heap, "stayed", account, os_pages, None))
        missing = account.total_cents - half_way.total_cents
        return Scene(
            headline="An upgrade that traps",
            sql=f"-- post_upgrade of the new code\n{bank.TAKE_FEE};",
            bands=(
                self._old_heap(pages, cached, fate, TEMP_MODELLED),
                stable_band(
                    pages,
                    note=f"; the new code had written {count(len(dirty))} of them",
                    back=dirty,
                ),
            ),
            event=(
                f"The new code takes the fee once more, and traps: {trapped}. Until then it had "
                f"accessed {counted(len(half_way.accessed), 'OS page')}, "
                f"{count(len(half_way.dirty))} of them dirty, and {money(missing)} were nowhere."
            ),
            checks=checks,
            reading=(
                "An upgrade is one message, from the first hook to the last: the old code is back, "
                + self._or_here("and all that it had.", "and all of stable memory.")
                if self._stage.checks_hold
                else LOST
            ),
        )

    def _snapshot(self) -> Iterator[Scene]:
        """Lose everything, and get it back: two scenes of one snapshot."""
        canister, cached, pages = self._canister, self._warm(), Pages.of(self._canister)
        sessions = self._sessions()
        snapshot = canister.take_snapshot()
        gone = canister.reinstall().message
        self._cached.clear()
        left, refusal = canister.status().database_size_bytes, _refusal(canister)
        self._acts.append(Act.of("reinstall", "gone", "gone", None, gone))
        kept = canister.snapshots
        yield Scene(
            headline="A snapshot, and then a reinstall by mistake",
            sql="-- heap and stable memory are wiped",
            event=(
                f"The snapshot has {_sizes(snapshot)}. For taking it, and for loading it, the "
                f"Internet Computer charges {snapshot.instructions:,} instructions: 2 B, and 1 for "
                "each of these bytes."
            ),
            bands=(
                heap_band(pages, cached, "gone", ", and the TEMP table session"),
                stable_band(pages, "gone"),
            ),
            facts=taken(gone),
            checks=self._stage.checked(
                [
                    Check(
                        f"the database, {size(left)}, has no answers: {refusal}",
                        left == 0 and refusal is not None,
                    ),
                    Check("the snapshot is still there", kept == (snapshot,)),
                ]
            ),
            reading="An upgrade keeps stable memory. A reinstall keeps nothing.",
        )
        loaded = canister.load_snapshot(snapshot).message
        account, checks = self._compared(self._heap_check(sessions, None))
        fate: Fate = "restored" if self._has_real_heap else "gone"
        used = loaded.stable
        self._acts.append(
            Act(
                "snapshot loaded",
                self._or_here("back", "gone"),
                "back",
                account,
                used.os_pages_accessed,
                snapshot.instructions,
            )
        )
        yield Scene(
            headline="The snapshot is loaded",
            bands=(
                self._old_heap(pages, cached, fate, TEMP_GONE),
                stable_band(pages, "restored"),
            ),
            facts=(
                *taken(loaded)[:1],
                (
                    "instructions",
                    f"{snapshot.instructions:,}, as the Internet Computer charges",
                ),
            ),
            checks=checks,
            reading=(
                f"{counted(used.os_pages_dirty, 'OS page')} differed from those of the snapshot, "
                "and were written again. "
                + self._or_here("All is as it was.", "All of stable memory is as it was.")
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
                act.account.answers_sha256[:SHA256_DIGITS] if act.account else "none",
            )
            for act in self._acts
        ]
        answers = [act.account.answers_sha256 for act in self._acts if act.account]
        return Scene(
            headline="The same answers each time",
            columns=("what happened", "heap", "stable", "OS pages", "instructions", "answers"),
            rows=rows,
            checks=self._stage.checked(
                [Check(f"the same answers {counted(len(answers), 'time')}", len({*answers}) == 1)]
            ),
            reading=_COUNTED + self._or_here("", _PARTLY),
        )

    # -- inside ---------------------------------------------------------------------------------

    def _warm(self) -> list[int]:
        """Have something in the heap: questions that are asked as updates leave what they read.

        SQLite keeps a copy of each SQLite page that an update accesses, and its cache has room for
        more of them than the database has.

        Returns:
            Places of the copies.
        """
        canister = self._canister
        canister.update(bank.SESSION)
        for sql in bank.QUESTIONS:
            self._cached.update(canister.update(sql).footprint.accessed.tolist())
        return Pages.of(canister).of_database(self._cached)

    def _heap_check(self, before: int | None, expected: int | None) -> Check:
        """Check that the heap is the old one.

        Args:
            before: Rows of the TEMP table before it all.
            expected: Rows that the native engine has now, which cannot bring back SQLite's copies.
        """
        after = self._sessions()
        words = session_words(before, after)
        if not self._has_real_heap:
            # A warm query would leave there what it reads.
            return Check(words, after == expected)
        asked = (self._canister.query(sql, cache="warm") for sql in bank.QUESTIONS)
        read = sum(reply.footprint.os_pages_accessed for reply in asked)
        return Check(
            f"{words}; the questions find all in the heap: {counted(read, 'OS page')} accessed",
            bool(before) and after == before and read == 0,
        )

    def _old_heap(self, pages: Pages, cached: list[int], fate: Fate, here: str) -> Band:
        """Draw a heap that comes back on the Internet Computer; ``here`` is said on native."""
        return heap_band(pages, cached, fate, self._or_here("", NATIVE_HEAP + here))

    def _or_here(self, there: str, here: str) -> str:
        """Choose words: of the Internet Computer and wasm, or of the native engine."""
        return there if self._has_real_heap else here

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
        return account, self._stage.checked(
            [*checks, *account_checks(account, twin, self._beginning)]
        )


def _refusal(canister: Canister) -> str | None:
    """Return why there is no answer to a question; None where there is one."""
    try:
        canister.query(bank.TOTAL)
    except SqlError as error:
        return str(error).partition(";")[0]
    return None


def _bucket_words(canister: Canister, account: Account) -> str:
    """Say why a small database has a large stable memory."""
    return (
        f"The database has {size(canister.status().database_size_bytes)} of these "
        f"{size(account.stable_size_bytes)}: a memory manager hands stable memory out in buckets "
        "of 8 MiB."
    )


def _sizes(snapshot: Snapshot) -> str:
    """Say what is in a snapshot."""
    words = [f"{size(snapshot.stable_size_bytes)} of stable memory"]
    if snapshot.heap_size_bytes:
        words += [f"{size(snapshot.heap_size_bytes)} of heap", "the module"]
    return ", ".join(words)


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
        ("sqlstable import your.db your.stable", "your database in stable memory"),
        ("sqlstable run your.sql --image your.stable", "your statements on it"),
        ("sqlstable inspect your.stable", "see what is in it"),
    ),
)
