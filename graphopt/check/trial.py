"""Trials of a bisection: a planned graph becomes an artifact, which a command or its results
judge."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graphopt.artifact.golden import Golden
from graphopt.artifact.loader import load
from graphopt.artifact.writer import write
from graphopt.check.artifact import compare_outputs
from graphopt.check.bisect import run_with
from graphopt.driver import Options, default_pipeline
from graphopt.errors import GraphoptError, InternalError
from graphopt.ir.graph import Graph
from graphopt.passbase import PassContext
from graphopt.pipeline import Pipeline
from graphopt.program import Program
from graphopt.target import Backend, Target

BadProgram = Callable[[Program], bool]
"""Whether what was made of a program is wrong, or too slow."""

NEEDED_LEVEL = "O0"
"""Has the passes without which some graphs cannot be lowered, and little else."""


@dataclass(frozen=True)
class Builder:
    """Makes an artifact of what a pipeline made of `source`."""

    source: Graph
    backend: Backend
    target: Target
    golden: Golden

    def program(self, planned: Graph) -> Program:
        """Lowered, with no kernel pass."""
        return self.backend.lower(planned, self.target)

    def lowers(self, planned: Graph) -> bool:
        """Whether code can be generated."""
        try:
            self.backend.lower(planned, self.target)
        except (GraphoptError, InternalError):
            return False
        return True

    def build(self, program: Program, folder: Path) -> Path:
        """Raises: GraphoptError."""
        made = _Made(program, self.backend.emit(program, self.target))
        return write(folder, made, self.backend, self.target, golden=self.golden)


@dataclass(frozen=True)
class _Made:
    program: Program
    sources: Mapping[str, str]


def required_passes(pipeline: Pipeline, builder: Builder) -> frozenset[str]:
    """The passes of a pipeline that code generation cannot do without.

    Found by trying: those of the lowest level, less each that may be stopped from rewriting.
    """
    names = {p.name for p in pipeline.passes}

    def lowers(required: frozenset[str]) -> bool:
        ctx = PassContext(builder.target, fuel=0)
        return builder.lowers(run_with(pipeline, builder.source, ctx, required))

    if lowers(frozenset()):
        return frozenset()
    needed = names & {p.name for p in default_pipeline(Options(level=NEEDED_LEVEL)).passes}
    for name in sorted(needed):
        if lowers(frozenset(needed - {name})):
            needed = needed - {name}
    return frozenset(needed)


def command_fails(command: str, builder: Builder, folder: Path) -> BadProgram:
    """A predicate: a shell command, given the artifact's directory, exits with another code than 0.

    The directory stands where the command has `{}`, else at its end.
    """

    def bad(program: Program) -> bool:
        path = shlex.quote(str(builder.build(program, folder)))
        text = command.replace("{}", path) if "{}" in command else f"{command} {path}"
        return subprocess.run(text, shell=True, check=False).returncode != 0

    return bad


def results_differ(
    builder: Builder,
    folder: Path,
    inputs: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    tolerance: float | None = None,
) -> BadProgram:
    """A predicate: the artifact's outputs are further from those expected than allowed."""

    def bad(program: Program) -> bool:
        with load(builder.build(program, folder)) as model:
            return not all(c.holds for c in compare_outputs(model, inputs, expected, tolerance))

    return bad
