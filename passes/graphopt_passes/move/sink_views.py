"""sink-views: reshapes and transposes between a kernel and its epilogue move behind the epilogue.

%t = transpose %p {perm=[0,3,1,2]}          %u = transpose %r {perm=[0,2,3,1]}
%y = add %t, %r                      →      %s = add %p, %u
                                            %y = transpose %s {perm=[0,3,1,2]}
where %p is a product. What reads %y, or makes %r, is often the opposite transpose.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node, Value
from graphopt.ir.types import Layout, TensorType
from graphopt.ir.views import is_view, reshaped_layout
from graphopt.ops import OPS, ReshapeAttrs, TransposeAttrs
from graphopt.passbase import EXACT, Numerics, RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter
from graphopt_passes.layout.assign_layouts import channels_last
from graphopt_passes.recipes import Make, Recipe, make, producer, realize, splat

_VIEWS = ("reshape", "transpose")
_POINTWISE = tuple(name for name, op in OPS.items() if op.kind == "pointwise")
_KERNELS = frozenset({"contraction", "window", "attention"})
_IMAGES = frozenset({"conv", "max_pool", "avg_pool"})
"""Their results lie channels last, as assign-layouts will have it."""


@dataclass(frozen=True)
class SinkViews(RewritePass):
    """A pointwise op reads, through reshapes and transposes that nobody else reads, a kernel that
    it could be the epilogue of. Its other operands are scalars, or of its result's shape.

    A concatenation of such results is one, too.

    Numerics: exact. Refuses: views that others read too; operands that broadcast; two kernels,
    whose views would chase each other; views that are copies (windows of an image, say); chosen
    layouts and symbolic dimensions.
    """

    name: ClassVar[str] = "sink-views"
    numerics: ClassVar[Numerics] = EXACT
    root: ClassVar[tuple[str, ...]] = _POINTWISE

    def plan_in(self, node: Node, rw: Rewriter) -> Plan | Reject:
        found = [
            o.producer for o in node.operands if producer(o, *_VIEWS) and comes_from_kernel(o, rw)
        ]
        if not found or found[0] is None:
            return Reject("no operand is a view, read here alone, of a product, a pool or the like")
        view = found[0]
        if not all(v.type.is_static and v.type.layout is None for v in _values(node, view)):
            return Reject("a dimension is symbolic, or a layout is chosen already")
        if view.result.type.shape != node.result.type.shape:
            return Reject("the view is broadcast")
        if _placed(view.result) is None:
            return Reject("its elements lie in another order: the view is a copy")
        operands = []
        for operand in node.operands:
            moved = _moved(operand, view, rw)
            if isinstance(moved, Reject):
                return moved
            operands.append(moved)
        return Plan(node, view=view, recipe=Make(node.op.name, tuple(operands), node.attrs))

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        node, view = plan.node, plan.view
        value = realize(plan.recipe, rw, node.loc)
        rw.replace(node.result, rw.emit(view.op.name, value, attrs=view.attrs, loc=view.loc))


def comes_from_kernel(value: Value, rw: Rewriter) -> bool:
    """Whether a value is a kernel's result, or several joined, or views of them, that nobody else
    reads."""
    node = value.producer
    while node is not None and node.op.name in _VIEWS:
        if not rw.has_one_use(value):
            return False
        value = node.operands[0]
        node = value.producer
    if node is None or not rw.has_one_use(value):
        return False
    if node.op.name == "concat":
        return all(comes_from_kernel(o, rw) for o in node.operands)
    return node.op.kind in _KERNELS


def _placed(value: Value) -> TensorType | None:
    """The type of a view with the layout in which it is free: its elements lie where the kernel
    writes them, images channels last. None where it takes a copy."""
    node, type = value.producer, value.type
    assert node is not None
    if node.op.name not in _VIEWS:
        return type.with_layout(channels_last(type.rank)) if _is_image(node) else type
    source = _placed(node.operands[0])
    if source is None:
        return None
    if isinstance(node.attrs, TransposeAttrs):
        layout: Layout | None = Layout.ordered([node.attrs.perm.index(a) for a in source.order])
    else:
        layout = reshaped_layout(source, type.dims)
    type = type.with_layout(layout)
    trial = Node(node.op, (Value(source),), node.attrs, (type,))
    return type if is_view(trial) else None


def _is_image(node: Node | None) -> bool:
    if node is not None and node.op.name == "concat":
        return all(_is_image(o.producer) for o in node.operands)
    return node is not None and node.op.name in _IMAGES


def _moved(operand: Value, view: Node, rw: Rewriter) -> Recipe | Reject:
    """What the pointwise op reads in place of an operand once it stands before the view."""
    if operand is view.result:
        return view.operands[0]
    if splat(rw, operand) is not None and operand.type.numel == 1:
        return _scalar(operand)
    if operand.type.shape != view.result.type.shape:
        return Reject("another operand is broadcast")
    other = producer(operand, *_VIEWS)
    if other is not None and _same_view(other, view):
        return other.operands[0]
    if comes_from_kernel(operand, rw):
        return Reject("both operands are kernels' results, and one view must stay")
    return _inverse(operand, view)


def _same_view(x: Node, y: Node) -> bool:
    """Equal reshapes may still come from different shapes."""
    return x.attrs == y.attrs and x.operands[0].type.shape == y.operands[0].type.shape


def _scalar(value: Value) -> Recipe:
    return value if not value.type.rank else make("reshape", value, attrs=ReshapeAttrs(()))


def _inverse(value: Value, view: Node) -> Recipe:
    """A value of the view's result shape, in the shape of its operand."""
    if isinstance(view.attrs, TransposeAttrs):
        perm = tuple(sorted(range(len(view.attrs.perm)), key=view.attrs.perm.__getitem__))
        return make("transpose", value, attrs=TransposeAttrs(perm))
    return make("reshape", value, attrs=ReshapeAttrs(view.operands[0].type.dims))


def _values(node: Node, view: Node) -> Iterator[Value]:
    yield from (node.result, view.operands[0], view.result)
    yield from node.operands
