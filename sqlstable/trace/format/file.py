"""The trace file: a SQLite database that any SQLite tool can open.

``PRAGMA application_id`` is ``TRACE_APPLICATION_ID``, ``PRAGMA user_version`` the format version.
The tables are those below; each column is explained by a comment in the schema itself, so
``.schema`` in the ``sqlite3`` shell is the reference. Indexes count from 0, SQLite pages from 1.

=====================  ===================================================================
table                  one row for each
=====================  ===================================================================
``settings``           setting of the run, as JSON; ``closed`` is false while it is written
``message``            message
``message_limit``      limit of a message; a ``limit_value`` of NULL is no limit
``message_part``       part of a step of the life cycle, with what it used
``message_call``       message of a module: what was called, and what it answered
``outside``            use of stable memory by no statement, under the name of its cause
``area``               file in stable memory after a message that changed its size
``sql_text``           SQL text with its shape and kind; equal texts share a row
``plan``               line of a query plan; equal plans share an index
``statement``          statement, with SQLite's counters
``statement_phase``    phase of a statement that touched stable memory: prepare, run, commit
``message_cost``       message whose instructions are known, with what it did to the heap
``statement_cost``     statement whose instructions are known
``message_charge``     message: what price lists charge for, and its payloads
``message_sample``     message: which others it stands for, where only some were measured
``shape_sample``       messages of equal work, of which only some were measured
``statement_charge``   statement, likewise
``statement_loop``     loop of a statement's plan, from builds that count visited rows
``owner``              owner of SQLite pages: table, index, freelist …
``statement_owner``    owner whose OS pages a statement touched
``owner_run``          run of SQLite pages that has had one owner since a message
``address_run``        run of addresses outside of the main database file, likewise
``owner_fault``        message at whose end owners became unknown, or known again
``statement_accesses`` statement that touched stable memory: its ordered accesses, as a block
``outside_accesses``   outside entry, likewise
``access_order``       order and phases of a message's accesses; equal ones share a row
``schema_object``      row of sqlite_schema when the trace ends
``tree``               B-tree of the main database, likewise: its shape
=====================  ===================================================================

The blocks are those of ``sqlstable.trace.blocks``, orders those of
``sqlstable.trace.format.spans``; all else is plain rows. The views
``statements``, ``shapes``, ``statement_owners`` and ``owner_runs`` join what belongs together; the
view ``areas`` says what fills each area. Version 1 of the format had no areas, costs
and loops; version 2 names no limit of a trap and no fault of the owners; version 3 no phase of an
access, and not what the database is when the trace ends; version 4 no parts; version 5 no calls of
modules.

Invariants:

* A message is in the file whole or not at all.
* A run that is killed leaves a readable trace: it lacks at most the last ``FLUSH_MESSAGES``
  messages, fewer where these made many accesses or took a second, and its setting ``closed`` is
  false.
* Equal runs give equal rows: no clock, no random names, nothing that depends on speed.
* What a reader gives back equals what was written, integers from -2**63 to 2**63 - 1. One value
  of the model is larger: ``NO_LIMIT``, 2**64 - 1, which is kept as NULL.

Limitations: not safe against power loss. While the file is written, and after a kill, its newest
rows are in ``-wal`` beside it; both stay together until a tool that may write has opened them.
"""

from sqlstable.trace.format.reader import Trace, open_trace
from sqlstable.trace.format.schema import TRACE_APPLICATION_ID, TRACE_FORMAT_VERSION
from sqlstable.trace.format.writer import FLUSH_MESSAGES, TraceWriter, check_way

__all__ = [
    "FLUSH_MESSAGES",
    "TRACE_APPLICATION_ID",
    "TRACE_FORMAT_VERSION",
    "Trace",
    "TraceWriter",
    "check_way",
    "open_trace",
]
