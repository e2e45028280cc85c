"""Canisters of modules beside each other, observed: what both front doors are made of."""

from collections.abc import Callable, Mapping
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlstable.canister.ended import EndedMessage
from sqlstable.canister.observation import check_trace, open_writer
from sqlstable.errors import MessageError, SettingsError
from sqlstable.ic.assumptions import assumed, check_counted
from sqlstable.ic.canister_figures import CanisterFigures
from sqlstable.ic.limits import Limits, resolve_limits
from sqlstable.ic.prices import PriceRegime, resolve_prices
from sqlstable.ic.principals import principal_text
from sqlstable.ic.units import OS_PAGE_BYTES, SECOND_NS
from sqlstable.module.callers import caller_of
from sqlstable.module.canister_language import CanisterLanguage
from sqlstable.module.module_reply import ModuleReply
from sqlstable.module.module_source import ModuleSource, asked_source
from sqlstable.module.observing import ModuleObservation, ReplicaObservation
from sqlstable.module.profile import Profile, ProfileWatcher
from sqlstable.replica.call_contexts import FromOutside
from sqlstable.replica.code_steps import InstallMode
from sqlstable.replica.executed import CallResult, Executed
from sqlstable.replica.figures import figures_of
from sqlstable.replica.replica import START_CYCLES, START_TIME_NS, Replica
from sqlstable.trace.format.file import Trace
from sqlstable.wasm.program import Program, make_program

IN_MEMORY: Final = ":memory:"
"""A trace that is kept, but in no file."""


def trace_path(trace: Path | str, name: str, *, is_first: bool) -> Path | str:
    """Return where the trace of a canister goes.

    Examples:
        >>> trace_path("runs/app.trace", "ledger", is_first=False).name
        'app.ledger.trace'
    """
    if trace == IN_MEMORY or is_first:
        return trace
    path = Path(trace)
    return path.with_name(f"{path.stem}.{name}{path.suffix}")


class ModuleWorld:
    """A replica, the interfaces of its canisters, and a trace of each.

    Args:
        limits: As for `sqlstable.memory.stable.StableMemory`.
        prices: What instructions are counted by; by default the prices of the limits' date.
        assume: What those assume otherwise than by default.
        track_heap: Whether to watch and charge the heap; by default as the prices do.
        time_ns: What the time is at the beginning.
        seed: Of ``raw_rand``.
        trace: Where the trace of the first canister goes, those of others beside it; or
            ``":memory:"``, or None for none.
        overwrite_trace: Whether old traces may be replaced.
        owners: Whether OS pages are attributed; by default where a trace is written.
        has_profile: Whether it is counted function by function.
        os_page_bytes: Size of the OS pages that are charged: 4096, or 16 384 as on the computers
            of Apple.
    """

    def __init__(  # noqa: PLR0913  each is a keyword
        self,
        *,
        limits: Limits | date | str | None = "latest",
        prices: PriceRegime | date | str | None = None,
        assume: Mapping[str, str] | None = None,
        track_heap: bool | None = None,
        time_ns: int = START_TIME_NS,
        seed: int = 0,
        trace: Path | str | None = None,
        overwrite_trace: bool = False,
        owners: bool | None = None,
        has_profile: bool = False,
        os_page_bytes: int = OS_PAGE_BYTES,
    ) -> None:
        check_trace(trace, overwrite=overwrite_trace)
        chosen = assumed(resolve_prices(prices, resolve_limits(limits)), assume or {})
        regime = check_counted(chosen)
        is_watched = regime.charges_heap if track_heap is None else track_heap
        self._program_of = partial(
            _program,
            regime=regime,
            watches_heap=is_watched,
            has_profile=has_profile,
            os_page_bytes=os_page_bytes,
        )
        self.replica = Replica(
            limits=limits,
            regime=regime,
            watches_heap=is_watched,
            time_ns=time_ns,
            seed=seed,
            program_of=self._program_of,
        )
        self._prices = regime
        self._profile = ProfileWatcher() if has_profile else None
        if self._profile is not None:
            self.replica.watchers.append(self._profile)
        self._trace, self._overwrite, self._has_owners = trace, overwrite_trace, owners
        self._observation = ReplicaObservation(self._observe)
        self.replica.watchers.append(self._observation)
        self._languages: dict[str, CanisterLanguage] = {}
        self._sources: dict[str, ModuleSource] = {}
        self._first: str | None = None
        self.is_closed = False
        "Whether everything was given back."

    # -- canisters ------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """Of all canisters, in the order in which they were made."""
        return tuple(self._languages)

    @property
    def first(self) -> str | None:
        """The canister whose trace has the path that was given."""
        return self._first

    def be_first(self, name: str) -> None:
        """Let a canister be the first, before anything has run on it."""
        self._first = name

    def create(
        self,
        name: str,
        *,
        canister_id: str | None = None,
        cycles: int | None = None,
        image: Path | str | None = None,
    ) -> None:
        """Make an empty canister.

        Raises:
            SettingsError: There is one of the name, or the id is none.
            ImageError: The image cannot be used.
        """
        if name in self._languages:
            raise SettingsError(f"there is a canister {name} already; choose another name")
        self.replica.create(
            name,
            canister_id=canister_id,
            cycles=START_CYCLES if cycles is None else cycles,
            image=image,
        )
        self._languages[name] = CanisterLanguage()
        self._first = self._first or name

    def language(self, name: str) -> CanisterLanguage:
        """Return how a canister is spoken to.

        Raises:
            SettingsError: There is none of the name.
            MessageError: It is closed.
        """
        self._check_open()
        found = self._languages.get(name)
        if found is None:
            known = ", ".join(self._languages) or "none"
            raise SettingsError(f"there is no canister {name!r}; there are: {known}")
        return found

    def principal(self, name: str) -> str:
        """Return the principal of a canister as text."""
        self.language(name)
        return principal_text(self.replica.canister(name).id)

    def figures(self, name: str) -> CanisterFigures:
        """Return what the system says of a canister."""
        self.language(name)
        return figures_of(self.replica.canister(name))

    def source(self, name: str) -> ModuleSource | None:
        """Return the module that a canister has."""
        return self._sources.get(name)

    def continues_image(self, name: str) -> bool:
        """Return whether a canister without code has an image that holds something already."""
        canister = self.replica.canister(name)
        image = canister.image
        if canister.module is not None or image is None:
            return False
        return image.exists() and image.stat().st_size > 0

    # -- messages -------------------------------------------------------------------------------

    def install(
        self,
        name: str,
        source: ModuleSource,
        argument: Any = None,  # noqa: ANN401  any JSON
        *,
        mode: InstallMode = "install",
        caller: str | bytes | None = None,
        label: str | None = None,
        skip_pre_upgrade: bool = False,
        keep_heap: bool | None = None,
    ) -> ModuleReply:
        """Install, reinstall or upgrade code.

        On an image that holds something already, installing goes on with that: it is an upgrade.

        Returns:
            A reply; or a reject, where the module is refused, or traps.

        Raises:
            CandidError: The argument is not what init takes.
            ImageError: The image cannot be used.
        """
        language = self.language(name)
        if source.interface is None:
            source = asked_source(source, partial(self._program_of, name=name))
        new = CanisterLanguage(source.interface)
        if mode == "install" and self.continues_image(name):
            mode = "upgrade"
        data = new.init_argument(argument, is_needed=mode != "upgrade")
        old, language.interface = language.interface, source.interface
        before, self._sources[name] = self._sources.get(name), source
        reply = None
        try:
            result = self.replica.install(
                name,
                source.data,
                data,
                mode=mode,
                caller=caller_of(caller),
                label=label,
                skip_pre_upgrade=skip_pre_upgrade,
                keep_heap="auto" if keep_heap is None else keep_heap,
            )
            reply = self._reply(mode, name, result)
        finally:
            if reply is None or reply.answer != "reply":
                # It has the code that it had, and speaks as that does.
                language.interface = old
                if before is None:
                    del self._sources[name]
                else:
                    self._sources[name] = before
        return reply

    def call(
        self,
        name: str,
        method: str,
        argument: Any = None,  # noqa: ANN401  any JSON
        *,
        is_query: bool | None,
        caller: str | bytes | None = None,
        label: str | None = None,
    ) -> ModuleReply:
        """Call a method.

        Args:
            name: Of the canister.
            method: Its method.
            argument: As of `CanisterLanguage.argument`.
            is_query: Whether as a query; None for as what it is.
            caller: As of `caller_of`.
            label: What reports call the message.

        Raises:
            CandidError: The argument is not what the method takes.
        """
        data = self.language(name).argument(method, argument)
        if is_query is None:
            is_query = self.has_query(name, method)
        call = self.replica.query if is_query else self.replica.update
        result = call(name, method, data, caller=caller_of(caller), label=label)
        return self._reply(method, name, result)

    def send(
        self,
        name: str,
        method: str,
        argument: Any = None,  # noqa: ANN401  any JSON
        *,
        caller: str | bytes | None = None,
        label: str | None = None,
    ) -> FromOutside:
        """Let an update wait until something lets messages run; returns what `answer_to` takes."""
        data = self.language(name).argument(method, argument)
        return self.replica.submit(name, method, data, caller=caller_of(caller), label=label)

    def answer_to(self, name: str, method: str, ticket: FromOutside) -> ModuleReply:
        """Return what has become of an update that was sent, without the messages that it took."""
        return self._reply(method, name, self.replica.result(ticket))

    def has_query(self, name: str, method: str) -> bool:
        """Return whether a method is a query or composite query, by what the module exports."""
        exports = self.replica.canister(name).exports
        return bool(exports & {f"canister_query {method}", f"canister_composite_query {method}"})

    def advance(self, seconds: float) -> ModuleReply:
        """Let time pass, and timers run that are due."""
        self._check_open()
        return self._system("advance", self.replica.advance(seconds))

    def timer(self, name: str) -> ModuleReply:
        """Let time pass until the timer of a canister is due, and run it.

        Raises:
            SettingsError: Its timer is not set.
        """
        self.language(name)
        due_ns = self.replica.canister(name).timer_ns
        if not due_ns:
            raise SettingsError(f"the timer of {name} is not set, so there is nothing to wait for")
        left_ns = max(due_ns - self.replica.time_ns, 0)
        return self._system("timer", self.replica.advance(left_ns / SECOND_NS))

    def heartbeat(self, name: str | None = None) -> ModuleReply:
        """Run the heartbeat of a canister, or of all."""
        self._check_open()
        return self._system("heartbeat", self.replica.heartbeat(name))

    def life(self, word: str, name: str) -> ModuleReply:
        """Stop, start or uninstall a canister."""
        self.language(name)
        change: Callable[[str], CallResult] = getattr(self.replica, word)
        return self._reply(word, name, change(name))

    # -- observed -------------------------------------------------------------------------------

    def trace(self, name: str | None = None) -> Trace | None:
        """Return what the trace of a canister holds so far, or None where none is kept."""
        observation = self._observation.canisters.get(name or self._first or "")
        return None if observation is None else observation.trace()

    @property
    def traced(self) -> tuple[str, ...]:
        """Names of the canisters that have run messages, in the order of their first ones."""
        return tuple(self._observation.canisters)

    def profile(self) -> Profile | None:
        """Return what functions did so far; None where nobody counted."""
        return None if self._profile is None else self._profile.profile()

    def close(self) -> None:
        """Finish the traces, and give everything back.

        Raises:
            ImageError: An image file could not be left whole; it keeps its log.
        """
        self.is_closed = True
        try:
            self._observation.close()
        finally:
            self.replica.close()

    # -- inside ---------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self.is_closed:
            raise MessageError("the module is closed; make a new one")

    def _observe(self, name: str) -> ModuleObservation:
        writer = None
        if self._trace is not None:
            path = trace_path(self._trace, name, is_first=name == self._first)
            writer = open_writer(path, {}, overwrite=self._overwrite)
        source = self._sources.get(name)
        return ModuleObservation(
            name,
            writer,
            words=self.language(name).words(),
            owners=self._has_owners,
            module_name="" if source is None else source.name,
            prices=self._prices,
        )

    def _reply(self, method: str, name: str, result: CallResult) -> ModuleReply:
        return ModuleReply(method, result, self._ended(result.executed), self.language(name))

    def _system(self, what: str, executed: tuple[Executed, ...]) -> ModuleReply:
        """Return what messages came to that nobody outside has asked for."""
        return ModuleReply(
            what, CallResult(None, executed), self._ended(executed), CanisterLanguage()
        )

    def _ended(self, executed: tuple[Executed, ...]) -> list[EndedMessage]:
        """Return the messages that have ended, in order over all canisters."""
        taken = {
            name: iter(observation.take_ended())
            for name, observation in self._observation.canisters.items()
        }
        found = (next(taken[it.canister], None) for it in executed if it.canister in taken)
        return [it for it in found if it is not None]


def _program(
    wasm: bytes,
    name: str,
    reach_bytes: int,
    *,
    regime: PriceRegime,
    watches_heap: bool,
    has_profile: bool,
    os_page_bytes: int,
) -> Program:
    return make_program(
        wasm,
        name=name,
        regime=regime,
        watches_heap=watches_heap,
        has_profile=has_profile,
        os_page_bytes=os_page_bytes,
        reach_bytes=reach_bytes,
    )
