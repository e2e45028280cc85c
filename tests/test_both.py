"""Both engines beside each other: what is measured is what the measured engine alone would say.

The oracle is a run of the measured engine alone: since every update is lived through, each message
that was measured cost what it costs there, to the instruction, whatever came between.
"""

from collections import Counter
from contextlib import suppress
from csv import DictReader
from dataclasses import replace
from functools import cache
from io import StringIO
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from sqlstable import Canister, SettingsError, SqlError, Trap
from sqlstable.analysis.fitting.payload_limits import payload_uses
from sqlstable.analysis.pricing.relimited import relimited
from sqlstable.analysis.verdict import is_estimated
from sqlstable.canister.hooks import Hooks
from sqlstable.canister.sampling import Measure, Sampling
from sqlstable.engine.native.native_engine import is_complete
from sqlstable.ic.limits import latest_limits, limits_at
from sqlstable.ic.words import INSTRUCTIONS
from sqlstable.report.as_csv import render_csv
from sqlstable.report.as_json import document
from sqlstable.report.as_table import render_table
from sqlstable.report.html.summary_words import summary_words
from sqlstable.report.json_schema import report_schema
from sqlstable.report.limit_words import coverage_words
from sqlstable.report.sample_words import coverage, differences
from sqlstable.trace.format.estimating import SampleBlock, blocks_of, margin_of, spreads_of
from sqlstable.trace.model import SampleGroup
from sqlstable.workload.execution import run_steps
from sqlstable.workload.script import parse_script
from tests.test_benchmarks import public_data

ROOT = Path(__file__).parent.parent

SCRIPT = """
CREATE TABLE t (id INTEGER PRIMARY KEY, a, b); CREATE INDEX ta ON t (a);
--@ repeat 60
INSERT INTO t (a, b) VALUES (random() % 50, 'some text of a row');
--@ repeat 30
SELECT count(*) FROM t WHERE a < 5;
BEGIN; UPDATE t SET b = 'other' WHERE id % 7 = 0; DELETE FROM t WHERE id % 11 = 0; COMMIT;
--@ trap
UPDATE t SET b = 'gone';
--@ repeat 25
SELECT b FROM t WHERE id = 5;
--@ upgrade
--@ repeat 30
UPDATE t SET b = b || '.' WHERE id = 3;
ALTER TABLE t ADD COLUMN c;
VACUUM;
CREATE TEMP TABLE seen (x); INSERT INTO seen SELECT id FROM t;
--@ repeat 25
UPDATE t SET b = 'seen' WHERE id IN (SELECT x FROM seen WHERE x < 9);
SELECT no_such_column FROM t;
PRAGMA foreign_keys = ON;
ATTACH ':memory:' AS other; CREATE TABLE other.x (y);
--@ repeat 20
INSERT INTO t (a) VALUES (7);
SELECT total(a), total_changes() > 0 FROM t;
--@ reinstall
CREATE TABLE t (id INTEGER PRIMARY KEY, a);
--@ repeat 25
INSERT INTO t (a) VALUES (1);
"""


def run(engine, script=SCRIPT, **options):
    """Run a script; returns what its messages and statements cost, and the trace."""
    steps = parse_script(script, is_complete=is_complete)
    with Canister(engine=engine, trace=":memory:", **options) as canister:
        run_steps(canister, steps, keep_going=True)
        return canister.trace()


once = cache(run)
"""The same, run once for all tests that only look at it."""


def known(trace):
    """Return what was counted, by message."""
    return {
        it.index: (it.instructions, [trace.statements[at].instructions for at in it.statements])
        for it in trace.messages
        if it.instructions is not None and it.instructions.measured
    }


@pytest.mark.slow
def test_all_of_it_measured_is_a_run_of_the_measured_engine():
    alone, both = once("wasm"), once("both", measure="all")
    assert known(both) == known(alone)
    assert both.summary.instructions == alone.summary.instructions
    assert both.summary.instructions.measured
    assert [it.parts for it in both.messages] == [it.parts for it in alone.messages]


@pytest.mark.slow
@pytest.mark.parametrize("measure", ["auto", "2", "20%"])
def test_what_was_measured_cost_what_it_costs_alone(measure):
    alone, both = known(once("wasm")), once("both", measure=measure)
    found = known(both)
    assert 30 < len(found) < len(both.messages)
    assert found == {index: alone[index] for index in found}


@pytest.mark.slow
def test_the_native_engine_says_everything_else():
    native, both = once("native", cache_size=100), once("both", cache_size=100)
    for one, other in zip(native.messages, both.messages, strict=True):
        assert (other.kind, other.outcome, other.trap) == (one.kind, one.outcome, one.trap)
        if one.kind != "query":
            assert other.stable == one.stable


@pytest.mark.slow
def test_two_runs_are_equal():
    one, other = (run("both", measure="3") for _ in range(2))
    assert one.messages == other.messages
    assert one.statements == other.statements
    assert one.summary == other.summary


@pytest.mark.slow
def test_estimates_add_up_and_are_named():
    trace = once("both", measure="2")
    estimated = [it for it in trace.messages if not it.instructions.measured]
    assert estimated
    for message in estimated:
        assert message.instructions.error_band >= 0
        own = [trace.statements[at].instructions for at in message.statements]
        assert not any(it.measured for it in own)
        assert sum(it.total for it in own) < message.instructions.total
    spent = trace.summary.instructions
    assert not spent.measured
    assert spent.total == sum(it.instructions.total for it in trace.messages)
    assert spent.total == spent.computation + spent.stable + spent.heap
    blocks = trace.summary.blocks
    assert sum(block.messages for block in blocks) == len(trace.messages)
    assert sum(block.measured for block in blocks) == len(known(trace))


@pytest.mark.slow
def test_the_total_lies_within_what_is_stated():
    alone, trace = once("wasm"), once("both", measure="2")
    away = trace.summary.instructions.total - alone.summary.instructions.total
    assert abs(away) <= margin_of(trace.summary.blocks) + len(trace.messages)


def test_a_trace_that_goes_on_estimates_anew():
    with Canister(engine="both", trace=":memory:", measure="2") as canister:
        canister.update("CREATE TABLE t (a)")
        for number in range(20):
            canister.update("INSERT INTO t VALUES (?)", (number,))
        before = canister.trace()
        assert before.summary.instructions is not None
        for number in range(50):
            canister.update("INSERT INTO t VALUES (?)", (number,))
        after = canister.trace()
    assert len(after.messages) == len(before.messages) + 50
    assert after.summary.instructions.total > before.summary.instructions.total


# -- how every format says what is estimated ----------------------------------------------------

FEW = """
CREATE TABLE t (a);
--@ repeat 12
INSERT INTO t VALUES (1);
--@ repeat 12
SELECT a FROM t WHERE a < 5;
"""


@pytest.fixture(scope="module")
def few():
    """Some messages, of which two of each shape and block are measured."""
    return run("both", FEW, measure="2")


def is_guessed(message):
    return not message.instructions.measured


def test_messages_that_are_estimated_are_held_against_the_limit_that_the_others_have(few):
    guessed = [it for it in few.messages if is_guessed(it)]
    assert len(guessed) > 8
    for message in guessed:
        [use] = [it for it in message.limits if it.name == INSTRUCTIONS]
        assert use.used == message.instructions.total
        assert use.limit == getattr(latest_limits(), message.kind).instructions_max
        sizes = payload_uses(message)
        used = [message.payloads.request_bytes, message.payloads.reply_bytes]
        assert [it.used for it in sizes] == used
        assert all(is_estimated(message, it) for it in (use, *sizes))
        assert "≈ argument and reply" in coverage_words(message)
    with relimited(few, limits_at("2021-09-01")) as then:
        assert [is_guessed(it) for it in then.messages] == [is_guessed(it) for it in few.messages]


def test_json_says_what_was_measured_of_how_many(few):
    found = document(few)
    Draft202012Validator(report_schema()).validate(found)
    part = found["sampling"]
    assert part["messages"] == len(few.messages)
    assert part["measured"] == len(known(few))
    assert part["estimated"] == sum(map(is_guessed, few.messages))
    assert part["instructions"] == pytest.approx(few.summary.instructions.total, abs=30)
    assert part["margin"] == round(margin_of(few.summary.blocks))
    assert sum(it["messages"] for it in part["shapes"]) == part["messages"]
    for told, message in zip(found["messages"], few.messages, strict=True):
        assert told["instructions"]["measured"] is not is_guessed(message)
        estimated = ["instructions", "argument and reply"] * is_guessed(message)
        assert told["verdict_estimated"] == estimated


def test_json_of_one_engine_has_no_sample():
    with Canister(trace=":memory:") as canister:
        assert document(canister.trace())["sampling"] is None


@pytest.mark.parametrize("by", ["message", "statement"])
def test_csv_says_of_each_row_whether_it_was_measured(few, by):
    rows = list(DictReader(StringIO(render_csv(few, by=by))))
    guessed = [it for it in rows if it["instructions_measured"] == "false"]
    expected = few.messages if by == "message" else few.statements
    assert len(guessed) == sum(map(is_guessed, expected))
    assert all(float(it["instructions_error_band"]) >= 0 for it in guessed)


@pytest.mark.parametrize("by", ["message", "statement", "shape"])
def test_tables_mark_what_is_estimated(few, by):
    text = " ".join("".join(render_table(few, by=by)).split())
    margin = 100 * margin_of(few.summary.blocks) / few.summary.instructions.total
    assert f"± {margin:.2g} % (95%): {len(known(few))} of 26 messages measured" in text
    count = sum(map(is_guessed, few.messages))
    assert f"instructions of {count} messages are estimated (≈)" in text


def test_a_page_says_how_well_its_sum_is_known(few):
    found = summary_words(few)
    [tile] = [it for it in found.tiles if it.label == "instructions"]
    assert tile.value.startswith("≈ ")
    assert f"% (95%), {len(known(few))} of 26 messages measured" in tile.note


# -- journals, attached files, and other sizes -------------------------------------------------

WITH_FILES = """
CREATE TABLE t (id INTEGER PRIMARY KEY, a);
ATTACH 'side.db' AS side;
CREATE TABLE side.log (a);
--@ repeat 8
BEGIN; INSERT INTO t (a) VALUES (random()); INSERT INTO side.log SELECT max(id) FROM t; COMMIT;
--@ repeat 8
SELECT count(*) FROM t JOIN side.log ON log.a = t.id;
--@ trap
DELETE FROM side.log;
UPDATE t SET a = a + 1;
"""


@pytest.mark.slow
@pytest.mark.parametrize("journal_mode", ["delete", "truncate", "persist", "memory", "off"])
def test_journals_and_attached_files_cost_what_they_cost_alone(journal_mode):
    options = {"journal_mode": journal_mode, "page_size": 1024}
    alone, both = (
        run("wasm", WITH_FILES, **options),
        run("both", WITH_FILES, measure="2", **options),
    )
    found, expected = known(both), known(alone)
    assert len(found) > 10
    assert found == {index: expected[index] for index in found}
    assert not list(filter(None, (it.sample.difference for it in both.messages)))


@pytest.mark.slow
def test_another_page_size_behind_a_vacuum_is_followed():
    script = "CREATE TABLE t (a); INSERT INTO t VALUES (1); PRAGMA page_size = 8192; VACUUM;"
    script += "\n--@ repeat 6\nINSERT INTO t VALUES (2);\nSELECT count(*) FROM t;"
    expected, found = known(run("wasm", script)), known(run("both", script, measure="1"))
    assert found == {index: expected[index] for index in found}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["first", "shop"])
def test_examples_cost_what_they_cost_alone(name):
    script = (ROOT / f"examples/{name}.sql").read_text(encoding="utf-8")
    alone, both = run("wasm", script), run("both", script, measure="4")
    expected, found = known(alone), known(both)
    assert found == {index: expected[index] for index in found}
    away = both.summary.instructions.total - alone.summary.instructions.total
    assert abs(away) <= margin_of(both.summary.blocks) + len(both.messages)


STATEMENTS = (
    "INSERT INTO t (a) VALUES (random() % 9)",
    "UPDATE t SET a = a + 1 WHERE a < 5",
    "DELETE FROM t WHERE id % 3 = 0",
    "SELECT count(*) FROM t",
    "SELECT a FROM t WHERE id = 2",
    "SELECT no_such FROM t",
    "CREATE INDEX IF NOT EXISTS ta ON t (a)",
    "VACUUM",
    "--@ upgrade",
)


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(st.lists(st.sampled_from(STATEMENTS), max_size=24))
def test_any_script_costs_what_it_costs_alone(lines):
    script = "CREATE TABLE t (id INTEGER PRIMARY KEY, a);\n"
    script += "\n".join(it if it.startswith("--@") else f"{it};" for it in lines) + "\n"
    alone, both = run("wasm", script), run("both", script, measure="1")
    expected, found = known(alone), known(both)
    assert found == {index: expected[index] for index in found}


@pytest.mark.slow
@pytest.mark.external
def test_chinook_costs_what_it_costs_alone():
    database = public_data("chinook", "chinook.sqlite")
    found = []
    for engine, options in (("wasm", {}), ("both", {"measure": "2"})):
        with Canister(engine=engine, trace=":memory:", **options) as canister:
            canister.import_database(database)
            for artist in range(1, 13):
                canister.query(CHINOOK, (artist,))
            found.append(canister.trace())
    alone, both = map(known, found)
    assert len(both) > 5
    assert both == {index: alone[index] for index in both}


CHINOOK = """
SELECT count(*), total(Milliseconds) FROM Album JOIN Track USING (AlbumId) WHERE ArtistId = ?
"""


# -- what cannot be measured --------------------------------------------------------------------


def reasons(trace):
    return {it.reason for it in coverage(trace.summary.blocks) if it.reason}


def test_a_function_of_python_is_not_measured_and_nothing_fails():
    with Canister(engine="both", trace=":memory:") as canister:
        canister.on_connect(lambda it: it.create_scalar_function("twice", lambda x: 2 * x, 1))
        canister.update("CREATE TABLE t (a)")
        canister.update("INSERT INTO t VALUES (twice(4))")
        assert canister.query("SELECT twice(a) FROM t").rows == [(16,)]
        canister.update("INSERT INTO t VALUES (5)")
        trace = canister.trace()
    # What failed there costs nothing that is the message's.
    assert [it.instructions is None for it in trace.messages] == [False, False, True, True, False]
    assert {it.split(";")[0] for it in reasons(trace)} == {"no such function: twice"}
    assert [it.sample.difference for it in trace.messages][:4] == [None] * 4
    assert trace.messages[4].sample.difference.startswith("its heap began anew before message 3")
    [told] = differences(trace)
    assert told.startswith("message 4 ran otherwise on the measured engine: its heap began anew")


def test_cursors_and_windows_are_not_measured_and_the_next_message_is():
    with Canister(engine="both", trace=":memory:") as canister:
        canister.update("CREATE TABLE t (a)")
        with canister.message("update") as message:
            message.execute("INSERT INTO t VALUES (1)")
            cursor = message.cursor("SELECT a FROM t")
            assert next(cursor) == (1,)
            cursor.close()
        canister.update("INSERT INTO t VALUES (2)")
        with canister.message("update") as message, message.window("blob"):
            pass
        assert canister.query("SELECT count(*) FROM t").rows == [(2,)]
        trace = canister.trace()
    assert reasons(trace) == {
        "its caller steps through a cursor",
        "it works on the connection itself (blob)",
    }
    assert [it.index for it in trace.messages if it.instructions is None] == [2, 4]
    assert [it.index for it in trace.messages if it.sample.difference is not None] == [3, 5]


HELD = (
    "CREATE TEMP TABLE seen (x); INSERT INTO seen VALUES (7)",
    "ATTACH ':memory:' AS other; CREATE TABLE other.seen (x); INSERT INTO other.seen VALUES (7)",
)


@pytest.mark.parametrize("sql", HELD, ids=["TEMP", "ATTACH"])
def test_what_a_new_heap_would_not_have_is_not_measured_until_an_upgrade(sql):
    with Canister(engine="both", trace=":memory:") as canister:
        canister.update("CREATE TABLE t (a)")
        canister.update(sql)
        with canister.message("update") as message:
            message.cursor("SELECT x FROM seen").close()
        for number in range(20):
            canister.update("INSERT INTO t SELECT x + ? FROM seen", (number,))
        assert canister.query("SELECT total(a) FROM t").rows == [(20 * 7 + 190,)]
        canister.upgrade()
        canister.update("INSERT INTO t VALUES (1)")
        trace = canister.trace()
    measured = [it.index for it in trace.messages if it.instructions is not None]
    assert measured == [0, 1, 2, 25, 26]
    assert all(it.sample.difference is None for it in trace.messages)
    told = {it.sample.group.reason for it in trace.messages[4:25]}
    assert len(told) == 1
    assert told.pop().startswith("the connection has TEMP or attached databases")


def test_a_hook_and_a_snapshot_are_not_measured_and_what_follows_is():
    def fill(message):
        message.execute("CREATE TABLE IF NOT EXISTS filled (a)")

    with Canister(engine="both", trace=":memory:") as canister:
        canister.update("CREATE TABLE t (a)")
        snapshot = canister.take_snapshot()
        canister.update("INSERT INTO t VALUES (1)")
        canister.load_snapshot(snapshot)
        assert canister.query("SELECT count(*) FROM t").rows == [(0,)]
        canister.upgrade(hooks=Hooks(post_upgrade=fill))
        canister.update("INSERT INTO filled SELECT count(*) FROM t")
        trace = canister.trace()
    assert [it.instructions is not None for it in trace.messages[-2:]] == [False, True]
    assert len(reasons(trace)) == 2


def test_what_does_not_fit_in_the_measured_engine_alone_is_said():
    latest = latest_limits()
    small = replace(latest.update, instructions_max=30_000_000)
    with Canister(
        engine="both", trace=":memory:", limits=replace(latest, update=small)
    ) as canister:
        canister.update("CREATE TABLE t (a)")
        canister.update(
            "WITH n AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM n WHERE x < 20000)"
            " INSERT INTO t SELECT x FROM n"
        )
        canister.update("INSERT INTO t VALUES (1)")
        trace = canister.trace()
        assert canister.query("SELECT count(*) FROM t").rows == [(20_001,)]
    assert "limit of 30000000 instructions" in trace.messages[2].sample.difference
    assert trace.messages[3].sample.difference.startswith("its heap began anew")
    told, *_ = differences(trace)
    assert told.startswith("message 2 does not fit: on the measured engine it trapped, Canister")


def test_an_update_that_is_lived_through_and_does_not_fit_is_no_failure():
    latest = latest_limits()
    with Canister(engine="both", trace=":memory:", measure="1") as canister:
        canister.update("CREATE TABLE t (a)")
        with suppress(SqlError, Trap):
            canister.update("INSERT INTO nowhere VALUES (1)")
        for number in range(40):
            canister.update("INSERT INTO t VALUES (?)", (number,))
        trace = canister.trace()
    assert latest.update.instructions_max
    assert trace.summary.instructions is not None


def test_an_image_that_is_there_is_measured_too(tmp_path):
    with Canister(tmp_path / "a.stable") as canister:
        canister.update("CREATE TABLE t (a); INSERT INTO t VALUES (1)")
    with Canister(tmp_path / "a.stable", engine="both", trace=":memory:") as canister:
        canister.query("SELECT * FROM t")
        both = canister.trace()
    with Canister(tmp_path / "a.stable", engine="wasm", trace=":memory:") as canister:
        canister.query("SELECT * FROM t")
        assert known(canister.trace()) == known(both)
    assert len(known(both)) == 2


def test_an_import_is_opened_on_the_measured_engine(tmp_path):
    with Canister() as canister:
        canister.update("CREATE TABLE t (a); INSERT INTO t VALUES (1)")
        canister.extract_database(tmp_path / "a.db")
    found = []
    for engine in ("wasm", "both"):
        with Canister(engine=engine, trace=":memory:") as canister:
            canister.import_database(tmp_path / "a.db")
            canister.query("SELECT * FROM t")
            found.append(known(canister.trace()))
    assert found[0] == found[1]


@pytest.mark.parametrize("measure", ["", "0", "-1", "some", "0%", "101%", "1e3", "5 %", "١٢"])
def test_another_measure_is_refused(measure):
    with pytest.raises(SettingsError, match="measure is"):
        Canister(engine="both", measure=measure)


# -- the sample --------------------------------------------------------------------------------

ALIKE = SampleGroup("query", "warm", "discarded", "SELECT ?", 0, 0)


def drawn(population, measure, seed):
    """Yield for each message of a population its block, its cost, and whether it is measured."""
    sampling = Sampling(Measure.parsed(measure), seed)
    for cost in population:
        group, is_measured = sampling.choose(ALIKE)
        if is_measured:
            sampling.note(group, cost)
        yield group.block, cost, is_measured


def sampled(population, measure, seed):
    """Return the blocks of a population, of which a sample is measured."""
    found = {}
    for block, cost, is_measured in drawn(population, measure, seed):
        messages, costs = found.setdefault(block, (0, []))
        if is_measured:
            costs.append(cost)
        found[block] = messages + 1, costs
    return blocks_of(
        (at, *ALIKE[:5], at, "", messages, len(costs), sum(costs), 0, 0, sum(it**2 for it in costs))
        for at, (messages, costs) in found.items()
    )


def populations(random):
    """Yield populations as messages have them: even, growing, of two kinds, with a long tail."""
    size = random.randrange(600, 6000)
    yield [random.gauss(1e6, 1e5) for _ in range(size)]
    yield [1e6 + 100 * at + random.gauss(0, 1e5) for at in range(size)]
    yield [1e6 if random.random() < 0.7 else 1.6e6 for _ in range(size)]
    yield [1e6 + random.expovariate(1 / 2e5) for _ in range(size)]
    yield [1e6 + 4e5 * (at % 20 == 0) for at in range(size)]


@pytest.mark.slow
@pytest.mark.parametrize("measure", ["auto", "16", "3%"])
def test_totals_lie_within_what_is_stated_95_times_of_100(measure):
    random, inside, tried, kinds = Random(5), 0, 0, Counter()
    for seed in range(60):
        for kind, population in enumerate(populations(random)):
            blocks = sampled(population, measure, seed)
            estimate = sum(it.mean * it.messages for it in blocks)
            tried += 1
            is_inside = abs(estimate - sum(population)) <= margin_of(blocks)
            inside += is_inside
            kinds[kind] += is_inside
    assert tried > 200
    # Of 300 the 95 of 100 are within 4 of 100, 99.9 times of 100.
    assert inside >= 0.91 * tried
    assert min(kinds.values()) >= 0.85 * tried / len(kinds)


@pytest.mark.slow
@pytest.mark.parametrize("measure", ["auto", "16", "3%"])
def test_single_messages_lie_within_what_is_stated_95_times_of_100(measure):
    random, inside, tried = Random(7), Counter(), Counter()
    for seed in range(30):
        for kind, population in enumerate(populations(random)):
            bands = {}
            for block, spread, freedom in spreads_of(sampled(population, measure, seed)):
                bands |= dict.fromkeys(block.indexes, (block.mean, block.band(spread, freedom)))
            for at, cost, is_measured in drawn(population, measure, seed):
                mean, band = bands[at]
                tried[kind] += not is_measured
                inside[kind] += not is_measured and abs(cost - mean) <= band * mean
    assert all(inside[kind] >= 0.94 * count for kind, count in tried.items())


def test_blocks_double_and_their_parts_have_one_measured_message_each():
    sampling = Sampling(Measure.parsed("4"), 0)
    chosen = [at for at in range(64) if sampling.choose(ALIKE).is_measured]
    assert chosen[:8] == [*range(8)]
    for start in (8, 16, 32):
        edges = range(start, 2 * start + 1, start // 4)
        for low, high in pairwise(edges):
            assert sum(low <= at < high for at in chosen) == 1


def test_one_measured_message_says_that_it_says_nothing():
    block = SampleBlock((0,), ALIKE, 100, 1, (1000.0, 0.0, 0.0), 1e6)
    assert block.deviation is None
    assert margin_of([block]) >= 99 * 1000
    [(_, spread, freedom)] = spreads_of([block])
    assert block.band(spread, freedom) > 10


PARTS = ("computation", "stable", "heap")


@given(
    st.lists(
        st.tuples(
            st.integers(1, 9), st.integers(0, 9), st.lists(st.integers(0, 10**9), min_size=3)
        ),
        max_size=5,
    )
)
def test_what_blocks_come_to_is_what_their_messages_say(rows):
    blocks = [
        SampleBlock(
            (at,),
            SampleGroup("query", "cold", "committed", f"q{at}", "", "", 0),
            measured + others,
            measured,
            tuple(map(float, parts[:3])),
            0.0,
        )
        for at, (measured, others, parts) in enumerate(rows)
    ]
    by_messages = sum(
        int(sum(it.parts)) + sum(sum(it.each) for _ in range(it.estimated)) for it in blocks
    )
    assert sum(it.instructions for it in coverage(blocks)) == by_messages


@pytest.mark.parametrize("measure", ["1", "2", "3", "all"])
def test_every_sum_of_the_json_is_that_of_its_parts(measure):
    trace = once("both", measure=measure)
    found = document(trace)
    totals, sampling = found["totals"], found["sampling"]
    spent = [it["instructions"] for it in found["messages"] if it["instructions"] is not None]
    assert sampling["instructions"] == sum(it["instructions"] for it in sampling["shapes"])
    # What no sample stands for, as a message that failed, is in none of the shapes.
    sampled = [it.instructions for it in trace.messages if it.sample is not None]
    assert sampling["instructions"] == sum(it.total for it in sampled if it is not None)
    for it in (*spent, totals["instructions"]):
        assert it["total"] == sum(it[part] for part in PARTS)
    for part in ("total", *PARTS):
        whole = totals["instructions"][part]
        assert whole == sum(it[part] for it in spent)
        assert whole == (
            totals["statement_instructions"][part] + totals["around_instructions"][part]
        )
