"""All accesses of a trace as CSV, in the order in which they happened.

One row is one call of the stable memory API. The columns:

==================  ==========================================================================
statement           index of the statement; empty where the access belongs to none
position            place among the accesses of that statement, or of that outside entry
kind                read, write, size or grow
address             first byte in stable memory; empty for size and grow
length              bytes moved; for grow, Wasm pages asked for
os_page_index       OS page of the first byte, counted from 0; empty where no byte was moved
sqlite_page_number  SQLite page of the first byte, counted from 1; empty outside of the database
os_page_count       OS pages that the access overlaps, from ``os_page_index`` on
message             index of the message
outside             name of what made an access that belongs to no statement, else empty
phase               prepare, run or commit; empty outside of statements, and where a trace of
                    format version 1 to 3 does not tell
owner, table,       to whom the first byte belonged, as `sqlstable.trace.model.Owner` says
owner_kind, role
==================  ==========================================================================

**Limitations.** Traces of format version 1 to 3 do not tell in which order the statements of a
message and what is outside of them went on; its outside entries come last. SQLite page numbers
assume that the SQLite page size of the settings held throughout.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.ic.words import GROW, PHASES, READ, SIZE, WRITE
from sqlstable.report.as_csv import csv_lines
from sqlstable.trace.access_stream import AccessBlock

HEADER: Final = (
    *("statement", "position", "kind", "address", "length"),
    *("os_page_index", "sqlite_page_number", "os_page_count", "message", "outside"),
    *("phase", "owner", "table", "owner_kind", "role"),
)

_KINDS: Final = {READ: "read", WRITE: "write", SIZE: "size", GROW: "grow"}


def render_accesses_csv(trace: TraceSource) -> Iterator[str]:
    """Yield the lines of the CSV, each with its newline, without ever holding all of them."""
    page_size = trace.settings.values.get("page_size")
    sqlite_page_bytes = page_size if isinstance(page_size, int) and page_size > 0 else None
    yield from csv_lines([HEADER])
    outside = ["", *map(_field, trace.outside_names)]
    phases = ["", *PHASES]
    owners = [
        ",".join(map(_field, (it.name, it.table, it.kind, it.role))) for it in trace.access_owners
    ]
    for block in trace.access_blocks():
        moving = block.kind <= WRITE
        columns = zip(
            _texts(block.statement, block.statement >= 0),
            block.position.tolist(),
            map(_KINDS.__getitem__, block.kind.tolist()),
            _texts(block.address, moving),
            block.length.tolist(),
            _texts(block.address // OS_PAGE_BYTES, moving & (block.length > 0)),
            _sqlite_page_numbers(block, sqlite_page_bytes),
            np.where(moving, _os_page_counts(block), 0).tolist(),
            block.message.tolist(),
            # Position -1, for what does not apply, is the empty text in front.
            map(outside.__getitem__, (block.outside + 1).tolist()),
            map(phases.__getitem__, (block.phase + 1).tolist()),
            map(owners.__getitem__, block.owner.tolist()),
            strict=True,
        )
        for row in columns:
            yield _LINE % row


_LINE: Final = ",".join(["%s"] * 12) + "\n"


def _field(text: str) -> str:
    return next(csv_lines([(text,)])).removesuffix("\n") if text else ""


def _os_page_counts(block: AccessBlock) -> npt.NDArray[np.int64]:
    last = (block.address + block.length - 1) // OS_PAGE_BYTES
    return np.where(block.length > 0, last - block.address // OS_PAGE_BYTES + 1, 0)


def _sqlite_page_numbers(block: AccessBlock, sqlite_page_bytes: int | None) -> list[str]:
    if sqlite_page_bytes is None:
        return [""] * len(block)
    return _texts(block.offset // sqlite_page_bytes + 1, block.offset >= 0)


def _texts(numbers: npt.NDArray[np.integer], known: npt.NDArray[np.bool_]) -> list[str]:
    return [
        str(number) if is_known else ""
        for number, is_known in zip(numbers.tolist(), known.tolist(), strict=True)
    ]
