"""What there is to choose about a canister."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, fields
from datetime import date
from pathlib import Path
from typing import Final, TypedDict

from sqlstable.canister.hooks import Hooks, check_hooks
from sqlstable.canister.machine import Machine
from sqlstable.database.settings import Settings, resolve_settings
from sqlstable.engine.measured.module.builds import BUILDS
from sqlstable.errors import SettingsError
from sqlstable.ic.limits import Limits
from sqlstable.ic.words import ENGINES, Depth, EngineName
from sqlstable.memory.image.durability import Durability
from sqlstable.memory.stable import StableMemory

MakeMachine = Callable[[StableMemory], Machine]
"""Makes what a canister runs on."""


class Keywords(TypedDict, total=False):
    """The keywords of `sqlstable.canister.canister.Canister`, whose docstring explains them."""

    engine: EngineName
    layout: str | None
    preset: str | None
    page_size: int | None
    cache_size: int | None
    journal_mode: str | None
    bucket_pages: int | None
    growth: str | None
    limits: Limits | date | str | None
    enforce: bool
    trace: Path | str | None
    overwrite_trace: bool
    depth: Depth
    owners: bool | None
    bytes_changed: bool
    memory: StableMemory | None
    durability: Durability | None
    read_only: bool
    now: str | None
    seed: int | None
    foreign_keys: bool | None
    build: str | None
    track_heap: bool | None
    hooks: Hooks | None
    machine: MakeMachine | None


@dataclass(frozen=True, slots=True)
class Choices:
    """What was chosen for one canister: its keywords with their defaults, checked together.

    Raises:
        SettingsError: A choice is unknown, or does not go with another one.
    """

    path: Path | str | None = None
    _: KW_ONLY
    engine: EngineName = "native"
    layout: str | None = None
    preset: str | None = None
    page_size: int | None = None
    cache_size: int | None = None
    journal_mode: str | None = None
    bucket_pages: int | None = None
    growth: str | None = None
    limits: Limits | date | str | None = "latest"
    enforce: bool = True
    trace: Path | str | None = None
    overwrite_trace: bool = False
    depth: Depth = "counters"
    owners: bool | None = None
    bytes_changed: bool = False
    memory: StableMemory | None = None
    durability: str | None = None
    read_only: bool = False
    now: str | None = None
    seed: int | None = None
    foreign_keys: bool | None = None
    build: str | None = None
    track_heap: bool | None = None
    hooks: Hooks | None = None
    machine: MakeMachine | None = None

    def __post_init__(self) -> None:
        check_choice("engine", self.engine, ENGINES)
        check_choice("depth", self.depth, ("counters", "pages"))
        check_hooks(self.hooks)
        if self.path is not None and self.memory is not None:
            raise SettingsError(
                f"the canister is given both {self.path} and a memory; leave one of the two out"
            )
        if self.path is None and (self.durability is not None or self.read_only):
            name = "read_only" if self.read_only else "durability"
            raise SettingsError(
                f"{name} concerns an image file, and none is given; name one, as in Canister(path)"
            )

    @property
    def settings(self) -> Settings:
        """How the database is to be opened.

        Raises:
            SettingsError: A setting is unknown or out of range.

        Examples:
            >>> Choices(build="lean").settings.cache_size
            6
            >>> Choices(build="lean", cache_size=20).settings.cache_size
            20
        """
        chosen = {name: getattr(self, name) for name in _SETTINGS}
        build = BUILDS.get(self.build or "")
        if self.cache_size is None and self.preset is None and build is not None:
            # A build is made for a cache of its own.
            chosen["cache_size"] = build.cache_size
        return resolve_settings(**chosen)

    @property
    def has_owners(self) -> bool:
        """Whether OS pages are attributed to tables and indexes."""
        return self.trace is not None if self.owners is None else self.owners


_SETTINGS: Final = (
    *("preset", "layout", "page_size", "cache_size", "journal_mode", "bucket_pages", "growth"),
    *("now", "seed", "foreign_keys"),
)

assert {"path", *Keywords.__annotations__} == {field.name for field in fields(Choices)}


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Check a setting that takes one of a few words.

    Raises:
        SettingsError: ``value`` is none of them.
    """
    if value not in choices:
        raise SettingsError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")
