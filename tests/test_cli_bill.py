"""``sqlstable bill`` as its users meet it."""

import csv
import io
import json

import pytest

from sqlstable import open_trace
from sqlstable.errors import TraceError
from tests.test_cli import call, contents, folder  # noqa: F401  fixtures

LEDGER = """\
--@ label schema
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, cents INTEGER);
--@ label add
--@ repeat 3
INSERT INTO item (name, cents) VALUES ('x', 12);
--@ label cheapest
SELECT name, cents FROM item ORDER BY cents LIMIT 3;
"""


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    """A trace whose instructions were counted."""
    script, trace = (tmp_path_factory.mktemp("bill") / it for it in ("a.sql", "ledger.trace"))
    script.write_text(LEDGER)
    assert call("run", script, "--engine", "wasm", "--trace", trace).exit_code == 0
    return trace


def test_a_month_in_every_format(ledger):
    before = contents(ledger.parent)
    asked = ("bill", ledger, "--calls", "add=10000/day", "--calls", "cheapest=2/s")
    table = call(*asked)
    assert (table.exit_code, table.stderr) == (0, "")
    assert "10,000/day" in table.stdout
    document = json.loads(call(*asked, "--format", "json").stdout)
    with open_trace(ledger) as trace:
        adds = [it.instructions.total for it in trace.messages if it.label == "add"]
    line, read = document["calls"]
    assert line["cycles"]["execution"] == 100_000 * sum(adds)
    assert line["cycles"]["base"] == 5_000_000 * 300_000
    assert (read["name"], read["cycles"]["total"]) == ("cheapest", 0)
    assert document["standing"]["sizes"]["module"] > 10**6
    assert document["standing"]["sizes"]["heap"] > 10**6
    rows = list(csv.DictReader(io.StringIO(call(*asked, "--format", "csv").stdout)))
    assert int(rows[0]["cycles"]) == line["cycles"]["total"]
    assert contents(ledger.parent) == before


def test_what_was_estimated_cannot_be_billed_under_the_prices_of_another_day(tmp_path):
    """Its instructions are those of the run's prices; times old fees they would be no price."""
    script, trace = tmp_path / "a.sql", tmp_path / "both.trace"
    script.write_text(LEDGER.replace("repeat 3", "repeat 20"))
    asked = ("run", script, "--engine", "both", "--trace", trace, "--measure")
    assert call(*asked, "2").exit_code == 0
    bill, repriced = ("bill", trace), ("--prices", "wasm-native")
    assert call(*bill, "--date", "2026-08-01").exit_code == 0
    for options in (["--date", "2024-01-01"], repriced, [*repriced, "--date", "2024-01-01"]):
        refused = call(*bill, *options)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "cannot be counted anew under wasm-native: run again with --prices" in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert call(*asked, "all", "--force").exit_code == 0
    assert call(*bill, "--date", "2024-01-01").exit_code == 0


def test_conditions_change_the_bill(ledger):
    def total(*options):
        asked = call("bill", ledger, "--calls", "add=1/s", *options, "--format", "json")
        assert asked.exit_code == 0, asked.stderr
        return json.loads(asked.stdout)["cycles"]

    plain = total()
    assert total("--nodes", "34")["base"] == plain["base"] * 13_076_923 // 5_000_000
    assert total("--date", "2024-01-01")["base"] == 590_000 * 2_592_000
    assert total("--wasm64")["execution"] == 2 * plain["execution"]
    assert total("--storage", "quoted")["presence"] == 10_000 * 2_592_000
    assert total("--compute-allocation", "1")["compute"] == 10_000_000 * 2_592_000
    assert total("--memory-allocation", "1GiB")["storage"] == 329_184_000_000
    assert total("--module-bytes", "0")["storage"] < plain["storage"]
    assert total("--snapshots-bytes", "1GiB")["storage"] > 329_184_000_000
    assert total("--request-bytes", "0")["ingress"] <= plain["ingress"]


def test_a_bill_under_other_prices_is_that_of_a_run_under_them(ledger, tmp_path):
    then, day = tmp_path / "then.trace", ("--date", "2024-01-01")
    script = tmp_path / "a.sql"
    script.write_text(LEDGER)
    run = ("run", script, "--engine", "wasm", "--trace", then)
    assert call(*run, "--prices", "2024-01-01").exit_code == 0

    def billed(trace, *options):
        asked = call("bill", trace, "--calls", "add=10/day", *options, "--format", "json")
        assert asked.exit_code == 0, asked.stderr
        return json.loads(asked.stdout)

    expected, plain = billed(then, *day), billed(ledger)
    for options in (day, ("--prices", "wasm-native", *day)):
        found = billed(ledger, *options)
        assert {**found, "assumptions": None} == {**expected, "assumptions": None}
        words = "under the price list wasm-native, from what the trace counted under memory-tracker"
        assert any(words in it for it in found["assumptions"])
        assert not any("--prices" in it for it in found["assumptions"])
    assert plain["cycles"]["execution"] > 5 * expected["cycles"]["execution"]
    late = billed(ledger, "--prices", "2024-01-01")
    assert late["cycles"]["base"] == plain["cycles"]["base"]
    assert any("--prices memory-tracker counts so" in it for it in late["assumptions"])
    once = billed(ledger, "--assume", "stable-write-charges=once")
    assert once["cycles"]["execution"] < plain["cycles"]["execution"]
    assert any("memory-tracker, stable-write-charges=once" in it for it in once["assumptions"])


def test_a_day_alone_leaves_what_cannot_be_repriced(ledger, monkeypatch):
    """Where the records do not hold what the list charges for, the bill warns as it did."""

    def refused(*_):
        raise TraceError("no counts")

    monkeypatch.setattr("sqlstable.analysis.pricing.repriced.repriced", refused)
    day = call("bill", ledger, "--date", "2024-01-01", "--format", "json")
    assert any("counted as memory-tracker" in it for it in json.loads(day.stdout)["assumptions"])
    asked = call("bill", ledger, "--prices", "2024-01-01")
    assert (asked.exit_code, "no counts" in asked.stderr) == (2, True)


def test_a_balance(ledger):
    asked = call("bill", ledger, "--balance", "5T", "--format", "json")
    document = json.loads(asked.stdout)
    assert document["balance_cycles"] == 5 * 10**12
    above = 5 * 10**12 - document["standing"]["freezing_limit_cycles"]
    assert document["days_until_frozen"] == pytest.approx(30 * above / document["cycles"]["total"])
    (line,) = [it for it in call("bill", ledger, "--balance", "5T").stdout.splitlines()
               if it.startswith("balance ")]  # fmt: skip
    assert "5.000 T cycles last" in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--calls", "ad=1/day"], "is called 'ad'; there are: install | schema | add | cheapest"),
        (["--calls", "add=-1/day"], "less than no calls"),
        (["--calls", "add=0/day"], "give a number above 0"),
        (["--calls", "chepest=1/day as update"], "there are: install | schema | add | cheapest"),
        (["--calls", "install=1 as update"], "no install is called so; leave 'as update' out"),
        (["--calls", "add"], "write it as NAME=10000/day"),
        (["--calls", "add=1/year"], "it must be one of s, minute, hour, day, month"),
        (["--date", "yesterday"], "is not a date"),
        (["--date", "2020-01-01"], "the earliest date is 2021-05-10"),
        (["--prices", "cheap"], "neither a price list nor a date"),
        (["--assume", "weather=fine"], "there is no assumption 'weather'"),
        (["--date", "2024-01-01", "--assume", "stable-write-charges=once"], "concerns prices"),
        (["--nodes", "0"], "a subnet has 1 to 1000"),
        (["--nodes", "-13"], "a subnet has 1 to 1000"),
        (["--money", "eur", "--xdr-usd", "1.3"], "--xdr-usd goes with --money usd"),
        (["--xdr-usd", "-1"], "give a number above 0"),
        (["--module-bytes", "-5"], "write a size, such as"),
        (["--heap-bytes", "lots"], "write a size, such as"),
        (["--compute-allocation", "200"], "it is 100 at most"),
        (["--compute-allocation", "-1"], "it is 0 or more"),
        (["--freezing-threshold", "-1"], "it is 0 or more"),
        (["--freezing-threshold", "nan"], "it is 0 or more"),
        (["--subnet-usage", "3TiB"], "a subnet was to have"),
        (["--balance", "plenty"], "write cycles, such as 3.5T"),
        (["--request-bytes", "-1"], "--request-bytes is -1"),
    ],
)
def test_bad_input_is_one_line_and_status_2(ledger, options, words):
    before = contents(ledger.parent)
    result = call("bill", ledger, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert contents(ledger.parent) == before


def test_a_trace_that_cannot_be_billed(folder):  # noqa: F811  the fixture
    assert call("run", "shop.sql", "--trace", "native.trace").exit_code == 0
    native = call("bill", "native.trace")
    assert native.exit_code == 2
    assert "--engine wasm" in native.stderr
    assert call("bill", "native.trace", "--calls", "cheapest=5/s").exit_code == 0
    missing = call("bill", "no.trace")
    assert missing.exit_code == 2
    other = call("bill", "shop.sql")
    assert other.exit_code == 2
