"""One execution of a canister's code, from what it finds to what it leaves.

The environment is written into the shim's memory before the code runs, and the outcome is read from
there behind it; the system calls in between are the shim's.
"""

import ctypes
from typing import TYPE_CHECKING, Final

from sqlstable.errors import Trap
from sqlstable.ic.contexts import Context
from sqlstable.ic.limits import Limits
from sqlstable.ic.principals import principal_text
from sqlstable.ic.system_calls import MODE_NAMES, TASK_NAMES
from sqlstable.wasm.environment import (
    Entry,
    EntryExport,
    Environment,
    ExecutionResult,
    MessageAnswer,
    OutgoingCall,
    RejectData,
    ReplyData,
)
from sqlstable.wasm.packing import (
    CALLS_AT,
    CERTIFIED_AT,
    MINTING_ID,
    OutcomeNumbers,
    calls_of,
    outcome_at,
    packed,
)
from sqlstable.wasm.traps import TrapWords, trap_of

if TYPE_CHECKING:
    from sqlstable.wasm.calls import Call
    from sqlstable.wasm.joined import Joined
    from sqlstable.wasm.shim import ShimStatus
    from sqlstable.wasm.side import Side

_ROOM_BYTES: Final = 1 << 16
"""An environment of this size needs no more memory."""

_REPLY: Final = 1


def entered(
    joined: "Joined", entry: Entry, environment: Environment
) -> tuple["Call", str, tuple[int, ...]]:
    """Return what calls an entry, what its context is called, and the numbers that it takes.

    Raises:
        ContractTrap: There is no such callback.
        ModuleError: The module exports no such function.
    """
    context = environment.context
    if isinstance(entry, EntryExport):
        return joined.entry(entry.name), _mode_of(entry.name, context), ()
    number = _signed(entry.environment, is_64=joined.side.is_64)
    return joined.callback(entry.table_index), MODE_NAMES[context], (entry.table_index, number)


def result_of(side: "Side", status: "ShimStatus") -> ExecutionResult:
    """Return what the last execution left. Reply, reject and no answer are three things."""
    outcome = outcome_at(side.addresses["outcome"])
    return ExecutionResult(
        answer=_answer(side, status),
        calls=_calls(side, outcome) if outcome.call_count else (),
        cycles_accepted=outcome.accepted_low | outcome.accepted_high << 64,
        cycles_burned=outcome.burned_low | outcome.burned_high << 64,
        cycles_minted=outcome.minted_low | outcome.minted_high << 64,
        cycle_balance=outcome.balance_low | outcome.balance_high << 64,
        timer_ns=outcome.timer_ns if outcome.is_timer_set else None,
        certified_data=(
            _of_outcome(side, CERTIFIED_AT, outcome.certified_size)
            if outcome.is_certified
            else None
        ),
        is_accepted=bool(outcome.is_accepted),
        prints=prints_of(side, status) if status.debug_size != outcome.prints_from else (),
    )


def place(side: "Side", environment: Environment) -> None:
    """Let what runs next find an environment; nothing is done where it lies there already."""
    if side.environment is environment:
        return
    data = packed(environment, is_64=side.is_64)
    if len(data) > _ROOM_BYTES:
        side.calls["reserve_environment"](len(data))
    ctypes.memmove(side.addresses["environment"], data, len(data))
    side.environment = environment


def prints_of(side: "Side", status: "ShimStatus") -> tuple[str, ...]:
    """Return what the last execution has printed, also if it trapped."""
    start = outcome_at(side.addresses["outcome"]).prints_from
    data = ctypes.string_at(side.addresses["debug"] + start, status.debug_size - start)
    prints, place = [], 0
    while place < len(data):
        end = place + 4 + int.from_bytes(data[place : place + 4], "little")
        prints.append(data[place + 4 : end].decode(errors="replace"))
        place = end
    return tuple(prints)


def explained(
    side: "Side",
    status: "ShimStatus",
    wasm_trap: str | None,
    mode: str,
    limits: Limits | None,
    instruction_limit: int,
) -> Trap:
    """Return why code of the canister, or the shim, has trapped.

    Args:
        side: What it ran on; it learns where marks may be.
        status: What the shim tells.
        wasm_trap: Name of the ``wasmtime.TrapCode``.
        mode: What the Internet Computer calls the context that the code ran in.
        limits: Those of the message.
        instruction_limit: That of the message.
    """
    if wasm_trap == _OUTSIDE:
        side.set_value("marks_anywhere", 1)
    data = ctypes.string_at(side.addresses["text"], status.text_size)
    text, words = _trap_words(side, data, mode)
    return trap_of(
        status.trap_code,
        text=text,
        words=words,
        wasm_trap=wasm_trap,
        limits=limits,
        instruction_limit=instruction_limit,
    )


def _trap_words(side: "Side", text: bytes, mode: str) -> tuple[str, TrapWords]:
    """Return what the shim said of a trap, and what its text leaves open."""
    outcome = outcome_at(side.addresses["outcome"])
    said = ctypes.string_at(side.addresses["text"] + len(text), outcome.said_size)
    callee, method = b"", ""
    if outcome.is_calling:
        ((callee, method),) = (
            (call.callee, call.method)
            for call in calls_of(_of_outcome(side, outcome.calls_end, _CALL_HEAD_BYTES), 1)
        )
    environment = side.environment
    names = {
        "mode": mode,
        "said": said.decode(errors="replace"),
        "self": principal_text(b"" if environment is None else environment.self_id),
        "minting": principal_text(MINTING_ID),
        "callee": principal_text(callee),
        "method": method,
    }
    return text.decode(errors="replace"), TrapWords(
        (outcome.first, outcome.second, outcome.third), names
    )


_CALL_HEAD_BYTES: Final = 32_768
"""More than the numbers, the callee and the method of a call have."""


def _mode_of(name: str, context: Context) -> str:
    mode = MODE_NAMES[context]
    return TASK_NAMES.get(name, mode) if context is Context.TASK else mode


def _signed(number: int, *, is_64: bool) -> int:
    """Return a number of a pointer's width as wasmtime takes it; a longer one loses bits."""
    width = 64 if is_64 else 32
    number &= (1 << width) - 1
    return number - (1 << width) if number >> (width - 1) else number


def _answer(side: "Side", status: "ShimStatus") -> MessageAnswer:
    if not status.answer:
        return None
    data = ctypes.string_at(side.addresses["reply"], status.reply_size)
    return ReplyData(data) if status.answer == _REPLY else RejectData(data)


def _calls(side: "Side", outcome: OutcomeNumbers) -> tuple[OutgoingCall, ...]:
    data = _of_outcome(side, CALLS_AT, outcome.calls_end - CALLS_AT)
    return calls_of(data, outcome.call_count)


def _of_outcome(side: "Side", start: int, size: int) -> bytes:
    return ctypes.string_at(side.addresses["outcome"] + start, size) if size else b""


_OUTSIDE: Final = "MEMORY_OUT_OF_BOUNDS"
"""A name in `sqlstable.wasm.traps.WASM_TRAPS`."""
