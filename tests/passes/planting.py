"""How bugs are planted: one function of a pass replaced while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from unittest import mock

from graphopt_passes.recipes import Recipe

from graphopt.ir.graph import Graph
from graphopt.passbase import Numerics, Pass, PassContext


@dataclass(frozen=True)
class Bug:
    """`pass_` is the pass as pipelines name it, options included. In `owner`, a module or class,
    `attribute` is replaced by `wrong` while it runs; without an owner, `wrong` is a subclass of the
    pass that runs in its place."""

    pass_: str
    owner: Any
    attribute: str
    wrong: Any
    graph: str


@dataclass(frozen=True)
class Mutant(Pass):
    """A pass with a bug in it. It keeps the name and the promise of the original."""

    original: Pass
    bug: Bug

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.original.name

    @property
    def numerics(self) -> Numerics:  # type: ignore[override]
        return self.original.numerics

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        if self.bug.owner is None:
            return self.bug.wrong.run(graph, ctx)  # type: ignore[no-any-return]
        with mock.patch.object(self.bug.owner, self.bug.attribute, self.bug.wrong):
            return self.original.run(graph, ctx)


def rule(cls: Any, op: str, wrong: Callable[..., Recipe | None]) -> Mapping[str, Any]:
    """A table of rules in which the rules of one op are replaced."""
    return {**cls.rules, op: (wrong,)}


class Bugs(dict[str, Bug]):
    """By title."""

    def plant(
        self, title: str, pass_: str, owner: Any, attribute: str, wrong: Any, graph: str
    ) -> None:
        assert title not in self
        self[title] = Bug(pass_, owner, attribute, wrong, graph)


# What graphs are made of -------------------------------------------------------------------------

TWO = "%x = input : f32[3,4]\n%z = input : f32[3,4]\n"
LINEAR = '%x = input : f32[5,4]\n%w = constant {key="w"} : f32[4,4]\n'


def number(value: float, name: str = "c") -> str:
    return f"%{name} = full {{value={value}, shape=[], dtype=f32}}\n"
