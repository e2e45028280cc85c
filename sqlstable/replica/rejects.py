"""Rejects as the Internet Computer makes them: a code for programs, and a number for the reason.

A canister sees the code and a message, which begins with the number where the system itself has
rejected; somebody outside is told the number beside the message.

Source:
    Interface specification, "Reject codes" (docs/references/ic-interface-spec, developer-docs @
    b58cf042, 2026-08-18); dfinity/ic rs/types/error_types/src/lib.rs @ 01fd3d4e, and the words of
    rs/interfaces/src/execution_environment/errors.rs, rs/messaging/src/routing/stream_handler.rs,
    rs/execution_environment/src/execution/common.rs @ 1bc0a5953, 2025-10-31.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from sqlstable.errors import ContractTrap, LimitTrap, Trap
from sqlstable.ic.limits import HEAP_LIMIT_WORDS
from sqlstable.ic.principals import principal_text
from sqlstable.ic.words import INSTRUCTIONS
from sqlstable.replica.contract_help import DOCUMENTATION, contract_help


class RejectCode(IntEnum):
    """What a canister sees of a reject, in ``msg_reject_code``."""

    SYS_FATAL = 1
    SYS_TRANSIENT = 2
    DESTINATION_INVALID = 3
    CANISTER_REJECT = 4
    CANISTER_ERROR = 5
    SYS_UNKNOWN = 6
    """Of a call with a bounded wait: nobody knows what has become of it."""


class Reason(IntEnum):
    """Why the system rejects; the hundreds are the reject code."""

    CANISTER_QUEUE_NOT_EMPTY = 203
    CANISTER_ID_EXISTS = 205
    STOP_TIMEOUT = 206
    OUT_OF_CYCLES = 207
    CANISTER_NOT_FOUND = 301
    SNAPSHOT_NOT_FOUND = 305
    CREATION_NOT_PAID = 403
    MESSAGE_REJECTED = 406
    UNKNOWN_MANAGEMENT_MESSAGE = 407
    INVALID_MANAGEMENT_PAYLOAD = 408
    TRAPPED = 502
    CALLED_TRAP = 503
    CONTRACT_VIOLATION = 504
    INVALID_WASM = 505
    DID_NOT_REPLY = 506
    OUT_OF_MEMORY = 507
    STOPPED = 508
    STOPPING = 509
    NOT_STOPPED = 510
    STOPPING_CANCELLED = 511
    INVALID_CONTROLLER = 512
    FUNCTION_NOT_FOUND = 513
    NOT_EMPTY = 514
    QUERY_LOOP = 517
    INSTRUCTION_LIMIT = 522
    MEMORY_ACCESS_LIMIT = 524
    QUERIES_TOO_DEEP = 525
    QUERIES_TOO_LONG = 526
    COMPOSITE_QUERY_REPLICATED = 527
    METHOD_NOT_FOUND = 536
    NO_MODULE = 537
    WASM_MEMORY_LIMIT = 539


@dataclass(frozen=True, slots=True)
class Rejection:
    """A call was rejected.

    Examples:
        >>> Rejection(RejectCode.CANISTER_ERROR, "no", 503).error_code
        'IC0503'
    """

    code: RejectCode
    message: str
    number: int = 0
    "A `Reason`; 0 where a canister rejected, or there is none."

    @property
    def error_code(self) -> str:
        """The reason as tools print it; empty where there is none."""
        return f"IC{self.number:04}" if self.number else ""

    @property
    def seen_by_canister(self) -> str:
        """The message as a canister finds it."""
        return f"{self.error_code}: {self.message}" if self.number else self.message

    def __str__(self) -> str:
        """Write it in a line."""
        reason = f", {self.error_code}" if self.number else ""
        return f"rejected ({self.code.value} {self.code.name}{reason}): {self.message}"


def rejected(reason: Reason, message: str) -> Rejection:
    """Return the reject for a reason.

    Examples:
        >>> print(rejected(Reason.CANISTER_NOT_FOUND, "Canister aaaaa-aa not found"))
        rejected (3 DESTINATION_INVALID, IC0301): Canister aaaaa-aa not found
    """
    return Rejection(RejectCode(reason // 100), message, reason)


def error_from(canister: bytes, reason: Reason, words: str, help_words: str = "") -> Rejection:
    """Return the reject for what went wrong in a canister."""
    message = f"Error from Canister {principal_text(canister)}: {words}"
    return rejected(reason, f"{message}.\n{help_words}" if help_words else message)


_TRAPPED: Final = (
    "Consider gracefully handling failures from this canister or altering the canister to handle "
    f"exceptions. See documentation: {DOCUMENTATION}"
)
_METHOD: Final = (
    "Check that the method being called is exported by the target canister. See documentation: "
    f"{DOCUMENTATION}method-not-found"
)
_MODULE: Final = (
    "Please install code to this canister before calling it. See documentation: "
    f"{DOCUMENTATION}wasm-module-not-found"
)
_INSTRUCTIONS: Final = (
    "Try optimizing this method to consume fewer instructions or split the work across multiple "
    f"messages. See documentation: {DOCUMENTATION}instruction-limit-exceeded"
)
_ACCESSES: Final = (
    "Try optimizing the use of stable memory so that individual messages don't need to access as "
    f"much stable memory. See documentation: {DOCUMENTATION}memory-access-limit-exceeded"
)

CALLED_TRAP: Final = "Canister called `ic0.trap` with message: "
_NO_FUNCTION: Final = "Canister requested to invoke a non-existent Wasm function "
_ACCESS_LIMIT: Final = "Canister exceeded memory access limits: "
_TRAP: Final = "Canister trapped: "

_WASM_WORDS: Final = frozenset(
    (
        *("stack overflow", "heap out of bounds", "stable memory out of bounds"),
        "32 bit stable memory api used on a memory larger than 4GB",
        *("integer division by 0", "unreachable", "table out of bounds"),
        *("cycles amount exceeds 64-bit representation", "unknown"),
    )
)
"""What WebAssembly and the system say of a trap that the canister has not called."""


def trap_rejection(canister: bytes, trap: Trap) -> Rejection:
    """Return the reject that a trap is to whoever called.

    Examples:
        >>> rejection = trap_rejection(b"", Trap("unreachable"))
        >>> print(rejection.message.splitlines()[0])
        Error from Canister aaaaa-aa: Canister trapped: unreachable.
        >>> trap_rejection(b"", Trap("no such user")).error_code
        'IC0503'
    """
    words = str(trap)
    if isinstance(trap, LimitTrap) and trap.limit == INSTRUCTIONS:
        return error_from(canister, Reason.INSTRUCTION_LIMIT, words, _INSTRUCTIONS)
    if words.startswith(_ACCESS_LIMIT):
        return error_from(canister, Reason.MEMORY_ACCESS_LIMIT, words, _ACCESSES)
    if words.startswith(HEAP_LIMIT_WORDS):
        return error_from(canister, Reason.WASM_MEMORY_LIMIT, words)
    if isinstance(trap, ContractTrap):
        is_missing = words.startswith(_NO_FUNCTION)
        reason = Reason.FUNCTION_NOT_FOUND if is_missing else Reason.CONTRACT_VIOLATION
        return error_from(canister, reason, words, contract_help(words))
    first = words.partition("\n")[0]
    if first in _WASM_WORDS or first.startswith(_TRAP):
        words = words if first.startswith(_TRAP) else _TRAP + words
        return error_from(canister, Reason.TRAPPED, words, f"{_TRAPPED}trapped")
    if not words.startswith(CALLED_TRAP):
        words = f"{CALLED_TRAP}'{words}'"
    return error_from(canister, Reason.CALLED_TRAP, words, f"{_TRAPPED}trapped-explicitly")


def method_not_found(canister: bytes, kind: str, method: str) -> Rejection:
    """Return the reject of a call to a method that a canister does not have."""
    words = f"Canister has no {kind} method '{method}'."
    return error_from(canister, Reason.METHOD_NOT_FOUND, words, _METHOD)


def no_module(canister: bytes) -> Rejection:
    """Return the reject of a message to a canister without code."""
    words = "Attempted to execute a message, but the canister contains no Wasm module."
    return error_from(canister, Reason.NO_MODULE, words, _MODULE)


def not_found(canister: bytes) -> Rejection:
    """Return the reject of a message to a canister that is not there."""
    return rejected(Reason.CANISTER_NOT_FOUND, f"Canister {principal_text(canister)} not found")


def not_running(canister: bytes, *, is_stopped: bool) -> Rejection:
    """Return the reject of a message to a canister that is stopped, or about to be."""
    state, reason = ("stopped", Reason.STOPPED) if is_stopped else ("stopping", Reason.STOPPING)
    return rejected(reason, f"Canister {principal_text(canister)} is {state}")


def did_not_reply(canister: bytes) -> Rejection:
    """Return the reject of a call that has ended without an answer."""
    words = f"Canister {principal_text(canister)} did not reply to the call"
    return rejected(Reason.DID_NOT_REPLY, words)


NO_RESPONSE: Final = Rejection(RejectCode.CANISTER_ERROR, "No response")
"""The same to a canister that called."""

EXPIRED: Final = Rejection(RejectCode.SYS_UNKNOWN, "Call deadline has expired.")
"""The end of a bounded wait.

Source: dfinity/ic rs/replicated_state/src/canister_state/system_state.rs @ 1bc0a5953.
"""

UNINSTALLED: Final = rejected(Reason.MESSAGE_REJECTED, "Canister has been uninstalled.")


def unrouted(rejection: Rejection) -> Rejection:
    """Return a reject of the message routing as a canister finds it: without a number."""
    return Rejection(rejection.code, rejection.message)
