"""What a replica hands on: one message that ran, and what an ingress message came to.

An `Executed` is one execution of a canister's code: a call, a callback, a timer, or a step of its
life with all the parts of that. A `CallResult` is what somebody outside gets for a call, with the
messages that it took. Both say of an answer whether it is a reply, a reject or none at all.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from sqlstable.errors import Trap
from sqlstable.ic.words import MessageKind, PartName
from sqlstable.replica.rejects import Rejection
from sqlstable.wasm.environment import ANONYMOUS, MessageAnswer, OutgoingCall, ReplyData

if TYPE_CHECKING:
    from sqlstable.replica.housed import HousedCanister
    from sqlstable.wasm.shim import ShimStatus


@dataclass(frozen=True, slots=True)
class CycleUse:
    """Cycles that moved in one message, and what is there afterwards.

    Of a message that trapped nothing moved but the refund that it came with.
    """

    accepted: int = 0
    "Taken from the call that it answers."
    attached: int = 0
    "Sent along with the calls that it made."
    refunded: int = 0
    "Come back with the answer that a callback is for."
    burned: int = 0
    fees: int = 0
    "Taken for calls; what is set aside for their answers is part of it, and partly comes back."
    balance: int = 0
    "Of the canister behind the message."


@dataclass(frozen=True, slots=True)
class PartRun:
    """One part of a step of a canister's life: init, start, pre_upgrade or post_upgrade."""

    name: PartName
    os_pages_accessed: int
    os_pages_dirty: int
    instructions: int
    "Without what its heap costs."
    heap_instructions: int = 0
    heap_regions_accessed: int = 0
    heap_regions_written: int = 0
    heap_os_pages_written: int = 0
    heap_os_pages_priced: int = 0
    "Those written, as they are charged."


@dataclass(frozen=True, slots=True)
class Executed:
    """One message that ran, whatever became of it."""

    number: int
    "Order over the whole replica, from 0."
    canister: str
    "Name."
    kind: MessageKind
    method: str
    '"add_user"; "" for none. Of a callback the method that the call went to.'
    argument: bytes
    "Of a callback the reply, or the message of the reject."
    answer: MessageAnswer
    "Of this execution: a reply, a reject or none."
    trap: Trap | None
    status: "ShimStatus"
    "Counters of the shim as the message ends; of a step the heap's are those of all its parts."
    instructions: int
    "Executed, without what the heap costs; compiling left out."
    heap_instructions: int = 0
    "What the heap costs beside them, where it is watched and charged."
    earlier: "ShimStatus | None" = None
    """Of an execution that goes on in an open message, as the callbacks of a composite query do:
    the counters before it. Counters and log are its own, and OS pages are listed behind these."""
    continues: int | None = None
    "Number of the message whose call this callback is for."
    calls: tuple[OutgoingCall, ...] = ()
    prints: tuple[str, ...] = ()
    cycles: CycleUse = CycleUse()
    caller: bytes = ANONYMOUS
    time_ns: int = 0
    label: str | None = None
    "As whoever asked for the message called it."
    is_kept: bool = False
    "Whether its changes stay; never those of a query, or of what trapped."
    is_accepted: bool = False
    "Of an inspect_message: whether it accepted the message."
    compile_instructions: int = 0
    "Charged for compiling the module, by an install or upgrade; of its limit, not in the counters."
    parts: tuple[PartRun, ...] = ()
    "Of a step of the canister's life, in order."
    module: bytes | None = field(default=None, repr=False)
    "What a step of its life was to install; None for everything else."


@dataclass(frozen=True, slots=True)
class CallResult:
    """What a call came to, for somebody outside.

    Examples:
        >>> CallResult(ReplyData(b"DIDL")).reply
        b'DIDL'
        >>> CallResult(None).is_pending
        True
    """

    answer: ReplyData | Rejection | None
    "None while the call has no answer yet."
    executed: tuple[Executed, ...] = field(default=(), repr=False)
    "Messages that ran for it, and whatever else ran meanwhile, in order."

    @property
    def is_pending(self) -> bool:
        """Whether there is no answer yet: the canister awaits something."""
        return self.answer is None

    @property
    def reply(self) -> bytes | None:
        """The reply; None where there is none."""
        return self.answer.data if isinstance(self.answer, ReplyData) else None

    @property
    def rejection(self) -> Rejection | None:
        """The reject; None where there is none."""
        return self.answer if isinstance(self.answer, Rejection) else None


class ExecutionWatcher(Protocol):
    """Is told of each message that a replica runs."""

    def before_end(self, canister: "HousedCanister", executed: Executed, *, is_kept: bool) -> None:
        """Look at a message that is about to be kept or taken back.

        Memory and shim still show it: ``canister.instance.noted(...)`` are its accesses.

        Args:
            canister: Whose message it is.
            executed: What it did.
            is_kept: Whether it will be committed.
        """
        ...

    def after_end(self, canister: "HousedCanister", executed: Executed) -> None:
        """Look at what a message has left behind."""
        ...
