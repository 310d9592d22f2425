"""One region's kernel as a library of its own, timed on the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from graphopt.ir.graph import Graph, Node
from graphopt.kernel.ir import Kernel
from graphopt.lower.interface import fill
from graphopt.lower.link import kernel_name, packed_operands
from graphopt.target import Target
from graphopt.tune.candidate import Candidate
from graphopt.tune.space import Point
from graphopt_backends.cuda.emit.device import device_sources
from graphopt_backends.cuda.emit.kernel import emit_kernel
from graphopt_backends.cuda.emit.launch import workspace_bytes
from graphopt_backends.cuda.emit.model import plain_runtime
from graphopt_backends.cuda.lower import lower_region
from graphopt_backends.cuda.timed import ENTRY, RUN, timed

_RUN = """extern "C" int @KERNEL@_launch(go_stream stream, void *const *p);

extern "C" int @RUN@(void *const *parameters, char *workspace)
{
    void *p[@PARAMETERS@ + 1];
    for (int i = 0; i < @PARAMETERS@; i++) p[i] = parameters[i];
    p[@PARAMETERS@] = workspace;
    return go_launched(@KERNEL@_launch(nullptr, p), "@KERNEL@");
}
"""


def candidate(
    node: Node,
    graph: Graph,
    target: Target,
    point: Point | None,
    passes: Callable[[Kernel], Kernel] = lambda kernel: kernel,
) -> Candidate:
    """A fused node of `graph`, lowered by a point of its space, and what passes make of it: all
    grids of the kernel, in one iteration."""
    lowered = lower_region(node, target, point)
    kernel = dataclasses.replace(lowered.kernel, name=kernel_name(node, lowered, target))
    kernel = passes(kernel)
    text = emit_kernel(kernel, target)
    sources = library(kernel.name, text, len(kernel.params), target)
    packed = packed_operands(node, graph, lowered)
    return Candidate(kernel.name, sources, packed, scratch_bytes=workspace_bytes(kernel))


def library(kernel: str, text: str, parameters: int, target: Target) -> dict[str, str]:
    """The sources of a library whose entry point runs a kernel of so many parameters, `text` by
    name."""
    return {
        f"{kernel}.cu": text,
        ENTRY: timed(fill(_RUN, KERNEL=kernel, RUN=RUN, PARAMETERS=str(parameters))),
        **device_sources(),
        **plain_runtime(target),
    }
