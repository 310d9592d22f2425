"""Which parameters of a kernel overlap what it writes: they are not `restrict`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from graphopt.kernel.ir import Buffer, Kernel
from graphopt.program import KernelCall, Program, Space


def aliased_parameters(kernel: Kernel, program: Program) -> frozenset[str]:
    """Parameters that in some call overlap memory the kernel writes through another one.

    They lose `restrict`; a kernel that updates its input in place is correct only without it.
    """
    same = {(Space.INPUT, i): (Space.OUTPUT, o) for i, o in program.states}
    out: set[str] = set()
    for call in program.calls:
        if call.kernel == kernel.name:
            out.update(_overlapping(kernel, call, same))
    return frozenset(out)


def _overlapping(
    kernel: Kernel, call: KernelCall, same: Mapping[tuple[Space, int], tuple[Space, int]]
) -> Iterator[str]:
    spans = []
    for buffer, arg in zip(kernel.params, call.args, strict=True):
        where = (arg.space, 0 if arg.space is Space.ARENA else arg.index)
        first = arg.offset
        spans.append((buffer, same.get(where, where), first, first + _span_bytes(buffer)))
    for a, where_a, low_a, high_a in spans:
        if a.name not in kernel.outputs:
            continue
        for b, where_b, low_b, high_b in spans:
            if a is not b and where_a == where_b and low_a < high_b and low_b < high_a:
                yield from (a.name, b.name)


def _span_bytes(buffer: Buffer) -> int:
    """Bytes from the pointer to the end of what indices can reach."""
    last = buffer.offset
    for axis, stride in enumerate(buffer.strides):
        last += max(0, (buffer.bounds(axis)[1] - 1) * stride)
    return (last + 1) * buffer.dtype.size_bytes
