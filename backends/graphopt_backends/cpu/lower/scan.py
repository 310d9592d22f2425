"""Ops whose steps depend on each other or whose addresses are data: running sums, arg-reductions,
selection, scatter. One scalar nest each; threads share the rows where rows are independent."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from graphopt.errors import UnsupportedError
from graphopt.ir.graph import Node, Value
from graphopt.ir.types import DType
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
    broadcast,
    const,
    contiguous,
    index_const,
    index_var,
    load,
)
from graphopt.lower.access import Index
from graphopt.lower.loops import chunks, in_parallel
from graphopt.lower.region import Lowered, Region
from graphopt.lower.serial import at, cell, inside, scattered, wrapped
from graphopt.target import Target
from graphopt_backends.cpu.lower.serial import rows
from graphopt_backends.cpu.lower.sorting import topk

_PARTS = 8
"""What a slice of a running sum is cut into for threads to share, where its extent allows."""


def lower(node: Node, target: Target) -> Lowered:
    region = Region(node, target)
    root = next((n for n in region.body.nodes if n.op.name in _RULES), None)
    if root is None:
        names = ", ".join(n.op.name for n in region.body.nodes)
        raise UnsupportedError(
            f"the CPU backend has no lowering for {names} at {node.loc}",
            hint="compute it outside of the model, or add a rule for it to "
            "graphopt_backends/cpu/lower/scan.py",
        )
    body = _RULES[root.op.name](region, root)
    return Lowered(region.kernel(root.op.name, body))


def _cumsum(region: Region, root: Node) -> Stmt:
    (x,), axis = root.operands, root.attrs.axis  # type: ignore[attr-defined]
    after = [a for a in x.type.order[x.type.order.index(axis) + 1 :] if x.type.dims[a] > 1]
    return _sums_of_slices(region, x, axis, after) if after else _sums_of_rows(region, x, axis)


def _sums_of_rows(region: Region, x: Value, axis: int) -> Stmt:
    """One number after the other, where they are neighbours in memory."""
    index, around = rows(region, x, axis)
    k = region.loop("k", x.type.dims[axis])
    total = cell("total", x.type.dtype)
    here = at(index, axis, k)
    step = block(
        Store(total, (), region.access.at(x, here), reduce="+"),
        region.store(0, here, load(total)),
    )
    zero = const(0.0 if x.type.dtype.is_float else 0, x.type.dtype)
    return around(block(Alloc(total), Store(total, (), zero), For("k", x.type.dims[axis], step)))


def _sums_of_slices(region: Region, x: Value, axis: int, after: list[int]) -> Stmt:
    """Slices across the axis are added to what was written for the one before, so that memory is
    read in its order. Threads share rows of slices, or parts of them where there is one row."""
    dims, inner = x.type.dims, after[-1]
    before = [a for a in x.type.order[: x.type.order.index(axis)] if dims[a] > 1]
    parts = 1 if before or len(after) == 1 else math.gcd(_PARTS, dims[after[0]])
    length = dims[after[0]] // parts
    part, middle = region.loop("part", parts), after[:-1]
    index = {a: region.loop(f"i{a}", dims[a]) for a in x.type.order if a not in (axis, inner)}
    if parts > 1:
        offset = binary("*", part, index_const(length))
        index[after[0]] = binary("+", offset, region.loop(f"i{after[0]}", length))

    def over_slice(at_lane: Callable[[Index], Stmt], k: Expr) -> Stmt:
        nests: list[Stmt] = []
        for start, width, count in chunks(dims[inner], region.target.lanes_f32):
            step = region.loop("x", count)
            first = binary("+", binary("*", step, index_const(width)), index_const(start))
            lane = {**index, inner: contiguous(first, width)}
            body = at_lane(at(lane, axis, k))
            nests.append(For("x", count, body) if count > 1 else body)
        nest = block(*nests)
        for a in reversed(middle):
            nest = For(f"i{a}", length if a == after[0] else dims[a], nest)
        return nest

    def first_slice(place: Index) -> Stmt:
        return region.store(0, place, region.access.at(x, place))

    def next_slice(place: Index) -> Stmt:
        last = tuple(k if a == axis else i for a, i in enumerate(place))
        return region.store(
            0, place, binary("+", region.written(0, last), region.access.at(x, place))
        )

    k = region.loop("k", dims[axis] - 1)
    body = over_slice(first_slice, index_const(0))
    if dims[axis] > 1:
        again = over_slice(next_slice, binary("+", k, index_const(1)))
        body = block(body, For("k", dims[axis] - 1, again))
    for a in reversed(before):
        body = For(f"i{a}", dims[a], body)
    return in_parallel(For("part", parts, body) if parts > 1 else body)


def _arg(region: Region, root: Node) -> Stmt:
    (x,), attrs = root.operands, root.attrs
    axis = attrs.axis  # type: ignore[attr-defined]
    index, around = rows(region, x, axis)
    k = region.loop("k", x.type.dims[axis])
    best, where = cell("best", x.type.dtype), cell("where", INDEX)
    element = region.access.at(x, at(index, axis, k))
    better = binary(">" if root.op.name == "argmax" else "<", element, load(best))
    first = region.access.at(x, at(index, axis, index_const(0)))
    take = block(Store(where, (), k), Store(best, (), element))
    full = at(index, axis, index_const(0))
    keep = attrs.keepdims  # type: ignore[attr-defined]
    out = full if keep else tuple(i for a, i in enumerate(full) if a != axis)
    return around(
        block(
            Alloc(best),
            Alloc(where),
            Store(best, (), first),
            Store(where, (), index_const(0)),
            For("k", x.type.dims[axis], If(better, take)),
            region.store(0, out, load(where)),
        )
    )


def _copy(region: Region, x: Value) -> Stmt:
    """The result starts as its first operand."""
    dims = x.type.dims
    index = tuple(region.loop(f"c{a}", d) for a, d in enumerate(dims))
    body: Stmt = region.store(0, index, region.access.at(x, index))
    for a in reversed(x.type.order):
        if dims[a] > 1:
            body = For(f"c{a}", dims[a], body)
    return body


def _scatter_nd(region: Region, root: Node) -> Stmt:
    """Positions are read once for the rows that they name."""
    x, i, u = root.operands
    depth, lead = i.type.dims[-1], i.type.rank - 1
    loops = tuple(region.loop(f"u{a}", d) for a, d in enumerate(i.type.dims[:lead]))
    lets: list[Stmt] = []
    among: Expr = const(True, DType.BOOL)
    for c in range(depth):
        place = wrapped(region.access.at(i, (*loops, index_const(c))), x.type.dims[c])
        lets.append(Let(f"p{c}", place))
        among = binary("and", among, inside(index_var(f"p{c}"), x.type.dims[c]))
    places = tuple(index_var(f"p{c}") for c in range(depth))

    def row(index: tuple[Expr, ...], lanes: int) -> Stmt:
        value = broadcast(region.access.at(u, (*loops, *index)), lanes)
        return scattered(region, (*places, *index), value, root.attrs)

    body = block(*lets, If(among, _rows_of(region, u.type.dims[lead:], row)))
    return block(_copy(region, x), _over("u", i.type.dims[:lead], body))


def _rows_of(
    region: Region, dims: Sequence[int], stored: Callable[[tuple[Expr, ...], int], Stmt]
) -> Stmt:
    """`stored(index, lanes)` for every element of a part of the result's last axes, in vectors
    where they lie side by side."""
    if not dims:
        return stored((), 1)
    outer = tuple(region.loop(f"v{a}", d) for a, d in enumerate(dims[:-1]))
    lanes = region.target.lanes_f32 if region.body.outputs[0].type.strides[-1] == 1 else 1
    nests: list[Stmt] = []
    for start, width, count in chunks(dims[-1], lanes):
        x = region.loop("x", count)
        first = binary("+", binary("*", x, index_const(width)), index_const(start))
        body = stored((*outer, contiguous(first, width)), width)
        nests.append(For("x", count, body) if count > 1 else body)
    return _over("v", dims[:-1], block(*nests))


def _over(name: str, dims: Sequence[int], body: Stmt) -> Stmt:
    """Loops `{name}0`, `{name}1`, ... around a body, the last one innermost."""
    for a, d in reversed(list(enumerate(dims))):
        body = For(f"{name}{a}", d, body) if d > 1 else body
    return body


def _scatter_along(region: Region, root: Node) -> Stmt:
    x, i, u = root.operands
    axis = root.attrs.axis  # type: ignore[attr-defined]
    loops = [region.loop(f"u{a}", d) for a, d in enumerate(i.type.dims)]
    place = wrapped(region.access.at(i, tuple(loops)), x.type.dims[axis])
    places = tuple(place if a == axis else loops[a] for a in range(x.type.rank))
    store = scattered(region, places, region.access.at(u, tuple(loops)), root.attrs)
    body = If(inside(place, x.type.dims[axis]), store)
    return block(_copy(region, x), _over("u", i.type.dims, body))


_RULES: Mapping[str, Callable[[Region, Node], Stmt]] = {
    "cumsum": _cumsum,
    "argmax": _arg,
    "argmin": _arg,
    "topk": topk,
    "scatter_nd": _scatter_nd,
    "scatter_along": _scatter_along,
}
