"""What a call of a module costs, as its reply says it: the figures of its trace."""

import pytest
import wasmtime

from sqlstable import CanisterModule, MessageError
from sqlstable.analysis.pricing.message_cycles import message_cycles
from sqlstable.analysis.totals import totals
from sqlstable.analysis.verdict import verdict
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.trace.fees import trace_fees
from tests.small_modules import COUNTER, RELAY

WIDE = """(module
  (import "ic0" "msg_reply" (func $reply))
  (memory i64 1)
  (func (export "canister_update go") (i64.store (i64.const 0) (i64.const 1)) (call $reply)))"""


def test_the_reply_of_a_call_says_what_it_cost():
    with CanisterModule(COUNTER, "(10)", trace=":memory:") as counter:
        reply = counter.update("add", (5,))
        cost, counted = reply.cost, reply.message.instructions
        assert (cost.instructions, cost.limits) == (reply.instructions, reply.limits)
        assert (cost.computation, cost.stable, cost.heap) == (
            *(counted.computation, counted.stable, counted.heap),
        )
        assert cost.verdict == verdict(reply.message) == "fits"
        assert cost.tightest in cost.limits
        assert cost.cycles == message_cycles(reply.message, CycleFees()).total
        # A message is 5 million, its arrival 1.2 million and 2,000 a byte, an instruction 1.
        argument = reply.message.payloads.request_bytes
        parts = cost.cycle_parts
        assert (parts.base, parts.execution) == (5_000_000, reply.instructions)
        assert (parts.ingress, parts.calls) == (1_200_000 + 2_000 * (argument + len("add")), 0)
        assert cost.cycles_as_update is None


def test_a_query_is_free_and_says_what_it_costs_as_an_update():
    with CanisterModule(COUNTER, "(10)") as counter:
        cost = counter.query("get").cost
        assert cost.cycles == cost.cycle_parts.total == 0
        assert cost.cycles_as_update > 6_200_000
        assert f"as an update {cost.cycles_as_update:,} cycles" in counter.last._repr_html_()
        made = counter.update("add", (5,))
        assert f"· {made.cost.cycles:,} cycles" in made._repr_html_()


def test_a_call_that_goes_on_costs_all_that_it_took():
    with CanisterModule(RELAY, canisters={"counter": (COUNTER, "(10)")}) as relay:
        reply = relay.update("ask", (relay.canister("counter").principal,))
        cost, fees = reply.cost, CycleFees()
        assert len(reply.messages) == 3
        assert cost.cycles == sum(message_cycles(it, fees).total for it in reply.messages)
        assert cost.cycle_parts.calls > 0
        assert cost.instructions == reply.instructions
        assert cost.instructions == cost.computation + cost.stable + cost.heap
        assert (cost.limits, cost.verdict) == (reply.limits, "fits")


def test_prices_are_those_of_the_day_of_the_limits_and_of_its_trace():
    with CanisterModule(COUNTER, "(10)", limits="2024-01-01", trace=":memory:") as counter:
        reply = counter.update("add", (5,))
        with counter.trace() as trace:
            fees = trace_fees(trace.settings)
            assert reply.cost.cycles == message_cycles(trace.messages[-1], fees).total
            # Until 2024-10-29 a message was 590,000, and ten instructions 4.
            assert reply.cost.cycle_parts.base == 590_000
            assert reply.cost.cycle_parts.execution == reply.instructions * 4 // 10


def test_with_addresses_of_64_bits_instructions_are_dearer():
    module = bytes(wasmtime.wat2wasm(WIDE))
    with CanisterModule(module, name="wide", trace=":memory:") as wide:
        made = wide.update("go", b"").cost
        assert made.cycle_parts.execution == 2 * made.instructions > 0
        with wide.trace() as trace:
            assert totals(trace).cycles.total == made.cycles + trace_install(trace)


def trace_install(trace):
    return message_cycles(trace.messages[0], trace_fees(trace.settings)).total


def test_what_never_ran_has_no_cost():
    with CanisterModule(bytes(wasmtime.wat2wasm(WIDE)), name="wide") as wide:
        reply = wide.update("gone")
        with pytest.raises(MessageError, match="gone ran no message: rejected"):
            reply.cost  # noqa: B018  it raises


def test_time_that_passes_without_a_timer_costs_nothing():
    with CanisterModule(COUNTER, "(10)") as counter:
        nothing = counter.advance(1).cost
        assert (nothing.cycles, nothing.instructions, nothing.verdict) == (0, 0, None)
