"""Facts about the source of the package: rooms and their sizes, classes, protocols, circles.

``python -m tests.house`` prints them; `test_tidy` holds them to limits.
"""

import ast
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import sqlstable

PACKAGE = Path(sqlstable.__file__).parent


@dataclass(frozen=True)
class ClassFacts:
    """One class: where it is, and how large."""

    name: str
    module: str
    line_count: int
    method_count: int
    is_protocol: bool


def modules() -> list[Path]:
    """Return the files of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    """Return the dotted name below the package."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


@cache
def tree_of(path: Path) -> ast.Module:
    """Return the parsed source."""
    return ast.parse(path.read_text(encoding="utf-8"))


def line_counts() -> Counter[str]:
    """Return lines by room; modules beside the rooms count under an empty name."""
    counts: Counter[str] = Counter()
    for path in modules():
        parts = path.relative_to(PACKAGE).parts
        counts[parts[0] if len(parts) > 1 else ""] += path.read_text(encoding="utf-8").count("\n")
    return counts


def classes() -> list[ClassFacts]:
    """Return all classes of the package."""
    return [
        ClassFacts(
            node.name,
            module_name(path),
            (node.end_lineno or 0) - node.lineno + 1,
            sum(isinstance(item, ast.FunctionDef) for item in node.body),
            any(_is_named(base, "Protocol") for base in node.bases),
        )
        for path in modules()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ClassDef)
    ]


def double_names() -> dict[str, list[str]]:
    """Return the names of classes and of files that stand for two things, with their modules."""
    places = defaultdict(list)
    for one in classes():
        places[one.name].append(one.module)
    for path in modules():
        if path.stem not in ("__init__", "__main__"):
            places[path.name].append(module_name(path))
    return {name: found for name, found in sorted(places.items()) if len(found) > 1}


def circles() -> list[list[str]]:
    """Return the circles of modules that import each other, imports for annotations included."""
    names = {module_name(path).removesuffix(".__init__") for path in modules()}
    graph = {
        module_name(path).removesuffix(".__init__"): set(_imported(path, names))
        for path in modules()
    }
    return [sorted(group) for group in _components(graph) if len(group) > 1]


def _imported(path: Path, names: set[str]) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        else:
            continue
        for name in found:
            short = name.removeprefix("sqlstable.")
            if short != name and short in names:
                yield short


def _components(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the strongly connected components, by Tarjan's algorithm."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        stack.append(name)
        for other in graph[name] - {name}:
            if other not in number:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], number[other])
        if low[name] == number[name]:
            group = set(stack[stack.index(name) :])
            del stack[stack.index(name) :]
            found.append(group)

    for name in graph:
        if name not in number:
            visit(name)
    return found


def _is_named(node: ast.expr, name: str) -> bool:
    if isinstance(node, ast.Subscript):
        node = node.value
    return isinstance(node, ast.Name) and node.id == name


def main() -> None:
    """Print all facts."""
    sys.stdout.write("\n".join(report()) + "\n")


def report() -> Iterator[str]:
    """Return all facts as lines of text."""
    counts = line_counts()
    total = counts.total()
    yield f"{total} lines in {len(modules())} modules"
    for room, lines in counts.most_common():
        yield f"  {room or '(beside the rooms)':20} {lines:6} {lines / total:6.1%}"
    protocols = [one for one in classes() if one.is_protocol]
    yield f"{len(protocols)} protocols:"
    for one in protocols:
        yield f"  {one.method_count:3} {one.module}.{one.name}"
    yield "largest classes:"
    for one in sorted(classes(), key=lambda one: -one.line_count)[:12]:
        yield f"  {one.line_count:4} lines, {one.method_count:2} methods {one.module}.{one.name}"
    yield "names of two things:"
    for name, places in double_names().items():
        yield f"  {name}: {', '.join(places)}"
    yield "circles:"
    for group in circles():
        yield f"  {', '.join(group)}"


if __name__ == "__main__":
    main()
