"""Candidates for GPUs written by hand: one that computes y = 2 * x, and ways of not doing so."""

from __future__ import annotations

import numpy as np
from graphopt_backends.cuda.candidate import library

from graphopt.target import Target
from graphopt.tune.candidate import Candidate
from graphopt.tune.case import Case, Expected
from graphopt.tune.database import Outcome

COUNT = 1000

_SOURCE = """
#include "go_kernel.h"

__global__ void __launch_bounds__(64) go_NAME(const float *x, float *y, float *nowhere)
{
    const int i = blockIdx.x * 64 + threadIdx.x;
    (void)nowhere;
    BODY
}

extern "C" int go_NAME_launch(go_stream stream, void *const *p)
{
    const float *const x = static_cast<const float *>(p[0]);
    float *const y = static_cast<float *>(p[1]);
    const int error = go::launch(go_NAME, 16, 64, 0, stream, x, y, (float *)nullptr);
    return ERROR;
}
"""
_RIGHT = f"if (i < {COUNT}) y[i] = 2 * x[i];"

BODIES = {
    "good": _RIGHT,
    "slow": f"{_RIGHT} for (int n = 0; n < 2000 && i < {COUNT}; n++) y[i] += n % 2 ? 1 : -1;",
    "wrong": f"if (i < {COUNT}) y[i] = 2 * x[i] + (i == 500);",
    "leaves_out": f"if (i < {COUNT} - 1) y[i] = 2 * x[i];",
    "overruns": f"{_RIGHT} if (i == 0) y[{COUNT}] = 1;",
    "underruns": f"{_RIGHT} if (i == 0) y[-1] = 1;",
    "writes_operand": f"{_RIGHT} if (i == 3) const_cast<float *>(x)[3] = 7;",
    "faults": f"{_RIGHT} if (i == 0) *(volatile float *)nowhere = 1;",
    "fails": _RIGHT,
    "no_cuda": "this is no CUDA",
}


MISDEEDS = [
    ("wrong", Outcome.WRONG, "result 0 is off by 0.25 of its largest magnitude"),
    ("leaves_out", Outcome.WRONG, "result 0 is NaN or infinite where it should not be"),
    ("overruns", Outcome.WRONG, "it writes outside its buffers"),
    ("underruns", Outcome.WRONG, "it writes outside its buffers"),
    ("writes_operand", Outcome.WRONG, "it writes into operand 0"),
]
"""What is told of them wherever they run."""


def candidate(name: str, target: Target) -> Candidate:
    """`fails` is one whose launch says so."""
    error = "error ? error : 1" if name == "fails" else "error"
    text = _SOURCE.replace("NAME", name).replace("BODY", BODIES[name]).replace("ERROR", error)
    return Candidate(f"go_{name}", library(f"go_{name}", text, 2, target))


def case() -> Case:
    x = np.linspace(1, 2, COUNT, dtype=np.float32)
    y = Expected(np.dtype(np.float32), x.nbytes, 0, (1,), 2 * x.astype(np.float64), 1e-6)
    return Case((x,), frozenset(), (y,), model_bytes=1 << 20)
