"""Rule ``unused-index``: an index is kept up to date, and no plan reads it.

Indexes behind UNIQUE and PRIMARY KEY stay, whoever reads them, and so do those whose first column
references another table: foreign keys are looked up by them, which no plan shows.

Source: https://www.sqlite.org/foreignkeys.html (section 3, suggested indexes).
"""

from collections.abc import Iterator
from typing import Final

from sqlstable.analysis.advice.advice import Advice, counted, percent, quoted
from sqlstable.analysis.advice.evidence import SMALL_OS_PAGES, AdviceEvidence
from sqlstable.analysis.advice.schema_probe import ProbedIndex

DIRTY_SHARE_MIN: Final = 0.05
"""Part of all dirty OS pages that an index has at least: one that costs less can as well stay."""

NAME_WORDS_MAX: Final = 30
"""Names of more words are left alone."""


def unused_indexes(evidence: AdviceEvidence) -> Iterator[Advice]:
    """Advise to drop indexes that statements write and none reads; nothing where nothing reads."""
    unread = _in_no_plan(evidence)
    if not unread or not any(use.kind == "read" for use in evidence.shapes):
        return
    for name, pages in evidence.dirty_by_index.items():
        share = pages / max(evidence.os_pages_dirty, 1)
        if name not in unread or pages <= SMALL_OS_PAGES or share < DIRTY_SHARE_MIN:
            continue
        index = _droppable(evidence, name)
        if index is None or any(it.os_pages_queried for it in evidence.owners_named(name)):
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
            gain=f"expected: up to {counted(pages, 'dirty OS page')} less",
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


def _in_no_plan(evidence: AdviceEvidence) -> set[str]:
    """Return the names of the indexes that somebody made and no plan has."""
    made = {it.name for it in evidence.trace.schema if it.type == "index" and it.sql is not None}
    for line in evidence.trace.plan_lines:
        _, _, rest = line.partition("INDEX ")
        # A name can hold blanks, and more of the line can follow it.
        words = rest.split(" ")[:NAME_WORDS_MAX]
        made -= {" ".join(words[:count]) for count in range(1, len(words) + 1)}
    return {name for name in made if name.count(" ") < NAME_WORDS_MAX}
