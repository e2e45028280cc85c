"""``sqlstable run`` beyond a single good run: going on, measuring only, stopping, large input."""

import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from sqlstable import Canister, StableMemory, latest_limits, open_trace
from sqlstable.analysis.verdict import verdict
from sqlstable.cli import running, script_source
from sqlstable.cli.progress import engine_notes
from sqlstable.errors import LimitTrap, TraceError
from sqlstable.ic.limits import LATEST_LIMITS_DATE, MessageLimits
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.trace.format.file import TraceWriter
from sqlstable.wasm.program import make_program
from sqlstable.workload.execution import run_steps
from tests.hand_built import message as built_message
from tests.hand_built import use
from tests.test_cli import ENVIRONMENT, call, folder  # noqa: F401  a fixture

FAILING = """\
CREATE TABLE t (x UNIQUE);
INSERT INTO t VALUES (1);
--@ repeat 2
INSERT INTO t VALUES (1);
SELECT nothing FROM t;
--@ label last
SELECT x FROM t;
"""


def messages_of(result):
    return json.loads(result.stdout)["messages"]


# -- going on -------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_keep_going_runs_what_follows_a_failed_message(folder, engine):  # noqa: F811
    options = ("--engine", engine, "--format", "json")
    result = call("run", "-", *options, stdin=FAILING)
    assert result.exit_code == 1
    assert len(messages_of(result)) == 4
    result = call("run", "-", "--keep-going", *options, stdin=FAILING)
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "Error: 3 messages failed, the first: stdin, line 4: UNIQUE constraint failed: t.x"
    )
    outcomes = [message["outcome"] for message in messages_of(result)]
    assert outcomes == [*["committed"] * 3, *["trapped"] * 3, "discarded"]
    assert messages_of(result)[-1]["label"] == "last"
    assert "UNIQUE constraint failed" in messages_of(result)[3]["trap"]


def test_keep_going_without_a_failure_ends_well(folder):  # noqa: F811
    result = call("run", "shop.sql", "--keep-going")
    assert (result.exit_code, result.stderr) == (0, "")


def test_keep_going_ends_where_nothing_can_be_recorded_any_more(folder, monkeypatch):  # noqa: F811
    seen = []

    def write(*_, **__):
        seen.append(1)
        raise TraceError("the trace is full")

    def run(canister, steps, **options):
        monkeypatch.setattr("sqlstable.trace.format.writer.TraceWriter.write", write)
        return run_steps(canister, steps, **options)

    monkeypatch.setattr(running, "run_steps", run)
    result = call("run", "-", "--keep-going", stdin="SELECT 1;\n" * 50)
    assert (result.exit_code, len(seen)) == (1, 1)
    assert result.stderr.endswith("the trace is full\n")


# -- measuring only -------------------------------------------------------------------------------

FEW = MessageLimits(os_pages_accessed_max=8, os_pages_dirty_max=6, instructions_max=10**7)
LIMITS = replace(latest_limits(), update=FEW, query=FEW)

LARGE = """\
CREATE TABLE t (x);
INSERT INTO t SELECT zeroblob(3000) FROM
  (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 300) SELECT i FROM n);
SELECT count(*), sum(length(x)) FROM t;
"""


@pytest.mark.parametrize("engine", ["native", "wasm"])
@pytest.mark.parametrize("is_file", [False, True])
def test_limits_that_are_not_enforced_are_measured_against(tmp_path, engine, is_file):
    place = {"path": tmp_path / "a.stable"} if is_file else {}
    insert = LARGE.split(";")[1]
    with Canister(engine=engine, limits=LIMITS, **place) as canister:
        canister.update("CREATE TABLE t (x)")
        with pytest.raises(LimitTrap):
            canister.update(insert)
    place = {"path": tmp_path / "b.stable"} if is_file else {}
    with Canister(engine=engine, limits=LIMITS, enforce=False, trace=":memory:", **place) as free:
        assert free.status().settings["enforced"] is False
        free.update("CREATE TABLE t (x)")
        free.update(insert)
        free.upgrade()
        assert free.query("SELECT sum(length(x)) FROM t").rows == [(900_000,)]
        with free.trace() as trace:
            _, small, large, _, query = trace.messages
    limits = {use.name: (use.used, use.limit) for use in large.limits}
    assert limits["stable_os_pages_dirty"][0] > 250
    assert limits["stable_os_pages_dirty"][1] == 6
    assert ("instructions" in limits) == (engine == "wasm")
    assert [verdict(message) for message in (small, large, query)] == ["fits", *["exceeds"] * 2]
    assert large.outcome == "committed"


def test_limits_given_once_are_enforced_for_the_next_canister_on_the_memory():
    memory = StableMemory(limits=LIMITS)
    Canister(memory=memory, enforce=False).update("CREATE TABLE t (x)")
    again = StableMemory.from_image(memory.image(), limits=LIMITS)
    with Canister(memory=again) as canister, pytest.raises(LimitTrap):
        canister.update("INSERT INTO t VALUES (zeroblob(90000))")


def test_a_run_that_does_not_enforce_shows_what_would_have_trapped(folder, monkeypatch):  # noqa: F811
    monkeypatch.setattr("sqlstable.memory.stable.resolve_limits", lambda _: LIMITS)
    result = call("run", "-", "--format", "json", "--no-enforce", stdin=LARGE)
    assert (result.exit_code, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert document["settings"]["enforced"] is False
    assert document["messages"][2]["verdict"] == "exceeds"
    assert document["messages"][2]["outcome"] == "committed"
    assert call("run", "-", stdin=LARGE).exit_code == 1


# -- stopping -------------------------------------------------------------------------------------


class Interrupting:
    """Presses Ctrl-C when so many messages of a run have ended."""

    def __init__(self, monkeypatch, messages):
        def on_step(_self, _step, done):
            if done == messages:
                raise KeyboardInterrupt

        monkeypatch.setattr("sqlstable.cli.progress.MessageProgress.on_step", on_step)


@pytest.mark.parametrize("output_format", ["table", "json", "csv"])
def test_ctrl_c_prints_the_report_of_what_ran_and_where_the_trace_is(
    folder,  # noqa: F811
    monkeypatch,
    output_format,
):
    Interrupting(monkeypatch, 3)
    script = "CREATE TABLE t (x);\n--@ repeat 1000\nINSERT INTO t VALUES (1);"
    options = ("--trace", "a.trace", "--format", output_format)
    result = call("run", "-", *options, stdin=script)
    assert result.exit_code == 130
    assert result.stderr == (
        "Note: the trace is in a.trace; sqlstable report a.trace shows its other views\n"
        "Error: interrupted in stdin, line 3\n"
    )
    with open_trace("a.trace") as trace:
        assert len(trace.messages) == 4
        assert trace.settings["closed"] is True
    shown = call("report", "a.trace", "--format", output_format)
    assert result.stdout == shown.stdout


def test_ctrl_c_after_a_failure_that_was_passed_over_names_both(folder, monkeypatch):  # noqa: F811
    Interrupting(monkeypatch, 4)
    result = call("run", "-", "--keep-going", stdin=f"{FAILING}SELECT 1;\n" * 2)
    assert result.exit_code == 130
    assert "interrupted in stdin, line " in result.stderr
    assert "; before that: stdin, line 4: UNIQUE constraint failed" in result.stderr


@pytest.mark.parametrize("engine", ["native", pytest.param("wasm", marks=pytest.mark.slow)])
def test_sigint_ends_a_run_with_its_report(folder, engine):  # noqa: F811
    Path("long.sql").write_text("SELECT 'begun';\n--@ repeat 1000000000\nSELECT 2;\n")
    command = [sys.executable, "-m", "sqlstable", "run", "long.sql", "--rows", "--engine", engine]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        # The first rows are there: by then the script is running.
        for _ in range(10):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "total of" in output.decode()
    assert errors.decode().splitlines()[-1] == "Error: interrupted in long.sql, line 3"


# -- large and endless input ----------------------------------------------------------------------


def test_a_script_beyond_its_bound_is_refused_and_one_within_is_read(folder, monkeypatch):  # noqa: F811
    monkeypatch.setattr(script_source, "SCRIPT_BYTES_MAX", 3 * script_source.MIB)
    Path("large.sql").write_text("-- " + "x" * (3 * script_source.MIB) + "\nSELECT 1;\n")
    result = call("run", "large.sql")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "large.sql has more than 3 MiB, which is the most that a script may have" in (
        result.stderr
    )
    Path("large.sql").write_text("-- " + "x" * 2 * script_source.MIB + "\nSELECT 1;\n")
    assert call("run", "large.sql").exit_code == 0


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("yes SELECT | {run} -", "stdin has more than 256 MiB"),
        ("{run} /dev/zero", "/dev/zero, line 1: there is a NUL character"),
        ("{run} one.sql --database /dev/zero", "/dev/zero is not a file"),
        *(
            pytest.param(*row, marks=pytest.mark.slow)
            for row in (
                ("mkfifo pipe; yes SELECT > pipe & {run} pipe", "pipe has more than 256 MiB"),
                ("{run} one.sql --trace /dev/zero --force", "/dev/zero is a device"),
                ("{run} params.sql", "--@ params /dev/zero: cannot be read: it is no regular file"),
                ("mkfifo pipe; {report} pipe", "pipe is a pipe"),
                ("{report} /dev/zero", "/dev/zero is a device"),
            )
        ),
    ],
)
@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
def test_endless_input_is_refused(folder, command, reason):  # noqa: F811
    Path("one.sql").write_text("SELECT 1;")
    Path("params.sql").write_text("--@ params /dev/zero\nSELECT ?;")
    program = f"{sys.executable} -m sqlstable"
    done = subprocess.run(
        ["bash", "-c", command.format(run=f"{program} run", report=f"{program} report")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=ENVIRONMENT,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_a_trace_without_a_file_is_kept_on_disk_and_not_in_memory():
    def held_bytes():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    generator = Random(1)
    with TraceWriter(None, {}) as writer:
        held = []
        for number in range(1000):
            label = generator.randbytes(20_000).hex()
            writer.write(built_message(number, "update", (), use(1), label=label), ())
            if number in (100, 999):
                held.append(held_bytes())
    # 36 MB have been written in between.
    assert held[1] - held[0] < 12_000_000


# -- options --------------------------------------------------------------------------------------


def test_all_that_a_header_states_can_be_set(folder):  # noqa: F811
    script = """\
CREATE TABLE p (id INTEGER PRIMARY KEY);
CREATE TABLE c (p REFERENCES p);
SELECT date('now');
INSERT INTO c VALUES (1);
"""
    options = (
        "--now",
        "2020-02-29 12:00",
        "--seed",
        "7",
        "--bucket-pages",
        "4",
        "--depth",
        "pages",
    )
    result = call(
        "run", "-", *options, "--foreign-keys", "--no-owners", "--format", "json", stdin=script
    )
    assert result.exit_code == 1
    assert "FOREIGN KEY constraint failed" in result.stderr
    document = json.loads(result.stdout)
    expected = {
        "now": "2020-02-29 12:00",
        "seed": 7,
        "bucket_pages": 4,
        "depth": "pages",
        "foreign_keys": True,
        "owners": False,
    }
    assert {name: document["settings"][name] for name in expected} == expected
    assert document["statements"][0]["owners"] == []
    result = call("run", "-", *options, "--no-foreign-keys", "--rows", stdin=script)
    assert result.exit_code == 0
    assert "2020-02-29" in result.stdout


def test_the_heap_is_watched_as_asked(folder):  # noqa: F811
    options = ("--engine", "wasm", "--no-track-heap", "--format", "json")
    document = json.loads(call("run", "-", *options, stdin="SELECT 1;").stdout)
    assert document["settings"]["track_heap"] is False
    assert document["messages"][1]["heap"] is None


def test_limits_beyond_the_newest_known_say_whose_they_are(folder):  # noqa: F811
    result = call("run", "-", "--limits", "2100-01-01", stdin="SELECT 1;")
    assert result.exit_code == 0
    assert result.stderr == (
        f"Note: no limits are known after {LATEST_LIMITS_DATE}, so these are those of that day\n"
    )


# -- what the engine and the output say -----------------------------------------------------------


def test_a_first_compilation_is_announced_to_somebody_who_watches(monkeypatch, capsys):
    logger = logging.getLogger("sqlstable.wasm.program")
    for is_watched in (False, True):
        monkeypatch.setattr("sqlstable.cli.progress.is_terminal", lambda _, it=is_watched: it)
        with engine_notes():
            logger.info("compiling %s", "something")
        logger.info("not announced any more")
        expected = "Note: compiling something\n" if is_watched else ""
        assert capsys.readouterr().err == expected


def test_only_the_first_use_of_a_build_compiles(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    wasm = bytes.fromhex("0061736d01000000")
    for said in (1, 0):
        caplog.clear()
        with caplog.at_level(logging.INFO, "sqlstable"):
            make_program(
                wasm, name="empty", regime=PRICE_REGIMES["memory-tracker"], watches_heap=False
            )
        texts = [record.getMessage() for record in caplog.records]
        announced = "compiling the Wasm module (empty, 0.0 MB); that is done once, and takes about"
        assert [text.rpartition(" 2 s ")[0] for text in texts] == [announced][:said]


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "shop.sql"),
        ("--help",),
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for words in (("run", "-h"), ("--version",), ("demo",), ("report", "t"))
        ),
    ],
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_named(folder, arguments):  # noqa: F811
    assert call("run", "shop.sql", "--trace", "t").exit_code == 0
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sqlstable", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=ENVIRONMENT,
        )
    assert done.returncode == 1
    assert done.stderr == "Error: the output cannot be written: No space left on device\n"
