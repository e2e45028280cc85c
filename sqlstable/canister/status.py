"""What a canister says of itself: how large it is, what it burns, and under which settings."""

from dataclasses import asdict, dataclass

from sqlstable.analysis.growth import Growth
from sqlstable.canister.machine import Machine
from sqlstable.database.settings import Settings
from sqlstable.ic.canister_figures import CanisterFigures
from sqlstable.layout.layouts import layout_named
from sqlstable.trace.markup import html_table


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

    def __repr__(self) -> str:
        return (
            f"<Status: {self.messages:,} messages, stable memory {self.stable_size_bytes:,} bytes, "
            f"database {self.database_size_bytes:,} bytes>"
        )

    def _repr_html_(self) -> str:
        """Show in a notebook its sizes, and the lines of ``dfx canister status``."""
        rows = [
            ("messages", self.messages),
            ("database, bytes", self.database_size_bytes),
            ("stable memory, bytes", self.stable_size_bytes),
            *((f"bytes: {part.name}", part.size_bytes) for part in self.growth.parts),
        ]
        return html_table("status", (), rows) + figures_html(self.figures)


def figures_html(figures: CanisterFigures) -> str:
    """Return the lines of ``dfx canister status`` as a table."""
    head, *lines = filter(None, str(figures).splitlines())
    return html_table(head, (), [line.partition(": ")[::2] for line in lines])


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
