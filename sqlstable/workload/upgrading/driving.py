"""A canister that keeps its data by a strategy: messages, upgrades, and what each of them costs.

**Invariants**

* An upgrade is one message: ``canister_pre_upgrade`` on the old heap, a new heap, then
  ``canister_post_upgrade`` on that. It commits whole, or everything is as it was: stable memory,
  its size, and the heap.
* Each part pays for the pages that it touches first, whatever the part before it has touched.
* What the driver itself puts into stable memory is never counted.

**Limitations.** Compiling the module, which every upgrade pays alike, is not counted; nor does the
limit of a slice (2 billion instructions) end a single large call.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from sqlstable.analysis.upgrading.upgrade_runs import PartCost
from sqlstable.database.settings import Settings
from sqlstable.engine.measured.codec import (
    Answer,
    decode_whole,
    encode_many,
    encode_request,
    random_key,
)
from sqlstable.engine.measured.module.builds import load_program
from sqlstable.engine.measured.notes import HeapTouched
from sqlstable.engine.statements import Params, sql_error
from sqlstable.errors import Trap
from sqlstable.ic.limits import Limits
from sqlstable.ic.prices import regime_of
from sqlstable.ic.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.ic.words import GROW, WRITE
from sqlstable.wasm import shim
from sqlstable.wasm.instance import Instance, put_stable, stable_bytes
from sqlstable.wasm.program import NEAR_BYTES
from sqlstable.wasm.rewrite.binary import WASM_PAGES_MAX
from sqlstable.wasm.stack import check_thread
from sqlstable.wasm.traps import TrapCode, trap_of
from sqlstable.workload.upgrading.strategies import Strategy

PRE_UPGRADE: Final = "canister_pre_upgrade"
POST_UPGRADE: Final = "canister_post_upgrade"
INIT: Final = "canister_init"
UPDATE: Final = "canister_update execute"
QUERY: Final = "canister_query execute"

HEAP_BYTES_MAX: Final = WASM_PAGES_MAX * WASM_PAGE_BYTES
"""What a heap with addresses of 32 bits can have."""


class KeptCanister:
    """A canister whose upgrades keep its database by a strategy; a context manager.

    Args:
        strategy: How.
        settings: Of the database; ``page_size`` is that of the one that is loaded.
        limits: Those of the Internet Computer, which also say what is counted.

    Examples:
        >>> from sqlstable.ic.limits import latest_limits
        >>> from sqlstable.workload.upgrading.strategies import STREAMED
        >>> with KeptCanister(STREAMED, Settings(), latest_limits()) as canister:
        ...     canister.install()
        ...     _ = canister.update("CREATE TABLE t AS SELECT 42 AS answer")
        ...     parts = canister.upgrade()
        ...     answer, cost = canister.query("SELECT * FROM t")
        >>> [part.name for part in parts], answer.rows
        (['canister_pre_upgrade', 'canister_post_upgrade'], [(42,)])
    """

    def __init__(self, strategy: Strategy, settings: Settings, limits: Limits) -> None:
        check_thread()
        self.strategy = strategy
        self.settings = settings
        self.limits = limits
        self.regime = regime_of(limits)
        program = load_program(strategy.build, self.regime, watches_heap=self.regime.charges_heap)
        wasm_pages_max = min(limits.stable_memory_wasm_pages_max, NEAR_BYTES // WASM_PAGE_BYTES)
        self.machine = Instance(program, stable_wasm_pages_max=wasm_pages_max, limits=limits)
        self.heap_bytes_max = 0
        "The largest that the heap was at the end of a message."
        self.calls = 0
        "Calls on stable memory of the last upgrade."
        self._argument = strategy.argument(settings)
        self._message_number = 0
        self._log_start = self._charges_start = self._counter_start = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give everything back."""
        self.machine.close()

    # -- beginnings -----------------------------------------------------------------------------

    def install(self) -> None:
        """Begin with no data; without limits.

        Raises:
            Trap: The module refused.
        """
        self._start_unlimited(INIT)

    def load(self, database: bytes) -> None:
        """Begin as behind an upgrade that has kept a database; without limits.

        Raises:
            Trap: It has no room.
        """
        for address, data in self.strategy.image(database, self.settings):
            self._put(address, data)
        self._start_unlimited(POST_UPGRADE if self.machine.stable_wasm_pages else INIT)

    # -- messages -------------------------------------------------------------------------------

    def update(
        self, sql: str, rows: Sequence[Params] = (), *, is_limited: bool = True
    ) -> tuple[Answer, PartCost]:
        """Run SQL as an update message.

        Args:
            sql: The statements.
            rows: Values to bind; a statement runs once for each row.
            is_limited: Whether the limits of an update hold.

        Returns:
            What SQLite answered, and what it cost.

        Raises:
            SqlError: SQLite refused; nothing has changed.
            Trap: The message trapped; likewise.
        """
        return self._message(UPDATE, "update", sql, rows, is_limited=is_limited)

    def query(self, sql: str, rows: Sequence[Params] = ()) -> tuple[Answer, PartCost]:
        """Run SQL as a query, of which nothing stays; see `update`."""
        return self._message(QUERY, "query", sql, rows)

    def is_readonly(self, sql: str) -> bool:
        """Tell whether statements only read; SQLite knows, and is asked in a query of no count.

        Raises:
            SqlError: They cannot be prepared.
        """
        self._begin("query", is_limited=False)
        try:
            answer = decode_whole(self.machine.call(QUERY, encode_request(sql, describe=True)))
        finally:
            self.machine.rollback(is_new_heap=False)
        _check(answer, sql)
        return all(one.facts.is_readonly for one in answer.statements)

    def upgrade(
        self,
        *,
        skip_pre_upgrade: bool = False,
        instructions_max: int | None = None,
        trap_at: int | None = None,
    ) -> tuple[PartCost, ...]:
        """Upgrade to the same code; what it cost, part by part.

        Args:
            skip_pre_upgrade: Leave ``canister_pre_upgrade`` out: what was kept by the upgrade
                before comes back, and all that has happened since is lost.
            instructions_max: Of all parts together; None: as the limits have it.
            trap_at: Index of the call on stable memory at which it traps, for tests.

        Raises:
            Trap: It trapped or passed a limit; everything is as it was.
        """
        machine = self.machine
        self._begin("upgrade", instructions_max=instructions_max)
        machine.set_value("trap_at", -1 if trap_at is None else trap_at)
        parts = []
        try:
            if self.strategy.has_pre_upgrade and not skip_pre_upgrade:
                machine.call(PRE_UPGRADE, b"")
                parts.append(self._end_part(PRE_UPGRADE))
            machine.start(POST_UPGRADE, self._argument)
            parts.append(self._end_part(POST_UPGRADE))
            machine.prepare_commit()
        except BaseException:
            machine.set_value("trap_at", -1)
            machine.rollback(is_new_heap=True)
            raise
        machine.set_value("trap_at", -1)
        self.calls = self._log_start
        machine.commit(is_new_heap=True)
        return tuple(parts)

    # -- looking --------------------------------------------------------------------------------

    @property
    def stable_bytes(self) -> int:
        """Size of stable memory."""
        return self.machine.stable_wasm_pages * WASM_PAGE_BYTES

    def stable(self) -> bytes:
        """Return stable memory, whole."""
        return stable_bytes(self.machine)

    def damage(self, address: int, data: bytes) -> None:
        """Change stable memory as nothing on the Internet Computer would, for tests."""
        put_stable(self.machine, address, data)

    # -- inside ---------------------------------------------------------------------------------

    def _put(self, address: int, data: bytes) -> None:
        needed = -(-(address + len(data)) // WASM_PAGE_BYTES)
        if not self.machine.set_stable_size(needed):
            raise Trap(f"this computer has no memory left for {needed} Wasm pages of stable memory")
        self.damage(address, data)

    def _start_unlimited(self, name: str) -> None:
        machine = self.machine
        machine.begin_message(shim.INSTRUCTIONS_MAX, -1, -1)
        try:
            machine.start(name, self._argument)
        except BaseException:
            machine.rollback(is_new_heap=True)
            raise
        self._note_heap(machine.tell())
        machine.commit(is_new_heap=True)

    def _begin(
        self, kind: str, *, is_limited: bool = True, instructions_max: int | None = None
    ) -> None:
        limits = self.limits.of(kind)
        bounds = (shim.INSTRUCTIONS_MAX, -1, -1)
        if is_limited:
            instructions = limits.instructions_max if instructions_max is None else instructions_max
            bounds = (instructions, limits.os_pages_accessed_max, limits.os_pages_dirty_max)
        self._log_start = self._charges_start = 0
        self._counter_start = bounds[0]
        self.machine.begin_message(*bounds)

    def _message(
        self, name: str, kind: str, sql: str, rows: Sequence[Params], *, is_limited: bool = True
    ) -> tuple[Answer, PartCost]:
        machine = self.machine
        self._message_number += 1
        key = random_key(self.settings.seed, self._message_number)
        request = encode_many(sql, rows, key=key) if rows else encode_request(sql, key=key)
        assert request is not None
        self._begin(kind, is_limited=is_limited)
        try:
            answer = decode_whole(machine.call(name, request))
            _check(answer, sql)
            cost = self._end_part(name)
            machine.prepare_commit()
        except BaseException:
            machine.rollback(is_new_heap=False)
            raise
        if name == QUERY:
            machine.rollback(is_new_heap=False)
        else:
            machine.commit(is_new_heap=False)
        return answer, cost

    def _end_part(self, name: str) -> PartCost:
        """Return what has been done since the last part ended, and charge for its heap.

        Raises:
            LimitTrap: There are not so many instructions left.
        """
        machine = self.machine
        status = machine.tell()
        log = np.frombuffer(machine.noted(shim.LOG, status.log_count), dtype=np.int64)
        rows = log.reshape(-1, len(shim.LOG.columns))[self._log_start :]
        self._log_start = status.log_count
        self._note_heap(status)
        touched = _Touched.of(rows)
        pages = self.regime.stable_page_cost(
            wasm_pages_accessed=touched.wasm_pages_accessed,
            wasm_pages_dirty=touched.wasm_pages_dirty,
            os_pages_dirty=touched.os_pages_dirty,
        )
        calls = self.regime.stable_call_cost(
            accesses=touched.calls, bytes_moved=touched.bytes_moved, grows=touched.grows
        )
        heap = HeapTouched.of(status).cost(self.regime) if machine.program.watches_heap else 0
        # The shim charges for pages once in a message, and each part has to pay for its own.
        charged = status.page_charges - self._charges_start
        used = self._counter_start - status.counter - charged + pages + heap
        self._counter_start -= used
        self._charges_start = status.page_charges
        if self._counter_start < 0:
            raise trap_of(TrapCode.OUT_OF_INSTRUCTIONS, instruction_limit=machine.instruction_limit)
        machine.set_value("counter", self._counter_start)
        return PartCost(
            name,
            used,
            pages + calls,
            heap,
            touched.os_pages_accessed,
            touched.os_pages_dirty,
            status.heap_size * WASM_PAGE_BYTES,
        )

    def _note_heap(self, status: shim.ShimStatus) -> None:
        self.heap_bytes_max = max(self.heap_bytes_max, status.heap_size * WASM_PAGE_BYTES)


def _check(answer: Answer, sql: str) -> None:
    if answer.failure is not None:
        raise sql_error(answer.failure.message, sql)


class _Touched(NamedTuple):
    """What calls on stable memory come to."""

    calls: int
    grows: int
    bytes_moved: int
    os_pages_accessed: int
    os_pages_dirty: int
    wasm_pages_accessed: int
    wasm_pages_dirty: int

    @classmethod
    def of(cls, rows: npt.NDArray[np.int64]) -> Self:
        """Take it from rows of the shim's log."""
        kinds = rows[:, 0]
        is_access = kinds <= WRITE
        moved = rows[is_access & (rows[:, 2] > 0)]
        written = moved[moved[:, 0] == WRITE]
        return cls(
            int(np.count_nonzero(is_access)),
            int(np.count_nonzero(kinds == GROW)),
            int(moved[:, 2].sum()),
            _distinct(moved, OS_PAGE_BYTES),
            _distinct(written, OS_PAGE_BYTES),
            _distinct(moved, WASM_PAGE_BYTES),
            _distinct(written, WASM_PAGE_BYTES),
        )


def _distinct(accesses: npt.NDArray[np.int64], unit_bytes: int) -> int:
    """Return how many units of so many bytes accesses of a byte or more touch together."""
    if not len(accesses):
        return 0
    first = accesses[:, 1] // unit_bytes
    last = (accesses[:, 1] + accesses[:, 2] - 1) // unit_bytes
    # +1 where an access begins, -1 behind its end: where the sum is above 0, there was one.
    steps = np.bincount(first, minlength=int(last.max()) + 2) - np.bincount(
        last + 1, minlength=int(last.max()) + 2
    )
    return int(np.count_nonzero(np.cumsum(steps)))
