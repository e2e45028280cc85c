"""Queries from outside, with the queries that composite queries make.

A composite query calls others one after the other, deepest first, and each canister keeps its heap
from the query to its callbacks. Nothing of all that is kept, wherever it ends.

**Limitations.** A canister that is called again while a composite query of it waits would run on
the state before that query, beside it; here such a call is rejected. A callback that traps ends the
query of its canister at once, even where other calls of it are outstanding, and no cleanup runs.

Source:
    dfinity/ic rs/execution_environment/src/query_handler/{query_context,query_call_graph}.rs
    @ 1bc0a5953, 2025-10-31.
"""

from collections import deque
from datetime import date
from typing import TYPE_CHECKING, Final

from sqlstable.ic.contexts import Context
from sqlstable.ic.limit_tables import LIMITS
from sqlstable.ic.limits import Limits
from sqlstable.memory.stable import StableMemory
from sqlstable.replica.call_contexts import Answer
from sqlstable.replica.housed import HousedCanister, RunStatus
from sqlstable.replica.ingress import too_large
from sqlstable.replica.message_runner import EndedExecution, Job, MessageRunner, opened
from sqlstable.replica.rejects import (
    Reason,
    Rejection,
    did_not_reply,
    method_not_found,
    no_module,
    not_found,
    not_running,
    rejected,
)
from sqlstable.replica.traffic import answer_of
from sqlstable.wasm.environment import EntryExport, OutgoingCall, ReplyData
from sqlstable.wasm.rewrite.metering import EXTRAS
from sqlstable.wasm.shim import INSTRUCTIONS_MAX

if TYPE_CHECKING:
    from sqlstable.wasm.shim import ShimStatus

_DEPTH_MAX: Final = LIMITS["composite_query_depth_calls"].at(date.max).value
_CALL_INSTRUCTIONS: Final = LIMITS["instructions_composite_query_call"].at(date.max).value
_GRAPH_INSTRUCTIONS: Final = LIMITS["instructions_composite_query"].at(date.max).value

_OF_EXECUTION: Final = (
    *("log_count", "border_count", "page_charges"),
    *("charged_os_pages_dirty", "charged_regions_accessed", "charged_regions_dirty"),
    *EXTRAS,
)
"""What the shim counts that an execution begins anew."""


class QueryGraphError(Exception):
    """The whole query has ended, whoever had called."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.message)
        self.rejection = rejection


class QueryGraph:
    """One query from outside, and all that it calls.

    Args:
        runner: Runs each message.
        canisters: Those of the replica.
        limits: Of its messages; with them the tree has a limit on instructions, too.
        label: Name of the first message in reports.
    """

    def __init__(
        self,
        runner: MessageRunner,
        canisters: dict[bytes, HousedCanister],
        *,
        limits: Limits | None,
        label: str | None,
    ) -> None:
        self._runner = runner
        self._canisters = canisters
        self._limits = limits
        self._left = _GRAPH_INSTRUCTIONS if limits is not None else INSTRUCTIONS_MAX
        self._label = label
        self._waiting: list[bytes] = []
        "Canisters whose composite query waits, the first caller first."

    def run(self, canister: bytes, method: str, argument: bytes, caller: bytes) -> Answer:
        """Run the query from outside."""
        refusal = too_large(method, argument, self._limits)
        if refusal is not None:
            return refusal
        try:
            return self._visit(canister, method, argument, caller)
        except QueryGraphError as error:
            return error.rejection

    # -- inside ---------------------------------------------------------------------------------

    def _visit(self, callee: bytes, method: str, argument: bytes, caller: bytes) -> Answer:
        canister = self._canisters.get(callee)
        if canister is None:
            return not_found(callee)
        refusal = self._refusal(canister, method)
        if refusal is not None:
            return refusal
        label, self._label = self._label, None
        if f"canister_query {method}" in canister.exports:
            entry, context = EntryExport(f"canister_query {method}"), Context.QUERY
            job = Job("query", context, entry, method, argument, caller, label=label)
            ended = self._runner.run(canister, job)
            return answer_of(canister.id, ended) or did_not_reply(canister.id)
        entry = EntryExport(f"canister_composite_query {method}")
        job = Job(
            "composite_query",
            Context.COMPOSITE_QUERY,
            entry,
            method,
            argument,
            caller,
            label=label,
            instructions_max=self._left,
        )
        with opened(canister, "composite_query") as memory:
            answer = self._drive(canister, memory, job)
            memory.rollback()
        return answer

    def _refusal(self, canister: HousedCanister, method: str) -> Rejection | None:
        if canister.status is not RunStatus.RUNNING:
            return not_running(canister.id, is_stopped=canister.status is RunStatus.STOPPED)
        if canister.module is None:
            return no_module(canister.id)
        names = {f"canister_query {method}", f"canister_composite_query {method}"}
        if not names & canister.exports:
            return method_not_found(canister.id, "query", method)
        if canister.id in self._waiting:
            return rejected(
                Reason.QUERY_LOOP,
                f"{canister} waits in this composite query already, and is called by it once more, "
                "which cannot be simulated here; call it once, or by an update",
            )
        return None

    def _drive(self, canister: HousedCanister, memory: StableMemory, job: Job) -> Answer:
        """Run a composite query and its callbacks, until there is an answer."""
        ended = self._run(canister, job)
        calls = deque((ended.executed.number, it) for it in _calls(ended))
        while True:
            answer = answer_of(canister.id, ended)
            if answer is not None:
                return answer
            if not calls:
                return did_not_reply(canister.id)
            number, call = calls.popleft()
            ended = self._call(canister, memory, job, number, call)
            calls.extend((ended.executed.number, it) for it in _calls(ended))

    def _call(
        self,
        canister: HousedCanister,
        memory: StableMemory,
        job: Job,
        number: int,
        call: OutgoingCall,
    ) -> EndedExecution:
        """Make a call, and run the callback for its answer."""
        if len(self._waiting) >= _DEPTH_MAX:
            words = "Composite query calls exceeded the maximum call depth."
            raise QueryGraphError(rejected(Reason.QUERIES_TOO_DEEP, words))
        self._left -= _CALL_INSTRUCTIONS
        self._check_left()
        self._waiting.append(canister.id)
        answer = self._visit(call.callee, call.method, call.argument, canister.id)
        self._waiting.pop()
        self._check_left()
        earlier = canister.instance.tell()
        memory.next_part("composite_callback")
        canister.instance.set_value("counter", canister.instance.instruction_limit)
        # What an execution did is told of it alone; lists of OS pages take the message back.
        for name in _OF_EXECUTION:
            canister.instance.set_value(name, 0)
        is_reply = isinstance(answer, ReplyData)
        return self._run(
            canister,
            Job(
                "composite_callback",
                Context.COMPOSITE_REPLY if is_reply else Context.COMPOSITE_REJECT,
                call.on_reply if is_reply else call.on_reject,
                call.method,
                answer.data if isinstance(answer, ReplyData) else answer.seen_by_canister.encode(),
                job.caller,
                number,
                rejection=None if isinstance(answer, ReplyData) else answer,
                instructions_max=self._left,
            ),
            earlier=earlier,
        )

    def _run(
        self, canister: HousedCanister, job: Job, earlier: "ShimStatus | None" = None
    ) -> EndedExecution:
        ended = self._runner.execute(canister, job, earlier=earlier)
        self._runner.before_end(canister, ended.executed)
        self._runner.after_end(canister, ended.executed)
        self._left -= ended.executed.instructions + ended.executed.heap_instructions
        return ended

    def _check_left(self) -> None:
        if self._left <= 0:
            words = "Composite query calls exceeded the instruction limit."
            raise QueryGraphError(rejected(Reason.QUERIES_TOO_LONG, words))


def _calls(ended: EndedExecution) -> tuple[OutgoingCall, ...]:
    return () if ended.result is None else ended.result.calls
