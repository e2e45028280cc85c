"""APSW's own test suite with a VFS of choice as the default, in a process of its own.

Run by `tests/sim/test_apsw_suite.py`, in an empty folder; writes what failed to ``results.json``::

    python -m tests.sim.apsw_suite VFS [TEST …]

Each test gets a VFS of its own, over a memory of its own: the suite deletes the files of the test
before, and expects their databases to be gone. A test fails here also if a thread of its ends with
an exception, if a message stays open behind it, or if what it leaves is not a sound database.
"""

import gc
import json
import os
import random
import sys
import tempfile
import threading
import time
import traceback
import unittest
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path

import apsw
from apsw.tests import __main__ as suite

from sqlstable import StableMemory, StableVFS
from sqlstable.errors import SqlstableError
from sqlstable.sqlite.header import HEADER_BYTES

REAL = apsw.vfs_names()[0]
"""The operating system's own VFS."""


class PassFile(apsw.VFSFile):
    """A file of the operating system's VFS."""


class PassVFS(apsw.VFS):
    """Passes everything on: what fails with it, fails with any VFS written in Python."""

    def __init__(self):
        self.name = "pass-through"
        super().__init__(self.name, base=REAL)

    def xOpen(self, name, flags):
        return PassFile(REAL, name, flags)


class MirroredVFS(StableVFS):
    """Each database is a file on disk as well, while nobody has it open.

    So it can be looked at, deleted and replaced from outside of SQLite.
    """

    def xFullPathname(self, name):
        return str(Path(name).absolute())

    def xOpen(self, name, flags):
        if not flags[0] & apsw.SQLITE_OPEN_MAIN_DB:
            return super().xOpen(name, flags)
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
        if path.is_dir() or not path.parent.is_dir():
            msg = "unable to open database file"
            raise apsw.CantOpenError(msg)
        store = self.cabinet.database(str(path), is_created=True)
        if not store.files:
            self._fetch(store, path)
        file = super().xOpen(name, flags)
        path.touch()
        file.xClose = partial(self._close, store, path, file.xClose)
        return file

    def _fetch(self, store, path):
        data = path.read_bytes() if path.exists() else b""
        if data != store.peek(store.size_bytes, 0):
            with self.memory.message():
                assert store.placement.grow_to(max(len(data), HEADER_BYTES))
                store.write_direct(data.ljust(HEADER_BYTES, b"\0"), 0)

    def _close(self, store, path, close):
        close()
        if not store.files and path.parent.is_dir():
            path.write_bytes(store.peek(store.size_bytes, 0))


class ManyMemories(apsw.VFS):
    """Each database has a memory and a VFS of its own."""

    def __init__(self, layout):
        self.name = "many-memories"
        self.layout = layout
        self.vfs_of = {}
        super().__init__(self.name, base="")

    @property
    def parts(self):
        return list(self.vfs_of.values())

    def part(self, name):
        text = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        database = text.removesuffix("-journal").removesuffix("-wal")
        if database not in self.vfs_of:
            self.vfs_of[database] = StableVFS(StableMemory(), layout=self.layout)
        return self.vfs_of[database]

    def xOpen(self, name, flags):
        return self.part(name).xOpen(name, flags)

    def xAccess(self, name, flags):
        return self.part(name).xAccess(name, flags)

    def xDelete(self, name, syncdir):
        self.part(name).xDelete(name, syncdir)

    def xFullPathname(self, name):
        return name


def on_image_file(stack):
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    memory = stack.enter_context(closing(StableMemory.open(f"{folder}/suite.stable")))
    return StableVFS(memory)


# How the VFS for one test is made; the stack is unwound behind it.
KINDS = {
    "pass-through": lambda _: PassVFS(),
    "stable": lambda _: StableVFS(StableMemory()),
    "image-file": on_image_file,
    "raw": lambda _: ManyMemories("raw"),
    # Not the whole suite, but what fails with "stable" for one reason each.
    "mirrored": lambda _: MirroredVFS(StableMemory()),
    "many-memories": lambda _: ManyMemories("managed"),
}


class Result(unittest.TestResult):
    """Notes for each test how it failed, or that it did not."""

    showAll = dots = False  # the suite asks its runner how talkative it is

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.failed = {}
        self.cpu_seconds = {}

    def startTest(self, test):
        super().startTest(test)
        self.name = ".".join(test.id().split(".")[-2:])
        self.failed[self.name] = []
        self.began = time.process_time()
        threading.excepthook = self.on_thread_exception
        random.seed(0)
        self.stack = ExitStack()
        self.vfs = KINDS[self.kind](self.stack)
        apsw.set_default_vfs(self.vfs.name)

    def stopTest(self, test):
        super().stopTest(test)
        for connection in apsw.connections():
            with suppress(apsw.Error):
                connection.close(force=True)
        gc.collect()
        apsw.connection_hooks = []
        apsw.set_default_vfs(REAL)
        parts = getattr(self.vfs, "parts", [self.vfs])
        for part in parts:
            if isinstance(part, StableVFS):
                part.unregister()
                self.failed[self.name] += found_unsound(part.memory, part.layout.name)
        if self.vfs not in parts or isinstance(self.vfs, PassVFS):
            self.vfs.unregister()
        self.stack.close()
        self.cpu_seconds[self.name] = time.process_time() - self.began

    def note(self, error):
        self.failed[self.name].append("".join(traceback.format_exception(*error)))

    def on_thread_exception(self, args):
        self.note((args.exc_type, args.exc_value, args.exc_traceback))

    def addError(self, test, err):
        self.note(err)

    addFailure = addError

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.note(err)


def found_unsound(memory, layout):
    """What a test has left behind it in the bytes, and should not have."""
    if memory.kind is not None:
        return [f"a message ({memory.kind}) stayed open"]
    try:
        vfs = StableVFS(memory, layout=layout)
    except SqlstableError as error:
        return [repr(error)]
    names = [file.name for file in vfs.stable_files() if file.kind == "database"]
    found = {name: quick_check(vfs, name) for name in names}
    vfs.unregister()
    return [f"{name}: {answer}" for name, answer in found.items() if answer != "ok"]


def quick_check(vfs, name):
    try:
        with closing(vfs.connect(name)) as connection:
            return connection.pragma("quick_check")
    except (apsw.Error, SqlstableError) as error:
        return repr(error)


def main(kind, *names):
    suite.setup()
    loader = unittest.defaultTestLoader
    tests = loader.loadTestsFromNames(names, suite) if names else loader.loadTestsFromModule(suite)
    result = Result(kind)
    tests.run(result)
    results = {"failed": result.failed, "cpu_seconds": result.cpu_seconds}
    Path("results.json").write_text(json.dumps(results), encoding="utf-8")
    # The suite leaves threads and objects that do not survive the interpreter's end.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
