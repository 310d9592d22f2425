"""Ops whose steps depend on each other or whose addresses are data: running sums, arg-reductions,
selection, scatter. One scalar nest each; threads share the rows where rows are independent."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from graphopt.errors import UnsupportedError
from graphopt.ir.graph import Node, Value
from graphopt.ir.types import DType
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Expr,
    For,
    If,
    Stmt,
    Store,
    binary,
    block,
    cast,
    const,
    index_const,
    load,
    select,
)
from graphopt.lower.region import Lowered, Region
from graphopt.target import Target
from graphopt_backends.cpu.lower.serial import at, cell, rows
from graphopt_backends.cpu.lower.sorting import topk


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


def _wrapped(i: Expr, extent: int) -> Expr:
    i = cast(i, INDEX)
    return select(binary("<", i, index_const(0)), binary("+", i, index_const(extent)), i)


def _write(region: Region, index: tuple[Expr, ...], value: Expr, accumulate: bool) -> Stmt:
    """A store at data-dependent indices; those outside are dropped, never written."""
    dims = region.body.outputs[0].type.dims
    inside: Expr = const(True, DType.BOOL)
    for i, d in zip(index, dims, strict=True):
        ok = binary("and", binary(">=", i, index_const(0)), binary("<", i, index_const(d)))
        inside = binary("and", inside, ok)
    store = region.store(0, index, value)
    assert isinstance(store, Store)
    if accumulate:
        store = Store(store.buffer, store.index, store.value, "+")
    return If(inside, store)


def _scatter_nd(region: Region, root: Node) -> Stmt:
    x, i, u = root.operands
    depth = i.type.dims[-1]
    lead = i.type.rank - 1
    loops = [region.loop(f"u{a}", d) for a, d in enumerate(u.type.dims)]
    picked = tuple(
        _wrapped(region.access.at(i, (*loops[:lead], index_const(c))), x.type.dims[c])
        for c in range(depth)
    )
    value = region.access.at(u, tuple(loops))
    accumulate = root.attrs.accumulate  # type: ignore[attr-defined]
    body = _write(region, (*picked, *loops[lead:]), value, accumulate)
    for a, d in reversed(list(enumerate(u.type.dims))):
        body = For(f"u{a}", d, body) if d > 1 else body
    return block(_copy(region, x), body)


def _scatter_along(region: Region, root: Node) -> Stmt:
    x, i, u = root.operands
    axis = root.attrs.axis  # type: ignore[attr-defined]
    loops = [region.loop(f"u{a}", d) for a, d in enumerate(i.type.dims)]
    picked = _wrapped(region.access.at(i, tuple(loops)), x.type.dims[axis])
    at = tuple(picked if a == axis else loops[a] for a in range(x.type.rank))
    value = region.access.at(u, tuple(loops))
    body = _write(region, at, value, root.attrs.accumulate)  # type: ignore[attr-defined]
    for a, d in reversed(list(enumerate(i.type.dims))):
        body = For(f"u{a}", d, body) if d > 1 else body
    return block(_copy(region, x), body)


_RULES: Mapping[str, Callable[[Region, Node], Stmt]] = {
    "cumsum": _cumsum,
    "argmax": _arg,
    "argmin": _arg,
    "topk": topk,
    "scatter_nd": _scatter_nd,
    "scatter_along": _scatter_along,
}
