"""assign-layouts: channels last for images, views for transposes and reshapes, and as few copies
as that allows.

Every kernel reads and writes any layout, so a change of layout costs nothing where a kernel runs
anyway; a `relayout` is inserted only where nothing else would make the change: before a window op
that would read channels first, before a product whose left factor lies transposed and is read by
many columns (or whose right one does, for kernels that pack none), before norms and gathers of rows
that lie across memory, before arithmetic whose operands lie across each other, and at graph
outputs, which are row-major.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import Layout, TensorType
from graphopt.ir.views import reshaped_layout
from graphopt.ops import TransposeAttrs
from graphopt.ops.base import NoAttrs
from graphopt.passbase import EXACT, Numerics, Pass, PassContext
from graphopt.rewrite import Rewriter

_WINDOWS = frozenset({"conv", "max_pool", "avg_pool"})
_LIKE_OPERAND = frozenset(
    {"softmax", "log_softmax", "layer_norm", "rms_norm", "group_norm", "batch_norm", "cumsum",
     "slice", "pad", "flip", "concat"}
)  # fmt: skip
_REDUCTIONS = frozenset({"sum", "mean", "max", "min", "prod", "any", "all"})
_ROWS = frozenset({"layer_norm", "rms_norm"})
"""They read rows of the last axes twice, and products read what they write."""
_PRODUCTS = frozenset({"linear", "matmul"})
_COLUMNS, _DEEP = 256, 128
"""Of a product that had better have rows of its left factor side by side: 768 x 196 x 384 0.91 and
1024 cubed 0.93 of before (0.6 with an input in small pages), with 16 to 64 columns 1.02 to 1.06."""
_FREE_RESULT = frozenset({"attention", "matmul"})


@dataclass(frozen=True)
class AssignLayouts(Pass):
    """Numerics: exact: a layout says where elements lie, not what they are. Each node that gets a
    layout is a rewrite; without fuel it stays row-major, and its readers take it as it is.

    `packs_right`: kernels of several rows pack computed right factors, however they lie, so that
    none is copied, but left ones that many columns read."""

    name: ClassVar[str] = "assign-layouts"
    numerics: ClassVar[Numerics] = EXACT
    packs_right: bool = True

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        rw = Rewriter(graph)
        for old in graph.nodes:
            node = rw.values[old.results[0]].producer
            assert node is not None
            if node.op.name in ("constant", "relayout", "fused"):
                continue
            copies = self._copies(rw, node)
            layouts = [_layout(rw, node, result) for result in node.results]
            same = layouts == [result.type.layout for result in node.results]
            if (same and not copies) or not ctx.spend():
                continue
            for i, layout in copies.items():
                operands = list(node.operands)
                operands[i] = _relaid(rw, operands[i], layout)
                rw.set_operands(node, operands)
            for result, layout in zip(node.results, layouts, strict=True):
                rw.set_type(result, result.type.with_layout(layout))
            ctx.fired(self.name, node)
        for value in dict.fromkeys(rw.outputs):
            if value.type.layout is not None:
                plain = _relaid(rw, value, None)
                rw.outputs = [plain if o is value else o for o in rw.outputs]
        return rw.freeze()

    def _copies(self, rw: Rewriter, node: Node) -> Mapping[int, Layout | None]:
        """Operands to copy, by position, and the layout that each is to have: what a kernel would
        otherwise pay for many times over."""
        x = node.operands[0] if node.operands else None
        if node.op.name in _WINDOWS and x is not None:
            wanted = channels_last(x.type.rank)
            if x.type.order != wanted.order and x.type.dims[1] > 1:
                return {0: wanted}
        if node.op.name in _PRODUCTS:
            packs = self.packs_right and node.result.type.dims[-2:-1] != (1,)
            return _left(rw, node) if packs else _right(rw, node)
        if node.op.name in _ROWS and x is not None and _lie_across(x.type):
            return {0: None}
        if node.op.name == "gather" and x is not None and _scatters_rows(node, x.type):
            return {0: None}
        if node.op.kind == "pointwise":
            return _turned(rw, node)
        return {}


def channels_last(rank: int) -> Layout:
    """n, spatial..., c."""
    return Layout.ordered((0, *range(2, rank), 1))


def _turned(rw: Rewriter, node: Node) -> Mapping[int, Layout | None]:
    """Operands of a pointwise node whose neighbours in its result lie apart. The node may end in
    the epilogue of a product, which reads them one by one; by itself it takes the copy in."""
    type = node.result.type
    if not type.rank:
        return {}
    layout = _followed(node, type)
    last = type.with_layout(layout).order[-1]
    return {
        i: layout
        for i, o in enumerate(node.operands)
        if o.type.dims == type.dims and _apart(o.type, last) and rw.array(o) is None
    }


def _apart(type: TensorType, axis: int) -> bool:
    """Whether neighbours along an axis lie apart in memory."""
    return type.dims[axis] > 1 and type.strides[axis] != 1


def _lie_across(type: TensorType) -> bool:
    """Whether neighbours along the last axis do."""
    return _apart(type, -1)


def _left(rw: Rewriter, product: Node) -> Mapping[int, Layout | None]:
    """The left factor of a product, if its rows lie across and each of many columns reads them."""
    x, columns = product.operands[0], product.result.type.dims[-1]
    often = columns >= _COLUMNS and x.type.dims[-1] >= _DEEP
    return {0: None} if often and _lie_across(x.type) and rw.array(x) is None else {}


def _right(rw: Rewriter, product: Node) -> Mapping[int, Layout | None]:
    """The right factor of a product of matrices, if its rows lie across."""
    y = product.operands[1]
    across = product.op.name == "matmul" and _lie_across(y.type)
    return {1: None} if across and rw.array(y) is None else {}


def _scatters_rows(node: Node, x: TensorType) -> bool:
    """Whether a gather reads rows whose elements lie apart, as many as there are or more, and
    writes them side by side: each element is a cache line."""
    last: bool = node.attrs.axis == x.rank - 1  # type: ignore[attr-defined]
    apart = not last and _lie_across(x)
    follows = x.rank == node.result.type.rank
    return apart and not follows and node.result.type.numel >= x.numel


def _relaid(rw: Rewriter, x: Value, layout: Layout | None) -> Value:
    type = x.type.with_layout(layout)
    for user in rw.users(x):
        if user.op.name == "relayout" and user.result.type == type:
            return user.result
    loc = x.producer.loc if x.producer else None
    attrs = NoAttrs()
    if loc is None:
        return rw.insert("relayout", [x], attrs, types=[type]).result
    return rw.insert("relayout", [x], attrs, types=[type], loc=loc).result


def _layout(rw: Rewriter, node: Node, result: Value) -> Layout | None:
    name, rank = node.op.name, result.type.rank
    if name in _WINDOWS:
        return channels_last(rank)
    if name == "pad" and _feeds_window(rw, result):
        return channels_last(rank)  # the copy changes the layout on its way
    if name == "transpose":
        return _moved(node.operands[0].type, node.attrs.perm)  # type: ignore[attr-defined]
    if name == "reshape":
        return reshaped_layout(node.operands[0].type, result.type.dims)
    if name in _ROWS and _lie_across(node.operands[0].type):
        return None  # as the copy has them
    if name in _FREE_RESULT:
        return _for_readers(rw, result)
    if name in _REDUCTIONS:
        return node.operands[0].type.layout if node.attrs.keepdims else None  # type: ignore[attr-defined]
    if name in _LIKE_OPERAND or node.op.kind == "pointwise":
        return _followed(node, result.type)
    if name == "gather":
        x = node.operands[0].type
        return x.layout if x.rank == rank else None
    return None


def _feeds_window(rw: Rewriter, value: Value) -> bool:
    """Whether a window op reads a value, or a slice of it."""
    users = rw.users(value)
    slices = [u.result for u in users if u.op.name == "slice"]
    return any(u.op.name in _WINDOWS for u in users) or any(_feeds_window(rw, s) for s in slices)


def _moved(x: TensorType, perm: Sequence[int]) -> Layout:
    """The layout that makes a transpose a view."""
    return Layout.ordered(tuple(perm.index(a) for a in x.order))


def _followed(node: Node, type: TensorType) -> Layout | None:
    """That of the operand with most elements, of the result's rank. Of several, images channels
    last come first, then row-major ones: what views have turned otherwise is good for nobody."""
    like = [o.type for o in node.operands if o.type.rank == type.rank]
    if not like:
        return None
    last = channels_last(type.rank).order
    leader = max(like, key=lambda t: (t.numel, t.order == last, t.layout is None))
    return leader.layout


def _for_readers(rw: Rewriter, result: Value) -> Layout | None:
    """The order in which its only readers, transposes that keep the last axis, want it."""
    perms = {
        u.attrs.perm if isinstance(u.attrs, TransposeAttrs) else None for u in rw.users(result)
    }
    if len(perms) != 1 or rw.is_output(result):
        return None
    (perm,) = perms
    if perm is None or perm[-1] != len(perm) - 1:
        return None
    return Layout.ordered(perm)
