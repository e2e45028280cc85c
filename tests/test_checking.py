"""Budgets and baselines: read strictly, held exactly, and told so that one knows what to do."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstable.analysis.checking.baseline_changes import baseline_changes, check_settings
from sqlstable.analysis.checking.baseline_model import (
    KEPT_MEASURES,
    Baseline,
    BaselineEntry,
    EntryName,
    make_baseline,
)
from sqlstable.analysis.checking.baseline_text import (
    baseline_data,
    baseline_of,
    baseline_text,
    read_baseline,
)
from sqlstable.analysis.checking.budget_checking import check_budgets
from sqlstable.analysis.checking.budget_measures import BUDGET_MEASURES
from sqlstable.analysis.checking.budget_model import (
    Budgets,
    LimitBudget,
    NumberBudget,
    ScanBudget,
    Target,
)
from sqlstable.analysis.checking.budget_reading import read_budgets
from sqlstable.analysis.checking.table_scans import table_scans, tables_of
from sqlstable.errors import BudgetError
from sqlstable.report.check_data import render_check_json
from sqlstable.report.check_markdown import code, render_check_markdown
from sqlstable.report.check_table import render_check
from sqlstable.report.check_words import CheckReport, failure_lines, worst_words
from sqlstable.trace.model import Payloads, Sample, SampleGroup, TraceSettings
from tests.check_world import FIND, SCAN, SCHEMA, counted, shop
from tests.golden_files import check_golden
from tests.hand_built import HandBuiltTrace, message, statement, use

LABEL = Target("label", "find artist")

ERROR_COLUMNS_MAX = 120 - len("Error: ")


def held(trace, *budgets):
    return check_budgets(Budgets(budgets), trace)


def refused(text):
    with pytest.raises(BudgetError) as caught:
        read_budgets(text, "b.toml")
    told = str(caught.value)
    assert "\n" not in told
    return told


# -- reading ---------------------------------------------------------------------------------------


def test_a_file_is_read_in_its_order_with_each_kind_of_budget():
    found = read_budgets(
        """
        prices = "memory-tracker"
        limits = 2026-08-18
        nodes = 34
        [label."find artist"]
        os_pages_accessed = 4
        instructions = 3e6
        limit = " 10 %"
        no_scan = true
        [total]
        cycles = 7
        [each_message]
        limit = { instructions = "0.5%" }
        no_scan = ["Artist", "artist"]
        allow_trap = true
        """,
        "b.toml",
    )
    assert found == Budgets(
        (
            NumberBudget(LABEL, "os_pages_accessed", 4),
            NumberBudget(LABEL, "instructions", 3_000_000),
            LimitBudget(LABEL, None, Decimal(10)),
            ScanBudget(LABEL),
            NumberBudget(Target("total"), "cycles", 7),
            LimitBudget(Target("each_message"), "instructions", Decimal("0.5"), allows_trap=True),
            ScanBudget(Target("each_message"), ("artist",), allows_trap=True),
        ),
        "b.toml",
        prices="memory-tracker",
        limits="2026-08-18",
        nodes=34,
    )


@pytest.mark.parametrize("name", BUDGET_MEASURES)
def test_every_measure_can_be_a_budget_of_a_message_and_of_the_whole(name):
    found = read_budgets(f"[each_message]\n{name} = 1\n[total]\n{name} = 1", "b.toml")
    assert [it.measure for it in found.budgets] == [name, name]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x", "b.toml is no TOML"),
        ("", 'b.toml holds no budget; one is [label."NAME"]'),
        ("nodes = 13", "b.toml holds no budget"),
        ("[labels.x]\nrows = 1", "b.toml: there is no 'labels'; did you mean label?"),
        (
            "[label.x]\nos-pages-accesed = 1",
            "b.toml, [label.\"x\"]: there is no 'os-pages-accesed'; did you mean os_pages_accessed",
        ),
        ("[label.x]\nzzz = 1", "there is no 'zzz'; docs/reference/budgets.md lists all 18"),
        ("[label.x]\nrows = '1'", "rows is '1'; it is a whole number, as in 3_000_000"),
        ("[label.x]\nrows = true", "rows is true; it is a whole number"),
        ("[label.x]\nrows = 1.5", "rows is 1.5; it is a whole number"),
        ("[label.x]\nrows = nan", "rows is nan; it is a whole number"),
        ("[label.x]\nrows = inf", "rows is inf; it is a whole number"),
        ("[label.x]\nrows = -1", "rows is -1; it is a number from 0 on"),
        ("[label.x]\nrows = 9223372036854775808", "it is a number from 0 on, at most"),
        ("[label.x]\nlimit = 10", 'limit is 10; it is a text with a per cent sign, "10%"'),
        ("[label.x]\nlimit = '-1%'", "limit is '-1%'; it is a text with a per cent sign"),
        ("[label.x]\nlimit = '101%'", "more than 100% of a limit traps"),
        ("[label.x]\nlimit = {}", "limit names no limit"),
        ("[label.x]\nlimit = { instructions = 1 }", "limit.instructions is 1; it is a text"),
        ("[total]\nlimit = '1%'", "[total]: limit is of single messages; put it into [each_messa"),
        ("[label.x]\nno_scan = 'artist'", "no_scan is 'artist'; it is true, or a list of tables"),
        ("[label.x]\nno_scan = []", "no_scan is a list; it is true, or a list of tables"),
        ("[label.x]\nno_scan = [1]", "no_scan is a list; it is true"),
        ("[label.x]", '[label."x"] holds no budget; docs/reference/budgets.md lists all 15'),
        ("[label.x]\nallow_trap = true", "holds no budget"),
        ("[label.x]\nrows = 1\nallow_trap = 1", "allow_trap is 1; it is true or false"),
        (
            "[label]\nrows = 1",
            "b.toml, [label]: rows is 1; it stands in a table of its own, [label.",
        ),
        ("label = 3", 'b.toml: label is 3; it is a table, [label."…"]'),
        ("total = 3", "b.toml: total is 3; it is a table, [total]"),
        ("[shape.x]\nreply_bytes = 1", "reply_bytes is of whole messages, and not of a statement"),
        ("prices = 3\n[total]\nrows = 1", "prices is 3; it is a text"),
        ("nodes = 0\n[total]\nrows = 1", "nodes is 0; a subnet has 1 to 1000 of them"),
        ("[total]\nrows = 1\nrows = 2", "b.toml is no TOML"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_its_place_and_the_way_out(text, told):
    assert told in refused(text)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_on_one_line(text):
    told = ""
    try:
        read_budgets(text, "b.toml")
    except BudgetError as error:
        told = str(error)
    assert told.startswith("b.toml" if told else "")


def test_only_some_budgets_need_instructions():
    def needs(text):
        return read_budgets(text, "b").needs_instructions

    assert not needs("[total]\nos_pages_dirty = 1\nno_scan = true\nrows = 3")
    assert not needs("[each_message]\nlimit = { os_pages_accessed = '1%' }")
    # Of all limits the tightest: which one that is shows only where all are counted.
    assert needs("[each_message]\nlimit = '1%'")
    assert needs("[total]\ncycles = 1")


# -- holding ---------------------------------------------------------------------------------------


def test_a_budget_of_a_label_holds_for_each_message_and_the_worst_is_told():
    # Three searches of 3, 61 and 4 OS pages: 4 allowed, so the second alone is over.
    (found,) = held(
        shop((3, 9000), (61, 20_000), (4, 9000)), NumberBudget(LABEL, "os_pages_accessed", 4)
    )
    assert not found.is_kept
    assert (found.held_count, found.exceeded_count, found.measured) == (3, 1, 61)
    assert found.message.index == 1
    assert (found.statement.sql, found.costed) == (FIND, 61)
    assert found.share == Fraction(61, 4)


def test_a_budget_is_kept_up_to_its_last_one():
    trace = shop((3, 9000), (4, 9000))
    assert held(trace, NumberBudget(LABEL, "os_pages_accessed", 4))[0].is_kept
    assert not held(trace, NumberBudget(LABEL, "os_pages_accessed", 3))[0].is_kept
    # 9000 of 5,000,000,000 are 0.00018 %, exactly.
    for percent, is_kept in (("0.00018", True), ("0.000179", False)):
        (found,) = held(trace, LimitBudget(LABEL, "instructions", Decimal(percent)))
        assert (found.is_kept, found.limit.used) == (is_kept, 9000)


def test_a_total_is_the_sum_of_its_messages():
    trace = shop((3, 9000), (61, 20_000), (4, 9000))
    pages, spent, image, cycles = held(
        trace,
        NumberBudget(Target("total"), "os_pages_accessed", 68),
        NumberBudget(Target("total"), "instructions", 37_999),
        NumberBudget(Target("total"), "image_bytes", 16_842_752),
        NumberBudget(Target("total"), "cycles", 0),
    )
    assert (pages.measured, pages.is_kept) == (68, True)
    assert (spent.measured, spent.is_kept, spent.exceeded_count) == (38_000, False, 1)
    # A state, and no sum; and queries are free.
    assert (image.measured, image.is_kept) == (16_842_752, True)
    assert (cycles.measured, cycles.is_kept) == (0, True)


def test_cycles_of_an_update_are_base_instructions_and_arrival_by_the_size_of_the_subnet():
    # 13 nodes: 5,000,000 + 9,000, and to arrive 1,200,000 + 2,000 for each of 100 bytes.
    made = counted(message(0, "update", [], use(1), label="put"), 9000, 40_000_000_000)
    put = replace(made, payloads=Payloads(request_bytes=100, reply_bytes=20))
    budget = NumberBudget(Target("label", "put"), "cycles", 1)
    trace = HandBuiltTrace(messages=[put])
    assert held(trace, budget)[0].measured == 6_409_000
    # 34 nodes: each part is 34 / 13 of that, rounded down.
    (found,) = check_budgets(Budgets((budget,), nodes=34), trace)
    assert found.measured == 5_009_000 * 34 // 13 + 1_200_000 * 34 // 13 + 200_000 * 34 // 13
    request, reply = held(
        trace,
        NumberBudget(Target("label", "put"), "request_bytes", 99),
        NumberBudget(Target("label", "put"), "reply_bytes", 20),
    )
    assert (request.is_kept, reply.is_kept) == (False, True)


def test_a_query_has_a_budget_of_what_it_costs_where_it_is_called_as_an_update():
    made = counted(message(0, "query", [], use(1), label="top"), 9000, 5_000_000_000)
    top = replace(made, payloads=Payloads(request_bytes=100, reply_bytes=20))
    update = replace(top, index=1, kind="update")
    trace = HandBuiltTrace(messages=[top, update])
    for target in (Target("label", "top"), Target("total")):
        # 5,000,000 + 9,000, and to arrive 1,200,000 + 2,000 for each of 100 bytes; the update is
        # paid for anyway.
        (found,) = held(trace, NumberBudget(target, "cycles_as_update", 6_408_999))
        assert (found.measured, found.is_kept, found.exceeded_count) == (6_409_000, False, 1)
    text = render_check(CheckReport(trace.settings, [found]), width=120)
    assert "cycles on a subnet of 13 nodes" in text
    assert read_budgets("[total]\ncycles_as_update = 1", "b").needs_instructions


def test_cycles_of_a_module_with_64_bit_memory_are_twice_its_instructions_and_its_calls_are_paid():
    made = counted(message(0, "update", [], use(1), label="put"), 9000, 40_000_000_000)
    put = replace(made, payloads=Payloads(100, 20, call_count=2, call_bytes=50))
    budget = NumberBudget(Target("label", "put"), "cycles", 1)
    trace = HandBuiltTrace(TraceSettings({"heap_address_bits": 64}), messages=[put])
    # 5,000,000 + 2 * 9,000, to arrive 1,400,000, and two calls: 2 * 260,000 + 50 * 1,000.
    (found,) = check_budgets(Budgets((budget,)), trace)
    assert found.measured == 5_018_000 + 1_400_000 + 570_000
    text = render_check(CheckReport(trace.settings, [found]), width=120)
    assert "cycles on a subnet of 13 nodes, with 64-bit memory" in text


def test_the_tightest_limit_is_that_of_the_largest_share():
    # 61 of 262,144 OS pages are 0.0233 %, 9000 instructions of 5 B are 0.00018 %.
    (found,) = held(shop((61, 9000)), LimitBudget(LABEL, None, Decimal("0.02")))
    assert (found.limit.name, found.measured, found.is_kept) == (
        *("stable_os_pages_accessed", 61, False),
    )


def test_statements_are_meant_word_for_word_or_by_their_shape():
    trace = shop((3, 9000), (61, 20_000))
    for scope, name in (
        ("statement", f"  {FIND.replace(' FROM', chr(10) + 'FROM')} ;"),
        ("statement", "select name from artist where name = 'x'"),
        ("shape", "SELECT name FROM artist WHERE name = 'y'"),
    ):
        pages, spent = held(
            trace,
            NumberBudget(Target(scope, name), "os_pages_accessed", 61),
            NumberBudget(Target(scope, name), "instructions", 18_999),
        )
        assert (pages.held_count, pages.measured, pages.is_kept) == (2, 61, True)
        # Its own: 1000 of the message lie around it.
        assert (spent.measured, spent.is_kept) == (19_000, False)


def test_a_statement_that_is_there_word_for_word_is_meant_alone():
    first, second = (
        statement(index, index, f"SELECT {index}", index, shape="SELECT ?") for index in (0, 1)
    )
    messages = [message(it.index, "query", [it.index], it.stable) for it in (first, second)]
    trace = HandBuiltTrace(messages=messages, statements=[first, second])
    (found,) = held(trace, NumberBudget(Target("statement", "SELECT 0"), "os_pages_accessed", 0))
    assert (found.held_count, found.is_kept) == (1, True)


def test_a_scan_is_told_with_its_statement_and_table():
    (found,) = held(shop((3, 9000), (61, 20_000, SCAN)), ScanBudget(LABEL))
    assert (found.exceeded_count, found.measured, found.message.index) == (1, 1, 1)
    assert list(failure_lines(found)) == [
        "find artist: scans Artist, and may not in message 1 (query)",
        f"goes through all of Artist (SCAN artist): {FIND}",
    ]


@pytest.mark.parametrize(
    ("plan", "sql", "tables"),
    [
        (("SCAN artist",), "SELECT 1 FROM artist", ["Artist"]),
        (("SCAN artist USING COVERING INDEX by_name",), "SELECT 1 FROM artist", ["Artist"]),
        (("SCAN b LEFT-JOIN",), "SELECT 1 FROM x LEFT JOIN artist AS b", ["Artist"]),
        (
            ("SEARCH a USING AUTOMATIC COVERING INDEX (name=?)",),
            "SELECT 1 FROM artist a",
            ["Artist"],
        ),
        (("SEARCH artist USING INDEX by_name (name=?)",), "SELECT 1 FROM artist", []),
        (("SCAN CONSTANT ROW",), "SELECT 1", []),
        (("CO-ROUTINE n", "  SCAN n"), "WITH n AS (SELECT 1) SELECT 1 FROM n", []),
        (("SCAN artist VIRTUAL TABLE INDEX 0:M1",), "SELECT 1 FROM artist", []),
        (("SCAN (subquery-1)",), "SELECT 1 FROM (SELECT 1)", []),
        (("USE TEMP B-TREE FOR ORDER BY",), "SELECT 1", []),
    ],
)
def test_lines_of_plans_that_go_through_a_table_of_the_database(plan, sql, tables):
    trace = HandBuiltTrace(schema=SCHEMA)
    found = table_scans(statement(0, 0, sql, plan=plan), tables_of(trace))
    assert [it.table for it in found] == tables


def test_a_table_that_was_dropped_later_is_known_by_its_pages():
    trace = replace(shop((61, 9000, SCAN)), schema=())
    assert held(trace, ScanBudget(LABEL))[0].scans[0].scan.table == "Artist"


def test_what_trapped_has_failed_its_budget_unless_it_may():
    trapped = [replace(it, outcome="trapped", trap="no") for it in shop((3, 9000)).messages]
    trace = replace(shop((3, 9000)), messages=trapped)
    (found,) = held(trace, NumberBudget(LABEL, "os_pages_accessed", 4))
    assert (found.is_kept, found.exceeded_count, found.trapped) == (False, 0, (0,))
    assert "trapped in message 0" in next(failure_lines(found))
    assert held(trace, NumberBudget(LABEL, "os_pages_accessed", 4, allows_trap=True))[0].is_kept
    assert held(trace, NumberBudget(Target("total"), "os_pages_accessed", 4))[0].is_kept


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        (
            NumberBudget(Target("label", "find artits"), "rows", 1),
            "no such label; did you mean find artist?",
        ),
        (NumberBudget(Target("label", "z"), "rows", 1), "no such label; there are 'find artist'"),
        (
            NumberBudget(Target("method", "z"), "rows", 1),
            "no such method; there is no method at all",
        ),
        (
            NumberBudget(Target("shape", "DROP TABLE x"), "rows", 1),
            "no such statement of this shape; there are 'SELECT name FROM ar…'",
        ),
        (LimitBudget(LABEL, "heap", Decimal(1)), "has no limit 'heap'; there are os"),
        (
            LimitBudget(LABEL, "os_page_dirty", Decimal(1)),
            "no limit 'os_page_dirty'; did you mean os_pages_dirty",
        ),
        (
            ScanBudget(LABEL, ("artits",)),
            "no_scan: there is no table 'artits'; did you mean Artist",
        ),
        (NumberBudget(LABEL, "reply_bytes", 1), "nobody counted reply_bytes of message 0 (query)"),
    ],
)
def test_a_budget_for_what_is_not_there_says_what_there_is(budget, told):
    with pytest.raises(BudgetError) as caught:
        held(shop((3, 9000)), budget)
    assert told in str(caught.value).replace('"', "'")
    assert len(str(caught.value)) <= ERROR_COLUMNS_MAX


def test_long_names_and_many_make_no_long_error():
    """A trace of many long statements, and a budget for another one as long."""
    sql = "SELECT name, year, label FROM artist JOIN track USING (artist_id) WHERE id = "
    trace = shop((3, 9000))
    statements = [replace(it, sql=f"{sql}{it.index}") for it in trace.statements] * 40
    wanted = NumberBudget(Target("statement", "DROP TABLE a_table_of_a_very_long_name"), "rows", 1)
    with pytest.raises(BudgetError) as caught:
        held(replace(trace, statements=statements), wanted)
    assert '[statement."DROP TABLE a_table_…"]: no such statement; there are ' in str(caught.value)
    assert len(str(caught.value)) <= ERROR_COLUMNS_MAX
    for text in ("[total]\nfoo = 1", "[total]", "[other]\nrows = 1"):
        assert len(refused(text)) <= ERROR_COLUMNS_MAX


def test_without_instructions_no_limit_is_the_tightest():
    bare = [
        replace(it, instructions=None, limits=it.limits[:-1]) for it in shop((3, 9000)).messages
    ]
    trace = replace(shop((3, 9000)), messages=bare)
    with pytest.raises(
        BudgetError, match=r"nobody counted instructions of message 0 .* with engine="
    ):
        held(trace, LimitBudget(LABEL, None, Decimal(10)))
    assert held(trace, LimitBudget(LABEL, "os_pages_dirty", Decimal(10)))[0].is_kept


def test_an_empty_trace_keeps_no_budget():
    with pytest.raises(BudgetError, match="there is no message"):
        held(HandBuiltTrace(), NumberBudget(Target("total"), "rows", 1))


# -- baselines -------------------------------------------------------------------------------------

texts = st.text(st.characters(codec="utf-8"), max_size=12)
counts = st.none() | st.integers(0, 2**63)


@st.composite
def entries(draw):
    count = draw(st.integers(1, 4))
    numbers = st.lists(counts, min_size=count, max_size=count).map(tuple)
    return BaselineEntry(
        count,
        {name: draw(numbers) for name in KEPT_MEASURES},
        tuple(sorted(draw(st.sets(texts, max_size=3)))),
    )


names = st.builds(EntryName, texts, texts, st.sampled_from(["message", "statement"]), texts)
baselines = st.builds(
    Baseline,
    st.dictionaries(texts, st.none() | st.booleans() | st.integers() | texts, max_size=4),
    st.dictionaries(names, entries(), max_size=4),
)


@settings(max_examples=40)
@given(baselines)
def test_a_baseline_is_read_back_as_it_was_written_and_has_not_changed(baseline):
    text = baseline_text(baseline)
    again = read_baseline(text, "it")
    assert again == baseline
    assert baseline_text(again) == text
    assert baseline_of(baseline_data(baseline), "it") == baseline
    check_settings(baseline, again, "it")
    assert baseline_changes(baseline, again).changes == ()


@settings(max_examples=40)
@given(baselines, baselines)
def test_forth_and_back_what_regressed_improves_and_what_is_new_goes(one, other):
    there, back = baseline_changes(one, other), baseline_changes(other, one)
    opposite = {"regressed": "improved", "improved": "regressed", "new": "gone", "gone": "new"}
    assert sorted((it.name, opposite[it.kind], it.measure, it.count) for it in there.changes) == (
        sorted((it.name, it.kind, it.measure, it.count) for it in back.changes)
    )
    assert there.unchanged_count == back.unchanged_count


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ("[]", "is no baseline of sqlstable"),
        ('{"format": "sqlstable-report"}', "is no baseline of sqlstable"),
        ('{"format": "sqlstable-baseline", "version": 2}', "is a baseline of version 2"),
        ('{"format": "sqlstable-baseline", "version": 1}', "is damaged"),
        (
            '{"format": "sqlstable-baseline", "version": 1, "settings": {}, "entries": [{}]}',
            "is damaged",
        ),
    ],
)
def test_what_is_no_baseline_is_refused(text, told):
    with pytest.raises(BudgetError, match=told):
        read_baseline(text, "it")


def test_numbers_out_of_place_are_damage():
    text = baseline_text(make_baseline(shop((3, 9000), (4, 9000))))
    changes = [("[3, 4]", it) for it in ("[3]", "[3, -4]", "[3, true]")]
    for old, new in (*changes, ('"message"', '"massage"'), ('"scans": []', '"scans": "x"')):
        with pytest.raises(BudgetError, match="is damaged"):
            read_baseline(text.replace(old, new), "it")


def test_changes_are_told_as_canbench_tells_them():
    # 1000 to 1123 is 12.3 % more; the second search went from 4 OS pages to 2, the third is new.
    kept = make_baseline(shop((3, 1000), (4, 9000)))
    now = make_baseline(shop((3, 1123), (2, 9000), (5, 9000)))
    found = baseline_changes(kept, now)
    assert [(it.kind, it.measure, it.position, it.count, it.of) for it in found.changes] == [
        ("regressed", "instructions", 1, 1, 3),
        ("improved", "os_pages_accessed", 2, 1, 3),
        ("new", "", 1, 1, 3),
    ]
    assert found.changes[0].change.percent == pytest.approx(12.3)
    assert found.has_regressed
    # canbench's threshold: less is noise, so much is none.
    assert baseline_changes(kept, now, 12.3).has_regressed
    assert not baseline_changes(kept, now, 12.31).has_regressed


def test_a_new_scan_has_regressed_even_where_no_number_has():
    found = baseline_changes(
        make_baseline(shop((3, 9000))), make_baseline(shop((3, 9000, SCAN))), 50
    )
    assert [(it.kind, it.measure, it.tables) for it in found.changes] == [
        ("regressed", "scans", ("Artist",))
    ]


def test_the_worst_is_named_not_the_first_by_name():
    def kept(**pages):
        return Baseline({}, {
            EntryName(name, "query", "message", ""): BaselineEntry(1, {"os_pages_accessed": (it,)})
            for name, it in pages.items()
        })  # fmt: skip

    def words(found):
        return worst_words(CheckReport(TraceSettings({}), [], found))

    changes = baseline_changes(kept(a=100, b=100, c=1000, d=9), kept(a=101, b=200, c=1100, d=1))
    assert [it.name.label for it in changes.regressed] == ["b", "c", "a"]
    assert words(changes) == (
        "since the baseline: 3 regressed, 1 improved; the worst: b: OS pages accessed regressed by "
        "100.00%; and 2 more"
    )
    only = baseline_changes(kept(a=0), kept(a=1))
    assert words(only) == "since the baseline: 1 regressed; a: OS pages accessed regressed from 0"
    # A new scan is worse than any number; a number that was 0 has grown beyond any per cent.
    scan = baseline_changes(make_baseline(shop((3, 9000))), make_baseline(shop((3000, 9000, SCAN))))
    both = replace(scan, changes=(*only.changes, *changes.changes, *scan.changes))
    assert [it.measure for it in both.regressed][:3] == ["scans", "os_pages_accessed", *(
        ["os_pages_accessed"]
    )]  # fmt: skip
    assert "; the worst: find artist: scans Artist, and did not before; and 5 more" in words(both)
    gone = baseline_changes(kept(a=1), Baseline({}, {}))
    assert words(gone).endswith("; nothing of the baseline was run; a: gone, for one")


def test_of_budgets_the_one_that_is_exceeded_most_is_named():
    found = report()
    assert found.worst.scans
    assert worst_words(found).startswith("2 of 5 budgets not kept; since the baseline: ")
    assert worst_words(found).endswith("; and 1 more budget")
    trace = shop((30, 9000))
    some = held(trace, *(NumberBudget(LABEL, "os_pages_accessed", it) for it in (29, 3, 29)))
    assert replace(found, verdicts=some).worst is some[1]
    none = held(trace, NumberBudget(LABEL, "os_pages_accessed", 0))
    assert replace(found, verdicts=[*some, *none]).worst is none[0]
    alone = CheckReport(TraceSettings({}), some[:1])
    assert worst_words(alone).startswith("1 of 1 budget not kept: find artist: 30 OS pages")


def test_what_is_inserted_moves_no_entry():
    one = shop((3, 9000))
    other = counted(message(0, "query", [0], use(9)), 7)
    sql = statement(0, 0, "SELECT 7", 9, instructions=None)
    moved = HandBuiltTrace(
        messages=[other, replace(one.messages[0], index=1, statements=(1,))],
        statements=[sql, replace(one.statements[0], index=1, message=1)],
        schema=SCHEMA,
    )
    found = baseline_changes(make_baseline(one), make_baseline(moved))
    assert [(it.kind, str(it.name)) for it in found.changes] == [("new", "query: SELECT 7")]


def test_other_settings_are_refused_by_their_names():
    kept = Baseline({"engine": "wasm", "page_size": 4096, "limits": "2026-01-01", "old": 1}, {})
    with pytest.raises(BudgetError, match="page_size 4096 there, 8192 here; run with those"):
        check_settings(kept, replace(kept, settings={**kept.settings, "page_size": 8192}), "it")
    with pytest.raises(BudgetError, match="other settings: engine wasm there, native here"):
        check_settings(kept, replace(kept, settings={"engine": "native"}), "it")
    # Limits change no count; and another release may know another setting.
    check_settings(kept, replace(kept, settings={"engine": "wasm", "page_size": 4096}), "it")


def beside(*samples, measured=True):
    """Return a trace of both engines: messages of 9 OS pages accessed and none dirty."""
    made = shop(*[(9, 1000)] * len(samples))
    messages = [
        replace(it, sample=sample, instructions=replace(it.instructions, measured=measured))
        for it, sample in zip(made.messages, samples, strict=True)
    ]
    settings = TraceSettings({**made.settings.values, "engine": "both", "measure": "all"})
    return replace(made, settings=settings, messages=messages)


def sample(accessed=9, dirty=0, difference=None):
    return Sample(SampleGroup("query", None, "discarded", "", 0, 0), accessed, dirty, difference)


def test_what_both_engines_measured_throughout_compares_with_the_measured_one():
    alone = shop((9, 1000), (9, 1000))
    alone = replace(alone, settings=TraceSettings({**alone.settings.values, "engine": "wasm"}))
    both, wasm = make_baseline(beside(sample(), sample())), make_baseline(alone)
    assert (both.unlike_wasm, wasm.unlike_wasm) == ("", None)
    assert "unlike_wasm" not in baseline_text(wasm)
    for kept, now in ((wasm, both), (both, wasm), (both, both)):
        read = read_baseline(baseline_text(kept), "it")
        assert read == kept
        check_settings(read, now, "it")
        assert not baseline_changes(read, now).changes


@pytest.mark.parametrize(
    ("trace", "why"),
    [
        (beside(sample(), sample(), measured=False), "message 0 was not measured; --measure all"),
        (beside(sample(), None), "message 1 was not measured"),
        (beside(sample(8)), "message 0 accessed 9 OS pages and dirtied 0 on the native engine, 8"),
        (beside(sample(difference="it trapped, of heap")), "ended otherwise on the measured engin"),
    ],
)
def test_what_was_not_measured_throughout_is_refused_and_told_why(trace, why):
    wasm = make_baseline(shop((9, 1000)))
    wasm = replace(wasm, settings={**wasm.settings, "engine": "wasm"})
    with pytest.raises(BudgetError, match="engine wasm there, both here") as caught:
        check_settings(wasm, make_baseline(trace), "it")
    assert why in str(caught.value)
    old = replace(make_baseline(trace), unlike_wasm=None)
    with pytest.raises(BudgetError, match="whether all of the baseline was measured is not in it"):
        check_settings(old, wasm, "it")


# -- showing ---------------------------------------------------------------------------------------


def report():
    kept = make_baseline(shop((3, 9000), (61, 20_000), (4, 9000)))
    trace = shop((3, 9900), (61, 20_000, SCAN), (3, 9000))
    verdicts = held(
        trace,
        NumberBudget(LABEL, "os_pages_accessed", 4),
        NumberBudget(LABEL, "os_pages_dirty", 0),
        LimitBudget(Target("each_message"), "instructions", Decimal(10)),
        ScanBudget(Target("statement", FIND), ("artist",)),
        NumberBudget(Target("total"), "instructions", 38_900),
    )
    settings = TraceSettings({"engine": "wasm", "sqlite": "3.54.1", "limits": "2026-08-18"})
    return CheckReport(settings, verdicts, baseline_changes(kept, make_baseline(trace)))


def test_markdown_is_what_github_reads():
    text = render_check_markdown(report())
    check_golden("check.md", text)
    # Bars that stand in no cell of ours have a backslash before them, in each row of a table.
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") == 7, line


def test_the_table_of_a_terminal():
    check_golden("check_100.txt", render_check(report(), width=100))


@pytest.mark.parametrize("width", [1, 40, 50, 61, 80])
@pytest.mark.parametrize("bound", [0, 2**63 - 1])
def test_tables_fit_every_terminal(width, bound):
    found = report()
    (huge,) = held(shop((3, bound or 9000)), NumberBudget(LABEL, "instructions", bound))
    text = render_check(replace(found, verdicts=[*found.verdicts, huge]), width=width)
    assert max(map(len, text.splitlines())) <= max(width, 40)
    assert "budgets not kept" in text


@pytest.mark.parametrize("width", [61, 80, 100])
def test_a_change_says_what_changed_at_the_width_of_a_log(width):
    """Numbers go before the measure does, however large they are."""
    many = 12_345_678_901_234
    kept = make_baseline(shop((3, many), (61, many), (4, 9000)))
    trace = shop((3, many + 3), (61, many), (3, 9000))
    changes = baseline_changes(kept, make_baseline(trace))
    text = render_check(CheckReport(TraceSettings({}), [], changes), width=width)
    rows = [line for line in text.splitlines() if line.startswith("find artist")]
    assert [[it for it in ("instructions", "OS pages accessed") if it in row] for row in rows] == [
        ["instructions"], ["OS pages accessed"]
    ]  # fmt: skip
    assert "regressed by 3" in rows[0]
    assert ("12,345,678,901,237" in text) == (width == 100)


def test_json_says_the_same():
    check_golden("check.json", "".join(render_check_json(report())))


@given(st.text(max_size=40))
def test_code_ends_where_it_should_whatever_stands_in_it(text):
    found = code(text, is_cell=True)
    assert "\n" not in found
    fence = found[: len(found) - len(found.lstrip("`"))]
    assert fence
    assert found.endswith(fence)
    inner = found[len(fence) : -len(fence)]
    runs = {len(run) for run in "".join(c if c == "`" else " " for c in inner).split()}
    assert len(fence) not in runs
    assert "|" not in inner.replace("\\|", "")
