"""What becomes of each operator of a module."""

from collections.abc import Mapping
from typing import Final

from sqlstable.errors import ModuleError
from sqlstable.ic.prices import WeightTable
from sqlstable.wasm.rewrite.assembly import assemble
from sqlstable.wasm.rewrite.binary import GLOBAL, Module
from sqlstable.wasm.rewrite.bytereader import unsigned
from sqlstable.wasm.rewrite.heap_marks import value_type_of
from sqlstable.wasm.rewrite.metering import weight_of
from sqlstable.wasm.rewrite.operators import LOADS, STORES, name_of, numbers_of
from sqlstable.wasm.rewrite.validation import check_operator

# Plain numbers, because they are compared a million times; all above OPEN end a basic block, except
# for calls.
REPLACE: Final = 0
ACCESS: Final = 1
OPEN: Final = 2
OPEN_IF: Final = 3
OPEN_LOOP: Final = 4
END: Final = 5
LEAVE: Final = 6
RETURN: Final = 7
CALL: Final = 8

Action = int | tuple[int, int, bytes]
"""The weight of an operator that stays as it is; or weight, what becomes of it, replacement."""

_KINDS: Final = {
    "block": OPEN,
    "if": OPEN_IF,
    "loop": OPEN_LOOP,
    "end": END,
    **dict.fromkeys(("else", "br", "br_if", "br_table"), LEAVE),
    **dict.fromkeys(("return", "unreachable", "return_call", "return_call_indirect"), RETURN),
}
_GLOBAL_OPERATORS: Final = frozenset(("global.get", "global.set"))
_NAMING_FUNCTIONS: Final = frozenset(("call", "return_call", "ref.func"))
_HEAP_OPERATORS: Final = (
    LOADS
    | STORES
    | {
        "memory.size",
        "memory.grow",
        "memory.copy",
        "memory.fill",
        "memory.init",
    }
)
_CHARGED_TABLE_OPERATORS: Final = frozenset(("table.copy", "table.fill", "table.init"))
_CHARGED_OPERATORS: Final = _CHARGED_TABLE_OPERATORS | {"memory.copy", "memory.fill", "memory.init"}


class Actions(dict[bytes, Action]):
    """What becomes of each operator; a large module has few different ones.

    Args:
        module: The module as it came.
        names: Indexes of new globals and functions.
        global_shift: How far the module's own globals move.
        dropped: Data segments that the module can drop.
        weights: What operators cost, or None where nothing is counted.
        has_extras: Whether other tables are counted as well.
        has_heap_marks: Whether loads and stores leave marks.
        is_deployed: Whether to refuse operators that the Internet Computer refuses.
    """

    def __init__(
        self,
        module: Module,
        names: Mapping[str, int],
        *,
        global_shift: int,
        dropped: frozenset[int],
        weights: WeightTable | None,
        has_extras: bool,
        has_heap_marks: bool,
        is_deployed: bool,
    ) -> None:
        super().__init__()
        self.module = module
        self.names = names
        self.global_shift = global_shift
        self.dropped = dropped
        self.weights = weights
        self.has_extras = has_extras
        self.has_heap_marks = has_heap_marks
        self.is_deployed = is_deployed
        self.function = 0
        "Index of the function whose operators are asked for."
        self.has_vector_values = False
        "Whether a vector was above the address of any access so far."
        self.compiled_extra: dict[bytes, int] = {}
        "Operators that a replica puts in beside each of them."
        self._imported_globals = len(module.imported(GLOBAL))
        self._table_is_64 = [table.limits.is_64 for table in module.all_tables]

    def __missing__(self, operator: bytes) -> Action:
        action = self[operator] = self._action(operator)
        return action

    def _action(self, operator: bytes) -> Action:
        name = name_of(operator)
        if self.is_deployed:
            check_operator(name, self.function)
        weight = 0
        if self.weights is not None:
            weight = weight_of(
                self.weights, name, is_64=self.module.is_64, has_extras=self.has_extras
            )
        if name in _NAMING_FUNCTIONS:
            self._check_index("function", numbers_of(operator)[0], self.module.function_count)
        kind = _KINDS.get(name)
        if kind is not None:
            return weight, kind, operator
        if name in ("call", "call_indirect"):
            return weight, CALL, operator
        if name in _GLOBAL_OPERATORS:
            return weight, REPLACE, self._shifted(operator)
        if name in _CHARGED_OPERATORS or name == "memory.grow":
            is_64 = self.module.is_64 and name in ("memory.copy", "memory.fill")
            self.compiled_extra[operator] = 1 if is_64 else 3
        if name in _HEAP_OPERATORS:
            return self._heap_action(name, operator, weight)
        return self._segment_action(name, operator, weight)

    def _segment_action(self, name: str, operator: bytes, weight: int) -> Action:
        if name == "data.drop" and numbers_of(operator)[0] in self.dropped:
            dropped = self.names[f"dropped_{numbers_of(operator)[0]}"]
            return weight, REPLACE, assemble(f"i32.const 1 global.set {dropped}")
        if name in _CHARGED_TABLE_OPERATORS and self.weights is not None:
            is_64 = self._is_length_64(name, numbers_of(operator))
            return weight, CALL, self._call("charge_64" if is_64 else "charge") + operator
        return weight

    def _heap_action(self, name: str, operator: bytes, weight: int) -> Action:
        if self.module.memory is None:
            raise ModuleError(
                f"a function uses {name}, but the module has no memory; it is damaged"
            )
        if name in LOADS or name in STORES:
            if not self.has_heap_marks:
                return weight
            self.has_vector_values |= value_type_of(name) == "v128"
            return weight, ACCESS, operator
        if name == "memory.size":
            size = b"\x23" + unsigned(self.names["heap_size"])
            return weight, REPLACE, size + (_EXTENDED if self.module.is_64 else b"")
        if name == "memory.init":
            segment = numbers_of(operator)[0]
            if segment in self.dropped:
                return weight, CALL, self._call(f"init_{segment}")
            return weight, CALL, self._call("before_init") + operator
        return weight, CALL, self._call(name.partition(".")[2])

    def _is_length_64(self, name: str, numbers: list[int]) -> bool:
        """Return whether a bulk operator on tables takes its length as i64."""
        if name == "table.init":
            return False
        tables = numbers[: 2 if name == "table.copy" else 1]
        for table in tables:
            self._check_index("table", table, len(self._table_is_64))
        return all(self._table_is_64[table] for table in tables)

    def _call(self, helper: str) -> bytes:
        return b"\x10" + unsigned(self.names[helper])

    def _shifted(self, operator: bytes) -> bytes:
        index = numbers_of(operator)[0]
        self._check_index("global", index, self.module.global_count)
        if index < self._imported_globals:
            return operator
        return operator[:1] + unsigned(index + self.global_shift)

    def _check_index(self, what: str, index: int, count: int) -> None:
        if index >= count:
            raise ModuleError(f"code section: there is no {what} {index}; the module is damaged")


_EXTENDED: Final = assemble("i64.extend_i32_u")
