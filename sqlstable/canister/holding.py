"""One memory, one canister: two would not see each other's changes, and lose what was answered."""

import gc
from collections.abc import Callable
from typing import Final
from weakref import ReferenceType, WeakKeyDictionary, ref

from sqlstable.canister.life import Life
from sqlstable.errors import SettingsError
from sqlstable.memory.copying import copy_memory
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


def hold(life: Life, given: StableMemory | None) -> None:
    """Note whose memory it is, and that it is a copy of, until the canister is closed or gone."""
    for memory in filter(None, (life.memory, given)):
        _HOLDERS[memory] = ref(life)


def giving_back(memory: StableMemory, given: StableMemory | None) -> Callable[[], None]:
    """Return what is done in the end with the memory that a canister has.

    Args:
        memory: What it works on.
        given: What it was given, which outlives it; None: nothing.
    """

    def hand_back() -> None:
        # Cut off and done again, it may be closed already.
        if given is not None and not memory.is_closed:
            copy_memory(memory, given)
        memory.close()

    return (lambda: None) if memory is given else hand_back


def _is_held(memory: StableMemory) -> bool:
    holder = _HOLDERS.get(memory)
    life = None if holder is None else holder()
    return life is not None and not life.is_closed
