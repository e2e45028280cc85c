"""Benchmarks of modules: measured exactly, compared, kept and shown as canbench users know it."""

import contextlib
import csv
import gzip
import io
import json
import math
import shutil
from pathlib import Path

import pytest
from wasmtime import wat2wasm

from sqlstable.analysis.benching.bench_changes import (
    MetricChange,
    bench_entries,
    significant,
    status_mark,
    summaries,
)
from sqlstable.analysis.benching.measured_bench import BenchResult, Measurement
from sqlstable.errors import CandidError, ModuleError, ResultsError, ScriptError, Trap
from sqlstable.ic.prices import PRICE_REGIMES, REPLICA
from sqlstable.wasm.program import make_program
from sqlstable.workload.benching.bench_module import BenchModule, bench_names, module_bytes
from sqlstable.workload.benching.bench_reply import read_reply
from sqlstable.workload.benching.canbench_files import (
    KeptResults,
    read_config,
    read_results,
    results_text,
)
from tests.golden_files import check_golden
from tests.test_cli import call

CANARY = Path(__file__).parent / "modules" / "canary"
COSTS = PRICE_REGIMES["wasm-native"].costs

# What canbench-rs replies for one benchmark with one scope, taken apart in `test_a_reply_is_read`.
REPLY = bytes.fromhex(
    "4449444c046c04bcbef19b017895e4ed880478f5888e990578a5adfee906786c02007101006d016c02c4a7c9a1"
    "0100dfe0a7ab04020103"
)


@pytest.fixture(scope="module")
def wasm():
    return wat2wasm((CANARY / "canary.wat").read_text())


@pytest.fixture
def folder(tmp_path, monkeypatch, wasm):
    """A folder as canbench users have it, with the module built."""
    for name in ("canbench.yml", "canbench_results.yml"):
        shutil.copy(CANARY / name, tmp_path)
    (tmp_path / "canary.wasm").write_bytes(wasm)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def measured(wasm):
    module = BenchModule(
        wasm, name="canary", regime=PRICE_REGIMES["wasm-native"], init_argument=b"\x05"
    )
    return {name: module.measure(name) for name in bench_names(wasm)}


# -- measuring -----------------------------------------------------------------------------------


def test_every_figure_of_the_canary_is_what_is_kept(measured):
    kept = read_results(CANARY / "canbench_results.yml").benches
    assert {name: it.measurements() for name, it in measured.items()} == {
        name: it.measurements() for name, it in kept.items()
    }


# `canary.wat`, function end: what stands between the two reads of the counter.
END = """
    local.get i32.const call global.get i64.sub i64.store
    local.get call global.get i64.sub i64.store
    local.get i64.const i64.store
    local.get memory.size global.get i32.sub i64.extend_i32_u i64.store
"""
NOTHING = COSTS.performance_counter + REPLICA.function_entry + REPLICA.total(END)
LOOP = "i32.const local.get i32.div_u drop local.get i32.const i32.sub local.tee br_if"
BEHIND_LOOP = "i32.const i32.const i32.store8 i32.const call i32.const call i32.const call"


@pytest.mark.parametrize(
    ("name", "instructions"),
    [
        ("nothing", NOTHING),
        ("write", NOTHING + COSTS.stable_access + 10_000 + 3 * COSTS.dirty_os_page),
        ("write_again", NOTHING + 2 * (COSTS.stable_access + 10_000) + 3 * COSTS.dirty_os_page),
        ("read", NOTHING + COSTS.stable_access + 10_000),
        ("grow", NOTHING + COSTS.stable_grow),
        ("scoped", 2 * NOTHING + 1000 * REPLICA.total(LOOP) + REPLICA.total(BEHIND_LOOP)),
        ("state", NOTHING + COSTS.stable_access + 1 + COSTS.stable_grow + COSTS.call),
    ],
)
def test_the_canary_costs_what_its_operators_add_up_to(measured, name, instructions):
    assert measured[name].total.instructions == instructions


def test_the_canary_shows_what_argument_and_state_were(measured):
    # canister_init got one byte, 5; a benchmark's argument has 7 bytes.
    assert measured["state"].total.stable_memory_increase == 5
    assert measured["state"].total.heap_increase == 7


def test_pages_of_the_message_are_counted(measured):
    write, read = measured["write"].touched, measured["read"].touched
    assert (write.os_pages_accessed, write.os_pages_dirty) == (3, 3)
    assert (write.regions_accessed, write.regions_dirty) == (1, 1)
    assert (read.os_pages_accessed, read.os_pages_dirty) == (3, 0)
    # Wasm page 0 has the reply, page 1 what was read: from 70000 on, three OS pages.
    assert (read.heap_regions_accessed, read.heap_regions_dirty) == (2, 2)
    assert (read.heap_os_pages_accessed, read.heap_os_pages_dirty) == (4, 4)
    # Today each of these regions costs 80 000 when first accessed, and again when first written.
    assert read.instructions_today - read.instructions == 5 * 80_000 - 4 * 1000
    assert write.instructions_today - write.instructions == 4 * 80_000 - 4 * 1000
    assert read.cycles == read.instructions_today + 5_000_000


def test_two_runs_are_identical(measured, wasm):
    module = BenchModule(
        wasm, name="canary", regime=PRICE_REGIMES["wasm-native"], init_argument=b"\x05"
    )
    # In another order: no benchmark finds what another one did.
    again = {name: module.measure(name) for name in reversed(bench_names(wasm))}
    assert again == measured


def test_stable_memory_is_filled_behind_the_installation(folder):
    (folder / "image.bin").write_bytes(bytes([3]) * 70_000)
    with (folder / "canbench.yml").open("a") as file:
        file.write("stable_memory:\n  file: image.bin\n")
    found = json.loads(call("bench", ".", "state", "--format", "json").stdout)
    assert found["benchmarks"][0]["total"]["stable_memory_increase"]["value"] == 3


BROKEN = """
(module
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_reject" (func $reject (param i32 i32)))
  (memory 1)
  (data (i32.const 0) "not today")
  (func (export "canister_query __canbench__silent"))
  (func (export "canister_query __canbench__rejecting")
    (call $reject (i32.const 0) (i32.const 9)))
  (func (export "canister_query __canbench__trapping") unreachable)
  (func (export "canister_query __canbench__garbled")
    (call $append (i32.const 0) (i32.const 9)) (call $reply))
  (func (export "canister_query __canbench__empty") (call $reply)))
"""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("silent", "did not produce a response"),
        ("rejecting", "rejected the call: not today"),
        ("trapping", "unreachable"),
        ("garbled", "reply cannot be read"),
        ("empty", "reply cannot be read"),
    ],
)
def test_a_benchmark_without_a_result_says_why(name, words):
    regime = PRICE_REGIMES["wasm-native"]
    module = BenchModule(wat2wasm(BROKEN), name="broken", regime=regime)
    with pytest.raises(Trap, match=words):
        module.measure(name)


def test_a_module_may_have_more_benchmarks_than_a_deployed_one_methods():
    # Those of stable-structures have 21 752 bytes, too many where canisters are deployed.
    exports = "".join(
        f'(export "canister_query __canbench__a_benchmark_with_quite_a_long_name_{number}")'
        for number in range(450)
    )
    wasm = wat2wasm(f"(module (func {exports}))")
    regime = PRICE_REGIMES["wasm-native"]
    module = BenchModule(wasm, name="many", regime=regime)
    assert len(bench_names(wasm)) == 450
    module.close()
    with pytest.raises(ModuleError, match="exceeds the allowed limit of 20000"):
        make_program(wasm, name="many", regime=regime, watches_heap=True)


def test_a_reply_is_read():
    total = b"".join(number.to_bytes(8, "little") for number in (4, 1, 3, 2))
    inner = b"".join(number.to_bytes(8, "little") for number in (8, 5, 7, 6))
    assert read_reply(REPLY + total + b"\0") == BenchResult(Measurement(1, 2, 3, 4))
    found = read_reply(REPLY + total + b"\1\2ab" + inner)
    assert found.scopes == {"ab": Measurement(5, 6, 7, 8)}


def test_a_damaged_reply_is_refused():
    whole = REPLY + bytes(32) + b"\1\2ab" + bytes(32)
    for size in range(len(whole)):
        with pytest.raises(CandidError, match=r".+"):
            read_reply(whole[:size])
    for place in range(len(whole)):
        for byte in (0, 0x7F, 0xFF):
            damaged = whole[:place] + bytes([byte]) + whole[place + 1 :]
            with contextlib.suppress(CandidError):
                assert isinstance(read_reply(damaged), BenchResult)


def test_a_compressed_module_is_the_same(tmp_path, wasm):
    path = tmp_path / "canary.wasm.gz"
    path.write_bytes(gzip.compress(wasm))
    assert module_bytes(path) == wasm


# -- comparing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("new", "old", "kind"),
    [
        (5, None, "new"),
        (0, 0, "unchanged"),
        (1, 0, "regressed"),
        (0, 1, "improved"),
        (101, 100, "unchanged"),
        (102, 100, "regressed"),
        (98, 100, "improved"),
    ],
)
def test_a_change_is_what_the_threshold_says(new, old, kind):
    assert MetricChange(new, old).kind(2.0) == kind


def test_marks_and_order_of_what_changed():
    def result(instructions, heap=0, **scopes):
        named = {name: Measurement(1, number) for name, number in scopes.items()}
        return BenchResult(Measurement(1, instructions, heap), named)

    old = {"a": result(100), "b": result(100, 5), "c": result(100), "d": result(100)}
    new = {
        "a": result(150),
        "b": result(200, 4),
        "c": result(50),
        "d": result(101, inner=3),
        "e": result(0),
    }
    entries = bench_entries(new, old)
    found = [(it.name, status_mark(it, 2.0)) for it in significant(entries, 2.0)]
    assert found == [("b", "+/-"), ("a", "+"), ("c", "-"), ("d::inner", "new"), ("e", "new")]
    summary = summaries(entries, 2.0)[0]
    assert dict(summary.counts) == {"regressed": 2, "improved": 1, "new": 1, "unchanged": 1}
    # -50, 1, 50, 100: between 1 and 50, 25.5 is rounded away from 0.
    assert (summary.delta.median, summary.percent.median) == (26, 25.5)
    assert math.isinf(MetricChange(1, 0).percent)


# -- files ---------------------------------------------------------------------------------------


def test_results_are_kept_in_the_form_of_canbench():
    text = (CANARY / "canbench_results.yml").read_text()
    kept = read_results(CANARY / "canbench_results.yml")
    assert results_text(kept) == text
    assert kept.version == "0.6.0"


def test_results_of_old_releases_lack_fields(tmp_path):
    path = tmp_path / "old.yml"
    path.write_text("benches:\n  put:\n    total:\n      instructions: 5\nversion: 0.10\n")
    kept = read_results(path)
    assert kept == KeptResults({"put": BenchResult(Measurement(0, 5))}, "0.10")
    assert read_results(tmp_path / "none.yml") == KeptResults({})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("benches: 5", "benches should have names"),
        ("benches:\n  put: 3", "benchmark put"),
        (
            "benches:\n  put:\n    total:\n      instructions: -5",
            "instructions of the total of put",
        ),
        ("benches: [", "is no YAML"),
    ],
)
def test_a_damaged_file_of_results_is_refused(tmp_path, text, words):
    path = tmp_path / "results.yml"
    path.write_text(text)
    with pytest.raises(ResultsError, match=words):
        read_results(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("build_cmd: x", "no wasm_path"),
        ("- wasm_path", "settings should have names"),
        ("wasm_path: [a]", "wasm_path should be a text"),
        ("wasm_path: a.wasm\ninit_args:\n  hex: 5z", "hexadecimal"),
        ("wasm_path: a.wasm\nstable_memory:\n  path: x", "stable_memory has no file"),
        ("wasm_path: a.wasm\nenv_vars:\n  file: vars.csv", "line 2 should be NAME,VALUE"),
    ],
)
def test_a_damaged_configuration_is_refused(tmp_path, text, words):
    (tmp_path / "canbench.yml").write_text(text)
    (tmp_path / "vars.csv").write_text("a, b\nc\n")
    with pytest.raises(ScriptError, match=words):
        read_config(tmp_path)


def test_a_configuration_says_all_of_canbench(tmp_path):
    path = tmp_path / "canbench.yml"
    path.write_text(
        "build_cmd:\n  cargo build\nwasm_path: a.wasm\nresults_path: r.yml\n"
        "csv_results_path: r.csv\ninit_args:\n  hex: 0044\nstable_memory:\n  file: s.bin\n"
        "env_vars:\n  file: vars.csv\n"
    )
    (tmp_path / "vars.csv").write_text("name, some value\n")
    config = read_config(path)
    assert (config.build_command, config.init_argument) == ("cargo build", b"\0D")
    assert config.results_path == tmp_path / "r.yml"
    assert config.csv_path == tmp_path / "r.csv"
    assert config.stable_path == tmp_path / "s.bin"
    assert config.variables == (("name", "some value"),)


# -- the command ---------------------------------------------------------------------------------


def test_what_changed_is_shown(folder):
    path = folder / "canbench_results.yml"
    text = path.read_text().replace("instructions: 251", "instructions: 100")
    text = text.replace("instructions: 13271", "instructions: 13200")
    text = text.replace("instructions: 10271", "instructions: 0")
    path.write_text(text.replace("  grow:", "  shrink:"))
    result = call("bench")
    assert result.exit_code == 0, result.stderr
    check_golden("bench.txt", result.stdout)


def test_only_what_is_asked_for_is_run_and_shown(folder):
    assert "Benchmark: write\n" in call("bench", ".", "wri").stdout
    # As canbench is called: a pattern alone.
    shown = call("bench", "wri", "--less-verbose").stdout
    assert "Benchmark: write_again" in shown
    assert "Benchmark: read" not in shown
    assert "Summary" not in shown
    hidden = call("bench", "--hide-results").stdout
    assert "Benchmark:" not in hidden
    assert "total 7" in hidden


def test_results_persist_and_a_part_leaves_the_rest(folder):
    path = folder / "canbench_results.yml"
    kept = path.read_text()
    path.unlink()
    assert "Successfully persisted" in call("bench", "--persist", "--csv").stdout
    assert path.read_text() == kept
    assert (folder / "canbench_results.csv").exists()
    path.write_text(kept.replace("251", "9").replace("13271", "9"))
    call("bench", "nothing", "--persist")
    assert path.read_text() == kept.replace("13271", "9")


def test_data_for_programs(folder):
    found = json.loads(call("bench", "--format", "json").stdout)
    assert (found["format"], found["version"]) == ("sqlstable-bench", 1)
    assert [it["name"] for it in found["benchmarks"]][:2] == ["grow", "nothing"]
    assert found["settings"] == {"price_regime": "wasm-native"}
    rows = list(csv.DictReader(io.StringIO(call("bench", "--format", "csv").stdout)))
    scope = next(row for row in rows if row["name"] == "scoped::inner")
    assert (scope["scope_calls"], scope["instructions"]) == ("1", "19272")
    assert rows[0]["message_os_pages_dirty"] == "0"


def test_today_dirty_pages_cost_by_region(folder):
    found = json.loads(call("bench", ".", "write", "--limits", "latest", "--format", "json").stdout)
    one = found["benchmarks"][0]
    assert one["total"]["instructions"]["value"] == 13_271 - 3 * 1000 + 2 * 80_000 + 80_000
    assert one["message"]["instructions"] == one["message"]["instructions_today"]


def test_os_pages_of_16_kib_are_charged_where_they_are_asked_for(folder):
    found = json.loads(call("bench", ".", "write", "--os-page", "16384", "--format", "json").stdout)
    # Bytes 6144 to 16144 lie in the first of them.
    value = found["benchmarks"][0]["total"]["instructions"]["value"]
    assert value == 13_271 - 3 * 1000 + 1000
    refused = call("bench", "--os-page", "8192")
    assert (refused.exit_code, "4096 or 16384" in refused.stderr) == (2, True)


def test_a_build_that_fails_ends_it_and_can_be_skipped(folder):
    with (folder / "canbench.yml").open("a") as file:
        file.write("build_cmd: echo built; exit 3\n")
    failed = call("bench", "nothing")
    assert failed.exit_code == 1
    assert "build_cmd ended with status 3" in failed.stderr
    assert call("bench", "nothing", "--no-build").exit_code == 0


TALKING = """
(module
  (import "ic0" "debug_print" (func $print (param i32 i32)))
  (import "ic0" "env_var_value_size" (func $size (param i32 i32) (result i32)))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_reply" (func $reply))
  (memory 1)
  (data (i32.const 0) "%s")
  (data (i32.const 200) "color")
  (func (export "canister_query __canbench__talking")
    (call $print (i32.const 200) (call $size (i32.const 200) (i32.const 5)))
    (call $append (i32.const 0) (i32.const 88))
    (call $reply)))
"""


def test_what_the_canister_prints_is_shown_and_variables_are_there(folder):
    reply = "".join(f"\\{byte:02x}" for byte in (REPLY + bytes(33)))
    (folder / "talking.wasm").write_bytes(wat2wasm(TALKING % reply))
    (folder / "variables.csv").write_text("color,red\n")
    (folder / "talking.yml").write_text(
        "wasm_path: talking.wasm\nenv_vars:\n  file: variables.csv\n"
    )
    assert call("bench", "talking.yml").stderr == ""
    result = call("bench", "talking.yml", "--show-canister-output")
    assert (result.exit_code, result.stderr) == (0, "talking: col\n")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("none.yml", "x"), 2, "there is no file or folder none.yml"),
        (("empty",), 2, "configuration file not found"),
        (("gone.yml",), 2, "are you sure the file exists"),
        ((".", "absent"), 2, "exports no benchmark whose name contains 'absent'"),
        (("--noise-threshold", "-1"), 2, "below 0"),
        (("broken.wasm",), 1, "executing benchmark silent"),
        (("--limits", "1999-01-01"), 2, "limits"),
    ],
)
def test_what_cannot_be_measured_is_said(folder, arguments, status, words):
    (folder / "empty").mkdir()
    (folder / "gone.yml").write_text("wasm_path: gone.wasm\n")
    (folder / "broken.wasm").write_bytes(wat2wasm(BROKEN))
    result = call("bench", *arguments)
    assert result.exit_code == status, result.output
    assert words in result.stderr
