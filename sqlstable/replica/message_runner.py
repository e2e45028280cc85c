"""Running one message on a canister: what it finds, what becomes of it, who is told.

A message that traps leaves nothing, a query neither; whatever else it is, what it did to memory,
heap, cycles, timer and certified data is kept together, behind the commit of its memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NamedTuple

from sqlstable.errors import LimitTrap, Trap
from sqlstable.ic.contexts import Context
from sqlstable.ic.limits import heap_too_large
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.ic.words import DISCARDED_KINDS, WASM_MEMORY_LIMIT, MessageKind
from sqlstable.memory.stable import StableMemory
from sqlstable.replica.certificates import data_certificate
from sqlstable.replica.executed import CycleUse, Executed, ExecutionWatcher
from sqlstable.replica.housed import HousedCanister
from sqlstable.replica.rejects import Rejection
from sqlstable.wasm.environment import (
    ANONYMOUS,
    Entry,
    Environment,
    ExecutionResult,
)
from sqlstable.wasm.exact_stop import allow, is_over_in_time, stopped_in_time
from sqlstable.wasm.executing import prints_of
from sqlstable.wasm.instance import Instance
from sqlstable.wasm.shim import ShimStatus
from sqlstable.wasm.traps import TrapCode, trap_of

SUBNET: Final = bytes.fromhex("0a") * 28 + b"\x02"
"""The principal of the subnet that all canisters of a replica are on; any one would do."""

_PRESENTING: Final = (Context.QUERY, Context.COMPOSITE_QUERY)
"""Contexts that may present a certificate."""


@dataclass(frozen=True, slots=True)
class Job:
    """One execution that is to be done."""

    kind: MessageKind
    context: Context
    entry: Entry
    method: str = ""
    argument: bytes = b""
    caller: bytes = ANONYMOUS
    continues: int | None = None
    label: str | None = None
    cycles_available: int = 0
    refunded: int = 0
    "Cycles that are the canister's again with this message."
    rejection: Rejection | None = None
    "That a callback is for."
    deadline_ns: int = 0
    is_answered: bool = False
    calls_outstanding: tuple[tuple[bytes, int], ...] = ()
    instructions_before: int = 0
    "Of the same call context."
    instructions_max: int | None = None
    "Fewer than a message of the kind has; None for as many."


class EndedExecution(NamedTuple):
    """What became of a message."""

    executed: Executed
    result: ExecutionResult | None
    "None where it trapped."

    @property
    def trap(self) -> Trap | None:
        """The trap, if there was one."""
        return self.executed.trap


class MessageRunner:
    """Runs messages, and numbers them.

    Args:
        watchers: Are told of each.
        time_ns: What the time is.
    """

    def __init__(self, watchers: list[ExecutionWatcher], time_ns: int) -> None:
        self.watchers = watchers
        self.time_ns = time_ns
        self.executed: list[Executed] = []
        "Those that nobody has taken yet."
        self.count = 0
        "How many there have been."

    def take(self) -> tuple[Executed, ...]:
        """Return what has run since it was asked last."""
        taken = tuple(self.executed)
        self.executed.clear()
        return taken

    # -- one message ----------------------------------------------------------------------------

    def run(self, canister: HousedCanister, job: Job) -> EndedExecution:
        """Run a message from its beginning to its end."""
        with opened(canister, job.kind) as memory:
            ended = self.execute(canister, job, is_whole=True)
            return self._end(canister, memory, ended)

    def execute(
        self,
        canister: HousedCanister,
        job: Job,
        *,
        earlier: ShimStatus | None = None,
        is_whole: bool = False,
    ) -> EndedExecution:
        """Run an execution in the open message, which goes on.

        Args:
            canister: Whose message is open.
            job: What to run.
            earlier: What the message had done before, where it had done something.
            is_whole: Whether it is all of its message, which can be run again.
        """
        memory, instance = canister.memory, canister.instance
        assert memory is not None
        environment = self.environment(canister, job)
        counter_before = instance.instruction_limit
        if earlier is not None or job.instructions_max is not None:
            counter_before = instance.tell().counter
        if job.instructions_max is not None:
            counter_before = min(counter_before, job.instructions_max)
            instance.set_value("counter", counter_before)
        result: ExecutionResult | None = None
        trap: Trap | None = None
        try:
            result = instance.execute(job.entry, job.argument, environment)
            check_heap(instance)
            check_heap_size(canister, job.context)
        except Trap as raised:
            trap, result = memory.poison(raised), None
        status = instance.tell()
        if is_whole and job.instructions_max is None and is_over_in_time(instance, status):
            assert trap is not None, "what is over a limit at its end has trapped there"
            again = partial(_run_again, canister, job, environment)
            trap = memory.poison(stopped_in_time(instance, again, trap))
            result, status = None, instance.tell()
        if earlier is not None:
            status = status._replace(
                accessed_count=status.accessed_count - earlier.accessed_count,
                dirty_count=status.dirty_count - earlier.dirty_count,
            )
        heap = heap_instructions(instance, status)
        executed = Executed(
            number=self.count,
            canister=canister.name,
            kind=job.kind,
            method=job.method,
            argument=job.argument,
            answer=None if result is None else result.answer,
            trap=trap,
            status=status,
            earlier=earlier,
            instructions=counter_before - status.counter,
            heap_instructions=heap,
            continues=job.continues,
            calls=() if result is None else result.calls,
            prints=prints_of(instance.side, status) if result is None else result.prints,
            cycles=cycle_use(canister, job, result),
            caller=job.caller,
            time_ns=self.time_ns,
            label=job.label,
            is_kept=trap is None and job.kind not in DISCARDED_KINDS,
            is_accepted=result is not None and result.is_accepted,
        )
        self.count += 1
        return EndedExecution(executed, result)

    def environment(self, canister: HousedCanister, job: Job) -> Environment:
        """Return what an execution finds."""
        rejection = job.rejection
        settings = canister.settings
        return Environment(
            context=job.context,
            caller=job.caller,
            self_id=canister.id,
            controllers=settings.controllers,
            subnet_id=SUBNET,
            method_name=job.method,
            time_ns=self.time_ns,
            deadline_ns=job.deadline_ns,
            version=canister.version,
            status=canister.status.value,
            cycle_balance=canister.cycles,
            cycles_available=job.cycles_available,
            cycles_refunded=job.refunded,
            reject_code=0 if rejection is None else rejection.code.value,
            reject_message=b"" if rejection is None else rejection.seen_by_canister.encode(),
            timer_ns=canister.timer_ns,
            certificate=(
                data_certificate(canister.id, canister.certified_data, self.time_ns)
                if job.context in _PRESENTING
                else None
            ),
            variables=tuple(sorted(settings.variables.items())),
            is_answered=job.is_answered,
            calls_outstanding=job.calls_outstanding,
            instructions_before=job.instructions_before,
        )

    def before_end(self, canister: HousedCanister, executed: Executed) -> None:
        """Let the watchers see a message that is about to end."""
        for watcher in self.watchers:
            watcher.before_end(canister, executed, is_kept=executed.is_kept)

    def after_end(self, canister: HousedCanister, executed: Executed) -> None:
        """Let the watchers see one that has ended."""
        self.executed.append(executed)
        for watcher in self.watchers:
            watcher.after_end(canister, executed)

    # -- inside ---------------------------------------------------------------------------------

    def _end(
        self, canister: HousedCanister, memory: StableMemory, ended: EndedExecution
    ) -> EndedExecution:
        executed, result = ended
        self.before_end(canister, executed)
        if executed.is_kept:
            try:
                memory.commit()
            except Trap as refused:
                executed, result = trapped(executed, refused), None
                self.before_end(canister, executed)
        if not executed.is_kept:
            memory.rollback()
        if result is not None:
            keep(canister, executed.kind, result)
        self.after_end(canister, executed)
        return EndedExecution(executed, result)


@contextmanager
def opened(canister: HousedCanister, kind: MessageKind) -> Iterator[StableMemory]:
    """Open a message of a canister's memory; what cuts the block off takes the message back."""
    memory = canister.memory
    assert memory is not None
    memory.begin(kind)
    try:
        yield memory
    except BaseException:
        if memory.kind is not None:
            memory.rollback()
        raise


def keep(canister: HousedCanister, kind: MessageKind, result: ExecutionResult) -> None:
    """Let a canister have what an execution did to it beside its memory."""
    if kind == "replicated_query":
        # What it accepts or burns is the only trace of it.
        canister.cycles = result.cycle_balance
    if kind in DISCARDED_KINDS:
        return
    canister.cycles_paid += sum(call.fee for call in result.calls)
    canister.cycles = result.cycle_balance
    canister.version += 1
    if result.timer_ns is not None:
        canister.timer_ns = result.timer_ns
    if result.certified_data is not None:
        canister.certified_data = result.certified_data


def cycle_use(canister: HousedCanister, job: Job, result: ExecutionResult | None) -> CycleUse:
    """Return which cycles a message moves."""
    if result is None:
        return CycleUse(refunded=job.refunded, balance=canister.cycles)
    return CycleUse(
        accepted=result.cycles_accepted,
        attached=sum(call.cycles for call in result.calls),
        refunded=job.refunded,
        burned=result.cycles_burned,
        fees=sum(call.fee + call.prepayment for call in result.calls),
        balance=result.cycle_balance,
    )


def trapped(executed: Executed, trap: Trap) -> Executed:
    """Return a message that trapped as it was to be kept."""
    cycles = executed.cycles
    before = cycles.balance - cycles.accepted + cycles.attached + cycles.burned + cycles.fees
    return replace(
        executed,
        trap=trap,
        answer=None,
        calls=(),
        is_kept=False,
        cycles=CycleUse(refunded=cycles.refunded, balance=before),
    )


def _run_again(canister: HousedCanister, job: Job, environment: Environment, most: int) -> None:
    """Take an open message back, and run it anew with so many instructions."""
    memory, instance = canister.memory, canister.instance
    assert memory is not None
    memory.rollback()
    memory.begin(job.kind)
    allow(instance, most)
    instance.execute(job.entry, job.argument, environment)


def heap_instructions(instance: Instance, status: ShimStatus) -> int:
    """Return what the heap costs at the end of an execution, where it is charged."""
    return instance.program.heap_cost(status)


def check_heap(instance: Instance) -> None:
    """Trap where the heap costs more than is left, if it is charged as it is touched.

    Where it is charged at the end, a message that has come so far succeeds.

    Source:
        dfinity/ic rs/embedders/tests/instrumentation.rs run_charge_for_dirty_stable64_test.
    """
    if instance.program.regime.charges_heap_at_end:
        return
    status = instance.tell()
    if heap_instructions(instance, status) > max(status.counter, 0):
        raise trap_of(TrapCode.OUT_OF_INSTRUCTIONS, instruction_limit=instance.instruction_limit)


_SIZE_CONTEXTS: Final = (Context.UPDATE, Context.INIT, Context.START)
"""Where ``wasm_memory_limit`` holds: not for queries, callbacks and tasks.

Source:
    dfinity/ic rs/embedders/src/wasmtime_embedder/system_api.rs effective_wasm_memory_limit
    @ 1bc0a5953.
"""


def check_heap_size(canister: HousedCanister, context: Context) -> None:
    """Trap where the heap has grown beyond what the canister's settings allow.

    The Internet Computer traps where it grows; here the message runs to its end first.
    """
    limit = canister.settings.wasm_memory_limit
    used = canister.instance.tell().heap_size * WASM_PAGE_BYTES
    if limit and used > limit and context in _SIZE_CONTEXTS:
        raise LimitTrap(heap_too_large(used, limit), limit=WASM_MEMORY_LIMIT)
