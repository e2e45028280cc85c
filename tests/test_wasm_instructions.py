"""What the builds of the module cost, counted as a replica counts, and what heap they touch."""

import random
from statistics import median

import pytest

from sqlstable.database.settings import Settings
from sqlstable.database.vfs import julian_milliseconds
from sqlstable.engine.measured.codec import decode_reply, encode_request, encode_settings
from sqlstable.engine.measured.module.builds import BUILDS, load
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.wasm import shim
from sqlstable.wasm.rewrite.rewriter import RewriteOptions
from tests.witness_driver import Machine

ROWS = 50_000
FILL = (
    "CREATE TABLE u (id INTEGER PRIMARY KEY, name TEXT, grp INT, score REAL);"
    "CREATE INDEX u_grp ON u (grp);"
    "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 50000) "
    "INSERT INTO u SELECT i, 'user-' || i || '-' || hex(i * 2654435761 % 4294967296), i % 97, "
    "i * 0.37 FROM n"
)
LOOKUP = "SELECT * FROM u WHERE id = ?"
PHASES = ("glue", "prepare", "run", "commit", "encode")


def cache_size_of(build):
    return BUILDS[build].cache_size or Settings().cache_size


class Canister:
    """A build under the prices of the memory tracker."""

    def __init__(self, build):
        regime = PRICE_REGIMES["memory-tracker"]
        options = RewriteOptions(regime.table, has_heap_marks=True, is_deployed=False)
        self.machine = Machine(load(build), options, costs=regime.costs)
        settings = Settings(cache_size=cache_size_of(build))
        self.message(
            "canister_init",
            encode_settings(settings, now_ms=julian_milliseconds(settings.now)),
        )

    def message(self, name, argument):
        self.machine.begin()
        self.machine.call(name, argument=argument)
        self.borders = self.machine.list(shim.BORDERS)
        self.instructions = self.machine.used
        read, written = ({page >> 4 for page in pages} for pages in self.machine.marks())
        self.regions_accessed, self.regions_written = len(read | written), len(written)
        costs = PRICE_REGIMES["memory-tracker"].costs
        self.heap_charge = (
            self.regions_accessed * costs.heap_region_accessed
            + self.regions_written * costs.heap_region_written
        )
        self.machine.commit()
        return self.machine.buffer(shim.REPLY)

    def update(self, sql, params=None):
        request = encode_request(sql, params)
        reply = decode_reply([self.message("canister_update execute", request)])
        assert reply.failure is None, reply.failure
        return reply.rows

    def by_phase(self):
        """Instructions of each phase of the last message, page charges left out."""
        spent = dict.fromkeys(PHASES, 0)
        phase, before = "glue", 0
        for mark, instructions, _, charges, *_ in self.borders:
            now = instructions - charges
            spent[phase] += now - before
            phase, before = PHASES[mark], now
        assert self.instructions >= before
        return spent


@pytest.fixture(scope="module", params=["standard", "lean"])
def filled(request):
    canister = Canister(request.param)
    canister.update(FILL)
    return request.param, canister


@pytest.mark.slow
def test_a_warm_lookup_under_the_memory_trackers_prices(filled):
    build, canister = filled
    chance = random.Random(5)
    costs, regions = [], []
    for number in range(400):
        key = chance.randrange(1, ROWS + 1)
        assert canister.update(LOOKUP, (key,))[0][0] == key
        if number >= 200:
            costs.append(canister.instructions + canister.heap_charge)
            regions.append((canister.regions_accessed, canister.regions_written))
    if build == "lean":
        assert median(costs) <= 720_000
        # Three for whatever is asked, one of them written; images in three at most: the first
        # SQLite page, the root, and the leaf, whose region is written where it was not cached.
        assert all(accessed <= 6 and written <= 2 for accessed, written in regions)
    else:
        assert 2_400_000 <= median(costs) <= 3_400_000


@pytest.mark.slow
def test_phases_of_a_lookup_and_of_an_update(filled):
    _, canister = filled
    canister.update(LOOKUP, (77,))
    spent = canister.by_phase()
    assert spent["commit"] == 0
    assert spent["prepare"] > spent["run"] > 0
    assert 0 < spent["encode"] < spent["run"]
    canister.update("UPDATE u SET score = 0 WHERE id = 5")
    assert canister.by_phase()["commit"] > 4096
