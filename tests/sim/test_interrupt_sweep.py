"""An exception from outside at every n-th place of all that a canister does."""

import sys
from collections import Counter
from itertools import product

import pytest

from tests.effort import part_of, stride_of
from tests.sim.cutting import SCENARIOS
from tests.test_interrupts import sweep

pytestmark = pytest.mark.slow

STEPS = {"native": stride_of(43), "wasm": stride_of(47)}
"""Each n-th place; other numbers take other places, and 1 takes all."""

PLACES_MIN = part_of(5000)

LEFT_OUT = ("upgrade", "upgrade_keep", "uninstall", "take_snapshot", "load_snapshot")
"""An upgrade with hooks does what the others do; these are swept in `tests/test_interrupts.py`."""

SWEPT = [name for name in SCENARIOS if name not in LEFT_OUT]

counts = Counter()


@pytest.mark.parametrize("scenario", SWEPT)
@pytest.mark.parametrize(
    ("engine", "place", "trace"),
    list(product(("native", "wasm"), ("memory", "image"), ("plain", "trace"))),
)
def test_a_cut_at_any_place_leaves_a_canister_that_works(scenario, engine, place, trace, tmp_path):
    folder = "memory" if place == "memory" else tmp_path
    # An upgrade with hooks has several times the places of others.
    step = STEPS[engine] * (3 if scenario == "upgrade_hooks" else 1)
    counts.update(sweep(scenario, engine, folder, trace, step))


def test_enough_places_were_cut():
    """Runs behind the others; alone it has nothing to count."""
    sys.stdout.write(f"{dict(counts)}\n")
    assert not counts or counts["places"] >= PLACES_MIN
