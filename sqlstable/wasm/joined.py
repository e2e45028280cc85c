"""A canister's module joined to the shim: its functions, its globals, its tables.

What it holds beside the heap is taken and put back as one value, `Joined.state`: a rollback goes
back to the last one that was kept, a module that begins anew to the one that it was made with.
"""

from typing import TYPE_CHECKING, Any

from sqlstable.errors import ContractTrap, ModuleError, Trap
from sqlstable.wasm.calls import Call, Globals, Trampoline
from sqlstable.wasm.joining import calling_through, join
from sqlstable.wasm.profiled import ProfileMemory
from sqlstable.wasm.program import Program, wasmtime_module
from sqlstable.wasm.rewrite.rewriter import FIRST_TABLE, START_EXPORT
from sqlstable.wasm.side import Side

if TYPE_CHECKING:
    from wasmtime import Store


class Joined:
    """A module that was instantiated.

    Its active data segments lie in the heap then; nothing has run.

    Args:
        store: Where it lives.
        trampoline: Of the store.
        program: Whose module it is.
        side: The heap and the shim that it works with.

    Raises:
        ModuleError: It cannot be instantiated.
        SettingsError: The process has no addresses left.
    """

    def __init__(
        self, store: "Store", trampoline: Trampoline, program: Program, side: Side
    ) -> None:
        self.program = program
        self.side = side
        self._store = store
        self._trampoline = trampoline
        exports, self._unknown = join(store, program, side.heap, side.exports)
        self._functions: dict[str, Any] = {
            name: exports[name] for name in sorted(program.layout.exports)
        }
        self._table = exports.get(FIRST_TABLE)
        self._callback: Call | None = None
        self._entries: dict[str, Call] = {}
        self.globals = Globals(store, [exports[name] for name in program.layout.mutable_globals])
        self.profile = (
            ProfileMemory(store, exports, program.source) if program.has_profile else None
        )
        self._dropped = [exports[name] for name in program.layout.dropped_flags]
        self.new_state = self.state()
        "What a module holds that has not run yet."
        self.new_heap: bytes | None = None
        "The heap of a module that has not run yet, without the zeros at its end; None where the "
        "module went on with the heap of another one."

    @property
    def has_start(self) -> bool:
        """Whether there is a start function."""
        return START_EXPORT in self._functions

    def entry(self, name: str) -> Call:
        """Return what calls an exported function without parameters.

        Raises:
            ModuleError: There is none of that name.
        """
        entry = self._entries.get(name)
        if entry is None:
            function = self._functions.get(name)
            if function is None:
                raise ModuleError(
                    f"the module {self.program.name} exports no function {name!r}; it has "
                    f"{_listed(self.program.layout.exports)}"
                )
            entry = self._entries[name] = self._trampoline.call_of(function, 0)
        return entry

    def address_from(self, name: str) -> int | None:
        """Call an exported function for the address that it gives; None where it gives none.

        Nothing ends it but its instructions, and a trap is wasmtime's.
        """
        function = self._functions[name]
        kind = function.type(self._store)
        pointer = "i64" if self.side.is_64 else "i32"
        if kind.params or [str(it) for it in kind.results] != [pointer]:
            return None
        self.begin_execution()
        return int(function(self._store)) & ((1 << int(pointer[1:])) - 1)

    def callback(self, table_index: int) -> Call:
        """Return what calls a function of the first table.

        It takes the function's place in the table, and the number that the function is called with.

        Raises:
            ContractTrap: There is no such function.
        """
        table = self._table
        if table is None:
            raise ContractTrap("Canister violated contract: table not found")
        if table_index >= table.size(self._store):
            raise ContractTrap(
                "Canister requested to invoke a non-existent Wasm function "
                f"{table_index} from table 0"
            )
        # For a null reference it gives something that is not None either.
        if not isinstance(table.get(self._store, table_index), wasmtime_module().Func):
            raise ContractTrap("Canister violated contract: unexpected null function reference")
        if self._callback is None:
            self._callback = self._trampoline.call_of(
                calling_through(self._store, self.program, table, is_64=self.side.is_64), 2
            )
        return self._callback

    def state(self) -> Any:  # noqa: ANN401  for `set_state` only
        """Return what the module holds beside the heap."""
        return self.globals.values()

    def set_state(self, state: Any) -> None:  # noqa: ANN401  what `state` returned
        """Let it hold what it did."""
        self.globals.set_values(state)

    def begin_execution(self) -> None:
        """Let no data segment have been dropped: on a replica each execution has a new instance."""
        for dropped in self._dropped:
            dropped.set_value(self._store, 0)

    def called_unknown(self) -> Trap | None:
        """Return the trap of a system call that is not known here and was called, once."""
        for name, called in self._unknown.items():
            if called.value(self._store):
                called.set_value(self._store, 0)
                return Trap(
                    f"ic0.{name} is not known here; leave the call out, or test it with PocketIC"
                )
        return None


_LISTED_MAX = 10


def _listed(names: frozenset[str]) -> str:
    """Return some names, for a message."""
    if not names:
        return "no functions"
    shown = sorted(names)[:_LISTED_MAX]
    more = len(names) - len(shown)
    return ", ".join(map(repr, shown)) + (f" and {more} more" if more else "")
