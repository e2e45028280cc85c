"""Both machines: messages run on the native one, and all or some of them on the measured one, too.

What the native machine says of a message is what the canister answers and a trace holds; where the
message ran on the measured one as well, that says what it cost. Nothing of the measured machine is
ever a reason for a message to fail.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Final

from sqlstable.canister.asked import AskedStatements
from sqlstable.canister.choices import Choices
from sqlstable.canister.heap_door import HeapDoor
from sqlstable.canister.machine import Call, Ended, Look, Opening
from sqlstable.canister.measured_machine import open_wasm_memory
from sqlstable.canister.native_machine import NativeMachine
from sqlstable.canister.sampling import Measure, Sampling
from sqlstable.canister.shadow import Ran, Shadow
from sqlstable.database.checking import Setup
from sqlstable.database.vfs import StableVFS
from sqlstable.engine.native.native_engine import NativeEngine
from sqlstable.engine.state import NOTHING_SET, settings_of
from sqlstable.errors import SqlstableError, Trap
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.ic.words import CacheState, PartName, RunEngineName
from sqlstable.memory.stable import StableMemory
from sqlstable.trace.model import Sample, SampleGroup
from sqlstable.trace.recording.raw import NOTHING, ROWS, RawMessage, statement_of
from sqlstable.trace.shape import shape_of

_HOOKED_PARTS: Final = frozenset({"pre_upgrade", "start"})
"""Parts that native steps have only where there are hooks."""

_COMPARED: Final = frozenset({"database", "file directory"})
"""Kinds of files of which both machines have to have the same bytes."""

_BEHIND_FREE: Final = 16
"""How often the measured machine may fall behind, and once more for each so many messages."""
_BEHIND_EVERY: Final = 1_000

_HELD: Final = (
    "the connection has TEMP or attached databases, which the measured engine lost when it could "
    "not follow a message before; an upgrade ends that"
)


_BEGAN_ANEW: Final = (
    "its heap began anew before message {}, because the messages before could not be followed; "
    "an upgrade ends that"
)


class BothMachine:
    """SQLite in this process, and in a Wasm module beside it.

    Args:
        memory: The native machine's stable memory.
        choices: What was chosen for the canister.

    Raises:
        SettingsError: wasmtime is missing, or there is no such build.
    """

    name: RunEngineName = "both"
    cache: CacheState = "warm"
    own_parts: frozenset[PartName] = frozenset()
    heap_door: HeapDoor | None = None

    def __init__(self, memory: StableMemory, choices: Choices) -> None:
        self._native = NativeMachine(memory, depth=choices.depth, prices=choices.regime)
        self.memory, self.depth = memory, self._native.depth
        of_shadow = replace(choices, path=None, memory=None, durability=None, read_only=False)
        self._shadow = Shadow(
            lambda: open_wasm_memory(of_shadow), depth=choices.depth, enforces=choices.enforce
        )
        self.described: dict[str, object] = {
            **self._shadow.described,
            **self._native.described,
            "engine": self.name,
            "measure": choices.measure,
        }
        self._sampling = Sampling(Measure.parsed(choices.measure), choices.settings.seed)
        self._has_hooks = choices.hooks is not None
        self._engine: NativeEngine | None = None
        self._asked: AskedStatements | None = None
        self._opening: Opening
        self._is_beside = False
        "Whether the measured machine has what the native one has."
        self._message_count = self._behind_count = 0
        self._blocked = ""
        "Why it does not follow any more; empty: it does."
        self._apart = ""
        "Why it cannot begin anew in the open message; empty: it can."
        self._began_anew: int | None = None
        """The message before which the measured machine's heap began anew; None: it has what a
        canister's heap has, or nothing was followed yet."""
        self._is_open = False
        "Whether an SQL transaction has been left open."
        self._window = ""
        "What the open message does on the connection itself."

    @property
    def view(self) -> StableVFS | None:
        """What the observer looks through, up to date."""
        return self._native.view

    def start(self, opening: Opening) -> AskedStatements:
        """Open the native connection of the updates; see `Machine.start`."""
        self._opening = opening
        self._engine = self._native.start(opening)
        self._asked = AskedStatements(self._engine)
        return self._asked

    def stop(self, *, is_whole: bool = True) -> None:
        """Close the native connections; see `Machine.stop`."""
        self._native.stop(is_whole=is_whole)
        if not is_whole:
            self._is_beside = False

    def close(self) -> None:
        """Give the measured machine back; the native one has nothing of its own."""
        self._shadow.close()

    def begin(self, call: Call) -> None:
        """Begin on the native machine; the measured one follows when the message has ended."""
        if self.memory.kind is None:
            self._window = ""
            if call.kind == "reinstall":
                self._blocked, self._behind_count = "", 0
            if not (self._is_beside or self._blocked):
                self._come_beside(call)
            if self._asked is not None:
                self._asked.start_over()
        self._native.begin(call)

    def end(self, call: Call, look: Look | None) -> Ended:
        """End on the native machine, then on the measured one."""
        # Where the message ends, these go.
        dirty = tuple(self.memory.store.bytemap.dirty) if call.kind == "update" else ()
        asked = self._asked
        is_open = call.kind == "update" and asked is not None and asked.unfinished() is not None
        ended = self._native.end(call, look)
        self._message_count += 1
        if call.cache is None:
            return ended if ended.trap is not None else self._after_step(call, ended)
        return self._after_message(call, ended, dirty, is_open=is_open)

    def outside(self, name: str, /) -> AbstractContextManager[None]:
        """Bill the accesses of a block to nobody's statement, under ``name``."""
        self._window = name
        return self._native.outside(name)

    def on_connect(self, setup: Setup) -> None:
        """Run ``setup`` on every native connection; the measured engine calls no Python."""
        self._native.on_connect(setup)

    # -- the measured machine -------------------------------------------------------------------

    def _come_beside(self, call: Call) -> None:
        """Let the measured machine have what the native one has, before a message begins."""
        self._apart = ""
        # A step makes a heap of its own, whatever the one before it had.
        if call.cache is not None and self._engine is not None:
            self._apart = _HELD if self._engine.heap.state.has_names else ""
        if self._apart:
            return
        self._began_anew = call.index if call.cache is not None else None
        self._behind_count += 1
        if self._behind_count > _BEHIND_FREE + self._message_count // _BEHIND_EVERY:
            self._blocked = "the measured engine could not follow the messages before"
            return
        try:
            self._shadow.copy(self.memory)
            if call.kind != "install":
                state = NOTHING_SET if self._engine is None else self._engine.heap.state
                self._shadow.live(self._opening, settings_of(state))
        except SqlstableError as error:
            self._blocked = str(error)
        else:
            self._is_beside = True

    def _after_step(self, call: Call, ended: Ended) -> Ended:
        group = SampleGroup(call.kind, None, ended.facts.outcome, "", 0, 0, self._blocked)
        if self._blocked:
            return _told(ended, group)
        try:
            ran = self._stepped(call, ended)
        except SqlstableError as error:
            reason = str(error)
        else:
            if isinstance(ran, Ended):
                self._began_anew = None
                return _merged(ended, Ran(ran, None), group)
            reason = ran
        self._is_beside = False
        return _told(ended, group._replace(reason=reason))

    def _stepped(self, call: Call, ended: Ended) -> Ended | str:
        """Take a step on the measured machine; returns what it was, or why it was not taken."""
        shadow = self._shadow
        parts = {part.name for part in ended.facts.parts}
        is_hooked = self._has_hooks or not parts.isdisjoint(_HOOKED_PARTS)
        if is_hooked or (call.kind == "upgrade" and ended.facts.os_pages_dirty):
            return "hooks of Python are not in a Wasm module"
        match call.kind:
            case "install":
                if shadow.is_living:
                    # A database came in, which is no canister's work; opening it is.
                    shadow.copy(self.memory)
                return shadow.install(self._opening)
            case "upgrade":
                return shadow.upgrade()
            case "reinstall":
                return shadow.reinstall()
            case "uninstall":
                return shadow.uninstall()
            case _:
                return "a snapshot is loaded with the heap of its own engine"

    def _after_message(
        self, call: Call, ended: Ended, dirty: Sequence[int], *, is_open: bool
    ) -> Ended:
        asked, engine = self._asked, self._engine
        assert asked is not None
        assert engine is not None
        facts, is_update = ended.facts, call.kind == "update"
        reason = self._blocked or self._apart or asked.refusal
        if not reason and self._window not in ("", "open"):
            reason = f"it works on the connection itself ({self._window})"
        shape, work, is_plain = _described(ended.raw)
        group = SampleGroup(facts.kind, facts.cache, facts.outcome, shape, work, 0, reason)
        if reason:
            if is_update and not self._blocked:
                self._is_beside = False
            return _told(ended, group)
        was_open, self._is_open = self._is_open, is_open
        is_plain = is_plain and facts.trap is None and not (is_open or was_open)
        is_plain = is_plain and not asked.failure_count
        choice = self._sampling.choose(group, always=not is_plain)
        number = engine.message_number
        if choice.is_measured:
            return self._measured(call, ended, dirty, choice.group)
        if is_update:
            try:
                self._shadow.repeat(asked, number)
            except Trap:
                # It is told by the messages behind it, which find a heap of their own.
                self._is_beside = False
        return _told(ended, choice.group)

    def _measured(
        self, call: Call, ended: Ended, dirty: Sequence[int], group: SampleGroup
    ) -> Ended:
        """Run a message on the measured machine, too."""
        asked, engine, trap = self._asked, self._engine, ended.facts.trap
        assert asked is not None
        assert engine is not None
        try:
            ran = self._shadow.message(call, asked, trap, engine.message_number)
        except Trap as error:
            # Of one that was lived through before it.
            self._is_beside = False
            return _told(ended, group._replace(reason=str(error)))
        if not ran.has_same_work:
            self._is_beside = self._is_beside and call.kind == "query"
            return _told(ended, group._replace(reason=str(ran.error)))
        costs = ran.ended.raw.costs
        spent = None if costs is None else costs().instructions
        if spent is not None:
            self._sampling.note(group, spent.total)
        if call.kind == "update":
            if ran.error is not None:
                self._is_beside = False
            elif trap is None and not self._has_same(dirty):
                self._is_beside = False
                ran = ran._replace(error="it wrote other bytes than on the native engine")
        if call.cache != "fresh" and ran.error is None and self._began_anew is not None:
            ran = ran._replace(error=_BEGAN_ANEW.format(self._began_anew))
        return _merged(ended, ran, group)

    def _has_same(self, os_pages: Sequence[int]) -> bool:
        view = self._native.view
        assert view is not None
        start = view.store.placement.map.address(0) if view.store.size_bytes else 0
        if self._shadow.has_same(self.memory, os_pages, start):
            return True
        # A finished journal leaves bytes that nobody reads again, checksums from a random number
        # (https://sqlite.org/fileformat.html, section 3) among them.
        bucket_bytes = view.store.placement.map.bucket_bytes
        left = {
            address
            for file in view.stable_files()
            if file.kind not in _COMPARED
            for address in file.bucket_addresses
        }
        kept = [
            it
            for it in os_pages
            if not any(0 <= it * OS_PAGE_BYTES - begin < bucket_bytes for begin in left)
        ]
        return self._shadow.has_same(self.memory, kept, start)


def _described(raw: RawMessage) -> tuple[str, int, bool]:
    """Return what a message has in common with others.

    Returns:
        The shapes of its statements, how much they did within a power of two, and whether they
        leave schema and connection as they are.
    """
    shapes, vm_steps, rows, effect = [], 0, 0, NOTHING
    for entry in raw.statements:
        item = statement_of(entry)
        text = item.text
        shapes.append(text.shape or shape_of(text.sql))
        vm_steps += item.vm_steps or 0
        rows += item.row_count
        effect = max(effect, text.effect)
    work = vm_steps.bit_length() + _ROWS_FACTOR * rows.bit_length()
    return "\n".join(shapes), work, effect <= ROWS


_ROWS_FACTOR: Final = 256
"""See `SampleGroup.work`."""


def _told(ended: Ended, group: SampleGroup) -> Ended:
    return ended._replace(facts=ended.facts._replace(sample=Sample(group)))


def _merged(ended: Ended, ran: Ran, group: SampleGroup) -> Ended:
    """Return a message of the native machine with what it cost on the measured one."""
    there = ran.ended
    facts, raw = there.facts, there.raw
    statements = [statement_of(entry) for entry in ended.raw.statements]
    for at, other in enumerate(map(statement_of, raw.statements[: len(statements)])):
        statements[at] = statements[at]._replace(
            instructions=other.instructions,
            phase_instructions=other.phase_instructions,
            loops=other.loops,
            charged=other.charged,
        )
    parts = ended.facts.parts
    if [part.name for part in parts] == [part.name for part in facts.parts]:
        spent = [part.instructions for part in facts.parts]
        parts = tuple(
            replace(part, instructions=count) for part, count in zip(parts, spent, strict=True)
        )
    sample = Sample(group, facts.os_pages_accessed, facts.os_pages_dirty, ran.error)
    return ended._replace(
        facts=ended.facts._replace(sample=sample, parts=parts),
        raw=ended.raw._replace(statements=statements, costs=raw.costs),
    )
