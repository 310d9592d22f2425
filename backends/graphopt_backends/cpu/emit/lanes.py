"""Inline helpers that make vectors, move their lanes, and take them from memory and to it.

The templates are as in `helpers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from graphopt.ir.types import DType
from graphopt.kernel.intrinsics import ZIPS
from graphopt_backends.cpu.emit.ctypes import register_lanes

if TYPE_CHECKING:
    from graphopt_backends.cpu.emit.prelude import Maker, Prelude

_NEAR = 4
"""Elements so far apart are found in as many vectors. [112, 112, n] to [n, 112, 112] took, by
shuffles and by the element, 1.9 and 4.0 us with 2 apart, 6.2 and 7.8 with 4, 9.9 and 9.6 with 5."""


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


def near_steps(lanes: int) -> range:
    """How far apart elements may lie for whole vectors to be read and shuffled instead of each
    element by itself."""
    return range(2, min(_NEAR, lanes // 2) + 1 if lanes == register_lanes(lanes) else 0)


def _gather_every(step: int) -> Maker:
    """Vectors of all that lies between, the last of which ends at the last element; every one puts
    its lanes behind those of the ones before."""

    def maker(dtype: DType, lanes: int, p: Prelude) -> str:
        loose = p.unaligned(dtype, lanes)
        starts = [*(n * lanes for n in range(step - 1)), step * (lanes - 1) + 1 - lanes]

        def lane(i: int, n: int) -> int:
            """Of the lanes so far and the n-th vector, the one that holds element i; -1 if none."""
            if i * step < n * lanes:
                return i if n > 1 else i * step
            beyond = i * step - starts[n]
            return lanes + beyond if beyond < lanes else -1

        lines = [f"$F x = *(const {loose} *)p;"]
        for n, start in list(enumerate(starts))[1:]:
            picked = shuffled((lane(i, n) for i in range(lanes)), lanes)
            vector = f"*(const {loose} *)(p + {start})"
            lines.append(f"x = __builtin_shufflevector(x, {vector}, {picked});")
        body = "\n    ".join([*lines, "return x;"])
        return f"INLINE $F $gather_every{step}(const $E *p) {{\n    {body}\n}}"

    return maker


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


def _zip(name: str, arity: int, part: int) -> Maker:
    """A part of some vectors whose lanes take turns: of the first two, then each other one's."""

    def maker(dtype: DType, lanes: int, _: Prelude) -> str:
        width = register_lanes(lanes)
        turns = [divmod(part * lanes + i, arity) for i in range(lanes)]
        arguments = "abc"[:arity]
        lines = ["$F x = a;"]
        for n, vector in enumerate(arguments[1:], start=1):
            order = (
                width + lane if of == n else i if n > 1 else lane
                for i, (lane, of) in enumerate(turns)
            )
            picked = shuffled(order, lanes)
            lines.append(f"x = __builtin_shufflevector(x, {vector}, {picked});")
        body = "\n    ".join([*lines, "return x;"])
        return f"INLINE $F ${name}({', '.join(f'$F {v}' for v in arguments)}) {{\n    {body}\n}}"

    return maker


MAKERS: Mapping[str, Maker] = {
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
    **{
        name: _zip(name, arity, part)
        for arity, names in ZIPS.items()
        for part, name in enumerate(names)
    },
    **{f"gather_every{step}": _gather_every(step) for step in range(2, _NEAR + 1)},
    "vacate": _vacate,
}
PARTIAL = frozenset({
    "reverse", "gather", "gather_step", "scatter", "load_part", "store_part",
    *_REDUCTION_NAMES.values(), *(name for names in ZIPS.values() for name in names),
})  # fmt: skip
"""Made for the lanes that a vector has, not for those of its register."""
