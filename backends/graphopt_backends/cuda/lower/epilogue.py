"""What follows a product in its region: bias, activation, residual, and where it is stored."""

from __future__ import annotations

from graphopt.ir.graph import Node
from graphopt.kernel.ir import Expr, Stmt, binary, block, broadcast, const, index_const, select
from graphopt.lower.pieces import border
from graphopt.lower.products import Axes, Product, stored_value
from graphopt_backends.cuda.lower.elementwise import Box, choose_tile
from graphopt_backends.cuda.lower.grid import Part
from graphopt_backends.cuda.lower.region import GpuRegion


class Epilogue:
    """From an accumulator at (m, n) to the region's results; n may be a vector."""

    def __init__(self, region: GpuRegion, root: Node, product: Product) -> None:
        self.region, self.root, self.product = region, root, product
        self.results = [stored_value(v, root) for v in region.body.outputs]

    def stores(self, accumulated: Expr, m: Axes, n: Expr) -> Stmt:
        access, chosen = self.region.access, self.product.chosen
        if chosen is not None:
            zero = const(0.0, accumulated.dtype, accumulated.lanes)
            accumulated = select(chosen(m), accumulated, zero)
        value = self.product.finish(accumulated, m, n)
        access.keep(self.root.result, lambda _: value)
        index = self.product.result_index(m, n)
        out: list[Stmt] = []
        for which, (stored, start) in enumerate(self.results):
            at = tuple(binary("+", i, index_const(s)) for i, s in zip(index, start, strict=True))
            element = broadcast(access.at(stored, index), n.lanes)
            out.append(self.region.store(which, at, element))
        return block(*out)

    def borders(self) -> list[Part]:
        """Blocks that write the borders of padded results."""
        tile = choose_tile(self.region)
        return [
            Box(self.region, which, piece).part(tile)
            for which, result in enumerate(self.region.body.outputs)
            if result.producer is not None and result.producer.op.name == "pad"
            for piece in border(result)
        ]
