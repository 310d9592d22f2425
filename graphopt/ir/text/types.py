"""Value types in text: `f32[1,s0:1..512,8]@[0,2:1:1,1] at 4096`."""

from __future__ import annotations

import difflib

from graphopt.ir.types import Dim, DType, Layout, LayoutAxis, SymDim, TensorType
from graphopt.syntax.lexer import Tokens

_DTYPES = {d.value: d for d in DType}


def parse_type(tokens: Tokens) -> TensorType:
    """Raises: ParseError."""
    token = tokens.expect_kind("word", "a type such as f32[1,3]")
    dtype = _DTYPES.get(token.text)
    if dtype is None:
        near = difflib.get_close_matches(token.text, _DTYPES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(_DTYPES)}"
        tokens.fail(f"there is no dtype {token.text!r}", token, hint=hint)
    tokens.expect("[", hint="a type has a shape: f32[1,3], or f32[] for a scalar")
    shape: list[Dim] = []
    while not tokens.accept("]"):
        if shape:
            tokens.expect(",", hint="separate dimensions by commas, close the shape with ]")
        shape.append(_dim(tokens))
    return TensorType(dtype, tuple(shape)).with_layout(_layout(tokens))


def parse_offset(tokens: Tokens) -> int | None:
    """` at BYTES`, or None where there is none. Raises: ParseError."""
    return _extent(tokens, "a byte offset") if tokens.accept("at") else None


def _dim(tokens: Tokens) -> Dim:
    if tokens.peek.kind == "number":
        return _extent(tokens, "a dimension")
    token = tokens.expect_kind("word", "a dimension", hint="write 8, or name:low..high")
    tokens.expect(":", hint=f"a symbolic dimension has a range: {token.text}:1..512")
    low = _extent(tokens, "a lower bound")
    tokens.expect("..")
    high = _extent(tokens, "an upper bound")
    if low > high:
        tokens.fail(f"range {low}..{high} of {token.text} is empty", token)
    return SymDim(token.text, low, high)


def _layout(tokens: Tokens) -> Layout | None:
    if not tokens.accept("@"):
        return None
    tokens.expect("[")
    axes: list[LayoutAxis] = []
    while not tokens.accept("]"):
        if axes:
            tokens.expect(",", hint="separate axes by commas, close the layout with ]")
        axes.append(_layout_axis(tokens))
    return Layout(tuple(axes))


def _layout_axis(tokens: Tokens) -> LayoutAxis:
    axis = _extent(tokens, "an axis")
    if tokens.accept(":"):
        before = _extent(tokens, "a halo")
        tokens.expect(":", hint="a halo has two sides: axis:before:after")
        return LayoutAxis(axis, before, _extent(tokens, "a halo"))
    if tokens.peek.kind == "value":  # `%4` is a block here
        return LayoutAxis(axis, block=_block(tokens))
    return LayoutAxis(axis)


def _block(tokens: Tokens) -> int:
    token = tokens.next()
    size = tokens.value_name(token)
    if not size.isdecimal() or len(size) > 9 or int(size) == 0:
        tokens.fail(f"expected a block size, found {token}", token, hint="write axis%4")
    return int(size)


def _extent(tokens: Tokens, noun: str) -> int:
    token = tokens.peek
    value = tokens.integer(noun)
    if value < 0:
        tokens.fail(f"{noun} cannot be negative", token)
    return value
