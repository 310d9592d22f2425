"""An artifact to a callable. Imports neither torch nor any compiler part."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Self

import numpy as np

from graphopt.artifact import machine
from graphopt.artifact.format import (
    LIBRARY,
    RECOMPILE,
    WEIGHTS,
    Machine,
    Manifest,
    Result,
    Tensor,
    read_manifest,
)
from graphopt.artifact.hashing import check_file
from graphopt.errors import ArtifactError, InputError, InternalError

_NUMPY = {
    "f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16", "i64": "int64",
    "i32": "int32", "i16": "int16", "i8": "int8", "u8": "uint8", "bool": "bool",
}  # fmt: skip
_NAMES = {v: k for k, v in _NUMPY.items()}

_GPU = "nvidia"
"""The architecture of artifacts whose tensors lie in a GPU's memory."""

Seen = Callable[[int, list[np.ndarray]], None]
"""`seen(i, results)`: what kernel call `i` wrote, one array for each of its results."""

Entry = Callable[[Any, Any], int]
"""A way of running: (input pointers, output pointers) to an error code."""

OBSERVER = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def load(
    path: str | os.PathLike[str], threads: int = 1, *, device: int = 0, stream: Any = None
) -> Model:
    """Open an artifact. `threads` counts the caller's own; with 1 no other is ever started.

    An artifact for GPUs is opened on `device`, and runs on `stream` (see `device.GpuModel`).

    Before anything is mapped: the format, the machine's instructions, and the checksums of code and
    weights (see `hashing` for when the weights are read). Raises: ArtifactError.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    check_machine(manifest.target, folder)
    for name in (LIBRARY, WEIGHTS):
        if name not in manifest.files:
            raise ArtifactError(f"{folder} has no {name}", hint=RECOMPILE)
        check_file(folder / name, manifest.files[name], trust_records=True)
    if threads < 1:
        raise ArtifactError(f"threads is {threads}", hint="give 1 or more")
    if manifest.target.arch != _GPU:
        return Model(folder, manifest, threads)
    from graphopt.artifact.device import DeviceModel, GpuModel  # which need this module

    kind = DeviceModel if manifest.target.isa == "emulated" else GpuModel
    return kind(folder, manifest, device, stream)


def check_machine(target: Machine, folder: Path) -> None:
    """Raises: ArtifactError when this machine cannot execute the code."""
    here = machine.architecture()
    if target.arch not in (here, "any", _GPU):
        raise ArtifactError(
            f"{folder} is compiled for {target.arch} ({target.name}); this machine is {here}",
            hint="compile for this machine: --target cpu",
        )
    flags = machine.cpu_flags()
    missing = sorted(set(target.features) - flags) if flags and target.backend == "cpu" else []
    if missing:
        raise ArtifactError(
            f"{folder} is compiled for {target.name}; this processor lacks {', '.join(missing)}",
            hint="compile for this machine: --target cpu",
        )


@dataclass(frozen=True)
class CallTime:
    """What one kernel call took: the modules it computes, and its kernel."""

    name: str
    kernel: str
    nanoseconds: int


class Model:
    """A loaded artifact. Call it with numpy arrays or torch tensors, by position or by name.

    Contiguous arguments are read where they lie. Results are torch tensors if an argument was one,
    else numpy arrays: one alone, several as a tuple. State (a KV cache) is updated in the argument
    itself and returned. Calls from several threads wait for each other; load twice to run at the
    same time. `report` is set by whoever compiled it.
    """

    def __init__(self, folder: Path, manifest: Manifest, threads: int) -> None:
        self.folder, self.manifest, self.threads = folder, manifest, threads
        self.inputs, self.outputs = manifest.inputs, manifest.outputs
        self.report: Any = None
        self._lock = threading.Lock()
        self._handle = ctypes.c_void_p()
        self._library = self._link(folder / LIBRARY)
        self._open()
        self._dtypes = [numpy_dtype(t.dtype) for t in self.outputs]
        self._input_dtypes = [numpy_dtype(t.dtype) for t in self.inputs]
        self._in_pointers = (ctypes.c_void_p * max(1, len(self.inputs)))()
        self._out_pointers = (ctypes.c_void_p * max(1, len(self.outputs)))()

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Run once. Raises: InputError naming the input, what it takes and what it was given."""
        results = self._run(self._ordered(arguments, named), None)
        return results[0] if len(results) == 1 else tuple(results)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run once, with inputs and results by name. Raises: InputError."""
        results = self._run(self._ordered((), inputs), None)
        return {t.name: r for t, r in zip(self.outputs, results, strict=True)}

    def profile(self, *arguments: Any, **named: Any) -> list[CallTime]:
        """Run once, timing each kernel call."""
        times = (ctypes.c_uint64 * max(1, len(self.manifest.calls)))()
        self._run(self._ordered(arguments, named), self._profiled(times))
        return [
            CallTime(
                self._library.call_name(i).decode(),
                self._library.call_kernel(i).decode(),
                times[i],
            )
            for i in range(len(self.manifest.calls))
        ]

    def time(self, runs: int, *arguments: Any, **named: Any) -> list[int]:
        """Nanoseconds of each of `runs` runs in a row, on the same memory."""
        times: list[int] = []
        self._run(self._ordered(arguments, named), self._timed(runs, times))
        return times

    def observe(self, seen: Seen, *arguments: Any, **named: Any) -> list[Any]:
        """Run once and return all outputs; `seen` is called after each kernel call. The arrays it
        gets, axes in logical order, are the model's own memory: copy what is to be kept."""
        raised: list[BaseException] = []

        def after(_: int | None, i: int, arena: int | None) -> None:
            if not raised:  # C code lies between: an exception cannot pass through it
                try:
                    seen(i, [self._view(r, arena or 0) for r in self.manifest.calls[i].results])
                except BaseException as error:
                    raised.append(error)

        results = self._run(self._ordered(arguments, named), self._observed(OBSERVER(after)))
        if raised:
            raise raised[0]
        return results

    def placed(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Numpy arrays as arguments: where the model reads them."""
        return dict(arrays)

    def fetched(self, results: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Results of a run on `placed` arguments as numpy arrays."""
        return dict(results)

    def close(self) -> None:
        """Give back memory and threads. A closed model cannot be called."""
        handle, self._handle = self._handle, ctypes.c_void_p()
        if handle:
            self._library.close(handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if "_handle" in self.__dict__:
            self.close()

    def __repr__(self) -> str:
        inputs = ", ".join(f"{t.name}: {t}" for t in self.inputs)
        outputs = ", ".join(f"{t.name}: {t}" for t in self.outputs)
        return f"<graphopt model {self.folder.name}({inputs}) -> {outputs}>"

    # The C interface ---------------------------------------------------------------------------

    def _link(self, path: Path) -> SimpleNamespace:
        pointer = ctypes.c_void_p
        return linked(
            path,
            self.manifest,
            {
                "open": [ctypes.c_char_p, ctypes.c_int, pointer],
                "run": [pointer] * 3,
                "profile": [pointer] * 4,
                "observe": [pointer] * 3 + [OBSERVER, pointer],
            },
        )

    def _open(self) -> None:
        path = os.fsencode(self.folder / WEIGHTS)
        code = self._library.open(path, self.threads, ctypes.byref(self._handle))
        if code != 0:
            raise ArtifactError(
                f"{self.folder} cannot be opened: {self._library.error(code).decode()}",
                hint="free some memory" if code == 2 else RECOMPILE,
            )

    def _profiled(self, times: Any) -> Entry:
        profile = self._library.profile
        return lambda ins, outs: profile(self._handle, ins, outs, times)

    def _observed(self, callback: Any) -> Entry:
        observe = self._library.observe
        return lambda ins, outs: observe(self._handle, ins, outs, callback, None)

    def _timed(self, runs: int, times: list[int]) -> Entry:
        run, handle = self._library.run, self._handle

        def entry(ins: Any, outs: Any) -> int:
            for _ in range(runs):
                start = time.perf_counter_ns()
                code: int = run(handle, ins, outs)
                times.append(time.perf_counter_ns() - start)
                if code != 0:
                    return code
            return 0

        return entry

    # Arguments ---------------------------------------------------------------------------------

    def _ordered(self, arguments: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
        if not named and len(arguments) == len(self.inputs):
            return list(arguments)
        names = [t.name for t in self.inputs]
        given = dict(zip(names, arguments, strict=False))
        wrong = [n for n in named if n not in names or n in given]
        missing = [n for n in names if n not in given and n not in named]
        if wrong or missing or len(arguments) > len(names):
            count = len(arguments) + len(named)
            raise InputError(
                f"the model takes {len(names)} inputs ({', '.join(names)}), given {count}"
                + (f"; missing: {', '.join(missing)}" if missing else "")
                + (f"; not an input, or given twice: {', '.join(wrong)}" if wrong else ""),
                hint=f"call model({', '.join(names)})",
            )
        given.update(named)
        return [given[n] for n in names]

    def _run(self, arguments: list[Any], entry: Entry | None) -> list[Any]:
        if not self._handle:
            raise InputError("the model is closed", hint="load it again")
        states = dict(self.manifest.states)
        torch = sys.modules.get("torch") if any(map(is_torch, arguments)) else None
        with self._lock:
            kept: dict[int, Any] = {}
            holders = []  # what the pointers point into must outlive the run
            for i, (spec, value) in enumerate(zip(self.inputs, arguments, strict=True)):
                held, address = self._input(i, spec, value, writable=i in states)
                holders.append(held)
                self._in_pointers[i] = address
                if i in states:
                    kept[states[i]] = held
            results = [
                kept[o] if o in kept else self._empty(o, torch) for o in range(len(self.outputs))
            ]
            for o, result in enumerate(results):
                self._out_pointers[o] = address_of(result)
            self._execute(entry)
        return results

    def _execute(self, entry: Entry | None) -> None:
        ins, outs = self._in_pointers, self._out_pointers
        code = self._library.run(self._handle, ins, outs) if entry is None else entry(ins, outs)
        if code != 0:
            raise InternalError(f"run: {self._library.error(code).decode()}")

    def _view(self, result: Result, arena: int) -> np.ndarray:
        """A kernel's result where it lies, in the arena or in an output of the run going on."""
        start = arena if result.space == "arena" else self._out_pointers[result.index] or 0
        memory = (ctypes.c_char * result.size_bytes).from_address(start + result.offset)
        dtype = numpy_dtype(result.dtype)
        strides = [s * dtype.itemsize for s in result.strides]
        return np.ndarray(result.shape, dtype, memoryview(memory), result.first, strides)

    def _input(self, i: int, spec: Tensor, value: Any, *, writable: bool) -> tuple[Any, int]:
        """(what holds the data, its address). Raises: InputError."""
        if is_torch(value):
            if value.device.type != "cpu":
                raise mismatch(spec, f"a tensor on {value.device}", f"pass {spec.name}.cpu()")
            dtype = str(value.dtype).removeprefix("torch.")
            if dtype != _NUMPY[spec.dtype] or tuple(value.shape) != spec.shape:
                raise does_not_fit(spec, dtype, tuple(value.shape))
            held = value.detach().contiguous()
            return held, address_of(held)
        array = np.asarray(value)
        if array.dtype != self._input_dtypes[i] or array.shape != spec.shape:
            native = array.dtype.isnative
            raise does_not_fit(spec, array.dtype.name if native else array.dtype.str, array.shape)
        flags = array.flags
        if not flags.carray and (writable or not (flags.c_contiguous and flags.aligned)):
            array = np.array(array, order="C")
        return array, array.ctypes.data

    def _empty(self, o: int, torch: Any) -> Any:
        spec = self.outputs[o]
        if torch is None:
            return np.empty(spec.shape, self._dtypes[o])
        return torch.empty(spec.shape, dtype=torch_dtype(spec.dtype))


def mismatch(spec: Tensor, given: str, hint: str) -> InputError:
    return InputError(f"input {spec.name!r} takes {spec}, given {given}", hint=hint)


def does_not_fit(spec: Tensor, dtype: str, shape: tuple[int, ...]) -> InputError:
    given = f"{_NAMES.get(dtype, dtype)}[{','.join(map(str, shape))}]"
    if shape == spec.shape:
        return mismatch(spec, given, f"convert it to {_NUMPY[spec.dtype]}")
    hint = "the shape is compiled in: pass that one, or compile for the one you have"
    return mismatch(spec, given, hint)


def is_torch(value: Any) -> bool:
    """A torch tensor, told without importing torch: who has one has imported it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


_NOWHERE = np.empty(0, np.float64)
"""Where tensors of no elements lie: torch says NULL of them."""


def address_of(value: Any) -> int:
    """Of a numpy array, or what says it as torch tensors do."""
    if 0 in value.shape:
        value = _NOWHERE
    return int(value.data_ptr() if hasattr(value, "data_ptr") else value.ctypes.data)


def torch_dtype(name: str) -> Any:
    """torch's dtype for an IR spelling, once torch is imported."""
    return getattr(sys.modules["torch"], _NUMPY[name])


def numpy_dtype(name: str) -> np.dtype[Any]:
    """numpy's dtype for an IR spelling."""
    if name == "bf16":
        import ml_dtypes

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(_NUMPY[name])


def type_of(array: np.ndarray) -> str:
    """`f32[1,10]`; numpy's name for what the IR has no name for."""
    name = _NAMES.get(array.dtype.name, array.dtype.name)
    return f"{name}[{','.join(map(str, array.shape))}]"


def linked(path: Path, manifest: Manifest, functions: Mapping[str, list[Any]]) -> SimpleNamespace:
    """What the shared library exports, by name without its prefix, with its signatures; `functions`
    return codes.

    Raises: ArtifactError when it cannot be linked.
    """
    texts = {name: [ctypes.c_int] for name in ("error", "call_name", "call_kernel")}
    signatures: list[tuple[Mapping[str, list[Any]], Any]] = [
        (functions, ctypes.c_int), (texts, ctypes.c_char_p), ({"close": [ctypes.c_void_p]}, None),
    ]  # fmt: skip
    out = SimpleNamespace()
    try:
        library = ctypes.CDLL(_unique_spelling(path, manifest.files[LIBRARY].sha256))
        for table, result in signatures:
            for name, arguments in table.items():
                function = getattr(library, f"{manifest.prefix}_{name}")
                function.argtypes, function.restype = arguments, result
                setattr(out, name, function)
    except (OSError, AttributeError) as error:
        raise ArtifactError(f"{path} cannot be linked: {error}", hint=RECOMPILE) from error
    return out


def _unique_spelling(path: Path, sha256: str) -> str:
    """The absolute path, written as for no other content. The dynamic linker takes a path it has
    seen for the library it has loaded, though another one lies there now: a model compiled twice to
    one directory. `//` and `/./` mean `/`; they spell the digest's first bits."""
    folder, name = os.path.split(os.path.abspath(path))
    bits = f"{int(sha256[:12], 16):048b}"
    return folder + bits.replace("0", "/").replace("1", "/.") + "/" + name
