"""go_runtime.cu itself, linked with a pretended CUDA runtime: its messages, and what it does when
a call fails."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import gpu_programs as gpu
import pytest

NVCC = shutil.which("nvcc")
pytestmark = pytest.mark.nvcc

_NAMES = (
    "count_error", "driver", "devices", "major", "minor", "malloc_error", "pointer_error",
    "pointer_type", "pointer_device", "update_error", "end_error", "instantiated", "updated",
    "alive", "waits", "records", "ended", "device", "capture_mode", "on_their_way",
)  # fmt: skip

# Of cudaError_t and cudaMemoryType.
OUT_OF_MEMORY, OLD_DRIVER, NO_DEVICE, INVALID, CAPTURE_FAILED, NOT_UPDATED = 2, 35, 100, 1, 901, 910
UNREGISTERED, HOST, DEVICE, MANAGED = 0, 1, 2, 3
GLOBAL, RELAXED = 0, 2  # of cudaStreamCaptureMode


class Pretended(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in _NAMES]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("runtime")
    sources = resources.files("graphopt_backends.cuda") / "runtime"
    for name in ("go_runtime.cu", "go_runtime.h", "go_message.cpp"):
        (folder / name).write_text((sources / name).read_text())
    fake = Path(__file__).parent / "pretended_runtime.cpp"
    command = [str(NVCC), "-std=c++17", "-x", "c++", "-shared", "-cudart", "none",
               "-Xcompiler=-fPIC,-Wall,-Wextra", "-Xlinker=-Bsymbolic", f"-I{folder}",
               str(fake), "go_runtime.cu", "go_message.cpp", "-o", "runtime.so"]  # fmt: skip
    # -Bsymbolic: a torch for GPUs may have loaded the real runtime into this process.
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    c = ctypes.CDLL(str(folder / "runtime.so"))
    c.machine.restype = ctypes.POINTER(Pretended)
    c.message.restype = ctypes.c_char_p
    c.allocate.argtypes = [ctypes.c_size_t]
    return c


@pytest.fixture
def machine(library: ctypes.CDLL) -> Pretended:
    """A machine with an H100 on which all is well."""
    found: Pretended = library.machine().contents
    ctypes.memset(ctypes.byref(found), 0, ctypes.sizeof(found))
    found.devices, found.driver, found.major = 1, 13000, 9
    return found


def _says(library: ctypes.CDLL) -> str:
    text: bytes = library.message()
    return text.decode()


def test_drivers(library: ctypes.CDLL, machine: Pretended):
    assert library.check(0, 90, 1, 90) == gpu.OK
    machine.count_error, machine.driver = OLD_DRIVER, 12040
    assert library.check(0, 90, 1, 90) == gpu.NO_DRIVER
    assert _says(library).startswith("the driver is for CUDA 12.4; the model needs one for ")
    machine.driver = 0
    assert library.check(0, 90, 1, 90) == gpu.NO_DRIVER
    assert _says(library) == "there is no NVIDIA driver"
    machine.count_error = NO_DEVICE
    assert library.check(0, 90, 1, 90) == gpu.NO_DEVICE
    assert not library.error_is_left()


@pytest.mark.parametrize(
    ("capability", "code", "runs"),
    [
        ((9, 0), (90, 1, 90), True),
        ((10, 0), (90, 1, 90), True),  # by its PTX
        ((8, 9), (90, 1, 90), False),
        ((9, 0), (90, 1, 0), True),  # without PTX: there and nowhere else
        ((10, 0), (90, 1, 0), False),
        ((8, 9), (80, 0, 80), True),  # machine code of an earlier one of its generation
        ((8, 0), (89, 0, 89), False),
        ((7, 5), (80, 0, 80), False),
    ],
)
def test_capabilities(
    library: ctypes.CDLL,
    machine: Pretended,
    capability: tuple[int, int],
    code: tuple[int, int, int],
    runs: bool,
):
    machine.major, machine.minor = capability
    assert library.check(0, *code) == (gpu.OK if runs else gpu.WRONG_DEVICE)
    if not runs:
        major, minor = capability
        assert _says(library).startswith(f"device 0 (G) has compute capability {major}.{minor};")
    assert library.check(1, *code) == gpu.NO_DEVICE
    assert _says(library) == "there is no device 1: the driver has 1"


def test_memory(library: ctypes.CDLL, machine: Pretended):
    assert library.allocate(64) == gpu.OK
    machine.malloc_error = OUT_OF_MEMORY
    assert library.allocate(64) == gpu.NO_MEMORY
    assert _says(library) == "out of device memory: weights, 64 bytes; 5 of 9 are free"
    machine.malloc_error = INVALID
    assert library.allocate(64) == gpu.CUDA
    assert not library.error_is_left()


def test_pointers(library: ctypes.CDLL, machine: Pretended):
    for kind, on_device in ((UNREGISTERED, 0), (HOST, 0), (DEVICE, 1), (MANAGED, 1)):
        machine.pointer_type = kind
        assert library.on_device(0) == on_device
    machine.pointer_type = DEVICE
    assert library.on_device(1) == 0
    machine.pointer_error = INVALID
    assert library.on_device(0) == 0
    assert not library.error_is_left()


@pytest.mark.parametrize("copy", ["upload", "download"])
def test_a_copy_has_arrived_when_it_returns(library: ctypes.CDLL, machine: Pretended, copy: str):
    """cudaMemcpy from pageable memory has not: a stream that waits for no other would be early."""
    moved = getattr(library, copy)
    moved.argtypes = [ctypes.c_size_t]
    assert moved(64) == gpu.OK
    assert machine.on_their_way == 0


def test_what_a_call_does_harms_no_capture_and_the_thread_is_as_it_was(
    library: ctypes.CDLL, machine: Pretended
):
    """Kernels and libraries load their code when first called, which a capture elsewhere, or that
    of the caller's stream, would forbid."""
    machine.device, machine.capture_mode = 1, GLOBAL
    before = (ctypes.c_int * 2)()
    assert library.enter(0, before) == gpu.OK
    assert (machine.device, machine.capture_mode) == (0, RELAXED)
    library.leave(before)
    assert (machine.device, machine.capture_mode) == (1, GLOBAL)


def test_a_second_recording_updates_the_graph(library: ctypes.CDLL, machine: Pretended):
    assert library.record(gpu.OK) == gpu.OK
    assert (machine.instantiated, machine.updated, machine.alive) == (1, 1, 0)


def test_a_graph_that_cannot_be_updated_is_made_anew(library: ctypes.CDLL, machine: Pretended):
    machine.update_error = NOT_UPDATED
    assert library.record(gpu.OK) == gpu.OK
    assert (machine.instantiated, machine.updated, machine.alive) == (2, 0, 0)
    assert not library.error_is_left()


def test_a_recording_that_fails_leaves_the_stream_usable(library: ctypes.CDLL, machine: Pretended):
    assert library.record(gpu.NO_LIBRARY) == gpu.NO_LIBRARY  # the work's own error comes first
    assert (machine.ended, machine.instantiated) == (1, 0)
    machine.end_error = CAPTURE_FAILED
    assert library.record(gpu.OK) == gpu.CUDA
    assert (machine.ended, machine.alive) == (2, 0)
    assert not library.error_is_left()


def test_runs_wait_for_each_other_across_streams_alone(library: ctypes.CDLL, machine: Pretended):
    """The default streams of two threads are two, and have one number."""
    assert library.fenced() == gpu.OK
    assert (machine.records, machine.waits) == (5, 3)


def test_times_are_between_marks(library: ctypes.CDLL, machine: Pretended):
    times = (ctypes.c_uint64 * 2)()
    assert library.timed(times) == gpu.OK
    assert list(times) == [500_000, 500_000]
