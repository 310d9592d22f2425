"""Plugins: entry point group `graphopt.plugins`, one manifest per distribution.

Listing imports no pass.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from typing import Any

from graphopt.errors import PluginError

GROUP = "graphopt.plugins"
API_VERSION = 1
KINDS = ("passes", "kernel_passes", "backends", "pipelines")


@dataclass(frozen=True)
class Plugin:
    """The manifest object an entry point names. Each table maps a name to `"module:Class"`.

    `passes` hold graph passes, `kernel_passes` kernel passes, `backends` backends and `pipelines`
    a pipeline table per optimization level (`"module:ATTRIBUTE"`).
    """

    api: int
    passes: Mapping[str, str] = field(default_factory=dict)
    kernel_passes: Mapping[str, str] = field(default_factory=dict)
    backends: Mapping[str, str] = field(default_factory=dict)
    pipelines: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One thing a distribution offers: `kind` is one of KINDS."""

    kind: str
    name: str
    reference: str
    distribution: str
    version: str

    def load(self) -> Any:
        """Import it. Raises: PluginError naming the distribution when it cannot be imported."""
        module_name, _, attribute = self.reference.partition(":")
        try:
            return getattr(importlib.import_module(module_name), attribute)
        except Exception as error:
            raise PluginError(
                f"plugin {self.name!r} of {self.distribution} {self.version} cannot be imported: "
                f"{type(error).__name__}: {error}",
                hint=f"mend or uninstall {self.distribution}",
            ) from error


@dataclass(frozen=True)
class Broken:
    """A distribution whose manifest could not be used, and why. It stops nobody else."""

    distribution: str
    reason: str


@dataclass(frozen=True)
class Registry:
    """Everything installed distributions offer."""

    entries: tuple[Entry, ...]
    broken: tuple[Broken, ...] = ()

    def of(self, kind: str) -> tuple[Entry, ...]:
        return tuple(e for e in self.entries if e.kind == kind)

    def find(self, kind: str, name: str) -> Entry:
        """The entry of that name. Raises: PluginError naming the nearest one."""
        noun = kind.replace("_", " ").rstrip("s") if kind != "passes" else "pass"
        noun = "kernel pass" if kind == "kernel_passes" else noun
        for entry in self.of(kind):
            if entry.name == name:
                return entry
        near = difflib.get_close_matches(name, [e.name for e in self.of(kind)], n=1)
        if near:
            owner = next(e for e in self.of(kind) if e.name == near[0]).distribution
            hint = f"did you mean {near[0]!r} of {owner}?"
        else:
            command = kind.replace("_", "-") if kind.endswith("passes") else "plugins"
            hint = f"`graphopt {command}` lists what is installed"
        broken = "".join(f"\n{b.distribution} could not be used: {b.reason}" for b in self.broken)
        raise PluginError(f"there is no {noun} {name!r}{broken}", hint=hint)


@cache
def registry() -> Registry:
    """Scan installed distributions. Raises: PluginError when two offer the same name."""
    entries: dict[tuple[str, str], Entry] = {}
    broken: list[Broken] = []
    for point in sorted(metadata.entry_points(group=GROUP), key=lambda p: p.name):
        dist = point.dist
        owner, version = (dist.name, dist.version) if dist else (point.value, "?")
        try:
            plugin = point.load()
        except Exception as error:
            broken.append(Broken(owner, f"{type(error).__name__}: {error}"))
            continue
        problem = _problem(plugin)
        if problem:
            broken.append(Broken(owner, problem))
            continue
        for kind in KINDS:
            for name, reference in getattr(plugin, kind).items():
                _add(entries, Entry(kind, name, reference, owner, version))
    return Registry(tuple(entries.values()), tuple(broken))


def _problem(plugin: object) -> str:
    if not dataclasses.is_dataclass(plugin) or not isinstance(plugin, Plugin):
        return f"its entry point is a {type(plugin).__name__}, not a graphopt.plugins.Plugin"
    if plugin.api != API_VERSION:
        return f"written for plugin API {plugin.api}; this graphopt has {API_VERSION}"
    return ""


def _add(entries: dict[tuple[str, str], Entry], entry: Entry) -> None:
    other = entries.get((entry.kind, entry.name))
    if other is not None and other.reference != entry.reference:
        raise PluginError(
            f"{other.distribution} and {entry.distribution} both offer {entry.name!r}",
            hint="uninstall one of them, or ask its author for another name",
        )
    entries[entry.kind, entry.name] = entry
