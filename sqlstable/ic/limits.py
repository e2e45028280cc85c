"""The Internet Computer's limits at a date: what this simulator enforces or compares with.

``LIMITS`` holds every limit with its history and sources; ``limits_at`` picks out of it, for one
day, the few that a message can run into.

**Limitations.** Dates are those of commits; subnets follow one to three weeks later. The values
are those of application subnets; what is known of system subnets is in ``LIMITS`` only.
"""

from dataclasses import dataclass
from datetime import date
from typing import Final

from sqlstable.errors import SettingsError
from sqlstable.ic.dated_value import DatedValue, Limit, calendar_day
from sqlstable.ic.limit_tables import LIMITS
from sqlstable.ic.units import NO_LIMIT, WASM_PAGE_BYTES
from sqlstable.ic.words import MESSAGE_KINDS, OS_PAGES_ACCESSED, OS_PAGES_DIRTY, STABLE_MEMORY_BYTES

__all__ = [
    "EARLIEST_LIMITS_DATE",
    "LATEST_LIMITS_DATE",
    "LIMITS",
    "NO_LIMIT",
    "DatedValue",
    "Limit",
    "Limits",
    "MessageLimits",
    "latest_limits",
    "limits_at",
    "part_kind",
    "resolve_limits",
]

EARLIEST_LIMITS_DATE: Final = date(2021, 5, 10)
"""First day of the history that the limits were read from.

Source: dfinity/ic, first commit of the public history.
"""

LATEST_LIMITS_DATE: Final = date(2026, 8, 18)
"""Day of the newest source that the enforced limits were compared with.

Source: dfinity/developer-docs docs/references/resource-limits.md @ b58cf042, 2026-08-18.
"""


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """What one message may do, by its kind.

    Examples:
        >>> latest_limits().update.os_pages_dirty_max
        524288
    """

    os_pages_accessed_max: int
    """Stable OS pages that it may read or write; ``NO_LIMIT`` before 2023-02-21."""

    os_pages_dirty_max: int
    """Stable OS pages that it may write; ``NO_LIMIT`` before 2022-10-11."""

    instructions_max: int
    """Instructions that it may execute, over all its slices."""


@dataclass(frozen=True, slots=True)
class Limits:
    """All that this simulator enforces or compares with, at one date.

    Examples:
        >>> limits_at("2021-09-13").stable_memory_wasm_pages_max
        65536
    """

    date: date
    """The day asked for."""

    stable_memory_wasm_pages_max: int
    """Wasm pages to which one canister's stable memory may grow."""

    update: MessageLimits
    """For an update call, timer, heartbeat or callback."""

    query: MessageLimits
    """For a query."""

    upgrade: MessageLimits
    """For an upgrade, install or reinstall. The instructions are those of the whole sequence."""

    subnet_memory_bytes: int
    """Bytes that all canisters of one subnet may hold together."""

    def of(self, kind: str) -> MessageLimits:
        """Return the limits of one kind of message.

        Args:
            kind: One of `MESSAGE_KINDS`.

        Returns:
            The limits; those of ``upgrade`` for all other steps of a canister's life, too.

        Raises:
            SettingsError: There is no such kind.

        Examples:
            >>> latest_limits().of("install") == latest_limits().upgrade
            True

        Source:
            dfinity/ic rs/embedders/src/wasmtime_embedder/system_api.rs get_page_limit @ 1bc0a5953.
        """
        match kind:
            case "update":
                return self.update
            case "query":
                return self.query
            case "upgrade" | "install" | "reinstall" | "uninstall" | "load_snapshot":
                return self.upgrade
        raise SettingsError(f"unknown message kind {kind!r}; use one of {', '.join(MESSAGE_KINDS)}")


def part_kind(part: str, step: str) -> str:
    """Return the kind of message whose limits a part of a step has.

    Examples:
        >>> part_kind("start", "upgrade"), part_kind("post_upgrade", "upgrade")
        ('update', 'upgrade')

    Source:
        dfinity/ic rs/embedders/src/wasmtime_embedder/system_api.rs get_page_limit @ 1bc0a5953.
    """
    return "update" if part == "start" else step


def limits_at(when: date | str) -> Limits:
    """Return the limits of application subnets on a day.

    Args:
        when: A date, or its ISO form such as ``"2024-07-08"``; 2021-05-10 or later. Days after
            ``LATEST_LIMITS_DATE`` get the newest values.

    Returns:
        The limits, with ``date`` the day asked for.

    Raises:
        SettingsError: The string is not a date, or the day is before 2021-05-10.

    Examples:
        >>> limits_at("2024-07-07").update.os_pages_dirty_max * 4096 // 2**30
        4
        >>> limits_at("2024-07-08").update.os_pages_dirty_max * 4096 // 2**30
        2

    Source:
        Each value's own, in ``LIMITS``.
    """
    day = _day(when)
    if day < EARLIEST_LIMITS_DATE:
        raise SettingsError(
            f"no limits are known on {day}; the earliest date is {EARLIEST_LIMITS_DATE}"
        )
    return Limits(
        date=day,
        stable_memory_wasm_pages_max=_value(STABLE_MEMORY_BYTES, day) // WASM_PAGE_BYTES,
        update=_message_limits("update", "instructions_update", day),
        query=_message_limits("query", "instructions_query", day),
        upgrade=_message_limits("upgrade", "instructions_install", day),
        subnet_memory_bytes=_value("subnet_memory_bytes", day),
    )


def latest_limits() -> Limits:
    """Return the newest limits known, those of ``LATEST_LIMITS_DATE``.

    Examples:
        >>> latest_limits() == limits_at(LATEST_LIMITS_DATE)
        True
    """
    return limits_at(LATEST_LIMITS_DATE)


def resolve_limits(limits: Limits | date | str | None) -> Limits | None:
    """Return the limits that ``limits`` names.

    Raises:
        SettingsError: The date is not one, or lies before the first known limits.
    """
    if limits is None or isinstance(limits, Limits):
        return limits
    return latest_limits() if limits == "latest" else limits_at(limits)


def _day(when: date | str) -> date:
    if isinstance(when, date):
        return calendar_day(when)
    try:
        return date.fromisoformat(when)
    except (TypeError, ValueError):
        raise SettingsError(
            f"{when!r} is not a date; write it as YYYY-MM-DD, {EARLIEST_LIMITS_DATE} or later"
        ) from None


def _message_limits(kind: str, instructions: str, day: date) -> MessageLimits:
    return MessageLimits(
        os_pages_accessed_max=_value(f"{OS_PAGES_ACCESSED}_{kind}", day),
        os_pages_dirty_max=_value(f"{OS_PAGES_DIRTY}_{kind}", day),
        instructions_max=_value(instructions, day),
    )


def _value(name: str, day: date) -> int:
    return LIMITS[name].at(day).value
