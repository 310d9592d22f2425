"""Which nodes only give another name to their operands' memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import Layout, TensorType

_CANDIDATES = frozenset({"reshape", "transpose", "relayout", "expand"})


def is_view(node: Node) -> bool:
    """Whether the result's elements lie exactly where the operands' do: no code is needed."""
    if node.op.name == "concat":
        return _is_joined(node)
    if node.op.name not in _CANDIDATES or len(node.operands) != 1:
        return False
    x, y = node.operands[0].type, node.result.type
    if _has_padding(x) or _has_padding(y) or x.numel != y.numel or not x.is_static:
        return False
    if node.op.name == "transpose":
        return _walk(y) == [(x.dims[p], x.strides[p]) for p in _moved(node) if x.dims[p] > 1]
    if node.op.name == "reshape":
        return _merged(_walk(x)) == _merged(_walk(y))
    return x.dims == y.dims and _walk(x) == _walk(y)


def _is_joined(concat: Node) -> bool:
    """Whether the operands lie in the result: they were written there."""
    whole, operands = concat.result.type, [o.type for o in concat.operands]
    if not whole.is_static or (whole.layout is not None and whole.layout.is_blocked):
        return False
    axis: int = concat.attrs.axis  # type: ignore[attr-defined]
    return operands == parts_of(whole, axis, [t.dims[axis] for t in operands])


def parts_of(whole: TensorType, axis: int, extents: Sequence[int]) -> list[TensorType]:
    """The types of parts along an axis where they lie in a whole: the others are their halo."""
    layout = whole.layout or Layout.ordered(range(whole.rank))
    out, start = [], 0
    for extent in extents:
        after = whole.dims[axis] - start - extent
        axes = tuple(
            replace(a, before=a.before + start, after=a.after + after) if a.axis == axis else a
            for a in layout.axes
        )
        shape = (*whole.dims[:axis], extent, *whole.dims[axis + 1 :])
        out.append(TensorType(whole.dtype, shape).with_layout(Layout(axes)))
        start += extent
    return out


def storage_of(value: Value) -> Value:
    """The value whose buffer a value occupies: itself, or what it is a view of; of what was joined,
    the first part."""
    while value.producer is not None and is_view(value.producer):
        value = value.producer.operands[0]
    return value


def stored_parts(value: Value) -> Iterator[Value]:
    """The values that were written where a value lies: itself, or what it is a view of."""
    if value.producer is None or not is_view(value.producer):
        yield value
        return
    for operand in value.producer.operands:
        yield from stored_parts(operand)


class Storages:
    """The buffers of a graph: parts that are joined share the first one's."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._joined: dict[Value, Value] = {}
        for node in graph.nodes:
            if node.op.name == "concat" and is_view(node):
                first, *others = dict.fromkeys(map(self.of, node.operands))
                self._joined.update((other, first) for other in others)

    def of(self, value: Value) -> Value:
        """The value that stands for the buffer."""
        value = storage_of(value)
        while value in self._joined:
            value = self._joined[value]
        return value

    def last_reads(self) -> dict[Value, int]:
        """Which node is the last to read from each buffer."""
        nodes = enumerate(self.graph.nodes)
        return {self.of(o): t for t, node in nodes for o in node.operands}


def _has_padding(t: TensorType) -> bool:
    return t.layout is not None and (t.layout.has_halo or t.layout.is_blocked)


def _walk(t: TensorType) -> list[tuple[int, int]]:
    """(extent, stride) of the logical axes, those of extent 1 left out."""
    return [(d, s) for d, s in zip(t.dims, t.strides, strict=True) if d > 1]


def _moved(node: Node) -> tuple[int, ...]:
    return node.attrs.perm  # type: ignore[attr-defined, no-any-return]


def _merged(axes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Axes joined where the outer one steps over exactly the inner one."""
    out: list[tuple[int, int]] = []
    for extent, stride in axes:
        if out and out[-1][1] == stride * extent:
            out[-1] = (out[-1][0] * extent, stride)
        else:
            out.append((extent, stride))
    return out


def reshaped_layout(x: TensorType, dims: tuple[int, ...]) -> Layout | None:
    """The layout under which a reshape of `x` to `dims` is a view; None (row-major) when there is
    none, or when it is row-major."""
    if _has_padding(x) or not x.numel:
        return None  # nothing lies anywhere: row-major will do
    strides = _reshaped_strides(x, dims)
    if strides is None:
        return None
    order = tuple(sorted(range(len(dims)), key=lambda a: (-strides[a], dims[a] != 1, a)))
    layout = Layout.ordered(order)
    wanted = [(d, s) for d, s in zip(dims, strides, strict=True) if d > 1]
    if _walk(TensorType(x.dtype, dims, layout)) != wanted:
        return None
    return None if order == tuple(range(len(dims))) else layout


def _reshaped_strides(x: TensorType, dims: tuple[int, ...]) -> list[int] | None:
    """Strides of `dims` over the memory of `x`, or None when some axis would not be regular."""
    axes = _merged(_walk(x))
    out = [0] * len(dims)
    for i in range(len(dims) - 1, -1, -1):
        if dims[i] == 1:
            continue
        if not axes or axes[-1][0] % dims[i]:
            return None
        extent, stride = axes.pop()
        out[i] = stride
        if extent > dims[i]:
            axes.append((extent // dims[i], stride * dims[i]))
    step = 1
    for i in range(len(dims) - 1, -1, -1):
        if dims[i] == 1:
            out[i] = step
        step = max(step, out[i] * dims[i])
    return out
