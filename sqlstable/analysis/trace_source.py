"""What analysis and reports read: a trace file, held whole or a stretch at a time.

Nothing but `settings`, `messages`, `statements`, `summary`, `shape_uses`, `plan_lines`,
`owner_totals`, `owner_faults`, `areas`, `schema`, `trees`, `accesses`, `outside_accesses`,
`access_blocks`, `access_owners` and `outside_names` is asked of it, so traces that are built by
hand will do, too. Statements and messages come in the order of their indexes, which start at 0 and
have no holes.
"""

from typing import TypeAlias

from sqlstable.trace.format.reader import Trace
from sqlstable.trace.format.stream import StreamedTrace

TraceSource: TypeAlias = Trace | StreamedTrace
