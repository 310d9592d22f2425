"""One region of each kind, at sizes as models have them: for golden files and for nvcc."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from cuda_regions import channels_last, graph_of, tensor
from graphopt_backends.cuda.emit.kernel import emit_kernel
from graphopt_backends.cuda.lower import lower_region
from graphopt_passes.fuse.fuse import Fuse

from graphopt.ir.graph import Graph, Loc, Node, Value
from graphopt.ir.types import DType, TensorType
from graphopt.ops import (
    ArgmaxAttrs,
    AttentionAttrs,
    ConvAttrs,
    GatherAttrs,
    GeluAttrs,
    LayerNormAttrs,
    MaxPoolAttrs,
    SoftmaxAttrs,
    TransposeAttrs,
)
from graphopt.passbase import PassContext
from graphopt.rewrite import Rewriter
from graphopt.target import Target

_NONE = ((0, 0), (0, 0))
_LOC = Loc("encoder.layer.0", "model.py:12")


def _zeros(*shape: int, dtype: DType = DType.F32) -> np.ndarray:
    return np.zeros(shape, dtype.numpy)


def _linear(m: int, n: int, k: int, dtype: DType = DType.F32) -> Graph:
    def body(rw: Rewriter, x: Value, w: Value, b: Value) -> Value:
        y = rw.emit("linear", x, w, b, loc=_LOC)
        return rw.emit("gelu", y, attrs=GeluAttrs(), loc=_LOC)

    constants = [_zeros(n, k, dtype=dtype), _zeros(n, dtype=dtype)]
    return graph_of([tensor(m, k, dtype=dtype)], constants, body)


def _layer_norm(dtype: DType) -> Graph:
    return graph_of(
        [tensor(512, 768, dtype=dtype)], [_zeros(768, dtype=dtype)] * 2,
        lambda rw, x, w, b: rw.emit("layer_norm", x, w, b, attrs=LayerNormAttrs(1, 1e-5)),
    )  # fmt: skip


def _attention(
    dtype: DType, depth: int, queries: int = 512, batch: int = 1, heads: int = 8, keys: int = 512
) -> Graph:
    cache = tensor(batch, 8, keys, depth, dtype=dtype)
    types = [tensor(batch, heads, queries, depth, dtype=dtype), cache, cache]
    attrs = AttentionAttrs(depth**-0.5, queries > 1)
    return graph_of(types, [], lambda rw, q, k, v: rw.emit("attention", q, k, v, attrs=attrs))


def _conv(groups: int, channels: int) -> Graph:
    attrs = ConvAttrs((1, 1), _NONE, (1, 1), groups)
    out = channels_last(4, channels, 28, 28)
    return graph_of(
        [channels_last(4, channels, 30, 30)], [_zeros(channels, channels // groups, 3, 3)],
        lambda rw, x, w: rw.insert("conv", [x, w], attrs, types=[out]).result,
    )  # fmt: skip


def _max_pool() -> Graph:
    out = channels_last(4, 64, 56, 56)
    attrs = MaxPoolAttrs((3, 3), (2, 2), _NONE, (1, 1))
    return graph_of(
        [channels_last(4, 64, 113, 113)], [],
        lambda rw, x: rw.insert("max_pool", [x], attrs, types=[out]).result,
    )  # fmt: skip


def _gather() -> Graph:
    return graph_of(
        [TensorType(DType.I64, (2, 128))], [_zeros(30522, 768)],
        lambda rw, i, w: rw.emit("gather", w, i, attrs=GatherAttrs(0)),
    )  # fmt: skip


KINDS: Mapping[str, Graph] = {
    "pointwise": graph_of(
        [tensor(64, 4096), tensor(4096)], [],
        lambda rw, x, y: rw.emit("add", x, rw.emit("silu", y)),
    ),
    "transpose": graph_of(
        [tensor(8, 64, 512)], [],
        lambda rw, x: rw.emit("transpose", x, attrs=TransposeAttrs((0, 2, 1))),
    ),
    "gather": _gather(),
    "layer_norm": _layer_norm(DType.F16),
    "softmax": graph_of([tensor(512, 4096)], [],
                        lambda rw, x: rw.emit("softmax", x, attrs=SoftmaxAttrs(1))),
    "linear": _linear(2048, 1024, 1024),
    "linear_f16": _linear(2048, 1024, 1024, DType.F16),
    "linear_of_a_row": _linear(1, 4096, 4096, DType.F16),
    "conv": _conv(1, 64),
    "depthwise": _conv(128, 128),
    "max_pool": _max_pool(),
    "attention": _attention(DType.F16, 64),
    "attention_of_256": _attention(DType.F32, 256),
    "attention_of_a_query": _attention(DType.F16, 128, 1, batch=16),
    "attention_in_parts": _attention(DType.F16, 128, 1, heads=32, keys=4096),
    "attention_of_eight_heads": _attention(DType.BF16, 128, 1, heads=64, keys=4096),
    "attention_in_parts_of_256": _attention(DType.F32, 256, 1, heads=16, keys=2048),
    "argmax": graph_of([tensor(64, 1000)], [],
                       lambda rw, x: rw.emit("argmax", x, attrs=ArgmaxAttrs(1))),
}  # fmt: skip


def region_of(name: str) -> Node:
    """The fused node of a kind."""
    fused = Fuse().run(KINDS[name], PassContext())
    (node,) = (n for n in fused.nodes if n.op.name == "fused")
    return node


def texts(target: Target) -> dict[str, str]:
    """The CUDA C++ of every kind by name; the kernel has that name, too."""
    out: dict[str, str] = {}
    for name in KINDS:
        node = region_of(name)
        kernel = dataclasses.replace(lower_region(node, target).kernel, name=name)
        assert node.body is not None
        out[name] = emit_kernel(kernel, target, locs=[n.loc for n in node.body.nodes])
    return out
