"""Reports as CSV: one row for each, and accesses one by one."""

import csv
import io
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstable.analysis.compare import compare
from sqlstable.ic.words import GROW, READ, SIZE, WRITE
from sqlstable.report import view
from sqlstable.report.accesses_csv import HEADER, render_accesses_csv
from sqlstable.report.as_csv import (
    COMPARISON_FIELDS,
    csv_lines,
    render_comparison_csv,
    render_csv,
)
from sqlstable.report.views import view_named
from sqlstable.trace.model import TraceSettings
from tests.hand_built import (
    NASTY_TEXT,
    accesses,
    music_trace,
    music_trace_with_index,
    statement,
    traces,
)
from tests.report_world import one_statement

# -- CSV -------------------------------------------------------------------------------------------


def rows_of(text):
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.slow
@settings(max_examples=50)
@given(traces(), st.sampled_from(("statement", "shape", "owner", "message")))
def test_csv_has_one_row_for_each(trace, by):
    header, *rows = rows_of(render_csv(trace, by=by))
    assert tuple(header) == view_named(by).header
    expected = {
        "statement": len(trace.statements),
        "shape": len({it.shape or it.sql for it in trace.statements}),
        "owner": len(
            {(it.name, it.table, it.kind, it.role) for one in trace.statements for it in one.owners}
        ),
        "message": len(trace.messages),
    }
    assert len(rows) == expected[by]
    assert all(len(row) == len(header) for row in rows)


@given(NASTY_TEXT)
def test_csv_keeps_sql_as_it_was_written(sql):
    header, row = rows_of(render_csv(one_statement(sql)))
    assert row[header.index("sql")] == sql


def test_csv_leaves_what_was_not_counted_empty():
    made = statement(0, 0, "SELECT 1")
    trace = replace(
        one_statement("SELECT 1"),
        statements=(replace(made, sqlite=replace(made.sqlite, hits=None)),),
    )
    header, row = rows_of(render_csv(trace))
    assert row[header.index("hits")] == ""
    assert row[header.index("vm_steps")] == "12"


def test_csv_of_messages_has_the_tightest_limit():
    header, *rows = rows_of(render_csv(music_trace(), by="message"))
    found = dict(zip(header, rows[3], strict=True))
    assert found["tightest_limit"] == "stable_os_pages_accessed"
    assert (found["tightest_limit_used"], found["tightest_limit_max"]) == ("1412", "262144")
    assert (found["verdict"], found["discarded_writes"]) == ("fits", "false")


def test_csv_of_a_comparison_has_one_row_for_each_pair():
    header, *rows = rows_of(render_comparison_csv(compare(music_trace(), music_trace_with_index())))
    assert tuple(header) == view.header(COMPARISON_FIELDS)
    assert len(rows) == 11
    added = dict(zip(header, rows[2], strict=True))
    assert (added["change"], added["statement_before"], added["statement_after"]) == (
        "added",
        "",
        "2",
    )
    assert (added["os_pages_accessed_before"], added["os_pages_accessed_after"]) == ("", "19")


def test_csv_quotes_both_kinds_of_line_end():
    assert list(csv_lines([["a\rb"], ["a\nb"]])) == ['"a\rb"\n', '"a\nb"\n']


# -- accesses --------------------------------------------------------------------------------------


def test_accesses_are_exported_row_by_row():
    inside = accesses(
        (SIZE, 0, 0, -1), (GROW, 0, 128, -1), (READ, 65_536 + 4096, 4096, 4096),
        (WRITE, 4090, 10, -1), (READ, 65_536, 0, 0),
    )  # fmt: skip
    opened = accesses((READ, 65_536, 100, 0))
    trace = replace(
        one_statement("SELECT 1"),
        accesses_by_statement=(inside,),
        outside_by_message=((("open, header", opened),),),
    )
    assert list(render_accesses_csv(trace)) == [
        ",".join(HEADER) + "\n",
        "0,0,size,,0,,,0,0,,,(unknown),(unknown),unknown,\n",
        "0,1,grow,,128,,,0,0,,,(unknown),(unknown),unknown,\n",
        "0,2,read,69632,4096,17,2,1,0,,,(unknown),(unknown),unknown,\n",
        "0,3,write,4090,10,0,,2,0,,,(unknown),(unknown),unknown,\n",
        "0,4,read,65536,0,,1,0,0,,,(unknown),(unknown),unknown,\n",
        ',0,read,65536,100,16,1,1,0,"open, header",,(unknown),(unknown),unknown,\n',
    ]


def test_accesses_without_a_known_page_size_name_no_sqlite_page():
    trace = replace(
        one_statement("SELECT 1"),
        settings=TraceSettings(),
        accesses_by_statement=(accesses((READ, 0, 1, 0)),),
    )
    assert list(render_accesses_csv(trace))[1].startswith("0,0,read,0,1,0,,1,0,,,(unknown)")


def test_accesses_are_streamed():
    many = accesses(*[(READ, 0, 1, 0)] * 70_000)
    trace = replace(one_statement("SELECT 1"), accesses_by_statement=(many,))
    lines = render_accesses_csv(trace)
    assert next(lines).startswith("statement,")
    assert next(lines).startswith("0,0,read")
    assert sum(1 for _ in lines) == 69_999
