"""Memory that a kernel under test works on: poisoned, guarded, and as cold as in a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

GUARD_BYTES = 1 << 16
POISON = 0xFF
"""NaN in every float type, -1 in every integer: what is read or left unwritten shows."""

_LINE = 64


class Guarded:
    """Bytes on a cache line boundary, a guard zone of poison on either side."""

    def __init__(self, size_bytes: int, content: np.ndarray | None = None) -> None:
        self._whole = np.full(size_bytes + 2 * GUARD_BYTES + _LINE, POISON, np.uint8)
        self._start = GUARD_BYTES + (-(self._whole.ctypes.data + GUARD_BYTES) % _LINE)
        self.bytes = self._whole[self._start : self._start + size_bytes]
        if content is not None:
            self.bytes[:] = content.reshape(-1).view(np.uint8)

    @property
    def address(self) -> int:
        return int(self.bytes.ctypes.data)

    def poison(self) -> None:
        self.bytes[:] = POISON

    def guards_hold(self) -> bool:
        """Whether nothing was written beside the buffer."""
        before, after = self._whole[: self._start], self._whole[self._start + len(self.bytes) :]
        return bool((before == POISON).all() and (after == POISON).all())


class Surroundings:
    """What the rest of a model does to the caches between two calls of a kernel.

    A kernel in a loop of its own finds its weights where it left them, in L1 or L2. In a model all
    other kernels have run since, and read their own weights: so a buffer as large as what the model
    reads is streamed through before each timed call, up to twice the last level, from where on
    nothing is left anyway. Activations are another matter: the kernel before has just written them,
    and the arena they lie in is used again and again; they are read once more after the stream,
    results and workspace before operands, so that what fits is near.
    """

    def __init__(self, model_bytes: int, last_cache_bytes: int) -> None:
        most = 2 * last_cache_bytes or (64 << 20)
        self._stream = np.zeros(min(model_bytes, most) // 8 + 8, np.int64)

    def pass_by(self, near: Sequence[np.ndarray]) -> None:
        """Stream past, then touch what is near. `near`: arrays of bytes."""
        self._stream[:: _LINE // 8].sum()
        for array in near:
            array[::_LINE].sum()
