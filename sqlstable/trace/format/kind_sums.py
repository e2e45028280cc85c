"""What the messages of each kind come to, added up by SQLite: what prices are worked out from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlstable.ic.charged import CHARGED_UNITS, Charged
from sqlstable.ic.message_fees import IMPORT
from sqlstable.ic.snapshot_costs import whole_instructions
from sqlstable.trace.format.schema import (
    CALLS_SINCE_VERSION,
    CHARGED_COLUMNS,
    CHARGES_SINCE_VERSION,
    CONTINUES_SINCE_VERSION,
    COSTS_SINCE_VERSION,
)
from sqlstable.trace.format.storage import Row, TracePart

_HALF_BITS: Final = 32
_HALF_MASK: Final = (1 << _HALF_BITS) - 1

_STABLE_UNITS: Final = tuple(name for name in CHARGED_UNITS if name.startswith("stable_"))
_STABLE_COLUMNS: Final = tuple(f"charged_{name}" for name in _STABLE_UNITS)
assert set(_STABLE_COLUMNS) < set(CHARGED_COLUMNS)


_KIND: Final = (
    "CASE WHEN m.kind = 'install' AND m.message_index > 0 AND k.message_index IS NULL AND NOT"  # noqa: S608  our own names
    " EXISTS (SELECT 1 FROM message_limit AS l WHERE l.message_index = m.message_index)"
    f" THEN '{IMPORT}' ELSE m.kind END"
)
"""As `sqlstable.analysis.verdict.is_import` tells the loading of a database from installations."""


@dataclass(frozen=True, slots=True)
class KindSums:
    """All messages of one kind together.

    Every price in cycles or instructions is so much for each unit, so that sums are enough; where
    one is in tenths, each message is rounded, and the last digits say by how much.
    """

    kind: str
    "Or ``import``, of messages that loaded a database."
    message_count: int
    counted_count: int
    "Messages whose instructions are known."
    charged_count: int
    "Messages of which it is known what stable memory is charged for."
    arrival_count: int
    "Messages that go on from no other."
    known_arrival_count: int
    "Those of them whose bytes are known."
    last_digits: tuple[int, ...]
    """How many messages have instructions that end in 0, in 1, … in 9; those that load a snapshot
    have what that takes, counted or not."""
    instructions: int
    "As far as they are known."
    uncounted_image_bytes: int
    "Sizes of stable memory after the messages whose instructions are not known."
    stable: Charged
    "Stable memory's units alone."
    request_bytes: int
    "Of all arguments, and of what callbacks are called with."
    arrived_bytes: int
    "Of the arguments of those that arrived."
    method_bytes: int
    "Of the names of the methods of those."
    call_count: int
    "Calls to other canisters."
    call_bytes: int


def half_sums(*columns: str) -> str:
    """Return SQL for the sums of columns, upper and lower halves apart, so that none overflows."""
    return ", ".join(
        f"ifnull(sum({column} >> {_HALF_BITS}), 0), ifnull(sum({column} & {_HALF_MASK}), 0)"
        for column in columns
    )


def joined_halves(halves: Sequence[int]) -> list[int]:
    """Return the sums of which `half_sums` asked for the halves.

    Examples:
        >>> joined_halves([1, 5, 0, 7]) == [2**32 + 5, 7]
        True
    """
    return [
        (upper << _HALF_BITS) + lower
        for upper, lower in zip(halves[::2], halves[1::2], strict=True)
    ]


def kind_sums(snapshot: TracePart) -> tuple[KindSums, ...]:
    """Add up the messages of a trace, kind by kind, in the order of their names."""
    arrives = "m.continues IS NULL" if snapshot.version >= CONTINUES_SINCE_VERSION else "1"
    known = "h.call_bytes IS NOT NULL"
    summed = half_sums(
        "c.instructions_total",
        "(CASE WHEN c.message_index IS NULL THEN m.image_bytes END)",
        *(f"h.{name}" for name in _STABLE_COLUMNS),
        f"(CASE WHEN {known} THEN h.request_bytes END)",
        f"(CASE WHEN {known} AND {arrives} THEN h.request_bytes END)",
        f"(CASE WHEN {known} AND {arrives} THEN length(CAST(k.method AS BLOB)) END)",
        f"(CASE WHEN {known} THEN h.call_count END)",
        "h.call_bytes",
    )
    whole = f"ifnull(c.instructions_total, m.image_bytes + {whole_instructions(0)})"
    digits = ", ".join(f"ifnull(sum({whole} % 10 = {digit}), 0)" for digit in range(10))
    charge_columns = (*_STABLE_COLUMNS, "request_bytes", "call_count", "call_bytes")
    rows = snapshot.select(
        f"SELECT {_KIND}, count(*), count(c.message_index), count(h.charged_stable_accesses),"  # noqa: S608  our own names
        f" sum({arrives}), sum({arrives} AND {known}), {digits}, {summed} FROM message AS m"
        + _beside(snapshot, "message_cost AS c", COSTS_SINCE_VERSION, "instructions_total")
        + _beside(snapshot, "message_charge AS h", CHARGES_SINCE_VERSION, *charge_columns)
        + _beside(snapshot, "message_call AS k", CALLS_SINCE_VERSION, "method")
        + " WHERE m.message_index <= :last_message GROUP BY 1 ORDER BY 1"
    )
    return tuple(_of_row((*row[:6], tuple(row[6:16])), joined_halves(row[16:])) for row in rows)


def _beside(snapshot: TracePart, named: str, since: int, *columns: str) -> str:
    """Return SQL that joins what need not be there for each message, nor in each format."""
    table, _, name = named.partition(" AS ")
    if snapshot.version >= since:
        return f" LEFT JOIN {table} AS {name} ON {name}.message_index = m.message_index"
    nothing = ", ".join(f"NULL AS {it}" for it in ("message_index", *columns))
    return f" LEFT JOIN (SELECT {nothing}) AS {name} ON 0"


def _of_row(counts: Row, sums: Sequence[int]) -> KindSums:
    instructions, uncounted, *rest = sums
    units, others = rest[: len(_STABLE_UNITS)], rest[len(_STABLE_UNITS) :]
    stable = Charged(None, **dict(zip(_STABLE_UNITS, units, strict=True)))
    return KindSums(*(*counts, instructions, uncounted, stable, *others))
