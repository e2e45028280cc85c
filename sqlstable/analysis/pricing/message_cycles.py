"""What a message of a trace costs in cycles, and what has to be there before it runs.

`sqlstable.ic.message_fees` says what each kind of message pays for.

**Limitations.** Who called is not in a trace: an update that another canister called is billed as
one from outside. An installation of our own engine has no charge for compiling.
"""

from dataclasses import replace

from sqlstable.analysis.verdict import is_import
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.ic.message_fees import (
    AS_UPDATE,
    IMPORT,
    MessageCycles,
    PaidMessage,
    instruction_fees,
    instruction_fees_as_update,
    message_fees,
)
from sqlstable.ic.words import INSTRUCTIONS
from sqlstable.trace.model import Message, Statement


def message_cycles(
    message: Message, fees: CycleFees, *, request_bytes: int | None = None
) -> MessageCycles:
    """Return what a message costs on a subnet.

    Args:
        message: Of a trace, with the instructions of the price list wanted.
        fees: Of the subnet.
        request_bytes: Those of its argument where the trace does not say; None leaves it open.
    """
    payloads, call, heap = message.payloads, message.call, message.heap
    if payloads is not None:
        request_bytes = payloads.request_bytes
    elif message.kind == "callback":
        request_bytes = None  # It has no argument, but a response.
    limits = [use.limit for use in message.limits if use.name == INSTRUCTIONS]
    paid = PaidMessage(
        kind=IMPORT if is_import(message) else message.kind,
        instructions=None if message.instructions is None else message.instructions.total,
        request_bytes=request_bytes,
        method="" if call is None else call.method,
        continues=message.continues is not None,
        call_count=0 if payloads is None else payloads.call_count,
        call_bytes=0 if payloads is None else payloads.call_bytes,
        loaded_bytes=message.image_bytes + (0 if heap is None else heap.size_bytes),
    )
    return message_fees(paid, fees, instruction_limit=limits[0] if limits else None)


def cycles_as_update(
    message: Message, fees: CycleFees, *, request_bytes: int | None = None
) -> MessageCycles | None:
    """Return what a query would cost were it called as an update; None for what is no query.

    That is what it costs called from outside. Another canister that calls it pays for its call
    itself, and then no ingress is paid.

    Args:
        message: Of a trace, with the instructions of the price list wanted.
        fees: Of the subnet.
        request_bytes: As in `message_cycles`.

    Examples:
        >>> from sqlstable import Canister
        >>> with Canister(engine="wasm") as canister:
        ...     asked, made = canister.query("SELECT 1"), canister.update("SELECT 1")
        >>> paid = message_cycles(made.message, CycleFees())
        >>> cycles_as_update(asked.message, CycleFees()).total == paid.total
        True
    """
    if message.kind not in AS_UPDATE:
        return None
    called = replace(message, kind=AS_UPDATE[message.kind])
    return message_cycles(called, fees, request_bytes=request_bytes)


def statement_cycles(statement: Statement, kind: str, fees: CycleFees) -> int | None:
    """Return what a statement's instructions cost; its message's other prices are nobody's.

    Args:
        statement: Of a trace.
        kind: Of its message.
        fees: Of the subnet.
    """
    spent = statement.instructions
    return instruction_fees(kind, None if spent is None else spent.total, fees)


def statement_cycles_as_update(statement: Statement, kind: str, fees: CycleFees) -> int | None:
    """Return what the same cost were its query called as an update; None for what is in no query.

    Args:
        statement: Of a trace.
        kind: Of its message.
        fees: Of the subnet.
    """
    spent = statement.instructions
    return instruction_fees_as_update(kind, None if spent is None else spent.total, fees)
