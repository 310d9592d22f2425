"""A region's kernel with one schedule, ready to be built and called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

SYMBOL = "go_candidate"
"""`int64_t go_candidate(void *const *pointers, char *scratch, int64_t begin, int64_t end)` runs
the kernel's iterations [begin, end), waits for them and returns the nanoseconds they took.
Pointers: the region's operands in order, then its results. Where kernels can fail to start it
returns a number below 0, and MESSAGE tells why."""

MESSAGE = "go_candidate_message"
"""`const char *go_candidate_message(void)`; only libraries whose kernels can fail have it."""

SCRATCH = "go_candidate_scratch"
"""`int64_t go_candidate_scratch(void)` tells the bytes of workspace, once, before the first run:
where a library is called that says only then how much it takes. Below 0 it failed, and MESSAGE
tells why. Others do not have it."""


@dataclass(frozen=True)
class Candidate:
    """`kernel` is its name, equal for equal code. `sources` make a library that exports SYMBOL.
    `packed` are the operands that it wants rearranged, by position; `extent` is how many iterations
    threads may share, `scratch_bytes` the workspace of each thread."""

    kernel: str
    sources: Mapping[str, str]
    packed: Mapping[int, np.ndarray] = field(default_factory=dict)
    extent: int = 1
    scratch_bytes: int = 0
