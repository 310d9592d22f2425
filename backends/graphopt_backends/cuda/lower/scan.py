"""Ops whose steps depend on each other or whose addresses are data: running sums, arg-reductions,
selection, scatter. A thread for each row, or for each element of what is scattered as a whole: what
falls on one element is written by one thread, in order."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from graphopt.errors import UnsupportedError
from graphopt.ir.graph import Node, Value
from graphopt.kernel.affine import bounds
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Expr,
    For,
    If,
    Let,
    Stmt,
    Store,
    binary,
    block,
    cast,
    const,
    index_const,
    index_var,
    load,
)
from graphopt.lower.access import delinearized
from graphopt.lower.order import over_earlier, picked, selected
from graphopt.lower.pieces import Piece
from graphopt.lower.region import Lowered
from graphopt.lower.serial import at, cell, inside, scattered, wrapped
from graphopt.ops.base import Attrs
from graphopt.target import Target
from graphopt.tune.space import Point
from graphopt_backends.cuda.lower.elementwise import Box, choose_tile
from graphopt_backends.cuda.lower.grid import Part, below, both, ceil_div, grid, guarded, threads
from graphopt_backends.cuda.lower.region import GpuRegion
from graphopt_backends.cuda.targets import GpuTarget

_THREADS = 128
_RESIDENT = 1024
"""Threads of a multiprocessor that compare at once, about."""
Does = Callable[[dict[int, Expr]], Stmt]
"""What a thread does, given its index by axis."""


def lower(node: Node, target: Target, point: Point | None = None) -> Lowered:
    del point
    region = GpuRegion(node, target)
    root = next((n for n in region.body.nodes if n.op.name in _RULES), None)
    if root is None:
        names = ", ".join(n.op.name for n in region.body.nodes)
        raise UnsupportedError(
            f"the CUDA backend has no lowering for {names} at {node.loc}",
            hint="compute it outside of the model, or add a rule for it to "
            "graphopt_backends/cuda/lower/scan.py",
        )
    body = _RULES[root.op.name](region, root)
    return Lowered(region.kernel(root.op.name, body))


def _each(region: GpuRegion, axes: Sequence[tuple[int, int]], body: Does) -> Stmt:
    """A grid with a thread for every index of the axes (axis, extent), the last one fastest;
    `body(index by axis)` is what it does."""
    extents = [e for _, e in axes]
    total = math.prod(extents)
    blocks = ceil_div(total, _THREADS)

    def thread(b: Expr, t: Expr) -> Stmt:
        at = binary("+", binary("*", b, index_const(_THREADS)), t)
        region.access.ranges["i"] = total  # where it is used
        index = delinearized(index_var("i"), extents)
        inside = below(index_var("i"), total, blocks * _THREADS)
        does = body({axis: i for (axis, _), i in zip(axes, index, strict=True)})
        return block(Let("i", region.access.simplify(at)), guarded(inside, does))

    part = Part(blocks, lambda b: threads(region, _THREADS, lambda t: thread(b, t)))
    return grid(region, [part])


def _rows(
    region: GpuRegion, value: Value, axis: int, body: Callable[[dict[int, Expr]], Stmt]
) -> Stmt:
    """A thread for every index of all axes but one."""
    dims = value.type.dims
    return _each(region, [(a, dims[a]) for a in value.type.order if a != axis], body)


def _cumsum(region: GpuRegion, root: Node) -> Stmt:
    (x,), axis = root.operands, root.attrs.axis  # type: ignore[attr-defined]

    def row(index: dict[int, Expr]) -> Stmt:
        k = region.loop("k", x.type.dims[axis])
        total = cell("total", x.type.dtype)
        here = at(index, axis, k)
        step = block(
            Store(total, (), region.access.at(x, here), reduce="+"),
            region.store(0, here, load(total)),
        )
        zero = const(0.0 if x.type.dtype.is_float else 0, x.type.dtype)
        return block(Alloc(total), Store(total, (), zero), For("k", x.type.dims[axis], step))

    return _rows(region, x, axis, row)


def _arg(region: GpuRegion, root: Node) -> Stmt:
    (x,), attrs = root.operands, root.attrs
    axis = attrs.axis  # type: ignore[attr-defined]

    def row(index: dict[int, Expr]) -> Stmt:
        k = region.loop("k", x.type.dims[axis])
        best, where = cell("best", x.type.dtype), cell("where", INDEX)
        element = region.access.at(x, at(index, axis, k))
        better = binary(">" if root.op.name == "argmax" else "<", element, load(best))
        first = region.access.at(x, at(index, axis, index_const(0)))
        take = block(Store(where, (), k), Store(best, (), element))
        full = at(index, axis, index_const(0))
        keep = attrs.keepdims  # type: ignore[attr-defined]
        out = full if keep else tuple(i for a, i in enumerate(full) if a != axis)
        return block(
            Alloc(best),
            Alloc(where),
            Store(best, (), first),
            Store(where, (), index_const(0)),
            For("k", x.type.dims[axis], If(better, take)),
            region.store(0, out, load(where)),
        )

    return _rows(region, x, axis, row)


def _topk(region: GpuRegion, root: Node) -> Stmt:
    """The first k in (value, position) order, nan being the largest value: by the rank of each
    element, or by looking for one after the other where the device has not the threads for that."""
    (x,), attrs = root.operands, root.attrs
    sms = region.target.sms if isinstance(region.target, GpuTarget) else 1
    steps = max(1.0, x.type.numel / (sms * _RESIDENT))
    return (_ranked if steps < attrs.k else _looked_for)(region, root)  # type: ignore[attr-defined]


def _ranked(region: GpuRegion, root: Node) -> Stmt:
    """A thread counts what stands before its element, and knows where that is to lie."""
    (x,), attrs = root.operands, root.attrs
    axis, k, largest = attrs.axis, attrs.k, attrs.largest  # type: ignore[attr-defined]
    dims = x.type.dims

    def element(index: dict[int, Expr]) -> Stmt:
        j, i = region.loop("j", dims[axis]), index[axis]
        rest = {a: e for a, e in index.items() if a != axis}
        rank = cell("rank", INDEX)
        own, each = (region.access.at(x, at(rest, axis, place)) for place in (i, j))

        def counted(before: Expr) -> Stmt:
            return For("j", dims[axis], Store(rank, (), cast(before, INDEX), "+"))

        place = binary("max", binary("min", load(rank), index_const(k - 1)), index_const(0))
        stores = block(*picked(region, root, at(rest, axis, place), own, i))
        return block(
            Alloc(rank),
            Store(rank, (), index_const(0)),
            over_earlier(each, own, binary("<", j, i), largest, counted),
            If(binary("<", load(rank), index_const(k)), stores),
        )

    return _each(region, [(a, dims[a]) for a in x.type.order], element)


def _looked_for(region: GpuRegion, root: Node) -> Stmt:
    """A thread for each row."""
    (x,), axis = root.operands, root.attrs.axis  # type: ignore[attr-defined]
    return _rows(region, x, axis, lambda row: selected(region, root, lambda i: at(row, axis, i)))


def _copy(region: GpuRegion, x: Value) -> Stmt:
    """The result starts as its first operand: a grid of its own, before the one that scatters."""
    tile = choose_tile(region)
    piece = Piece((0,) * x.type.rank, x.type.dims, x)
    return grid(region, [Box(region, 0, piece).part(tile)])


def _write(region: GpuRegion, index: tuple[Expr, ...], value: Expr, attrs: Attrs) -> Stmt:
    """A scatter's store at data-dependent indices; those outside are dropped, never written."""
    among: Expr | None = None
    for i, d in zip(index, region.body.outputs[0].type.dims, strict=True):
        known = bounds(i, region.access.ranges)
        if known is None or known[0] < 0 or known[1] >= d:
            among = both(among, inside(i, d))
    return guarded(among, scattered(region, index, value, attrs))


def _scatter_nd(region: GpuRegion, root: Node) -> Stmt:
    x, i, u = root.operands
    depth, lead = i.type.dims[-1], i.type.rank - 1
    dims = u.type.dims

    def element(index: dict[int, Expr]) -> Stmt:
        loops = [region.loop(f"u{a}", dims[a]) for a in range(lead)]
        inner = [index[a] for a in range(lead, u.type.rank)]
        places = tuple(
            wrapped(region.access.at(i, (*loops, index_const(c))), x.type.dims[c])
            for c in range(depth)
        )
        value = region.access.at(u, (*loops, *inner))
        body = _write(region, (*places, *inner), value, root.attrs)
        for a, d in reversed(list(enumerate(dims[:lead]))):
            body = For(f"u{a}", d, body) if d > 1 else body
        return body

    whole = [(a, dims[a]) for a in range(lead, u.type.rank)]
    return block(_copy(region, x), _each(region, whole, element))


def _scatter_along(region: GpuRegion, root: Node) -> Stmt:
    x, i, u = root.operands
    axis = root.attrs.axis  # type: ignore[attr-defined]
    dims = i.type.dims

    def row(index: dict[int, Expr]) -> Stmt:
        here = at(index, axis, region.loop("k", dims[axis]))
        place = wrapped(region.access.at(i, here), x.type.dims[axis])
        value = region.access.at(u, here)
        body = _write(region, at(index, axis, place), value, root.attrs)
        return For("k", dims[axis], body) if dims[axis] > 1 else body

    return block(_copy(region, x), _rows(region, i, axis, row))


_RULES: Mapping[str, Callable[[GpuRegion, Node], Stmt]] = {
    "cumsum": _cumsum,
    "argmax": _arg,
    "argmin": _arg,
    "topk": _topk,
    "scatter_nd": _scatter_nd,
    "scatter_along": _scatter_along,
}
