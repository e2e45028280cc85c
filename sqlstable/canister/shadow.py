"""The measured canister beside a native one: it lives through the same messages, or a part of them.

**Why updates are never left out.** On the Internet Computer a message finds the heap as the updates
before it have left it: SQLite's page cache, spread over the heap, is most of what a small message
costs. So every update runs here, too, measured or not; a query leaves nothing behind, so that only
those queries run which are to be measured, and each finds the heap that it would find there.

**Where it cannot follow** (a hook, a snapshot, a function of Python's) it is *behind*: its stable
memory becomes that of the native canister, and it goes on with a new heap, as behind an upgrade.
While the native connection has TEMP or attached databases it cannot, and messages are not measured
until these are gone; settings of PRAGMAs are lost.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from sqlstable.canister import steps
from sqlstable.canister.asked import AskedStatements, Request, ask_all
from sqlstable.canister.ended import EndedMessage
from sqlstable.canister.hooks import Hooks
from sqlstable.canister.life import Life
from sqlstable.canister.machine import Call, Ended, Opening
from sqlstable.canister.measured_machine import MeasuredMachine
from sqlstable.canister.observation import Observation
from sqlstable.engine.state import Setting
from sqlstable.errors import SqlstableError, Trap
from sqlstable.ic.units import MIB, OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.ic.words import Depth
from sqlstable.memory.stable import StableMemory
from sqlstable.trace.model import TRAPPED

_COPIED_BYTES: Final = MIB
"""Bytes of stable memory that are copied at once."""


_WAITING_MAX: Final = 256
"""Updates, and rows of parameters, that wait to be lived through together."""


class Ran(NamedTuple):
    """A message that the measured canister ran, too."""

    ended: Ended
    error: str | None
    "Why it ended otherwise than the native one; None: it did not."
    has_same_work: bool = True
    "Whether it came as far as the native one, so that its cost is one of that message."


class Shadow:
    """A measured canister without a trace, beside a native one.

    Args:
        make_memory: Makes an empty memory with a machine on it.
        depth: Of the record.
        enforces: Whether limits on OS pages and instructions trap.
    """

    def __init__(
        self, make_memory: Callable[[], StableMemory], *, depth: Depth, enforces: bool
    ) -> None:
        self._make_memory = make_memory
        self._depth: Depth = depth
        self._enforces = enforces
        self._life: Life | None = None
        self._noted: list[Ended] = []
        self._machine = self._new_machine()
        self._waiting: list[tuple[int, Sequence[Request]]] = []
        "Updates that it has not lived through yet."
        self._waiting_count = 0
        self._is_new = True
        "Whether the machine's memory is empty yet."

    @property
    def is_living(self) -> bool:
        """Whether there is a heap."""
        return self._life is not None

    def copy(self, native: StableMemory) -> None:
        """Begin anew with what the native memory holds; there is no heap on it yet.

        Raises:
            SqlstableError: It is too large.
        """
        self._waiting.clear()
        if not self._is_new:
            self.close()
            self._machine = self._new_machine()
        self._is_new = False
        _copy(native, self._machine.memory)

    def live(self, opening: Opening, settings: Iterable[Setting]) -> None:
        """Have a heap that stands for an earlier one.

        Args:
            opening: How it opens the database.
            settings: What PRAGMAs have set since.

        Raises:
            SqlstableError: The measured engine cannot open the database.
        """
        life = self._begin(opening)
        life.start()
        call = Call("update")
        statements = life.begin(call)
        assert statements is not None
        for setting in settings:
            if statements.execute(setting.asks, None) != setting.rows:
                statements.execute(setting.sets, None)
        life.call = None
        life.end(call)
        self._noted.clear()

    def install(self, opening: Opening) -> Ended:
        """Have the first heap, as the message that installs the canister.

        Raises:
            SqlstableError: The measured engine cannot open the database.
        """
        steps.install(self._begin(opening))
        return self._noted.pop()

    def repeat(self, asked: AskedStatements, number: int) -> None:
        """Live through an update, now or later; nobody wants to know what it cost.

        Args:
            asked: What it asked of its SQL, without an error.
            number: As for `message`.

        Raises:
            Trap: It trapped here, or one before it that waited.
        """
        self._waiting.append((number, asked.requests))
        self._waiting_count += 1 + asked.row_count
        if self._waiting_count >= _WAITING_MAX:
            self.catch_up()

    def catch_up(self) -> None:
        """Live through what waits.

        Raises:
            Trap: Something trapped here; nothing of all that waited has happened.
        """
        waiting, self._waiting, self._waiting_count = self._waiting, [], 0
        if waiting:
            self._machine.repeat(waiting)

    def upgrade(self) -> Ended:
        """Upgrade to the same code."""
        self.catch_up()
        steps.upgrade(self._living)
        return self._noted.pop()

    def reinstall(self) -> Ended:
        """Let heap and stable memory go, and install the same code."""
        self.catch_up()
        steps.reinstall(self._living)
        return self._noted.pop()

    def uninstall(self) -> Ended:
        """Let code, heap and stable memory go."""
        self.catch_up()
        steps.uninstall(self._living)
        return self._noted.pop()

    def message(self, like: Call, asked: AskedStatements, trap: str | None, number: int) -> Ran:
        """Run a message that the native canister has run.

        Args:
            like: How it was called.
            asked: What it asked of its SQL.
            trap: Why it trapped there, or None.
            number: Of the message on its heap, from which SQL's random numbers come.
        """
        life = self._living
        self.catch_up()
        self._machine.go_on_from(number - 1)
        call = Call(like.kind, like.cache, is_limited=like.is_limited)
        statements = life.begin(call)
        assert statements is not None
        errors: list[str] = []
        left = None
        try:
            ask_all(asked.requests, statements, errors.append)
            if trap is None:
                left = statements.unfinished(keep_transaction=True)
        except Trap:
            # The memory has it, and the message ends by it.
            pass
        except BaseException as error:
            life.call = None
            life.end(call, error)
            raise
        life.call = None
        found = life.end(call, None if trap is None else Trap(trap))
        ended = self._noted.pop()
        if trap is None and found is not None:
            return Ran(ended, f"{TRAPPED}{found}")
        if left is not None:
            return Ran(ended, f"the message left {left}", has_same_work=False)
        if len(errors) > asked.failure_count:
            return Ran(ended, errors[-1], has_same_work=False)
        return Ran(ended, None)

    def close(self) -> None:
        """Give everything back; closing twice does no harm."""
        life, self._life = self._life, None
        if life is not None:
            life.close()
        else:
            self._machine.memory.close()

    def has_same(self, native: StableMemory, os_pages: Sequence[int], database: int) -> bool:
        """Return whether some OS pages are as in the native memory.

        The change counter in the database's header is left out: SQLite counts it up once for each
        opening, and the native engine opens the database anew after a trap.

        Args:
            native: That memory.
            os_pages: Their indexes.
            database: The address at which the database's header begins.
        """
        own = self._machine.memory
        if own.wasm_pages != native.wasm_pages:
            return False
        for os_page in os_pages:
            start = os_page * OS_PAGE_BYTES
            ours, theirs = (it.peek(start, OS_PAGE_BYTES) for it in (own, native))
            if ours != theirs and (
                os_page != database // OS_PAGE_BYTES
                or _without_counter(ours, database - start)
                != _without_counter(theirs, database - start)
            ):
                return False
        return True

    @property
    def described(self) -> dict[str, object]:
        """Settings that are the measured engine's own."""
        return self._machine.described

    @property
    def _living(self) -> Life:
        assert self._life is not None
        return self._life

    def _begin(self, opening: Opening) -> Life:
        memory = self._machine.memory
        observation = _Noting(memory, self._noted)
        life = self._life = Life(self._machine, observation, opening, Hooks())
        return life

    def _new_machine(self) -> MeasuredMachine:
        memory = self._make_memory()
        memory.bytemap.is_enforced = self._enforces
        return MeasuredMachine(memory, depth=self._depth, asks_plans=False)


class _Noting(Observation):
    """Hands on what each message was."""

    def __init__(self, memory: StableMemory, noted: list[Ended]) -> None:
        super().__init__(memory, writer=None, owners=False)
        self._noted = noted

    def note(self, ended: Ended) -> EndedMessage:
        self._noted[:] = [ended]
        return super().note(ended)


def _without_counter(os_page: bytes, header: int) -> bytes:
    """Return an OS page without the two places that count changes.

    Source:
        https://sqlite.org/fileformat.html, sections 1.3.7 and 1.3.13: bytes 24 and 92.
    """
    at, again = header + 24, header + 92
    return os_page[:at] + os_page[at + 4 : again] + os_page[again + 4 :]


def _copy(source: StableMemory, target: StableMemory) -> None:
    """Make an empty memory what another one is."""
    size_bytes = source.wasm_pages * WASM_PAGE_BYTES
    if not size_bytes:
        return
    if target.grow(source.wasm_pages) < 0:
        raise SqlstableError(
            f"stable memory has {size_bytes} bytes, more than the measured engine reaches"
        )
    zeros = bytes(_COPIED_BYTES)
    for address in range(0, size_bytes, _COPIED_BYTES):
        length = min(_COPIED_BYTES, size_bytes - address)
        data = source.peek_before(address, length)
        if data != zeros[:length]:
            target.write(address, data)
