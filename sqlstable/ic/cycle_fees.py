"""What the Internet Computer charges in cycles, for a subnet of any size, on any day.

Prices are made for a subnet of 13 nodes and grow with the number of nodes, each rounded down. What
holding memory costs day by day is in `sqlstable.ic.idle_burn`.

**Limitations.** Instructions are paid for in advance, and those not needed are given back; both are
rounded down, so that on a subnet that has not 13 nodes a message may cost one cycle more than here.

Source:
    dfinity/ic rs/config/src/subnet_config.rs CyclesAccountManagerConfig::application_subnet and
    rs/cycles_account_manager/src/lib.rs @ 1bc0a5953, 2025-10-31. The price of an HTTP outcall by
    usage (``http_request_fee_v2``) is newer; of its parts only a quotation of the code was read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Final, Self

from sqlstable.errors import SettingsError
from sqlstable.ic.dated_value import calendar_day
from sqlstable.ic.fee_tables import FEES, STORAGE, STORAGE_DEFAULT
from sqlstable.ic.snapshot_costs import (
    DATA_BASELINE_INSTRUCTIONS,
    SLICE_BYTES,
    whole_instructions,
)
from sqlstable.ic.units import GIB, MIB

REFERENCE_NODE_COUNT: Final = 13

WASM64_FACTOR: Final = 2
"""How many times as much an instruction costs in a module with 64-bit addresses.

Source: dfinity/ic rs/config/src/subnet_config.rs WASM64_INSTRUCTION_COST_OVERHEAD @ 1bc0a5953.
"""

MAX_RESPONSE_BYTES: Final = 2 * MIB
"""``MAX_INTER_CANISTER_PAYLOAD_IN_BYTES``: the response that a caller pays for in advance."""

MAX_RESPONSE_INSTRUCTIONS: Final = 40_000_000_000
"""Those of the callback, likewise: the limit of a message."""

KEY_NODE_COUNTS: Final = {"key_1": 34, "test_key_1": 13, "dfx_test_key": 13}
"""Keys for signatures by name, with the nodes of the subnet that signs.

Source: dfinity/developer-docs docs/references/cycle-costs.md: 26,153,846,153 and 10,000,000,000
cycles; ``dfx_test_key`` is that of local networks.
"""


@dataclass(frozen=True, slots=True)
class FeeRates:
    """The prices of one day, in cycles, on a subnet of 13 nodes.

    Examples:
        >>> fee_rates(date(2024, 1, 1)).ten_instructions, fee_rates().ten_instructions
        (4, 10)
        >>> fee_rates(storage="quoted").storage_gib_second
        317500
    """

    ten_instructions: int
    message: int
    ingress_message: int
    ingress_byte: int
    call: int
    call_byte: int
    compute_percent_second: int
    canister_creation: int
    storage_gib_second: int
    canister_second: int
    "For any canister that holds something, whatever its size; 0 where there is no such price."


_DATED: Final = (
    *("ten_instructions", "message", "ingress_message", "ingress_byte", "call", "call_byte"),
    *("compute_percent_second", "canister_creation"),
)


@cache
def fee_rates(day: date = date.max, *, storage: str = STORAGE_DEFAULT) -> FeeRates:
    """Return the prices of a day.

    Args:
        day: Days after the newest price get that one.
        storage: Whom to believe about what memory costs, one of `STORAGE`.

    Raises:
        SettingsError: Nobody says what memory costs under that name.
    """
    if storage not in STORAGE:
        raise SettingsError(
            f"storage prices are {storage!r}; they must be one of {', '.join(STORAGE)}"
        )
    when = calendar_day(day)
    memory, canister = STORAGE[storage]
    values = {name: FEES[name].at(when).value for name in _DATED}
    return FeeRates(
        **values,
        storage_gib_second=FEES[memory].at(when).value,
        canister_second=0 if canister is None else FEES[canister].at(when).value,
    )


_NEWEST: Final = fee_rates()


@dataclass(frozen=True, slots=True)
class CycleFees:
    """Prices on one subnet.

    Examples:
        >>> CycleFees().execution(instructions=1_000_000)
        6000000
        >>> CycleFees.on(date(2024, 1, 1)).execution(instructions=1_000_000)
        990000
        >>> CycleFees(node_count=34).canister_creation
        1307692307692
    """

    node_count: int = REFERENCE_NODE_COUNT
    is_64: bool = False
    "Whether the canister's memory has 64-bit addresses: instructions cost twice as much."
    rates: FeeRates = _NEWEST

    def __post_init__(self) -> None:
        if self.node_count < 1:
            raise SettingsError(f"a subnet was to have {self.node_count} nodes; it has 1 or more")

    @classmethod
    def on(
        cls,
        day: date,
        *,
        node_count: int = REFERENCE_NODE_COUNT,
        is_64: bool = False,
        storage: str = STORAGE_DEFAULT,
    ) -> Self:
        """Return the prices of a day.

        Raises:
            SettingsError: A subnet has no such size, or there are no such prices of memory.
        """
        return cls(node_count, is_64, fee_rates(day, storage=storage))

    def scaled(self, cycles: int) -> int:
        """Return a price for this subnet from that for 13 nodes."""
        return cycles * self.node_count // REFERENCE_NODE_COUNT

    @property
    def canister_creation(self) -> int:
        """To create a canister."""
        return self.scaled(self.rates.canister_creation)

    # -- messages -------------------------------------------------------------------------------

    def execution(self, *, instructions: int) -> int:
        """To execute a message, with its base price."""
        factor = WASM64_FACTOR if self.is_64 else 1
        return self.scaled(
            self.rates.message + self.rates.ten_instructions * factor * instructions // 10
        )

    def instructions_of_many(self, *, instructions: int, last_digits: Sequence[int]) -> int:
        """For the instructions of many messages, each of which is rounded down by itself.

        Args:
            instructions: All of them.
            last_digits: How many messages have a number of them that ends in 0, in 1, … in 9.

        Examples:
            >>> fees = CycleFees.on(date(2022, 1, 1))  # 0.4 for each instruction
            >>> fees.instructions_of_many(instructions=14, last_digits=(0, 0, 0, 0, 1, *[0] * 5))
            5
            >>> fees.instructions_of_many(instructions=14, last_digits=(*[0] * 7, 2, 0, 0))
            4
        """
        tenths = self.rates.ten_instructions * (WASM64_FACTOR if self.is_64 else 1)
        lost = sum(count * (tenths * digit % 10) for digit, count in enumerate(last_digits))
        return self.scaled((tenths * instructions - lost) // 10)

    def prepayment(self, *, instruction_limit: int) -> int:
        """That must be there for a message to run: its limit's worth; the rest comes back."""
        return self.execution(instructions=instruction_limit)

    def ingress(self, *, message_bytes: int) -> int:
        """To receive a message from outside."""
        rates = self.rates
        return self.scaled(rates.ingress_message) + self.scaled(rates.ingress_byte * message_bytes)

    @property
    def call_base(self) -> int:
        """To call a canister, without bytes and response."""
        return self.scaled(self.rates.call)

    @property
    def call_byte_of_13(self) -> int:
        """For each byte of request or response, before the size of the subnet counts."""
        return self.rates.call_byte

    def transmission(self, *, payload_bytes: int) -> int:
        """For bytes of a request or of a response."""
        return self.scaled(self.call_byte_of_13 * payload_bytes)

    def call_sending(self, *, payload_bytes: int) -> int:
        """To send a call; method name and argument are its payload."""
        return self.call_base + self.transmission(payload_bytes=payload_bytes)

    @property
    def response_prepayment(self) -> int:
        """Set aside for the largest response; what it does not need comes back."""
        transmission = self.transmission(payload_bytes=MAX_RESPONSE_BYTES)
        return transmission + self.execution(instructions=MAX_RESPONSE_INSTRUCTIONS)

    # -- what is held ---------------------------------------------------------------------------

    def memory(self, *, size_bytes: int, seconds: int) -> int:
        """To hold memory for a time: heap, stable memory, module, chunks and snapshots alike."""
        return self.scaled(size_bytes * self.rates.storage_gib_second * seconds // GIB)

    def presence(self, *, seconds: int) -> int:
        """To hold anything at all for a time, whatever its size."""
        return self.scaled(self.rates.canister_second * seconds)

    def compute(self, *, percent: int, seconds: int) -> int:
        """To have a compute allocation for a time, whether or not it is used."""
        return self.scaled(self.rates.compute_percent_second * percent * seconds)

    # -- snapshots ------------------------------------------------------------------------------

    def snapshot(self, *, size_bytes: int) -> int:
        """To take or to load a snapshot."""
        return self.execution(instructions=whole_instructions(size_bytes))

    def snapshot_transfer(self, *, size_bytes: int) -> int:
        """To read or to upload the data of a snapshot, each slice by a call; metadata apart."""
        whole, rest = divmod(size_bytes, SLICE_BYTES)
        return whole * self._slice(SLICE_BYTES) + (self._slice(rest) if rest else 0)

    def _slice(self, size_bytes: int) -> int:
        return self.execution(instructions=DATA_BASELINE_INSTRUCTIONS + size_bytes)

    # -- services -------------------------------------------------------------------------------

    @staticmethod
    def signature(*, key_name: str) -> int | None:
        """For a threshold signature, or a derived key; None where there is no such key."""
        count = KEY_NODE_COUNTS.get(key_name)
        return None if count is None else CycleFees(count).scaled(10_000_000_000)

    def http_outcall(self, *, request_bytes: int, response_bytes_max: int) -> int:
        """For an HTTP outcall by the older price list."""
        count = self.node_count
        linear = 3_000_000 + 60_000 * count
        return (linear + 400 * request_bytes + 800 * response_bytes_max) * count
