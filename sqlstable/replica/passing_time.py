"""Time that passes when it is told to: timers that are due, and waits that end."""

from collections.abc import Callable
from typing import Final

from sqlstable.errors import SettingsError
from sqlstable.ic.units import SECOND_NS
from sqlstable.replica.call_contexts import TaskMessage
from sqlstable.replica.housed import HousedCanister, RunStatus
from sqlstable.replica.traffic import Traffic

TIMER_EXPORT: Final = "canister_global_timer"

TIME_NS_END: Final = 1 << 64
"""No time is so late: ``ic0.time`` returns 64 bits."""


def check_time(time_ns: int) -> None:
    """Insist on a time that a canister can be told.

    Raises:
        SettingsError: It is none.
    """
    if not 0 <= time_ns < TIME_NS_END:
        raise SettingsError(
            "the time was to be before 1970 or after 2554; a canister is told it in nanoseconds "
            "since 1970, in 64 bits"
        )


def advance(traffic: Traffic, run: Callable[[], None], seconds: float) -> None:
    """Let time pass, and each timer run when it is due.

    Args:
        traffic: Whose time it is.
        run: Lets messages happen until none is left.
        seconds: How much.

    Raises:
        SettingsError: Time was to go back, or beyond the last that a canister can be told.
    """
    if not isinstance(seconds, int | float):
        kind = type(seconds).__name__
        raise TypeError(f"time advances by a number of seconds, not by {seconds!r}, a {kind}")
    if seconds < 0:
        raise SettingsError(f"time was to advance by {seconds} s; it does not go back")
    if not seconds < TIME_NS_END / SECOND_NS:
        raise SettingsError(
            f"time was to advance by {seconds} s; canisters are told it in nanoseconds since 1970 "
            "of 64 bits, which end in 2554"
        )
    end = traffic.runner.time_ns + round(seconds * SECOND_NS)
    if end >= TIME_NS_END:
        raise SettingsError(
            f"time was to advance by {seconds} s, to beyond the year 2554, where the nanoseconds "
            "since 1970 that a canister is told end"
        )
    while True:
        run()
        due = _next_due(traffic)
        if due is None or due[0] > end:
            break
        time_ns, canister = due
        _pass_to(traffic, time_ns)
        canister.timer_ns, canister.timer_ran_ns = 0, time_ns
        traffic.queue.append(TaskMessage(canister.id, "timer", TIMER_EXPORT))
    _pass_to(traffic, end)
    run()


def _next_due(traffic: Traffic) -> tuple[int, HousedCanister] | None:
    """Return the canister whose timer runs next, and when; of two the one that was made first."""
    now_ns = traffic.runner.time_ns
    found: tuple[int, HousedCanister] | None = None
    for canister in traffic.canisters.values():
        is_set = canister.timer_ns and TIMER_EXPORT in canister.exports
        if not is_set or canister.status is not RunStatus.RUNNING:
            continue
        # Rounds of a network take a second, and a timer runs once in each at most.
        rested_ns = canister.timer_ran_ns + SECOND_NS if canister.timer_ran_ns else now_ns
        due_ns = max(canister.timer_ns, rested_ns, now_ns)
        if found is None or due_ns < found[0]:
            found = due_ns, canister
    return found


def _pass_to(traffic: Traffic, time_ns: int) -> None:
    traffic.runner.time_ns = time_ns
    traffic.expire()
