"""A small process in which an exception is raised at every place of a message, one after the other.

Run by `tests/test_interrupts.py` and `tests/sim/test_interrupt_sweep.py`, because a wrong end may
be that of the process; prints counts as JSON, or fails with the places and what was found there::

    python -m tests.sim.cutting SCENARIO ENGINE FOLDER STEP

A place is an event of a trace function in the package's own code: a line that begins, a function
that is entered, or one that returns. ``STEP`` takes each n-th of them; 1 takes all.
"""

import sys
from pathlib import Path

PACKAGE = str(Path(__file__).parents[2] / "sqlstable")


class Cut(KeyboardInterrupt):
    """What is raised: an exception from outside, as Ctrl-C raises it."""


class Places:
    """Counts places while it is installed, and raises at one of them.

    Args:
        at: Number of the place, from 1 on; 0 raises nowhere.
    """

    def __init__(self, at=0):
        self.at = at
        self.count = 0
        self.where = None

    def __enter__(self):
        sys.settrace(self.on_call)
        return self

    def __exit__(self, *_):
        sys.settrace(None)

    def on_call(self, frame, event, arg):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        self.on_event(frame, event, arg)
        return self.on_event

    def on_event(self, frame, event, arg):
        if event != "exception":
            self.count += 1
            if self.count == self.at:
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno} {event}"
                raise Cut(self.where)
        return self.on_event
