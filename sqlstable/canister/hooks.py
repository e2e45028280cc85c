"""What a canister's code does when it is installed and upgraded: its hooks, and what they can do.

A `Hooks` stands for the code of a canister, as far as its life cycle goes. An upgrade runs the
old code's ``pre_upgrade`` on the old heap, then the new code's ``start`` and ``post_upgrade``, all
of it in one message; an installation runs ``start`` and ``init``. Each of these is a *part*, with
limits of its own on OS pages.

Source: dfinity/ic ``rs/execution_environment/src/execution/upgrade.rs`` @ 1bc0a5953, 2025-10-31.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import get_ident
from typing import Literal, NoReturn, get_args

from sqlstable.canister.refusals import explained
from sqlstable.database.values import bindable, bindable_rows
from sqlstable.engine.statements import Params, Rows, Statements
from sqlstable.errors import MessageError, SettingsError, SqlError, Trap
from sqlstable.ic.words import PARTS, PartName
from sqlstable.memory.stable import StableMemory

Persistence = Literal["keep", "replace"]
"""What becomes of the heap in an upgrade: the option ``wasm_memory_persistence``."""

Hook = Callable[["HookMessage"], None]
"""What a canister's code does in one part."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """The code of a canister, as far as its life cycle goes.

    Each hook is called with a `HookMessage`. An exception that leaves it traps: the canister goes
    on as it was before the installation or upgrade, and the caller gets the exception.

    Examples:
        >>> from sqlstable import Canister, Hooks
        >>> def note(message):
        ...     message.execute("CREATE TABLE IF NOT EXISTS life (part TEXT)")
        ...     message.execute("INSERT INTO life VALUES (?)", (message.part,))
        >>> with Canister(hooks=Hooks(init=note, pre_upgrade=note, post_upgrade=note)) as canister:
        ...     parts = canister.upgrade().parts
        ...     canister.query("SELECT part FROM life").rows
        [('init',), ('pre_upgrade',), ('post_upgrade',)]
        >>> [part.name for part in parts]
        ['pre_upgrade', 'post_upgrade']
    """

    init: Hook | None = None
    """Runs when the canister is installed or reinstalled, behind ``start``. An image that has been
    somebody's before is opened, and not installed: nothing runs then."""
    start: Hook | None = None
    """Runs first in an installation, and behind ``pre_upgrade`` in an upgrade: the Wasm module's
    start function. There is no database yet; it has an update's limits on OS pages."""
    pre_upgrade: Hook | None = None
    "Runs on the old heap, before the code is replaced by that of an upgrade."
    post_upgrade: Hook | None = None
    "Runs last in an upgrade, when the database has been opened."
    keeps_heap: bool = False
    """Whether the code goes on with the heap of the code before it, if an upgrade asks for that:
    the module has the custom section ``enhanced-orthogonal-persistence``."""

    def __post_init__(self) -> None:
        """Refuse what cannot be called.

        Raises:
            SettingsError: A hook is none.
        """
        for name in PARTS:
            hook = getattr(self, name)
            if hook is not None and not callable(hook):
                raise SettingsError(
                    f"the hook {name} is {hook!r}, which cannot be called; give a function that "
                    "takes a HookMessage, or None"
                )

    def of(self, part: PartName) -> Hook | None:
        """Return the hook of one part."""
        hook: Hook | None = getattr(self, part)
        return hook


def check_hooks(hooks: Hooks | None) -> None:
    """Refuse what is no code.

    Raises:
        SettingsError: It is something else than a `Hooks`, such as one function.
    """
    if hooks is not None and not isinstance(hooks, Hooks):
        raise SettingsError(
            f"hooks is {hooks!r}; give a Hooks, as in Hooks(post_upgrade=a_function), or None"
        )


def heap_is_kept(old: Hooks, new: Hooks, persistence: Persistence | None) -> bool:
    """Return whether an upgrade keeps the heap, by the Internet Computer's rules.

    Args:
        old: The code that is there.
        new: The code that replaces it.
        persistence: What the upgrade asks for; None where it says nothing.

    Raises:
        SettingsError: ``persistence`` is no such word.
        MessageError: The old code keeps its heap, and the upgrade does not say what is to become
            of it; or the heap is to be kept, and the new code does not.

    Examples:
        >>> heap_is_kept(Hooks(), Hooks(keeps_heap=True), "keep")
        True
        >>> heap_is_kept(Hooks(), Hooks(), None)
        False

    Source:
        dfinity/ic rs/execution_environment/src/execution/upgrade.rs,
        determine_main_memory_handling @ 1bc0a5953.
    """
    if persistence is not None and persistence not in get_args(Persistence):
        raise SettingsError(
            f"wasm_memory_persistence is {persistence!r}; it must be one of "
            f"{', '.join(get_args(Persistence))}, or None"
        )
    if persistence is None and old.keeps_heap:
        raise MessageError(
            "Missing upgrade option: Enhanced orthogonal persistence requires the "
            "`wasm_memory_persistence` upgrade option; give 'keep', or 'replace' to lose the heap"
        )
    if persistence == "keep" and not new.keeps_heap:
        raise MessageError(
            "Invalid upgrade option: The `wasm_memory_persistence: opt Keep` upgrade option "
            "requires that the new canister module supports enhanced orthogonal persistence; give "
            "hooks with keeps_heap=True, or 'replace'"
        )
    return persistence == "keep"


@dataclass(frozen=True, slots=True)
class Ground:
    """What a hook finds of the database below it."""

    statements: Statements | None
    "What executes its SQL; None while the database is not open."
    tables_bytes: int = 0
    "Bytes at the beginning of stable memory that an open database has read once and for all."
    is_left: bool = False
    "Whether the heap goes when the hook has ended."


class HookMemory:
    """Stable memory as a hook has it: reads, writes and growth count as those of its part.

    What a memory manager beside the database's own writes is the database's business as well:
    both share one table of buckets, which an open database has read. So virtual memories of a
    hook's own grow in ``pre_upgrade``, behind its last SQL, or in ``start``.
    """

    def __init__(self, memory: StableMemory, ground: Ground) -> None:
        self._memory = memory
        self._ground = ground
        self.has_new_tables = False
        "Whether the open database does not know any more whose the buckets are."
        self.has_written = False

    def size(self) -> int:
        """Return the size in Wasm pages."""
        return self._memory.size()

    def grow(self, wasm_pages: int) -> int:
        """Add zeroed Wasm pages; returns the size before, or -1 with nothing changed."""
        return self._memory.grow(wasm_pages)

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes.

        Raises:
            Trap: They lie outside, or the part may not access so many OS pages.
        """
        return self._memory.read(offset, length)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write bytes.

        Raises:
            Trap: They lie outside, or the part may not access or dirty so many OS pages.
            MessageError: They are the memory manager's, whose tables an open database knows.
        """
        ground = self._ground
        if ground.statements is not None and offset < ground.tables_bytes and len(data):
            if not ground.is_left:
                raise MessageError(
                    "the database is open and has read the memory manager's tables, which a hook "
                    "must not change now; let virtual memories grow in pre_upgrade or start"
                )
            self.has_new_tables = True
        self.has_written = True
        self._memory.write(offset, data)


class HookMessage:
    """What a hook can do: SQL, stable memory itself, and trapping.

    Attributes:
        part: ``init``, ``start``, ``pre_upgrade`` or ``post_upgrade``.
    """

    def __init__(self, part: PartName, memory: StableMemory, ground: Ground) -> None:
        """Have the canister for as long as the part runs."""
        self.part = part
        self._memory = memory
        self._statements = ground.statements
        self._hook_memory = HookMemory(memory, ground)
        self._is_over = False

    @property
    def memory(self) -> HookMemory:
        """Stable memory itself, whose ``read``, ``write`` and ``grow`` count as the part's.

        On the wasm machine they count OS pages and no instructions: they are not the module's.

        Raises:
            MessageError: The hook has ended.
        """
        self._check()
        return self._hook_memory

    def execute(self, sql: str, params: Params = None) -> Rows:
        """Run one or more statements, and return their rows.

        Raises:
            SqlError: SQLite refused a statement; the hook may go on.
            Trap: The message trapped; it cannot go on.
            MessageError: The part is ``start``, or the hook has ended.
        """
        statements = self._checked()
        if params is not None:
            params = bindable(params, sql)
        try:
            return statements.execute(sql, params)
        except BaseException as error:
            refusal = self._refusal(error, sql, params)
            if refusal is error:
                raise
            raise refusal from error

    def executemany(self, sql: str, rows: Iterable[Params]) -> Rows:
        """Run one statement for each row of parameters: one statement with many runs.

        Raises:
            SqlError: SQLite refused a statement; the hook may go on.
            Trap: The message trapped; it cannot go on.
            MessageError: The part is ``start``, or the hook has ended.
        """
        statements = self._checked()
        bound = bindable_rows(rows, sql)
        try:
            return statements.executemany(sql, bound)
        except BaseException as error:
            refusal = self._refusal(error, sql, bound.last, place=bound.place)
            if isinstance(refusal, SqlError):
                known = error.row if isinstance(error, SqlError) else None
                refusal.row = bound.number if known is None else known
            if refusal is error:
                raise
            raise refusal from error

    def trap(self, text: str = "the canister called trap") -> NoReturn:
        """Trap: nothing of the installation or upgrade remains.

        Raises:
            Trap: Always.
        """
        self._check()
        raise self._memory.poison(Trap(text))

    def commit_point(self, *, label: str | None = None) -> NoReturn:
        """Refuse to await, as `awaiting` does: a hook is part of one message.

        Raises:
            MessageError: Always; the hook may go on.
        """
        raise MessageError(
            f"the hook {self.part} cannot await: all hooks of an installation or upgrade are one "
            "message, which commits whole; await in an update behind it"
        )

    awaiting = commit_point

    @property
    def has_written(self) -> bool:
        """Whether the hook wrote into stable memory itself."""
        return self._hook_memory.has_written

    def end(self) -> None:
        """Give the canister back: whoever keeps a `HookMessage` can do nothing with it."""
        self._is_over = True

    def _refusal(
        self, error: BaseException, sql: str, params: Params, *, place: str = ""
    ) -> BaseException:
        """Return what is to be raised; the hook cannot go on after an exception from outside."""
        if isinstance(error, Exception):
            assert self._statements is not None
            return explained(self._statements, error, sql, params, place=place)
        self._memory.poison(Trap(f"the message was cut off by {type(error).__name__}"))
        return error

    def _check(self) -> None:
        if self._is_over:
            raise MessageError(f"the hook {self.part} has ended; use its message inside of it")
        if self._memory.thread != get_ident():
            raise MessageError(
                f"the hook {self.part} runs in another thread; use its message there"
            )
        trap = self._memory.trap
        if trap is not None:
            raise trap

    def _checked(self) -> Statements:
        self._check()
        if self._statements is None:
            raise MessageError(
                "a start function has no database yet; run SQL in init or post_upgrade"
            )
        if self._hook_memory.has_new_tables:
            raise MessageError(
                f"the hook {self.part} has changed the memory manager's tables, which the open "
                "database has read before; run SQL first"
            )
        return self._statements
