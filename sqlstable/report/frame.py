"""What stands above and below every table: the settings, how to read it, what is real."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final

from rich.cells import cell_len
from rich.text import Text

from sqlstable.analysis.compare import settings_that_differ
from sqlstable.analysis.pricing.trace_prices import recorded_prices
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.assumptions import assumptions_of
from sqlstable.ic.fee_tables import FEES_DATE
from sqlstable.ic.prices import regime_of
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.ic.words import MODULE_ENGINE
from sqlstable.report import numbers
from sqlstable.report.grid import paragraph
from sqlstable.report.price_words import assumption_words
from sqlstable.report.sample_words import ESTIMATED
from sqlstable.report.text import clean
from sqlstable.trace.fees import fees_day, trace_fees
from sqlstable.trace.format.summary import MessageState
from sqlstable.trace.model import TraceSettings

SETTINGS: Final = (
    "engine",
    "sqlite",
    "layout",
    "bucket_pages",
    "page_size",
    "cache_size",
    "journal_mode",
    "locking_mode",
    "synchronous",
    "temp_store",
    "preset",
    "growth",
    "durability",
    "limits",
    "prices",
)
"""Settings that every report states, in this order; others that a trace has follow them."""

DEFAULTS: Final[Mapping[str, object]] = {
    "layout": "managed",
    "bucket_pages": 128,
    "page_size": 4096,
    "cache_size": 500,
    "journal_mode": "memory",
    "locking_mode": "exclusive",
    "synchronous": "off",
    "temp_store": "memory",
    "preset": None,
    "growth": "bucket",
    "foreign_keys": False,
    "now": "2026-01-01 00:00:00",
    "seed": 0,
    "depth": "counters",
    "owners": True,
    "durability": "process",
    "prices": regime_of(None).name,
    "assumptions": assumptions_of(regime_of(None)),
    "build": "standard",
    "price_regime": regime_of(None).name,
    "measured": True,
    "track_heap": True,
    "os_page_bytes": 4096,
    "heap_address_bits": 32,
}
"""What settings are when nothing is said; a report names them when it is asked to."""

STATED: Final = ("engine", "sqlite", "limits")
"""Settings that a report names whatever they are."""

NO_SETTINGS: Final = frozenset({"closed", "measured", "prices", "prices_day"})
"""What a trace keeps beside its settings: it influenced nothing, or the engine says it."""

_MEANINGS: Final = {
    "price_regime": "how memory is charged",
    "os_page_bytes": "those that are charged",
}
"""Settings whose names do not say what they are."""

_SPELLED: Final = {
    "recorded_limits": "limits of the run",
    "messages_per_round": "messages per round",
}
"""Settings that nobody chooses under the name that a trace has for them."""

_SHORTENED: Final = "_sha256"
"""How the names of settings end of which the beginning is enough to tell them apart."""
_SHOWN_OF_HASH: Final = 12

_UNITS: Final = {
    "module_bytes": "B",
    "os_page_bytes": "B",
    "bucket_pages": "Wasm pages",
    "page_size": "B",
    "cache_size": "SQLite pages",
}

INSTRUCTIONS: Final = (
    "instr.",
    "instructions: computation, stable memory, and the heap's Wasm pages when first touched",
)
"""What that column counts, for the words below a table."""

ARROW: Final = " → "
"""Stands between a value before and the same value after."""

_ESTIMATES: Final = (
    f"instructions, arguments and replies of messages that were not measured ({ESTIMATED}), from "
    "those that were"
)

NOT_HERE: Final = "consensus, networking, certified responses, other canisters"

NOT_COUNTED: Final = "computation, heap and cycles"
"""What nobody counts on the native engine, where stable memory's part is known."""

NOT_HELD: Final = (
    "the limits on sizes of arguments and replies (2 MiB, and 3 MiB for a query's reply)"
)
"""Where nobody counts their bytes.

Source: dfinity/ic rs/limits/src/lib.rs, ``MAX_NON_REPLICATED_QUERY_REPLY_SIZE`` and others.
"""


NOT_HERE_OF_MODULES: Final = (
    "consensus, networking, certificates, signatures of subnets, HTTPS outcalls, Bitcoin; "
    "canisters that were not put beside this one reject their calls"
)
"""The same of a canister's own module."""


def title(text: str, width: int) -> list[Text]:
    """Return the first line of a report."""
    return paragraph(text, width, style="bold")


def settings_lines(settings: TraceSettings, width: int, *, all_settings: bool) -> list[Text]:
    """State the settings that are not the default ones, or all, each under its name."""
    names = dict.fromkeys((*SETTINGS, *settings.values))
    values = {name: settings.values.get(name) for name in names}
    return _state(values, width, all_settings=all_settings)


def parameter_lines(values: Mapping[str, object], width: int) -> list[Text]:
    """State the values of a script's parameters that were chosen; nothing where none was."""
    words = [f"parameter {clean(name)} {clean(str(value))}" for name, value in values.items()]
    return listed(words, width, style="dim") if words else []


def setting_changes(
    before: TraceSettings, after: TraceSettings, width: int, *, all_settings: bool
) -> list[Text]:
    """State the settings of two traces: first those that differ, then those that both share."""
    differing = settings_that_differ(before, after, NO_SETTINGS, first=SETTINGS)
    shared = {
        name: before.values.get(name)
        for name in dict.fromkeys((*SETTINGS, *before.values, *after.values))
        if name in NO_SETTINGS or before.values.get(name) == after.values.get(name)
    }
    if not differing:
        changes = ["both traces have the same settings"]
    else:
        changes = [
            setting(name, before.values.get(name))
            + ARROW
            + setting_value(name, after.values.get(name))
            for name in differing
        ]
    return [
        *listed(changes, width, style="bold"),
        *_state(shared, width, all_settings=all_settings),
    ]


def setting(name: str, value: object) -> str:
    """Spell one setting with its unit.

    Examples:
        >>> setting("cache_size", 2000), setting("journal_mode", "memory")
        ('cache_size 2,000 SQLite pages', 'journal_mode memory')
    """
    meaning = f" ({_MEANINGS[name]})" if name in _MEANINGS else ""
    return f"{_SPELLED.get(name) or clean(name)}{meaning} {setting_value(name, value)}"


def setting_value(name: str, value: object) -> str:
    """Spell the value of one setting with its unit."""
    if value is None:
        return "unknown"
    if isinstance(value, Mapping):
        return ", ".join(f"{clean(str(key))} {clean(str(it))}" for key, it in value.items())
    if name.endswith(_SHORTENED):
        return clean(str(value))[:_SHOWN_OF_HASH] + "…"
    if isinstance(value, bool) or not isinstance(value, int):
        return clean(str(value)) or "''"
    unit = _UNITS.get(name)
    return f"{numbers.count(value)} {unit}" if unit else str(value)


def listed(words: Sequence[str], width: int, *, style: str = "") -> list[Text]:
    """Return words as lines, broken only between them."""
    lines: list[str] = []
    for word in words:
        joined = f"{lines[-1]} · {word}" if lines else word
        if lines and cell_len(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(word)
    return [text for line in lines for text in paragraph(line, width, style=style)]


def fault_lines(trace: TraceSource, width: int) -> list[Text]:
    """Say since when owners are not to be relied on, and why; nothing where they are."""
    lines: list[Text] = []
    faults = trace.owner_faults
    for place, fault in enumerate(faults):
        if not fault.text:
            continue
        since = f"from message {fault.since_message} on"
        if place + 1 < len(faults):
            since = f"after messages {fault.since_message} to {faults[place + 1].since_message - 1}"
        text = (
            f"owners are not determined {since}, as the database cannot be read whole: "
            f"{clean(fault.text)}; OS pages are counted all the same"
        )
        lines += paragraph(text, width, style="yellow")
    return lines


def unfinished_lines(settings: TraceSettings, width: int) -> list[Text]:
    """Warn of a trace whose run did not end in order; what it holds is sound."""
    if settings.values.get("closed") is not False:
        return []
    text = "unfinished: this run goes on, or was killed; messages after the last one are missing"
    return paragraph(text, width, style="yellow")


def glossary_lines(
    words: Sequence[tuple[str, str]], settings: TraceSettings, width: int
) -> list[Text]:
    """Explain the columns of a table, one word to a line."""
    page_size = settings.values.get("page_size")
    if isinstance(page_size, int) and 0 < page_size < OS_PAGE_BYTES:
        held = f"an OS page holds {OS_PAGE_BYTES // page_size} SQLite pages here"
        words = [*words, ("owners", f"{held}, and counts for each owner that has one of them")]
    return [line for word, text in words for line in named_lines(word, text, width)]


def instruction_words(trace: TraceSource) -> Iterator[tuple[str, str]]:
    """Say what instructions are, where some were counted."""
    if any(is_counted for _, _, is_counted in trace.summary.states):
        yield INSTRUCTIONS


def cache_words(trace: TraceSource) -> Iterator[tuple[str, str]]:
    """Say why the states of the heap cost what they cost, where both can be seen."""
    states = trace.summary.states
    if any(kind == "query" and cache and is_counted for kind, cache, is_counted in states):
        text = (
            "fresh: opening has paid for the heap before the statement begins; warm: the statement "
            "pays for each Wasm page of it; cold: as warm, and reads its SQLite pages anew"
        )
        yield ("cache", text)


def provenance_lines(
    settings: Sequence[TraceSettings],
    states: Collection[MessageState],
    width: int,
    *,
    has_estimates: bool | None = None,
) -> list[Text]:
    """Say what of a report on one or two traces is real, what is modelled, what it leaves out."""
    rows = provenance(settings, states, has_estimates=has_estimates)
    return [line for name, text in rows for line in named_lines(name, text, width)]


def provenance(
    settings: Sequence[TraceSettings],
    states: Collection[MessageState],
    *,
    has_estimates: bool | None = None,
) -> list[tuple[str, str]]:
    """Return the same as names and texts.

    Args:
        settings: Of one or two traces.
        states: In which messages of one began; none where they are not known.
        has_estimates: Whether messages were estimated; None where that is not known, either.
    """
    if has_estimates is None:
        has_estimates = any(
            it.values.get("engine") == "both" and it.values.get("measure") != "all"
            for it in settings
        )
    real = chain.from_iterable(_real(it.values) for it in settings)
    modelled = chain(
        [_ESTIMATES] * has_estimates,
        *(_modelled(it.values) for it in settings),
        _modelled_messages(settings[-1], states),
    )
    beware = chain(*(_beware(it.values) for it in settings), _beware_of(settings[-1], states))
    prices = chain.from_iterable(_prices(it) for it in settings)
    rows = (
        ("prices", "; ".join(dict.fromkeys(prices))),
        ("real", "; ".join(dict.fromkeys(real))),
        ("modelled", "; ".join(dict.fromkeys(modelled))),
        ("beware", "; ".join(dict.fromkeys(beware))),
        ("not here", _not_here(settings)),
    )
    return [(name, text) for name, text in rows if text]


def _not_here(settings: Sequence[TraceSettings]) -> str:
    is_module = all(it.values.get("engine") == MODULE_ENGINE for it in settings)
    if is_module:
        return NOT_HERE_OF_MODULES
    if all(it.values.get("measured") for it in settings):
        return NOT_HERE
    return f"{NOT_COUNTED}; {NOT_HERE}; {NOT_HELD}"


def _prices(settings: TraceSettings) -> Iterator[str]:
    """Say what instructions were counted by, and what that assumes."""
    regime = recorded_prices(settings)
    if not settings.values.get("measured") or regime is None:
        return
    words = assumption_words(regime)
    assumed = f"; assumed, as the sources leave it open: {words}" if words else ""
    yield f"{regime.name}{assumed} (sqlstable prices)"


def _real(settings: Mapping[str, object]) -> Iterator[str]:
    if settings.get("engine") == MODULE_ENGINE:
        yield "the module as it is deployed, its bytes and their layout, the OS pages touched"
        yield "the heap after a query or trap"
        yield "instructions, counted by the weights that the replica's source has"
        if settings.get("limits") is not None:
            yield f"limits of {clean(str(settings['limits']))}"
        return
    yield "SQLite, the bytes and their layout, the OS pages touched"
    if settings.get("limits") is not None:
        yield f"limits of {clean(str(settings['limits']))}"
    if settings.get("engine") == "wasm":
        yield "the heap after a query or trap (wasm engine)"
        if settings.get("measured"):
            yield "instructions, counted by the weights that the replica's source has"


def _modelled(settings: Mapping[str, object]) -> Iterator[str]:
    if settings.get("engine") == MODULE_ENGINE:
        yield "the order of messages, time, cycles and randomness, which are the same in every run"
    if settings.get("engine") == "native":
        yield "the heap after a query or trap (native engine)"
    if settings.get("preset") is not None:
        name = clean(str(settings["preset"]))
        yield f"preset {name}: the PRAGMAs of that product, not its commit path"
    if settings.get("measured"):
        found = TraceSettings(settings)
        fees, day = trace_fees(found), min(fees_day(found) or FEES_DATE, FEES_DATE)
        yield (
            f"cycles by the list of {day} for a subnet of {fees.node_count} nodes and a heap "
            f"with {64 if fees.is_64 else 32}-bit addresses"
        )


def _beware(settings: Mapping[str, object]) -> Iterator[str]:
    mode = settings.get("journal_mode")
    if mode == "wal":
        yield (
            "journal_mode wal is not available in canisters: it needs shared memory, or one "
            "connection under an exclusive lock as here; its costs are not those of a canister"
        )
    if mode in ("delete", "truncate") and settings.get("layout") in (None, DEFAULTS["layout"]):
        yield (
            "journal_mode delete and truncate cost what persist costs: the journal lies in a "
            "virtual memory, which cannot shrink, so its header is overwritten instead"
        )


def _beware_of(settings: TraceSettings, states: Collection[MessageState]) -> Iterator[str]:
    both = settings.values.get("engine") == "both"
    if both and _has_warm_queries(states):
        yield (
            "OS pages of warm queries are those of the native engine, whose heap keeps what "
            "queries cached: as many as in a canister, which forgets that and reads it anew, or "
            "fewer; --engine wasm has a canister's"
        )


def _has_warm_queries(states: Collection[MessageState]) -> bool:
    return any((kind, cache) == ("query", "warm") for kind, cache, _ in states)


def _modelled_messages(settings: TraceSettings, states: Collection[MessageState]) -> Iterator[str]:
    native = settings.values.get("engine") == "native"
    if native and _has_warm_queries(states):
        yield "warm queries keep what they cached, which a canister would forget"


def _state(values: Mapping[str, object], width: int, *, all_settings: bool) -> list[Text]:
    stated = {
        name: value
        for name, value in values.items()
        if name not in NO_SETTINGS and (all_settings or not is_default(name, value))
    }
    words = [setting(name, value) for name, value in stated.items() if value is not None]
    unknown = [clean(name) for name, value in stated.items() if value is None]
    if unknown and all_settings:
        words.append(f"not set or not known: {', '.join(unknown)}")
    elif not all_settings:
        words.append("all else as by default: --settings")
    return listed(words, width, style="dim")


def is_default(name: str, value: object) -> bool:
    """Tell whether a setting is what it is when nothing is said, and need not be stated."""
    if name == "assumptions":
        return True  # the words on prices state them
    return name not in STATED and (value is None or value == DEFAULTS.get(name))


def named_lines(name: str, text: str, width: int) -> list[Text]:
    """Return a paragraph with its name in front, as below every table."""
    indent = max(10, len(name) + 1)
    lines = paragraph(text, width, style="dim", indent=indent)
    first = Text(name.ljust(indent), style="dim bold")
    first.append(lines[0].plain.lstrip(), style="not bold")
    return [first, *lines[1:]]
