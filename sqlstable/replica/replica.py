"""Canisters beside each other in one process, and the messages between them.

**Order.** There is one queue of messages. What comes from outside goes to its end as it is asked
for; calls and answers go there when the message that made them has ended, in the order in which it
made them, calls first. Nothing else decides what runs next, and nothing runs by itself: time stands
still until it is told to go on (`Replica.advance`), and heartbeats run when asked for. So two runs
of anything are identical.

**Cycles.** What canisters send, accept, burn and pay for calls is exact. Executing costs nothing
here but instructions, and storage nothing either: balances are what canisters do to them.

**Limitations.** All canisters are on one subnet; each executes one message at a time, in one queue.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final

from sqlstable.errors import MessageError, SettingsError
from sqlstable.ic.limits import Limits, resolve_limits
from sqlstable.ic.prices import PriceRegime, regime_of
from sqlstable.ic.principals import MANAGEMENT, canister_id, principal_of, principal_text
from sqlstable.replica.call_contexts import Answer, CallMessage, FromOutside, TaskMessage
from sqlstable.replica.code_steps import CodeStep, CodeSteps, InstallMode, KeepHeap
from sqlstable.replica.executed import CallResult, Executed, ExecutionWatcher
from sqlstable.replica.housed import CanisterSettings, HousedCanister
from sqlstable.replica.ingress import in_utf8, ingress_refusal
from sqlstable.replica.management import ManagementCanister
from sqlstable.replica.message_runner import MessageRunner
from sqlstable.replica.passing_time import advance, check_time
from sqlstable.replica.query_graph import QueryGraph
from sqlstable.replica.rejects import Rejection
from sqlstable.replica.traffic import EMPTY_REPLY, Traffic
from sqlstable.wasm.environment import ANONYMOUS, ReplyData
from sqlstable.wasm.program import Program, make_program

START_TIME_NS: Final = 1_767_225_600_000_000_000
"""2026-01-01 00:00:00 UTC, the time that the databases of this package have, too."""

START_CYCLES: Final = 100_000_000_000_000
"""100 T: what a local replica gives a new canister, as dfx does."""

_HEARTBEAT_EXPORT: Final = "canister_heartbeat"


class Replica:
    """Several canisters, called from outside and by each other.

    Args:
        limits: As for `StableMemory`.
        regime: What is counted; by default that of the limits.
        watches_heap: Whether what is touched in the heap is reported, and charged where the
            regime does so; by default where it does.
        time_ns: What the time is; it stands still until it is told to go on.
        seed: Of the randomness that ``raw_rand`` gives.
        messages_max: How many messages one call may take, however many canisters call each other.
        program_of: Makes the program of a module, from its bytes, a name, and the bytes that each
            memory is to reserve; by default `make_program` does, by what is counted.
    """

    def __init__(
        self,
        *,
        limits: Limits | date | str | None = "latest",
        regime: PriceRegime | None = None,
        watches_heap: bool | None = None,
        time_ns: int = START_TIME_NS,
        seed: int = 0,
        messages_max: int = 100_000,
        program_of: Callable[[bytes, str, int], Program] | None = None,
    ) -> None:
        self.limits = resolve_limits(limits)
        self.regime = regime_of(self.limits) if regime is None else regime
        self.watchers: list[ExecutionWatcher] = []
        self._messages_max = messages_max
        check_time(time_ns)
        self._runner = MessageRunner(self.watchers, time_ns)
        self._traffic = Traffic(self._runner)
        self._names: dict[str, HousedCanister] = {}
        self._created = 0
        self._tickets = 0
        is_watched = self.regime.charges_heap if watches_heap is None else watches_heap
        if program_of is None:
            program_of = partial(_program, regime=self.regime, watches_heap=is_watched)
        self._steps = CodeSteps(self._runner, program_of, self.limits)
        self._management = ManagementCanister(self._traffic, self._steps, self._new, seed=seed)
        self._traffic.manage = self._management.take

    # -- canisters ------------------------------------------------------------------------------

    @property
    def time_ns(self) -> int:
        """What the time is."""
        return self._runner.time_ns

    @property
    def canisters(self) -> tuple[HousedCanister, ...]:
        """All canisters, in the order in which they were made."""
        return tuple(self._traffic.canisters.values())

    def create(
        self,
        name: str,
        *,
        canister_id: bytes | str | None = None,
        controllers: Iterable[bytes] = (ANONYMOUS,),
        cycles: int = START_CYCLES,
        image: Path | str | None = None,
        durability: str = "process",
        variables: Mapping[str, str] | None = None,
    ) -> HousedCanister:
        """Make an empty canister.

        Args:
            name: What it is called here.
            canister_id: Its principal; by default the next one that a local replica would give.
            controllers: Who may change it; the management canister asks for them.
            cycles: Its balance.
            image: A file that holds its stable memory, and keeps it.
            durability: Of the file, as for `StableMemory.open`.
            variables: Environment variables.

        Raises:
            SettingsError: Name or principal are another canister's.
        """
        if name in self._names or name == principal_text(MANAGEMENT):
            raise SettingsError(f"there is a canister {name!r} already; choose another name")
        principal = principal_of(canister_id) if isinstance(canister_id, str) else canister_id
        settings = CanisterSettings(tuple(controllers), dict(variables or {}))
        canister = self._new(name, principal, settings, cycles)
        canister.image = None if image is None else Path(image)
        canister.durability = durability
        return canister

    def canister(self, name: str | bytes) -> HousedCanister:
        """Return a canister by its name or principal.

        Raises:
            SettingsError: There is none.
        """
        found = self._traffic.canisters.get(self._id_of(name))
        return self._known(name if isinstance(name, str) else principal_text(name), found)

    def install(
        self,
        name: str | bytes,
        module: bytes,
        argument: bytes = b"",
        *,
        mode: InstallMode = "install",
        skip_pre_upgrade: bool = False,
        keep_heap: KeepHeap = "auto",
        caller: bytes = ANONYMOUS,
        label: str | None = None,
    ) -> CallResult:
        """Install, reinstall or upgrade code; what fails leaves everything as it was.

        Args:
            name: Of the canister.
            module: Its Wasm module, gzipped or not.
            argument: For ``canister_init`` or ``canister_post_upgrade``.
            mode: What becomes of what was there. On an image that holds something, ``upgrade``
                goes on with it, and there is no old code to ask.
            skip_pre_upgrade: Whether the old code is not asked to save anything.
            keep_heap: ``wasm_memory_persistence``, see `KeepHeap`.
            caller: Who asks for it.
            label: Name of the message in reports.

        Returns:
            An empty reply; or the reject that says what was wrong with the module, or trapped.

        Raises:
            SettingsError: There is no such canister.
            ImageError: The canister's image file cannot be used.
        """
        canister = self.canister(name)
        step = CodeStep(mode, module, argument, skip_pre_upgrade, keep_heap, caller, label)
        return self._done(self._steps.install(canister, step))

    def uninstall(
        self, name: str | bytes, *, caller: bytes = ANONYMOUS, label: str | None = None
    ) -> CallResult:
        """Let code, heap and stable memory go; calls that still wait for an answer are rejected."""
        canister = self.canister(name)
        self._steps.uninstall(canister, caller=caller, label=label)
        canister.version += 1
        self._traffic.uninstall(canister)
        return self._done(None)

    def stop(self, name: str | bytes) -> CallResult:
        """Stop a canister; there is no answer while it still awaits something."""
        canister, ticket = self.canister(name), self._ticket()
        self._management.stop(canister, ticket, 0)
        self.run()
        return self.result(ticket)

    def start(self, name: str | bytes) -> CallResult:
        """Let a stopped canister run again."""
        self._management.start(self.canister(name))
        return self._done(None)

    def delete(self, name: str | bytes) -> CallResult:
        """Delete a stopped canister and its cycles."""
        canister = self.canister(name)
        refusal = self._management.delete(canister)
        if refusal is None:
            self._names.pop(canister.name, None)
        return self._done(refusal)

    # -- messages -------------------------------------------------------------------------------

    def update(
        self,
        name: str | bytes,
        method: str,
        argument: bytes = b"",
        *,
        caller: bytes = ANONYMOUS,
        label: str | None = None,
    ) -> CallResult:
        """Call a method, and run all messages until nothing is left to be done.

        ``canister_inspect_message`` is asked first where there is one; a query method runs
        replicated, and leaves nothing. The management canister is called by its principal,
        ``aaaaa-aa``, with Candid.

        Raises:
            MessageError: It took more messages than it may; those that have ended stay.
        """
        ticket = self.submit(name, method, argument, caller=caller, label=label)
        self.run()
        return self.result(ticket)

    def submit(
        self,
        name: str | bytes,
        method: str,
        argument: bytes = b"",
        *,
        caller: bytes = ANONYMOUS,
        label: str | None = None,
    ) -> FromOutside:
        """Let a call go to the end of the queue; `run` or `step` lets it happen.

        Returns:
            What `result` gives its answer for.
        """
        ticket = self._ticket()
        call = CallMessage(
            self._id_of(name), in_utf8(method), argument, caller, ticket, label=label
        )
        refusal = ingress_refusal(self._traffic, call, self.limits)
        if refusal is None:
            self._traffic.queue.append(call)
        else:
            self._traffic.answers[ticket.ticket] = refusal
        return ticket

    def result(self, ticket: FromOutside) -> CallResult:
        """Return what has become of a call, with the messages that ran since somebody asked."""
        answer = self._traffic.answers.pop(ticket.ticket, None)
        return CallResult(answer, self._runner.take())

    def take_executed(self) -> tuple[Executed, ...]:
        """Return the messages that have run since somebody asked."""
        return self._runner.take()

    def query(
        self,
        name: str | bytes,
        method: str,
        argument: bytes = b"",
        *,
        caller: bytes = ANONYMOUS,
        label: str | None = None,
    ) -> CallResult:
        """Call a query or composite query; nothing of it is kept."""
        graph = QueryGraph(
            self._runner,
            self._traffic.canisters,
            limits=self.limits,
            label=label,
        )
        answer: Answer = graph.run(self._id_of(name), in_utf8(method), argument, caller)
        return CallResult(answer, self._runner.take())

    def step(self) -> bool:
        """Let the first message of the queue happen; returns whether there was one."""
        return self._traffic.step()

    def run(self) -> None:
        """Let messages happen until none is left.

        Raises:
            MessageError: There were more than one call may take.
        """
        for _ in range(self._messages_max):
            if not self._traffic.step():
                return
        if self._traffic.queue:
            left = len(self._traffic.queue)
            self._traffic.queue.clear()
            raise MessageError(
                f"{self._messages_max} messages have run and {left} more are to: canisters call "
                "each other without end, perhaps; what is left was dropped. Let messages_max be "
                "larger if the call needs more"
            )

    def advance(self, seconds: float) -> tuple[Executed, ...]:
        """Let time pass: waits end that were bounded, and timers run that are due.

        Each timer runs at its own time, the earlier one first, and of two that are due together
        that of the canister that was made first; all messages that follow run before the next. A
        timer runs once a second at most, as rounds of a network do.

        Raises:
            SettingsError: Time was to go back, or beyond the year 2554.
            MessageError: As for `update`.
        """
        advance(self._traffic, self.run, seconds)
        return self._runner.take()

    def heartbeat(self, name: str | bytes | None = None) -> tuple[Executed, ...]:
        """Run the heartbeat of one canister, or of all that have one, in the order of their ids."""
        chosen = (
            sorted(self.canisters, key=lambda it: it.id) if name is None else [self.canister(name)]
        )
        for canister in chosen:
            task = TaskMessage(canister.id, "heartbeat", _HEARTBEAT_EXPORT)
            self._traffic.queue.append(task)
        self.run()
        return self._runner.take()

    @property
    def waiting_count(self) -> int:
        """How many calls are under way that have no answer yet."""
        return len(self._traffic.open_calls.waitings)

    @property
    def cycles_under_way(self) -> int:
        """Cycles that belong to calls: sent, and neither accepted nor back yet."""
        return self._traffic.cycles_under_way()

    def close(self) -> None:
        """Give everything back."""
        for canister in self.canisters:
            if canister.memory is not None:
                canister.memory.close()
        self._traffic.canisters.clear()
        self._names.clear()

    # -- inside ---------------------------------------------------------------------------------

    def _new(
        self, name: str | None, principal: bytes | None, settings: CanisterSettings, cycles: int
    ) -> HousedCanister:
        """Take a new canister in; without a name it goes by its principal."""
        canisters = self._traffic.canisters
        if principal is None:
            principal = canister_id(self._created)
            while principal in canisters:
                self._created += 1
                principal = canister_id(self._created)
            self._created += 1
        if principal in canisters or principal == MANAGEMENT:
            raise SettingsError(f"there is a canister {principal_text(principal)} already")
        name = principal_text(principal) if name is None else name
        canister = HousedCanister(name, principal, settings=settings, cycles=cycles)
        canisters[principal] = self._names[name] = canister
        return canister

    def _id_of(self, name: str | bytes) -> bytes:
        if isinstance(name, bytes):
            return name
        found = self._names.get(name)
        is_text = found is None and "-" in name
        return principal_of(name) if is_text else self._known(name, found).id

    def _known(self, name: str, found: HousedCanister | None) -> HousedCanister:
        if found is None:
            known = ", ".join(self._names) or "none"
            raise SettingsError(f"there is no canister {name!r}; there are: {known}")
        return found

    def _ticket(self) -> FromOutside:
        self._tickets += 1
        return FromOutside(self._tickets)

    def _done(self, refusal: Rejection | None) -> CallResult:
        self.run()
        return CallResult(
            ReplyData(EMPTY_REPLY) if refusal is None else refusal, self._runner.take()
        )


def _program(
    wasm: bytes, name: str, reach_bytes: int, *, regime: PriceRegime, watches_heap: bool
) -> Program:
    return make_program(
        wasm, name=name, regime=regime, watches_heap=watches_heap, reach_bytes=reach_bytes
    )
