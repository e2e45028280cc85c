"""At which size a full scan no longer fits into a query.

Two sizes give what a row costs, and from that the size is predicted; `scan_fits` tries one.
"""

from dataclasses import dataclass
from typing import Final

from sqlstable.canister.canister import Canister
from sqlstable.errors import LimitTrap
from sqlstable.ic.limits import latest_limits
from sqlstable.ic.words import INSTRUCTIONS

SIZES: Final = (10_000, 20_000)
"""Rows of about sixty bytes that are measured."""

SCANS: Final = {
    "LIKE '%9999%'": "SELECT count(*) FROM track WHERE title LIKE '%9999%'",
    "a comparison": "SELECT count(*) FROM track WHERE serial < 500",
}
"""What each row is asked."""

_LOAD_ROWS: Final = 50_000


@dataclass(frozen=True, slots=True)
class ScanReach:
    """How far a scan goes."""

    scan: str
    instructions_per_row: float
    rows_max: int
    "Predicted: more do not fit into the instructions of a query."


def scan_reach(scan: str, *, build: str = "standard") -> ScanReach:
    """Predict at how many rows a scan leaves the limit of a query.

    Args:
        scan: One of `SCANS`.
        build: Of the wasm engine.

    Examples:
        >>> scan_reach("a comparison").rows_max > 1_000_000
        True
    """
    first, second = SIZES
    with _loaded(first, build) as canister:
        low = _instructions(canister, scan)
        _load(canister, first, second)
        high = _instructions(canister, scan)
    per_row = (high - low) / (second - first)
    limit = latest_limits().query.instructions_max
    return ScanReach(scan, per_row, int(first + (limit - low) / per_row))


def scan_fits(scan: str, rows: int, *, build: str = "standard") -> bool:
    """Run a scan over so many rows, and say whether it fits into a query."""
    with _loaded(rows, build) as canister:
        try:
            canister.query(SCANS[scan])
        except LimitTrap as trap:
            if trap.limit != INSTRUCTIONS:
                raise
            return False
    return True


def _loaded(rows: int, build: str) -> Canister:
    canister = Canister(engine="wasm", build=build)
    canister.update("CREATE TABLE track (id INTEGER PRIMARY KEY, serial INTEGER, title TEXT)")
    _load(canister, 0, rows)
    return canister


def _load(canister: Canister, start: int, stop: int) -> None:
    for first in range(start, stop, _LOAD_ROWS):
        last = min(first + _LOAD_ROWS, stop) - 1
        canister.update(
            "WITH RECURSIVE n (i) AS (VALUES (?) UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "INSERT INTO track SELECT i, i * 7919 % 1000003, "
            "'track ' || i || ' ' || printf('%.*c', 50, 'x') FROM n",
            (first, last),
        )


def _instructions(canister: Canister, scan: str) -> int:
    counted = canister.query(SCANS[scan]).message.instructions
    assert counted is not None
    return counted.total
