"""The Internet Computer's limits at a date: what this simulator enforces or compares with.

``LIMITS`` holds every limit with its history and sources; ``limits_at`` picks out of it, for one
day, the few that a message can run into.

**Limitations.** Dates are those of commits; subnets follow one to three weeks later. The values
are those of application subnets; what is known of system subnets is in ``LIMITS`` only.
"""

from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from sqlstable.errors import SettingsError
from sqlstable.ic.dated_value import DatedValue, Limit, calendar_day
from sqlstable.ic.limit_tables import LIMITS
from sqlstable.ic.units import NO_LIMIT, WASM_PAGE_BYTES
from sqlstable.ic.words import (
    DISCARDED_KINDS,
    MESSAGE_KINDS,
    OS_PAGES_ACCESSED,
    OS_PAGES_DIRTY,
    STABLE_MEMORY_BYTES,
    UNREPLICATED_KINDS,
    UPDATE_KINDS,
)

__all__ = [
    "EARLIEST_LIMITS_DATE",
    "LATEST_LIMITS_DATE",
    "LIMITS",
    "NO_LIMIT",
    "DatedValue",
    "Limit",
    "Limits",
    "MessageLimits",
    "heap_too_large",
    "latest_limits",
    "limits_at",
    "part_kind",
    "request_too_large",
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


CLEANUP_PER_CENT: Final = 5
"""Of a callback's instructions, kept for the cleanup that runs if it traps.

Source: dfinity/ic rs/execution_environment/src/execution/response.rs @ 1bc0a5953.
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
    """For a query, replicated or not, and each execution of a composite query."""

    upgrade: MessageLimits
    """For an upgrade, install or reinstall. The instructions are those of the whole sequence."""

    inspect: MessageLimits
    """For an inspect_message."""

    callback: MessageLimits
    """For a callback, which leaves a part of its instructions to the cleanup behind it."""

    subnet_memory_bytes: int
    """Bytes that all canisters of one subnet may hold together."""

    request_bytes_max: int
    """Bytes of an argument that comes from outside."""

    reply_bytes_max: int
    """Bytes of a reply, but that of a query that is not replicated."""

    query_reply_bytes_max: int
    """Bytes of a query's reply."""

    heap_bytes_max: int
    """Bytes of heap that whatever is kept may end with: ``wasm_memory_limit`` of a new canister."""

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
        if kind == "callback":
            return self.callback
        if kind in UPDATE_KINDS:
            return self.update
        if kind == "inspect":
            return self.inspect
        if kind in DISCARDED_KINDS:
            return self.query
        if kind in MESSAGE_KINDS:
            return self.upgrade
        raise SettingsError(f"unknown message kind {kind!r}; use one of {', '.join(MESSAGE_KINDS)}")

    def reply_max(self, kind: str) -> int:
        """Return how many bytes a message of a kind may reply.

        Examples:
            >>> latest_limits().reply_max("update"), latest_limits().reply_max("query")
            (2097152, 3145728)
        """
        is_unreplicated = kind in UNREPLICATED_KINDS
        return self.query_reply_bytes_max if is_unreplicated else self.reply_bytes_max


HEAP_LIMIT_WORDS: Final = "Canister exceeded its current Wasm memory limit"
"""How the words of a trap begin by a heap that is too large.

Source: dfinity/ic rs/interfaces/src/execution_environment/errors.rs @ 1bc0a5953.
"""


def heap_too_large(size_bytes: int, limit_bytes: int) -> str:
    """Return the words of a trap by a heap beyond what the canister's settings allow."""
    return (
        f"{HEAP_LIMIT_WORDS} of {limit_bytes} bytes. The peak Wasm memory usage was {size_bytes} "
        "bytes; keep more of it in stable memory, or set a higher wasm_memory_limit"
    )


def request_too_large(size_bytes: int, limit_bytes: int) -> str:
    """Return the words with which a call from outside is refused that is too large."""
    return (
        f"the call has {size_bytes} bytes, and a message from outside has {limit_bytes} at most; "
        "send it in pieces"
    )


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
    update = _message_limits("update", "instructions_update", day)
    kept = update.instructions_max * CLEANUP_PER_CENT // 100
    return Limits(
        date=day,
        stable_memory_wasm_pages_max=_value(STABLE_MEMORY_BYTES, day) // WASM_PAGE_BYTES,
        update=update,
        query=_message_limits("query", "instructions_query", day),
        upgrade=_message_limits("upgrade", "instructions_install", day),
        inspect=_message_limits("query", "instructions_inspect_message", day),
        callback=replace(update, instructions_max=update.instructions_max - kept),
        subnet_memory_bytes=_value("subnet_memory_bytes", day),
        request_bytes_max=_value("ingress_message_bytes", day),
        reply_bytes_max=_value("reply_update_bytes", day),
        query_reply_bytes_max=_value("reply_query_bytes", day),
        heap_bytes_max=_value("heap_default_limit_bytes", day),
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
