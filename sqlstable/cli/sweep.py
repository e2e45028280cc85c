"""``sqlstable sweep``: one script under several settings, and which of them serve it best."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, get_args

import typer

from sqlstable.analysis.scaling.pareto import SweepResults, sweep_results
from sqlstable.analysis.scaling.runs import Scalar
from sqlstable.cli.failures import RunError, UsageError
from sqlstable.cli.many_runs import (
    Base,
    DaskOption,
    ResultsOption,
    Where,
    WorkersOption,
    check_settings,
    finished,
    interrupted,
    listed,
    opened_results,
    read_base,
    read_params,
    whole_numbers,
)
from sqlstable.cli.options import (
    LATEST,
    BuildName,
    CacheOption,
    DatabaseOption,
    Format,
    FormatOption,
    LimitsOption,
    NoEnforceOption,
    SettingsOption,
)
from sqlstable.cli.output import screen, write, write_data
from sqlstable.cli.script_params import ParamOption, ScriptArgument, lists_ready
from sqlstable.database.settings import GROWTH_POLICIES, JOURNAL_MODES, PRESETS
from sqlstable.ic.words import ENGINES
from sqlstable.layout.layouts import LAYOUT_NAMES
from sqlstable.workload.sweeping.design import (
    ONE_AT_A_TIME,
    SEED,
    Combination,
    every_combination,
    latin_hypercube,
    one_at_a_time,
)

NONE: Final = "none"
"""Stands for no preset."""

_WORDS: Final = {
    "engine": ENGINES,
    "build": get_args(BuildName),
    "layout": LAYOUT_NAMES,
    "preset": (*PRESETS, NONE),
    "journal_mode": JOURNAL_MODES,
    "growth": GROWTH_POLICIES,
}


def _several(option: str, metavar: str, text: str) -> typer.models.OptionInfo:
    found: typer.models.OptionInfo = typer.Option(option, metavar=f"{metavar},…", help=text)
    return found


EnginesOption = Annotated[
    str, _several("--engine", "native|wasm", "As for run; several, with commas between.")
]
BuildsOption = Annotated[
    str | None, _several("--build", "standard|profile|lean", "Of the wasm module.")
]
LayoutsOption = Annotated[
    str | None, _several("--layout", "|".join(LAYOUT_NAMES), "Where the database lies.")
]
PresetsOption = Annotated[
    str | None, _several("--preset", "|".join(_WORDS["preset"]), "PRAGMAs of a product.")
]
PageSizesOption = Annotated[
    str | None, _several("--page-size", "BYTES", "Of a SQLite page, 512 to 65536.")
]
CacheSizesOption = Annotated[
    str | None, _several("--cache-size", "COUNT", "SQLite pages in the heap; below zero: KiB.")
]
JournalModesOption = Annotated[
    str | None, _several("--journal-mode", "|".join(JOURNAL_MODES), "SQLite's journal.")
]
BucketsOption = Annotated[
    str | None, _several("--bucket-pages", "COUNT", "Wasm pages of a bucket.")
]
GrowthsOption = Annotated[
    str | None, _several("--growth", "|".join(GROWTH_POLICIES), "What a file grows by.")
]
DesignOption = Annotated[
    str | None,
    typer.Option(
        metavar="COUNT|one",
        help="Fewer than every combination: so many, each value equally often (a Latin "
        "hypercube), or the first values with one changed at a time.",
    ),
]


def sweep_script(  # noqa: PLR0913  each is an option
    *,
    script: ScriptArgument,
    engine: EnginesOption = "native",
    build: BuildsOption = None,
    layout: LayoutsOption = None,
    preset: PresetsOption = None,
    page_size: PageSizesOption = None,
    cache_size: CacheSizesOption = None,
    journal_mode: JournalModesOption = None,
    bucket_pages: BucketsOption = None,
    growth: GrowthsOption = None,
    param: ParamOption = None,
    design: DesignOption = None,
    database: DatabaseOption = None,
    limits: LimitsOption = LATEST,
    no_enforce: NoEnforceOption = False,
    cache: CacheOption = None,
    workers: WorkersOption = None,
    dask: DaskOption = None,
    results: ResultsOption = None,
    output_format: FormatOption = "table",
    all_settings: SettingsOption = False,
) -> None:
    """Run a script under every combination of settings, and say which serve it best."""
    if lists_ready(script):
        return
    values: dict[str, Sequence[Scalar]] = {
        "engine": _chosen_words("engine", engine),
        "build": _chosen_words("build", build),
        "layout": _chosen_words("layout", layout),
        "preset": _chosen_words("preset", preset),
        "page_size": whole_numbers("--page-size", page_size),
        "cache_size": whole_numbers("--cache-size", cache_size),
        "journal_mode": _chosen_words("journal_mode", journal_mode),
        "bucket_pages": whole_numbers("--bucket-pages", bucket_pages),
        "growth": _chosen_words("growth", growth),
    }
    base = read_base(
        script,
        database=database,
        cache=cache,
        limits=limits,
        enforce=not no_enforce,
        choices={name: found[0] for name, found in values.items() if len(found) == 1},
    )
    parameters = read_params(param or [], base)
    for name in parameters.keys() & values.keys():
        raise UsageError(f"the script calls a parameter {name}, as a setting is; rename it")
    varied = {name: found for name, found in {**values, **parameters}.items() if len(found) > 1}
    fixed = {name: found[0] for name, found in parameters.items() if len(found) == 1}
    rows, said = _designed(varied, design)
    found, error = _swept(base, Where(workers, dask, results), rows, fixed, set(parameters))
    if found.rows:
        _write(found, said, output_format, all_settings=all_settings)
    if error is not None:
        raise error


def _chosen_words(name: str, text: str | None) -> list[Scalar]:
    """Return the values of an option that takes some of a few words."""
    option = f"--{name.replace('_', '-')}"
    words = listed(option, text)
    for word in words:
        if word not in _WORDS[name]:
            raise UsageError(f"{option} {word[:80]!r} is none of {', '.join(_WORDS[name])}")
    return [None if (name, word) == ("preset", NONE) else word for word in words]


def _designed(
    varied: dict[str, Sequence[Scalar]], design: str | None
) -> tuple[list[Combination], str]:
    """Return the combinations to run, and in words which they are."""
    if not varied:
        raise UsageError(
            "nothing varies; give several values to an option, as in --page-size 512,4096,16384"
        )
    if design is None:
        return every_combination(varied), "every combination"
    if design == ONE_AT_A_TIME:
        return one_at_a_time(varied), "the first values with one changed at a time"
    if not (design.isascii() and design.isdigit()) or len(design) > 6:
        raise UsageError(f"--design {design[:80]} is neither a number of runs nor {ONE_AT_A_TIME}")
    rows = latin_hypercube(varied, int(design))
    return rows, f"a Latin hypercube of {len(rows)} combinations, seed {SEED}"


def _swept(
    base: Base,
    where: Where,
    rows: Sequence[Combination],
    fixed: Mapping[str, Scalar],
    parameters: set[str],
) -> tuple[SweepResults, RunError | None]:
    """Carry out the runs; returns what was found, and why that is not all well."""
    specs = [
        base.spec(
            {name: value for name, value in row.items() if name not in parameters},
            {
                name: value
                for name, value in {**fixed, **row}.items()
                if name in parameters and isinstance(value, int | float | str)
            },
        )
        for row in rows
    ]
    check_settings(specs)
    with opened_results(base, where, "sweep") as results:
        is_whole = finished(specs, results, where)
        found = results.results(specs)
    swept = sweep_results(rows, found)
    if not is_whole:
        return swept, interrupted(specs, found, where)
    if swept.best is None:
        failure = swept.rows[0].result.failure
        return swept, RunError(f"every combination failed, the first: {failure}")
    return swept, None


def _write(found: SweepResults, design: str, output_format: Format, *, all_settings: bool) -> None:
    from sqlstable.analysis.advice.sweep_advice import advise_sweep

    match output_format:
        case "table":
            from sqlstable.report.sweep_table import render_sweep

            target = screen()
            write(
                render_sweep(
                    found,
                    advice=advise_sweep(found),
                    design=design,
                    width=target.width,
                    color_system=target.color_system,
                    settings=all_settings,
                )
            )
        case "json":
            from sqlstable.report.sweep_data import render_sweep_json

            write_data(render_sweep_json(found, advice=advise_sweep(found), design=design))
        case "csv":
            from sqlstable.report.sweep_data import render_sweep_csv

            write_data(render_sweep_csv(found))
