"""The command line: one module for each command, and what they share.

``failures`` turns errors into messages and exit statuses, ``output`` knows the terminal.
"""

from typing import Annotated

import typer

from sqlstable.cli.demo import show_demo
from sqlstable.cli.extract import extract_to_file
from sqlstable.cli.failures import Commands, run_program
from sqlstable.cli.import_ import import_database
from sqlstable.cli.report import report_trace
from sqlstable.cli.run import run_script
from sqlstable.cli.version import print_version

app = typer.Typer(
    name="sqlstable",
    cls=Commands,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command("demo")(show_demo)
app.command("run")(run_script)
app.command("report")(report_trace)
app.command("import")(import_database)
app.command("extract")(extract_to_file)


@app.callback(invoke_without_command=True)
def commands(
    context: typer.Context,
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Run SQLite on simulated Internet Computer stable memory.

    See for each SQL statement which 4 KiB OS pages it touches, and whose they are.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run the program with the arguments of the command line."""
    run_program(app)
