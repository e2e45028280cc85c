"""Principals and their text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlstable.errors import SettingsError
from sqlstable.ic.principals import canister_id, principal_of, principal_text


@given(st.binary(max_size=29))
def test_text_and_bytes_are_one(principal):
    text = principal_text(principal)
    assert principal_of(text) == principal
    assert principal_of(text.upper()) == principal
    assert all(1 <= len(group) <= 5 for group in text.split("-"))


@given(
    st.binary(max_size=29), st.integers(0, 62), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567-")
)
def test_a_character_that_is_wrong_is_seen(principal, place, letter):
    text = principal_text(principal)
    place %= len(text)
    changed = text[:place] + letter + text[place + 1 :]
    if changed != text:
        with pytest.raises(SettingsError, match="is no principal"):
            principal_of(changed)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "0 bytes behind a checksum of 4"),
        ("hello, world", "groups of five"),
        ("2vxsxfae", "did you mean 2vxsx-fae?"),
        (principal_text(bytes(29)) + "-aaaaa-aaa", "checksum|36 bytes|34 bytes|35 bytes"),
    ],
)
def test_what_is_none_is_refused_with_the_way_out(text, words):
    with pytest.raises(SettingsError, match=words):
        principal_of(text)


def test_canisters_of_a_local_network_are_numbered():
    assert len({canister_id(index) for index in range(1000)}) == 1000
    assert principal_of("rwlgt-iiaaa-aaaaa-aaaaa-cai") == bytes(8) + b"\1\1"
