"""Messages, statements, owners and limits of a trace as columns of frames, one row a record."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.ic.message_fees import (
    AS_UPDATE,
    IMPORT,
    PaidMessage,
    instruction_fees,
    instruction_fees_as_update,
    message_fees,
)
from sqlstable.ic.words import PHASES
from sqlstable.trace.fees import trace_fees
from sqlstable.trace.format.frames import FrameColumns, column_of
from sqlstable.trace.format.schema import (
    CALL_FIELDS,
    CALLS_SINCE_VERSION,
    CHARGED_COLUMNS,
    CHARGES_SINCE_VERSION,
    CONTINUES_SINCE_VERSION,
    COST_FIELDS,
    COSTS_SINCE_VERSION,
    COUNTER_NAMES,
    HEAP_FIELDS,
    INSTRUCTION_COLUMNS,
    ORDERS_SINCE_VERSION,
    PAYLOAD_FIELDS,
    STABLE_COLUMNS,
    TRAP_LIMITS_SINCE_VERSION,
)
from sqlstable.trace.format.storage import OF_MESSAGES, OF_STATEMENTS, Row, TracePart
from sqlstable.trace.model import TraceSettings

Records = Literal["messages", "statements"]
"""What there may be many of."""

RecordValues = Mapping[str, Sequence[Any]]
"""Columns of plain values, None for what is missing."""

_STRETCH: Final = 10_000
"""Records that are read together where all are not wanted at once."""

_TEXTS: Final = frozenset(
    (
        *(
            "kind",
            "label",
            "outcome",
            "trap",
            "cache",
            "trap_limit",
            "message_kind",
            "sql",
            "shape",
        ),
        *("shape", "plan", "name", "table", "role", "method", "text", "answer", "answer_text"),
    )
)
"""Columns of texts; all others are numbers."""

_SELECT_MESSAGES: Final = (
    "SELECT message_index, kind, label, outcome, cache FROM message"
    " WHERE message_index BETWEEN :first AND :last_message"
)

_MESSAGE_COSTS: Final = (
    *(f"instructions_{name}" for name in COST_FIELDS[:4]),
    *("measured", "error_band"),
    *(f"heap_{name}" for name in HEAP_FIELDS),
)
_OWNERS: Final = (
    *("since_message", "first_sqlite_page", "sqlite_page_count"),
    *("name", "table_name", "kind", "role"),
)


def kind_of(name: str) -> type:
    """Return the type of a column's values."""
    return str if name in _TEXTS else float if name == "error_band" else int


def framed(columns: RecordValues) -> FrameColumns:
    """Return columns of plain values as those of a frame."""
    return {name: column_of(values, kind_of(name)) for name, values in columns.items()}


def message_values(snapshot: TracePart) -> RecordValues:
    """Return everything that a trace says of each message; of its limits, use and limit of each."""
    version = snapshot.version
    names = [
        *("message_index", "kind", "label", "outcome", "trap", "cache", "image_bytes"),
        "discarded_writes",
        *STABLE_COLUMNS,
        _since(version, TRAP_LIMITS_SINCE_VERSION, "trap_limit"),
        _since(version, ORDERS_SINCE_VERSION, "bytes_changed"),
        _since(version, CONTINUES_SINCE_VERSION, "continues"),
    ]
    rows = snapshot.select_of_messages(f"SELECT {', '.join(names)} FROM message", "message_index")  # noqa: S608  our own names
    found = _columns(rows, [name.rpartition(" ")[2] for name in names])
    keys = found["message_index"]
    for table, columns, since in (
        ("message_cost", _MESSAGE_COSTS, COSTS_SINCE_VERSION),
        ("message_charge", (*CHARGED_COLUMNS, *PAYLOAD_FIELDS), CHARGES_SINCE_VERSION),
        ("message_call", CALL_FIELDS, CALLS_SINCE_VERSION),
    ):
        found |= _beside_since(snapshot, since, keys, table, columns, "message_index")
    limits = limit_values(snapshot)
    # Those of the whole trace, so that each part has the same columns.
    listed = snapshot.select("SELECT DISTINCT name FROM message_limit ORDER BY name")
    of_name: dict[str, dict[int, tuple[int, int | None]]] = {name: {} for (name,) in listed}
    for message, name, used, limit in zip(*limits.values(), strict=True):
        of_name[name][message] = (used, limit)
    for name, uses in of_name.items():
        pairs = [uses.get(key, (None, None)) for key in keys]
        found |= {f"used_{name}": [it[0] for it in pairs], f"limit_{name}": [it[1] for it in pairs]}
    fees = frame_fees(snapshot)
    paid = _paid_kinds(found, {*limits["message"]})
    found["cycles"] = _message_cycles(found, paid, fees)
    found["cycles_as_update"] = _message_cycles(found, map(AS_UPDATE.get, found["kind"]), fees)
    return found


def statement_values(snapshot: TracePart) -> RecordValues:
    """Return what the view ``statements`` has of each statement, whatever the format's version."""
    texts = _by_index(snapshot, "SELECT sql_index, kind, sql, shape FROM sql_text")
    plans = _plans(snapshot)
    names = ["message_index", "sql_index", "plan_index", "row_count", "runs", *COUNTER_NAMES]
    rows = snapshot.select_of_statements(
        f"SELECT statement_index, {', '.join((*names, *STABLE_COLUMNS))} FROM statement"  # noqa: S608  our own names
    )
    read = _columns(rows, ["statement_index", *names, *STABLE_COLUMNS])
    keys, message, sql, plan = (
        read.pop(it) for it in ("statement_index", "message_index", "sql_index", "plan_index")
    )
    found = {"statement_index": keys, "message_index": message}
    messages = _by_index(snapshot, _SELECT_MESSAGES, first=min(message, default=0))
    found |= _looked_up(messages, message, ("message_kind", "label", "outcome", "cache"))
    found |= _looked_up(texts, sql, ("kind", "sql", "shape"))
    found["plan"] = [plans.get(it, "") for it in plan]
    found |= read
    for phase in PHASES:
        condition = f"phase = '{phase}' AND "
        of_phase = _beside(
            snapshot, keys, "statement_phase", STABLE_COLUMNS, "statement_index", condition, 0
        )
        found |= {f"{phase}_{name}": values for name, values in of_phase.items()}
    for table, columns, since in (
        ("statement_cost", INSTRUCTION_COLUMNS, COSTS_SINCE_VERSION),
        ("statement_charge", CHARGED_COLUMNS, CHARGES_SINCE_VERSION),
    ):
        found |= _beside_since(snapshot, since, keys, table, columns, "statement_index")
    fees = frame_fees(snapshot)
    found |= statement_cycles(found["message_kind"], found["instructions_total"], fees)
    return found


def statement_cycles(
    kinds: Sequence[str], instructions: Sequence[int | None], fees: CycleFees
) -> RecordValues:
    """Return what statements cost in cycles, and would in a message that is called as an update.

    Args:
        kinds: Of the messages of the statements.
        instructions: Of the statements.
        fees: What is charged.
    """
    spent = [*zip(kinds, instructions, strict=True)]
    return {
        "cycles": [instruction_fees(*it, fees) for it in spent],
        "cycles_as_update": [instruction_fees_as_update(*it, fees) for it in spent],
    }


def owner_values(snapshot: TracePart) -> RecordValues:
    """Return the runs of SQLite pages with one owner each, in the order in which they came true."""
    names = ", ".join(_OWNERS)
    rows = snapshot.select(
        f"SELECT {names} FROM owner_runs WHERE since_message <= :last_message ORDER BY run_number"  # noqa: S608  our own names
    )
    return _columns(rows, [name.replace("table_name", "table") for name in _OWNERS])


def limit_values(snapshot: TracePart) -> RecordValues:
    """Return how much of each limit each message used; no limit is missing."""
    rows = snapshot.select_of_messages(
        "SELECT message_index, name, used, limit_value FROM message_limit",
        "message_index, limit_index",
    )
    return _columns(rows, ("message", "name", "used", "limit"))


def record_parts(snapshot: TracePart, records: Records) -> Iterator[RecordValues]:
    """Yield messages or statements in order, so many at a time that they can be held."""
    is_message = records == "messages"
    last = snapshot.last_message if is_message else snapshot.last_statement
    for first in range(0, max(last, 0) + 1, _STRETCH):
        stop = min(first + _STRETCH - 1, last)
        if is_message:
            yield message_values(snapshot.of_messages(first, stop))
        else:
            yield statement_values(snapshot.of_statements(first, stop))


def frame_fees(snapshot: TracePart) -> CycleFees:
    """Return the prices in cycles of frames."""
    rows = snapshot.select("SELECT name, value FROM settings")
    settings = TraceSettings({name: json.loads(value) for name, value in rows})
    return trace_fees(settings)


_PAID: Final = (
    *("instructions_total", "request_bytes", "method", "continues"),
    *("call_count", "call_bytes", "image_bytes", "heap_size_bytes"),
)


def _paid_kinds(columns: RecordValues, limited: Collection[int]) -> Iterator[str]:
    """Yield the kinds of messages as they are paid for, as `kind_sums` tells them from each other.

    Args:
        columns: Of messages.
        limited: Indexes of those that a limit applies to.
    """
    names = ("message_index", "kind", "method")
    for index, kind, method in zip(*(columns[name] for name in names), strict=True):
        is_import = kind == "install" and index > 0 and method is None and index not in limited
        yield IMPORT if is_import else kind


def _message_cycles(
    columns: RecordValues, kinds: Iterable[str | None], fees: CycleFees
) -> list[int | None]:
    """Return what messages cost, whole; None where a part of it is not known, or no kind is."""
    return [
        None
        if kind is None
        else message_fees(
            PaidMessage(
                *(kind, spent, request, method or "", continues is not None),
                *(calls or 0, call_bytes or 0, image + (heap or 0)),
            ),
            fees,
        ).total
        for kind, (spent, request, method, continues, calls, call_bytes, image, heap) in zip(
            kinds, zip(*(columns[name] for name in _PAID), strict=True), strict=True
        )
    ]


def _since(version: int, since: int, name: str) -> str:
    return name if version >= since else f"NULL AS {name}"


def _columns(rows: Sequence[Row], names: Sequence[str]) -> dict[str, Sequence[Any]]:
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return dict(zip(names, columns, strict=True))


def _by_index(snapshot: TracePart, sql: str, **parameters: object) -> dict[int, Row]:
    return {row[0]: row[1:] for row in snapshot.select(sql, **parameters)}


def _looked_up(
    rows: Mapping[int, Row], keys: Sequence[int], names: Sequence[str]
) -> dict[str, Sequence[Any]]:
    return {name: [rows[key][place] for key in keys] for place, name in enumerate(names)}


def _plans(snapshot: TracePart) -> dict[int, str]:
    lines: dict[int, list[str]] = {}
    for plan, line in snapshot.select(
        "SELECT plan_index, line FROM plan ORDER BY plan_index, line_index"
    ):
        lines.setdefault(plan, []).append(line)
    return {plan: "\n".join(listed) for plan, listed in lines.items()}


def _beside_since(
    snapshot: TracePart,
    since: int,
    keys: Sequence[int],
    table: str,
    names: Sequence[str],
    key: str,
) -> dict[str, Sequence[Any]]:
    """Return columns of a table likewise, of which an older trace has none."""
    if snapshot.version < since:
        return {name: [None] * len(keys) for name in names}
    return _beside(snapshot, keys, table, names, key)


def _beside(
    snapshot: TracePart,
    keys: Sequence[int],
    table: str,
    names: Sequence[str],
    key: str,
    condition: str = "",
    default: int | None = None,
) -> dict[str, Sequence[Any]]:
    """Return columns of a table that need not have a row for each key."""
    bounds = OF_MESSAGES if key == "message_index" else OF_STATEMENTS
    rows = _by_index(
        snapshot,
        f"SELECT {key}, {', '.join(names)} FROM {table} WHERE {condition}{bounds}",  # noqa: S608  our own names
    )
    nothing = (default,) * len(names)
    found = [rows.get(it, nothing) for it in keys]
    return _columns(found, names)
