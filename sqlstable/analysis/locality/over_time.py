"""Distinct OS pages and Wasm pages from message to message: how the touched part spreads."""

from dataclasses import dataclass

import numpy as np

from sqlstable.analysis.locality.page_history import Int64s

_COLUMNS = ("os_pages", "os_pages_new", "os_pages_dirty", "wasm_pages", "wasm_pages_new")


@dataclass(frozen=True, slots=True, eq=False)
class DistinctOverTime:
    """Pages that each message touched, and those of them that none had touched before.

    The columns have one entry for each message of the trace. The sums of the new ones up to a
    message are the distinct pages so far: the footprint curve of the trace.

    Source: sets of one message as the Internet Computer counts them (docs: what is counted).
    """

    os_pages: Int64s
    "Distinct OS pages that the message accessed."
    os_pages_new: Int64s
    "Those that no message before had accessed."
    os_pages_dirty: Int64s
    "Distinct OS pages that the message wrote."
    wasm_pages: Int64s
    "Distinct Wasm pages that the message accessed."
    wasm_pages_new: Int64s

    @property
    def os_pages_so_far(self) -> Int64s:
        """Distinct OS pages up to each message, never falling."""
        return np.cumsum(self.os_pages_new)

    @property
    def wasm_pages_so_far(self) -> Int64s:
        """Distinct Wasm pages up to each message, never falling."""
        return np.cumsum(self.wasm_pages_new)


class MessageCounts:
    """Adds up by message."""

    def __init__(self, message_count: int) -> None:
        self._counts = np.zeros((len(_COLUMNS), message_count), np.int64)

    def add(self, column: str, messages: Int64s) -> None:
        """Count one for each message named here, as often as it is named."""
        if len(messages):
            # A block has neighbouring messages of which the trace may have a great many.
            first = int(messages.min())
            counts = np.bincount(messages - first)
            self._counts[_COLUMNS.index(column), first : first + len(counts)] += counts

    def result(self) -> DistinctOverTime:
        """Return what was counted."""
        return DistinctOverTime(*self._counts)
