"""``sqlstable schema migrate``: take the database in an image to another schema."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sqlstable.cli.failures import UsageError, note
from sqlstable.cli.image_canister import ImageArgument, opened_image
from sqlstable.cli.options import (
    LATEST,
    BuildOption,
    EngineOption,
    LayoutOption,
    LimitsOption,
    RenameOption,
)
from sqlstable.cli.output import screen, write
from sqlstable.cli.progress import WorkProgress, engine_notes
from sqlstable.report.numbers import count, counted
from sqlstable.report.text import clean, wrap

if TYPE_CHECKING:
    from sqlstable.canister.migrating import MigrationMessage, MigrationReport
    from sqlstable.canister.reply import Reply
    from sqlstable.trace.model import LimitUse


SchemaArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="NEW",
        help="The schema to reach: a SQL file, or a folder of numbered migrations "
        "(0001_name.sql, and 0001_name.down.sql for the way back).",
    ),
]
DropOption = Annotated[
    list[str] | None,
    typer.Option(
        "--drop", metavar="NAME", help="A TABLE.COLUMN that is dropped, though its like is new."
    ),
]
RowsOption = Annotated[
    int | None,
    typer.Option(
        "--rows-per-message",
        metavar="N",
        min=1,
        help="Rows that a message copies at most. [default: found out by what the message before "
        "has used of its limits]",
    ),
]
UpgradeOption = Annotated[
    bool,
    typer.Option("--upgrade", help="Do all that is left inside one upgrade, in its post_upgrade."),
]
PrepareOption = Annotated[
    bool,
    typer.Option(
        "--prepare", help="Stop before the last message, which switches to the new schema."
    ),
]
AbandonOption = Annotated[
    bool, typer.Option("--abandon", help="Give up the migration that is under way; without NEW.")
]


_MEANINGS: Final = {
    "begin": "  makes what rows are copied to",
    "look": "  finds no rows left",
    "run": "  runs what is not cut into rows",
}
"""What messages are for whose name alone does not say it."""


def migrate_image(  # noqa: PLR0913  each is an option
    *,
    image: ImageArgument,
    schema: SchemaArgument = None,
    rename: RenameOption = None,
    drop: DropOption = None,
    rows_per_message: RowsOption = None,
    upgrade: UpgradeOption = False,
    prepare: PrepareOption = False,
    abandon: AbandonOption = False,
    engine: EngineOption = "native",
    build: BuildOption = None,
    layout: LayoutOption = None,
    limits: LimitsOption = LATEST,
) -> None:
    """Take the database in an image to another schema, by as many messages as it takes.

    Run it again after whatever has cut it off: it goes on from there.
    """
    _check(schema, abandon=abandon, upgrade=upgrade, prepare=prepare, rows=rows_per_message)
    renames, dropped = _renames(rename or []), drop or ()
    with (
        engine_notes(),
        opened_image(image, engine=engine, build=build, layout=layout, limits=limits) as canister,
    ):
        if schema is None:
            canister.abandon_migration()
            write(f"{clean(str(image))}: the migration is given up, and all is as before\n")
            return
        if upgrade:
            reply = canister.upgrade(schema=schema, renames=renames, dropped=dropped)
            _tell(reply.notes or ("the schema is there already",))
            _tell_cost(reply, engine)
            return
        with WorkProgress() as progress:
            report = canister.migrate(
                schema,
                renames=renames,
                dropped=dropped,
                rows_per_message=rows_per_message,
                switch=not prepare,
                on_message=_shown_on(progress),
            )
    _write(image, report, engine)


def _shown_on(progress: WorkProgress) -> "Callable[[MigrationMessage], None]":
    rows = 0

    def show(message: "MigrationMessage") -> None:
        nonlocal rows
        rows += message.rows
        progress.show(f"migrating: {count(rows)} rows", done=rows)

    return show


def _check(
    schema: Path | None, *, abandon: bool, upgrade: bool, prepare: bool, rows: int | None
) -> None:
    """Refuse what does not go together.

    Raises:
        UsageError: It does not.
    """
    if abandon != (schema is None):
        raise UsageError(
            "--abandon gives up what is under way, and takes no NEW"
            if abandon
            else "there is no NEW; give a SQL file, or a folder of numbered migrations"
        )
    if upgrade and (prepare or rows is not None):
        raise UsageError(
            "--upgrade does all of it in one message, so it goes with neither --prepare nor "
            "--rows-per-message; leave one of them out"
        )


def _renames(texts: Sequence[str]) -> dict[str, str]:
    """Return the names that change.

    Raises:
        UsageError: A text is no pair of names.
    """
    pairs = [text.partition("=") for text in texts]
    wrong = next(
        (text for text, it in zip(texts, pairs, strict=True) if not (it[0] and it[2])), None
    )
    if wrong is not None:
        raise UsageError(f"--rename {wrong} is no pair; write it as OLD=NEW")
    return {old: new for old, _, new in pairs}


def _write(image: Path, report: "MigrationReport", engine: str) -> None:
    name = clean(str(image))
    doings = [it.doing for it in report.messages]
    if doings == ["look"]:
        _tell((f"{name}: there is nothing to do" if report.is_switched else _waits(name),))
        return
    is_in_place = any(it in ("change", "run", "numbered") for it in doings)
    verb = "changed in place" if is_in_place else "copied"
    rows_words = f", {counted(report.rows, 'row')} {verb}" if report.rows else ""
    write(f"{name}: {counted(len(doings), 'message')}{rows_words}\n")
    for doing in dict.fromkeys(doings):
        messages = [it for it in report.messages if it.doing == doing]
        rows = sum(it.rows for it in messages)
        words = f"  {doing:8} {counted(len(messages), 'message'):>14}"
        more = f"  {counted(rows, 'row')}" if rows else _MEANINGS.get(doing, "")
        write(f"{words}{more}\n")
    if report.crossed:
        write(
            f"  {counted(report.crossed, 'more message')} crossed a limit, left nothing, and took "
            "fewer rows\n"
        )
    if report.nearest is not None:
        _tell_limit(report.nearest)
    _tell(report.sentences)
    if not report.is_switched:
        _tell((_waits(name),))
    _note_uncounted(engine)


def _tell_cost(reply: "Reply", engine: str) -> None:
    """Say what an upgrade took, and of which limit the most."""
    from sqlstable.analysis.verdict import tightest_limit

    touched = reply.footprint
    accessed, dirty = count(touched.os_pages_accessed), count(touched.os_pages_dirty)
    write(f"  the upgrade: {accessed} OS pages accessed, {dirty} dirty")
    instructions = reply.message.instructions
    write("\n" if instructions is None else f", {count(instructions.total)} instructions\n")
    nearest = tightest_limit(reply.message)
    if nearest is not None:
        _tell_limit(nearest)
    _note_uncounted(engine)


def _tell_limit(use: "LimitUse") -> None:
    from sqlstable.report.limit_words import limit_words

    write(f"  nearest limit: {limit_words(use)}\n")


def _note_uncounted(engine: str) -> None:
    if engine == "native":
        note("instructions are not counted on the native engine; --engine wasm counts them")


def _waits(name: str) -> str:
    return (
        f"{name}: all rows are copied, and the switch waits; run it again without --prepare, or "
        "with --upgrade"
    )


def _tell(sentences: Sequence[str]) -> None:
    width = screen().width
    for sentence in sentences:
        write("\n".join(wrap(clean(sentence), width)) + "\n")
