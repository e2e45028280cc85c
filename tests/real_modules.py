"""Canisters of our own sources in Rust and Motoko, where they have been built."""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("SQLSTABLE_MODULES") or Path(__file__).parent / "modules" / "build")


def real_module(name):
    """Return the path of a module, or skip the test."""
    path = FOLDER / f"{name}.wasm"
    if not path.exists():
        pytest.skip(
            f"{path.name} is not built: python tests/modules/build.py does that, with cargo and "
            "the target wasm32-unknown-unknown for Rust, node and npm for Motoko"
        )
    return path
