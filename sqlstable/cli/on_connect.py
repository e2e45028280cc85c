"""``--on-connect FILE.py``: what the databases of a program need beside SQLite itself."""

import runpy
from collections.abc import Sequence
from pathlib import Path

from sqlstable.cli.failures import UsageError
from sqlstable.cli.places import check_regular
from sqlstable.database.checking import Setup, SqliteConnection, SqliteError


def load_setups(path: Path | None) -> Sequence[Setup]:
    """Run a Python file, and return its function ``on_connect``; nothing where there is no file.

    Raises:
        UsageError: There is no such file, it cannot be run, or it has no such function.
    """
    if path is None:
        return ()
    check_regular(path)
    try:
        found = runpy.run_path(str(path)).get("on_connect")
    except Exception as error:
        raise UsageError(f"--on-connect {path} cannot be run: {_said(error)}") from error
    if not callable(found):
        raise UsageError(
            f"--on-connect {path} defines no on_connect(connection), which gives an apsw "
            "connection its functions and collations"
        )

    def setup(connection: SqliteConnection) -> None:
        try:
            found(connection)
        except SqliteError:
            raise
        except Exception as error:
            raise UsageError(f"on_connect of {path} has failed: {_said(error)}") from error

    return (setup,)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
