"""Calls that are under way: whom a canister answers, what it waits for, what is on its way.

A *call context* stands for a call from its first message to its answer, and beyond that as long as
callbacks of it are outstanding. What a canister waits for is a `Waiting`; its callback runs in the
context that made the call.

Source:
    Interface specification, "Call contexts"; dfinity/ic rs/replicated_state/src/canister_state/
    system_state/call_context_manager.rs @ 1bc0a5953, 2025-10-31.
"""

from dataclasses import dataclass, field

from sqlstable.ic.words import MessageKind
from sqlstable.replica.rejects import Rejection
from sqlstable.wasm.environment import OutgoingCall, ReplyData

Answer = ReplyData | Rejection


@dataclass(frozen=True, slots=True)
class FromOutside:
    """Somebody outside called, and looks for the answer under a number."""

    ticket: int


@dataclass(frozen=True, slots=True)
class FromCanister:
    """A canister called, and waits."""

    canister: bytes
    waiting: int
    "Number of the `Waiting`."


@dataclass(frozen=True, slots=True)
class FromSystem:
    """A timer or heartbeat: nobody waits for an answer."""


Origin = FromOutside | FromCanister | FromSystem


@dataclass(slots=True)
class CallContext:
    """A call that a canister answers."""

    number: int
    canister: bytes
    origin: Origin
    caller: bytes
    method: str
    cycles_available: int = 0
    deadline_ns: int = 0
    is_answered: bool = False
    is_deleted: bool = False
    "Whether the code was uninstalled meanwhile: it is answered, and callbacks do not run."
    outstanding: int = 0
    "Callbacks that have not run yet."
    instructions: int = 0
    "Of its messages so far."


@dataclass(slots=True)
class Waiting:
    """A call that a canister has made and that has no answer yet."""

    number: int
    context: CallContext
    call: OutgoingCall
    message: int
    "Number of the message that made it."
    deadline_ns: int = 0
    "Of a bounded wait; 0 for none."


@dataclass(frozen=True, slots=True)
class CallMessage:
    """A call on its way."""

    callee: bytes
    method: str
    argument: bytes
    caller: bytes
    origin: Origin
    cycles: int = 0
    deadline_ns: int = 0
    label: str | None = None


@dataclass(frozen=True, slots=True)
class AnswerMessage:
    """An answer on its way to a canister, with the cycles that were not accepted."""

    to: FromCanister
    answer: Answer
    refund: int = 0


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """Something that the system wants a canister to do."""

    canister: bytes
    kind: MessageKind
    export: str
    label: str | None = None


Underway = CallMessage | AnswerMessage | TaskMessage


@dataclass(slots=True)
class StopRequest:
    """Somebody waits for a canister to be stopped."""

    origin: Origin
    cycles: int
    since_ns: int


@dataclass(slots=True)
class OpenCalls:
    """All call contexts and waitings of a replica, by their numbers."""

    contexts: dict[int, CallContext] = field(default_factory=dict)
    waitings: dict[int, Waiting] = field(default_factory=dict)
    _next: int = 0

    @property
    def last(self) -> int:
        """The number that was given last."""
        return self._next

    def forget_since(self, number: int) -> None:
        """Forget contexts that were opened behind a number, and wait for nothing."""
        for context in [it for it in self.contexts.values() if it.number > number]:
            if not context.outstanding:
                del self.contexts[context.number]

    def open(self, call: CallMessage | TaskMessage) -> CallContext:
        """Open the context of a call or task that a canister begins with."""
        self._next += 1
        if isinstance(call, TaskMessage):
            context = CallContext(self._next, call.canister, FromSystem(), b"", "")
        else:
            context = CallContext(
                self._next,
                call.callee,
                call.origin,
                call.caller,
                call.method,
                call.cycles,
                call.deadline_ns,
            )
        self.contexts[context.number] = context
        return context

    def wait(
        self, context: CallContext, call: OutgoingCall, message: int, deadline_ns: int
    ) -> Waiting:
        """Take note of a call that was made."""
        self._next += 1
        waiting = Waiting(self._next, context, call, message, deadline_ns)
        self.waitings[waiting.number] = waiting
        context.outstanding += 1
        return waiting

    def close_if_over(self, context: CallContext) -> None:
        """Forget a context that is answered and waits for nothing."""
        if context.is_answered and not context.outstanding:
            self.contexts.pop(context.number, None)

    def of(self, canister: bytes) -> list[CallContext]:
        """Return the open contexts of a canister, in order."""
        return [it for it in self.contexts.values() if it.canister == canister]

    def outstanding(self, canister: bytes) -> tuple[tuple[bytes, int], ...]:
        """Return how many calls of a canister are outstanding, by callee."""
        counts: dict[bytes, int] = {}
        for waiting in self.waitings.values():
            if waiting.context.canister == canister:
                callee = waiting.call.callee
                counts[callee] = counts.get(callee, 0) + 1
        return tuple(sorted(counts.items()))
