"""What is kept of one run of a script, so that many runs can be compared.

It is less than a trace: of each message and statement how much, not which. So a thousand runs fit
into one file of results, and one run into an answer that one process sends to another.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sqlstable.trace.model import LimitUse

TEXT_CHARACTERS_MAX: Final = 10_000
"""Longer SQL and shapes are cut here: of a bulk load the beginning says what it is."""

Scalar = str | int | float | bool | None
"""A setting, or a value of a script's parameter."""


@dataclass(frozen=True, slots=True)
class RanStatement:
    """One statement of one run."""

    index: int
    "Counted from 0 over the whole run."
    message: int
    "Index of its message."
    place: int
    "Its place among the statements of that message, counted from 0."
    sql: str
    "Its first `TEXT_CHARACTERS_MAX` characters."
    shape: str
    "SQL without its literals, cut likewise."
    kind: str
    "read, write, ddl, transaction or pragma."
    plan: tuple[str, ...]
    "Lines of EXPLAIN QUERY PLAN, indented by their depth."
    row_count: int
    runs: int
    os_pages_accessed: int
    os_pages_dirty: int
    stable_calls: int
    "Calls of the stable memory API."
    stable_bytes_moved: int
    "Bytes read and written."
    hits: int | None = None
    "SQLite pages taken from SQLite's own cache; None where nobody counted."
    instructions: int | None = None
    "None where nobody counted."


@dataclass(frozen=True, slots=True)
class RanMessage:
    """One message of one run."""

    index: int
    kind: str
    label: str | None
    outcome: str
    "committed, discarded or trapped."
    trap: str | None
    trap_limit: str | None
    "Name of the limit that trapped it; None where none did."
    os_pages_accessed: int
    os_pages_dirty: int
    stable_bytes: int
    "Size of stable memory when it had ended."
    limits: tuple[LimitUse, ...] = ()
    instructions: int | None = None
    "None where nobody counted."
    hits: int | None = None
    "SQLite pages that its statements took from SQLite's own cache; None where nobody counted."


@dataclass(frozen=True, slots=True)
class RunResult:
    """What one run of a script came to."""

    choices: Mapping[str, Scalar]
    "What was chosen for the canister, by the names of `sqlstable.canister.choices.Keywords`."
    parameters: Mapping[str, Scalar]
    "Values of the script's parameters."
    settings: Mapping[str, Scalar]
    "Settings as the trace states them; empty where the run could not begin."
    messages: tuple[RanMessage, ...] = ()
    "From the install on, in order."
    statements: tuple[RanStatement, ...] = ()
    failure: str | None = None
    "Why it failed, or could not begin; None for a run that ended well."
    index_uses: Mapping[str, int] = field(default_factory=dict)
    "OS pages of each index that statements which only read accessed; 0 for one that none did."

    used_bytes: int | None = None
    """Bytes of all files in stable memory after the last message, which grow evenly where stable
    memory grows by buckets; None where nobody said."""

    @property
    def instructions(self) -> int | None:
        """Instructions of all messages; None where those of one are not known."""
        found = [it.instructions for it in self.messages]
        return sum(it for it in found if it is not None) if found and None not in found else None

    @property
    def os_pages_accessed(self) -> int:
        """OS pages accessed, each counted once in its message."""
        return sum(it.os_pages_accessed for it in self.messages)

    @property
    def os_pages_dirty(self) -> int:
        """OS pages dirty, each counted once in its message."""
        return sum(it.os_pages_dirty for it in self.messages)

    @property
    def stable_bytes(self) -> int:
        """Size of stable memory after the last message."""
        return self.messages[-1].stable_bytes if self.messages else 0
