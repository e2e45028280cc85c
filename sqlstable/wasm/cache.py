"""Compiled modules, kept in the user's cache folder.

Compiling takes seconds, loading what was compiled milliseconds. A compiled module is native code,
so only files that this program itself has written are loaded: they lie in a folder of its own that
nobody else may enter, under a name that is the SHA-256 of all that went into them, and begin with
the SHA-256 of what follows. A file that does not fit is as good as none: it is compiled anew.
"""

import hashlib
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp
from typing import Final

_SUM_BYTES: Final = hashlib.sha256().digest_size


def cache_folder() -> Path:
    """Return the folder of compiled modules; it need not be there yet.

    Source:
        XDG Base Directory Specification 0.8: ``XDG_CACHE_HOME``, else ``~/.cache``.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification has relative paths ignored.
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    return root / "sqlstable" / "modules"


def key_of(*parts: bytes | str) -> str:
    """Return the name of what is made from these parts, and from nothing else.

    Examples:
        >>> key_of("a", "bc") == key_of("ab", "c")
        False
    """
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(len(data).to_bytes(8, "little"))
        whole.update(data)
    return whole.hexdigest()


def load(key: str) -> memoryview | None:
    """Return what was kept under a key, or None where there is nothing, or nothing sound."""
    path = cache_folder() / key
    try:
        if not _is_ours(path.parent):
            return None
        # Never through a link, which might lead to somebody else's file.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with open(descriptor, "rb") as file:  # noqa: PTH123  it is a descriptor
            if not _is_own_file(os.fstat(descriptor)):
                return None
            data = file.read()
    except OSError:
        return None
    checksum, content = data[:_SUM_BYTES], memoryview(data)[_SUM_BYTES:]
    return content if _checksum(key, content) == checksum else None


def keep(key: str, content: bytes) -> None:
    """Keep what was made, whole or not at all; a folder that cannot be written is left alone."""
    folder = cache_folder()
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_ours(folder):
            return
        descriptor, name = mkstemp(dir=folder)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123  it is a descriptor
                file.write(_checksum(key, content))
                file.write(content)
            Path(name).replace(folder / key)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _checksum(key: str, content: bytes | memoryview) -> bytes:
    # The key goes in, so that a file under another's name is noticed.
    whole = hashlib.sha256(key.encode())
    whole.update(content)
    return whole.digest()


def _is_ours(folder: Path) -> bool:
    """Whether a folder is the user's own, and nobody else can write there."""
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode):
        return False
    return sys.platform == "win32" or (
        found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def _is_own_file(found: os.stat_result) -> bool:
    if not stat.S_ISREG(found.st_mode):
        return False
    return sys.platform == "win32" or (
        found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )
