"""Traces held against the limits of other days; what a reply says that its message cost."""

from dataclasses import replace

import pytest

from sqlstable.analysis.pricing.relimited import (
    RECORDED_LIMITS,
    crossing_statement,
    first_crossing,
    relimited,
)
from sqlstable.analysis.verdict import verdict
from sqlstable.canister.canister import Canister
from sqlstable.ic.assumptions import assumed
from sqlstable.ic.limits import latest_limits, limits_at
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.ic.pricing import spent
from sqlstable.report.as_table import render_table
from sqlstable.trace.model import Instructions, LimitUse
from tests.hand_built import HandBuiltTrace, accesses, message, statement, use
from tests.test_cli import call, folder  # noqa: F401  a fixture


@pytest.fixture(scope="module")
def trace():
    """Return a trace of a canister whose stable memory grows beyond 4 GiB, and stays below 8."""
    with Canister(trace=":memory:", limits="2022-01-01") as canister:
        canister.update("CREATE TABLE t (a)")
        canister.query("SELECT a FROM t")
        with canister.message("update") as one:
            one.execute("INSERT INTO t VALUES (1)")
            canister.memory.grow(5 << 14)
        canister.upgrade()
        canister.update("INSERT INTO t VALUES (2)")
        with canister.trace() as recorded:
            yield recorded


def test_a_day_of_the_same_limits_changes_nothing(trace):
    with relimited(trace, limits_at("2022-01-02")) as then:
        assert [it.limits for it in then.messages] == [it.limits for it in trace.messages]
        assert then.settings["limits"] == "2022-01-02"
        assert then.settings[RECORDED_LIMITS] == "2022-01-01"
        assert first_crossing(then) is None


def test_a_day_of_4_gib_finds_the_first_message_that_would_not_have_fitted(trace):
    with relimited(trace, limits_at("2021-09-13")) as then:
        assert [verdict(it) for it in then.messages] == ["fits"] * 3 + ["exceeds"] * 3
        found = first_crossing(then)
        assert found is not None
        assert (found.message.index, found.use.name) == (3, "stable_memory_bytes")
        words = " ".join(render_table(then).split())
        assert (
            "not those of the run (2022-01-01): the first over one is message 3: 5.0 GiB" in words
        )
        assert then.summary.exceeding == (3, 4, 5)
    # The trace itself is as it was.
    assert trace.summary.exceeding == ()


def test_limits_that_did_not_exist_are_none_and_come_with_their_day(trace):
    names = ("stable_os_pages_accessed", "stable_os_pages_dirty")
    with relimited(trace, limits_at("2023-03-01")) as then:
        limits = {it.name: it.limit for it in then.messages[1].limits}
        assert [limits[name] for name in names] == [2_097_152, 2_097_152]
    with relimited(trace, latest_limits()) as now:
        limits = {it.name: it.limit for it in now.messages[2].limits}
        assert [limits[name] for name in names] == [262_144, 262_144]


def crossing(*statements, limits, **changes):
    """Return a trace of one message: OS pages read by each statement, and its instructions."""
    made = [
        replace(statement(index, 0, "x", len(read)), instructions=Instructions(spent, spent, 0, 0))
        for index, (read, spent) in enumerate(statements)
    ]
    one = replace(message(0, "query", range(len(made)), use(9)), limits=limits, **changes)
    rows = [accesses(*((0, 4096 * it, 1, -1) for it in read)) for read, _ in statements]
    return HandBuiltTrace(
        messages=(one,), statements=tuple(made), accesses_by_statement=tuple(rows)
    )


@pytest.mark.parametrize(
    ("used", "where"),
    [
        # OS pages 0, 1; 1, 2; 3: united 2, 3, 4.
        (LimitUse("stable_os_pages_accessed", 4, 1), 0),
        (LimitUse("stable_os_pages_accessed", 4, 2), 1),
        (LimitUse("stable_os_pages_accessed", 4, 3), 2),
        (LimitUse("stable_os_pages_accessed", 4, 4), None),
        (LimitUse("instructions", 60, 9), 0),
        (LimitUse("instructions", 60, 10), 1),
        (LimitUse("instructions", 60, 30), None),  # What lies around them crosses it.
        (LimitUse("stable_memory_bytes", 2, 1), None),
    ],
)
def test_the_statement_that_crosses_a_limit_is_named(used, where):
    statements = (((0, 1), 10), ((1, 2), 15), ((3,), 5))
    found = crossing(*statements, limits=(used,))
    assert crossing_statement(found, found.messages[0], used) == where


def test_a_message_that_a_limit_trapped_stopped_in_its_last_statement():
    used = LimitUse("instructions", 5, 9)
    found = crossing(((0,), 2), ((1,), 3), limits=(used,), outcome="trapped", trap="no")
    one = replace(found.messages[0], trap_limit="instructions")
    assert crossing_statement(found, one, used) == 1


# -- on the command line -----------------------------------------------------------------------

SCRIPT = "CREATE TABLE t (a); INSERT INTO t VALUES (1); SELECT a FROM t;"


def test_report_takes_limits_and_pace_in_every_format(folder):  # noqa: F811
    (folder / "a.sql").write_text(SCRIPT)
    call("run", "a.sql", "--trace", "a.trace")
    text = call("report", "a.trace", "--limits", "2021-09-01", "--by", "message").stdout
    assert "limits 2021-09-01" in text
    assert "of 4.0 GiB" in text
    whole = call("report", "a.trace", "--limits", "2021-09-01", "--format", "json").stdout
    assert '"recorded_limits": "2026-08-18"' in whole
    paced = call("report", "a.trace", "--by", "checkpoint", "--messages-per-round", "2").stdout
    assert "2 messages in each round" in paced
    assert (
        call("report", "a.trace", "--limits", "2021-09-01", "--compare", "a.trace").exit_code == 0
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--limits", "2020-01-01"), "no limits are known on 2020-01-01; the earliest date is"),
        (("--limits", "yesterday"), "'yesterday' is not a date"),
        (("--limits", "none"), "--limits none holds a trace against nothing; name a date"),
        (("--by", "checkpoint", "--messages-per-round", "0"), "it must be 1 or more"),
        (("--by", "owner", "--messages-per-round", "1"), "goes with --by checkpoint"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(options, words, folder):  # noqa: F811
    (folder / "a.sql").write_text(SCRIPT)
    call("run", "a.sql", "--trace", "a.trace")
    refused = call("report", "a.trace", *options)
    assert refused.exit_code == 2
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr


# -- the cost of a reply -----------------------------------------------------------------------


def test_a_reply_of_the_native_engine_says_what_it_knows():
    with Canister() as canister:
        reply = canister.update("CREATE TABLE t (a)")
        assert (reply.cost.instructions, reply.cost.computation, reply.cost.heap) == (None,) * 3
        assert reply.cost.limits == reply.limits
        assert reply.cost.tightest.name == "stable_memory_bytes"
        assert canister.query("SELECT 1").cost.cycles == 0


@pytest.mark.parametrize("limits", ["2024-01-01", "latest", None])
@pytest.mark.parametrize("prices", ["system-api", "wasm-native", "memory-tracker"])
@pytest.mark.parametrize("assume", [{}, {"stable-write-charges": "once"}])
def test_a_reply_of_the_native_engine_is_charged_by_the_prices_that_were_chosen(
    limits, prices, assume
):
    regime = assumed(PRICE_REGIMES[prices], assume)
    with Canister(limits=limits, prices=prices, assume=assume) as canister:
        canister.update("CREATE TABLE t (a)")
        for reply in (
            canister.update("INSERT INTO t VALUES (1)"),
            canister.query("SELECT * FROM t"),
            canister.query("INSERT INTO t VALUES (1)"),
        ):
            message = reply.message
            charged = spent(message.charged, regime.for_message(message.kind))
            assert reply.cost.stable == charged.stable


@pytest.mark.slow
def test_a_reply_of_the_wasm_engine_says_what_its_message_cost():
    with Canister(engine="wasm") as canister:
        reply = canister.update("CREATE TABLE t (a)")
        cost, counted = reply.cost, reply.message.instructions
        assert (cost.instructions, cost.computation) == (counted.total, counted.computation)
        assert cost.computation + cost.stable + cost.heap == cost.instructions
        assert {it.name for it in cost.limits} >= {"instructions", "stable_memory_bytes"}
        assert cost.verdict == "fits"
        assert cost.nodes == 13
        parts = cost.cycle_parts
        assert (parts.base, parts.execution, parts.calls) == (5_000_000, cost.instructions, 0)
        assert cost.cycles == parts.total == parts.base + parts.execution + parts.ingress
