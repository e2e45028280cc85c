"""What a canister says of itself: how large it is, what it burns, and under which settings."""

from dataclasses import asdict, dataclass

from sqlstable.analysis.growth import Growth
from sqlstable.canister.machine import Machine
from sqlstable.database.settings import Settings
from sqlstable.ic.canister_figures import CanisterFigures
from sqlstable.layout.layouts import layout_named


@dataclass(frozen=True, slots=True)
class Status:
    """How large a canister is, and what it has done."""

    stable_size_bytes: int
    "Grown bytes of stable memory; the Internet Computer charges storage for them."
    database_size_bytes: int
    "Bytes of the database file."
    messages: int
    "Messages that have ended, life-cycle steps included."
    settings: dict[str, object]
    "All settings, as reports state them."
    growth: Growth
    "What stable memory consists of: data, free SQLite pages, bucket rounding, other files."
    figures: CanisterFigures
    "What the system says of it: memory by parts, idle burn, days left, module."

    def __str__(self) -> str:
        """Return the lines of ``dfx canister status``, and what dfx does not say."""
        return str(self.figures)


def described(machine: Machine, settings: Settings, *, owners: bool) -> dict[str, object]:
    """Return all settings, as reports state them."""
    memory = machine.memory
    limits, image_file = memory.limits, memory.image_file
    values: dict[str, object] = asdict(settings)
    if not layout_named(settings.layout).traits.has_buckets:
        values["bucket_pages"] = values["growth"] = None
    return {
        "prices": None,
        **machine.described,
        **values,
        "limits": None if limits is None else limits.date.isoformat(),
        **({} if memory.bytemap.is_enforced else {"enforced": False}),
        "durability": None if image_file is None else image_file.durability,
        "depth": machine.depth,
        "owners": owners,
    }
