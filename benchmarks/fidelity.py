"""Do canbench benchmarks of other people's modules give the figures that their authors published?

``python -m benchmarks.fidelity FOLDER`` takes a folder of projects, built as their own lock files
say: each ``canbench.yml`` below it that has a module and published results is run, in a message of
its own for each benchmark, and every figure is compared. ``--outputs FOLDER`` compares what
canbench has printed as well, kept in files of text: numbers are shortened there, and equal where
ours are shortened to the same. Nothing is built here, and nothing is timed.

Exit status 1 where a figure differs or a benchmark fails.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.measure import markdown
from sqlstable.analysis.benching.measured_bench import METRICS, BenchResult
from sqlstable.errors import SqlstableError
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.report.bench_text import bench_lines
from sqlstable.workload.benching.bench_module import BenchModule, bench_names, module_bytes
from sqlstable.workload.benching.canbench_files import (
    CONFIG_NAME,
    BenchConfig,
    read_config,
    read_results,
)

REGIME: Final = PRICE_REGIMES["wasm-native"]
"""What PocketIC 13 counts, which published figures come from."""

_VALUE: Final = re.compile(r"^    ([a-z_]+): (\S+(?: [KMBT])?)(?: pages)? \(")
"""A figure as canbench prints it; what follows in parentheses is the change."""

Figures = dict[tuple[str, str, str], str]
"""By benchmark, scope (empty for the total) and metric, as they are printed."""


@dataclass(slots=True)
class Compared:
    """One module beside what was published of it."""

    name: str
    published: int = 0
    run: int = 0
    equal: dict[str, int] = field(default_factory=dict)
    "Benchmarks and scopes that are equal, by metric."
    differences: list[str] = field(default_factory=list)


def measure(config: BenchConfig, wanted: set[str] | None) -> dict[str, BenchResult]:
    """Run the benchmarks of a module, all or those that are wanted; failed ones are left out."""
    wasm = module_bytes(config.module_path)
    found: dict[str, BenchResult] = {}
    try:
        module = BenchModule(
            wasm,
            name=config.module_path.name,
            regime=REGIME,
            init_argument=config.init_argument,
            stable=None if config.stable_path is None else config.stable_path.read_bytes(),
            variables=config.variables,
        )
    except SqlstableError as error:
        print(f"{config.module_path.name}: {error}", file=sys.stderr)
        return found
    for name in bench_names(wasm):
        if wanted is None or name in wanted:
            try:
                found[name] = module.measure(name)
            except SqlstableError as error:
                print(f"{name}: {error}", file=sys.stderr)
    module.close()
    return found


def compare(name: str, config: BenchConfig) -> Compared:
    """Compare a module with its file of results."""
    kept = read_results(config.results_path).benches
    found = measure(config, set(kept))
    compared = Compared(name, equal=dict.fromkeys(METRICS, 0))
    for bench, result in kept.items():
        ours = dict(found[bench].measurements()) if bench in found else {}
        for scope, published in result.measurements():
            compared.published += 1
            measured = ours.get(scope)
            if measured is None:
                compared.differences.append(f"{bench} {scope or ''}: it did not run")
                continue
            compared.run += 1
            for metric in METRICS:
                is_equal = measured.value(metric) == published.value(metric)
                compared.equal[metric] += is_equal
                if not is_equal:
                    compared.differences.append(
                        f"{bench} {scope or ''}: {metric} {measured.value(metric)}, "
                        f"published {published.value(metric)}"
                    )
    return compared


def figures_of(lines: Iterator[str]) -> Figures:
    """Read what canbench has printed of benchmarks."""
    found: Figures = {}
    bench = scope = ""
    for line in lines:
        if line.startswith("Benchmark: "):
            bench, scope = line.split()[1], ""
        elif line.endswith(" (scope):"):
            scope = line.strip().removesuffix(" (scope):")
        elif bench and (match := _VALUE.match(line)):
            found[bench, scope, match[1]] = match[2]
    return found


def compare_outputs(folder: Path, configs: Mapping[str, BenchConfig]) -> tuple[int, list[str]]:
    """Compare what canbench printed; returns how many figures there are, and what differs."""
    printed: Figures = {}
    for path in sorted(folder.rglob("*.txt")):
        printed |= figures_of(iter(path.read_text(encoding="utf-8").splitlines()))
    wanted = {bench for bench, _, _ in printed}
    ours: Figures = {}
    for config in configs.values():
        if wanted & set(bench_names(module_bytes(config.module_path))):
            for name, result in measure(config, wanted).items():
                lines = (line.plain for line in bench_lines(name, result, None, 2.0))
                ours |= figures_of(lines)
    differences = [
        f"{' '.join(key)}: {ours.get(key)}, printed {value}"
        for key, value in sorted(printed.items())
        if ours.get(key) != value
    ]
    return len(printed), differences


def projects(folder: Path) -> dict[str, BenchConfig]:
    """Return what can be run below a folder, by where it is."""
    found = {}
    for path in sorted(folder.rglob(CONFIG_NAME)):
        try:
            config = read_config(path)
        except (SqlstableError, OSError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            continue
        if config.module_path.exists():
            found[path.parent.relative_to(folder).as_posix()] = config
    return found


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--outputs", type=Path)
    parser.add_argument("--only", default="", help="projects whose place contains this text")
    arguments = parser.parse_args()
    configs = projects(arguments.folder)
    chosen = {name: it for name, it in configs.items() if arguments.only in name}
    rows: list[tuple[str, list[int]]] = []
    differences = []
    found = [compare(name, it) for name, it in chosen.items() if it.results_path.exists()]
    for one in [it for it in found if it.published]:
        equal = [one.equal[metric] for metric in METRICS]
        rows.append((one.name, [one.published, one.run, *equal]))
        differences += [f"{one.name}: {text}" for text in one.differences]
    rows.append(
        ("**all**", [sum(counts) for counts in zip(*(row[1] for row in rows), strict=True)])
    )
    header = ("project", "published", "run", *(f"{metric} equal" for metric in METRICS))
    print(markdown(header, [(name, *map(str, counts)) for name, counts in rows]))
    if arguments.outputs is not None:
        count, differing = compare_outputs(arguments.outputs, configs)
        print(f"\nPrinted by canbench: {count - len(differing)} of {count} figures are equal.")
        differences += differing
    for text in differences:
        print(f"* {text}")
    return int(bool(differences))


if __name__ == "__main__":
    sys.exit(main())
