"""``sqlstable schema check``: may a database of one schema become one of another, and come back?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from sqlstable.cli.failures import RunError, UsageError, note
from sqlstable.cli.options import (
    LATEST,
    EngineOption,
    Format,
    LayoutOption,
    LimitsOption,
    RenameOption,
    SettingsOption,
    chosen_limits,
)
from sqlstable.cli.output import screen, write, write_data
from sqlstable.cli.progress import WorkProgress, engine_notes

if TYPE_CHECKING:
    from sqlstable.schema.schema_verdicts import SchemaCheck, Verdict
    from sqlstable.workload.schema_cost import MigrationCost

Requirement = Literal["both-ways", "forward"]

_ALLOWED: Final[dict[str, tuple[str, ...]]] = {
    "both-ways": ("same", "both ways"),
    "forward": ("same", "both ways", "forward only"),
}
"""The verdicts that a requirement is content with."""


OldArgument = Annotated[
    Path,
    typer.Argument(
        metavar="OLD",
        help="The schema as it is: a SQL file, a SQLite database, an image of stable memory or "
        "a snapshot's folder. It is only read; of one that has rows these decide.",
    ),
]
NewArgument = Annotated[
    Path, typer.Argument(metavar="NEW", help="The schema that it is to be: any of the same.")
]
DropOption = Annotated[
    list[str] | None,
    typer.Option(
        "--drop",
        metavar="NAME",
        help="A table, or TABLE.COLUMN, that is dropped, though its like is new.",
    ),
]
DatabaseOption = Annotated[
    Path | None,
    typer.Option(
        "--database",
        metavar="APP.db|IMAGE",
        help="Rows of the old schema that decide what only rows can, and on a copy of which "
        "the migration is measured. [default: OLD, if it is a database or an image]",
    ),
]
RequireOption = Annotated[
    Requirement | None,
    typer.Option(
        "--require",
        metavar="both-ways|forward",
        help="Fail, with status 1, unless the verdict is at least this.",
    ),
]
OutputFormatOption = Annotated[
    Format, typer.Option("--format", help="What to write: table (text) or json.")
]


def check_schema(  # noqa: PLR0913  each is an option
    *,
    old: OldArgument,
    new: NewArgument,
    rename: RenameOption = None,
    drop: DropOption = None,
    database: DatabaseOption = None,
    engine: EngineOption = "native",
    layout: LayoutOption = None,
    limits: LimitsOption = LATEST,
    require: RequireOption = None,
    output_format: OutputFormatOption = "table",
    all_settings: SettingsOption = False,
) -> None:
    """Say whether a schema can become another one and come back, with the SQL and what it costs."""
    if output_format == "csv":
        raise UsageError("a check is no table of numbers; choose --format table or json")
    with engine_notes(), WorkProgress() as progress:
        data = _data_of(old, database)
        check, cost = _checked(
            (old, new, data),
            _pairs(rename or []),
            drop or [],
            (engine, layout, limits),
            progress,
        )
    names = (str(old), str(new))
    if output_format == "json":
        from sqlstable.cli.schema_check_text import as_json

        write_data([as_json(names, check, cost)])
    else:
        from sqlstable.cli.schema_check_text import as_text

        target = screen()
        asked = None if data is None else str(data)
        write(as_text(names, check, cost, target, data=asked, all_settings=all_settings))
    for text in check.notes:
        note(text)
    _demand(check.verdict, require)
    if cost is not None and cost.failure is not None:
        raise RunError(f"the migration fails on a copy of {cost.source}: {cost.failure}")


def _checked(
    paths: tuple[Path, Path, Path | None],
    renames: dict[str, str],
    dropped: list[str],
    choices: tuple[Literal["native", "wasm"], str | None, str],
    progress: WorkProgress,
) -> "tuple[SchemaCheck, MigrationCost | None]":
    from sqlstable.schema.schema_check import check_schemas
    from sqlstable.schema.schema_files import copied_database, read_schema, source_kind
    from sqlstable.workload.schema_cost import migration_cost

    old_path, new_path, data = paths
    engine, layout, limits = choices
    progress.show(f"reading {old_path.name}")
    old = read_schema(old_path)
    new = read_schema(new_path)
    if data is None:
        if engine != "native" or layout is not None:
            raise UsageError(
                "--engine and --layout concern what a migration costs, for which there has to be a "
                "database: give --database APP.db"
            )
        return check_schemas(old, new, renames=renames, dropped=dropped), None
    if source_kind(data) == "sql":
        raise UsageError(f"{data} is no database; --database is a SQLite database or an image")
    if layout is not None and source_kind(data) == "image":
        raise UsageError(f"{data} is an image, which has a layout of its own; leave --layout out")
    if data != old_path:
        _check_same(old_path, data)
    progress.show(f"asking the rows of {data.name}")
    with copied_database(data) as connection:
        check = check_schemas(old, new, renames=renames, dropped=dropped, data=connection)
    if check.migration is None or not check.migration.steps:
        return check, None
    progress.show(f"migrating a copy of {data.name}")
    cost = migration_cost(
        data, check.migration, engine=engine, layout=layout, limits=chosen_limits(limits)
    )
    return check, cost


def _data_of(old: Path, database: Path | None) -> Path | None:
    from sqlstable.schema.schema_files import source_kind

    return old if database is None and source_kind(old) != "sql" else database


def _check_same(old: Path, data: Path) -> None:
    from sqlstable.schema.schema_check import check_schemas
    from sqlstable.schema.schema_files import read_schema

    found = check_schemas(read_schema(data), read_schema(old))
    if found.verdict != "same":
        raise UsageError(
            f"{data} has another schema than {old}: {found.changes[0].name} differs, for one; give "
            "the database as OLD"
        )


def _pairs(texts: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        before, sign, after = text.partition("=")
        if not (before and sign and after):
            raise UsageError(
                f"--rename {text} is none; write OLD=NEW, as in --rename person.name=full_name"
            )
        if before in found:
            raise UsageError(f"--rename gives {before} two names: {found[before]} and {after}")
        found[before] = after
    return found


def _demand(verdict: "Verdict", require: Requirement | None) -> None:
    if require is not None and verdict not in _ALLOWED[require]:
        raise RunError(f"the verdict is {verdict}, and --require {require} asks for more")
    if verdict == "incompatible":
        raise RunError("there is no migration; somebody has to decide what is said above")
