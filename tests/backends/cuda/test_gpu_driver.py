"""What tuning asks of the driver, of a pretended one: GPUs that are there or not, and memory."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cuda import driver as drivers
from graphopt_backends.cuda import local
from graphopt_backends.cuda.backend import CudaBackend
from graphopt_backends.cuda.device_memory import DeviceMemory
from graphopt_backends.cuda.driver import Driver
from graphopt_backends.cuda.targets import TARGETS

from graphopt.errors import GraphoptError
from graphopt.tune.memory import GUARD_BYTES, POISON
from graphopt.tune.place import host_processor, place_of

COMPILER = shutil.which("cc") or shutil.which("gcc")
pytestmark = [
    pytest.mark.compiler,
    pytest.mark.skipif(COMPILER is None, reason="there is no C compiler"),
]
BACKEND = CudaBackend()


class Pretended(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("devices", "major", "minor", "full", "alive")]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = tmp_path_factory.mktemp("driver") / "libcuda.so"
    source = Path(__file__).parent / "pretended_driver.c"
    command = [str(COMPILER), "-std=c11", "-D_ISOC11_SOURCE", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*command, "-shared", "-fPIC", str(source), "-o", str(made)], check=True)
    return str(made)


@pytest.fixture
def machine(library: str, monkeypatch: pytest.MonkeyPatch) -> Pretended:
    """A machine with one GPU of compute capability 9.0."""
    found = Pretended.in_dll(ctypes.CDLL(library), "pretended")
    found.devices, found.major, found.minor, found.full = 1, 9, 0, 0
    monkeypatch.setattr(Driver.__init__, "__defaults__", (library,))
    monkeypatch.setattr(drivers, "_VERSION", Path("/nowhere"))
    return found


def _refusal(row: str) -> tuple[str, str | None]:
    with pytest.raises(GraphoptError) as raised:
        BACKEND.check_runs_here(TARGETS[row])
    return raised.value.message, raised.value.hint


def test_a_gpu_that_runs_the_code(machine: Pretended):
    BACKEND.check_runs_here(TARGETS["sm_90a"])
    BACKEND.check_runs_here(TARGETS["sm_80"])  # its PTX
    assert local._capability() == 90


def test_a_gpu_that_is_too_old(machine: Pretended):
    machine.major, machine.minor = 8, 6
    assert _refusal("sm_90a") == (
        "cuda:sm_90a cannot be timed here: Pretended GPU has compute capability 8.6, "
        "the target needs 9.0",
        "tune for this GPU: --target cuda",
    )


def test_no_gpu(machine: Pretended):
    machine.devices = 0
    message, hint = _refusal("sm_90a")
    assert message == "cuda:sm_90a cannot be timed here: there is no NVIDIA GPU"
    assert hint == (
        "tune on a machine with such a GPU; cuda:emulated runs here, to see that it goes"
    )
    assert BACKEND.processor(TARGETS["sm_90a"]) == "no GPU"


def test_no_driver(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Driver.__init__, "__defaults__", ("libno-such-driver.so",))
    message, _ = _refusal("sm_80")
    assert message == "cuda:sm_80 cannot be timed here: there is no NVIDIA driver"
    BACKEND.check_runs_here(TARGETS["emulated"])


def test_a_place_is_the_gpu_and_its_driver(machine: Pretended, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(CudaBackend, "toolchain", lambda self, target, cc=None: "nvcc 13")
    place = place_of(BACKEND, TARGETS["sm_90a"])
    assert place.processor == "Pretended GPU SMs=132 driver=CUDA 13.0"
    assert (place.target.split()[0], place.compiler) == ("cuda:sm_90a", "nvcc 13")
    assert place_of(BACKEND, TARGETS["emulated"]).processor == host_processor()


def test_device_buffers_are_guarded_and_poisoned(machine: Pretended):
    memory = DeviceMemory(Driver())
    before = machine.alive
    buffers = memory.buffers([100, 0, 7], huge=True)
    assert machine.alive == before + 1
    for buffer in buffers:
        assert buffer.address % 256 == 0
        assert (buffer.read() == POISON).all()
        assert buffer.guards_hold()
        for at in (-1, -GUARD_BYTES, buffer.size_bytes, buffer.size_bytes + GUARD_BYTES - 1):
            beside = (ctypes.c_uint8 * 1).from_address(buffer.address + at)
            beside[0] = 0
            assert not buffer.guards_hold()
            beside[0] = POISON
    first = buffers[0]
    first.fill(np.arange(10, dtype=np.float32).reshape(2, 5).T)
    assert first.read()[:40].view(np.float32).tolist() == [0, 5, 1, 6, 2, 7, 3, 8, 4, 9]
    assert first.guards_hold(40)
    assert not first.guards_hold(36)
    first.poison()
    assert (first.read() == POISON).all()
    del buffers, buffer, first
    assert machine.alive == before, "nobody needs it"


def test_what_passes_by_leaves_operands_as_they_are(machine: Pretended):
    memory = DeviceMemory(Driver())
    (near,) = memory.buffers([5 << 20], huge=True)
    memory.surroundings(64 << 20).pass_by([near])
    assert (near.read() == POISON).all()
    assert near.guards_hold()


def test_full_memory_is_told(machine: Pretended):
    memory = DeviceMemory(Driver())
    machine.full = 1
    with pytest.raises(GraphoptError, match="the driver: cuMemAlloc_v2: out of memory"):
        memory.buffers([100], huge=True)
