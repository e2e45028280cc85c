"""How much of what a message wrote differs from what was there before; for observers only."""

from typing import Final

import numpy as np

from sqlstable.ic.units import MIB
from sqlstable.memory.image.durable import os_page_runs
from sqlstable.memory.seams import ByteStore

_COMPARED_BYTES: Final = MIB
"""Bytes that are compared at once."""


def bytes_changed(store: ByteStore) -> int:
    """Return how many bytes the open message has changed so far; nothing is recorded.

    Looks at the OS pages that it wrote. Bytes that were written as they had been are not counted,
    and what had not been there before, or was wiped, had been zero.
    """
    changed = 0
    for start, length in os_page_runs(store.bytemap.dirty):
        for at in range(start, start + length, _COMPARED_BYTES):
            size = min(_COMPARED_BYTES, start + length - at)
            now = np.frombuffer(store.staging.read(at, size), np.uint8)
            before = np.frombuffer(store.backing.read(at, size), np.uint8)
            changed += int(np.count_nonzero(now != before))
    return changed
