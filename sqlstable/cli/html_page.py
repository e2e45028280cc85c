"""Where the page of a report goes: to a file, whole or not at all, or to stdout."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from sqlstable.cli.failures import note
from sqlstable.cli.output import write_data
from sqlstable.cli.places import PAGE, check_output, new_output

STDOUT: Final = Path("-")

_WORK: Final = "making the page"


def check_place(page: Path | None, *, force: bool) -> None:
    """Refuse a place where a page cannot go, before anything is done for it.

    Raises:
        UsageError: It is taken, or cannot be used.
    """
    if page is not None and page != STDOUT:
        check_output(page, PAGE, force=force)


def write_page(page: Path, text: Callable[[], str], *, force: bool) -> None:
    """Write a page, and say where it is.

    Args:
        page: Where it is to be; ``-`` is stdout.
        text: Makes it.
        force: Whether an old page may be replaced.

    Raises:
        UsageError: The place is taken, or cannot be used.
    """
    from sqlstable.cli.progress import work_shown

    if page == STDOUT:
        with work_shown(_WORK):
            made = text()
        write_data([made])
        return
    with work_shown(_WORK), new_output(page, PAGE, force=force) as partial:
        partial.write_text(text(), encoding="utf-8", newline="\n")
    note(f"the page is in {page}; open it in a browser, or send it to somebody")
