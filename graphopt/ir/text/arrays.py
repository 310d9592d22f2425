"""Constants written in the text: `value=[..]`, flat, in row-major order."""

from __future__ import annotations

import numpy as np

from graphopt.ir.types import DType, TensorType
from graphopt.syntax.lexer import Token, Tokens
from graphopt.syntax.literals import MismatchError, Raw, coerce


def parse_array(tokens: Tokens, key: Token, raw: Raw, type_: TensorType) -> np.ndarray:
    """Raises: ParseError when the elements do not fit the type."""
    if not type_.is_static:
        tokens.fail(f"a constant cannot have the symbolic shape of {type_}", key)
    elements = raw if isinstance(raw, list) else [raw]
    if len(elements) != type_.numel:
        tokens.fail(f"value has {len(elements)} element(s), {type_} has {type_.numel}", key)
    try:
        flat = [coerce(e, _python_type(type_.dtype)) for e in elements]
    except MismatchError as expected:
        tokens.fail(f"each element of value must be {expected} for {type_}", key)
    if type_.dtype.is_integer:
        info = np.iinfo(type_.dtype.numpy)
        for element in flat:
            if not info.min <= element <= info.max:
                tokens.fail(f"{element} does not fit {type_.dtype}", key)
    with np.errstate(over="ignore"):  # 1e39 is inf in f32, as it would be in C
        return np.array(flat, _wide(type_.dtype)).astype(type_.dtype.numpy).reshape(type_.dims)


def _python_type(dtype: DType) -> type:
    if dtype is DType.BOOL:
        return bool
    return float if dtype.is_float else int


def _wide(dtype: DType) -> type[np.generic]:
    """What elements go through: bfloat16 has no constructor from Python numbers."""
    return np.float64 if dtype.is_float else dtype.numpy.type
