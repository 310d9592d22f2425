"""Artifacts for GPUs: tensors in device memory, runs on streams."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from importlib import util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from graphopt.artifact.dlpack import CUDA, CUDA_MANAGED, Borrowed, borrow
from graphopt.artifact.format import RECOMPILE, WEIGHTS, Manifest, Result, Tensor
from graphopt.artifact.loader import (
    OBSERVER,
    Entry,
    Model,
    address_of,
    does_not_fit,
    is_torch,
    linked,
    mismatch,
    numpy_dtype,
    torch_dtype,
)
from graphopt.errors import ArtifactError, InputError

_ALIGNMENT = 16
_BAD_ARGUMENT, _NOT_ON_DEVICE = 1, 9
_HINTS = {
    2: "free some of the device's memory, or compile for a smaller batch",
    5: "install or update the NVIDIA driver",
    6: "choose another device: graphopt.load(DIR, device=N)",
    7: "compile for this GPU: --target cuda:sm_XX",
    8: "install the library it names, or compile with --vendor none",
}
"""By the numbers of model.h."""

_WHEELS = {
    "cublaslt": ("libcublasLt.so.*",),
    "cudnn": ("libcublasLt.so.*", "libnvrtc.so.*", "libcudnn.so.*"),
}
"""cuDNN opens the two before it by name, for what it multiplies and what it compiles."""


class DeviceModel(Model):
    """A loaded artifact whose runs go on streams.

    Without a GPU (the target `emulated`) its memory is the host's: arguments are as for `Model`.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, device: int = 0, stream: Any = None
    ) -> None:
        self.device, self.stream = device, stream
        self._here = threading.local()  # the stream of a run that this thread is in
        super().__init__(folder, manifest, threads=1)

    def run(self, inputs: Mapping[str, Any], stream: Any = None) -> dict[str, Any]:
        """Run once, with inputs and results by name, on a stream of one's own choice."""
        self._here.stream = stream
        try:
            return super().run(inputs)
        finally:
            self._here.stream = None

    def _chosen(self) -> Any:
        here = getattr(self._here, "stream", None)
        return self.stream if here is None else here

    def wait(self) -> None:
        """Return when all that has been put on the stream is done."""
        self._check(self._library.wait(self._handle, self._stream()))

    # The C interface ---------------------------------------------------------------------------

    def _link(self, path: Path) -> SimpleNamespace:
        pointer = ctypes.c_void_p
        library = linked(
            path,
            self.manifest,
            {
                "open": [ctypes.c_char_p, ctypes.c_int, pointer],
                "run": [pointer] * 4,
                "profile": [pointer] * 5,
                "observe": [pointer] * 4 + [OBSERVER, pointer],
                "wait": [pointer] * 2,
                "allocate": [pointer, ctypes.c_size_t, pointer],
                "free": [pointer] * 2,
                "to_device": [pointer] * 3 + [ctypes.c_size_t, pointer],
                "to_host": [pointer] * 3 + [ctypes.c_size_t, pointer],
                "message": [],
            },
        )
        library.message.restype = ctypes.c_char_p
        return library

    def _open(self) -> None:
        _preload(self.manifest)
        path = os.fsencode(self.folder / WEIGHTS)
        code = self._library.open(path, self.device, ctypes.byref(self._handle))
        if code != 0:
            raise ArtifactError(
                f"{self.folder} cannot be opened: {self._said(code)}",
                hint=_HINTS.get(code, RECOMPILE),
            )

    def _check(self, code: int) -> None:
        if code == 0:
            return
        if code in (_BAD_ARGUMENT, _NOT_ON_DEVICE):
            hint = "pass tensors of the model's device, which begin at multiples of 16 bytes"
            raise InputError(self._said(code), hint=hint)
        raise ArtifactError(f"{self.folder}: {self._said(code)}", hint=_HINTS.get(code, RECOMPILE))

    def _said(self, code: int) -> str:
        return str(self._library.message().decode()) or f"error {code}"

    def _execute(self, entry: Entry | None) -> None:
        ins, outs = self._in_pointers, self._out_pointers
        if entry is None:
            self._check(self._library.run(self._handle, ins, outs, self._stream()))
        else:
            self._check(entry(ins, outs))

    def _profiled(self, times: Any) -> Entry:
        profile = self._library.profile
        return lambda ins, outs: profile(self._handle, ins, outs, self._stream(), times)

    def _observed(self, callback: Any) -> Entry:
        observe = self._library.observe
        return lambda ins, outs: observe(self._handle, ins, outs, self._stream(), callback, None)

    def _timed(self, runs: int, times: list[int]) -> Entry:
        """Each run from its launch to its end on the device."""
        library, handle = self._library, self._handle

        def entry(ins: Any, outs: Any) -> int:
            stream = self._stream()
            for _ in range(runs):
                start = time.perf_counter_ns()
                code: int = library.run(handle, ins, outs, stream)
                code = code or library.wait(handle, stream)
                times.append(time.perf_counter_ns() - start)
                if code != 0:
                    return code
            return 0

        return entry

    def _stream(self) -> int:
        return _handle_of(self._chosen())

    # Arguments ---------------------------------------------------------------------------------

    def _input(self, i: int, spec: Tensor, value: Any, *, writable: bool) -> tuple[Any, int]:
        held, address = super()._input(i, spec, value, writable=writable)
        if address % _ALIGNMENT:
            held = held.clone() if is_torch(held) else _aligned(held)
            address = address_of(held)
        return held, address


class GpuModel(DeviceModel):
    """A loaded artifact for an NVIDIA GPU. Call it with tensors in the device's memory: torch's, or
    anything that speaks DLPack; they are read where they lie.

    It runs on torch's current stream, or the default one where there is no torch; on `stream` when
    given, at `load` or in `run`. Results are torch tensors if an argument was one, else
    `DeviceArray`s. A call returns before the results are there, as a kernel launch does.
    """

    def placed(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        return {name: DeviceArray.of(self, array) for name, array in arrays.items()}

    def fetched(self, results: Mapping[str, Any]) -> dict[str, np.ndarray]:
        specs = {t.name: t for t in self.outputs}
        return {n: self._to_host(specs[n], address_of(r)) for n, r in results.items()}

    def _stream(self) -> int:
        torch, chosen = sys.modules.get("torch"), self._chosen()
        if chosen is None and torch is not None and torch.cuda.is_initialized():
            return int(torch.cuda.current_stream(self.device).cuda_stream)
        return _handle_of(chosen)

    def _input(self, i: int, spec: Tensor, value: Any, *, writable: bool) -> tuple[Any, int]:
        if isinstance(value, DeviceArray):
            return value.fitting(spec), value.address
        if is_torch(value):
            return self._torch_input(spec, value)
        found = borrow(value, self._stream())
        if found is None or found.device_type not in (CUDA, CUDA_MANAGED):
            where = (
                "in host memory" if found is not None or hasattr(value, "shape") else "no tensor"
            )
            hint = f"pass a tensor on cuda:{self.device}, such as torch.as_tensor(x).cuda()"
            raise mismatch(spec, f"a {type(value).__name__} {where}", hint)
        if found.device_type == CUDA and found.device != self.device:
            raise self._elsewhere(spec, f"cuda:{found.device}")
        if (found.dtype, found.shape) != (spec.dtype, spec.shape):
            raise does_not_fit(spec, found.dtype, found.shape)
        if not found.is_dense or found.address % _ALIGNMENT:
            given = "a tensor with gaps, or not aligned to 16 bytes"
            raise mismatch(spec, given, "copy it to a contiguous tensor")
        return found, found.address

    def _torch_input(self, spec: Tensor, value: Any) -> tuple[Any, int]:
        if value.device.type != "cuda":
            hint = f"pass {spec.name}.cuda(), or compile for the CPU: --target cpu"
            raise mismatch(spec, f"a tensor on {value.device}", hint)
        if value.device.index != self.device:
            raise self._elsewhere(spec, str(value.device))
        dtype = str(value.dtype).removeprefix("torch.")
        if value.dtype != torch_dtype(spec.dtype) or tuple(value.shape) != spec.shape:
            raise does_not_fit(spec, dtype, tuple(value.shape))
        with self._allocating():  # a copy is made where it is read
            held = value.detach().contiguous()
            if held.data_ptr() % _ALIGNMENT:
                held = held.clone()
        if self._chosen() is not None:
            held.record_stream(self._external())
        return held, held.data_ptr()

    def _run(self, arguments: list[Any], entry: Entry | None) -> list[Any]:
        """State comes back as the tensor that was given."""
        results = super()._run(arguments, entry)
        return [r.value if isinstance(r, Borrowed) else r for r in results]

    def _external(self) -> Any:
        """The chosen stream as torch has it."""
        torch = sys.modules["torch"]
        return torch.cuda.ExternalStream(self._stream(), device=self.device)

    def _allocating(self) -> contextlib.AbstractContextManager[Any]:
        """Where torch's allocator gives memory for the chosen stream: what it takes back on the
        current one may still be in use there."""
        if self._chosen() is None:
            return contextlib.nullcontext()
        return sys.modules["torch"].cuda.stream(self._external())  # type: ignore[no-any-return]

    def _elsewhere(self, spec: Tensor, where: str) -> InputError:
        hint = f"move it to cuda:{self.device}, or load the model there: load(DIR, device=N)"
        return mismatch(spec, f"a tensor on {where}", hint)

    def _empty(self, o: int, torch: Any) -> Any:
        spec = self.outputs[o]
        if torch is None:
            return DeviceArray(self, spec.dtype, spec.shape)
        with self._allocating():
            device = f"cuda:{self.device}"
            made = torch.empty(spec.shape, dtype=torch_dtype(spec.dtype), device=device)
        if self._chosen() is not None:  # the caller's stream reads it, too
            made.record_stream(torch.cuda.current_stream(self.device))
        return made

    def _view(self, result: Result, arena: int) -> np.ndarray:
        start = arena if result.space == "arena" else self._out_pointers[result.index] or 0
        memory = np.empty(result.size_bytes, np.uint8)
        self._download(memory, start + result.offset)
        dtype = numpy_dtype(result.dtype)
        strides = [s * dtype.itemsize for s in result.strides]
        return np.ndarray(result.shape, dtype, memory.data, result.first, strides)

    def _to_host(self, spec: Tensor, address: int) -> np.ndarray:
        array = np.empty(spec.shape, numpy_dtype(spec.dtype))
        self._download(array, address)
        return array

    def _download(self, array: np.ndarray, address: int) -> None:
        to, size = array.ctypes.data, array.nbytes
        copy = self._library.to_host
        self._check(copy(self._handle, to, address, size, self._stream()))


class DeviceArray:
    """A tensor in memory that a model has allocated on its device, given back with it."""

    def __init__(self, model: GpuModel, dtype: str, shape: Sequence[int]) -> None:
        self.model, self.dtype, self.shape = model, dtype, tuple(shape)
        self.size_bytes = int(np.prod(self.shape, dtype=np.int64)) * numpy_dtype(dtype).itemsize
        memory = ctypes.c_void_p()
        allocate = model._library.allocate
        model._check(allocate(model._handle, max(self.size_bytes, 1), ctypes.byref(memory)))
        self.address = memory.value or 0

    @classmethod
    def of(cls, model: GpuModel, array: np.ndarray) -> DeviceArray:
        """A copy of a numpy array."""
        array = np.ascontiguousarray(array)
        names = {numpy_dtype(t.dtype): t.dtype for t in (*model.inputs, *model.outputs)}
        made = cls(model, names.get(array.dtype, array.dtype.name), array.shape)
        copy = model._library.to_device
        source, size = array.ctypes.data, array.nbytes
        model._check(copy(model._handle, made.address, source, size, model._stream()))
        return made

    def data_ptr(self) -> int:
        return self.address

    def numpy(self) -> np.ndarray:
        """A copy on the host, once the stream has come so far."""
        spec = Tensor("", self.dtype, self.shape, self.size_bytes)
        return self.model._to_host(spec, self.address)

    def fitting(self, spec: Tensor) -> DeviceArray:
        """Itself. Raises: InputError when it is not what the input takes."""
        if (self.dtype, self.shape) != (spec.dtype, spec.shape):
            raise does_not_fit(spec, self.dtype, self.shape)
        return self

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": numpy_dtype(self.dtype).str,
            "data": (self.address, False),
            "version": 3,
            "stream": self.model._stream() or 1,
        }

    def __del__(self) -> None:
        model = self.__dict__.get("model")
        if model is not None and model._handle and self.__dict__.get("address"):
            model._library.free(model._handle, self.address)


def _handle_of(stream: Any) -> int:
    """A stream as an address: a number, torch's or cupy's stream, None for the default one."""
    if stream is None:
        return 0
    for name in ("cuda_stream", "ptr", "handle"):
        if hasattr(stream, name):
            return int(getattr(stream, name))
    return int(stream)


def _aligned(array: np.ndarray) -> np.ndarray:
    memory = np.empty(array.nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    out = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    out[...] = array
    return out


def _preload(manifest: Manifest) -> None:
    """Open the vendors' libraries that a model calls where Python wheels have put them: the system
    finds those that are open by name."""
    spec = util.find_spec("nvidia")
    if spec is None or spec.submodule_search_locations is None:
        return
    called = manifest.extra.get("libraries", ())
    files = dict.fromkeys(file for name in _WHEELS if name in called for file in _WHEELS[name])
    for file in files:
        for root in map(Path, spec.submodule_search_locations):
            for path in sorted(root.glob(f"*/lib/{file}"))[:1]:
                with contextlib.suppress(OSError):  # the model says what it misses
                    ctypes.CDLL(str(path))
