"""A result as the boxes it is made of: concat operands, the border of a pad, or all of it."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.graph import Value


@dataclass(frozen=True)
class Piece:
    """The box `start + [0, extent)` of a result. `value` covers it, read from its index 0;
    None means the constant `fill`."""

    start: tuple[int, ...]
    extent: tuple[int, ...]
    value: Value | None = None
    fill: float = 0.0


def pieces_of(result: Value) -> list[Piece]:
    """Boxes that tile a result, so that no element asks which operand it comes from. An operand
    without elements has none."""
    node, dims = result.producer, result.type.dims
    if node is None:
        return [Piece((0,) * len(dims), dims, result)]
    if node.op.name == "concat":
        return _concat(result)
    if node.op.name == "pad" and node.attrs.mode == "constant":  # type: ignore[attr-defined]
        inside = interior(result)
        return [*border(result), *([inside] if 0 not in inside.extent else [])]
    return [Piece((0,) * len(dims), dims, result)]


def interior(padded: Value) -> Piece:
    """The box of a constant pad that its operand fills."""
    assert padded.producer is not None
    (x,) = padded.producer.operands
    return Piece(tuple(padded.producer.attrs.before), x.type.dims, x)  # type: ignore[attr-defined]


def border(padded: Value) -> list[Piece]:
    """The boxes of a constant pad that its fill value fills, outer axes first."""
    assert padded.producer is not None
    attrs, type = padded.producer.attrs, padded.type
    out: list[Piece] = []
    start, extent = [0] * type.rank, list(type.dims)
    for axis in type.order:
        before, after = attrs.before[axis], attrs.after[axis]  # type: ignore[attr-defined]
        for first, count in ((0, before), (type.dims[axis] - after, after)):
            if count:
                out.append(_slab(axis, first, count, start, extent, attrs.value))  # type: ignore[attr-defined]
        start[axis], extent[axis] = before, type.dims[axis] - before - after
    return out


def _slab(
    axis: int,
    first: int,
    count: int,
    start: list[int],
    extent: list[int],
    fill: float,
) -> Piece:
    s, e = list(start), list(extent)
    s[axis], e[axis] = first, count
    return Piece(tuple(s), tuple(e), None, fill)


def _concat(result: Value) -> list[Piece]:
    assert result.producer is not None
    axis, out, at = result.producer.attrs.axis, [], 0  # type: ignore[attr-defined]
    for x in result.producer.operands:
        start = tuple(at if a == axis else 0 for a in range(result.type.rank))
        if x.type.dims[axis]:
            out.append(Piece(start, x.type.dims, x))
        at += x.type.dims[axis]
    return out
