"""A trace priced anew, held against the run that was made under those prices."""

import random
import sqlite3
from contextlib import contextmanager
from pathlib import Path

import pytest

import sqlstable
from sqlstable import Canister, CanisterModule
from sqlstable.analysis.pricing.repriced import repriced
from sqlstable.ic.assumptions import ASSUMPTIONS
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.report.as_json import document
from sqlstable.workload.execution import run_steps
from sqlstable.workload.script import parse_script

OLD = "wasm-native"
GOLDEN = Path(__file__).parent / "golden"
STATEMENTS = (
    "INSERT INTO t (body, score) VALUES (hex(randomblob({n})), {n} * 0.37)",
    "INSERT INTO t (body) SELECT body FROM t LIMIT {n}",
    "UPDATE t SET score = score + {n} / 7.0 WHERE id % 5 = {n} % 5",
    "DELETE FROM t WHERE id = {n}",
    "SELECT count(*), avg(score) FROM t WHERE id > {n}",
    "SELECT body FROM t WHERE score > {n} ORDER BY body LIMIT 5",
    "--@ upgrade",
    "BEGIN; INSERT INTO t (body) VALUES ('{n}'); SELECT max(id) FROM t; COMMIT",
    "--@ query\nDELETE FROM t WHERE id > {n}",
)


def random_script(seed):
    chance = random.Random(seed)
    lines = ["CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT, score REAL)"]
    lines += [chance.choice(STATEMENTS).format(n=chance.randrange(1, 3_000)) for _ in range(12)]
    return "".join(line + ("\n" if line.startswith("--@ up") else ";\n") for line in lines)


@contextmanager
def run_under(prices, script, assume=None, **options):
    with Canister(engine="wasm", prices=prices, assume=assume, trace=":memory:", **options) as it:
        run_steps(it, parse_script(script, is_complete=sqlite3.complete_statement))
        with it.trace() as trace:
            yield trace


def assert_equal_costs(found, expected):
    """Hold a trace priced anew against one that was recorded under the prices."""
    for mine, theirs in zip(found.messages, expected.messages, strict=True):
        assert mine.instructions == theirs.instructions, mine
        assert mine.limits == theirs.limits
    for mine, theirs in zip(found.statements, expected.statements, strict=True):
        assert mine.instructions == theirs.instructions, mine
        if mine.phase_instructions is not None:
            assert mine.phase_instructions == theirs.phase_instructions, mine
    mine, theirs = found.summary, expected.summary
    assert mine.instructions == theirs.instructions
    assert mine.statement_instructions == theirs.statement_instructions
    assert (mine.nearest, mine.exceeding) == (theirs.nearest, theirs.exceeding)
    for name in ("prices", "price_regime", "assumptions"):
        assert found.settings[name] == expected.settings[name]


def test_a_trace_priced_anew_is_that_of_a_run_under_those_prices():
    script = random_script(1)
    with run_under(OLD, script) as expected, run_under("memory-tracker", script) as recorded:
        before = recorded.messages
        with repriced(recorded, OLD) as found:
            assert_equal_costs(found, expected)
            mine, theirs = document(found), document(expected)
            for each in (mine, theirs):
                for statement in each["statements"]:
                    del statement["phase_instructions"]
                del each["totals"]["phase_instructions"]
            assert mine == theirs
            assert found.messages_frame().equals(expected.messages_frame())
            # And back again.
            with repriced(found, "memory-tracker") as again:
                assert_equal_costs(again, recorded)
        assert recorded.messages == before


@pytest.mark.slow
@pytest.mark.parametrize("build", ["standard", "lean"])
@pytest.mark.parametrize("seed", [2, 3])
def test_every_list_prices_as_a_run_under_it(build, seed):
    script = random_script(seed)
    with run_under("memory-tracker", script, build=build) as recorded:
        for name in PRICE_REGIMES:
            with (
                run_under(name, script, build=build) as expected,
                repriced(recorded, name) as found,
            ):
                assert_equal_costs(found, expected)
                with repriced(expected, "memory-tracker") as again:
                    assert_equal_costs(again, recorded)


@pytest.mark.slow
@pytest.mark.parametrize("name", ASSUMPTIONS)
def test_every_assumption_prices_as_a_run_under_it(name):
    assumption, script = ASSUMPTIONS[name], random_script(4)
    prices = assumption.lists[-1]
    with run_under("memory-tracker", script) as recorded:
        for value in [*assumption.values][1:]:
            assume = {name: value}
            if name == "query-write-charges":
                with pytest.raises(sqlstable.SettingsError, match="worked out from a trace"):
                    Canister(engine="wasm", assume=assume)
                continue
            with (
                run_under(prices, script, assume) as expected,
                repriced(recorded, prices, assume) as found,
            ):
                assert_equal_costs(found, expected)


def test_statements_and_what_is_around_them_are_their_message_under_every_list():
    with run_under("memory-tracker", random_script(5)) as recorded:
        for name in PRICE_REGIMES:
            with repriced(recorded, name) as found:
                total = 0
                for message in found.messages:
                    spent = message.instructions
                    total += spent.total
                    assert spent.total == spent.computation + spent.stable + spent.heap
                    parts = [found.statements[at].instructions for at in message.statements]
                    for part in ("computation", "stable", "heap"):
                        inside = sum(getattr(it, part) for it in parts)
                        assert 0 <= inside <= getattr(spent, part)
                assert found.summary.instructions.total == total


def test_a_module_priced_anew_is_that_of_a_run_under_those_prices():
    traces = []
    for prices in ("memory-tracker", OLD):
        with CanisterModule("@counter.wasm", "(10)", prices=prices, trace=":memory:") as counter:
            counter.update("add", (5,))
            counter.query("get")
            traces.append(counter.trace())
    recorded, expected = traces
    with recorded, expected, repriced(recorded, OLD) as found:
        assert [it.instructions for it in found.messages] == [
            it.instructions for it in expected.messages
        ]


def test_of_a_native_trace_the_list_alone_is_another():
    with Canister(trace=":memory:") as canister:
        canister.update("CREATE TABLE t (a)")
        with canister.trace() as recorded, repriced(recorded, OLD) as found:
            assert found.settings["prices"] == OLD
            assert found.messages == recorded.messages


def test_a_trace_of_an_older_format_is_refused():
    with (
        sqlstable.open_trace(GOLDEN / "trace_v6.trace") as trace,
        pytest.raises(
            sqlstable.TraceError, match="message 0 has no counts of what price lists charge for"
        ),
    ):
        repriced(trace, OLD)


def test_prices_that_are_not_known_are_refused():
    with (
        sqlstable.open_trace(GOLDEN / "trace_v7.trace") as trace,
        pytest.raises(sqlstable.SettingsError, match="neither a price list nor a date"),
    ):
        repriced(trace, "cheap")
