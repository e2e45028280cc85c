"""Letting another process read a file that this one has open.

POSIX gives a lock to a process, not to a descriptor: a second SQLite in the process, as the
standard ``sqlite3`` is beside APSW, would pass through the locks of the first, and give them up
when it closes the file. Another process meets them as anybody does.
"""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from sqlstable.errors import ImageError

_DESCRIPTORS: Final = ("/proc/self/fd", "/dev/fd")
"""Folders with the numbers of all descriptors, on Linux and on macOS."""


def is_open_here(path: Path) -> bool:
    """Whether this process has a descriptor of the file; False where nobody can tell."""
    found = path.stat()
    for folder in _DESCRIPTORS:
        with suppress(OSError):
            return any(_is_of(int(entry.name), found) for entry in Path(folder).iterdir())
    return False


def call_elsewhere(function: str, *arguments: str) -> None:
    """Call a function ``module:name`` of ours with texts, in another process.

    Raises:
        ImageError: It raised one, or could not be called; the text is that of the process.
    """
    module, name = function.split(":")
    program = (
        f"import sys\nfrom sqlstable.errors import ImageError\nfrom {module} import {name}\n"
        f"try:\n    {name}(*sys.argv[1:])\nexcept ImageError as error:\n    sys.exit(str(error))\n"
    )
    done = subprocess.run(  # noqa: S603  Python itself, and a program of ours
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUTF8": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise ImageError(done.stderr.strip() or f"the process ended with {done.returncode}")


def _is_of(descriptor: int, found: os.stat_result) -> bool:
    try:
        other = os.fstat(descriptor)
    except OSError:
        # That with which the folder was listed.
        return False
    return os.path.samestat(found, other)
