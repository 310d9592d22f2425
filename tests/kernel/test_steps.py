"""Every region kind: the kernel after each step of its schedule means what the graph means."""

from __future__ import annotations

import numpy as np
import pytest
from graphopt_backends.cpu.lower import RULES, lower_region
from graphopt_backends.cpu.targets import TARGETS
from regions_in_memory import from_memory, inputs_of, reference_values

from graphopt.check import random_constant, seeded_inputs
from graphopt.ir.graph import Graph
from graphopt.ir.text import parse
from graphopt.kernel.interpret import interpret
from graphopt.kernel.verify import verify_kernel
from graphopt.passbase import PassContext
from graphopt.pipeline import Pipeline

ROUNDING = 1e-12
"""Of the largest magnitude: both sides in float64, sums of a few hundred terms."""

# The weights that these transform are packed in f32: a rounding of 2^-24 in every term.
WEIGHT_ROUNDING = {"winograd": 1e-6, "winograd-grouped": 1e-6, "strassen": 1e-6}

POINTWISE = "{stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1], groups=1}"
CONV = "{{stride=[{s},{s}], padding=[[1,1],[1,1]], dilation=[1,1], groups={g}}}"
GRAPHS = {
    "pointwise": """
        %x = input : f32[3,5,17]
        %b = input : f32[17]
        %y = add %x, %b
        %z = gelu %y {approximate="none"}
        return %z""",
    "movement": """
        %x = input : f32[2,5,9]
        %t = transpose %x {perm=[0,2,1]}
        %f = flip %t {axes=[1]}
        return %f""",
    "concat": """
        %x = input : f32[2,5,9]
        %y = input : f32[2,3,9]
        %z = concat %x, %y {axis=1}
        return %z""",
    "gather": """
        %t = constant {key="t"} : f32[7,19]
        %i = input : i64[2,5]
        %y = gather %t, %i {axis=0}
        return %y""",
    "reduction": """
        %x = input : f32[4,3,37]
        %w = constant {key="w"} : f32[37]
        %b = constant {key="b"} : f32[37]
        %y = layer_norm %x, %w, %b {axes=1, eps=1e-05}
        %z = softmax %y {axis=2}
        return %z""",
    "reduction over outer axes": """
        %x = input : f32[4,9,18]
        %y = max %x {axes=[1], keepdims=false}
        return %y""",
    "contraction": """
        %x = input : f32[1,13,19]
        %w = constant {key="w"} : f32[37,19]
        %b = constant {key="b"} : f32[37]
        %y = linear %x, %w, %b
        %z = relu %y
        return %z""",
    "product of two results": """
        %x = input : f32[2,3,7,9]
        %y = input : f32[2,3,9,18]
        %z = matmul %x, %y
        return %z""",
    "convolution": f"""
        %x = input : f32[1,5,9,8]
        %w = constant {{key="w"}} : f32[18,5,3,3]
        %b = constant {{key="b"}} : f32[18]
        %y = conv %x, %w, %b {CONV.format(s=2, g=1)}
        %z = relu %y
        return %z""",
    "grouped convolution": f"""
        %x = input : f32[1,8,7,6]
        %w = constant {{key="w"}} : f32[12,4,3,3]
        %y = conv %x, %w {CONV.format(s=1, g=2)}
        return %y""",
    "winograd": """
        %x = input : f32[1,6,10,11]
        %w = constant {key="w"} : f32[17,6,3,3]
        %y = conv %x, %w {stride=[1,1], padding=[[1,1],[1,1]], dilation=[1,1], groups=1, winograd=4}
        return %y""",
    "winograd-grouped": """
        %x = input : f32[2,12,8,12]
        %w = constant {key="w"} : f32[34,6,3,3]
        %y = conv %x, %w {stride=[1,1], padding=[[1,1],[1,1]], dilation=[1,1], groups=2, winograd=4}
        return %y""",
    "strassen": """
        %x = input : f32[7,10]
        %w = constant {key="w"} : f32[34,10]
        %y = linear %x, %w {strassen=7}
        return %y""",
    "depthwise": f"""
        %x = input : f32[1,19,8,7]
        %w = constant {{key="w"}} : f32[19,1,3,3]
        %y = conv %x, %w {CONV.format(s=1, g=19)}
        return %y""",
    "inverted residual": f"""
        %x = input : f32[2,5,6,7]
        %u = constant {{key="u"}} : f32[19,5,1,1]
        %e = conv %x, %u {POINTWISE}
        %r = relu %e
        %w = constant {{key="w"}} : f32[19,1,3,3]
        %d = conv %r, %w {CONV.format(s=1, g=19)}
        %c = clamp %d {{low=0.0, high=6.0}}
        %v = constant {{key="v"}} : f32[5,19,1,1]
        %p = conv %c, %v {POINTWISE}
        %y = add %p, %x
        return %y""",
    "expansion alone": f"""
        %x = input : f32[1,3,9,8]
        %u = constant {{key="u"}} : f32[34,3,3,3]
        %b = constant {{key="b"}} : f32[34]
        %e = conv %x, %u, %b {CONV.format(s=1, g=1)}
        %w = constant {{key="w"}} : f32[34,1,3,3]
        %d = conv %e, %w {CONV.format(s=2, g=34)}
        return %d""",
    "window": """
        %x = input : f32[1,18,9,8]
        %y = max_pool %x {kernel=[3,3], stride=[2,2], padding=[[1,1],[1,1]], dilation=[1,1]}
        return %y""",
    "attention": """
        %q = input : f32[1,2,9,8]
        %k = input : f32[1,2,17,8]
        %v = input : f32[1,2,17,8]
        %m = input : bool[1,1,9,17]
        %y = attention %q, %k, %v, %m {scale=0.3, causal=false}
        return %y""",
    "causal attention": """
        %q = input : f32[1,4,11,8]
        %k = input : f32[1,2,11,8]
        %v = input : f32[1,2,11,8]
        %y = attention %q, %k, %v {scale=0.3, causal=true}
        return %y""",
    "opaque": """
        %x = input : f32[3,7]
        %y = cumsum %x {axis=1}
        return %y""",
    "arg-reduction": """
        %x = input : f32[3,7]
        %y = argmax %x {axis=1, keepdims=false}
        return %y""",
    "selection": """
        %x = input : f32[3,7]
        %v, %i = topk %x {axis=1, k=3, largest=true}
        return %v, %i""",
    "scatter": """
        %x = input : f32[5,4]
        %i = input : i64[3,1]
        %u = input : f32[3,4]
        %y = scatter_nd %x, %i, %u {accumulate=true}
        return %y""",
}


# What has no proof: where a scatter writes depends on data; an `if` keeps the blocks of tile rows
# apart.
UNPROVEN = {
    "scatter": "may leave",
    "winograd": "parallel loop 'blk' may write",
    "strassen": "parallel loop 'blk' may write",
}


def planned(name: str) -> Graph:
    graph = parse(GRAPHS[name], fill=random_constant)
    pipeline = Pipeline.parse("explicit-padding,assign-layouts,fuse,fuse-strips{least=-9.0}")
    return pipeline.run(graph, PassContext(target=TARGETS["x86-64-v3"]))


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4", "scalar"])
@pytest.mark.parametrize("name", GRAPHS)
def test_every_step(name: str, target: str) -> None:
    graph = planned(name)
    values = reference_values(graph, seeded_inputs(graph, 3))
    for node in graph.nodes:
        if node.op.name != "fused":
            continue
        found = lower_region(node, TARGETS[target])
        arrays = inputs_of(node, found, values)
        steps = found.steps or (("kernel", found.kernel),)
        assert steps[-1][1] == found.kernel
        for step, kernel in steps:
            unproven = verify_kernel(kernel, complete=kernel is found.kernel)
            known = UNPROVEN.get(name)
            assert all(known and known in u.what for u in unproven), f"{step}: {unproven}"
            results = interpret(kernel, arrays, precision=np.float64)
            for out, result in zip(kernel.outputs, node.results, strict=True):
                got, wanted = from_memory(results[out], result.type), values[result]
                largest = np.abs(wanted[np.isfinite(wanted)]).max(initial=1e-30)
                np.testing.assert_allclose(
                    got,
                    wanted,
                    rtol=0,
                    atol=WEIGHT_ROUNDING.get(name, ROUNDING) * largest,
                    err_msg=f"{step} of {kernel.name}",
                )


def test_every_region_kind_is_here() -> None:
    kinds = {
        n.attrs.kind  # type: ignore[attr-defined]
        for name in GRAPHS
        for n in planned(name).nodes
        if n.op.name == "fused"
    }
    assert kinds == set(RULES)
