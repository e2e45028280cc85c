"""Cells of a notebook, run in a shell of IPython in this process."""

import builtins
import io
import warnings
from contextlib import redirect_stderr, redirect_stdout

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from sqlstable.errors import SettingsError


def make_shell():
    """Return a shell that keeps no history on disk and prints no colour."""
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    with warnings.catch_warnings():
        # What IPython imports on its way is its own affair.
        warnings.simplefilter("ignore")
        return InteractiveShell(config=config)


def no_matplotlib():
    """Stand in for a room whose library is missing."""
    raise SettingsError("matplotlib is missing")


class Cells:
    """Runs one cell after the other."""

    def __init__(self):
        self._shell = make_shell()

    def run(self, text):
        """Run a cell, and return what it prints and returns, as a terminal shows it."""
        out = io.StringIO()
        # A doctest before may have left one, and IPython leaves that of somebody else alone.
        vars(builtins).pop("_", None)
        with redirect_stdout(out), redirect_stderr(out):
            done = self._shell.run_cell(text)
        lines = out.getvalue()
        if done.result is not None and lines.startswith("Out["):
            lines = lines.partition(": ")[2].lstrip("\n")
        return lines.rstrip("\n") + "\n" if lines.strip() else ""

    def close(self):
        """Give back what the extension holds."""
        self._shell.run_line_magic("unload_ext", "sqlstable")
        InteractiveShell.clear_instance()
