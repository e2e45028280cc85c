"""A game world: many small updates in each tick, and how locality decides what they cost.

Players are in a few regions of a large world. Each tick is one update message that moves every
entity of these regions by a step. It is charged for the OS pages it dirties, and how many these are
is decided by where the entities lie: in the order in which they were created or region by region,
in small or in large SQLite pages.

    python examples/game_world.py
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from textwrap import fill

import sqlstable

REGIONS = 100
ENTITIES = 10_000
ACTIVE_REGIONS = (12, 47, 81)
TICKS = 25
PAGE_SIZES = (1024, 4096, 16384)
BUDGET_OS_PAGES = 50

SPREAD = """
CREATE TABLE entity (
  entity_id INTEGER PRIMARY KEY, region INTEGER NOT NULL,
  x INTEGER NOT NULL, y INTEGER NOT NULL, state TEXT NOT NULL
);
CREATE INDEX entity_by_region ON entity (region);
"""

CLUSTERED = """
CREATE TABLE entity (
  entity_id INTEGER NOT NULL, region INTEGER NOT NULL,
  x INTEGER NOT NULL, y INTEGER NOT NULL, state TEXT NOT NULL,
  PRIMARY KEY (region, entity_id)
) WITHOUT ROWID;
"""

CREATE = "INSERT INTO entity (entity_id, region, x, y, state) VALUES (?, ?, ?, ?, ?)"
FIND = "SELECT entity_id, x, y FROM entity WHERE region = ?"
MOVE = "UPDATE entity SET x = ?, y = ? WHERE region = ? AND entity_id = ?"
LEAVE = """
UPDATE entity SET region = ?1 + 1
WHERE region = ?1 AND entity_id = (SELECT min(entity_id) FROM entity WHERE region = ?1)
"""
ENTER = """
UPDATE entity SET region = ?1
WHERE region = ?1 + 1 AND entity_id = (SELECT max(entity_id) FROM entity WHERE region = ?1 + 1)
"""


@dataclass(frozen=True)
class Layout:
    """Where the entities lie."""

    schema: str
    is_vacuumed: bool = False
    "Whether the database is rewritten in the order of its keys before the game begins."


LAYOUTS = {
    "spread": Layout(SPREAD),
    "clustered": Layout(CLUSTERED),
    "clustered, vacuumed": Layout(CLUSTERED, is_vacuumed=True),
}


@dataclass(frozen=True)
class World:
    """What the ticks of one world cost."""

    entities_moved: float
    "By the median tick."
    os_pages_dirty: float
    "By the median tick."
    os_pages_dirty_max: int
    "By the costliest tick."
    bytes_written: float
    "By the median tick."
    os_pages_only_read: int
    "OS pages accessed and not dirtied, by all ticks together."
    os_pages_only_read_upgraded: int
    "The same by the first tick after an upgrade."
    database_os_pages: int


@dataclass(frozen=True)
class Game:
    """All numbers of the story."""

    worlds: dict[tuple[str, int], World]
    "By name of the layout and page size."
    os_pages_dirty_limit: int
    "How many OS pages an update message may dirty."
    limits_date: str
    traps: dict[str, str | None]
    "What a tick with a budget traps with, by name of the layout; None where it fits."


def scattered(number: int, size: int) -> int:
    """Return a whole number below ``size`` that looks random, the same in every run."""
    return number * 2_654_435_761 % 2**32 * size // 2**32


def entity(number: int) -> tuple[int, int, int, int, str]:
    """Return the row of an entity, in a region of its own choice."""
    state = f"entity {number} walks about with a lantern and an old map"
    return number, scattered(number, REGIONS), number % 1000, number % 700, state


def open_world(layout: Layout, page_size: int) -> sqlstable.Canister:
    """Return a canister with all entities, created in the order of their numbers."""
    canister = sqlstable.Canister(page_size=page_size)
    canister.update(layout.schema)
    with canister.message(label="create") as message:
        message.execute("BEGIN")
        message.executemany(CREATE, [entity(number) for number in range(1, ENTITIES + 1)])
        message.execute("COMMIT")
    if layout.is_vacuumed:
        canister.update("VACUUM")
    return canister


def tick(canister: sqlstable.Canister) -> tuple[int, sqlstable.Reply]:
    """Move all entities of the active regions, one of which leaves while another one enters.

    Returns:
        How many entities moved, and the reply of the message.
    """
    count = 0
    with canister.message(label="tick") as message:
        message.execute("BEGIN")
        for region in ACTIVE_REGIONS:
            found = message.execute(FIND, (region,))
            steps = [(x + 1, y + 1, region, entity_id) for entity_id, x, y in found]
            message.executemany(MOVE, steps)
            message.execute(LEAVE, (region,))
            message.execute(ENTER, (region,))
            count += len(found)
        message.execute("COMMIT")
    return count, message.reply


def only_read(reply: sqlstable.Reply) -> int:
    """Return how many OS pages a message read and did not write."""
    return reply.footprint.os_pages_accessed - reply.footprint.os_pages_dirty


def measure_world(layout: Layout, page_size: int) -> World:
    """Run a world for some ticks."""
    with open_world(layout, page_size) as canister:
        ticks = [tick(canister) for _ in range(TICKS)]
        canister.upgrade()
        _, upgraded = tick(canister)
        database_size_bytes = canister.status().database_size_bytes
    replies = [reply for _, reply in ticks]
    dirty = [reply.footprint.os_pages_dirty for reply in replies]
    return World(
        entities_moved=median(count for count, _ in ticks),
        os_pages_dirty=median(dirty),
        os_pages_dirty_max=max(dirty),
        bytes_written=median(reply.footprint.bytes_written for reply in replies),
        os_pages_only_read=sum(map(only_read, replies)),
        os_pages_only_read_upgraded=only_read(upgraded),
        database_os_pages=database_size_bytes // 4096,
    )


def measure_budget(layout: Layout) -> str | None:
    """Return what a tick traps with that may dirty few OS pages, or None where it fits."""
    limits = sqlstable.latest_limits()
    budget = replace(limits, update=replace(limits.update, os_pages_dirty_max=BUDGET_OS_PAGES))
    with open_world(layout, page_size=4096) as canister:
        image = canister.image()
    memory = sqlstable.StableMemory.from_image(image, limits=budget)
    with sqlstable.Canister(memory=memory) as canister:
        try:
            tick(canister)
        except sqlstable.LimitTrap as trap:
            return str(trap)
    return None


def measure() -> Game:
    """Run all worlds, and return their numbers."""
    limits = sqlstable.latest_limits()
    return Game(
        worlds={
            (name, page_size): measure_world(layout, page_size)
            for name, layout in LAYOUTS.items()
            for page_size in PAGE_SIZES
        },
        os_pages_dirty_limit=limits.update.os_pages_dirty_max,
        limits_date=limits.date.isoformat(),
        traps={name: measure_budget(LAYOUTS[name]) for name in ("spread", "clustered")},
    )


def table(game: Game, number: Callable[[World], float]) -> str:
    """Spell one number of all worlds: a row for each layout, a column for each page size."""
    rows = [f"  {'':22}" + "".join(f"{page_size:10,} B" for page_size in PAGE_SIZES)]
    for name in LAYOUTS:
        cells = (number(game.worlds[name, page_size]) for page_size in PAGE_SIZES)
        rows.append(f"  {name:22}" + "".join(f"{cell:10,.0f}  " for cell in cells).rstrip())
    return "\n".join(rows)


def story(game: Game) -> str:
    """Tell what was measured."""
    spread, clustered = (game.worlds[name, 4096] for name in ("spread", "clustered"))
    most = max(world.os_pages_dirty_max for world in game.worlds.values())
    budget = "\n".join(
        fill(f"{name}: {trap or 'fits'}", 96, initial_indent="  ", subsequent_indent="    ")
        for name, trap in game.traps.items()
    )
    return f"""\
A tick moves {spread.entities_moved:.0f} of {ENTITIES:,} entities, those of {len(ACTIVE_REGIONS)} \
regions out of {REGIONS}.

1. OS pages dirty in a tick, by the size of SQLite pages

{table(game, lambda world: world.os_pages_dirty)}

  Spread, {spread.entities_moved:.0f} entities dirty {spread.os_pages_dirty:.0f} of the \
{spread.database_os_pages} OS pages of the database; clustered by region
  they share. VACUUM puts the SQLite pages of a region side by side, which helps where they are
  small and many.

2. KiB written in a tick

{table(game, lambda world: world.bytes_written / 1024)}

  SQLite writes whole SQLite pages: where rows lie apart, large ones move much for little.

3. What it adds up to, with SQLite pages of 4,096 B

  an hour of ticks, one a second: {3600 * spread.os_pages_dirty:,.0f} OS pages dirty when spread, \
{3600 * clustered.os_pages_dirty:,.0f} when clustered
  the limit of one message: {game.os_pages_dirty_limit:,} OS pages dirty ({game.limits_date}); \
the costliest tick: {most}
  OS pages only read: {clustered.os_pages_only_read} in {TICKS} ticks, for the heap caches them; \
{clustered.os_pages_only_read_upgraded} in the first tick after an upgrade

4. The same tick with a budget of {BUDGET_OS_PAGES} OS pages dirty for a message

{budget}
"""


def main() -> Game:
    """Measure, tell, and return the numbers."""
    game = measure()
    print(story(game), end="")
    return game


if __name__ == "__main__":
    main()
