"""What an execution of a canister's code finds, and what it leaves, as plain data.

An execution is one entry: an exported function, or a callback. The environment goes in before it
runs, what it left comes out behind it, and nothing calls Python in between.
"""

from dataclasses import dataclass, field

from sqlstable.ic.contexts import Context
from sqlstable.ic.cycle_fees import REFERENCE_NODE_COUNT

ANONYMOUS = b"\x04"
"""The principal of a caller without an identity."""

ROOT_KEY = bytes.fromhex(
    "308182301d060d2b0601040182dc7c0503010201060c2b0601040182dc7c05030201036100"
    "814c0e6ec71fab583b08bd81373c255c3c371b2e84863c98a4f1e08b74235d14fb5d9c0cd546d9685f913a0c"
    "0b2cc5341583bf4b4392e467db96d65b9bb4cb717112f8472e0d5a4d14505ffd7484b01291091c5f87b98883"
    "463f98091a0baaae"
)
"""The public key of the Internet Computer, DER: the key that everybody has in their agents."""


@dataclass(frozen=True, slots=True)
class EntryExport:
    """An exported function: ``canister_update add``."""

    name: str


@dataclass(frozen=True, slots=True)
class Callback:
    """A function of the first table, and the number that it is called with."""

    table_index: int
    environment: int


Entry = EntryExport | Callback


@dataclass(frozen=True, slots=True)
class Environment:
    """What the code may ask for. Principals are bytes, times nanoseconds since 1970."""

    context: Context
    caller: bytes = ANONYMOUS
    self_id: bytes = ANONYMOUS
    controllers: tuple[bytes, ...] = ()
    subnet_id: bytes = ANONYMOUS
    method_name: str = ""
    "Of the call that the message answers, for inspect_message, replies and rejects."
    time_ns: int = 0
    deadline_ns: int = 0
    "Of a call with a bounded wait; 0 for none."
    version: int = 1
    status: int = 1
    "1 running, 2 stopping, 3 stopped."
    cycle_balance: int = 100_000_000_000_000
    freezing_limit: int = 0
    "Cycles of the balance that neither calls nor burning may take."
    cycles_available: int = 0
    "Of the call, still to be accepted."
    cycles_refunded: int = 0
    "By the call that a callback is for."
    reject_code: int = 0
    reject_message: bytes = b""
    timer_ns: int = 0
    "When the global timer is due; 0 for never."
    certificate: bytes | None = None
    "For a query that may present one."
    variables: tuple[tuple[str, str], ...] = ()
    "Environment variables of the canister, by name."
    is_answered: bool = False
    "Whether the call that a callback belongs to has been replied to or rejected already."
    call_room: int = 500
    "Calls to any one canister that may be outstanding before the queue to it is full."
    calls_outstanding: tuple[tuple[bytes, int], ...] = ()
    "How many there are, by canister."
    instructions_before: int = 0
    "That earlier executions of the same call context took."
    caller_info: tuple[bytes, bytes] = (b"", b"")
    "What a canister that signed for the caller says about it, and which canister that is."
    root_key: bytes = ROOT_KEY
    node_count: int = REFERENCE_NODE_COUNT
    "Nodes of the subnet; prices in cycles depend on it."


@dataclass(frozen=True, slots=True)
class ReplyData:
    """The canister replied."""

    data: bytes


@dataclass(frozen=True, slots=True)
class RejectData:
    """The canister rejected the call, with code 4 and its own words."""

    message: bytes


MessageAnswer = ReplyData | RejectData | None
"""None where it has not answered."""


@dataclass(frozen=True, slots=True)
class OutgoingCall:
    """A call to another canister, performed."""

    callee: bytes
    method: str
    on_reply: Callback
    on_reject: Callback
    on_cleanup: Callback | None
    argument: bytes
    cycles: int = 0
    timeout_s: int | None = None
    "Seconds that the caller waits at most; None for a call that is answered for certain."
    fee: int = 0
    "Cycles that sending the call has cost, already taken from the balance."
    prepayment: int = 0
    "Cycles for the response, already taken: what it does not need is the canister's again."


@dataclass(frozen=True, slots=True)
class ExecutionResult:
    """What an execution left that did not trap."""

    answer: MessageAnswer = None
    calls: tuple[OutgoingCall, ...] = ()
    cycles_accepted: int = 0
    cycles_burned: int = 0
    cycles_minted: int = 0
    cycle_balance: int = 0
    "What was left, without what instructions cost."
    timer_ns: int | None = None
    "What the global timer was set to; None where it was not."
    certified_data: bytes | None = None
    "None where it was not set."
    is_accepted: bool = False
    "Whether ``canister_inspect_message`` accepted the message."
    prints: tuple[str, ...] = field(default=())
