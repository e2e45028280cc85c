"""What the system says of a canister: of ours, of an image, and of a module, from one source."""

import gzip
import json
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstable import Canister, CanisterModule, SettingsError
from sqlstable.canister.life_figures import StatusTerms
from sqlstable.engine.measured.module.builds import load
from sqlstable.ic.canister_figures import NOT_KNOWN, CanisterFigures, QueryStats
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.ic.idle_burn import Allocations, MemorySizes
from sqlstable.ic.units import GIB
from sqlstable.replica.figures import figures_of
from tests.test_cli import call, contents

DFX = (
    *("Status", "Controllers", "Memory allocation", "Compute allocation", "Freezing threshold"),
    *("Idle cycles burned per day", "Memory Size", "Balance", "Reserved", "Reserved cycles limit"),
    *("Wasm memory limit", "Wasm memory threshold", "Module hash", "Number of queries"),
    *("Instructions spent in queries", "Total query request payload size (bytes)"),
    *("Total query response payload size (bytes)", "Log visibility"),
)
"""What ``dfx canister status`` says below its first line, in its order."""

LEDGER = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT);\n"


def lines_of(text):
    """Return what is said by name, of the lines that dfx has."""
    first, *lines = text.splitlines()
    assert first.startswith("Canister status call result for ")
    return dict(line.split(": ", 1) for line in lines[: len(DFX)])


@pytest.fixture
def image(tmp_path):
    script, path = tmp_path / "ledger.sql", tmp_path / "ledger.stable"
    script.write_text(LEDGER)
    assert call("run", script, "--image", path).exit_code == 0
    return path


# -- the text -------------------------------------------------------------------------------------


def test_the_whole_text():
    figures = CanisterFigures(
        "ledger",
        MemorySizes(heap=1_835_008, stable=8_454_144, module=1_639_186),
        Allocations(compute_percent=1, freezing_threshold_s=7_776_000),
        CycleFees(34),
        controllers=("b-c", "a-b"),
        balance=3 * 10**14,
        reserved_cycles=10**9,
        module_hash="7d69",
        queries=QueryStats(1_000, 2_000_000, 30, 4),
        unknown=("the weather",),
    )
    # 11,928,338 bytes at 127,000 a GiB and second for a day: 121,898,266; 10,000,000 a second for
    # 1 %: 864,000,000,000; both times 34 / 13: 318,810,849 + 2,259,692,307,692; of 90 days
    # 203,401,000,668,690, less 1,000,000,000. (3e14 - that) / 2.26e12 = 42.7 days.
    assert (
        str(figures)
        == """\
Canister status call result for ledger.
Status: Running
Controllers: a-b b-c
Memory allocation: 0
Compute allocation: 1
Freezing threshold: 7_776_000
Idle cycles burned per day: 2_260_011_118_541
Memory Size: Nat(11928338)
Balance: 300_000_000_000_000 Cycles
Reserved: 1_000_000_000 Cycles
Reserved cycles limit: 5_000_000_000_000 Cycles
Wasm memory limit: 3_221_225_472 Bytes
Wasm memory threshold: 0 Bytes
Module hash: 0x7d69
Number of queries: 1_000
Instructions spent in queries: 2_000_000
Total query request payload size (bytes): 30
Total query response payload size (bytes): 4
Log visibility: controllers

Memory by what it is (bytes): heap 1_835_008, stable 8_454_144, module 1_639_186
Frozen below: 203_400_000_668_690 Cycles
Days left without a call: 42 until frozen, 132 until empty
Prices: 34 nodes, 127_000 cycles a GiB and second; not verified, see docs/reference/cycle-fees.md
Not known: the weather"""
    )


SIZES = st.integers(0, 600 * GIB)


@settings(max_examples=40)
@given(
    SIZES,
    SIZES,
    st.integers(0, 100),
    st.integers(0, 10**8),
    st.one_of(st.none(), st.integers(0, 10**18)),
    st.integers(0, 10**13),
    st.integers(1, 40),
)
def test_the_text_against_a_model(held, allocated, percent, threshold, balance, reserved, nodes):
    figures = CanisterFigures(
        "it",
        MemorySizes(stable=held),
        Allocations(allocated, percent, threshold),
        CycleFees(nodes),
        balance=balance,
        reserved_cycles=reserved,
    )
    said = lines_of(str(figures))
    assert tuple(said) == DFX
    idle = max(held, allocated) * 127_000 * 86_400 // GIB * nodes // 13
    idle += 10_000_000 * percent * 86_400 * nodes // 13
    limit = max(idle * threshold // 86_400 - reserved, 0)
    assert int(said["Idle cycles burned per day"]) == idle
    assert figures.freezing_limit == limit
    assert said["Memory Size"] == f"Nat({held})"
    known = "not known here" if balance is None else f"{balance:_} Cycles"
    assert said["Balance"] == known
    if balance is not None and idle:
        assert figures.days_until_frozen * idle == max(balance - limit, 0)
        assert figures.days_until_empty * idle == balance + reserved
    else:
        assert figures.days_until_frozen is figures.days_until_empty is None


# -- of a canister --------------------------------------------------------------------------------


def test_a_canister_of_our_own_engine_has_its_module_and_heap():
    with Canister(engine="wasm") as canister:
        canister.update(LEDGER)
        status = canister.status(StatusTerms(balance=10**12))
        figures, module = status.figures, load("standard")
        assert figures.module_hash == sha256(module).hexdigest()
        assert figures.sizes.module == len(module)
        assert figures.sizes.stable == status.stable_size_bytes
        assert figures.sizes.heap % 65_536 == 0
        assert figures.sizes.heap > 10**6
        assert figures.unknown == ()
        before = figures.sizes.heap
        canister.update("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 900)"
                        " INSERT INTO item (name) SELECT zeroblob(5000) FROM n")  # fmt: skip
        assert canister.status().figures.sizes.heap > before
        taken = canister.take_snapshot()
        assert canister.status().figures.sizes.snapshots == taken.size_bytes
        canister.stop()
        assert canister.status().figures.status == "Stopped"


def test_a_native_canister_says_what_it_has_not_got():
    with Canister() as canister:
        canister.update(LEDGER)
        status = canister.status()
        said = lines_of(str(status))
        assert (said["Module hash"], said["Balance"]) == ("None", NOT_KNOWN)
        assert said["Memory Size"] == f"Nat({status.stable_size_bytes})"
        assert len(status.figures.unknown) == 3
        given = StatusTerms(balance=1, module=b"module", heap_bytes=7)
        figures = canister.status(given).figures
        assert (figures.sizes.module, figures.sizes.heap, figures.unknown) == (6, 7, ())


def test_asking_changes_nothing():
    with Canister(trace=":memory:") as canister:
        canister.update(LEDGER)
        before = canister.image(), canister.message_count
        assert canister.status() == canister.status()
        assert (canister.image(), canister.message_count) == before


# -- of a module ----------------------------------------------------------------------------------


def test_a_module_says_what_canister_status_answers():
    with CanisterModule("@counter.wasm", "(10)", cycles=4 * 10**12) as counter:
        figures = counter.status()
        said = lines_of(str(figures))
        assert said["Balance"] == "4_000_000_000_000 Cycles"
        assert figures.sizes.stable >= 65_536
        replica = counter._world.replica
        housed = replica.canister(counter.name)
        assert figures == figures_of(housed, CycleFees())
        assert said["Module hash"] == f"0x{housed.module_hash.hex()}"


# -- of an image ----------------------------------------------------------------------------------


def test_an_image_in_every_format(image):
    before = contents(image.parent)
    table = call("status", image, "--balance", "3.5T")
    assert (table.exit_code, table.stderr) == (0, "")
    said = lines_of(table.stdout)
    assert tuple(said) == DFX
    assert said["Balance"] == "3_500_000_000_000 Cycles"
    document = json.loads(call("status", image, "--balance", "3.5T", "--format", "json").stdout)
    assert f"Nat({document['memory_size']})" == said["Memory Size"]
    assert document["memory_metrics"]["stable"] == image.stat().st_size
    assert int(said["Idle cycles burned per day"]) == document["idle_cycles_burned_per_day"]
    header, row = call("status", image, "--format", "csv").stdout.splitlines()
    assert len(header.split(",")) == len(row.split(","))
    assert contents(image.parent) == before


def test_a_module_can_be_given_and_the_engine_left_out(image, tmp_path):
    module = tmp_path / "app.wasm"
    module.write_bytes(b"\0asm\1\0\0\0")
    options = ("--engine", "native", "--module", module, "--heap-bytes", "2MiB")
    said = lines_of(call("status", image, *options).stdout)
    assert said["Memory Size"] == f"Nat({image.stat().st_size + 8 + 2 * 1024 * 1024})"
    assert said["Module hash"] == f"0x{sha256(module.read_bytes()).hexdigest()}"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--balance", "-3T"], "write cycles, such as"),
        (["--balance", "much"], "write cycles, such as"),
        (["--balance", "1e40"], "write cycles, such as"),
        (["--heap-bytes", "-1"], "write a size, such as"),
        (["--module", "none.wasm"], "cannot be read"),
        (["--compute-allocation", "101"], "it is 100 at most"),
        (["--date", "2020-01-01"], "the earliest date is"),
        (["--nodes", "0"], "a subnet has 1 to 1000"),
        (["--freezing-threshold", "-1"], "it is 0 or more"),
    ],
)
def test_bad_input_is_one_line_and_status_2(image, options, words):
    before = contents(image.parent)
    result = call("status", image, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert contents(image.parent) == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0asm-and-more",
        b"\0asm\2\0\0\0",
        b"CREATE TABLE t (a);\n",
        b"\0asm\1\0\0\0\5\4\1",
        b"\x1f\x8b\x08not compressed at all",
        gzip.compress(b"no module"),
    ],
    ids=["empty", "more", "version", "text", "cut off", "damaged gzip", "compressed text"],
)
def test_what_is_no_module_is_refused_in_one_line(image, content):
    module = image.parent / "app.wasm"
    module.write_bytes(content)
    before = contents(image.parent)
    result = call("status", image, "--engine", "native", "--module", module)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is no Wasm module that can be installed: " in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert contents(image.parent) == before


def test_a_compressed_module_counts_as_it_is_installed(image):
    module = image.parent / "app.wasm.gz"
    module.write_bytes(gzip.compress(b"\0asm\1\0\0\0", mtime=0))
    said = lines_of(call("status", image, "--engine", "native", "--module", module).stdout)
    assert said["Memory Size"] == f"Nat({image.stat().st_size + module.stat().st_size})"


def test_what_is_no_image(tmp_path):
    missing = call("status", tmp_path / "no.stable")
    assert missing.exit_code == 2
    assert "there is no image" in missing.stderr
    database = tmp_path / "text.stable"
    database.write_text("hello")
    assert call("status", database).exit_code == 2


def test_sizes_and_allocations_are_not_below_zero():
    with pytest.raises(SettingsError, match="stable was to have -1 bytes"):
        replace(CanisterFigures("it"), sizes=MemorySizes(stable=-1))
