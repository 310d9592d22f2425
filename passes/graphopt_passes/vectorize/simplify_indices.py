"""simplify-indices: index arithmetic in its smallest form, by the ranges of the loops around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.kernel import schedule
from graphopt.kernel.ir import Kernel
from graphopt.kernel.passbase import KernelContext, KernelPass


@dataclass(frozen=True)
class SimplifyIndices(KernelPass):
    """Join like terms, resolve // and % where the ranges allow, find ramps.

      for i in 0..8 { y[(i * 8 + 3) // 8 * 8 + (i * 8 + 3) % 8] = .. }   →   y[i * 8 + 3] = ..

    Numerics: exact.
    """

    name: ClassVar[str] = "simplify-indices"

    def run(self, kernel: Kernel, ctx: KernelContext) -> Kernel:
        simplified = schedule.simplify(kernel)
        if simplified is kernel or not ctx.spend():
            return kernel
        ctx.fired(self.name, kernel, "its indices")
        return simplified
