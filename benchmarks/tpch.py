"""TPC-H: eight linked tables of a wholesale supplier, and its 22 queries in SQLite's form.

``tpchgen-cli`` makes the data. The queries are in standard SQL in the folder of public data; what
SQLite writes differently is rewritten by `REWRITES`:

* SQLite has no DATE type: ISO dates are text, which compares as dates do. ``CAST(x AS DATE)``
  would make numbers of them, so the casts go.
* ``date '1998-12-01' - interval '90' day`` is ``date('1998-12-01', '-90 day')``.
* ``extract(year from x)`` is ``CAST(strftime('%Y', x) AS INTEGER)``.
* The bounds of query 6, 0.06 - 0.01 and 0.06 + 0.01, are written out: in binary floating point the
  sum is not 0.07, and rows at the border would be lost.
* A derived table cannot name its columns behind its alias, as query 13 does.
"""

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.datasets import Dataset, MissingDataError, Row

SCALE: Final = 0.1
QUERY_COUNT: Final = 22

TABLES: Final = {
    "region": "CREATE TABLE region (r_regionkey INTEGER PRIMARY KEY, r_name TEXT, r_comment TEXT)",
    "nation": (
        "CREATE TABLE nation (n_nationkey INTEGER PRIMARY KEY, n_name TEXT, "
        "n_regionkey INTEGER REFERENCES region, n_comment TEXT)"
    ),
    "part": (
        "CREATE TABLE part (p_partkey INTEGER PRIMARY KEY, p_name TEXT, p_mfgr TEXT, "
        "p_brand TEXT, p_type TEXT, p_size INTEGER, p_container TEXT, p_retailprice REAL, "
        "p_comment TEXT)"
    ),
    "supplier": (
        "CREATE TABLE supplier (s_suppkey INTEGER PRIMARY KEY, s_name TEXT, s_address TEXT, "
        "s_nationkey INTEGER REFERENCES nation, s_phone TEXT, s_acctbal REAL, s_comment TEXT)"
    ),
    "partsupp": (
        "CREATE TABLE partsupp (ps_partkey INTEGER REFERENCES part, "
        "ps_suppkey INTEGER REFERENCES supplier, ps_availqty INTEGER, ps_supplycost REAL, "
        "ps_comment TEXT, PRIMARY KEY (ps_partkey, ps_suppkey))"
    ),
    "customer": (
        "CREATE TABLE customer (c_custkey INTEGER PRIMARY KEY, c_name TEXT, c_address TEXT, "
        "c_nationkey INTEGER REFERENCES nation, c_phone TEXT, c_acctbal REAL, "
        "c_mktsegment TEXT, c_comment TEXT)"
    ),
    "orders": (
        "CREATE TABLE orders (o_orderkey INTEGER PRIMARY KEY, "
        "o_custkey INTEGER REFERENCES customer, o_orderstatus TEXT, o_totalprice REAL, "
        "o_orderdate TEXT, o_orderpriority TEXT, o_clerk TEXT, o_shippriority INTEGER, "
        "o_comment TEXT)"
    ),
    "lineitem": (
        "CREATE TABLE lineitem (l_orderkey INTEGER REFERENCES orders, "
        "l_partkey INTEGER REFERENCES part, l_suppkey INTEGER REFERENCES supplier, "
        "l_linenumber INTEGER, l_quantity REAL, l_extendedprice REAL, l_discount REAL, "
        "l_tax REAL, l_returnflag TEXT, l_linestatus TEXT, l_shipdate TEXT, l_commitdate TEXT, "
        "l_receiptdate TEXT, l_shipinstruct TEXT, l_shipmode TEXT, l_comment TEXT, "
        "PRIMARY KEY (l_orderkey, l_linenumber))"
    ),
}

INDEXES: Final = (
    "CREATE INDEX partsupp_supplier ON partsupp (ps_suppkey)",
    "CREATE INDEX customer_nation ON customer (c_nationkey)",
    "CREATE INDEX orders_customer ON orders (o_custkey)",
    "CREATE INDEX orders_date ON orders (o_orderdate)",
    "CREATE INDEX lineitem_part_supplier ON lineitem (l_partkey, l_suppkey)",
    "CREATE INDEX lineitem_shipdate ON lineitem (l_shipdate)",
    "ANALYZE",
)

REWRITES: Final = (
    (r"cast\s*\(\s*(\w+)\s+as\s+(?:date|string)\s*\)", r"\1"),
    (
        r"date\s+'([\d-]+)'\s*([+-])\s*interval\s+'(\d+)'\s+(day|month|year)",
        r"date('\1', '\2\3 \4')",
    ),
    (r"\bdate\s+'([\d-]+)'", r"'\1'"),
    (r"extract\s*\(\s*year\s+from\s+(\w+)\s*\)", r"CAST(strftime('%Y', \1) AS INTEGER)"),
    (r"0\.06 - 0\.01 and 0\.06 \+ 0\.01", r"0.05 and 0.07"),
    (r"count\(o_orderkey\)", r"count(o_orderkey) AS c_count"),
    (r"c_orders \(c_custkey, c_count\)", r"c_orders"),
)

_TITLE: Final = re.compile(r"^-- TPC-H (\d+)$", re.MULTILINE)


def sqlite_form(sql: str) -> str:
    """Return a query of TPC-H as SQLite understands it.

    Examples:
        >>> sqlite_form("CAST(o_orderdate AS DATE) < date '1993-07-01' + interval '3' month")
        "o_orderdate < date('1993-07-01', '+3 month')"
    """
    for pattern, replacement in REWRITES:
        sql = re.sub(pattern, replacement, sql, flags=re.IGNORECASE)
    return sql


def tpch_queries(folder: Path) -> dict[str, str]:
    """Return the 22 queries by name, in SQLite's form.

    Args:
        folder: The folder of public data.

    Raises:
        MissingDataError: They are not there.
    """
    path = folder / "tpch" / "queries.sql"
    if not path.is_file():
        msg = f"{path} is missing; set SQLSTABLE_DATA to the folder of public data"
        raise MissingDataError(msg)
    _, *parts = _TITLE.split(path.read_text(encoding="utf-8"))
    numbers, texts = parts[::2], parts[1::2]
    return {
        f"TPC-H {number}": sqlite_form(text.strip().rstrip(";"))
        for number, text in zip(numbers, texts, strict=True)
    }


def tpch(data: Path, folder: Path, scale: float = SCALE) -> Dataset:
    """Generate the tables into ``folder`` and return the data set.

    Args:
        data: The folder of public data, with the queries.
        folder: Where the generated files go.
        scale: In GB of text, as TPC-H counts.

    Raises:
        MissingDataError: The generator or the queries are not there.
    """
    queries = tpch_queries(data)
    program = _generator()
    subprocess.run(
        [program, "csv", "-s", str(scale), f"--output-dir={folder}"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    name = f"TPC-H, scale {scale}"
    return Dataset(name, TABLES, lambda table: _rows(folder, table), INDEXES, queries)


def data_folder() -> Path:
    """Return the folder of public data: ``SQLSTABLE_DATA``, or ``../shared/data``."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    return Path(os.environ.get("SQLSTABLE_DATA", beside))


def _generator() -> str:
    # Beside the interpreter first: a virtual environment need not be activated.
    program = shutil.which("tpchgen-cli", path=str(Path(sys.executable).parent))
    program = program or shutil.which("tpchgen-cli")
    if program is None:
        msg = "the program tpchgen-cli is not installed; run: pip install 'sqlstable[bench]'"
        raise MissingDataError(msg)
    return program


def _rows(folder: Path, table: str) -> Iterator[Row]:
    with (folder / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        next(reader)
        yield from reader
