"""Every view, in every format, of one trace whose instructions were counted: what must be there."""

import csv
import io
import json

import pytest
from jsonschema import Draft202012Validator

from sqlstable.analysis.compare import compare
from sqlstable.analysis.groups import group_by_owner, group_by_shape
from sqlstable.analysis.pricing.statement_prices import group_cycles
from sqlstable.analysis.totals import around_statements, sum_instructions, totals
from sqlstable.canister.canister import Canister
from sqlstable.report.as_csv import render_comparison_csv, render_csv
from sqlstable.report.as_json import document, render_comparison_json, render_json
from sqlstable.report.as_table import render_table
from sqlstable.report.comparison import render_comparison
from sqlstable.report.json_schema import report_schema
from sqlstable.report.measures import INSTRUCTION_PARTS, INSTRUCTIONS
from sqlstable.report.numbers import count
from sqlstable.report.views import VIEWS, view_named
from sqlstable.trace.format.file import open_trace
from tests.report_world import COLUMN_VIEWS

pytestmark = pytest.mark.slow

COLUMN = " instr."
PAIRS = [f"{name}_{side}" for name in INSTRUCTIONS for side in ("before", "after")]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Return a trace of the wasm engine: updates, queries of all caches, and an upgrade."""
    path = tmp_path_factory.mktemp("views") / "wasm.trace"
    with Canister(engine="wasm", trace=path) as canister:
        canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)")
        with canister.message("update") as message, message.transaction():
            message.executemany(
                "INSERT INTO t VALUES (?, ?)", [(index, f"row {index}") for index in range(300)]
            )
        for cache in ("fresh", "cold", "warm"):
            canister.query("SELECT body FROM t WHERE id = 7", cache=cache)
        canister.upgrade()
        canister.update("CREATE INDEX b ON t (body)")
        canister.query("SELECT count(*) FROM t")
    return path


@pytest.fixture(scope="module")
def trace(path):
    with open_trace(path) as opened:
        yield opened


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def summed(rows, columns=INSTRUCTIONS):
    return tuple(sum(int(row[name]) for row in rows) for name in columns)


def parts(spent):
    return tuple(getattr(spent, name) for name in INSTRUCTION_PARTS)


@pytest.mark.parametrize("by", COLUMN_VIEWS)
def test_each_view_has_instructions_in_its_table_and_its_csv(trace, by):
    text = render_table(trace, by=by)
    assert COLUMN in text
    total = totals(trace)
    assert f"{count(total.instructions.total)} instructions: computation" in text
    assert f"around statements {count(total.around_instructions.total)}" in text
    rows = rows_of(render_csv(trace, by=by))
    assert set(INSTRUCTIONS) <= set(rows[0])
    assert all(row[name] for row in rows for name in INSTRUCTIONS)


def test_a_comparison_has_instructions_in_every_format(trace):
    comparison = compare(trace, trace)
    assert COLUMN in render_comparison(comparison)
    rows = rows_of(render_comparison_csv(comparison))
    assert all(row[name] for row in rows for name in PAIRS)
    data = json.loads(render_comparison_json(comparison))
    whole = parts(totals(trace).statement_instructions)
    for side in ("before", "after"):
        assert (
            tuple(data["instructions_in_both"][side][name] for name in INSTRUCTION_PARTS) == whole
        )
        assert summed(rows, [f"{name}_{side}" for name in INSTRUCTIONS]) == whole


def test_sums_agree_among_views_formats_and_the_file(trace):
    total = totals(trace)
    whole = parts(total.statement_instructions)
    assert parts(sum_instructions(it.instructions for it in trace.statements)) == whole
    assert (
        parts(sum_instructions(it.instructions for it in group_by_shape(trace.statements))) == whole
    )
    for by in ("statement", "shape"):
        assert summed(rows_of(render_csv(trace, by=by))) == whole
    messages = rows_of(render_csv(trace, by="message"))
    around = summed(messages, [f"around_{name}" for name in INSTRUCTIONS])
    assert summed(messages) == parts(total.instructions)
    assert summed(messages) == tuple(a + b for a, b in zip(whole, around, strict=True))
    assert around == parts(total.around_instructions)
    price = group_cycles(trace)
    of_updates = sum(
        it.instructions.total
        for it in trace.statements
        if trace.messages[it.message].kind != "query"
    )
    # One cycle an instruction, on a subnet of 13 nodes.
    assert sum(it.cycles for it in group_by_shape(trace.statements, price)) == of_updates
    for by, name in (("shape", "shapes"), ("owner", "owners")):
        data = json.loads("".join(view_named(by).json(trace)))
        Draft202012Validator(report_schema()).validate(data)
        rows = rows_of(render_csv(trace, by=by))
        assert [str(it["cycles"]) for it in data[name]] == [it["cycles"] for it in rows]
        assert name not in document(trace)
    data = document(trace)
    for name, spent in (
        ("instructions", total.instructions),
        ("statement_instructions", total.statement_instructions),
        ("around_instructions", total.around_instructions),
    ):
        assert tuple(data["totals"][name][part] for part in INSTRUCTION_PARTS) == parts(spent)
    assert sum(it["instructions"]["total"] for it in data["statements"]) == whole[0]
    Draft202012Validator(report_schema()).validate(json.loads("".join(render_json(trace))))


def test_parts_add_up_and_none_is_negative(trace):
    for message in trace.messages:
        around = around_statements(trace, message)
        for spent in (message.instructions, around):
            assert all(number >= 0 for number in parts(spent))
            assert spent.total == spent.computation + spent.stable + spent.heap
    for statement in trace.statements:
        spent = statement.instructions
        assert spent.total == sum(statement.phase_instructions.values()) + spent.heap


def test_an_owner_has_the_instructions_of_the_statements_that_touched_it(trace):
    total = totals(trace).statement_instructions.total
    for group in group_by_owner(trace.statements):
        touching = [
            it.instructions.total
            for it in trace.statements
            if any((own.name, own.role) == (group.name, group.role) for own in it.owners)
        ]
        assert group.instructions.total == sum(touching) <= total
    assert "these rows do not add up" in " ".join(render_table(trace, by="owner").split())


def test_the_frame_and_the_views_of_the_file_have_them_too(trace, path):
    pytest.importorskip("pandas")
    frame = trace.to_pandas()
    whole = parts(totals(trace).statement_instructions)
    assert tuple(frame[list(INSTRUCTIONS)].sum()) == whole
    assert frame["instructions_reply"].sum() == totals(trace).phase_instructions["reply"]
    shapes = trace._shared.connection.execute("SELECT sum(instructions_total_sum) FROM shapes")
    assert shapes.fetchone() == (whole[0],)


def test_what_fresh_cold_and_warm_cost_is_explained_where_it_shows(trace):
    for by in VIEWS:
        words = " ".join(render_table(trace, by=by).split())
        assert "fresh: opening has paid for the heap before the statement begins" in words
    spent = {
        message.cache: trace.statements[message.statements[0]].instructions
        for message in trace.messages
        if message.kind == "query" and message.index < 6
    }
    assert spent["fresh"].heap < spent["warm"].heap
    assert spent["warm"].stable < spent["cold"].stable


def test_on_the_native_engine_there_is_no_empty_column():
    with Canister(trace=":memory:") as canister:
        canister.update("CREATE TABLE t (a)")
        trace = canister.trace()
    for by in COLUMN_VIEWS:
        text = render_table(trace, by=by)
        assert COLUMN not in text
        assert "fresh:" not in text
        assert all(row["instructions_total"] == "" for row in rows_of(render_csv(trace, by=by)))
