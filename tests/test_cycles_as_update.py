"""What queries cost where they are called as updates: the same as the update, in every view."""

import csv
import io
import json
from dataclasses import replace

import pytest

from sqlstable import Canister
from sqlstable.analysis.compare import compare
from sqlstable.analysis.groups import group_by_owner, group_by_shape
from sqlstable.analysis.mapped_trace import mapped_trace
from sqlstable.analysis.pricing.message_cycles import (
    cycles_as_update,
    statement_cycles_as_update,
)
from sqlstable.analysis.pricing.repriced import repriced
from sqlstable.analysis.pricing.statement_prices import group_cycles
from sqlstable.analysis.pricing.trace_cycles import trace_cycles_as_update
from sqlstable.analysis.totals import totals
from sqlstable.ic.assumptions import ASSUMPTIONS, assumed
from sqlstable.ic.charged import Payloads
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.ic.message_fees import AS_UPDATE
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.ic.words import CALL_KIND, MESSAGE_KINDS, MODULE_ENGINE
from sqlstable.report.as_csv import render_csv
from sqlstable.report.as_json import comparison_document, document
from sqlstable.report.as_table import render_table
from sqlstable.report.comparison import render_comparison
from sqlstable.report.html.summary_words import summary_words
from sqlstable.report.html.trace_sheets import trace_sheets
from sqlstable.report.views import view_named
from sqlstable.trace.model import Instructions, ModuleCall, TraceSettings
from tests import hand_built
from tests.hand_built import HandBuiltTrace, owner, statement, use

FEES = CycleFees()
PAYLOADS = Payloads(100, 20)

READS = (
    ("SELECT 1", ()),
    ("SELECT count(*) FROM t", ()),
    ("SELECT a, b FROM t WHERE a > ? ORDER BY b DESC", (3,)),
    ("SELECT x.a FROM t AS x JOIN t AS y ON x.a = y.a + 1", ()),
    ("WITH RECURSIVE n(i) AS (VALUES (1) UNION SELECT i + 1 FROM n) SELECT i FROM n LIMIT 99", ()),
)


def filled(**options):
    canister = Canister(engine="wasm", **options)
    canister.update("CREATE TABLE t (a, b)")
    canister.update("INSERT INTO t VALUES (1, 'x'), (5, 'y'), (7, 'z')")
    return canister


def spent(total):
    return Instructions(total, total, 0, 0)


def message(kind, total=2_000_000, payloads=PAYLOADS, **changes):
    return hand_built.message(
        *(changes.pop("index", 0), kind, (), use(1)),
        **{"instructions": spent(total), "payloads": payloads, **changes},
    )


# -- one message -----------------------------------------------------------------------------------


@pytest.mark.parametrize("prices", PRICE_REGIMES)
def test_a_query_costs_as_an_update_what_the_same_sql_costs_in_one(prices):
    for sql, bindings in READS:
        with filled(prices=prices) as canister:
            # The query leaves nothing behind, so that the update finds the heap that it found.
            asked, made = canister.query(sql, bindings), canister.update(sql, bindings)
            assert asked.rows == made.rows
            assert asked.message.payloads == made.message.payloads
            assert asked.cost.cycles == 0
            # By the fees of the day of the list, which were lower before 2024-10-30.
            assert asked.cost.cycles_as_update == made.cost.cycles > 1_900_000
            assert made.cost.cycles_as_update is None


def test_it_is_worked_out_by_hand():
    found = cycles_as_update(message("query"), FEES)
    # 5,000,000 + 2,000,000 + (1,200,000 + 100 * 2,000).
    assert (found.base, found.execution, found.ingress) == (5_000_000, 2_000_000, 1_400_000)
    wide = cycles_as_update(message("query"), CycleFees(is_64=True))
    assert wide.execution == 4_000_000
    # The name of a method arrives as well.
    call = ModuleCall("top", "top()", "reply", 7, "()", 0)
    assert cycles_as_update(message("query", call=call), FEES).ingress == 1_406_000


@pytest.mark.parametrize("kind", [it for it in MESSAGE_KINDS if it != "query"])
def test_what_is_no_query_has_none(kind):
    assert cycles_as_update(message(kind), FEES) is None
    made = replace(statement(0, 0, "SELECT 1"), instructions=spent(7))
    assert statement_cycles_as_update(made, kind, FEES) is None
    assert statement_cycles_as_update(made, "query", FEES) == 7


def test_where_nobody_counted_it_is_not_known():
    with Canister() as canister:
        assert canister.query("SELECT 1").cost.cycles_as_update is None
    assert cycles_as_update(message("query", instructions=None), FEES).total is None
    assert cycles_as_update(message("query", payloads=None), FEES).total is None


@pytest.mark.parametrize("regime", PRICE_REGIMES.values(), ids=lambda it: it.name)
def test_no_list_charges_other_instructions_for_it(regime):
    lists = [
        assumed(regime, {name: value})
        for name, assumption in ASSUMPTIONS.items()
        for value in assumption.values
    ]
    for found in (regime, *lists):
        for kind, called in AS_UPDATE.items():
            assert found.for_message(kind) == found.for_message(called)


def test_a_trace_under_other_prices_has_it_by_those():
    with filled(trace=":memory:") as canister:
        canister.query("SELECT * FROM t")
        with canister.trace() as trace, repriced(
            trace, "memory-tracker", {"query-write-charges": "no"}
        ) as other:  # fmt: skip
            before, after = trace.messages[-1], other.messages[-1]
            saved = before.instructions.total - after.instructions.total
            # Regions of the heap that SQLite wrote in.
            assert saved == 80_000 * before.heap.wasm_pages_written > 0
            costs = [cycles_as_update(it, FEES).total for it in (before, after)]
            assert costs[0] - costs[1] == saved


# -- put together ----------------------------------------------------------------------------------


def mixed(bits=32):
    """Return a trace of one shape in an update and in two queries, and one in a query alone."""
    sql = ("SELECT a FROM t", "SELECT a FROM t", "SELECT a FROM t", "SELECT 1 FROM i")
    costs, kinds = (1_000, 500, 300, 80), ("update", "query", "query", "query")
    made = [
        statement(index, index, it, 1, shape=it, owners=(owner(it[-1], 1),))
        for index, it in enumerate(sql)
    ]
    return HandBuiltTrace(
        settings=TraceSettings({"engine": "wasm", "heap_address_bits": bits}),
        messages=tuple(
            replace(message(kind, cost + 10, index=index), statements=(index,))
            for index, (kind, cost) in enumerate(zip(kinds, costs, strict=True))
        ),
        statements=tuple(
            replace(it, instructions=spent(cost)) for it, cost in zip(made, costs, strict=True)
        ),
    )


@pytest.mark.parametrize(("bits", "factor"), [(32, 1), (64, 2)])
def test_a_shape_and_an_owner_have_it_of_their_statements_in_queries(bits, factor):
    trace = mixed(bits)
    shapes = group_by_shape(trace.statements, group_cycles(trace))
    owners = group_by_owner(trace.statements, group_cycles(trace))
    for groups in (shapes, owners):
        found = [(it.cycles, it.cycles_as_update) for it in groups]
        assert found == [(1_000 * factor, 800 * factor), (0, 80 * factor)]


def test_updates_alone_have_none():
    trace = mixed()
    only = replace(trace, messages=trace.messages[:1], statements=trace.statements[:1])
    [shape] = group_by_shape(only.statements, group_cycles(only))
    assert (shape.cycles, shape.cycles_as_update) == (1_000, None)
    assert totals(only).cycles_as_update is None
    assert "update" not in render_table(only, by="shape", width=80).partition("not here")[2]
    for by in ("message", "shape", "owner"):
        assert "as update" not in render_table(only, by=by)


def test_a_method_has_it_of_its_calls_whole():
    call = ModuleCall("top", "top()", "reply", 7, "()", 0)
    one = replace(message("query", 1_000, Payloads(10, 7), call=call), statements=(0,))
    made = statement(0, 0, "top()", 1, kind=CALL_KIND, shape="query top")
    trace = HandBuiltTrace(
        settings=TraceSettings({"engine": MODULE_ENGINE}),
        messages=(one,),
        statements=(replace(made, instructions=spent(1_000)),),
    )
    [group] = group_by_shape(trace.statements, group_cycles(trace))
    # 5,000,000 + 1,000 + (1,200,000 + 13 bytes at 2,000).
    assert (group.cycles, group.cycles_as_update) == (0, 6_227_000)
    for by in ("shape", "statement", "message"):
        assert "free; as an update 6,227,000 cycles" in render_table(trace, by=by)


def test_all_queries_together_cost_what_each_does():
    trace = mixed()
    single = [cycles_as_update(it, FEES).total for it in trace.messages if it.kind == "query"]
    found = trace_cycles_as_update(trace.summary.kinds, FEES)
    assert (found.total, found.paid_count) == (sum(single), 3)
    with filled(trace=":memory:") as canister:
        for sql, bindings in READS:
            canister.query(sql, bindings)
        with canister.trace() as recorded:
            single = [
                cycles_as_update(it, FEES).total for it in recorded.messages if it.kind == "query"
            ]
            assert totals(recorded).cycles_as_update.total == sum(single)


# -- where it is shown -----------------------------------------------------------------------------


def one_line(text):
    return " ".join(text.split())


def test_tables_say_it_where_they_say_what_instructions_were_spent_on():
    trace = mixed()
    for width in (80, 100):
        for by in ("message", "statement"):
            text = one_line(render_table(trace, by=by, width=width))
            # 5,000,000 + 510 + (1,200,000 + 100 * 2,000).
            assert "computation 510, stable memory 0, heap 0 · free; as an update 6,400,510" in text
            assert "queries are free (called as updates: 19,200,910 more)" in text


def test_a_trace_of_queries_alone_says_on_which_subnet():
    trace = mixed()
    only = replace(
        trace,
        messages=[replace(trace.messages[3], index=0, statements=(0,))],
        statements=[replace(trace.statements[3], index=0, message=0)],
    )
    text = one_line(render_table(only, by="message"))
    words = (
        "0 cycles: queries are free (called as updates: 6,400,090 more), on a subnet of 13 nodes"
    )
    assert words in text


def test_shapes_have_cycles_and_owners_below_them_where_there_is_no_room_beside():
    text = render_table(mixed(), by="shape", width=80)
    assert max(map(len, text.splitlines())) <= 80
    said = one_line(text)
    assert "whose: t 3 · 1,000 cycles, in queries free; as updates 800 cycles" in said
    assert "whose: i 1 · free; as an update 80 cycles" in said
    assert "left out" not in said
    four = replace(mixed().statements[0], owners=tuple(owner(it, 2) for it in "abcd"))
    others = replace(mixed(), statements=(four, *mixed().statements[1:]))
    said = one_line(render_table(others, by="shape", width=80))
    assert "whose: a 2, b 2, +3 more: 6 · 1,000 cycles" in said
    wide = one_line(render_table(mixed(), by="shape", width=140))
    assert "whose: t" not in wide
    assert "in queries free; as updates 800 cycles" in wide
    assert "1,000 cycles, in queries" not in wide
    estimated = replace(
        mixed(),
        statements=[
            replace(it, instructions=replace(it.instructions, measured=False))
            for it in mixed().statements
        ],
    )
    assert "≈ 1,000 cycles, in queries" in one_line(render_table(estimated, by="shape", width=80))


def test_owners_have_a_column_of_it():
    for width in (80, 100):
        text = render_table(mixed(), by="owner", width=width)
        heading = next(it for it in text.splitlines() if it.startswith("owner"))
        [row] = [it for it in text.splitlines() if it.startswith("t ")]
        assert heading.endswith("cycles  as updates")
        assert row.endswith(f"{'1,000':>6}  {'800':>10}")


def test_csv_and_json_have_it_beside_what_is_paid():
    trace = mixed()
    of_messages = ["", "6400510", "6400310", "6400090"]
    expected = {
        "message": of_messages,
        "statement": ["", "500", "300", "80"],
        "shape": ["800", "80"],
        "owner": ["800", "80"],
    }
    for by, values in expected.items():
        rows = list(csv.DictReader(io.StringIO("".join(render_csv(trace, by=by)))))
        assert [it["cycles_as_update"] for it in rows] == values
    found = document(trace)
    spelled = [str(it["cycles_as_update"] or "") for it in found["messages"]]
    assert spelled == of_messages
    assert [it["cycles_as_update"] for it in found["statements"]] == [None, 500, 300, 80]
    assert found["totals"]["cycles_as_update"] == 19_200_910
    for by, name in (("shape", "shapes"), ("owner", "owners")):
        data = json.loads("".join(view_named(by).json(trace)))
        assert [it["cycles_as_update"] for it in data[name]] == [800, 80]


def test_pages_have_it():
    trace = mixed()
    [tile] = [it for it in summary_words(trace).tiles if it.label == "cycles"]
    assert "queries are free (called as updates: 19,200,910 more)" in tile.note
    for sheet in trace_sheets(trace):
        assert "cycles as an update" in json.dumps(dict(sheet.facts), default=dict)


def test_frames_have_it():
    pytest.importorskip("pandas")
    with filled(trace=":memory:") as canister:
        canister.query("SELECT * FROM t")
        canister.upgrade()
        with canister.trace() as trace, mapped_trace(
            trace, settings={"heap_address_bits": 64}
        ) as wide:  # fmt: skip
            for one, fees in ((trace, FEES), (wide, CycleFees(is_64=True))):
                found = [cycles_as_update(it, fees) for it in one.messages]
                known = [None if it is None else it.total for it in found]
                assert plain(one.messages_frame()) == known
                own = [
                    statement_cycles_as_update(it, one.messages[it.message].kind, fees)
                    for it in one.statements
                ]
                assert plain(one.statements_frame()) == plain(one.to_pandas()) == own
                assert own[-1] > 0


def plain(frame):
    values = frame["cycles_as_update"]
    return [
        None if missing else value for value, missing in zip(values, values.isna(), strict=True)
    ]


def test_a_cell_of_a_notebook_says_it():
    with filled() as canister:
        asked = canister.query("SELECT * FROM t")
        assert f"free; as an update {asked.cost.cycles_as_update:,} cycles" in asked._repr_html_()
        made = canister.update("SELECT * FROM t")
        assert f"· {made.cost.cycles:,} cycles" in made._repr_html_()


def test_a_comparison_says_what_queries_cost_as_updates_before_and_after():
    before = mixed()
    cheaper = replace(before.messages[1], instructions=spent(110))
    after = replace(before, messages=(before.messages[0], cheaper, *before.messages[2:]))
    text = one_line(render_comparison(compare(before, after)))
    first, second = text.partition(" before: ")[2].split(" after: ")
    assert "queries are free (called as updates: 19,200,910 more)" in first
    assert "queries are free (called as updates: 19,200,510 more)" in second
    found = comparison_document(compare(before, after))["totals"]
    assert [found[side]["cycles_as_update"] for side in ("before", "after")] == [
        19_200_910,
        19_200_510,
    ]
