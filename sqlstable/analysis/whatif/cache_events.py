"""What a page cache saw of a trace, and what each access adds to its message's sets of pages."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.ic.words import WRITE
from sqlstable.trace.footprint import units_spanned

Int64s = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

NOT_CACHED = 0
"""In place of a SQLite page: the access goes to stable memory whatever a page cache holds."""


@dataclass(frozen=True, slots=True, eq=False)
class MessageSets:
    """The sets of pages that messages touch; a page of two messages is in two of them."""

    event: Int64s
    "Index of an access that touches a page; ascending."
    member: Int64s
    "Number of that page and message together, from 0."
    count: int
    "Members of all sets."

    def count_of(self, kept: Flags) -> int:
        """Return how many members are touched by the accesses that are kept."""
        found = np.zeros(self.count, bool)
        found[self.member[kept[self.event]]] = True
        return int(np.count_nonzero(found))


@dataclass(frozen=True, slots=True, eq=False)
class CacheEvents:
    """Reads and writes of a trace in order, as columns of one length."""

    message: Int64s
    page: Int64s
    "Number of the SQLite page that was read or written whole; else NOT_CACHED."
    is_write: Flags
    is_changed: Flags
    "Whether the page is written next in its transaction: it becomes dirty by this access."
    ends_transaction: Flags
    "Whether no other access of its transaction follows."
    is_undone: Flags
    "Whether its transaction is rolled back, by a statement or a trap."
    sqlite_pages: MessageSets
    os_pages: MessageSets
    wasm_pages: MessageSets

    def __len__(self) -> int:
        return len(self.message)


def cache_events(trace: TraceSource, page_size: int) -> CacheEvents:
    """Read the accesses of a trace as a page cache would see them.

    All of them are held, about 100 bytes each.

    Args:
        trace: The trace.
        page_size: Bytes of a SQLite page.
    """
    columns = [
        np.concatenate(column) for column in zip(_no_events(), *_columns(trace), strict=True)
    ]
    message, statement, is_write, address, length, offset = columns
    whole = (offset >= 0) & (length == page_size) & (offset % page_size == 0)
    page = np.where(whole, offset // page_size + 1, NOT_CACHED)
    transaction, is_undone = _transactions(trace, message, statement)
    ends = np.ones(len(message), bool)
    ends[:-1] = np.diff(transaction) != 0
    return CacheEvents(
        message,
        page,
        is_write.astype(bool),
        _changed(transaction, page, is_write),
        ends,
        is_undone,
        _sets(message, np.flatnonzero(whole), page[whole]),
        _sets(message, *units_spanned(address, length, OS_PAGE_BYTES)),
        _sets(message, *units_spanned(address, length, WASM_PAGE_BYTES)),
    )


def _no_events() -> tuple[Int64s, ...]:
    return (np.empty(0, np.int64),) * 6


def _columns(trace: TraceSource) -> Iterator[tuple[npt.NDArray[np.signedinteger], ...]]:
    for block in trace.access_blocks(owners=False):
        moved = block.kind <= WRITE
        is_write = (block.kind == WRITE).astype(np.int64)
        columns = (block.message, block.statement, is_write)
        places = (block.address, block.length, block.offset)
        yield tuple(column[moved] for column in (*columns, *places))


def _transactions(trace: TraceSource, message: Int64s, statement: Int64s) -> tuple[Int64s, Flags]:
    """Number the transactions of accesses, and tell which of them are rolled back.

    One ends with a statement that commits or rolls back, and with its message.
    """
    count = len(trace.statements)
    ends, undoes = np.zeros(count, bool), np.zeros(count, bool)
    for it in trace.statements:
        undoes[it.index] = it.kind == "transaction" and _rolls_back(it.sql) is not None
        ends[it.index] = undoes[it.index] or it.phases["commit"].calls.write > 0
    ended_before = np.cumsum(ends) - ends
    # What no statement did belongs to the statement before it.
    ended = np.zeros(len(statement), np.int64)
    of_statement = statement >= 0
    ended[of_statement] = ended_before[statement[of_statement]]
    ended = np.maximum.accumulate(ended)
    is_undone = np.isin(ended, ended_before[undoes])
    trapped = [it.index for it in trace.messages if it.outcome == "trapped"]
    is_undone |= np.isin(message, trapped)
    return ended + message, is_undone


_rolls_back: Final = re.compile(r"rollback(?!.*\bto\b)", re.IGNORECASE | re.DOTALL).match


def _changed(transaction: Int64s, page: Int64s, is_write: Int64s) -> Flags:
    """Tell which accesses have a write next to them, among those of a page in a transaction."""
    order = np.lexsort((page, transaction))
    page, transaction = page[order], transaction[order]
    changed = np.zeros(len(order), bool)
    same = (np.diff(page) == 0) & (np.diff(transaction) == 0) & (page[1:] != NOT_CACHED)
    changed[order[:-1]] = same & (is_write[order[1:]] > 0)
    return changed


def _sets(message: Int64s, event: Int64s, page: Int64s) -> MessageSets:
    order = np.lexsort((page, message[event]))
    is_next = np.ones(len(order), bool)
    is_next[1:] = (np.diff(page[order]) != 0) | (np.diff(message[event[order]]) != 0)
    member = np.empty(len(order), np.int64)
    member[order] = np.cumsum(is_next) - 1
    return MessageSets(event, member, int(np.count_nonzero(is_next)))
