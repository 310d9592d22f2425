"""One region as a library computes it, with a kernel for the rest: a library that times both on
the device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import numpy as np

from graphopt.artifact.layout import WeightLayout
from graphopt.errors import InternalError
from graphopt.ir.graph import Graph, Node, Value
from graphopt.kernel.ir import Kernel
from graphopt.lower.interface import fill
from graphopt.lower.link import Linker
from graphopt.ops import FusedAttrs
from graphopt.program import Program
from graphopt.rewrite import Rewriter
from graphopt.target import Target
from graphopt.tune.candidate import SCRATCH, Candidate
from graphopt_backends.cuda.emit.calls import call_body, compiled_calls, opened_calls, prototypes
from graphopt_backends.cuda.emit.device import device_sources, template_sources
from graphopt_backends.cuda.emit.kernel import emit_kernel
from graphopt_backends.cuda.emit.launch import workspace_bytes
from graphopt_backends.cuda.emit.libraries import plan_functions, structure
from graphopt_backends.cuda.emit.model import runtime_sources
from graphopt_backends.cuda.targets import ALIGNMENT, GpuTarget
from graphopt_backends.cuda.timed import ENTRY, RUN, timed
from graphopt_backends.cuda.vendor.delegate import lower_or_delegate
from graphopt_backends.cuda.vendor.match import ATTENTION
from graphopt_backends.cuda.vendor.offers import TF32, Asked, Offer, offers
from graphopt_backends.cuda.vendor.split import split

_CALLS = """// The calls of a region: a library's, and a kernel's for the rest.
#include "go_attention.h"
#include "go_conv.h"
#include "go_matmul.h"
#include "go_runtime.h"

@PROTOTYPES@

enum { PLANS = @PLANS@, MOST_WORKSPACE = 256 << 20 };

typedef struct {
    void *const *in, *const *out;
    char *arena, *workspace;
    void *const *plans;
} frame;

static void *plans[PLANS + 1];

@STRUCTURES@

@PLAN_FUNCTIONS@

@BODIES@

/* What the kernel for the rest reads comes first, then what all work in. */
extern "C" __attribute__((visibility("default"))) int64_t @SCRATCH@(void)
{
    size_t workspace = @WORKSPACE@;
    const int error = make_plans(plans, 0, &workspace);
    if (error) destroy_plans(plans);
    return error ? -error : (int64_t)(@ARENA@ + workspace);
}

extern "C" int @RUN@(void *const *parameters, char *scratch)
{
    const frame now = {parameters, parameters + @INPUTS@, scratch, scratch + @ARENA@, plans};
    int error = GO_OK;
@CALLS@
    return error;
}
"""


def library_candidate(
    node: Node,
    graph: Graph,
    target: Target,
    library: str,
    passes: Callable[[Kernel], Kernel] = lambda kernel: kernel,
) -> Candidate:
    """A fused node of `graph` as `library` computes it. Raises: InternalError where it does not."""
    assert isinstance(target, GpuTarget)
    alone = _alone(node, target, library)
    program = Linker(alone, target, {}, lower_or_delegate, ALIGNMENT).program()
    kernels = [passes(k) for k in program.kernels]
    calls = _calls(program)
    sources = {
        ENTRY: timed(f'extern "C" int {RUN}(void *const *parameters, char *workspace);\n'),
        "calls.cpp": calls,
        **device_sources(),
        **runtime_sources(program, target),
        **{f"{k.name}.cu": emit_kernel(k, target) for k in kernels},
    }
    for name, call in compiled_calls(program).items():
        sources.update({f"{name}.cu": call.source, **template_sources()})
    digest = hashlib.sha256(calls.encode()).hexdigest()[:8]
    packed = _packed(alone, [graph.constant(v) for v in node.operands], target)
    return Candidate(f"{program.calls[0].kernel}_{digest}__{target.isa}", sources, packed)


def _alone(node: Node, target: GpuTarget, library: str) -> Graph:
    """A graph of one region, split as the library has it; its operands are inputs."""
    assert isinstance(node.attrs, FusedAttrs)
    inputs = tuple(Value(v.type, name=f"in{i}") for i, v in enumerate(node.operands))
    types = [r.type for r in node.results]
    attrs = FusedAttrs(node.attrs.kind)
    copy = Node(node.op, inputs, attrs, types, loc=node.loc, body=node.body)
    rw = Rewriter(Graph(inputs, (copy,), copy.results))
    (inner,) = rw.nodes
    use = (library.partition(".")[0], ATTENTION)
    asked = Asked(use, library.endswith(TF32), target, schedules=True)
    for offer in offers(inner, asked, lambda value: True):
        if isinstance(offer, Offer) and offer.library == library:
            split(rw, inner, offer)
            return rw.freeze()
    raise InternalError(f"{library} does not compute the region at {node.loc}")


def _calls(program: Program) -> str:
    structures, compiled = opened_calls(program), tuple(compiled_calls(program))
    spacious = {k.name for k in program.kernels if workspace_bytes(k)}
    layout = WeightLayout(program.weights)
    numbered = list(enumerate(program.calls))
    bodies = (call_body(n, c, layout, structures, spacious) for n, c in numbered)
    runs = (f"    if (!error) error = call_{n}(&now, nullptr);" for n, _ in numbered)
    return fill(
        _CALLS,
        PROTOTYPES=prototypes(program),
        PLANS=str(len(structures)),
        STRUCTURES="\n".join(structure(n, s) for n, s in enumerate(structures)),
        PLAN_FUNCTIONS=plan_functions(structures, compiled),
        BODIES="\n\n".join(bodies),
        SCRATCH=SCRATCH,
        WORKSPACE=str(program.scratch_bytes),
        ARENA=str(program.arena_bytes),
        RUN=RUN,
        INPUTS=str(len(program.inputs)),
        CALLS="\n".join(runs),
    )


def _packed(
    alone: Graph, constants: list[np.ndarray | None], target: GpuTarget
) -> Mapping[int, np.ndarray]:
    """The region's operands that the library wants rearranged, by position."""
    out: dict[int, np.ndarray] = {}
    for node in alone.nodes:
        lowered = lower_or_delegate(node, target, None)
        for i, packing in lowered.packings.items():
            which = alone.inputs.index(node.operands[i])
            array = constants[which]
            if array is None:
                raise InternalError(f"operand {which} of {node.loc} is packed and no constant")
            out[which] = np.ascontiguousarray(packing.pack(array))
    return out
