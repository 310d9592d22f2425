"""Inline helpers as C templates: selection, rounding, integer division; a table of all helpers.

Those that move lanes are in `lanes`, 16-bit floats in `halves`, elementary functions in `vmath`.
Templates serve all lane counts; for 1 nothing but C99 may come out. The text after `INLINE` is a
function; `$` names are explained in `prelude`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from graphopt.errors import InternalError
from graphopt.ir.types import DType
from graphopt_backends.cpu.emit import halves, lanes, vmath

if TYPE_CHECKING:
    from graphopt_backends.cpu.emit.prelude import Maker, Prelude


def template_of(name: str, dtype: DType, lanes: int, prelude: Prelude) -> str:
    """The template of a helper. Raises: InternalError when there is none."""
    if name in vmath.ROWS:
        return vmath.template(name, dtype, lanes)
    maker = _MAKERS.get(name)
    if maker is None:
        raise InternalError(f"the C emitter has no text for intrinsic {name!r} of {dtype}")
    return maker(dtype, lanes, prelude)


# Selection, bits, rounding ---------------------------------------------------------------------


def _sel(dtype: DType, lanes: int, _: Prelude) -> str:
    if lanes == 1:
        return "INLINE $F $sel(int m, $F a, $F b) { return m ? a : b; }"
    return "INLINE $F $sel($I m, $F a, $F b) { return ($F)((m & ($I)a) | (~m & ($I)b)); }"


def _bits(dtype: DType, lanes: int, _: Prelude) -> str:
    if lanes > 1:
        return "INLINE $I $bits($F x) { return ($I)x; }"
    return """
INLINE $I $bits($F x) {
    union { $F f; $I i; } u;
    u.f = x;
    return u.i;
}"""


def _from_bits(dtype: DType, lanes: int, _: Prelude) -> str:
    if lanes > 1:
        return "INLINE $F $from_bits($I x) { return ($F)x; }"
    return """
INLINE $F $from_bits($I x) {
    union { $F f; $I i; } u;
    u.i = x;
    return u.f;
}"""


def _to_float(dtype: DType, lanes: int, _: Prelude) -> str:
    if lanes > 1:
        return "INLINE $F $to_float($I x) { return __builtin_convertvector(x, $F); }"
    return "INLINE $F $to_float($I x) { return ($F)x; }"


def _extreme(op: str, name: str) -> Maker:
    """NaN in either operand gives NaN, as numpy and torch have it."""

    def maker(dtype: DType, lanes: int, p: Prelude) -> str:
        if not dtype.is_float:
            return f"INLINE $F ${name}($F a, $F b) {{ return $sel(a {op} b, a, b); }}"
        if lanes == 1:
            return f"INLINE $F ${name}($F a, $F b) {{ return a {op} b || a != a ? a : b; }}"
        builtin = "__builtin_elementwise_" + {"max": "maximum", "min": "minimum"}[name]
        return f"""
INLINE $F ${name}($F a, $F b) {{
#if defined(__clang__) && defined(__aarch64__)
    return {builtin}(a, b); /* one instruction there, several on x86 */
#else
    return $sel(b != b, b, $sel(b {op} a, b, a)); /* the inner one is an instruction on x86 */
#endif
}}"""

    return maker


def _bounded(op: str, name: str) -> Maker:
    """One operand is a constant, so NaN can come from x alone: one instruction on x86."""

    def maker(dtype: DType, lanes: int, p: Prelude) -> str:
        return f"INLINE $F ${name}($F x, $F c) {{ return $sel(x {op} c, c, x); }}"

    return maker


def _abs(dtype: DType, lanes: int, _: Prelude) -> str:
    if not dtype.is_float:
        return "INLINE $F $abs($F x) { return $sel(x < 0, -x, x); }"
    mask = "0x7fffffff" if dtype is not DType.F64 else "INT64_C(0x7fffffffffffffff)"
    return f"INLINE $F $abs($F x) {{ return $from_bits($bits(x) & {mask}); }}"


def _elementwise(name: str, libm: str) -> Maker:
    """A function that processors have as an instruction."""

    def maker(dtype: DType, lanes: int, p: Prelude) -> str:
        function = p.libm(libm, dtype)
        if lanes == 1:
            return f"INLINE $F ${name}($F x) {{ return {function}(x); }}"
        return f"""
INLINE $F ${name}($F x) {{
#if defined(__clang__)
    return __builtin_elementwise_{libm}(x);
#else
    $F y;
    for (int lane = 0; lane < $L; lane++) y[lane] = {function}(x[lane]);
    return y;
#endif
}}"""

    return maker


def _predicate(name: str, test: str) -> Maker:
    """A lane mask (int in C99) from a float."""

    def maker(dtype: DType, lanes: int, p: Prelude) -> str:
        result = "int" if lanes == 1 else "$I"
        return f"INLINE {result} ${name}($F x) {{ return {test}; }}"

    return maker


# Integer division ------------------------------------------------------------------------------


def _floor_div(dtype: DType, lanes: int, _: Prelude) -> str:
    """Floor, and defined where C's is not: x // 0 is 0 as in numpy."""
    if lanes > 1:
        one = "const $F safe = $sel((b == 0) | (b == -1), $splat(1), b);" if dtype is not DType.U8 \
            else "const $F safe = $sel(b == 0, $splat(1), b);"  # fmt: skip
        fix = (
            ""
            if dtype is DType.U8
            else (
                "    q -= ($F)(((a - q * safe) != 0) & (((a - q * safe) ^ safe) < 0)) & 1;\n"
                "    q = $sel(b == -1, -a, q);\n"
            )
        )
        return f"""
INLINE $F $floor_div($F a, $F b) {{
    {one}
    $F q = a / safe;
{fix}    return $sel(b == 0, $splat(0), q);
}}"""
    if dtype is DType.U8:
        return "INLINE $F $floor_div($F a, $F b) { return b == 0 ? 0 : ($F)(a / b); }"
    return """
INLINE $F $floor_div($F a, $F b) {
    if (b == 0) return 0;
    if (b == -1) return ($F)(0 - a);
    return ($F)(a / b - (a % b != 0 && (a % b < 0) != (b < 0)));
}"""


def _floor_mod(dtype: DType, lanes: int, _: Prelude) -> str:
    if lanes > 1:
        return """
INLINE $F $floor_mod($F a, $F b) {
    return $sel(b == 0, $splat(0), a - $floor_div(a, b) * b);
}"""
    return """
INLINE $F $floor_mod($F a, $F b) {
    return b == 0 ? 0 : ($F)(a - $floor_div(a, b) * b);
}"""


_MAKERS: Mapping[str, Maker] = {
    **lanes.MAKERS,
    **halves.MAKERS,
    "sel": _sel,
    "bits": _bits,
    "from_bits": _from_bits,
    "to_float": _to_float,
    "max": _extreme(">", "max"),
    "min": _extreme("<", "min"),
    "at_least": _bounded("<", "at_least"),
    "at_most": _bounded(">", "at_most"),
    "abs": _abs,
    "floor": _elementwise("floor", "floor"),
    "ceil": _elementwise("ceil", "ceil"),
    "trunc": _elementwise("trunc", "trunc"),
    "round": _elementwise("round", "rint"),
    "sqrt": _elementwise("sqrt", "sqrt"),
    "isnan": _predicate("isnan", "x != x"),
    "isinf": _predicate("isinf", "$abs(x) == 1.0f / 0.0f"),
    "floor_div": _floor_div,
    "floor_mod": _floor_mod,
}
