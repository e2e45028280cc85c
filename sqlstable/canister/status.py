"""What a canister says of itself: how large it is, what it has done, and under which settings."""

from dataclasses import asdict, dataclass
from typing import NoReturn

from sqlstable.analysis.growth import Growth
from sqlstable.canister.hosts import Host
from sqlstable.canister.observation import Observation
from sqlstable.database.settings import Settings
from sqlstable.errors import MessageError
from sqlstable.ic.units import amount
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


def described(host: Host, settings: Settings, *, owners: bool) -> dict[str, object]:
    """Return all settings, as reports state them."""
    memory = host.memory
    limits, image_file = memory.limits, memory.image_file
    values: dict[str, object] = asdict(settings)
    if not layout_named(settings.layout).traits.has_buckets:
        values["bucket_pages"] = values["growth"] = None
    return {
        **host.described(),
        **values,
        "limits": None if limits is None else limits.date.isoformat(),
        **({} if memory.bytemap.is_enforced else {"enforced": False}),
        "prices": None,
        "durability": None if image_file is None else image_file.durability,
        "depth": host.recorder.depth,
        "owners": owners,
    }


class Presence:
    """How a canister shows itself to Python, and that it is nowhere but in its process."""

    _host: Host
    _observation: Observation
    _is_closed: bool

    def __repr__(self) -> str:
        """Say where stable memory is, which engine runs, and how far it has come."""
        image_file = self._host.memory.image_file
        place = "in memory" if image_file is None else image_file.name
        state = "closed" if self._is_closed else "open"
        messages = amount(self._observation.message_count, "message")
        engine = f"{self._host.engine_name} engine"
        return f"<{type(self).__name__} {place}: {engine}, {state}, {messages}>"

    def __reduce__(self) -> NoReturn:
        """Be copied and pickled by nobody.

        Raises:
            MessageError: Always.
        """
        raise MessageError(
            "a canister stays in its process; open its image there, once it is closed here"
        )
