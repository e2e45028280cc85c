"""Fault sweep over snapshots: each system call fails in turn, for want of space or by an error.

What fails says so once, in one sentence, and leaves image and snapshots as they were; what could
not be tidied up is at the next change.
"""

import errno
import os
from contextlib import closing

import pytest

from sqlstable import SnapshotError
from tests.sim.killing_snapshots import Place, begin, bytes_of

pytestmark = pytest.mark.slow

NAMES = ("pwrite", "pwritev", "ftruncate", "fdatasync", "fsync", "unlink", "replace", "mkdir")


class Failing:
    """Counts the system calls that change files, and lets one of them fail."""

    def __init__(self, monkeypatch, number):
        self.at, self.seen, self.number = -1, 0, number
        for name in NAMES:
            monkeypatch.setattr(os, name, self.counted(getattr(os, name)))
        really_open = os.open

        def open_(path, flags, *rest, **options):
            if flags & os.O_CREAT:
                self.step()
            return really_open(path, flags, *rest, **options)

        monkeypatch.setattr(os, "open", open_)

    def counted(self, function):
        def wrapper(*arguments, **options):
            self.step()
            return function(*arguments, **options)

        return wrapper

    def step(self):
        if self.seen == self.at:
            self.seen += 1
            raise OSError(self.number, os.strerror(self.number))
        self.seen += 1


def held(canister):
    return canister.image(), {it.id: bytes_of(canister, it.id) for it in canister.snapshots}


ACTIONS = {
    "take": lambda canister, _: canister.take_snapshot(),
    "replace": lambda canister, _: canister.take_snapshot(replace="1"),
    "delete": lambda canister, _: canister.delete_snapshot("0"),
    "upload": lambda canister, out: canister.upload_snapshot(out),
}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("name", ACTIONS)
def test_whatever_call_fails_the_state_is_one_of_the_two(tmp_path, monkeypatch, name, number):
    (tmp_path / "place").mkdir()
    place, out, action = Place(tmp_path / "place", "process"), tmp_path / "out", ACTIONS[name]
    begin(place)
    with closing(place.open()) as canister:
        canister.download_snapshot("1", out)
    files, refused, at = place.files(), [], 0
    failing = Failing(monkeypatch, number)
    while True:
        place.put(files)
        with closing(place.open()) as canister:
            before = held(canister)
            failing.at, failing.seen = at, 0
            try:
                action(canister, out)
            except SnapshotError as error:
                refused.append(str(error))
                failing.at = -1
                assert held(canister) == before
            is_over = failing.seen <= at
            failing.at = -1
        with closing(place.open()) as canister:
            canister.update("INSERT INTO t VALUES ('goes on')")
            image, taken = canister.image(), canister.take_snapshot()
            assert bytes_of(canister, taken.id) == image
            canister.load_snapshot(canister.snapshots[0])
        if is_over:
            break
        at += 1
    assert len(refused) >= 2
    assert all(os.strerror(number) in text for text in refused)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_download_that_fails_leaves_nothing(tmp_path, monkeypatch, number):
    (tmp_path / "place").mkdir()
    place, out = Place(tmp_path / "place", "process"), tmp_path / "out"
    begin(place)
    failing, refused = Failing(monkeypatch, number), []
    with closing(place.open()) as canister:
        while True:
            failing.at, failing.seen = len(refused), 0
            try:
                canister.download_snapshot("1", out)
            except SnapshotError as error:
                refused.append(str(error))
                failing.at = -1
                assert not out.exists()
            else:
                failing.at = -1
                break
    assert len(refused) >= 5
    assert all(os.strerror(number) in text for text in refused)
