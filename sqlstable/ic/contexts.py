"""The contexts in which a canister's code runs, by the letters of the interface specification.

Source:
    Interface specification, "Overview of imports": the third column of its list of system calls,
    docs/references/ic-interface-spec/canister-interface.md @ 03e7a8ac, version 0.67.0.
"""

from enum import StrEnum


class Context(StrEnum):
    """Where code of a canister runs; what it may call depends on it.

    Examples:
        >>> Context.QUERY.value, Context("Ry").name
        ('NRQ', 'REPLY')
    """

    START = "s"
    """The module's start function."""
    INIT = "I"
    """``canister_init`` and ``canister_post_upgrade``."""
    PRE_UPGRADE = "G"
    UPDATE = "U"
    REPLICATED_QUERY = "RQ"
    """A query method that is called as an update, or by another canister."""
    QUERY = "NRQ"
    """A query method that one replica answers."""
    TRANSFORM_QUERY = "TQ"
    """A query method that transforms the answer to an HTTP outcall."""
    COMPOSITE_QUERY = "CQ"
    REPLY = "Ry"
    """The callback for a reply, of a call that an update has made."""
    REJECT = "Rt"
    COMPOSITE_REPLY = "CRy"
    """The callback for a reply, of a call that a composite query has made."""
    COMPOSITE_REJECT = "CRt"
    CLEANUP = "C"
    COMPOSITE_CLEANUP = "CC"
    INSPECT = "F"
    """``canister_inspect_message``."""
    TASK = "T"
    """``canister_heartbeat``, ``canister_global_timer`` and ``canister_on_low_wasm_memory``."""
