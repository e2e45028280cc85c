"""Pairs of schemas with known answers, and each answer tried on databases."""

from collections import Counter

import apsw
import pytest

from sqlstable.schema.empty_database import schema_of
from sqlstable.schema.schema_check import check_schemas
from sqlstable.schema.schema_model import Schema
from tests.pair_world import PAIRS, content, described, fill, made, pair_options, problems

SEEDS = range(3)


def ids(pairs):
    return [it["name"] for it in pairs]


def checked(pair, **options):
    old, new = Schema.from_sql(pair["old"]), Schema.from_sql(pair["new"])
    return check_schemas(old, new, **pair_options(pair), **options)


def each(*verdicts):
    """Run a test for each pair of some verdicts."""
    pairs = [it for it in PAIRS if not verdicts or it["verdict"] in verdicts]
    return pytest.mark.parametrize("pair", pairs, ids=ids(pairs))


def run(connection, migration):
    """Run a migration as its script says; after an error nothing has happened."""
    try:
        connection.execute(migration.script).fetchall()
    except apsw.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def described_new(pair):
    return described(made(":memory:", pair["new"]))


def without_texts(found):
    """Leave out the words of CREATE TABLE, where ALTER leaves other ones than were written."""
    return {name: it for name, it in found.items() if name[0] != "table"}


def test_there_are_enough_pairs_of_every_kind():
    assert len(PAIRS) >= 120
    assert len(set(ids(PAIRS))) == len(PAIRS)
    assert min(Counter(it["verdict"] for it in PAIRS).values()) >= 8
    assert len(Counter(it["old_code"] for it in PAIRS)) == 4


@each()
def test_the_verdict_is_the_known_one(pair):
    found = checked(pair)
    assert (found.verdict, found.old_code) == (pair["verdict"], pair["old_code"]), found.changes
    assert (found.migration is None) == (pair["verdict"] == "incompatible")
    if pair["verdict"] == "incompatible":
        assert found.rollback is None
    if pair["verdict"] in ("same", "both ways"):
        assert found.rollback is not None


@each("same", "both ways")
def test_both_ways_leads_there_and_back_with_nothing_lost(pair):
    found = checked(pair)
    for seed in SEEDS:
        connection = made(":memory:", pair["old"])
        fill(connection, seed)
        before = content(connection), described(connection), problems(connection)
        run(connection, found.migration)
        assert without_texts(described(connection)) == without_texts(described_new(pair))
        assert problems(connection)[0] == [("ok",)]
        assert not set(problems(connection)[1]) - set(before[2][1])
        run(connection, found.rollback)
        assert content(connection) == before[0]
        assert without_texts(described(connection)) == without_texts(before[1])
        assert problems(connection) == before[2]


@each("forward only")
def test_forward_only_leads_there_or_changes_nothing(pair):
    verdicts = Counter()
    for seed in range(-1, len(SEEDS)):
        connection = made(":memory:", pair["old"])
        if seed >= 0:
            fill(connection, seed)
        if seed == SEEDS[-1]:
            connection.execute(pair.get("in_the_way", ""))
        before = content(connection), described(connection), problems(connection)
        found = checked(pair, data=connection)
        assert (content(connection), described(connection)) == before[:2]
        verdicts[found.verdict] += 1
        if found.verdict == "incompatible":
            with pytest.raises(apsw.Error):
                run(connection, checked(pair).migration)
            assert (content(connection), described(connection), problems(connection)) == before
            continue
        run(connection, found.migration)
        assert without_texts(described(connection)) == without_texts(described_new(pair))
        assert problems(connection)[0] == [("ok",)]
        if found.verdict == "both ways":
            run(connection, found.rollback)
            assert content(connection) == before[0]
            assert without_texts(described(connection)) == without_texts(before[1])
    # Rows decide: where there are none nothing can be lost.
    assert verdicts["both ways"] >= 1
    assert verdicts["both ways"] < len(SEEDS) + 1, "no row was ever in the way"


@each("incompatible")
def test_incompatible_has_no_migration_but_where_rows_allow_it(pair):
    connection = made(":memory:", pair["old"])
    found = checked(pair, data=connection)
    if found.migration is None:
        assert all(it.needs_value for it in found.changes if it.verdict == "incompatible")
        return
    run(connection, found.migration)
    assert without_texts(described(connection)) == without_texts(described_new(pair))


@each()
def test_the_migration_gives_the_schema_that_was_asked_for(pair):
    found = checked(pair)
    if found.migration is None:
        return
    connection = made(":memory:", pair["old"])
    run(connection, found.migration)
    wanted = Schema.from_sql(pair["new"])
    assert check_schemas(schema_of(connection), wanted).verdict == "same"
