"""A child process that was forked has copies of its parent's memories, and may use none of them."""

import os
from typing import Any, Final
from weakref import WeakSet

LEFT_BEHIND: Final = (
    "the memory was made before this process was forked, and is its parent's; make another one in "
    "the child"
)

_MEMORIES: "WeakSet[Any]" = WeakSet()


def watch(memory: object) -> None:
    """Have ``memory.leave_behind()`` called in each child that this process forks."""
    _MEMORIES.add(memory)


def _leave_behind() -> None:
    for memory in tuple(_MEMORIES):
        memory.leave_behind()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_behind)
