"""Rule ``missing-index``: a table is scanned for few of its rows, and an index would find them.

As SQLite's own ``sqlite3_expert`` does, columns that a statement compares make candidates, and the
planner decides: only an index that it would use is advised, for the table that it scanned before.
Unlike there, what a scan cost is known: the OS pages of the table, rows visited and returned.

Source: https://www.sqlite.org/cli.html#index_recommendations_sqlite_expert_ and
https://www.sqlite.org/eqp.html (SCAN, AUTOMATIC INDEX, USE TEMP B-TREE).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlstable.analysis.advice.advice import Advice, counted, quoted
from sqlstable.analysis.advice.evidence import SMALL_OS_PAGES, AdviceEvidence, cited
from sqlstable.analysis.advice.schema_probe import SchemaProbe
from sqlstable.analysis.advice.sql_columns import TableColumns, TakenApart, take_apart
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.trace.format.shape_uses import ShapeUse
from sqlstable.trace.model import Statement

NODES_ABOVE: Final = 4
"""SQLite pages above the leaves of an index and of its table: B-trees are two or three deep."""

LEAVES_PER_ROW: Final = 1.05
"""For each row that an index finds: a leaf of the table at worst, and its entry in the index; those
lie together, twenty or more on a leaf."""

LESS_BY: Final = 2
"""An index has to make at least so many times less of the scanned OS pages."""

VISITED_PER_ROW: Final = 10
"""Rows visited for each row returned, from which on a scan looks for few of them."""

SCANNED_SHARE: Final = 0.5
"""Part of a statement's OS pages that the scanned table has: of less, little can be saved."""

DIRTY_PART: Final = 4
"""An UPDATE or DELETE that dirties more than one in so many OS pages needs much of the table."""

KEY_COLUMNS_MAX: Final = 3
"""More columns to compare seldom leave fewer rows, and make a larger index."""

COVERING_COLUMNS_MAX: Final = 4
"""An index of more columns is nearly the table again."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One statement that an index would help."""

    create: str
    "The CREATE INDEX statement."
    use: ShapeUse
    share: float
    cite: str
    gain: str


def missing_indexes(evidence: AdviceEvidence) -> Iterator[Advice]:
    """Advise indexes that SQLite would use, each once for all statements that it helps."""
    found: dict[str, dict[int, Finding]] = {}
    for use in evidence.mattering("read", "write"):
        statement = evidence.heaviest(use)
        if any(map(is_scan, statement.plan)):
            for finding in _findings(evidence, use, statement):
                # A statement can scan a table under several names.
                found.setdefault(finding.create, {})[use.heaviest] = finding
    for create, by_statement in found.items():
        findings = tuple(by_statement.values())
        yield Advice(
            code="missing-index",
            sentence=f"Add an index, so that SQLite need not scan: {create}",
            cites=tuple(it.cite for it in findings),
            gain=findings[0].gain,
            statements=tuple(it.use.heaviest for it in findings),
            share=min(1.0, sum(it.share for it in findings)),
        )


def _findings(evidence: AdviceEvidence, use: ShapeUse, statement: Statement) -> Iterator[Finding]:
    probe = evidence.probe
    before = probe.plan(statement.sql)
    if before is None:
        return
    scanned = _scanned(statement.plan) & _scanned(before)
    if not scanned:
        # The schema of the end has what was missing, or statistics made another plan.
        return
    parts = take_apart(statement.sql, lambda name: tuple(it.name for it in probe.columns(name)))
    if parts is None:
        return
    for part in parts.tables:
        table = part.table.lower()
        if (
            part.alias.lower() not in scanned
            or table not in probe.tables.keys() - evidence.temporary
        ):
            continue
        worth = _worth(evidence, use, statement, part, is_aggregate=parts.is_aggregate)
        if worth is None:
            continue
        create = _index(probe, statement.sql, before, parts, part)
        if create is not None:
            yield Finding(create, use, evidence.share(use), *worth)


def _worth(
    evidence: AdviceEvidence,
    use: ShapeUse,
    statement: Statement,
    part: TableColumns,
    *,
    is_aggregate: bool,
) -> tuple[str, str] | None:
    """Return what a scan cost and what is expected instead; None where it is not worth it."""
    own = [it for it in statement.owners if it.table.lower() == part.table.lower()]
    accessed = sum(it.os_pages_accessed for it in own if it.kind == "table")
    pages = max(accessed, evidence.tree_os_pages.get(part.table.lower(), 0))
    if pages <= SMALL_OS_PAGES:
        return None
    if accessed < SCANNED_SHARE * statement.stable.os_pages_accessed:
        return None
    rows = statement.row_count / max(statement.runs, 1)
    visited = (statement.sqlite.fullscan_steps or 0) / max(statement.runs, 1)
    numbers = [f"{counted(pages, 'OS page')} of table {part.table}"]
    if visited:
        numbers.append(f"{counted(visited, 'row')} visited")
    if statement.kind == "write":
        if DIRTY_PART * sum(it.os_pages_dirty for it in own if it.kind == "table") > pages:
            return None
        gain = f"expected: the OS pages of the rows that change, instead of {pages:,}"
    elif is_aggregate:
        gain = f"expected: the index entries that match, instead of {counted(pages, 'OS page')}"
    else:
        wide = max(1, evidence.page_bytes // OS_PAGE_BYTES)
        expected = round(wide * (NODES_ABOVE + LEAVES_PER_ROW * rows))
        if LESS_BY * expected > pages or (visited and visited < VISITED_PER_ROW * rows):
            return None
        numbers.append(f"{counted(rows, 'row')} returned")
        gain = f"expected: at most {counted(expected, 'OS page')} instead of {pages:,}"
    if use.statement_count > 1:
        numbers.append(f"{use.statement_count:,} times")
    return cited(statement, *numbers), gain


def _index(
    probe: SchemaProbe, sql: str, before: tuple[str, ...], parts: TakenApart, part: TableColumns
) -> str | None:
    """Return the first candidate that SQLite would use instead of scanning."""
    taken = {index.name.lower() for index in probe.indexes(part.table)}
    for columns in _candidates(parts, part):
        name = "_".join((part.table, *columns))
        while name.lower() in taken:
            name += "_"
        listed = ", ".join(map(quoted, columns))
        create = f"CREATE INDEX {quoted(name)} ON {quoted(part.table)}({listed})"
        after = probe.plan(sql, create)
        if after is not None and _helps(before, after, name, parts):
            return create
    return None


def _candidates(parts: TakenApart, part: TableColumns) -> Iterator[tuple[str, ...]]:
    """Yield columns to index, the best guess first."""
    equal = part.equal[:KEY_COLUMNS_MAX]
    if parts.is_aggregate:
        covering = tuple(dict.fromkeys((*equal, *part.ranged[:1], *part.needed)))
        if equal and part.needed and len(covering) <= COVERING_COLUMNS_MAX:
            yield covering
        return
    if parts.has_limit and part.ordered:
        yield tuple(dict.fromkeys((*equal, *part.ordered)))
    if part.ranged:
        yield tuple(dict.fromkeys((*equal, part.ranged[0])))
    if equal:
        yield equal
        yield from ((column,) for column in equal if len(equal) > 1)


def _helps(before: tuple[str, ...], after: tuple[str, ...], name: str, parts: TakenApart) -> bool:
    """Tell whether a plan finds rows by the index, or in its order stops early."""
    line = next((it for it in after if re.search(rf"INDEX {re.escape(name)}(?: |$)", it)), None)
    if line is None:
        return False
    if line.lstrip().startswith("SEARCH"):
        is_covering = "COVERING INDEX" in line
        return is_covering if parts.is_aggregate else _scan_count(after) < _scan_count(before)
    return parts.has_limit and _sorts(before) and not _sorts(after)


def _scanned(plan: tuple[str, ...]) -> set[str]:
    """Return what plans call the tables that they scan, in lower case."""
    return {
        match[1].lower()
        for line in plan
        if is_scan(line)
        and (match := re.match(r"\s*(?:SCAN|SEARCH) (.+?)(?: USING .*| LEFT-JOIN)?$", line))
    }


def _scan_count(plan: tuple[str, ...]) -> int:
    return sum(map(is_scan, plan))


def is_scan(line: str) -> bool:
    """Tell whether a line goes through a whole table, or builds an index for this one time."""
    return line.lstrip().startswith("SCAN ") or "AUTOMATIC" in line


def _sorts(plan: tuple[str, ...]) -> bool:
    return any("USE TEMP B-TREE FOR" in line for line in plan)
