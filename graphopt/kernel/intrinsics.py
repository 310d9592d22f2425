"""The intrinsics of kernel IR: one row each. Their C text is in the backends' templates."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.types import DType
from graphopt.ops.erf import erf

Meaning = Callable[..., np.ndarray]
"""`meaning(*arrays)`: elementwise; for `across_lanes` from [..., lanes] to [..., 1]; for
`moves_lanes` from [..., lanes] to the same. Halves come as float32, and the result is rounded
afterwards."""

FLOATS = frozenset({DType.F64, DType.F32, DType.F16, DType.BF16})
NUMBERS = frozenset(DType) - {DType.BOOL}
SIGNED = NUMBERS - {DType.U8}
LOGICAL = frozenset(DType) - FLOATS


@dataclass(frozen=True)
class Intrinsic:
    """`arity` arguments, all of one dtype out of `dtypes`. The result has their dtype, or `result`;
    it has their lanes, or one with `across_lanes`. With `moves_lanes` a lane of it comes from
    another one."""

    name: str
    arity: int
    dtypes: frozenset[DType]
    meaning: Meaning
    result: DType | None = None
    across_lanes: bool = False
    moves_lanes: bool = False

    def result_dtype(self, argument: DType) -> DType:
        return self.result or argument


def _fold(combine: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Meaning:
    """Halves of the lanes combined until one is left, then those beyond a power of two, one by one:
    the order in which every backend does it."""

    def meaning(x: np.ndarray) -> np.ndarray:
        whole = 1 << (x.shape[-1].bit_length() - 1)
        out, beyond = x[..., :whole], x[..., whole:]
        while out.shape[-1] > 1:
            half = out.shape[-1] // 2
            out = combine(out[..., :half], out[..., half:])
        for lane in range(beyond.shape[-1]):
            out = combine(out, beyond[..., lane : lane + 1])
        return out

    return meaning


ZIPS: Mapping[int, tuple[str, ...]] = {
    2: ("zip_low", "zip_high"),
    3: ("zip3_low", "zip3_middle", "zip3_high"),
}
"""Of how many vectors the lanes take turns, and the names of the parts of what comes out."""


def _zip(part: int) -> Meaning:
    """A part, as long as one vector, of a[0], b[0], .., a[1], b[1], .., ..."""

    def meaning(*vectors: np.ndarray) -> np.ndarray:
        lanes = vectors[0].shape[-1]
        turns = np.stack(vectors, axis=-1).reshape(*vectors[0].shape[:-1], -1)
        return turns[..., part * lanes : (part + 1) * lanes]

    return meaning


def _sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))  # never overflows
    return np.asarray(np.where(x < 0, e, 1) / (1 + e), x.dtype)


def _normal_cdf(x: np.ndarray) -> np.ndarray:
    """The normal distribution function: gelu(x) is x * normal_cdf(x)."""
    wide = np.asarray(x, np.float64)  # erfc magnifies the rounding of its argument
    return np.asarray(0.5 * _ERFC(wide * -math.sqrt(0.5)), x.dtype)


def _libm(function: Callable[[float], float]) -> Meaning:
    """A function of C's library that numpy lacks."""
    vectorized = np.vectorize(function, otypes=[np.float64])
    return lambda x: np.asarray(vectorized(x), x.dtype)


_ERFC = _libm(math.erfc)
_ELEMENTARY: dict[str, Meaning] = {
    "exp": np.exp, "exp_flushed": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log,
    "log1p": np.log1p, "log2": np.log2, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x),
    "sigmoid": _sigmoid, "tanh": np.tanh, "erf": erf, "erfc": _ERFC,
    # Factors of gelu and silu, whose bounds are absolute: what is added to 1 needs no more.
    "normal_cdf": _normal_cdf, "logistic_cdf": _sigmoid,
    "sin": np.sin, "cos": np.cos,
    "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh,
    "cosh": np.cosh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.rint,
}  # fmt: skip


def _rows() -> Iterator[Intrinsic]:
    for name, meaning in _ELEMENTARY.items():
        yield Intrinsic(name, 1, FLOATS, meaning)
    yield Intrinsic("abs", 1, SIGNED, np.abs)
    yield Intrinsic("pow", 2, FLOATS, np.power)
    yield Intrinsic("atan2", 2, FLOATS, np.arctan2)
    yield Intrinsic("fmod", 2, FLOATS, np.fmod)
    # a * b + c, in one rounding or two: whichever the machine is quicker at.
    yield Intrinsic("fma", 3, NUMBERS, lambda a, b, c: a * b + c)
    yield Intrinsic("isnan", 1, FLOATS, np.isnan, DType.BOOL)
    yield Intrinsic("isinf", 1, FLOATS, np.isinf, DType.BOOL)
    yield Intrinsic("reduce_add", 1, NUMBERS, _fold(np.add), across_lanes=True)
    yield Intrinsic("reduce_mul", 1, NUMBERS, _fold(np.multiply), across_lanes=True)
    yield Intrinsic("reduce_max", 1, frozenset(DType), _fold(np.maximum), across_lanes=True)
    yield Intrinsic("reduce_min", 1, frozenset(DType), _fold(np.minimum), across_lanes=True)
    yield Intrinsic("reduce_and", 1, LOGICAL, _fold(np.bitwise_and), across_lanes=True)
    yield Intrinsic("reduce_or", 1, LOGICAL, _fold(np.bitwise_or), across_lanes=True)
    for arity, names in ZIPS.items():
        for part, name in enumerate(names):
            yield Intrinsic(name, arity, NUMBERS, _zip(part), moves_lanes=True)


INTRINSICS: Mapping[str, Intrinsic] = {row.name: row for row in _rows()}


def intrinsic(name: str) -> Intrinsic:
    """The row of a name. Raises: IRError naming the nearest one."""
    row = INTRINSICS.get(name)
    if row is None:
        near = difflib.get_close_matches(name, INTRINSICS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "graphopt.kernel.intrinsics lists them"
        raise IRError(f"there is no intrinsic {name!r}", hint=hint)
    return row
