"""The extension in a real kernel: interrupts, progress, and what a notebook keeps of an error."""

import time
from contextlib import contextmanager

import pytest
from jupyter_client.manager import start_new_kernel

pytestmark = pytest.mark.slow

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
SECONDS_MAX = 60


class Kernel:
    """One kernel, and what a notebook would receive of it."""

    def __init__(self, manager, client):
        self._manager = manager
        self._client = client

    def start(self, text):
        """Send a cell."""
        return self._client.execute(text)

    def outputs(self, request):
        """Everything that a cell shows until it has ended."""
        found = []
        while True:
            message = self._client.get_iopub_msg(timeout=SECONDS_MAX)
            if message["parent_header"].get("msg_id") != request:
                continue
            if message["content"].get("execution_state") == "idle":
                return found
            found.append((message["msg_type"], message["content"]))

    def run(self, text):
        """Run a cell to its end."""
        return self.outputs(self.start(text))

    def interrupt(self):
        """Do what the button does."""
        self._manager.interrupt_kernel()


@contextmanager
def started():
    manager, client = start_new_kernel()
    try:
        kernel = Kernel(manager, client)
        assert [kind for kind, _ in kernel.run("%load_ext sqlstable")] == [
            "status",
            "execute_input",
        ]
        yield kernel
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def kernel():
    with started() as kernel:
        yield kernel


def errors(outputs):
    return [content for kind, content in outputs if kind == "error"]


def rows(outputs):
    (shown,) = [it["data"]["text/plain"] for kind, it in outputs if kind == "execute_result"]
    return shown


@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_an_interrupted_cell_leaves_a_sound_canister(kernel, engine):
    kernel.run(f"%stable_canister --engine {engine} --limits none")
    kernel.run("%%stable\nCREATE TABLE t (x); INSERT INTO t VALUES (1)")
    request = kernel.start(f"%%stable --update\nINSERT INTO t VALUES (2);\n{ENDLESS}")
    time.sleep(1)
    kernel.interrupt()
    (error,) = errors(kernel.outputs(request))
    assert error["evalue"].startswith("interrupted")
    assert error["traceback"] == [f"Error: {error['evalue']}"]
    found = kernel.run("%%stable\nSELECT count(*) AS rows_left FROM t; PRAGMA integrity_check")
    assert errors(found) == []
    assert "rows_left" in rows(found)
    assert "ok" in rows(found)
    shown = kernel.run("_.results[0][2].rows")
    assert rows(shown) == "[(1,)]"


def test_a_bar_comes_with_long_work_and_goes_with_the_result(kernel):
    kernel.run("%stable_canister --new")
    kernel.run("%%stable\nCREATE TABLE t (x)")
    kernel.run("import sqlstable.notebook as it; it.PATIENCE_S = it.REDRAW_S = 0")
    found = kernel.run("%%stable\n--@ repeat 3000\nINSERT INTO t VALUES (1)")
    kinds = [kind for kind, _ in found]
    shown = [it["data"]["text/html"] for kind, it in found if kind.endswith("display_data")]
    assert all(html.startswith("<progress") for html in shown)
    assert 'max="3000"></progress> ' in shown[-1]
    assert "update_display_data" in kinds
    assert kinds.index("clear_output") < kinds.index("execute_result")


def test_a_refused_cell_is_one_line_in_the_notebook(kernel):
    (error,) = errors(kernel.run("%%stable\nSELECT * FROM nowhere"))
    assert error["traceback"] == [
        "Error: cell, line 1: no such table: nowhere; in: SELECT * FROM nowhere"
    ]
