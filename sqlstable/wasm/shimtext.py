"""What the shim's text gets from the tables of the package: system calls, and two layouts.

``shim/calls.wat`` says what each form stands for.
"""

import re
from functools import partial
from typing import Final

from sqlstable.ic.contexts import Context
from sqlstable.ic.system_calls import (
    ANY_CONTEXT_BIT,
    CONTEXT_BITS,
    POINTER,
    SYSTEM_CALLS,
    SystemCall,
    context_bits,
)
from sqlstable.wasm.environment import Environment
from sqlstable.wasm.packing import (
    OUTCOME_BYTES,
    EnvironmentNumbers,
    OutcomeNumbers,
    packed,
)

_CALL: Final = re.compile(r"\(ic0(\.later)? (\w+)((?:\s*\(local [^)]*\))*)")
_NUMBERS: Final = {"ANY_CONTEXT_BIT": ANY_CONTEXT_BIT, "OUTCOME_BYTES": OUTCOME_BYTES}
_EVERYWHERE: Final = sum(CONTEXT_BITS.values()) | ANY_CONTEXT_BIT


def calls_put_in(text: str) -> str:
    r"""Return a text of the shim with all that it gets from tables.

    Types of pointers and quoted names are not put in yet.

    Examples:
        >>> calls_put_in("(ic0 canister_version (env version))").splitlines()[0]
        '(func (export "canister_version") (result i64)'
        >>> calls_put_in("(out.set is_accepted (i64.const 1))")
        '(i64.store $outcome offset=112 (i64.const 0) (i64.const 1))'
        >>> calls_put_in("(in F)")
        '(i32.and (global.get $context) (i32.const 16384))'
    """
    text = _CALL.sub(_begun, text)
    for name, number in _NUMBERS.items():
        text = re.sub(rf"\b{name}\b", str(number), text)
    text = re.sub(r"\(in ([A-Za-z ]+)\)", _inside, text)
    for word, memory, fields in (
        ("env", "environment", EnvironmentNumbers._fields),
        ("out", "outcome", OutcomeNumbers._fields),
    ):
        load = partial(_number, f"(i64.load ${memory} offset=%d (i64.const 0))", fields)
        store = partial(_number, f"(i64.store ${memory} offset=%d (i64.const 0) ", fields)
        text = re.sub(rf"\({word} (\w+)\)", load, text)
        text = re.sub(rf"\({word}\.set (\w+)\s+", store, text)
    return text


def default_environment() -> str:
    """Return the field of the shim that holds what an execution finds if nobody says anything."""
    # Prices do not matter before somebody says something.
    data = packed(Environment(Context.UPDATE), is_64=False)
    text = "".join(f"\\{byte:02x}" for byte in data)
    return f'(data (memory $environment) (i64.const 0) "{text}")'


def _number(form: str, fields: tuple[str, ...], match: re.Match[str]) -> str:
    return form % (8 * fields.index(match.group(1)))


def _inside(match: re.Match[str]) -> str:
    bits = sum(CONTEXT_BITS[Context(letters)] for letters in match.group(1).split())
    return f"(i32.and (global.get $context) (i32.const {bits}))"


def _begun(match: re.Match[str]) -> str:
    """Return how the function of a system call begins."""
    charges_later, name, variables = match.groups()
    call = SYSTEM_CALLS[name]
    types = {POINTER: "ptr"}
    parameters = "".join(
        f" (param ${parameter} {types.get(kind, kind)})" for parameter, kind in call.parameters
    )
    result = f" (result {types.get(call.result, call.result)})" if call.result else ""
    lines = [f'(func (export "{name}"){parameters}{result}', *variables.split("\n")]
    if not charges_later and call.fixed:
        lines.append(f"(call $charge {_cost(call)})")
    if context_bits(call) != _EVERYWHERE:
        lines.append(
            f"(if (i32.eqz (i32.and (global.get $context) (i32.const {context_bits(call)})))"
            f' (then (call $refuse_context @"{call.quoted}")))'
        )
    return "\n    ".join(line.strip() for line in lines if line.strip())


def _cost(call: SystemCall) -> str:
    """Return what computes the instructions that a call costs beyond its ``call``."""
    cost = f"(global.get $cost_{call.fixed})"
    types = dict(call.parameters)
    for size in call.sizes:
        value = f"(local.get ${size})"
        value = f"(i64.of_ptr {value})" if types[size] == POINTER else value
        added = [f"(call $cost_of {value} (global.get $cost_{call.per_byte}))"]
        if not call.per_byte:
            added = []
        if call.is_logged:
            added.append(f"(call $logging_cost {value})")
        for part in added:
            cost = f"(i64.add {cost} {part})"
    return cost
