"""Elementary functions as C templates for any lane count, 1 included (then plain C99).

f32 polynomials and reductions are Cephes' (Moshier), erf is N. Juffa's, the large-argument
reduction of sin and cos Payne and Hanek's; the largest error over all 2^32 arguments, measured on
vectors with fused multiply-add, stands in each comment. Functions without a row here go through
the C library lane by lane, as does all of f64. exp and log are summed by halves (Estrin): as fast
as one term after the other where loops overlap, up to 1.15 times as fast where they wait.
"""

from __future__ import annotations

from graphopt.ir.types import DType

_EXP_POLYNOMIAL = """\
    $F p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * s + (r * 8.3334519073e-3f + 4.1665795894e-2f);
    p = p * s + (r * 1.6666665459e-1f + 5.0000001201e-1f);
    p = p * s + r + 1.0f;
"""
_EXP_CORE = (
    """
    /* e^x = 2^n * p: r = x - n ln 2 in two parts, then a polynomial on |r| <= ln 2 / 2 */
    const $F shifted = x * 1.44269504088896341f + 12582912.0f, k = shifted - 12582912.0f;
    const $I n = $bits(shifted) - 0x4b400000;
    const $F r = (x - k * 0.693359375f) - k * -2.12194440e-4f, s = r * r;
"""
    + _EXP_POLYNOMIAL
)

_EXP = (
    """
/* exp, full range with subnormal results; 1.03 ulp */
INLINE $F $exp($F x) {
    x = $at_most(x, $splat(89.0f));
    x = $at_least(x, $splat(-104.0f));"""
    + _EXP_CORE
    + """    return $scaled(p, k, n);
}"""
)

_SCALED = """
/* p * 2^n, where 2^n alone may not be representable; k = n */
INLINE $F $scaled($F p, $F k, $I n) {$BY_INSTRUCTION
    (void)k;
    const $I half = n >> 1;
    return p * $from_bits((half + 127) << 23) * $from_bits((n - half + 127) << 23);
}"""
_SCALEF = """
#if defined(__AVX512F__)
    return __builtin_ia32_scalefps512_mask(p, k, p, 0xffff, 4);
#endif"""

_EXP_SMALL = (
    """
/* exp where |x| <= 87.3 needs no second scale; 1.03 ulp */
INLINE $F $exp_small($F x) {"""
    + _EXP_CORE
    + """    return p * $from_bits((n + 127) << 23);
}"""
)

_EXP_FLUSHED = """
/* exp for x <= 88, where subnormal results may be 0; 1.03 ulp. n is -127 at the least, whose scale
   is 0 */
INLINE $F $exp_flushed($F x) { return $exp_small($at_least(x, $splat(-88.0f))); }"""

_EXP_FLUSHED_BY_INSTRUCTION = (
    """
/* exp for x <= 88, where subnormal results are 0: lanes that would be so cost some cores an assist,
   and masked scores all would; 1.03 ulp */
INLINE $F $exp_flushed($F x) {
#if defined(__AVX512F__)"""
    + _EXP_CORE
    + """    const unsigned short normal =
        __builtin_ia32_cmpps512_mask(x, $splat(-87.33654f), 21 /* not less */, 0xffff, 4);
    return __builtin_ia32_scalefps512_mask(p, k, $splat(0.0f), normal, 4);
#else
    return $exp(x);
#endif
}"""
)

_LOG_CORE = """
    const $F tiny = x * 8388608.0f;
    const $I subnormal = $i_sel(x < 1.17549435e-38f, $i_splat(23), $i_splat(0));
    const $I bits = $bits($sel(x < 1.17549435e-38f, tiny, x));
    $I k = (bits - 0x3f3504f3) >> 23;
    const $F f = $from_bits(bits - k * 8388608) - 1.0f, z = f * f;
    k = k - subnormal;
    const $F e = $to_float(k);
    $F p = z * 7.0376836292e-2f + (f * -1.1514610310e-1f + 1.1676998740e-1f);
    p = p * z + (f * -1.2420140846e-1f + 1.4249322787e-1f);
    p = p * z + (f * -1.6668057665e-1f + 2.0000714765e-1f);
    p = p * z + (f * -2.4999993993e-1f + 3.3333331174e-1f);
    $F y = f * z * p;
"""
_LOG_EDGES = """    y = $sel(x < 1.0f / 0.0f, y, x + 1.0f / 0.0f); /* inf and NaN stay */
    y = $sel(x == 0.0f, $splat(-1.0f / 0.0f), y);
    return $sel(x < 0.0f, $splat(0.0f / 0.0f), y);
}"""

_LOG = (
    "\n/* log, full range; 0.84 ulp */\nINLINE $F $log($F x) {"
    + _LOG_CORE
    + """    y = y + e * -2.12194440e-4f - 0.5f * z;
    y = f + y + e * 0.693359375f;
"""
    + _LOG_EDGES
)

_LOG2 = (
    "\n/* log2, full range; 2 ulp */\nINLINE $F $log2($F x) {"
    + _LOG_CORE
    + """    y = y - 0.5f * z;
    /* (f + y) log2 e, with log2 e = 1 + 0.4427 so that the large part is exact */
    y = y * 0.44269504088896340736f + f * 0.44269504088896340736f + y + f + e;
"""
    + _LOG_EDGES
)

_LOG1P = """
/* log1p: log(1 + x) corrected for the rounding of 1 + x (Kahan); 3 ulp */
INLINE $F $log1p($F x) {
    const $F u = 1.0f + x, d = u - 1.0f;
    const $F y = $log(u) * (x / $sel(d == 0.0f, $splat(1.0f), d));
    return $sel(d == 0.0f, x, $sel(u < 1.0f / 0.0f, y, u));
}"""

_EXPM1 = """
/* expm1: a polynomial near 0, exp(x) - 1 elsewhere; 3 ulp */
INLINE $F $expm1($F x) {
    const $F y = $exp(x) - 1.0f;
    $F p = x * 2.48015873e-5f + 1.98412698e-4f;
    p = p * x + 1.38888889e-3f;
    p = p * x + 8.33333333e-3f;
    p = p * x + 4.16666667e-2f;
    p = p * x + 1.66666667e-1f;
    p = p * x + 0.5f;
    p = p * (x * x) + x;
    return $sel($abs(x) < 0.5f, p, y);
}"""

_EXP2 = (
    """
/* exp2, full range with subnormal results; 1.03 ulp */
INLINE $F $exp2($F x) {
    x = $at_most(x, $splat(128.0f));
    x = $at_least(x, $splat(-151.0f));
    const $F shifted = x + 12582912.0f, k = shifted - 12582912.0f;
    const $I n = $bits(shifted) - 0x4b400000;
    const $F r = (x - k) * 0.693147180559945309f, s = r * r;
"""
    + _EXP_POLYNOMIAL
    + """    return $scaled(p, k, n);
}"""
)

_TANH = """
/* tanh: odd polynomial below 0.625, else 1 - 2 / (e^2x + 1); 1.34 ulp */
INLINE $F $tanh($F x) {
    const $F a = $abs(x), z = x * x;
    $F p = z * -5.70498872745e-3f + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    p = p * z * x + x;
    const $F c = $at_most(a, $splat(10.0f));
    const $F big = 1.0f - 2.0f / ($exp_small(c + c) + 1.0f);
    const $F y = $sel(a < 0.625f, p, big);
    return $from_bits($bits(y) | ($bits(x) & (-2147483647 - 1)));
}"""

_SIGMOID = """
/* sigmoid; 2.6 ulp. Results that would be subnormal (x < -87.3) are 0: e^-x then needs one scale.
   e^-c = 2^n * p with r = c + n ln 2: the signs of -r stand in the coefficients, fitted in the
   maximum norm */
INLINE $F $sigmoid($F x) {
    const $F c = $at_most($at_least(x, $splat(-87.33654f)), $splat(87.33654f));
    const $F shifted = c * -1.44269504088896341f + 12582912.0f, k = shifted - 12582912.0f;
    const $I n = $bits(shifted) - 0x4b400000;
    const $F r = (c + k * 0.693359375f) + k * -2.12194440e-4f;
    $F p = r * 1.38145406e-3f - 8.36874545e-3f;
    p = p * r + 4.16683890e-2f;
    p = p * r - 1.66665211e-1f;
    p = p * r + 4.99999940e-1f;
    p = p * r - 1.0f;
    p = p * r + 1.0f;
    const $F s = 1.0f / (1.0f + p * $from_bits((n + 127) << 23));
    return $sel(x < -87.33654f, $splat(0.0f), s);
}"""

_ERF = """
/* erf; 1.03 ulp */
INLINE $F $erf($F x) {
    const $F t = $abs(x), s = x * x;
    const $F c = $at_most(t, $splat(4.0f)), d = c * c;
    $F r = c * -1.72853470e-5f + 3.83197126e-4f;
    const $F u = c * -3.88396438e-3f + 2.42546219e-2f;
    r = r * d + u;
    r = r * c - 1.06777877e-1f;
    r = r * c - 6.34846687e-1f;
    r = r * c - 1.28717512e-1f;
    r = r * c - c;
    const $F big = 1.0f - $exp_small(r);
    $F p = s * -5.96761703e-4f + 4.99119423e-3f;
    p = p * s - 2.67681349e-2f;
    p = p * s + 1.12819925e-1f;
    p = p * s - 3.76125336e-1f;
    p = p * s + 1.28379166e-1f;
    p = p * x + x;
    const $F signed_big = $from_bits($bits(big) | ($bits(x) & (-2147483647 - 1)));
    return $sel(x != x, x, $sel(t <= 0.927734375f, p, signed_big));
}"""

_NORMAL_CDF = """
/* (1 + erf(x / sqrt 2)) / 2, an odd rational function fitted in the maximum norm: off by 1.7e-7 at
   most. At the bounds it is exactly 0 and 1, with fused multiply-add and without, so that x times
   it vanishes below */
INLINE $F $normal_cdf($F x) {
    const $F c = $at_least($at_most(x, $splat(5.375f)), $splat(-5.375f)), s = c * c;
    $F p = s * 2.338645778857678e-8f + 6.359983035861149e-6f;
    $F q = s * 1.216580048090617e-6f + 7.240006010655705e-5f;
    p = p * s + 1.643220056285776e-4f;
    q = q * s + 1.858984109524474e-3f;
    p = p * s + 4.6508537816723405e-3f;
    q = q * s + 2.8378722167383377e-2f;
    p = p * s + 3.337229759802578e-2f;
    q = q * s + 2.5031803426622456e-1f;
    p = p * s + 3.989422454128008e-1f;
    q = q * s + 1.0f;
    return c * p / q + 0.5f;
}"""

_LOGISTIC_CDF = """
/* sigmoid as a factor, (1 + tanh(x / 2)) / 2 as an odd rational function fitted in the maximum
   norm: off by 2.5e-7 at most. At the bounds it is exactly 0 and 1, with fused multiply-add and
   without, so that x times it vanishes below */
INLINE $F $logistic_cdf($F x) {
    const $F c = $at_least($at_most(x, $splat(16.3132f)), $splat(-16.3132f)), s = c * c;
    $F p = s * 4.29683986e-8f + 4.54621477e-5f;
    $F q = s * 9.08517261e-10f + 3.63950471e-6f;
    p = p * s + 8.05384386e-3f;
    q = q * s + 1.47771498e-3f;
    p = p * s + 2.49999791e-1f;
    q = q * s + 1.15547933e-1f;
    q = q * s + 1.0f;
    return c * p / q + 0.5f;
}"""

_RSQRT = """
/* 1 / sqrt; 1.5 ulp */
INLINE $F $rsqrt($F x) { return 1.0f / $sqrt(x); }"""

_TRIG_LARGE = """
/* One argument of 32768 and above, by 160 bits of 2/pi; *quadrant counts quarter turns. */
static float $trig_large(float x, int32_t *quadrant) {
    static const uint32_t two_over_pi[] = {0x28be60db, 0x9391054a, 0x7f09d5f4,
                                           0x7d4d3770, 0x36d8a566, 0x4f10e410, 0x7f9458ea};
    const uint32_t bits = (uint32_t)$bits(x), m = ((bits & 0x7fffff) << 8) | 0x80000000u;
    const uint32_t exponent = ((bits >> 23) & 0xff) - 126, word = exponent >> 5, e = exponent & 31;
    uint32_t high = word ? two_over_pi[word - 1] : 0, middle = two_over_pi[word];
    uint32_t low = two_over_pi[word + 1];
    const uint32_t next = two_over_pi[word + 2];
    if (e) {
        high = (high << e) | (middle >> (32 - e));
        middle = (middle << e) | (low >> (32 - e));
        low = (low << e) | (next >> (32 - e));
    }
    uint64_t p = (uint64_t)m * low;
    p = (uint64_t)m * middle + (p >> 32);
    p = ((uint64_t)(m * high) << 32) + p;
    int32_t q = (int32_t)(p >> 62);
    p &= UINT64_C(0x3fffffffffffffff);
    if (p & UINT64_C(0x2000000000000000)) {
        p -= UINT64_C(0x4000000000000000);
        q++;
    }
    const float r = (float)((double)(int64_t)p * 3.4061215800304889e-19); /* pi / 2 / 2^62 */
    *quadrant = bits >> 31 ? -q : q;
    return bits >> 31 ? -r : r;
}"""

_SINCOS = """
/* sin(x + turns pi / 2); 1.5 ulp */
INLINE $F $sincos($F x, int32_t turns) {
    const $F shifted = x * 0.636619772f + 12582912.0f, k = shifted - 12582912.0f;
    $I q = $bits(shifted) - 0x4b400000;
    /* pi / 2 in parts of few bits: products are exact without fused multiply-add, too */
    $F r = x - k * 1.5703125f;
    r = r - k * 0.00048351287841796875f;
    r = r - k * 3.1385570764541626e-07f;
    r = r - k * 6.070877134334296e-11f;
    r = r - k * 6.223371969669989e-14f;
    $LARGE
    q = q + turns;
    const $F s = r * r;
    $F a = s * 2.86567956e-6f - 1.98559923e-4f;
    a = a * s + 8.33338592e-3f;
    a = a * s - 1.66666672e-1f;
    a = a * (r * s) + r;
    $F b = s * 2.44677067e-5f - 1.38877297e-3f;
    b = b * s + 4.16666567e-2f;
    b = b * s - 0.5f;
    b = b * s + 1.0f;
    const $F y = $sel((q & 1) != 0, b, a);
    return $from_bits($bits(y) ^ ((q & 2) << 30));
}"""
_LARGE_SCALAR = """if (!(x < 32768.0f && x > -32768.0f)) {
        if (x - x == 0.0f) r = $trig_large(x, &q);
        else r = x - x;
    }"""
_LARGE_VECTOR = """const $I big = ~($abs(x) < 32768.0f);
    int any = 0;
    for (int lane = 0; lane < $L; lane++) any |= big[lane];
    if (__builtin_expect(any, 0)) {
        for (int lane = 0; lane < $L; lane++) {
            const float one = x[lane];
            int32_t turns_of_one = q[lane];
            if (!big[lane]) continue;
            r[lane] = one - one == 0.0f ? $trig_large(one, &turns_of_one) : one - one;
            q[lane] = turns_of_one;
        }
    }"""
_SIN = "\nINLINE $F $sin($F x) { return $sel(x == 0.0f, x, $sincos(x, 0)); }"
_COS = "\nINLINE $F $cos($F x) { return $sincos(x, 1); }"
_TAN = "\n/* tan; 4 ulp */\nINLINE $F $tan($F x) { return $sin(x) / $cos(x); }"

F32_ROWS: dict[str, str] = {
    "exp": _EXP,
    "exp_small": _EXP_SMALL,
    "exp_flushed": _EXP_FLUSHED,
    "scaled": _SCALED,
    "exp2": _EXP2,
    "expm1": _EXPM1,
    "log": _LOG,
    "log2": _LOG2,
    "log1p": _LOG1P,
    "tanh": _TANH,
    "sigmoid": _SIGMOID,
    "erf": _ERF,
    "normal_cdf": _NORMAL_CDF,
    "logistic_cdf": _LOGISTIC_CDF,
    "rsqrt": _RSQRT,
    "sincos": _SINCOS,
    "sin": _SIN,
    "cos": _COS,
    "tan": _TAN,
}

LIBM: dict[str, int] = {
    "exp": 1, "exp2": 1, "expm1": 1, "log": 1, "log1p": 1, "log2": 1, "sin": 1, "cos": 1, "tan": 1,
    "atan": 1, "tanh": 1, "erf": 1, "pow": 2, "atan2": 2, "fmod": 2, "asin": 1, "acos": 1,
    "sinh": 1, "cosh": 1, "asinh": 1, "acosh": 1, "atanh": 1, "erfc": 1,
}  # fmt: skip
"""The C library's functions by arity."""

ROWS = frozenset({*F32_ROWS, *LIBM, "trig_large"})


def template(name: str, dtype: DType, lanes: int) -> str:
    """The template of a function for a float type."""
    if name == "trig_large":
        return _TRIG_LARGE
    if name == "exp_flushed" and dtype is DType.F64:
        return "\nINLINE $F $exp_flushed($F x) { return $exp(x); }"
    if name == "exp_flushed" and lanes == 16:
        return _EXP_FLUSHED_BY_INSTRUCTION
    if dtype is not DType.F64 and name in F32_ROWS:
        large = _LARGE_SCALAR if lanes == 1 else _LARGE_VECTOR
        scalef = _SCALEF if lanes == 16 else ""
        return F32_ROWS[name].replace("$LARGE", large).replace("$BY_INSTRUCTION", scalef)
    if name == "rsqrt":
        return "\nINLINE $F $rsqrt($F x) { return 1.0 / $sqrt(x); }"
    if name == "normal_cdf":
        return "\nINLINE $F $normal_cdf($F x) { return 0.5 * $erfc(x * -0.70710678118654752440); }"
    if name in ("sigmoid", "logistic_cdf"):
        return f"\nINLINE $F ${name}($F x) {{ return 1.0 / (1.0 + $exp(-x)); }}"
    return _by_lane(name, LIBM[name], lanes)


def _by_lane(name: str, arity: int, lanes: int) -> str:
    names = ("x", "y")[:arity]
    parameters = ", ".join(f"$F {n}" for n in names)
    library = f"$libm{arity}_{name}"
    if lanes == 1:
        return f"\nINLINE $F ${name}({parameters}) {{ return {library}({', '.join(names)}); }}"
    arguments = ", ".join(f"{n}[lane]" for n in names)
    return f"""
INLINE $F ${name}({parameters}) {{
    $F r;
    for (int lane = 0; lane < $L; lane++) r[lane] = {library}({arguments});
    return r;
}}"""
