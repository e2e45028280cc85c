"""Every price of the Internet Computer in cycles, as data: value, date, source.

All are for an application subnet of 13 nodes; `sqlstable.ic.cycle_fees` scales and adds them up.

**Sources.** ``dfinity/ic`` at commit 1bc0a5953 of 2025-10-31, with its history (see
`sqlstable.ic.limit_tables`); ``dfinity/developer-docs`` docs/references/cycle-costs.md, b58cf042 of
2026-08-18. Where the two differ since then, both are here, and one has to be chosen: see `STORAGE`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Final

from sqlstable.ic.dated_value import DatedValue, Limit


@dataclass(frozen=True, slots=True)
class Fee(Limit):
    """One price with everything that it has ever been known to be; its unit is cycles.

    Examples:
        >>> FEES["message"].at(date(2024, 10, 29)).value, FEES["message"].history[-1].value
        (590000, 5000000)
    """


_CONFIG: Final = (
    "dfinity/ic rs/config/src/subnet_config.rs CyclesAccountManagerConfig::application_subnet"
)
_READ: Final = f"{_CONFIG} @ 1bc0a5953, 2025-10-31"
_DOCS: Final = "dfinity/developer-docs docs/references/cycle-costs.md @ b58cf042, 2026-08-18"
_RAISED: Final = f"{_CONFIG} (#2308)"
_QUOTED: Final = (
    "dfinity/ic rs/config/src/subnet_config.rs, as newer source is quoted; pull request 10292"
)
_QUOTED_SINCE: Final = date(2026, 5, 22)
_DISPUTED: Final = (
    "The newest source that was read has 127,000, and so has the documentation of 2026-08-18; what "
    "subnets charge today is not known, and the date is that of pull request 10292."
)
_NONE_DOCUMENTED: Final = "The documentation of 2026-08-18 has no such price."


def _only(value: int, source: str = _READ, note: str = "") -> tuple[DatedValue, ...]:
    return (DatedValue(None, value, source, note=note),)


# One value to a line is what makes a history readable.
# fmt: off

_ALL: Final = (
    Fee("ten_instructions", "cycles", "Ten instructions; twice that with 64-bit addresses.", (
        DatedValue(None, 4, _CONFIG),
        DatedValue(date(2024, 10, 30), 10, _RAISED),
    )),
    Fee("message", "cycles", "Executing a message, whatever it does.", (
        DatedValue(None, 590_000, _CONFIG),
        DatedValue(date(2024, 10, 30), 5_000_000, _RAISED),
    )),
    Fee("ingress_message", "cycles", "A message that arrives from outside.", _only(1_200_000)),
    Fee("ingress_byte", "cycles", "Each byte of its argument and of its method's name.",
        _only(2_000)),
    Fee("call", "cycles", "A call to another canister, its response included.", _only(260_000)),
    Fee("call_byte", "cycles", "Each byte of its method's name, argument and response.",
        _only(1_000)),
    Fee("storage_gib_second", "cycles", "A GiB of memory for a second.",
        _only(127_000, f"{_READ}; {_DOCS}")),
    Fee("storage_gib_second_quoted", "cycles", "The same in newer source, as it is quoted.", (
        DatedValue(None, 127_000, _READ),
        DatedValue(_QUOTED_SINCE, 317_500, _QUOTED, unverified=True, note=_DISPUTED),
    )),
    Fee("canister_second_quoted", "cycles", "Any canister that holds something, for a second.", (
        DatedValue(None, 0, _READ),
        DatedValue(_QUOTED_SINCE, 10_000, _QUOTED, unverified=True, note=_NONE_DOCUMENTED),
    )),
    Fee("compute_percent_second", "cycles", "A percent of compute allocation for a second.", (
        DatedValue(None, 100_000, _CONFIG),
        DatedValue(date(2022, 8, 19), 10_000_000, _READ),
    )),
    Fee("canister_creation", "cycles", "Creating a canister.", (
        DatedValue(None, 100_000_000_000, _CONFIG),
        DatedValue(date(2024, 11, 6), 500_000_000_000, _READ),
    )),
)

# fmt: on

FEES_DATE: Final = date(2026, 8, 18)
"""Day of the newest documentation that the prices were compared with: that of ``_DOCS``."""

FEES: Final[Mapping[str, Fee]] = MappingProxyType({fee.name: fee for fee in _ALL})
"""Prices by their names."""

assert len(FEES) == len(_ALL), "two prices share a name"

STORAGE: Final[Mapping[str, tuple[str, str | None]]] = MappingProxyType(
    {
        "documented": ("storage_gib_second", None),
        "quoted": ("storage_gib_second_quoted", "canister_second_quoted"),
    }
)
"""What holding memory costs, by whom one believes: the names of the prices of a GiB and second, and
of a canister and second.

The documentation has 127,000 cycles, as the source of 2025-10-31; newer source is quoted with
317,500 and 10,000 more for each canister. Which of them subnets charge is not verified.
"""

STORAGE_DEFAULT: Final = "documented"
