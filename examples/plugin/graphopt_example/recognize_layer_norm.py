"""recognize-layer-norm: a norm of rows, spelled out, becomes one `layer_norm`, whose kernel reads a
row once from memory instead of four times.

%m = mean %x {axes=[2], keepdims=true}
%d = sub %x, %m
%q = mul %d, %d
%v = mean %q {axes=[2], keepdims=true}
%e = add %v, 1e-5                         →    %y = layer_norm %x, %w, %b {axes=1, eps=1e-5}
%r = rsqrt %e
%n = mul %d, %r
%s = mul %n, %w : f32[64]
%y = add %s, %b : f32[64]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node, Value
from graphopt.ops import FullAttrs, LayerNormAttrs, MeanAttrs
from graphopt.passbase import REASSOCIATES, Numerics, RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter


@dataclass(frozen=True)
class RecognizeLayerNorm(RewritePass):
    """Numerics: reassociates: the kernel adds a row up in another order. Refuses: means over other
    axes than the last one; weights or biases that are no rows; an epsilon that is no number.
    """

    name: ClassVar[str] = "recognize-layer-norm"
    numerics: ClassVar[Numerics] = REASSOCIATES
    root: ClassVar[str] = "add"

    def plan_in(self, node: Node, rw: Rewriter) -> Plan | Reject:
        try:
            norm = _spelled_out(node.result)
        except LookupError:
            return Reject("it is not the last sum of a layer norm")
        if not all(_is_over_last_axis(m) for m in (norm.mean, norm.variance)):
            return Reject("a mean is not over the last axis, or drops it")
        row = norm.x.type.shape[-1:]
        if norm.weight.type.shape != row or norm.bias.type.shape != row:
            return Reject("its weight or its bias is not a row")
        number = norm.epsilon.producer
        if number is None or not isinstance(number.attrs, FullAttrs):
            return Reject("its epsilon is computed")
        return Plan(node, norm=norm, attrs=LayerNormAttrs(1, number.attrs.value))

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        operands = plan.norm.x, plan.norm.weight, plan.norm.bias
        norm = rw.emit("layer_norm", *operands, attrs=plan.attrs, loc=plan.node.loc)
        rw.replace(plan.node.result, norm)


@dataclass(frozen=True)
class _Norm:
    x: Value
    mean: Value
    variance: Value
    epsilon: Value
    weight: Value
    bias: Value


def _spelled_out(y: Value) -> _Norm:
    """The parts of a layer norm, operands in the order of the picture above. Raises: LookupError
    where there is none."""
    scaled, bias = _operands(y, "add")
    normal, weight = _operands(scaled, "mul")
    centred, inverse = _operands(normal, "mul")
    (shifted,) = _operands(inverse, "rsqrt")
    variance, epsilon = _operands(shifted, "add")
    (square,) = _operands(variance, "mean")
    x, mean = _operands(centred, "sub")
    if _operands(square, "mul") != (centred, centred) or _operands(mean, "mean") != (x,):
        raise LookupError
    return _Norm(x, mean, variance, epsilon, weight, bias)


def _operands(value: Value, op: str) -> tuple[Value, ...]:
    """What an op made a value of. Raises: LookupError where another one did."""
    node = value.producer
    if node is None or node.op.name != op:
        raise LookupError
    return node.operands


def _is_over_last_axis(mean: Value) -> bool:
    attrs = mean.producer.attrs if mean.producer else None
    return isinstance(attrs, MeanAttrs) and attrs.axes == (mean.type.rank - 1,) and attrs.keepdims
