"""A trace as a data frame, column by column: no record is made for any row.

The columns are those of the view ``statements``, whatever the version of the format, and what the
instructions cost in cycles.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sqlstable.ic.words import PHASES
from sqlstable.trace.format.record_frames import frame_fees, statement_cycles
from sqlstable.trace.format.schema import (
    CHARGED_COLUMNS,
    CHARGES_SINCE_VERSION,
    COSTS_SINCE_VERSION,
    COUNTER_NAMES,
    INSTRUCTION_COLUMNS,
    STABLE_COLUMNS,
)
from sqlstable.trace.format.storage import Row, TracePart

_Numbers = npt.NDArray[np.int64]

_STABLE: Final = ", ".join(STABLE_COLUMNS)


def statement_frame(pandas: Any, snapshot: TracePart) -> Any:  # noqa: ANN401  pandas is optional
    """Return one row per statement, indexed by ``statement_index``."""
    keys = _numbers(
        snapshot,
        "statement_index, message_index, sql_index, ifnull(plan_index, -1), row_count, runs",
        "statement",
        6,
    )
    index, message, sql, plan, row_count, runs = keys.T
    columns: dict[str, Any] = {"message_index": message}
    messages = snapshot.select("SELECT message_index, kind, label, outcome, cache FROM message")
    columns |= _looked_up(message, messages, ("message_kind", "label", "outcome", "cache"))
    texts = snapshot.select("SELECT sql_index, kind, sql, shape FROM sql_text")
    columns |= _looked_up(sql, texts, ("kind", "sql", "shape"))
    columns |= _looked_up(plan, _plans(snapshot), ("plan",))
    columns |= {"row_count": row_count, "runs": runs}
    columns |= _gapped(pandas, snapshot, index, COUNTER_NAMES, "statement")
    stable = _numbers(snapshot, _STABLE, "statement", len(STABLE_COLUMNS))
    columns |= dict(zip(STABLE_COLUMNS, stable.T, strict=True))
    for phase in PHASES:
        columns |= _phase(snapshot, index, phase)
    costs = "statement_cost" if snapshot.version >= COSTS_SINCE_VERSION else None
    columns |= _gapped(pandas, snapshot, index, INSTRUCTION_COLUMNS, costs)
    charges = "statement_charge" if snapshot.version >= CHARGES_SINCE_VERSION else None
    columns |= _gapped(pandas, snapshot, index, CHARGED_COLUMNS, charges)
    counts = columns["instructions_total"].to_numpy(dtype=object, na_value=None).tolist()
    cycles = statement_cycles(columns["message_kind"], counts, frame_fees(snapshot))
    columns |= {name: pandas.array(it, dtype="Int64") for name, it in cycles.items()}
    return pandas.DataFrame(columns, index=pandas.Index(index, name="statement_index"))


def _numbers(
    snapshot: TracePart, columns: str, table: str, width: int, condition: str = ""
) -> _Numbers:
    """Return whole numbers of a table as an array, in the order of the statements."""
    sql = f"SELECT {columns} FROM {table} WHERE statement_index <= :last_statement {condition}"  # noqa: S608  our own names
    rows = snapshot.select(f"{sql} ORDER BY statement_index")
    return _array(rows, width)


def _array(rows: Sequence[Row], width: int) -> _Numbers:
    flat = np.fromiter(chain.from_iterable(rows), np.int64, len(rows) * width)
    return flat.reshape(len(rows), width)


def _looked_up(
    keys: _Numbers, rows: Sequence[Row], names: Sequence[str]
) -> Mapping[str, list[object]]:
    """Return columns of another table, one value for each key."""
    found = {row[0]: row[1:] for row in rows}
    listed = keys.tolist()
    return {name: [found[key][place] for key in listed] for place, name in enumerate(names)}


def _plans(snapshot: TracePart) -> list[Row]:
    lines: dict[int, list[str]] = {-1: []}
    for plan, line in snapshot.select(
        "SELECT plan_index, line FROM plan ORDER BY plan_index, line_index"
    ):
        lines.setdefault(plan, []).append(line)
    return [(plan, "\n".join(listed)) for plan, listed in lines.items()]


def _phase(snapshot: TracePart, index: _Numbers, phase: str) -> Mapping[str, _Numbers]:
    """Return the columns of one phase; a phase without a row touched nothing."""
    assert phase in PHASES
    width = len(STABLE_COLUMNS)
    rows = _numbers(
        snapshot,
        f"statement_index, {_STABLE}",
        "statement_phase",
        width + 1,
        f"AND phase = '{phase}'",
    )
    values = np.zeros((len(index), width), np.int64)
    values[np.searchsorted(index, rows[:, 0])] = rows[:, 1:]
    return {f"{phase}_{name}": values[:, place] for place, name in enumerate(STABLE_COLUMNS)}


def _gapped(
    pandas: Any,  # noqa: ANN401  pandas is optional
    snapshot: TracePart,
    index: _Numbers,
    names: Sequence[str],
    table: str | None,
) -> Mapping[str, Any]:
    """Return columns in which numbers can be missing; without a table all are."""
    width = len(names)
    values = np.zeros((len(index), width), np.int64)
    missing = np.ones((len(index), width), np.bool_)
    if table is not None:
        parts = ", ".join(f"ifnull({name}, 0), {name} IS NULL" for name in names)
        rows = _numbers(snapshot, f"statement_index, {parts}", table, 2 * width + 1)
        places = np.searchsorted(index, rows[:, 0])
        values[places], missing[places] = rows[:, 1::2], rows[:, 2::2]
    # Not by way of floats, which would round.
    return {
        name: pandas.arrays.IntegerArray(values[:, place].copy(), missing[:, place].copy())
        for place, name in enumerate(names)
    }
