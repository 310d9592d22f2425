"""Value types: dtype, logical shape, and how the logical axes lie in memory."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import ml_dtypes
import numpy as np

from graphopt.errors import IRError


class DType(enum.Enum):
    """Element types. The value is the name used in IR text."""

    F64 = "f64"
    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    I64 = "i64"
    I32 = "i32"
    I16 = "i16"
    I8 = "i8"
    U8 = "u8"
    BOOL = "bool"

    @property
    def numpy(self) -> np.dtype:
        return _NUMPY[self]

    @property
    def size_bytes(self) -> int:
        return int(_NUMPY[self].itemsize)

    @property
    def is_float(self) -> bool:
        return self in _FLOATS

    @property
    def is_integer(self) -> bool:
        return not self.is_float and self is not DType.BOOL

    @staticmethod
    def of(dtype: np.dtype | type) -> DType:
        """The element type of a numpy dtype. Raises: IRError for one that IR does not have."""
        found = _FROM_NUMPY.get(np.dtype(dtype))
        if found is None:
            names = ", ".join(d.value for d in DType)
            raise IRError(f"dtype {np.dtype(dtype)} is not supported", hint=f"use one of {names}")
        return found

    def __str__(self) -> str:
        return self.value


_NUMPY: dict[DType, np.dtype] = {
    DType.F64: np.dtype(np.float64),
    DType.F32: np.dtype(np.float32),
    DType.F16: np.dtype(np.float16),
    DType.BF16: np.dtype(ml_dtypes.bfloat16),
    DType.I64: np.dtype(np.int64),
    DType.I32: np.dtype(np.int32),
    DType.I16: np.dtype(np.int16),
    DType.I8: np.dtype(np.int8),
    DType.U8: np.dtype(np.uint8),
    DType.BOOL: np.dtype(np.bool_),
}
_FLOATS = frozenset({DType.F64, DType.F32, DType.F16, DType.BF16})
_FROM_NUMPY = {v: k for k, v in _NUMPY.items()}


@dataclass(frozen=True)
class SymDim:
    """A named dimension known only at run time, within [low, high]."""

    name: str
    low: int
    high: int

    def __str__(self) -> str:
        return f"{self.name}:{self.low}..{self.high}"


Dim = int | SymDim


@dataclass(frozen=True)
class LayoutAxis:
    """One physical axis: which logical axis it steps through.

    `before`/`after` elements of halo surround it; with `block` > 0 it is the inner part, of that
    many elements, of a logical axis whose outer part appears further out.
    """

    axis: int
    before: int = 0
    after: int = 0
    block: int = 0

    def __str__(self) -> str:
        halo = f":{self.before}:{self.after}" if self.before or self.after else ""
        return f"{self.axis}{halo}" if not self.block else f"{self.axis}%{self.block}"


@dataclass(frozen=True)
class Layout:
    """Physical axes, outermost first. `@[0,2:1:1,3:1:1,1]` is NHWC with a halo of one pixel."""

    axes: tuple[LayoutAxis, ...]

    @staticmethod
    def ordered(order: Iterable[int], halo: dict[int, tuple[int, int]] | None = None) -> Layout:
        """Plain permutation of the axes, `halo[axis] = (before, after)` elements around some."""
        h = halo or {}
        return Layout(tuple(LayoutAxis(a, *h.get(a, (0, 0))) for a in order))

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Logical axes from outermost to innermost, blocks left out."""
        return tuple(a.axis for a in self.axes if not a.block)

    @property
    def is_blocked(self) -> bool:
        return any(a.block for a in self.axes)

    @property
    def has_halo(self) -> bool:
        return any(a.before or a.after for a in self.axes)

    def halo(self, axis: int) -> tuple[int, int]:
        """Elements of halo (before, after) on a logical axis."""
        for a in self.axes:
            if a.axis == axis and not a.block:
                return a.before, a.after
        raise IRError(f"layout {self} has no axis {axis}")

    def physical_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Extents of the physical axes, halos included."""
        blocks = {a.axis: a.block for a in self.axes if a.block}
        return tuple(
            a.block or -(-shape[a.axis] // blocks.get(a.axis, 1)) + a.before + a.after
            for a in self.axes
        )

    def strides(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Elements between neighbours along each logical axis. Raises: IRError when blocked."""
        if self.is_blocked:
            raise IRError(f"blocked layout {self} has no single stride per axis")
        out, step = [0] * len(shape), 1
        for a, extent in zip(
            reversed(self.axes), reversed(self.physical_shape(shape)), strict=True
        ):
            out[a.axis] = step
            step *= extent
        return tuple(out)

    def offset(self, shape: tuple[int, ...]) -> int:
        """Elements from the start of the buffer to logical index 0, i.e. past the leading halo."""
        if not self.has_halo:
            return 0
        return sum(s * self.halo(i)[0] for i, s in enumerate(self.strides(shape)))

    def __str__(self) -> str:
        return "@[" + ",".join(map(str, self.axes)) + "]"


@dataclass(frozen=True)
class TensorType:
    """dtype, logical shape and layout (None: row-major, dense)."""

    dtype: DType
    shape: tuple[Dim, ...]
    layout: Layout | None = None

    @staticmethod
    def of(array: np.ndarray) -> TensorType:
        """The type of a numpy array, laid out row-major. Raises: IRError for an unknown dtype."""
        return TensorType(DType.of(array.dtype), tuple(array.shape))

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_static(self) -> bool:
        return all(isinstance(d, int) for d in self.shape)

    @cached_property
    def dims(self) -> tuple[int, ...]:
        """The shape as integers. Raises: IRError when a dimension is symbolic."""
        if not self.is_static:
            raise IRError(
                f"{self} has symbolic dimensions",
                hint="compile for fixed shapes: pass example inputs of the shape you run",
            )
        return tuple(d for d in self.shape if isinstance(d, int))

    @property
    def numel(self) -> int:
        """Logical elements; for symbolic dims, at their upper bound."""
        return math.prod(d if isinstance(d, int) else d.high for d in self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of the buffer, halos and block padding included."""
        if self.layout is None:
            return self.numel * self.dtype.size_bytes
        return math.prod(self.layout.physical_shape(self.dims)) * self.dtype.size_bytes

    @cached_property
    def strides(self) -> tuple[int, ...]:
        """Elements between neighbours along each logical axis."""
        return (self.layout or Layout.ordered(range(self.rank))).strides(self.dims)

    @property
    def order(self) -> tuple[int, ...]:
        """Logical axes from outermost to innermost in memory."""
        return tuple(range(self.rank)) if self.layout is None else self.layout.order

    @property
    def offset(self) -> int:
        return 0 if self.layout is None else self.layout.offset(self.dims)

    def with_layout(self, layout: Layout | None) -> TensorType:
        """The same tensor laid out otherwise; the dense row-major layout is stored as None."""
        if layout == Layout.ordered(range(self.rank)):
            layout = None
        return TensorType(self.dtype, self.shape, layout)

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape, self.layout)

    @property
    def logical(self) -> TensorType:
        """Without its layout: what inference speaks of."""
        return self if self.layout is None else TensorType(self.dtype, self.shape)

    def __str__(self) -> str:
        layout = "" if self.layout is None else str(self.layout)
        return f"{self.dtype}[{','.join(map(str, self.shape))}]{layout}"


def broadcast_shapes(*shapes: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """Numpy broadcasting over static and symbolic dims. Raises: IRError when they do not fit."""
    rank = max((len(s) for s in shapes), default=0)
    out: list[Dim] = []
    for i in range(rank):
        dims = {s[i - rank + len(s)] for s in shapes if i - rank + len(s) >= 0} - {1}
        if len(dims) > 1:
            text = " and ".join("[" + ",".join(map(str, s)) + "]" for s in shapes)
            raise IRError(
                f"shapes {text} do not broadcast", hint="trailing axes must match or be 1"
            )
        out.append(dims.pop() if dims else 1)
    return tuple(out)
