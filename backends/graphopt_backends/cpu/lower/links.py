"""One link of a chain of convolutions: a region that reads and writes rows held in scratch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from graphopt.ir.graph import Graph, Value
from graphopt.kernel.ir import (
    Buffer,
    Expr,
    For,
    If,
    Stmt,
    Store,
    binary,
    block,
    const,
    contiguous,
    index_const,
    index_var,
    load,
)
from graphopt.lower.access import Index
from graphopt.lower.loops import chunks
from graphopt.lower.products import Axes, Product
from graphopt.lower.region import Region
from graphopt.lower.strips import Link
from graphopt.ops import PadAttrs


@dataclass(frozen=True)
class ScratchRows:
    """What scratch holds of an image [n, c, h, w]: whole rows from `first`, `channels` channels
    from `channel`."""

    value: Value
    buffer: Buffer
    first: Expr
    channel: Expr
    channels: int

    def position(self, index: Index) -> Expr:
        _, c, y, x = index
        row = scaled(binary("-", y, self.first), self.value.type.dims[3])
        pixel = scaled(binary("+", row, x), self.channels)
        return binary("+", pixel, binary("-", c, self.channel))


class LinkRegion(Region):
    """One link as a region of its own: `source` is what it reads of the link before, `sink` where
    it writes its result, None at the ends of a chain."""

    def __init__(
        self, whole: Region, link: Link, source: ScratchRows | None, sink: ScratchRows | None
    ) -> None:
        inputs = (*whole.body.inputs, *((source.value,) if source else ()))
        super().__init__(whole.node, whole.target, Graph(inputs, link.nodes, (link.result,)))
        self.sink = sink
        if source is not None:
            self.access.keep(source.value, self._rows(source))

    def store(self, which: int, index: Index, value: Expr) -> Stmt:
        if self.sink is None:
            return super().store(which, index, value)
        return Store(self.sink.buffer, (self.access.simplify(self.sink.position(index)),), value)

    def _rows(self, source: ScratchRows) -> Callable[[Index], Expr]:
        return lambda index: load(source.buffer, self.access.simplify(source.position(index)))


def part_of(
    product: Product, image: Expr, first: Expr, rows: int, channel: Expr, channels: int
) -> Product:
    """A product for some rows of one image and some of its channels."""

    def at(m: Axes) -> Axes:
        return {**m, "n": image, "s0": binary("+", first, m["s0"])}

    def shifted(n: Expr) -> Expr:
        return binary("+", channel, n)

    right, weight = product.right, product.weight
    return replace(
        product,
        positions=tuple((a, {"n": 1, "s0": rows}.get(a, e)) for a, e in product.positions),
        channels=channels,
        left=lambda m, n, k: product.left(at(m), shifted(n), k),
        right=None if right is None else lambda m, n, k: right(at(m), shifted(n), k),
        result_index=lambda m, n: product.result_index(at(m), shifted(n)),
        finish=lambda acc, m, n: product.finish(acc, at(m), shifted(n)),
        weight=None if weight is None else replace(weight, start=scaled(channel, product.depth)),
    )


@dataclass(frozen=True)
class Border:
    """The border of a padded image whose rows lie in scratch, `channels` of them at a pixel."""

    padded: Value
    buffer: Buffer
    channels: int
    lanes: int

    def around(self, row: Expr, at: Expr, nest: Stmt) -> Stmt:
        """Row `row` of the scratch, which is row `at` of the padded image: what `nest` computes
        between two borders, or all border where the image does not reach."""
        _, _, height, width = self.padded.type.dims
        (above, below), (left, right) = padding(self.padded, 2), padding(self.padded, 3)
        first = scaled(row, width * self.channels)
        last = binary("+", first, index_const((width - right) * self.channels))
        inside = block(nest, *self._fill(first, left), *self._fill(last, right))
        conditions = [
            *([binary(">=", at, index_const(above))] if above else []),
            *([binary("<", at, index_const(height - below))] if below else []),
        ]
        if not conditions:
            return inside
        condition = conditions[0] if len(conditions) == 1 else binary("and", *conditions)
        return If(condition, inside, block(*self._fill(first, width)))

    def _fill(self, start: Expr, pixels: int) -> list[Stmt]:
        out: list[Stmt] = []
        if not pixels:
            return out
        assert self.padded.producer is not None
        attrs = self.padded.producer.attrs
        assert isinstance(attrs, PadAttrs)
        for first, lanes, count in chunks(pixels * self.channels, self.lanes):
            x = scaled(index_var("x") if count > 1 else index_const(0), lanes)
            at = binary("+", binary("+", start, x), index_const(first))
            where = contiguous(at, lanes)
            store = Store(self.buffer, (where,), const(attrs.value, self.buffer.dtype, lanes))
            out.append(For("x", count, store) if count > 1 else store)
        return out


def padding(value: Value, axis: int) -> tuple[int, int]:
    """Before and after the image on an axis."""
    node = value.producer
    if node is None or not isinstance(node.attrs, PadAttrs):
        return 0, 0
    return node.attrs.before[axis], node.attrs.after[axis]


def scaled(i: Expr, factor: int) -> Expr:
    return binary("*", i, index_const(factor))
