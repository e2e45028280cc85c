"""A real process that is killed in the middle of a message, and what it said and left."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from sqlstable.cli.failures import RunError

ANSWERED: Final = 20
"""Transfers that the process answers before it begins the message that it does not survive."""

SIGKILL: Final[int] = getattr(signal, "SIGKILL", 0)
"""What ``kill -9`` sends; 0 where there is none, as on Windows."""

VICTIM: Final = "sqlstable.cli.stories.victim"
"""What it runs."""


@dataclass(frozen=True, slots=True)
class Killed:
    """What a process said of itself before it was killed, and what was left of it."""

    answered: tuple[int, ...]
    "Numbers of the transfers that it answered."
    accessed: tuple[int, ...]
    "OS pages that the open message had accessed, by their indexes."
    dirty: tuple[int, ...]
    "Those that it had written."
    cached: tuple[int, ...]
    "OS pages of which SQLite held a copy in the heap."
    account_count: int
    total_cents: int
    "In all accounts, as the open message saw them."
    end: str
    "How the process ended."
    was_killed: bool
    "Whether a signal ended it."
    has_log: bool
    "Whether a log lay beside the image."
    image_kept: bool
    "Whether the image file has the same bytes after the kill as before."


def kill_in_message(image: Path, engine: str) -> Killed:
    """Start a process on an image, and kill it in the middle of a message.

    Raises:
        RunError: It ended before, or could not be started.
    """
    with _victim(image, engine) as process:
        assert process.stdout is not None
        answered, half_way = [], None
        for line in process.stdout:
            said: dict[str, Any] = json.loads(line)
            if "answered" in said:
                answered.append(said["answered"])
            half_way = said.get("half_way")
            if half_way is not None:
                break
        if half_way is None:
            raise RunError(
                "the process that was to be killed ended before: "
                f"{_last_line(process) or 'it said nothing'}"
            )
        before = _sha256(image)
        _kill(process)
        process.wait()
        after = _sha256(image)
        # A message that got through after all would have been told.
        answered += [json.loads(line)["answered"] for line in process.stdout]
    return Killed(
        answered=tuple(answered),
        **{name: tuple(half_way[name]) for name in ("accessed", "dirty", "cached")},
        account_count=half_way["account_count"],
        total_cents=half_way["total_cents"],
        end=_end(process.returncode),
        was_killed=process.returncode == -SIGKILL if SIGKILL else process.returncode != 0,
        has_log=image.with_name(f"{image.name}-log").exists(),
        image_kept=before == after,
    )


@contextmanager
def _victim(image: Path, engine: str) -> Iterator[subprocess.Popen[str]]:
    """Start the process; whatever happens, it is gone at the end of the block."""
    if not sys.executable:
        raise RunError("nobody knows where Python is, so that no process can be started and killed")
    # It finds sqlstable where this process has found it.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(  # noqa: S603  our own module
        [sys.executable, "-m", VICTIM, str(image), engine, str(ANSWERED)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        # Ctrl-C is for this process, which ends that one.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def _kill(process: "subprocess.Popen[str]") -> None:
    """Kill it at once, as that is done here."""
    if SIGKILL:
        process.send_signal(SIGKILL)
    else:
        process.terminate()


def _end(status: int) -> str:
    """Spell how a process ended."""
    if SIGKILL and status == -SIGKILL:
        return "SIGKILL, as by kill -9"
    if SIGKILL:
        return f"status {status}"
    return "being terminated, since this system has no kill -9"


def _last_line(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    lines = process.stderr.read().strip().splitlines()
    return lines[-1] if lines else ""


def _sha256(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
