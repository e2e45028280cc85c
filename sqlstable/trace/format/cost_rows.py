"""Rows of what messages and statements cost, and of their limits; no arrays are needed for them."""

from collections.abc import Callable
from operator import attrgetter
from typing import Final

from sqlstable.ic.units import NO_LIMIT
from sqlstable.ic.words import INSTRUCTION_PHASES
from sqlstable.trace.format.schema import COST_FIELDS, HEAP_FIELDS, PART_FIELDS
from sqlstable.trace.format.storage import Row
from sqlstable.trace.model import Instructions, LimitUse, Message, Part, Statement

_ToRow = Callable[[object], Row]

_cost_row: Final[_ToRow] = attrgetter(*COST_FIELDS)
_heap_row: Final[_ToRow] = attrgetter(*HEAP_FIELDS)
_part_row: Final[_ToRow] = attrgetter(*PART_FIELDS)
_NO_HEAP: Final = (None,) * len(HEAP_FIELDS)


def message_cost_row(message: Message, spent: Instructions) -> Row:
    """Return the row of ``message_cost``."""
    heap = _NO_HEAP if message.heap is None else _heap_row(message.heap)
    return (message.index, *_cost_row(spent), *heap)


def statement_cost_row(statement: Statement, spent: Instructions) -> Row:
    """Return the row of ``statement_cost``."""
    by_phase = statement.phase_instructions or {}
    return (statement.index, *_cost_row(spent), *map(by_phase.get, INSTRUCTION_PHASES))


def limit_row(message: int, position: int, use: LimitUse) -> Row:
    """Return a row of ``message_limit``."""
    limit = None if use.limit == NO_LIMIT else use.limit
    return (message, position, use.name, use.used, limit)


def part_row(message: int, position: int, part: Part) -> Row:
    """Return a row of ``message_part``."""
    return (message, position, *_part_row(part))
