"""Random messages mean what they mean on one connection; see `tests.sim.one_connection`."""

from contextlib import closing

import pytest

from tests.effort import part_of
from tests.sim.one_connection import Pair, script

SCRIPTS_AT_ONCE = part_of(250)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(12))
def test_native_messages_mean_what_they_mean_on_one_connection(part, tmp_path):
    run(tmp_path, "native", part)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(6))
def test_wasm_messages_mean_what_they_mean_on_one_connection(part, tmp_path):
    run(tmp_path, "wasm", part)


def run(tmp_path, engine, part):
    for seed in range(part * SCRIPTS_AT_ONCE, (part + 1) * SCRIPTS_AT_ONCE):
        folder = tmp_path / str(seed)
        folder.mkdir()
        with closing(Pair(engine, folder)) as pair:
            for step in script(seed, is_native=engine == "native"):
                pair.tell(step)
