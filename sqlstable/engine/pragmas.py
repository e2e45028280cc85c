"""PRAGMAs as the native engine sees them: what they look at, and whose business they are."""

from dataclasses import dataclass
from typing import Final, Self

import apsw

READING_PRAGMAS: Final = frozenset(
    (
        *("foreign_key_check", "foreign_key_list", "index_info", "index_list", "index_xinfo"),
        *("integrity_check", "quick_check", "table_info", "table_list", "table_xinfo"),
    )
)
"""Their argument says what to look at, never what to set."""

PROCESS_WIDE: Final = {
    "hard_heap_limit": "a limit on the heap of this whole process",
    "soft_heap_limit": "a limit on the heap of this whole process",
    "temp_store_directory": "a folder for this whole process",
    "data_store_directory": "a folder for this whole process",
    "threads": "threads, of which a canister has one",
}
"""What SQLite keeps outside of any connection, and what a canister has not."""


def refuse_process_wide(pragma: apsw.VFSFcntlPragma) -> None:
    """Refuse what would reach beyond the canister, in SQLite's own way.

    Raises:
        apsw.SQLError: It would.
    """
    what = PROCESS_WIDE.get(pragma.name.lower())
    if what is None or (pragma.name.lower() == "threads" and pragma.value == "0"):
        return
    msg = f"PRAGMA {pragma.name.lower()} would set {what}; leave it out"
    if "heap" in what:
        msg += ", or use the wasm engine, whose heap is the canister's own"
    pragma.result = msg
    raise apsw.SQLError(msg)


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """What PRAGMAs can set for the whole process, where the refusal did not see them.

    SQLite does not ask the database file about ``PRAGMA temp.hard_heap_limit``.
    """

    hard_heap_bytes: int
    soft_heap_bytes: int

    @classmethod
    def read(cls) -> Self:
        """Return what they are now."""
        return cls(apsw.hard_heap_limit(-1), apsw.soft_heap_limit(-1))

    def put_back(self) -> None:
        """Make them what they were."""
        if ProcessSettings.read() != self:
            apsw.hard_heap_limit(self.hard_heap_bytes)
            apsw.soft_heap_limit(self.soft_heap_bytes)
