"""Layout ``froghub``: that of froghub's ic-sqlite, a length and then the database.

Integers big-endian::

    byte  size  content
    ----  ----  ----------------------------------------------------------------------
       0     8  length of the database in bytes
       8     -  the database

Invariants:

* The length only grows: SQLite cuts off what VACUUM leaves over, and the product ignores that. How
  long the database is its own header says, which never states more than the length.
* The product writes the length with each write that passes it; here it is written once, when an
  SQL transaction commits. What stands there after a message is the same.

A SQLite page begins 8 bytes behind an OS page's border, so each of 4096 bytes lies on two OS pages:
a write of one dirties both.

Limitations:

* The product reads the length before each write and for each question after the file's size. These
  reads are not imitated.

Source: froghub-io/ic-sqlite src/vfs.rs and src/lib.rs, read 2026-11.
"""

from typing import TYPE_CHECKING, Final

from sqlstable.errors import ImageError
from sqlstable.ic.units import WASM_PAGE_BYTES, amount
from sqlstable.layout.filemap import ENDLESS, FileMap
from sqlstable.layout.layout import Opened, Peek, Traits
from sqlstable.layout.placement import RawPlacement
from sqlstable.memory.signatures import what_is_there
from sqlstable.sqlite.header import SQLITE_MAGIC

if TYPE_CHECKING:
    from sqlstable.memory.stable import StableMemory

LENGTH_BYTES: Final = 8


class LengthRecord:
    """The length in front of the database.

    Args:
        memory: The stable memory.
    """

    kind: Final = "length record"
    used_bytes: Final = LENGTH_BYTES

    def __init__(self, memory: "StableMemory") -> None:
        self._memory = memory

    def size_bytes(self) -> int:
        """Return the length; 0 where there is nothing yet."""
        return int.from_bytes(Peek.at(self._memory).start(LENGTH_BYTES), "big")

    def masked(self) -> tuple[tuple[int, int], ...]:
        """Nothing is."""
        return ()

    def settle(self, size_bytes: int, *, is_whole: bool) -> None:
        """Write a length that has grown."""
        if size_bytes > self.size_bytes():
            self._memory.write(0, size_bytes.to_bytes(LENGTH_BYTES, "big"))


class Froghub:
    """The database behind its length."""

    name: Final = "froghub"
    traits: Final = Traits(has_buckets=False, has_further_files=False, module_settings=(2, 1))

    def probe(self, peek: Peek) -> bool:
        """A database begins with SQLite's magic."""
        return peek.start(len(SQLITE_MAGIC), LENGTH_BYTES) == SQLITE_MAGIC

    def locate(self, peek: Peek) -> FileMap:
        """All addresses are offsets, but for the first eight."""
        return FileMap.of((0,), bucket_bytes=ENDLESS, base=LENGTH_BYTES)

    def open(
        self, memory: "StableMemory", *, bucket_pages: int, growth: str, is_read_only: bool
    ) -> Opened:
        """Look at the memory; nothing is written."""
        peek = Peek.at(memory)
        if any(peek.start(LENGTH_BYTES + len(SQLITE_MAGIC))) and not self.probe(peek):
            raise ImageError(
                "no database lies behind a length, as layout froghub has it: the memory has "
                f"{amount(peek.wasm_pages, 'Wasm page')}, and "
                f"{what_is_there(peek.read, peek.wasm_pages)}"
            )
        record, main = LengthRecord(memory), RawPlacement(memory, LENGTH_BYTES)
        if record.size_bytes() > main.allocated_bytes:
            raise ImageError(
                f"the length in front of the database is {record.size_bytes()} bytes, and only "
                f"{main.allocated_bytes} bytes are there in {peek.wasm_pages} Wasm pages of "
                f"{WASM_PAGE_BYTES} bytes; the image is truncated"
            )
        return Opened(main, record=record)
