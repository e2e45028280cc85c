"""Rule ``unused-index``: an index is kept up to date, and no plan reads it.

Indexes behind UNIQUE and PRIMARY KEY stay, whoever reads them, and so do those whose first column
references another table: foreign keys are looked up by them, which no plan shows.

Source: https://www.sqlite.org/foreignkeys.html (section 3, suggested indexes).
"""

import re
from collections.abc import Iterator
from typing import Final

from sqlstable.analysis.advice.advice import Advice, counted, percent, quoted
from sqlstable.analysis.advice.evidence import SMALL_OS_PAGES, AdviceEvidence
from sqlstable.analysis.advice.schema_probe import ProbedIndex

DIRTY_SHARE_MIN: Final = 0.05
"""Part of all dirty OS pages that an index has at least: one that costs less can as well stay."""


def unused_indexes(evidence: AdviceEvidence) -> Iterator[Advice]:
    """Advise to drop indexes that statements write and none reads; nothing where nothing reads."""
    dirty = evidence.dirty_by_index
    if not any(use.kind == "read" for use in evidence.shapes):
        return
    for name, pages in dirty.items():
        share = pages / max(evidence.os_pages_dirty, 1)
        if pages <= SMALL_OS_PAGES or share < DIRTY_SHARE_MIN:
            continue
        index = _droppable(evidence, name)
        if index is None or _is_read(evidence, name):
            continue
        yield Advice(
            code="unused-index",
            sentence=f"Drop the index that nothing here reads: DROP INDEX {quoted(index.name)}",
            cites=(
                (
                    f"index {index.name}: {counted(pages, 'OS page')} dirtied, "
                    f"{percent(pages, evidence.os_pages_dirty)} of all; in no plan of "
                    f"{counted(sum(it.statement_count for it in evidence.shapes), 'statement')}"
                ),
            ),
            gain=f"expected: {counted(pages, 'dirty OS page')} less",
            statements=evidence.touching(name, "write"),
            share=share,
        )


def _droppable(evidence: AdviceEvidence, name: str) -> ProbedIndex | None:
    """Return an index that constrains nothing; None for others, and where the schema has none."""
    probe = evidence.probe
    for table in probe.tables:
        for index in probe.indexes(table):
            if index.name == name and index.origin == "c" and not index.is_unique:
                referencing = {column.lower() for column in probe.referencing(table)}
                return None if index.columns[0].lower() in referencing else index
    return None


def _is_read(evidence: AdviceEvidence, name: str) -> bool:
    used = re.compile(rf"\bINDEX {re.escape(name)}(?: |$)")
    queried = any(it.os_pages_queried for it in evidence.owners_named(name))
    return queried or any(map(used.search, evidence.trace.plan_lines))
