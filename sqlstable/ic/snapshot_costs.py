"""What snapshots cost, in instructions.

Source: dfinity/ic rs/execution_environment/src/canister_manager.rs, with
``DEFAULT_CANISTERS_SNAPSHOT_BASELINE_INSTRUCTIONS`` and ``..._DATA_BASELINE_INSTRUCTIONS`` of
rs/config/src/execution_environment.rs, and ``MAX_SLICE_SIZE_BYTES`` of
rs/types/management_canister_types/src/lib.rs, @ 1bc0a5953 of 2025-10-31.
"""

from collections.abc import Sequence
from typing import Final

BASELINE_INSTRUCTIONS: Final = 2_000_000_000
"""To take a snapshot, or to load one, beside 1 for each byte of it."""

DATA_BASELINE_INSTRUCTIONS: Final = 5_000_000
"""To read or upload one slice of a snapshot, beside 1 for each byte of the slice."""

SLICE_BYTES: Final = 2_000_000
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
