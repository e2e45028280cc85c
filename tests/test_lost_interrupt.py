"""Ctrl-C that Python forgets, because an object is being freed, is not forgotten."""

import signal
import subprocess
import sys

PROGRAM = """
import signal, sys, time
from sqlstable.cli.failures import run_program

class Freed:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
        for _ in range(1000): pass

def program():
    made = Freed()
    del made
    time.sleep(30)
    print("went on")

try:
    run_program(program)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_an_interrupt_while_something_is_freed_ends_the_program():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) in ((130, ""), (-signal.SIGINT, ""))
    assert "Exception ignored" not in done.stderr
