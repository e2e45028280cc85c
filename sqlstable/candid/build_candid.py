"""Builds the module: ``python -m sqlstable.candid.build_candid``.

Its sources are in ``module/``: Candid's own crates (``candid``, ``candid_parser``) behind a few
exported functions, with ``rustc-demangle`` beside them. Their versions are in ``Cargo.lock``, and
cargo fetches them. The same compiler gives the same bytes: ``--check`` builds again and compares.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sqlstable.candid.candid_module import BINARIES_NAME, CHECKSUM_NAME, MODULE_NAME, known_build
from sqlstable.errors import BuildError, SqlstableError

SOURCES: Final = Path(__file__).parent / "module"
BINARIES: Final = Path(__file__).parent / BINARIES_NAME

TARGET: Final = "wasm32-unknown-unknown"

_HOW: Final = (
    f"install Rust by rustup, then `rustup target add {TARGET}`; "
    "the module that is there needs no building to be used"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the module, or check that building gives the file that is there.

    Returns:
        The exit status: 0, or 1 where something is missing or different.
    """
    parser = argparse.ArgumentParser(prog="python -m sqlstable.candid.build_candid")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    chosen = parser.parse_args(arguments)
    try:
        compiler = compiler_version()
        if chosen.check and compiler != known_build().compiler:
            raise BuildError(
                f"the module was built by {known_build().compiler}, and {compiler} is here: "
                "bytes of different compilers differ"
            )
        built = build()
    except SqlstableError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  a command's output
        return 1
    found = hashlib.sha256(built).hexdigest()
    if chosen.check:
        is_same = found == known_build().sha256
        print(f"{MODULE_NAME}: {'as it is' if is_same else 'DIFFERENT'}")  # noqa: T201
        return 0 if is_same else 1
    BINARIES.mkdir(exist_ok=True)
    (BINARIES / MODULE_NAME).write_bytes(built)
    content = {"compiler": compiler, "sha256": found}
    (BINARIES / CHECKSUM_NAME).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"{MODULE_NAME}: {len(built)} bytes")  # noqa: T201
    return 0


def compiler_version() -> str:
    """Return the name and release of the Rust compiler.

    Raises:
        BuildError: There is none.
    """
    found = re.match(r"rustc \S+ \([^)]*\)", _run(["rustc", "--version"], {}))
    if found is None:
        raise BuildError(f"rustc does not say its version; {_HOW}")
    return found[0]


def build(sources: Path = SOURCES, library: str = "sqlstable_candid") -> bytes:
    """Return the bytes of a module, built from its sources.

    Args:
        sources: A cargo project: by default the one here.
        library: What it builds.

    Raises:
        BuildError: The compiler, its target or a crate is not to be had, or compiling failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        # Where the sources lie must not show in the result; cargo keeps crates in one folder.
        home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
        registries = sorted((home / "registry" / "src").glob("*"))
        flags = [
            *(f"--remap-path-prefix={folder}=crates" for folder in (home, *registries)),
            f"--remap-path-prefix={sources}={library.removeprefix('sqlstable_')}",
            f"--remap-path-prefix={scratch}=target",
        ]
        environment = {
            "CARGO_TARGET_DIR": scratch,
            "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags),
        }
        manifest = ["--manifest-path", str(sources / "Cargo.toml"), "--locked"]
        if not registries:
            # So that there is a folder to name above.
            _run(["cargo", "fetch", *manifest], {})
            return build(sources, library)
        _run(["cargo", "build", "--release", "--target", TARGET, *manifest], environment)
        return (Path(scratch) / TARGET / "release" / f"{library}.wasm").read_bytes()


def _run(command: list[str], environment: dict[str, str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603  constant commands but for our own paths
            command,
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
        )
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be run: {error}; {_HOW}") from error
    if done.returncode:
        raise BuildError(f"{' '.join(command[:2])} failed:\n{done.stderr.strip()}\n{_HOW}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
