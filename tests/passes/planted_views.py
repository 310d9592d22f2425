"""Bugs in passes that move elements."""

from __future__ import annotations

from collections.abc import Iterator

from graphopt_passes.recipes import Recipe, make
from graphopt_passes.simplify import (
    cancel_transposes,
    compose_pads,
    compose_slices,
    compose_views,
    gather_to_slice,
)
from planting import Bugs, rule

from graphopt.ir.graph import Node, Value
from graphopt.ops import (
    FlipAttrs,
    PadAttrs,
    ReshapeAttrs,
)
from graphopt.rewrite import Rewriter

BUGS = Bugs()
plant = BUGS.plant


CUBE = "%x = input : f32[4,4,4]\n"
plant(
    "perms composed the wrong way round",
    "cancel-transposes",
    cancel_transposes,
    "composed",
    lambda first, then: tuple(then[a] for a in first),
    CUBE + "%a = transpose %x {perm=[1,2,0]}\n%y = transpose %a {perm=[0,2,1]}\nreturn %y",
)
plant(
    "any two transposes cancel",
    "cancel-transposes",
    cancel_transposes,
    "composed",
    lambda first, then: tuple(range(len(first))),
    CUBE + "%a = transpose %x {perm=[1,2,0]}\n%y = transpose %a {perm=[1,2,0]}\nreturn %y",
)


def _transpose_as_reshape(node: Node, rw: Rewriter) -> Recipe:
    return make("reshape", node.operands[0], attrs=ReshapeAttrs(node.result.type.dims))


plant(
    "a transpose taken for a reshape",
    "compose-views",
    compose_views.ComposeViews,
    "rules",
    rule(compose_views.ComposeViews, "transpose", _transpose_as_reshape),
    CUBE + "%r = reshape %x {shape=[4,4,4]}\n%y = transpose %r {perm=[2,1,0]}\nreturn %y",
)
plant(
    "an axis added behind taken for one in front",
    "compose-views",
    compose_views,
    "_adds_leading",
    lambda shape, longer: True,
    "%x = input : f32[3]\n%r = reshape %x {shape=[3]}\n%s = reshape %r {shape=[3,1]}\n"
    "%y = expand %s {shape=[3,3]}\nreturn %y",
)


def _flips_united(node: Node, rw: Rewriter) -> Recipe | None:
    inner = node.operands[0].producer
    if inner is None or not isinstance(inner.attrs, FlipAttrs):
        return None
    axes = set(inner.attrs.axes) | set(node.attrs.axes)  # type: ignore[attr-defined]
    return make("flip", inner.operands[0], attrs=FlipAttrs(tuple(sorted(axes))))


plant(
    "flips of one axis add up",
    "compose-views",
    compose_views.ComposeViews,
    "rules",
    rule(compose_views.ComposeViews, "flip", _flips_united),
    CUBE + "%a = flip %x {axes=[0,1]}\n%y = flip %a {axes=[1,2]}\nreturn %y",
)

SLICES = """%x = input : f32[12]
%a = slice %x {starts=[1], stops=[12], steps=[2]}
%y = slice %a {starts=[1], stops=[5], steps=[2]}
return %y"""
plant(
    "the start of a slice not multiplied by the step before",
    "compose-slices",
    compose_slices,
    "_composed_range",
    lambda f, t: (f[0] + t[0], f[0] + (t[1] - 1) * f[2] + 1, f[2] * t[2]),
    SLICES,
)
plant(
    "steps added",
    "compose-slices",
    compose_slices,
    "_composed_range",
    lambda f, t: (f[0] + t[0] * f[2], f[0] + (t[1] - 1) * f[2] + 1, f[2] + t[2] - 1),
    SLICES.replace("stops=[5]", "stops=[4]"),
)
plant(
    "a slice off by one",
    "compose-slices",
    compose_slices,
    "_composed_range",
    lambda f, t: (f[0] + t[0] * f[2] + 1, f[0] + (t[1] - 1) * f[2] + 2, f[2] * t[2]),
    SLICES,
)
PARTS = "%x = input : f32[4,6]\n%z = input : f32[4,6]\n"


def _all_at_the_front(joined: Node) -> Iterator[tuple[Value, int]]:
    yield from ((part, 0) for part in reversed(joined.operands))


plant(
    "parts of a concat all start at 0",
    "compose-slices",
    compose_slices,
    "_placed",
    _all_at_the_front,
    PARTS + "%c = concat %x, %z {axis=0}\n"
    "%y = slice %c {starts=[0,0], stops=[4,6], steps=[1,1]}\nreturn %y",
)
plant(
    "slices joined in the wrong order",
    "compose-slices",
    compose_slices,
    "_joined",
    lambda left, right, axis: left.producer.operands[0] if isinstance(left, Value) else None,
    "%x = input : f32[4,6]\n%a = slice %x {starts=[0,3], stops=[4,6], steps=[1,1]}\n"
    "%s = slice %x {starts=[0,0], stops=[4,3], steps=[1,1]}\n"
    "%t = slice %s {starts=[0,0], stops=[4,3], steps=[1,1]}\n"
    "%y = concat %a, %t {axis=1}\nreturn %y",
)


def _flattened_backwards(node: Node, axis: int, rw: Rewriter) -> Iterator[Value]:
    for operand in node.operands:
        inner = operand.producer
        yield from inner.operands[::-1] if inner and inner.op.name == "concat" else (operand,)


plant(
    "a concat taken apart from its end",
    "compose-slices",
    compose_slices,
    "_flattened",
    _flattened_backwards,
    PARTS + "%c = concat %x, %z {axis=0}\n%y = concat %x, %c {axis=0}\nreturn %y",
)

PADS = """%x = input : f32[4,6]
%a = pad %x {{before=[1,0], after=[0,2], value=0.0, mode="constant"}}
%y = pad %a {{before=[0,3], after=[1,0], value={}, mode="constant"}}
"""


def _pads_on_one_side(node: Node, rw: Rewriter) -> Recipe | None:
    inner = node.operands[0].producer
    if inner is None or inner.op.name != "pad":
        return None
    p, q = inner.attrs, node.attrs
    assert isinstance(p, PadAttrs)
    assert isinstance(q, PadAttrs)
    before = tuple(a + b for a, b in zip(p.after, q.before, strict=True))
    after = tuple(a + b for a, b in zip(p.before, q.after, strict=True))
    return make("pad", inner.operands[0], attrs=PadAttrs(before, after, q.value, "constant"))


plant(
    "padding on the wrong side",
    "compose-pads",
    compose_pads.ComposePads,
    "rules",
    rule(compose_pads.ComposePads, "pad", _pads_on_one_side),
    PADS.format("0.0") + "return %y",
)
plant(
    "pads of two values merged",
    "compose-pads",
    compose_pads,
    "_same_constant",
    lambda a, b: True,
    PADS.format("1.5")
    + '%b = pad %y {before=[0,0], after=[0,0], value=0.0, mode="constant"}\nreturn %b',
)
GATHER = '%x = input : f32[5,3]\n%i = constant {{key="i", value=[{}]}} : i64[3]\n'
GATHER += "%y = gather %x, %i {{axis=0}}\nreturn %y"
plant(
    "negative positions taken for positive ones",
    "gather-to-slice",
    gather_to_slice,
    "progression",
    lambda at, extent: (-int(at[-1]), -int(at[-1]) + len(at), 1),
    GATHER.format("-4, -3, -2"),
)
plant(
    "the spacing of positions ignored",
    "gather-to-slice",
    gather_to_slice,
    "progression",
    lambda at, extent: (int(at[0]), int(at[0]) + len(at), 1),
    GATHER.format("0, 2, 4"),
)
