"""Memory that a kernel under test works on: poisoned, guarded, and as cold as in a model. Where it
lies, on the host or on a device, is behind `Memory`."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from graphopt.artifact.machine import cache_bytes

GUARD_BYTES = 1 << 16
POISON = 0xFF
"""NaN in every float type, -1 in every integer: what is read or left unwritten shows."""

_LINE, _HUGE_PAGE = 64, 2 << 20


class Buffer(Protocol):
    """Bytes that kernels find at `address`, a guard zone of poison on either side."""

    @property
    def address(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    def fill(self, content: np.ndarray) -> None:
        """Write an array at the start, whatever its type; poison stays behind it."""

    def poison(self) -> None: ...
    def read(self) -> np.ndarray:
        """The bytes, once every kernel that was started has ended."""

    def guards_hold(self, used: int | None = None) -> bool:
        """Whether nothing was written beside the buffer, or behind its first `used` bytes."""


class Surroundings(Protocol):
    """What the rest of a model does to the caches between two calls of a kernel.

    A kernel in a loop of its own finds its weights where it left them, in a cache. In a model all
    other kernels have run since, and read their own weights: so as many bytes as the model goes
    through pass by before each timed call, up to twice the last level, from where on nothing is
    left anyway. Activations are another matter: the kernel before has just written them, and the
    arena they lie in is used again and again; they are read once more after that, results and
    workspace before operands, so that what fits is near.
    """

    def pass_by(self, near: Sequence[Buffer]) -> None:
        """Stream past, then touch what is near."""


class Memory(Protocol):
    """Where kernels of a target find their operands."""

    def buffers(self, sizes: Sequence[int], *, huge: bool) -> Sequence[Buffer]:
        """Poisoned buffers, one after the other. `huge`: as a model's arena lies in memory, else as
        its weights do. Raises: GraphoptError when there is not enough of it."""

    def surroundings(self, model_bytes: int) -> Surroundings:
        """Of a kernel in a model that goes through so many bytes in a run."""


class Guarded:
    """A buffer on the host, on a cache line boundary. `whole` is poisoned memory that begins on
    such a boundary."""

    def __init__(self, whole: np.ndarray, size_bytes: int) -> None:
        self._whole = whole
        self.bytes = whole[GUARD_BYTES : GUARD_BYTES + size_bytes]

    @property
    def address(self) -> int:
        return int(self.bytes.ctypes.data)

    @property
    def size_bytes(self) -> int:
        return len(self.bytes)

    def fill(self, content: np.ndarray) -> None:
        raw = content.reshape(-1).view(np.uint8)
        self.bytes[: len(raw)] = raw
        self.bytes[len(raw) :] = POISON

    def poison(self) -> None:
        self.bytes[:] = POISON

    def read(self) -> np.ndarray:
        return self.bytes

    def guards_hold(self, used: int | None = None) -> bool:
        end = GUARD_BYTES + (len(self.bytes) if used is None else used)
        before, after = self._whole[:GUARD_BYTES], self._whole[end:]
        return bool((before == POISON).all() and (after == POISON).all())


def guarded(sizes: Sequence[int], *, huge: bool) -> list[Guarded]:
    """Buffers one after the other in a mapping of their own. `huge` asks for large pages, as a
    model's arena has them; its weights are a mapped file, and lie in small ones."""
    spans = [2 * GUARD_BYTES + -(-size // _LINE) * _LINE for size in sizes]
    mapping = mmap.mmap(-1, sum(spans) + _HUGE_PAGE)
    with contextlib.suppress(OSError, AttributeError):  # not every kernel has the choice
        mapping.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
    memory = np.frombuffer(mapping, np.uint8)
    at = -memory.ctypes.data % _HUGE_PAGE
    out = []
    for size, span in zip(sizes, spans, strict=True):
        whole = memory[at : at + span]
        whole[:] = POISON
        out.append(Guarded(whole, size))
        at += span
    return out


class HostMemory:
    """Memory of this process."""

    def buffers(self, sizes: Sequence[int], *, huge: bool) -> Sequence[Buffer]:
        return guarded(sizes, huge=huge)

    def surroundings(self, model_bytes: int) -> Surroundings:
        return HostSurroundings(model_bytes, cache_bytes(3) or cache_bytes(2))


class HostSurroundings:
    """A buffer that is read where the model would read its weights."""

    def __init__(self, model_bytes: int, last_cache_bytes: int) -> None:
        most = 2 * last_cache_bytes or (64 << 20)
        self._stream = np.zeros(min(model_bytes, most) // 8 + 8, np.int64)

    def pass_by(self, near: Sequence[Buffer]) -> None:
        self._stream[:: _LINE // 8].sum()
        for buffer in near:
            buffer.read()[::_LINE].sum()
