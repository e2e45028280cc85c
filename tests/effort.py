"""How much of what is swept place by place, or drawn at random, a run of the second tier tries."""

import os

EFFORT = float(os.environ.get("SQLSTABLE_EFFORT") or "0.25")
"""1 is what the whole sweeps were made for; more is more."""


def part_of(count):
    """Return how many of so many are tried."""
    return max(1, round(count * EFFORT))


def stride_of(stride):
    """Return the stride through places that takes the place of one; odd, where it may be."""
    return max(1, round(stride / EFFORT) | 1)
