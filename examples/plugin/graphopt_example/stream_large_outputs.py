"""stream-large-outputs: vector stores to outputs that no cache holds go past the caches.

y[ramp(i * 16, 1, 16)] = ..   →   y[ramp(i * 16, 1, 16)] = .. nontemporal

An ordinary store reads the line it is about to overwrite; a non-temporal one only writes it, which
saves a third of a copy's memory traffic. It is wrong for small outputs: the next kernel would read
from memory what it would have found in cache.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from graphopt.kernel.ir import Buffer, Kernel, Load, Ramp, Stmt, Store
from graphopt.kernel.passbase import EXACT, KernelContext, KernelPass, Numerics
from graphopt.kernel.visit import map_stmts, walk

MIB = 1 << 20


@dataclass(frozen=True)
class StreamLargeOutputs(KernelPass):
    """min_bytes: of the output. Numerics: exact. Refuses: small outputs, and those that the kernel
    reads or adds to.
    """

    name: ClassVar[str] = "stream-large-outputs"
    numerics: ClassVar[Numerics] = EXACT

    min_bytes: int = 64 * MIB

    def run(self, kernel: Kernel, ctx: KernelContext) -> Kernel:
        chosen = set()
        for store in _vector_stores(kernel.body):
            where, reason = f"store to {store.buffer.name}", self._refusal(store.buffer, kernel)
            if reason:
                ctx.rejected(self.name, kernel, where, reason)
            elif ctx.spend():
                ctx.fired(self.name, kernel, where)
                chosen.add(store)
        if not chosen:
            return kernel

        def stream(s: Stmt) -> Stmt:
            return dataclasses.replace(s, nontemporal=True) if s in chosen else s

        return dataclasses.replace(kernel, body=map_stmts(kernel.body, stream))

    def _refusal(self, buffer: Buffer, kernel: Kernel) -> str:
        size = buffer.numel * buffer.dtype.size_bytes
        if buffer.name not in kernel.outputs:
            return "it is no output"
        if size < self.min_bytes:
            return f"{size} bytes may stay in a cache"
        for part in walk(kernel.body):
            reads = isinstance(part, Load) or (isinstance(part, Store) and part.reduce)
            if reads and part.buffer == buffer:
                return "the kernel reads it again"
        return ""


def _vector_stores(body: Stmt) -> Iterator[Store]:
    """Contiguous ones that are not past the caches already."""
    for part in walk(body):
        if isinstance(part, Store) and part.index and not part.nontemporal:
            last = part.index[-1]
            if isinstance(last, Ramp) and last.stride == 1:
                yield part
