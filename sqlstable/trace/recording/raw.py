"""What a recorder hands over when a message has ended: the log, and who it is billed to.

Positions count accesses of the message from 0. A span ``(start, stop, phase)`` bills the accesses
from ``start`` to ``stop - 1``. Spans of all statements are disjoint; what no span covers happened
*outside* of any statement.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from sqlstable.ic.accesses import TakenAccesses
from sqlstable.ic.charged import Charged, Payloads
from sqlstable.ic.words import EFFECTS, RUN
from sqlstable.trace.model import HeapUse, Instructions, LoopUse

Span = tuple[int, int, int]
"""First position, position behind the last, and phase: `PREPARE`, `RUN` or `COMMIT`."""

PREPARE_ERROR: Final = "prepare error"
"""Whose accesses they are that SQLite made for a statement that it then refused."""

NOTHING, ROWS, SCHEMA, CONNECTION = range(len(EFFECTS))
"""`EFFECTS` as numbers, because messages ask for the highest."""

_EFFECTS: Final = {"read": NOTHING, "write": ROWS, "transaction": ROWS, "ddl": SCHEMA}

_OBEYED_UNASKED: Final = re.compile(r"EXPLAIN\b.*\bPRAGMA\b", re.IGNORECASE | re.DOTALL)
"""SQLite obeys most PRAGMAs as soon as it has read them, even where it is to explain them only."""

_SETS_NOTHING: Final = re.compile(r"PRAGMA\b[^=(]*", re.IGNORECASE)
"""It tells something, or does something to the database, such as ``optimize``."""

_LEADING: Final = re.compile(r"(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z))*", re.DOTALL)


class AccessSource(Protocol):
    """A log that grows while a message runs."""

    entries: list[int]
    compacted_count: int

    def position(self) -> int:
        """Return the position that the next access will have."""
        ...

    def compact(self) -> bool:
        """Make a long log small; returns False."""
        ...

    def so_far(self) -> TakenAccesses:
        """Return what `take` would, and go on."""
        ...

    def take(self) -> TakenAccesses:
        """Return everything since the last call."""
        ...


@dataclass(frozen=True, slots=True)
class StatementText:
    """What is known of a statement from its text alone."""

    sql: str
    "Verbatim, without leading comments and closing semicolon."
    kind: str
    "read, write, ddl, transaction or pragma; call where the text is that of a call."
    is_readonly: bool
    plan: tuple[str, ...] = ()
    "Lines of EXPLAIN QUERY PLAN."
    shape: str | None = None
    "What groups it with equal work, where that does not come from SQL."
    effect: int = field(init=False)
    "What the statement may change: `NOTHING`, `ROWS`, `SCHEMA` or `CONNECTION`."

    def __post_init__(self) -> None:
        """Judge once; the judgement is asked for after each message."""
        effect = _EFFECTS.get(self.kind, CONNECTION)
        if effect == NOTHING and _OBEYED_UNASKED.match(self.sql):
            effect = CONNECTION
        elif effect == CONNECTION and _SETS_NOTHING.fullmatch(self.sql):
            effect = SCHEMA
        object.__setattr__(self, "effect", effect)


class RawStatement(NamedTuple):
    """One statement of a message, not yet attributed."""

    text: StatementText
    spans: tuple[Span, ...]
    row_count: int
    runs: int
    hits: int | None
    vm_steps: int | None
    fullscan_steps: int | None
    sorts: int | None
    instructions: Instructions | None = None
    phase_instructions: Mapping[str, int] | None = None
    loops: tuple[LoopUse, ...] = ()
    charged: Charged | None = None
    "What price lists charge for, where the engine has counted; else accesses say it."


Counters = tuple[int | None, int | None, int | None, int | None]
"""Hits, VM steps, full-scan steps and sorts."""

QuickStatement = tuple[StatementText, int, int, int, Counters]
"""A statement with one run and one span, of phase `RUN`: text, start, stop, rows, counters.

Nearly all statements are like this, and a plain tuple is made four times as fast as a
`RawStatement`.
"""

NO_COUNTERS: Final[Counters] = (None, None, None, None)


def statement_of(entry: RawStatement | QuickStatement) -> RawStatement:
    """Return what a recorder noted in its full form."""
    if isinstance(entry, RawStatement):
        return entry
    text, start, stop, row_count, counters = entry
    return RawStatement(text, ((start, stop, RUN),), row_count, 1, *counters)


class OutsideSpan(NamedTuple):
    """Accesses of nobody's statement, under the name of what made them."""

    start: int
    stop: int
    name: str


class Costs(NamedTuple):
    """What an engine that counts says of a whole message."""

    instructions: Instructions | None
    heap: HeapUse | None
    charged: Charged | None
    payloads: Payloads | None


NO_COSTS: Final = Costs(None, None, None, None)


class RawMessage(NamedTuple):
    """Everything recorded during one message."""

    accesses: TakenAccesses
    statements: Sequence[RawStatement | QuickStatement]
    outside: tuple[OutsideSpan, ...]
    costs: Callable[[], Costs] | None = None
    "Says what the whole message cost, where that is known."
    part_starts: tuple[int, ...] = ()
    "Positions where parts of a step began, in which everything is touched for the first time."


def clean_sql(sql: str) -> str:
    r"""Return a statement without leading comments and closing semicolons.

    Examples:
        >>> clean_sql("  -- all of them\n SELECT * FROM t ; ")
        'SELECT * FROM t'
    """
    start = _LEADING.match(sql)
    assert start is not None
    return sql[start.end() :].rstrip("; \t\r\n")
