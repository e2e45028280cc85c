"""A witness of the host: plain and slow, every system call a Python function.

It shares nothing with the driver, the rewriter or the stable memory in Wasm, so that the module
can be tested by itself. Stable memory is a `StableMemory`, whose messages, limits and access log
are then the native engine's own.
"""

import weakref
from functools import cache

import wasmtime

from sqlstable import StableMemory, Trap
from sqlstable.database.settings import Settings
from sqlstable.database.vfs import julian_milliseconds
from sqlstable.engine.measured.codec import (
    decode_reply,
    encode_many,
    encode_request,
    encode_settings,
    random_key,
)
from sqlstable.engine.measured.further_files import further_files
from sqlstable.engine.measured.module.builds import load
from sqlstable.ic.accesses import Accesses
from sqlstable.layout.layout import Peek
from sqlstable.layout.layouts import layout_named
from sqlstable.memory.accesslog import AccessLog

MARK_TYPE = 0x53


@cache
def engine():
    return wasmtime.Engine(wasmtime.Config())


@cache
def module(build):
    return wasmtime.Module(engine(), load(build))


class Heap:
    """One instance of the module with a heap of its own."""

    def __init__(self, host):
        # Weak, like what wasmtime calls: it would keep hosts and their address space for ever.
        self.host = weakref.proxy(host)
        self.argument = b""
        self.replies = []
        self.marks = []
        "Phase and position in the access log of each mark."
        self.store = wasmtime.Store(engine())
        linker = wasmtime.Linker(engine())
        for name, params, results in CALLS:
            kind = wasmtime.FuncType(
                [getattr(wasmtime.ValType, each)() for each in params],
                [getattr(wasmtime.ValType, each)() for each in results],
            )
            function = wasmtime.Func(self.store, kind, self._system_call(name))
            linker.define(self.store, "ic0", name, function)
        self.instance = linker.instantiate(self.store, module(host.build))
        self.exports = self.instance.exports(self.store)
        self.memory = self.exports["memory"]

    def call(self, name, argument):
        self.argument = argument
        self.replies = []
        try:
            self.exports[name](self.store)
        except wasmtime.Trap as trap:
            # Of the Wasm code itself; what a system call raises comes through as it is.
            raise Trap(str(trap)) from None
        return self.replies

    def _system_call(self, name):
        heap = weakref.ref(self)

        def call(*arguments):
            return getattr(heap(), name)(*arguments)

        return call

    def snapshot(self):
        return self.memory.read(self.store, 0)

    def restore(self, snapshot):
        """Put the bytes back; what the heap has grown by stays, unused."""
        self.memory.write(self.store, snapshot, 0)

    # -- system calls ---------------------------------------------------------------------------

    def stable64_size(self):
        return self.host.memory.size()

    def stable64_grow(self, wasm_pages):
        return self.host.memory.grow(wasm_pages)

    def stable64_read(self, target, offset, length):
        data = self.host.memory.access_read(offset, length)
        self.memory.write(self.store, bytearray(data), target)

    def stable64_write(self, offset, source, length):
        data = self.memory.read(self.store, source, source + length)
        self.host.memory.access_write(offset, data)

    def msg_arg_data_size(self):
        return len(self.argument)

    def msg_arg_data_copy(self, target, offset, length):
        self.memory.write(self.store, self.argument[offset : offset + length], target)

    def msg_reply_data_append(self, source, length):
        source, length = source & 0xFFFFFFFF, length & 0xFFFFFFFF
        self.replies.append(bytes(self.memory.read(self.store, source, source + length)))

    def msg_reply(self):
        pass

    def trap(self, source, length):
        raise Trap(bytes(self.memory.read(self.store, source, source + length)).decode())

    def performance_counter(self, kind):
        assert kind & 0xFF == MARK_TYPE
        self.marks.append((kind >> 8, self.host.memory.log.position()))
        return 0


CALLS = (
    ("stable64_size", (), ("i64",)),
    ("stable64_grow", ("i64",), ("i64",)),
    ("stable64_read", ("i64", "i64", "i64"), ()),
    ("stable64_write", ("i64", "i64", "i64"), ()),
    ("msg_arg_data_size", (), ("i32",)),
    ("msg_arg_data_copy", ("i32", "i32", "i32"), ()),
    ("msg_reply_data_append", ("i32", "i32"), ()),
    ("msg_reply", (), ()),
    ("trap", ("i32", "i32"), ()),
    ("performance_counter", ("i32",), ("i64",)),
)


class Host:
    """A canister with the module in it: messages, upgrades, traps."""

    def __init__(self, *, memory=None, build="standard", is_foreign=False, **settings):
        self.memory = memory if memory is not None else StableMemory()
        self.memory.log = AccessLog(settings.get("page_size", 4096))
        self.build = build
        self.settings = Settings(**settings)
        self.is_foreign = is_foreign
        self.message_number = 0
        self.log = ()
        "The accesses of the last message: kind, address and length."
        self.marks = ()
        "The marks of the last message."
        self.heap = None
        self._start("install", "canister_init")

    def update(self, sql, params=None, **flags):
        return self.send("update", encode_request(sql, params, key=self._key(), **flags))

    def query(self, sql, params=None, **flags):
        return self.send("query", encode_request(sql, params, key=self._key(), **flags))

    def many(self, sql, rows, **flags):
        return self.send("update", encode_many(sql, rows, key=self._key(), **flags))

    def rows(self, sql, params=None, **flags):
        """Rows of an update that must succeed."""
        reply = self.update(sql, params, **flags)
        assert reply.failure is None, reply.failure
        return reply.rows

    def send(self, kind, *requests):
        """Send requests in one message; returns the reply, or a list where there are several."""
        self.message_number += 1
        memory, heap = self.memory, self.heap
        memory.begin(kind)
        heap.marks.clear()
        before = heap.snapshot() if kind == "query" else None
        try:
            name = "canister_query execute" if kind == "query" else "canister_update execute"
            replies = [decode_reply(heap.call(name, request)) for request in requests]
        except BaseException:
            memory.rollback()
            self._revive()
            raise
        self._take()
        if before is not None:
            heap.restore(before)
            memory.rollback()
        else:
            memory.commit()
        return replies if len(requests) > 1 else replies[0]

    def upgrade(self):
        self._start("upgrade", "canister_post_upgrade")

    def _start(self, kind, name):
        self.memory.begin(kind)
        try:
            heap = Heap(self)
            self.heap = heap
            heap.call(name, self._argument())
        except BaseException:
            self.memory.rollback()
            raise
        self._take()
        self.memory.commit()

    def _revive(self):
        """Open a new heap that stands for the one that a trap has ruined."""
        self.memory.begin("query")
        try:
            self.heap = Heap(self)
            self.heap.call("canister_init", self._argument())
        finally:
            self.memory.rollback()
        self.memory.log.take()

    def _argument(self):
        name, files = further_files(layout_named(self.settings.layout), Peek.at(self.memory))
        return encode_settings(
            self.settings,
            now_ms=julian_milliseconds(self.settings.now),
            name=name or "main.db",
            is_foreign=self.is_foreign,
            files=files,
        )

    def _take(self):
        taken = self.memory.log.take()
        self.log = [row[:3] for row in Accesses.joined(taken.chunks(0, len(taken))).rows]
        self.marks = list(self.heap.marks)

    def _key(self):
        return random_key(self.settings.seed, self.message_number + 1)
