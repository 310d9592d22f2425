"""C that tells whether a processor has the instructions a model was compiled for."""

from __future__ import annotations

from collections import defaultdict

from graphopt.target import Target

_LEAF_1, _LEAF_7, _LEAF_7_1, _EXTENDED = (1, 0), (7, 0), (7, 1), (0x80000001, 0)
_EBX, _ECX, _EDX, _EAX = 1, 2, 3, 0

# Linux name of a feature -> where CPUID has it: (leaf, subleaf), register, bit.
_BITS: dict[str, tuple[tuple[int, int], int, int]] = {
    "ssse3": (_LEAF_1, _ECX, 9), "fma": (_LEAF_1, _ECX, 12), "sse4_1": (_LEAF_1, _ECX, 19),
    "sse4_2": (_LEAF_1, _ECX, 20), "movbe": (_LEAF_1, _ECX, 22), "popcnt": (_LEAF_1, _ECX, 23),
    "avx": (_LEAF_1, _ECX, 28), "f16c": (_LEAF_1, _ECX, 29), "abm": (_EXTENDED, _ECX, 5),
    "bmi1": (_LEAF_7, _EBX, 3), "avx2": (_LEAF_7, _EBX, 5), "bmi2": (_LEAF_7, _EBX, 8),
    "avx512f": (_LEAF_7, _EBX, 16), "avx512dq": (_LEAF_7, _EBX, 17),
    "avx512ifma": (_LEAF_7, _EBX, 21), "avx512cd": (_LEAF_7, _EBX, 28),
    "avx512bw": (_LEAF_7, _EBX, 30), "avx512vl": (_LEAF_7, _EBX, 31),
    "avx512vbmi": (_LEAF_7, _ECX, 1), "avx512_vbmi2": (_LEAF_7, _ECX, 6),
    "avx512_vnni": (_LEAF_7, _ECX, 11), "avx512_bitalg": (_LEAF_7, _ECX, 12),
    "avx512_vpopcntdq": (_LEAF_7, _ECX, 14), "avx512_4vnniw": (_LEAF_7, _EDX, 2),
    "amx_bf16": (_LEAF_7, _EDX, 22), "avx512_fp16": (_LEAF_7, _EDX, 23),
    "amx_tile": (_LEAF_7, _EDX, 24), "amx_int8": (_LEAF_7, _EDX, 25),
    "avx_vnni": (_LEAF_7_1, _EAX, 4), "avx512_bf16": (_LEAF_7_1, _EAX, 5),
}  # fmt: skip

_OSXSAVE = ("osxsave", (_LEAF_1, _ECX, 27))

# What the operating system must save of the registers, as bits of XCR0.
_YMM, _ZMM, _TILES = 0x6, 0xE6, 0x60000

_X86 = """#include <cpuid.h>

/* What the code needs, as bits of CPUID. */
static const struct {
    unsigned leaf, subleaf, result, bits;
} needed[] = {
@ROWS@
};

static int runs_here(void) {
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        unsigned r[4]; /* eax, ebx, ecx, edx */
        if (!__get_cpuid_count(needed[i].leaf, needed[i].subleaf, &r[0], &r[1], &r[2], &r[3]))
            return 0;
        if ((r[needed[i].result] & needed[i].bits) != needed[i].bits) return 0;
    }
    unsigned low, high; /* of XCR0: the registers that the system saves */
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & @SAVED@u) == @SAVED@u;
}"""

_ANYWHERE = "static int runs_here(void) { return 1; }"


def cpu_check(target: Target) -> str:
    """`static int runs_here(void)`. Only x86 says what it has without asking the system's libc."""
    if target.arch != "x86_64" or "avx" not in target.features:
        return _ANYWHERE
    masks: defaultdict[tuple[tuple[int, int], int], int] = defaultdict(int)
    for feature, (leaf, register, bit) in (*_BITS.items(), _OSXSAVE):
        if feature in target.features or feature == _OSXSAVE[0]:
            masks[leaf, register] |= 1 << bit
    rows = [
        f"    {{0x{leaf:x}, {subleaf}, {register}, 0x{bits:x}}},"
        for ((leaf, subleaf), register), bits in sorted(masks.items())
    ]
    saved = _ZMM if "avx512f" in target.features else _YMM
    if "amx_tile" in target.features:
        saved |= _TILES
    return _X86.replace("@ROWS@", "\n".join(rows)).replace("@SAVED@", f"0x{saved:x}")
