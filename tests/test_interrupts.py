"""An exception from outside, such as Ctrl-C, at places of a message where it hurts most.

Every place is swept in `tests/sim/test_interrupt_sweep.py`.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_child(*arguments):
    """Run Python in a process of its own, which may end in any way."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


CALLBACK = """
from sqlstable import Canister
from tests.sim.cutting import Cut, Places

def is_callback(frame):
    return frame.f_code.co_name in ("on_statement", "_learn", "_plan")

class Callbacks(Places):
    def on_call(self, frame, event, arg):
        return super().on_call(frame, event, arg) if is_callback(frame) else None

cut = 0
for number in range(1, 400, 7):
    with Canister() as canister:
        try:
            with Callbacks(number):
                # Enough of them for freed memory to be somebody else's.
                for value in range(12):
                    canister.update(f"CREATE TABLE t{value} (x); INSERT INTO t{value} VALUES (1)")
        except Cut:
            cut += 1
print(cut)
"""


def test_an_exception_out_of_a_callback_of_apsw_leaves_the_process_alive():
    done = run_child("-c", CALLBACK)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 50
