"""The fingerprint of an image: what it is told by, and what changes it."""

import os
import zlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.memory.image import fingerprint
from sqlstable.memory.image.fingerprint import (
    ALL_OS_PAGES,
    OS_PAGE_SECTORS,
    ZERO_CRC,
    Fingerprint,
    os_page_crcs,
    sector_crcs,
    take_fingerprint,
)
from sqlstable.memory.image.osfile import OsFile
from tests.sim.messages import filled
from tests.sim.storage import Storage

contents = st.sampled_from([bytes(OS_PAGE_BYTES), filled("a"), filled("b"), filled("c")])
images = st.lists(contents, max_size=12)


def file_of(pages):
    return Storage.of({"image": b"".join(pages)}).names["image"]


@given(images, images, st.sampled_from([None, 0, 3, 7]))
def test_a_fingerprint_that_follows_changes_is_that_of_the_image(one, two, covered):
    length = max(len(one), len(two))
    one, two = (pages + [bytes(OS_PAGE_BYTES)] * (length - len(pages)) for pages in (one, two))
    changed = [number for number in range(length) if one[number] != two[number]]
    before, after = ([zlib.crc32(pages[number]) for number in changed] for pages in (one, two))
    found = take_fingerprint(file_of(one), covered).changed(changed, before, after)
    expected = take_fingerprint(file_of(two), covered)
    assert (found.value, found.os_pages_covered) == expected[1::-1]
    if covered is None:
        assert (expected == take_fingerprint(file_of(one))) == (one == two)


def test_many_changes_at_once_are_those_one_by_one():
    choose = Random(1)
    for covered in (ALL_OS_PAGES, 2000, 0):
        os_pages = [*choose.sample(range(1 << 44), 200), *range(1900, 2100)]
        old = [choose.choice((ZERO_CRC, choose.getrandbits(32))) for _ in os_pages]
        new = [choose.getrandbits(32) for _ in os_pages]
        one_by_one = Fingerprint(covered, 5)
        for change in zip(os_pages, old, new, strict=True):
            one_by_one = one_by_one.changed(*([part] for part in change))
        assert Fingerprint(covered, 5).changed(os_pages, old, new) == one_by_one


def test_zeros_are_as_holes_and_places_count():
    zeros = bytes(OS_PAGE_BYTES)
    assert take_fingerprint(file_of([])) == take_fingerprint(file_of([zeros] * 3)) == Fingerprint()
    one = take_fingerprint(file_of([filled("a"), filled("b")]))
    assert one != take_fingerprint(file_of([filled("b"), filled("a")]))
    assert one == take_fingerprint(file_of([filled("a"), filled("b"), zeros]))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_large_image_is_covered_as_far_as_its_data_go(monkeypatch, size):
    monkeypatch.setattr(fingerprint, "FILLED_OS_PAGES_MAX", size)
    monkeypatch.setattr(fingerprint, "_PIECE_OS_PAGES", 2)
    pages = [filled(number) for number in range(8)]
    found = take_fingerprint(file_of(pages))
    assert found.os_pages_covered == -(-size // 2) * 2
    assert found.os_pages_filled == found.os_pages_covered
    again = take_fingerprint(file_of([*pages[: found.os_pages_covered], filled("other")]))
    assert again[:2] == found[:2]


def test_a_hole_of_a_real_file_is_not_read(tmp_path):

    path = tmp_path / "image"
    with path.open("wb") as written:
        written.truncate(1 << 40)
        written.seek(1 << 39)
        written.write(filled("far"))
    file = OsFile(os.open(path, os.O_RDONLY))
    found = take_fingerprint(file)
    file.close()
    expected = Fingerprint().changed([1 << 27], [ZERO_CRC], [zlib.crc32(filled("far"))])
    assert found == expected


def test_checksums_are_of_os_pages_and_sectors():
    parts = [filled("a"), filled("b") + filled("c")]
    assert os_page_crcs(parts) == [zlib.crc32(filled(name)) for name in "abc"]
    assert len(sector_crcs(filled("a"))) == 4 * OS_PAGE_SECTORS
    assert sector_crcs(filled("a"))[:4] == zlib.crc32(filled("a")[:512]).to_bytes(4, "little")
