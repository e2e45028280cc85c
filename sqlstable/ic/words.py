"""The words of both halves: what a message is and comes to, its phases, its accesses, its limits.

A word stands here once, with the string or number by which memory, engines, traces and reports
know it. Numbers are those that a trace file holds, and the shim.
"""

from typing import Final, Literal, get_args

# -- messages ------------------------------------------------------------------------------------

MessageKind = Literal[
    "update",
    "query",
    "upgrade",
    "install",
    "reinstall",
    "uninstall",
    "load_snapshot",
    "callback",
    "cleanup",
    "timer",
    "heartbeat",
    "low_memory",
    "inspect",
    "replicated_query",
    "composite_query",
    "composite_callback",
]
"""What a message is.

An upgrade stands for pre_upgrade and post_upgrade. An install is the init of a first installation,
a reinstall that of one which wipes what was there; an uninstall wipes and runs nothing, and
load_snapshot puts another heap and stable memory in their place. A ``start`` has the OS pages of an
update.

A callback is a message of its own; so is the cleanup behind one that trapped, for which a part of
its instructions is kept. They, timer, heartbeat and low_memory (``canister_on_low_wasm_memory``)
have an update's limits otherwise. The others have a query's, of which inspect
(``canister_inspect_message``) has fewer instructions; a replicated query is one that was called as
an update or by another canister.
"""

MESSAGE_KINDS: Final[tuple[MessageKind, ...]] = get_args(MessageKind)

UPDATE_KINDS: Final[tuple[MessageKind, ...]] = (
    "update",
    "callback",
    "cleanup",
    "timer",
    "heartbeat",
    "low_memory",
)
"""Kinds of message that run in the canister as it is, with the limits of an update."""

DISCARDED_KINDS: Final[tuple[MessageKind, ...]] = (
    "query",
    "replicated_query",
    "composite_query",
    "composite_callback",
    "inspect",
)
"""Kinds of message of which nothing is kept."""

ANSWERING_KINDS: Final[tuple[MessageKind, ...]] = (
    "update",
    "query",
    "replicated_query",
    "composite_query",
)
"""Kinds of message that somebody calls, with an argument, and that answer."""

UNREPLICATED_KINDS: Final[tuple[MessageKind, ...]] = (
    "query",
    "composite_query",
    "composite_callback",
)
"""Kinds of message of which one replica answers."""

WIPING_KINDS: Final[tuple[MessageKind, ...]] = ("reinstall", "uninstall", "load_snapshot")
"""Kinds of message behind which stable memory is another one."""

PartName = Literal["init", "start", "pre_upgrade", "post_upgrade"]
"""A part of a step of a canister's life, which runs by itself, with OS pages of its own."""

PARTS: Final[tuple[PartName, ...]] = get_args(PartName)

CallKind = Literal["update", "query"]
CALL_KINDS: Final[tuple[CallKind, ...]] = get_args(CallKind)
"""The kinds of message that somebody calls; the others are steps of a canister's life."""

Outcome = Literal["committed", "discarded", "trapped"]

EngineName = Literal["native", "wasm"]
"""What executes the SQL: SQLite in this process, or in a Wasm module."""

ENGINES: Final[tuple[EngineName, ...]] = get_args(EngineName)

RunEngineName = Literal["native", "wasm", "both"]
"""What a canister runs on: an engine, or the native one with messages measured in the other."""

RUN_ENGINES: Final[tuple[RunEngineName, ...]] = get_args(RunEngineName)

Depth = Literal["counters", "pages"]
"""How much is asked of SQLite for each statement."""

CacheState = Literal["fresh", "cold", "warm"]
"""The heap when a message begins: just opened; without SQLite's page cache; as it was left."""

CACHE_STATES: Final[tuple[CacheState, ...]] = get_args(CacheState)

Effect = Literal["nothing", "rows", "schema", "connection"]
"""What a statement or a message may change: rows of any database, TEMP ones as well; what tables
there are; whatever else belongs to the connection. Each means all before it, too."""

EFFECTS: Final[tuple[Effect, ...]] = get_args(Effect)

# -- canisters of modules -------------------------------------------------------------------------

MODULE_ENGINE: Final = "module"
"""The setting ``engine`` of a trace of a canister's own module."""

CALL_KIND: Final = "call"
"""Kind of the statement that stands for a whole message, where no SQL is seen in one."""

STACK_OVERFLOW: Final = "stack overflow"
"""What a trap says of calls that go too deep."""

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
REQUEST_BYTES: Final = "request_bytes"
REPLY_BYTES: Final = "reply_bytes"
WASM_MEMORY_LIMIT: Final = "wasm_memory_limit"
"""Of the heap, by the name of the canister's setting."""
