"""The one seam below a canister: a stable memory with what runs on it, and what watches it.

Native and measured are two machines (`sqlstable.canister.native_machine`,
`sqlstable.canister.measured_machine`); a canister knows neither. A machine knows nothing of what
messages are for: `begin`, whatever is executed or started meanwhile, and `end` are all that there
is to an update, a query, an upgrade or an import.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from sqlstable.canister.ended import EndedMessage
from sqlstable.database.checking import Setup
from sqlstable.database.settings import Settings, resolve_settings
from sqlstable.database.vfs import StableVFS
from sqlstable.engine.statements import Statements
from sqlstable.errors import LimitTrap, Trap
from sqlstable.ic.accesses import TakenAccesses
from sqlstable.ic.limits import part_kind
from sqlstable.ic.prices import PriceRegime
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.ic.words import CacheState, Depth, MessageKind, PartName, RunEngineName
from sqlstable.memory.stable import StableMemory
from sqlstable.trace.model import Part
from sqlstable.trace.recording.attribution import MessageFacts
from sqlstable.trace.recording.raw import RawMessage

if TYPE_CHECKING:
    # What runs in Wasm is imported where it is used.
    from sqlstable.canister.heap_door import HeapDoor


@dataclass(frozen=True, slots=True)
class Opening:
    """How a heap opens the database."""

    settings: Settings
    setups: tuple[Setup, ...] = ()
    "Run on each connection."
    is_foreign: bool = field(default=False, kw_only=True)
    "Whether the database came from elsewhere, and its schema is not trusted."

    def adopting(self, vfs: StableVFS) -> Self:
        """Return the same where a database has a page size already, and a manager its buckets."""
        found = {"page_size": vfs.store.page_size, "bucket_pages": vfs.bucket_pages}
        if all(getattr(self.settings, name) == value for name, value in found.items()):
            return self
        return replace(self, settings=resolve_settings(**{**asdict(self.settings), **found}))


@dataclass(slots=True)
class Call:
    """One message, from the moment it is asked for."""

    kind: MessageKind
    cache: CacheState | None = None
    "State of the heap; None for a step of the life cycle, which makes a heap."
    label: str | None = None
    is_limited: bool = field(default=True, kw_only=True)
    continues: int | None = field(default=None, kw_only=True)
    "Index of the message that it goes on from, behind an await."
    index: int = field(default=0, init=False)
    "How many messages have ended before it; known when it begins."
    first_statement: int = field(default=0, init=False)
    "How many statements these had."
    is_committed: bool = field(default=False, init=False)
    "Whether it is behind its commit point."
    ended: EndedMessage | None = field(default=None, init=False)
    "What became of it, once that is known."
    part: PartName | None = field(default=None, init=False)
    "The part of a step that runs, or is about to begin."
    parts: list[Part] = field(default_factory=list, init=False)
    "Those that have ended."


class Ended(NamedTuple):
    """A message that is over, as its machine hands it on."""

    facts: MessageFacts
    raw: RawMessage
    trap: Trap | None
    page_size: int
    "Bytes of a SQLite page, as the message has left the database, or as it was last."


Look = Callable[[TakenAccesses, bool], None]
"""Is shown the accesses of a message that is about to end, and whether it is to be kept."""


class Machine(Protocol):
    """A stable memory, what runs SQL on it, and the record of what happens.

    Attributes:
        name: Of the engine.
        cache: What a query finds in the heap unless it asks for something else.
        memory: The stable memory.
        depth: How much is recorded.
        described: The settings that are the machine's own, as reports state them.
        own_parts: Parts of the life cycle that the module has by itself, beside hooks.
        heap_door: Gives snapshots the heap; None where it is none that could be copied.
    """

    name: RunEngineName
    cache: CacheState
    memory: StableMemory
    depth: Depth
    described: dict[str, object]
    own_parts: frozenset[PartName]
    heap_door: "HeapDoor | None"

    @property
    def view(self) -> StableVFS | None:
        """What the observer looks through, up to date; None while there is no heap."""
        ...

    def start(self, opening: Opening) -> Statements:
        """Start a heap on what stable memory holds.

        In an open message the heap is the message's own. Between messages it stands for the one
        that was there already, unlimited and unrecorded.

        Raises:
            ImageError: Stable memory holds something else than the layout.
        """
        ...

    def stop(self, *, is_whole: bool = True) -> None:
        """Let the heap go, and record no more.

        Args:
            is_whole: False where a message may have been cut off anywhere: nothing that still
                happens changes a byte, and memory and heap go back to what is committed.
        """
        ...

    def begin(self, call: Call) -> None:
        """Begin a message: the heap is as the call wants it, the memory's message is open.

        Where the message is open already, as a step of the life cycle, its next part begins, as
        the call names it; what the module itself has for it runs.
        """
        ...

    def end(self, call: Call, look: Look | None) -> Ended:
        """End the open message: it is kept, unless it is a query or has trapped."""
        ...

    def outside(self, name: str, /) -> AbstractContextManager[None]:
        """Bill the accesses of a block to nobody's statement, under ``name``."""
        ...

    def on_connect(self, setup: Setup) -> None:
        """Run ``setup`` on every connection that is open and on those to come.

        Raises:
            SettingsError: There are no connections in this process.
        """
        ...


@dataclass(slots=True)
class Parts:
    """The parts of a step that a machine runs, one after the other.

    Args:
        memory: Where they count OS pages.
    """

    memory: StableMemory
    running: PartName | None = None

    def next(self, call: Call, used: tuple[int, int], instructions: int | None) -> None:
        """End the part that runs, and begin the one that a call names, which counts anew.

        Args:
            call: The step.
            used: OS pages that the part that ends has accessed, and dirtied.
            instructions: Those that it took, or None where nobody counts.
        """
        self._note(call, used, instructions)
        assert call.part is not None
        self.running = call.part
        self.memory.next_part(part_kind(call.part, call.kind))

    def end(self, call: Call, used: tuple[int, int], instructions: int | None) -> bool:
        """End the last part, and let the message end as one; returns whether there were parts."""
        self._note(call, used, instructions)
        had_parts, self.running = self.running is not None, None
        if had_parts and self.memory.trap is None:
            self.memory.join_parts()
        return had_parts

    def _note(self, call: Call, used: tuple[int, int], instructions: int | None) -> None:
        if self.running is not None:
            call.parts.append(Part(self.running, *used, instructions))


MakeVFS = Callable[[StableMemory, Opening], StableVFS]
"""Gives SQLite the database file as an opening wants it."""


def open_vfs(
    memory: StableMemory, opening: Opening, *, kind: type[StableVFS] = StableVFS
) -> StableVFS:
    """Open the layout; a new memory manager is written into an empty memory.

    Raises:
        ImageError: The memory holds something else than the layout.
    """
    settings = opening.settings
    return kind(
        memory,
        layout=settings.layout,
        page_size=settings.page_size,
        bucket_pages=settings.bucket_pages,
        growth=settings.growth,
        now=settings.now,
        implicit_messages=False,
    )


def finish(
    call: Call,
    memory: StableMemory,
    used: tuple[int, int],
    look: Look | None,
    *,
    accesses: Callable[[], TakenAccesses],
    end: Callable[..., None],
    discard: Callable[[], None],
    prices: PriceRegime | None = None,
) -> tuple[MessageFacts, Trap | None]:
    """End the memory's message, and the heap's part in it.

    Args:
        call: The message.
        memory: Its memory.
        used: How many OS pages it has accessed, and dirtied; nobody knows any more behind its end.
        look: Looks at it before it ends.
        accesses: Gives what `look` is shown.
        end: Tells the heap that the message is over, and whether its writes were ``discarded``.
        discard: Lets the heap go.
        prices: What it is charged by, or its stable memory where nobody counts instructions.

    Returns:
        What there is to say of the message, and the trap, if there was one.
    """
    trap, is_query = memory.trap, call.kind == "query"
    os_pages_accessed, os_pages_dirty = used
    is_kept = trap is None and not is_query
    if look is not None:
        look(accesses(), is_kept)
    if is_kept:
        try:
            memory.commit()
            call.is_committed = True
        except Trap as refused:
            trap, is_kept = refused, False
            if look is not None:
                look(accesses(), is_kept)
    if trap is not None:
        # Before the bytes go back, so that SQLite's own rollback runs into the void.
        discard()
        memory.rollback()
    elif is_query:
        memory.rollback()
        end(discarded=os_pages_dirty > 0)
    else:
        end(discarded=False)
    facts = MessageFacts(
        call.index,
        call.kind,
        "trapped" if trap is not None else "discarded" if is_query else "committed",
        memory.store.wasm_pages * WASM_PAGE_BYTES,
        call.label,
        None if trap is None else str(trap),
        trap.limit or None if isinstance(trap, LimitTrap) else None,
        is_query and trap is None and os_pages_dirty > 0,
        call.cache,
        call.first_statement,
        memory.limits if call.is_limited else None,
        prices,
        os_pages_accessed,
        os_pages_dirty,
        call.continues,
        tuple(call.parts),
    )
    return facts, trap


def forget(*, discarded: bool = False) -> None:
    """Do what the end of a message asks of a heap where there is none."""
