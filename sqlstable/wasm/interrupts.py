"""Ctrl-C inside of a Wasm call, which Python cannot interrupt.

Python raises KeyboardInterrupt when its main thread next runs Python; a Wasm call runs none. But
the part of Python's handler that is written in C also writes the number of the signal to a
descriptor (`signal.set_wakeup_fd`). A thread waits at its other end, and takes the memory of heap
marks away from the canister that the main thread runs: rewritten code touches it at the start of
each function and of each pass of a loop, so that it traps there, and Python has its thread back.
While nobody interrupts, nothing is asked and nobody wakes up.

Only a canister's own code has an end of this kind. What is called between is the shim's, which must
do its work whole: nothing is taken away then.
"""

import ctypes
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Final

_READ_AND_WRITE: Final = 3
"""``PROT_READ | PROT_WRITE``; ``PROT_NONE`` is 0."""

_WINDOWS: Final = {0: 1, _READ_AND_WRITE: 4}
"""``PAGE_NOACCESS`` and ``PAGE_READWRITE``."""


class Guard:
    """A memory that running code touches again and again, and that can be taken away from it.

    Args:
        address: Where it begins in this process.
        size: Its length in bytes.
    """

    def __init__(self, address: int, size: int) -> None:
        self._address = address
        self._size = size
        self.is_closed = False

    def close(self) -> None:
        """Let code that touches the memory trap."""
        _protect()(self._address, self._size, 0)
        self.is_closed = True

    def open(self) -> None:
        """Give the memory back."""
        _protect()(self._address, self._size, _READ_AND_WRITE)
        self.is_closed = False


class Listener:
    """Ends what the main thread runs when this process is interrupted."""

    def __init__(self) -> None:
        self.running: Guard | None = None
        "Of the canister whose code the main thread runs; set by that thread before."
        self._lock = threading.RLock()
        self._ends: tuple[socket.socket, socket.socket] | None = None
        self._other = -1
        "The descriptor that somebody else had set, who is told as well."

    def listen(self) -> None:
        """Listen for interrupts; Python allows the main thread to begin it."""
        if self._ends is None and threading.current_thread() is threading.main_thread():
            self._start()

    def release(self, guard: Guard) -> bool:
        """Take note that the code has ended; returns whether an interrupt took its memory away."""
        # An exception from outside may come between taking the lock and the block that gives it
        # back; then it is this thread's still, and all that it has of it is given back here.
        self._lock.acquire()
        try:
            self.running = None
            is_closed = guard.is_closed
            if is_closed:
                guard.open()
        finally:
            with suppress(RuntimeError):
                while True:
                    self._lock.release()
        return is_closed

    def stop(self) -> None:
        """Give back what Python was told."""
        self.running = None
        self._lock = threading.RLock()
        ends, self._ends = self._ends, None
        if ends is None:
            return
        with suppress(ValueError):
            current = signal.set_wakeup_fd(self._other, warn_on_full_buffer=False)
            if current != ends[1].fileno():
                # Somebody else's by now.
                signal.set_wakeup_fd(current, warn_on_full_buffer=False)
        for end in ends:
            end.close()

    def _start(self) -> None:
        ends = socket.socketpair()
        ends[1].settimeout(0)
        try:
            self._other = signal.set_wakeup_fd(ends[1].fileno(), warn_on_full_buffer=False)
        except ValueError:
            # Not the main interpreter: then Ctrl-C waits for the end of the call.
            for end in ends:
                end.close()
            return
        self._ends = ends
        threading.Thread(
            target=self._wait, args=(ends[0],), name="sqlstable-interrupts", daemon=True
        ).start()

    def _wait(self, end: socket.socket) -> None:
        with suppress(OSError):
            while signals := end.recv(64):
                if self._other >= 0:
                    with suppress(OSError):
                        os.write(self._other, signals)
                if signal.SIGINT in signals:
                    with self._lock:
                        if self.running is not None:
                            self.running.close()


@cache
def _protect() -> Callable[[int, int, int], None]:
    """Return what changes how a part of memory may be used; it fails for no part that is there."""
    if sys.platform == "win32":
        windows = ctypes.WinDLL("kernel32").VirtualProtect
        windows.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_void_p)

        def protect_on_windows(address: int, size: int, protection: int) -> None:
            windows(address, size, _WINDOWS[protection], ctypes.byref(ctypes.c_uint32()))

        return protect_on_windows
    system = ctypes.CDLL(None).mprotect
    system.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

    def protect(address: int, size: int, protection: int) -> None:
        system(address, size, protection)

    return protect


LISTENER: Final = Listener()

if hasattr(os, "register_at_fork"):
    # A child has no thread that waits, and would wake up its parent's.
    os.register_at_fork(after_in_child=LISTENER.stop)
