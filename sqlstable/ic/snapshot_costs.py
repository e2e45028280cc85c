"""What snapshots cost, in instructions, and how many there may be.

Each number stands in `sqlstable.ic.limit_tables`, with its source.
"""

from collections.abc import Sequence
from typing import Final

from sqlstable.ic.limit_tables import LIMITS


def _newest(name: str) -> int:
    return LIMITS[name].history[-1].value


SNAPSHOTS_MAX: Final = _newest("snapshots")
"""Snapshots of one canister."""

BASELINE_INSTRUCTIONS: Final = _newest("instructions_snapshot")
"""To take a snapshot, or to load one, beside 1 for each byte of it."""

DATA_BASELINE_INSTRUCTIONS: Final = _newest("instructions_snapshot_slice")
"""To read or upload one slice of a snapshot, beside 1 for each byte of the slice."""

SLICE_BYTES: Final = _newest("snapshot_slice_bytes")
"""Bytes that one call reads or uploads at most."""


def whole_instructions(size_bytes: int) -> int:
    """Return what taking or loading a snapshot costs.

    Examples:
        >>> whole_instructions(65_536)
        2000065536
    """
    return BASELINE_INSTRUCTIONS + size_bytes


def transfer_instructions(sizes_bytes: Sequence[int]) -> int:
    """Return what downloading or uploading a snapshot costs, its metadata apart.

    Args:
        sizes_bytes: Of its module, heap, stable memory and each chunk, which are moved apart.

    Examples:
        >>> transfer_instructions([0, 2_000_001])
        12000001
    """
    slices = sum(-(-size // SLICE_BYTES) for size in sizes_bytes)
    return slices * DATA_BASELINE_INSTRUCTIONS + sum(sizes_bytes)
