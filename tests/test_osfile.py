"""The few calls to the system that an image needs, and what they do where the system does less."""

import ctypes
import errno
import os
import sys

import pytest

from sqlstable.memory.image import osfile
from sqlstable.memory.image.osfile import PARTS_MAX, OsFile

DATA = bytes(range(256)) * 64


@pytest.fixture
def file(tmp_path):
    opened = OsFile(os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT))
    yield opened
    opened.close()


def shorten(monkeypatch, *names, most=1000, then=None):
    """Calls that write no more than so many bytes, and fail at last if asked to."""
    calls = []

    def shortened(name):
        real = getattr(os, name)

        def call(descriptor, data, offset):
            calls.append(name)
            if then is not None and len(calls) > then:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            joined = data if name == "pwrite" else b"".join(data)
            return os_pwrite(descriptor, joined[:most], offset)

        os_pwrite = real if name == "pwrite" else os.pwrite
        monkeypatch.setattr(os, name, call)

    for name in sorted(names, reverse=True):
        shortened(name)
    return calls


PARTS = {
    "one part": [DATA],
    "parts": [DATA[:100], b"", DATA[100:5000], DATA[5000:]],
    "views": [memoryview(DATA)[:3000], memoryview(DATA)[3000:]],
}


@pytest.mark.parametrize("name", PARTS)
def test_a_short_write_is_gone_on_with(file, monkeypatch, name):
    calls = shorten(monkeypatch, "pwrite", "pwritev")
    file.write(77, PARTS[name])
    assert file.read(0, 1 << 20) == bytes(77) + DATA
    assert len(calls) == 17


@pytest.mark.parametrize("name", PARTS)
def test_a_short_write_ends_in_the_error_behind_it(file, monkeypatch, name):
    shorten(monkeypatch, "pwrite", "pwritev", then=3)
    with pytest.raises(OSError, match="No space left on device"):
        file.write(0, PARTS[name])
    assert file.read(0, 1 << 20) == DATA[:3000]


def test_short_writes_of_runs_are_gone_on_with(file, monkeypatch):
    shorten(monkeypatch, "pwrite", "pwritev", most=1500)
    file.write_runs([(0, 4096), (8192, 8192)], [DATA[:4096], DATA[4096:12_288]])
    expected = DATA[:4096] + bytes(4096) + DATA[4096:12_288]
    assert file.read(0, 1 << 20) == expected


def test_more_parts_than_one_call_takes_are_written(file):
    parts = [index.to_bytes(2, "little") for index in range(2 * PARTS_MAX + 5)]
    file.write(9, parts)
    assert file.read(9, 1 << 20) == b"".join(parts)


def test_long_runs_are_written_in_pieces(file, monkeypatch):
    monkeypatch.setattr(osfile, "PIECE_BYTES", 4096)
    file.write_runs([(4096, 12_288)], [DATA[:12_288]])
    assert file.read(4096, 1 << 20) == DATA[:12_288]


def test_reading_goes_on_to_the_end(file, monkeypatch):
    file.write(0, [DATA])
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: real(fd, min(length, 777), offset))
    assert file.read(5, 1 << 20) == DATA[5:]
    assert file.read(1 << 20, 10) == b""


def test_resizing_cuts_and_extends_with_zeros(file):
    file.write(0, [DATA])
    file.resize(10)
    file.resize(20)
    assert file.size() == 20
    assert file.read(0, 100) == DATA[:10] + bytes(10)


def test_closing_twice_does_no_harm(tmp_path):
    opened = OsFile(os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT))
    opened.close()
    opened.close()
    with pytest.raises(OSError, match=r"Bad file descriptor"):
        opened.size()


def test_a_flush_is_one_where_the_system_has_only_the_other(file, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", seen.append)
    monkeypatch.delattr(os, "fdatasync", raising=False)
    file.flush()
    assert seen == [file.descriptor]


# -- reserving ------------------------------------------------------------------------------------


def answering(monkeypatch, *numbers):
    """A ``fallocate`` that fails with these numbers, one after the other, then succeeds."""
    left = [*numbers]
    calls = []

    def fallocate(descriptor, mode, offset, length):
        calls.append((mode, offset, length))
        if not left:
            return 0
        ctypes.set_errno(left.pop(0))
        return -1

    monkeypatch.setattr(osfile, "_fallocate", fallocate)
    return calls


@pytest.mark.skipif(sys.platform != "linux", reason="space is reserved on Linux only")
def test_reserving_takes_blocks_and_keeps_the_length(file):
    file.reserve(0, 1 << 20)
    found = os.fstat(file.descriptor)
    assert found.st_size == 0
    if found.st_blocks == 0:
        pytest.skip("this file system promises no space")
    assert found.st_blocks * 512 >= 1 << 20


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG])
def test_space_that_is_refused_is_an_error(file, monkeypatch, number):
    answering(monkeypatch, number)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        file.reserve(0, 65_536)
    assert caught.value.errno == number


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_that_promises_nothing_is_used_all_the_same(file, monkeypatch, number):
    calls = answering(monkeypatch, number)
    file.reserve(0, 65_536)
    assert calls == [(1, 0, 65_536)]


def test_a_signal_does_not_end_a_reservation(file, monkeypatch):
    calls = answering(monkeypatch, errno.EINTR, errno.EINTR)
    file.reserve(0, 65_536)
    assert len(calls) == 3


def test_a_system_that_cannot_reserve_is_used_all_the_same(file, monkeypatch):
    monkeypatch.setattr(osfile, "_fallocate", None)
    file.reserve(0, 65_536)
    assert file.size() == 0
