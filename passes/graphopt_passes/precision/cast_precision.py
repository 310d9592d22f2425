"""cast-precision: an f32 model computed in f16 or bf16.

  %x = input : f32[4,8]                     %x = input : f32[4,8]
  %y = linear %x, %w : f32[4,8]        →    %a = cast %x {dtype=f16}
  %z = relu %y                              %y = linear %a, %w.f16
                                            %r = relu %y
                                            %z = cast %r {dtype=f32}

Weights are rounded when the model is compiled; a finite number too large for the type becomes its
largest, so that masks stay masks. Kernels add up in f32 whatever they read: products, the
statistics of norms, the sums of softmax. A value goes from one half node to the next as it is: the
casts between them would change nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import ml_dtypes
import numpy as np

from graphopt.errors import PluginError
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import DType
from graphopt.ops import CastAttrs, FullAttrs
from graphopt.passbase import Numerics, Pass, PassContext, approximates
from graphopt.rewrite import Rewriter

_HALVES = (DType.F16, DType.BF16)

_HALF = frozenset(
    {
        # what products and memory cost
        "linear", "matmul", "grouped_matmul", "gathered_matmul", "conv", "conv_transpose",
        "attention", "max_pool", "avg_pool", "adaptive_avg_pool", "resize", "reshape",
        "transpose", "expand", "slice", "concat", "pad", "flip", "gather", "take_along", "relayout",
        # rows, whose sums kernels keep in f32
        "softmax", "layer_norm", "rms_norm", "group_norm", "mean", "max", "min",
        # pointwise ops whose result is as accurate as their operands
        "relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "hardswish", "hardsigmoid",
        "clamp", "neg", "abs", "add", "sub", "mul", "minimum", "maximum", "where",
    }
)  # fmt: skip
"""Ops computed in a half. Others overflow (sum, exp), cancel (log, rsqrt, batch_norm), or count
(comparisons, sorting): they stay f32."""


@dataclass(frozen=True)
class CastPrecision(Pass):
    """`to` is f16 or bf16; without it nothing is done.

    Numerics: approximates: 20 roundings of bf16, of which f16 has an eighth. Refuses: ops that
    amplify roundings.
    """

    name: ClassVar[str] = "cast-precision"
    numerics: ClassVar[Numerics] = approximates(8e-2)
    to: str = ""

    def __post_init__(self) -> None:
        if self.to not in ("", *map(str, _HALVES)):
            raise PluginError(
                f"cast-precision has no precision {self.to!r}", hint="use f16 or bf16"
            )

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        if not self.to:
            return graph
        casting = _Casting(Rewriter(graph), DType(self.to))
        for old in graph.nodes:
            node = casting.rw.values[old.results[0]].producer
            assert node is not None
            reason = casting.refusal(node)
            if reason:
                ctx.rejected(self.name, node, reason)
            elif reason is None and ctx.spend():
                casting.narrow(node)
                ctx.fired(self.name, node)
        return casting.rw.freeze()


class _Casting:
    def __init__(self, rw: Rewriter, to: DType) -> None:
        self.rw, self.to = rw, to
        self.halves: dict[Value, Value] = {}

    def refusal(self, node: Node) -> str | None:
        """Why a node stays as it is: "" when it has nothing to do with f32; None: it does not."""
        if node.op.kind == "source" or node.op.name in ("cast", "fused"):
            return ""
        if not any(r.type.dtype is DType.F32 for r in node.results):
            return ""
        return None if node.op.name in _HALF else f"{node.op.name} amplifies roundings"

    def narrow(self, node: Node) -> None:
        """The node on halves; its readers see f32, and later halves the value itself."""
        rw = self.rw
        operands = [self.half(o) if o.type.dtype is DType.F32 else o for o in node.operands]
        made = rw.insert(node.op.name, operands, node.attrs, loc=node.loc)
        for old, new in zip(node.results, made.results, strict=True):
            if new.type.dtype is not self.to:
                rw.replace(old, new)
                continue
            wide = rw.emit("cast", new, attrs=CastAttrs(DType.F32), loc=node.loc)
            rw.replace(old, wide)
            self.halves[wide] = new

    def half(self, value: Value) -> Value:
        """The value in the half type, cast once however many read it."""
        if value not in self.halves:
            self.halves[value] = self._made(value)
        return self.halves[value]

    def _made(self, value: Value) -> Value:
        rw, producer = self.rw, value.producer
        array = rw.array(value)
        if array is not None:
            return rw.constant(rounded(array, self.to), name=f"{value.name}.{self.to}")
        attrs = producer.attrs if producer is not None else None
        if isinstance(attrs, FullAttrs):
            number = float(rounded(np.float32(attrs.value), self.to))
            return rw.emit("full", attrs=dataclasses.replace(attrs, value=number, dtype=self.to))
        loc = {} if producer is None else {"loc": producer.loc}
        return rw.emit("cast", value, attrs=CastAttrs(self.to), **loc)


def rounded(array: np.ndarray | np.float32, to: DType) -> np.ndarray:
    """In a half type; finite numbers stay finite."""
    largest = float(ml_dtypes.finfo(to.numpy).max)
    finite = np.clip(array, -largest, largest)
    return np.asarray(np.where(np.isfinite(array), finite, array)).astype(to.numpy)
