"""compose-slices: slices of slices, of concats and of pads; concats of what was cut apart.

slice(slice(x, s), t)                    →  slice(x, s then t)
slice that takes everything              →  x
slice(concat(a, b), inside b)            →  slice(b)
concat(a)                                →  a
concat(a, nothing)                       →  a
concat(concat(a, b), c)                  →  concat(a, b, c)
concat(slice(x, :k), slice(x, k:))       →  x
slice(pad(x), inside x)                  →  slice(x)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node, Value
from graphopt.ops import ConcatAttrs, PadAttrs, SliceAttrs
from graphopt.passbase import EXACT, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.recipes import Recipe, Rule, RulePass, make, producer

Range = tuple[int, int, int]
"""start, stop, step"""


def _whole(node: Node, rw: Rewriter) -> Recipe | None:
    (x,) = node.operands
    return x if x.type.shape == node.result.type.shape else None


def _of_slice(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    inner = producer(node.operands[0], "slice")
    if inner is None:
        return None
    if not inner.operands[0].type.is_static:
        return Reject("a dimension is symbolic")
    attrs = composed(_attrs(inner), _attrs(node))
    return make("slice", inner.operands[0], attrs=attrs)


def composed(first: SliceAttrs, then: SliceAttrs) -> SliceAttrs:
    """Two slices as one, axis by axis."""
    pairs = zip(_ranges(first), _ranges(then), strict=True)
    starts, stops, steps = zip(*(_composed_range(*p) for p in pairs), strict=True)
    return SliceAttrs(starts, stops, steps)


def _composed_range(first: Range, then: Range) -> Range:
    """Element i of the second is element start + i * step of the first; the stop lies one past the
    last element taken."""
    start, _, step = first
    if then[0] == then[1]:
        return start, start, 1
    return start + then[0] * step, start + (then[1] - 1) * step + 1, step * then[2]


def _ranges(attrs: SliceAttrs) -> Iterator[Range]:
    return zip(attrs.starts, attrs.stops, attrs.steps, strict=True)


def _of_concat(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    joined = producer(node.operands[0], "concat")
    if joined is None or not joined.result.type.is_static:
        return None
    axis, attrs = _axis(joined), _attrs(node)
    start, stop = attrs.starts[axis], attrs.stops[axis]
    for part, at in _placed(joined):
        if at <= start and stop <= at + part.type.dims[axis]:
            starts = _with(attrs.starts, axis, start - at)
            stops = _with(attrs.stops, axis, stop - at)
            return make("slice", part, attrs=SliceAttrs(starts, stops, attrs.steps))
    return Reject("it takes elements of several parts of the concat")


def _of_pad(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    pad = producer(node.operands[0], "pad")
    if pad is None or not pad.operands[0].type.is_static:
        return None
    assert isinstance(pad.attrs, PadAttrs)
    (x,), attrs = pad.operands, _attrs(node)
    starts = tuple(s - b for s, b in zip(attrs.starts, pad.attrs.before, strict=True))
    stops = tuple(s - b for s, b in zip(attrs.stops, pad.attrs.before, strict=True))
    inside = all(0 <= s <= t <= d for s, t, d in zip(starts, stops, x.type.dims, strict=True))
    if not inside:
        return Reject("it takes elements of the padding")
    return make("slice", x, attrs=SliceAttrs(starts, stops, attrs.steps))


def _concat(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    axis = _axis(node)
    if len(node.operands) == 1:
        return node.operands[0]
    if not all(o.type.is_static for o in node.operands):
        return Reject("a dimension is symbolic")
    parts = list(_flattened(node, axis, rw))
    joined: list[Recipe] = []
    for part in parts:
        merged = _joined(joined[-1], part, axis) if joined else None
        joined[-1:] = [joined[-1], part] if joined and merged is None else [merged or part]
    if len(joined) == len(node.operands):
        return Reject("its parts are neither concats nor neighbouring slices of one value")
    return joined[0] if len(joined) == 1 else make("concat", *joined, attrs=node.attrs)


def _flattened(node: Node, axis: int, rw: Rewriter) -> Iterator[Value]:
    """Operands with elements; those that are concats along the same axis, read here alone, taken
    apart."""
    for operand in node.operands:
        inner = producer(operand, "concat")
        if not operand.type.dims[axis] and node.result.type.dims[axis]:
            continue
        if inner is not None and _axis(inner) == axis and rw.has_one_use(operand):
            yield from inner.operands
        else:
            yield operand


def _joined(left: Recipe, right: Value, axis: int) -> Recipe | None:
    """One slice for two that follow each other, or the whole that they make."""
    a, source = _as_slice(left)
    b, other = _as_slice(right)
    if a is None or b is None or source is not other or source is None:
        return None
    if a.steps[axis] != 1 or b.steps[axis] != 1 or a.stops[axis] != b.starts[axis]:
        return None
    if _with(a.starts, axis, 0) != _with(b.starts, axis, 0) or a.steps != b.steps:
        return None
    if _with(a.stops, axis, 0) != _with(b.stops, axis, 0):
        return None
    attrs = SliceAttrs(a.starts, b.stops, a.steps)
    joined = make("slice", source, attrs=attrs)
    return source if joined.type().shape == source.type.shape else joined


def _as_slice(part: Recipe) -> tuple[SliceAttrs | None, Value | None]:
    if isinstance(part, Value):
        node = producer(part, "slice")
        return (None, None) if node is None else (_attrs(node), node.operands[0])
    source = part.operands[0]
    assert isinstance(part.attrs, SliceAttrs)
    assert isinstance(source, Value)
    return part.attrs, source


def _placed(joined: Node) -> Iterator[tuple[Value, int]]:
    """The operands of a concat, each with where it starts."""
    at = 0
    for part in joined.operands:
        yield part, at
        at += part.type.dims[_axis(joined)]


def _attrs(node: Node) -> SliceAttrs:
    assert isinstance(node.attrs, SliceAttrs)
    return node.attrs


def _axis(node: Node) -> int:
    assert isinstance(node.attrs, ConcatAttrs)
    return node.attrs.axis


def _with(values: tuple[int, ...], axis: int, value: int) -> tuple[int, ...]:
    return (*values[:axis], value, *values[axis + 1 :])


RULES: Mapping[str, tuple[Rule, ...]] = {
    "slice": (_whole, _of_slice, _of_concat, _of_pad),
    "concat": (_concat,),
}


@dataclass(frozen=True)
class ComposeSlices(RulePass):
    """Numerics: exact. Refuses: a slice across the parts of a concat or into padding; concats of
    unrelated parts; symbolic dimensions.
    """

    name: ClassVar[str] = "compose-slices"
    numerics: ClassVar[Numerics] = EXACT
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
