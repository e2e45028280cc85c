"""Whatever happens between two messages, a canister answers as its model does."""

import pytest

from tests.sim.living import World

STEP_COUNT = 60

WORLDS = [
    ("native", {}, False, ("native",)),
    ("native raw", {"layout": "raw"}, False, ("native",)),
    ("native small pages", {"page_size": 512, "cache_size": 10}, False, ("native",)),
    ("native journal", {"journal_mode": "persist"}, True, ("native",)),
    ("native traced", {"trace": ":memory:", "bytes_changed": True}, False, ("native",)),
    ("wasm", {}, False, ("wasm",)),
    ("wasm traced", {"trace": ":memory:", "cache_size": 10}, False, ("wasm",)),
    ("file", {}, True, ("native",)),
    ("file of two engines", {}, True, ("native", "wasm")),
    ("raw file of two engines", {"layout": "raw", "page_size": 1024}, True, ("native", "wasm")),
]


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize(
    ("options", "is_file", "engines"),
    [pytest.param(*world[1:], id=world[0]) for world in WORLDS],
)
def test_a_canister_answers_as_its_model_whatever_it_lives_through(
    options, is_file, engines, part, tmp_path
):
    world = World(part, tmp_path, options, is_file=is_file, engines=engines)
    try:
        world.run(STEP_COUNT)
        world.check_trace()
    finally:
        world.close()
