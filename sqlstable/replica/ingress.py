"""Calls from outside before they are messages: taken, or refused at the door."""

from typing import Final

from sqlstable.ic.contexts import Context
from sqlstable.ic.limits import Limits, request_too_large
from sqlstable.ic.principals import MANAGEMENT
from sqlstable.replica.call_contexts import CallMessage
from sqlstable.replica.message_runner import Job
from sqlstable.replica.rejects import Reason, RejectCode, Rejection, error_from, trap_rejection
from sqlstable.replica.traffic import Traffic
from sqlstable.wasm.environment import EntryExport

INSPECT_EXPORT: Final = "canister_inspect_message"


def ingress_refusal(traffic: Traffic, call: CallMessage, limits: Limits | None) -> Rejection | None:
    """Return why a call from outside is not taken, or None where it is.

    ``canister_inspect_message`` is asked where there is one, before it is known whether there is
    such a method.
    """
    if call.callee == MANAGEMENT:
        return None
    refusal = too_large(call.method, call.argument, limits)
    refusal = refusal or traffic.refusal(call)
    if refusal is not None and refusal.number != Reason.METHOD_NOT_FOUND:
        return refusal
    canister = traffic.canisters[call.callee]
    if INSPECT_EXPORT not in canister.exports:
        return refusal
    job = Job(
        "inspect",
        Context.INSPECT,
        EntryExport(INSPECT_EXPORT),
        call.method,
        call.argument,
        call.caller,
        label=call.label,
    )
    ended = traffic.runner.run(canister, job)
    if ended.trap is not None:
        return trap_rejection(canister.id, ended.trap)
    if ended.executed.is_accepted:
        return refusal
    return error_from(canister.id, Reason.MESSAGE_REJECTED, "Canister rejected the message")


def too_large(method: str, argument: bytes, limits: Limits | None) -> Rejection | None:
    """Return the reject of a call that no network would take in one message, or None.

    Examples:
        >>> from sqlstable.ic.limits import latest_limits
        >>> too_large("put", bytes(100), latest_limits()) is None
        True
    """
    size = len(method.encode()) + len(argument)
    if limits is None or size <= limits.request_bytes_max:
        return None
    return Rejection(RejectCode.SYS_FATAL, request_too_large(size, limits.request_bytes_max))


def in_utf8(method: str) -> str:
    r"""Return the name of a method with what no module can have replaced.

    Examples:
        >>> in_utf8("add\udcff")
        'add?'
    """
    return method.encode(errors="replace").decode()
