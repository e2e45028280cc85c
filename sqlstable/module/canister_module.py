"""The front door of any canister's module: install it, call it, and see what each call took."""

import warnings
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Self

from sqlstable.candid.interface import Interface
from sqlstable.errors import MessageError, ModuleError
from sqlstable.ic.canister_figures import CanisterFigures
from sqlstable.ic.limits import Limits
from sqlstable.ic.prices import PriceRegime
from sqlstable.ic.units import OS_PAGE_BYTES, SECOND_NS
from sqlstable.module.callers import given_text
from sqlstable.module.module_reply import ModuleReply
from sqlstable.module.module_source import ModuleSource, canister_name, read_module_source
from sqlstable.module.module_world import ModuleWorld
from sqlstable.module.profile import Profile
from sqlstable.replica.replica import START_TIME_NS
from sqlstable.trace.footprint import Footprint
from sqlstable.trace.format.file import Trace
from sqlstable.trace.markup import html_table

ModuleGiven = Path | str | bytes
"""A module: its ``.wasm`` or ``.wasm.gz`` file, or what is in one."""

CallerGiven = str | bytes | None
"""A principal, a name that stands for one, or None for the anonymous one."""

_MICROSECOND_NS = 1_000

HEAP_NOT_KEPT = (
    "an image keeps stable memory alone; this module keeps its data in the heap over upgrades "
    "(enhanced orthogonal persistence), so a later run on the image begins without it"
)


class ModuleDoor:
    """One canister of a world, to be called."""

    def __init__(self, world: ModuleWorld, name: str, caller: CallerGiven) -> None:
        self._world = world
        self._caller = caller
        self.name = name
        "What it is called here."
        self.last: ModuleReply | None = None
        "What the last message came to, whatever that was; None before the first."

    # -- messages -------------------------------------------------------------------------------

    def update(
        self,
        method: str,
        argument: Any = None,  # noqa: ANN401  any JSON
        *,
        caller: CallerGiven = None,
        label: str | None = None,
    ) -> ModuleReply:
        """Call a method as an update, and let everything run that it sets going.

        Args:
            method: Its name.
            argument: Candid text as dfx takes it, ``'("ana", 5)'``; or Python values, a tuple with
                one for each argument, ``("ana", 5)``, or the only one; or bytes.
            caller: Who calls; by default whom the module was made with.
            label: What reports call the message.

        Returns:
            A reply, a reject, or no answer yet: ``.answer`` says which.

        Raises:
            CandidError: The argument is not what the method takes.
            Trap: The call trapped; ``last`` has what it took nevertheless.
        """
        return self._call(method, argument, is_query=False, caller=caller, label=label)

    def query(
        self,
        method: str,
        argument: Any = None,  # noqa: ANN401  any JSON
        *,
        caller: CallerGiven = None,
        label: str | None = None,
    ) -> ModuleReply:
        """Call a query or composite query; nothing of it is kept. Else as `update`."""
        return self._call(method, argument, is_query=True, caller=caller, label=label)

    def upgrade(
        self,
        module: ModuleGiven | None = None,
        argument: Any = None,  # noqa: ANN401  any JSON
        *,
        did: Path | str | Interface | None = None,
        skip_pre_upgrade: bool = False,
        keep_heap: bool | None = None,
        label: str | None = None,
    ) -> ModuleReply:
        """Upgrade to a module, or to the same one: the heap goes, stable memory stays.

        Args:
            module: The new one.
            argument: For its post_upgrade.
            did: Its interface, if it does not say that itself.
            skip_pre_upgrade: Whether the old code is not asked to save anything.
            keep_heap: Whether the heap stays; by default as its compiler has it.
            label: What reports call the message.

        Raises:
            ModuleError: The module is damaged, or refused as the Internet Computer refuses it.
            Trap: The upgrade failed, and everything is as before.
        """
        source = self._source(module, did)
        return self._installed(
            self._world.install(
                self.name,
                source,
                argument,
                mode="upgrade",
                caller=self._caller,
                label=label,
                skip_pre_upgrade=skip_pre_upgrade,
                keep_heap=keep_heap,
            )
        )

    def reinstall(
        self,
        module: ModuleGiven | None = None,
        argument: Any = None,  # noqa: ANN401  any JSON
        *,
        did: Path | str | Interface | None = None,
        label: str | None = None,
    ) -> ModuleReply:
        """Install a module, or the same one, on an empty stable memory.

        Raises:
            ModuleError: The module is damaged, or refused as the Internet Computer refuses it.
            Trap: It failed, and everything is as before.
        """
        source = self._source(module, did)
        return self._installed(
            self._world.install(
                self.name, source, argument, mode="reinstall", caller=self._caller, label=label
            )
        )

    def heartbeat(self) -> ModuleReply:
        """Run the canister's heartbeat."""
        return self._done(self._world.heartbeat(self.name))

    def timer(self) -> ModuleReply:
        """Let time pass until the canister's timer is due, and run it.

        Raises:
            SettingsError: It is not set.
        """
        return self._done(self._world.timer(self.name))

    # -- looking --------------------------------------------------------------------------------

    @property
    def principal(self) -> str:
        """Its principal, as text."""
        return self._world.principal(self.name)

    @property
    def interface(self) -> Interface | None:
        """What it takes and answers; None where nobody says."""
        return self._world.language(self.name).interface

    @property
    def reply(self) -> Any:  # noqa: ANN401  any JSON
        """What the last call replied, as Python has it; see `ModuleReply.value`.

        Raises:
            MessageError: It was rejected, or there was none.
        """
        return self._latest().value

    @property
    def footprint(self) -> Footprint:
        """What the last message touched in stable memory, with the callbacks that it took.

        Raises:
            MessageError: There was none.
        """
        return self._latest().footprint

    def status(self) -> CanisterFigures:
        """Return what the system says of it; printed, the lines of ``dfx canister status``.

        Storage is taken from no balance here, so the balance is what it was given, less what calls
        took; the days left are by today's prices on a subnet of 13 nodes.
        """
        return self._world.figures(self.name)

    def trace(self) -> Trace:
        """Return what the trace holds so far; to be closed by itself, and readable after `close`.

        Raises:
            MessageError: None is kept, or nothing has run.
        """
        found = self._world.trace(self.name)
        if found is None:
            raise MessageError(
                'there is no trace; make the module with trace=":memory:", or with a path'
            )
        return found

    def __repr__(self) -> str:
        said = "closed" if self._world.is_closed else self.principal
        return f"{type(self).__name__}({self.name}, {said})"

    def _repr_html_(self) -> str:
        """Show in a notebook what it is, and what can be called."""
        if self._world.is_closed:
            return html_table(f"canister {self.name}", (), [("it is", "closed")])
        interface = self.interface
        methods = [] if interface is None else map(str, interface.methods.values())
        rows = [("principal", self.principal), *(("method", it) for it in methods)]
        return html_table(f"canister {self.name}", (), rows)

    # -- inside ---------------------------------------------------------------------------------

    def _call(
        self,
        method: str,
        argument: Any,  # noqa: ANN401  any JSON
        *,
        is_query: bool,
        caller: CallerGiven,
        label: str | None,
    ) -> ModuleReply:
        return self._done(
            self._world.call(
                self.name,
                given_text("a method", method),
                argument,
                is_query=is_query,
                caller=self._caller if caller is None else caller,
                label=None if label is None else given_text("a label", label),
            )
        )

    def _done(self, reply: ModuleReply) -> ModuleReply:
        self.last = reply
        trap = reply.trap
        if trap is not None:
            raise trap
        return reply

    def _installed(self, reply: ModuleReply) -> ModuleReply:
        self._done(reply)
        if reply.answer != "reply":
            raise ModuleError(reply.fate)
        return reply

    def _latest(self) -> ModuleReply:
        if self.last is None:
            raise MessageError("nothing has been called yet")
        return self.last

    def _source(
        self, module: ModuleGiven | None, did: Path | str | Interface | None
    ) -> ModuleSource:
        if module is not None:
            return read_module_source(module, did)
        found = self._world.source(self.name)
        if found is None:
            raise MessageError(f"canister {self.name} has no module; name one")
        return found


class CanisterModule(ModuleDoor):
    """A canister's module, run as the Internet Computer runs it, and counted as it counts.

    Args:
        module: Its ``.wasm`` or ``.wasm.gz`` file as it is deployed, or what is in one;
            ``@counter.wasm`` is one that comes with the package.
        argument: For its init: Candid text, Python values or bytes.
        name: What the canister is called; by default after the file.
        did: Its interface: a ``.did`` file, its text or an `Interface`; by default what the module
            says of itself, or a ``.did`` file beside it.
        canisters: Further modules beside it, by name, which it may call; they are installed
            before it. One whose init takes something is given with it: ``(module, argument)``.
        image: A file that keeps its stable memory. One that holds something already is gone on
            with: the module is not installed, but upgraded to.
        trace: Path of a trace file to write, or ``":memory:"`` for one that `trace` gives back.
        overwrite_trace: Whether an existing trace file may be replaced.
        owners: Whether it is found out whose the OS pages are; by default where a trace is written.
        limits: Limits to enforce: a date, ``"latest"``, a `Limits`, or None for none.
        prices: The price list that instructions are counted by: a name, a date, or a
            `sqlstable.ic.prices.PriceRegime`; by default that of the limits' date.
        assume: What the list assumes otherwise than by default, by names of
            `sqlstable.ic.assumptions.ASSUMPTIONS`.
        track_heap: Whether to watch what is touched in the heap, and to charge it; by default as
            the prices do.
        caller: Who calls unless a call says otherwise: a principal, or a name for one.
        canister_id: Its principal; by default the next one that a local network gives.
        cycles: Its balance.
        time: When it is; the time stands still unless `advance` lets it go on. Without a time zone
            it is UTC.
        seed: Of the randomness that ``raw_rand`` gives.
        profile: Whether it is counted function by function, for `profile`; it takes longer.
        os_page_bytes: Size of the OS pages that are charged: 4096, or 16 384 as for figures that
            come from a computer of Apple.

    Raises:
        ModuleError: The module is damaged, or refused as the Internet Computer refuses it.
        CandidError: The argument is not what init takes.
        Trap: It trapped when it was installed.

    Examples:
        >>> with CanisterModule("@counter.wasm", "(10)") as counter:
        ...     reply = counter.update("add", (5,))
        ...     print(reply.text, reply.footprint.os_pages_dirty, reply.instructions < 400_000)
        ...     counter.upgrade().answer
        ...     counter.query("get").value
        (15 : nat64) 2 True
        'reply'
        15
    """

    def __init__(  # noqa: PLR0913  each is a keyword
        self,
        module: ModuleGiven,
        argument: Any = None,  # noqa: ANN401  any JSON
        *,
        name: str | None = None,
        did: Path | str | Interface | None = None,
        canisters: Mapping[str, ModuleGiven | tuple[ModuleGiven, Any]] | None = None,
        image: Path | str | None = None,
        trace: Path | str | None = None,
        overwrite_trace: bool = False,
        owners: bool | None = None,
        limits: Limits | date | str | None = "latest",
        prices: PriceRegime | date | str | None = None,
        assume: Mapping[str, str] | None = None,
        track_heap: bool | None = None,
        caller: CallerGiven = None,
        canister_id: str | None = None,
        cycles: int | None = None,
        time: datetime | None = None,
        seed: int = 0,
        profile: bool = False,
        os_page_bytes: int = OS_PAGE_BYTES,
    ) -> None:
        source = read_module_source(module, did)
        others = {
            key: (read_module_source(given), its_argument)
            for key, it in (canisters or {}).items()
            for given, its_argument in [it if isinstance(it, tuple) else (it, None)]
        }
        world = ModuleWorld(
            limits=limits,
            prices=prices,
            assume=assume,
            track_heap=track_heap,
            time_ns=time_in_ns(time),
            seed=seed,
            trace=trace,
            overwrite_trace=overwrite_trace,
            owners=owners,
            has_profile=profile,
            os_page_bytes=os_page_bytes,
        )
        is_bytes = isinstance(module, bytes | bytearray)
        called = name or ("module" if is_bytes else canister_name(str(module)))
        super().__init__(world, called, caller)
        try:
            world.be_first(called)
            for key, (other, its_argument) in others.items():
                world.create(key)
                self._installed(world.install(key, other, its_argument))
            world.create(called, canister_id=canister_id, cycles=cycles, image=image)
            self._installed(world.install(called, source, argument, caller=caller))
            if image is not None and world.replica.canister(called).keeps_heap:
                warnings.warn(HEAP_NOT_KEPT, RuntimeWarning, stacklevel=2)
        except BaseException:
            world.close()
            raise

    def canister(self, name: str, *, caller: CallerGiven = None) -> ModuleDoor:
        """Return another canister beside it, to be called.

        Raises:
            SettingsError: There is none of the name.
        """
        self._world.language(name)
        return ModuleDoor(self._world, name, self._caller if caller is None else caller)

    def advance(self, seconds: float) -> ModuleReply:
        """Let time pass: timers run that are due, and bounded waits end."""
        return self._done(self._world.advance(seconds))

    def profile(self) -> Profile:
        """Return which functions used the instructions so far, and touched memory first.

        Raises:
            MessageError: Nobody counted.

        Examples:
            >>> with CanisterModule("@counter.wasm", "(10)", profile=True) as counter:
            ...     reply = counter.update("add", (5,))
            ...     profile = counter.profile()
            >>> profile.functions()[0].calls
            2
        """
        found = self._world.profile()
        if found is None:
            raise MessageError("functions were not counted; make the module with profile=True")
        return found

    def close(self) -> None:
        """Finish the trace and give all memory back; closing twice does no harm.

        Raises:
            ImageError: The image file could not be left whole; it keeps its log.
        """
        self._world.close()

    def __enter__(self) -> Self:
        """Use it in a ``with`` block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def time_in_ns(time: datetime | None) -> int:
    """Return a time in nanoseconds since 1970.

    Examples:
        >>> time_in_ns(datetime(1970, 1, 1, 0, 0, 1)), time_in_ns(None) == START_TIME_NS
        (1000000000, True)
    """
    if time is None:
        return START_TIME_NS
    if not isinstance(time, datetime):
        raise TypeError(f"a time is a datetime, not {time!r}, a {type(time).__name__}")
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    passed = time - datetime(1970, 1, 1, tzinfo=UTC)
    return (
        passed.days * 86_400 + passed.seconds
    ) * SECOND_NS + passed.microseconds * _MICROSECOND_NS
