"""What ``sqlstable --version`` says."""

import sys

import typer

from sqlstable.database.library import sqlite_version


def print_version(wanted: bool) -> None:  # noqa: FBT001  typer's callback
    """Print the versions and end, where that is wanted."""
    if wanted:
        # The root of the package is loaded whenever a part of it is: it need not be imported.
        version = sys.modules["sqlstable"].__version__
        typer.echo(f"sqlstable {version} (SQLite {sqlite_version()})")
        raise typer.Exit
