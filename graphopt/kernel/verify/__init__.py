"""The kernel verifier: types, names, bounds, races. What it accepts is a kernel that every backend
can emit and of whose meaning the interpreter is sure."""

from __future__ import annotations

from graphopt.kernel.gpu import is_gpu
from graphopt.kernel.ir import Kernel
from graphopt.kernel.verify.gpu import check_gpu
from graphopt.kernel.verify.memory import Unproven, unproven_bounds, unproven_races
from graphopt.kernel.verify.structure import Structure, check_interface

__all__ = ["Unproven", "verify_kernel"]


def verify_kernel(
    kernel: Kernel, *, complete: bool = True, proofs: bool = True
) -> tuple[Unproven, ...]:
    """Check a kernel; returns what could not be proved: an index that depends on data, iterations
    of a parallel loop that may meet.

    `complete`: ready for emission. A kernel in the middle of its schedule may still index register
    buffers by loops that are going to be unrolled.
    `proofs`: bounds and races, too, which take twice as long as the rest: 40 ms for an attention.
    Raises: IRError saying which statement is wrong, with a hint.
    """
    check_interface(kernel)
    Structure(kernel, complete).run()
    if complete and is_gpu(kernel):
        check_gpu(kernel)
    return (*unproven_bounds(kernel), *unproven_races(kernel)) if proofs else ()
