"""Every kernel that the CPU backend makes of the tiny models, by target, made once."""

from __future__ import annotations

from functools import cache

import numpy as np
from graphopt_backends.cpu.lower import lower_region
from graphopt_backends.cpu.targets import TARGETS
from traced_models import tiny

from graphopt.driver import Options, default_pipeline
from graphopt.ir.graph import Graph, Node
from graphopt.kernel.ir import Kernel
from graphopt.kernel.text import print_kernel
from graphopt.lower.region import Lowered
from graphopt.passbase import PassContext

NAMES = VECTORS, SCALAR = ("x86-64-v4", "scalar")


@cache
def model(name: str) -> tuple[Graph, tuple[np.ndarray, ...]]:
    """A planned graph, and inputs for it."""
    traced = tiny(name)
    planned = default_pipeline(Options()).run(traced.graph, PassContext(target=TARGETS[NAMES[0]]))
    return planned, tuple(traced.inputs().values())


@cache
def lowered(name: str, target: str) -> tuple[tuple[Node, Lowered], ...]:
    """Regions of different kernels."""
    seen: set[str] = set()
    out = []
    for node in model(name)[0].nodes:
        if node.op.name != "fused":
            continue
        found = lower_region(node, TARGETS[target])
        text = print_kernel(found.kernel)
        if text not in seen:
            seen.add(text)
            out.append((node, found))
    return tuple(out)


def steps(name: str) -> list[tuple[str, Kernel, bool]]:
    """(label, kernel, whether it is the last step) of every region on every target."""
    out = []
    for target in NAMES:
        for _, found in lowered(name, target):
            made = found.steps or (("kernel", found.kernel),)
            out += [(f"{target} {s}", k, k is made[-1][1]) for s, k in made]
    return out
