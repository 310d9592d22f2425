"""One region's kernel as a library of its own, with a clock around it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from graphopt.ir.graph import Graph, Node
from graphopt.kernel.ir import Kernel
from graphopt.lower.link import kernel_name, packed_operands
from graphopt.target import Target
from graphopt.tune.candidate import SYMBOL, Candidate
from graphopt.tune.space import Point
from graphopt_backends.cpu.emit import emit_kernel, parallel_extent, scratch_bytes
from graphopt_backends.cpu.emit.ctypes import C_TYPE
from graphopt_backends.cpu.lower import lower_region

_ENTRY = """
#include <time.h>

__attribute__((visibility("default")))
int64_t @SYMBOL@(void *const *p, char *scratch, int64_t begin, int64_t end)
{
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    @KERNEL@(@POINTERS@, scratch, begin, end);
    clock_gettime(CLOCK_MONOTONIC, &b);
    return (int64_t)(b.tv_sec - a.tv_sec) * 1000000000 + (b.tv_nsec - a.tv_nsec);
}
"""


def candidate(
    node: Node,
    graph: Graph,
    target: Target,
    point: Point | None,
    passes: Callable[[Kernel], Kernel] = lambda kernel: kernel,
) -> Candidate:
    """A fused node of `graph`, lowered by a point of its space, and what passes make of it."""
    lowered = lower_region(node, target, point)
    kernel = dataclasses.replace(lowered.kernel, name=kernel_name(node, lowered, target))
    kernel = passes(kernel)
    return Candidate(
        kernel.name,
        {f"{kernel.name}.c": emit_kernel(kernel, target) + _entry(kernel)},
        packed_operands(node, graph, lowered),
        parallel_extent(kernel),
        scratch_bytes(kernel),
    )


def _entry(kernel: Kernel) -> str:
    casts = (
        f"({'' if b.name in kernel.outputs else 'const '}{C_TYPE[b.dtype]} *)p[{i}]"
        for i, b in enumerate(kernel.params)
    )
    return (
        _ENTRY.replace("@SYMBOL@", SYMBOL)
        .replace("@KERNEL@", kernel.name)
        .replace("@POINTERS@", ", ".join(casts))
    )
