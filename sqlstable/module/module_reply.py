"""What a call of a canister's module came to."""

from typing import TYPE_CHECKING, Any

from sqlstable.canister.ended import EndedMessage
from sqlstable.errors import MessageError, Trap
from sqlstable.module.canister_language import CanisterLanguage
from sqlstable.replica.executed import CallResult, Executed
from sqlstable.replica.rejects import Rejection
from sqlstable.trace.footprint import EMPTY, Footprint, unite
from sqlstable.trace.markup import html_table
from sqlstable.trace.model import LimitUse, Message, Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlstable.canister.message_cost import MessageCost

_MESSAGES_SHOWN = 5
"""Messages of one call that a notebook shows."""


class ModuleReply:
    """The answer to a call, and the messages that it took: its own, those of others, callbacks.

    An answer is one of three things, and ``answer`` says which: a reply, a reject, or none, where
    the canister still awaits something.
    """

    def __init__(
        self,
        method: str,
        result: CallResult,
        ended: "Sequence[EndedMessage]",
        language: CanisterLanguage,
    ) -> None:
        self.method = method
        self.executed: tuple[Executed, ...] = result.executed
        "The messages as they ran, over all canisters, in order."
        self._result = result
        self._ended = tuple(ended)
        self.language = language
        "How the canister is spoken to."

    # -- the answer -----------------------------------------------------------------------------

    @property
    def answer(self) -> str:
        """``reply``, ``reject`` or ``none``."""
        if self._result.answer is None:
            return "none"
        return "reject" if self._result.rejection is not None else "reply"

    @property
    def is_pending(self) -> bool:
        """Whether there is no answer yet: the canister awaits something."""
        return self._result.is_pending

    @property
    def data(self) -> bytes:
        """The reply as bytes.

        Raises:
            MessageError: The call was rejected, or has no answer yet.
        """
        data = self._result.reply
        if data is None:
            raise MessageError(f"{self.method or 'the message'} has no reply: {self.fate}")
        return data

    @property
    def text(self) -> str:
        """The reply as Candid text, as dfx prints it.

        Raises:
            MessageError: As of ``data``.
        """
        return self.language.reply_text(self.method, self.data)

    @property
    def value(self) -> Any:  # noqa: ANN401  any JSON
        """The reply as a Python value: a tuple where there are several, None where there is none.

        Values are as JSON has them: records are dicts, variants ``{"case": value}``, numbers beyond
        2^53 - 1 texts; see `sqlstable.candid.interface`.

        Raises:
            MessageError: As of ``data``.
        """
        return self.language.reply_value(self.method, self.data)

    @property
    def rejection(self) -> Rejection | None:
        """The reject: ``.code``, ``.message``, ``.error_code``; None where there is none."""
        return self._result.rejection

    @property
    def trap(self) -> Trap | None:
        """The trap that made the reject; None where none did."""
        if self._result.rejection is None:
            return None
        return next((it.trap for it in reversed(self.executed) if it.trap is not None), None)

    @property
    def fate(self) -> str:
        """What became of the call, in words."""
        if self.trap is not None and len(self.executed) == 1:
            return f"it trapped: {self.trap}"
        if self.rejection is not None:
            return str(self.rejection)
        if self.is_pending:
            return "it has no answer yet: the canister awaits something"
        return "it replied"

    # -- what it took ---------------------------------------------------------------------------

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages as a trace describes them."""
        return tuple(it.attribute().message for it in self._ended)

    @property
    def message(self) -> Message:
        """The first of them: the call itself.

        Raises:
            MessageError: No message ran.
        """
        if not self._ended:
            raise MessageError(f"{self.method or 'this'} ran no message: {self.fate}")
        return self._ended[0].attribute().message

    @property
    def statements(self) -> tuple[Statement, ...]:
        """SQL that was seen in them, or a statement for each that stands for the whole."""
        return tuple(one for it in self._ended for one in it.attribute().statements)

    @property
    def footprint(self) -> Footprint:
        """What they touched in stable memory; each counts its OS pages anew, here each is once.

        Raises:
            MessageError: The call was rejected before anything ran.
        """
        self._check_ran()
        if not self._ended:
            return EMPTY
        return unite([it.attribute().footprint() for it in self._ended])

    @property
    def instructions(self) -> int:
        """Instructions of all of them, with what heap and stable memory cost.

        Raises:
            MessageError: The call was rejected before anything ran.
        """
        self._check_ran()
        return self._instructions

    @property
    def _instructions(self) -> int:
        return sum(it.instructions.total for it in self.messages if it.instructions is not None)

    @property
    def cost(self) -> "MessageCost":
        """What they cost together: ``.instructions``, ``.cycles``, parts of both, and limits.

        ``.limits`` are those of the call itself, as here; ``.tightest`` and ``.verdict`` are of
        whichever message came nearest to one. Each canister pays for its own messages. Prices are
        those of the day of the limits, on a subnet of 13 nodes, and for a heap of 64-bit addresses
        where the module has one. An update that another canister called is charged as one from
        outside.

        Raises:
            MessageError: The call was rejected before anything ran.

        Examples:
            >>> from sqlstable import CanisterModule
            >>> with CanisterModule("@counter.wasm", "(10)") as counter:
            ...     cost = counter.update("add", (5,)).cost
            >>> cost.verdict, cost.cycles == cost.cycle_parts.total, cost.cycles_as_update
            ('fits', True, None)
        """
        from sqlstable.canister.message_cost import cost_together  # noqa: PLC0415  as below

        self._check_ran()
        return cost_together([it.cost for it in self._ended])

    @property
    def heap_regions(self) -> int:
        """Wasm pages of the heap that they accessed, added up; 0 where nobody watched."""
        return sum(it.heap.wasm_pages_accessed for it in self.messages if it.heap is not None)

    @property
    def limits(self) -> tuple[LimitUse, ...]:
        """How much of each limit the call itself used."""
        return self.message.limits

    @property
    def prints(self) -> tuple[str, ...]:
        """What was printed by ``debug_print``."""
        return tuple(line for it in self.executed for line in it.prints)

    def measured(self) -> dict[str, int]:
        """Return the figures that a budget can be about, by their names."""
        messages = self.messages
        return {
            "instructions": self._instructions,
            "accessed": sum(it.stable.os_pages_accessed for it in messages),
            "dirty": sum(it.stable.os_pages_dirty for it in messages),
            "regions": sum(it.stable.wasm_pages_accessed for it in messages),
            "heap-regions": self.heap_regions,
            "messages": len(messages),
            "reply-bytes": len(self._result.reply or b""),
        }

    def _check_ran(self) -> None:
        """Refuse figures of a call that never ran: a budget for them would always be kept."""
        if self.rejection is not None and not self.executed:
            raise MessageError(f"{self.method or 'this'} ran no message: {self.fate}")

    def __repr__(self) -> str:
        said = f"text={self.text!r}" if self.answer == "reply" else f"fate={self.fate!r}"
        return f"ModuleReply({said}, instructions={self._instructions:,})"

    def _repr_html_(self) -> str:
        """Show the answer, and what each message touched, in a notebook."""
        from sqlstable.analysis.message_html import message_html  # noqa: PLC0415  replies are many

        said = self.text if self.answer == "reply" else self.fate
        shown = [html_table(self.method or "the canister", (), [(self.answer, said)])]
        for ended in self._ended[:_MESSAGES_SHOWN]:
            attributed = ended.attribute()
            shown.append(message_html(attributed.message, attributed.statements, ended.fees))
        if len(self._ended) > _MESSAGES_SHOWN:
            shown.append(f"<div>… {len(self._ended) - _MESSAGES_SHOWN:,} more messages</div>")
        return "".join(shown)
