"""Inline helpers for 16-bit floats, which are computed in f32 and rounded after every operation.

The templates are as in `helpers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from graphopt.ir.types import DType

if TYPE_CHECKING:
    from graphopt_backends.cpu.emit.prelude import Maker, Prelude


def _load_bf16(dtype: DType, lanes: int, p: Prelude) -> str:
    """bfloat16 is the upper half of an f32."""
    if lanes == 1:
        return """
INLINE float $load_bf16(int16_t h) { return $from_bits((int32_t)((uint32_t)h << 16)); }"""
    halves = p.type(DType.BF16, lanes)
    return (
        f"INLINE $F $load_bf16({halves} h) {{ return ($F)(__builtin_convertvector(h, $I) << 16); }}"
    )


def _store_bf16(dtype: DType, lanes: int, p: Prelude) -> str:
    """To nearest even; NaN stays NaN."""
    if lanes == 1:
        return """
INLINE int16_t $store_bf16(float x) {
    const uint32_t u = (uint32_t)$bits(x);
    return (int16_t)(x != x ? 0x7fc0 : (u + 0x7fff + ((u >> 16) & 1)) >> 16);
}"""
    halves = p.type(DType.BF16, lanes)
    return f"""
INLINE {halves} $store_bf16($F x) {{
    const $I u = ($I)x, even = (u >> 16) & 1;
    const $I r = $i_sel(x != x, $i_splat(0x7fc0), (u + 0x7fff + even) >> 16);
    return __builtin_convertvector(r, {halves});
}}"""


def _load_f16(dtype: DType, lanes: int, p: Prelude) -> str:
    if lanes == 1:
        return """
INLINE float $load_f16(int16_t h) {
    const int32_t magnitude = (int32_t)(h & 0x7fff) << 13;
    const int32_t sign = (int32_t)((uint32_t)(h & 0x8000) << 16);
    /* 2^112 rebases the exponent and makes subnormals normal; infinities and NaN keep theirs */
    float x = $from_bits(magnitude) * 5192296858534827628530496329220096.0f;
    if ((h & 0x7c00) == 0x7c00) x = $from_bits(magnitude | 0x7f800000);
    return $from_bits($bits(x) | sign);
}"""
    halves = p.type(DType.F16, lanes)
    return f"""
INLINE $F $load_f16({halves} h) {{
#if defined(__clang__) && (defined(__F16C__) || defined(__aarch64__))
    typedef _Float16 half __attribute__((vector_size(2 * $L)));
    return __builtin_convertvector((half)h, $F);
#else
    const $I bits = __builtin_convertvector(h, $I);
    const $I magnitude = (bits & 0x7fff) << 13, sign = (bits & 0x8000) << 16;
    /* 2^112 rebases the exponent and makes subnormals normal; infinities and NaN keep theirs */
    const $F x = ($F)magnitude * 5192296858534827628530496329220096.0f;
    return ($F)($i_sel((bits & 0x7c00) == 0x7c00, magnitude | 0x7f800000, ($I)x) | sign);
#endif
}}"""


def _store_f16(dtype: DType, lanes: int, p: Prelude) -> str:
    """To nearest even; too large is infinity; NaN stays NaN."""
    if lanes == 1:
        return """
INLINE int16_t $store_f16(float x) {
    const int32_t u = $bits(x), sign = (u >> 16) & 0x8000;
    const int32_t m = u & 0x7fffffff;
    int32_t r;
    if (m > 0x7f800000) r = 0x7e00;
    else if (m >= 0x477ff000) r = 0x7c00; /* 65520 and above */
    else if (m < 0x38800000) r = $bits($from_bits(m) + 0.5f) - 0x3f000000; /* subnormal */
    else r = (m - 0x38000000 + 0xfff + ((m >> 13) & 1)) >> 13;
    return (int16_t)(r | sign);
}"""
    halves = p.type(DType.F16, lanes)
    return f"""
INLINE {halves} $store_f16($F x) {{
#if defined(__clang__) && (defined(__F16C__) || defined(__aarch64__))
    typedef _Float16 half __attribute__((vector_size(2 * $L)));
    return ({halves})__builtin_convertvector(x, half);
#else
    const $I u = ($I)x, sign = (u >> 16) & 0x8000, m = u & 0x7fffffff;
    $I r = (m - 0x38000000 + 0xfff + ((m >> 13) & 1)) >> 13;
    r = $i_sel(m < 0x38800000, ($I)(($F)m + 0.5f) - 0x3f000000, r); /* subnormal */
    r = $i_sel(m >= 0x477ff000, $i_splat(0x7c00), r); /* 65520 and above */
    r = $i_sel(m > 0x7f800000, $i_splat(0x7e00), r);
    return __builtin_convertvector(r | sign, {halves});
#endif
}}"""


def _to_single(dtype: DType, lanes: int, p: Prelude) -> str:
    single = p.type(DType.F32, lanes)
    return f"""
/* Through memory: clang merges f64 to f32 to f16 into a call of its own library otherwise. */
INLINE {single} $to_single($F x) {{
    volatile {single} y = __builtin_convertvector(x, {single});
    return y;
}}"""


def _round_half(name: str) -> Maker:
    def maker(dtype: DType, lanes: int, p: Prelude) -> str:
        return f"INLINE $F $round_{name}($F x) {{ return $load_{name}($store_{name}(x)); }}"

    return maker


MAKERS: Mapping[str, Maker] = {
    "load_bf16": _load_bf16,
    "store_bf16": _store_bf16,
    "load_f16": _load_f16,
    "store_f16": _store_f16,
    "to_single": _to_single,
    "round_bf16": _round_half("bf16"),
    "round_f16": _round_half("f16"),
}
