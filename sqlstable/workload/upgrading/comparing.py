"""Comparing ways of keeping data over an upgrade: one workload, several sizes, each measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlstable.analysis.upgrading.upgrade_runs import (
    Ceilings,
    SizeRun,
    UpgradeComparison,
    WayOfKeeping,
)
from sqlstable.canister.measured_machine import SQLITE_VERSION
from sqlstable.database.foreign import SourceOptions, open_source
from sqlstable.database.settings import Settings, resolve_settings
from sqlstable.engine.native.native_engine import is_complete
from sqlstable.errors import SettingsError
from sqlstable.ic.limits import Limits, resolve_limits
from sqlstable.ic.prices import regime_of
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.workload.placeholders import Value, fill_placeholders, find_placeholders
from sqlstable.workload.script import ScriptStep, parse_script
from sqlstable.workload.upgrading.driving import HEAP_BYTES_MAX
from sqlstable.workload.upgrading.measuring import (
    BUILT_IN,
    Filled,
    built_in_script,
    check_steps,
    fill,
    measure,
)
from sqlstable.workload.upgrading.strategies import STRATEGIES, WINDOW_SQLITE_PAGES, Strategy

SIZES: Final = (1e3, 3e3, 1e4, 3e4, 1e5)
"""Rows at which the built-in workload is measured: five leave three degrees of freedom."""

SIZE_NAME: Final = "rows"
"""Of the parameter that has sizes, where a script has one of that name; else its first."""

READS_PER_DAY: Final = 100_000.0
WRITES_PER_DAY: Final = 10_000.0

OnWork = Callable[[str, int, int], None]
"""Is told what begins, how much is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class UpgradeWorkload:
    """What ways of keeping data are compared on.

    Examples:
        >>> UpgradeWorkload().size_name
        'rows'
    """

    script: str = ""
    "SQL; the built-in workload where there is none."
    name: str = BUILT_IN
    "What errors and reports call it."
    folder: Path = Path()
    "Where relative files of ``--@ params`` lie."
    database: Path | None = None
    "A database to begin with; then all of the script is the day's."

    @property
    def text(self) -> str:
        """The script."""
        return self.script or built_in_script()

    @property
    def size_name(self) -> str | None:
        """Name of the parameter that has sizes; None where the script has no parameter."""
        names = list(find_placeholders(self.text, name=self.name))
        return SIZE_NAME if SIZE_NAME in names else next(iter(names), None)

    def steps(self, size: float | None) -> tuple[ScriptStep, ...]:
        """Return the script's messages at a size.

        Raises:
            ScriptError: The script cannot be understood, or has what has no place here.
        """
        values: dict[str, Value] = {}
        if size is not None and self.size_name is not None:
            values = {self.size_name: int(size) if size == int(size) else size}
        text = fill_placeholders(self.text, values, name=self.name)
        steps = parse_script(text, is_complete=is_complete, base_folder=self.folder, name=self.name)
        check_steps(steps, name=self.name)
        return steps


def compare_upgrades(  # noqa: PLR0913  each is an option
    workload: UpgradeWorkload | None = None,
    *,
    rows: Sequence[float] | None = None,
    check: float | None = None,
    reads_per_day: float = READS_PER_DAY,
    writes_per_day: float = WRITES_PER_DAY,
    page_size: int | None = None,
    cache_size: int | None = None,
    limits: str = "latest",
    on_work: OnWork = lambda *_: None,
) -> UpgradeComparison:
    """Measure SQLite in stable memory beside SQLite in the heap that is serialised at upgrades.

    Args:
        workload: On what; None: a table with an index that comes with this.
        rows: Sizes, each above 0 and once; None: `SIZES`, of a script of one's own that which it
            has.
        check: A size beyond them, at which laws are checked by a real run.
        reads_per_day: Messages that only read, 0 or more; those that nobody pays are 0.
        writes_per_day: Messages that write.
        page_size: Bytes of a SQLite page.
        cache_size: SQLite pages that SQLite caches.
        limits: A date, as in ``2026-08-01``.
        on_work: Is told how far it is.

    Raises:
        SettingsError: A setting, a size or a rate is none.
        ScriptError: The script cannot be used, or failed.
        ImageError: The database cannot be read.

    Examples:
        >>> found = compare_upgrades(rows=[100])
        >>> [run.name for run in found.sizes[0].runs]
        ['stay', 'whole', 'streamed']
        >>> stay, whole, _ = (run.upgrade for run in compare_upgrades(rows=[3000]).sizes[0].runs)
        >>> stay < whole
        True
    """
    workload = UpgradeWorkload() if workload is None else workload
    _check_rates(reads_per_day, writes_per_day)
    settings = resolve_settings(page_size=page_size, cache_size=cache_size)
    found_limits = resolve_limits(limits)
    assert found_limits is not None, "none were not asked for"
    sizes = _sizes(workload, rows, check)
    todo = [*sizes, check] if check is not None else [*sizes]
    runner = _Runner(workload, settings, found_limits, on_work, len(todo))
    runs = [runner.run(size) for size in todo]
    measured = runs[: len(sizes)]
    return UpgradeComparison(
        script=workload.name,
        size_name=None if sizes == [None] else workload.size_name,
        settings=_described(settings, found_limits, runner.page_size),
        ways=tuple(_way(strategy) for strategy in STRATEGIES),
        sizes=tuple(measured),
        empty=runner.empty(),
        check=None if check is None else runs[-1],
        ceilings=_ceilings(found_limits),
        reads_per_day=reads_per_day,
        writes_per_day=writes_per_day,
    )


class _Runner:
    """Fills and measures, one size after the other."""

    def __init__(
        self,
        workload: UpgradeWorkload,
        settings: Settings,
        limits: Limits,
        on_work: OnWork,
        size_count: int,
    ) -> None:
        self._workload, self._settings, self._limits = workload, settings, limits
        self._on_work = on_work
        self._total = size_count * (1 + len(STRATEGIES))
        self._done = 0
        self.page_size = settings.page_size

    def run(self, size: float | None) -> SizeRun:
        """Measure every way at one size."""
        at = "" if size is None else f"{size:,.0f} {self._workload.size_name}: "
        self._tell(f"{at}filling the database")
        filled = self._filled(size)
        self.page_size = filled.page_size
        return measure(
            filled,
            STRATEGIES,
            self._settings,
            self._limits,
            size=size,
            name=self._workload.name,
            on_work=lambda name: self._tell(f"{at}{name}"),
        )

    def empty(self) -> SizeRun:
        """Measure every way without data."""
        nothing = Filled(b"", self.page_size, ())
        return measure(
            nothing, STRATEGIES, self._settings, self._limits, size=0, name=self._workload.name
        )

    def _filled(self, size: float | None) -> Filled:
        steps = self._workload.steps(size)
        if self._workload.database is None:
            return fill(steps, self._settings, self._limits, name=self._workload.name)
        with open_source(self._workload.database, SourceOptions()) as source:
            database = b"".join(piece for _, piece in source.pieces())
            return Filled(database, source.page_size, steps)

    def _tell(self, what: str) -> None:
        self._on_work(what, self._done, self._total)
        self._done += 1


def _sizes(
    workload: UpgradeWorkload, rows: Sequence[float] | None, check: float | None
) -> list[float | None]:
    """Return the sizes, ascending.

    Raises:
        SettingsError: One is none, or the script has no parameter to give them to.
    """
    if rows is None:
        # A script of one's own has a size already.
        return [None] if workload.script else [*SIZES]
    if workload.size_name is None:
        raise SettingsError(
            f"{workload.name} has no parameter, so it has one size; name one in it, as in "
            "/*@rows*/ 1000, or leave the sizes out"
        )
    if workload.database is not None:
        raise SettingsError(
            "a database has the size that it has; leave the sizes out, or the database"
        )
    for size in (*rows, *(() if check is None else (check,))):
        if not 1 <= size <= SIZE_MAX or size != int(size):
            raise SettingsError(
                f"{size:g} is no size; a size is a whole number from 1 to {SIZE_MAX:,.0f}"
            )
    if not rows or len(set(rows)) != len(rows):
        raise SettingsError("give one size or more, each once")
    if check is not None and check <= max(rows):
        raise SettingsError(f"the check at {check:g} is not beyond the largest size, {max(rows):g}")
    return [float(size) for size in sorted(rows)]


SIZE_MAX: Final = 1e9
"""More rows than this fit no heap."""


def _check_rates(*rates: float) -> None:
    for rate in rates:
        if not 0 <= rate < float("inf"):
            raise SettingsError(f"{rate:g} messages a day are none; give 0 or more")


def _described(
    settings: Settings, limits: Limits, page_size: int
) -> tuple[tuple[str, object], ...]:
    regime = regime_of(limits)
    return (
        ("engine", "wasm"),
        ("sqlite", SQLITE_VERSION),
        ("build", STRATEGIES[0].build),
        ("page_size", page_size),
        ("cache_size", settings.cache_size),
        ("journal_mode", settings.journal_mode),
        ("layout", settings.layout),
        ("bucket_pages", settings.bucket_pages),
        ("window_sqlite_pages", WINDOW_SQLITE_PAGES),
        ("limits", limits.date.isoformat()),
        ("price_regime", regime.name),
        ("track_heap", regime.charges_heap),
    )


def _way(strategy: Strategy) -> WayOfKeeping:
    return WayOfKeeping(
        strategy.name, strategy.summary, strategy.database_bytes_max, strategy.has_pre_upgrade
    )


def _ceilings(limits: Limits) -> Ceilings:
    return Ceilings(
        instructions_max=limits.upgrade.instructions_max,
        os_pages_accessed_max=limits.upgrade.os_pages_accessed_max,
        os_pages_dirty_max=limits.upgrade.os_pages_dirty_max,
        stable_bytes_max=limits.stable_memory_wasm_pages_max * WASM_PAGE_BYTES,
        heap_bytes_max=HEAP_BYTES_MAX,
    )
