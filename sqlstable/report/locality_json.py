"""How local a trace is as one JSON document; ``locality_schema.json`` beside it has the fields.

Within a version fields are only added, never renamed or removed.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Final

from sqlstable.analysis.configured_cache import configured_cache_pages
from sqlstable.analysis.locality.breakdown import LocalityGroup
from sqlstable.analysis.locality.fragmentation import TreeFragmentation
from sqlstable.analysis.locality.hot_set import HotSet
from sqlstable.analysis.locality.locality import Locality, locality
from sqlstable.analysis.locality.regions import RegionFullness, RegionUse
from sqlstable.analysis.locality.reuse import ReuseHistogram
from sqlstable.analysis.locality.sequence import Sequentiality
from sqlstable.analysis.locality.write_amplification import WriteAmplification
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.report.as_json import Json
from sqlstable.report.locality_words import sqlite_locality
from sqlstable.report.page_cache_json import page_cache_json
from sqlstable.trace.model import TraceSettings

FORMAT: Final = "sqlstable-locality"
VERSION: Final = 1

POINTS_MAX: Final = 1_000
"""Points of a curve at most; the histograms they come from are whole."""


def render_locality_json(trace: TraceSource) -> Iterator[str]:
    """Yield JSON text: the same text for the same trace, in ASCII."""
    found = locality(trace)
    of_sqlite_pages = sqlite_locality(trace)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "settings": _settings(trace.settings),
        "configured_cache_pages": configured_cache_pages(trace),
        "os_pages": _figures(found),
        "sqlite_pages": None if of_sqlite_pages is None else _figures(of_sqlite_pages),
        "page_cache": page_cache_json(trace),
        "trees": list(map(_tree, found.trees)),
    }
    yield json.dumps(document, indent=1, allow_nan=False) + "\n"


def _settings(settings: TraceSettings) -> Mapping[str, Json]:
    return {
        name: value if isinstance(value, bool | int | float | None) else str(value)
        for name, value in settings.values.items()
    }


def _figures(found: Locality) -> Mapping[str, Json]:
    windows = _spread(found.working_set.windows.tolist())
    sizes = _spread(found.miss_ratio.sizes.tolist())
    return {
        "accesses": found.accesses,
        "touches": found.touches,
        "distinct": found.distinct,
        "reuse": _reuse(found.reuse),
        "miss_ratio": [[it, found.miss_ratio.misses_at(it)] for it in sizes],
        "working_set": [[it, round(found.working_set.size_at(it), 6)] for it in windows],
        "sequentiality": _sequentiality(found.sequentiality),
        "hot_set": _hot_set(found.hot_set),
        "regions": _regions(found.regions),
        "write_amplification": _writes(found.write_amplification),
        "owners": list(map(_group, found.by_owner)),
        "shapes": list(map(_group, found.by_shape)),
        "phases": list(map(_group, found.by_phase)),
    }


def _spread(points: list[int]) -> list[int]:
    """Return points at equal steps of their places, the first and the last among them."""
    if len(points) <= POINTS_MAX:
        return points
    last = len(points) - 1
    return [points[at * last // (POINTS_MAX - 1)] for at in range(POINTS_MAX)]


def _reuse(reuse: ReuseHistogram) -> Mapping[str, Json]:
    return {
        "first_touches": reuse.first_touches,
        "median": reuse.median,
        "bins": [list(pair) for pair in zip(*(it.tolist() for it in reuse.binned), strict=True)],
    }


def _sequentiality(order: Sequentiality) -> Mapping[str, Json]:
    return {
        "steps": order.steps,
        "same": order.same,
        "sequential": order.sequential,
        "forward": order.forward,
        "backward": order.backward,
        "strides": [list(pair) for pair in order.strides],
    }


def _hot_set(hot: HotSet) -> Mapping[str, Json]:
    return {str(share): pages for share, pages in sorted(hot.pages.items())}


def _regions(regions: RegionFullness) -> Mapping[str, Json]:
    return {
        "accessed": _region_use(regions.accessed),
        "dirty": _region_use(regions.dirty),
        "charged_instructions": regions.charged_instructions,
        "saved_instructions_max": regions.saved_instructions_max,
        "prices": regions.prices,
    }


def _region_use(use: RegionUse) -> Mapping[str, Json]:
    return {"by_fullness": use.by_fullness.tolist(), "charged": use.charged, "compact": use.compact}


def _writes(writes: WriteAmplification) -> Mapping[str, Json]:
    return {
        "bytes_changed": writes.bytes_changed,
        "bytes_written": writes.bytes_written,
        "os_pages_dirty": writes.os_pages_dirty,
    }


def _tree(fragmented: TreeFragmentation) -> Mapping[str, Json]:
    tree = fragmented.tree
    return {
        "name": tree.name,
        "table": tree.table,
        "kind": tree.kind,
        "depth": tree.depth,
        "sqlite_pages": fragmented.sqlite_pages,
        "fill": round(fragmented.fill, 6),
        "leaves_in_order": tree.leaves_in_order,
        "leaps": fragmented.leaps,
        "sqlite_pages_saved_max": fragmented.sqlite_pages_saved_max,
    }


def _group(group: LocalityGroup) -> Mapping[str, Json]:
    owner = group.owner
    return {
        "name": group.name,
        "table": owner.table if owner else None,
        "kind": owner.kind if owner else None,
        "role": owner.role if owner else None,
        "reads": group.reads,
        "writes": group.writes,
        "distinct": group.distinct,
        "reuse": _reuse(group.reuse),
        "sequentiality": _sequentiality(group.sequentiality),
        "hot_set": _hot_set(group.hot_set),
    }
