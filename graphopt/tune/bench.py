"""Where the candidates of a region run: all of them in the same memory, so that where it happens to
lie in the caches is the same for both sides of a comparison."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphopt.tune.case import Case
from graphopt.tune.memory import Buffer, Memory


class Bench:
    """Operands, results and workspace of one region in `memory`. Operands that a kernel wants
    rearranged, the model's weights, have a place that is filled for each kernel anew."""

    def __init__(self, case: Case, memory: Memory) -> None:
        self.case, self.memory = case, memory
        sizes = [a.nbytes for a in case.operands], [r.size_bytes for r in case.results]
        buffers = memory.buffers([*sizes[0], *sizes[1]], huge=True)
        self.operands, self.results = buffers[: len(sizes[0])], buffers[len(sizes[0]) :]
        for buffer, array in zip(self.operands, case.operands, strict=True):
            buffer.fill(array)
        self._places: dict[int, Buffer] = {}
        self._filled: dict[int, np.ndarray] = {}
        (self._scratch,) = memory.buffers([0], huge=True)

    @property
    def near(self) -> list[Buffer]:
        """What the kernel before leaves in the caches: all but the weights."""
        own = [b for i, b in enumerate(self.operands) if i not in self.case.constants]
        return [self._scratch, *self.results, *own]

    def lay_out(self, packed: Mapping[int, np.ndarray], scratch_bytes: int) -> tuple[Any, int]:
        """Make ready for a kernel: (pointers, address of its workspace)."""
        for i, array in packed.items():
            if self._filled.get(i) is not array:
                self._place(i, array.nbytes).fill(array)
                self._filled[i] = array
        if self._scratch.size_bytes < scratch_bytes:
            (self._scratch,) = self.memory.buffers([scratch_bytes], huge=True)
        read = [self._places[i] if i in packed else b for i, b in enumerate(self.operands)]
        buffers = [*read, *self.results]
        pointers = (ctypes.c_void_p * len(buffers))(*(b.address for b in buffers))
        return pointers, self._scratch.address

    def poison(self) -> None:
        """Leave nothing of an earlier run in results and workspace."""
        for buffer in (*self.results, self._scratch):
            buffer.poison()

    def trespass(self, packed: Mapping[int, np.ndarray], scratch_bytes: int) -> str:
        """What a run wrote where it must not, "" for nothing."""
        places = [self._places[i] for i in packed]
        hold = all(b.guards_hold() for b in (*self.operands, *self.results, *places))
        if not hold or not self._scratch.guards_hold(scratch_bytes):
            return "it writes outside its buffers"
        read = {**dict(enumerate(self.case.operands)), **packed}
        for i, array in read.items():
            buffer = self._places[i] if i in packed else self.operands[i]
            if not np.array_equal(buffer.read()[: array.nbytes], array.reshape(-1).view(np.uint8)):
                return f"it writes into operand {i}"
        return ""

    def _place(self, i: int, size: int) -> Buffer:
        if i not in self._places or self._places[i].size_bytes < size:
            (self._places[i],) = self.memory.buffers([size], huge=False)
        return self._places[i]
