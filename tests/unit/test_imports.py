"""The graph of imports between this project's modules, those of type checkers and of functions included."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = tuple(ROOT / folder / "portico" for folder in ("core", "gateways", "sandbox", "clients/python"))


def names(folders: tuple[Path, ...]) -> dict[str, Path]:
    """Returns the files of all modules by the modules' names."""
    found = {}
    for folder in folders:
        for file in folder.rglob("*.py"):
            parts = file.relative_to(folder.parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported(module: str, file: Path, modules: dict[str, Path]) -> set[str]:
    """Returns the modules of the project that a module imports anywhere in its text."""
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{origin}.{alias.name}"
                found.add(whole if whole in modules else origin)
    return (found & modules.keys()) - {module}


def circles(folders: tuple[Path, ...]) -> list[list[str]]:
    """Returns the groups of modules of which each imports all others, directly or through others."""
    modules = names(folders)
    left = {module: imported(module, file, modules) for module, file in modules.items()}
    while free := [module for module, needed in left.items() if not needed & left.keys()]:
        for module in free:
            del left[module]
    groups = []
    while left:
        reached = {module: _reachable(module, left) for module in left}
        start = next(iter(left))
        group = sorted({start} | {other for other in reached[start] if start in reached[other]})
        if len(group) > 1:
            groups.append(group)
        for module in group:
            del left[module]
    return groups


def _reachable(start: str, graph: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    to_do = [start]
    while to_do:
        for other in graph.get(to_do.pop(), ()):
            if other in graph and other not in found:
                found.add(other)
                to_do.append(other)
    return found


def test_no_modules_import_each_other() -> None:
    assert len(names(SOURCES)) > 600
    assert circles(SOURCES) == []


@pytest.mark.parametrize(
    "text",
    [
        "from portico import b",
        "import portico.b",
        "from . import b",
        "def f():\n    from portico.b import x",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from portico.b import x",
    ],
)
def test_a_circle_is_found_whatever_the_form_of_the_import(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "portico"
    folder.mkdir()
    for name, content in {"a": text, "b": "import portico.c", "c": "import portico.a", "d": text}.items():
        (folder / f"{name}.py").write_text(content)
    assert circles((folder,)) == [["portico.a", "portico.b", "portico.c"]]
