"""What the system says of a canister: how large it is, what it burns, how long its balance lasts.

The same for a `sqlstable.Canister`, an image, and a canister's own module; as text it has the lines
of ``dfx canister status``, in dfx's order and words, and below them what dfx does not say.

Source:
    dfinity/sdk src/dfx/src/commands/canister/status.rs, as of 2025; interface specification,
    ``canister_status``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Final

from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.ic.idle_burn import (
    AS_CREATED,
    NOTHING_HELD,
    Allocations,
    IdleBurn,
    MemorySizes,
    freezing_limit,
    idle_burn,
)
from sqlstable.ic.units import GIB

NOT_KNOWN: Final = "not known here"

WASM_MEMORY_LIMIT: Final = 3 * GIB
"""Of a new canister's heap.

Source: dfinity/ic rs/config/src/execution_environment.rs DEFAULT_WASM_MEMORY_LIMIT @ 1bc0a5953.
"""

_CENTURY_DAYS: Final = 36_525
_FEES: Final = CycleFees()


@dataclass(frozen=True, slots=True)
class QueryStats:
    """What queries came to that nobody replicated."""

    calls: int = 0
    instructions: int = 0
    request_bytes: int = 0
    reply_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CanisterFigures:
    """What the system says of a canister.

    Examples:
        >>> figures = CanisterFigures("ledger", MemorySizes(stable=GIB), balance=10**12)
        >>> figures.idle_cycles_per_day, figures.freezing_limit
        (10972800000, 329184000000)
        >>> float(figures.days_until_frozen), float(figures.days_until_empty)  # doctest: +ELLIPSIS
        (61.13..., 91.13...)
        >>> print(str(figures).splitlines()[6])
        Idle cycles burned per day: 10_972_800_000
    """

    name: str
    sizes: MemorySizes = NOTHING_HELD
    allocations: Allocations = AS_CREATED
    fees: CycleFees = _FEES
    status: str = "Running"
    "Running, Stopping or Stopped."
    controllers: tuple[str, ...] = ()
    balance: int | None = None
    "Cycles; None where nobody said."
    reserved_cycles: int = 0
    module_hash: str | None = None
    "SHA-256 in hexadecimal; None where there is no module."
    wasm_memory_limit: int = WASM_MEMORY_LIMIT
    wasm_memory_threshold: int = 0
    queries: QueryStats | None = None
    unknown: tuple[str, ...] = ()
    "What is not known and would make a difference, each with the way out."

    @property
    def burn(self) -> IdleBurn:
        """What it burns in a day without a call."""
        return idle_burn(self.fees, self.sizes, self.allocations)

    @property
    def idle_cycles_per_day(self) -> int:
        """All of that."""
        return self.burn.total

    @property
    def freezing_limit(self) -> int:
        """Balance below which it is frozen."""
        return freezing_limit(self.burn, self.allocations, reserved_cycles=self.reserved_cycles)

    @property
    def days_until_frozen(self) -> Fraction | None:
        """How long its balance lasts without a call; None for ever, or where it is not known."""
        if self.balance is None:
            return None
        return self.burn.days(self.balance - self.freezing_limit)

    @property
    def days_until_empty(self) -> Fraction | None:
        """When it would be uninstalled, likewise."""
        if self.balance is None:
            return None
        return self.burn.days(self.balance + self.reserved_cycles)

    def __repr__(self) -> str:
        return (
            f"<CanisterFigures {self.name}: {self.status}, memory {self.sizes.total:,} bytes, "
            f"{self.idle_cycles_per_day:,} cycles a day>"
        )

    def __str__(self) -> str:
        """Return the lines of ``dfx canister status``, and what dfx does not say."""
        return "\n".join([*self._as_dfx(), "", *self._beside()])

    def _as_dfx(self) -> Iterator[str]:
        allocations = self.allocations
        yield f"Canister status call result for {self.name}."
        yield f"Status: {self.status}"
        yield f"Controllers: {' '.join(sorted(self.controllers)) or NOT_KNOWN}"
        yield f"Memory allocation: {_spelled(allocations.memory_bytes)}"
        yield f"Compute allocation: {allocations.compute_percent}"
        yield f"Freezing threshold: {_spelled(allocations.freezing_threshold_s)}"
        yield f"Idle cycles burned per day: {_spelled(self.idle_cycles_per_day)}"
        yield f"Memory Size: Nat({self.sizes.total})"
        balance = NOT_KNOWN if self.balance is None else f"{_spelled(self.balance)} Cycles"
        yield f"Balance: {balance}"
        yield f"Reserved: {_spelled(self.reserved_cycles)} Cycles"
        yield f"Reserved cycles limit: {_spelled(allocations.reserved_cycles_limit)} Cycles"
        yield f"Wasm memory limit: {_spelled(self.wasm_memory_limit)} Bytes"
        yield f"Wasm memory threshold: {_spelled(self.wasm_memory_threshold)} Bytes"
        yield f"Module hash: {'None' if self.module_hash is None else f'0x{self.module_hash}'}"
        yield from self._queries()
        yield "Log visibility: controllers"

    def _queries(self) -> Iterator[str]:
        found = self.queries
        words = (
            "Number of queries",
            "Instructions spent in queries",
            "Total query request payload size (bytes)",
            "Total query response payload size (bytes)",
        )
        for word, field in zip(words, fields(QueryStats), strict=True):
            value = NOT_KNOWN if found is None else _spelled(getattr(found, field.name))
            yield f"{word}: {value}"

    def _beside(self) -> Iterator[str]:
        sizes, rates = self.sizes, self.fees.rates
        parts = ((field.name.replace("_", " "), getattr(sizes, field.name))
                 for field in fields(sizes))  # fmt: skip
        shown = ", ".join(f"{name} {_spelled(size)}" for name, size in parts if size)
        yield f"Memory by what it is (bytes): {shown or 'none'}"
        yield f"Frozen below: {_spelled(self.freezing_limit)} Cycles"
        if self.balance is None:
            yield f"Days left: {NOT_KNOWN}, as the balance is"
        else:
            yield (
                f"Days left without a call: {_days(self.days_until_frozen)} until frozen, "
                f"{_days(self.days_until_empty)} until empty"
            )
        canister = f", {_spelled(rates.canister_second)} a second" * bool(rates.canister_second)
        yield (
            f"Prices: {self.fees.node_count} nodes, {_spelled(rates.storage_gib_second)} cycles a "
            f"GiB and second{canister}; not verified, see docs/reference/cycle-fees.md"
        )
        for text in self.unknown:
            yield f"Not known: {text}"


def _spelled(number: int) -> str:
    """Spell a number as dfx does, with ``_`` between the thousands."""
    return f"{number:_}"


def _days(days: Fraction | None) -> str:
    """Spell days, rounded down."""
    if days is None:
        return "for ever"
    if days > _CENTURY_DAYS:
        return "more than 100 years"
    return f"{int(days)}" if days >= 1 else f"{float(days):.2f}"
