"""``sqlstable upgrade compare``: serialising at every upgrade, or staying in stable memory."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sqlstable.cli.failures import RunError, UsageError
from sqlstable.cli.many_runs import listed
from sqlstable.cli.options import (
    LATEST,
    CacheSizeOption,
    EngineOption,
    Format,
    FormatOption,
    PageSizeOption,
    SettingsOption,
)
from sqlstable.cli.output import screen, write, write_data
from sqlstable.cli.places import check_regular
from sqlstable.cli.progress import WorkProgress, engine_notes
from sqlstable.cli.script_source import read_script_text
from sqlstable.workload.placeholders import read_value

if TYPE_CHECKING:
    from sqlstable.analysis.upgrading.upgrade_runs import UpgradeComparison
    from sqlstable.workload.upgrading.comparing import UpgradeWorkload

NO_CHECK: Final = "none"

CHECK_TIMES: Final = 3
"""How far beyond the built-in sizes the check lies."""


ScriptArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="SCRIPT.sql",
        help="Messages of a day, behind what fills the database: SQL, - for stdin, or @NAME of a "
        "ready workload. [default: rows with an index, looked up, added and changed]",
    ),
]
DatabaseOption = Annotated[
    Path | None,
    typer.Option(
        "--database",
        metavar="APP.db",
        help="Begin with a SQLite database; then all of the script is the day's.",
    ),
]
SizesOption = Annotated[
    str | None,
    typer.Option(
        "--rows",
        metavar="SIZE,…",
        help="Sizes of the script's parameter rows, or of its first. [default: 1e3,3e3,1e4,3e4,"
        "1e5; of a script of one's own that which it has]",
    ),
]
CheckOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE|none",
        help="Of the real run beyond the sizes that checks the laws. [default: as far beyond the "
        "largest as that is beyond the one before, at most three times]",
    ),
]
ReadsOption = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="COUNT",
        help="Messages a day that only read. [default: 100000]",
        show_default=False,
    ),
]
WritesOption = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="COUNT",
        help="Messages a day that write. [default: 10000]",
        show_default=False,
    ),
]
DateOption = Annotated[
    str,
    typer.Option(
        "--limits",
        metavar="DATE",
        help="Limits and prices of the Internet Computer, as of a date.",
    ),
]


def compare_ways(  # noqa: PLR0913  each is an option
    *,
    script: ScriptArgument = None,
    database: DatabaseOption = None,
    rows: SizesOption = None,
    check: CheckOption = None,
    reads_per_day: ReadsOption = 100_000,
    writes_per_day: WritesOption = 10_000,
    engine: EngineOption = "wasm",
    page_size: PageSizeOption = None,
    cache_size: CacheSizeOption = None,
    limits: DateOption = LATEST,
    output_format: FormatOption = "table",
    all_settings: SettingsOption = False,
) -> None:
    """Measure serialising the heap at every upgrade beside staying in stable memory."""
    from sqlstable.workload.upgrading.comparing import SIZES, compare_upgrades

    _check_engine(engine)
    workload = _workload(script, database)
    sizes = _sizes(rows)
    if sizes is None and script is None:
        sizes = list(SIZES)
    with engine_notes(), WorkProgress() as progress:
        found = compare_upgrades(
            workload,
            rows=sizes,
            check=_check_size(check, sizes),
            reads_per_day=reads_per_day,
            writes_per_day=writes_per_day,
            page_size=page_size,
            cache_size=cache_size,
            limits=_limits(limits),
            on_work=lambda what, done, total: progress.show(what, done=done, total=total),
        )
    _write(found, output_format, all_settings=all_settings)
    failed = [run for run in found.sizes[-1].runs if run.failure is not None]
    if len(failed) == len(found.ways):
        raise RunError(f"no way came through: {failed[0].failure}")


def _workload(script: str | None, database: Path | None) -> "UpgradeWorkload":
    from sqlstable.workload.upgrading.comparing import UpgradeWorkload

    if database is not None:
        check_regular(database)
        if script is None:
            raise UsageError(
                "--database wants a script of the day's messages, which are its own: sqlstable "
                "upgrade compare SCRIPT.sql --database APP.db"
            )
    if script is None:
        return UpgradeWorkload()
    text = read_script_text(script)
    if not text.cut().steps:
        raise UsageError(f"{text.name} holds no statements, so there is nothing to compare")
    return UpgradeWorkload(text.text, text.name, text.folder, database)


def _check_engine(engine: str) -> None:
    if engine != "wasm":
        raise UsageError(
            f"--engine {engine} has no heap that could be serialised, and counts no instructions; "
            "upgrades are compared on the wasm engine"
        )


def _limits(limits: str) -> str:
    if limits.lower() == NO_CHECK:
        raise UsageError(
            "--limits none leaves nothing that could fail first; give a date, or leave it out"
        )
    return limits


def _sizes(text: str | None) -> list[float] | None:
    if text is None:
        return None
    return sorted(_size("--rows", word) for word in listed("--rows", text))


def _size(option: str, word: str) -> float:
    value = read_value(word)
    if isinstance(value, str) or value != int(value) or value < 1:
        raise UsageError(
            f"{option} {word[:80]!r} is no size; a size is a whole number above 0, as in 1e4"
        )
    return float(value)


def _check_size(text: str | None, sizes: list[float] | None) -> float | None:
    if text == NO_CHECK or (text is None and (sizes is None or len(sizes) == 1)):
        return None
    if text is not None and sizes is None:
        raise UsageError(f"--check {text} wants --rows, beyond which it lies")
    assert sizes is not None
    if text is None:
        return float(round(sizes[-1] * min(CHECK_TIMES, sizes[-1] / sizes[-2])))
    size = _size("--check", text)
    if size <= sizes[-1]:
        raise UsageError(
            f"--check {text} is not beyond the largest size, {sizes[-1]:g}; give a larger one, or "
            f"--check {NO_CHECK}"
        )
    return size


def _write(found: "UpgradeComparison", output_format: Format, *, all_settings: bool) -> None:
    match output_format:
        case "table":
            from sqlstable.report.upgrade_table import render_upgrades

            target = screen()
            write(
                render_upgrades(
                    found,
                    width=target.width,
                    color_system=target.color_system,
                    settings=all_settings,
                )
            )
        case "json":
            from sqlstable.report.upgrade_data import render_upgrade_json

            write_data(render_upgrade_json(found))
        case "csv":
            from sqlstable.report.upgrade_data import render_upgrade_csv

            write_data(render_upgrade_csv(found))
