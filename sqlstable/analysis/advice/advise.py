"""All rules over one trace, the strongest advice first."""

from collections.abc import Callable, Iterator
from typing import Final

from sqlstable.analysis.advice.advice import Advice
from sqlstable.analysis.advice.caching import large_caches, small_caches
from sqlstable.analysis.advice.evidence import AdviceEvidence
from sqlstable.analysis.advice.keys import random_keys, text_keys
from sqlstable.analysis.advice.missing_index import missing_indexes
from sqlstable.analysis.advice.paging import offsets, stars
from sqlstable.analysis.advice.sending import near_limits, single_rows
from sqlstable.analysis.advice.storing import buckets, journals, page_sizes
from sqlstable.analysis.advice.unused_index import unused_indexes
from sqlstable.analysis.trace_source import TraceSource

RULES: Final[tuple[Callable[[AdviceEvidence], Iterator[Advice]], ...]] = (
    near_limits,
    missing_indexes,
    offsets,
    stars,
    single_rows,
    page_sizes,
    large_caches,
    small_caches,
    journals,
    text_keys,
    random_keys,
    unused_indexes,
    buckets,
)
"""Each looks at the evidence and yields its advice; where shares are equal, in this order."""


def advise(trace: TraceSource) -> tuple[Advice, ...]:
    """Return what to do about a workload, the strongest first; nothing where nothing stands out.

    Args:
        trace: What was recorded. Of a long one no record is made but for the statements cited.
    """
    evidence = AdviceEvidence(trace)
    try:
        found = [advice for rule in RULES for advice in rule(evidence)]
    finally:
        evidence.close()
    return tuple(sorted(found, key=lambda it: -it.share))
