"""What a trace holds, as plain data.

Everything that reporters show is derived from these records; nothing here knows an engine.

Invariants, each kept by a test:

* ``prepare + run + commit`` of all statements of a message, plus its *outside* entries, is what
  the memory saw during it: calls and bytes add up, OS pages by union.
* A statement's OS pages are those that it touched itself, whether or not an earlier statement
  of the same message had touched them already.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from sqlstable.ic.charged import Charged, Payloads
from sqlstable.trace.markup import html_table

SQL_SHOWN_CHARACTERS: Final = 100
"""What a statement shows of its SQL on one line; the field has all of it."""


@dataclass(frozen=True, slots=True)
class Calls:
    """How often each call of the stable memory API was made."""

    read: int = 0
    write: int = 0
    size: int = 0
    grow: int = 0


@dataclass(frozen=True, slots=True)
class StableUse:
    """What was done to stable memory: calls, bytes, and sets of pages by their counts."""

    calls: Calls = Calls()
    bytes_read: int = 0
    bytes_written: int = 0
    os_pages_accessed: int = 0
    "OS pages read or written, each counted once."
    os_pages_dirty: int = 0
    "OS pages written, even with equal bytes, each counted once."
    wasm_pages_accessed: int = 0
    wasm_pages_dirty: int = 0


NO_USE: Final = StableUse()
"""What nothing has done."""


@dataclass(frozen=True, slots=True)
class SqliteCounters:
    """SQLite's own counters of one statement; None where they were not asked for."""

    hits: int | None = None
    "SQLite pages taken from SQLite's own cache."
    vm_steps: int | None = None
    fullscan_steps: int | None = None
    sorts: int | None = None


@dataclass(frozen=True, slots=True)
class Instructions:
    """Instructions, and what they were spent on; the parts add up to the total."""

    total: int
    computation: int
    "Operators, and system calls but for stable memory."
    stable: int
    "Calls on stable memory, their bytes, and the OS pages or regions that they touched first."
    heap: int
    "What is charged for the heap; 0 under prices that charge nothing, or where it was not watched."
    measured: bool = True
    "True: counted. False: estimated."
    error_band: float | None = None
    "Relative error of an estimate."


@dataclass(frozen=True, slots=True)
class HeapUse:
    """What was done to the heap, with sets of pages by their counts."""

    wasm_pages_accessed: int
    wasm_pages_written: int
    os_pages_written: int
    size_bytes: int
    "Of the heap, when the message ended."


@dataclass(frozen=True, slots=True)
class LoopUse:
    """One loop of a statement's plan, from the profile build of the wasm engine."""

    name: str
    "Table or index."
    plan: str
    "Its line of EXPLAIN QUERY PLAN."
    loops: int
    "How often it began; -1 where SQLite does not count."
    rows_visited: int
    "-1 where SQLite does not count."
    rows_estimated: float
    "Rows for each beginning that the planner expected."


@dataclass(frozen=True, slots=True)
class OwnerUse:
    """OS pages of one owner that a statement touched."""

    name: str
    table: str
    kind: str
    """table, index, freelist, pointer map, lock-byte, header, memory manager, or unknown; outside
    of the main database file that of a `StableArea`."""
    role: str
    "interior, leaf or overflow for a B-tree, trunk or leaf for the freelist, else empty."
    os_pages_accessed: int
    os_pages_dirty: int


@dataclass(frozen=True, slots=True, repr=False)
class Statement:
    """One SQL statement inside a message; ``executemany`` is one statement with many runs.

    A message of a module in which no SQL is seen is one statement, too: its call.
    """

    index: int
    "Counted from 0 over the whole trace."
    message: int
    "Index of its message."
    sql: str
    "Verbatim, without leading comments and closing semicolon."
    shape: str
    "The statement with its literals replaced by placeholders, to group equal work."
    kind: str
    "read, write, ddl, transaction or pragma; call for a whole message of a module, without SQL."
    row_count: int
    runs: int
    plan: tuple[str, ...]
    "Lines of EXPLAIN QUERY PLAN, indented by their depth; empty where there is none."
    stable: StableUse
    phases: Mapping[str, StableUse]
    "By the names in PHASES, all three present."
    sqlite: SqliteCounters
    owners: tuple[OwnerUse, ...]
    """Most accessed first. Empty where owners were not asked for: give the canister a trace, or
    ``owners=True``."""
    instructions: Instructions | None = None
    "None where they were neither counted nor estimated."
    phase_instructions: Mapping[str, int] | None = None
    "By the names in INSTRUCTION_PHASES; what the heap costs is in none of them."
    loops: tuple[LoopUse, ...] = ()
    "Where the build counts the rows that loops visit."
    charged: Charged | None = None
    "What price lists charge for; None in traces of format version 1 to 6."

    def __repr__(self) -> str:
        """Say what it is on one line; its fields have the rest."""
        sql = " ".join(self.sql.split())
        if len(sql) > SQL_SHOWN_CHARACTERS:
            sql = sql[: SQL_SHOWN_CHARACTERS - 1] + "…"
        return (
            f"<Statement {self.index} of message {self.message}: {sql}; OS pages accessed "
            f"{self.stable.os_pages_accessed}, dirty {self.stable.os_pages_dirty}; "
            f"rows {self.row_count}>"
        )

    def _repr_html_(self) -> str:
        """Show the numbers in a notebook."""
        spent = self.instructions
        rows = (
            ("sql", self.sql),
            ("plan", "\n".join(self.plan)),
            ("rows", self.row_count),
            ("OS pages accessed", self.stable.os_pages_accessed),
            ("OS pages dirty", self.stable.os_pages_dirty),
            ("hits", self.sqlite.hits),
            ("instructions", None if spent is None else spent.total),
            *((f"of {it.name or it.kind} ({it.role})", it.os_pages_accessed) for it in self.owners),
        )
        return html_table(f"statement {self.index} of message {self.message}", (), rows)


@dataclass(frozen=True, slots=True)
class OutsideUse:
    """Accesses that belong to no statement, under the name of what made them."""

    name: str
    "open, close, blob, backup, prepare error, message …"
    stable: StableUse


@dataclass(frozen=True, slots=True)
class LimitUse:
    """How much of one limit a message used."""

    name: str
    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a step of a canister's life, which has limits of its own on OS pages."""

    name: str
    "init, start, pre_upgrade or post_upgrade."
    os_pages_accessed: int
    "Stable OS pages that it read or wrote, each counted once."
    os_pages_dirty: int
    "Stable OS pages that it wrote, likewise."
    instructions: int | None = None
    "None where nobody counts them; all parts of a step together have one limit."


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """What a message of a canister's own module was called with, and what it answered."""

    method: str
    "Name of the method, or of the export that ran, such as ``canister_heartbeat``."
    text: str
    "The call with its arguments, in Candid where their types are known, else in hex."
    answer: str
    "reply, reject or none: three different things."
    answer_bytes: int
    "Of the reply, or of the words of the reject."
    answer_text: str | None
    "The words of the reject; of a reply what it says, where its types are known."
    calls_made: int
    "Calls to other canisters."


TRAPPED: Final = "it trapped, "
"""How a difference of a message begins that did not fit on the measured engine."""


class SampleGroup(NamedTuple):
    """Messages of equal work, of which some are measured and stand for the others."""

    kind: str
    "Of message."
    cache: str | None
    outcome: str
    shape: str
    "Of their statements, one to a line."
    work: int
    """How much it was on the native engine, within a power of two: the binary digits of the VM
    steps, and 256 times those of the rows."""
    block: int
    "Stretch of time, counted from 0; within it all messages are as likely to be measured."
    reason: str = ""
    "Why they cannot be measured; empty: they can."


@dataclass(frozen=True, slots=True)
class Sample:
    """What a message stands for that ran on the native engine, and maybe on the measured one."""

    group: SampleGroup
    os_pages_accessed: int | None = None
    "On the measured engine; None where it did not run there."
    os_pages_dirty: int | None = None
    difference: str | None = None
    "How it ended otherwise there, such as by a trap; None: it did not."

    @property
    def has_trapped(self) -> bool:
        """Whether it trapped on the measured engine alone, where it does not fit."""
        return self.difference is not None and self.difference.startswith(TRAPPED)


@dataclass(frozen=True, slots=True)
class Message:
    """One message: it committed whole, was discarded whole, or trapped."""

    index: int
    kind: str
    label: str | None
    outcome: str
    "committed, discarded or trapped."
    trap: str | None
    "Text of the trap."
    discarded_writes: bool
    "True for a query that wrote; its writes are gone, as on the Internet Computer."
    cache: str | None
    "fresh, cold or warm: the heap's state when the message began; None for life-cycle steps."
    statements: tuple[int, ...]
    "Indexes of its statements, ascending."
    stable: StableUse
    outside: tuple[OutsideUse, ...]
    limits: tuple[LimitUse, ...]
    image_bytes: int
    "Size of stable memory when the message had ended."
    instructions: Instructions | None = None
    """Of the whole message: those of its statements, and of what lies around them. None where
    nobody counted, and of a load of a snapshot that ran no code; what the Internet Computer charges
    for that is `Snapshot.instructions`."""
    heap: HeapUse | None = None
    "None where the heap was not watched."
    trap_limit: str | None = None
    "Name of the limit that trapped it, one of those in ``limits``; None where none did."
    bytes_changed: int | None = None
    """Bytes of stable memory that it left different from before, of those in OS pages that it
    wrote; 0 where nothing was kept, None where nobody compared."""
    continues: int | None = None
    """Index of the message that it goes on from, behind an await; None where it begins a call, and
    in traces of format version 1 to 4."""
    parts: tuple[Part, ...] = ()
    "Those of a step of the life cycle, in the order in which they ran."
    call: ModuleCall | None = None
    "What a canister's own module was called with; None where SQL was all that was asked."
    charged: Charged | None = None
    """What price lists charge for, of its statements and of what lies around them; None in traces
    of format version 1 to 6."""
    payloads: Payloads | None = None
    "None where nobody counted bytes, as on the native engine."
    sample: Sample | None = None
    "None where one engine alone ran."


@dataclass(frozen=True, slots=True)
class OwnerFault:
    """Why owners of SQLite pages are unknown that should not be, from a message on."""

    since_message: int
    "Index of the message at whose end this became true; it holds until the next fault."
    text: str
    "Empty where the owners are whole again."


@dataclass(frozen=True, slots=True)
class OwnerRun:
    """A run of SQLite pages with one owner, from a message on."""

    since_message: int
    "Index of the message at whose end this became true."
    first_sqlite_page: int
    "Number of the first SQLite page, counted from 1."
    sqlite_page_count: int
    name: str
    table: str
    kind: str
    role: str


@dataclass(frozen=True, slots=True)
class Owner:
    """To whom a SQLite page belongs, and what it does there."""

    name: str
    """Name of the table or index; sqlite_schema for the schema's own tree; otherwise (freelist),
    (pointer map), (lock-byte) or (unknown)."""
    table: str
    "The table that it serves; for whatever is no index, the name again."
    kind: str
    "table, index, freelist, pointer map, lock-byte or unknown."
    role: str
    "interior, leaf or overflow in a tree, trunk or leaf on the freelist, else empty."


@dataclass(frozen=True, slots=True)
class OwnerRuns:
    """Many runs that became true together, as columns; iterating gives each as `OwnerRun`."""

    since_message: int
    first_sqlite_pages: Sequence[int]
    sqlite_page_counts: Sequence[int]
    owners: Sequence[Owner]

    def __iter__(self) -> Iterator[OwnerRun]:
        columns = (self.first_sqlite_pages, self.sqlite_page_counts, self.owners)
        for first, count, owner in zip(*columns, strict=True):
            yield OwnerRun(
                self.since_message,
                first,
                count,
                owner.name,
                owner.table,
                owner.kind,
                owner.role,
            )


class AccessSpan(NamedTuple):
    """Successive accesses of a message that one statement, or one outside entry, made."""

    entry: int
    """What has accesses in the message, counted from 0: its statements in order, then its outside
    entries."""
    phase: int
    "Position in `sqlstable.ic.words.PHASES`; -1 outside of statements, and where nobody knows."
    access_count: int
    "1 or more."


@dataclass(frozen=True, slots=True)
class AddressRun:
    """A run of addresses of stable memory that one owner has, beside the main database file."""

    first_address: int
    size_bytes: int
    owner: Owner


@dataclass(frozen=True, slots=True)
class SchemaObject:
    """A row of the main database's sqlite_schema, as it was when the trace ended."""

    type: str
    "table, index, view or trigger."
    name: str
    table: str
    "The table that it serves; for a table or view, the name again."
    sql: str | None
    "None for what SQLite made itself, such as the index of a primary key."


@dataclass(frozen=True, slots=True)
class TreeShape:
    """The shape of one B-tree of the main database, as it was when the trace ended.

    Counts and bytes are those of SQLite's dbstat (https://sqlite.org/dbstat.html).
    """

    name: str
    "Name of the table or index; sqlite_schema for the schema's own tree."
    table: str
    "The table that an index belongs to, or the table itself."
    kind: str
    "table or index."
    depth: int
    "Levels; 1 for a tree that is one leaf."
    interior_pages: int
    "SQLite pages above the leaves."
    leaf_pages: int
    overflow_pages: int
    cells: int
    "Rows or entries, and dividers in interior nodes."
    payload_bytes: int
    "Bytes of keys and rows."
    unused_bytes: int
    "Bytes of its SQLite pages that hold nothing."
    leaves_in_order: float | None
    """Share of the leaves but the last that are followed, in the order of keys, by the next SQLite
    page: 1 for a tree that can be scanned without a jump. None for one leaf."""


@dataclass(frozen=True, slots=True)
class StableArea:
    """The part of stable memory that one file has, as it was when a message had ended.

    A trace has all areas of a message together, the main database's first, or none: they are
    noted after each message that changed the size of stable memory, and after the last one.
    """

    message: int
    "Index of the message."
    name: str
    "Name of the file; (memory 3) for a virtual memory that holds none of ours."
    kind: str
    """database, journal, wal, file directory, length record, superblock, other memory, or memory
    manager."""
    memory_id: int | None
    "Its virtual memory; None for the memory manager itself, and where there is none."
    allocated_bytes: int
    "Bytes of stable memory that nobody else can have."
    unit_bytes: int
    "Bytes that are allocated at once: a bucket, or a Wasm page where there are none."
    size_bytes: int
    "Bytes that it may use without growing; at most those allocated."
    used_bytes: int
    "Exact size of the file; at most its size_bytes."
    free_bytes: int
    "Bytes of it that are free SQLite pages; 0 for what is no database."


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """The circumstances under which a trace was recorded; every report states them."""

    values: Mapping[str, object] = field(default_factory=dict)
    """engine, sqlite, layout, bucket_pages, page_size, cache_size, journal_mode, locking_mode,
    synchronous, temp_store, preset, growth, durability, limits, prices, depth, owners, now, seed;
    null where unknown.
    """

    def __getitem__(self, name: str) -> object:
        return self.values[name]

    @property
    def has_wide_heap(self) -> bool:
        """Whether the canister's heap has addresses of 64 bits, so that instructions are dearer."""
        return self.values.get("heap_address_bits") == 64
