"""One step of a canister's life, part by part, as one message."""

from types import TracebackType
from typing import Self

from sqlstable.errors import Trap
from sqlstable.ic.contexts import Context
from sqlstable.ic.limits import part_kind
from sqlstable.ic.words import MessageKind, PartName
from sqlstable.memory.stable import StableMemory
from sqlstable.replica.executed import CycleUse, Executed, PartRun
from sqlstable.replica.housed import HousedCanister
from sqlstable.replica.message_runner import (
    Job,
    MessageRunner,
    check_heap,
    check_heap_size,
    heap_instructions,
    trapped,
)
from sqlstable.replica.rejects import Rejection, trap_rejection
from sqlstable.wasm.environment import EntryExport, ExecutionResult
from sqlstable.wasm.executing import prints_of
from sqlstable.wasm.rewrite.rewriter import START_EXPORT
from sqlstable.wasm.traps import TrapCode, trap_of


class StepRun:
    """Use it in a ``with`` block, which a trap ends early, and then `end` it.

    What the parts do to cycles, timer and certified data is the canister's as it ends.

    Args:
        runner: Numbers the message, and tells the watchers.
        canister: Whose step it is.
        kind: The kind of message.
        argument: Of init or post_upgrade.
        caller: Who asks for it.
        label: Name of the message in reports.
        module: What it is to install.
    """

    def __init__(
        self,
        runner: MessageRunner,
        canister: HousedCanister,
        kind: MessageKind,
        argument: bytes,
        caller: bytes,
        label: str | None,
        *,
        module: bytes | None = None,
    ) -> None:
        assert canister.memory is not None
        self.memory: StableMemory = canister.memory
        self.trap: Trap | None = None
        self.has_certified = False
        "Whether a part has set certified data."
        self._runner = runner
        self._canister = canister
        self._kind: MessageKind = kind
        self._argument = argument
        self._caller = caller
        self._label = label
        self._module = module
        self._parts: list[PartRun] = []
        self._results: list[ExecutionResult] = []
        self._prints: list[str] = []
        self._before = (canister.cycles, canister.timer_ns, canister.certified_data)
        self._version = canister.version
        self._compiling = 0
        self._heap_charged = 0
        "Instructions that heaps of earlier parts have cost."

    def __enter__(self) -> Self:
        """Begin the message."""
        self.memory.begin(self._kind)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> bool:
        """Take note of a trap; everything else takes the message back."""
        if isinstance(error, Trap):
            self.trap = self.memory.poison(error)
            return True
        if error is not None:
            self.memory.rollback()
            self._put_back()
        return False

    # -- parts ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Run the start function, if there is one."""
        self.part("start", START_EXPORT, Context.START)

    def part(self, name: PartName, export: str, context: Context, argument: bytes = b"") -> None:
        """Run a part, if the code that is there exports it.

        Raises:
            Trap: It trapped.
        """
        canister = self._canister
        instance = canister.instance
        if export not in instance.program.layout.exports:
            return
        self.memory.next_part(part_kind(name, self._kind))
        job = Job(self._kind, context, EntryExport(export), caller=self._caller)
        before = instance.tell().counter
        try:
            result = instance.execute(job.entry, argument, self._runner.environment(canister, job))
            check_heap(instance)
            check_heap_size(canister, context)
        finally:
            self._prints += prints_of(instance.side, instance.tell())
            self._note(name, before)
        self._results.append(result)
        canister.cycles = result.cycle_balance
        if result.timer_ns is not None:
            canister.timer_ns = result.timer_ns
        if result.certified_data is not None:
            canister.certified_data, self.has_certified = result.certified_data, True

    def next_code(self) -> None:
        """Let what comes next be other code's: the timer is off, and the version another one."""
        self._canister.timer_ns = 0
        self._canister.version += 1

    def charge(self, instructions: int) -> None:
        """Charge for compiling.

        Raises:
            Trap: The message may not execute so many instructions.
        """
        instance = self._canister.instance
        left = instance.tell().counter - instructions
        if left < 0:
            limit = instance.instruction_limit
            raise trap_of(TrapCode.OUT_OF_INSTRUCTIONS, instruction_limit=limit)
        instance.set_value("counter", left)
        self._compiling += instructions

    def end(self) -> Rejection | None:
        """Keep the message, or take it back; returns the reject that it is to whoever asked."""
        runner, canister, memory = self._runner, self._canister, self.memory
        if self._parts and self.trap is None:
            memory.join_parts()
        executed = self._executed()
        runner.count += 1
        runner.before_end(canister, executed)
        if executed.is_kept:
            try:
                memory.commit()
            except Trap as refused:
                self.trap = refused
                executed = trapped(executed, refused)
                runner.before_end(canister, executed)
        if self.trap is not None:
            memory.rollback()
            self._put_back()
        runner.after_end(canister, executed)
        return None if self.trap is None else trap_rejection(canister.id, self.trap)

    # -- inside ---------------------------------------------------------------------------------

    def _note(self, name: PartName, counter_before: int) -> None:
        """Take note of a part that has ended, and charge its heap."""
        instance = self._canister.instance
        accessed, dirty = self._canister.store.used
        status = instance.tell()
        heap = heap_instructions(instance, status)
        self._parts.append(
            PartRun(
                name,
                accessed,
                dirty,
                counter_before - status.counter,
                heap,
                status.heap_regions_accessed,
                status.heap_regions_written,
                status.heap_os_pages_written,
                status.heap_os_pages_priced,
            )
        )
        self._heap_charged += heap
        instance.set_value("counter", max(status.counter - heap, 0))

    def _executed(self) -> Executed:
        instance, parts, results = self._canister.instance, self._parts, self._results
        balance = self._before[0] if self.trap is not None else self._canister.cycles
        burned = 0 if self.trap is not None else sum(it.cycles_burned for it in results)
        return Executed(
            number=self._runner.count,
            canister=self._canister.name,
            kind=self._kind,
            method="",
            argument=self._argument,
            answer=None,
            trap=self.trap,
            status=instance.tell()._replace(
                heap_regions_accessed=sum(it.heap_regions_accessed for it in parts),
                heap_regions_written=sum(it.heap_regions_written for it in parts),
                heap_os_pages_written=sum(it.heap_os_pages_written for it in parts),
                heap_os_pages_priced=sum(it.heap_os_pages_priced for it in parts),
            ),
            instructions=sum(it.instructions for it in parts),
            heap_instructions=self._heap_charged,
            prints=tuple(self._prints),
            cycles=CycleUse(burned=burned, balance=balance),
            caller=self._caller,
            time_ns=self._runner.time_ns,
            label=self._label,
            is_kept=self.trap is None,
            compile_instructions=self._compiling,
            parts=tuple(parts),
            module=self._module,
        )

    def _put_back(self) -> None:
        canister = self._canister
        canister.cycles, canister.timer_ns, canister.certified_data = self._before
        canister.version = self._version
