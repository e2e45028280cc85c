"""The life of a canister: every message of it, the steps of the life cycle included.

A message begins, something is done, it ends, and the observation is given what it was. An update
executes statements in between, an upgrade lets the heap go and starts another one. `Life` does the
part that all have in common, and makes a canister whole again after one that was cut off.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final, NamedTuple
from weakref import WeakSet

from sqlstable.canister.ended import EndedMessage
from sqlstable.canister.hooks import Ground, Hook, HookMessage, Hooks
from sqlstable.canister.machine import Call, Machine, Opening
from sqlstable.canister.observation import Observation
from sqlstable.canister.snapshots import snapshots_beside
from sqlstable.canister.status import described
from sqlstable.canister.turns import Turn, Turns
from sqlstable.database.checking import Setup
from sqlstable.database.vfs import StableVFS
from sqlstable.engine.statements import Statements
from sqlstable.errors import MessageError, Trap
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.ic.words import PartName
from sqlstable.layout.layouts import layout_named
from sqlstable.sqlite.header import HEADER_BYTES, require_header

CLOSED: Final = "the canister is closed; make a new one"

EMPTY: Final = (
    "Attempted to execute a message, but the canister contains no Wasm module; install code with "
    "canister.reinstall()"
)
"""Source: dfinity/ic rs/execution_environment, HypervisorError::WasmModuleNotFound."""

STOPPED: Final = "Canister is stopped; start it with canister.start()"
"""Source: dfinity/ic rs/execution_environment/src/execution_environment.rs, CanisterStopped."""


class Before(NamedTuple):
    """What is to hold again where a step fails."""

    step: Call
    opening: Opening
    hooks: Hooks
    is_empty: bool
    message_number: int
    "How many messages the memory had begun."


class Life:
    """Every message of one canister.

    Args:
        machine: What they run on.
        observation: Is given each of them.
        opening: How the heap is to open the database.
        hooks: The code, as far as the life cycle goes.
        give_back: What is done with the machine's memory in the end; by default it is closed.
    """

    def __init__(
        self,
        machine: Machine,
        observation: Observation,
        opening: Opening,
        hooks: Hooks,
        *,
        give_back: Callable[[], None] | None = None,
    ) -> None:
        self.machine = machine
        self.memory = machine.memory
        self.observation = observation
        self.opening = opening
        self.hooks = hooks
        self.is_empty = False
        "Whether its code has been uninstalled."
        self.is_stopped = False
        self.is_heap_kept = False
        "Whether the upgrade that runs goes on with the heap."
        self.snapshots = snapshots_beside(self.memory)
        "None as long as nobody has asked for them, and there are none."
        self.turns = Turns()
        self.call: Call | None = None
        "The update or query that is open."
        self.is_closed = False
        self.last_step = -1
        "Index of the last message that was a step of the life cycle: the heap is since then."
        self.awaiting: WeakSet[object] = WeakSet()
        "Messages that await: they have committed something, and are to go on."
        self._statements: Statements | None = None
        # Not while a message runs, and not after one that was cut off from outside.
        self._is_whole = True
        self._before: Before | None = None
        "While a step runs."
        self._is_let_go = self._is_given_back = False
        self._give_back = give_back or self.memory.close

    # -- messages -------------------------------------------------------------------------------

    def begin(self, call: Call) -> Statements | None:
        """Begin a message whose turn it is; returns what executes its SQL, once there is a heap."""
        if self.memory.image_file is not None or self.memory.trap is not None:
            # Before anybody looks into the image: reading a map beyond its file kills the process.
            self.memory.check(call.kind)
        if self.is_closed or not self._is_whole:
            self.settle()
        if call.cache is not None and (self.is_stopped or self.is_empty):
            raise MessageError(EMPTY if self.is_empty else STOPPED)
        self._is_whole = False
        call.index = self.observation.message_count
        call.first_statement = self.observation.statement_count
        try:
            self.machine.begin(call)
        except BaseException as error:
            if call.cache is not None and self.memory.kind is not None:
                self.end(call, error)
            raise
        self.call = call
        return self._statements

    def end(self, call: Call, error: BaseException | None = None) -> Trap | None:
        """End a message, which traps by an error; returns the trap, if there was one."""
        if error is not None and self.memory.trap is None:
            self.memory.poison(_trap_of(error))
        look = None if call.cache is None else self.observation.look
        ended = self.machine.end(call, look)
        if call.cache is None and ended.trap is not None:
            # A step that failed is no message of the trace: the canister goes on without it.
            raise ended.trap
        call.ended = self.observation.note(ended)
        if not self.is_empty and ended.page_size != self.opening.settings.page_size:
            self._adopt()
            self.state_settings()
        self._is_whole = True
        return ended.trap

    def step(self, call: Call, body: Callable[[], None]) -> EndedMessage:
        """Run a step of the life cycle as one message; where it fails, nothing has happened.

        Args:
            call: The message, whose turn it is.
            body: Makes a heap for those that follow.
        """
        self.memory.check(call.kind)
        had_heap = self._statements is not None or self.is_empty
        number = self.memory.number
        self._before = Before(call, self.opening, self.hooks, self.is_empty, number)
        try:
            self.begin(call)
            # It is nobody's to end but its own.
            self.call = None
            body()
            self.end(call)
        except BaseException:
            # Without a heap before, it is the installation that fails, and the canister goes.
            if had_heap:
                # Where it cannot now, as in the middle of a commit to an image, the next use of
                # the canister tries again, and says why.
                with suppress(Exception):
                    self._recover()
            raise
        self._before = None
        assert call.ended is not None
        self.last_step = call.index
        return call.ended

    def part(self, name: PartName, *, opens: bool = False, before: Hook | None = None) -> None:
        """Run a part of the step that is open, with limits of its own on OS pages.

        Args:
            name: Of the part.
            opens: Whether it begins by starting a heap.
            before: What it does before its hook.
        """
        hooks = [hook for hook in (before, self.hooks.of(name)) if hook is not None]
        if not (hooks or opens or name in self.machine.own_parts):
            return
        assert self._before is not None
        call = self._before.step
        call.part = name
        self.machine.begin(call)
        if opens:
            self.open()
        for hook in hooks:
            self._run(hook, name)

    def _run(self, hook: Hook, name: PartName) -> None:
        ground = self._ground(name)
        message = HookMessage(name, self.memory, ground)
        try:
            hook(message)
            if message.has_written and ground.statements is not None:
                self._look_for_database()
        except Exception as error:
            # Its text is the Internet Computer's, or the hook's own.
            error.add_note(f"in {name}; nothing of the step remains")
            raise
        finally:
            message.end()
        if self.memory.trap is not None:
            # Whoever swallowed it, the message has trapped.
            raise self.memory.trap
        if name != "start":
            left = self.statements.unfinished()
            if left is not None:
                raise MessageError(
                    f"the hook {name} ended with {left}; what it began is lost with the heap, or "
                    "meets other messages: end it in the hook"
                )

    def _look_for_database(self) -> None:
        """Refuse what a hook left of a database, before that is committed.

        Raises:
            ImageError: There was one, and where it began is no header of a database any more.
        """
        view = self.machine.view
        assert view is not None
        if view.store.size_bytes:
            require_header(view.store.peek(HEADER_BYTES, 0))

    def _ground(self, name: PartName) -> Ground:
        traits = layout_named(self.opening.settings.layout).traits
        tables_bytes = WASM_PAGE_BYTES if traits.has_buckets else 0
        if name == "start":
            return Ground(None, tables_bytes)
        is_left = name == "pre_upgrade" and not self.is_heap_kept
        return Ground(self.statements, tables_bytes, is_left=is_left)

    # -- the heap -------------------------------------------------------------------------------

    @property
    def statements(self) -> Statements:
        """What executes the SQL.

        Raises:
            MessageError: The canister is closed.
        """
        if self._statements is None:
            raise self._absent()
        return self._statements

    def start(self) -> None:
        """Start a heap: a new one in an open message, else one that goes on with the last."""
        self._statements = self.machine.start(self.opening)
        self._adopt()
        vfs = self.machine.view
        assert vfs is not None
        self.observation.watch(vfs)

    def open(self) -> None:
        """Start a heap in an open message, billed to nobody's statement."""
        with self.machine.outside("open"):
            self.start()

    def stop(self) -> None:
        """Let the heap go."""
        self.observation.forget_vfs()
        self._statements = None
        self.machine.stop()

    def on_connect(self, setup: Setup) -> None:
        """Run ``setup`` on each connection, those of later heaps as well."""
        self.machine.on_connect(setup)
        self.opening = replace(self.opening, setups=(*self.opening.setups, setup))

    # -- between messages -----------------------------------------------------------------------

    def turn(self, kind: str) -> Turn:
        """Return a block that has the canister for something else than a message."""
        return Turn(self.turns, kind, self._begin_turn)

    def settle(self) -> None:
        """Begin a turn: a canister that is closed has none, and one that was cut off recovers.

        Raises:
            MessageError: The canister is closed.
        """
        if self.is_closed:
            raise MessageError(CLOSED)
        if not self._is_whole:
            self._recover()

    def view(self) -> StableVFS:
        """Return what the observer looks through.

        Raises:
            MessageError: The canister is closed.
        """
        if not self._is_whole and not self.turns.is_mine():
            with self.turn("look"):
                pass
        vfs = self.machine.view
        if vfs is None:
            raise self._absent()
        return vfs

    @property
    def described(self) -> dict[str, object]:
        """All settings, as reports state them."""
        owners = self.observation.has_owners
        return described(self.machine, self.opening.settings, owners=owners)

    def state_settings(self) -> None:
        """Write the settings into the trace: those of an imported database are its own."""
        if self.observation.writer is not None:
            self.observation.writer.update_settings(self.described)

    def close(self) -> None:
        """Finish the trace and give back what memory is its own; closing twice does no harm.

        Raises:
            MessageError: A step of the life cycle is running, and a hook of it asks.
        """
        if self.turns.is_mine():
            if self._before is not None:
                raise MessageError(
                    "a step of the life cycle is running; close the canister behind it, not in a "
                    "hook"
                )
            call, self.call = self.call, None
            if call is not None:
                self.end(call, Trap("the canister was closed"))
            self._close()
            return
        with Turn(self.turns, "close", self._close):
            pass

    def let_go(self) -> None:
        """Finish the trace and leave the memory alone."""
        self.is_closed = True
        was_whole, self._is_whole = self._is_whole, False
        if self._is_let_go:
            self.observation.drop_vfs()
        elif was_whole:
            self.observation.see_end()
            self.stop()
        else:
            self._drop()
        self.observation.close()

    # -- inside ---------------------------------------------------------------------------------

    def _absent(self) -> MessageError:
        return MessageError(EMPTY if self.is_empty and not self.is_closed else CLOSED)

    def _begin_turn(self) -> None:
        self.settle()
        self.memory.check("query")

    def _close(self) -> None:
        if self._is_given_back:
            return
        try:
            self.let_go()
        finally:
            # Closing it twice does no harm: the first time may have been cut off.
            self._is_let_go = True
            self._give_back()
        self._is_given_back = True

    def _adopt(self) -> None:
        """An existing database keeps its page size, an existing manager its bucket size."""
        vfs = self.machine.view
        assert vfs is not None
        self.opening = self.opening.adopting(vfs)

    def _recover(self) -> None:
        """Start over from what is committed, wherever a message or step was cut off.

        What is derived from it is made anew. That may be cut off as well, and be done again.
        """
        # A commit to an image that was cut off may have left its file shorter than a map of it.
        self.memory.check("query")
        self.call = None
        self._drop()
        before = self._before
        if before is not None and not self.memory.has_committed_since(before.message_number):
            _, self.opening, self.hooks, self.is_empty, _ = before
        if not self.is_empty:
            self.start()
        self._before = None
        self._is_whole = True

    def _drop(self) -> None:
        """Let the heap go, in whatever state it is; what it still writes changes nothing."""
        self.observation.drop_vfs()
        self.machine.stop(is_whole=False)


def _trap_of(error: BaseException) -> Trap:
    return error if isinstance(error, Trap) else Trap(str(error) or type(error).__name__)
