"""Carrying out many runs: those that have no result yet, as many at once as the executor does."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from typing import Final

from sqlstable.analysis.scaling.runs import RunResult
from sqlstable.errors import ExecutorError
from sqlstable.workload.sweeping.executors import Crew, OpenCrew
from sqlstable.workload.sweeping.one_run import run_spec
from sqlstable.workload.sweeping.results import ResultsFile
from sqlstable.workload.sweeping.spec import RunSpec

OnRun = Callable[[int, int], None]
"""Is told how many runs have finished, and how many there are."""

WAITING_PER_WORKER: Final = 2
"""Runs that are handed out for each worker: one that runs, and one that waits for its end."""

DIED: Final = (
    "the process that carried out this run died, twice; it may have been killed for lack of memory"
)
"""The failure of a run that takes its process with it."""

_BROKEN: Final = (BrokenExecutor, CancelledError, ConnectionError)


def carry_out(
    specs: Sequence[RunSpec],
    results: ResultsFile,
    open_crew: OpenCrew,
    *,
    on_run: OnRun | None = None,
) -> None:
    """Carry out the runs that have no result yet, and keep each result as soon as it is there.

    A run that fails is a result with its failure, and all others go on. Where the executor dies
    under some runs, each of these gets another one for itself; the run that takes that with it,
    too, is a failure.

    Args:
        specs: The runs, in the order in which they are planned.
        results: Where results are kept.
        open_crew: Opens the executor.
        on_run: Called after each run.

    Raises:
        ExecutorError: The executor cannot be reached, or dies without any run.
        ResultsError: Results cannot be written any more.
        KeyboardInterrupt: Ctrl-C; what had finished is kept.
    """
    results.plan(specs)
    missing = results.missing(specs)
    work = _Work(results, total=len(specs), done=len(specs) - len(missing), on_run=on_run)
    if not missing:
        return
    suspects = _with_crew(missing, work, open_crew, workers_max=len(missing))
    while suspects:
        # It died under one of these. Alone, each shows whether it is the one.
        for spec in suspects:
            if _with_crew([spec], work, open_crew, workers_max=1):
                work.keep(spec, _died(spec))
        missing = results.missing(specs)
        suspects = missing and _with_crew(missing, work, open_crew, workers_max=len(missing))


class _Work:
    """Keeps results, and tells how many there are."""

    def __init__(
        self, results: ResultsFile, *, total: int, done: int, on_run: OnRun | None
    ) -> None:
        self._results = results
        self._total = total
        self._done = done
        self._on_run = on_run
        self._tell()

    def keep(self, spec: RunSpec, result: RunResult) -> None:
        self._results.add(spec, result)
        self._done += 1
        self._tell()

    def _tell(self) -> None:
        if self._on_run is not None:
            self._on_run(self._done, self._total)


def _with_crew(
    specs: Sequence[RunSpec], work: _Work, open_crew: OpenCrew, *, workers_max: int
) -> list[RunSpec]:
    """Carry out runs; returns those under which the executor died, which is none as a rule."""
    handed_out: dict[Future[RunResult], RunSpec] = {}
    try:
        with open_crew(workers_max) as crew:
            _hand_out(specs, work, crew, handed_out)
    except _BROKEN as error:
        if not handed_out:
            text = str(error) or type(error).__name__
            raise ExecutorError(f"the executor died before any run: {text}") from error
    return list(handed_out.values())


def _hand_out(
    specs: Sequence[RunSpec],
    work: _Work,
    crew: Crew,
    handed_out: dict[Future[RunResult], RunSpec],
) -> None:
    """Submit runs and keep their results; what is handed out and not back stays in the dictionary.

    Never all at once: what waits in an executor is lost with it, and has to be cancelled.
    """
    waiting = iter(specs)
    window = crew.worker_count * WAITING_PER_WORKER
    try:
        while True:
            while len(handed_out) < window and (spec := next(waiting, None)) is not None:
                handed_out[crew.executor.submit(run_spec, spec)] = spec
            if not handed_out:
                return
            done, _ = wait(handed_out, return_when=FIRST_COMPLETED)
            for future in done:
                _take_back(future, handed_out, work)
    except (KeyboardInterrupt, *_BROKEN):
        for future in [it for it in handed_out if it.done() and not it.cancelled()]:
            if not isinstance(future.exception(), _BROKEN):
                _take_back(future, handed_out, work)
        raise


def _take_back(
    future: "Future[RunResult]", handed_out: dict[Future[RunResult], RunSpec], work: _Work
) -> None:
    spec = handed_out[future]
    work.keep(spec, _result(future, spec))
    del handed_out[future]


def _result(future: "Future[RunResult]", spec: RunSpec) -> RunResult:
    try:
        return future.result()
    except _BROKEN:
        raise
    except Exception as error:  # noqa: BLE001  such as a worker of Dask that was killed
        return _failed_with(spec, f"the run could not be carried out: {error}")


def _died(spec: RunSpec) -> RunResult:
    return _failed_with(spec, DIED)


def _failed_with(spec: RunSpec, failure: str) -> RunResult:
    return RunResult(dict(spec.choices), dict(spec.parameters), {}, failure=failure)
