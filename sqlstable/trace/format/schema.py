"""The schema of a trace file, in SQL; `sqlstable.trace.format.file` says what the format promises.

The comments in the SQL explain each column. They become part of the file, so ``.schema`` in the
``sqlite3`` shell shows them.
"""

from typing import Final

from sqlstable.ic.charged import CHARGED_UNITS
from sqlstable.ic.prices import REPLICA, REPLICA_2023, REPLICA_FLAT
from sqlstable.ic.words import INSTRUCTION_PHASES, PHASES

TRACE_FORMAT_VERSION: Final = 7
"""``PRAGMA user_version`` of the trace files written here.

Version 2 added the tables ``area``, ``message_cost``, ``statement_cost`` and ``statement_loop``,
and the view ``areas``. Version 3 added ``owner_fault`` and ``message.trap_limit``, and leaves
phases that touched nothing out of ``statement_phase``; its views have instructions. Version 4 added
``access_order``, ``address_run``, ``schema_object`` and ``tree``, and two columns of ``message``.
Version 5 added ``message.continues`` and ``message_part``. Version 6 added ``message_call``.
Version 7 added ``message_charge``, ``statement_charge``, ``shape_sample`` and ``message_sample``.
"""

AREAS_SINCE_VERSION: Final = 2
"""The format version from which on there are areas."""

COSTS_SINCE_VERSION: Final = 2
"""The format version from which on there are costs and loops."""

TRAP_LIMITS_SINCE_VERSION: Final = 3
"""The format version from which on a trap's limit is named."""

OWNER_FAULTS_SINCE_VERSION: Final = 3
"""The format version from which on there are faults of the owners."""

ORDERS_SINCE_VERSION: Final = 4
"""The format version from which on there are phases and the order of accesses, runs of addresses,
the schema, the shapes of trees, and the bytes that messages changed."""

CONTINUES_SINCE_VERSION: Final = 5
"""The format version from which on messages behind an await say what they go on from."""

PARTS_SINCE_VERSION: Final = 5
"""The format version from which on steps of the life cycle have parts."""

CALLS_SINCE_VERSION: Final = 6
"""The format version from which on messages of modules say what was called, and what came back."""

CHARGES_SINCE_VERSION: Final = 7
"""The format version from which on there is what price lists charge for, and payloads."""

COMPUTATION_TABLES: Final = (REPLICA.name, REPLICA_2023.name, REPLICA_FLAT.name)
"""Tables of weights by which computation is kept, in the order of their columns."""

CHARGED_COLUMNS: Final = (
    *(f"charged_computation_{name.replace('-', '_')}" for name in COMPUTATION_TABLES),
    *(f"charged_{name}" for name in CHARGED_UNITS),
)
"""Columns of a `sqlstable.ic.charged.Charged`."""

PAYLOAD_FIELDS: Final = ("request_bytes", "reply_bytes", "call_count", "call_bytes")
"""Fields of a `sqlstable.ic.charged.Payloads`, each the name of its column."""

SAMPLES_SINCE_VERSION: Final = 7
"""The format version from which on messages may stand for others that were not measured."""

CALL_FIELDS: Final = ("method", "text", "answer", "answer_bytes", "answer_text", "calls_made")
"""Fields of a `sqlstable.trace.model.ModuleCall`, each the name of its column."""

PART_FIELDS: Final = ("name", "os_pages_accessed", "os_pages_dirty", "instructions")
"""Fields of a `sqlstable.trace.model.Part`, each the name of its column."""

TRACE_APPLICATION_ID: Final = int.from_bytes(b"SqSt", "big")
"""``PRAGMA application_id`` of a trace file: the bytes ``SqSt`` at offset 68."""

STABLE_FIELDS: Final = (
    *("calls.read", "calls.write", "calls.size", "calls.grow", "bytes_read", "bytes_written"),
    *("os_pages_accessed", "os_pages_dirty", "wasm_pages_accessed", "wasm_pages_dirty"),
)
"""Fields of a `sqlstable.trace.model.StableUse`, in the order of its columns."""

STABLE_COLUMNS: Final = tuple(field.replace(".", "_") for field in STABLE_FIELDS)
"""Names of those columns."""

AREA_FIELDS: Final = (
    *("name", "kind", "memory_id", "allocated_bytes", "unit_bytes"),
    *("size_bytes", "used_bytes", "free_bytes"),
)
"""Fields of a `sqlstable.trace.model.StableArea` but the first, each the name of its column."""

COST_FIELDS: Final = ("total", "computation", "stable", "heap", "measured", "error_band")
"""Fields of a `sqlstable.trace.model.Instructions`, in the order of its columns."""

INSTRUCTION_COLUMNS: Final = (
    *(f"instructions_{name}" for name in COST_FIELDS[:4]),
    *(f"instructions_{phase}" for phase in INSTRUCTION_PHASES),
)
"""Columns of the view ``statements`` that say what a statement cost; NULL where nobody counted."""

HEAP_FIELDS: Final = ("wasm_pages_accessed", "wasm_pages_written", "os_pages_written", "size_bytes")
"""Fields of a `sqlstable.trace.model.HeapUse`, in the order of its columns."""

LOOP_FIELDS: Final = ("name", "plan", "loops", "rows_visited", "rows_estimated")
"""Fields of a `sqlstable.trace.model.LoopUse`, in the order of its columns."""

TREE_FIELDS: Final = (
    *("name", "table", "kind", "depth", "interior_pages", "leaf_pages", "overflow_pages"),
    *("cells", "payload_bytes", "unused_bytes", "leaves_in_order"),
)
"""Fields of a `sqlstable.trace.model.TreeShape`, in the order of its columns."""

COUNTER_NAMES: Final = ("hits", "vm_steps", "fullscan_steps", "sorts")
"""Fields of `sqlstable.trace.model.SqliteCounters`, each the name of its column."""

_STABLE_COLUMNS: Final = """-- calls of the stable memory API, and bytes moved by them
  calls_read INTEGER NOT NULL, calls_write INTEGER NOT NULL,
  calls_size INTEGER NOT NULL, calls_grow INTEGER NOT NULL,
  bytes_read INTEGER NOT NULL, bytes_written INTEGER NOT NULL,
  -- OS pages (4096 B) and Wasm pages (65 536 B), each counted once: accessed is read or written,
  -- dirty is written, even with equal bytes
  os_pages_accessed INTEGER NOT NULL, os_pages_dirty INTEGER NOT NULL,
  wasm_pages_accessed INTEGER NOT NULL, wasm_pages_dirty INTEGER NOT NULL"""

_COST_COLUMNS: Final = """instructions_total INTEGER NOT NULL,
  instructions_computation INTEGER NOT NULL,
  instructions_stable INTEGER NOT NULL, -- calls on stable memory, bytes, OS pages or regions
  instructions_heap INTEGER NOT NULL,   -- what is charged for the heap
  -- 1 counted, 0 estimated, and the relative error of an estimate
  measured INTEGER NOT NULL, error_band REAL"""

_CHARGE_COLUMNS: Final = """-- instructions of operators, and of system calls but for stable
  -- memory, by each table of weights; NULL where nobody counted by it
  charged_computation_replica INTEGER,
  charged_computation_replica_2023 INTEGER, charged_computation_replica_flat INTEGER,
  -- reads and writes of stable memory, the bytes they moved, and calls of grow
  charged_stable_accesses INTEGER, charged_stable_bytes INTEGER, charged_stable_grows INTEGER,
  -- first touches in the message, or in its part: OS pages and regions (Wasm pages)
  charged_stable_os_pages_dirty INTEGER,
  charged_stable_regions_accessed INTEGER, charged_stable_regions_dirty INTEGER,
  -- NULL where the heap was not watched
  charged_heap_regions_accessed INTEGER, charged_heap_regions_written INTEGER,
  charged_heap_os_pages_written INTEGER"""

_SCHEMA: Final = """
CREATE TABLE settings (
  name TEXT NOT NULL PRIMARY KEY ON CONFLICT REPLACE,
  value TEXT NOT NULL                   -- JSON; null where unknown
);
CREATE TABLE message (
  message_index INTEGER PRIMARY KEY,    -- from 0 over the whole trace
  kind TEXT NOT NULL,                   -- install, update, query, upgrade, callback, timer …
  label TEXT,                           -- as given by the script
  outcome TEXT NOT NULL,                -- committed, discarded or trapped
  trap TEXT,                            -- text of the trap
  discarded_writes INTEGER NOT NULL,    -- 1 for a query that wrote; its writes are gone
  cache TEXT,                           -- fresh, cold or warm; NULL for life-cycle steps
  image_bytes INTEGER NOT NULL,         -- size of stable memory when the message had ended
  {stable},
  trap_limit TEXT,                      -- name of the limit that trapped it; NULL: none did
  bytes_changed INTEGER,                -- bytes of stable memory that it left different; NULL:
                                        -- nobody compared
  order_index INTEGER REFERENCES access_order, -- NULL: statements in order, then what is outside
  continues INTEGER REFERENCES message  -- the message that it goes on from, behind an await; NULL:
                                        -- it begins a call
);
CREATE TABLE access_order (             -- how the accesses of a message followed each other, with
                                        -- their phases; layout: sqlstable/trace/format/spans.py
  order_index INTEGER PRIMARY KEY, spans BLOB NOT NULL
);
CREATE TABLE message_limit (            -- limit_value is NULL where there is no limit
  message_index INTEGER NOT NULL REFERENCES message, limit_index INTEGER NOT NULL,
  name TEXT NOT NULL, used INTEGER NOT NULL, limit_value INTEGER,
  PRIMARY KEY (message_index, limit_index)
) WITHOUT ROWID;
CREATE TABLE message_part (             -- parts of a step of the life cycle, as they ran
  message_index INTEGER NOT NULL REFERENCES message, position INTEGER NOT NULL,
  name TEXT NOT NULL,                   -- init, start, pre_upgrade or post_upgrade
  os_pages_accessed INTEGER NOT NULL, os_pages_dirty INTEGER NOT NULL, -- counted anew in each
  instructions INTEGER,                 -- NULL: nobody counted
  PRIMARY KEY (message_index, position)
) WITHOUT ROWID;
CREATE TABLE message_call (             -- messages of a module that is run as it is deployed
  message_index INTEGER PRIMARY KEY REFERENCES message,
  method TEXT NOT NULL,                 -- name of the method, or of the export that ran
  text TEXT NOT NULL,                   -- the call with its arguments: add_user("ana")
  answer TEXT NOT NULL,                 -- reply, reject or none
  answer_bytes INTEGER NOT NULL,        -- bytes of the reply, or of the words of the reject
  answer_text TEXT,                     -- words of the reject; the reply where its types are known
  calls_made INTEGER NOT NULL           -- calls to other canisters
);
CREATE TABLE outside (
  message_index INTEGER NOT NULL REFERENCES message, outside_index INTEGER NOT NULL,
  name TEXT NOT NULL,                   -- what made the accesses: open, close, blob, backup …
  {stable},
  PRIMARY KEY (message_index, outside_index)
) WITHOUT ROWID;
CREATE TABLE area (                     -- whose stable memory is, after messages that changed its
                                        -- size and after the last one; the rest is nobody's
  message_index INTEGER NOT NULL REFERENCES message, position INTEGER NOT NULL,
  name TEXT NOT NULL,                   -- name of the file, the main database's first
  kind TEXT NOT NULL,                   -- database, journal, wal, file directory, other memory
                                        -- or memory manager
  memory_id INTEGER,                    -- virtual memory; NULL where it is in none
  allocated_bytes INTEGER NOT NULL,     -- bytes of stable memory that nobody else can have
  unit_bytes INTEGER NOT NULL,          -- bytes allocated at once: a bucket, or a Wasm page
  size_bytes INTEGER NOT NULL,          -- bytes that it may use without growing
  used_bytes INTEGER NOT NULL,          -- exact size of the file
  free_bytes INTEGER NOT NULL,          -- bytes of the file that are free SQLite pages
  PRIMARY KEY (message_index, position)
) WITHOUT ROWID;
CREATE TABLE sql_text (
  sql_index INTEGER PRIMARY KEY, sql TEXT NOT NULL,
  shape TEXT NOT NULL,                  -- the SQL with its literals replaced by ?
  kind TEXT NOT NULL                    -- read, write, ddl, transaction, pragma, or call: a message
                                        -- of a module, whose text is that of its call
);
CREATE TABLE plan (                     -- lines of EXPLAIN QUERY PLAN, indented by their depth
  plan_index INTEGER NOT NULL, line_index INTEGER NOT NULL, line TEXT NOT NULL,
  PRIMARY KEY (plan_index, line_index)
) WITHOUT ROWID;
CREATE TABLE statement (
  statement_index INTEGER PRIMARY KEY,  -- from 0 over the whole trace
  message_index INTEGER NOT NULL REFERENCES message,
  sql_index INTEGER NOT NULL REFERENCES sql_text,
  plan_index INTEGER,                   -- NULL where there is no plan
  row_count INTEGER NOT NULL,
  runs INTEGER NOT NULL,                -- more than 1 for executemany
  hits INTEGER,                         -- SQLite pages from SQLite's own cache; NULL: not asked
  vm_steps INTEGER, fullscan_steps INTEGER, sorts INTEGER,
  {stable}
);
CREATE TABLE statement_phase (          -- phases that touched nothing are left out
  statement_index INTEGER NOT NULL REFERENCES statement,
  phase TEXT NOT NULL,                  -- prepare, run or commit
  {stable},
  PRIMARY KEY (statement_index, phase)
) WITHOUT ROWID;
CREATE TABLE message_cost (             -- where instructions were counted or estimated
  message_index INTEGER PRIMARY KEY REFERENCES message,
  {cost},
  heap_wasm_pages_accessed INTEGER,     -- NULL where the heap was not watched
  heap_wasm_pages_written INTEGER, heap_os_pages_written INTEGER, heap_size_bytes INTEGER
);
CREATE TABLE statement_cost (           -- likewise, of one statement
  statement_index INTEGER PRIMARY KEY REFERENCES statement,
  {cost},
  instructions_prepare INTEGER,         -- by phase, without the heap; reply is encoding its rows
  instructions_run INTEGER, instructions_commit INTEGER, instructions_reply INTEGER
);
CREATE TABLE message_charge (           -- what price lists charge for
  message_index INTEGER PRIMARY KEY REFERENCES message,
  {charge},
  request_bytes INTEGER,                -- of its argument; NULL, as the rest: nobody counted
  reply_bytes INTEGER,                  -- of its reply, or of the words of its reject
  call_count INTEGER, call_bytes INTEGER -- calls to other canisters; names and arguments of those
);
CREATE TABLE statement_charge (         -- likewise, of one statement
  statement_index INTEGER PRIMARY KEY REFERENCES statement,
  {charge}
);
CREATE TABLE shape_sample (             -- messages of equal work, of which some were measured
  sample_index INTEGER PRIMARY KEY,
  message_kind TEXT NOT NULL, cache TEXT, outcome TEXT NOT NULL,
  shape TEXT NOT NULL,                  -- of their statements, one to a line
  work INTEGER NOT NULL,                -- bits of the VM steps + 256 * bits of the rows, natively
  block INTEGER NOT NULL,               -- stretch of time; all in it are as likely to be measured
  reason TEXT NOT NULL                  -- why none can be measured; '': they can
);
CREATE TABLE message_sample (           -- of messages that ran natively, and maybe measured, too
  message_index INTEGER PRIMARY KEY REFERENCES message,
  sample_index INTEGER NOT NULL REFERENCES shape_sample,
  os_pages_accessed INTEGER,            -- on the measured engine; NULL: it did not run there
  os_pages_dirty INTEGER,
  difference TEXT                       -- how it ended otherwise there; NULL: it did not
);
CREATE TABLE statement_loop (           -- loops of plans, by builds that count what they visit
  statement_index INTEGER NOT NULL REFERENCES statement, position INTEGER NOT NULL,
  name TEXT NOT NULL,                   -- table or index
  plan TEXT NOT NULL,                   -- its line of EXPLAIN QUERY PLAN
  loops INTEGER NOT NULL,               -- how often it began; -1 where SQLite does not count
  rows_visited INTEGER NOT NULL,        -- likewise
  rows_estimated REAL NOT NULL,         -- rows that the planner expected for each beginning
  PRIMARY KEY (statement_index, position)
) WITHOUT ROWID;
CREATE TABLE owner (
  owner_index INTEGER PRIMARY KEY, name TEXT NOT NULL,
  table_name TEXT NOT NULL,             -- the table that an index belongs to, or the table itself
  kind TEXT NOT NULL,                   -- table, index, freelist, pointer map, header …
  role TEXT NOT NULL                    -- interior, leaf, overflow, trunk, or empty
);
CREATE TABLE statement_owner (          -- by position, the most accessed first
  statement_index INTEGER NOT NULL REFERENCES statement, position INTEGER NOT NULL,
  owner_index INTEGER NOT NULL REFERENCES owner,
  os_pages_accessed INTEGER NOT NULL, os_pages_dirty INTEGER NOT NULL,
  PRIMARY KEY (statement_index, position)
) WITHOUT ROWID;
CREATE TABLE owner_run (
  run_number INTEGER PRIMARY KEY,       -- from 1, in the order in which they became true
  since_message INTEGER NOT NULL,       -- true from the end of this message on, until a later run
  first_sqlite_page INTEGER NOT NULL,   -- number of the first SQLite page, counted from 1
  sqlite_page_count INTEGER NOT NULL,
  owner_index INTEGER NOT NULL REFERENCES owner
);
CREATE TABLE address_run (              -- whose stable memory outside of the main database file is
  run_number INTEGER PRIMARY KEY,       -- from 1, in the order in which they became known
  since_message INTEGER NOT NULL,       -- true from this message on, until a later run
  first_address INTEGER NOT NULL, size_bytes INTEGER NOT NULL,
  owner_index INTEGER NOT NULL REFERENCES owner
);
CREATE TABLE owner_fault (              -- why owners are unknown that should not be
  message_index INTEGER PRIMARY KEY REFERENCES message,
  fault TEXT NOT NULL                   -- true from the end of this message on; '': whole again
);
CREATE TABLE statement_accesses (       -- ordered accesses; layout: sqlstable/trace/blocks.py
  statement_index INTEGER PRIMARY KEY REFERENCES statement, block BLOB NOT NULL
);
CREATE TABLE outside_accesses (         -- likewise, of an outside entry
  message_index INTEGER NOT NULL REFERENCES message, outside_index INTEGER NOT NULL,
  block BLOB NOT NULL, PRIMARY KEY (message_index, outside_index)
);
CREATE TABLE schema_object (            -- the main database's sqlite_schema, at the trace's end
  position INTEGER PRIMARY KEY, type TEXT NOT NULL, name TEXT NOT NULL, table_name TEXT NOT NULL,
  sql TEXT                              -- NULL for what SQLite made itself
);
CREATE TABLE tree (                     -- B-trees of the main database, likewise; none where the
                                        -- setting trees_skipped says why
  position INTEGER PRIMARY KEY, name TEXT NOT NULL,
  table_name TEXT NOT NULL, kind TEXT NOT NULL, -- table or index
  depth INTEGER NOT NULL,               -- levels, 1 for a tree that is one leaf
  interior_sqlite_pages INTEGER NOT NULL, leaf_sqlite_pages INTEGER NOT NULL,
  overflow_sqlite_pages INTEGER NOT NULL,
  cells INTEGER NOT NULL,               -- rows or entries, and dividers in interior nodes
  payload_bytes INTEGER NOT NULL,       -- bytes of keys and rows
  unused_bytes INTEGER NOT NULL,        -- bytes of its SQLite pages that hold nothing
  leaves_in_order REAL                  -- share of leaves that are followed, in the order of keys,
                                        -- by the next SQLite page; NULL: there is one leaf
);
CREATE VIEW statements AS               -- statements with SQL, plan, message, phases and cost
SELECT statement.statement_index, message_index, message.kind AS message_kind, label, outcome,
  cache, sql_text.kind AS kind, sql, shape, ifnull((
    SELECT group_concat(line, char(10)) FROM plan WHERE plan.plan_index = statement.plan_index
  ), '') AS plan,
  row_count, runs, hits, vm_steps, fullscan_steps, sorts,
  {of_statement}, {of_prepare}, {of_run}, {of_commit},
  {instructions},
  {charges}
FROM statement JOIN message USING (message_index) JOIN sql_text USING (sql_index)
  LEFT JOIN statement_phase AS prepare
    ON prepare.statement_index = statement.statement_index AND prepare.phase = 'prepare'
  LEFT JOIN statement_phase AS run
    ON run.statement_index = statement.statement_index AND run.phase = 'run'
  LEFT JOIN statement_phase AS "commit"
    ON "commit".statement_index = statement.statement_index AND "commit".phase = 'commit'
  LEFT JOIN statement_cost ON statement_cost.statement_index = statement.statement_index
  LEFT JOIN statement_charge ON statement_charge.statement_index = statement.statement_index;
CREATE VIEW shapes AS                   -- equal work together, the most OS pages first
SELECT shape, kind, count(*) AS statement_count, sum(runs) AS runs, sum(row_count) AS row_count,
  sum(os_pages_accessed) AS os_pages_accessed_sum, max(os_pages_accessed) AS os_pages_accessed_max,
  sum(os_pages_dirty) AS os_pages_dirty_sum, max(os_pages_dirty) AS os_pages_dirty_max,
  sum(bytes_read) AS bytes_read, sum(bytes_written) AS bytes_written,
  -- NULL unless those of all were counted
  CASE WHEN count(instructions_total) = count(*) THEN sum(instructions_total) END
    AS instructions_total_sum
FROM statement JOIN sql_text USING (sql_index) LEFT JOIN statement_cost USING (statement_index)
GROUP BY shape, kind ORDER BY os_pages_accessed_sum DESC;
CREATE VIEW statement_owners AS         -- whose OS pages each statement touched, by name
SELECT statement_index, position, name, table_name, kind, role, os_pages_accessed, os_pages_dirty
FROM statement_owner JOIN owner USING (owner_index);
CREATE VIEW areas AS                    -- what fills each area: data, free SQLite pages, the rest
                                        -- of the last unit in use, and units not in use
SELECT message_index, position, name, kind, memory_id, allocated_bytes,
  used_bytes - free_bytes AS data_bytes, free_bytes,
  (unit_bytes - used_bytes % unit_bytes) % unit_bytes AS rounding_bytes,
  allocated_bytes - used_bytes - (unit_bytes - used_bytes % unit_bytes) % unit_bytes
    AS unused_bytes
FROM area;
CREATE VIEW owner_runs AS
-- Who owns SQLite page :number when message :message has ended:
--   SELECT * FROM owner_runs
--   WHERE since_message <= :message AND :number BETWEEN first_sqlite_page AND last_sqlite_page
--   ORDER BY since_message DESC, run_number DESC LIMIT 1
SELECT run_number, since_message, first_sqlite_page, sqlite_page_count,
  name, table_name, kind, role, first_sqlite_page + sqlite_page_count - 1 AS last_sqlite_page
FROM owner_run JOIN owner USING (owner_index);
"""


def schema() -> str:
    """Return the SQL that makes all tables and views."""
    names = STABLE_COLUMNS
    columns = {
        f"of_{phase}": ", ".join(f'ifnull("{phase}".{name}, 0) AS {phase}_{name}' for name in names)
        for phase in PHASES
    }
    return _SCHEMA.format(
        stable=_STABLE_COLUMNS,
        cost=_COST_COLUMNS,
        charge=_CHARGE_COLUMNS,
        of_statement=", ".join(f"statement.{name} AS {name}" for name in names),
        instructions=", ".join(INSTRUCTION_COLUMNS),
        charges=", ".join(CHARGED_COLUMNS),
        **columns,
    )
