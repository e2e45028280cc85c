"""Simulated files that tear, lose, reorder and fail as storage does, behind the seam `File`.

**What is simulated.** A folder of files. Of each file there is what programs see (``live``) and
what would survive a loss of power (``flushed``); between the two lie the calls since the last
flush. A loss of power leaves of every sector any of the versions it has had since then, of every
length any that the file has had, of every name any file that has borne it: all independently of
each other, so every order in which a device may write is among them.

**Faults.** Each call can fail before it did anything, after a part of its bytes, or after all of
them; it can also be the last one of its process. A flush that fails leaves any state behind, and
what it was to write is forgotten: Linux marks such OS pages clean, and may read the old bytes back
from the device. Source: "PostgreSQL's fsync() surprise", lwn.net/Articles/752063.

**Never:** bytes that change without being written, flushes that lie.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

SECTOR_BYTES = 512
OS_PAGE_BYTES = 4096


class Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


@dataclass
class Call:
    """One call to one file, or to the folder."""

    name: str
    kind: str
    offset: int = 0
    length: int = 0


@dataclass
class Fault:
    """What happens at one call: an error, or the end of the process, behind ``done`` bytes."""

    at: int
    "0-based index of the call."
    error: int | None = errno.EIO
    "The number of the error, or None where the process is killed."
    done: int | None = 0
    "Bytes that a write gets through; None for all of them."
    choose: Random | None = None
    "Chooses what a failing flush leaves; None leaves nothing of it."
    lasts: bool = False
    "Whether all later calls of this kind on this file fail too."


class SimFile:
    """A file; see `sqlstable.memory.image.osfile.File`."""

    def __init__(self, storage: Storage, name: str, data: bytes = b"") -> None:
        self.storage = storage
        self.name = name
        self.live = bytearray(data)
        self.flushed = bytes(data)
        self.pending: list[tuple[str, int, bytes]] = []
        self.is_closed = False

    def size(self) -> int:
        return len(self.live)

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self.live[offset : offset + length])

    def extents(self):
        yield 0, len(self.live)

    def write(self, offset: int, parts) -> None:
        data = b"".join(map(bytes, parts))
        done = self.storage.call(Call(self.name, "write", offset, len(data)))
        if done is None:
            self.put(offset, data)
            return
        self.put(offset, data[: len(data) if done.done is None else done.done])
        done.throw()

    def write_runs(self, runs, data) -> None:
        for (start, _), part in zip(runs, data, strict=True):
            self.write(start, (part,))

    def put(self, offset: int, data: bytes) -> None:
        if data:
            self.pending.append(("write", offset, data))
            _write_into(self.live, offset, data)

    def resize(self, size_bytes: int) -> None:
        done = self.storage.call(Call(self.name, "resize", size_bytes))
        if done is None or done.done is None:
            self.pending.append(("resize", size_bytes, b""))
            _resize(self.live, size_bytes)
        if done is not None:
            done.throw()

    def reserve(self, offset: int, length: int) -> None:
        done = self.storage.call(Call(self.name, "reserve", offset, length))
        if done is not None:
            done.throw()

    def flush(self) -> None:
        done = self.storage.call(Call(self.name, "flush"))
        if done is None or (done.error is None and done.done is None):
            self.flushed = bytes(self.live)
            self.pending.clear()
        elif done.error is not None:
            # Also what programs see goes back: the OS pages count as clean, and may be dropped.
            self.flushed = self.flushed if done.choose is None else self.sample(done.choose)
            self.live[:] = self.flushed
            self.pending.clear()
        if done is not None:
            done.throw()

    def close(self) -> None:
        self.is_closed = True

    # -- what a loss of power leaves ------------------------------------------------------------

    def versions(self, sector_bytes: int, garbage: bytes = b"") -> dict[int, list[bytes]]:
        """The versions of each sector that has more than one, by its index."""
        image = bytearray(self.flushed)
        found: dict[int, list[bytes]] = {}
        for kind, offset, data in self.pending:
            before = len(image)
            if kind == "write":
                first, last = offset, offset + len(data)
            else:
                first, last = min(offset, before), before
            touched = range(first // sector_bytes, -(-last // sector_bytes))
            for index in touched:
                found.setdefault(index, [_sector(image, index, sector_bytes)])
            if kind == "write":
                _write_into(image, offset, data)
            else:
                _resize(image, offset)
            for index in touched:
                version = _sector(image, index, sector_bytes)
                new = [version]
                if garbage and kind == "write":
                    new.append((garbage * sector_bytes)[:sector_bytes])
                found[index] += [one for one in new if one not in found[index]]
        return {index: some for index, some in found.items() if len(some) > 1}

    def lengths(self) -> list[int]:
        """The lengths it has had since the last flush, each once."""
        image = bytearray(self.flushed)
        found = [len(image)]
        for kind, offset, data in self.pending:
            if kind == "write":
                _write_into(image, offset, data)
            else:
                _resize(image, offset)
            if len(image) not in found:
                found.append(len(image))
        return found

    def states(self, sector_bytes: int, garbage: bytes = b"") -> Iterator[bytes]:
        """Everything that a loss of power may leave, each once."""
        versions = self.versions(sector_bytes, garbage)
        for length in self.lengths():
            inside = {i: some for i, some in versions.items() if i * sector_bytes < length}
            base = self.flushed[:length].ljust(length, b"\0")
            for chosen in product(*inside.values()):
                yield _patched(base, dict(zip(inside, chosen, strict=True)), sector_bytes)

    def sample(self, choose: Random, sector_bytes: int = SECTOR_BYTES) -> bytes:
        """One of the states; nearly nothing, nearly all, and anything between, alike often."""
        versions, lengths = self.versions(sector_bytes), self.lengths()
        newest = choose.choice((0.02, 0.5, 0.9, 0.99))

        def pick(some):
            return some[-1] if choose.random() < newest else choose.choice(some)

        length = pick(lengths)
        if len(lengths) > 1 and choose.random() < 0.2 and self.name.endswith("log"):
            # It grows by being written, the image by resizing only: it may be anywhere in between.
            length = choose.randint(min(lengths), max(lengths))
        base = self.flushed[:length].ljust(length, b"\0")
        inside = {i: pick(some) for i, some in versions.items() if i * sector_bytes < length}
        return _patched(base, inside, sector_bytes)


@dataclass
class Storage:
    """A folder of simulated files, with a journal of all calls."""

    names: dict[str, SimFile] = field(default_factory=dict)
    flushed_names: dict[str, SimFile] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    fault: Fault | None = None
    watch: Callable[[Call], None] | None = None
    "Is told of each call before it happens."
    _pending_names: list[tuple[str, SimFile | None]] = field(default_factory=list)

    def call(self, call: Call) -> Throw | None:
        """Note a call; returns how it fails, if it does."""
        if self.watch is not None:
            self.watch(call)
        fault = self.fault
        at = len(self.calls)
        self.calls.append(call)
        if fault is None:
            return None
        if at == fault.at:
            return Throw(fault.error, fault.done, fault.choose)
        if fault.lasts and at > fault.at:
            first = self.calls[fault.at]
            if (call.name, call.kind) == (first.name, first.kind):
                return Throw(fault.error, fault.done, fault.choose)
        return None

    def create(self, name: str) -> SimFile:
        thrown = self.call(Call(name, "create"))
        if thrown is None or thrown.done is None:
            self.names[name] = SimFile(self, name)
            self._pending_names.append((name, self.names[name]))
        if thrown is not None:
            thrown.throw()
        return self.names[name]

    def unlink(self, name: str) -> None:
        thrown = self.call(Call(name, "unlink"))
        if thrown is None or thrown.done is None:
            del self.names[name]
            self._pending_names.append((name, None))
        if thrown is not None:
            thrown.throw()

    def flush_folder(self) -> None:
        thrown = self.call(Call("", "flush_folder"))
        if thrown is None:
            self.flushed_names = dict(self.names)
            self._pending_names.clear()
        else:
            thrown.throw()

    def flush_all(self) -> None:
        """Settle everything, as a long time without work does."""
        for file in self.names.values():
            file.flushed = bytes(file.live)
            file.pending.clear()
        self.flushed_names = dict(self.names)
        self._pending_names.clear()

    # -- after the end --------------------------------------------------------------------------

    def bearers(self) -> list[dict[str, SimFile]]:
        """Which files may bear which names after a loss of power."""
        candidates: dict[str, list[SimFile | None]] = {}
        for name in {*self.flushed_names, *(name for name, _ in self._pending_names)}:
            candidates[name] = [self.flushed_names.get(name)]
            for other, file in self._pending_names:
                if other == name and file not in candidates[name]:
                    candidates[name].append(file)
        return [
            {name: file for name, file in zip(candidates, files, strict=True) if file is not None}
            for files in product(*candidates.values())
        ]

    def power_states(self, sector_bytes: int, garbage: bytes = b"") -> Iterator[dict[str, bytes]]:
        """Every folder that a loss of power may leave."""
        for files in self.bearers():
            noise = [garbage if name.endswith("log") else b"" for name in files]
            yield from _joint_states(list(zip(files.values(), noise, strict=True)), sector_bytes)

    def sample_power_state(self, choose: Random) -> dict[str, bytes]:
        """One of them, at sectors of 512 bytes."""
        files = choose.choice(self.bearers())
        return {name: file.sample(choose) for name, file in files.items()}

    def live_state(self) -> dict[str, bytes]:
        """What the end of the process leaves."""
        return {name: bytes(file.live) for name, file in self.names.items()}

    @classmethod
    def of(cls, state: dict[str, bytes]) -> Storage:
        """A folder in which everything is flushed."""
        storage = cls()
        for name, data in state.items():
            storage.names[name] = SimFile(storage, name, data)
        storage.flushed_names = dict(storage.names)
        return storage


@dataclass
class Throw:
    """How one call ends."""

    error: int | None
    done: int | None
    choose: Random | None

    def throw(self) -> None:
        if self.error is None:
            raise Killed
        raise OSError(self.error, os.strerror(self.error))


def cuts(length: int) -> list[int | None]:
    """Where the end of a process may cut a write off: at the borders of OS pages."""
    return [*range(0, length, OS_PAGE_BYTES), None]


def _joint_states(files, sector_bytes: int) -> Iterator[dict[str, bytes]]:
    """All states of some files together; never more than one of each in memory."""
    if not files:
        yield {}
        return
    (file, garbage), *others = files
    for data in file.states(sector_bytes, garbage):
        for rest in _joint_states(others, sector_bytes):
            yield {file.name: data, **rest}


def _sector(image: bytearray, index: int, sector_bytes: int) -> bytes:
    start = index * sector_bytes
    return bytes(image[start : start + sector_bytes]).ljust(sector_bytes, b"\0")


def _write_into(image: bytearray, offset: int, data: bytes) -> None:
    if len(image) < offset:
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(data)] = data


def _resize(image: bytearray, size_bytes: int) -> None:
    del image[size_bytes:]
    image.extend(bytes(size_bytes - len(image)))


def _patched(base: bytes, sectors: dict[int, bytes], sector_bytes: int) -> bytes:
    image = bytearray(base)
    for index, data in sectors.items():
        start = index * sector_bytes
        image[start : start + sector_bytes] = data[: len(base) - start]
    assert len(image) == len(base)
    return bytes(image)
