"""Kill sweep over snapshots: whole or not there, the image as before or after, nothing left over.

`tests/sim/killing_snapshots.py` does it, in a process that is small and quick to fork.
"""

import json
import os
import tempfile
from pathlib import Path

import pytest

from tests.children import run_child

IN_MEMORY = Path("/dev/shm")

pytestmark = pytest.mark.slow


@pytest.fixture(name="folder")
def folder_fixture(tmp_path):
    """Flushes cost more than all else: they go to memory where that is there."""
    if not os.access(IN_MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        yield Path(folder)


SCENARIOS = ["first", "take", "replace", "delete", "load", "upload", "close", "download"]


@pytest.mark.parametrize(
    ("scenario", "durability"),
    [*((scenario, "process") for scenario in SCENARIOS), ("take", "power"), ("load", "power")],
)
def test_a_kill_at_any_system_call_leaves_all_or_nothing(folder, scenario, durability):
    (folder / "place").mkdir()
    arguments = (scenario, durability, folder / "place")
    done = run_child("-m", "tests.sim.killing_snapshots", *arguments, timeout=None)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["kills"] >= 2
    if scenario not in ("close", "download"):
        assert counts["before"] > 0
        assert counts["after"] > 0
