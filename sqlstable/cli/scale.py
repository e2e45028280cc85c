"""``sqlstable scale``: one script at several sizes, and how it goes on."""

from collections.abc import Sequence
from typing import Annotated, Final

import typer

from sqlstable.analysis.scaling.growing import ScaleResults, scale_results
from sqlstable.analysis.scaling.runs import RunResult
from sqlstable.cli.failures import RunError, UsageError, note
from sqlstable.cli.many_runs import (
    Base,
    DaskOption,
    ResultsOption,
    Where,
    WorkersOption,
    finished,
    interrupted,
    opened_results,
    read_base,
    read_params,
)
from sqlstable.cli.options import (
    LATEST,
    BucketPagesOption,
    BuildOption,
    CacheOption,
    CacheSizeOption,
    DatabaseOption,
    EngineOption,
    Format,
    FormatOption,
    GrowthOption,
    JournalModeOption,
    LayoutOption,
    LimitsOption,
    NoEnforceOption,
    PageSizeOption,
    PresetOption,
    SettingsOption,
)
from sqlstable.cli.output import screen, write, write_data
from sqlstable.cli.script_params import SCRIPT_NAMES, ParamOption, lists_ready
from sqlstable.workload.placeholders import Value, read_value
from sqlstable.workload.ready_made import MARK, SIZES, ready_workload

NO_CHECK: Final = "none"

SIZE_MAX: Final = 1e15
"""Larger sizes are a slip of the pen."""


def scale_script(  # noqa: PLR0913  each is an option
    *,
    script: Annotated[
        str, typer.Argument(metavar="SCRIPT.sql", help=f"SQL with a parameter; {SCRIPT_NAMES}")
    ],
    param: ParamOption = None,
    check: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE|none",
            help="Of the real run beyond the sizes that checks the predictions. [default: as far "
            "beyond the largest as that is beyond the one before]",
        ),
    ] = None,
    database: DatabaseOption = None,
    engine: EngineOption = "native",
    build: BuildOption = None,
    layout: LayoutOption = None,
    preset: PresetOption = None,
    page_size: PageSizeOption = None,
    cache_size: CacheSizeOption = None,
    journal_mode: JournalModeOption = None,
    bucket_pages: BucketPagesOption = None,
    growth: GrowthOption = None,
    limits: LimitsOption = LATEST,
    no_enforce: NoEnforceOption = False,
    cache: CacheOption = None,
    workers: WorkersOption = None,
    dask: DaskOption = None,
    results: ResultsOption = None,
    output_format: FormatOption = "table",
    all_settings: SettingsOption = False,
) -> None:
    """Run a script at several sizes, and say how far it scales."""
    if lists_ready(script):
        return
    choices = {
        "engine": engine,
        "build": build,
        "layout": layout,
        "preset": preset,
        "page_size": page_size,
        "cache_size": cache_size,
        "journal_mode": journal_mode,
        "bucket_pages": bucket_pages,
        "growth": growth,
    }
    base = read_base(
        script,
        database=database,
        cache=cache,
        limits=limits,
        enforce=not no_enforce,
        choices=choices,
    )
    _check_settings(base)
    size_name, sizes, fixed = _sizes(base, read_params(param or [], base))
    check_size = _check_size(check, sizes)
    found, error = _scaled(
        base, Where(workers, dask, results), (size_name, sizes, fixed), check_size
    )
    if found is not None:
        _write(found, output_format, all_settings=all_settings)
    if error is not None:
        raise error


def _check_settings(base: Base) -> None:
    """Refuse settings that do not go together, which every run would fail of."""
    from sqlstable.canister.choices import Choices
    from sqlstable.canister.machines import open_memory

    choices = Choices(**base.choices)  # type: ignore[arg-type]  # checked when they are used
    assert choices.settings is not None
    open_memory(choices).close()


def _sizes(
    base: Base, params: dict[str, tuple[Value, ...]]
) -> tuple[str, tuple[float, ...], dict[str, Value]]:
    """Return the parameter that has sizes, its sizes, and the values of all others."""
    several = [name for name, values in params.items() if len(values) > 1]
    if not several and base.script.name.startswith(MARK):
        size = ready_workload(base.script.name).size.name
        if size not in params:
            several, params = [size], {**params, size: SIZES}
    if len(several) != 1:
        known = ", ".join(base.placeholders) or "none: write one as in /*@rows*/ 1000"
        there = f"{', '.join(several)} have several" if several else "no parameter has several"
        raise UsageError(
            f"scale wants sizes of one parameter, as in --param rows=1e3,1e4,1e5, and {there}; the "
            f"script has {known}" + ("; sqlstable sweep takes every combination" if several else "")
        )
    name = several[0]
    for value in params[name]:
        _check_size_value(name, value)
    fixed = {other: values[0] for other, values in params.items() if other != name}
    return name, tuple(sorted(float(value) for value in params[name])), fixed


def _check_size_value(name: str, value: Value) -> float:
    if isinstance(value, str) or not 0 < value <= SIZE_MAX:
        raise UsageError(
            f"{name} {str(value)[:80]!r} is no size; a size is a number above 0, at most "
            f"{SIZE_MAX:g}"
        )
    return float(value)


def _check_size(text: str | None, sizes: Sequence[float]) -> float | None:
    if text == NO_CHECK:
        return None
    if text is None:
        step = sizes[-1] / sizes[-2]
        return float(round(sizes[-1] * step)) if sizes[-1] >= 1 else sizes[-1] * step
    size = _check_size_value("--check", read_value(text))
    if size <= sizes[-1]:
        raise UsageError(
            f"--check {text} is not beyond the largest size, {sizes[-1]:g}; give a larger one, or "
            f"--check {NO_CHECK}"
        )
    return size


def _scaled(
    base: Base,
    where: Where,
    asked: tuple[str, tuple[float, ...], dict[str, Value]],
    check_size: float | None,
) -> tuple[ScaleResults | None, RunError | None]:
    """Carry out the runs; returns what was found, and why that is not all well."""
    name, sizes, fixed = asked
    all_sizes = sizes if check_size is None else (*sizes, check_size)
    specs = [base.spec({}, {**fixed, name: _literal(size)}) for size in all_sizes]
    with opened_results(base, where, "scale") as results:
        is_whole = finished(specs, results, where)
        found = results.results(specs)
    error = None if is_whole else interrupted(specs, found, where)
    done = [(size, it) for size, it in zip(all_sizes, found, strict=True) if it is not None]
    runs = [it for it in done if it[0] != check_size]
    checked = next((it for it in done if it[0] == check_size), None)
    if not runs:
        return None, error
    return scale_results(name, runs, checked), error or _failed(name, runs, checked)


def _failed(
    name: str, runs: Sequence[tuple[float, RunResult]], checked: tuple[float, RunResult] | None
) -> RunError | None:
    failed = [(size, it.failure) for size, it in runs if it.failure is not None]
    if failed:
        return RunError(f"the script failed at {name} {failed[0][0]:g}: {failed[0][1]}")
    if checked is not None and checked[1].failure is not None:
        note(f"the check at {name} {checked[0]:g} failed: {checked[1].failure}")
    return None


def _literal(size: float) -> Value:
    return int(size) if size == int(size) else size


def _write(found: ScaleResults, output_format: Format, *, all_settings: bool) -> None:
    match output_format:
        case "table":
            from sqlstable.report.scale_table import render_scale

            target = screen()
            write(
                render_scale(
                    found,
                    width=target.width,
                    color_system=target.color_system,
                    settings=all_settings,
                )
            )
        case "json":
            from sqlstable.report.scale_data import render_scale_json

            write_data(render_scale_json(found))
        case "csv":
            from sqlstable.report.scale_data import render_scale_csv

            write_data(render_scale_csv(found))
