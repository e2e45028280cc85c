"""Migrations that run inside an upgrade: where `canister.upgrade` gets them from."""

from pathlib import Path

from sqlstable.canister.hooks import Hook
from sqlstable.errors import SettingsError


def migration_of(schema: Path | str | None) -> Hook | None:
    """Return what an upgrade to a schema does in its post_upgrade, before the hook; None: nothing.

    Args:
        schema: The schema that the new code wants, or None where it says nothing.

    Raises:
        SettingsError: There are no migrations yet.
    """
    if schema is None:
        return None
    raise SettingsError("upgrades cannot change the schema yet; run the SQL in post_upgrade")
