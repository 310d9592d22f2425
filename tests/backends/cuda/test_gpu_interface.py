"""The C interface of a model for GPUs, run in emulation on machines that lack something."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import gpu_programs as gpu
import numpy as np
import pytest
from gpu_programs import WEIGHTS, Library, N, accumulated, aligned, pointers, scaled_sum
from graphopt_backends.cuda.emit.model import emit

from graphopt.program import Program

pytestmark = pytest.mark.compiler


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return Library(scaled_sum(), tmp_path_factory.mktemp("scaled"))


@pytest.fixture
def library(built: Library):
    """As on a machine where all is well; nothing may be left on the device."""
    m = built.machine
    m.devices, m.driver, m.capability, m.allocations_left = 1, 1, 1000, -1
    m.strict_pointers = m.capturing = m.recordings = 0
    yield built
    assert m.live_bytes == 0


def _x(seed: int = 0) -> np.ndarray:
    x = aligned()
    x[:] = np.random.default_rng(seed).standard_normal(N)
    return x


def _expected(x: np.ndarray) -> np.ndarray:
    return (x + WEIGHTS) * x


def test_runs_and_records_once_for_each_set_of_pointers(library: Library):
    model = library.opened()
    ins, outs = [_x(i) for i in range(3)], [aligned() for _ in range(3)]
    for x, y in [*zip(ins, outs, strict=True)] * 2:
        y[:] = 0
        assert library.run(model, [x], [y]) == gpu.OK, library.message
        np.testing.assert_array_equal(y, _expected(x))
    assert library.machine.recordings == 3
    library.c.go_model_close(model)


def test_a_recording_reads_what_lies_there_when_it_runs(library: Library):
    model, x, y = library.opened(), _x(), aligned()
    assert library.run(model, [x], [y]) == gpu.OK
    x[:] = _x(1)
    assert library.run(model, [x], [y]) == gpu.OK
    np.testing.assert_array_equal(y, _expected(x))
    library.c.go_model_close(model)


def test_the_recording_used_longest_ago_is_replaced(library: Library):
    model = library.opened()
    ins = [_x(i) for i in range(9)]
    y = aligned()
    order = [0, 1, 2, 3, 4, 5, 6, 7, 0, 8]  # 8 replaces 1, for 0 was used again
    for i in order:
        assert library.run(model, [ins[i]], [y]) == gpu.OK
    assert library.machine.recordings == 9
    for i, recorded in ((0, 9), (8, 9), (1, 10)):
        assert library.run(model, [ins[i]], [y]) == gpu.OK
        np.testing.assert_array_equal(y, _expected(ins[i]))
        assert library.machine.recordings == recorded
    library.c.go_model_close(model)


def test_a_captured_stream_gets_the_kernels_themselves(library: Library):
    model, x, y = library.opened(), _x(), aligned()
    library.machine.capturing = 1
    assert library.run(model, [x], [y]) == gpu.OK
    assert library.machine.recordings == 0
    np.testing.assert_array_equal(y, _expected(x))
    library.c.go_model_close(model)


def test_models_opened_from_each_other_share_weights(library: Library):
    first, second = library.opened(), ctypes.c_void_p()
    alone = library.machine.live_bytes
    assert library.c.go_model_open_again(first, ctypes.byref(second)) == gpu.OK
    layout_bytes = library.weights.stat().st_size
    assert library.machine.live_bytes == 2 * alone - layout_bytes
    library.c.go_model_close(first)
    x, y = _x(), aligned()
    assert library.run(second, [x], [y]) == gpu.OK
    np.testing.assert_array_equal(y, _expected(x))
    library.c.go_model_close(second)


@pytest.mark.parametrize(
    ("broken", "code", "message"),
    [
        ({"driver": 0}, gpu.NO_DRIVER, "there is no NVIDIA driver"),
        (
            {"driver": -12040},
            gpu.NO_DRIVER,
            "the driver is for CUDA 12.4; the model needs one for 13.0",
        ),
        ({"devices": 0}, gpu.NO_DEVICE, "there is no device 0: the driver has 0"),
        (
            {"capability": 75},
            gpu.WRONG_DEVICE,
            "device 0 (emulated) has compute capability 7.5; the model needs 9.0 or later",
        ),
    ],
)
def test_a_machine_that_lacks_something_is_refused(
    library: Library, broken: dict[str, int], code: int, message: str
):
    for name, value in broken.items():
        setattr(library.machine, name, value)
    got, handle = library.open()
    assert (got, handle.value, library.message) == (code, None, message)


@pytest.mark.parametrize(
    ("before", "plan"),
    [
        (0, "weights {weights} before arena 1536, {weights} bytes"),
        (1, "arena 1536 and workspace 0 beside weights {weights}, 1536 bytes"),
    ],
)
def test_out_of_memory_leaves_nothing_behind(library: Library, before: int, plan: str):
    library.machine.allocations_left = before
    code, handle = library.open()
    assert (code, handle.value) == (gpu.NO_MEMORY, None)
    size = library.weights.stat().st_size
    assert library.message.startswith(f"out of device memory: {plan.format(weights=size)}; ")
    assert library.machine.live_bytes == 0
    library.machine.allocations_left = -1
    library.c.go_model_close(library.opened())


def test_wrong_weights(library: Library, tmp_path: Path):
    missing, other = tmp_path / "none", tmp_path / "other"
    other.write_bytes(b"GOWEIGHT" + bytes(library.weights.stat().st_size - 8))
    cut = tmp_path / "cut"
    cut.write_bytes(library.weights.read_bytes()[:-1])
    assert library.open(path=missing)[0] == gpu.NO_FILE
    assert library.open(path=other)[0] == gpu.WRONG_WEIGHTS
    assert library.open(path=cut)[0] == gpu.WRONG_WEIGHTS
    assert library.message == "the weights are not this model's, or cut short"


def test_host_memory_is_refused_where_a_device_has_its_own(library: Library):
    model, x, y = library.opened(), _x(), aligned()
    library.machine.strict_pointers = 1
    assert library.run(model, [x], [y]) == gpu.NOT_ON_DEVICE
    assert library.message == "input x is not in memory of device 0"
    memory = ctypes.c_void_p()
    assert library.c.go_model_allocate(model, x.nbytes, ctypes.byref(memory)) == gpu.OK
    ctypes.memmove(memory, x.ctypes.data, x.nbytes)
    given = (ctypes.c_void_p * 1)(memory.value)
    assert library.c.go_model_run(model, given, given, None) == gpu.OK
    library.c.go_model_free(model, memory)
    library.c.go_model_close(model)


def test_bad_pointers(library: Library):
    model, x, y = library.opened(), _x(), aligned()
    assert library.run(model, [None], [y]) == gpu.BAD_ARGUMENT
    assert library.message == "input x is NULL"
    assert library.run(model, [x], [None]) == gpu.BAD_ARGUMENT
    odd = (ctypes.c_void_p * 1)(x.ctypes.data + 4)
    assert library.c.go_model_run(model, odd, pointers([y]), None) == gpu.BAD_ARGUMENT
    assert library.message == "input x is not aligned to 16 bytes"
    assert library.c.go_model_run(None, pointers([x]), pointers([y]), None) == gpu.BAD_ARGUMENT
    library.c.go_model_close(model)
    library.c.go_model_close(None)


def test_profile_names_every_call(library: Library):
    model, x, y = library.opened(), _x(), aligned()
    ranges = library.machine.ranges
    times = (ctypes.c_uint64 * 2)()
    code = library.c.go_model_profile(model, pointers([x]), pointers([y]), None, times)
    assert code == gpu.OK
    assert all(times)
    names = [library.c.go_model_call_name(i) for i in range(3)]
    assert names == [b"first", b"second", None]
    assert library.machine.ranges == ranges + 2  # NVTX's, one a call
    assert library.machine.open_ranges == 0
    np.testing.assert_array_equal(y, _expected(x))
    library.c.go_model_close(model)


def test_state_is_updated_in_place_or_moved(tmp_path: Path):
    library = Library(accumulated(), tmp_path)
    model, x, state, other = library.opened(), _x(), _x(1), aligned()
    before = state.copy()
    assert library.run(model, [state, x], [None]) == gpu.OK
    np.testing.assert_array_equal(state, before + x)
    assert library.run(model, [state, x], [other]) == gpu.OK
    np.testing.assert_array_equal(other, before + x + x)
    np.testing.assert_array_equal(state, before + x)
    library.c.go_model_close(model)


WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
@pytest.mark.parametrize("program", [scaled_sum, accumulated], ids=["weights", "state"])
def test_sources_compile_without_a_warning(program: Callable[[], Program], tmp_path: Path):
    for name, text in emit(program(), gpu.EMULATED).items():
        (tmp_path / name).write_text(text)
    (tmp_path / "user.c").write_text('#include "model.h"\nint main(void) { return GO_MODEL_OK; }\n')
    host = [p.name for p in tmp_path.iterdir() if p.suffix == ".cpp" or p.name == "model.cu"]
    commands = [["gcc", "-std=c99", "-Wstrict-prototypes", "-fsyntax-only", "user.c"]]
    flags = ["-std=c++17", "-DGO_EMULATED", "-fsyntax-only", "-x", "c++"]
    commands += [["g++", *flags, name] for name in sorted(host)]
    for command in commands:
        full = [command[0], *WARNINGS, *command[1:]]
        done = subprocess.run(full, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
