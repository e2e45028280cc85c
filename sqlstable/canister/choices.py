"""What there is to choose about a canister."""

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, fields
from datetime import date
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Final, TypedDict

from sqlstable.canister.hooks import Hooks, check_hooks
from sqlstable.canister.machine import Machine
from sqlstable.canister.sampling import Measure
from sqlstable.database.settings import Settings, resolve_settings
from sqlstable.engine.measured.module.builds import BUILDS
from sqlstable.errors import SettingsError
from sqlstable.ic.assumptions import assumed
from sqlstable.ic.limits import Limits, resolve_limits
from sqlstable.ic.prices import PriceRegime, resolve_prices
from sqlstable.ic.words import RUN_ENGINES, Depth, RunEngineName
from sqlstable.memory.image.durability import Durability
from sqlstable.memory.stable import StableMemory

MakeMachine = Callable[[StableMemory], Machine]
"""Makes what a canister runs on."""


class Keywords(TypedDict, total=False):
    """The keywords of `sqlstable.canister.canister.Canister`, whose docstring explains them."""

    engine: RunEngineName
    measure: str
    layout: str | None
    preset: str | None
    page_size: int | None
    cache_size: int | None
    journal_mode: str | None
    bucket_pages: int | None
    growth: str | None
    limits: Limits | date | str | None
    prices: PriceRegime | date | str | None
    assume: Mapping[str, str] | None
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
    engine: RunEngineName = "native"
    measure: str = "auto"
    layout: str | None = None
    preset: str | None = None
    page_size: int | None = None
    cache_size: int | None = None
    journal_mode: str | None = None
    bucket_pages: int | None = None
    growth: str | None = None
    limits: Limits | date | str | None = "latest"
    prices: PriceRegime | date | str | None = None
    assume: Mapping[str, str] | None = None
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
        for name, (kinds, words) in _TYPES.items():
            if not isinstance(getattr(self, name), kinds):
                found = getattr(self, name)
                shown = reprlib.repr(found)
                raise SettingsError(f"{name} is {shown}, of type {type(found).__name__}; {words}")
        check_choice("engine", self.engine, RUN_ENGINES)
        Measure.parsed(self.measure)
        check_choice("depth", self.depth, ("counters", "pages"))
        check_hooks(self.hooks)
        if str(self.path) == ":memory:":
            raise SettingsError(
                "':memory:' would be a file of that name; leave the path out, and all is in memory"
            )
        if self.path is not None and self.memory is not None:
            raise SettingsError(
                f"the canister is given both {self.path} and a memory; leave one of the two out"
            )
        if self.path is not None and str(self.trace) == str(self.path):
            raise SettingsError(f"{self.path} cannot be both the image and the trace")
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
            128
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
    def regime(self) -> PriceRegime:
        """The price list that was chosen, under what was assumed.

        Raises:
            SettingsError: There is no such list or assumption.

        Examples:
            >>> Choices(limits="2024-01-01").regime.name, Choices(prices="2022-01-01").regime.name
            ('wasm-native', 'system-api-2021')
        """
        limits = None if self.prices is not None else resolve_limits(self.limits)
        return assumed(resolve_prices(self.prices, limits), self.assume or {})

    @property
    def has_owners(self) -> bool:
        """Whether OS pages are attributed to tables and indexes."""
        return self.trace is not None if self.owners is None else self.owners


_SETTINGS: Final = (
    *("preset", "layout", "page_size", "cache_size", "journal_mode", "bucket_pages", "growth"),
    *("now", "seed", "foreign_keys"),
)

assert {"path", *Keywords.__annotations__} == {field.name for field in fields(Choices)}


_TYPES: Final[Mapping[str, tuple[tuple[type, ...], str]]] = {
    "path": ((str, PathLike, NoneType), "name a file, or leave it out"),
    "trace": ((str, PathLike, NoneType), 'name a file, or ":memory:"'),
    "memory": ((StableMemory, NoneType), "give a StableMemory"),
    "measure": ((str,), 'give a text, as "auto", "25" or "2.5%"'),
    "now": ((str, NoneType), 'give a text, as "2026-01-01 12:00:00"'),
    "assume": ((Mapping, NoneType), 'give a dict, as {"stable-write-charges": "once"}'),
}
"""Settings that Python's own errors would say little about, by what they may be."""


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Check a setting that takes one of a few words.

    Raises:
        SettingsError: ``value`` is none of them.
    """
    if value not in choices:
        raise SettingsError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")
