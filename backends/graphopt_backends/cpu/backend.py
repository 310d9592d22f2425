"""The CPU backend: a graph of regions to a Program, a Program to C, C to a shared library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from graphopt.ir.graph import Graph, Node
from graphopt.kernel.ir import Kernel
from graphopt.program import Program
from graphopt.target import Backend, Limits, Step, Target

if TYPE_CHECKING:
    from graphopt.target import KernelPasses
    from graphopt.tune.candidate import Candidate
    from graphopt.tune.space import Point, Schedules, Space


_CACHE_LINE = 64


class CpuBackend(Backend):
    """C with vector extensions for x86-64 and aarch64, plain C99 elsewhere."""

    name: ClassVar[str] = "cpu"
    static_libraries: ClassVar[bool] = True

    def targets(self) -> Mapping[str, Target]:
        from graphopt_backends.cpu.targets import TARGETS, host

        return {**TARGETS, "host": host()}

    def lower(self, graph: Graph, target: Target, schedules: Schedules | None = None) -> Program:
        from graphopt.lower.link import Linker
        from graphopt_backends.cpu.lower import lower_region

        return Linker(graph, target, schedules or {}, lower_region, _CACHE_LINE).program()

    def lower_node(self, node: Node, graph: Graph, target: Target) -> list[tuple[str, Kernel]]:
        from graphopt_backends.cpu.lower import lower_region

        del graph
        lowered = lower_region(node, target)
        return list(lowered.steps) or [("kernel", lowered.kernel)]

    def emit(self, program: Program, target: Target) -> Mapping[str, str]:
        from graphopt_backends.cpu.emit import emit

        return emit(program, target)

    def build(
        self,
        sources: Mapping[str, str],
        target: Target,
        out: Path,
        *,
        cc: str | None = None,
        progress: Step | None = None,
    ) -> Path:
        from graphopt_backends.cpu.build import build

        return build(sources, target, out, cc=cc, progress=progress)

    def limits(self) -> Limits | None:
        from graphopt_backends.cpu.limits import measure
        from graphopt_backends.cpu.targets import host

        return measure(host())

    def space(self, node: Node, target: Target) -> Space:
        from graphopt_backends.cpu.lower import region_space

        return region_space(node, target)

    def candidate(
        self, node: Node, graph: Graph, target: Target, point: Point, passes: KernelPasses
    ) -> Candidate:
        from graphopt_backends.cpu.candidate import candidate

        return candidate(node, graph, target, point, passes)

    def toolchain(self, target: Target, cc: str | None = None) -> str:
        from graphopt_backends.cpu.build import toolchain

        return toolchain(target, cc)
