"""The tree of calls of a message, read from a module that keeps one.

See `sqlstable.wasm.rewrite.profiling`, which has where its numbers lie.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlstable.wasm.rewrite import profiling

if TYPE_CHECKING:
    from wasmtime import Store

_NODE_INTS: Final = profiling.NODE_BYTES // 4
_CLEARED_BYTES: Final = profiling.FLAGS + profiling.FLAGS_BYTES


@dataclass(frozen=True, slots=True)
class CallNode:
    """A function called along one path of functions, and what it did itself, all its calls."""

    function: int
    "Its index in the module as it came; imported ones are system calls."
    parent: int
    "Index of its caller's node in the tree, which is a smaller one; -1 for none."
    calls: int
    instructions: int
    "That the counter went down by, those for stable memory included."
    heap_regions_accessed: int
    heap_regions_written: int
    heap_os_pages_written: int
    "Of the size that is charged, see `Program.os_page_bytes`."
    stable_regions_accessed: int
    stable_regions_written: int


CallTree = tuple[CallNode, ...]
"""Callers stand before what they call."""


class ProfileMemory:
    """Where one module keeps its tree.

    Args:
        store: Where it lives.
        exports: Of the module.
        module: Whose tree it is.
    """

    def __init__(
        self,
        store: "Store",
        exports: Any,  # noqa: ANN401  wasmtime's
        module: bytes,
    ) -> None:
        self.module = module
        self._store = store
        self._end = exports[profiling.PROFILE_END_EXPORT]
        memory = exports[profiling.PROFILE_EXPORT]
        # It neither grows nor moves.
        self._address = ctypes.addressof(memory.data_ptr(store).contents)
        self._header = (ctypes.c_uint32 * (profiling.HEADER_BYTES // 4)).from_address(self._address)
        self.begin()

    @property
    def is_empty(self) -> bool:
        """Whether no function was entered."""
        return bool(self._header[profiling.FREE // 4] == profiling.ROOT + profiling.NODE_BYTES)

    def begin(self) -> None:
        """Begin anew; what was touched before belongs to nobody."""
        ctypes.memset(self._address, 0, _CLEARED_BYTES)
        ctypes.memset(self._address + profiling.ROOT, 0, profiling.NODE_BYTES)
        self._header[profiling.CURRENT // 4] = profiling.ROOT
        self._header[profiling.FREE // 4] = profiling.ROOT + profiling.NODE_BYTES
        self._end(self._store)

    def tree(self) -> CallTree:
        """Return what was called since `begin`; functions that never were left are among them."""
        self._end(self._store)
        first = profiling.ROOT + profiling.NODE_BYTES
        size = self._header[profiling.FREE // 4] - first
        numbers = memoryview(ctypes.string_at(self._address + first, size)).cast("i")
        return tuple(
            _node(numbers[at : at + _NODE_INTS], first) for at in range(0, len(numbers), _NODE_INTS)
        )


_TREES_MAX: Final = 64
"""More than one message has parts."""


@dataclass(frozen=True, slots=True)
class CalledFunctions:
    """What a message called, or a part of one."""

    module: bytes
    "That was called, as it came."
    tree: CallTree


class KeptTrees:
    """What was called since somebody took it last, message by message.

    There are none of modules without a profile; of many that nobody takes the last are kept.

    Args:
        running: Returns where the module that runs keeps its tree, or None if it keeps none.
    """

    def __init__(self, running: Callable[[], ProfileMemory | None]) -> None:
        self._running = running
        self._trees: list[CalledFunctions] = []

    def begin(self) -> None:
        """Let the module begin anew: a message begins."""
        profile = self._running()
        if profile is not None:
            profile.begin()

    def keep(self) -> None:
        """Keep what the module has now, and let it begin anew."""
        profile = self._running()
        if profile is not None and not profile.is_empty:
            self._trees.append(CalledFunctions(profile.module, profile.tree()))
            profile.begin()
            del self._trees[:-_TREES_MAX]

    def take(self) -> list[CalledFunctions]:
        """Return all of them, once."""
        self.keep()
        trees, self._trees = self._trees, []
        return trees


def _node(numbers: memoryview, first: int) -> CallNode:
    def number(offset: int) -> int:
        return int(numbers[offset // 4])

    def long_number(offset: int) -> int:
        return (number(offset) & 0xFFFFFFFF) | number(offset + 4) << 32

    return CallNode(
        number(profiling.FUNCTION),
        (number(profiling.PARENT) - first) // profiling.NODE_BYTES,
        long_number(profiling.CALLS),
        long_number(profiling.INSTRUCTIONS),
        number(profiling.NODE_HEAP_ACCESSED),
        number(profiling.NODE_HEAP_WRITTEN),
        number(profiling.NODE_HEAP_OS_PAGES),
        number(profiling.NODE_STABLE_ACCESSED),
        number(profiling.NODE_STABLE_WRITTEN),
    )
