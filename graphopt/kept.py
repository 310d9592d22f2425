"""What was made of what, remembered in the cache folder: a compile whose artifact is still there,
whole, and would come out the same, has nothing to do.

The key has in it all that decides: the model, the options, the target row, the compiler, every
source file of graphopt and of its plugins, and what else is installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.artifact.format import MANIFEST, Manifest, read_manifest
from graphopt.artifact.hashing import check_file
from graphopt.cache import Cache, key_of
from graphopt.compilation import Options, Report
from graphopt.errors import ArtifactError

if TYPE_CHECKING:
    from graphopt.frontend.traced import Exported
    from graphopt.ir.graph import Graph
    from graphopt.target import Backend, Target

_WHOLE = (".pt2",)
"""Ends of files that are a model by themselves: Python's may read others."""
_MADE = ".pyc"
"""End of files that Python makes of others."""


@dataclass(frozen=True)
class Recipe:
    """What a model is compiled with."""

    backend: Backend
    target: Target
    options: Options

    @property
    def repeats(self) -> bool:
        """Whether doing it again would show nothing new."""
        return not self.options.verify_each

    def of_file(self, source: object) -> str | None:
        """The key of a file that is all of a model; None for what has to be traced first."""
        if not isinstance(source, str) or not source.endswith(_WHOLE):
            return None
        path = Path(source)
        return self._key("file", _digest(path)) if path.is_file() else None

    def of_model(self, model: Exported | Graph) -> str:
        """The key of an exported model or a graph, weights included."""
        from graphopt.ir.graph import Graph
        from graphopt.ir.text import print_graph

        if isinstance(model, Graph):
            return self._key("graph", print_graph(model), digest_of_constants(model))
        return self._key("program", model.digest())

    def _key(self, *model: str) -> str:
        return key_of([*model, *self._same])

    @cached_property
    def _same(self) -> list[str]:
        """What does not depend on the model."""
        tuned = self.options.tuned
        records = _digest(tuned) if tuned is not None and tuned.is_file() else ""
        compiler = self.backend.toolchain(self.target, self.options.cc)
        return [
            self.target.fingerprint,
            str(self.options),
            records,
            compiler,
            *_code(),
            *_installed(),
        ]


@dataclass(frozen=True)
class Kept:
    """An artifact that is as it was made, and what was told of it then."""

    manifest: Manifest
    report: Report


def find(folder: Path, key: str | None) -> Kept | None:
    """What `remember` said of `folder`, if every file in it is as it was then."""
    if key is None or not (folder / MANIFEST).is_file():
        return None
    record = _store().find(key, ".json")
    if record is None:
        return None
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        manifest = read_manifest(folder)
        if known["manifest"] != _digest(folder / MANIFEST):
            return None
        for name, file in manifest.files.items():
            check_file(folder / name, file, trust_records=True)
        return Kept(manifest, Report(**known["report"]))
    except (ArtifactError, OSError, ValueError, KeyError, TypeError):
        return None  # damaged, or of another graphopt: it is made again


def remember(folder: Path, key: str, report: Report) -> None:
    """That `folder` is what the key makes. Times are not kept."""
    told: dict[str, Any] = {
        **report.as_dict(), "stages": [], "passes": [], "kernel_passes": [],
    }  # fmt: skip
    told.pop("seconds")
    content = {"manifest": _digest(folder / MANIFEST), "report": told}
    _store().put(key, json.dumps(content).encode(), ".json")


def digest_of_constants(graph: Graph) -> str:
    """Of their names and bytes."""
    import numpy as np

    digest = hashlib.sha256()
    for key, array in sorted(graph.constants.items()):
        digest.update(f"{key}\0{array.dtype}\0{array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _store() -> Cache:
    return Cache("made")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _code() -> Iterator[str]:
    """Names and digests of the files that compile: graphopt's and its plugins'."""
    from graphopt.plugins import registry

    packages = {"graphopt"} | {e.reference.partition(".")[0] for e in registry().entries}
    for package in sorted(p.partition(":")[0] for p in packages):
        spec = importlib.util.find_spec(package)
        folders = spec.submodule_search_locations if spec else None
        files = [p for f in folders or () for p in Path(f).rglob("*") if _is_code(p)]
        if spec and spec.origin and not folders:
            files = [Path(spec.origin)]
        for file in sorted(files):
            yield f"{file} {_digest(file)}"


def _is_code(path: Path) -> bool:
    return path.suffix != _MADE and path.is_file()


def _installed() -> list[str]:
    """Distributions and their versions, as their folders are named."""
    return sorted({p.name for f in sys.path for p in Path(f).glob("*.dist-info")})
