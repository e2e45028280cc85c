"""``sqlstable bench``: benchmarks of a canister's module, as ``canbench`` runs and shows them."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sqlstable.analysis.benching.bench_changes import NOISE_PERCENT
from sqlstable.cli.failures import RunError, UsageError
from sqlstable.cli.options import Format, FormatOption, chosen_limits
from sqlstable.cli.output import screen, write, write_data
from sqlstable.cli.progress import engine_notes

if TYPE_CHECKING:
    from sqlstable.analysis.benching.measured_bench import BenchResult
    from sqlstable.ic.prices import PriceRegime
    from sqlstable.report.grid import ColorSystem
    from sqlstable.workload.benching.bench_module import BenchModule
    from sqlstable.workload.benching.canbench_files import BenchConfig, KeptResults

PUBLISHED: Final = "2026-05-06"
"""Day whose prices published figures have: PocketIC 13.0.0, which ``canbench`` runs on.

Source: dfinity/canbench canbench-bin/src/lib.rs POCKET_IC_SERVER_VERSION @ f35fd97, 2026.
"""

_CONFIG: Final = Path("canbench.yml")


_OsPageOption = Annotated[
    int,
    typer.Option(
        "--os-page",
        metavar="BYTES",
        help="Size of the OS pages that are charged; 16384 for figures from Apple's machines.",
    ),
]
_PricesOption = Annotated[
    str,
    typer.Option(
        "--limits",
        metavar="DATE|latest",
        help="Prices of a date; those of the default are what published figures have.",
    ),
]


def bench_module(  # noqa: PLR0913  each is an option
    *,
    path: Annotated[
        Path,
        typer.Argument(
            metavar="[PATH]",
            help="A canbench.yml, the folder of one, or a module (.wasm, .wasm.gz).",
            show_default="the working folder",
        ),
    ] = Path(),
    pattern: Annotated[
        str, typer.Argument(metavar="[PATTERN]", help="Only benchmarks whose name contains it.")
    ] = "",
    persist: Annotated[
        bool, typer.Option("--persist", help="Keep what was measured in canbench_results.yml.")
    ] = False,
    csv: Annotated[
        bool, typer.Option("--csv", help="Write canbench_results.csv, as --format csv.")
    ] = False,
    less_verbose: Annotated[
        bool, typer.Option("--less-verbose", help="Show the benchmarks, and no summary.")
    ] = False,
    hide_results: Annotated[
        bool, typer.Option("--hide-results", help="Show the summary, and no benchmarks.")
    ] = False,
    show_summary: Annotated[
        bool, typer.Option("--show-summary", help="Show the summary in spite of --less-verbose.")
    ] = False,
    show_canister_output: Annotated[
        bool, typer.Option("--show-canister-output", help="Show what the canister prints, too.")
    ] = False,
    noise_threshold: Annotated[
        float,
        typer.Option("--noise-threshold", metavar="PERCENT", help="Smaller changes are noise."),
    ] = NOISE_PERCENT,
    build: Annotated[
        bool, typer.Option("--build/--no-build", help="Run the build_cmd of canbench.yml before.")
    ] = True,
    limits: _PricesOption = PUBLISHED,
    os_page: _OsPageOption = 4096,
    output_format: FormatOption = "table",
) -> None:
    """Run the canbench benchmarks of a module, and show the pages that each touches, too."""
    from sqlstable.ic.prices import regime_of

    if not noise_threshold >= 0:
        raise UsageError(f"--noise-threshold {noise_threshold:g} is below 0")
    if not path.exists() and not pattern and _CONFIG.exists():
        # As canbench is called, with nothing but a pattern.
        path, pattern = Path(), str(path)
    shown = _Shown(
        form=output_format,
        has_results=not hide_results and output_format == "table",
        has_summary=not less_verbose or show_summary,
        has_prints=show_canister_output,
        noise_percent=noise_threshold,
        color_system=screen().color_system,
    )
    config = _config(path)
    prices = _Prices(regime_of(chosen_limits(limits)), os_page)
    _run(config, pattern, prices, shown, _Kept(is_built=build, has_csv=csv, persists=persist))


@dataclass(frozen=True, slots=True)
class _Prices:
    """What is counted."""

    regime: "PriceRegime"
    os_page_bytes: int


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is done beside measuring."""

    is_built: bool
    has_csv: bool
    persists: bool


@dataclass(frozen=True, slots=True)
class _Shown:
    """What is shown, and how."""

    form: Format
    has_results: bool
    "Whether each benchmark is shown as soon as it has run."
    has_summary: bool
    has_prints: bool
    "Whether what the canister prints goes to stderr."
    noise_percent: float
    color_system: "ColorSystem | None"


def _config(path: Path) -> "BenchConfig":
    from sqlstable.workload.benching.canbench_files import BenchConfig, read_config

    if not path.exists():
        raise UsageError(f"there is no file or folder {path}")
    if path.is_dir() and not (path / _CONFIG).exists():
        raise UsageError(f"configuration file not found: {path / _CONFIG}; or name a module")
    if path.is_file() and path.suffix in (".wasm", ".gz"):
        return BenchConfig.of_module(path)
    return read_config(path)


def _build(config: "BenchConfig") -> None:
    """Run the command that builds the module; what it says goes to stderr."""
    assert config.build_command is not None
    try:
        # As canbench does; the command is the user's own, from the file that was named.
        done = subprocess.run(  # noqa: S603
            ["bash", "-c", config.build_command],  # noqa: S607
            cwd=config.folder,
            stdin=subprocess.DEVNULL,
            stdout=2,
            check=False,
        )
    except FileNotFoundError:
        raise UsageError("build_cmd needs bash, which is not there; --no-build skips it") from None
    if done.returncode != 0:
        raise RunError(
            f"build_cmd ended with status {done.returncode}: {config.build_command}; --no-build "
            "measures the module that is there"
        )


def _run(config: "BenchConfig", pattern: str, prices: _Prices, shown: _Shown, keep: _Kept) -> None:
    from sqlstable.workload.benching.canbench_files import read_results

    kept = read_results(config.results_path)
    if keep.is_built and config.build_command is not None:
        _build(config)
    results = _measure(config, prices, pattern, kept.benches, shown)
    _show(results, kept.benches, prices.regime, shown)
    told = []
    if keep.has_csv:
        _write_csv(config, results, kept.benches)
        told.append(f"CSV results saved to {config.csv_path}\n")
    if keep.persists:
        _persist(config, results, kept, is_part=bool(pattern))
        told.append(f"Successfully persisted results to {config.results_path}\n")
    if shown.form == "table":
        write("".join(told))


@contextmanager
def _opened(config: "BenchConfig", prices: _Prices, wasm: bytes) -> Iterator["BenchModule"]:
    from sqlstable.workload.benching.bench_module import BenchModule

    stable = None if config.stable_path is None else config.stable_path.read_bytes()
    module = BenchModule(
        wasm,
        name=config.module_path.name,
        regime=prices.regime,
        os_page_bytes=prices.os_page_bytes,
        init_argument=config.init_argument,
        stable=stable,
        variables=config.variables,
    )
    try:
        yield module
    finally:
        module.close()


def _measure(
    config: "BenchConfig",
    prices: _Prices,
    pattern: str,
    old: Mapping[str, "BenchResult"],
    shown: _Shown,
) -> dict[str, "BenchResult"]:
    from sqlstable.errors import Trap
    from sqlstable.report.text import clean
    from sqlstable.workload.benching.bench_module import bench_names, module_bytes

    if not config.module_path.exists():
        raise UsageError(
            f"couldn't read file at {config.module_path}; are you sure the file exists?"
        )
    wasm = module_bytes(config.module_path)
    names = bench_names(wasm, pattern)
    if not names:
        among = f" whose name contains {pattern!r}" if pattern else ""
        raise UsageError(
            f"{config.module_path} exports no benchmark{among}; one is a query that is called "
            "__canbench__NAME"
        )
    found: dict[str, BenchResult] = {}
    with engine_notes(), _opened(config, prices, wasm) as module:
        for name in names:
            try:
                found[name] = module.measure(name)
            except Trap as trap:
                raise RunError(f"executing benchmark {name}: {trap}") from None
            if shown.has_prints:
                for line in module.prints:
                    typer.echo(f"{name}: {clean(line)}", err=True)
            if shown.has_results:
                _show_one(name, found[name], old.get(name), shown)
    return found


def _show_one(name: str, new: "BenchResult", old: "BenchResult | None", shown: _Shown) -> None:
    from sqlstable.report.bench_text import SEPARATOR, bench_lines, render_bench

    lines = bench_lines(name, new, old, shown.noise_percent)
    write(f"{SEPARATOR}\n\n{render_bench(lines, shown.color_system)}\n")


def _show(
    results: Mapping[str, "BenchResult"],
    old: Mapping[str, "BenchResult"],
    regime: "PriceRegime",
    shown: _Shown,
) -> None:
    from sqlstable.analysis.benching.bench_changes import bench_entries
    from sqlstable.report.bench_data import render_bench_csv, render_bench_json
    from sqlstable.report.bench_text import (
        SEPARATOR,
        change_table,
        prices_line,
        render_bench,
        summary_lines,
    )

    entries = bench_entries(results, old)
    match shown.form:
        case "table":
            write(f"{SEPARATOR}\n")
            if not shown.has_summary:
                return
            for part in (summary_lines, change_table):
                text = render_bench(part(entries, shown.noise_percent), shown.color_system)
                if text:
                    write(f"\n{text}\n{SEPARATOR}\n")
            write(f"\n{prices_line(regime.name)}\n")
        case "csv":
            write_data(render_bench_csv(entries, results))
        case "json":
            settings = {"price_regime": regime.name}
            write_data(render_bench_json(entries, results, settings, shown.noise_percent))


def _write_csv(
    config: "BenchConfig", results: Mapping[str, "BenchResult"], old: Mapping[str, "BenchResult"]
) -> None:
    from sqlstable.analysis.benching.bench_changes import bench_entries
    from sqlstable.report.bench_data import render_bench_csv

    lines = render_bench_csv(bench_entries(results, old), results)
    config.csv_path.write_text("".join(lines), encoding="utf-8")


def _persist(
    config: "BenchConfig",
    results: Mapping[str, "BenchResult"],
    kept: "KeptResults",
    *,
    is_part: bool,
) -> None:
    """Write results; where only some were asked for, the others stay as they are."""
    from sqlstable.workload.benching.canbench_files import results_text

    benches = {**kept.benches, **results} if is_part else results
    text = results_text(replace(kept, benches=benches))
    config.results_path.write_text(text, encoding="utf-8")
