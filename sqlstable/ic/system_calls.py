"""Every system call of a canister, as data: what it takes, where it may be called, what it costs.

``SYSTEM_CALLS`` is the one table. The shim's functions get their parameters, their checks of the
context and their charges from it, a module that imports anything else is refused, and a page of the
reference is made from it.

**Sources.**

* Names, types and contexts: interface specification 0.67.0 of 2026-08-31, "Overview of imports",
  dfinity/developer-docs docs/references/ic-interface-spec/canister-interface.md @ 03e7a8ac, with
  the changelog @ 06735b6b. Equal in dfinity/cdk-rs ic0/ic0.txt @ 045daf7d but for the context
  ``TQ``, and ``C`` of ``msg_reject_code``, which it does not have yet. ``mint_cycles128`` stands in
  neither: dfinity/ic rs/embedders/src/wasmtime_embedder/system_api.rs @ 1bc0a5953, 2025-10-31.
* Costs: dfinity/ic rs/embedders/src/wasmtime_embedder/system_api_complexity.rs and linker.rs
  @ 1bc0a5953; that of ``cost_http_request_v2`` from a newer one. Not verified: the calls
  ``msg_caller_info_…``, which a newer linker.rs charges as it does others, though the number was
  not read, and ``subnet_self_node_count``, of which nothing was read, cost what most calls do here.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from sqlstable.ic.contexts import Context

POINTER: Final = "I"
"""What stands for the type of addresses and sizes: i32 or i64, as the memory of the module has."""


@dataclass(frozen=True, slots=True)
class SystemCall:
    """One system call.

    Examples:
        >>> call = SYSTEM_CALLS["msg_reply_data_append"]
        >>> call.signature(is_64=False), call.signature(is_64=True)
        ((('i32', 'i32'), ()), (('i64', 'i64'), ()))
        >>> call.fixed, call.per_byte, call.sizes
        ('call', 'transmitted_byte', ('size',))
    """

    name: str
    parameters: tuple[tuple[str, str], ...]
    "Name and type of each: i32, i64, or `POINTER`."
    result: str
    "Type; empty where there is none."
    contexts: frozenset[Context]
    "Where it may be called; elsewhere it traps."
    fixed: str
    "The field of `SystemCosts` that it costs; empty where it is free."
    per_byte: str
    "The field of `SystemCosts` that each byte costs; empty where none does."
    sizes: tuple[str, ...]
    "Parameters that say together how many bytes these are."
    is_logged: bool
    "Whether the bytes enter the canister's log as well, and cost what that does."
    is_32_only: bool
    "Whether modules with 64-bit memories do not have it."

    def signature(self, *, is_64: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the types of its parameters and of its results."""
        pointer = "i64" if is_64 else "i32"
        kinds = [kind for _, kind in self.parameters] + ([self.result] if self.result else [])
        typed = tuple(pointer if kind == POINTER else kind for kind in kinds)
        return typed[: len(self.parameters)], typed[len(self.parameters) :]

    @property
    def quoted(self) -> str:
        """How the Internet Computer calls it where it is called in a wrong context."""
        # All but this one have an underscore there.
        separator = "." if self.name == "root_key_copy" else "_"
        return f"ic0{separator}{self.name}"


MODE_NAMES: Final[Mapping[Context, str]] = MappingProxyType(
    {
        Context.START: "start",
        Context.INIT: "init",
        Context.PRE_UPGRADE: "pre upgrade",
        Context.UPDATE: "update",
        Context.REPLICATED_QUERY: "replicated query",
        Context.QUERY: "non replicated query",
        Context.TRANSFORM_QUERY: "non replicated query",
        Context.COMPOSITE_QUERY: "composite query",
        Context.REPLY: "reply callback",
        Context.REJECT: "reject callback",
        Context.COMPOSITE_REPLY: "composite reply callback",
        Context.COMPOSITE_REJECT: "composite reject callback",
        Context.CLEANUP: "cleanup",
        Context.COMPOSITE_CLEANUP: "composite cleanup",
        Context.INSPECT: "inspect message",
        Context.TASK: "heartbeat",
    }
)
"""What the Internet Computer calls each context; `TASK_NAMES` has the other tasks.

That a transform function runs as a query does was read in code that had no context of its own for
it yet.

Source:
    dfinity/ic rs/embedders/src/wasmtime_embedder/system_api.rs ApiType::as_str @ 1bc0a5953.
"""

TASK_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "canister_heartbeat": "heartbeat",
        "canister_global_timer": "global timer",
        "canister_on_low_wasm_memory": "on low Wasm memory",
    }
)
"""Likewise, by the name of the exported function."""

CONTEXT_BITS: Final[Mapping[Context, int]] = MappingProxyType(
    {context: 1 << index for index, context in enumerate(Context)}
)
"""One bit for each context, for sets of them."""

ANY_CONTEXT_BIT: Final = 1 << 30
"""Of no context in particular: every call is allowed, as in the builds of the measured engine."""

assert max(CONTEXT_BITS.values()) < ANY_CONTEXT_BIT


def context_bits(call: SystemCall) -> int:
    """Return the set of contexts in which a call is allowed, as bits.

    Examples:
        >>> bits = context_bits(SYSTEM_CALLS["accept_message"])
        >>> bits == CONTEXT_BITS[Context.INSPECT] + ANY_CONTEXT_BIT
        True
    """
    return ANY_CONTEXT_BIT | sum(CONTEXT_BITS[context] for context in call.contexts)


_ALL: Final = "I G U RQ NRQ TQ CQ Ry Rt CRy CRt C CC F T"
_ANSWERING: Final = "U RQ NRQ TQ CQ Ry Rt CRy CRt"
_CALLING: Final = "U CQ Ry Rt CRy CRt T"
_CERTIFIED: Final = "NRQ CQ"
_CYCLES: Final = "U RQ Rt Ry"
_INFORMED: Final = "U RQ NRQ CQ Ry Rt CRy CRt C CC F"
_KEYED: Final = "I G U RQ Ry Rt C T"

_GROUPS: Final = {
    "*s": f"{_ALL} s",
    "*": _ALL,
    "answering": _ANSWERING,
    "calling": _CALLING,
    "certified": _CERTIFIED,
    "cycles": _CYCLES,
    "informed": _INFORMED,
    "keyed": _KEYED,
}

_COPY: Final = "dst I, offset I, size I"

_COSTS: Final = {
    "free": "",
    "copy": "call copied_byte size",
    "send": "call transmitted_byte size",
}

# name : (parameters) -> result : contexts : cost
_TABLE: Final = """
msg_arg_data_size : () -> I : I U RQ NRQ TQ CQ Ry CRy F : call
msg_arg_data_copy : (copy) -> () : I U RQ NRQ TQ CQ Ry CRy F : copy
msg_caller_size : () -> I : * : call
msg_caller_copy : (copy) -> () : * : copy
msg_caller_info_data_size : () -> I : informed : call
msg_caller_info_data_copy : (copy) -> () : informed : copy
msg_caller_info_signer_size : () -> I : informed : call
msg_caller_info_signer_copy : (copy) -> () : informed : copy
msg_reject_code : () -> i32 : Ry Rt CRy CRt C : call
msg_reject_msg_size : () -> I : Rt CRt : call
msg_reject_msg_copy : (copy) -> () : Rt CRt : copy
msg_deadline : () -> i64 : U RQ NRQ TQ CQ Ry Rt CRy CRt : call
msg_reply_data_append : (src I, size I) -> () : answering : send
msg_reply : () -> () : answering : call
msg_reject : (src I, size I) -> () : answering : send
msg_cycles_available128 : (dst I) -> () : cycles : call
msg_cycles_refunded128 : (dst I) -> () : Rt Ry : call
msg_cycles_accept128 : (max_amount_high i64, max_amount_low i64, dst I) -> () : cycles : call
cycles_burn128 : (amount_high i64, amount_low i64, dst I) -> () : I G U RQ Ry Rt C T : call
mint_cycles128 : (amount_high i64, amount_low i64, dst I) -> () : U Ry Rt T : free
canister_self_size : () -> I : * : call
canister_self_copy : (copy) -> () : * : copy
canister_cycle_balance128 : (dst I) -> () : * : call
canister_liquid_cycle_balance128 : (dst I) -> () : * : call
canister_status : () -> i32 : * : call
canister_version : () -> i64 : * : call
subnet_self_size : () -> I : * : call
subnet_self_copy : (copy) -> () : * : copy
subnet_self_node_count : () -> i32 : * : call
msg_method_name_size : () -> I : F : call
msg_method_name_copy : (copy) -> () : F : copy
accept_message : () -> () : F : call
call_new : (callee_src I, callee_size I, name_src I, name_size I, reply_fun I, reply_env I,
  reject_fun I, reject_env I) -> () : calling : call_new copied_byte callee_size name_size
call_on_cleanup : (fun I, env I) -> () : calling : call
call_data_append : (src I, size I) -> () : calling : send
call_with_best_effort_response : (timeout_seconds i32) -> () : calling : call
call_cycles_add128 : (amount_high i64, amount_low i64) -> () : U Ry Rt T : call
call_perform : () -> i32 : calling : call_perform
stable64_size : () -> i64 : *s : free
stable64_grow : (new_pages i64) -> i64 : *s : stable_grow
stable64_write : (offset i64, src i64, size i64) -> () : *s : stable_access stable_byte size
stable64_read : (dst i64, offset i64, size i64) -> () : *s : stable_access stable_byte size
root_key_size : () -> I : keyed : call
root_key_copy : (copy) -> () : keyed : copy
certified_data_set : (src I, size I) -> () : I G U Ry Rt T : copy
data_certificate_present : () -> i32 : * : call
data_certificate_size : () -> I : certified : call
data_certificate_copy : (copy) -> () : certified : copy
time : () -> i64 : * : call
global_timer_set : (timestamp i64) -> i64 : I G U Ry Rt C T : call
performance_counter : (counter_type i32) -> i64 : *s : performance_counter
is_controller : (src I, size I) -> i32 : *s : is_controller copied_byte size
in_replicated_execution : () -> i32 : *s : call
cost_call : (method_name_size i64, payload_size i64, dst I) -> () : *s : call
cost_create_canister : (dst I) -> () : *s : call
cost_http_request : (request_size i64, max_res_bytes i64, dst I) -> () : *s : call
cost_http_request_v2 : (params_src I, params_size I, dst I) -> () : *s : cost_http_request_v2
cost_sign_with_ecdsa : (src I, size I, ecdsa_curve i32, dst I) -> i32 : *s : copy
cost_sign_with_schnorr : (src I, size I, algorithm i32, dst I) -> i32 : *s : copy
cost_vetkd_derive_key : (src I, size I, vetkd_curve i32, dst I) -> i32 : *s : copy
env_var_count : () -> I : * : call
env_var_name_size : (index I) -> I : * : call
env_var_name_copy : (index I, copy) -> () : * : copy
env_var_name_exists : (name_src I, name_size I) -> i32 : * : call
env_var_value_size : (name_src I, name_size I) -> I : * : call
env_var_value_copy : (name_src I, name_size I, copy) -> () : * : copy
debug_print : (src I, size I) -> () : *s : debug_print log size
trap : (src I, size I) -> () : *s : trap copied_byte log size
msg_cycles_available : () -> i64 : cycles : call : 32
msg_cycles_refunded : () -> i64 : Rt Ry : call : 32
msg_cycles_accept : (max_amount i64) -> i64 : cycles : call : 32
canister_cycle_balance : () -> i64 : * : call : 32
call_cycles_add : (amount i64) -> () : U Ry Rt T : call : 32
stable_size : () -> i32 : *s : free : 32
stable_grow : (new_pages i32) -> i32 : *s : stable_grow : 32
stable_write : (offset i32, src i32, size i32) -> () : *s : stable_access stable_byte size : 32
stable_read : (dst i32, offset i32, size i32) -> () : *s : stable_access stable_byte size : 32
"""

_BYTE_COSTS: Final = ("copied_byte", "transmitted_byte", "stable_byte")


def _parsed() -> Iterator[SystemCall]:
    """Read the table."""
    for line in re.sub(r"\n  ", " ", _TABLE).strip().splitlines():
        name, types, contexts, cost, *width = (part.strip() for part in line.split(" : "))
        listed, _, result = types.partition(" -> ")
        pairs = [pair.split() for pair in listed.strip("()").replace("copy", _COPY).split(", ")]
        fixed, *words = _COSTS.get(cost, cost).split() or [""]
        yield SystemCall(
            name,
            tuple((pair[0], pair[1]) for pair in pairs if pair),
            result.strip("()"),
            frozenset(Context(letters) for letters in _GROUPS.get(contexts, contexts).split()),
            fixed,
            next((word for word in words if word in _BYTE_COSTS), ""),
            tuple(word for word in words if word not in (*_BYTE_COSTS, "log")),
            "log" in words,
            bool(width),
        )


SYSTEM_CALLS: Final[Mapping[str, SystemCall]] = MappingProxyType(
    {call.name: call for call in _parsed()}
)
"""Every system call by its name, without ``ic0.``."""

assert all(
    set(call.sizes) <= {name for name, _ in call.parameters} for call in SYSTEM_CALLS.values()
)


def system_call(name: str, *, is_64: bool) -> SystemCall | None:
    """Return the system call of a name, if modules with such memories have it.

    Args:
        name: Without ``ic0.``.
        is_64: Whether the memory of the module has 64-bit addresses.

    Examples:
        >>> system_call("stable_size", is_64=False) is None
        False
        >>> system_call("stable_size", is_64=True), system_call("call_later", is_64=False)
        (None, None)
    """
    call = SYSTEM_CALLS.get(name)
    return None if call is None or (is_64 and call.is_32_only) else call
