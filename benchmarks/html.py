"""How long the HTML page of a large trace takes to write and to open, and how large it is.

``python -m benchmarks.html`` writes the trace that the goals name: a million accesses over 100 000
OS pages, by 3 000 statements in 1 000 messages, half of them a scan and half skewed, with owners in
400 runs. Which statement touches which OS page is drawn at random, so hardly anything of it
compresses; what real workloads do is more regular. Needs playwright and a Chromium.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.goals import Outcome, goal_table
from sqlstable import open_trace
from sqlstable.ic.accesses import Accesses
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.report.html.as_html import render_html
from sqlstable.trace.format.file import TraceWriter
from sqlstable.trace.model import (
    Message,
    Owner,
    OwnerRuns,
    SqliteCounters,
    StableUse,
    Statement,
)

CHROMIUM: Final = "/usr/bin/chromium"
ACCESSES: Final = 1_000_000
OS_PAGES: Final = 100_000
STATEMENTS: Final = 3_000
MESSAGES: Final = 1_000
OWNER_RUNS: Final = 400
TREES: Final = 12
EACH: Final = ACCESSES // STATEMENTS
DATABASE_AT: Final = 65_536

WRITE_S_MAX: Final = 3.0
SIZE_MB_MAX: Final = 1.2
READY_MS_MAX: Final = 500
HOVER_MS_MAX: Final = 5.0


def write_trace(path: Path) -> None:
    """Write the trace of the goals."""
    rng = np.random.default_rng(2)
    settings = {"page_size": OS_PAGE_BYTES, "cache_size": 500, "prices": "memory-tracker"}
    with TraceWriter(path, settings) as writer:
        for index in range(MESSAGES):
            made = tuple(
                range(index * STATEMENTS // MESSAGES, (index + 1) * STATEMENTS // MESSAGES)
            )
            writer.write(
                _message(index, made),
                [_statement(it, index) for it in made],
                statement_accesses={it: [_accesses(rng, it)] for it in made},
                owner_runs=[] if index else [_owners(rng)],
            )


def _accesses(rng: np.random.Generator, statement: int) -> Accesses:
    count = EACH + (statement < ACCESSES - EACH * STATEMENTS)
    first = statement * EACH
    skewed = (OS_PAGES * rng.random(count) ** 3).astype(np.int64)
    scan = (np.arange(first, first + count) * 7) % OS_PAGES
    offset = np.where(rng.random(count) < 0.5, skewed, scan) * OS_PAGE_BYTES
    kind = (rng.random(count) < 0.2).astype(np.int8)
    return Accesses(kind, offset + DATABASE_AT, np.full(count, OS_PAGE_BYTES), offset)


def _owners(rng: np.random.Generator) -> OwnerRuns:
    firsts = np.concatenate(([0], np.sort(rng.choice(OS_PAGES, OWNER_RUNS, replace=False)[1:])))
    counts = np.diff(np.append(firsts, OS_PAGES))
    kept = counts > 0
    names = [f"table_{it}" for it in rng.integers(0, TREES, int(kept.sum())).tolist()]
    owners = [
        Owner(name, name, "table", "interior" if at % 50 == 0 else "leaf")
        for at, name in enumerate(names)
    ]
    return OwnerRuns(0, (firsts[kept] + 1).tolist(), counts[kept].tolist(), owners)


def _message(index: int, statements: tuple[int, ...]) -> Message:
    return Message(
        index=index,
        kind="update",
        label=None,
        outcome="committed",
        trap=None,
        discarded_writes=False,
        cache="warm",
        statements=statements,
        stable=StableUse(),
        outside=(),
        limits=(),
        image_bytes=OS_PAGES * OS_PAGE_BYTES + DATABASE_AT,
    )


def _statement(index: int, message: int) -> Statement:
    table, key = index % TREES, index * 7 % 1_000
    return Statement(
        index=index,
        message=message,
        sql=f"SELECT a, b, c FROM table_{table} WHERE id = {index} AND k > {key}",
        shape=f"SELECT a, b, c FROM table_{table} WHERE id = ? AND k > ?",
        kind="read",
        row_count=index % 5,
        runs=1,
        plan=(f"SEARCH table_{table} USING INTEGER PRIMARY KEY (rowid=?)",),
        stable=StableUse(),
        phases={phase: StableUse() for phase in ("prepare", "run", "commit")},
        sqlite=SqliteCounters(hits=0, vm_steps=12),
        owners=(),
    )


def write_page(trace: Path, page: Path) -> tuple[float, float]:
    """Write a page, and return the seconds of the clock and of the processor that it took."""
    start, start_processor = time.perf_counter(), time.process_time()
    with open_trace(trace) as opened_trace:
        page.write_text(render_html(opened_trace, name=trace.name), encoding="utf-8")
    return time.perf_counter() - start, time.process_time() - start_processor


def opened(page: Path, *, runs: int) -> list[dict[str, Any]]:
    """Open a page anew for each run, hover over the whole map, and return milliseconds."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  for this benchmark alone

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        found = []
        for _ in range(runs):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            tab.add_init_script(_WATCH)
            tab.goto(page.as_uri())
            tab.wait_for_function("window.readyMs")
            found.append(tab.evaluate(_MEASURE))
            tab.close()
        browser.close()
    return found


_WATCH: Final = """
const watch = () => {
  const found = document.documentElement?.dataset ?? {};
  // Tables and pictures stand, and this frame shows them.
  if (found.ready && found.sheets) window.readyMs = performance.now();
  else requestAnimationFrame(watch);
};
watch();
"""

_MEASURE: Final = """() => {
  const canvas = document.querySelector("[data-picture=page-map] canvas");
  const box = canvas.getBoundingClientRect();
  const hovers = [];
  for (let at = 0; at < 500; at += 1) {
    const [clientX, clientY] = [box.left + (at * 97) % box.width, box.top + (at * 61) % box.height];
    const begun = performance.now();
    canvas.dispatchEvent(new PointerEvent("pointermove", { clientX, clientY, bubbles: true }));
    // With what the browser then has to lay out.
    document.body.getBoundingClientRect();
    hovers.push(performance.now() - begun);
  }
  hovers.sort((a, b) => a - b);
  return { ready: window.readyMs, hover: hovers[250], hoverMost: hovers[499] };
}"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs: int = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        trace, page = Path(folder, "run.trace"), Path(folder, "run.html")
        write_trace(trace)
        seconds = [write_page(trace, page) for _ in range(runs)]
        tabs = opened(page, runs=runs)
        size = page.stat().st_size / 1e6
    ready = [tab["ready"] for tab in tabs]
    clock, processor = zip(*seconds, strict=True)
    outcomes = [
        Outcome("page written, s by the clock", WRITE_S_MAX, min(clock)),
        Outcome("page written, s of the processor", WRITE_S_MAX, min(processor)),
        Outcome("page, MB", SIZE_MB_MAX, size),
        Outcome("ready in Chromium, ms", READY_MS_MAX, min(ready), 0),
        Outcome("hover, ms", HOVER_MS_MAX, min(tab["hover"] for tab in tabs)),
    ]
    print(goal_table(outcomes))
    print(
        f"medians of {runs}: written {statistics.median(clock):.2f} s by the clock, "
        f"{statistics.median(processor):.2f} s of the processor, "
        f"ready {statistics.median(ready):.0f} ms; "
        f"the slowest hover of all {max(tab['hoverMost'] for tab in tabs):.1f} ms"
    )


if __name__ == "__main__":
    main()
