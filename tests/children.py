"""Python in processes of its own: killed, interrupted, or just started afresh."""

import os
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


def environment(**values):
    """The variables of this process, with which another finds what this one imports."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", **values}


def run_child(*arguments, **options):
    """Run Python with arguments in a process that may end in any way; returns how it did."""
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", *map(str, arguments)],
        **{"env": environment(), "capture_output": True, "text": True, "timeout": 300} | options,
        check=False,
    )


def run_python(code, *arguments, **options):
    """Run code in another process, which must succeed, and return what it prints."""
    done = run_child("-c", textwrap.dedent(code), *arguments, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def another_process(code, *arguments):
    """Run code that prints a line and waits; yields the process."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()
