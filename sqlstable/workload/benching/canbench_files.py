"""The files of ``canbench``: what is measured (``canbench.yml``), and what was kept of it.

Source:
    dfinity/canbench canbench-bin/src/main.rs Config and results_file.rs @ f35fd97, 2026.

**Limitations.** Keys that neither names are let go without a word, as ``canbench`` does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlstable.analysis.benching.measured_bench import BenchResult, Measurement
from sqlstable.errors import ResultsError, ScriptError

CONFIG_NAME: Final = "canbench.yml"
RESULTS_NAME: Final = "canbench_results.yml"
CSV_NAME: Final = "canbench_results.csv"

VERSION: Final = "0.6.0"
"""Written into a file of results that has no version yet: the newest one with this form."""

_KEYS: Final = ("calls", "instructions", "heap_increase", "stable_memory_increase")
"""In the order in which ``canbench`` writes them."""

_DIGITS_MAX: Final = 20
"""Of a count of 64 bits."""

_Failure = ScriptError | ResultsError


@dataclass(frozen=True, slots=True)
class BenchConfig:
    """What is measured, and where results are."""

    module_path: Path
    folder: Path
    "Where commands run."
    build_command: str | None = None
    results_path: Path = Path(RESULTS_NAME)
    csv_path: Path = Path(CSV_NAME)
    init_argument: bytes = b""
    stable_path: Path | None = None
    "An image that stable memory is filled with once the module is installed."
    variables: tuple[tuple[str, str], ...] = ()
    "Environment variables of the canister."

    @classmethod
    def of_module(cls, path: Path) -> "BenchConfig":
        """Measure a module by itself; results are beside it."""
        folder = path.parent
        return cls(path, folder, None, folder / RESULTS_NAME, folder / CSV_NAME)


@dataclass(frozen=True, slots=True)
class KeptResults:
    """The results in a file, and the version of the program that wrote them."""

    benches: Mapping[str, BenchResult]
    version: str = VERSION


def read_config(path: Path) -> BenchConfig:
    """Read a ``canbench.yml``, or the one in a folder.

    Raises:
        ScriptError: It is none.
        OSError: It cannot be read.
    """
    if path.is_dir():
        path = path / CONFIG_NAME
    values = _mapping(_parsed(path, ScriptError), path, ScriptError, "settings")
    folder = path.parent
    wasm_path = _text(values, "wasm_path", path)
    if wasm_path is None:
        raise ScriptError(f"{path}: there is no wasm_path, the module that is to be measured")
    stable = _inner(values, "stable_memory", "file", path)
    variables = _inner(values, "env_vars", "file", path)
    return BenchConfig(
        module_path=folder / wasm_path,
        folder=folder,
        build_command=_text(values, "build_cmd", path),
        results_path=folder / (_text(values, "results_path", path) or RESULTS_NAME),
        csv_path=folder / (_text(values, "csv_results_path", path) or CSV_NAME),
        init_argument=_hex(_inner(values, "init_args", "hex", path) or "", path),
        stable_path=None if stable is None else folder / stable,
        variables=() if variables is None else _variables(folder / variables),
    )


def read_results(path: Path) -> KeptResults:
    """Read results; a file that is not there has none.

    Raises:
        ResultsError: It holds something else.
    """
    if not path.exists():
        return KeptResults({})
    values = _mapping(_parsed(path, ResultsError), path, ResultsError, "results")
    benches = _mapping(values.get("benches") or {}, path, ResultsError, "benches")
    found = {str(name): _result(name, value, path) for name, value in benches.items()}
    return KeptResults(found, str(values.get("version") or VERSION))


def _result(name: object, value: object, path: Path) -> BenchResult:
    values = _mapping(value, path, ResultsError, f"benchmark {name}")
    scopes = _mapping(values.get("scopes") or {}, path, ResultsError, f"the scopes of {name}")
    return BenchResult(
        _measurement(values.get("total"), path, f"the total of {name}"),
        {
            str(scope): _measurement(it, path, f"scope {scope} of {name}")
            for scope, it in scopes.items()
        },
    )


def _measurement(value: object, path: Path, what: str) -> Measurement:
    values = _mapping(value, path, ResultsError, what)
    texts = {key: str(values.get(key, 0)) for key in _KEYS}
    for key, text in texts.items():
        if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
            raise ResultsError(f"{path}: {key} of {what} is {text!r:.60}, and no count")
    return Measurement(**{key: int(text) for key, text in texts.items()})


def results_text(kept: KeptResults) -> str:
    r"""Return results as ``canbench`` keeps them.

    Examples:
        >>> results_text(KeptResults({"put": BenchResult(Measurement(1, 207))})).splitlines()[:3]
        ['benches:', '  put:', '    total:']
    """
    import yaml  # type: ignore[import-untyped]  # noqa: PLC0415  slow to import

    document = {
        "benches": {
            name: {
                "total": _numbers(result.total),
                "scopes": {scope: _numbers(it) for scope, it in sorted(result.scopes.items())},
            }
            for name, result in sorted(kept.benches.items())
        },
        "version": kept.version,
    }
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1 << 20)
    return text


def _numbers(measured: Measurement) -> dict[str, int]:
    return {key: measured.value(key) for key in _KEYS}


def _parsed(path: Path, failure: Callable[[str], _Failure]) -> object:
    import yaml  # noqa: PLC0415  slow to import

    try:
        # Every value as its text: digits of an argument are no number, nor is version 0.10.
        loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
        return yaml.load(path.read_bytes(), Loader=loader)  # noqa: S506  makes texts only
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        words = " ".join(str(error).split())
        raise failure(f"{path} is no YAML: {words}") from None


def _mapping(
    value: object, path: Path, failure: Callable[[str], _Failure], what: str
) -> Mapping[Any, Any]:
    if not isinstance(value, dict):
        raise failure(f"{path}: {what} should have names and values, and is {value!r:.60}")
    return value


def _text(values: Mapping[Any, Any], key: str, path: Path) -> str | None:
    value = values.get(key) or None
    if value is None or isinstance(value, str):
        return value
    raise ScriptError(f"{path}: {key} should be a text, and is {value!r:.60}")


def _inner(values: Mapping[Any, Any], key: str, inner: str, path: Path) -> str | None:
    if not values.get(key):
        return None
    found = _text(_mapping(values[key], path, ScriptError, key), inner, path)
    if found is None:
        raise ScriptError(f"{path}: {key} has no {inner}")
    return found


def _hex(text: str, path: Path) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ScriptError(f"{path}: init_args is no text of hexadecimal digits") from None


def _variables(path: Path) -> tuple[tuple[str, str], ...]:
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        name, comma, value = line.partition(",")
        if not comma:
            raise ScriptError(f"{path}: line {number} should be NAME,VALUE, and is {line!r:.60}")
        found.append((name.strip(), value.strip()))
    return tuple(found)
