"""What an op is: attributes, inference, reference meaning and cost, all in one `OpDef`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphopt.errors import InternalError
from graphopt.ir.types import TensorType


@dataclass(frozen=True)
class Attrs:
    """Base of every op's attributes. Fields are ints, floats, bools, strings, DTypes, or tuples of
    these; the text form is derived from the fields."""

    def error_bound(self, *operands: TensorType) -> float:
        """How far a result may be off by the choice of a faster algorithm, relative to its largest
        magnitude; 0 for ordinary rounding."""
        return 0.0


@dataclass(frozen=True)
class NoAttrs(Attrs):
    """For ops that are their operands alone."""


Infer = Callable[..., TensorType | tuple[TensorType, ...]]
"""`infer(*operand_types, attrs)`: result type(s). Raises: IRError for operands that do not fit."""

Reference = Callable[..., Any]
"""`reference(*operands, attrs)`: numpy in, numpy out (a tuple for several results). Computes in the
precision of its operands: given float64 it is the gate's exact meaning."""

Flops = Callable[..., int]
"""`flops(*operand_types, attrs)`: floating-point operations; a multiply-add counts two."""


def no_flops(*_: object) -> int:
    return 0


@dataclass(frozen=True)
class OpDef:
    """One op. Lowerings live in backends.

    `kind` is how fusion and lowering see it: "pointwise", "reduction", "contraction", "window",
    "movement" (values are only rearranged), "attention", "source" (no operands), "region" (a fused
    node: its body says) or "opaque".
    """

    name: str
    attrs: type[Attrs]
    infer: Infer
    reference: Reference
    flops: Flops = no_flops
    kind: str = "opaque"
    commutative: bool = False

    def defaults(self) -> Attrs:
        """Attributes where none are given. Raises: InternalError when some have to be."""
        try:
            return self.attrs()
        except TypeError as error:
            raise InternalError(f"{self.name} needs {self.attrs.__name__}") from error
