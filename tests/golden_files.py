"""Expected output kept in files, in ``tests/golden``.

Run the tests with ``SQLSTABLE_UPDATE_GOLDEN=1`` to rewrite the files, then review the difference.
"""

import os
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"


def check_golden(name, text):
    """Assert that ``text`` is what the golden file holds, or make it so when asked to."""
    path = GOLDEN / name
    if os.environ.get("SQLSTABLE_UPDATE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    assert path.exists(), f"{path.name} is missing; set SQLSTABLE_UPDATE_GOLDEN=1 to write it"
    expected = path.read_text(encoding="utf-8")
    assert text == expected, f"{name} differs; if that is meant, set SQLSTABLE_UPDATE_GOLDEN=1"
