"""Both engines where the measured one could not follow: what it has then, and what is said."""

from dataclasses import replace

from sqlstable import Canister, latest_limits
from sqlstable.analysis.checking.budget_checking import check_budgets
from sqlstable.analysis.checking.budget_model import Budgets, NumberBudget, Target
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.report.sample_words import differences


def test_a_heap_that_began_anew_is_told_until_an_upgrade_and_is_none_of_a_fresh_query():
    with Canister(engine="both", trace=":memory:", measure="all") as canister:
        canister.update("CREATE TABLE t (a)")
        canister.load_snapshot(canister.take_snapshot())
        for _ in range(3):
            canister.update("INSERT INTO t VALUES (1)")
        canister.query("SELECT * FROM t", cache="warm")
        canister.query("SELECT * FROM t", cache="fresh")
        canister.upgrade()
        canister.query("SELECT * FROM t", cache="warm")
        trace = canister.trace()
    told = [it.sample.difference for it in trace.messages[-7:]]
    assert len(set(told[:4])) == 1
    assert told[0].startswith("its heap began anew before message")
    assert told[4:] == [None] * 3
    assert next(it.split(" ran ")[0] for it in differences(trace)).endswith(" and 3 more")


def test_a_measured_message_that_is_said_to_run_alike_costs_what_the_wasm_engine_counts():
    """Whatever was not followed before it, unless that is told."""

    def live(canister):
        canister.update("CREATE TABLE t (a)")
        canister.update("INSERT INTO t VALUES (1)")
        canister.load_snapshot(canister.take_snapshot())
        canister.query("SELECT count(*) FROM t", cache="warm")
        canister.upgrade(schema="CREATE TABLE t (a, b)")
        canister.update("INSERT INTO t VALUES (1, 2)")
        canister.query("SELECT count(*) FROM t", cache="fresh")
        canister.upgrade()
        canister.query("SELECT count(*) FROM t", cache="warm")
        return canister.trace()

    with (
        Canister(engine="both", trace=":memory:", measure="all") as both,
        Canister(engine="wasm", trace=":memory:") as wasm,
    ):
        compared = list(zip(live(both).messages, live(wasm).messages, strict=True))
    alike = [
        (ours.instructions, theirs.instructions)
        for ours, theirs in compared
        if ours.instructions is not None and ours.sample.difference is None
    ]
    assert len(alike) >= 6
    assert all(ours == theirs for ours, theirs in alike)


def test_what_pragmas_have_set_outlives_a_message_that_could_not_be_followed():
    """A cache of ten SQLite pages is one after the measured engine has begun anew, too."""
    heaps = {}
    for engine, cache_size in (("both", 10), ("wasm", 10), ("wasm", 2_000)):
        with Canister(engine=engine, trace=":memory:", measure="all") as canister:
            if engine == "both":
                canister.on_connect(lambda it: it.create_scalar_function("here", lambda: 1, 0))
            canister.update("CREATE TABLE t (a, b)")
            canister.update(f"PRAGMA cache_size = {cache_size}")
            canister.update("PRAGMA case_sensitive_like = 1")
            canister.update(
                "INSERT INTO t WITH RECURSIVE n(i) AS"
                " (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000)"
                " SELECT i, hex(zeroblob(500)) FROM n"
            )
            if engine == "both":
                assert canister.update("SELECT here()").rows == [(1,)]
            reply = canister.update("SELECT sum(length(b)) FROM t WHERE b NOT LIKE 'a'")
            assert reply.message.instructions.measured
            heaps[engine, cache_size] = reply.message.heap.size_bytes
    assert abs(heaps["both", 10] - heaps["wasm", 10]) <= 4 * WASM_PAGE_BYTES
    assert heaps["wasm", 2_000] > heaps["wasm", 10] + 16 * WASM_PAGE_BYTES


# -- sums that agree ------------------------------------------------------------------------------


def test_what_trapped_on_the_measured_engine_alone_keeps_no_budget_of_its_own():
    latest = latest_limits()
    limits = replace(latest, update=replace(latest.update, instructions_max=30_000_000))
    with Canister(engine="both", trace=":memory:", limits=limits) as canister:
        canister.update("CREATE TABLE t (a)")
        canister.update(
            "WITH n AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM n WHERE x < 20000)"
            " INSERT INTO t SELECT x FROM n"
        )
        trace = canister.trace()
    budget = NumberBudget(Target("each_message"), "os_pages_accessed", 10**9)
    [found] = check_budgets(Budgets((budget,)), trace)
    assert (found.is_kept, found.exceeded_count, found.trapped) == (False, 0, (2,))
