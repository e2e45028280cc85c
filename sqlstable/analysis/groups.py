"""Statements of a trace put together: by their shape, or by the owners of what they touched."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlstable.analysis.pricing.statement_prices import (
    StatementCycles,
    StatementPrice,
    no_price,
    sum_cycles,
)
from sqlstable.analysis.totals import sum_instructions, sum_known, sum_uses
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.trace.model import Instructions, OwnerUse, StableUse, Statement


@dataclass(frozen=True, slots=True)
class ShapeGroup:
    """All statements of one shape: the same SQL but for its literals."""

    shape: str
    kind: str
    statement_count: int
    run_count: int
    "Executions; more than the statements where ``executemany`` ran one many times."
    row_count: int
    hits: int | None
    stable: StableUse
    "Sum over the statements; pages as the sum of the statements' sets."
    os_pages_accessed_median: float
    "Of one statement."
    os_pages_accessed_max: int
    os_pages_dirty_median: float
    os_pages_dirty_max: int
    owners: tuple[OwnerUse, ...]
    "Sums over the statements, most accessed first."
    instructions: Instructions | None = None
    "Sum over the statements; None where not all are known."
    plans: tuple[tuple[str, ...], ...] = ()
    "The different plans by which SQLite executed it, in the order of their first use."
    cycles: int | None = None
    "Sum over the statements; None where not all are known, or nobody asked."
    cycles_as_update: int | None = None
    """What those in queries, which are free, would cost were these called as updates; None where
    none is, or as above."""


@dataclass(frozen=True, slots=True)
class OwnerGroup:
    """One owner in one role, over all statements."""

    name: str
    table: str
    kind: str
    role: str
    statement_count: int
    "Statements that touched it."
    os_pages_accessed: int
    "Sum over the statements; pages as the sum of the statements' sets."
    os_pages_dirty: int
    instructions: Instructions | None = None
    """Of the statements that touched it, whole: an instruction has no owner, and owners share
    statements. None where not all are known."""
    cycles: int | None = None
    "Of the same statements, likewise whole."
    cycles_as_update: int | None = None
    "Of those of them in queries, were these called as updates, likewise whole."

    @property
    def stable(self) -> StableUse:
        """What is known of it as a use of stable memory."""
        return StableUse(
            os_pages_accessed=self.os_pages_accessed, os_pages_dirty=self.os_pages_dirty
        )


def group_by_shape(
    statements: Iterable[Statement], price: StatementPrice = no_price
) -> list[ShapeGroup]:
    """Return one group for each shape, the one that accessed most OS pages first.

    A statement without a shape, which SQLite took but no shape was found for, is its own.

    Args:
        statements: Of one trace.
        price: Returns what each adds to the cycles of its group.
    """
    by_shape: dict[str, list[Statement]] = defaultdict(list)
    for statement in statements:
        by_shape[statement.shape or statement.sql].append(statement)
    groups = [_shape_group(shape, found, price) for shape, found in by_shape.items()]
    return sorted(groups, key=_shape_order)


def group_by_owner(
    statements: Iterable[Statement], price: StatementPrice = no_price
) -> list[OwnerGroup]:
    """Return one group for each owner and role, the most accessed first.

    Args:
        statements: Of one trace.
        price: Returns what each adds to the cycles of its group.
    """
    by_owner: dict[
        tuple[str, str, str, str], list[tuple[OwnerUse, Instructions | None, StatementCycles]]
    ]
    by_owner = defaultdict(list)
    for statement in statements:
        cycles = price(statement) if statement.owners else StatementCycles()
        for use in statement.owners:
            key = (use.name, use.table, use.kind, use.role)
            by_owner[key].append((use, statement.instructions, cycles))
    groups = [
        OwnerGroup(
            *owner,
            statement_count=len(uses),
            os_pages_accessed=sum(use.os_pages_accessed for use, _, _ in uses),
            os_pages_dirty=sum(use.os_pages_dirty for use, _, _ in uses),
            instructions=sum_instructions(spent for _, spent, _ in uses),
            cycles=summed.paid,
            cycles_as_update=summed.as_update,
        )
        for owner, uses in by_owner.items()
        for summed in [sum_cycles(cycles for _, _, cycles in uses)]
    ]
    return sorted(groups, key=_owner_order)


def without_owners(trace: TraceSource) -> int:
    """Return how many statements touched OS pages whose owners were not determined."""
    return sum(
        1
        for statement in trace.statements
        if statement.stable.os_pages_accessed > 0 and not statement.owners
    )


def _shape_group(shape: str, statements: list[Statement], price: StatementPrice) -> ShapeGroup:
    accessed = [statement.stable.os_pages_accessed for statement in statements]
    dirty = [statement.stable.os_pages_dirty for statement in statements]
    cycles = sum_cycles(map(price, statements))
    return ShapeGroup(
        shape=shape,
        kind=statements[0].kind,
        statement_count=len(statements),
        run_count=sum(statement.runs for statement in statements),
        row_count=sum(statement.row_count for statement in statements),
        hits=sum_known(statement.sqlite.hits for statement in statements),
        stable=sum_uses(statement.stable for statement in statements),
        os_pages_accessed_median=_median(accessed),
        os_pages_accessed_max=max(accessed),
        os_pages_dirty_median=_median(dirty),
        os_pages_dirty_max=max(dirty),
        owners=tuple(
            OwnerUse(
                name=group.name,
                table=group.table,
                kind=group.kind,
                role=group.role,
                os_pages_accessed=group.os_pages_accessed,
                os_pages_dirty=group.os_pages_dirty,
            )
            for group in group_by_owner(statements)
        ),
        instructions=sum_instructions(statement.instructions for statement in statements),
        plans=tuple(dict.fromkeys(statement.plan for statement in statements if statement.plan)),
        cycles=cycles.paid,
        cycles_as_update=cycles.as_update,
    )


def _shape_order(group: ShapeGroup) -> tuple[int, int, str]:
    return -group.stable.os_pages_accessed, -group.stable.os_pages_dirty, group.shape


def _owner_order(group: OwnerGroup) -> tuple[int, int, str, str]:
    return -group.os_pages_accessed, -group.os_pages_dirty, group.name, group.role


def _median(numbers: Sequence[int]) -> float:
    """Return the middle number; of two, the mean."""
    ranked, half = sorted(numbers), len(numbers) // 2
    return float(ranked[half]) if len(ranked) % 2 else (ranked[half - 1] + ranked[half]) / 2
