"""Files of results: whole after any interruption, equal from every executor, or refused."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from sqlstable.errors import ExecutorError, ResultsError, SettingsError
from sqlstable.workload.sweeping import carrying_out
from sqlstable.workload.sweeping.carrying_out import DIED, carry_out
from sqlstable.workload.sweeping.executors import (
    Crew,
    SerialExecutor,
    dask,
    processes,
    serial,
)
from sqlstable.workload.sweeping.one_run import run_spec
from sqlstable.workload.sweeping.results import ResultsFile
from sqlstable.workload.sweeping.spec import make_spec
from tests.children import environment
from tests.test_sweeping import SCRIPT

SPECS = [
    make_spec(SCRIPT, choices={"page_size": size}, parameters={"rows": rows})
    for size in (512, 4096, 1000)
    for rows in (10, 40)
]


def dump(path):
    connection = sqlite3.connect(path)
    lines = list(connection.iterdump())
    connection.close()
    return lines


def carried_out(path, open_crew=serial, specs=SPECS, script=SCRIPT, **options):
    with ResultsFile(path, script=script) as results:
        carry_out(specs, results, open_crew, **options)
        return results.results(specs)


# -- what is kept ----------------------------------------------------------------------------------


def test_results_come_back_as_they_were(tmp_path):
    made = [run_spec(spec) for spec in SPECS]
    assert carried_out(tmp_path / "r.sqlite") == made
    with ResultsFile(tmp_path / "r.sqlite", script=SCRIPT) as results:
        assert results.results(SPECS) == made
        assert results.missing(SPECS) == []
    assert [it.failure is None for it in made] == [True] * 4 + [False] * 2


def test_a_second_start_skips_what_is_there(tmp_path, monkeypatch):
    path = tmp_path / "r.sqlite"
    carried_out(path, specs=SPECS[:3])
    ran = []
    monkeypatch.setattr(carrying_out, "run_spec", lambda spec: ran.append(spec) or run_spec(spec))
    told = []
    carried_out(path, on_run=lambda done, total: told.append((done, total)))
    assert ran == SPECS[3:]
    assert told == [(3, 6), (4, 6), (5, 6), (6, 6)]
    carried_out(path)
    assert len(ran) == 3


def test_equal_runs_are_carried_out_once():
    made = carried_out(None, specs=[SPECS[0], SPECS[1], SPECS[0]])
    assert made[0] == made[2]


class Backwards(Executor):
    """Carries out what it was given last first, as other machines may."""

    def __init__(self):
        self.waiting = []

    def submit(self, function, *arguments):
        future = Future()
        self.waiting.append((future, function, arguments))
        if len(self.waiting) == 4:
            for given, work, values in reversed(self.waiting):
                given.set_result(work(*values))
        return future


@contextmanager
def threads(workers_max):
    with ThreadPoolExecutor(2) as executor:
        yield Crew(executor, 2)


@contextmanager
def backwards(workers_max):
    yield Crew(Backwards(), 2)


@pytest.mark.parametrize("crew", [threads, backwards], ids=["threads", "backwards"])
def test_the_file_is_the_same_from_every_executor(tmp_path, crew):
    carried_out(tmp_path / "a.sqlite", specs=SPECS[:4])
    carried_out(tmp_path / "b.sqlite", crew, specs=SPECS[:4])
    assert dump(tmp_path / "a.sqlite") == dump(tmp_path / "b.sqlite")


@pytest.mark.slow
def test_the_file_is_the_same_from_processes(tmp_path):
    carried_out(tmp_path / "a.sqlite")
    carried_out(tmp_path / "b.sqlite", processes(2))
    assert dump(tmp_path / "a.sqlite") == dump(tmp_path / "b.sqlite")


# -- what interrupts -------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 5])
def test_an_interrupted_sweep_goes_on_to_the_same_file(tmp_path, monkeypatch, after):
    carried_out(tmp_path / "whole.sqlite")
    left = [after]

    def interrupted(spec):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return run_spec(spec)

    with monkeypatch.context() as patch:
        patch.setattr(carrying_out, "run_spec", interrupted)
        with pytest.raises(KeyboardInterrupt):
            carried_out(tmp_path / "cut.sqlite")
    with ResultsFile(tmp_path / "cut.sqlite", script=SCRIPT) as results:
        assert len(results.missing(SPECS)) == len(SPECS) - after
    carried_out(tmp_path / "cut.sqlite")
    assert dump(tmp_path / "cut.sqlite") == dump(tmp_path / "whole.sqlite")


ENDLESS = """\
import sys
from pathlib import Path
from sqlstable.workload.sweeping.carrying_out import carry_out
from sqlstable.workload.sweeping.executors import processes
from sqlstable.workload.sweeping.results import ResultsFile
from tests.test_sweep_results import KILLED

if __name__ == "__main__":
    with ResultsFile(Path(sys.argv[1]), script=KILLED[0].script) as results:
        carry_out(KILLED, results, processes(2), on_run=lambda *told: print(*told, flush=True))
"""

KILLED = [
    make_spec(SCRIPT, parameters={"rows": rows}, choices={"seed": rows}) for rows in range(10, 70)
]


def processes_of(group):
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(path)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_sweep_leaves_no_process_and_goes_on(tmp_path, how):
    program = tmp_path / "endless.py"
    program.write_text(ENDLESS)
    child = subprocess.Popen(
        [sys.executable, program, tmp_path / "cut.sqlite"],
        env={**environment(), "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    with child:
        for line in child.stdout:
            if int(line.split()[0]) >= 3:
                break
        os.kill(child.pid, how)
        child.wait()
    deadline = time.monotonic() + 20
    while processes_of(child.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(child.pid) == []
    with ResultsFile(tmp_path / "cut.sqlite", script=SCRIPT) as results:
        missing = results.missing(KILLED)
        assert 0 < len(missing) <= len(KILLED) - 3
        kept = [it for it in results.results(KILLED) if it is not None]
        assert all(it.failure is None and it.statements for it in kept)
    carried_out(tmp_path / "cut.sqlite", specs=KILLED)
    carried_out(tmp_path / "whole.sqlite", specs=KILLED)
    assert dump(tmp_path / "cut.sqlite") == dump(tmp_path / "whole.sqlite")


class Fatal:
    """A description that takes its process with it, and can be told from others."""

    def __init__(self, spec):
        self.spec = spec

    def __reduce__(self):
        return (os._exit, (3,))

    def __getattr__(self, name):
        return getattr(self.spec, name)


@pytest.mark.slow
def test_a_run_that_kills_its_process_is_a_failure_and_all_others_go_on():
    specs = [*SPECS[:2], Fatal(SPECS[2]), *SPECS[3:]]
    made = carried_out(None, processes(2), specs=specs)
    assert made[2].failure == DIED
    assert [made[i] for i in (0, 1, 3, 4, 5)] == [run_spec(SPECS[i]) for i in (0, 1, 3, 4, 5)]


@contextmanager
def dead(workers_max):
    raise ConnectionError("nobody there")
    yield


def test_an_executor_that_dies_before_any_run_ends_the_sweep():
    with pytest.raises(ExecutorError, match="died before any run: nobody there"):
        carried_out(None, dead)


class Failing(SerialExecutor):
    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.set_exception(MemoryError("worker restarted"))
        return future


@contextmanager
def failing(workers_max):
    yield Crew(Failing(), 1)


def test_what_an_executor_cannot_do_is_the_failure_of_that_run():
    made = carried_out(None, failing, specs=SPECS[:2])
    assert [it.failure for it in made] == ["the run could not be carried out: worker restarted"] * 2


@pytest.mark.parametrize("count", [0, -1, 257])
def test_the_number_of_processes_has_bounds(count):
    with pytest.raises(SettingsError, match=f"workers is {count}"):
        processes(count)


# -- what is refused -------------------------------------------------------------------------------


def refused(path, text, script=SCRIPT):
    before = path.read_bytes()
    with pytest.raises(ResultsError, match=text):
        carried_out(path, script=script)
    assert path.read_bytes() == before


def test_results_of_another_script_are_refused(tmp_path):
    path = tmp_path / "r.sqlite"
    carried_out(path, specs=SPECS[:1])
    refused(path, "results of another script", script=SCRIPT + "\n")


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "text"
    path.write_text("no database" * 100)
    refused(path, "is no file of results, or damaged")
    connection = sqlite3.connect(tmp_path / "app.db")
    connection.execute("CREATE TABLE run (x)")
    connection.close()
    refused(tmp_path / "app.db", "is no file of results")
    with pytest.raises(ResultsError, match="cannot be used: unable to open"):
        carried_out(tmp_path / "none" / "r.sqlite")
    with pytest.raises(ResultsError, match="cannot be used: unable to open"):
        carried_out(tmp_path)


def test_a_newer_format_is_refused(tmp_path):
    path = tmp_path / "r.sqlite"
    carried_out(path, specs=SPECS[:1])
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    refused(path, "format 2, and this version reads 1")


@pytest.mark.parametrize("size", [0.3, 0.6, 0.9])
def test_a_cut_off_file_is_refused(tmp_path, size):
    path = tmp_path / "r.sqlite"
    carried_out(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * size)])
    with pytest.raises(ResultsError, match=r"damaged|cannot be used"):
        carried_out(path)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE run SET settings = 'no json'",
        "UPDATE run SET settings = '[1]'",
        "UPDATE run SET settings = NULL",
        'UPDATE run SET index_uses = \'{"i": "x"}\'',
        "UPDATE statement SET plan = x'05'",
        "DELETE FROM about",
        "DROP TABLE message",
        "ALTER TABLE statement DROP COLUMN hits",
    ],
)
def test_rows_that_contradict_the_format_are_refused(tmp_path, damage):
    path = tmp_path / "r.sqlite"
    carried_out(path)
    connection = sqlite3.connect(path)
    connection.execute(damage)
    connection.commit()
    connection.close()
    with pytest.raises(ResultsError):
        carried_out(path)


def test_hostile_texts_come_back_whole(tmp_path):
    sql = "SELECT '<script>\x1b[31m\u202e" + "x" * 12_000 + "'"
    spec = make_spec(sql, name="\u202e<b>")
    [result] = carried_out(tmp_path / "r.sqlite", specs=[spec], script=sql)
    assert len(result.statements[0].sql) == 10_000
    assert result.statements[0].sql == sql[:10_000]


# -- Dask ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Port .* is already in use:UserWarning")
def test_the_file_is_the_same_from_a_cluster_of_dask(tmp_path):
    from distributed import LocalCluster  # noqa: PLC0415  slow to import

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        carried_out(tmp_path / "b.sqlite", dask(cluster.scheduler_address))
    carried_out(tmp_path / "a.sqlite")
    assert dump(tmp_path / "a.sqlite") == dump(tmp_path / "b.sqlite")


CLUSTER = """\
import time
from distributed import LocalCluster

if __name__ == "__main__":
    made = LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None
    )
    print(made.scheduler_address, flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_a_cluster_that_dies_ends_the_sweep_and_what_had_finished_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("sqlstable.workload.sweeping.executors.DASK_CONNECT_S", 3)
    program = tmp_path / "cluster.py"
    program.write_text(CLUSTER)
    child = subprocess.Popen(
        [sys.executable, program],
        env={**environment(), "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    with child:
        address = child.stdout.readline().strip()

        def on_run(done, _total):
            if done == 3:
                os.killpg(child.pid, signal.SIGKILL)

        path = tmp_path / "cut.sqlite"
        with pytest.raises(ExecutorError, match="does not answer"):
            carried_out(path, dask(address), specs=KILLED, on_run=on_run)
    with ResultsFile(path, script=SCRIPT) as results:
        assert 3 <= len(KILLED) - len(results.missing(KILLED)) < len(KILLED)


@pytest.mark.slow
def test_a_scheduler_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr("sqlstable.workload.sweeping.executors.DASK_CONNECT_S", 1)
    with pytest.raises(ExecutorError, match="does not answer"):
        carried_out(None, dask("tcp://127.0.0.1:9"))
    with pytest.raises(ExecutorError, match="does not answer"):
        carried_out(None, dask("no address"))


def test_without_dask_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SettingsError, match="extra dask"):
        dask("tcp://127.0.0.1:8786")
