"""Schedule primitives: Kernel to Kernel, legality checked first; one file per family.

A primitive given a loop name acts on every loop of that name: tails made by `split` keep their
names, so that one schedule reaches main loops and tails alike.
"""

from graphopt.kernel.schedule.accumulators import block_reduction, expand_accumulator
from graphopt.kernel.schedule.common import has_loop, loop_names
from graphopt.kernel.schedule.indices import simplify
from graphopt.kernel.schedule.memory import prefetch, prefetch_epilogue, prefetch_next, stage
from graphopt.kernel.schedule.structure import fuse, jam, reorder, split
from graphopt.kernel.schedule.threads import bind, parallelize
from graphopt.kernel.schedule.unrolling import unroll
from graphopt.kernel.schedule.vectors import vector_reduce, vectorize

__all__ = [
    "bind",
    "block_reduction",
    "expand_accumulator",
    "fuse",
    "has_loop",
    "jam",
    "loop_names",
    "parallelize",
    "prefetch",
    "prefetch_epilogue",
    "prefetch_next",
    "reorder",
    "simplify",
    "split",
    "stage",
    "unroll",
    "vector_reduce",
    "vectorize",
]
