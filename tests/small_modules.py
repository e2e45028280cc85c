"""The small modules of our own that tests run, with what is known of them."""

from pathlib import Path

FOLDER = Path(__file__).parent / "modules"
ROOT = Path(__file__).parents[1]
READY = ROOT / "sqlstable" / "module" / "ready"

COUNTER = READY / "counter.wasm"
"""In text format: ``add``, ``get``, ``last``, ``add_later``, ``refuse``, ``fail``."""

RELAY = FOLDER / "relay.wasm"
"""In text format: asks another canister's ``get``."""

GUESTBOOK = ROOT / "examples" / "guestbook" / "guestbook.wasm"
"""In C: entries in stable memory, their places in the heap, saved over upgrades."""
