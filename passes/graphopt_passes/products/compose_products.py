"""compose-products: a product of a product, with nothing but views between, is one product.

%a = linear %x, %v : f32[.., 64]
%y = linear %a, %w : f32[.., 64]    →    %y = linear %x, %w · %v

So are a 1x1 convolution behind a convolution, and one behind a linear whose rows became an image:

%a = linear %x, %v                       %t = transpose %x {perm=[0,2,1]}
%t = transpose %a {perm=[0,2,1]}    →    %i = reshape %t {shape=[1,32,8,8]}
%i = reshape %t {shape=[1,64,8,8]}       %y = conv %i, %w · %v
%y = conv %i, %w

Where the inner one is narrow (as low-rank factors are), one product would be more work: those stay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Node, Value
from graphopt.ops import ReshapeAttrs, TransposeAttrs
from graphopt.passbase import REASSOCIATES, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.products.pointwise import is_pointwise, name, parameters
from graphopt_passes.recipes import Make, Recipe, Rule, RulePass, constant, laid_out, make, producer

_TURNED = TransposeAttrs((0, 2, 1))


def _linear(node: Node, rw: Rewriter) -> Recipe | Reject:
    inner = producer(node.operands[0], "linear")
    if inner is None:
        return Reject("its input is not a linear")
    return _in_place_of(node, inner, rw)


def _conv(node: Node, rw: Rewriter) -> Recipe | Reject:
    if not is_pointwise(node):
        return Reject("it is not a 1x1 convolution")
    x = node.operands[0]
    inner = producer(x, "conv")
    if inner is not None:
        return _in_place_of(node, inner, rw)
    rows = _rows_of_image(x, rw)
    if rows is None:
        return Reject("its input is no convolution, and no image of a linear's rows")
    (n, _, *pixels), pixel = x.type.dims, (1,) * (x.type.rank - 2)
    made = _composed(node, rows, rw, pixel)
    if isinstance(made, Reject):
        return made
    turned = make("transpose", rows.operands[0], attrs=_TURNED)
    channels = rows.operands[0].type.dims[-1]
    image = make("reshape", turned, attrs=ReshapeAttrs((n, channels, *pixels)))
    return make("conv", image, *made, attrs=node.attrs)


def _rows_of_image(image: Value, rw: Rewriter) -> Node | None:
    """The linear [n, pixels, c] whose rows, turned, are an image [n, c, ...] read by one node."""
    reshape = producer(image, "reshape")
    if reshape is None or not image.type.is_static or not rw.has_one_use(image):
        return None
    turned = producer(reshape.operands[0], "transpose")
    if turned is None or turned.attrs != _TURNED or not rw.has_one_use(turned.result):
        return None
    keeps_channels = turned.result.type.shape[:2] == image.type.shape[:2]
    return producer(turned.operands[0], "linear") if keeps_channels else None


def _in_place_of(outer: Node, inner: Node, rw: Rewriter) -> Recipe | Reject:
    """The product that computes both, of the inner one's kind."""
    made = _composed(outer, inner, rw, inner.operands[1].type.dims[2:])
    if isinstance(made, Reject):
        return made
    return make(inner.op.name, inner.operands[0], *made, attrs=inner.attrs)


def _composed(
    outer: Node, inner: Node, rw: Rewriter, kernel: tuple[int, ...]
) -> list[Make] | Reject:
    """Weights, [outputs, inputs, *kernel], and bias of the product that computes both."""
    if laid_out(inner):
        return Reject("the inner product's layout is chosen already")
    if not rw.has_one_use(inner.result):
        return Reject("the inner product is read elsewhere too")
    if getattr(inner.attrs, "groups", 1) != 1:
        return Reject("the inner product has groups")
    after, before = parameters(outer, rw), parameters(inner, rw)
    if isinstance(after, str) or isinstance(before, str):
        return Reject(next(r for r in (after, before) if isinstance(r, str)))
    (w, b), (v, c) = after, before
    outputs, between, inputs = len(w), len(v), math.prod(v.shape[1:])
    if outputs * inputs > between * (outputs + inputs):
        return Reject(f"{inputs} to {between} to {outputs} channels is less work in two steps")
    wide = w.reshape(outputs, between).astype(np.float64)
    weights = (wide @ v.reshape(between, inputs)).reshape(outputs, -1, *kernel)
    arrays = [weights]
    if b is not None or c is not None:
        zeros = np.zeros(outputs)
        arrays.append((zeros if c is None else wide @ c) + (zeros if b is None else b))
    names = [name(outer.operands[1], "composed"), name(outer.operands[1], "bias")]
    dtype = outer.result.type.dtype.numpy
    return [constant(a.astype(dtype), n) for a, n in zip(arrays, names, strict=False)]


RULES: Mapping[str, tuple[Rule, ...]] = {"linear": (_linear,), "conv": (_conv,)}


@dataclass(frozen=True)
class ComposeProducts(RulePass):
    """Numerics: reassociates; weights are multiplied in float64. Refuses: an inner product that is
    read elsewhere or has groups; weights that are computed at run time or shared; integers; pairs
    that are less work in two steps.
    """

    name: ClassVar[str] = "compose-products"
    numerics: ClassVar[Numerics] = REASSOCIATES
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
