"""The NVIDIA driver, asked from Python: what GPU there is, and memory on it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphopt.errors import GraphoptError

LIBRARY = "libcuda.so.1"

_SMS, _L2, _MAJOR, _MINOR = 16, 38, 75, 76
"""CU_DEVICE_ATTRIBUTE_*: MULTIPROCESSOR_COUNT, L2_CACHE_SIZE, COMPUTE_CAPABILITY_*."""

_VERSION = Path("/sys/module/nvidia/version")


@dataclass(frozen=True)
class Gpu:
    """`capability` 90 is 9.0; `driver` is its version and the CUDA version it is for."""

    name: str
    capability: int
    sms: int
    l2_bytes: int
    driver: str


class Driver:
    """The driver, and the first GPU it has. Memory is that of the context which the CUDA runtime
    uses, too; its work goes on the default stream, in the order of the calls."""

    def __init__(self, library: str = LIBRARY) -> None:
        """Raises: GraphoptError when there is no driver or no GPU."""
        try:
            self._library = ctypes.CDLL(library)
        except OSError:
            raise GraphoptError(
                "there is no NVIDIA driver", hint="install it, or use a machine that has a GPU"
            ) from None
        count = ctypes.c_int()
        if self._library.cuInit(0) or self._library.cuDeviceGetCount(ctypes.byref(count)):
            count.value = 0
        if count.value == 0:
            raise GraphoptError("there is no NVIDIA GPU", hint="use a machine that has one")
        self._device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(self._device), 0)

    def gpu(self) -> Gpu:
        name, api = ctypes.create_string_buffer(256), ctypes.c_int()
        self._call("cuDeviceGetName", name, len(name), self._device)
        self._call("cuDriverGetVersion", ctypes.byref(api))
        capability = 10 * self._attribute(_MAJOR) + self._attribute(_MINOR)
        cuda = f"CUDA {api.value // 1000}.{api.value % 1000 // 10}"
        version = f"{_VERSION.read_text().strip()}, {cuda}" if _VERSION.is_file() else cuda
        return Gpu(
            name.value.decode(), capability, self._attribute(_SMS), self._attribute(_L2), version
        )

    def _attribute(self, which: int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), which, self._device)
        return value.value

    # Memory ------------------------------------------------------------------------------------

    def enter(self) -> None:
        """Make the context of the CUDA runtime the calling thread's."""
        context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
        self._call("cuCtxSetCurrent", context)

    def allocate(self, size_bytes: int) -> int:
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size_bytes))
        return address.value

    def free(self, address: int) -> None:
        """Whatever became of the device: there is nobody to tell."""
        self._library.cuMemFree_v2(ctypes.c_uint64(address))

    def fill(self, address: int, byte: int, size_bytes: int) -> None:
        """Set bytes. Does not wait."""
        to, size = ctypes.c_uint64(address), ctypes.c_size_t(size_bytes)
        if size_bytes:
            self._call("cuMemsetD8Async", to, ctypes.c_ubyte(byte), size, None)

    def upload(self, address: int, host: int, size_bytes: int) -> None:
        to, size = ctypes.c_uint64(address), ctypes.c_size_t(size_bytes)
        if size_bytes:
            self._call("cuMemcpyHtoD_v2", to, ctypes.c_void_p(host), size)

    def download(self, host: int, address: int, size_bytes: int) -> None:
        from_, size = ctypes.c_uint64(address), ctypes.c_size_t(size_bytes)
        if size_bytes:
            self._call("cuMemcpyDtoH_v2", ctypes.c_void_p(host), from_, size)

    def copy(self, to: int, source: int, size_bytes: int) -> None:
        """From device memory to device memory. Does not wait."""
        places = ctypes.c_uint64(to), ctypes.c_uint64(source)
        self._call("cuMemcpyDtoDAsync_v2", *places, ctypes.c_size_t(size_bytes), None)

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code == 0:
            return
        text = ctypes.c_char_p()
        self._library.cuGetErrorString(code, ctypes.byref(text))
        said = text.value.decode() if text.value else f"error {code}"
        raise GraphoptError(f"the driver: {name}: {said}", hint="see what else uses the GPU")
