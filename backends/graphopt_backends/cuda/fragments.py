"""Products on tensor cores, as loops: what every thread of a warp adds to its accumulators.

A warp multiplies a tile of A, 16 `down` rows, by one of B, 8 `across` columns, 16 steps of k, both
in shared memory as [row or column][k], B perhaps as [k][column]. Thread `lane` accumulates four
numbers of every 16 by 8:

  tensor k in 0..16 { unroll i { unroll j { unroll r in 0..4 {
    acc[t, i, j, r] += a[row + 16*i + 8*(r // 2) + lane // 4, k]
                     * b[column + 8*j + 2*(lane % 4) + r % 2, k]
  } } } }

The nest is its own meaning to the interpreter; the text has ldmatrix and mma.sync for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphopt.errors import IRError
from graphopt.ir.types import DType
from graphopt.kernel.affine import Linear, linear
from graphopt.kernel.ir import (
    Binary,
    Buffer,
    Cast,
    Expr,
    For,
    Load,
    LoopKind,
    Stmt,
    Store,
    binary,
    cast,
    index_const,
    index_var,
    load,
)
from graphopt.kernel.visit import uses_var
from graphopt_backends.cuda.targets import WARP

DOWN, ACROSS, STEPS, PARTS = 16, 8, 16, 4
_K, _I, _J, _R = "tk", "ti", "tj", "tr"


@dataclass(frozen=True)
class Factor:
    """A buffer [position][k] in shared memory, or [k][position] (`by_k`, B alone), and where the
    warp's tile of it begins."""

    buffer: Buffer
    position: Expr
    k: Expr
    by_k: bool = False

    def element(self, own: Expr, k: Expr) -> Expr:
        at = binary("+", self.position, own), binary("+", self.k, k)
        return load(self.buffer, *(reversed(at) if self.by_k else at))

    @property
    def start(self) -> tuple[Expr, Expr]:
        """Where the tile begins, as an index of the buffer."""
        return (self.k, self.position) if self.by_k else (self.position, self.k)


@dataclass(frozen=True)
class Tiles:
    """`down` by `across` tiles of the accumulators `acc`: [thread, down, across, 4]."""

    acc: Buffer
    down: int
    across: int
    left: Factor
    right: Factor

    def nest(self, thread: str) -> Stmt:
        """The loops, for threads counted by the variable `thread`."""
        i, j, r = index_var(_I), index_var(_J), index_var(_R)
        rows, columns = _own(thread)
        terms = [
            cast(f.element(own, index_var(_K)), self.acc.dtype)
            for f, own in ((self.left, rows), (self.right, columns))
        ]
        body: Stmt = Store(self.acc, (index_var(thread), i, j, r), binary("*", *terms), "+")
        for name, extent in ((_R, PARTS), (_J, self.across), (_I, self.down)):
            body = For(name, extent, body, LoopKind.UNROLL)
        return For(_K, STEPS, body, LoopKind.TENSOR)


def part(thread: str, r: Expr) -> tuple[Expr, Expr]:
    """Row and column, in a tile of 16 by 8, of a thread's accumulator `r`."""
    lane = binary("%", index_var(thread), index_const(WARP))
    down = binary("*", binary("//", r, index_const(2)), index_const(8))
    row = binary("+", down, binary("//", lane, index_const(4)))
    pair = binary("*", binary("%", lane, index_const(4)), index_const(2))
    return row, binary("+", pair, binary("%", r, index_const(2)))


def _own(thread: str) -> tuple[Expr, Expr]:
    row, column = part(thread, index_var(_R))
    tile_row = binary("*", index_var(_I), index_const(DOWN))
    tile_column = binary("*", index_var(_J), index_const(ACROSS))
    return binary("+", tile_row, row), binary("+", tile_column, column)


def tiles_of(loop: For, thread: For, ranges: Mapping[str, int]) -> Tiles:
    """The tiles that a nest multiplies. Raises: IRError for one that tensor cores cannot."""
    extents, body = _loops(loop)
    if list(extents) != [_K, _I, _J, _R] or (extents[_K], extents[_R]) != (STEPS, PARTS):
        raise _cannot("its loops are others")
    match body:
        case Store(reduce="+", value=Binary(op="*", a=Cast(a=Load() as a), b=Cast(a=Load() as b))):
            pass
        case _:
            raise _cannot("it is no sum of products")
    if a.dtype not in (DType.F16, DType.BF16) or a.dtype is not b.dtype:
        raise _cannot(f"it multiplies {a.dtype} by {b.dtype}")
    inside = {**ranges, thread.var: thread.extent, **extents}
    rows, columns = _own(thread.var)
    by_k = uses_var(b.index[0], _K)
    tiles = Tiles(
        body.buffer, extents[_I], extents[_J],
        _factor(a, rows, False, inside), _factor(b, columns, by_k, inside),
    )  # fmt: skip
    if body.index != (index_var(thread.var), index_var(_I), index_var(_J), index_var(_R)):
        raise _cannot("its accumulators are others")
    return tiles


def _factor(x: Load, own: Expr, by_k: bool, ranges: Mapping[str, int]) -> Factor:
    position, k = reversed(x.index) if by_k else x.index
    return Factor(x.buffer, _rest(position, own, ranges), _rest(k, index_var(_K), ranges), by_k)


def _loops(loop: For) -> tuple[dict[str, int], Stmt]:
    extents: dict[str, int] = {}
    body: Stmt = loop
    while isinstance(body, For):
        extents[body.var] = body.extent
        body = body.body
    return extents, body


def _rest(index: Expr, own: Expr, ranges: Mapping[str, int]) -> Expr:
    """What an index is beyond a thread's own part of it: the same for all threads of a warp."""
    whole, mine = linear(index, ranges), dict(linear(own, ranges).terms)
    left = {atom: c - mine.pop(atom, 0) for atom, c in whole.terms}
    kept = tuple((atom, c) for atom, c in left.items() if c)
    if mine or any(uses_var(atom, v) for atom, _ in kept for v in (_K, _I, _J, _R)):
        raise _cannot("its elements are not those of a thread")
    return Linear(kept, whole.constant).expr()


def _cannot(why: str) -> IRError:
    return IRError(f"a tensor loop is none that tensor cores compute: {why}",
                   hint="make it by graphopt_backends.cuda.fragments")  # fmt: skip
