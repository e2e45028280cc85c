"""The workload of the demo: a small shop, its questions, and a proof that an upgrade keeps it.

Everything is drawn from one seeded generator, so that each run has the same rows, the same
answers and the same OS pages.
"""

import datetime as dt
import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlstable.canister.canister import Canister

SEED: Final = 2021
"""The year of the question that the demo answers."""

CUSTOMER_COUNT: Final = 2_000
PRODUCT_COUNT: Final = 400
PURCHASE_COUNT: Final = 8_000
LINES_PER_PURCHASE_MAX: Final = 5
DAYS: Final = 365
NEW_YEAR: Final = dt.date(2025, 1, 1)

Row = tuple[Any, ...]

SCHEMA: Final = """\
CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT,
                       street TEXT, city TEXT);
CREATE TABLE product  (id INTEGER PRIMARY KEY, name TEXT, category TEXT,
                       cents INTEGER, stock INTEGER);
CREATE TABLE purchase (id INTEGER PRIMARY KEY,
                       customer INTEGER REFERENCES customer,
                       day TEXT, note TEXT);
CREATE TABLE line     (purchase INTEGER REFERENCES purchase,
                       product INTEGER REFERENCES product, quantity INTEGER);"""

INSERTS: Final = {
    "customer": "INSERT INTO customer VALUES (?, ?, ?, ?)",
    "product": "INSERT INTO product VALUES (?, ?, ?, ?, ?)",
    "purchase": "INSERT INTO purchase VALUES (?, ?, ?, ?)",
    "line": "INSERT INTO line VALUES (?, ?, ?)",
}

POINT_READ: Final = "SELECT name, street, city FROM customer WHERE id = 421"

RANGE: Final = """\
SELECT count(*) AS purchases, min(day) AS first, max(day) AS last
FROM purchase WHERE id BETWEEN 2001 AND 2100"""

JOIN: Final = """\
SELECT name, purchase.id AS purchase, day
FROM customer JOIN purchase ON purchase.customer = customer.id
WHERE customer.id = 421 ORDER BY day"""

COMPLICATED: Final = """\
WITH spent AS (
  SELECT category, sum(quantity) AS items, sum(quantity * cents) AS cents
  FROM purchase
  JOIN line ON line.purchase = purchase.id
  JOIN product ON product.id = line.product
  WHERE purchase.customer = 421
  GROUP BY category
)
SELECT rank() OVER (ORDER BY cents DESC) AS place, category, items,
       cents / 100.0 AS euros,
       100 * cents / (SELECT sum(cents) FROM spent) AS percent
FROM spent ORDER BY place, category LIMIT 3"""

INDEXES: Final = """\
CREATE INDEX purchase_customer ON purchase (customer);
CREATE INDEX line_purchase ON line (purchase);"""

NEW_PURCHASE: Final = """\
BEGIN;
INSERT INTO purchase VALUES (8001, 421, '2025-12-31', 'gift');
INSERT INTO line VALUES (8001, 17, 2), (8001, 204, 1);
UPDATE product SET stock = stock - 1 WHERE id IN (17, 204);
COMMIT;"""

QUESTIONS: Final = (POINT_READ, RANGE, JOIN, COMPLICATED)
"""What is asked before the upgrade, and again behind it."""

_FIRST_NAMES: Final = (
    *("Ada", "Alan", "Amina", "Anton", "Chen", "Dana", "Elif", "Femi", "Grace", "Hana", "Ines"),
    *("Ivo", "Jorge", "Kofi", "Lena", "Malik", "Noor", "Olga", "Pavel", "Rosa", "Sven", "Yuki"),
)
_LAST_NAMES: Final = (
    *("Almeida", "Bauer", "Costa", "Diallo", "Eriksen", "Fischer", "Garcia", "Haddad", "Ito"),
    *("Jansen", "Kovac", "Lindt", "Moreau", "Nguyen", "Okafor", "Petrov", "Rossi", "Silva"),
)
_STREETS: Final = ("Canal Street", "Harbour Road", "Long Lane", "Mill Hill", "Station Square")
_CITIES: Final = ("Berlin", "Dakar", "Lisbon", "Lima", "Oslo", "Osaka", "Zurich")
_CATEGORIES: Final = ("books", "coffee", "garden", "music", "paper", "toys")
_NOTES: Final = (None, None, None, "gift", "ring twice", "leave with the neighbour, please")


def shop_rows(seed: int = SEED) -> dict[str, list[Row]]:
    """Return the shop's rows by table, the same ones for the same seed.

    Examples:
        >>> rows = shop_rows()
        >>> {table: len(found) for table, found in rows.items()}
        {'customer': 2000, 'product': 400, 'purchase': 8000, 'line': 24266}
    """
    draw = random.Random(seed)  # noqa: S311  no secret
    return {
        "customer": list(_customers(draw)),
        "product": list(_products(draw)),
        "purchase": list(_purchases(draw)),
        "line": list(_lines(draw)),
    }


def _customers(draw: random.Random) -> Iterator[Row]:
    for number in range(1, CUSTOMER_COUNT + 1):
        name = f"{draw.choice(_FIRST_NAMES)} {draw.choice(_LAST_NAMES)}"
        street = f"{draw.randint(1, 199)} {draw.choice(_STREETS)}"
        yield number, name, street, draw.choice(_CITIES)


def _products(draw: random.Random) -> Iterator[Row]:
    for number in range(1, PRODUCT_COUNT + 1):
        category = draw.choice(_CATEGORIES)
        cents = draw.randrange(100, 10_000, 5)
        yield number, f"{category} {number:03}", category, cents, draw.randrange(20, 200)


def _purchases(draw: random.Random) -> Iterator[Row]:
    for number in range(1, PURCHASE_COUNT + 1):
        day = NEW_YEAR + dt.timedelta(days=DAYS * number // (PURCHASE_COUNT + 1))
        yield number, draw.randint(1, CUSTOMER_COUNT), day.isoformat(), draw.choice(_NOTES)


def _lines(draw: random.Random) -> Iterator[Row]:
    for purchase in range(1, PURCHASE_COUNT + 1):
        for _ in range(draw.randint(1, LINES_PER_PURCHASE_MAX)):
            yield purchase, draw.randint(1, PRODUCT_COUNT), draw.randint(1, 3)


# -- what must survive ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Evidence:
    """What can be said of a database from outside; equal before and after an upgrade."""

    answers: tuple[tuple[Row, ...], ...]
    "Rows of each of the questions."
    answers_sha256: str
    integrity: str
    "What ``PRAGMA integrity_check`` says; ``ok`` where nothing is wrong."
    database_sha256: str
    "Of the database, extracted as a plain SQLite file."
    database_size_bytes: int


def take_proof(canister: Canister, folder: Path, questions: Sequence[str] = QUESTIONS) -> Evidence:
    """Ask all questions, check the database, and extract it.

    Args:
        canister: It is only asked.
        folder: Where the extracted database may lie meanwhile.
        questions: Queries with a fixed order of rows.
    """
    answers = tuple(tuple(canister.query(sql, label="snapshot").rows) for sql in questions)
    integrity = canister.query("PRAGMA integrity_check", label="snapshot").rows
    path = folder / "extracted.db"
    canister.extract_database(path, overwrite=True)
    database = path.read_bytes()
    return Evidence(
        answers=answers,
        answers_sha256=hashlib.sha256(repr(answers).encode()).hexdigest(),
        integrity=", ".join(str(row[0]) for row in integrity),
        database_sha256=hashlib.sha256(database).hexdigest(),
        database_size_bytes=len(database),
    )
