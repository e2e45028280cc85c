"""A long run: does the file grow, and does access get slower, as rows come and go?

Ten thousand messages each insert a few rows and delete a few others, picked at random. Rows swell
and shrink in waves, so that the file has free SQLite pages half of the time. The same messages run
with each setting of auto_vacuum: none keeps free SQLite pages for the next rows, incremental cuts
some off now and then, full cuts all off with each commit.

    python examples/long_run.py
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean

import sqlstable

MESSAGES = 10_000
LOOKED_AT = 10
"Of so many messages one is looked at, which is quicker and shows the same."
WAVE = 500
"Messages in which rows swell, and again in which they shrink."
ROWS = 1500
"At the beginning, and about as many at the end of each wave."
WINDOWS = 10
STEP_SQLITE_PAGES = 20
"That a step of incremental vacuum cuts off, once in a tenth of a wave."
SEED = 1
COLUMNS = {
    "file first": 12,
    "most": 8,
    "last": 8,
    "free": 8,
    "stable memory": 15,
    "OS pages": 10,
    "instructions": 14,
}
"How wide they are; sizes are in KiB."
SPARK = "▁▂▃▄▅▆▇█"

SCHEMA = """
CREATE TABLE event (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, body TEXT NOT NULL);
CREATE INDEX event_by_at ON event (at);
"""
INSERT = "INSERT INTO event VALUES (?, ?, ?)"
DELETE = "DELETE FROM event WHERE id = ?"


@dataclass(frozen=True)
class Mode:
    """What the run came to with one setting of auto_vacuum."""

    file_bytes: list[int]
    "Of the database, after each message that was looked at."
    stable_bytes: list[int]
    "Of stable memory, likewise."
    os_pages: list[int]
    "That each of these messages accessed."
    instructions: list[int]
    "Likewise."
    steps: list[int]
    "OS pages that each step of incremental vacuum accessed."
    free_bytes: int
    "Of free SQLite pages at the end."
    rows: tuple[int, int]
    "That should be there at the end, and that are."
    integrity_check: str
    os_page_exponent: sqlstable.Exponent
    "By which OS pages of a message grow with the messages before it."
    work_exponent: sqlstable.Exponent
    "Likewise of instructions."


class Rows:
    """The rows that are there, and what comes and goes: the same in every run."""

    def __init__(self) -> None:
        self.random = random.Random(SEED)  # noqa: S311  what is random has to be the same again
        self.live: list[int] = []
        self.next_id = 0

    def coming(self, count: int) -> list[tuple[int, int, str]]:
        """Return new rows."""
        made = []
        for row_id in range(self.next_id, self.next_id + count):
            body = self.random.randbytes(self.random.randrange(20, 200)).hex()
            made.append((row_id, self.random.randrange(1_000_000), body))
            self.live.append(row_id)
        self.next_id += count
        return made

    def going(self, count: int) -> list[tuple[int]]:
        """Return keys of rows that were there, picked at random."""
        return [(self.live.pop(self.random.randrange(len(self.live))),) for _ in range(count)]


def send(canister: sqlstable.Canister, rows: Rows, number: int) -> sqlstable.Reply:
    """Send one message: a few rows come, a few go; of one kind more, as the wave wants it."""
    is_swelling = number % (2 * WAVE) < WAVE
    few, more = rows.random.randrange(1, 4), rows.random.randrange(2, 5)
    with canister.message() as message:
        message.execute("BEGIN")
        message.executemany(DELETE, rows.going(few if is_swelling else more))
        message.executemany(INSERT, rows.coming(more if is_swelling else few))
        message.execute("COMMIT")
    return message.reply


def measure_mode(auto_vacuum: str) -> Mode:
    """Run all messages with one setting of auto_vacuum."""
    rows = Rows()
    file_bytes, looked_at, steps = [], [], []
    with sqlstable.Canister(engine="wasm") as canister:
        canister.update(f"PRAGMA auto_vacuum = {auto_vacuum}")
        canister.update(SCHEMA)
        with canister.message() as message:
            message.executemany(INSERT, rows.coming(ROWS))
        for number in range(MESSAGES):
            reply = send(canister, rows, number)
            if auto_vacuum == "incremental" and number % (WAVE // 10) == 0:
                step = canister.update(f"PRAGMA incremental_vacuum({STEP_SQLITE_PAGES})")
                steps.append(step.message.stable.os_pages_accessed)
            if number % LOOKED_AT == 0:
                looked_at.append(reply.message)
                file_bytes.append(canister.status().database_size_bytes)
        ((count,),) = canister.query("SELECT count(*) FROM event").rows
        ((free,),) = canister.query("PRAGMA freelist_count").rows
        ((integrity,),) = canister.query("PRAGMA integrity_check").rows
    os_pages = [message.stable.os_pages_accessed for message in looked_at]
    instructions = [message.instructions.total for message in looked_at]
    return Mode(
        file_bytes=file_bytes,
        stable_bytes=[message.image_bytes for message in looked_at],
        os_pages=os_pages,
        instructions=instructions,
        steps=steps,
        free_bytes=free * 4096,
        rows=(len(rows.live), count),
        integrity_check=integrity,
        os_page_exponent=exponent(os_pages),
        work_exponent=exponent(instructions),
    )


def windows(values: Sequence[int], count: int) -> list[float]:
    """Return the means of as many windows, one behind the other."""
    length = len(values) // count
    return [mean(values[start : start + length]) for start in range(0, length * count, length)]


def exponent(values: Sequence[int]) -> sqlstable.Exponent:
    """Return how a number grows with the messages that were sent, over windows of whole waves.

    The first is left out: in it tables that were filled in order of their keys get loose.
    """
    ends = [MESSAGES // WINDOWS * (window + 1) for window in range(WINDOWS)]
    # Means have no steps of their own, as whole counts have.
    return sqlstable.growth_exponent(ends[1:], windows(values, WINDOWS)[1:], step=0.01)


def spark(values: Sequence[int], width: int = 60) -> str:
    """Draw numbers as one line, from nothing to the largest of them."""
    shown = windows(values, width)
    return "".join(SPARK[int(it / max(shown) * (len(SPARK) - 1))] for it in shown)


def spelled(found: sqlstable.Exponent) -> str:
    """Spell an exponent with half its interval."""
    return f"n^{found.value + 0.0:.3f} ±{(found.high - found.low) / 2:.3f}"


def table(modes: dict[str, Mode]) -> str:
    """Spell the numbers of all settings, a row for each."""
    heading = "".join(f"{name:>{width}}" for name, width in COLUMNS.items())
    rows = [f"  {'auto_vacuum':12}{heading}"]
    for name, mode in modes.items():
        first, *_, last = (size // 1024 for size in mode.file_bytes)
        cells = (
            *(f"{first:,}", f"{max(mode.file_bytes) // 1024:,}", f"{last:,}"),
            *(f"{mode.free_bytes // 1024:,}", f"{mode.stable_bytes[-1] // 1024:,}"),
            *(f"{mean(mode.os_pages):.1f}", f"{mean(mode.instructions):,.0f}"),
        )
        widths = COLUMNS.values()
        line = "".join(f"{it:>{width}}" for it, width in zip(cells, widths, strict=True))
        rows.append(f"  {name:12}{line}")
    return "\n".join(rows)


def lines(modes: dict[str, Mode], of: Callable[[Mode], Sequence[int]]) -> str:
    """Draw one number of all settings over the whole run."""
    return "\n".join(f"  {name:12}{spark(of(mode))}" for name, mode in modes.items())


def story(modes: dict[str, Mode]) -> str:
    """Tell what was measured."""
    exponents = "\n".join(
        f"  {name:12}{spelled(mode.os_page_exponent):>20}{spelled(mode.work_exponent):>22}"
        for name, mode in modes.items()
    )
    none, incremental, full = modes.values()
    return f"""\
{MESSAGES:,} messages of inserts and deletes, {none.rows[1]:,} rows in the end

1. Space in KiB, and what a message takes on average

{table(modes)}

2. The file, from the first message to the last

{lines(modes, lambda mode: mode.file_bytes)}

3. OS pages that a message accesses, likewise

{lines(modes, lambda mode: mode.os_pages)}

4. How a message grows with the number n of messages before it, with 95% confidence, from the
   {MESSAGES // WINDOWS:,}th on: before, tables that were filled in order get loose

  {"":12}{"OS pages":>20}{"instructions":>22}
{exponents}

Stable memory is as large with every setting, for it never shrinks. With none, free SQLite pages
wait in the file for the next wave. With full each commit cuts them off, which takes \
{mean(full.os_pages) / mean(none.os_pages):.2f} times
the OS pages of none. With incremental {len(incremental.steps)} messages more do it, \
{mean(incremental.steps):.1f} OS pages each on average.
"""


def main() -> dict[str, Mode]:
    """Measure, tell, and return the numbers."""
    modes = {name: measure_mode(name) for name in ("none", "incremental", "full")}
    print(story(modes), end="")
    return modes


if __name__ == "__main__":
    main()
