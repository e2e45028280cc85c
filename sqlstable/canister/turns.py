"""Whose turn it is: one block at a time has a canister, and a block that is over has it no more.

A lock that is taken and given back can stay taken for ever where an exception from outside, such as
Ctrl-C, comes between two lines. Here a block has a *ticket*, and has its turn while the ticket is
the first that is alive. A ticket lives as long as the method that ends its block: Python takes
``__exit__`` before the block begins, keeps it on the stack of the frame, and drops it when the
block is left, however that happens and wherever a traceback may be kept.

Tickets queue in the order in which they came. A thread has one turn at a time. A block may give its
turn and take another one, as a message does that awaits: whoever waits meanwhile comes first.
"""

from collections.abc import Callable
from contextlib import suppress
from os import getpid
from queue import Empty, SimpleQueue
from threading import get_ident
from types import MethodType, TracebackType
from typing import Any, Final, overload
from weakref import ref

from sqlstable.errors import MessageError
from sqlstable.memory.forks import LEFT_BEHIND

LOOK_AGAIN_S: Final = 0.1
"""A block tells that it is over; who waits looks by itself as well, in case that was cut off."""

Leave = Callable[
    [Any, type[BaseException] | None, BaseException | None, TracebackType | None], None
]
Left = Callable[[type[BaseException] | None, BaseException | None, TracebackType | None], None]


class Ticket(ref[Any]):
    """A place in the queue, which lives as long as what it was made for."""

    __slots__ = ("is_over", "over", "thread")

    is_over: bool
    "Whether its block has ended by itself."
    over: "SimpleQueue[None] | None"
    "What the next in the queue waits at, once there is one."
    thread: int

    @classmethod
    def of(cls, holder: object) -> "Ticket":
        """Make a ticket of this thread that lives as long as ``holder``."""
        ticket = cls(holder)
        ticket.is_over = False
        ticket.over = None
        ticket.thread = get_ident()
        return ticket

    @property
    def is_alive(self) -> bool:
        """Whether its block runs, or is about to."""
        return not self.is_over and self() is not None


class Block:
    """A ``with`` block that has the canister; what it does is its ``kind``."""

    kind: str
    ticket: Ticket | None = None


class Leaving:
    """The ``__exit__`` of a class, which gives each block of it a ticket of its own."""

    def __init__(self, leave: Leave) -> None:
        """End blocks by ``leave``."""
        self._leave = leave

    @overload
    def __get__(self, block: None, kind: type) -> Leave: ...

    @overload
    def __get__(self, block: Block, kind: type | None = None) -> Left: ...

    def __get__(self, block: Block | None, kind: type | None = None) -> Leave | Left:
        """Return the method that ends one block; Python asks before the block begins."""
        if block is None:
            return self._leave
        method = MethodType(self._leave, block)
        if block.ticket is None:
            # Else the block has begun by hand, and whoever asks now ends it. As `Ticket.of` does,
            # without a call: there is one for each message.
            ticket = Ticket(method)
            ticket.is_over, ticket.over, ticket.thread = False, None, get_ident()
            block.ticket = ticket
        return method


class Turns:
    """The queue of one canister."""

    def __init__(self) -> None:
        self._tickets: dict[int, Ticket] = {}
        self._process = getpid()

    def take(self, block: Block) -> None:
        """Wait until it is a block's turn.

        Raises:
            MessageError: This thread has one already; or this is a child process, and the thread
                that is waited for its parent's.
        """
        tickets = self._tickets
        mine = self._mine() if tickets else None
        if mine is not None:
            raise MessageError(
                f"a message ({mine.kind}) is open; a canister runs one message at a time: end it "
                "first, or let others run where it awaits (message.awaiting)"
            )
        ticket = block.ticket
        holder = None if ticket is None else ticket()
        if ticket is None or ticket.is_over or holder is None:
            # Entered by hand or by an ExitStack, which both keep the block itself; or it has had a
            # turn, and what ends it still waits on the stack.
            ticket = block.ticket = Ticket.of(block if holder is None else holder)
        tickets[id(ticket)] = ticket
        while len(tickets) > 1 and (ahead := self._ahead_of(ticket)) is not None:
            if getpid() != self._process:
                raise MessageError(LEFT_BEHIND)
            over = ahead.over = SimpleQueue()
            if ahead.is_alive:
                # One that was cut off tells nobody.
                with suppress(Empty):
                    over.get(timeout=LOOK_AGAIN_S)

    def give(self, block: Block) -> None:
        """End the turn of a block."""
        ticket = block.ticket
        assert ticket is not None
        ticket.is_over = True
        if ticket.over is not None:
            ticket.over.put(None)
        self._tickets.pop(id(ticket), None)

    def is_mine(self) -> bool:
        """Whether a block of this thread has its turn."""
        return bool(self._tickets) and self._mine() is not None

    def _mine(self) -> Block | None:
        thread = get_ident()
        for ticket in tuple(self._tickets.values()):
            holder = ticket() if ticket.thread == thread and not ticket.is_over else None
            if holder is not None:
                block: Block = getattr(holder, "__self__", holder)
                return block
        return None

    def _ahead_of(self, ticket: Ticket) -> Ticket | None:
        """Return the last one before it, which nobody else waits for."""
        last = None
        for other in tuple(self._tickets.values()):
            if other is ticket:
                break
            if other.is_alive:
                last = other
            else:
                self._tickets.pop(id(other), None)
        return last


class Turn(Block):
    """A block that has a canister for something else than a message.

    Args:
        turns: The queue.
        kind: What errors call the block.
        begin: Is called when it is the block's turn.
    """

    def __init__(self, turns: Turns, kind: str, begin: Callable[[], None]) -> None:
        """Prepare; the block takes its turn."""
        self.kind = kind
        self._turns = turns
        self._begin = begin

    def __enter__(self) -> None:
        """Wait for the turn.

        Raises:
            MessageError: This thread has one already.
        """
        self._turns.take(self)
        try:
            self._begin()
        except BaseException:
            self._turns.give(self)
            raise

    def _leave(self, *_: object) -> None:
        self._turns.give(self)

    __exit__ = Leaving(_leave)
