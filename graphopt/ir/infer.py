"""Inference as the parser and the verifier call it: every failure is an IRError."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.errors import IRError
from graphopt.ir.types import TensorType
from graphopt.ops.base import Attrs, OpDef

# What an inference written for well-formed operands may raise on others. A plugin's op may be
# careless; the text it is used in must still get an error that says where.
_CARELESS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def infer(op: OpDef, operands: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    """Result types, row-major, of an op that has neither body nor data.

    Raises: IRError for operands or attributes that do not fit.
    """
    try:
        inferred = op.infer(*(t.logical for t in operands), attrs)
    except _CARELESS as error:
        types = ", ".join(map(str, operands)) or "no operands"
        raise IRError(f"{op.name} does not take {types} with {attrs}: {error}") from error
    return (inferred,) if isinstance(inferred, TensorType) else tuple(inferred)
