"""Layout ``raw``: the database begins at address 0 of stable memory, and is all there is."""

from typing import TYPE_CHECKING, Final

from sqlstable.layout.filemap import ENDLESS, FileMap
from sqlstable.layout.layout import Opened, Peek, Traits
from sqlstable.layout.placement import RawPlacement
from sqlstable.sqlite.header import SQLITE_MAGIC

if TYPE_CHECKING:
    from sqlstable.memory.stable import StableMemory


class Raw:
    """The database at address 0."""

    name: Final = "raw"
    traits: Final = Traits(has_buckets=False, has_further_files=False, module_settings=(1, 1))

    def probe(self, peek: Peek) -> bool:
        """A database begins with SQLite's magic."""
        return peek.start(len(SQLITE_MAGIC)) == SQLITE_MAGIC

    def locate(self, peek: Peek) -> FileMap:
        """Addresses are offsets."""
        return FileMap.of((0,), bucket_bytes=ENDLESS)

    def open(
        self, memory: "StableMemory", *, bucket_pages: int, growth: str, is_read_only: bool
    ) -> Opened:
        """Nothing is written, and nothing is needed."""
        return Opened(RawPlacement(memory))
