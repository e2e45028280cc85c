"""Reports and terminals: widths, foreign text, numbers that fit."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from sqlstable.analysis.compare import compare
from sqlstable.report import numbers
from sqlstable.report.as_table import render_table
from sqlstable.report.comparison import render_comparison
from sqlstable.report.grid import WIDTH_MIN
from sqlstable.report.plain import plain
from sqlstable.report.text import clean, fit, shorten, wrap
from sqlstable.report.views import VIEWS
from sqlstable.trace.model import TraceSettings
from tests.hand_built import (
    NASTY_TEXT,
    HandBuiltTrace,
    message,
    music_trace,
    music_trace_with_index,
    owner,
    statement,
    traces,
    use,
)
from tests.report_world import COLUMN_VIEWS, one_statement

# -- tables: width ---------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=50)
@given(traces(), st.sampled_from(VIEWS), st.sampled_from([100, 80, 133]))
def test_no_line_of_a_table_is_wider_than_asked(trace, by, width):
    lines = render_table(trace, by=by, width=width).splitlines()
    assert max(map(cell_len, lines)) <= width


@pytest.mark.slow
@settings(max_examples=50)
@given(traces(messages_max=3), traces(messages_max=3), st.sampled_from([100, 80]))
def test_no_line_of_a_comparison_is_wider_than_asked(before, after, width):
    lines = render_comparison(compare(before, after), width=width).splitlines()
    assert max(map(cell_len, lines)) <= width


@given(NASTY_TEXT)
def test_whatever_the_sql_holds_columns_stay_where_they_are(sql):
    lines = render_table(one_statement(sql)).splitlines()
    heading = next(line for line in lines if "whose OS pages" in line)
    row = next(line for line in lines if line.startswith("  0  "))
    before_owners = row[: row.rindex("t        ")]
    assert cell_len(before_owners) == heading.index("whose OS pages")


def test_a_table_fills_the_width():
    lines = render_table(music_trace(), width=100).splitlines()
    assert max(map(cell_len, lines)) == 100


NARROW = [40, 47, 59]


@pytest.mark.parametrize("width", NARROW)
@pytest.mark.parametrize("by", COLUMN_VIEWS)
def test_a_narrow_table_leaves_columns_out_and_breaks_no_heading(by, width):
    text = render_table(music_trace(), by=by, width=width)
    assert max(map(cell_len, text.splitlines())) <= width
    rule_at = next(at for at, line in enumerate(text.splitlines()) if line.startswith("──"))
    words = text.splitlines()[rule_at - 1].split()
    known = {"#", "statement", "message", "owner", "accessed", "dirty", "hits", "rows", "times",
             "shape", "median", "max", "statements", "role", "kind", "verdict"}  # fmt: skip
    assert "accessed" in words
    assert set(words) <= known | {"of", "table", "whose", "OS", "pages", "tightest", "limit"}


@pytest.mark.parametrize("width", NARROW)
def test_a_narrow_comparison_says_what_changed_on_lines_of_their_own(width):
    comparison = compare(music_trace(), music_trace_with_index())
    lines = render_comparison(comparison, width=width).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert sum("▼ better" in line for line in lines) == 2
    assert sum("▲ worse" in line for line in lines) == 1


def test_in_ascii_a_table_is_as_wide_and_has_bars_and_rules():
    text = render_table(music_trace())
    lines, others = text.splitlines(), plain(text).splitlines()
    assert [cell_len(line) for line in lines] == [cell_len(line) for line in others]
    assert "-" * 100 in others
    assert any("####" in line for line in others)
    assert not any("?" in line for line in others if "SELECT" not in line and "???" not in line
                   and "VALUES" not in line and "=?" not in line)  # fmt: skip


def test_a_terminal_too_narrow_gets_the_least_width():
    lines = render_table(music_trace(), width=10).splitlines()
    assert max(map(cell_len, lines)) == WIDTH_MIN


# -- tables: foreign text --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("SELECT '[bold]x[/bold]'", "SELECT '[bold]x[/bold]'"),
        ("SELECT '[/]'", "SELECT '[/]'"),
        ("SELECT '\x1b[31mred'", "SELECT '␛[31mred'"),
        ("SELECT ':smile: 漢字'", "SELECT ':smile: 漢字'"),
        ("SELECT\n\t 1", "SELECT 1"),
        ("SELECT '\u202eabc'", "SELECT '\N{REPLACEMENT CHARACTER}abc'"),
    ],
)
@pytest.mark.parametrize("by", ["statement", "shape", "message"])
def test_sql_is_shown_as_text(sql, shown, by):
    assert shown in render_table(one_statement(sql), by=by)


def test_names_labels_traps_and_settings_are_shown_as_text():
    nasty = "[red]\x1b[0m"
    made = statement(0, 0, "SELECT 1", 1, owners=(owner(nasty, 1, kind=nasty, role=nasty),))
    trapped = message(0, "query", (0,), use(1), label=nasty, outcome="trapped", trap=nasty)
    trace = HandBuiltTrace(TraceSettings({"preset": nasty, nasty: 1}), (trapped,), (made,))
    for by in VIEWS:
        text = render_table(trace, by=by)
        assert "\x1b" not in text
        assert "[red]␛[0m" in text


@given(NASTY_TEXT)
def test_clean_text_is_one_line_without_control_characters(text):
    cleaned = clean(text)
    assert cleaned == cleaned.strip()
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e]|  ", cleaned)


@given(NASTY_TEXT.map(clean), st.integers(2, 40))
def test_wrapped_lines_fit_and_lose_nothing(text, width):
    lines = wrap(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@given(NASTY_TEXT.map(clean), st.integers(4, 40), st.integers(1, 4))
def test_shortened_text_keeps_beginning_and_end(text, width, lines_max):
    lines = shorten(text, width, lines_max=lines_max)
    assert len(lines) <= lines_max
    assert all(cell_len(line) <= width for line in lines)
    joined = "".join(lines).replace(" ", "")
    if "…" in joined and "…" not in text:
        head, tail = joined.split("…")
        assert text.replace(" ", "").startswith(head)
        assert text.replace(" ", "").endswith(tail)


def test_a_cut_does_not_split_what_is_one_character():
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    assert fit(f"a{family}{family}b", cell_len(family) + 2) == f"a{family}…"
    assert wrap("e\u0301e\u0301e\u0301", 2) == ["e\u0301e\u0301", "e\u0301"]


def test_joiners_are_kept_inside_an_emoji_only():
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    assert clean(family) == family
    assert clean("a\u200db \u200d c\u200c") == "ab c"
    assert clean("\u2764\ufe0f\u200d\U0001f525") == "\u2764\ufe0f\u200d\U0001f525"


def test_very_long_sql_is_fast_and_keeps_its_end():
    sql = f"SELECT {'x, ' * 500_000} y FROM t WHERE last = 1"
    assert "last = 1" in render_table(one_statement(sql))


# -- numbers ---------------------------------------------------------------------------------------


@given(st.integers(0, 2**70))
def test_a_count_takes_at_most_ten_characters(number):
    assert len(numbers.count(number)) <= 10


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_share_never_hides_on_which_side_of_a_limit_it_is(used, limit):
    text = numbers.percent(used, limit)
    number = float(text.strip("<>%"))
    assert (text == "0%") == (used == 0)
    if 0 < used < limit:
        assert number < 100
    if used > limit:
        assert number > 100 or text == ">100%"
    assert len(text) <= len("<0.01%")


@given(st.integers(0, 50), st.integers(0, 50))
def test_a_bar_is_there_for_whatever_is_not_nothing(part, whole):
    drawn = numbers.bar(part, whole, cells=5)
    assert (drawn != "") == (part > 0 and whole > 0)
    assert len(drawn) <= 5
