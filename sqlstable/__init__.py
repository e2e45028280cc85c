"""Run SQLite on simulated Internet Computer stable memory, and see what each statement touches.

Examples:
    >>> import sqlstable
    >>> with sqlstable.Canister() as canister:
    ...     _ = canister.update("CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT)")
    ...     _ = canister.update("INSERT INTO note (body) VALUES ('hello')")
    ...     canister.query("SELECT body FROM note WHERE id = 1").rows
    [('hello',)]
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sqlstable.analysis.pricing.price_comparison import compare_prices
    from sqlstable.analysis.pricing.repriced import repriced
    from sqlstable.analysis.reclaimable import ReclaimReport
    from sqlstable.analysis.scaling.laws import Exponent, growth_exponent
    from sqlstable.analysis.upgrading.upgrade_runs import UpgradeComparison
    from sqlstable.canister.canister import Canister
    from sqlstable.canister.hooks import HookMemory, HookMessage, Hooks
    from sqlstable.canister.life_figures import StatusTerms
    from sqlstable.canister.message import Message
    from sqlstable.canister.migrating import MigrationMessage, MigrationReport
    from sqlstable.canister.recording import Recording, record
    from sqlstable.canister.reply import Reply
    from sqlstable.canister.snapshots import Snapshot
    from sqlstable.canister.status import Status
    from sqlstable.database.vfs import StableVFS
    from sqlstable.errors import (
        CandidError,
        ImageError,
        LimitTrap,
        MemoryManagerError,
        MessageError,
        MigrationError,
        ModuleError,
        OutOfBoundsTrap,
        SchemaError,
        ScriptError,
        SettingsError,
        SnapshotError,
        SqlError,
        SqlstableError,
        TraceError,
        Trap,
    )
    from sqlstable.ic.limits import Limits, MessageLimits, latest_limits, limits_at
    from sqlstable.ic.prices import price_lists
    from sqlstable.ic.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
    from sqlstable.memory.api import SystemApi
    from sqlstable.memory.manager import MemoryManager
    from sqlstable.memory.stable import StableMemory
    from sqlstable.module.canister_module import CanisterModule
    from sqlstable.module.module_reply import ModuleReply
    from sqlstable.schema.schema_check import check_schemas
    from sqlstable.schema.schema_files import read_schema
    from sqlstable.schema.schema_model import Schema
    from sqlstable.schema.schema_verdicts import (
        Migration,
        MigrationStep,
        SchemaChange,
        SchemaCheck,
    )
    from sqlstable.trace.format.file import Trace, open_trace
    from sqlstable.trace.model import Part
    from sqlstable.workload.reclaiming import reclaim
    from sqlstable.workload.upgrading.comparing import UpgradeWorkload, compare_upgrades

__version__ = "0.1.0"

__all__ = [
    "OS_PAGE_BYTES",
    "WASM_PAGE_BYTES",
    "CandidError",
    "Canister",
    "CanisterModule",
    "Exponent",
    "HookMemory",
    "HookMessage",
    "Hooks",
    "ImageError",
    "LimitTrap",
    "Limits",
    "MemoryManager",
    "MemoryManagerError",
    "Message",
    "MessageError",
    "MessageLimits",
    "Migration",
    "MigrationError",
    "MigrationMessage",
    "MigrationReport",
    "MigrationStep",
    "ModuleError",
    "ModuleReply",
    "OutOfBoundsTrap",
    "Part",
    "ReclaimReport",
    "Recording",
    "Reply",
    "Schema",
    "SchemaChange",
    "SchemaCheck",
    "SchemaError",
    "ScriptError",
    "SettingsError",
    "Snapshot",
    "SnapshotError",
    "SqlError",
    "SqlstableError",
    "StableMemory",
    "StableVFS",
    "Status",
    "StatusTerms",
    "SystemApi",
    "Trace",
    "TraceError",
    "Trap",
    "UpgradeComparison",
    "UpgradeWorkload",
    "__version__",
    "check_schemas",
    "compare_prices",
    "compare_upgrades",
    "growth_exponent",
    "latest_limits",
    "limits_at",
    "open_trace",
    "price_lists",
    "read_schema",
    "reclaim",
    "record",
    "repriced",
]

_HOMES: Final = {
    "sqlstable.analysis.pricing.price_comparison": ("compare_prices",),
    "sqlstable.analysis.pricing.repriced": ("repriced",),
    "sqlstable.analysis.reclaimable": ("ReclaimReport",),
    "sqlstable.analysis.scaling.laws": ("Exponent", "growth_exponent"),
    "sqlstable.analysis.upgrading.upgrade_runs": ("UpgradeComparison",),
    "sqlstable.canister.canister": ("Canister",),
    "sqlstable.canister.hooks": ("HookMemory", "HookMessage", "Hooks"),
    "sqlstable.canister.message": ("Message",),
    "sqlstable.canister.recording": ("Recording", "record"),
    "sqlstable.canister.migrating": ("MigrationMessage", "MigrationReport"),
    "sqlstable.canister.reply": ("Reply",),
    "sqlstable.canister.snapshots": ("Snapshot",),
    "sqlstable.canister.status": ("Status",),
    "sqlstable.canister.life_figures": ("StatusTerms",),
    "sqlstable.database.vfs": ("StableVFS",),
    "sqlstable.errors": (
        "CandidError",
        "ImageError",
        "LimitTrap",
        "MemoryManagerError",
        "MessageError",
        "MigrationError",
        "ModuleError",
        "OutOfBoundsTrap",
        "SchemaError",
        "ScriptError",
        "SettingsError",
        "SnapshotError",
        "SqlError",
        "SqlstableError",
        "TraceError",
        "Trap",
    ),
    "sqlstable.ic.limits": ("Limits", "MessageLimits", "latest_limits", "limits_at"),
    "sqlstable.ic.prices": ("price_lists",),
    "sqlstable.ic.units": ("OS_PAGE_BYTES", "WASM_PAGE_BYTES"),
    "sqlstable.memory.api": ("SystemApi",),
    "sqlstable.memory.manager": ("MemoryManager",),
    "sqlstable.memory.stable": ("StableMemory",),
    "sqlstable.module.canister_module": ("CanisterModule",),
    "sqlstable.module.module_reply": ("ModuleReply",),
    # What IPython looks for on %load_ext sqlstable; only then IPython has to be there.
    "sqlstable.notebook": ("load_ipython_extension", "unload_ipython_extension"),
    "sqlstable.schema.schema_check": ("check_schemas",),
    "sqlstable.schema.schema_files": ("read_schema",),
    "sqlstable.schema.schema_model": ("Schema",),
    "sqlstable.schema.schema_verdicts": (
        "Migration",
        "MigrationStep",
        "SchemaChange",
        "SchemaCheck",
    ),
    "sqlstable.trace.format.file": ("Trace", "open_trace"),
    "sqlstable.trace.model": ("Part",),
    "sqlstable.workload.reclaiming": ("reclaim",),
    "sqlstable.workload.upgrading.comparing": ("UpgradeWorkload", "compare_upgrades"),
}
"""Where each name lives. What nobody asks for is not imported: most starts need little of it."""

_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
