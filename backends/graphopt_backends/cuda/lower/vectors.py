"""How vectors lie in memory."""

from __future__ import annotations

from graphopt.kernel.ir import Expr, Load, Ramp
from graphopt.kernel.visit import walk


def is_contiguous(e: Expr) -> bool:
    """Whether a vector is loaded as neighbours wherever it is."""
    return not any(
        isinstance(x, Load) and x.lanes > 1
        and not any(isinstance(i, Ramp) and i.stride == 1 for i in x.index)
        for x in walk(e)
    ) and e.lanes > 1  # fmt: skip
