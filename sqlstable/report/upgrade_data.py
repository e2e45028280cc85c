"""Ways of keeping data over an upgrade, as JSON and CSV: all that was measured and worked out."""

import json
import math
from collections.abc import Iterator

from sqlstable.analysis.scaling.laws import CONFIDENCE
from sqlstable.analysis.upgrading.break_even import STORAGE_CYCLES, BreakEven, break_even
from sqlstable.analysis.upgrading.limits_reached import (
    FirstFailure,
    GrowthLaw,
    checked,
    first_failure,
    heap_law,
    upgrade_law,
)
from sqlstable.analysis.upgrading.upgrade_runs import (
    Mean,
    PartCost,
    SizeRun,
    StrategyRun,
    UpgradeComparison,
)
from sqlstable.report.as_csv import csv_lines
from sqlstable.report.as_json import Json
from sqlstable.report.view import Row

UPGRADE_FORMAT = "sqlstable-upgrade-comparison"
UPGRADE_VERSION = 1

_HEADER = (
    *("script", "size_name", "size", "is_check", "database_bytes", "way"),
    *("upgrade_instructions", "pre_upgrade_instructions", "post_upgrade_instructions"),
    *("computation", "stable", "heap", "os_pages_accessed", "os_pages_dirty"),
    *("heap_bytes", "stable_bytes", "read_instructions", "read_half_width"),
    *("write_instructions", "write_half_width", "break_even_per_day", "break_even_low"),
    *("break_even_high", "failure"),
)


def render_upgrade_csv(found: UpgradeComparison) -> Iterator[str]:
    """Yield lines of CSV: one row for each way at each size."""
    return csv_lines([_HEADER, *_rows(found)])


def render_upgrade_json(found: UpgradeComparison) -> Iterator[str]:
    """Yield pieces of JSON text: the same text for the same runs, in ASCII."""
    yield json.dumps(upgrade_document(found), indent=2, allow_nan=False) + "\n"


def upgrade_document(found: UpgradeComparison) -> dict[str, Json]:
    """Return what was compared as plain data; what does not apply is null."""
    ceilings = found.ceilings
    return {
        "format": UPGRADE_FORMAT,
        "version": UPGRADE_VERSION,
        "confidence": CONFIDENCE,
        "script": found.script,
        "size_name": found.size_name,
        "settings": {name: _plain(value) for name, value in found.settings},
        "limits": {
            "instructions_max": ceilings.instructions_max,
            "os_pages_accessed_max": ceilings.os_pages_accessed_max,
            "os_pages_dirty_max": ceilings.os_pages_dirty_max,
            "stable_bytes_max": ceilings.stable_bytes_max,
            "heap_bytes_max": ceilings.heap_bytes_max,
        },
        "reads_per_day": found.reads_per_day,
        "writes_per_day": found.writes_per_day,
        "storage_cycles_per_gib_second": STORAGE_CYCLES,
        "ways": [
            {
                "name": way.name,
                "summary": way.summary,
                "upgrade_grows_as": _law(upgrade_law(found, way.name)),
                "heap_grows_as": _law(heap_law(found, way.name)),
                "first_failure": _failure(first_failure(found, way)),
            }
            for way in found.ways
        ],
        "sizes": [_size(found, size) for size in found.sizes],
        "empty": _size(found, found.empty),
        "check": None if found.check is None else _check(found, found.check),
    }


def _size(found: UpgradeComparison, size: SizeRun) -> dict[str, Json]:
    return {
        "size": _whole(size.size),
        "database_bytes": size.database_bytes,
        "ways": [_run(found, size, run) for run in size.runs],
    }


def _check(found: UpgradeComparison, check: SizeRun) -> dict[str, Json]:
    return {
        **_size(found, check),
        "predictions": [
            {
                "way": row.name or None,
                "measure": row.measure,
                "real": row.real,
                "predicted": row.said.value,
                "low": row.said.low,
                "high": _plain(row.said.high),
                "inside": row.is_inside,
            }
            for row in checked(found)
        ],
    }


def _run(found: UpgradeComparison, size: SizeRun, run: StrategyRun) -> dict[str, Json]:
    is_other = run.name != found.ways[0].name
    return {
        "name": run.name,
        "upgrade_instructions": run.upgrade,
        "parts": [_part(part) for part in run.parts],
        "read": _mean(run.reads),
        "write": _mean(run.writes),
        "heap_bytes": run.heap_bytes,
        "stable_bytes": run.stable_bytes,
        "break_even": _even(break_even(found, size, run.name)) if is_other else None,
        "failure": run.failure,
    }


def _part(part: PartCost) -> dict[str, Json]:
    return {
        "name": part.name,
        "instructions": part.instructions,
        "computation": part.computation,
        "stable": part.stable,
        "heap": part.heap,
        "os_pages_accessed": part.os_pages_accessed,
        "os_pages_dirty": part.os_pages_dirty,
        "heap_bytes": part.heap_bytes,
    }


def _mean(costs: tuple[int, ...]) -> Json:
    if not costs:
        return None
    mean = Mean.of(costs)
    return {
        "instructions": mean.value,
        "half_width": _plain(mean.half_width),
        "messages": mean.count,
    }


def _even(even: BreakEven | None) -> Json:
    if even is None:
        return None
    return {
        "spared_per_day": even.spared.value,
        "spared_half_width": _plain(even.spared.half_width),
        "storage_cycles_per_day": even.storage,
        "extra_per_upgrade": even.extra,
        "upgrades_per_day": _plain(even.upgrades_per_day),
        "low": _plain(even.low),
        "high": _plain(even.high),
    }


def _law(grown: GrowthLaw | None) -> Json:
    if grown is None:
        return None
    law = grown.law
    exponent = law.exponent
    return {
        "base": grown.base,
        "law": law.best.name,
        "coefficients": list(law.best.coefficients),
        "is_constant": law.is_constant,
        "exponent": exponent.value,
        "exponent_low": exponent.low,
        "exponent_high": exponent.high,
        "is_power_law": exponent.is_power_law,
    }


def _failure(failure: FirstFailure | None) -> Json:
    if failure is None:
        return None
    return {
        "cause": failure.cause,
        "limit": failure.limit,
        "unit": failure.unit,
        "size": _plain(failure.size.value),
        "size_low": failure.size.low,
        "size_high": _plain(failure.size.high),
        "database_bytes": failure.database_bytes.value,
        "database_bytes_low": failure.database_bytes.low,
        "database_bytes_high": _plain(failure.database_bytes.high),
    }


def _whole(size: float | None) -> int | None:
    return None if size is None else int(size)


def _plain(value: object) -> Json:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _rows(found: UpgradeComparison) -> Iterator[Row]:
    checks = () if found.check is None else (found.check,)
    for size in (*found.sizes, *checks):
        for run in size.runs:
            yield (
                *(found.script, found.size_name, _whole(size.size), size is found.check),
                *(size.database_bytes, run.name, run.upgrade),
                *_parts(run),
                *(run.heap_bytes, run.stable_bytes),
                *_numbers(run.reads),
                *_numbers(run.writes),
                *_rates(found, size, run),
                run.failure,
            )


def _parts(run: StrategyRun) -> Row:
    if not run.parts:
        return (None,) * 7
    by_name = {part.name: part.instructions for part in run.parts}
    return (
        by_name.get("canister_pre_upgrade", 0),
        by_name.get("canister_post_upgrade", 0),
        sum(part.computation for part in run.parts),
        sum(part.stable for part in run.parts),
        sum(part.heap for part in run.parts),
        max(part.os_pages_accessed for part in run.parts),
        max(part.os_pages_dirty for part in run.parts),
    )


def _numbers(costs: tuple[int, ...]) -> Row:
    if not costs:
        return (None, None)
    mean = Mean.of(costs)
    return (mean.value, mean.half_width if math.isfinite(mean.half_width) else None)


def _rates(found: UpgradeComparison, size: SizeRun, run: StrategyRun) -> Row:
    even = break_even(found, size, run.name) if run.name != found.ways[0].name else None
    if even is None:
        return (None,) * 3
    rates = (even.upgrades_per_day, even.low, even.high)
    return tuple(rate if math.isfinite(rate) else None for rate in rates)
