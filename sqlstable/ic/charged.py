"""What price lists charge for: the units of a message, or of the part that a statement caused.

A trace keeps these, so that a workload can be priced by any list without running it again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final


@dataclass(frozen=True, slots=True)
class Charged:
    """Units that some price list has a price for; those of statements add up to their message's.

    An OS page or region is charged to whatever touches it first in its message (in its part, for a
    step of the life cycle), so these counts are of first touches.
    """

    computation: Mapping[str, int] | None
    """Instructions of operators, and of system calls but for stable memory, by the name of each
    `sqlstable.ic.prices.WeightTable`; None where nobody counted operators."""
    stable_accesses: int = 0
    "Reads and writes of stable memory, those of no byte included; the driver's own are not."
    stable_bytes: int = 0
    "Bytes that they moved."
    stable_grows: int = 0
    stable_os_pages_dirty: int = 0
    stable_regions_accessed: int = 0
    stable_regions_dirty: int = 0
    heap_regions_accessed: int | None = None
    "None, as the next two, where the heap was not watched."
    heap_regions_written: int | None = None
    heap_os_pages_written: int | None = None


NOTHING_CHARGED: Final = Charged(None)
"""What nothing has touched, where nobody counted operators."""

CHARGED_UNITS: Final = tuple(field.name for field in fields(Charged))[1:]
"""Names of the units beside computation."""


def charged_together(parts: Sequence[Charged]) -> Charged:
    """Return what several are charged for together, such as the statements of a message.

    What nobody counted in one of them is None.

    Examples:
        >>> one = Charged({"replica": 5}, stable_accesses=1, heap_regions_accessed=2)
        >>> both = charged_together([one, one])
        >>> both.computation, both.stable_accesses, both.heap_regions_accessed
        ({'replica': 10}, 2, 4)
        >>> both.heap_regions_written is None
        True
    """
    if not parts:
        return NOTHING_CHARGED
    counted = [it.computation for it in parts if it.computation is not None]
    computation = None
    if len(counted) == len(parts):
        names = [name for name in counted[0] if all(name in each for each in counted)]
        computation = {name: sum(each[name] for each in counted) for name in names}
    units: dict[str, int | None] = {}
    for name in CHARGED_UNITS:
        numbers = [getattr(it, name) for it in parts]
        units[name] = None if None in numbers else sum(numbers)
    return Charged(computation, **units)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Payloads:
    """Bytes that a message brings and sends, which are paid for in cycles and have limits."""

    request_bytes: int
    "Its argument."
    reply_bytes: int
    "Its reply, or the words of its reject."
    call_count: int = 0
    "Calls to other canisters."
    call_bytes: int = 0
    "Method names and arguments of those."
