"""Sources to libraries: nvcc's options, the cache of objects, what a library needs."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import gpu_programs as gpu
import pytest
from graphopt_backends.cuda.build import build, find_compiler, generate_code, units
from graphopt_backends.cuda.emit.model import emit
from graphopt_backends.cuda.targets import TARGETS

from graphopt.config import Config
from graphopt.errors import BuildError

needs_nvcc = pytest.mark.nvcc


@pytest.mark.parametrize(
    ("isa", "options"),
    [
        ("sm_80", ["-gencode=arch=compute_80,code=[sm_80,compute_80]"]),
        (
            "sm_90a",
            [
                "-gencode=arch=compute_90a,code=sm_90a",
                "-gencode=arch=compute_90,code=compute_90",
            ],
        ),
    ],
)
def test_machine_code_for_one_gpu_and_ptx_for_those_after_it(isa: str, options: list[str]):
    assert generate_code(isa) == options


def test_without_nvcc_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BuildError) as caught:
        find_compiler(TARGETS["sm_90a"])
    assert str(caught.value) == (
        "there is no nvcc on the PATH, which compiles for GPUs\n"
        "hint: install the CUDA toolkit, version 12 or later; cuda:emulated needs none"
    )


def test_a_compiler_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(BuildError, match="there is no C\\+\\+ compiler 'c--'"):
        find_compiler(TARGETS["emulated"], "c--")


def test_kernels_are_compiled_together():
    names = [f"go_{i}.cu" for i in range(20)]
    sources = dict.fromkeys([*names, "model.cu", "go_runtime.cu", "go_file.cpp", "model.h"], "")
    made = units(sources, jobs=2)
    assert sorted(n for kernels in made.values() for n in kernels) == sorted(names)
    alone = [unit for unit, kernels in made.items() if not kernels]
    assert alone == ["model.cu", "go_runtime.cu", "go_file.cpp"]
    assert len(made) == 3 + 3
    assert len(units(dict.fromkeys(names[:2], ""), jobs=2)) <= 2


@pytest.mark.compiler
def test_what_was_compiled_is_not_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path / "cache"))
    sources = emit(gpu.scaled_sum(), gpu.EMULATED)
    steps: list[tuple[int, int]] = []

    def told(done: int, total: int) -> None:
        steps.append((done, total))

    build(sources, gpu.EMULATED, tmp_path / "a", progress=told)
    files = len(units(sources, Config.from_environment().jobs))
    assert steps == [(i + 1, files) for i in range(files)]
    steps.clear()
    build(sources, gpu.EMULATED, tmp_path / "b", progress=told)
    assert not steps


@pytest.mark.compiler
def test_what_the_compiler_says_is_shown(tmp_path: Path):
    sources = {**emit(gpu.scaled_sum(), gpu.EMULATED), "go_add.cu": "int f() { return nothing; }"}
    with pytest.raises(
        BuildError, match=r"(?s)compiling kernels_\d\.cu failed:\n.*go_add\.cu.*nothing"
    ):
        build(sources, gpu.EMULATED, tmp_path)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = TARGETS["sm_90a"]
    folder = tmp_path_factory.mktemp("fat")
    return build(emit(gpu.scaled_sum(), target), target, folder)


@needs_nvcc
def test_needs_libc_alone(library: Path):
    shown = subprocess.run(["ldd", library], capture_output=True, text=True, check=True).stdout
    needed = {line.split()[0].split("/")[-1] for line in shown.splitlines()}
    assert {n for n in needed if not n.startswith(("linux-vdso", "ld-linux"))} <= {"libc.so.6"}


@needs_nvcc
def test_exports_its_interface_alone(library: Path):
    command = ["nm", "-D", "--defined-only", str(library)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names = [line.split()[-1] for line in shown.splitlines()]
    assert len(names) == 21
    assert all(n.startswith("go_model_") for n in names)


@needs_nvcc
def test_opens_without_a_driver_and_says_so(library: Path):
    c, handle = ctypes.CDLL(str(library)), ctypes.c_void_p()
    weights = library.parent / "weights.bin"
    gpu.write_weights(gpu.scaled_sum(), weights)
    c.go_model_message.restype = ctypes.c_char_p
    code = c.go_model_open(str(weights).encode(), 0, ctypes.byref(handle))
    if code == gpu.OK:
        c.go_model_close(handle)
        pytest.skip("there is a GPU")
    assert code in (gpu.NO_DRIVER, gpu.NO_DEVICE)
    assert c.go_model_message().startswith(b"there is no NVIDIA")
