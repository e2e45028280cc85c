"""Traces made by hand, and by Hypothesis, for tests that need no recording."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from sqlstable.analysis.totals import (
    statement_instructions,
    sum_instructions,
    sum_known,
    sum_uses,
)
from sqlstable.analysis.verdict import applies, is_import, share, verdict
from sqlstable.ic.accesses import Accesses
from sqlstable.ic.charged import CHARGED_UNITS, Charged
from sqlstable.ic.snapshot_costs import whole_instructions
from sqlstable.ic.words import INSTRUCTION_PHASES, PHASES
from sqlstable.trace.access_stream import NOBODY, AccessBlock
from sqlstable.trace.format.kind_sums import KindSums
from sqlstable.trace.format.shape_uses import OwnerTotal, ShapeUse
from sqlstable.trace.format.summary import Summary
from sqlstable.trace.model import (
    Calls,
    LimitUse,
    Message,
    OutsideUse,
    OwnerFault,
    OwnerUse,
    SchemaObject,
    SqliteCounters,
    StableArea,
    StableUse,
    Statement,
    TraceSettings,
    TreeShape,
)
from sqlstable.trace.ownership.owner_state import OUTSIDE_TREES, UNKNOWN

SETTINGS = TraceSettings(
    {
        "engine": "native",
        "sqlite": "3.54.1",
        "layout": "managed",
        "bucket_pages": 128,
        "page_size": 4096,
        "cache_size": 500,
        "journal_mode": "memory",
        "locking_mode": "exclusive",
        "synchronous": "off",
        "temp_store": "memory",
        "preset": None,
        "limits": "2026-08-18",
        "prices": None,
        "closed": True,
        "depth": "counters",
    }
)

NO_ACCESSES = Accesses(
    np.array([], np.int8), *(np.array([], np.int64) for _ in ("address", "length", "offset"))
)

QUERY_TRAP = (
    "Canister trapped: Canister exceeded memory access limits: Exceeded the limit for the number "
    "of accessed pages in the stable memory in a single message execution: limit 2097152 KB for "
    "regular messages and 1048576 KB for queries."
)


@dataclass(frozen=True)
class HandBuiltTrace:
    """A trace without a file."""

    settings: TraceSettings = SETTINGS
    messages: Sequence[Message] = ()
    statements: Sequence[Statement] = ()
    accesses_by_statement: tuple[Accesses, ...] = ()
    outside_by_message: tuple[tuple[tuple[str, Accesses], ...], ...] = ()
    areas: Sequence[StableArea] = ()
    owner_faults: Sequence[OwnerFault] = ()
    schema: Sequence[SchemaObject] = ()
    trees: Sequence[TreeShape] = ()

    @property
    def summary(self):
        return summarized(self.messages, self.statements)

    @property
    def shape_uses(self):
        return shapes_put_together(self.messages, self.statements)

    @property
    def plan_lines(self):
        return frozenset(line.lstrip() for it in self.statements for line in it.plan)

    @property
    def owner_totals(self):
        return owners_put_together(self.statements)

    def accesses(self, statement):
        if statement.index < len(self.accesses_by_statement):
            return self.accesses_by_statement[statement.index]
        return NO_ACCESSES

    def outside_accesses(self, message):
        if message.index < len(self.outside_by_message):
            return self.outside_by_message[message.index]
        return tuple((entry.name, NO_ACCESSES) for entry in message.outside)

    @property
    def access_owners(self):
        return (OUTSIDE_TREES[UNKNOWN],)

    @property
    def outside_names(self):
        return tuple(
            sorted({name for it in self.messages for name, _ in self.outside_accesses(it)})
        )

    def access_blocks(self, *, owners=True, pieces=False):
        """Yield one block for each statement and each outside entry; nobody knows their owners."""
        for it in self.messages:
            for index in it.statements:
                yield _block(it.index, index, NOBODY, self.accesses(self.statements[index]))
            for name, made in self.outside_accesses(it):
                yield _block(it.index, NOBODY, self.outside_names.index(name), made)


def _block(message, statement, outside, made):
    count = len(made)
    return AccessBlock(
        np.full(count, message, np.int32),
        np.full(count, statement, np.int32),
        np.full(count, -1, np.int8),
        *(made.kind, made.address, made.length, made.offset),
        np.arange(count),
        np.zeros(count, np.int32),
        np.full(count, outside, np.int16),
    )


def summarized(messages, statements):
    """Return what records come to, one by one: the witness of what SQLite adds up."""
    judged = [it for it in messages if verdict(it) is not None]
    applying = [(share(use), it.index) for it in messages for use in it.limits if applies(use)]
    sets = {}
    for it in messages:
        names = tuple(use.name for use in it.limits if applies(use))
        if names:
            sets.setdefault(names, it.index)
    phases = [it.phase_instructions for it in statements]
    return Summary(
        message_count=len(messages),
        bare_count=sum(not it.statements for it in messages),
        trapped=tuple(it.index for it in messages if it.outcome == "trapped"),
        statement_count=len(statements),
        row_count=sum(it.row_count for it in statements),
        hits=sum_known(it.sqlite.hits for it in statements),
        stable=sum_uses(it.stable for it in messages),
        instructions=sum_instructions(it.instructions for it in messages),
        statement_instructions=statement_instructions(statements),
        phase_instructions=(
            {phase: sum(spent[phase] for spent in phases) for phase in INSTRUCTION_PHASES}
            if phases and None not in phases
            else None
        ),
        states=frozenset((it.kind, it.cache, it.instructions is not None) for it in messages),
        exceeding=tuple(it.index for it in judged if verdict(it) == "exceeds"),
        nearest=min(applying, key=lambda it: (-it[0], it[1]))[1] if applying else None,
        limited=tuple(sets.values()),
        unlimited_count=sum(not any(map(applies, it.limits)) for it in messages),
        kinds=tuple(
            summed_kind(kind, [it for it in messages if paid_kind(it) == kind])
            for kind in sorted({paid_kind(it) for it in messages})
        ),
    )


def paid_kind(message):
    """Return the kind that a message is paid for as."""
    return "import" if is_import(message) else message.kind


def summed_kind(kind, messages):
    """Return what the messages of one kind come to, likewise."""
    counted = [it.instructions.total for it in messages if it.instructions is not None]
    charged = [it.charged for it in messages if it.charged is not None]
    arrived = [it for it in messages if it.continues is None]
    known = [it for it in arrived if it.payloads is not None]
    payloads = [it.payloads for it in messages if it.payloads is not None]
    units = [name for name in CHARGED_UNITS if name.startswith("stable_")]
    spent = [
        it.image_bytes + whole_instructions(0) if it.instructions is None else it.instructions.total
        for it in messages
    ]
    return KindSums(
        *(kind, len(messages), len(counted), len(charged), len(arrived), len(known)),
        tuple(sum(it % 10 == digit for it in spent) for digit in range(10)),
        sum(counted),
        sum(it.image_bytes for it in messages if it.instructions is None),
        Charged(None, **{name: sum(getattr(it, name) for it in charged) for name in units}),
        sum(it.request_bytes for it in payloads),
        sum(it.payloads.request_bytes for it in known),
        sum(len(it.call.method.encode()) for it in known if it.call is not None),
        sum(it.call_count for it in payloads),
        sum(it.call_bytes for it in payloads),
    )


def shapes_put_together(messages, statements):
    """Return equal work together, one by one: the witness of what SQLite puts together."""
    groups = defaultdict(list)
    for it in statements:
        if it.message < len(messages):
            cache = messages[it.message].cache
            groups[it.shape or it.sql, it.kind, cache, it.plan].append(it)
    made = [
        ShapeUse(
            *(shape, kind, cache, heaviest.index, group[0].index, group[-1].index),
            statement_count=len(group),
            run_count=sum(it.runs for it in group),
            row_count=sum(it.row_count for it in group),
            **{
                name: sum_all(getattr(it.sqlite, name) for it in group)
                for name in ("hits", "vm_steps", "fullscan_steps")
            },
            **{
                name: sum(getattr(it.stable, name) for it in group)
                for name in ("os_pages_accessed", "os_pages_dirty", "bytes_read", "bytes_written")
            },
            instructions=sum_all(it.instructions and it.instructions.total for it in group),
            heap_instructions=sum_all(it.instructions and it.instructions.heap for it in group),
        )
        for (shape, kind, cache, _), group in groups.items()
        for heaviest in [max(group, key=lambda it: it.stable.os_pages_accessed)]
    ]
    firsts = [group[0].index for group in groups.values()]
    ranked = sorted(
        zip(made, firsts, strict=True), key=lambda it: (-it[0].os_pages_accessed, it[1])
    )
    return tuple(use for use, _ in ranked)


def owners_put_together(statements):
    """Return what was touched of each owner, one by one: likewise a witness."""
    sums = defaultdict(lambda: [0, 0, 0])
    for it in statements:
        for use in it.owners:
            found = sums[use.name, use.table, use.kind, use.role]
            found[0] += use.os_pages_accessed
            found[1] += use.os_pages_dirty
            found[2] += use.os_pages_accessed * (it.kind == "read")
    ranked = sorted(sums.items(), key=lambda it: -it[1][0])
    return tuple(OwnerTotal(*owner, *numbers) for owner, numbers in ranked)


def sum_all(numbers):
    """Return a sum; None where one is not known."""
    known = list(numbers)
    # SQLite adds up with floats, which hold all counts but absurd ones.
    return None if None in known else int(float(sum(known)))


def accesses(*rows):
    """Return accesses from rows of kind, address, length, offset."""
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    return Accesses(columns[0].astype(np.int8), *columns[1:])


def use(accessed, dirty=0, *, wasm=1):
    """Return a use in which every OS page was accessed by one call."""
    return StableUse(
        calls=Calls(read=accessed, write=dirty),
        bytes_read=accessed * 4096,
        bytes_written=dirty * 4096,
        os_pages_accessed=accessed,
        os_pages_dirty=dirty,
        wasm_pages_accessed=min(accessed, wasm),
        wasm_pages_dirty=min(dirty, wasm),
    )


def owner(name, accessed, dirty=0, *, role="leaf", kind="table", table=None):
    return OwnerUse(name, name if table is None else table, kind, role, accessed, dirty)


def statement(index, message, sql, accessed=0, dirty=0, **changes):
    """Return a statement whose OS pages all fall into its run."""
    kind = "read" if sql.startswith("SELECT") else "write"
    made = Statement(
        index=index,
        message=message,
        sql=sql,
        shape=sql,
        kind=kind,
        row_count=0,
        runs=1,
        plan=(),
        stable=use(accessed, dirty),
        phases={phase: use(accessed, dirty) if phase == "run" else use(0) for phase in PHASES},
        sqlite=SqliteCounters(hits=0, vm_steps=12, fullscan_steps=0, sorts=0),
        owners=(),
    )
    return replace(made, **changes)


def message(index, kind, statements, stable, **changes):
    """Return a message that ended as its kind does."""
    limit = 262_144 if kind == "query" else 524_288
    made = Message(
        index=index,
        kind=kind,
        label=None,
        outcome="discarded" if kind == "query" else "committed",
        trap=None,
        discarded_writes=False,
        cache="cold" if kind == "query" else "warm",
        statements=tuple(statements),
        stable=stable,
        outside=(),
        limits=(
            LimitUse("stable_os_pages_accessed", stable.os_pages_accessed, limit),
            LimitUse("stable_os_pages_dirty", stable.os_pages_dirty, limit),
            LimitUse("stable_memory_bytes", 16_842_752, 536_870_912_000),
        ),
        image_bytes=16_842_752,
    )
    return replace(made, **changes)


def hits(number):
    return SqliteCounters(hits=number, vm_steps=40 * number, fullscan_steps=number, sorts=0)


MUSIC_AREAS = (
    StableArea(8, "main.db", "database", 120, 16_777_216, 8_388_608, 16_777_216, 8_810_496, 45_056),
    StableArea(8, "memory manager", "memory manager", None, 65_536, 65_536, 65_536, 34_848, 0),
)
"""What the stable memory of ``music_trace`` consists of: two buckets and the manager's header."""


def music_trace():
    """Return a small trace with every kind of message: a music shop's tables, and queries."""
    statements = (
        statement(0, 1, "CREATE TABLE artist (artist_id INTEGER PRIMARY KEY, name TEXT)", 4, 3,
                  kind="ddl", owners=(owner("sqlite_schema", 2, 2, kind="table"),
                                      owner("(freelist)", 1, 1, kind="freelist", role="trunk"))),
        statement(1, 1, "CREATE INDEX ix_track_album ON track (album_id)", 61, 23, kind="ddl",
                  sqlite=hits(7),
                  owners=(owner("track", 37), owner("ix_track_album", 22, 22, kind="index",
                                                     table="track"),
                          owner("track", 1, role="interior"),
                          owner("sqlite_schema", 1, 1))),
        statement(2, 2, "BEGIN", kind="transaction", shape="BEGIN"),
        statement(3, 2, "INSERT INTO track (name, album_id, bytes, unit_price) VALUES (?, ?, ?, ?)",
                  58, 44, runs=3503, sqlite=hits(21_407),
                  shape="INSERT INTO track (name, album_id, bytes, unit_price) VALUES (?, ?, ?, ?)",
                  owners=(owner("track", 37, 30), owner("ix_track_album", 18, 13, kind="index",
                                                         table="track"),
                          owner("track", 2, 1, role="interior"),
                          owner("(freelist)", 1, 0, kind="freelist", role="trunk"))),
        statement(4, 2, "COMMIT", 1, 1, kind="transaction", shape="COMMIT",
                  owners=(owner("(freelist)", 1, 1, kind="freelist", role="trunk"),)),
        statement(5, 3, "SELECT t.name, a.title\nFROM track AS t\n"
                        "  JOIN album AS a USING (album_id)\n"
                        "  JOIN artist AS r USING (artist_id)\nWHERE r.name = 'AC/DC'"
                        " AND t.unit_price < 1.0\nORDER BY a.title, t.name LIMIT 20",
                  1412, 0, row_count=18, sqlite=hits(380),
                  shape="SELECT t.name, a.title FROM track AS t JOIN album AS a USING (album_id) "
                        "JOIN artist AS r USING (artist_id) WHERE r.name = ? AND t.unit_price < ? "
                        "ORDER BY a.title, t.name LIMIT ?",
                  plan=("SCAN t", "SEARCH a USING INTEGER PRIMARY KEY (rowid=?)",
                        "SEARCH r USING INTEGER PRIMARY KEY (rowid=?)",
                        "USE TEMP B-TREE FOR ORDER BY"),
                  owners=(owner("track", 1290), owner("album", 88), owner("artist", 22),
                          owner("track", 8, role="interior"), owner("album", 2, role="interior"),
                          owner("sqlite_schema", 1),
                          owner("(freelist)", 1, kind="freelist", role="trunk"))),
        statement(6, 4, "SELECT count(*) FROM track", 24, 0, row_count=1, sqlite=hits(2),
                  plan=("SCAN track USING COVERING INDEX ix_track_album",),
                  owners=(owner("ix_track_album", 22, kind="index", table="track"),
                          owner("ix_track_album", 1, kind="index", table="track",
                                role="interior"),
                          owner("(freelist)", 1, kind="freelist", role="trunk"))),
        statement(7, 5, "UPDATE track SET unit_price = 0.5 WHERE album_id = 1", 14, 11,
                  shape="UPDATE track SET unit_price = ? WHERE album_id = ?",
                  sqlite=hits(4), owners=(owner("track", 11, 11),
                                          owner("ix_track_album", 3, kind="index",
                                                table="track"))),
        statement(8, 6, "SELECT name FROM artist WHERE name LIKE '%日本語 [bold]テスト[/bold]%'",
                  262_144, 0, shape="SELECT name FROM artist WHERE name LIKE ?",
                  plan=("SCAN artist",), sqlite=hits(0),
                  owners=(owner("artist", 262_143),
                          owner("(freelist)", 1, kind="freelist", role="trunk"))),
        statement(9, 8, "SELECT count(*) FROM track", 24, 0, row_count=1, sqlite=hits(2),
                  plan=("SCAN track USING COVERING INDEX ix_track_album",),
                  owners=(owner("ix_track_album", 22, kind="index", table="track"),
                          owner("ix_track_album", 1, kind="index", table="track",
                                role="interior"),
                          owner("(freelist)", 1, kind="freelist", role="trunk"))),
    )  # fmt: skip
    messages = (
        message(0, "install", (), use(3, 3), cache=None,
                outside=(OutsideUse("open", use(3, 3)),)),
        message(1, "update", (0, 1), use(62, 24), label="schema"),
        message(2, "update", (2, 3, 4), use(58, 45), label="load tracks"),
        message(3, "query", (5,), use(1412)),
        message(4, "query", (6,), use(24)),
        message(5, "query", (7,), use(14, 11), discarded_writes=True),
        message(6, "query", (8,), use(262_144), outcome="trapped", trap=QUERY_TRAP,
                trap_limit="stable_os_pages_accessed"),
        message(7, "upgrade", (), use(0), cache=None),
        message(8, "query", (9,), use(26), cache="fresh",
                outside=(OutsideUse("open", use(3)),)),
    )  # fmt: skip
    return HandBuiltTrace(messages=messages, statements=statements, areas=MUSIC_AREAS)


def music_trace_with_index():
    """Return ``music_trace`` after an index was added that one of its queries uses."""
    before = music_trace()
    index = statement(
        2, 2, "CREATE INDEX ix_album_artist ON album (artist_id)", 19, 6, kind="ddl",
        owners=(owner("album", 12), owner("ix_album_artist", 5, 5, kind="index", table="album")),
    )  # fmt: skip
    moved = [
        replace(it, index=it.index + 1, message=it.message + 1) if it.index > 1 else it
        for it in before.statements
    ]
    moved[5] = replace(
        moved[5],
        stable=use(131),
        sqlite=hits(96),
        plan=(
            "SCAN r",
            "SEARCH a USING INDEX ix_album_artist (artist_id=?)",
            "SEARCH t USING INDEX ix_track_album (album_id=?)",
            "USE TEMP B-TREE FOR ORDER BY",
        ),
    )
    moved[7] = replace(moved[7], stable=use(16, 13))
    moved[6] = replace(moved[6], row_count=2)
    moved[8] = replace(moved[8], stable=use(201_000))
    statements = [*moved[:2], index, *moved[2:]]
    messages = [
        replace(
            it,
            index=it.index + (it.index > 1),
            statements=tuple(number + (it.index > 1) for number in it.statements),
        )
        for it in before.messages
    ]
    messages.insert(2, message(2, "update", (2,), use(19, 6)))
    messages[4] = replace(messages[4], stable=use(131))
    return HandBuiltTrace(SETTINGS, tuple(messages), tuple(statements))


# -- traces by Hypothesis --------------------------------------------------------------------------

# What terminals, rich and CSV readers trip over, beside any other text.
NASTY_TEXT = st.one_of(
    st.text(max_size=300),
    st.lists(
        st.sampled_from(
            ["[bold]", "[/]", "[red", "\x1b[31m", "\x00", "\r", "\n", "\t", "漢字",
             "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea",
             "e\u0301", "\u202e", "\u200b", "\u200c", "\u200d", ":smile:", '"', ",", "'", "=1+1",
             " ", "x" * 150, "\ufffd", "\U0001d518", "ﷺ", "\u0300", "☺\ufe0f"]
        ),
        max_size=40,
    ).map("".join),
)  # fmt: skip

COUNTS = st.one_of(st.integers(0, 2_000), st.integers(0, 2**63))


@st.composite
def stable_uses(draw):
    accessed = draw(COUNTS)
    return StableUse(
        calls=Calls(*draw(st.tuples(COUNTS, COUNTS, COUNTS, COUNTS))),
        bytes_read=draw(COUNTS),
        bytes_written=draw(COUNTS),
        os_pages_accessed=accessed,
        os_pages_dirty=draw(st.integers(0, accessed)),
        wasm_pages_accessed=draw(st.integers(0, accessed)),
        wasm_pages_dirty=draw(st.integers(0, accessed)),
    )


OWNERS = st.builds(
    OwnerUse, NASTY_TEXT, NASTY_TEXT, st.sampled_from(["table", "index", "memory manager"]),
    st.sampled_from(["interior", "leaf", "overflow", ""]), COUNTS, COUNTS,
)  # fmt: skip

MAYBE_COUNTS = st.none() | COUNTS


@st.composite
def statements(draw, *, index, message_index):
    return Statement(
        index=index,
        message=message_index,
        sql=draw(NASTY_TEXT),
        shape=draw(NASTY_TEXT),
        kind=draw(st.sampled_from(["read", "write", "ddl", "transaction", "pragma"])),
        row_count=draw(COUNTS),
        runs=draw(st.integers(1, 10) | COUNTS),
        plan=tuple(draw(st.lists(NASTY_TEXT, max_size=3))),
        stable=draw(stable_uses()),
        phases={phase: draw(stable_uses()) for phase in PHASES},
        sqlite=SqliteCounters(*draw(st.tuples(*[MAYBE_COUNTS] * 4))),
        owners=tuple(draw(st.lists(OWNERS, max_size=5))),
    )


@st.composite
def traces(draw, *, messages_max=4):
    made_messages, made_statements = [], []
    for index in range(draw(st.integers(0, messages_max))):
        first = len(made_statements)
        made_statements += [
            draw(statements(index=first + number, message_index=index))
            for number in range(draw(st.integers(0, 3)))
        ]
        outcome = draw(st.sampled_from(["committed", "discarded", "trapped"]))
        outside = st.builds(OutsideUse, NASTY_TEXT, stable_uses())
        limit = st.builds(LimitUse, NASTY_TEXT, COUNTS, COUNTS | st.just(2**64 - 1))
        made_messages.append(
            Message(
                index=index,
                kind=draw(st.sampled_from(["install", "update", "query", "upgrade", "reinstall"])),
                label=draw(st.none() | NASTY_TEXT),
                outcome=outcome,
                trap=draw(NASTY_TEXT) if outcome == "trapped" else None,
                discarded_writes=draw(st.booleans()),
                cache=draw(st.sampled_from(["fresh", "cold", "warm", None])),
                statements=tuple(range(first, len(made_statements))),
                stable=draw(stable_uses()),
                outside=tuple(draw(st.lists(outside, max_size=2))),
                limits=tuple(draw(st.lists(limit, max_size=3))),
                image_bytes=draw(COUNTS),
            )
        )
    known = {"page_size": st.sampled_from([512, 4096, 65_536]), "engine": st.just("native")}
    extra = st.dictionaries(NASTY_TEXT, st.none() | NASTY_TEXT | st.integers(), max_size=3)
    values = {**draw(extra), **draw(st.fixed_dictionaries({}, optional=known))}
    return HandBuiltTrace(TraceSettings(values), tuple(made_messages), tuple(made_statements))
