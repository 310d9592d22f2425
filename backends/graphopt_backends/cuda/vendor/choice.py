"""Whether a library's call is expected to beat the generated kernel of the same region.

A default table, from the rates of a target: nothing of this has been measured. A library uses
tensor cores where the type has them and takes 70 % of what they do; a generated kernel takes half
of the plain units', and reads memory as fast. What a library leaves of a region is a kernel of its
own, which reads and writes the result once more. Estimates are no better than a tenth, and every
call takes a launch: small products stay with the kernels, which fuse more.
"""

from __future__ import annotations

from graphopt.ir.types import DType
from graphopt_backends.cuda.targets import GpuTarget

_LIBRARY_SHARE, _KERNEL_SHARE = 0.7, 0.5
_LAUNCH_S = 2e-6
"""Between one kernel and the next in a CUDA graph."""

_MARGIN = 0.9


def library_wins(
    flops: int, bytes_moved: int, rest_bytes: int, dtype: DType, tf32: bool, target: GpuTarget
) -> bool:
    """`rest_bytes`: what the kernel for the rest moves; 0 when the call does all of the region."""
    memory_s = bytes_moved / (target.gbytes_per_s * 1e9)
    rest_s = _LAUNCH_S + rest_bytes / (target.gbytes_per_s * 1e9) if rest_bytes else 0.0
    library_s = max(memory_s, flops / (_LIBRARY_SHARE * _rate(dtype, tf32, target)))
    kernel_s = max(memory_s, flops / (_KERNEL_SHARE * target.tflops_f32 * 1e12))
    return _LAUNCH_S + library_s + rest_s < _MARGIN * (_LAUNCH_S + kernel_s)


def _rate(dtype: DType, tf32: bool, target: GpuTarget) -> float:
    if dtype is not DType.F32:
        return target.tflops_f16 * 1e12
    return (target.tflops_tf32 if tf32 else target.tflops_f32) * 1e12
