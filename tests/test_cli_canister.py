"""``sqlstable canister`` as its users meet it: output, exit statuses, and what bad input leaves."""

import csv
import gzip
import io
import json
import shutil
from pathlib import Path

import jsonschema
import pytest
import wasmtime

from sqlstable import open_trace
from sqlstable.report.json_schema import report_schema
from tests.small_modules import COUNTER, GUESTBOOK, RELAY
from tests.test_cli import call

WORKLOAD = """\
install counter.wasm '(10)'
update add '(5)'
(15 : nat64)
label many
repeat 20 update add '({i})'
query last '(20)'
upgrade
"""


@pytest.fixture(name="folder")
def folder_fixture(tmp_path, monkeypatch):
    """A folder to work in, with a workload and its module."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    Path("app.calls").write_text(WORKLOAD)
    shutil.copyfile(COUNTER, "counter.wasm")
    return tmp_path


def run(*arguments, stdin=None):
    return call("canister", *arguments, stdin=stdin)


def damaged():
    """Return a compressed module with some bytes changed."""
    data = bytearray(gzip.compress(COUNTER.read_bytes()))
    data[100:120] = bytes(20)
    return bytes(data)


def refused(*arguments, stdin=None, status=2):
    done = run(*arguments, stdin=stdin)
    assert done.exit_code == status, done.output
    assert "Traceback" not in done.output
    assert done.stderr.startswith("Error: ") or "\nError: " in done.stderr
    return done.stderr


# -- output --------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_table_has_a_row_for_each_call_and_one_for_a_loop(folder, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    done = run("app.calls")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= width
    words = " ".join(done.stdout.split())
    assert "canister counter" in words
    assert "add(5 : nat64)" in words
    assert "replied (15 : nat64)" in words
    assert "20 \N{MULTIPLICATION SIGN} add(0 :" in words
    assert '"many"' in words
    assert "total of 24 calls" in words
    assert "every message fits" in words


def test_json_goes_by_the_schema(folder):
    document = json.loads(run("app.calls", "--format", "json").stdout)
    jsonschema.validate(document, report_schema())
    assert [it["call"]["text"] for it in document["messages"]][:2] == [
        *("install(10 : nat64)", "add(5 : nat64)"),
    ]
    assert document["messages"][1]["call"]["answer_text"] == "(15 : nat64)"


def test_csv_has_a_row_for_each_call(folder):
    rows = [*csv.DictReader(io.StringIO(run("app.calls", "--format", "csv").stdout))]
    assert len(rows) == 24
    assert rows[1]["sql"] == "add(5 : nat64)"


@pytest.mark.parametrize("view", ["message", "shape", "owner", "os-page", "locality", "advice"])
def test_every_view_works(folder, view):
    assert run("app.calls", "--by", view).exit_code == 0


def test_a_trace_is_kept_and_compared_with(folder):
    assert run("app.calls", "--trace", "a.trace").exit_code == 0
    with open_trace("a.trace") as trace:
        assert len(trace.messages) == 24
        assert trace.settings.values["closed"]
    assert "a.trace exists already" in refused("app.calls", "--trace", "a.trace")
    done = run("app.calls", "--compare", "a.trace")
    assert done.exit_code == 0
    assert "What changed" in done.stdout
    assert call("report", "a.trace").exit_code == 0
    assert "there is no trace b.trace" in refused("app.calls", "--compare", "b.trace")


def test_two_runs_are_equal_byte_by_byte(folder):
    assert run("app.calls").stdout == run("app.calls").stdout


def test_a_page_for_a_browser_is_written(folder):
    done = run("app.calls", "--html", "page.html")
    assert done.exit_code == 0, done.output
    assert "counter.wasm" in Path("page.html").read_text()


def test_the_page_of_a_comparison_is_that_of_report(folder):
    assert run("app.calls", "--trace", "a.trace").exit_code == 0
    kept = ("--trace", "b.trace", "--compare", "a.trace", "--html", "page.html")
    done = run("app.calls", *kept)
    assert done.exit_code == 0, done.output
    assert "What changed" in done.stdout
    done = call("report", "a.trace", "--compare", "b.trace", "--html", "same.html")
    assert done.exit_code == 0, done.output
    assert Path("page.html").read_text() == Path("same.html").read_text()


def test_a_second_canister_has_a_report_and_a_trace_of_its_own(folder):
    text = f"install relay={RELAY}\nupdate ask '(principal \"{{counter.id}}\")'\n(10)\n"
    done = run(
        *("-", "--canister", "counter=counter.wasm (10)", "--trace", "app.trace"), stdin=text
    )
    assert done.exit_code == 0, done.output
    assert "canister counter" in done.stdout
    assert "app.counter.trace" in done.stderr
    with open_trace("app.trace") as first, open_trace("app.counter.trace") as other:
        assert [it.kind for it in first.messages] == ["install", "update", "callback"]
        assert [it.kind for it in other.messages] == ["install", "replicated_query"]
    given = ("-", "--canister", "counter=counter.wasm (10)")
    assert "alone" not in done.stderr + run(*given, stdin=text).stderr
    done = run(*given, "--format", "csv", stdin=text)
    assert "--format csv holds canister relay alone and leaves out counter" in done.stderr
    assert "--trace FILE keeps a trace of each" in done.stderr
    done = run(*given, "--compare", "app.trace", "--html", "both.html", stdin=text)
    assert "--compare and --html hold canister relay alone and leave out counter" in done.stderr


def test_a_module_alone_is_installed_and_says_what_it_takes(folder):
    shutil.copyfile(GUESTBOOK, "book.wasm")
    Path("book.wasm.gz").write_bytes(gzip.compress(GUESTBOOK.read_bytes()))
    for name in ("book.wasm", "book.wasm.gz"):
        done = run(name)
        assert done.exit_code == 0, done.output
        assert "install()" in done.stdout
        assert "sign : (text) -> (nat64)" in done.stderr
        assert f"install {name}, then update sign" in done.stderr


def test_ready_workloads_are_listed_shown_and_run(folder):
    assert "@counter" in run("@").stdout
    shown = run("@counter", "--show").stdout
    assert shown.startswith("# a counter")
    assert "there is no ready workload @gone" in refused("@gone")


def test_a_profile_is_written_and_its_functions_are_shown(folder):
    done = run("app.calls", "--profile", "p.json")
    assert done.exit_code == 0, done.output
    assert "canister_update add" in done.stdout
    assert "the profile is in p.json" in done.stderr
    profiles = json.loads(Path("p.json").read_text())["profiles"]
    document = json.loads(run("app.calls", "--format", "json").stdout)
    total = sum(it["instructions"]["total"] for it in document["messages"])
    compiling = total - sum(profiles[0]["weights"])
    assert compiling % 6_000 == 0
    assert run("app.calls", "--profile", "p.folded", "--format", "json").exit_code == 0
    assert "counter: update add;canister_update add" in Path("p.folded").read_text()
    assert "p.json exists already" in refused("app.calls", "--profile", "p.json")
    assert "the folder of" in refused("app.calls", "--profile", "gone/p.json")


def test_os_pages_of_16_kib_are_charged_as_on_other_computers(folder):
    def spent(*arguments):
        done = run("app.calls", "--limits", "2026-06-30", "--format", "json", *arguments)
        return json.loads(done.stdout)["messages"][1]["instructions"]["total"]

    # Two OS pages of 4 KiB are one of 16.
    assert spent() - spent("--os-page", "16") == 1_000


# -- stable memory -------------------------------------------------------------------------------


def test_an_image_is_kept_and_gone_on_with(folder):
    assert run("app.calls", "--image", "app.stable").exit_code == 0
    done = run(
        *("-", "--image", "app.stable"), stdin="install counter.wasm\nquery get\n(205 : nat64)\n"
    )
    assert done.exit_code == 0, done.output


def test_the_folder_of_a_snapshot_is_begun_with_and_left_alone(folder):
    assert run("app.calls", "--image", "app.stable").exit_code == 0
    assert call("snapshot", "take", "app.stable").exit_code == 0
    assert call("snapshot", "download", "app.stable", "0", "downloaded").exit_code == 0
    before = {it: it.read_bytes() for it in Path("downloaded").rglob("*") if it.is_file()}
    text = "install counter.wasm\nupdate add '(1)'\n(206 : nat64)\n"
    for _ in range(2):
        done = run("-", "--image", "downloaded", stdin=text)
        assert done.exit_code == 0, done.output
        assert "stays as it is" in done.stderr
    assert before == {it: it.read_bytes() for it in Path("downloaded").rglob("*") if it.is_file()}


# -- failures ------------------------------------------------------------------------------------


def test_what_fails_is_reported_with_status_1_behind_what_came_before(folder):
    done = run("-", stdin=f"{WORKLOAD}update fail\nupdate add '(1)'\n")
    assert done.exit_code == 1
    assert "total of 25 calls" in done.stdout
    assert "Error: stdin, line 8: update fail: it trapped: this counter fails" in done.stderr
    done = run("-", "--keep-going", stdin=f"{WORKLOAD}update fail\nupdate refuse\nupdate add '(1)'")
    assert done.exit_code == 1
    assert "total of 27 calls" in done.stdout
    assert "2 steps failed, the first: stdin, line 8" in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no steps"),
        ("updat add", "stdin, line 1: 'updat' is no step; did you mean update?"),
        ("install gone.wasm", "stdin, line 1: there is no file gone.wasm"),
        ("install app.calls", "stdin, line 1: app.calls: "),
        ("install damaged.wasm.gz", "stdin, line 1: damaged.wasm.gz: Failed to decode"),
        ("install counter.wasm\nas aaaaa-bb update add", "is no principal"),
        ("install counter.wasm '(1)'\nupdate add '(1", "line 2: ' opens here and never closes"),
    ],
)
def test_a_workload_that_cannot_run_is_refused_with_status_2(folder, text, said):
    Path("damaged.wasm.gz").write_bytes(damaged())
    done = run("-", stdin=text)
    assert done.exit_code == (2 if text else 0), done.output
    assert said in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("install counter.wasm", "line 1: install counter.wasm: 0 values are given"),
        ("install counter.wasm '(\"a\")'", "line 1: install counter.wasm: "),
        ("install counter.wasm '(1)'\nupdate add '(\"a\")'", "add takes (nat64)"),
        ("install counter.wasm '(1)'\nupdate ad", "no method 'ad'; it has add"),
        ("install wasi.wasm", "line 1: install wasi.wasm: "),
        ("install trap.wasm", "line 1: install trap.wasm: it trapped: unreachable"),
        ("install bare.wasm\nupdate gone", "line 2: update gone: rejected (5 CANISTER_ERROR"),
        ("install bare.wasm\nupdate go '(1, '", "line 2: update go: "),
    ],
)
def test_a_run_that_fails_at_once_has_status_1_and_one_clear_error(folder, text, said):
    for name, wat in (
        ("wasi", '(module (import "wasi_snapshot_preview1" "fd_write" (func)))'),
        ("trap", '(module (func (export "canister_init") unreachable))'),
        ("bare", '(module (func (export "canister_update go")))'),
    ):
        Path(f"{name}.wasm").write_bytes(wasmtime.wat2wasm(wat))
    assert said in refused("-", stdin=text, status=1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gone.calls",), "there is no file gone.calls"),
        ((".",), ". is a folder"),
        (("app.calls", "--canister", "ledger"), "is not NAME=MODULE"),
        (
            ("app.calls", "--canister", "ledger=gone.wasm"),
            "--canister ledger=gone.wasm: there is no file",
        ),
        (("app.calls", "--time", "soon"), "--time soon is no date and time"),
        (("app.calls", "--did", "gone.did"), "there is no file gone.did"),
        (("app.calls", "--limits", "soon"), "soon"),
        (("app.calls", "--html", "-"), "give the page a file"),
        (("app.calls", "--map", "--by", "owner"), "--map is a view of its own"),
        (("binary.calls",), "line 1: there is a NUL character"),
        (("latin.calls",), "line 1: byte 0xe9 is not UTF-8"),
        (("base.db",), "is a SQLite file, not a workload"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(folder, arguments, said):
    Path("binary.calls").write_bytes(b"\x01\0\2")
    Path("latin.calls").write_bytes(b"# caf\xe9\n")
    Path("base.db").write_bytes(b"SQLite format 3\0" + bytes(100))
    assert said in refused(*arguments)


def test_help_says_what_there_is(folder):
    done = run("--help")
    assert done.exit_code == 0
    assert "--canister" in done.stdout


def test_a_stack_that_ends_with_a_profile_may_not_without(folder):
    wat = """(module (memory 1) (func $deep (export "canister_update go") (call $deep)
      (drop (memory.size))))"""
    Path("deep.wasm").write_bytes(wasmtime.wat2wasm(wat))
    Path("deep.calls").write_text("install deep.wasm\ncall go\n")
    assert "three times the stack" in run("deep.calls", "--profile", "p.json").stderr
    assert "three times the stack" not in run("deep.calls").stderr
