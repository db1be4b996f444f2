"""Who imports whom in our two packages, read from the source: typing-only imports and those in functions included."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("supervisors", "dspy_actors")


@cache
def sources() -> Mapping[str, Path]:
    """Our files by module name; a package's face is its package's name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def is_face(module: str) -> bool:
    """Whether the module is some package's `__init__`."""
    return sources()[module].name == "__init__.py"


@cache
def arrows() -> Mapping[str, frozenset[str]]:
    """For each of our modules, those of ours that it imports."""
    return {module: frozenset(_imported(module, path)) - {module} for module, path in sources().items()}


def _imported(module: str, path: Path) -> Iterator[str]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in sources())
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                if inner in sources() or base in sources():
                    yield inner if inner in sources() else base


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    above = parts[: len(parts) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def circle() -> list[str]:
    """A path of imports that ends where it began, or nothing."""
    done: set[str] = set()
    path: list[str] = []

    def visit(module: str) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        path.append(module)
        found = next((found for target in sorted(arrows()[module]) if (found := visit(target))), [])
        path.pop()
        done.add(module)
        return found

    return next((found for module in sources() if (found := visit(module))), [])
