"""Work that does not tell how far it is: shown to somebody who watches, once it takes long."""

import time

import pytest
from rich.console import Console

from sqlstable.cli import progress


@pytest.fixture(autouse=True)
def watched(monkeypatch):
    """Somebody sits at stderr, and sees what rich draws."""
    monkeypatch.setattr(progress, "is_terminal", lambda _: True)
    monkeypatch.setattr(
        progress, "Console", lambda *, stderr: Console(stderr=stderr, force_terminal=True)
    )


def waited(condition):
    """Return whether a condition comes true, however slow the machine is."""
    return any(condition() or time.sleep(0.01) for _ in range(3_000))


def test_long_work_is_shown_and_the_bar_is_gone_at_its_end(monkeypatch, capsys):
    monkeypatch.setattr(progress, "PATIENCE_S", 0)
    drawn = []
    with progress.work_shown("reading the trace"):
        assert waited(lambda: drawn.append(capsys.readouterr().err) or "reading" in "".join(drawn))
    ending = capsys.readouterr().err
    assert ending.endswith("\x1b[2K"), "the line is cleared"


def test_quick_work_shows_nothing_and_errors_pass(monkeypatch, capsys):
    monkeypatch.setattr(progress, "PATIENCE_S", 1_000)
    with pytest.raises(KeyError), progress.work_shown("reading the trace"):
        raise KeyError
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "PATIENCE_S", 0)
    monkeypatch.setattr(progress, "is_terminal", lambda _: False)
    with progress.work_shown("reading the trace"):
        time.sleep(0.05)
    assert capsys.readouterr().err == ""
