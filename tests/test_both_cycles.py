"""What messages of both engines bring and send, and so cost in cycles, where none was measured."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstable import Canister
from sqlstable.analysis.checking.budget_checking import check_budgets
from sqlstable.analysis.checking.budget_reading import read_budgets
from sqlstable.analysis.pricing.message_cycles import message_cycles
from sqlstable.analysis.pricing.trace_cycles import trace_cycles
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.report.as_json import document
from tests.test_both import FEW, run


def in_blocks(trace):
    """Yield the messages of each block, those that were measured and the others.

    A block of which one message alone was measured goes with the one before it.
    """
    alike = {}
    for it in trace.messages:
        alike.setdefault(it.sample.group._replace(block=0), []).append(it)
    for block in trace.summary.blocks:
        rest = alike[block.group._replace(block=0)]
        own, rest[:] = rest[: block.messages], rest[block.messages :]
        counted = [it for it in own if it.instructions.measured]
        assert len(counted) == block.measured
        yield counted, [it for it in own if not it.instructions.measured]


def mean_payloads(messages):
    sizes = [(it.payloads.request_bytes, it.payloads.reply_bytes) for it in messages]
    return tuple(round(sum(column) / len(sizes)) for column in zip(*sizes, strict=True))


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 3_000), min_size=6, max_size=30))
def test_arguments_and_replies_are_those_of_the_measured_ones_in_the_mean(lengths):
    with Canister(engine="both", trace=":memory:", measure="2") as canister:
        canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
        for length in lengths[:3]:
            canister.update("INSERT INTO t (a) VALUES (?)", ("x" * length,))
        canister.trace()
        for length in lengths[3:]:
            canister.update("INSERT INTO t (a) VALUES (?)", ("x" * length,))
            canister.query("SELECT a FROM t WHERE id = 1")
        trace = canister.trace()
    for counted, guessed in in_blocks(trace):
        for message in guessed:
            payloads = message.payloads
            assert (payloads.request_bytes, payloads.reply_bytes) == mean_payloads(counted)
            assert (payloads.call_count, payloads.call_bytes) == (0, 0)


def test_cycles_of_estimated_updates_have_what_arrives():
    """In sums, in each message, and in a budget, which is that of the measured engine alone."""
    totals = []
    for engine in ("both", "wasm"):
        trace = run(engine, FEW, measure="2")
        each = [message_cycles(it, CycleFees()) for it in trace.messages if it.kind != "query"]
        assert all(it.ingress >= 1_200_000 for it in each)
        found = trace_cycles(trace.summary.kinds, CycleFees())
        assert (found.unknown_arrivals, found.ingress) == (0, sum(it.ingress for it in each))
        assert found.total == document(trace)["totals"]["cycles"]
        budgets = read_budgets("[total]\ncycles = 1", "budget.toml")
        [verdict] = check_budgets(budgets, trace)
        assert verdict.measured == found.total
        totals.append(verdict.measured)
    assert totals[0] == pytest.approx(totals[1], rel=0.02)
