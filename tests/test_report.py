"""From numbers to something to look at: tables, JSON, CSV."""

import csv
import io
import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator

from sqlstable.analysis.compare import compare
from sqlstable.canister.canister import Canister
from sqlstable.errors import SettingsError
from sqlstable.report.as_csv import (
    render_csv,
)
from sqlstable.report.as_json import (
    comparison_document,
    document,
    render_comparison_json,
    render_json,
)
from sqlstable.report.as_table import render_table
from sqlstable.report.comparison import render_comparison
from sqlstable.report.frame import DEFAULTS, STATED
from sqlstable.report.json_schema import report_schema
from sqlstable.report.text import shorten
from sqlstable.report.views import VIEWS
from sqlstable.trace.model import LimitUse, LoopUse, OwnerFault, TraceSettings
from tests.golden_files import check_golden
from tests.hand_built import (
    SETTINGS,
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


def many_statements(count, **changes):
    """Return a trace with one update for each of many statements."""
    return HandBuiltTrace(
        messages=[message(index, "update", (index,), use(1, 1)) for index in range(count)],
        statements=[
            statement(index, index, f"INSERT INTO t VALUES ({index})", 1, 1, **changes)
            for index in range(count)
        ],
    )


def line_with(text, words):
    """Return the one line that holds some words."""
    (line,) = (line for line in text.splitlines() if words in line)
    return line


# -- golden files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("by", VIEWS)
def test_table_is_the_golden_one(by):
    check_golden(f"table_{by}.txt", render_table(music_trace(), by=by))


def test_comparison_is_the_golden_one():
    text = render_comparison(compare(music_trace(), music_trace_with_index()))
    check_golden("comparison.txt", text)


def test_empty_trace_is_the_golden_one():
    check_golden("table_empty.txt", render_table(HandBuiltTrace(settings=TraceSettings())))


def test_json_is_the_golden_one_and_keeps_to_the_schema():
    text = "".join(render_json(music_trace()))
    check_golden("report_v1.json", text)
    Draft202012Validator(report_schema()).validate(json.loads(text))


# -- tables: contents ------------------------------------------------------------------------------


def test_numbers_stand_under_each_other():
    text = render_table(music_trace())
    ends = {
        re.search(f" {number} ", line_with(text, words)).end()
        for number, words in [("1,412", "SELECT t.name"), ("24", "  6  "), ("262,144", "  8  ")]
    }
    assert len(ends) == 1


def test_heading_says_how_large_the_pages_are_and_states_all_settings_when_asked():
    text = render_table(music_trace(), settings=True)
    assert "OS pages of 4 KiB" in text
    for words in ("engine native", "sqlite 3.54.1", "layout managed", "page_size 4,096 B",
                  "cache_size 500 SQLite pages", "journal_mode memory", "limits 2026-08-18",
                  "not set or not known: preset, growth, durability"):  # fmt: skip
        assert words in text


def test_small_sqlite_pages_are_said_to_share_an_os_page():
    trace = replace(music_trace(), settings=TraceSettings({**SETTINGS.values, "page_size": 512}))
    assert "an OS page holds 8 SQLite pages here" in render_table(trace)


@pytest.mark.parametrize("by", VIEWS)
def test_page_is_never_written_alone(by):
    trace = music_trace()
    text = render_table(replace(trace, messages=trace.messages[:6], areas=()), by=by)
    for found in re.finditer(r"(\S*) ?\bpages?\b", text):
        assert found[1].endswith(("OS", "SQLite", "Wasm")), found[0]


def test_messages_show_their_kind_label_outcome_and_trap():
    text = render_table(music_trace())
    assert 'message 1 · update · "schema" · warm cache · committed' in text
    assert "message 5 · query · cold cache · discarded with its writes" in text
    assert "message 6 · query · cold cache · trapped, rolled back" in text
    assert "Exceeded the limit for the number of" in text
    assert "message 7 · upgrade · committed" in text


def test_a_message_of_several_parts_shows_their_union():
    text = render_table(music_trace())
    assert text.count("together, each OS page once") == 3
    assert re.search(r"outside of statements: open +3 +0", text)


def test_owners_beyond_three_are_counted():
    made = statement(0, 0, "SELECT 1", 100, owners=tuple(owner(f"t{n}", 25) for n in range(4)))
    trace = HandBuiltTrace(messages=(message(0, "query", (0,), use(100)),), statements=(made,))
    text = render_table(trace)
    assert re.search(r"\+2 more +██▌ +50", text)
    assert "t2" not in text


def test_owners_that_are_unknown_are_said_to_be():
    trace = replace(one_statement("SELECT 1"), statements=(statement(0, 0, "SELECT 1", 1),))
    assert "not determined" in render_table(trace)
    assert "owners not determined for 1 statement" in render_table(trace, by="owner")


def test_executemany_shows_its_runs():
    assert "3,503 × INSERT INTO" in render_table(music_trace())  # noqa: RUF001


def test_hits_that_were_not_counted_are_not_zero():
    made = one_statement("SELECT 1").statements[0]
    unknown = replace(made, sqlite=replace(made.sqlite, hits=None))
    text = render_table(replace(one_statement("SELECT 1"), statements=(unknown,)))
    assert re.search(r"SELECT 1 +1 +0 +- +0 ", text)


def test_sixty_statements_are_all_shown():
    text = render_table(many_statements(60))
    assert text.count("INSERT INTO t VALUES") == 60
    assert "more statements" not in text


def test_of_more_statements_the_first_and_last_are_shown():
    text = render_table(many_statements(5_000))
    assert text.count("INSERT INTO t VALUES") == 50
    assert "… 4,950 more statements: --by shape, or --format json for all" in text
    assert "VALUES (39)" in text
    assert "VALUES (4990)" in text
    assert re.search(r"total of 5,000 messages +5,000 +5,000", text)


def test_statements_left_out_of_one_long_message_are_counted_too():
    made = [statement(index, 0, f"DELETE {index}", 1) for index in range(100)]
    long = message(0, "update", range(100), use(1))
    upgrade = message(1, "upgrade", (), use(0), cache=None)
    text = render_table(HandBuiltTrace(messages=(long, upgrade), statements=made))
    assert "… 51 more statements: " in text
    assert "message 0 · update · warm cache · committed · continued" in text
    assert text.count("together, each OS page once") == 1


def test_messages_left_out_without_statements_are_counted_too():
    steps = [message(index, "upgrade", (), use(0), cache=None) for index in range(70)]
    text = render_table(HandBuiltTrace(messages=steps))
    assert "… 0 more statements, 20 messages without any: " in text


def test_trapped_messages_among_those_left_out_are_named():
    trace = many_statements(100)
    trace.messages[70] = replace(trace.messages[70], outcome="trapped", trap="no")
    assert "(1 trapped message among them)" in render_table(trace)


def test_shapes_beyond_fifty_are_counted():
    text = render_table(many_statements(75), by="shape")
    assert "… 25 more shapes: --format csv or json for all" in text


def test_messages_show_shares_of_their_limits():
    text = render_table(music_trace(), by="message")
    assert re.search(
        r"query · cold cache · discarded +1,412 +0 +1,412 of 262,144 +fits \(OS pages,\n"
        r".* OS pages accessed, 0.54% +stable memory\)", text
    )  # fmt: skip
    assert re.search(r"cold cache · trapped, .*262,144 +0 +262,144 of 262,144 +does not fit", text)
    assert "1 message over a limit: message 6 (262,144 of 262,144 OS pages accessed" in text


def test_the_default_table_says_of_each_message_how_near_to_a_limit_it_was():
    text = render_table(music_trace())
    assert text.count(" of ") >= len(music_trace().messages)
    assert re.search(
        r"message 3 · query · cold cache · discarded · 1,412 of 262,144 OS pages accessed, 0.54%",
        text,
    )
    fitting = music_trace()
    fitting = replace(fitting, messages=fitting.messages[:6], areas=())
    words = " ".join(render_table(fitting).split())
    assert (
        "every message fits (OS pages, stable memory); instructions not counted; nearest to a "
        "limit: message 3, 1,412 of 262,144 OS pages accessed, 0.54%" in words
    )
    unlimited = [replace(it, limits=()) for it in fitting.messages]
    assert "no limits: nothing says whether this fits" in render_table(
        replace(fitting, messages=unlimited)
    )


def test_a_message_that_trapped_fits_as_far_as_it_ran():
    """What it would have come to is not known: neither its row nor the footer says that it fits."""
    fitting = music_trace().messages[:6]
    failed = [
        replace(it, outcome="trapped", trap="no such table: t") if it.index in (2, 5) else it
        for it in fitting
    ]
    trace = replace(music_trace(), messages=failed, areas=())
    for by in ("message", "statement"):
        text = " ".join(render_table(trace, by=by).split())
        assert "every message fits as far as it ran (OS pages, stable memory); " in text
        assert "2 messages trapped: 2, 5" in text
    rows = csv.DictReader(io.StringIO(render_csv(trace, by="message")))
    assert [row["verdict"] for row in rows] == [
        *("fits", "fits", "fits as far as it ran", "fits", "fits", "fits as far as it ran")
    ]  # fmt: skip


def test_loading_a_database_is_held_against_no_limit_and_the_report_says_so():
    loading = message(1, "install", (), use(11, 3), limits=())
    trace = HandBuiltTrace(messages=(message(0, "install", (), use(9, 9)), loading))
    by_message, by_statement = (render_table(trace, by=by) for by in ("message", "statement"))
    assert re.search(r"install · .* loading a database: +-\n.* no limit applies\n", by_message)
    assert "message 1 · install · warm cache · committed · loading a database: no limit" in (
        by_statement
    )
    assert "every message with a limit fits (OS pages, stable memory)" in by_statement


def test_a_report_says_that_sizes_of_arguments_and_replies_are_not_checked():
    text = " ".join(render_table(music_trace(), by="message").split())
    assert "the limits on sizes of arguments and replies (2 MiB, and 3 MiB for a query's" in text


def test_columns_that_there_is_no_room_for_are_named():
    """A column that goes without a word looks like one that has nothing to say."""
    words = " ".join(render_table(music_trace(), by="message", width=60).split())
    assert "left out at this width: dirty, verdict; use a wider terminal, or --format csv" in words
    for by in COLUMN_VIEWS:
        assert "left out at this width: " in render_table(music_trace(), by=by, width=40)
        assert "left out" not in render_table(music_trace(), by=by, width=160)
    comparison = compare(music_trace(), music_trace_with_index())
    assert "left out at this width: dirty" in render_comparison(comparison, width=40)
    assert "left out" not in render_comparison(comparison, width=160)


def test_what_only_one_of_two_engines_has_is_not_listed_as_unknown():
    trace = music_trace()
    only = {"build": "standard", "measured": True, "price_regime": "memory-tracker"}
    wasm = TraceSettings({**trace.settings.values, "engine": "wasm", **only})
    for all_settings in (False, True):
        text = render_comparison(
            compare(replace(trace, settings=wasm), trace), settings=all_settings
        )
        assert "\nengine wasm → native\n" in text
        assert "unknown" not in text
        assert not any(name in text for name in only)


def test_a_text_is_not_shortened_inside_of_a_word():
    assert shorten("outside of statements: open", 12, lines_max=2) == ["outside of …", "open"]


def test_a_message_without_limits_has_no_verdict():
    one = message(
        0, "update", (), use(1), limits=(LimitUse("stable_os_pages_dirty", 1, 2**64 - 1),)
    )
    text = render_table(HandBuiltTrace(messages=(one,)), by="message")
    assert re.search(r"update · warm cache · committed +1 +0 +- +-$", text, re.MULTILINE)
    assert "nothing says whether this fits" in text


def test_an_empty_trace_is_a_sentence():
    for by in VIEWS:
        assert "The trace is empty" in render_table(HandBuiltTrace(), by=by)


def test_what_no_statement_did_is_in_every_view():
    for by in ("shape", "owner"):
        text = render_table(music_trace(), by=by)
        assert "besides, outside of statements: 6 OS pages accessed, 3 dirty" in text
    assert render_table(music_trace()).count("outside of statements: open") == 2


def test_an_unfinished_trace_says_so():
    unfinished = TraceSettings({**SETTINGS.values, "closed": False})
    assert "unfinished: this run goes on, or was killed" in render_table(
        replace(music_trace(), settings=unfinished)
    )
    assert "unfinished" not in render_table(music_trace())


def test_the_header_names_what_differs_from_the_defaults_and_all_when_asked():
    lines = render_table(music_trace()).splitlines()
    assert lines[1] == (
        "engine native · sqlite 3.54.1 · limits 2026-08-18 · all else as by default: --settings"
    )
    other = with_settings(music_trace(), page_size=512, preset="ic-rusqlite", seed=7)
    stated = " ".join(render_table(other).splitlines()[1:3])
    assert stated == (
        "engine native · sqlite 3.54.1 · page_size 512 B · preset ic-rusqlite · "
        "limits 2026-08-18 · seed 7 all else as by default: --settings"
    )
    assert "layout managed" in render_table(music_trace(), settings=True)


@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_the_defaults_that_the_header_leaves_out_are_those_of_a_canister(engine):
    with Canister(engine=engine, owners=True) as canister:
        settings = canister.status().settings
    for name, value in settings.items():
        assert name in STATED or value is None or value == DEFAULTS[name], name


def test_faults_of_the_owners_are_in_every_view():
    faults = (OwnerFault(1, "[b] and b2 have one root"), OwnerFault(4, ""), OwnerFault(7, "again"))
    trace = replace(music_trace(), owner_faults=faults)
    for by in VIEWS:
        words = " ".join(render_table(trace, by=by).split())
        assert (
            "owners are not determined after messages 1 to 3, as the database cannot be read "
            "whole: [b] and b2 have one root; OS pages are counted all the same" in words
        )
        assert "owners are not determined from message 7 on" in words
    assert document(trace)["owner_faults"][0] == {
        "since_message": 1,
        "text": "[b] and b2 have one root",
    }
    Draft202012Validator(report_schema()).validate(json.loads("".join(render_json(trace))))


def test_plans_stand_under_their_statements_when_asked_for():
    loops = (
        LoopUse("track", "SCAN track USING COVERING INDEX ix_track_album", 1, 3503, 1000.0),
        LoopUse("x", "SETUP", -1, -1, 1.0),
    )
    made = music_trace()
    statements = list(made.statements)
    statements[6] = replace(statements[6], loops=loops)
    trace = replace(made, statements=statements)
    without, text = render_table(trace), render_table(trace, plan=True)
    assert "USE TEMP B-TREE" not in without
    assert " ".join(without.split()).count("3,503 rows visited in 1 loop; expected 1,000 each") == 1
    lines = text.splitlines()
    at = next(at for at, line in enumerate(lines) if line.startswith("  6  "))
    below = " ".join(" ".join(lines[at + 1 : at + 4]).split())
    assert (
        "SCAN track USING COVERING INDEX ix_track_album: 3,503 rows visited in 1 loop; "
        "expected 1,000 each" in below
    )
    assert "     USE TEMP B-TREE FOR ORDER BY\n" in text
    assert "SETUP" not in text
    assert "SCAN track USING COVERING" in render_table(trace, by="shape", plan=True)
    comparison = compare(trace, trace)
    assert "USE TEMP B-TREE" in render_comparison(comparison, plan=True)
    assert "USE TEMP B-TREE" not in render_comparison(comparison)


def test_footer_tells_real_from_modelled():
    text = render_table(music_trace())
    assert "real      SQLite, the bytes and their layout" in text
    assert "modelled  the heap after a query or trap (native engine)" in text
    assert "not here  computation, heap and cycles" in text
    preset = TraceSettings({**SETTINGS.values, "engine": "wasm", "preset": "ic-rusqlite"})
    other = " ".join(render_table(replace(music_trace(), settings=preset)).split())
    assert "the heap after a query or trap (wasm engine)" in other
    assert "preset ic-rusqlite: the PRAGMAs of that product, not its commit path" in other


def test_unknown_grouping_names_the_way_out():
    with pytest.raises(SettingsError, match="statement, shape, owner, message"):
        render_table(music_trace(), by="table")
    with pytest.raises(SettingsError, match="statement, shape, owner, message"):
        render_csv(music_trace(), by="table")


@pytest.mark.parametrize("by", VIEWS)
def test_colour_changes_no_text(by):
    coloured = render_table(music_trace(), by=by, color_system="truecolor")
    assert "\x1b[" in coloured
    plain = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    lines = [line.rstrip() for line in plain.splitlines()]
    assert lines == render_table(music_trace(), by=by).splitlines()


# -- comparison ------------------------------------------------------------------------------------


def test_comparison_shows_changes_in_words_and_plans_line_by_line():
    text = render_comparison(compare(music_trace(), music_trace_with_index()))
    assert re.search(r"1,412 → +131 .* ▼ better$", text, re.MULTILINE)
    assert "     - SCAN t\n" in text
    assert "     + SEARCH t USING INDEX ix_track_album (album_id=?)\n" in text
    assert "       USE TEMP B-TREE FOR ORDER BY\n" in text
    assert "different result size: 1 → 2 rows" in text
    assert "both traces have the same settings\n" in text
    assert "2 better, 1 worse, 0 mixed, 7 same, 1 added, 0 removed; 1 plan changed" in text
    assert re.search(r"all messages +263,743 → 262,481", text)


def with_settings(trace, **values):
    return replace(trace, settings=TraceSettings({**trace.settings.values, **values}))


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda it: with_settings(it, page_size=16_384), "page_size"),
        (lambda it: with_settings(it, engine="wasm", build="standard"), "engine"),
        (
            lambda it: replace(
                it,
                messages=[
                    replace(one, cache="warm" if one.cache == "cold" else one.cache)
                    for one in it.messages
                ],
            ),
            "the heap of 4 statements (cold → warm)",
        ),
    ],
)
def test_runs_that_are_not_alike_are_called_so_above_the_table_and_not_worse(change, cause):
    comparison = compare(music_trace(), change(music_trace_with_index()))
    text = render_comparison(comparison)
    words = " ".join(text.split())
    assert f"not like with like: {cause} differs, so that more is not worse" in words
    assert text.index("not like with like") < text.index("statement  ")
    assert not re.search(r"[▲▼] (worse|better)$", text, re.MULTILINE)
    assert re.search(r"1,412 → +131 .* ▼ less$", text, re.MULTILINE)
    assert "2 less, 1 more, 0 mixed" in text
    data = comparison_document(comparison)
    assert data["changes"]["better"] == 2
    assert data["differing_settings"] == ([cause] if " " not in cause else [])


@pytest.mark.parametrize("name", ["limits", "owners", "durability", "depth", "preset"])
def test_settings_that_change_no_count_leave_the_judgement(name):
    other = with_settings(music_trace_with_index(), **{name: "x"})
    assert "▲ worse" in render_comparison(compare(music_trace(), other))


def test_removed_statements_are_shown():
    text = render_comparison(compare(music_trace_with_index(), music_trace()))
    assert re.search(r"-  CREATE INDEX ix_album_artist .* - removed$", text, re.MULTILINE)


def test_in_a_long_comparison_what_is_the_same_is_left_out():
    after = many_statements(500)
    after.statements[250] = replace(after.statements[250], stable=use(9, 9))
    text = render_comparison(compare(many_statements(500), after))
    assert "… and 499 statements without any change" in text
    assert "INSERT INTO t VALUES (250)" in text
    assert text.count("INSERT INTO t VALUES") == 1


def test_in_a_long_comparison_with_many_changes_the_first_and_last_are_shown():
    after = many_statements(500)
    after.statements[:200] = [replace(it, stable=use(9, 9)) for it in after.statements[:200]]
    text = render_comparison(compare(many_statements(500), after))
    assert text.count("INSERT INTO t VALUES") == 50
    assert "… 150 more changed statements: --format csv or json for all" in text
    assert "… and 300 statements without any change" in text


def test_comparing_empty_traces_is_a_sentence():
    assert "nothing to compare" in render_comparison(compare(HandBuiltTrace(), HandBuiltTrace()))


def test_comparison_document_has_the_statements_of_both():
    data = comparison_document(compare(music_trace(), music_trace_with_index()))
    assert (data["format"], data["version"]) == ("sqlstable-comparison", 1)
    added = data["statements"][2]
    assert (added["change"], added["before"], added["after"]["index"]) == ("added", None, 2)
    assert data["statements"][0]["before"] == document(music_trace())["statements"][0]
    assert data["totals"]["after"] == document(music_trace_with_index())["totals"]
    assert json.loads(render_comparison_json(compare(music_trace(), music_trace()))) is not None


# -- JSON ------------------------------------------------------------------------------------------


def test_the_schema_is_sound():
    Draft202012Validator.check_schema(report_schema())


@pytest.mark.slow
@settings(max_examples=50)
@given(traces())
def test_every_document_keeps_to_the_schema(trace):
    text = "".join(render_json(trace))
    Draft202012Validator(report_schema()).validate(json.loads(text))
    assert text == json.dumps(document(trace), indent=2) + "\n"
    assert text.isascii()
    assert text.endswith("}\n")


def test_an_unknown_field_breaks_the_schema():
    data = json.loads("".join(render_json(music_trace())))
    data["messages"][0]["pages"] = 1
    assert not Draft202012Validator(report_schema()).is_valid(data)


def test_fields_come_as_documented():
    data = document(music_trace())
    fields = ["format", "version", "settings", "messages", "statements", "totals"]
    assert list(data) == [*fields, "sampling", "owner_faults", "advice"]
    first = data["messages"][0]
    assert first["outside"]["os_pages_accessed"] == 3
    assert first["outside_entries"][0]["name"] == "open"
    assert (first["heap"], first["instructions"], first["cycles"]) == (None, None, None)
    assert data["messages"][6]["verdict"] == "exceeds"
    assert data["totals"]["stable"]["os_pages_accessed"] == 263_743
    assert data["settings"]["prices"] is None


def test_settings_that_json_cannot_hold_become_text():
    odd = {"now": float("nan"), "limits": {"update": (1, b"x")}, "seed": 1.5}
    data = json.loads("".join(render_json(HandBuiltTrace(TraceSettings(odd)))))
    assert data["settings"]["now"] == "nan"
    assert data["settings"]["limits"] == {"update": [1, "b'x'"]}
    assert data["settings"]["seed"] == 1.5
