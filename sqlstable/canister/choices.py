"""What there is to choose about a canister: where its stable memory is, and what runs on it."""

from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from sqlstable.engine.measured.module.builds import BUILDS
from sqlstable.errors import SettingsError
from sqlstable.ic.limits import Limits
from sqlstable.memory.image.durability import Durability
from sqlstable.memory.stable import StableMemory


@dataclass(frozen=True, slots=True)
class Place:
    """Where stable memory is to be."""

    path: Path | str | None = None
    "An image file, or None for this process's memory."
    limits: Limits | date | str | None = "latest"
    durability: Durability | str | None = None
    "None: ``process``."
    read_only: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Flavour:
    """What there is to choose about the wasm engine; nothing for the native one."""

    build: str | None = None
    track_heap: bool | None = field(default=None, kw_only=True)


def chosen_cache_size(cache_size: int | None, preset: str | None, build: str | None) -> int | None:
    """Return the cache size that was asked for, or that a build of the wasm engine is made for.

    Examples:
        >>> chosen_cache_size(None, None, "lean"), chosen_cache_size(20, None, "lean")
        (6, 20)
    """
    found = BUILDS.get(build or "")
    if cache_size is not None or preset is not None or found is None:
        return cache_size
    return found.cache_size


def check_image_arguments(
    path: Path | str | None,
    memory: StableMemory | None,
    durability: str | None,
    *,
    read_only: bool,
) -> None:
    """Refuse arguments on where stable memory is that do not go together.

    Raises:
        SettingsError: Two places are named, or what concerns files without one.
    """
    if path is not None and memory is not None:
        raise SettingsError(
            f"the canister is given both {path} and a memory; leave one of the two out"
        )
    if path is None and (durability is not None or read_only):
        name = "read_only" if read_only else "durability"
        raise SettingsError(
            f"{name} concerns an image file, and none is given; name one, as in Canister(path)"
        )
