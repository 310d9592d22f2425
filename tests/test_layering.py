"""The architecture, executed: who may import whom, read from the source without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE_ROOTS = {
    "graphopt": ROOT / "graphopt",
    "graphopt_passes": ROOT / "passes" / "graphopt_passes",
    "graphopt_backends": ROOT / "backends" / "graphopt_backends",
}


@dataclass(frozen=True)
class Import:
    """`module` (and, for `from module import name`, also `module.name`) is imported at `where`.

    `deferred`: inside a function or under TYPE_CHECKING, so not when the module is imported.
    """

    importer: str
    module: str
    names: tuple[str, ...]
    deferred: bool
    where: str

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def _module_name(package: str, path: Path) -> str:
    parts = path.relative_to(SOURCE_ROOTS[package]).with_suffix("").parts
    return ".".join((package, *(p for p in parts if p != "__init__")))


def _imports(tree: ast.AST, importer: str, where: str, deferred: bool = False) -> Iterator[Import]:
    for node in ast.iter_child_nodes(tree):
        line = f"{where}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(importer, alias.name, (), deferred, line)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{line}: relative import"
            names = tuple(a.name for a in node.names)
            yield Import(importer, node.module or "", names, deferred, line)
        else:
            inner = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            yield from _imports(node, importer, where, deferred or inner or typing)


def _all_imports() -> list[Import]:
    out: list[Import] = []
    for package, folder in SOURCE_ROOTS.items():
        for path in sorted(folder.rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            where = path.relative_to(ROOT).as_posix()
            out += _imports(tree, _module_name(package, path), where)
    return out


IMPORTS = _all_imports()
MODULES = {
    _module_name(package, path)
    for package, folder in SOURCE_ROOTS.items()
    for path in folder.rglob("*.py")
}


@pytest.mark.parametrize(
    ("importer", "forbidden"),
    [
        ("graphopt", {"graphopt_passes", "graphopt_backends"}),
        ("graphopt_passes", {"graphopt_backends"}),
        ("graphopt_backends", {"graphopt_passes"}),
    ],
)
def test_layers(importer: str, forbidden: set[str]) -> None:
    wrong = [i for i in IMPORTS if i.importer.partition(".")[0] == importer and i.top in forbidden]
    assert not wrong, "\n".join(f"{i.where} imports {i.module}" for i in wrong)


def test_bare_source_roots_are_no_packages() -> None:
    wrong = [i for i in IMPORTS if i.top in ("passes", "backends", "tests")]
    assert not wrong, "\n".join(f"{i.where} imports {i.module}" for i in wrong)


HEAVY: dict[str, tuple[str, ...]] = {
    "torch": ("graphopt.frontend.", "graphopt.check."),
    "torchvision": (),
    "transformers": (),
    "onnx": ("graphopt.frontend.",),
    "tvm": ("graphopt_backends.tvm.",),
    "hypothesis": ("graphopt.check.",),
    "optuna": ("graphopt.tune.",),
    "matplotlib": ("graphopt.report.",),
}
"""Heavy or optional packages, and the modules that may import them."""


@pytest.mark.parametrize("package", HEAVY)
def test_heavy_imports(package: str) -> None:
    for found in (i for i in IMPORTS if i.top == package):
        assert found.importer.startswith(HEAVY[package] or ("nowhere",)), (
            f"{found.where} imports {package}"
        )


@pytest.mark.parametrize("package", HEAVY)
def test_heavy_packages_are_imported_only_when_used(package: str) -> None:
    """Modules that import one at once are themselves imported inside functions alone, the package
    that they belong to included."""
    direct = [(i.importer, package) for i in IMPORTS if i.top == package and not i.deferred]
    view = nx.DiGraph([*_edges(), *direct])
    needy = nx.ancestors(view, package) if package in view else set()
    wrong = sorted(m for m in needy if not m.startswith(HEAVY[package] or ("nowhere",)))
    assert not wrong, f"importing these imports {package}: {', '.join(wrong)}"


def _edges() -> Iterator[tuple[str, str]]:
    """Module-level imports among our own modules."""
    for found in IMPORTS:
        if found.deferred:
            continue
        submodules = [f"{found.module}.{n}" for n in found.names]
        targets = [m for m in submodules if m in MODULES]
        # `from package import submodule` runs the submodule; any other name needs the package.
        if len(targets) < len(found.names) or not found.names:
            targets.append(found.module)
        yield from ((found.importer, t) for t in targets if t in MODULES)


def test_no_import_cycles() -> None:
    view = nx.DiGraph([(a, b) for a, b in _edges() if a != b])
    cycles = [" <-> ".join(sorted(c)) for c in nx.strongly_connected_components(view) if len(c) > 1]
    assert not cycles, "\n".join(cycles)


def test_the_core_needs_no_command_line() -> None:
    wrong = [
        i for i in IMPORTS
        if i.top == "graphopt" and i.module.startswith("graphopt.cli")
        and not i.importer.startswith("graphopt.cli") and i.importer != "graphopt.__main__"
    ]  # fmt: skip
    assert not wrong, "\n".join(f"{i.where} imports {i.module}" for i in wrong)
