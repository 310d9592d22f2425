"""hoist-products: a 1x1 convolution of an enlarged image is computed before it is enlarged.

%r = resize %x {size=[32,32]} : f32[1,64,32,32]      %c = conv %x, %w, %b : f32[1,64,8,8]
%y = conv %r, %w, %b                             →   %y = resize %c {size=[32,32]}

A resize takes means over pixels, the product sums over channels: they commute, and so does the
bias, for the weights of a mean add up to one. Of several images one after the other, each has its
own columns of the weights:

%i = concat %r, %s {axis=1}                          %a = resize (conv %x, %w[:, :64])
%y = conv %i, %w, %b                             →   %y = add %a, (conv %s, %w[:, 64:], %b)

SegFormer's decoder, 256 channels at 128², 64², 32² and 16² made one image of 1024 at 128², spends
8.6 GFLOP on them, and 2.9 so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Node, Value
from graphopt.ops import ConcatAttrs
from graphopt.passbase import REASSOCIATES, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.products.pointwise import is_pointwise, name, parameters
from graphopt_passes.recipes import Make, Recipe, Rule, RulePass, constant, laid_out, make, producer

_RESIZED = 64
"""What an element of a resized image costs, in operations of products: 0.5 to 0.8 ns, as measured
on one core of 117 GFLOP/s."""


def _conv(node: Node, rw: Rewriter) -> Recipe | Reject:
    if not is_pointwise(node):
        return Reject("it is not a 1x1 convolution")
    concat = producer(node.operands[0], "concat")
    if concat is not None and not _is_of_channels(concat, rw):
        return Reject("what it reads is put together along other axes, or read elsewhere too")
    parts = concat.operands if concat is not None else node.operands[:1]
    enlarged = [_enlarged(p, rw) for p in parts]
    if not any(enlarged):
        return Reject("it reads no enlarged image that nothing else reads")
    known = parameters(node, rw)
    if isinstance(known, str):
        return Reject(known)
    if _saved(node, parts, enlarged) <= 0:
        return Reject("enlarging its result takes longer than it saves")
    return _Split(node, *known).sum(parts, enlarged)


def _is_of_channels(concat: Node, rw: Rewriter) -> bool:
    assert isinstance(concat.attrs, ConcatAttrs)
    channels = concat.attrs.axis % concat.result.type.rank == 1
    return channels and rw.has_one_use(concat.result) and not laid_out(concat)


def _enlarged(image: Value, rw: Rewriter) -> Node | None:
    """The resize that makes an image of more pixels for one reader."""
    resize = producer(image, "resize")
    if resize is None or not rw.has_one_use(image) or laid_out(resize):
        return None
    x = resize.operands[0]
    return resize if x.type.is_static and _pixels(x) < _pixels(image) else None


def _pixels(image: Value) -> int:
    return prod(image.type.dims[2:])


def _saved(node: Node, parts: Sequence[Value], enlarged: Sequence[Node | None]) -> int:
    """Operations per image: fewer pixels in products, against wider resizes and sums."""
    pixels, outputs, saved = _pixels(node.result), node.result.type.dims[1], 0
    for part, resize in zip(parts, enlarged, strict=True):
        if resize is not None:
            inputs = part.type.dims[1]
            saved += 2 * inputs * outputs * (pixels - _pixels(resize.operands[0]))
            saved -= _RESIZED * (outputs - inputs) * pixels
    return saved - 2 * outputs * pixels * (len(parts) - 1)


@dataclass(frozen=True)
class _Split:
    """A 1x1 convolution, its weights [outputs, inputs, 1..] and its bias."""

    conv: Node
    weights: np.ndarray
    bias: np.ndarray | None

    def sum(self, parts: Sequence[Value], enlarged: Sequence[Node | None]) -> Recipe:
        """Of the products of all parts. Those that keep their size remain one product, which is
        added last: the sum is in its epilogue."""
        resized: list[Recipe] = []
        kept: list[tuple[Value, np.ndarray]] = []
        at = 0
        for part, resize in zip(parts, enlarged, strict=True):
            columns = self.weights[:, at : at + part.type.dims[1]]
            at += part.type.dims[1]
            if resize is None:
                kept.append((part, columns))
            else:
                alone = None not in enlarged and not resized
                small = self._product(resize.operands[0], columns, with_bias=alone)
                resized.append(make("resize", small, attrs=resize.attrs))
        total = resized[0]
        for term in resized[1:]:
            total = make("add", total, term)
        return make("add", self._kept(kept), total) if kept else total

    def _kept(self, kept: Sequence[tuple[Value, np.ndarray]]) -> Make:
        values = [v for v, _ in kept]
        x = values[0] if len(values) == 1 else make("concat", *values, attrs=ConcatAttrs(1))
        return self._product(x, np.concatenate([w for _, w in kept], axis=1), with_bias=True)

    def _product(self, x: Recipe, weights: np.ndarray, *, with_bias: bool) -> Make:
        operands = [x, constant(weights, name(self.conv.operands[1], "columns"))]
        if with_bias and self.bias is not None:
            operands.append(self.conv.operands[2])
        return make("conv", *operands, attrs=self.conv.attrs)


RULES: Mapping[str, tuple[Rule, ...]] = {"conv": (_conv,)}


@dataclass(frozen=True)
class HoistProducts(RulePass):
    """Numerics: reassociates. Refuses: images that something else reads, too; weights that are
    computed at run time or shared; products whose result is so much wider than what they read that
    enlarging it takes longer than they save.
    """

    name: ClassVar[str] = "hoist-products"
    numerics: ClassVar[Numerics] = REASSOCIATES
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
