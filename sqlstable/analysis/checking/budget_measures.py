"""What a budget can be about: the numbers of a message, of a statement, and of a whole trace.

Names are those of the JSON report, as far as that has them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlstable.analysis.pricing.message_cycles import cycles_as_update, message_cycles
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.ic.message_fees import MessageCycles
from sqlstable.trace.model import Message, Statement


@dataclass(frozen=True, slots=True)
class Costed:
    """A message with its statements, or one statement of it."""

    message: Message
    statements: Sequence[Statement]
    "All of the message's, or only the one that is meant."
    fees: CycleFees
    is_whole: bool = True
    "Whether the message is meant, and not a statement."

    def value(self, name: str) -> int | None:
        """Return one of `BUDGET_MEASURES`; None where nobody counted it."""
        found = BUDGET_MEASURES[name]
        if self.is_whole:
            return found.of_message(self)
        assert found.of_statement is not None, "a message alone has it"
        return found.of_statement(self.statements[0])

    def is_estimated(self, name: str) -> bool:
        """Tell whether one of `BUDGET_MEASURES` was not counted, but estimated from others."""
        record = self.message if self.is_whole else self.statements[0]
        spent = record.instructions
        return BUDGET_MEASURES[name].is_sampled and spent is not None and not spent.measured


@dataclass(frozen=True, slots=True)
class BudgetMeasure:
    """One number that can have a budget."""

    summary: str
    of_message: Callable[[Costed], int | None]
    of_statement: Callable[[Statement], int | None] | None = None
    "None for what only a message has."
    is_state: bool = False
    "Whether the last message has the number of the whole, which else is the sum."
    needs_wasm: bool = False
    "Whether the native engine cannot count it."
    is_sampled: bool = False
    "Whether it is estimated of messages that were not measured, where others of a run were."


def _instructions(it: Message | Statement) -> int | None:
    return None if it.instructions is None else it.instructions.total


def _stable(field: str, summary: str) -> BudgetMeasure:
    def of(it: Message | Statement) -> int:
        found: int = getattr(it.stable, field)
        return found

    return BudgetMeasure(summary, lambda it: of(it.message), of)


def _heap(field: str, summary: str) -> BudgetMeasure:
    def of(it: Costed) -> int | None:
        found: int | None = getattr(it.message.heap, field, None)
        return found

    return BudgetMeasure(summary, of, needs_wasm=True)


def _request_bytes(it: Costed) -> int | None:
    return None if it.message.payloads is None else it.message.payloads.request_bytes


def _reply_bytes(it: Costed) -> int | None:
    if it.message.payloads is not None:
        return it.message.payloads.reply_bytes
    return None if it.message.call is None else it.message.call.answer_bytes


def _cycles(it: Costed) -> int | None:
    return _known(it, message_cycles(it.message, it.fees))


def _cycles_as_update(it: Costed) -> int | None:
    found = cycles_as_update(it.message, it.fees)
    return 0 if found is None else _known(it, found)


def _known(it: Costed, found: MessageCycles) -> int | None:
    # Its arrival is paid for by its bytes, which an engine that sends none does not know. Beside
    # messages that were measured, one without would be so much too cheap.
    if found.execution is None or (found.ingress is None and it.message.sample is not None):
        return None
    return found.base + found.execution + (found.ingress or 0) + found.calls


BUDGET_MEASURES: Final[Mapping[str, BudgetMeasure]] = {
    "os_pages_accessed": _stable(
        "os_pages_accessed", "OS pages of stable memory read or written, each counted once"
    ),
    "os_pages_dirty": _stable("os_pages_dirty", "OS pages of stable memory written"),
    "wasm_pages_accessed": _stable(
        "wasm_pages_accessed",
        "Wasm pages of stable memory accessed: the regions that are charged since 2026-07",
    ),
    "wasm_pages_dirty": _stable("wasm_pages_dirty", "Wasm pages of stable memory written"),
    "bytes_read": _stable("bytes_read", "bytes read from stable memory"),
    "bytes_written": _stable("bytes_written", "bytes written to stable memory"),
    "instructions": BudgetMeasure(
        "instructions, with what heap and stable memory cost",
        lambda it: _instructions(it.message),
        _instructions,
        needs_wasm=True,
        is_sampled=True,
    ),
    "cycles": BudgetMeasure(
        "cycles of a message: base, instructions, and arrival and calls where their bytes are "
        "known; a query is free",
        _cycles,
        needs_wasm=True,
        is_sampled=True,
    ),
    "cycles_as_update": BudgetMeasure(
        "cycles of a query where it is called as an update, likewise; 0 of what is no query",
        _cycles_as_update,
        needs_wasm=True,
        is_sampled=True,
    ),
    "heap_wasm_pages_accessed": _heap(
        "wasm_pages_accessed", "Wasm pages of the heap accessed, likewise charged"
    ),
    "heap_wasm_pages_written": _heap("wasm_pages_written", "Wasm pages of the heap written"),
    "rows": BudgetMeasure(
        "rows that statements returned",
        lambda it: sum(one.row_count for one in it.statements),
        lambda it: it.row_count,
    ),
    "request_bytes": BudgetMeasure(
        "size of the argument, where it is known", _request_bytes, needs_wasm=True, is_sampled=True
    ),
    "reply_bytes": BudgetMeasure(
        "size of the reply, where it is known", _reply_bytes, needs_wasm=True, is_sampled=True
    ),
    "image_bytes": BudgetMeasure(
        "size of stable memory behind the message", lambda it: it.message.image_bytes, is_state=True
    ),
}
"""Everything that can have a number as its budget, by the name that a budget file has for it."""
