"""How many bytes buffers take."""

from __future__ import annotations

from graphopt.errors import IRError
from graphopt.kernel.ir import Alloc, Block, Buffer, For, If, Scope, Stmt

LINE_BYTES = 64
"""Of a cache line."""


def aligned(size: int, align: int) -> int:
    """The next multiple of `align` bytes."""
    return -(-size // align) * align


def span_bytes(buffer: Buffer) -> int:
    """Bytes that a local buffer spans, halos included. Raises: IRError when its first element lies
    before its pointer."""
    low = high = buffer.offset
    for axis, stride in enumerate(buffer.strides):
        first, last = buffer.bounds(axis)
        low += min(first * stride, (last - 1) * stride)
        high += max(first * stride, (last - 1) * stride)
    if low < 0:
        raise IRError(f"buffer {buffer.name!r} starts {-low} elements before its pointer")
    return (high + 1) * buffer.dtype.size_bytes


def workspace(stmt: Stmt, align: int, used: int = 0) -> int:
    """Bytes up to which a statement's SCRATCH buffers reach, each a multiple of `align`, where
    `used` are taken: blocks give back what they took."""
    if isinstance(stmt, Block):
        top = used
        for s in stmt.body:
            top = max(top, workspace(s, align, used))
            if isinstance(s, Alloc):
                used = workspace(s, align, used)
        return top
    if isinstance(stmt, Alloc) and stmt.buffer.scope is Scope.SCRATCH:
        return aligned(used + span_bytes(stmt.buffer), align)
    if isinstance(stmt, For):
        return workspace(stmt.body, align, used)
    if isinstance(stmt, If):
        other = workspace(stmt.otherwise, align, used) if stmt.otherwise else used
        return max(workspace(stmt.then, align, used), other)
    return used
