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
==================  ==========================================================================

**Limitations.** The rows of a message come statement by statement, its outside entries last;
whether those happened before or after its statements is not in the trace. SQLite page numbers
assume that the SQLite page size of the settings held throughout.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.accesses import Accesses
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.ic.words import GROW, READ, SIZE, WRITE
from sqlstable.report.as_csv import csv_lines

HEADER: Final = (
    *("statement", "position", "kind", "address", "length"),
    *("os_page_index", "sqlite_page_number", "os_page_count", "message", "outside"),
)

_KINDS: Final = {READ: "read", WRITE: "write", SIZE: "size", GROW: "grow"}

_CHUNK: Final = 65_536
"""Accesses turned into text at a time, so that memory does not grow with the statement."""


def render_accesses_csv(trace: TraceSource) -> Iterator[str]:
    """Yield the lines of the CSV, each with its newline, without ever holding all of them."""
    page_size = trace.settings.values.get("page_size")
    sqlite_page_bytes = page_size if isinstance(page_size, int) and page_size > 0 else None
    yield from csv_lines([HEADER])
    for message in trace.messages:
        for index in message.statements:
            accesses = trace.accesses(trace.statements[index])
            yield from _lines(str(index), accesses, f"{message.index},", sqlite_page_bytes)
        for name, accesses in trace.outside_accesses(message):
            ending = next(csv_lines([(message.index, name)])).removesuffix("\n")
            yield from _lines("", accesses, ending, sqlite_page_bytes)


def _lines(
    beginning: str, accesses: Accesses, ending: str, sqlite_page_bytes: int | None
) -> Iterator[str]:
    """Yield one line for each access, between what all of them begin and end with."""
    for start in range(0, len(accesses), _CHUNK):
        part = accesses.slice(start, start + _CHUNK)
        moving = (part.kind == READ) | (part.kind == WRITE)
        columns = zip(
            part.kind.tolist(),
            _texts(part.address, moving),
            part.length.tolist(),
            _texts(part.address // OS_PAGE_BYTES, moving & (part.length > 0)),
            _sqlite_page_numbers(part, sqlite_page_bytes),
            np.where(moving, _os_page_counts(part), 0).tolist(),
            strict=True,
        )
        for position, (kind, address, length, first, number, count) in enumerate(columns, start):
            yield (
                f"{beginning},{position},{_KINDS[kind]},{address},{length},"
                f"{first},{number},{count},{ending}\n"
            )


def _os_page_counts(part: Accesses) -> npt.NDArray[np.int64]:
    last = (part.address + part.length - 1) // OS_PAGE_BYTES
    return np.where(part.length > 0, last - part.address // OS_PAGE_BYTES + 1, 0)


def _sqlite_page_numbers(part: Accesses, sqlite_page_bytes: int | None) -> list[str]:
    if sqlite_page_bytes is None:
        return [""] * len(part)
    return _texts(part.offset // sqlite_page_bytes + 1, part.offset >= 0)


def _texts(numbers: npt.NDArray[np.int64], known: npt.NDArray[np.bool_]) -> list[str]:
    return [
        str(number) if is_known else ""
        for number, is_known in zip(numbers.tolist(), known.tolist(), strict=True)
    ]
