"""The words of both halves: what a message is and comes to, its phases, its accesses, its limits.

A word stands here once, with the string or number by which memory, engines, traces and reports
know it. Numbers are those that a trace file holds, and the shim.
"""

from typing import Final, Literal, get_args

# -- messages ------------------------------------------------------------------------------------

MessageKind = Literal[
    "update", "query", "upgrade", "install", "reinstall", "uninstall", "load_snapshot"
]
"""What a message is.

An update stands for timers, heartbeats and callbacks, too; a query for composite queries; an
upgrade for pre_upgrade and post_upgrade. An install is the init of a first installation, a
reinstall that of one which wipes what was there; an uninstall wipes and runs nothing, and
load_snapshot puts another heap and stable memory in their place. An inspect_message has a query's
OS pages, but fewer instructions; a ``start`` has the OS pages of an update.
"""

MESSAGE_KINDS: Final[tuple[MessageKind, ...]] = get_args(MessageKind)

WIPING_KINDS: Final[tuple[MessageKind, ...]] = ("reinstall", "uninstall", "load_snapshot")
"""Kinds of message behind which stable memory is another one."""

PartName = Literal["init", "start", "pre_upgrade", "post_upgrade"]
"""A part of a step of a canister's life, which runs by itself, with OS pages of its own."""

PARTS: Final[tuple[PartName, ...]] = get_args(PartName)

CallKind = Literal["update", "query"]
"""The kinds of message that somebody calls; the others are steps of a canister's life."""

Outcome = Literal["committed", "discarded", "trapped"]

EngineName = Literal["native", "wasm"]
"""What executes the SQL: SQLite in this process, or in a Wasm module."""

ENGINES: Final[tuple[EngineName, ...]] = get_args(EngineName)

Depth = Literal["counters", "pages"]
"""How much is asked of SQLite for each statement."""

CacheState = Literal["fresh", "cold", "warm"]
"""The heap when a message begins: just opened; without SQLite's page cache; as it was left."""

CACHE_STATES: Final[tuple[CacheState, ...]] = get_args(CacheState)

Effect = Literal["nothing", "rows", "schema", "connection"]
"""What a statement or a message may change: rows of any database, TEMP ones as well; what tables
there are; whatever else belongs to the connection. Each means all before it, too."""

EFFECTS: Final[tuple[Effect, ...]] = get_args(Effect)

# -- phases of a statement -----------------------------------------------------------------------

PHASES: Final = ("prepare", "run", "commit")
"""The phases of a statement, in order."""

INSTRUCTION_PHASES: Final = (*PHASES, "reply")
"""What a statement's instructions are spent on: the phases, and encoding its rows."""

PREPARE: Final = INSTRUCTION_PHASES.index("prepare")
RUN: Final = INSTRUCTION_PHASES.index("run")
COMMIT: Final = INSTRUCTION_PHASES.index("commit")
REPLY: Final = INSTRUCTION_PHASES.index("reply")

# -- accesses to stable memory -------------------------------------------------------------------

READ: Final = 0
"""Access kind: bytes were read."""
WRITE: Final = 1
"""Access kind: bytes were written. Kinds up to this one move bytes."""
SIZE: Final = 2
"""Access kind: the size was asked for."""
GROW: Final = 3
"""Access kind: the memory was grown; the length is in Wasm pages."""

# -- limits of a message, by the names that a trap and a verdict give them ------------------------

OS_PAGES_ACCESSED: Final = "stable_os_pages_accessed"
OS_PAGES_DIRTY: Final = "stable_os_pages_dirty"
STABLE_MEMORY_BYTES: Final = "stable_memory_bytes"
INSTRUCTIONS: Final = "instructions"
