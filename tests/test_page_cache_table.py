"""Predictions for other page caches and SQLite pages as lines: at any width, and none at all."""

import pytest

from sqlstable.report.page_cache_table import page_cache_lines
from sqlstable.report.page_size_lines import page_size_lines
from sqlstable.trace.model import Instructions, TraceSettings
from tests.hand_built import SETTINGS, HandBuiltTrace, accesses, message, statement, use


def trace_of(instructions=None, **settings):
    """Return a trace of one update that reads 40 SQLite pages twice."""
    rows = [(0, page * 4096, 4096, page * 4096) for page in (*range(40), *range(40))]
    made = message(0, "update", (0,), use(40), instructions=instructions)
    return HandBuiltTrace(
        settings=TraceSettings({**SETTINGS.values, "cache_size": 10, **settings}),
        messages=(made,),
        statements=(statement(0, 0, "SELECT 1", 40),),
        accesses_by_statement=(accesses(*rows),),
    )


def shown(trace, width=80):
    return "\n".join(line.plain.rstrip() for line in page_cache_lines(trace, width))


def test_rows_tell_what_each_size_changes():
    assert (
        shown(trace_of())
        == """\
what another cache_size would come to
                                                                        OS pages
cache_size                                     reads        writes      accessed
────────────────────────────────────────────────────────────────────────────────
10 as recorded                                    80             0            40
20                                      +0.0% ± 1.2%  +0.0% ± 0.0%  +0.0% ± 2.5%
40                                     +0.0% ± 50.0%  +0.0% ± 0.0%  +0.0% ± 2.5%
80                                     -50.0% ± 1.2%  +0.0% ± 0.0%  +0.0% ± 2.5%
────────────────────────────────────────────────────────────────────────────────
predicted from what a cache of 10 SQLite pages missed, as changes in percent of
what was recorded; ± is how far off they may be; from 48 on everything fits"""
    )


def test_instructions_stand_where_they_were_counted():
    spent = Instructions(50_000_000, 10_000_000, 20_000_000, 20_000_000)
    text = shown(trace_of(spent, engine="wasm", price_regime="memory-tracker"))
    assert "instructions" in text
    assert "50,000,000" in text
    assert "memory-tracker" in text


def test_a_trace_of_a_large_cache_says_how_to_see_more():
    assert "--cache-size 10" in shown(trace_of(cache_size=500))
    assert "--cache-size 10" not in shown(trace_of())


@pytest.mark.parametrize("width", [40, 47, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width):
    for trace in (trace_of(), HandBuiltTrace(), trace_of(build="lean")):
        assert all(line.cell_len <= width for line in page_cache_lines(trace, width))
        assert all(line.cell_len <= width for line in page_size_lines(trace, width))


def test_larger_sqlite_pages_stand_in_one_paragraph():
    text = "\n".join(line.plain for line in page_size_lines(trace_of(), 200))
    assert "8.0 KiB +0.0% ± 10.0% · 16.0 KiB +0.0% ± 10.0% · 32.0 KiB" in text
    assert "percent of 40, with SQLite pages of 4.0 KiB as recorded" in text
    assert page_size_lines(trace_of(page_size=65_536), 80) == []
    assert page_size_lines(trace_of(page_size=None), 80) == []


def test_without_an_answer_the_reason_is_told():
    assert "does not say its cache_size" in shown(trace_of(cache_size=None))
    assert 'build="standard"' in shown(trace_of(build="lean")).replace("\n", " ")
