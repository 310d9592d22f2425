"""A GPU's memory as the tuner wants it: poisoned, guarded, and caches as in a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.tune.memory import GUARD_BYTES, POISON, Buffer, Surroundings
from graphopt_backends.cuda.driver import Driver
from graphopt_backends.cuda.targets import ALIGNMENT, MIB

_SINK_BYTES = 2 * MIB
"""Where bytes go that are read for the cache's sake: small, not to take the cache themselves."""


class DeviceMemory:
    """Memory of the first GPU."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        driver.enter()

    def buffers(self, sizes: Sequence[int], *, huge: bool) -> Sequence[Buffer]:
        """One allocation; a GPU's pages are all large."""
        del huge
        spans = [2 * GUARD_BYTES + -(-size // ALIGNMENT) * ALIGNMENT for size in sizes]
        block = _Block(self.driver, sum(spans))
        starts = np.cumsum([0, *spans[:-1]])
        return [
            DeviceBuffer(block, int(at), span, size)
            for at, span, size in zip(starts, spans, sizes, strict=True)
        ]

    def surroundings(self, model_bytes: int) -> Surroundings:
        return DeviceSurroundings(self.driver, model_bytes, self.driver.gpu().l2_bytes)


class _Block:
    """An allocation, poisoned, given back when nobody needs it."""

    def __init__(self, driver: Driver, size_bytes: int) -> None:
        self.driver, self.size_bytes = driver, size_bytes
        self.address = driver.allocate(size_bytes)
        driver.fill(self.address, POISON, size_bytes)

    def __del__(self) -> None:
        if "address" in self.__dict__:
            self.driver.free(self.address)


class DeviceBuffer:
    """`size_bytes` behind a guard zone, in the `span` bytes of a block that begin at `start`."""

    def __init__(self, block: _Block, start: int, span: int, size_bytes: int) -> None:
        self._block, self._whole, self._span = block, block.address + start, span
        self._size_bytes = size_bytes

    @property
    def address(self) -> int:
        return self._whole + GUARD_BYTES

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def fill(self, content: np.ndarray) -> None:
        raw = np.ascontiguousarray(content)
        driver, used = self._block.driver, raw.nbytes
        driver.upload(self.address, raw.ctypes.data, used)
        driver.fill(self.address + used, POISON, self.size_bytes - used)

    def poison(self) -> None:
        self._block.driver.fill(self.address, POISON, self.size_bytes)

    def read(self) -> np.ndarray:
        return self._read(GUARD_BYTES, GUARD_BYTES + self.size_bytes)

    def guards_hold(self, used: int | None = None) -> bool:
        end = GUARD_BYTES + (self.size_bytes if used is None else used)
        zones = self._read(0, GUARD_BYTES), self._read(end, self._span)
        return all(bool((zone == POISON).all()) for zone in zones)

    def _read(self, begin: int, end: int) -> np.ndarray:
        """Bytes [begin, end) of the span. Waits for all that was started before."""
        out = np.empty(end - begin, np.uint8)
        self._block.driver.download(out.ctypes.data, self._whole + begin, end - begin)
        return out


class DeviceSurroundings:
    """Bytes are written where the model would read its weights: either takes their place in L2."""

    def __init__(self, driver: Driver, model_bytes: int, l2_bytes: int) -> None:
        self.driver = driver
        self._stream = _Block(driver, max(1, min(model_bytes, 2 * l2_bytes)))
        self._sink = _Block(driver, _SINK_BYTES)

    def pass_by(self, near: Sequence[Buffer]) -> None:
        """Puts it on the stream, and does not wait."""
        self.driver.fill(self._stream.address, 0, self._stream.size_bytes)
        for buffer in near:
            for at in range(0, buffer.size_bytes, _SINK_BYTES):
                size = min(_SINK_BYTES, buffer.size_bytes - at)
                self.driver.copy(self._sink.address, buffer.address + at, size)
