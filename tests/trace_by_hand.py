"""Records of a trace made by hand, which the golden traces hold: they never change."""

import re
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

import sqlstable.trace.format.file as trace_file
from sqlstable.ic.accesses import Accesses
from sqlstable.ic.charged import Charged, Payloads
from sqlstable.ic.limits import NO_LIMIT
from sqlstable.ic.words import COMMIT, GROW, PHASES, PREPARE, READ, SIZE, WRITE
from sqlstable.trace.access_stream import NO_PHASE
from sqlstable.trace.format.file import (
    TraceWriter,
)
from sqlstable.trace.model import (
    AccessSpan,
    AddressRun,
    Calls,
    HeapUse,
    Instructions,
    LimitUse,
    LoopUse,
    Message,
    ModuleCall,
    OutsideUse,
    Owner,
    OwnerFault,
    OwnerRun,
    OwnerRuns,
    OwnerUse,
    Part,
    Sample,
    SampleGroup,
    SchemaObject,
    SqliteCounters,
    StableArea,
    StableUse,
    Statement,
    TreeShape,
)

BUCKET_BYTES = 8 * 1024 * 1024


def accesses_of(*rows):
    kind, address, length, offset = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Accesses(
        np.array(kind, np.int8),
        np.array(address, np.int64),
        np.array(length, np.int64),
        np.array(offset, np.int64),
    )


def scan(first, count):
    offset = np.arange(first, first + count, dtype=np.int64) * 4096
    # From the second bucket on another memory lies between.
    address = offset + 65_536 + (offset >= BUCKET_BYTES) * BUCKET_BYTES
    return Accesses(np.full(count, READ, np.int8), address, np.full(count, 4096, np.int64), offset)


OPENING = accesses_of((SIZE, 0, 0, -1), (READ, 0, 64, -1), (READ, 65_536, 100, 0))
CREATION = accesses_of(
    (GROW, 0, 128, -1),
    (WRITE, 0, 2080, -1),
    (WRITE, 65_536, 4096, 0),
    (WRITE, 69_632, 4096, 4096),
)
LARGE = accesses_of((READ, 2**62, 2**40, 2**61), (WRITE, 2**63 - 1, 1, 2**63 - 2))


def use(read=0, write=0, *, size=0, grow=0, dirty=0):
    """Return use that is plausible, and different in every column."""
    return StableUse(
        calls=Calls(read=read, write=write, size=size, grow=grow),
        bytes_read=4096 * read,
        bytes_written=4096 * write + 7,
        os_pages_accessed=read + dirty + 1,
        os_pages_dirty=dirty,
        wasm_pages_accessed=1 + read // 16,
        wasm_pages_dirty=min(dirty, 1),
    )


STATEMENTS = (
    Statement(
        index=0,
        message=0,
        sql="CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT)",
        shape="CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT)",
        kind="ddl",
        row_count=0,
        runs=1,
        plan=(),
        stable=use(1, 3, grow=1, dirty=2),
        phases={
            "prepare": use(1),
            "run": use(0, 2, grow=1, dirty=1),
            "commit": use(0, 1, dirty=1),
        },
        sqlite=SqliteCounters(hits=0, vm_steps=31, fullscan_steps=0, sorts=0),
        owners=(
            OwnerUse("sqlite_schema", "sqlite_schema", "table", "leaf", 2, 1),
            OwnerUse("memory manager", "", "memory manager", "", 1, 1),
        ),
    ),
    Statement(
        index=1,
        message=1,
        sql="SELECT owner FROM account WHERE owner > 'Zoë' ORDER BY 1",
        shape="SELECT owner FROM account WHERE owner > ? ORDER BY ?",
        kind="read",
        row_count=17,
        runs=1,
        plan=("SCAN account", "USE TEMP B-TREE FOR ORDER BY"),
        stable=use(300),
        phases={"prepare": StableUse(), "run": use(300), "commit": StableUse()},
        sqlite=SqliteCounters(hits=12, vm_steps=4711, fullscan_steps=299, sorts=1),
        owners=(OwnerUse("account", "account", "table", "leaf", 300, 0),),
    ),
    Statement(
        index=2,
        message=1,
        sql="SELECT owner FROM account WHERE owner > 'Zoë' ORDER BY 1",
        shape="SELECT owner FROM account WHERE owner > ? ORDER BY ?",
        kind="read",
        row_count=17,
        runs=1,
        plan=("SCAN account", "USE TEMP B-TREE FOR ORDER BY"),
        stable=StableUse(),
        phases=dict.fromkeys(PHASES, StableUse()),
        sqlite=SqliteCounters(),
        owners=(),
    ),
    Statement(
        index=3,
        message=3,
        sql="INSERT INTO account VALUES (?, ?)",
        shape="INSERT INTO account VALUES (?, ?)",
        kind="write",
        row_count=0,
        runs=100_000,
        plan=(),
        stable=use(1, 1, dirty=1),
        phases={"prepare": StableUse(), "run": use(1, 1, dirty=1), "commit": StableUse()},
        sqlite=SqliteCounters(hits=2**63 - 1, vm_steps=1, fullscan_steps=0, sorts=0),
        owners=(OwnerUse("account", "account", "table", "leaf", 1, 1),),
    ),
)

MESSAGES = (
    Message(
        index=0,
        kind="install",
        label=None,
        outcome="committed",
        trap=None,
        discarded_writes=False,
        cache=None,
        statements=(0,),
        stable=use(3, 3, size=1, grow=1, dirty=2),
        outside=(OutsideUse("open", use(2, size=1)), OutsideUse("message", use(0, 1))),
        limits=(LimitUse("os_pages_dirty", 2, 2048), LimitUse("os_pages_accessed", 3, NO_LIMIT)),
        image_bytes=129 * 65_536,
    ),
    Message(
        index=1,
        kind="query",
        label="all owners",
        outcome="discarded",
        trap=None,
        discarded_writes=True,
        cache="cold",
        statements=(1, 2),
        stable=use(300),
        outside=(),
        limits=(),
        image_bytes=129 * 65_536,
    ),
    Message(
        index=2,
        kind="upgrade",
        label=None,
        outcome="committed",
        trap=None,
        discarded_writes=False,
        cache=None,
        statements=(),
        stable=StableUse(),
        outside=(OutsideUse("close", StableUse()),),
        limits=(),
        image_bytes=129 * 65_536,
    ),
    Message(
        index=3,
        kind="update",
        label="load",
        outcome="trapped",
        trap="stable memory out of bounds",
        discarded_writes=False,
        cache="warm",
        statements=(3,),
        stable=use(1, 1, dirty=1),
        outside=(),
        limits=(LimitUse("os_pages_dirty", 2048, 2048),),
        image_bytes=2**40,
    ),
)

# Version 1 knew no costs; the records are the same otherwise.
MESSAGES_WITHOUT_COSTS, STATEMENTS_WITHOUT_COSTS = MESSAGES, STATEMENTS
MESSAGES = (
    replace(
        MESSAGES[0],
        instructions=Instructions(2_535_026, 204_573, 330_453, 2_000_000),
        heap=HeapUse(13, 12, 24, 1_900_544),
    ),
    replace(
        MESSAGES[1],
        instructions=Instructions(900, 800, 100, 0, measured=False, error_band=0.25),
    ),
    *MESSAGES[2:],
)
STATEMENTS = (
    replace(
        STATEMENTS[0],
        instructions=Instructions(1_486_511, 196_058, 330_453, 960_000),
        phase_instructions={"prepare": 84_462, "run": 107_739, "commit": 334_310, "reply": 0},
        loops=(
            LoopUse("account", "SCAN account", 1, 3, 1000.5),
            LoopUse("other", "SEARCH other", 3, -1, 1.0),
        ),
    ),
    *STATEMENTS[1:],
)

# Version 2 knew no limits of traps.
MESSAGES_WITHOUT_TRAP_LIMITS = MESSAGES
MESSAGES = (*MESSAGES[:3], replace(MESSAGES[3], trap_limit="os_pages_dirty"))

# Version 3 knew neither phases nor an order, and not what the trace ends with.
MESSAGES_WITHOUT_CHANGES = MESSAGES
MESSAGES = (replace(MESSAGES[0], bytes_changed=12_345), *MESSAGES[1:])

# Version 4 did not know which messages are one call, and no parts of a step.
MESSAGES_WITHOUT_CALLS = MESSAGES
UPGRADE_PARTS = (Part("pre_upgrade", 3, 1, 2_224_856), Part("post_upgrade", 11, 0))
MESSAGES = (
    *MESSAGES[:2],
    replace(MESSAGES[2], parts=UPGRADE_PARTS),
    replace(MESSAGES[3], continues=1),
)

# Version 5 did not know what a module was called with.
MESSAGES_WITHOUT_MODULES = MESSAGES
MESSAGES = (
    *MESSAGES[:3],
    replace(
        MESSAGES[3],
        call=ModuleCall("load", 'load("größer")', "reject", 9, "no öl left", 2),
    ),
)

# Version 6 did not know what price lists charge for.
MESSAGES_WITHOUT_CHARGES, STATEMENTS_WITHOUT_CHARGES = MESSAGES, STATEMENTS
COMPUTATION = {"replica": 204_573, "replica-2023": 205_000, "replica-flat": 2**40}
MESSAGES = (
    replace(
        MESSAGES[0],
        charged=Charged(COMPUTATION, 7, 8_199, 1, 2, 3, 4, 13, 12, 24),
        payloads=Payloads(91, 17),
        sample=Sample(SampleGroup("install", None, "committed", "", 3, 0), 4, 1, "other"),
    ),
    replace(MESSAGES[1], charged=Charged(None, 300, 1_228_800)),
    MESSAGES[2],
    replace(MESSAGES[3], payloads=Payloads(5, 0, 2, 2**33)),
)
STATEMENTS = (
    replace(STATEMENTS[0], charged=Charged({"replica": 196_058}, 6, 8_192, 1, 2, 3, 4, 5, 6, 9)),
    replace(STATEMENTS[1], charged=Charged(None, 300, 1_228_800)),
    *STATEMENTS[2:],
)

OWNER_FAULTS = (OwnerFault(0, "tables größer and b share one root"), OwnerFault(3, ""))

OWNER_RUNS = (
    OwnerRun(0, 1, 1, "sqlite_schema", "sqlite_schema", "table", "leaf"),
    OwnerRun(0, 2, 300, "account", "account", "table", "leaf"),
    OwnerRun(3, 5, 2, "", "", "freelist", "trunk"),
)

AREAS = (
    StableArea(0, "main.db", "database", 120, BUCKET_BYTES, BUCKET_BYTES, BUCKET_BYTES, 8192, 4096),
    StableArea(0, "memory manager", "memory manager", None, 65_536, 65_536, 65_536, 34_848, 0),
    StableArea(3, "main.db", "database", 120, 2**39, BUCKET_BYTES, 2**39, 2**38 + 4096, 0),
    StableArea(3, "größer.db-journal", "journal", 122, 2**38, BUCKET_BYTES, 65_536, 512, 0),
)

SETTINGS = {
    "engine": "native",
    "page_size": 4096,
    "preset": None,
    "limits": {"os_pages_accessed": NO_LIMIT},
    "prices": ["memory-tracker", 1.5, True],
    "note": "größer als 4 GiB ✓",
}

STATEMENT_ACCESSES = {0: CREATION, 1: scan(1900, 300), 3: LARGE}
OUTSIDE_ACCESSES = {(0, 0): OPENING, (0, 1): accesses_of((WRITE, 0, 7, -1))}


ORDERS = {
    0: [
        AccessSpan(1, NO_PHASE, len(OPENING)),
        AccessSpan(0, PREPARE, 1),
        AccessSpan(0, COMMIT, len(CREATION) - 1),
        AccessSpan(2, NO_PHASE, 1),
    ]
}
ADDRESS_RUNS = {
    0: [AddressRun(0, 65_536, Owner("(memory manager)", "(memory manager)", "memory manager", ""))],
    3: [AddressRun(2**38, BUCKET_BYTES, Owner("größer", "größer", "journal", ""))],
}
SCHEMA = (
    SchemaObject("table", "account", "account", "CREATE TABLE account (größe)"),
    SchemaObject("index", "sqlite_autoindex_account_1", "account", None),
)
TREES = (
    TreeShape("account", "account", "table", 2, 1, 300, 2, 1_000, 900_000, 12_345, 0.75),
    TreeShape("sqlite_autoindex_account_1", "account", "index", 1, 0, 1, 0, 9, 90, 4_000, None),
)

WITHOUT_END = {"schema": (), "trees": ()}
"""What a trace says of its end where nobody has looked, and in format versions 1 to 3."""


def as_columns(runs):
    return [
        OwnerRuns(run.since_message, [run.first_sqlite_page], [run.sqlite_page_count], [run])
        for run in runs
    ]


def write_by_hand(writer, count=None):
    for message in MESSAGES[:count]:
        outside = [
            [OUTSIDE_ACCESSES.get((message.index, position), accesses_of())]
            for position in range(len(message.outside))
        ]
        writer.write(
            message,
            [STATEMENTS[index] for index in message.statements],
            statement_accesses={
                index: [
                    STATEMENT_ACCESSES[index].slice(0, 1),
                    STATEMENT_ACCESSES[index].slice(1, 999),
                ]
                for index in message.statements
                if index in STATEMENT_ACCESSES
            },
            outside_accesses=outside,
            owner_runs=as_columns(run for run in OWNER_RUNS if run.since_message == message.index),
            areas=[area for area in AREAS if area.message == message.index],
            owner_fault=next(
                (it.text for it in OWNER_FAULTS if it.since_message == message.index), None
            ),
            address_runs=ADDRESS_RUNS.get(message.index, ()),
            order=ORDERS.get(message.index, ()),
        )


def write_golden(path):
    """Write the trace that tests/golden keeps; to be called once for each format version."""
    with TraceWriter(path, SETTINGS) as writer:
        write_by_hand(writer)
        writer.write_end(SCHEMA, TREES, trees_skipped="")


def assert_by_hand(
    trace,
    areas=AREAS,
    messages=MESSAGES,
    statements=STATEMENTS,
    owner_faults=OWNER_FAULTS,
    schema=SCHEMA,
    trees=TREES,
):
    assert (trace.schema, trace.trees) == (schema, trees)
    assert trace.areas == areas
    assert trace.owner_faults == owner_faults
    assert trace.settings.values == {**SETTINGS, "closed": True}
    assert trace.messages == messages
    assert trace.statements == statements
    assert trace.owners == OWNER_RUNS
    for statement in STATEMENTS:
        expected = STATEMENT_ACCESSES.get(statement.index, accesses_of())
        assert_equal(trace.accesses(statement), expected)
        assert_equal(trace.accesses(statement.index), expected)
    for message in MESSAGES:
        outside = trace.outside_accesses(message)
        assert [name for name, _ in outside] == [entry.name for entry in message.outside]
        for position, (_, accesses) in enumerate(outside):
            expected = OUTSIDE_ACCESSES.get((message.index, position), accesses_of())
            assert_equal(accesses, expected)


def assert_equal(actual, expected):
    for name in ("kind", "address", "length", "offset"):
        np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name))


@pytest.fixture(name="path")
def path_fixture(tmp_path):
    """Return a finished trace made by hand."""
    write_golden(tmp_path / "run.trace")
    return tmp_path / "run.trace"


@pytest.fixture(name="plain")
def plain_fixture(path):
    """Return a connection to a finished trace, as any SQLite tool would make it."""
    with closing(sqlite3.connect(path)) as connection:
        yield connection


def documented_tables():
    return set(re.findall(r"^``(\w+)``", trace_file.__doc__, re.MULTILINE)) - {"statements"}
