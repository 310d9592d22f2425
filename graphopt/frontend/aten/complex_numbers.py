"""ATen's operators on complex tensors, which the IR has as two real ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.utils import _pytree as pytree

from graphopt.frontend.aten.creation import CREATION
from graphopt.frontend.aten.creation import convert as same
from graphopt.frontend.aten.indexing import INDEXING
from graphopt.frontend.aten.movement import MOVEMENT
from graphopt.frontend.aten.pointwise import hypot
from graphopt.frontend.aten.reduction import REDUCTION
from graphopt.frontend.builder import (
    Builder,
    Mapping,
    Number,
    Operand,
)
from graphopt.ir.graph import Value


@dataclass(frozen=True)
class Complex:
    """real + imag·i; parts of one shape."""

    real: Value
    imag: Value


Parts = tuple[Operand, Operand]


def _parts(x: Complex | Operand | complex) -> Parts:
    if isinstance(x, (Complex, complex)):
        return x.real, x.imag
    return x, 0


def part_by_part(mapping: Mapping) -> Mapping:
    """An operator that does the same to both parts: it moves or adds elements."""

    def run(b: Builder, *args: Any, **kwargs: Any) -> Any:
        if isinstance(args[0], (list, tuple)):  # a cat of complex and real tensors
            args = ([_whole(b, x) for x in args[0]], *args[1:])
        reals, imags = (
            mapping(b, *_of(args, part), **_of(kwargs, part)) for part in ("real", "imag")
        )
        if isinstance(reals, tuple):
            return tuple(Complex(*pair) for pair in zip(reals, imags, strict=True))
        return Complex(reals, imags)

    return run


def _whole(b: Builder, x: Complex | Value) -> Complex:
    return x if isinstance(x, Complex) else Complex(x, b.full(0, x.type.dtype, x.type.dims))


def _of(tree: Any, part: str) -> Any:
    def chosen(leaf: Any) -> Any:
        return getattr(leaf, part) if isinstance(leaf, Complex) else leaf

    return pytree.tree_map(chosen, tree)


# Making and taking apart -------------------------------------------------------------------------


def view_as_complex(b: Builder, x: Value) -> Complex:
    last = x.type.rank - 1
    return Complex(b.select(x, last, 0), b.select(x, last, 1))


def view_as_real(b: Builder, z: Complex) -> Value:
    last = z.real.type.rank
    return b.concat([b.unsqueeze(part, last) for part in (z.real, z.imag)], last)


def polar(b: Builder, size: Value, angle: Value) -> Complex:
    return Complex(*(b.mul(size, b.emit(f, angle)) for f in ("cos", "sin")))


def from_parts(b: Builder, real: Value, imag: Value) -> Complex:
    return Complex(*(b.expand(part, b.type.dims) for part in (real, imag)))


def convert(b: Builder, x: Complex | Value, *_: object, **__: object) -> Complex:
    """Of real or complex numbers."""
    z = _whole(b, x)
    return Complex(*(b.cast(part, b.type.dtype) for part in (z.real, z.imag)))


# Arithmetic --------------------------------------------------------------------------------------


def _emit(b: Builder, op: str, x: Operand, y: Operand) -> Operand:
    """`op` with the zeros of real numbers left out."""
    if op == "mul" and (_is_zero(x) or _is_zero(y)):
        return 0
    if op in ("add", "sub") and _is_zero(y):
        return x
    if op == "add" and _is_zero(x):
        return y
    return b.emit(op, b.operand(x, b.type.dtype), b.operand(y, b.type.dtype))


def _is_zero(x: Operand) -> bool:
    return not isinstance(x, Value) and x == 0


def _result(b: Builder, real: Operand, imag: Operand) -> Complex:
    return Complex(*(b.expand(b.operand(p, b.type.dtype), b.type.dims) for p in (real, imag)))


def summed(op: str) -> Mapping:
    def run(b: Builder, x: Any, y: Any, alpha: Number = 1) -> Complex:
        (a, p), (c, q) = _parts(x), _parts(y)
        c, q = (_emit(b, "mul", part, alpha) if alpha != 1 else part for part in (c, q))
        return _result(b, _emit(b, op, a, c), _emit(b, op, p, q))

    return run


def bilinear(op: str) -> Mapping:
    """(a + bi) · (c + di) for a product of any kind."""

    def run(b: Builder, x: Any, y: Any) -> Complex:
        (a, p), (c, q) = _parts(x), _parts(y)

        def term(first: Operand, second: Operand) -> Operand:
            if _is_zero(first) or _is_zero(second):
                return 0
            return _emit(b, op, first, second)

        real = _emit(b, "sub", term(a, c), term(p, q))
        return _result(b, real, _emit(b, "add", term(a, q), term(p, c)))

    return run


def divide(b: Builder, x: Any, y: Any) -> Complex:
    """By a complex number: times its conjugate, by its squared size."""
    if not isinstance(y, Complex):
        a, p = _parts(x)
        return _result(b, _emit(b, "div", a, y), _emit(b, "div", p, y))
    size = b.add(b.mul(y.real, y.real), b.mul(y.imag, y.imag))
    z = bilinear("mul")(b, x, conjugate(b, y))
    return Complex(b.div(z.real, size), b.div(z.imag, size))


def conjugate(b: Builder, z: Complex) -> Complex:
    return Complex(z.real, b.emit("neg", z.imag))


def exp(b: Builder, z: Complex) -> Complex:
    return polar(b, b.emit("exp", z.real), z.imag)


_MOVED = (
    *(
        name for name in MOVEMENT
        if "pad" not in name and "scatter" not in name and name != "aten.view.dtype"
    ),
    *(name for name, mapping in CREATION.items() if mapping is same),
    "aten.index_select.default", "aten.gather.default", "aten.index.Tensor",
    "aten.embedding.default",
)  # fmt: skip
"""What takes no number that would go to both parts."""

_SUMS = ("aten.sum.default", "aten.sum.dim_IntList", "aten.mean.default", "aten.mean.dim")
_PRODUCTS = ("matmul.default", "mm.default", "bmm.default")

COMPLEX: dict[str, Mapping] = {
    **{n: part_by_part({**MOVEMENT, **CREATION, **INDEXING}[n]) for n in _MOVED},
    **{name: part_by_part(REDUCTION[name]) for name in _SUMS},
    **{f"aten.{name}": bilinear("matmul") for name in _PRODUCTS},
    "aten.mul.Tensor": bilinear("mul"),
    "aten.mul.Scalar": bilinear("mul"),
    "aten.add.Tensor": summed("add"),
    "aten.sub.Tensor": summed("sub"),
    "aten.div.Tensor": divide,
    "aten.div.Scalar": divide,
    "aten.neg.default": lambda b, z: Complex(b.emit("neg", z.real), b.emit("neg", z.imag)),
    "aten.exp.default": exp,
    "aten._to_copy.default": convert,
    "aten._conj.default": conjugate,
    "aten.conj_physical.default": conjugate,
    "aten.abs.default": lambda b, z: hypot(b, z.real, z.imag),
    "aten.angle.default": lambda b, z: b.emit("atan2", z.imag, z.real),
    "aten.view_as_complex.default": view_as_complex,
    "aten.view_as_real.default": view_as_real,
    "aten.complex.default": from_parts,
    "aten.polar.default": polar,
}
"""Operators that take or give complex tensors, by the parts that they are."""
