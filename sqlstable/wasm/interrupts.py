"""Ctrl-C inside of a Wasm call, which Python cannot interrupt.

Python raises KeyboardInterrupt when its main thread next runs Python; a Wasm call runs none. But
the part of Python's handler that is written in C also writes the number of the signal to a
descriptor (`signal.set_wakeup_fd`). A thread waits at its other end, and lets an epoch of wasmtime
pass: the code of a canister that runs in the main thread then traps at its next loop or function,
and Python has its thread back. While nobody interrupts, nothing is asked and nobody wakes up.

Only a canister's own code has an end of this kind. What is called between is the shim's, which must
do its work whole: its calls have a deadline that is never reached.
"""

import os
import signal
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from wasmtime import Engine

NEVER: Final = 1 << 62
"""A deadline, in epochs from now on: so many interrupts do not happen."""

NEXT_INTERRUPT: Final = 1
"""A deadline that the next interrupt reaches."""


class Listener:
    """Lets the epoch of each engine pass when this process is interrupted."""

    def __init__(self) -> None:
        self.engines: list[Engine] = []
        self._ends: tuple[socket.socket, socket.socket] | None = None
        self._other = -1
        "The descriptor that somebody else had set, who is told as well."

    def listen(self, engine: "Engine") -> None:
        """Listen for interrupts, for an engine too; Python allows the main thread to begin it."""
        if engine not in self.engines:
            self.engines.append(engine)
        if self._ends is None and threading.current_thread() is threading.main_thread():
            self._start()

    def stop(self) -> None:
        """Give back what Python was told, and forget the engines."""
        self.engines.clear()
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
                    for engine in tuple(self.engines):
                        engine.increment_epoch()


LISTENER: Final = Listener()

if hasattr(os, "register_at_fork"):
    # A child has no thread that waits, and would wake up its parent's.
    os.register_at_fork(after_in_child=LISTENER.stop)
