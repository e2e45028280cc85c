"""Watching one canister of a foreign module: what each of its messages was, and what it touched.

A message becomes a message of a trace, as one of our own databases does. Where no SQL is seen, it
has one statement, its call, so that every view of a trace has a row for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from operator import call
from typing import TYPE_CHECKING, Final

from sqlstable.canister.ended import EndedMessage
from sqlstable.engine.measured.notes import MessageNotes, NotedLog
from sqlstable.errors import LimitTrap
from sqlstable.ic.assumptions import price_settings
from sqlstable.ic.prices import PriceRegime
from sqlstable.ic.principals import is_canister_id
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.ic.words import MODULE_ENGINE, WIPING_KINDS
from sqlstable.layout.filemap import FileMap
from sqlstable.memory.stable import StableMemory
from sqlstable.module.hooked_statements import hooked_statements
from sqlstable.module.module_owners import ModuleOwners
from sqlstable.module.told_calls import CallWords, ToldCall, hex_words
from sqlstable.trace.format.file import Trace, TraceWriter
from sqlstable.trace.model import Part, StableArea
from sqlstable.trace.recording.attribution import MessageFacts, owner_uses
from sqlstable.trace.recording.owner_numbers import AddressPlaces
from sqlstable.trace.recording.raw import (
    RawMessage,
    RawStatement,
)
from sqlstable.wasm import shim
from sqlstable.wasm.instance import statement_texts

if TYPE_CHECKING:
    from sqlstable.replica.executed import Executed
    from sqlstable.replica.housed import HousedCanister
    from sqlstable.wasm.program import Program

__all__ = ["CallWords", "ModuleObservation", "ReplicaObservation", "hex_words", "module_settings"]

_NOWHERE: Final = FileMap.of((), bucket_bytes=WASM_PAGE_BYTES)
"""No file is the main one: addresses say whose things are."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was taken of a message while memory still showed it."""

    raw: RawMessage
    told: ToldCall
    os_pages_accessed: int
    os_pages_dirty: int
    program: "Program"
    "That ran; an upgrade has another one behind it."


class ModuleObservation:
    """What is observed of one canister's messages; nothing of it is ever recorded itself.

    A `sqlstable.replica.executed.ExecutionWatcher` of one canister.

    Args:
        name: Of the canister.
        writer: Writes the trace file, or None.
        words: How calls and replies are written.
        owners: Whether it is found out whose OS pages are; by default where a trace is written.
        module_name: What its module is called, such as the name of its file.
        keeps: Whether messages that have ended are kept until they are taken.
        prices: What was asked for; by default what the module's program counts by.
    """

    def __init__(
        self,
        name: str,
        writer: TraceWriter | None = None,
        *,
        words: CallWords | None = None,
        owners: bool | None = None,
        module_name: str = "",
        keeps: bool = True,
        prices: PriceRegime | None = None,
    ) -> None:
        self.name = name
        self._prices = prices
        self.module_name = module_name
        self.message_count = 0
        self._statement_count = 0
        self._writer = writer
        self._words = words or CallWords()
        self._has_owners = writer is not None if owners is None else owners
        self._memory: StableMemory | None = None
        self._owners: ModuleOwners | None = None
        self._seen: _Seen | None = None
        self._indexes: dict[int, int] = {}
        "Index here of each message that made calls, by its number in the whole replica."
        self._keeps = keeps
        self._ended: list[EndedMessage] = []
        self._fault = ""
        self._areas_bytes = self._areas_message = -1
        self._module: bytes | None = None
        "The one that the settings describe."

    def before_end(
        self, canister: "HousedCanister", executed: "Executed", *, is_kept: bool
    ) -> None:
        """Look at a message that is about to end, while memory shows what it did."""
        memory = canister.memory
        if memory is None:
            return
        if memory is not self._memory:
            self._memory = memory
            self._owners = ModuleOwners(memory) if self._has_owners else None
        status, program = executed.status, canister.instance.program
        instance = canister.instance
        log = NotedLog(instance.noted(shim.LOG, status.log_count), _NOWHERE)
        notes = MessageNotes(
            calls=[],
            log=log,
            borders=instance.noted(shim.BORDERS, status.border_count),
            status=status,
            instruction_limit=executed.instructions + status.counter,
            regime=program.regime,
            watches_heap=program.watches_heap,
            counts_heap=program.counts_heap,
            has_extras=program.has_extras,
        )
        if self._owners is not None:
            self._owners.before_end(executed.kind, log.taken())
        told = ToldCall(executed, notes, self._words)
        statements: Sequence[RawStatement] = told
        if status.border_count and not program.has_borders:
            statements = hooked_statements(notes, statement_texts(instance)) or told
        raw = RawMessage(log.taken(), statements, (), told.costs)
        self._seen = _Seen(raw, told, status.accessed_count, status.dirty_count, program)

    def after_end(self, canister: "HousedCanister", executed: "Executed") -> None:
        """Take note of a message that has ended."""
        seen, self._seen = self._seen, None
        if seen is None or self._memory is None:
            return
        self._state_settings(canister, executed)
        facts = self._facts(executed, seen, self._memory)
        if executed.calls:
            self._indexes[executed.number] = facts.message
        self.message_count += 1
        self._statement_count += len(seen.raw.statements)
        ended = EndedMessage(facts, seen.raw)
        if self._keeps:
            self._ended.append(ended)
        places = None
        if self._owners is not None:
            self._owners.after_end(is_kept=executed.is_kept)
            places = self._owners.places()
        if self._writer is not None:
            self._write(self._writer, ended, places)
        elif places is not None:
            ended.owners = owner_uses(seen.raw, places)

    def take_ended(self) -> list[EndedMessage]:
        """Return the messages that have ended since the last time, in order."""
        found, self._ended = self._ended, []
        return found

    def trace(self) -> Trace | None:
        """Return what the trace holds so far; None where none is written."""
        if self._writer is None:
            return None
        self._write_areas(self._writer)
        return self._writer.trace()

    def close(self) -> None:
        """Finish the trace."""
        if self._writer is None:
            return
        try:
            if self._writer.is_open:
                self._write_areas(self._writer)
        finally:
            self._writer.close()

    # -- inside ---------------------------------------------------------------------------------

    def _facts(self, executed: "Executed", seen: _Seen, memory: StableMemory) -> MessageFacts:
        trap = executed.trap
        is_kept = executed.is_kept
        outcome = "trapped" if trap is not None else "committed" if is_kept else "discarded"
        return MessageFacts(
            message=self.message_count,
            kind=executed.kind,
            outcome=outcome,
            image_bytes=memory.wasm_pages * WASM_PAGE_BYTES,
            label=executed.label,
            trap=None if trap is None else str(trap),
            trap_limit=trap.limit or None if isinstance(trap, LimitTrap) else None,
            discarded_writes=outcome == "discarded" and seen.os_pages_dirty > 0,
            first_statement=self._statement_count,
            limits=memory.limits,
            prices=seen.program.regime,
            os_pages_accessed=seen.os_pages_accessed,
            os_pages_dirty=seen.os_pages_dirty,
            continues=(
                None if executed.continues is None else self._indexes.get(executed.continues)
            ),
            parts=tuple(
                Part(it.name, it.os_pages_accessed, it.os_pages_dirty, it.instructions)
                for it in executed.parts
            ),
            call=seen.told.call,
            is_called_by_canister=is_canister_id(executed.caller),
            has_wide_heap=seen.program.layout.is_64,
        )

    def _state_settings(self, canister: "HousedCanister", executed: "Executed") -> None:
        """Say which module it is; the last one counts, and one that never came to run if alone."""
        module = canister.module
        if executed.is_kept or module is None:
            # The replica has the new one only behind the step.
            module = executed.module or module
        if self._writer is None or module is None or module is self._module:
            return
        self._module = module
        settings = module_settings(canister, module, self.module_name, self._prices)
        self._writer.update_settings(settings)

    def _write(
        self, writer: TraceWriter, ended: EndedMessage, places: AddressPlaces | None
    ) -> None:
        attributed = ended.attribute(places)
        sources = attributed.statement_accesses
        owners = self._owners
        writer.write(
            attributed.message,
            attributed.statements,
            statement_accesses=dict(zip(sources, map(call, sources.values()), strict=True)),
            outside_accesses=[*map(call, attributed.outside_accesses)],
            address_runs=[] if owners is None else owners.take_news(),
            areas=self._changed_areas(ended.facts),
            owner_fault=self._changed_fault(),
            order=attributed.order,
        )

    def _changed_fault(self) -> str | None:
        fault = "" if self._owners is None else self._owners.fault
        if fault == self._fault:
            return None
        self._fault = fault
        return fault

    def _changed_areas(self, facts: MessageFacts) -> tuple[StableArea, ...]:
        """Return the areas where the message changed the size of stable memory, else none."""
        is_new = facts.kind in WIPING_KINDS or facts.image_bytes != self._areas_bytes
        if self._owners is None or not is_new:
            return ()
        self._areas_bytes, self._areas_message = facts.image_bytes, facts.message
        return self._owners.areas(facts.message)

    def _write_areas(self, writer: TraceWriter) -> None:
        """Say what stable memory consists of after the last message, unless the trace does."""
        last = self.message_count - 1
        is_between = self._memory is not None and self._memory.kind is None
        if self._owners is None or not is_between or last <= self._areas_message:
            return
        areas = self._owners.areas(last)
        if areas:
            self._areas_message = last
            writer.write_areas(areas)


def module_settings(
    canister: "HousedCanister",
    module: bytes,
    module_name: str,
    prices: PriceRegime | None,
) -> dict[str, object]:
    """Return the circumstances under which a canister's module is observed."""
    assert canister.memory is not None
    program, limits = canister.instance.program, canister.memory.limits
    return {
        "engine": MODULE_ENGINE,
        "canister": canister.name,
        "module": module_name or None,
        "module_sha256": sha256(module).hexdigest(),
        "module_bytes": len(module),
        "measured": True,
        **price_settings(prices or program.regime),
        "price_regime": program.regime.name,
        "heap_address_bits": 64 if program.layout.is_64 else 32,
        "track_heap": program.watches_heap,
        "os_page_bytes": program.os_page_bytes,
        "limits": None if limits is None else limits.date.isoformat(),
        **dict.fromkeys(
            ("sqlite", "layout", "bucket_pages", "page_size", "cache_size", "journal_mode")
        ),
    }


class ReplicaObservation:
    """Watches all canisters of a replica, each by a `ModuleObservation` with a trace of its own.

    Args:
        observe: Makes the observation of a canister of a name, when its first message ends.
    """

    def __init__(self, observe: Callable[[str], ModuleObservation]) -> None:
        self.canisters: dict[str, ModuleObservation] = {}
        self._observe = observe

    def before_end(
        self, canister: "HousedCanister", executed: "Executed", *, is_kept: bool
    ) -> None:
        """Look at a message that is about to end."""
        found = self.canisters.get(canister.name)
        if found is None:
            found = self.canisters[canister.name] = self._observe(canister.name)
        found.before_end(canister, executed, is_kept=is_kept)

    def after_end(self, canister: "HousedCanister", executed: "Executed") -> None:
        """Take note of a message that has ended."""
        found = self.canisters.get(canister.name)
        if found is not None:
            found.after_end(canister, executed)

    def close(self) -> None:
        """Finish all traces."""
        for observation in self.canisters.values():
            observation.close()
