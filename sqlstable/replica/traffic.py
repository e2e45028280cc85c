"""The messages between canisters: one queue, and what becomes of each message in it.

**Order.** A message that makes calls or answers puts them at the end of the queue as it ends, calls
first and in the order in which they were made. A hook for low memory goes before everything else.

**Invariants**

* Each call is answered once, with a reply or a reject.
* Cycles are nowhere lost: those of a call are its callee's as far as it accepted them, and the
  caller's again with the answer.
* A trap takes back one message; what earlier messages of the same call have done stays.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from sqlstable.ic.contexts import Context
from sqlstable.ic.principals import MANAGEMENT
from sqlstable.ic.units import SECOND_NS
from sqlstable.replica.call_contexts import (
    Answer,
    AnswerMessage,
    CallContext,
    CallMessage,
    FromCanister,
    FromOutside,
    FromSystem,
    OpenCalls,
    Origin,
    StopRequest,
    TaskMessage,
    Underway,
    Waiting,
)
from sqlstable.replica.figures import SUBNET_FEES
from sqlstable.replica.housed import HousedCanister, RunStatus
from sqlstable.replica.message_runner import EndedExecution, Job, MessageRunner
from sqlstable.replica.rejects import (
    EXPIRED,
    NO_RESPONSE,
    UNINSTALLED,
    Reason,
    RejectCode,
    Rejection,
    did_not_reply,
    method_not_found,
    no_module,
    not_found,
    not_running,
    rejected,
    trap_rejection,
    unrouted,
)
from sqlstable.wasm.environment import Callback, EntryExport, OutgoingCall, RejectData, ReplyData

_TIMEOUT_MAX_S: Final = 300
"""Of a call with a bounded wait.

Source: dfinity/ic rs/types/types/src/messages.rs MAX_CALL_TIMEOUT_SECONDS; the interface
specification leaves it to the system.
"""

LOW_MEMORY_EXPORT: Final = "canister_on_low_wasm_memory"


TakeCall = Callable[[CallMessage], tuple[Answer | None, int]]
"""Carries a call to the management canister out; returns the answer, None for later, and the cycles
that were accepted of it."""


class Traffic:
    """The queue of a replica, and the calls that are under way.

    Args:
        runner: Runs each message.
    """

    def __init__(self, runner: MessageRunner) -> None:
        self.runner = runner
        self.canisters: dict[bytes, HousedCanister] = {}
        self.queue: deque[Underway] = deque()
        self.open_calls = OpenCalls()
        self.answers: dict[int, Answer] = {}
        "For those outside, by ticket."
        self.stop_requests: dict[bytes, list[StopRequest]] = {}
        self.manage: TakeCall
        self.fees = SUBNET_FEES

    # -- the queue ------------------------------------------------------------------------------

    def step(self) -> bool:
        """Let the first message of the queue happen; returns whether there was one."""
        if not self.queue:
            return False
        opened = self.open_calls.last
        try:
            match self.queue.popleft():
                case CallMessage() as call:
                    self._take_call(call)
                case AnswerMessage() as answer:
                    self._take_answer(answer)
                case TaskMessage() as task:
                    self._take_task(task)
        except BaseException:
            # Whatever came from outside has taken the message back, and its call is nobody's.
            self.open_calls.forget_since(opened)
            raise
        return True

    def answer(self, origin: Origin, answer: Answer, refund: int = 0) -> None:
        """Send an answer to where a call came from."""
        match origin:
            case FromOutside(ticket):
                assert not refund
                self.answers[ticket] = answer
            case FromCanister():
                self.queue.append(AnswerMessage(origin, answer, refund))
            case FromSystem():
                pass

    def cycles_under_way(self) -> int:
        """Return the cycles that belong to calls, and to no canister."""
        open_calls = self.open_calls
        queued = sum(
            it.cycles if isinstance(it, CallMessage) else it.refund
            for it in self.queue
            if not isinstance(it, TaskMessage)
        )
        held = sum(it.cycles_available for it in open_calls.contexts.values())
        held += sum(it.call.prepayment for it in open_calls.waitings.values())
        stops = sum(it.cycles for requests in self.stop_requests.values() for it in requests)
        return queued + held + stops

    def expire(self) -> None:
        """End the bounded waits whose time has come, and waits for a stop that took too long."""
        now = self.runner.time_ns
        for waiting in list(self.open_calls.waitings.values()):
            if waiting.deadline_ns and waiting.deadline_ns < now:
                waiting.deadline_ns = 0
                to = FromCanister(waiting.context.canister, waiting.number)
                self.queue.append(AnswerMessage(to, EXPIRED))
        for canister, requests in self.stop_requests.items():
            late = [it for it in requests if it.since_ns + _TIMEOUT_MAX_S * SECOND_NS <= now]
            self.stop_requests[canister] = [it for it in requests if it not in late]
            for request in late:
                timeout = rejected(Reason.STOP_TIMEOUT, "Stop canister request timed out")
                self.answer(request.origin, timeout, request.cycles)

    # -- calls ----------------------------------------------------------------------------------

    def _take_call(self, call: CallMessage) -> None:
        if call.callee == MANAGEMENT:
            answer, accepted = self.manage(call)
            if answer is not None:
                self.answer(call.origin, answer, call.cycles - accepted)
            return
        rejection = self.refusal(call)
        if rejection is not None:
            self.answer(call.origin, rejection, call.cycles)
            return
        canister = self.canisters[call.callee]
        name = f"canister_update {call.method}"
        if name in canister.exports:
            context = self.open_calls.open(call)
            job = Job(
                "update",
                Context.UPDATE,
                EntryExport(name),
                call.method,
                call.argument,
                call.caller,
                label=call.label,
                cycles_available=call.cycles,
                deadline_ns=call.deadline_ns,
                calls_outstanding=self.open_calls.outstanding(canister.id),
            )
            self._conclude(canister, context, self._run(canister, job))
        else:
            self._run_replicated_query(canister, call)

    def refusal(self, call: CallMessage) -> Rejection | None:
        """Return why a call does not reach a method, or None where it does."""
        canister, is_outside = self.canisters.get(call.callee), isinstance(call.origin, FromOutside)
        if canister is None:
            found = not_found(call.callee)
            return found if is_outside else unrouted(found)
        if canister.status is not RunStatus.RUNNING:
            found = not_running(canister.id, is_stopped=canister.status is RunStatus.STOPPED)
            return found if is_outside else unrouted(found)
        if canister.module is None:
            return no_module(canister.id)
        exports = canister.exports
        if any(f"canister_{kind} {call.method}" in exports for kind in ("update", "query")):
            return None
        if f"canister_composite_query {call.method}" in exports:
            return rejected(
                Reason.COMPOSITE_QUERY_REPLICATED,
                "Composite query cannot be called in replicated mode",
            )
        return method_not_found(canister.id, "update", call.method)

    def _run_replicated_query(self, canister: HousedCanister, call: CallMessage) -> None:
        job = Job(
            "replicated_query",
            Context.REPLICATED_QUERY,
            EntryExport(f"canister_query {call.method}"),
            call.method,
            call.argument,
            call.caller,
            label=call.label,
            cycles_available=call.cycles,
            deadline_ns=call.deadline_ns,
        )
        ended = self._run(canister, job)
        accepted = 0 if ended.result is None else ended.result.cycles_accepted
        answer = answer_of(canister.id, ended)
        if answer is None:
            answer = did_not_reply(canister.id)
        self.answer(call.origin, answer, call.cycles - accepted)

    def _run(self, canister: HousedCanister, job: Job) -> EndedExecution:
        ended = self.runner.run(canister, job)
        if ended.executed.is_kept:
            self._watch_heap(canister, ended)
        return ended

    def _send(
        self, canister: HousedCanister, context: CallContext, number: int, call: OutgoingCall
    ) -> None:
        """Put a call at the end of the queue."""
        deadline_ns = 0
        if call.timeout_s is not None:
            wait_s = min(call.timeout_s, _TIMEOUT_MAX_S)
            deadline_ns = self.runner.time_ns + wait_s * SECOND_NS
        waiting = self.open_calls.wait(context, call, number, deadline_ns)
        self.queue.append(
            CallMessage(
                call.callee,
                call.method,
                call.argument,
                canister.id,
                FromCanister(canister.id, waiting.number),
                call.cycles,
                deadline_ns,
            )
        )

    # -- contexts -------------------------------------------------------------------------------

    def _conclude(
        self, canister: HousedCanister, context: CallContext, ended: EndedExecution
    ) -> None:
        """Let a message have its effect on the call that it belongs to."""
        executed, result = ended
        context.instructions += executed.instructions + executed.heap_instructions
        if result is not None:
            context.cycles_available -= result.cycles_accepted
            for call in result.calls:
                self._send(canister, context, executed.number, call)
        answer = answer_of(canister.id, ended)
        is_last = not context.outstanding
        is_said = answer is not None and (executed.trap is None or is_last)
        if not context.is_answered and (is_said or is_last):
            self._answer_context(context, answer)
        self._let_go(canister, context)

    def _answer_context(self, context: CallContext, answer: Answer | None) -> None:
        context.is_answered = True
        if answer is None:
            is_outside = isinstance(context.origin, FromOutside)
            answer = did_not_reply(context.canister) if is_outside else NO_RESPONSE
        refund, context.cycles_available = context.cycles_available, 0
        self.answer(context.origin, answer, refund)

    def _let_go(self, canister: HousedCanister, context: CallContext) -> None:
        """Close a context that is over, and stop a canister whose last one it was."""
        self.open_calls.close_if_over(context)
        self.settle_stop(canister)

    def settle_stop(self, canister: HousedCanister) -> None:
        """Stop a canister that is about to be, once nothing of it is under way."""
        if canister.status is RunStatus.STOPPING and not self.open_calls.of(canister.id):
            canister.status = RunStatus.STOPPED
            for request in self.stop_requests.pop(canister.id, ()):
                self.answer(request.origin, ReplyData(EMPTY_REPLY), request.cycles)

    def uninstall(self, canister: HousedCanister) -> None:
        """Reject all calls that a canister has not answered; their callbacks run no more."""
        for context in self.open_calls.of(canister.id):
            context.is_deleted = True
            if not context.is_answered:
                self._answer_context(
                    context,
                    UNINSTALLED
                    if isinstance(context.origin, FromOutside)
                    else unrouted(UNINSTALLED),
                )
            self._let_go(canister, context)

    # -- answers --------------------------------------------------------------------------------

    def _take_answer(self, message: AnswerMessage) -> None:
        canister = self.canisters.get(message.to.canister)
        waiting = self.open_calls.waitings.pop(message.to.waiting, None)
        if canister is None:
            return
        refund = message.refund
        if waiting is None:
            # It had waited long enough; the cycles are its own nevertheless.
            canister.cycles += refund
            return
        refund += self._unused(canister, waiting, message.answer)
        canister.cycles += refund
        context = waiting.context
        context.outstanding -= 1
        if context.is_deleted:
            self._let_go(canister, context)
            return
        self._conclude(
            canister, context, self._call_back(canister, waiting, message.answer, message.refund)
        )

    def _unused(self, canister: HousedCanister, waiting: Waiting, answer: Answer) -> int:
        """Return what was set aside for an answer, and was not needed for it."""
        size = len(answer.data if isinstance(answer, ReplyData) else answer.seen_by_canister)
        prepaid = waiting.call.prepayment
        needed = min(self.fees.scaled(self.fees.call_byte_of_13 * size), prepaid)
        canister.cycles_paid += needed
        return prepaid - needed

    def _call_back(
        self, canister: HousedCanister, waiting: Waiting, answer: Answer, refunded: int
    ) -> EndedExecution:
        """Run the callback for an answer, and the one that cleans up behind it if that traps."""
        call, context = waiting.call, waiting.context
        is_reply = isinstance(answer, ReplyData)
        job = Job(
            "callback",
            Context.REPLY if is_reply else Context.REJECT,
            call.on_reply if is_reply else call.on_reject,
            call.method,
            answer.data if isinstance(answer, ReplyData) else answer.seen_by_canister.encode(),
            context.caller,
            waiting.message,
            cycles_available=context.cycles_available,
            refunded=refunded,
            rejection=None if isinstance(answer, ReplyData) else answer,
            deadline_ns=context.deadline_ns,
            is_answered=context.is_answered,
            calls_outstanding=self.open_calls.outstanding(canister.id),
            instructions_before=context.instructions,
        )
        ended = self._run(canister, job)
        if ended.trap is not None and call.on_cleanup is not None:
            self._clean_up(canister, waiting, ended, call.on_cleanup, job.rejection)
        return ended

    def _clean_up(
        self,
        canister: HousedCanister,
        waiting: Waiting,
        failed: EndedExecution,
        entry: Callback,
        rejection: Rejection | None,
    ) -> None:
        context = waiting.context
        self._run(
            canister,
            Job(
                "cleanup",
                Context.CLEANUP,
                entry,
                waiting.call.method,
                caller=context.caller,
                continues=failed.executed.number,
                rejection=rejection,
                is_answered=context.is_answered,
                instructions_before=context.instructions,
            ),
        )

    # -- tasks ----------------------------------------------------------------------------------

    def _take_task(self, task: TaskMessage) -> None:
        canister = self.canisters.get(task.canister)
        if (
            canister is None
            or canister.status is not RunStatus.RUNNING
            or task.export not in canister.exports
        ):
            return
        context = self.open_calls.open(task)
        job = Job(
            task.kind,
            Context.TASK,
            EntryExport(task.export),
            caller=MANAGEMENT,
            label=task.label,
            calls_outstanding=self.open_calls.outstanding(canister.id),
        )
        self._conclude(canister, context, self._run(canister, job))

    def _watch_heap(self, canister: HousedCanister, ended: EndedExecution) -> None:
        """Let the hook for low memory run where there is less room than was set."""
        settings = canister.settings
        used = ended.executed.status.heap_size << 16
        if settings.wasm_memory_limit - used >= settings.wasm_memory_threshold:
            canister.low_memory = "enough"
        elif canister.low_memory == "enough" and LOW_MEMORY_EXPORT in canister.exports:
            canister.low_memory = "told"
            self.queue.appendleft(TaskMessage(canister.id, "low_memory", LOW_MEMORY_EXPORT))


EMPTY_REPLY: Final = b"DIDL\0\0"
"""Candid of no value."""


def answer_of(canister: bytes, ended: EndedExecution) -> Answer | None:
    """Return the answer that a message is to its call, a trap included; None where it has none."""
    if ended.trap is not None:
        return trap_rejection(canister, ended.trap)
    match ended.executed.answer:
        case ReplyData() as reply:
            return reply
        case RejectData(message):
            return Rejection(RejectCode.CANISTER_REJECT, message.decode(errors="replace"))
        case None:
            return None
