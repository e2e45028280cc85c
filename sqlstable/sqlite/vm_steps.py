"""How often SQLite's virtual machine tells that it is still at work."""

from typing import Final

VM_STEPS_BETWEEN_LOOKS: Final = 50_000
"""Steps after which whoever watches a connection is called: about half a millisecond.

APSW has several watchers called at the smallest interval of any, whatever each asked for, so all of
ours ask for the same. A watcher of a user's own that asks for less is told of, and counts as, more
steps than there were.
"""
