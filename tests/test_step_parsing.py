"""The text of a module's workload: words as in a shell, steps, what is pasted from a terminal."""

import random
import shlex
from contextlib import suppress

import pytest

from sqlstable.errors import ScriptError
from sqlstable.workload.stepping.shell_words import read_lines
from sqlstable.workload.stepping.step_parsing import parse_workload
from sqlstable.workload.stepping.step_table import STEPS, WORDS


def words(text):
    return [line.words for line in read_lines(text)]


def only(text, **given):
    (step,) = parse_workload(f"create app\n{text}", **given)[1:]
    return step


def refused(text, **given):
    with pytest.raises(ScriptError) as raised:
        parse_workload(text, name="w", **given)
    return str(raised.value)


# -- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("update add '(\"ana\")'", [("update", "add", '("ana")')]),
        ('update add "(\\"ana\\")"', [("update", "add", '("ana")')]),
        ("update add '(\"it'\\''s\")'", [("update", "add", '("it\'s")')]),
        ('update add ("a # b")  # said', [("update", "add", '("a # b")')]),
        ("update add (a {\n b [2] })", [("update", "add", "(a {\n b [2] })")]),
        ('query q {"a": [1, "}"]}', [("query", "q", '{"a": [1, "}"]}')]),
        ("query q \\\n  '(1)'", [("query", "q", "(1)")]),
        ("a\r\nb '(1)'\r\n", [("a",), ("b", "(1)")]),
        ("\ufeff$ update add", [("update", "add")]),
        ("% update add\n# nothing\n\n", [("update", "add")]),
        ("label a#b", [("label", "a#b")]),
        ("query q (1 /* ) */, // ) \n 2)", [("query", "q", "(1 /* ) */, // ) \n 2)")]),
        ("x '$HOME'", [("x", "$HOME")]),
        ("x 5$", [("x", "5$")]),
        ("x 'a\nb' c\ny", [("x", "a\nb", "c"), ("y",)]),
    ],
)
def test_words_are_those_of_a_shell(text, expected):
    assert words(text) == expected


def test_words_are_those_of_pythons_own_shell_lexer_where_brackets_are_quoted():
    draw = random.Random(5)
    pieces = ("a", "b.c", "'x y'", '"p q"', "\\ ", "=", "'('", '"\\""', "''", "-", "é")
    for _ in range(400):
        line = " ".join(
            "".join(draw.choices(pieces, k=draw.randint(1, 4))) for _ in range(draw.randint(1, 5))
        )
        assert words(line) == [tuple(shlex.split(line))]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\nupdate add '(1)", "line 2: ' opens here and never closes; add '"),
        ('update add "(1)', 'line 1: " opens here and never closes'),
        ("update add (1", "line 1: ( opens here and never closes; add )"),
        ("update add (1]", "line 1: ] closes nothing"),
        ('update add (1\n"', 'line 2: " opens and never closes'),
        ("update add $(date)", "line 1: $(date) is something that a shell puts a value for"),
        ('update add "($ID)"', "in single quotes"),
        ("update add `date`", "`date` is something"),
        ("(1) more", "nothing but a comment may follow a reply"),
    ],
)
def test_what_a_shell_would_ask_about_is_refused_with_its_line(text, said):
    with pytest.raises(ScriptError, match="workload, line") as raised:
        words(text)
    assert said in str(raised.value)


def test_the_work_is_linear():
    text = "update add '(1)'\n" * 20_000
    assert sum(1 for _ in read_lines(text)) == 20_000


# -- steps ---------------------------------------------------------------------------------------


def test_every_step_of_the_table_has_an_example_that_is_that_step():
    values = {"keep|replace": "keep", "NUMBER": "5", "PRINCIPAL": "aaaaa-aa"}
    for kind in STEPS.values():
        option = kind.options[0] if kind.options and kind.options[0].value else None
        value = "" if option is None else values.get(option.value, "x")
        given = "" if option is None else f"--{option.name} {value}"
        name = "" if kind.takes == "name" else "create ledger\n"
        steps = parse_workload(f"install first.wasm\n{name}{kind.example} {given}")
        assert steps[-1].word == kind.word
        assert option is None or steps[-1].options[option.name] == value


def test_every_other_word_of_the_table_has_an_example_that_is_understood():
    for word in WORDS.values():
        parse_workload(f"install first.wasm\n{word.example}\nupdate last")


@pytest.mark.parametrize(
    ("pasted", "word", "canister", "target", "argument"),
    [
        ("dfx canister call app add '(1)'", "call", "app", "add", "(1)"),
        ("$ dfx canister --network ic call app add '(1)' --query", "query", "app", "add", "(1)"),
        ("dfx canister call --argument-file a.did app add", "call", "app", "add", "@a.did"),
        ("dfx canister call backend add", "call", "app", "add", None),
        ("dfx canister call app a.b --output json", "call", "app", "a.b", None),
        ("icp canister call -e local app add '()' -o text", "call", "app", "add", "()"),
        ("dfx canister stop app", "stop", "app", "", None),
        ("dfx canister install app --wasm a.wasm -m upgrade", "upgrade", "app", "a.wasm", None),
        ("dfx canister install app --wasm=a.wasm --mode auto", "install", "app", "a.wasm", None),
    ],
)
def test_commands_of_dfx_and_icp_are_steps(pasted, word, canister, target, argument):
    step = only(pasted)
    assert (step.word, step.canister, step.target, step.argument) == (
        *(word, canister, target, argument),
    )


def test_a_pasted_identity_is_the_caller():
    assert only("dfx canister call app add --identity ana").caller == "ana"


def test_a_reply_below_a_call_is_expected():
    step = only("$ dfx canister call app top '(2)'\n(\n  vec { 1 : nat;\n 2 : nat },\n)")
    assert [(it.kind, it.line, it.text) for it in step.expectations] == [
        ("reply", 3, "(\n  vec { 1 : nat;\n 2 : nat },\n)")
    ]


def test_words_before_a_step_hold_for_it():
    steps = parse_workload(
        "install app.wasm\nlabel first visit\nrepeat 3 as ana update add '({i})'\nupdate add\n"
        "as bob\nquery get\nas anonymous query get\nquery get"
    )
    found = [(it.word, it.caller, it.label, it.repeat, it.is_repeated) for it in steps[1:]]
    assert found == [
        ("update", "ana", "first visit", 3, True),
        ("update", None, None, 1, False),
        ("query", "bob", None, 1, False),
        ("query", "anonymous", None, 1, False),
        ("query", "bob", None, 1, False),
    ]


def test_a_canister_is_named_by_its_file_or_as_one_says():
    steps = parse_workload(
        "install ledger=l.wasm '(1)'\ninstall x/app.wasm.gz\nupdate app.add\nupdate add\n"
        "upgrade app\nupgrade l2.wasm '(2)'\nupgrade '(3)'\nreinstall app=x.wasm"
    )
    found = [(it.word, it.canister, it.target, it.argument) for it in steps]
    assert found == [
        ("install", "ledger", "l.wasm", "(1)"),
        ("install", "app", "x/app.wasm.gz", None),
        ("update", "app", "add", None),
        ("update", "ledger", "add", None),
        ("upgrade", "app", "", None),
        ("upgrade", "ledger", "l2.wasm", "(2)"),
        ("upgrade", "ledger", "", "(3)"),
        ("reinstall", "app", "x.wasm", None),
    ]


def test_the_one_that_was_created_gets_the_module():
    steps = parse_workload("create app --id aaaaa-aa\ninstall build/x.wasm\nupdate add")
    assert [it.canister for it in steps] == ["app"] * 3


def test_canisters_of_the_command_line_can_be_called():
    steps = parse_workload("install app.wasm\nupdate ledger.mint", canisters=["ledger"])
    assert steps[1].canister == "ledger"
    assert parse_workload("update mint", canisters=["ledger"])[0].canister == "ledger"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("2h", 7200), ("1.5", 1.5), ("20 ms", 0.02), ("1d", 86400)]
)
def test_time_advances_by_durations(text, seconds):
    assert only(f"advance {text}").seconds == pytest.approx(seconds)


def test_expectations_are_read():
    step = only(
        "update add\nexpect reply '(1)'\nexpect reply\nexpect reject 4 'no room'\nexpect reject\n"
        "expect trap 'out of bounds'\nexpect pending\n"
        "expect instructions <= 5M\nexpect dirty < 1_000"
    )
    found = [(it.kind, it.text, it.code, it.measure, it.bound) for it in step.expectations]
    assert found == [
        ("reply", "(1)", None, "", 0),
        ("reply", None, None, "", 0),
        ("reject", "no room", 4, "", 0),
        ("reject", None, None, "", 0),
        ("trap", "out of bounds", None, "", 0),
        ("pending", None, None, "", 0),
        ("measure", None, None, "instructions", 5_000_000),
        ("measure", None, None, "dirty", 1000),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("update add", "w, line 1: no canister is installed yet; begin with install MODULE"),
        ("install", "install lacks the module"),
        ("install a.wasm\ninstall a.wasm", "line 2: canister a has a module already"),
        ("install a.wasm\nupdate b.add", "line 2: there is no canister b; known are: a"),
        ("install a.wasm\nupdat add", "line 2: 'updat' is no step; did you mean update?"),
        ("install a.wasm\nInstalled code", "line 2: 'Installed' is no step; did you mean install?"),
        ("install a.wasm\nupdate add 1 2", "'2' is one word too many"),
        ("install a.wasm\nupdate", "update lacks the method"),
        ("install a.wasm --fast", "install has no option --fast; it has: --did, --id, --cycles"),
        ("install a.wasm --did", "--did lacks its value: FILE"),
        ("install a.wasm --cycles -5", "--cycles is '-5'; it must be a number"),
        ("install a.wasm --id xx", "--id is 'xx'; 'xx' is no principal"),
        (
            "install a.wasm\nupgrade --wasm-memory-persistence foo",
            "line 2: --wasm-memory-persistence is 'foo'; it must be keep or replace",
        ),
        ("install a.wasm\nrepeat 2 repeat 3 update add", "the line says repeat twice"),
        ("install a.wasm\nas ana repeat 2 as bob update add", "the line says as twice"),
        ("install a.wasm\nrepeat x update add", "repeat needs a number from 1 to 10,000,000"),
        ("install a.wasm\nrepeat 5", "repeat 5 needs a step behind it"),
        ("install a.wasm\nrepeat 5 as ana", "repeat 5 needs a step behind it"),
        ("install a.wasm\nadvance soon", "advance takes a number with ms, s, m, h or d"),
        ("install a.wasm\nlabel x\nlabel y", "line 3: the next message has the label 'x'"),
        ("install a.wasm\nlabel x", "line 2: no message comes behind label 'x'"),
        ("expect reply", "line 1: an expectation stands below the step that it is about"),
        ("(1)", "line 1: an expectation stands below"),
        ("install a.wasm\nexpect much", "expect takes reply [CANDID], reject [CODE] [TEXT]"),
        ("install a.wasm\nexpect reject 7", "there is no reject code 7"),
        ("install a.wasm\nexpect dirty 3", "expect dirty takes one of <= < = >= >"),
        ("install a.wasm\nas", "as lacks the caller"),
        ("as ana dfx deploy", "dfx deploy does nothing here"),
        ("dfx deploy", "dfx deploy does nothing here"),
        ("dfx canister status app", "dfx canister status does nothing here"),
        ("dfx canister call app", "a call names a canister and a method"),
        ("dfx canister install app", "an installation names a canister and its module"),
    ],
)
def test_what_cannot_be_understood_is_said_with_its_line_and_a_way_out(text, said):
    assert said in refused(text)


def test_no_text_breaks_the_parser():
    draw = random.Random(11)
    pieces = [*"'\"()[]{}\\\n\n  $#@=.", *STEPS, *WORDS, "a.wasm", "dfx", "canister", "call", "5"]
    for _ in range(2_000):
        with suppress(ScriptError):
            parse_workload(" ".join(draw.choices(pieces, k=draw.randint(1, 12))))
