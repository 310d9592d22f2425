"""Regions whose tensors are parts of larger ones, as regions of those parts alone: steps of a loop
that write one row each of a common buffer are one kernel, called at several places."""

from __future__ import annotations

from dataclasses import replace

from graphopt.ir.graph import Node, Value
from graphopt.ir.types import Layout, TensorType
from graphopt.rewrite import Rewriter


def alone_in_memory(node: Node, align: int) -> tuple[Node, list[int]]:
    """A fused node without what lies before and after its tensors along the outermost axis of each,
    and where each operand and result begins, in bytes, for the pointers to be moved by. Tensors
    that would not begin at a multiple of `align` bytes stay as they are."""
    assert node.body is not None
    values = (*node.operands, *node.results)
    parts = [_alone(v.type, align) for v in values]
    nested = any(n.body is not None for n in node.body.nodes)
    if nested or all(type == v.type for (type, _), v in zip(parts, values, strict=True)):
        return node, [0] * len(values)
    rw = Rewriter(node.body)
    for value in (*rw.inputs, *(r for n in rw.nodes for r in n.results)):
        rw.set_type(value, _alone(value.type, align)[0])
    operands = [
        v if type == v.type else Value(type, name=v.name)
        for v, (type, _) in zip(node.operands, parts, strict=False)
    ]
    body = rw.freeze()
    types = [v.type for v in body.outputs]
    alone = Node(node.op, operands, node.attrs, types, loc=node.loc, body=body)
    return alone, [offset for _, offset in parts]


def _alone(type: TensorType, align: int) -> tuple[TensorType, int]:
    """A type without its halo along the outermost axis, and the bytes before its first element that
    go with it."""
    layout = type.layout
    if layout is None or layout.is_blocked or not layout.has_halo:
        return type, 0
    outer, *inner = layout.axes
    offset = outer.before * type.strides[outer.axis] * type.dtype.size_bytes
    if offset % align:
        return type, 0
    rest = Layout((replace(outer, before=0, after=0), *inner))
    return type.with_layout(rest), offset
