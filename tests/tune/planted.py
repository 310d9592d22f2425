"""Candidates written by hand: one that computes y = 2 * x, and every way of not doing so."""

from __future__ import annotations

import numpy as np
from graphopt_backends.cpu.targets import host

from graphopt.target import Target
from graphopt.tune.candidate import Candidate
from graphopt.tune.case import Case, Expected

COUNT = 1000
TARGET: Target = host()

_SOURCE = """
#include <stdint.h>
__attribute__((visibility("default")))
int64_t go_candidate(void *const *p, char *scratch, int64_t begin, int64_t end)
{
    const float *x = p[0];
    float *y = p[1];
    int *s = (int *)scratch;
    (void)x; (void)y; (void)s; (void)begin; (void)end;
    @BODY@
}
"""
_LOOP = "for (int64_t i = begin; i < end; i++) y[i] = 2 * x[i];"


def candidate(body: str, name: str, scratch_bytes: int = 64) -> Candidate:
    """C that has operand `x`, result `y`, workspace `s` and a range `begin`, `end`."""
    source = _SOURCE.replace("@BODY@", body)
    return Candidate(f"go_{name}", {f"{name}.c": source}, {}, COUNT, scratch_bytes)


GOOD = candidate(f"{_LOOP} return 1000;", "good")
QUICK = candidate(f"{_LOOP} return 100;", "quick")
"""Says of itself that it is ten times faster."""

CRASHES = candidate("*(volatile int *)0 = 1; return 0;", "crashes")
TRAPS = candidate("__builtin_trap();", "traps")
HANGS = candidate("for (volatile int i = 0;; i = 0) {}", "hangs")
WRONG = candidate(f"{_LOOP} y[begin + (end - begin) / 2] += 1; return 0;", "wrong")
LEAVES_OUT = candidate(
    "for (int64_t i = begin; i < end - 1; i++) y[i] = 2 * x[i]; return 0;", "out"
)
SPOILS_BELOW = candidate(
    "for (int64_t i = 0; i < end; i++) y[i] = i < begin ? 0 : 2 * x[i]; return 0;", "below"
)
SPOILS_ABOVE = candidate(
    f"for (int64_t i = begin; i < {COUNT}; i++) y[i] = i < end ? 2 * x[i] : 0; return 0;", "above"
)
"""Right when they run alone, wrong when two threads share them."""

OVERRUNS = candidate(f"{_LOOP} y[{COUNT}] = 1; return 0;", "overruns")
UNDERRUNS = candidate(f"{_LOOP} y[-1] = 1; return 0;", "underruns")
OVERRUNS_SCRATCH = candidate(f"{_LOOP} s[16] = 1; return 0;", "scratch")
WRITES_OPERAND = candidate(f"{_LOOP} ((float *)x)[3] = 7; return 0;", "operand")
NO_C = candidate("this is no C", "no_c")
CRASHES_LATER = candidate(
    f"static int runs; if (++runs > 7) *(volatile int *)0 = 1; {_LOOP} return 0;", "later"
)
HANGS_LATER = candidate(f"static int runs; while (++runs > 7) runs = 9; {_LOOP} return 0;", "stuck")


def case() -> Case:
    x = np.linspace(1, 2, COUNT, dtype=np.float32)
    y = Expected(np.dtype(np.float32), x.nbytes, 0, (1,), 2 * x.astype(np.float64), 1e-6)
    return Case((x,), frozenset(), (y,), model_bytes=1 << 20)
