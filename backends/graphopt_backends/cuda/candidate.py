"""One region's kernel as a library of its own, timed on the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from graphopt.ir.graph import Graph, Node
from graphopt.kernel.ir import Kernel
from graphopt.lower.interface import fill
from graphopt.lower.link import kernel_name, packed_operands
from graphopt.target import Target
from graphopt.tune.candidate import MESSAGE, SYMBOL, Candidate
from graphopt.tune.space import Point
from graphopt_backends.cuda.emit.device import device_sources
from graphopt_backends.cuda.emit.kernel import emit_kernel
from graphopt_backends.cuda.emit.launch import workspace_bytes
from graphopt_backends.cuda.emit.model import plain_runtime
from graphopt_backends.cuda.lower import lower_region

_ENTRY = """// @KERNEL@ between two marks on the default stream.
#include "go_runtime.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

extern "C" int @KERNEL@_launch(go_stream stream, void *const *p);

#ifdef GO_EMULATED
static void hold() {}
#else
// Some 20 us in which the host enqueues what is timed: the device shall not wait for the host.
static __global__ void wait_cycles(long long count)
{
    const long long start = clock64();
    while (clock64() - start < count) {}
}

static void hold() { wait_cycles<<<1, 1>>>(40000); }
#endif

EXPORTED int64_t @SYMBOL@(void *const *parameters, char *workspace, int64_t, int64_t)
{
    static go_timer *timer;
    void *p[@PARAMETERS@ + 1];
    for (int i = 0; i < @PARAMETERS@; i++) p[i] = parameters[i];
    p[@PARAMETERS@] = workspace;
    uint64_t nanoseconds = 0;
    int error = timer ? GO_OK : go_timer_create(&timer, 2);
    if (error) return -error;
    hold();
    error = go_timer_mark(timer, 0, nullptr);
    if (!error) error = go_launched(@KERNEL@_launch(nullptr, p), "@KERNEL@");
    if (!error) error = go_timer_mark(timer, 1, nullptr);
    if (!error) error = go_timer_read(timer, &nanoseconds);
    return error ? -error : (int64_t)nanoseconds;
}

EXPORTED const char *@MESSAGE@(void) { return go_message(); }
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
        "candidate.cu": fill(
            _ENTRY, KERNEL=kernel, SYMBOL=SYMBOL, MESSAGE=MESSAGE, PARAMETERS=str(parameters)
        ),
        **device_sources(),
        **plain_runtime(target),
    }
