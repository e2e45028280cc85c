"""What carries out runs: this process, others beside it, or a Dask cluster.

An executor is anything with ``submit``, as `concurrent.futures.Executor` has it. Results do not
depend on which one it is, because `sqlstable.workload.sweeping.one_run.run_spec` is a pure
function.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, Final

from sqlstable.errors import ExecutorError, SettingsError

WORKERS_MAX: Final = 256
"""Processes beside this one; more are a mistake on one machine."""

DASK_CONNECT_S: Final = 20
"""How long a scheduler of Dask has to answer."""


@dataclass(frozen=True, slots=True)
class Crew:
    """An executor, and how much it does at once."""

    executor: Executor
    worker_count: int


OpenCrew = Callable[[int], AbstractContextManager[Crew]]
"""Opens an executor with so many workers at most; it may be opened again when it has died."""


class SerialExecutor(Executor):
    """Carries out each call at once, in the thread that submits it.

    Examples:
        >>> SerialExecutor().submit(pow, 2, 5).result()
        32
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":  # noqa: ANN401  as the standard library has it
        """Call a function, and return a future that is done."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  as any executor does; Ctrl-C goes on
            future.set_exception(error)
        return future


@contextmanager
def serial(_workers_max: int = 1) -> Iterator[Crew]:
    """Carry out runs in this process, one after the other."""
    yield Crew(SerialExecutor(), 1)


def processes(count: int) -> OpenCrew:
    """Carry out runs in processes beside this one, each started anew.

    Args:
        count: How many, 1 to `WORKERS_MAX`.

    Raises:
        SettingsError: Too few or too many.
    """
    if not 1 <= count <= WORKERS_MAX:
        raise SettingsError(f"workers is {count}; it must be from 1 to {WORKERS_MAX}")

    @contextmanager
    def opened(workers_max: int) -> Iterator[Crew]:
        worker_count = min(count, workers_max)
        others = set(multiprocessing.active_children())
        executor = ProcessPoolExecutor(
            worker_count,
            # Forks would share what this process has open, and threads that it has begun.
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin_worker,
        )
        try:
            yield Crew(executor, worker_count)
        except BaseException:
            # What is on its way belongs to nobody any more; waiting for it could take hours.
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()
            executor.shutdown(wait=True, cancel_futures=True)
            raise
        executor.shutdown()

    return opened


def dask(address: str) -> OpenCrew:
    """Carry out runs on a cluster of Dask.

    Args:
        address: Of its scheduler, as in ``tcp://10.0.0.1:8786``.

    Raises:
        SettingsError: Dask is missing.
        ExecutorError: Nobody answers there.
    """
    try:
        from distributed import Client  # noqa: PLC0415  an extra

        # It has no types.
        connect: Any = Client
    except ImportError as error:
        raise SettingsError(
            "Dask is missing; install sqlstable with its extra dask, as in pip install '.[dask]'"
        ) from error

    @contextmanager
    def opened(_workers_max: int) -> Iterator[Crew]:
        try:
            client = connect(address, timeout=DASK_CONNECT_S)
        except (OSError, ValueError, TypeError) as error:
            raise ExecutorError(f"the Dask scheduler {address} does not answer: {error}") from error
        try:
            threads = sum(client.nthreads().values())
            if not threads:
                raise ExecutorError(f"the Dask scheduler {address} has no workers; start some")
            # Runs are remembered in the file of results; the cluster need not.
            yield Crew(client.get_executor(pure=False), threads)
        finally:
            client.close()

    return opened


def _begin_worker() -> None:
    """Leave Ctrl-C to the process that began this one, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """End this process when the one behind a handle has ended, even by ``kill -9``."""
    wait([sentinel])
    os._exit(1)
