"""An end for SQL that would never end, on an engine that counts no instructions."""

from collections.abc import Callable
from typing import Final

import apsw

from sqlstable.engine.native.link import Executor
from sqlstable.errors import LimitTrap
from sqlstable.ic.words import INSTRUCTIONS
from sqlstable.memory.stable import StableMemory
from sqlstable.sqlite.vm_steps import VM_STEPS_BETWEEN_LOOKS

INSTRUCTIONS_PER_VM_STEP: Final = 200
"""What a step of SQLite's virtual machine is taken to cost at least, in a loop that goes on.

The wasm engine counts 227 to 234 for the steps of recursive queries and of scans.
"""


class StepBound:
    """Traps what takes more steps of SQLite's virtual machine than its instructions allow.

    A statement that takes fewer steps than are between two looks adds nothing to what is counted.

    Args:
        memory: Whose open message is bounded.
    """

    def __init__(self, memory: StableMemory) -> None:
        self.is_on = False
        "Whether what runs is bounded."
        self._memory = memory
        self._steps = 0
        # One object for the life of the connections: APSW holds no reference to what it calls.
        self._on_steps = self._look

    def reset(self) -> None:
        """Bound nothing, and count from nothing."""
        self.is_on, self._steps = False, 0

    def watching(
        self, attach: Callable[[apsw.Connection], Executor]
    ) -> Callable[[apsw.Connection], Executor]:
        """Return what attaches as ``attach`` does, and bounds what runs on the connection."""

        def attach_bounded(connection: apsw.Connection) -> Executor:
            connection.set_progress_handler(self._on_steps, VM_STEPS_BETWEEN_LOOKS, id=self)
            return attach(connection)

        return attach_bounded

    def _look(self) -> bool:
        limits = self._memory.limits
        if not self.is_on or limits is None or not self._memory.bytemap.is_enforced:
            return False
        self._steps += VM_STEPS_BETWEEN_LOOKS
        instructions_max = limits.upgrade.instructions_max
        if self._steps * INSTRUCTIONS_PER_VM_STEP <= instructions_max:
            return False
        raise self._memory.poison(
            LimitTrap(
                f"Canister exceeded the limit of {instructions_max} instructions for single "
                f"message execution. (estimated, from {self._steps} steps of SQLite's virtual "
                f"machine at {INSTRUCTIONS_PER_VM_STEP} instructions)",
                limit=INSTRUCTIONS,
            )
        )
