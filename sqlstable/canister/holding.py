"""One memory, one canister: two would not see each other's changes, and lose what was answered."""

import gc
from typing import Final
from weakref import ReferenceType, WeakKeyDictionary, ref

from sqlstable.canister.life import Life
from sqlstable.errors import SettingsError
from sqlstable.memory.stable import StableMemory

_HOLDERS: Final[WeakKeyDictionary[StableMemory, ReferenceType[Life]]] = WeakKeyDictionary()


def refuse_held(memory: StableMemory | None) -> None:
    """Refuse a memory that belongs to a canister which is open, or that is closed.

    Raises:
        SettingsError: It does, or is.
    """
    if memory is not None and memory.is_closed:
        raise SettingsError("this memory is closed, and nothing is left of it; make another one")
    if memory is None or not _is_held(memory):
        return
    # One that nobody has any more may be waiting for its collection.
    gc.collect()
    if _is_held(memory):
        raise SettingsError(
            "this memory belongs to another canister, which is open, and two do not see each "
            "other's changes; take a copy of it: StableMemory.from_image(other.image())"
        )


def hold(life: Life) -> None:
    """Note whose memory it is, until the canister is closed or gone."""
    _HOLDERS[life.memory] = ref(life)


def _is_held(memory: StableMemory) -> bool:
    holder = _HOLDERS.get(memory)
    life = None if holder is None else holder()
    return life is not None and not life.is_closed
