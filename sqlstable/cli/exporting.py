"""``sqlstable report --export``: what a trace holds, as data for other programs."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Literal

from sqlstable.cli.failures import UsageError, note
from sqlstable.cli.output import is_terminal, write_data
from sqlstable.cli.places import OutputKind, check_output, new_output

if TYPE_CHECKING:
    from sqlstable.trace.format.reader import Trace

Export = Literal["accesses", "statements", "messages", "chrome-trace", "speedscope"]

_TABLES: Final = ("accesses", "statements", "messages")
_PARQUET: Final = OutputKind("export", b"PAR1")
_TEXTS: Final[dict[Export, OutputKind]] = {
    "accesses": OutputKind("export", b"statement,"),
    "statements": OutputKind("export", b"statement_index,"),
    "messages": OutputKind("export", b"message_index,"),
    "chrome-trace": OutputKind("export", b"{"),
    "speedscope": OutputKind("export", b"{"),
}
"""What an old file begins with that may be replaced."""


def check_export(
    export: Export | None, output_format: str, output: Path | None, *, force: bool
) -> None:
    """Refuse a format that an export does not have, and a place where it cannot go.

    Raises:
        UsageError: It says what goes together.
    """
    if export is None:
        if output_format == "parquet":
            raise UsageError(
                f"--format parquet goes with --export {', '.join(_TABLES[:-1])} or {_TABLES[-1]}; "
                "add one of them"
            )
        return
    formats = ("csv", "parquet") if export in _TABLES else ("json",)
    if output_format not in ("table", *formats):
        names = " or ".join(it.upper() if it != "parquet" else "Parquet" for it in formats)
        raise UsageError(
            f"--export {export} writes {names}, not --format {output_format}; leave --format out"
        )
    if output is not None:
        check_output(
            output, _PARQUET if output_format == "parquet" else _TEXTS[export], force=force
        )
    elif output_format == "parquet" and is_terminal(sys.stdout):
        raise UsageError(
            "Parquet is no text for a terminal; name a file with --output FILE, or send it on"
        )


def write_export(
    trace: "Trace", export: Export, output_format: str, output: Path | None, *, force: bool
) -> None:
    """Write an export into a file, or on stdout."""
    if output_format == "parquet":
        from sqlstable.trace.format.parquet import write_parquet

        with _binary(output, force=force) as target:
            write_parquet(trace.column_parts(export), target)
    elif output is None:
        write_data(_text(trace, export))
    else:
        with (
            new_output(output, _TEXTS[export], force=force) as partial,
            partial.open("w", encoding="utf-8", newline="\n") as target,
        ):
            target.writelines(_text(trace, export))
    if output is not None:
        note(f"the export is in {output}")


def _text(trace: "Trace", export: Export) -> Iterator[str]:
    from sqlstable.report.accesses_csv import render_accesses_csv
    from sqlstable.report.records_csv import render_columns_csv
    from sqlstable.report.timeline_json import render_chrome_trace, render_speedscope
    from sqlstable.trace.format.stream import StreamedTrace

    match export:
        case "chrome-trace":
            yield from render_chrome_trace(StreamedTrace(trace))
        case "speedscope":
            yield from render_speedscope(StreamedTrace(trace))
        case "accesses":
            yield from render_accesses_csv(trace)
        case _:
            yield from render_columns_csv(trace.column_parts(export))


@contextmanager
def _binary(output: Path | None, *, force: bool) -> Iterator[BinaryIO]:
    if output is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        return
    with new_output(output, _PARQUET, force=force) as partial, partial.open("wb") as target:
        yield target
