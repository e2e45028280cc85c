"""A music shop: how many OS pages a simple join touches, and what an index changes.

The question that everybody asks who thinks of SQLite in stable memory. The shop sells tracks of
albums of artists. A join by keys touches a handful of OS pages, however many tracks there are; a
join without an index reads whole tables; and the index that cures it has a price of its own, the
OS pages that each sale dirties from then on.

    python examples/music_shop.py
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from textwrap import fill

import sqlstable

ARTISTS = 200
ALBUMS = 800
TRACKS = 8_000
CUSTOMERS = 500
INVOICES = 5_000
LINES_PER_INVOICE = 3
SALES = 20
CUSTOMER = 42
SCALES = (1, 10)

SCHEMA = """
CREATE TABLE artist (artist_id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE album (
  album_id INTEGER PRIMARY KEY, artist_id INTEGER NOT NULL REFERENCES artist, title TEXT NOT NULL
);
CREATE TABLE track (
  track_id INTEGER PRIMARY KEY, album_id INTEGER NOT NULL REFERENCES album,
  title TEXT NOT NULL, composer TEXT NOT NULL, milliseconds INTEGER NOT NULL, cents INTEGER NOT NULL
);
CREATE TABLE invoice (
  invoice_id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL, day TEXT NOT NULL
);
CREATE TABLE invoice_line (
  line_id INTEGER PRIMARY KEY, invoice_id INTEGER NOT NULL REFERENCES invoice,
  track_id INTEGER NOT NULL REFERENCES track, cents INTEGER NOT NULL
);
"""

TRACK_JOIN = """
SELECT track.title, album.title, artist.name
FROM track JOIN album USING (album_id) JOIN artist USING (artist_id)
WHERE track_id = ?
"""

CUSTOMER_JOIN = """
SELECT day, track.title, invoice_line.cents
FROM invoice JOIN invoice_line USING (invoice_id) JOIN track USING (track_id)
WHERE customer_id = ?
"""

INDEXES = """
CREATE INDEX invoice_by_customer ON invoice (customer_id);
CREATE INDEX line_by_invoice ON invoice_line (invoice_id);
"""

Row = tuple[object, ...]


@dataclass(frozen=True)
class Look:
    """What one query showed."""

    rows: int
    os_pages: int
    "OS pages accessed."
    owners: dict[str, int]
    "OS pages accessed by table or index, most first."
    plan: tuple[str, ...]


@dataclass(frozen=True)
class Catalogue:
    """One join by keys, in a shop of some size."""

    tracks: int
    os_pages: int
    "OS pages of the whole database."
    join: dict[str, Look]
    "By the state of the heap: fresh, cold, warm."


@dataclass(frozen=True)
class Sales:
    """What one customer bought, without and with indexes, and what they cost."""

    lines: int
    os_pages: int
    "OS pages of the whole database, without the indexes."
    before: Look
    after: Look
    os_pages_dirty_indexing: int
    "OS pages that creating the indexes dirtied."
    os_pages_dirty_before: float
    "OS pages that a sale dirties on average, without the indexes."
    os_pages_dirty_after: float


@dataclass(frozen=True)
class Shop:
    """All numbers of the story."""

    catalogues: tuple[Catalogue, ...]
    sales: Sales


def scattered(number: int, size: int) -> int:
    """Return a whole number below ``size`` that looks random, the same in every run."""
    return number * 2_654_435_761 % 2**32 * size // 2**32


def catalogue_rows(scale: int) -> Iterator[tuple[str, list[Row]]]:
    """Yield artists, albums and tracks: the name of each table, and its rows."""
    artists, albums, tracks = ARTISTS * scale, ALBUMS * scale, TRACKS * scale
    yield "artist", [(n, f"Artist {n}") for n in range(1, artists + 1)]
    yield "album", [(n, 1 + scattered(n, artists), f"Album {n}") for n in range(1, albums + 1)]
    yield (
        "track",
        [
            (
                n,
                1 + (n - 1) * albums // tracks,
                f"Track {n} with a title of the usual length",
                f"Composer {scattered(n, 999)} and the band",
                120_000 + scattered(n, 240_000),
                99,
            )
            for n in range(1, tracks + 1)
        ],
    )


def invoice(number: int) -> Row:
    """Return the row of an invoice; they come in the order of the year."""
    day = date(2026, 1, 1) + timedelta(days=number * 365 // INVOICES)
    return number, 1 + scattered(number, CUSTOMERS), day.isoformat()


def invoice_lines(number: int) -> list[Row]:
    """Return the rows of an invoice's lines."""
    first = (number - 1) * LINES_PER_INVOICE + 1
    lines = range(first, first + LINES_PER_INVOICE)
    return [(line, number, 1 + scattered(line, TRACKS), 99) for line in lines]


def insert(message: sqlstable.Message, table: str, rows: list[Row]) -> None:
    """Insert whole rows."""
    values = ", ".join("?" * len(rows[0]))
    message.executemany(f"INSERT INTO {table} VALUES ({values})", rows)  # noqa: S608  our own names


def open_shop(scale: int) -> sqlstable.Canister:
    """Return a canister with the catalogue."""
    canister = sqlstable.Canister(owners=True)
    canister.update(SCHEMA)
    with canister.message(label="catalogue") as message:
        message.execute("BEGIN")
        for table, rows in catalogue_rows(scale):
            insert(message, table, rows)
        message.execute("COMMIT")
    return canister


def sell(canister: sqlstable.Canister, first: int, count: int) -> float:
    """Make sales, each a message, and return the OS pages that one dirties on average."""
    dirty = 0
    for number in range(first, first + count):
        with canister.message(label="sale") as message:
            message.execute("BEGIN")
            insert(message, "invoice", [invoice(number)])
            insert(message, "invoice_line", invoice_lines(number))
            message.execute("COMMIT")
        dirty += message.reply.footprint.os_pages_dirty
    return dirty / count


def database_os_pages(canister: sqlstable.Canister) -> int:
    """Return how many OS pages the database fills."""
    return canister.status().database_size_bytes // 4096


def look(reply: sqlstable.Reply) -> Look:
    """Return what a query of one statement showed."""
    (statement,) = reply.statements
    owners: dict[str, int] = {}
    for use in statement.owners:
        owners[use.name] = owners.get(use.name, 0) + use.os_pages_accessed
    return Look(len(reply.rows), reply.footprint.os_pages_accessed, owners, statement.plan)


def measure_catalogue(scale: int) -> Catalogue:
    """Join one track with its album and its artist."""
    with open_shop(scale) as canister:
        track = (TRACKS * scale // 2,)
        join = {
            "fresh": look(canister.query(TRACK_JOIN, track, cache="fresh")),
            "cold": look(canister.query(TRACK_JOIN, track, cache="cold")),
        }
        canister.query(TRACK_JOIN, track, cache="warm")
        join["warm"] = look(canister.query(TRACK_JOIN, track, cache="warm"))
        return Catalogue(TRACKS * scale, database_os_pages(canister), join)


def measure_sales() -> Sales:
    """Ask what one customer bought, before and after indexing."""
    with open_shop(scale=1) as canister:
        with canister.message(label="a year of sales") as message:
            message.execute("BEGIN")
            invoices = range(1, INVOICES + 1)
            insert(message, "invoice", [invoice(number) for number in invoices])
            lines = [line for number in invoices for line in invoice_lines(number)]
            insert(message, "invoice_line", lines)
            message.execute("COMMIT")
        os_pages = database_os_pages(canister)
        before = look(canister.query(CUSTOMER_JOIN, (CUSTOMER,)))
        dirty_before = sell(canister, INVOICES + 1, SALES)
        dirty_indexing = canister.update(INDEXES).footprint.os_pages_dirty
        after = look(canister.query(CUSTOMER_JOIN, (CUSTOMER,)))
        dirty_after = sell(canister, INVOICES + SALES + 1, SALES)
    return Sales(
        lines=len(lines),
        os_pages=os_pages,
        before=before,
        after=after,
        os_pages_dirty_indexing=dirty_indexing,
        os_pages_dirty_before=dirty_before,
        os_pages_dirty_after=dirty_after,
    )


def measure() -> Shop:
    """Run the shop, and return its numbers."""
    return Shop(tuple(measure_catalogue(scale) for scale in SCALES), measure_sales())


def describe(look: Look) -> str:
    """Spell whose OS pages a query accessed, and how."""
    owners = ", ".join(f"{name} {count}" for name, count in look.owners.items())
    plan = "\n".join(f"  plan: {step}" for step in look.plan)
    return f"{fill(f'  whose: {owners}', 96, subsequent_indent='         ')}\n{plan}"


def catalogue_line(catalogue: Catalogue) -> str:
    """Spell one row of the first table."""
    fresh, cold, warm = (catalogue.join[cache].os_pages for cache in ("fresh", "cold", "warm"))
    return f"  {catalogue.tracks:8,}{catalogue.os_pages:27,}{fresh:22,}{cold:7,}{warm:7,}"


def story(shop: Shop) -> str:
    """Tell what was measured."""
    sales, before, after = shop.sales, shop.sales.before, shop.sales.after
    table = "\n".join(catalogue_line(catalogue) for catalogue in shop.catalogues)
    return f"""\
1. One track with its album and its artist: a join by keys

    tracks   OS pages of the database   accessed when fresh   cold   warm
{table}

  cold, the larger shop:
{describe(shop.catalogues[-1].join["cold"])}

2. What customer {CUSTOMER} bought: a join of {sales.lines:,} invoice lines, cold

  without an index: {before.os_pages} of {sales.os_pages} OS pages for {before.rows} rows
{describe(before)}

  with two indexes: {after.os_pages} OS pages for {after.rows} rows
{describe(after)}

3. The price of the indexes, in OS pages dirty

  creating them: {sales.os_pages_dirty_indexing}
  each sale: {sales.os_pages_dirty_before:.1f} without, {sales.os_pages_dirty_after:.1f} with them

An index finds rows; it does not bring them together: the {after.rows // LINES_PER_INVOICE} \
invoices of this customer
are spread over the year, each on OS pages of its own.
"""


def main() -> Shop:
    """Measure, tell, and return the numbers."""
    shop = measure()
    print(story(shop), end="")
    return shop


if __name__ == "__main__":
    main()
