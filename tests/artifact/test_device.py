"""Artifacts for GPUs, in emulation: host memory stands for the device's."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from graphopt.artifact.device import DeviceArray, DeviceModel, GpuModel
from graphopt.artifact.dlpack import borrow
from graphopt.artifact.format import read_manifest
from graphopt.artifact.loader import load
from graphopt.artifact.timing import time_calls, time_runs
from graphopt.artifact.verify import difference
from graphopt.driver import build
from graphopt.errors import ArtifactError, InputError
from graphopt.ir.text import parse

pytestmark = pytest.mark.compiler

TEXT = """
  %cache = input : f32[3,8]
  %x = input : f32[3,8]
  %sum = add %cache, %x
  %y = softmax %sum {axis=1}
  return %sum, %y {names=["cache_out", "y"]}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("device") / "m"
    build(parse(TEXT), target="cuda:emulated", out=out)
    return out


@pytest.fixture
def model(folder: Path) -> Iterator[DeviceModel]:
    with load(folder) as opened:
        assert isinstance(opened, DeviceModel)
        yield opened


@pytest.fixture
def gpu(folder: Path) -> Iterator[GpuModel]:
    """As on a GPU: host memory is not the device's."""
    opened = GpuModel(folder, read_manifest(folder))
    machine = ctypes.CDLL(str(folder / "model.so")).go_emulated_machine
    machine.restype = ctypes.POINTER(ctypes.c_int * 7)
    machine().contents[4] = 1  # strict_pointers
    yield opened
    opened.close()
    machine().contents[4] = 0


def _arrays(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {n: rng.standard_normal((3, 8)).astype(np.float32) for n in ("cache", "x")}


def _check(results: dict[str, np.ndarray], given: dict[str, np.ndarray]) -> None:
    total = given["cache"].astype(np.float64) + given["x"]
    e = np.exp(total - total.max(-1, keepdims=True))
    assert difference("y", results["y"], e / e.sum(-1, keepdims=True)).relative < 1e-6
    assert difference("sum", results["cache_out"], total).relative < 1e-6


def test_host_arrays_in_emulation(model: DeviceModel):
    given = _arrays()
    _check(model.run(given), given)
    _check(model.run(given, stream=0), given)
    model.wait()


def test_torch_tensors_in_emulation(model: DeviceModel):
    torch = pytest.importorskip("torch")
    given = _arrays()
    total, y = model(*map(torch.from_numpy, given.values()))
    assert isinstance(y, torch.Tensor)
    _check({"cache_out": total.numpy(), "y": y.numpy()}, given)


def test_arrays_at_odd_addresses_are_copied(model: DeviceModel):
    given = {}
    for name, array in _arrays().items():
        memory = np.empty(25, np.float32)
        given[name] = memory[1:].reshape(3, 8)
        given[name][...] = array
    assert any(a.ctypes.data % 16 for a in given.values())
    _check(model.run(given), given)


def test_times_and_observes(model: DeviceModel):
    given, seen = _arrays(), []
    assert len(time_runs(model, given, runs=4)) == 4
    assert len(time_calls(model, given, runs=2)) == len(model.manifest.calls)
    model.observe(lambda i, results: seen.append((i, [r.copy() for r in results])), **given)
    assert [i for i, _ in seen] == list(range(len(model.manifest.calls)))
    values = {r.name: a for i, arrays in seen for r, a in
              zip(model.manifest.calls[i].results, arrays, strict=True)}  # fmt: skip
    np.testing.assert_allclose(values["sum"], given["cache"] + given["x"])


def test_a_gpu_takes_arrays_placed_on_it(gpu: GpuModel):
    given = _arrays()
    placed = gpu.placed(given)
    results = gpu.run(placed)
    assert isinstance(results["y"], DeviceArray)
    _check(gpu.fetched(results), given)
    np.testing.assert_array_equal(placed["x"].numpy(), given["x"])
    interface = results["y"].__cuda_array_interface__
    assert (interface["shape"], interface["typestr"]) == ((3, 8), "<f4")
    observed = []
    gpu.observe(lambda i, arrays: observed.extend(arrays), **placed)
    np.testing.assert_allclose(observed[0], given["cache"] + given["x"])


class Stream(int):
    @property
    def cuda_stream(self) -> int:
        return int(self)


class FakeTorch:
    """As much of torch as a run asks for; `said` is what was done, and on which stream."""

    def __init__(self, gpu: GpuModel) -> None:
        self.said: list[tuple[str, int]] = []
        self.current = 5  # the number of the current stream
        torch, said = self, self.said

        class Tensor:
            dtype, device = "f32", SimpleNamespace(type="cuda", index=0)

            def __init__(self, array: np.ndarray, dense: bool = True) -> None:
                self.held, self.shape, self.dense = DeviceArray.of(gpu, array), array.shape, dense

            def detach(self) -> Tensor:
                return self

            def contiguous(self) -> Tensor:
                if not self.dense:
                    said.append(("copied", torch.current))
                return self

            def data_ptr(self) -> int:
                return self.held.address

            def record_stream(self, stream: int) -> None:
                said.append(("recorded", stream))

        @contextlib.contextmanager
        def on(stream: int) -> Iterator[None]:
            before, torch.current = torch.current, stream
            yield
            torch.current = before

        def empty(shape: tuple[int, ...], **named: object) -> Tensor:
            said.append(("allocated", torch.current))
            return Tensor(np.zeros(shape, np.float32))

        self.Tensor, self.empty, self.float32 = Tensor, empty, "f32"
        self.cuda = SimpleNamespace(
            stream=on, ExternalStream=lambda number, device: number, is_initialized=lambda: True,
            current_stream=lambda device: Stream(self.current),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (None, [("copied", 5), *[("allocated", 5)] * 2]),
        (
            7,
            [("recorded", 7), ("copied", 7), ("recorded", 7)]
            + [("allocated", 7), ("recorded", 5)] * 2,
        ),
    ],
)
def test_memory_of_torch_is_of_the_stream_of_a_run(
    gpu: GpuModel, monkeypatch: pytest.MonkeyPatch, chosen: int | None, said: list[tuple[str, int]]
):
    """A copy is made on the stream that reads it, and a result is memory that no other stream may
    still be using."""
    given = _arrays()
    torch = FakeTorch(gpu)
    monkeypatch.setitem(sys.modules, "torch", torch)
    tensors = {n: torch.Tensor(a, dense=n == "cache") for n, a in given.items()}
    torch.said.clear()
    results = gpu.run(tensors, stream=chosen)
    assert torch.said == said
    fetched = {n: gpu.fetched({n: r.held})[n] for n, r in results.items()}
    _check(fetched, given)


class OnDevice:
    """A producer of DLPack tensors whose memory a DeviceArray holds."""

    def __init__(self, held: DeviceArray, array: np.ndarray, device: int = 0) -> None:
        self.held, self.array, self.device, self.streams = held, array, device, []

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.device

    def __dlpack__(self, stream: int | None = None) -> Any:
        self.streams.append(stream)
        capsule = self.array.__dlpack__()
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        at = pointer(capsule, b"dltensor")
        ctypes.c_void_p.from_address(at).value = self.held.address
        ctypes.c_int32.from_address(at + 8).value = 2
        ctypes.c_int32.from_address(at + 12).value = self.device
        return capsule


def test_a_gpu_reads_dlpack_tensors_where_they_lie(gpu: GpuModel):
    given = _arrays()
    lent = {n: OnDevice(held, given[n]) for n, held in gpu.placed(given).items()}
    _check(gpu.fetched(gpu.run(lent)), given)
    _check(gpu.fetched(gpu.run(lent, stream=7)), given)
    assert lent["x"].streams == [1, 7]


def test_dlpack_tensors_that_do_not_fit(gpu: GpuModel):
    given = _arrays()
    placed = gpu.placed(given)
    wide = OnDevice(placed["x"], np.zeros((8, 3), np.float32).T)
    with pytest.raises(InputError, match="takes f32\\[3,8\\], given a tensor with gaps"):
        gpu.run({"cache": placed["cache"], "x": wide})
    double = OnDevice(placed["x"], np.zeros((3, 8)))
    with pytest.raises(InputError, match=r"takes f32\[3,8\], given f64\[3,8\]"):
        gpu.run({"cache": placed["cache"], "x": double})
    other = OnDevice(placed["x"], given["x"], device=1)
    with pytest.raises(InputError) as caught:
        gpu.run({"cache": placed["cache"], "x": other})
    assert str(caught.value) == (
        "input 'x' takes f32[3,8], given a tensor on cuda:1\n"
        "hint: move it to cuda:0, or load the model there: load(DIR, device=N)"
    )


def test_a_gpu_refuses_host_memory(gpu: GpuModel):
    with pytest.raises(InputError) as caught:
        gpu.run(_arrays())
    assert str(caught.value) == (
        "input 'cache' takes f32[3,8], given a ndarray in host memory\n"
        "hint: pass a tensor on cuda:0, such as torch.as_tensor(x).cuda()"
    )
    torch = pytest.importorskip("torch")
    with pytest.raises(InputError) as caught:
        gpu.run({n: torch.from_numpy(a) for n, a in _arrays().items()})
    assert str(caught.value) == (
        "input 'cache' takes f32[3,8], given a tensor on cpu\n"
        "hint: pass cache.cuda(), or compile for the CPU: --target cpu"
    )


def test_a_device_that_is_not_there(folder: Path):
    with pytest.raises(ArtifactError) as caught:
        load(folder, device=3)
    assert str(caught.value) == (
        f"{folder} cannot be opened: there is no device 3: the driver has 1\n"
        "hint: choose another device: graphopt.load(DIR, device=N)"
    )


def test_dlpack_says_what_numpy_has():
    array = np.arange(6, dtype=np.int64).reshape(2, 3)
    found = borrow(array, None)
    assert found is not None
    assert (found.dtype, found.shape, found.is_dense) == ("i64", (2, 3), True)
    assert found.address == array.ctypes.data
    assert borrow(array[:, ::2], None).is_dense is False
    assert borrow("text", None) is None
    array.flags.writeable = False
    if not hasattr(np, "from_dlpack") or np.lib.NumpyVersion(np.__version__) < "2.1.0":
        with pytest.raises(InputError, match="cannot be read through DLPack"):
            borrow(array, None)


OPENED = """
import ctypes
from types import SimpleNamespace
from graphopt.artifact.device import _preload

_preload(SimpleNamespace(extra={"libraries": {"cudnn": 1}}))
print(ctypes.CDLL("libcublasLt.so.13").answer())
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")
def test_libraries_in_wheels_are_found(tmp_path: Path):
    """As the wheels have them, out of the dynamic linker's sight: cuDNN's, which here is no
    library, and what it calls."""
    name = "libcublasLt.so.13"
    for folder in ("cu13", "cudnn"):
        (tmp_path / "nvidia" / folder / "lib").mkdir(parents=True)
    (tmp_path / "nvidia/cudnn/lib/libcudnn.so.9").write_text("no library")
    (tmp_path / "lib.c").write_text("int answer(void) { return 42; }")
    library = tmp_path / "nvidia/cu13/lib" / name
    command = ["gcc", "-shared", f"-Wl,-soname,{name}", "-o", str(library), str(tmp_path / "lib.c")]
    subprocess.run(command, check=True)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", OPENED], env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("42\n", "")
