"""Kill sweep: real processes, killed with SIGKILL at every system call and at any instant.

`tests/sim/killing.py` does it, in a process of its own that is small and quick to fork; it fails
where an answered message is missing, more than one unanswered is there, the balances are not those
of the model, `integrity_check` finds something, or the line on the recovery is not given.

Flushes cost a hundred times more than everything else, and add nothing to what a kill can leave;
so ``power`` runs on a file system in memory where there is one. Its images are read by ``pread``,
those of ``process`` through a map where the file system allows it.
"""

import json
import os
import tempfile
from pathlib import Path

import pytest

from tests.children import run_child

KILLS = int(os.environ.get("SQLSTABLE_KILLS", "50"))
"""How often each durability is killed at an instant; the other sweeps are as long in proportion."""

COMMITS = max(10, KILLS // 5)
INSTANTS = KILLS
RECOVERIES = max(4, KILLS // 100)

ROOT = Path(__file__).parents[2]
IN_MEMORY = Path("/dev/shm")

pytestmark = pytest.mark.slow


@pytest.fixture(params=["process", "power"])
def sweep(request, tmp_path):
    """Runs a scenario of `killing` with one durability, and returns its counts."""
    durability = request.param
    if durability == "process" or not os.access(IN_MEMORY, os.W_OK):
        yield lambda *arguments: run(durability, tmp_path, *arguments)
        return
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        yield lambda *arguments: run(durability, folder, *arguments)


def run(durability, folder, scenario, number):
    arguments = (scenario, durability, folder, number, 1)
    done = run_child("-m", "tests.sim.killing", *arguments, timeout=None)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_answered_message_survives_a_kill_at_any_system_call(sweep):
    counts = sweep("commits", COMMITS)
    assert counts["messages"] == COMMITS
    # At least the log, the image, and behind each of them.
    assert counts["kills"] >= 4 * COMMITS
    # Killed behind the commit point, a message is there though nobody was told.
    assert counts["kept_unanswered"] >= counts["recovered"] >= COMMITS
    assert counts["kills"] - counts["kept_unanswered"] >= COMMITS


def test_every_answered_message_survives_a_kill_at_any_instant(sweep):
    counts = sweep("instants", INSTANTS)
    assert counts["kills"] == INSTANTS
    assert counts["messages"] > 0


def test_recoveries_that_are_killed_again_and_again_end_in_the_same_state(sweep):
    counts = sweep("recoveries", RECOVERIES)
    assert counts["recoveries_killed"] >= 20 * RECOVERIES


def test_a_kill_in_a_step_of_the_life_cycle_leaves_the_state_before_or_behind_it(sweep):
    counts = sweep("life_cycle", 10)
    for step in ("reinstall", "upgrade", "upgrade_hooks", "close", "import", "first_opening"):
        assert counts[step] >= 1, step
