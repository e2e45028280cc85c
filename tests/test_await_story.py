"""The story of the await: it is true on both engines, the same each time, and 80 columns wide."""

import re

import pytest
from typer.testing import CliRunner

from sqlstable.cli import app
from sqlstable.cli.stories import awaiting
from sqlstable.workload import payouts
from sqlstable.workload.payouts import Pair

pytestmark = pytest.mark.slow


def show(*options):
    return CliRunner().invoke(app, ["demo", "await", *options])


@pytest.fixture(scope="module", params=["wasm", "native"])
def shown(request):
    """What the story prints in 80 columns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        result = show("--engine", request.param)
        assert (result.exit_code, result.stderr) == (0, "")
        # The wasm engine is the one that brings a heap back, as the Internet Computer does.
        again = show(*([] if request.param == "wasm" else ["--engine", "native"]))
    assert again.stdout == result.stdout
    return result.stdout


def test_all_checks_hold_in_80_columns(shown):
    assert shown.count("✓") == 10
    assert "✗" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_no_page_is_called_just_that(shown):
    # SQLite's own complaint is quoted.
    text = re.sub(r"integrity_check +.*", "", shown)
    assert not re.findall(r"(?<!OS )(?<!SQLite )(?<!Wasm )\bpages?\b(?! cache)", text)


def test_the_calls_are_recognisable_as_such(shown):
    assert re.search(r"^ +3  ada asks +- +committed", shown, re.MULTILINE)
    assert re.search(r"^ +4  ada asks +3 +trapped", shown, re.MULTILINE)
    assert re.search(r"^ +6  ada asks again +5 +committed", shown, re.MULTILINE)


def test_what_native_models_is_said_where_wasm_is_shown_beside_it(shown):
    engine = re.search(r"^engine (\w+)", shown, re.MULTILINE)[1]
    footer = shown.partition(f"\nengine {engine}")[2]
    modelled = re.findall(r"^modelled +(.*)", footer, re.MULTILINE)[0]
    place = "" if engine == "native" else "scene 6: "
    assert modelled.startswith(f"{place}the heap after a")
    assert modelled.endswith("(native engine)")
    assert "Behind a trap the native engine begins with a new page cache" in " ".join(shown.split())


def test_the_messages_that_are_not_listed_are_explained(shown):
    scene = shown.partition("── 3 ")[2].partition("── 4 ")[0]
    listed = re.findall(r"^ +(\d+)  (?:ada|later)", scene, re.MULTILINE)
    assert listed == ["3", "4", "5", "8", "9"]
    assert "queries ask what is pending; they are messages, too, and not listed" in " ".join(
        scene.split()
    )


def test_the_sql_that_is_shown_is_what_runs():
    shown = " ".join((awaiting._PAY_FIRST + awaiting._NOTE_FIRST).split())
    for sql in (payouts.BALANCE, payouts.TAKE, payouts.NOTE, payouts.FINISH):
        for number in (str(payouts.TOKENS), "1"):
            if " ".join(sql.replace("?", number).split()) in shown:
                break
        else:
            pytest.fail(sql)


def test_a_ledger_that_is_not_sound_ends_the_story_with_1(monkeypatch):
    monkeypatch.setattr(payouts, "note_first", payouts.pay_first)
    result = show("--engine", "native")
    assert result.exit_code == 1
    assert "✗ the trap left 0 payouts pending" in result.stdout
    assert "a check of the demo does not hold" in result.stderr


@pytest.mark.parametrize("call", [payouts.pay_first, payouts.note_first])
def test_without_a_mishap_both_ledgers_pay_once(call):
    pair = Pair.opened("native")
    call(pair, "ada asks")
    call(pair, "ada asks again")
    payouts.go_on(pair, "later")
    assert (pair.paid, pair.tokens, pair.pending) == (payouts.TOKENS, 0, 0)
    pair.close()
