"""Every system call in every context, against the table of the interface specification."""

import random

import pytest
import wasmtime

from sqlstable.errors import ContractTrap, LimitTrap, ModuleError, OutOfBoundsTrap, Trap
from sqlstable.ic.contexts import Context
from sqlstable.ic.prices import SystemCosts
from sqlstable.ic.system_calls import SYSTEM_CALLS, system_call
from sqlstable.wasm.environment import EntryExport, ExecutionResult
from sqlstable.wasm.program import make_program
from tests.calls_world import (
    REGIME,
    SIZES,
    all_calls,
    calls,
    environment_of,
    instance_of,
    made_with,
    prelude,
    run,
)

WIDTHS = pytest.mark.parametrize("is_64", [False, True], ids=["wasm32", "wasm64"])

MODES = {
    "s": "start",
    "I": "init",
    "G": "pre upgrade",
    "U": "update",
    "RQ": "replicated query",
    "NRQ": "non replicated query",
    "TQ": "non replicated query",
    "CQ": "composite query",
    "Ry": "reply callback",
    "Rt": "reject callback",
    "CRy": "composite reply callback",
    "CRt": "composite reject callback",
    "C": "cleanup",
    "CC": "composite cleanup",
    "F": "inspect message",
    "T": "heartbeat",
}
"""The words of the replica for each context, by the letters of the specification."""


@WIDTHS
@pytest.mark.parametrize("context", Context, ids=lambda context: context.value)
def test_a_call_runs_where_it_may_and_traps_elsewhere(is_64, context):
    instance = all_calls(is_64=is_64)
    environment = environment_of(context)
    for call in calls(is_64=is_64):
        kind = "ready" if context in call.contexts else "plain"
        found, _ = run(instance, f"canister_update {kind} {call.name}", environment)
        if call.name == "trap":
            assert isinstance(found, Trap), call.name
            assert str(found) == "key"
        elif context in call.contexts:
            assert isinstance(found, ExecutionResult), (call.name, found)
        else:
            quoted = "ic0.root_key_copy" if call.name == "root_key_copy" else f"ic0_{call.name}"
            assert isinstance(found, ContractTrap), (call.name, found)
            assert str(found) == (
                f'Canister violated contract: "{quoted}" cannot be executed in '
                f"{MODES[context.value]} mode"
            )


@pytest.mark.parametrize(
    ("entry", "mode"),
    [
        ("canister_heartbeat", "heartbeat"),
        ("canister_global_timer", "global timer"),
        ("canister_on_low_wasm_memory", "on low Wasm memory"),
    ],
)
def test_tasks_are_told_apart_in_words(entry, mode):
    instance = instance_of(f'(func (export "{entry}") (call $msg_reply))')
    found, _ = run(instance, entry, environment_of(Context.TASK))
    assert str(found).endswith(f'"ic0_msg_reply" cannot be executed in {mode} mode')


COSTS = {
    "call_new": 1500 + 2 + 3,
    "call_perform": 5000,
    "call_data_append": 500 + 50 * 3,
    "msg_reply_data_append": 500 + 50 * 3,
    "msg_reject": 500 + 50 * 3,
    "is_controller": 1000 + 3,
    "performance_counter": 200,
    "debug_print": 100 + (2 + 50) * 3,
    "trap": 500 + 3 + (2 + 50) * 3,
    "cost_http_request_v2": 10_000,
    "mint_cycles128": 0,
    "stable64_size": 0,
    "stable_size": 0,
    "stable64_grow": 100,
    "stable_grow": 100,
    "stable64_read": 20 + 3,
    "stable64_write": 20 + 3,
    "stable_read": 20 + 3,
    "stable_write": 20 + 3,
    "time": 500,
    "msg_arg_data_copy": 500 + 3,
    "certified_data_set": 500 + 3,
    "env_var_name_exists": 500,
    "env_var_value_copy": 500 + 3,
    "cost_sign_with_ecdsa": 500 + 3,
}
"""Worked out by hand from the replica's system_api_complexity.rs and linker.rs, for the sizes of
`SIZES`."""


def cost_of(call):
    """What the table says."""
    costs = SystemCosts()
    total = getattr(costs, call.fixed) if call.fixed else 0
    for name in call.sizes:
        total += SIZES[name] * (getattr(costs, call.per_byte) if call.per_byte else 0)
        if call.is_logged:
            total += SIZES[name] * (costs.logged_byte + costs.transmitted_byte)
    return total


@pytest.mark.parametrize("name", COSTS)
def test_the_table_has_the_costs_of_the_replica(name):
    assert cost_of(SYSTEM_CALLS[name]) == COSTS[name]


@WIDTHS
def test_a_call_costs_what_the_table_says(is_64):
    priced, free = all_calls(is_64=is_64), all_calls(is_64=is_64, is_free=True)
    for call in calls(is_64=is_64):
        context = Context.QUERY if Context.QUERY in call.contexts else min(call.contexts)
        environment = environment_of(context)
        used = {}
        for kind in ("ready", "before"):
            for instance in (priced, free):
                name = f"canister_update {kind} {call.name}"
                used[kind, instance is free] = run(instance, name, environment)[1]
        charged = used["ready", False] - used["ready", True]
        charged -= used["before", False] - used["before", True]
        assert charged == cost_of(call), call.name


@WIDTHS
def test_a_call_is_charged_before_it_is_refused(is_64):
    instance = all_calls(is_64=is_64)
    free = all_calls(is_64=is_64, is_free=True)
    for call in calls(is_64=is_64):
        if len(call.contexts) == len(Context):
            continue
        environment = environment_of(next(one for one in Context if one not in call.contexts))
        name = f"canister_update plain {call.name}"
        charged = run(instance, name, environment)[1] - run(free, name, environment)[1]
        assert charged == cost_of(call), call.name


NUMBERS = [0, 1, 3, 29, 30, 101, 65_535, 65_536, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]
FAR = [1 << 32, (1 << 40) + 1, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]


@WIDTHS
@pytest.mark.parametrize("seed", range(3))
def test_any_arguments_are_refused_in_words(is_64, seed):
    chosen = random.Random(seed)
    functions, expected = [], {}
    for call in calls(is_64=is_64):
        for index in range(4):
            arguments = {
                name: chosen.choice(NUMBERS + FAR if is_64 or kind == "i64" else NUMBERS)
                for name, kind in call.parameters
                if kind != "i32" and chosen.random() < 0.6
            }
            name = f"canister_update {call.name} {index}"
            code = prelude(call, is_64=is_64) + made_with(call, is_64=is_64, **arguments)
            functions.append(f'(func (export "{name}") {code})')
            expected[name] = call, arguments
    instance = instance_of("\n".join(functions), is_64=is_64)
    for name, (call, arguments) in expected.items():
        environment = environment_of(chosen.choice(sorted(call.contexts)))
        found, _ = run(instance, name, environment)
        said = name, arguments, found
        if call.name.startswith("stable"):
            assert isinstance(found, ExecutionResult | OutOfBoundsTrap | LimitTrap), said
        elif call.name == "trap":
            assert isinstance(found, Trap), said
        elif isinstance(found, Trap):
            # Out of instructions where the bytes alone would cost more than there are.
            is_known = isinstance(found, ContractTrap | LimitTrap)
            assert is_known or "has no meaning here" in str(found), said


def test_a_refused_call_does_not_end_with_too_few_instructions_first():
    instance = all_calls(is_64=False)
    instance.begin_message(100, 1, 1)
    found = None
    try:
        environment = environment_of(Context.UPDATE)
        instance.execute(EntryExport("canister_update plain accept_message"), b"", environment)
    except Trap as trap:
        found = trap
    instance.rollback(is_new_heap=False)
    assert "limit of 100 instructions" in str(found)


def test_calls_that_do_not_exist_are_refused_at_the_install():
    for name, is_64 in [("call_later", False), ("stable_size", True), ("msg_cycles_accept", True)]:
        assert system_call(name, is_64=is_64) is None
        address = "i64" if is_64 else "i32"
        text = f'(module (import "ic0" "{name}" (func (result i32))) (memory {address} 1))'
        with pytest.raises(ModuleError, match=name):
            make_program(
                bytes(wasmtime.wat2wasm(text)), name=name, regime=REGIME, watches_heap=False
            )


def test_the_table_has_every_call_of_the_specification():
    # 68 for both widths, nine for 32 bits, one that only the minting canister has.
    counts = [len(calls(is_64=is_64)) for is_64 in (False, True)]
    assert counts == [77, 68]
    assert "mint_cycles128" in SYSTEM_CALLS
