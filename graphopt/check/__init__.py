"""Checking, for graphopt itself and for plugin authors.

check_pass, check_refuses     tests of a pass, in IR text
random_graph, graphs          random typed graphs: from a seed, as a hypothesis strategy
NumericsGate, seeded_inputs   hold a pass to its declared numerics
check_kernel_pass, check_kernel_refuses, random_kernel, kernels, KernelNumericsGate, seeded_arrays:
                              the same for kernel passes
bisect, differs_from          the guilty rewrite
execute                       the reference interpreter
"""

from graphopt.check.bisect import Guilty, bisect, differs_from
from graphopt.check.gate import Allowance, NumericsGate, first_drift
from graphopt.check.generate import graphs, random_graph
from graphopt.check.inputs import seeded_inputs
from graphopt.check.kernel_gate import KernelNumericsGate, seeded_arrays
from graphopt.check.kernel_generate import kernels, random_kernel
from graphopt.check.kernelkit import check_kernel_pass, check_kernel_refuses
from graphopt.check.passkit import check_pass, check_refuses, random_constant
from graphopt.check.reference import execute
from graphopt.ir.equal import first_difference

__all__ = [
    "Allowance",
    "Guilty",
    "KernelNumericsGate",
    "NumericsGate",
    "bisect",
    "check_kernel_pass",
    "check_kernel_refuses",
    "check_pass",
    "check_refuses",
    "differs_from",
    "execute",
    "first_difference",
    "first_drift",
    "graphs",
    "kernels",
    "random_constant",
    "random_graph",
    "random_kernel",
    "seeded_arrays",
    "seeded_inputs",
]
