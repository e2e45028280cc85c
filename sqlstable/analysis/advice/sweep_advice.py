"""Advice from a sweep: what settings were measured to save, and what no setting mends.

Every row is a run of the same script, so two rows that differ in one setting alone say what that
setting does. Numbers are measured; where instructions were counted in all rows they decide, else
the OS pages accessed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlstable.analysis.advice.advice import Advice, counted, percent, quoted, short_sql
from sqlstable.analysis.advice.missing_index import is_scan
from sqlstable.analysis.advice.sending import NEAR
from sqlstable.analysis.scaling.pareto import SweepResults, SweepRow
from sqlstable.analysis.scaling.runs import RanStatement
from sqlstable.analysis.verdict import applies
from sqlstable.analysis.verdict import share as share_of_limit
from sqlstable.trace.model import LimitUse

SETTINGS: Final = ("page_size", "cache_size", "journal_mode", "layout", "build", "preset")
"""What can be chosen freely; parameters of a script say how much work there is."""

SAVED_SHARE_MIN: Final = 0.05
"""Part of the work that another setting saves at least to be advised."""

SCANNED_SHARE_MIN: Final = 0.1
"""Part of a run that a statement which scans has at least."""

VISITED_PER_ROW: Final = 10
"""OS pages accessed for each row returned, from which on a scan looks for few rows."""


@dataclass(frozen=True, slots=True)
class Saving:
    """Two rows that differ in one setting alone."""

    name: str
    better: SweepRow
    worse: SweepRow
    saved: float
    "Part of the work of the worse row."


def advise_sweep(results: SweepResults) -> tuple[Advice, ...]:
    """Return what to choose, and what to change whatever is chosen, the strongest first.

    Args:
        results: Rows of one script; those that failed say nothing.
    """
    best = results.best
    if best is None:
        return ()
    found = [
        *_settings(results, best),
        *_near_limits(best),
        *_scans(results, best),
        *_unread(best),
    ]
    return tuple(sorted(found, key=lambda it: -it.share))


def _settings(results: SweepResults, best: SweepRow) -> Iterator[Advice]:
    for name in SETTINGS:
        saving = _saving(results, best, name) if name in results.varied else None
        if saving is None:
            continue
        chosen, other = (row.choices[name] for row in (saving.better, saving.worse))
        yield Advice(
            code=name.replace("_", "-"),
            sentence=f"Choose {name} {chosen} rather than {other}",
            cites=tuple(_cited(results, row) for row in (saving.better, saving.worse)),
            gain=_measured(results, saving),
            statements=(),
            share=saving.saved,
        )


def _saving(results: SweepResults, best: SweepRow, name: str) -> Saving | None:
    """Compare the best row with the worst that differs from it in this setting alone."""
    others = [
        row
        for row in results.rows
        if row.result.failure is None
        and row.choices[name] != best.choices[name]
        and all(row.choices[it] == best.choices[it] for it in results.varied if it != name)
    ]
    worst = max(others, key=lambda row: _work(results, row), default=None)
    if worst is None or not _work(results, worst):
        return None
    saved = 1 - _work(results, best) / _work(results, worst)
    return Saving(name, best, worst, saved) if saved >= SAVED_SHARE_MIN else None


def _near_limits(row: SweepRow) -> Iterator[Advice]:
    uses = [
        (share_of_limit(use), it.index, use)
        for it in row.result.messages
        for use in it.limits
        if applies(use)
    ]
    nearest = max(uses, key=lambda it: it[0], default=None)
    if nearest is None or nearest[0] < NEAR:
        return
    share, index, use = nearest
    yield Advice(
        code="near-limit",
        sentence=f"Split message {index}: even with the best settings it is near a limit",
        cites=(f"row {row.number}, message {index}: {_limit(use)}",),
        gain="expected: half the share of the limit for half the rows",
        statements=tuple(it.index for it in row.result.statements if it.message == index),
        share=min(share, 1.0),
    )


def _scans(results: SweepResults, row: SweepRow) -> Iterator[Advice]:
    """Point to statements that scan for few rows; the schema, and so the index, is not here."""
    whole = _work(results, row)
    for it in row.result.statements:
        lines = [line.strip() for line in it.plan if is_scan(line)]
        share = _statement_work(results, it) / max(whole, 1)
        if not lines or it.kind not in ("read", "write") or share < SCANNED_SHARE_MIN:
            continue
        if it.os_pages_accessed < VISITED_PER_ROW * max(it.row_count, 1) or it.kind == "write":
            continue
        yield Advice(
            code="missing-index",
            sentence=(
                "An index may save a scan, whatever the settings; sqlstable run with --by advice "
                "names it"
            ),
            cites=(
                (
                    f"row {row.number}, statement {it.index}, {short_sql(it.sql)}: "
                    f"{counted(it.os_pages_accessed, 'OS page')} accessed, "
                    f"{counted(it.row_count, 'row')} returned, plan {', '.join(lines)}"
                ),
            ),
            gain=None,
            statements=(it.index,),
            share=min(share, 1.0),
        )


def _unread(row: SweepRow) -> Iterator[Advice]:
    """Name indexes that statements met and none read, those behind constraints left out."""
    for name, pages in row.result.index_uses.items():
        plans = (line for it in row.result.statements for line in it.plan)
        if pages or name.startswith("sqlite_autoindex_") or any(name in line for line in plans):
            continue
        yield Advice(
            code="unused-index",
            sentence=(
                "Drop the index that nothing here reads, unless it is UNIQUE or serves a foreign "
                f"key: DROP INDEX {quoted(name)}"
            ),
            cites=(f"row {row.number}, index {name}: written, and read by no statement",),
            gain=None,
            statements=(),
            share=0.0,
        )


def _work(results: SweepResults, row: SweepRow) -> int:
    return row.objectives(has_instructions=results.has_instructions)[0]


def _statement_work(results: SweepResults, statement: RanStatement) -> int:
    if results.has_instructions:
        return statement.instructions or 0
    return statement.os_pages_accessed


def _unit(results: SweepResults) -> str:
    return "instructions" if results.has_instructions else "OS pages accessed"


def _measured(results: SweepResults, saving: Saving) -> str:
    text = f"measured: {percent(saving.saved, 1)} less {_unit(results)}"
    if results.has_instructions:
        return text
    # A cache that saves reads costs heap, and that is paid for as well.
    return f"{text}; instructions may say the reverse: --engine wasm counts them"


def _cited(results: SweepResults, row: SweepRow) -> str:
    chosen = ", ".join(f"{name} {row.choices[name]}" for name in results.varied)
    return (
        f"row {row.number}, {chosen}: {_work(results, row):,} {_unit(results)}, "
        f"{row.result.os_pages_dirty:,} OS pages dirty, {row.result.stable_bytes:,} stable bytes"
    )


def _limit(use: LimitUse) -> str:
    return f"{use.used:,} of {use.limit:,} {use.name}, {percent(use.used, use.limit)}"
