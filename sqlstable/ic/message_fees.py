"""What one message is charged in cycles, by its kind and by what it moved.

=================================  ===========  =======  =========================================
kind                               base price   ingress  beside its own instructions
=================================  ===========  =======  =========================================
query, composite query, inspect    free
update, replicated query           yes          yes      calls that it makes
behind an await, in our engines    yes          no
callback                           yes          no       the response's bytes, calls that it makes
cleanup                            callback's   no
timer, heartbeat, low memory       yes          no       calls that it makes
install, reinstall, upgrade        yes          yes      of a module: 6,000 instructions to compile
                                                         each operator
load of a snapshot                 yes          yes      2 billion instructions, and one a byte
uninstall                          no           yes
loading a database                 no canister's work: nothing
=================================  ===========  =======  =========================================

A query is charged in full where it is called as an update, from outside or by another canister: it
is then a replicated query, with the limits of a query and of which nothing is kept either, so that
its instructions are the same under every price list. A composite query cannot be called so.

A message that trapped is charged for what ran; its writes are gone, its instructions are not. One
that needed more than its limit is charged for the limit.

**Limitations.** Of a method's name, the argument and the nonce, which the Internet Computer counts
in bytes of ingress, the nonce is left out; so are the module that an installation brings along, and
the module in a snapshot.

Source:
    dfinity/ic rs/cycles_account_manager/src/lib.rs (execution_cost, ingress_induction_cost,
    xnet_call_performed_fee) and rs/execution_environment/src/execution/response.rs @ 1bc0a5953;
    replicated queries: rs/execution_environment/src/execution_environment.rs, and
    ApiType::modification_tracking, which ignores what they write as it does for queries.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.ic.snapshot_costs import whole_instructions
from sqlstable.ic.words import MessageKind

IMPORT: Final = "import"
"""What the loading of a database stands for here. It is no message of a canister, so that nobody
pays for it: on the Internet Computer the bytes arrive in messages of the canister's own."""

FREE_KINDS: Final[tuple[MessageKind, ...]] = (
    "query",
    "composite_query",
    "composite_callback",
    "inspect",
)
"""Kinds of message that cost nothing: nobody replicates them."""

AS_UPDATE: Final[Mapping[str, MessageKind]] = MappingProxyType({"query": "replicated_query"})
"""Free kinds of message that can be called as an update, with what they are then."""

NAMED: Final[tuple[MessageKind, ...]] = ("update", "replicated_query")
"""Kinds of message whose method's name arrives with them."""

FROM_OUTSIDE: Final[tuple[MessageKind, ...]] = (
    *NAMED,
    *("install", "reinstall", "upgrade", "uninstall", "load_snapshot"),
)
"""Kinds of message whose arrival is paid for, where they do not go on from another."""

WITHOUT_BASE: Final[tuple[MessageKind, ...]] = ("cleanup", "uninstall")
"""Kinds of message that pay for what they do alone."""


@dataclass(frozen=True, slots=True)
class MessageCycles:
    """Cycles of one message, by what they are paid for; a query that nobody replicates is free."""

    base: int
    execution: int | None
    "For its instructions; None where nobody counted them."
    ingress: int | None
    "For its arrival from outside, by its bytes; None where nobody counted them."
    calls: int
    "For what it sends to other canisters, and for the response that a callback brings."
    prepaid: int | None = None
    """What had to be there for it to run: its limit's worth, of which the rest comes back. None
    where no limit is known."""

    @property
    def total(self) -> int | None:
        """All of it; None where a part is not known."""
        if self.execution is None or self.ingress is None:
            return None
        return self.base + self.execution + self.ingress + self.calls


@dataclass(frozen=True, slots=True)
class PaidMessage:
    """What the price of a message depends on."""

    kind: str
    instructions: int | None
    "By the price list that is meant; None where nobody counted them."
    request_bytes: int | None
    "Of its argument, or of the response that calls it back; None where nobody counted them."
    method: str = ""
    "Its name, where one was called."
    continues: bool = False
    "Whether it goes on from another message, so that it did not arrive."
    call_count: int = 0
    "Calls that it makes."
    call_bytes: int = 0
    loaded_bytes: int = 0
    "What loading a snapshot copies."


def message_fees(
    paid: PaidMessage, fees: CycleFees, *, instruction_limit: int | None = None
) -> MessageCycles:
    """Return what a message is charged on a subnet.

    Examples:
        >>> message_fees(PaidMessage("update", 2_000_000, 100), CycleFees()).total
        8400000
        >>> message_fees(PaidMessage("query", None, None), CycleFees()).total
        0
    """
    if paid.kind in FREE_KINDS or paid.kind == IMPORT:
        return MessageCycles(0, 0, 0, 0, 0)
    limit = instruction_limit
    return MessageCycles(
        base=0 if paid.kind in WITHOUT_BASE else fees.execution(instructions=0),
        execution=_execution(paid, fees),
        ingress=_ingress(paid, fees),
        calls=_calls(paid, fees),
        prepaid=None if limit is None else fees.prepayment(instruction_limit=limit),
    )


def instruction_fees(kind: str, instructions: int | None, fees: CycleFees) -> int | None:
    """Return what instructions of a message cost, without its base price.

    Args:
        kind: Of the message.
        instructions: None where nobody counted them.
        fees: Of the subnet.

    Examples:
        >>> instruction_fees("update", 1_000, CycleFees(is_64=True))
        2000
    """
    if kind in FREE_KINDS:
        return 0
    if instructions is None:
        return None
    return fees.execution(instructions=instructions) - fees.execution(instructions=0)


def instruction_fees_as_update(kind: str, instructions: int | None, fees: CycleFees) -> int | None:
    """Return what instructions of a query would cost were it called as an update; None for others.

    Args:
        kind: Of the message.
        instructions: None where nobody counted them.
        fees: Of the subnet.

    Examples:
        >>> instruction_fees_as_update("query", 1_000, CycleFees())
        1000
        >>> instruction_fees_as_update("update", 1_000, CycleFees())
    """
    return instruction_fees(AS_UPDATE[kind], instructions, fees) if kind in AS_UPDATE else None


def _execution(paid: PaidMessage, fees: CycleFees) -> int | None:
    if paid.instructions is None and paid.kind == "uninstall":
        return 0
    instructions = paid.instructions
    if instructions is None and paid.kind == "load_snapshot":
        instructions = whole_instructions(paid.loaded_bytes)
    return instruction_fees(paid.kind, instructions, fees)


def _ingress(paid: PaidMessage, fees: CycleFees) -> int | None:
    if paid.kind not in FROM_OUTSIDE or paid.continues:
        return 0
    if paid.request_bytes is None:
        return None
    name = paid.method if paid.kind in NAMED else ""
    return fees.ingress(message_bytes=paid.request_bytes + len(name.encode()))


def _calls(paid: PaidMessage, fees: CycleFees) -> int:
    sent = paid.call_count * fees.call_base
    sent += fees.transmission(payload_bytes=paid.call_bytes)
    if paid.kind == "callback" and paid.request_bytes is not None:
        # What it is called with is the response, whose bytes the caller pays for.
        sent += fees.transmission(payload_bytes=paid.request_bytes)
    return sent
