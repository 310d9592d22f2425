"""The CUDA backend: a graph of regions to a Program, a Program to CUDA C++, that to a shared
library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from graphopt.ir.graph import Graph, Node
from graphopt.kernel.ir import Kernel
from graphopt.program import Program
from graphopt.target import Backend, Measured, Step, Target

if TYPE_CHECKING:
    from graphopt.target import KernelPasses
    from graphopt.tune.candidate import Candidate
    from graphopt.tune.memory import Memory
    from graphopt.tune.space import Point, Schedules, Space


class CudaBackend(Backend):
    """CUDA C++ for NVIDIA GPUs; `emulated` runs the same sources on the CPU."""

    name: ClassVar[str] = "cuda"

    def targets(self) -> Mapping[str, Target]:
        from graphopt_backends.cuda.local import local_target
        from graphopt_backends.cuda.targets import TARGETS

        return {**TARGETS, "host": local_target()}

    def lower(self, graph: Graph, target: Target, schedules: Schedules | None = None) -> Program:
        from graphopt.lower.link import Linker
        from graphopt_backends.cuda.targets import ALIGNMENT
        from graphopt_backends.cuda.vendor.delegate import lower_or_delegate

        return Linker(graph, target, schedules or {}, lower_or_delegate, ALIGNMENT).program()

    def lower_node(self, node: Node, graph: Graph, target: Target) -> list[tuple[str, Kernel]]:
        from graphopt_backends.cuda.lower import lower_region

        del graph
        if _library(node):
            return []
        lowered = lower_region(node, target)
        return list(lowered.steps) or [("kernel", lowered.kernel)]

    def emit(self, program: Program, target: Target) -> Mapping[str, str]:
        from graphopt_backends.cuda.emit.model import emit

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
        from graphopt_backends.cuda.build import build

        return build(sources, target, out, cc=cc, progress=progress)

    def adjusted(self, passes: Sequence[str], precision: str, vendor: str) -> Sequence[str]:
        from graphopt_backends.cuda.vendor.settings import adjusted

        return adjusted(passes, precision, vendor)

    def facts(
        self,
        source: Graph,
        program: Program,
        target: Target,
        measured: Measured | None = None,
    ) -> Mapping[str, Any]:
        from graphopt_backends.cuda.facts import facts

        del target
        return facts(source, program, measured)

    def space(self, node: Node, target: Target) -> Space:
        from graphopt.tune.openings import open_space
        from graphopt.tune.space import NOTHING
        from graphopt_backends.cuda.lower import region_space

        if _library(node):
            return NOTHING
        return open_space(node, lambda: region_space(node, target))

    def candidate(
        self, node: Node, graph: Graph, target: Target, point: Point, passes: KernelPasses
    ) -> Candidate:
        from graphopt.tune.openings import KERNEL, computed_by
        from graphopt_backends.cuda.candidate import candidate
        from graphopt_backends.cuda.lower import region_space
        from graphopt_backends.cuda.vendor.candidate import library_candidate

        who = computed_by(point)
        if who != KERNEL:
            return library_candidate(node, graph, target, who, passes)
        own = point.only(region_space(node, target).names)
        return candidate(node, graph, target, own, passes)

    def processor(self, target: Target) -> str:
        from graphopt_backends.cuda.local import describe_gpu
        from graphopt_backends.cuda.targets import is_emulated

        return super().processor(target) if is_emulated(target) else describe_gpu()

    def check_runs_here(self, target: Target) -> None:
        from graphopt_backends.cuda.local import check_gpu
        from graphopt_backends.cuda.targets import is_emulated

        if not is_emulated(target):  # which runs anywhere
            check_gpu(target)

    def memory(self, target: Target) -> Memory:
        from graphopt_backends.cuda.targets import is_emulated

        if is_emulated(target):
            return super().memory(target)
        from graphopt_backends.cuda.device_memory import DeviceMemory
        from graphopt_backends.cuda.driver import Driver

        return DeviceMemory(Driver())

    def toolchain(self, target: Target, cc: str | None = None) -> str:
        from graphopt_backends.cuda.build import toolchain

        return toolchain(target, cc)


def _library(node: Node) -> str:
    """Whose library computes the region; "" where a kernel does."""
    library: str = node.attrs.library  # type: ignore[attr-defined]
    return library
