"""What the tests of image files share: making them, leaving them behind, comparing bytes."""

import shutil
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sqlstable import ImageError, StableMemory
from sqlstable.memory.image import imagefile
from sqlstable.memory.image.commitlog import next_record_offset, read_header, read_records
from sqlstable.memory.image.imagefile import LOG_SUFFIX
from tests.sim.messages import Message, models, page
from tests.sim.storage import Storage

ROOT = Path(__file__).parents[1]

READERS = pytest.mark.parametrize("use_map", [False, None], ids=["pread", "chosen"])
DURABILITIES = pytest.mark.parametrize("durability", ["process", "power"])


def log_of(path):
    return path.with_name(path.name + LOG_SUFFIX)


def files_in(folder):
    """Every name in a folder, with its bytes where it has some."""
    return {
        one.name: one.read_bytes() if one.is_file() else None for one in sorted(folder.iterdir())
    }


@contextmanager
def unchanged(folder):
    before = files_in(folder)
    yield
    assert files_in(folder) == before


def refusal(path, **options):
    """Open, and return the reason of the refusal; nothing near the path changes by it."""
    with unchanged(Path(path).parent), pytest.raises(ImageError) as caught:
        StableMemory.open(path, **options)
    text = str(caught.value)
    assert not open_descriptors(Path(path).parent)
    return text


def open_descriptors(folder):
    """Descriptors of this process that lead into a folder."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            target = str(descriptor.readlink())
            if target.startswith(str(folder)):
                found.append(target)
    return found


def send(memory, message):
    """Commit one `Message` of the simulated scripts."""
    memory.begin("update")
    if message.is_wiped:
        memory.wipe()
    memory.grow(message.wasm_pages - memory.wasm_pages)
    for number, data in message.pages.items():
        memory.write(number << 12, data)
    memory.commit()


TWO = [Message(2, {**page("one"), **page("two", at=17)}), Message(2, page("three", at=5))]

LAST = Message(3, {**page("last"), **page("last", at=33)})


def make(path, messages=TWO, **options):
    with StableMemory.open(path, **options) as memory:
        for message in messages:
            send(memory, message)


@contextmanager
def left_behind(path, messages=TWO, **options):
    """Yields a folder with the image and the log of a process that was killed after messages."""
    memory = StableMemory.open(path, **options)
    for message in messages:
        send(memory, message)
    folder = path.with_name("left")
    folder.mkdir()
    for one in (path, log_of(path)):
        shutil.copy(one, folder / one.name)
    memory.close()
    yield folder / path.name


def unsealed(log):
    """A log as it is while the last message is being applied."""
    file = Storage.of({"log": log}).names["log"]
    last = read_records(file, read_header(file, "log"), "log")[-1]
    at = next_record_offset(last.end_offset)
    return log[:at] + bytes(24) + log[at + 24 :]


def make_pending(path, messages=TWO, *, torn=True, **options):
    """Leave an image whose last message is in its log only, or half in it."""
    before = models(messages)[-2]
    with left_behind(path, messages, **options) as left:
        log_of(path).write_bytes(unsealed(log_of(left).read_bytes()))
        path.write_bytes(before)
        if torn:
            last = max(messages[-1].pages)
            with path.open("r+b") as file:
                file.truncate(messages[-1].wasm_pages << 16)
                file.seek(last << 12)
                file.write(messages[-1].pages[last])
    shutil.rmtree(path.with_name("left"))
    return models(messages)[-1]


HOLD = """
    import sys
    from sqlstable import StableMemory
    memory = StableMemory.open(sys.argv[1], is_read_only=len(sys.argv) > 2)
    print("ready", flush=True)
    sys.stdin.readline()
"""


def using(use_map):
    real = imagefile.open_backing
    return lambda file, capacity_bytes, **_: real(file, capacity_bytes, use_map=use_map)


@contextmanager
def unchanged_file(path):
    before = path.read_bytes()
    yield
    assert path.read_bytes() == before


def resident_bytes():
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def mapped_bytes():
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * 4096


def descriptor_count():
    return len([*Path("/proc/self/fd").iterdir()])


def wait_for_a_tick(path):
    """Until the clock that files are stamped by has gone past the time of this one.

    Newer systems stamp a file that was looked at by a finer clock, which runs ahead of it.
    """
    while imagefile._stamp_ns() <= path.stat().st_mtime_ns:
        time.sleep(0.001)
