"""Candid in and out: text, JSON and bytes, by types and without."""

import random
import threading
from contextlib import suppress

import pytest
from hypothesis import given, settings

from sqlstable.candid import candid_module
from sqlstable.candid.argument_forms import bytes_of_hex
from sqlstable.candid.interface import (
    Interface,
    decode,
    decode_as,
    decode_json,
    encode_as,
    encode_text,
    show,
)
from sqlstable.errors import CandidError, ModuleError
from tests.candid_bytes import message, text_of, typed_values

BOOK = """
type user = record { name : text; age : nat8; friends : vec user; mail : opt text };
service : (record { owner : principal }, opt nat) -> {
  add : (user, opt nat) -> (variant { ok : nat; err : text });
  "get all" : () -> (vec user) query;
  notify : (record { nat; text }) -> () oneway;
  mirror : (blob) -> (blob) composite_query;
  nested : (opt opt nat) -> (opt opt nat);
}
"""


@pytest.fixture(scope="module")
def book():
    return Interface.of_did(BOOK)


# -- known bytes, by the specification ------------------------------------------------------------

KNOWN = {
    "()": "4449444c0000",
    "(null : null)": "4449444c00017f",
    "(true)": "4449444c00017e01",
    "(624485 : nat)": "4449444c00017de58e26",
    "(-123456)": "4449444c00017cc0bb78",
    "(4294967295 : nat32)": "4449444c000179ffffffff",
    "(-1 : int64)": "4449444c000174ffffffffffffffff",
    "(1.5)": "4449444c000172000000000000f83f",
    '("Å∞")': "4449444c00017105c385e2889e",
    "(opt true)": "4449444c016e7e01000101",
    'blob "ab"': "4449444c016d7b0100026162",
    'record { foo = "baz"; bar = 42 : int }': (
        "4449444c016c02d3e3aa027c868eb702710100" + "2a0362617a"
    ),
    "variant { ok = 1 : nat8 }": "4449444c016b019cc2017b01000001",
    'principal "aaaaa-aa"': "4449444c0001680100",
    'principal "2vxsx-fae"': "4449444c000168010104",
    'func "aaaaa-aa".go': "4449444c016a0000000100010100" + "02676f",
    'service "aaaaa-aa"': "4449444c01690001000100",
}


@pytest.mark.parametrize(("text", "known"), KNOWN.items())
def test_text_gives_the_bytes_of_the_specification_and_back(text, known):
    assert encode_text(text).hex() == known
    assert encode_text(decode(bytes.fromhex(known))).hex() == known


@settings(max_examples=40, deadline=None)
@given(typed_values())
def test_messages_written_by_hand_are_read_and_those_of_json_read_the_same(typed):
    kinds, values = typed
    types = f"({', '.join(map(text_of, kinds))})"
    assert decode_as(types, message(kinds, values)) == values
    encoded = encode_as(types, values)
    assert decode_as(types, encoded) == values
    # Text is exact, too: what is shown can be given.
    shown = Interface.of_did(f"service : {{ f : {types} -> () }}").decode_arguments("f", encoded)
    assert encode_as(types, shown) == encoded


# -- interfaces -----------------------------------------------------------------------------------


def test_an_interface_has_methods_with_modes_and_types(book):
    assert {name: method.mode for name, method in book.methods.items()} == {
        "add": "update",
        "get all": "query",
        "notify": "oneway",
        "mirror": "composite_query",
        "nested": "update",
    }
    assert book.init == ("record { owner : principal }", "opt nat")
    assert str(book.methods["mirror"]) == "mirror : (blob) -> (blob) composite_query"


def test_an_interface_of_a_module_takes_the_types_of_init_from_beside_it():
    found = Interface.of_module(b"service : { get : () -> (nat) query }", b"(nat, opt text)")
    assert found.init == ("nat", "opt text")
    assert found.encode_init("(5)") == encode_as("(nat, opt text)", "(5, null)")
    with pytest.raises(CandidError, match=r"give the interface as a \.did file"):
        Interface.of_module(b"\xff")
    with pytest.raises(CandidError, match=r"candid:args, line 1, column 4") as error:
        Interface.of_module(b"service : {}", b"(na")
    assert error.value.source == "candid:args"


def test_an_interface_that_does_not_say_what_init_takes_goes_by_the_text():
    assert Interface.of_did("service : {}").init is None
    assert Interface.of_did("service : {}").encode_init("(5 : nat8)") == encode_text("(5 : nat8)")


def test_files_that_are_imported_are_read_from_where_they_are(tmp_path):
    (tmp_path / "types").mkdir()
    (tmp_path / "types" / "base.did").write_text("type id = nat32;")
    (tmp_path / "types" / "user.did").write_text(
        'import "base.did"; type user = record { id : id };'
    )
    (tmp_path / "more.did").write_text("service : { more : () -> () }")
    main = tmp_path / "main.did"
    main.write_text(
        'import "types/user.did"; import service "more.did"; service : { get : (id) -> (user) }'
    )
    found = Interface.of_file(main)
    assert sorted(found.methods) == ["get", "more"]
    assert found.decode_reply("get", found.encode_reply("get", {"id": 7})) == (
        "(record { id = 7 : nat32 })"
    )
    (tmp_path / "types" / "base.did").write_text("type id = ;")
    with pytest.raises(CandidError, match=r"base\.did, line 1, column 11") as error:
        Interface.of_file(main)
    assert (error.value.source, error.value.line, error.value.column) == ("base.did", 1, 11)
    (tmp_path / "types" / "base.did").unlink()
    with pytest.raises(CandidError, match=r"imports 'base\.did', which cannot be read"):
        Interface.of_file(main)
    with pytest.raises(CandidError, match="there is no folder to read that from"):
        Interface.of_did(main.read_text())


def test_files_that_import_each_other_are_read_once(tmp_path):
    (tmp_path / "a.did").write_text('import "b.did"; type a = opt b;')
    (tmp_path / "b.did").write_text('import "a.did"; type b = record { a : a };')
    text = 'import "a.did"; service : { get : () -> (a) }'
    assert Interface.of_did(text, tmp_path).methods["get"].replies == ("a",)


def test_what_breaks_callers_of_an_older_interface_is_said(book):
    assert book.incompatibilities(book) == ()
    new = Interface.of_did(BOOK.replace("mirror", "echo").replace("ok : nat;", "ok : text;"))
    found = "\n".join(new.incompatibilities(book))
    assert '"mirror"' in found
    assert "text is not a subtype of nat" in found
    with pytest.raises(CandidError, match="the old interface has no service"):
        book.incompatibilities(Interface.of_did("type a = nat"))


# -- JSON -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("blob", [b"\0ab", "0x006162", [0, 97, 98], {"base64": "AGFi"}])
def test_a_blob_may_be_written_in_several_ways(book, blob):
    data = book.encode("mirror", [blob])
    assert data == encode_text(r'(blob "\00ab")')
    assert book.decode_arguments_json("mirror", data) == ["0x006162"]


@pytest.mark.parametrize("bad", ["ab", "0x0", {"base64": "A"}, {"base64": "AA!="}, [256], [-1], 5])
def test_what_is_no_blob_is_refused(book, bad):
    with pytest.raises(CandidError, match=r"blob|nat8"):
        book.encode("mirror", [bad])


@pytest.mark.parametrize(
    ("text", "value"), [("null", None), ("opt null", [None]), ("opt opt 5", [5])]
)
def test_an_opt_of_what_may_be_null_is_an_array(book, text, value):
    data = book.encode("nested", text)
    assert book.decode_arguments_json("nested", data) == [value]
    assert book.encode("nested", [value]) == data


def test_large_numbers_are_exact():
    for value in (2**53 - 1, 2**53, 2**200, -(2**70)):
        data = encode_as("(int)", [value])
        assert data == encode_text(f"({value})")
        (found,) = decode_json(data)
        assert int(found) == value
        assert isinstance(found, str) == (abs(value) >= 2**53)


def test_floats_that_json_has_not_are_texts():
    data = encode_as("(vec float64)", [["NaN", "Infinity", "-Infinity", 0.1, 1e300, 3]])
    assert decode_json(data) == [["NaN", "Infinity", "-Infinity", 0.1, 1e300, 3.0]]
    with pytest.raises(CandidError, match="as texts"):
        encode_as("(float64)", float("nan"))


def test_a_variant_without_a_value_may_be_its_name():
    assert encode_as("(variant { on; off })", ["on"]) == encode_as(
        "(variant { on; off })", {"on": None}
    )
    with pytest.raises(CandidError, match=r"no case \"up\"; there are on, off"):
        encode_as("(variant { on; off })", {"up": None})


def test_references_have_texts():
    types = "(func () -> (), service { a : () -> () }, principal)"
    values = [{"principal": "aaaaa-aa", "method": "go"}, "2vxsx-fae", "aaaaa-aa"]
    assert decode_as(types, encode_as(types, values)) == values


# -- what is wrong, and where ---------------------------------------------------------------------

WRONG = {
    '(record { name = "a"; age = 300; friends = vec {} })': (
        r"value 1, field age: 300 cannot be of type nat8; add takes \(user, opt nat\)"
    ),
    '(record { name = "a"; age = 3; friends = vec { record { name = 5 } } })': (
        "value 1, field friends, element 0, field name: 5 cannot be of type text"
    ),
    '(record { name = "a"; age = 3; friends = vec {} }, 5)': (
        "value 2: 5 cannot be of type opt nat: write opt 5"
    ),
    '(record { name = "a" })': "record field age not found",
    "()": "0 values are given, and value 1 of type user is missing",
    "(1, 2, 3)": "3 values are given, and 2 taken",
    "[[1]]": r"\$\[0\]: \[1\] cannot be of type user; an object is expected",
    '{"nam": 1}': 'user has no field "nam"; there are age, mail, name, friends',
    '{"name": ': "line 1, column 9: this is no JSON",
    "(": r"line 1, column 2: the text ends too early",
}


@pytest.mark.parametrize(("argument", "words"), WRONG.items())
def test_what_does_not_fit_is_said_with_its_place(book, argument, words):
    with pytest.raises(CandidError, match=words):
        book.encode("add", argument)


def test_a_place_has_line_and_column(book):
    with pytest.raises(CandidError) as error:
        book.encode("add", '(record { name = "é";\n  age = % })')
    assert (error.value.line, error.value.column) == (2, 9)
    # Without parentheses, columns are those of what was written.
    with pytest.raises(CandidError) as error:
        book.encode("add", "abc")
    assert (error.value.line, error.value.column) == (1, 1)


def test_a_missing_method_names_those_that_are_like_it(book):
    with pytest.raises(CandidError, match="no method 'ad'; it has add"):
        book.encode("ad")
    with pytest.raises(CandidError, match="it has none"):
        Interface.of_did("service : {}").encode("ad")


def test_a_reply_of_another_type_is_an_error_and_can_be_shown(book):
    data = encode_text('("x")')
    with pytest.raises(CandidError, match=r"9 bytes are not what is expected.*add replies"):
        book.decode_reply("add", data)
    assert book.show_reply("add", data) == '("x")'
    assert book.show_reply("add", b"\xff") == "0xff"
    assert show(b"") == "0x"


def test_hexadecimal_digits_of_a_message_are_taken_as_they_are(book):
    assert book.encode("add", "4449444c0000") == b"DIDL\0\0"
    assert encode_text("0x4449444C0000") == b"DIDL\0\0"
    with pytest.raises(CandidError, match="two digits for each byte"):
        bytes_of_hex("0x123")
    with pytest.raises(CandidError, match="there is no interface"):
        encode_text("[1]")


# -- bounds ---------------------------------------------------------------------------------------

DEEP = 100_000


@pytest.mark.parametrize(
    "work",
    [
        lambda: encode_text("(" + "opt " * DEEP + "5)"),
        lambda: encode_as("(nat)", "[" * DEEP + "]" * DEEP),
        lambda: decode(bytes.fromhex("4449444c016e000100") + b"\1" * DEEP),
        # 2^34 nulls of no bytes.
        lambda: decode(bytes.fromhex("4449444c016d7f0100ffffffff3f")),
    ],
    ids=["deep text", "deep JSON", "deep message", "many nulls"],
)
def test_what_is_too_deep_or_too_large_is_an_error_and_the_next_request_is_served(book, work):
    with pytest.raises(CandidError):
        work()
    assert book.encode("add", '(record { name = "a"; age = 3; friends = vec {} })')


def test_a_bound_that_is_reached_says_which(monkeypatch):
    monkeypatch.setattr(candid_module, "FUEL_MAX", 1_000_000)
    with pytest.raises(CandidError, match="takes more than 1000000 instructions"):
        encode_text("(vec {" + "1;" * 10_000 + "})")
    monkeypatch.undo()
    monkeypatch.setattr(candid_module, "INTERFACES_MAX", 2)
    for index in range(5):
        one = Interface.of_did(f"service : {{ m{index} : (nat) -> () }}")
        assert one.encode(f"m{index}", "5") == encode_text("(5 : nat)")


def test_threads_take_turns(book):
    found = []
    size = threading.stack_size(16 * 1024 * 1024)
    try:
        threads = [
            threading.Thread(target=lambda i=i: found.append(decode(encode_text(f"({i})"))))
            for i in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        threading.stack_size(size)
    assert sorted(found) == [f"({i} : int)" for i in range(8)]


def damaged(rng, data):
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(changed) + 1)
        match rng.randrange(3):
            case 0:
                changed[place:place] = rng.randbytes(rng.randint(1, 3))
            case 1:
                del changed[place : place + rng.randint(1, 5)]
            case _ if place < len(changed):
                changed[place] = rng.randrange(256)
    return bytes(changed)


def misuse(book, count):
    rng = random.Random(12)
    user = '(record { name = "a"; age = 3; friends = vec {}; mail = opt "x" }, opt 5)'
    good = [book.encode("add", user), *(bytes.fromhex(known) for known in KNOWN.values())]
    refused = 0
    for _ in range(count):
        data = damaged(rng, rng.choice(good))
        try:
            book.decode_arguments("add", data)
            decode_json(data)
        except CandidError:
            refused += 1
    return refused


def test_damaged_messages_never_crash(book):
    assert 0 < misuse(book, 1000) < 1000


@pytest.mark.slow
def test_very_many_damaged_messages_never_crash(book):
    assert misuse(book, 20_000) > 10_000


def test_damaged_texts_never_crash(book):
    rng = random.Random(3)
    good = [*KNOWN, *WRONG, BOOK]
    for _ in range(200):
        text = damaged(rng, rng.choice(good).encode()).decode(errors="replace")
        for work in (encode_text, Interface.of_did, lambda it: book.encode("add", it)):
            with suppress(CandidError):
                work(text)


# -- the module -----------------------------------------------------------------------------------


def test_a_changed_module_is_refused(monkeypatch):
    known = candid_module.KnownBuild("rustc", "00")
    monkeypatch.setattr(candid_module, "known_build", lambda: known)
    with pytest.raises(ModuleError, match="build_candid"):
        candid_module.read_module()
