"""A baseline as text: JSON that is the same for the same run, and whose differences can be read.

Every number is on a line with its name, entries are sorted, and nothing says when it was made.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeGuard

from sqlstable.analysis.checking.baseline_model import (
    KEPT_MEASURES,
    Baseline,
    BaselineEntry,
    EntryName,
)
from sqlstable.errors import BudgetError
from sqlstable.spelling import spelled

BASELINE_FORMAT: Final = "sqlstable-baseline"
BASELINE_VERSION: Final = 1

_WHATS: Final = ("message", "statement")


def update_option() -> str:
    """Name what writes a baseline: in Python that is the fixture of pytest."""
    return spelled("--stable-update-baseline", "--update-baseline")


def baseline_text(baseline: Baseline) -> str:
    """Return a baseline as it is kept."""
    return "\n".join(_lines(baseline)) + "\n"


def _lines(baseline: Baseline) -> Iterator[str]:
    yield "{"
    yield f'  "format": {_json(BASELINE_FORMAT)},'
    yield f'  "version": {BASELINE_VERSION},'
    settings = [
        f"    {_json(it)}: {_json(baseline.settings[it])}" for it in sorted(baseline.settings)
    ]
    yield '  "settings": {'
    yield ",\n".join(settings)
    yield "  },"
    if baseline.unlike_wasm is not None:
        yield f'  "unlike_wasm": {_json(baseline.unlike_wasm)},'
    yield '  "entries": ['
    entries = (
        "\n".join(_entry_lines(name, baseline.entries[name])) for name in sorted(baseline.entries)
    )
    yield ",\n".join(entries)
    yield "  ]"
    yield "}"


def _entry_lines(name: EntryName, entry: BaselineEntry) -> Iterator[str]:
    fields: dict[str, object] = dict(name._asdict())
    fields["count"] = entry.count
    for measure in KEPT_MEASURES:
        values = entry.measures.get(measure, ())
        # The same number at every position stands there once.
        fields[measure] = values[0] if len(set(values)) == 1 else list(values)
    fields["scans"] = list(entry.scans)
    yield "    {"
    yield ",\n".join(f"      {_json(key)}: {_json(value)}" for key, value in fields.items())
    yield "    }"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def read_baseline(text: str, name: str) -> Baseline:
    """Read a baseline back.

    Args:
        text: What `baseline_text` returned.
        name: What errors call it.

    Raises:
        BudgetError: It is no baseline, or of a version that is not known here.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BudgetError(f"{name} is no baseline: it is no JSON ({error})") from None
    return baseline_of(data, name)


def baseline_of(data: object, name: str) -> Baseline:
    """Return the baseline that JSON holds.

    Raises:
        BudgetError: It holds none, or one of a version that is not known here.
    """
    if not isinstance(data, dict) or data.get("format") != BASELINE_FORMAT:
        raise BudgetError(
            f"{name} is no baseline of sqlstable; {update_option()} makes one in a file of its own"
        )
    if data.get("version") != BASELINE_VERSION:
        raise BudgetError(
            f"{name} is a baseline of version {data.get('version')}, and this is sqlstable for "
            f"version {BASELINE_VERSION}; make it anew with {update_option()}"
        )
    try:
        entries = dict(map(_entry, data["entries"]))
        settings = data["settings"]
        _need(isinstance(settings, dict), "its settings have no names")
        unlike_wasm = data.get("unlike_wasm")
        _need(unlike_wasm is None or isinstance(unlike_wasm, str), "unlike_wasm is no text")
        _need(len(entries) == len(data["entries"]), "two entries have the same name")
    except (LookupError, TypeError, ValueError) as error:
        raise BudgetError(
            f"{name} is damaged ({error}); make it anew with {update_option()}"
        ) from None
    return Baseline(settings, entries, unlike_wasm)


def baseline_data(baseline: Baseline) -> Any:  # noqa: ANN401  JSON
    """Return a baseline as JSON has it, to be a part of another document."""
    return json.loads(baseline_text(baseline))


def _entry(data: Mapping[str, Any]) -> tuple[EntryName, BaselineEntry]:
    name = EntryName(*(data[field] for field in EntryName._fields))
    count, scans = data["count"], data["scans"]
    _need(isinstance(scans, list), "scans are no list")
    _need(all(isinstance(it, str) for it in (*name, *scans)), "a name is no text")
    _need(name.what in _WHATS, f"there is no entry of a {name.what}")
    _need(_is_number(count) and count > 0, "a count is no number")
    values = {it: _values(data[it], count) for it in KEPT_MEASURES}
    return name, BaselineEntry(count, values, tuple(scans))


def _values(found: object, count: int) -> tuple[int | None, ...]:
    listed = list(found) if isinstance(found, list) else [found] * count
    _need(len(listed) == count, "there are more or fewer numbers than positions")
    values = tuple(it for it in listed if it is None or (_is_number(it) and it >= 0))
    _need(len(values) == count, "something is no number")
    return values


def _is_number(found: object) -> TypeGuard[int]:
    return isinstance(found, int) and not isinstance(found, bool)


def _need(is_so: bool, text: str) -> None:  # noqa: FBT001  private
    if not is_so:
        raise ValueError(text)
