"""What a message of a module was called with, what it answered and what it cost, told when asked.

Whoever runs many messages wants few of these things of most of them, and decoding Candid takes
longer than running a small one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final, overload

from sqlstable.canister.charging import spent_by_message
from sqlstable.engine.measured.notes import MessageNotes
from sqlstable.ic.charged import Payloads
from sqlstable.ic.words import CALL_KIND, INSTRUCTION_PHASES, RUN
from sqlstable.trace.model import ModuleCall
from sqlstable.trace.recording.raw import NO_COUNTERS, Costs, RawStatement, StatementText
from sqlstable.wasm.environment import RejectData, ReplyData

if TYPE_CHECKING:
    from sqlstable.replica.executed import Executed

_HEX_SHOWN_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class CallWords:
    """How calls and replies are written: in Candid where somebody knows their types.

    Examples:
        >>> CallWords().argument("add_user", bytes.fromhex("4449444c0000"))
        '0x4449444c0000'
    """

    argument: Callable[[str, bytes], str] = field(
        default=lambda _method, data: hex_words(data), kw_only=True
    )
    "Returns the arguments of a method, as they stand in its parentheses."
    reply: Callable[[str, bytes], str | None] = field(
        default=lambda _method, _data: None, kw_only=True
    )
    "Returns what a method replied; None where nobody knows."


def hex_words(data: bytes) -> str:
    """Return bytes in hex, the beginning of many.

    Examples:
        >>> hex_words(b""), hex_words(b"DIDL"), hex_words(bytes(40))[-12:]
        ('', '0x4449444c', '… (40 bytes)')
    """
    if not data:
        return ""
    if len(data) <= _HEX_SHOWN_BYTES:
        return f"0x{data.hex()}"
    return f"0x{data[:_HEX_SHOWN_BYTES].hex()}… ({len(data):,} bytes)"


class ToldCall(Sequence[RawStatement]):
    """A message, as the one statement that it is where no SQL is seen.

    Args:
        executed: What the replica says of it.
        notes: What the shim does.
        words: How calls and replies are written.
    """

    def __init__(self, executed: "Executed", notes: MessageNotes, words: CallWords) -> None:
        self._executed = executed
        self._notes = notes
        self._words = words

    def __len__(self) -> int:
        return 1

    @overload
    def __getitem__(self, index: int) -> RawStatement: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[RawStatement]: ...

    def __getitem__(self, index: int | slice) -> RawStatement | Sequence[RawStatement]:
        return (self._statement,)[index]

    def costs(self) -> Costs:
        """Return what the message cost, compiling its module included, and did to its heap."""
        spent, heap, charged = spent_by_message(self._notes)
        compiling = self._executed.compile_instructions
        if compiling and charged.computation is not None:
            spent = replace(
                spent, total=spent.total + compiling, computation=spent.computation + compiling
            )
            computation = {name: it + compiling for name, it in charged.computation.items()}
            charged = replace(charged, computation=computation)
        return Costs(spent, heap, charged, self._payloads)

    def call(self) -> ModuleCall:
        """Return what it was called with, and what it answered."""
        executed = self._executed
        kind, data, text = "none", b"", None
        if executed.kind == "inspect":
            text = "accepted" if executed.is_accepted else "not accepted"
        if isinstance(executed.answer, ReplyData):
            kind, data = "reply", executed.answer.data
            text = self._words.reply(executed.method, data)
        elif isinstance(executed.answer, RejectData):
            kind, data = "reject", executed.answer.message
            text = data.decode(errors="replace")
        return ModuleCall(executed.method, self._text, kind, len(data), text, len(executed.calls))

    @cached_property
    def _payloads(self) -> Payloads:
        executed, answer = self._executed, self._executed.answer
        reply = b""
        if executed.trap is not None:
            reply = str(executed.trap).encode()
        elif isinstance(answer, ReplyData):
            reply = answer.data
        elif isinstance(answer, RejectData):
            reply = answer.message
        return Payloads(
            len(executed.argument),
            len(reply),
            len(executed.calls),
            sum(len(it.method.encode()) + len(it.argument) for it in executed.calls),
        )

    @cached_property
    def _text(self) -> str:
        executed = self._executed
        if executed.kind in _AFTER_CALLS:
            return _text_behind(executed, self._words)
        name = executed.method or executed.kind.replace("_", " ")
        return f"{name}({self._words.argument(executed.method, executed.argument)})"

    @cached_property
    def _statement(self) -> RawStatement:
        instructions, _, charged, _ = self.costs()
        assert instructions is not None
        compiling = self._executed.compile_instructions
        spent = dict.fromkeys(INSTRUCTION_PHASES, 0)
        spent["prepare"] = compiling
        spent["run"] = instructions.total - instructions.heap - compiling
        text = StatementText(
            self._text, CALL_KIND, is_readonly=False, shape=shape_of_call(self._executed)
        )
        span = (0, self._notes.status.log_count, RUN)
        return RawStatement(text, (span,), 0, 1, *NO_COUNTERS, instructions, spent, (), charged)


_AFTER_CALLS: Final = ("callback", "composite_callback", "cleanup")
"""Kinds of message that a call of the canister's own has led to."""


def _text_behind(executed: "Executed", words: CallWords) -> str:
    """Return what came back from a call, whose method is another canister's."""
    method, data = executed.method, executed.argument
    if executed.kind == "cleanup":
        return f"cleanup of {method}"
    if data and not data.startswith(_CANDID_MAGIC):
        return f"reject of {method}: {data.decode(errors='replace')}"
    return f"reply of {method}({words.argument(_NO_METHOD, data)})"


_CANDID_MAGIC: Final = b"DIDL"
_NO_METHOD: Final = ""
"""Its types are not those of any method of this canister."""


def shape_of_call(executed: "Executed") -> str:
    """Return what groups a message with equal work."""
    return f"{executed.kind.replace('_', ' ')} {executed.method}".rstrip()
