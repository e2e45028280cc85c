"""A small process that has canisters killed while they take, load and delete snapshots.

Run by `tests/sim/test_snapshot_kills.py`; prints counts as JSON, or fails with what was found::

    python -m tests.sim.killing_snapshots SCENARIO DURABILITY FOLDER

An action is begun again and again from the same files, and its process killed before one system
call after the other that changes files. What is left must be the whole state before the action or
the whole one after it: the same snapshots, each with its own bytes, and the same image.
"""

import json
import shutil
import sys
from collections import Counter
from contextlib import closing
from itertools import count
from pathlib import Path

from sqlstable import Canister
from tests.sim.killing import Child, KillBefore

KillBefore.NAMES = (*KillBefore.NAMES, "replace", "mkdir")


class Place:
    """An image with its snapshots, which can be set back."""

    def __init__(self, folder, durability):
        self.folder, self.durability = Path(folder), durability
        self.counts = Counter()

    @property
    def image(self):
        return self.folder / "app.stable"

    def open(self):
        return Canister(self.image, durability=self.durability, bucket_pages=1, depth="pages")

    def files(self):
        return {
            path.relative_to(self.folder): path.read_bytes() if path.is_file() else None
            for path in sorted(self.folder.rglob("*"))
        }

    def put(self, files):
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name, data in files.items():
            path = self.folder / name
            path.mkdir() if data is None else path.write_bytes(data)

    def state(self):
        """The image, and all snapshots with their bytes; what is left of a kill goes meanwhile."""
        with closing(self.open()) as canister:
            held = {one.id: bytes_of(canister, one.id) for one in canister.snapshots}
            found = [canister.image(), held]
            assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
            # It goes on: one more is taken, is right, and the others stay what they are.
            canister.update("INSERT INTO t VALUES (zeroblob(9000))")
            image, taken = canister.image(), canister.take_snapshot()
            assert bytes_of(canister, taken.id) == image
            assert {name: bytes_of(canister, name) for name in found[1]} == found[1]
        self._check_no_litter()
        return found

    def _check_no_litter(self):
        shelf = self.folder / "app.stable.snapshots"
        if shelf.exists():
            index = json.loads((shelf / "index.json").read_text().split("\n", 1)[1])
            named = {layer for one in index["snapshots"] for layer in one["layers"]}
            found = {path.name for path in shelf.iterdir()} - {"index.json"}
            named |= {f"{name[:-6]}.sums" for name in named if name.endswith(".image")}
            assert found == named, (found, named)


def bytes_of(canister, snapshot_id):
    shelf = canister._life.snapshots.shelf
    with closing(shelf.open_layers(shelf.find(snapshot_id).layers)) as it:
        return it.read(0, it.size())


def sweep(place, action):
    """Kill an action at each system call; what is left is the state before it, or behind it."""
    files = place.files()
    before = place.state()
    place.put(files)
    with closing(place.open()) as canister:
        action(canister)
    after = place.state()
    for at in count():
        place.put(files)

        def run(answer, at=at):
            canister = place.open()
            switch = KillBefore(at)
            action(canister)
            switch.step()
            switch.at = -1
            canister.close()

        _, is_killed = Child(run).wait()
        if not is_killed:
            break
        found = place.state()
        assert found in (before, after), f"at call {at}"
        place.counts["after" if found == after else "before"] += 1
        place.counts["kills"] += 1
    place.put(files)


def begin(place):
    """Make an image with a few rows, and two snapshots."""
    with closing(place.open()) as canister:
        canister.update("CREATE TABLE t (x)")
        canister.update("INSERT INTO t VALUES (zeroblob(30000)), ('a')")
        canister.take_snapshot()
        canister.update("UPDATE t SET x = 'b' WHERE x = 'a'")
        canister.take_snapshot()
        canister.update("INSERT INTO t VALUES (zeroblob(100000))")
        canister.take_snapshot()
        canister.update("UPDATE t SET x = 'c' WHERE x = 'b'")


def first(place):
    """The first snapshot of an image that has none."""
    with closing(place.open()) as canister:
        canister.update("CREATE TABLE t (x)")
    sweep(place, lambda canister: canister.take_snapshot())


def take(place):
    begin(place)
    sweep(place, lambda canister: canister.take_snapshot())


def replace(place):
    """The lowest one, onto which the one above it is folded."""
    begin(place)
    sweep(place, lambda canister: canister.take_snapshot(replace="0"))


def delete(place):
    begin(place)
    for number in range(3):
        sweep(place, lambda canister, n=number: canister.delete_snapshot(str(n)))


def load(place):
    """Larger again, smaller, and of the same size."""
    begin(place)
    for number in range(3):
        sweep(place, lambda canister, n=number: canister.load_snapshot(str(n)))


def upload(place):
    begin(place)
    out = place.folder.with_name(f"{place.folder.name}-out")
    with closing(place.open()) as canister:
        canister.download_snapshot("1", out)
    sweep(place, lambda canister: canister.upload_snapshot(out))
    sweep(place, lambda canister: canister.upload_snapshot(out, replace="0"))


def close(place):
    """Closing says what has changed since; who is killed there leaves what nobody knows."""
    begin(place)
    files = place.files()
    with closing(place.open()) as canister:
        image = canister.image()
    for at in count():
        place.put(files)

        def run(answer, at=at):
            canister = place.open()
            canister.update("UPDATE t SET x = 'd' WHERE x = 'c'")
            KillBefore(at)
            canister.close()

        _, is_killed = Child(run).wait()
        if not is_killed:
            break
        found = place.state()
        assert found[0] != image
        assert len(found[1]) == 3
        place.counts["kills"] += 1


def download(place):
    """Killed anywhere, a download is gone on with, and ends as the whole one."""
    begin(place)
    out = place.folder.with_name(f"{place.folder.name}-out")
    with closing(place.open()) as canister:
        canister.download_snapshot("1", out)
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    for at in count():
        shutil.rmtree(out)

        def run(answer, at=at):
            canister = place.open()
            KillBefore(at)
            canister.download_snapshot("1", out)

        _, is_killed = Child(run).wait()
        if not is_killed:
            break
        with closing(place.open()) as canister:
            is_begun = (out / "metadata.json").exists() and (out / "metadata.json").stat().st_size
            if not is_begun and out.exists():
                shutil.rmtree(out)
            canister.download_snapshot("1", out, resume=bool(is_begun))
        assert {path.name: path.read_bytes() for path in out.iterdir()} == whole
        place.counts["kills"] += 1


SCENARIOS = {
    one.__name__: one for one in (first, take, replace, delete, load, upload, close, download)
}


def main(scenario, durability, folder):
    place = Place(folder, durability)
    SCENARIOS[scenario](place)
    sys.stdout.write(json.dumps(place.counts) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
