"""Builds the modules: ``python -m sqlstable.engine.measured.module.build``.

The amalgamation comes from a pinned npm package (``npm pack``, or a tarball at hand), the compiler
from the PyPI package ``ziglang``. Everything that goes in is checked: the tarball and its files by
SHA-256, the SQLite source id against APSW's. The same input gives the same bytes, so ``--check``
builds again and compares.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import apsw

from sqlstable.engine.measured.module.builds import (
    ALL_BUILDS,
    ARCHIVE,
    CHECKSUMS_NAME,
    COMMON_OPTIONS,
    SOURCE_NAMES,
    SQLITE_SOURCE_ID,
    ZIGLANG_VERSION,
    Build,
    checksums,
    file_name,
)
from sqlstable.errors import BuildError, ModuleError, SqlstableError

SOURCES: Final = Path(__file__).parent / "source"
BINARIES: Final = Path(__file__).parent / "binaries"

_COMPILER_FLAGS: Final = (
    *("-target", "wasm32-wasi"),
    # What replicas run; named one by one so that a newer compiler does not add to it.
    "-mcpu=mvp+bulk_memory+mutable_globals+nontrapping_fptoint+sign_ext",
    # A library: its functions are called from outside, and there is no main.
    "-mexec-model=reactor",
    *("-O2", "-s", "-Wno-everything"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the modules, or check that building gives the files that are there.

    Returns:
        The exit status: 0, or 1 where something is missing, changed, or different.
    """
    parser = argparse.ArgumentParser(prog="python -m sqlstable.engine.measured.module.build")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument(
        "--only", choices=sorted(ALL_BUILDS), action="append", help="build only these"
    )
    parser.add_argument("--tarball", type=Path, help=f"{ARCHIVE.package} as npm pack gives it")
    parser.add_argument("--amalgamation", type=Path, help="folder with sqlite3.c and sqlite3.h")
    chosen = parser.parse_args(arguments)
    names = chosen.only or sorted(ALL_BUILDS)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            built = build_all(
                names,
                Path(scratch),
                tarball=chosen.tarball,
                amalgamation=chosen.amalgamation,
            )
        return _compare(built) if chosen.check else _write(built)
    except SqlstableError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  a command's output
        return 1


def build_all(
    names: Iterable[str],
    scratch: Path,
    *,
    tarball: Path | None = None,
    amalgamation: Path | None = None,
) -> dict[str, bytes]:
    """Return the bytes of each build.

    Args:
        names: Names in `ALL_BUILDS`.
        scratch: An empty folder to work in.
        tarball: The npm package, if it is at hand.
        amalgamation: Folder with sqlite3.c and sqlite3.h, if they are.

    Raises:
        BuildError: The compiler or the amalgamation is not to be had, or compiling failed.
        ModuleError: The amalgamation is not the pinned one.
    """
    _check_compiler()
    if amalgamation is None:
        amalgamation = _unpack(_fetch(scratch) if tarball is None else tarball, scratch)
    _check_amalgamation(amalgamation)
    return {name: _compile(ALL_BUILDS[name], amalgamation, scratch) for name in names}


# -- what goes in ---------------------------------------------------------------------------------


def _check_compiler() -> None:
    try:
        found = version("ziglang")
    except PackageNotFoundError:
        found = None
    if found != ZIGLANG_VERSION:
        raise BuildError(
            f"the compiler is missing: the PyPI package ziglang is "
            f"{'not installed' if found is None else 'of version ' + found}; "
            f"pip install ziglang=={ZIGLANG_VERSION}"
        )


def _fetch(scratch: Path) -> Path:
    """Have npm fetch the package; its version is pinned, and its bytes are checked later."""
    command = ["npm", "pack", "--silent", ARCHIVE.package]
    try:
        done = subprocess.run(  # noqa: S603  a constant command
            command, cwd=scratch, check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(
            f"npm cannot fetch {ARCHIVE.package}: {error}; give it by --tarball"
        ) from error
    return scratch / done.stdout.split()[-1]


def _unpack(tarball: Path, scratch: Path) -> Path:
    try:
        data = tarball.read_bytes()
    except OSError as error:
        raise BuildError(f"the tarball cannot be read: {error}") from error
    _check_sum(tarball.name, data, ARCHIVE.sha256)
    folder = scratch / "amalgamation"
    folder.mkdir()
    with tarfile.open(tarball) as archive:
        for member in ARCHIVE.sha256_by_member:
            file = archive.extractfile(member)
            assert file is not None, "the tarball is the one that was pinned"
            (folder / Path(member).name).write_bytes(file.read())
    return folder


def _check_amalgamation(folder: Path) -> None:
    for member, expected in ARCHIVE.sha256_by_member.items():
        name = Path(member).name
        try:
            data = (folder / name).read_bytes()
        except OSError as error:
            raise BuildError(f"the amalgamation cannot be read: {error}") from error
        _check_sum(name, data, expected)
    header = (folder / "sqlite3.h").read_text(encoding="utf-8")
    found = re.search(r'#define SQLITE_SOURCE_ID\s+"([^"]*)"', header)
    assert found is not None, "the header is the one that was pinned"
    assert found[1] == SQLITE_SOURCE_ID, "builds.py names the id of the pinned header"
    if apsw.sqlite3_sourceid() != SQLITE_SOURCE_ID:
        raise BuildError(
            f"APSW {apsw.apsw_version()} has SQLite {apsw.sqlite3_sourceid()}, and the "
            f"amalgamation is {SQLITE_SOURCE_ID}: the two engines would not agree"
        )


def _check_sum(name: str, data: bytes, expected: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise ModuleError(f"{name} has SHA-256 {found}; the pinned one has {expected}")


# -- compiling ------------------------------------------------------------------------------------


def _compile(build: Build, amalgamation: Path, scratch: Path) -> bytes:
    output = scratch / file_name(build.name)
    command = [
        *(sys.executable, "-m", "ziglang", "cc", *_COMPILER_FLAGS),
        *(f"-D{option}" for option in (*COMMON_OPTIONS, *build.options)),
        f"-Wl,-z,stack-size={build.stack_bytes}",
        *(() if build.global_base is None else (f"-Wl,--global-base={build.global_base}",)),
        *("-I", str(amalgamation), str(amalgamation / "sqlite3.c")),
        *(str(SOURCES / name) for name in (*SOURCE_NAMES, *build.sources)),
        *("-o", str(output)),
    ]
    # A cache of its own: what is left of other builds must not show.
    cache = str(scratch / "zig-cache")
    environment = {**os.environ, "ZIG_LOCAL_CACHE_DIR": cache, "ZIG_GLOBAL_CACHE_DIR": cache}
    done = subprocess.run(  # noqa: S603  a constant command but for our own paths
        command, check=False, capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise BuildError(f"compiling build {build.name} failed:\n{done.stderr.strip()}")
    return output.read_bytes()


# -- what comes out -------------------------------------------------------------------------------


def _sums(built: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in built.items()}


def _write(built: dict[str, bytes]) -> int:
    BINARIES.mkdir(exist_ok=True)
    known = checksums() if (BINARIES / CHECKSUMS_NAME).exists() else {}
    for name, data in built.items():
        (BINARIES / file_name(name)).write_bytes(data)
        print(f"{file_name(name)}: {len(data)} bytes")  # noqa: T201
    content = {
        "sqlite_source_id": SQLITE_SOURCE_ID,
        "amalgamation": ARCHIVE.package,
        "ziglang": ZIGLANG_VERSION,
        "sha256": dict(sorted({**known, **_sums(built)}.items())),
    }
    text = json.dumps(content, indent=2) + "\n"
    (BINARIES / CHECKSUMS_NAME).write_text(text, encoding="utf-8")
    return 0


def _compare(built: dict[str, bytes]) -> int:
    known = checksums()
    different = [name for name, found in _sums(built).items() if known.get(name) != found]
    for name in built:
        verdict = "DIFFERENT" if name in different else "as it is"
        print(f"{file_name(name)}: {verdict}")  # noqa: T201
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
