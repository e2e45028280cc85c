"""Modules as they are deployed: compressed or not, with custom sections."""

import gzip
import hashlib
import zlib

import pytest
import wasmtime

from sqlstable.errors import ModuleError
from sqlstable.wasm.module_file import MetadataSection, ModuleFile, decompressed, function_names
from sqlstable.wasm.rewrite.bytereader import name, unsigned

PLAIN = bytes(
    wasmtime.wat2wasm(
        """(module $counter
        (import "ic0" "msg_reply" (func $reply))
        (memory 1)
        (func $add) (func) (func $"a b"))"""
    )
)


def section(title, content):
    whole = name(title) + content
    return b"\0" + unsigned(len(whole)) + whole


def test_a_plain_module_is_taken_as_it_is():
    module = ModuleFile.of(PLAIN)
    assert module.wasm == PLAIN
    assert not module.is_compressed
    assert module.hash == hashlib.sha256(PLAIN).digest()
    assert module.function_names == {0: "reply", 1: "add", 3: "a b"}
    assert module.metadata == {}
    assert module.candid is None
    assert not module.keeps_heap


def test_the_hash_of_a_compressed_module_is_that_of_the_file():
    data = gzip.compress(PLAIN, mtime=0)
    module = ModuleFile.of(data)
    assert module.is_compressed
    assert module.wasm == PLAIN
    assert module.hash == hashlib.sha256(data).digest()
    assert module.function_names == ModuleFile.of(PLAIN).function_names


def test_sections_for_the_internet_computer_are_read_by_name():
    wasm = PLAIN + b"".join(
        (
            section("icp:public candid:service", b"service : {}"),
            section("icp:private enhanced-orthogonal-persistence", b""),
            section("icp:private a b", b"\xff"),
            section("producers", b"\0"),
            section("icp:public candid:service", b"another"),
        )
    )
    module = ModuleFile.of(gzip.compress(wasm))
    assert module.candid == "service : {}"
    assert module.keeps_heap
    assert module.metadata["a b"] == MetadataSection(b"\xff", is_public=False)
    assert set(module.metadata) == {"candid:service", "enhanced-orthogonal-persistence", "a b"}


def bomb():
    """1 MiB by its footer, and much more inside."""
    coder = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [coder.compress(bytes(1 << 20)) for _ in range(40)]
    data = b"".join(parts) + coder.flush()
    return data[:-4] + (1 << 20).to_bytes(4, "little")


PACKED = gzip.compress(PLAIN, mtime=0)
REFUSED = {
    "truncated": (PACKED[:-9], "exceeds|does not match|Failed to decode"),
    "truncated within": (
        PACKED[:-20] + b"\x87\x95\xc1\x43",
        "size of 1136760199 exceeds .* last four bytes .* damaged or cut off; compress it again",
    ),
    "too short": (PACKED[:12], "too short"),
    "not deflated": (b"\x1f\x8b\x07" + bytes(20), "not of this kind"),
    "damaged": (PACKED[:20] + b"\xff" * 20 + PACKED[40:], "Failed to decode"),
    "a wrong size": (PACKED[:-4] + b"\0\0\0\0", "size 0 does not match"),
    "too large": (PACKED[:-1] + b"\x7f", "exceeds the maximum allowed size of 104857600"),
    "something else": (gzip.compress(b"hello, this is no module"), "begins with"),
    "nothing": (b"", "begins with"),
}


@pytest.mark.parametrize(("data", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_module_is_refused(data, words):
    with pytest.raises(ModuleError, match=words):
        ModuleFile.of(data)


def test_a_bomb_is_not_unpacked_further_than_it_says():
    with pytest.raises(ModuleError, match="does not match extracted size"):
        decompressed(bomb())


def test_damaged_names_are_nobodys_error():
    whole = PLAIN[PLAIN.index(b"\x04name") + 5 :]
    assert function_names(whole) == {0: "reply", 1: "add", 3: "a b"}
    for at in range(len(whole)):
        cut_off = function_names(whole[:at])
        assert cut_off.items() <= {0: "reply", 1: "add", 3: "a b"}.items()
        damaged = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
        assert isinstance(function_names(damaged), dict)
