"""What a whole trace comes to, added up by SQLite: no record is made for any of its rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from sqlstable.ic.words import INSTRUCTION_PHASES
from sqlstable.trace.format.estimating import SampleBlock, blocks_seen
from sqlstable.trace.format.kind_sums import KindSums, half_sums, joined_halves, kind_sums
from sqlstable.trace.format.schema import (
    COSTS_SINCE_VERSION,
    STABLE_COLUMNS,
    TRAP_LIMITS_SINCE_VERSION,
)
from sqlstable.trace.format.storage import TracePart
from sqlstable.trace.model import Calls, Instructions, StableUse
from sqlstable.trace.trap_words import limit_named_by

MessageState: TypeAlias = tuple[str, str | None, bool]
"""Kind of a message, state of the heap when it began, and whether its instructions are known."""

_BOUND: Final = {
    "message": "message_index <= :last_message",
    "statement": "statement_index <= :last_statement",
}


@dataclass(frozen=True, slots=True)
class Summary:
    """All messages of a trace together."""

    message_count: int
    bare_count: int
    "Messages without a statement."
    trapped: tuple[int, ...]
    "Indexes of the messages that trapped, ascending."
    statement_count: int
    row_count: int
    hits: int | None
    "SQLite pages taken from SQLite's own cache; None where no statement counted them."
    stable: StableUse
    "Calls and bytes of all messages; pages as the sum of the messages' sets."
    instructions: Instructions | None
    "Of all messages; None where not every message has some."
    statement_instructions: Instructions | None
    "Of all statements; None where not all are known."
    phase_instructions: Mapping[str, int] | None
    "Those of the statements by phase; None where not all are known."
    states: frozenset[MessageState]
    "What messages there are, whatever their number."
    exceeding: tuple[int, ...]
    "Indexes of the messages that used more than a limit, or that one trapped, ascending."
    nearest: int | None
    "Index of the message that used the largest share of a limit, the first of them."
    limited: tuple[int, ...]
    "For each combination of limits that messages have, the first with it, ascending."
    unlimited_count: int
    "Messages that no limit applies to."
    blocks: tuple[SampleBlock, ...] = ()
    "Messages of equal work, some of them measured; none where one engine alone ran."
    kinds: tuple[KindSums, ...] = ()
    "What the messages of each kind come to, by the names of the kinds."


def summary(snapshot: TracePart) -> Summary:
    """Add up what is in a trace."""
    [(messages, *halves)] = snapshot.select(
        f"SELECT count(*), {half_sums(*STABLE_COLUMNS)}"  # noqa: S608  our own names
        f" FROM message WHERE {_BOUND['message']}"
    )
    calls_and_pages = joined_halves(halves)
    [(statements, with_statements, with_hits, *halves)] = snapshot.select(
        "SELECT count(*), count(DISTINCT message_index), count(hits),"  # noqa: S608  our own names
        f" {half_sums('row_count', 'hits')} FROM statement WHERE {_BOUND['statement']}"
    )
    rows, hits = joined_halves(halves)
    return Summary(
        message_count=messages,
        bare_count=messages - with_statements,
        trapped=_trapped(snapshot),
        statement_count=statements,
        row_count=rows,
        hits=hits if with_hits else None,
        stable=StableUse(Calls(*calls_and_pages[:4]), *calls_and_pages[4:]),
        instructions=_message_instructions(snapshot, messages) if messages else None,
        statement_instructions=_instructions(snapshot, "statement", statements),
        phase_instructions=_phase_instructions(snapshot, statements) if statements else None,
        states=_states(snapshot),
        exceeding=_exceeding(snapshot),
        nearest=_nearest(snapshot),
        limited=_limited(snapshot),
        unlimited_count=messages - _limited_count(snapshot),
        blocks=blocks_seen(snapshot),
        kinds=kind_sums(snapshot),
    )


def _message_instructions(snapshot: TracePart, messages: int) -> Instructions | None:
    """Add up what messages cost; one that loaded a snapshot, and ran no code, needs no count."""
    if snapshot.version < COSTS_SINCE_VERSION:
        return None
    [(without,)] = snapshot.select(
        "SELECT count(*) FROM message WHERE kind = 'load_snapshot' AND NOT EXISTS"  # noqa: S608  our own names
        " (SELECT 1 FROM message_cost AS c WHERE c.message_index = message.message_index)"
        f" AND {_BOUND['message']}"
    )
    return _instructions(snapshot, "message", messages - without)


def _instructions(snapshot: TracePart, what: str, count: int) -> Instructions | None:
    """Add up a table of costs; None unless each of ``count`` rows has some."""
    if snapshot.version < COSTS_SINCE_VERSION:
        return None if count else Instructions(0, 0, 0, 0)
    parts = ("total", "computation", "stable", "heap")
    columns = tuple(f"instructions_{part}" for part in parts)
    [(known, measured, *halves)] = snapshot.select(
        f"SELECT count(*), ifnull(min(measured), 1), {half_sums(*columns)}"  # noqa: S608  our own names
        f" FROM {what}_cost WHERE {_BOUND[what]}"
    )
    if known != count:
        return None
    total, computation, stable, heap = joined_halves(halves)
    return Instructions(total, computation, stable, heap, bool(measured))


def _phase_instructions(snapshot: TracePart, count: int) -> Mapping[str, int] | None:
    if snapshot.version < COSTS_SINCE_VERSION:
        return None
    columns = tuple(f"instructions_{phase}" for phase in INSTRUCTION_PHASES)
    [(known, *halves)] = snapshot.select(
        f"SELECT count({columns[0]}), {half_sums(*columns)}"  # noqa: S608  our own names
        f" FROM statement_cost WHERE {_BOUND['statement']}"
    )
    if known != count:
        return None
    return dict(zip(INSTRUCTION_PHASES, joined_halves(halves), strict=True))


def _states(snapshot: TracePart) -> frozenset[MessageState]:
    counted = "0"
    if snapshot.version >= COSTS_SINCE_VERSION:
        counted = "EXISTS (SELECT 1 FROM message_cost AS c WHERE c.message_index = m.message_index)"
    rows = snapshot.select(
        f"SELECT DISTINCT kind, cache, {counted} FROM message AS m WHERE {_BOUND['message']}"  # noqa: S608  our own names
    )
    return frozenset((kind, cache, bool(counted)) for kind, cache, counted in rows)


def _exceeding(snapshot: TracePart) -> tuple[int, ...]:
    found = {
        index
        for (index,) in snapshot.select(
            "SELECT DISTINCT message_index FROM message_limit"  # noqa: S608  our own names
            f" WHERE used > limit_value AND {_BOUND['message']}"
        )
    }
    limit = "trap_limit" if snapshot.version >= TRAP_LIMITS_SINCE_VERSION else "NULL"
    for index, trap, named in snapshot.select(
        f"SELECT message_index, trap, {limit} FROM message"  # noqa: S608  our own names
        f" WHERE outcome = 'trapped' AND {_BOUND['message']}"
    ):
        if snapshot.version < TRAP_LIMITS_SINCE_VERSION:
            found |= {index} if limit_named_by("trapped", trap) is not None else set()
        elif named is not None:
            found.add(index)
    return tuple(sorted(found))


def _trapped(snapshot: TracePart) -> tuple[int, ...]:
    rows = snapshot.select(
        "SELECT message_index FROM message"  # noqa: S608  our own names
        f" WHERE outcome = 'trapped' AND {_BOUND['message']} ORDER BY 1"
    )
    return tuple(index for (index,) in rows)


def _limited_count(snapshot: TracePart) -> int:
    [(count,)] = snapshot.select(
        "SELECT count(DISTINCT message_index) FROM message_limit"  # noqa: S608  our own names
        f" WHERE limit_value IS NOT NULL AND {_BOUND['message']}"
    )
    return int(count)


def _nearest(snapshot: TracePart) -> int | None:
    rows = snapshot.select(
        "SELECT message_index FROM message_limit"  # noqa: S608  our own names
        f" WHERE limit_value IS NOT NULL AND {_BOUND['message']}"
        " ORDER BY used * 1.0 / max(limit_value, 1) DESC, message_index LIMIT 1"
    )
    return rows[0][0] if rows else None


def _limited(snapshot: TracePart) -> tuple[int, ...]:
    rows = snapshot.select(
        "SELECT min(message_index) FROM ("  # noqa: S608  our own names
        "  SELECT message_index, json_group_array(name) AS names"
        f" FROM message_limit WHERE limit_value IS NOT NULL AND {_BOUND['message']}"
        "  GROUP BY message_index"
        ") GROUP BY names ORDER BY 1"
    )
    return tuple(index for (index,) in rows)
