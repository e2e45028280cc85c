"""Laws of growth: known ones are recovered, intervals hold, limits and plans are found."""

import math
from random import Random

import pytest

from sqlstable.analysis.scaling.growing import scale_results
from sqlstable.analysis.scaling.laws import DRIFT, fit
from sqlstable.analysis.scaling.runs import RanMessage, RanStatement, RunResult
from sqlstable.ic.units import NO_LIMIT
from sqlstable.report.scale_data import render_scale_csv, render_scale_json
from sqlstable.report.scale_table import render_scale
from sqlstable.trace.model import LimitUse
from sqlstable.trace.student import t_quantile
from tests.golden_files import check_golden

SIZES = (1e3, 3e3, 1e4, 3e4, 1e5)

# Source: NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2, upper critical values.
TABLED = {
    0.95: {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 10: 2.228, 29: 2.045, 100: 1.984},
    0.99: {1: 63.657, 2: 9.925, 3: 5.841, 4: 4.604, 5: 4.032, 10: 3.169, 29: 2.756, 100: 2.626},
}


@pytest.mark.parametrize("confidence", TABLED)
def test_quantiles_are_those_of_the_tables(confidence):
    for freedom, t in TABLED[confidence].items():
        assert round(t_quantile(confidence, freedom), 3) == t


# -- laws ------------------------------------------------------------------------------------------

LAWS = {
    "constant": lambda n: 7 + 0 * n,
    "linear": lambda n: 40 + 0.02 * n,
    "n log n": lambda n: 20 + 0.003 * n * math.log(n),
    "quadratic": lambda n: 500 + 0.0004 * n * n,
    "power": lambda n: 3 * n**0.7,
    "logarithmic": lambda n: 100 + 60 * math.log(n),
}


@pytest.mark.parametrize("name", LAWS)
def test_the_law_behind_exact_counts_is_found_and_goes_on(name):
    law = LAWS[name]
    found = fit(SIZES, [law(size) for size in SIZES])
    assert name in [it.name for it in found.laws]
    assert found.predict(1e6).holds(law(1e6))


@pytest.mark.parametrize("rounded", [math.ceil, round, lambda value: math.floor(value) + 1])
@pytest.mark.parametrize("sizes", [(1e3, 2e3, 5e3, 1e4), (100, 300, 1e3, 3e3), (1e3, 1e4, 1e5)])
def test_few_whole_counts_on_a_line_are_not_taken_for_steeper_growth(rounded, sizes):
    for at_none in (0, 0.3, 0.7, 1, 2, 3.5, 10):
        for more in (1, 1.5, 2, 2.7, 3, 4, 5, 7, 10, 15, 25):
            counts = [max(1, rounded(at_none + more * size / sizes[-1])) for size in sizes]
            names = [law.name for law in fit(sizes, counts).laws]
            assert not {"n log n", "quadratic"} & set(names), counts


def test_steeper_growth_is_told_from_a_line_by_counts_a_few_steps_off_it():
    sizes = (1e3, 2e3, 5e3, 1e4, 2e4)
    counts = [4 + round(size * size / 1e7) for size in sizes]
    assert counts == [4, 4, 6, 14, 44]
    assert fit(sizes, counts).best.name == "quadratic"


@pytest.mark.parametrize("exponent", [0.3, 0.5, 1.0, 1.3, 2.0])
def test_known_exponents_are_recovered_from_noise_as_often_as_is_said(exponent):
    draw = Random(exponent)
    inside = predicted = 0
    rounds = 200
    for _ in range(rounds):
        values = [50 * size**exponent * math.exp(draw.gauss(0, 0.04)) for size in SIZES]
        found = fit(SIZES, values)
        inside += found.exponent.low <= exponent <= found.exponent.high
        predicted += found.predict(1e6).holds(50 * 1e6**exponent * math.exp(draw.gauss(0, 0.04)))
    # Of 200 with a probability of 0.95 each, fewer than 180 come once in a thousand.
    assert inside >= 180
    assert predicted >= 180


@pytest.mark.parametrize("scale", [1, 1e-3, 1e6])
def test_counts_in_whole_steps_go_on_inside_the_interval(scale):
    draw = Random(scale)
    for _ in range(100):
        a, b = draw.uniform(0, 40), draw.uniform(1e-5, 1e-1)
        law = lambda n, a=a, b=b: math.ceil(a + b * n)  # noqa: E731  a law in one line
        sizes = [size * scale for size in SIZES]
        found = fit(sizes, [max(1, law(size)) for size in sizes])
        assert found.predict(sizes[-1] * 10).holds(law(sizes[-1] * 10))


def test_what_bends_is_no_power_law():
    found = fit(SIZES, [50_000 + 30 * size for size in SIZES])
    assert found.best.name == "linear"
    assert not found.exponent.is_power_law
    assert 0 < found.exponent.value < 1


def test_more_sizes_narrow_the_interval():
    law = LAWS["n log n"]
    widths = []
    for count in (3, 4, 5, 9):
        sizes = [1e3 * 100 ** (at / (count - 1)) for at in range(count)]
        found = fit(sizes, [round(law(size)) for size in sizes]).predict(1e6)
        widths.append(found.high - found.low)
    assert widths[-1] < widths[0]


def test_hostile_numbers_give_no_error_and_an_interval():
    draw = Random(1)
    for _ in range(300):
        count = draw.randint(3, 8)
        sizes = sorted(draw.sample([10.0**k for k in range(-3, 15)], count))
        values = [float(draw.choice([1, 2, 10**6, 10**18, draw.randint(1, 1000)])) for _ in sizes]
        found = fit(sizes, values)
        for size in (sizes[0] / 1000, sizes[-1] * 1000):
            said = found.predict(size)
            assert 0 <= said.low <= said.high
            assert not math.isnan(said.value)


def test_beyond_the_sizes_an_interval_opens_by_a_drift_of_the_exponent():
    law = LAWS["linear"]
    found = fit(SIZES, [law(size) for size in SIZES])
    inside, beyond = found.predict(1e5), found.predict(1e7)
    assert (inside.high - inside.low) / inside.value < 0.2
    assert beyond.high / beyond.value > 100**DRIFT
    assert beyond.value / beyond.low > 100**DRIFT


# -- runs ------------------------------------------------------------------------------------------

SCAN, SEARCH = ("SCAN t",), ("SEARCH t USING INDEX t_x (x=?)",)
DIRTY_MAX = 1000


def made_run(size, *, plan=SCAN, failure=None, trapped=False):
    """An install, a load whose OS pages are dirty in proportion, and a query that scans them."""
    pages = math.ceil(5 + size / 80)
    read = pages if plan == SCAN else 3
    uses = lambda dirty: (  # noqa: E731  in one line
        LimitUse("stable_os_pages_dirty", dirty, DIRTY_MAX),
        LimitUse("stable_os_pages_accessed", dirty, NO_LIMIT),
        LimitUse("stable_memory_bytes", 1 << 23, 1 << 39),
    )
    messages = [
        RanMessage(0, "install", None, "committed", None, None, 2, 2, 1 << 23),
        RanMessage(
            *(1, "update", "load", "trapped" if trapped else "committed"),
            *("exceeded" if trapped else None, "stable_os_pages_dirty" if trapped else None),
            *(pages, pages, 1 << 23, uses(pages)),
        ),
        RanMessage(2, "query", None, "discarded", None, None, read, 0, 1 << 23, uses(0)),
    ]
    sql = ("INSERT INTO t SELECT ? FROM c", "SELECT * FROM t WHERE x = 1")
    statements = [
        RanStatement(0, 1, 0, sql[0], sql[0], "write", (), 0, 1, pages, pages, pages, pages * 4096),
        RanStatement(1, 2, 0, sql[1], sql[1], "read", plan, 1, 1, read, 0, read, read * 4096),
    ]
    if failure is not None:
        messages, statements = messages[:2], statements[:1]
    return RunResult(
        {}, {"rows": size}, {"engine": "native", "limits": "2026-08-18"}, tuple(messages),
        tuple(statements), failure, used_bytes=pages * 4096,
    )  # fmt: skip


def made_scale(sizes=SIZES, check=1e6, **changes):
    return scale_results(
        "rows",
        [(size, made_run(size, **changes)) for size in sizes],
        None if check is None else (check, made_run(check, **changes)),
    )


def test_each_count_is_fitted_and_checked():
    found = made_scale()
    assert [it.level for it in (found.run, *found.messages, *found.statements)] == [
        *("run", "message", "message", "message", "statement", "statement")
    ]
    query = found.statements[1]
    assert query.of("os_pages_accessed").fit.best.name == "linear"
    assert query.of("os_pages_dirty").reason == "none at any size"
    assert query.of("instructions") is None
    assert found.run.of("used_bytes").fit.best.name == "linear"
    assert found.check.rows
    assert all(row.is_inside for row in found.check.rows)


def test_order_of_sizes_does_not_matter():
    runs = [(size, made_run(size)) for size in SIZES]
    assert scale_results("rows", runs[::-1], None) == scale_results("rows", runs, None)


def test_the_size_at_which_a_limit_is_reached_lies_in_its_interval():
    [reach] = [it for it in made_scale(SIZES[:-1]).reaches if it.grown.level == "message"]
    true = (DIRTY_MAX - 5) * 80
    assert reach.limit.name == "stable_os_pages_dirty"
    assert reach.low <= true <= reach.high
    assert reach.low < reach.size < reach.high
    assert abs(reach.size / true - 1) < 0.05


def cached_run(size, *, cache_pages=200):
    """A query that finds all in a cache while it holds, and else reads all of it anew."""
    there = math.ceil(5 + size / 80)
    hits, read = (there, 2) if there <= cache_pages else (0, there)
    settings = {"engine": "wasm", "page_size": 4096, "cache_size": cache_pages}
    message = RanMessage(
        *(0, "query", None, "discarded", None, None, read, 0, 1 << 23),
        instructions=100 * there,
        hits=hits,
    )
    return RunResult({}, {}, settings, (message,), used_bytes=there * 4096)


def test_beyond_the_cache_the_upper_end_allows_for_what_is_read_again():
    sizes = (500.0, 1000.0, 2000.0, 4000.0, 8000.0)
    runs = [(size, cached_run(size)) for size in sizes]
    found = scale_results("rows", runs, (80_000.0, cached_run(80_000.0)))
    row = next(it for it in found.check.rows if it.measure == "os_pages_accessed")
    assert row.real == 1005
    assert row.prediction.value == pytest.approx(2)
    assert row.is_inside
    assert found.cache.size() == pytest.approx(195 * 80, rel=0.05)
    text = " ".join(render_scale(found, width=100, color_system=None).split())
    assert "SQLite's cache, 800.0 KiB, holds the database up to about 16,000 rows" in text
    # Where enough sizes reach beyond the cache themselves, they tell what that costs.
    part = [(size, cached_run(size)) for size in (4000.0, 8000.0, 40_000.0, 80_000.0)]
    assert scale_results("rows", part, None).cache.size() is not None
    wide = [(size, cached_run(size)) for size in (4000.0, 40_000.0, 80_000.0, 160_000.0)]
    assert scale_results("rows", wide, None).cache.size() is None


def test_a_limit_far_beyond_is_not_named():
    far = [(size, made_run(size)) for size in (1.0, 2.0, 4.0, 8.0)]
    assert scale_results("rows", far, None).reaches == ()


def test_a_limit_that_trapped_is_seen_and_its_message_not_fitted_there():
    runs = [(size, made_run(size)) for size in SIZES[:-1]]
    failed = made_run(1e5, failure="line 3: exceeded", trapped=True)
    found = scale_results("rows", [*runs, (1e5, failed)], None)
    [reach] = [it for it in found.reaches if it.grown.label == "load"]
    assert reach.observed == (3e4, 1e5)
    assert found.failures == ((1e5, "line 3: exceeded"),)
    assert found.messages[1].of("os_pages_dirty").sizes == SIZES[:-1]
    text = " ".join(render_scale(found, width=100, color_system=None).split())
    assert "between 30,000 and 100,000 rows: seen, the message trapped" in text


def test_a_plan_that_changes_is_flagged_with_its_jump_and_parts_the_sizes():
    runs = [(size, made_run(size, plan=SEARCH if size < 5e3 else SCAN)) for size in SIZES]
    found = scale_results("rows", runs, None)
    [(grown, change)] = found.plan_changes
    assert (grown.index, change.before_size, change.after_size) == (1, 3e3, 1e4)
    assert (change.before_plan, change.after_plan) == (SEARCH, SCAN)
    assert change.before_os_pages_accessed == 3
    assert found.statements[1].of("os_pages_accessed").sizes == SIZES[2:]
    assert found.messages[2].of("os_pages_accessed").sizes == SIZES[2:]
    text = render_scale(found, width=100, color_system=None)
    assert "the plan changed between 3,000 and 10,000" in text
    late = [(size, made_run(size, plan=SEARCH if size < 5e4 else SCAN)) for size in SIZES]
    series = scale_results("rows", late, None).statements[1].of("os_pages_accessed")
    assert series.reason == "only 1 of 3 sizes with the last plan"


def test_a_plan_that_changes_beyond_the_sizes_is_flagged_by_the_check():
    runs = [(size, made_run(size, plan=SEARCH)) for size in SIZES]
    found = scale_results("rows", runs, (1e6, made_run(1e6)))
    [(grown, change)] = found.plan_changes
    assert (grown.index, change.before_size, change.after_size) == (1, 1e5, 1e6)
    assert grown.of("os_pages_accessed").fit is not None


def test_a_check_that_fails_says_so_and_checks_what_came_before():
    runs = [(size, made_run(size)) for size in SIZES]
    failed = made_run(1e6, failure="line 3: exceeded", trapped=True)
    found = scale_results("rows", runs, (1e6, failed))
    assert {row.grown.index for row in found.check.rows} == {0}
    assert "at 1,000,000 the script failed: line 3" in render_scale(
        found, width=100, color_system=None
    )


def test_a_wrong_prediction_is_shown():
    runs = [(size, made_run(size)) for size in SIZES]
    found = scale_results("rows", runs, (1e6, made_run(3e6)))
    text = " ".join(render_scale(found, width=100, color_system=None).split())
    assert "outside: statement 1, OS pages accessed: 37,505; predicted 12,484 (" in text


@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_the_table_fits_its_width(width):
    for found in (made_scale(), made_scale(SIZES[:2]), made_scale(check=None)):
        text = render_scale(found, width=width, color_system=None)
        assert max(map(len, text.splitlines())) <= width


def test_the_table_is_as_it_was():
    check_golden("table_scale.txt", render_scale(made_scale(), width=100, color_system=None))


def test_what_failed_at_every_size_is_shown_too():
    failed = RunResult({}, {}, {}, failure="no")
    found = scale_results("rows", [(1.0, failed), (2.0, failed)], (3.0, failed))
    text = render_scale(found, width=80, color_system=None)
    assert "at 1 the script failed: no" in text
    assert "checked by a real run" not in text
    assert list(render_scale_csv(found))[1:] == []
    assert '"sizes": [' in "".join(render_scale_json(found))


def test_hostile_texts_do_no_harm():
    hostile = "SELECT '<b>\x1b[31m\u202e[red]" + "x" * 5000 + "'"
    run = made_run(1000)
    statements = tuple(
        RanStatement(i, i + 1, 0, hostile, hostile, "read", ("SCAN \x1b[31m",), 0, 1, 5, 0, 1, 1)
        for i in range(2)
    )
    runs = [(size, RunResult({}, {}, {}, run.messages, statements)) for size in SIZES]
    found = scale_results("ro\x1bws\u202e", runs, runs[-1])
    for text in (
        render_scale(found, width=80, color_system=None),
        "".join(render_scale_json(found)),
    ):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert hostile in "".join(render_scale_csv(found)).replace('""', '"')
