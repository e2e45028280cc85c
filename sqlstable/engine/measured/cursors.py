"""Cursors: statements that the module keeps open inside of a message, stopped at a row.

Others run in between, as in a canister that steps several statements by turns. Each step is a call
of the module's entry point ``cursor``; a real canister has none there, so what a call itself costs
is no statement's.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, Self

from sqlstable.engine.measured.codec import StatementResult
from sqlstable.engine.measured.notes import CallNote, WholeNote
from sqlstable.engine.statements import Params, Rows

CURSOR_OPEN: Final = 0
CURSOR_STEP: Final = 1
CURSOR_CLOSE: Final = 2

_HEAD: Final = struct.Struct("<II")


def encode_cursor(action: int, number: int, request: bytes = b"") -> bytes:
    """Return the request that opens, steps or closes a cursor.

    Args:
        action: `CURSOR_OPEN`, `CURSOR_STEP` or `CURSOR_CLOSE`.
        number: Of the cursor; whoever opens it chooses.
        request: What it runs, for opening.

    Examples:
        >>> encode_cursor(CURSOR_STEP, 7).hex()
        '0100000007000000'
    """
    return _HEAD.pack(action, number) + request


class WasmCursor:
    """A statement that stops at each row: SQLite has stepped to the row that is handed out next.

    Args:
        send: Lets the module do something with it, and sets whether it is stopped then.
        open_cursors: Those that are open, which it joins and leaves.
        sql: One statement, or several, whose rows follow each other.
        params: Their values.
        number: By which the module knows it.
    """

    def __init__(
        self,
        send: Callable[["WasmCursor", int, bytes], Rows],
        open_cursors: "list[WasmCursor]",
        sql: str,
        params: Params,
        number: int,
    ) -> None:
        self.sql, self.params, self.number = sql, params, number
        self.is_stopped = False
        "Whether the module has it stopped at a row."
        self._whole = WholeNote(sql)
        self._send = send
        self._open_cursors = open_cursors
        self._rows: Rows = []
        "The row that is handed out next, if it is there."

    def open(self, request: bytes) -> None:
        """Step to the first row."""
        self._rows = self._send(self, CURSOR_OPEN, request)
        self._open_cursors.append(self)

    def take(self, call: CallNote) -> None:
        """Count a call to the cursor's statement, before anybody else knows of it.

        One in which nothing could be prepared is none of it.
        """
        whole = self._whole
        if not whole.calls:
            if not call.results:
                return
            whole.sql = call.results[0].facts.cut_from(self.sql)
        call.whole = whole
        whole.calls.append(call)

    def note(self, results: Sequence[StatementResult]) -> None:
        """Take note of what the module has answered."""
        self.is_stopped = bool(results) and not results[-1].is_ended

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Any, ...]:
        if not self._rows and self._is_in_message:
            try:
                self._rows = self._send(self, CURSOR_STEP, b"")
            except BaseException:
                self._forget()
                raise
        if not self._rows:
            self._forget()
            raise StopIteration
        self._whole.row_count += 1
        return self._rows.pop()

    def close(self) -> None:
        """End the statement, finished or not."""
        self._rows = []
        try:
            if self._is_in_message:
                self._send(self, CURSOR_CLOSE, b"")
        finally:
            self._forget()

    @property
    def _is_in_message(self) -> bool:
        """Whether the module can go on with it: it goes with the message that opened it."""
        return self.is_stopped and self in self._open_cursors

    def _forget(self) -> None:
        self.is_stopped = False
        if self in self._open_cursors:
            self._open_cursors.remove(self)
