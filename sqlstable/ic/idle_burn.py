"""What a canister burns while it does nothing, and what is set aside for it.

A canister pays for its memory by the byte and the second, whatever it does, and for its compute
allocation. From that follow the cycles burned in a day, the balance below which it is frozen, and
how long a balance lasts. Where its subnet is nearly full, growing sets cycles aside as well.

**Limitations.** Cycles are taken every ten seconds or so, each time rounded down, so that a day may
cost a little less than here. Memory of messages that wait in queues is left out.

Source:
    dfinity/ic rs/cycles_account_manager/src/lib.rs idle_cycles_burned_rate,
    freeze_threshold_cycles, total_storage_reservation_cycles and
    rs/config/src/execution_environment.rs @ 1bc0a5953, 2025-10-31.
"""

from dataclasses import dataclass, fields
from datetime import date
from fractions import Fraction
from typing import Final

from sqlstable.errors import SettingsError
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.ic.limit_tables import LIMITS

DAY_S: Final = 86_400
MONTH_DAYS: Final = 30
"""Of the month that bills are for."""

FREEZING_THRESHOLD_S: Final = 2_592_000
"""30 days, unless a controller says otherwise."""

RESERVED_CYCLES_LIMIT: Final = 5_000_000_000_000
"""What a canister may have reserved unless a controller says otherwise; growing past it traps."""

RESERVATION_PERIOD_S: Final = 300_000_000
"""For how long memory is reserved that fills a subnet's last byte: about 9.5 years."""

COMPUTE_PERCENT_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class MemorySizes:
    """Bytes that a canister holds, and pays for, by what they are.

    Examples:
        >>> MemorySizes(stable=65_536, module=1_000).total
        66536
    """

    heap: int = 0
    stable: int = 0
    "Grown bytes of stable memory: a hole costs what data costs."
    globals: int = 0
    module: int = 0
    "As it was installed."
    history: int = 0
    "Of the changes to the canister."
    chunk_store: int = 0
    snapshots: int = 0
    "Module, heap, stable memory and chunks of each, whole."

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise SettingsError(
                    f"{field.name} was to have {getattr(self, field.name)} bytes; it is 0 or more"
                )

    @property
    def total(self) -> int:
        """All of them, as ``memory_size`` of a canister's status."""
        return sum(getattr(self, field.name) for field in fields(self))


NOTHING_HELD: Final = MemorySizes()


@dataclass(frozen=True, slots=True)
class Allocations:
    """What controllers have set that costs cycles, or decides when a canister is frozen."""

    memory_bytes: int = 0
    "Reserved for it and paid for whether used or not; 0 for best effort."
    compute_percent: int = 0
    freezing_threshold_s: int = FREEZING_THRESHOLD_S
    reserved_cycles_limit: int = RESERVED_CYCLES_LIMIT

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 0:
                what = field.name.replace("_", " ")
                raise SettingsError(
                    f"{what} was to be {getattr(self, field.name)}; it is 0 or more"
                )
        if self.compute_percent > COMPUTE_PERCENT_MAX:
            raise SettingsError(
                f"the compute allocation was to be {self.compute_percent} %; it is "
                f"{COMPUTE_PERCENT_MAX} at most"
            )


AS_CREATED: Final = Allocations()
"""What holds as long as no controller says otherwise."""


@dataclass(frozen=True, slots=True)
class IdleBurn:
    """What a canister burns in a day without doing anything, in cycles.

    Examples:
        >>> burn = idle_burn(CycleFees(), MemorySizes(stable=1 << 30), Allocations())
        >>> burn.memory, burn.total
        (10972800000, 10972800000)
        >>> freezing_limit(burn, Allocations())
        329184000000
    """

    memory: int
    "For what it holds, or has reserved where that is more."
    presence: int
    "For being there; 0 by the documented prices."
    compute: int
    "For its compute allocation."

    @property
    def total(self) -> int:
        """All of it: ``idle_cycles_burned_per_day``."""
        return self.memory + self.presence + self.compute

    def days(self, cycles: int) -> Fraction | None:
        """Return for how many days an amount lasts; None where nothing is burned."""
        return Fraction(max(cycles, 0), self.total) if self.total else None


def idle_burn(fees: CycleFees, sizes: MemorySizes, allocations: Allocations) -> IdleBurn:
    """Return what a canister burns in a day."""
    billed = max(sizes.total, allocations.memory_bytes)
    return IdleBurn(
        memory=fees.memory(size_bytes=billed, seconds=DAY_S),
        presence=fees.presence(seconds=DAY_S) if billed else 0,
        compute=fees.compute(percent=allocations.compute_percent, seconds=DAY_S),
    )


def freezing_limit(burn: IdleBurn, allocations: Allocations, *, reserved_cycles: int = 0) -> int:
    """Return the balance below which a canister is frozen: what it burns in its threshold's time.

    Args:
        burn: What it burns in a day.
        allocations: Has the threshold.
        reserved_cycles: What is set aside already, which storage is paid from first.
    """
    return max(burn.total * allocations.freezing_threshold_s // DAY_S - reserved_cycles, 0)


@dataclass(frozen=True, slots=True)
class SubnetMemory:
    """The memory of a subnet, as far as reservations go.

    Examples:
        >>> from sqlstable.ic.units import GIB
        >>> subnet_memory(date(2026, 8, 18)).threshold_bytes // GIB
        750
    """

    capacity_bytes: int
    threshold_bytes: int
    "Usage above which growing reserves cycles."

    def reserved(self, fees: CycleFees, usage_bytes: int) -> int:
        """Return the cycles that were set aside by all that has grown up to a usage.

        It is the area of a triangle: what a byte reserves grows from nothing at the threshold to
        the whole period at the capacity.

        Raises:
            SettingsError: More is used than the subnet has.
        """
        if not 0 <= usage_bytes <= self.capacity_bytes:
            raise SettingsError(
                f"a subnet was to have {usage_bytes} bytes in use; it has room for "
                f"{self.capacity_bytes}"
            )
        above, room = usage_bytes - self.threshold_bytes, self.capacity_bytes - self.threshold_bytes
        if above <= 0 or room <= 0:
            return 0
        return fees.memory(size_bytes=above, seconds=RESERVATION_PERIOD_S * above // room // 2)

    def reservation(self, fees: CycleFees, *, usage_bytes: int, grown_bytes: int) -> int:
        """Return what growing sets aside where a subnet has a usage already.

        Raises:
            SettingsError: The subnet has no room for it.

        Examples:
            >>> from sqlstable.ic.units import GIB
            >>> subnet = subnet_memory(date(2026, 8, 18))
            >>> subnet.reservation(CycleFees(), usage_bytes=749 * GIB, grown_bytes=GIB)
            0
            >>> subnet.reservation(CycleFees(), usage_bytes=1000 * GIB, grown_bytes=GIB)
            7352907951000
        """
        behind = self.reserved(fees, usage_bytes + grown_bytes)
        return behind - self.reserved(fees, usage_bytes)


def subnet_memory(day: date) -> SubnetMemory:
    """Return what a subnet had on a day; before 2023-07-14 nothing was reserved."""
    capacity = LIMITS["subnet_memory_bytes"].at(day).value
    threshold = LIMITS["subnet_reservation_threshold_bytes"]
    since = threshold.history[0].since
    is_reserved = since is None or since <= day
    return SubnetMemory(capacity, threshold.at(day).value if is_reserved else capacity)
