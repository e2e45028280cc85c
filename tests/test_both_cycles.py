"""What messages of both engines bring and send, and so cost in cycles, where none was measured."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstable import Canister
from sqlstable.analysis.checking.budget_checking import check_budgets
from sqlstable.analysis.checking.budget_reading import read_budgets
from sqlstable.analysis.pricing.message_cycles import message_cycles
from sqlstable.analysis.pricing.trace_cycles import trace_cycles
from sqlstable.errors import BudgetError
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.report.as_json import document
from sqlstable.report.as_table import render_table
from sqlstable.report.check_data import render_check_json
from sqlstable.report.check_markdown import render_check_markdown
from sqlstable.report.check_table import render_check
from sqlstable.report.check_words import CheckReport
from sqlstable.report.frame import provenance
from sqlstable.report.html.as_html import render_html
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


# -- what a report says below its table -----------------------------------------------------------

ESTIMATES = "messages that were not measured"
FEWER = "OS pages of warm queries are those of the native engine"


@pytest.mark.parametrize(
    ("measure", "script", "has_estimates", "has_warm"),
    [
        ("2", FEW, True, True),
        ("all", FEW, False, True),
        # Each message is measured, whoever asked for it.
        ("auto", "CREATE TABLE t (a);\nSELECT a FROM t;", False, True),
        ("2", "CREATE TABLE t (a);", False, False),
    ],
)
def test_a_footer_speaks_of_estimates_and_of_warm_queries_where_there_are_some(
    measure, script, has_estimates, has_warm
):
    trace = run("both", script, measure=measure)
    page = "".join(render_html(trace))
    for text in (render_table(trace, by="message"), page):
        words = " ".join(text.split())
        assert (ESTIMATES in words) is has_estimates
        assert (FEWER in words) is has_warm
        assert "the limits on sizes of arguments" not in words


def test_a_footer_says_nothing_of_queries_whose_cache_is_cold():
    found = dict(provenance([run("both", FEW).settings], [("query", "cold", True)]))
    assert "beware" not in found


def test_a_footer_of_one_engine_says_neither():
    for engine in ("native", "wasm"):
        words = " ".join(render_table(run(engine, FEW), by="message").split())
        assert ESTIMATES not in words
        assert FEWER not in words


# -- budgets --------------------------------------------------------------------------------------

BUDGETS = """
[total]
cycles = 1
os_pages_dirty = 1_000_000
[each_message]
instructions = 1_000_000_000
cycles = 6_000_000
limit = "99%"
request_bytes = 1_000_000
[shape."SELECT a FROM t WHERE a < 5"]
instructions = 1_000_000_000
rows = 1_000_000
[label."CREATE"]
cycles = 1_000_000_000
"""

ONE_LABEL = "--@ label CREATE" + FEW


@pytest.fixture(scope="module")
def checked():
    """Return budgets as a trace keeps them of which two messages of each block were measured."""
    trace = run("both", ONE_LABEL, measure="2")
    verdicts = check_budgets(read_budgets(BUDGETS, "budget.toml"), trace)
    guessed = [it for it in trace.messages if not it.instructions.measured]
    report = CheckReport(trace.settings, verdicts, estimated_count=len(guessed))
    return trace, report, {(str(it.budget.target), it.budget.key): it for it in verdicts}


def test_a_budget_says_in_how_many_its_number_was_estimated(checked):
    trace, _, found = checked
    guessed = [it for it in trace.messages if not it.instructions.measured]
    updates, queries = ([it for it in guessed if it.kind == kind] for kind in ("update", "query"))
    asked = "SELECT a FROM t WHERE a < 5"
    numbers = {key: it.estimated_count for key, it in found.items()}
    assert numbers == {
        # A query is free, which is no estimate.
        ("total", "cycles"): len(updates),
        ("total", "os_pages_dirty"): 0,
        ("each message", "instructions"): len(guessed),
        ("each message", "cycles"): len(updates),
        ("each message", "limit"): len(guessed),
        ("each message", "request_bytes"): len(guessed),
        (asked, "instructions"): len(queries),
        (asked, "rows"): 0,
        ("CREATE", "cycles"): 0,
    }
    for (place, key), it in found.items():
        if place == "total":
            assert it.is_estimated is (key == "cycles")
        elif it.message is not None and it.estimated_count:
            assert it.is_estimated is not it.message.instructions.measured
        assert it.is_sure is (not it.estimated_count or (not it.is_kept and not it.is_estimated))


def test_cycles_without_what_arrives_keep_no_budget(checked):
    """A trace of before has no bytes of messages that were not measured."""
    trace, *_ = checked
    messages = [
        it if it.instructions.measured else replace(it, payloads=None) for it in trace.messages
    ]
    for name in ("cycles", "cycles_as_update"):
        budgets = read_budgets(f"[total]\n{name} = 1", "budget.toml")
        with pytest.raises(BudgetError, match=f"nobody counted {name} of message"):
            check_budgets(budgets, trace, messages)


def test_every_format_of_a_check_marks_what_was_estimated(checked):
    _, report, found = checked
    count = report.estimated_count
    told = f"≈ instructions, cycles, arguments and replies of {count} messages are estimated from"
    text = " ".join(render_check(report, width=160).split())
    markdown = render_check_markdown(report)
    cycles = f"≈ {found['total', 'cycles'].measured:,}"
    for shown in (text, markdown):
        assert told in shown
        assert cycles in shown
        assert "≈ kept" in shown
    assert "| ✅ | `total` | OS pages dirty |" in markdown
    data = json.loads("".join(render_check_json(report)))
    assert data["messages_estimated"] == count
    for one, it in zip(data["budgets"], report.verdicts, strict=True):
        assert (one["estimated"], one["sure"]) == (it.is_estimated, it.is_sure)
        assert one["estimated_in"] == it.estimated_count


def test_a_check_of_what_was_counted_has_no_sign():
    trace = run("both", FEW, measure="all")
    report = CheckReport(
        trace.settings, check_budgets(read_budgets("[total]\ncycles = 1", "b.toml"), trace)
    )
    assert report.verdicts[0].is_sure
    assert "≈" not in render_check(report) + render_check_markdown(report)
