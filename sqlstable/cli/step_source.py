"""Reading a workload of steps: from a file, from stdin, a ready one, or a module by itself."""

import sys
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Final

from sqlstable.cli.output import write, write_data
from sqlstable.errors import ScriptError
from sqlstable.ic.units import MIB
from sqlstable.sqlite.header import SQLITE_MAGIC
from sqlstable.workload.ready_made import FOLDER, MARK
from sqlstable.workload.stepping.ready_steps import list_ready_steps, ready_steps

STDIN: Final = "-"
WORKLOAD_BYTES_MAX: Final = 64 * MIB
"""What a workload may have; large arguments lie in files of their own."""

_MODULES: Final = (b"\0asm", b"\x1f\x8b")


@dataclass(frozen=True, slots=True)
class StepText:
    """A workload as it stands in its file."""

    name: str
    "What errors call it."
    folder: Path
    "Where relative files lie."
    text: str
    is_module: bool = False
    "Whether a module was given, which is installed and nothing more."


def read_step_text(path: str) -> StepText:
    """Read a workload.

    Args:
        path: A file, ``-`` for stdin, ``@`` and the name of a ready one, or a module.

    Raises:
        ScriptError: It cannot be read, or is something else.
    """
    if path.startswith(MARK):
        return StepText(path, FOLDER, ready_steps(path))
    if path == STDIN:
        if sys.stdin is None:
            raise ScriptError("stdin is closed; give the path of a workload")
        return _text("stdin", Path(), sys.stdin.buffer.read(WORKLOAD_BYTES_MAX + 1))
    data = _read(Path(path))
    if not data and path.endswith((".wasm", ".gz")):
        raise ScriptError(f"{path} is empty, as a build that failed leaves it; build it again")
    if data.startswith(_MODULES):
        name = Path(path).name
        return StepText(name, Path(path).parent, f"install {quote(name)}", is_module=True)
    return _text(path, Path(path).parent, data)


def lists_ready_steps(workload: str) -> bool:
    """Print the ready workloads where they are asked for; returns whether they were."""
    if workload == MARK:
        write(list_ready_steps())
    return workload == MARK


def shows_steps(workload: str, *, is_asked: bool) -> bool:
    """Print a workload where that is asked for; returns whether it was."""
    if is_asked:
        write_data([read_step_text(workload).text])
    return is_asked


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(WORKLOAD_BYTES_MAX + 1)
    except FileNotFoundError:
        raise ScriptError(
            f"there is no file {path}; give a workload whose first step is install app.wasm, or "
            "the module itself"
        ) from None
    except IsADirectoryError:
        raise ScriptError(f"{path} is a folder; give a workload in it, or a module") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ScriptError(f"{path} cannot be read: {reason}") from None


def _text(name: str, folder: Path, data: bytes) -> StepText:
    if data.startswith(SQLITE_MAGIC):
        raise ScriptError(
            f"{name} is a SQLite file, not a workload; a trace goes to sqlstable report, a "
            "database to sqlstable run --database"
        )
    if len(data) > WORKLOAD_BYTES_MAX:
        raise ScriptError(
            f"{name} has more than {WORKLOAD_BYTES_MAX // MIB} MiB, which is the most that a "
            "workload may have; an argument in a file is given as @FILE, a blob as {file:PATH}"
        )
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise ScriptError(
            f"{name}, line {line}: there is a NUL character; is this a text file in UTF-8?"
        )
    try:
        return StepText(name, folder, data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ScriptError(
            f"{name}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8; convert the "
            "workload, or is it a module? Those begin with \\0asm or are gzipped"
        ) from None
