"""Full disk, for real: a small file system in memory, in a mount namespace of its own.

`tests/sim/filling.py` runs there. What injected errors at every call do is in
`tests/sim/test_storage_faults.py` and `tests/test_imagefile.py`.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.children import environment

ROOT = Path(__file__).parents[2]
SIZE = "16m"

pytestmark = pytest.mark.slow


def run_there(folder, *command):
    """Run a command with a file system of `SIZE` mounted at a folder, or skip saying why not."""
    if shutil.which("unshare") is None:
        pytest.skip("a private mount needs Linux's unshare")
    mount = f'mount -t tmpfs -o size={SIZE} tmpfs "$0"'
    flags = "-m" if os.geteuid() == 0 else "-Urm"
    tried = subprocess.run(
        ["unshare", flags, "sh", "-c", mount, folder], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        reason = " ".join((tried.stderr or "no reason given").split())
        pytest.skip(f"a file system of {SIZE} may not be mounted here: {reason}")
    return subprocess.run(
        ["unshare", flags, "sh", "-c", f'{mount} && exec "$@"', folder, *command],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("durability", ["process", "power"])
def test_a_full_disk_traps_leaves_the_image_alone_and_messages_go_on_with_space(
    tmp_path, durability
):
    folder = tmp_path / "small"
    folder.mkdir()
    command = [sys.executable, "-m", "tests.sim.filling", str(folder), durability]
    done = run_there(str(folder), *command)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert counts["trapped"] > 10
    assert counts["had room"] > 10
    assert counts["recovered when full"] == 3
    assert counts["refused"] > 1
    assert counts["made"] > 1
    # It was a private one.
    assert not [*folder.iterdir()]
