"""SQLite beside the map of ic-stable-structures: the same keys and values, the same questions.

The map is the real crate, in a module (``module/ready/btree``); SQLite a table of a key and a blob.
Both are asked in raw bytes, so that no Candid is in the figures, and both pay for their replies.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from struct import pack
from typing import Final, Literal

from sqlstable.canister.canister import Canister
from sqlstable.module.canister_module import CanisterModule
from sqlstable.trace.model import Message

Question = Literal["get", "put", "range", "scan", "load"]

QUESTIONS: Final[Mapping[Question, str]] = {
    "get": "one value by its key, in an update behind another one",
    "put": "one value overwritten",
    "range": "100 keys and values in a row, in a query",
    "scan": "the bytes of all values, in a query",
    "load": "one of the rows that are loaded, 1,000 in a message, in order",
}
"""What both are asked."""

MODULE: Final = "@btree.wasm"
"""The map; ic-stable-structures 0.7.2."""

LOAD_ROWS: Final = 1_000
"""Rows that a message loads."""

RANGE_ROWS: Final = 100

_TABLE: Final = "CREATE TABLE item (key INTEGER PRIMARY KEY, value BLOB)"
_GET: Final = "SELECT value FROM item WHERE key = ?"
_PUT: Final = "REPLACE INTO item VALUES (?, ?)"
_RANGE: Final = "SELECT key, value FROM item WHERE key >= ? AND key < ?"
_SCAN: Final = "SELECT count(*), sum(length(value)) FROM item"


@dataclass(frozen=True, slots=True)
class Answered:
    """What one question cost one of them."""

    question: Question
    message: Message
    per: int = 1
    "Rows that the message worked on, where the figure wanted is that of one."

    @property
    def instructions(self) -> float:
        """Those of the message, or of one of its rows."""
        assert self.message.instructions is not None
        return self.message.instructions.total / self.per


def ask_map(rows: int, value_bytes: int) -> Iterator[Answered]:
    """Load the map, and ask it everything.

    Args:
        rows: 1,000 or more, in thousands.
        value_bytes: Of each value.
    """
    middle = rows // 2
    with CanisterModule(MODULE) as canister:
        loads = [
            canister.update("fill", pack_numbers(first, LOAD_ROWS, value_bytes)).message
            for first in range(1, rows + 1, LOAD_ROWS)
        ]
        yield Answered("load", loads[-1], LOAD_ROWS)
        canister.update("get_warm", pack_numbers(7))
        yield Answered("get", canister.update("get_warm", pack_numbers(middle)).message)
        yield Answered("put", canister.update("put", pack_numbers(middle, value_bytes)).message)
        yield Answered("range", canister.query("range", pack_numbers(middle, RANGE_ROWS)).message)
        yield Answered("scan", canister.query("scan", b"").message)


def ask_sqlite(build: str, rows: int, value_bytes: int) -> Iterator[Answered]:
    """Load a table of SQLite, and ask it the same.

    Args:
        build: Of the wasm engine.
        rows: As `ask_map`.
        value_bytes: Likewise.
    """
    middle = rows // 2
    value = b"x" * value_bytes
    with Canister(engine="wasm", build=build) as canister:
        canister.update(_TABLE)
        loads = [_load(canister, first, value) for first in range(1, rows + 1, LOAD_ROWS)]
        yield Answered("load", loads[-1], LOAD_ROWS)
        canister.update(_GET, (7,))
        yield Answered("get", canister.update(_GET, (middle,)).message)
        yield Answered("put", canister.update(_PUT, (middle, value)).message)
        yield Answered("range", canister.query(_RANGE, (middle, middle + RANGE_ROWS)).message)
        yield Answered("scan", canister.query(_SCAN).message)


def _load(canister: Canister, first: int, value: bytes) -> Message:
    with canister.message() as message, message.transaction():
        message.executemany(_PUT, [(first + it, value) for it in range(LOAD_ROWS)])
    return message.reply.message


def pack_numbers(*numbers: int) -> bytes:
    """Return an argument of the map's methods.

    Examples:
        >>> pack_numbers(1, 2).hex()
        '01000000000000000200000000000000'
    """
    return pack(f"<{len(numbers)}Q", *numbers)
