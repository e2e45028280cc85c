"""Reading a workload script from a file, from stdin, or from those that come with the package."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

from sqlstable.cli.output import write_data
from sqlstable.engine.native.native_engine import is_complete
from sqlstable.errors import ScriptError
from sqlstable.ic.units import MIB
from sqlstable.sqlite.header import SQLITE_MAGIC
from sqlstable.workload.placeholders import Value, fill_placeholders
from sqlstable.workload.ready_made import FOLDER, MARK, ready_workload
from sqlstable.workload.script import ScriptStep, parse_script

STDIN: Final = "-"
"""Stands for stdin in place of a file."""

SCRIPT_BYTES_MAX: Final = 256 * MIB
"""What a script may have: rows beyond belong into a database, or a CSV file for ``--@ params``."""

_PIECE_BYTES: Final = MIB


@dataclass(frozen=True, slots=True)
class Script:
    """A script, cut into its steps."""

    name: str
    "What errors call it."
    steps: tuple[ScriptStep, ...]

    @property
    def message_count(self) -> int:
        """How many messages it sends if nothing fails."""
        return sum(step.repeat for step in self.steps)


@dataclass(frozen=True, slots=True)
class ScriptText:
    """A script as it stands in its file."""

    name: str
    "What errors call it."
    folder: Path
    "Where relative files of ``--@ params`` lie."
    text: str

    def filled(self, params: Mapping[str, Value]) -> "ScriptText":
        """Return it with other values for parameters.

        Raises:
            ScriptError: A parameter of it is wrong.
            SettingsError: It has no such parameter, or of another kind.
        """
        if not params:
            return self
        return replace(self, text=fill_placeholders(self.text, params, name=self.name))

    def cut(self) -> Script:
        """Cut it into its steps.

        Raises:
            ScriptError: It, or a CSV file that it names, cannot be understood.
        """
        steps = parse_script(
            self.text, is_complete=is_complete, base_folder=self.folder, name=self.name
        )
        return Script(self.name, steps)


def read_script(path: str, params: Mapping[str, Value]) -> Script:
    """Read a script and cut it into its steps; nothing runs yet.

    Args:
        path: A file, ``-`` for stdin, or ``@`` and the name of a ready workload.
        params: Other values for its parameters.

    Raises:
        ScriptError: It cannot be read, is no text, or cannot be understood.
        SettingsError: It has no such parameter, or of another kind.
    """
    return read_script_text(path).filled(params).cut()


def shows_script(path: str, params: Mapping[str, Value], *, is_asked: bool) -> bool:
    """Print a script where that is asked for; returns whether it was.

    Raises:
        ScriptError: It cannot be read, is no text, or a parameter of it is wrong.
        SettingsError: It has no such parameter, or of another kind.
    """
    if is_asked:
        write_data([read_script_text(path).filled(params).text])
    return is_asked


def read_script_text(path: str) -> ScriptText:
    """Read a script as text.

    Raises:
        ScriptError: It cannot be read, or is no text.
    """
    if path.startswith(MARK):
        ready = ready_workload(path)
        return ScriptText(path, FOLDER, ready.text)
    if path == STDIN:
        name, folder, data = "stdin", Path(), _read_stdin()
    else:
        name, folder, data = path, Path(path).parent, _read_file(path)
    return ScriptText(name, folder, _decode(name, data))


def _read_stdin() -> bytes:
    if sys.stdin is None:
        raise ScriptError("stdin is closed; give the path of an SQL script")
    return _read("stdin", sys.stdin.buffer)


def _read_file(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return _read(path, file)
    except FileNotFoundError:
        raise ScriptError(f"there is no file {path}; give the path of an SQL script") from None
    except IsADirectoryError:
        raise ScriptError(f"{path or '.'} is a folder; give the path of an SQL script") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ScriptError(f"{path} cannot be read: {reason}") from None


def _read(name: str, file: BinaryIO) -> bytes:
    """Read all there is, piece by piece: a pipe or a device need not have an end."""
    data = bytearray()
    while piece := file.read(_PIECE_BYTES):
        data += piece
        if data.startswith(SQLITE_MAGIC):
            raise ScriptError(
                f"{name} is a SQLite file, not a script; a database goes to --database, "
                "a trace to sqlstable report"
            )
        nul = data.find(b"\0", len(data) - len(piece))
        if nul >= 0:
            raise ScriptError(
                f"{name}, line {_line(data, nul)}: there is a NUL character, which SQL cannot "
                "hold; is this a text file in UTF-8?"
            )
        if len(data) > SCRIPT_BYTES_MAX:
            raise ScriptError(
                f"{name} has more than {SCRIPT_BYTES_MAX // MIB} MiB, which is the most that a "
                "script may have; give rows as --database, or in a CSV file for --@ params"
            )
    return bytes(data)


def _decode(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ScriptError(
            f"{name}, line {_line(data, error.start)}: byte 0x{data[error.start]:02x} is not "
            "UTF-8; convert the script"
        ) from None


def _line(data: bytes | bytearray, position: int) -> int:
    return data.count(b"\n", 0, position) + 1
