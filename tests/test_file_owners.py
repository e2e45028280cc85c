"""Whose stable memory is outside of the main database file."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.trace.ownership.file_owners import FileListing, FileOwners, ListedFile

BUCKET_BYTES = 3 * WASM_PAGE_BYTES


def start(bucket):
    return WASM_PAGE_BYTES + bucket * BUCKET_BYTES


def listing(table):
    """Return the files of a bucket table, which has one name per bucket; None is nobody's."""
    names = dict.fromkeys(name for name in table if name is not None)
    files = [
        ListedFile(name, "journal", tuple(start(at) for at, it in enumerate(table) if it == name))
        for name in names
    ]
    return FileListing(files, BUCKET_BYTES)


def names_at(owners, addresses):
    found = owners.owner_indexes(np.array(addresses, dtype=np.int64)).tolist()
    return [owners.owners[it].name if it >= 0 else None for it in found]


@given(
    st.lists(st.sampled_from(["a", "b", "c", None]), max_size=12),
    st.lists(st.integers(0, 14 * BUCKET_BYTES), max_size=20),
)
def test_an_address_belongs_to_the_file_that_has_its_bucket(table, addresses):
    owners = FileOwners(lambda: listing(table))
    expected = []
    for address in addresses:
        bucket = (address - WASM_PAGE_BYTES) // BUCKET_BYTES
        expected.append(table[bucket] if 0 <= bucket < len(table) else None)
    assert names_at(owners, addresses) == expected


@given(st.lists(st.lists(st.sampled_from(["a", "b", None]), max_size=6), min_size=1, max_size=5))
def test_what_was_known_stays_known_until_another_has_it(tables):
    """The model is a dictionary that each listing updates."""
    current = []
    owners = FileOwners(lambda: listing(current))
    known = {}
    for table in tables:
        current[:] = table
        owners.refresh()
        known.update({at: name for at, name in enumerate(table) if name is not None})
        assert names_at(owners, [start(at) for at in known]) == list(known.values())


def test_a_listing_is_asked_for_only_when_a_bucket_is_unknown():
    asked = []

    def listed():
        asked.append(1)
        return listing(["a", "b"])

    owners = FileOwners(listed)
    assert names_at(owners, [start(0), start(1), start(1) + BUCKET_BYTES - 1]) == ["a", "b", "b"]
    assert names_at(owners, [start(0)]) == ["a"]
    assert len(asked) == 1
    assert names_at(owners, [start(2)]) == [None]
    assert len(asked) == 2


@pytest.mark.parametrize("addresses", [[], [0]])
def test_without_files_nothing_is_known(addresses):
    owners = FileOwners(lambda: FileListing((), BUCKET_BYTES))
    assert names_at(owners, addresses) == [None] * len(addresses)


def test_an_owner_keeps_its_index():
    table = ["a"]
    owners = FileOwners(lambda: listing(table))
    owners.refresh()
    table[:] = ["b", "a"]
    owners.refresh()
    assert [it.name for it in owners.owners] == ["a", "b"]
