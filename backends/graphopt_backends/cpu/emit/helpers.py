"""Inline helpers as C templates: lane manipulation, selection, conversion.

Elementary functions are in `vmath`. Templates serve all lane counts; for 1 nothing but C99 may come
out. The text after `INLINE` is a function; `$` names are explained in `prelude`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from graphopt.errors import InternalError
from graphopt.ir.types import DType
from graphopt_backends.cpu.emit import vmath
from graphopt_backends.cpu.emit.ctypes import register_lanes

if TYPE_CHECKING:
    from graphopt_backends.cpu.emit.prelude import Prelude

Maker = Callable[[DType, int, "Prelude"], str]
"""(dtype, lanes, prelude) → template. It may ask the prelude for types the template names."""


def template_of(name: str, dtype: DType, lanes: int, prelude: Prelude) -> str:
    """The template of a helper. Raises: InternalError when there is none."""
    if name in vmath.ROWS:
        return vmath.template(name, dtype, lanes)
    maker = _MAKERS.get(name)
    if maker is None:
        raise InternalError(f"the C emitter has no text for intrinsic {name!r} of {dtype}")
    return maker(dtype, lanes, prelude)


# Lanes -----------------------------------------------------------------------------------------


def _splat(dtype: DType, lanes: int, _: Prelude) -> str:
    return f"INLINE $F $splat($E x) {{ return ($F){{{', '.join(['x'] * lanes)}}}; }}"


def _ramp(dtype: DType, lanes: int, _: Prelude) -> str:
    steps = ", ".join(["base", "base + step", *(f"base + {i} * step" for i in range(2, lanes))])
    return f"INLINE $F $ramp($E base, $E step) {{\n    return ($F){{{steps}}};\n}}"


def _reverse(dtype: DType, lanes: int, _: Prelude) -> str:
    order = shuffled(reversed(range(lanes)), lanes)
    return f"INLINE $F $reverse($F x) {{ return __builtin_shufflevector(x, x, {order}); }}"


def shuffled(order: Iterable[int], lanes: int) -> str:
    """The lanes that a shuffle picks for a vector of so many, any for those left over."""
    spare = [-1] * (register_lanes(lanes) - lanes)
    return ", ".join(map(str, (*order, *spare)))


def _load_part(dtype: DType, lanes: int, _: Prelude) -> str:
    return """
INLINE $F $load_part(const $E *p) {
    $F x = {0};
    __builtin_memcpy(&x, p, $L * sizeof *p);
    return x;
}"""


def _store_part(dtype: DType, lanes: int, _: Prelude) -> str:
    return "INLINE void $store_part($E *p, $F x) { __builtin_memcpy(p, &x, $L * sizeof *p); }"


def _gather(dtype: DType, lanes: int, p: Prelude) -> str:
    index = p.type(DType.I64, lanes)
    picks = ", ".join(f"p[i[{n}]]" for n in range(lanes))
    return f"INLINE $F $gather(const $E *p, {index} i) {{\n    return ($F){{{picks}}};\n}}"


def _gather_step(dtype: DType, lanes: int, _: Prelude) -> str:
    picks = ", ".join(["p[0]", "p[step]", *(f"p[{n} * step]" for n in range(2, lanes))])
    return f"INLINE $F $gather_step(const $E *p, int64_t step) {{\n    return ($F){{{picks}}};\n}}"


def _scatter(dtype: DType, lanes: int, p: Prelude) -> str:
    index = p.type(DType.I64, lanes)
    return f"""
INLINE void $scatter($E *p, {index} i, $F x) {{
    for (int lane = 0; lane < $L; lane++) p[i[lane]] = x[lane];
}}"""


def _stream(dtype: DType, lanes: int, p: Prelude) -> str:
    loose = p.unaligned(dtype, lanes)
    return f"""
/* Past the cache where the address allows, else an ordinary store. */
INLINE void $stream($E *p, $F x) {{
#if defined(__clang__)
    if (((uintptr_t)p & (sizeof x - 1)) == 0) {{
        __builtin_nontemporal_store(x, ($F *)p);
        return;
    }}
#endif
    *({loose} *)p = x;
}}"""


def _vacate(dtype: DType, lanes: int, _: Prelude) -> str:
    """Clobbers all vector registers: constants that the compiler hoists out of the loops around
    would stay in some, and the accumulators of the innermost loop on the stack."""

    def all_of(prefix: str, count: int) -> str:
        return ", ".join(f'"{prefix}{i}"' for i in range(count))

    return f"""
/* What lives here, lives in memory: the loop that follows needs every register. */
INLINE void $vacate(void) {{
#if defined(__AVX512F__)
    __asm__ volatile("" ::: {all_of("xmm", 32)});
#elif defined(__x86_64__)
    __asm__ volatile("" ::: {all_of("xmm", 16)});
#elif defined(__aarch64__)
    __asm__ volatile("" ::: {all_of("v", 32)});
#endif
}}"""


def _reduction(combine: str) -> Maker:
    """Halve until one lane is left, and add those beyond a power of two one by one. `combine` is an
    operator of C, or a helper's name."""

    def maker(dtype: DType, lanes: int, p: Prelude) -> str:
        def both(a: str, b: str, width: int) -> str:
            if combine in ("max", "min"):
                return f"{p.helper(combine, dtype, width)}({a}, {b})"
            return f"{a} {combine} {b}"

        width = whole = 1 << (lanes.bit_length() - 1)
        lines, var = [], "x"
        while width > 1:
            half = width // 2
            low = ", ".join(str(i) for i in range(half))
            high = ", ".join(str(i) for i in range(half, width))
            if half == 1:
                lines.append(f"const $E a1 = {var}[0], b1 = {var}[1];")
            else:
                lines += [
                    f"const {p.type(dtype, half)} "
                    f"a{half} = __builtin_shufflevector({var}, {var}, {low}),",
                    f"    b{half} = __builtin_shufflevector({var}, {var}, {high});",
                ]
            ctype = "$E" if half == 1 else p.type(dtype, half)
            lines.append(f"const {ctype} r{half} = {both(f'a{half}', f'b{half}', half)};")
            var, width = f"r{half}", half
        for i in range(whole, lanes):
            lines.append(f"const $E with{i} = {both(var, f'x[{i}]', 1)};")
            var = f"with{i}"
        body = "\n    ".join(lines)
        name = _REDUCTION_NAMES[combine]
        return f"INLINE $E ${name}($F x) {{\n    {body}\n    return {var};\n}}"

    return maker


_REDUCTION_NAMES = {
    "+": "reduce_add", "*": "reduce_mul", "max": "reduce_max", "min": "reduce_min",
    "&": "reduce_and", "|": "reduce_or",
}  # fmt: skip


def _zip(start: str) -> Maker:
    """Half of two vectors, lanes taking turns; `start` is "low" or "high"."""

    def maker(dtype: DType, lanes: int, _: Prelude) -> str:
        first = 0 if start == "low" else lanes // 2
        turns = ", ".join(f"{first + i}, {lanes + first + i}" for i in range(lanes // 2))
        body = f"return __builtin_shufflevector(a, b, {turns});"
        return f"INLINE $F $zip_{start}($F a, $F b) {{ {body} }}"

    return maker


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


# Halves ----------------------------------------------------------------------------------------


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


_MAKERS: dict[str, Maker] = {
    "splat": _splat,
    "ramp": _ramp,
    "reverse": _reverse,
    "gather": _gather,
    "gather_step": _gather_step,
    "load_part": _load_part,
    "store_part": _store_part,
    "scatter": _scatter,
    "stream": _stream,
    **{name: _reduction(op) for op, name in _REDUCTION_NAMES.items()},
    **{f"zip_{start}": _zip(start) for start in ("low", "high")},
    "vacate": _vacate,
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
    "load_bf16": _load_bf16,
    "store_bf16": _store_bf16,
    "load_f16": _load_f16,
    "store_f16": _store_f16,
    "to_single": _to_single,
    "round_bf16": _round_half("bf16"),
    "round_f16": _round_half("f16"),
}
PARTIAL = frozenset({
    "reverse", "gather", "gather_step", "scatter", "load_part", "store_part",
    *_REDUCTION_NAMES.values(),
})  # fmt: skip
"""Made for the lanes that a vector has, not for those of its register."""
