"""model.h in the eyes of C and C++ compilers, and what it says about the model's tensors."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.build import find_compiler
from graphopt_backends.cpu.emit import emit
from graphopt_backends.cpu.emit.cpu_check import cpu_check
from graphopt_backends.cpu.targets import TARGETS, host
from programs import Running, program_of

from graphopt.artifact.machine import cpu_flags
from graphopt.ir.types import DType
from graphopt.kernel.ir import Buffer, Kernel, Store, index_const, load
from graphopt.lower.interface import c_string
from graphopt.program import Program
from graphopt.target import Target

WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wstrict-prototypes", "-Wconversion", "-Werror")


def _copy(rows: int = 2) -> Program:
    """y[0] = x[0]."""
    x = Buffer("x", DType.F32, (rows, 3), (3, 1))
    y = Buffer("y", DType.F32, (rows, 3), (3, 1))
    at = (index_const(0), index_const(0))
    return program_of(Kernel("copy", (x, y), ("y",), Store(y, at, load(x, *at))))


def _compile(folder: Path, name: str, *flags: str) -> None:
    compiler = find_compiler()
    command = [*compiler.command, *flags, "-c", name, "-o", "unused.o"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.compiler
@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("main.c", ("-std=c99", *WARNINGS)),
        ("main.cpp", ("-x", "c++", "-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror")),
    ],
)
def test_the_header_stands_alone(tmp_path: Path, name: str, flags: tuple[str, ...]) -> None:
    (tmp_path / "model.h").write_text(emit(_copy(), host())["model.h"])
    (tmp_path / name).write_text(
        '#include "model.h"\n#include "model.h"\n'
        "float in[GO_MODEL_INPUT_0_BYTES / sizeof(float)], out[GO_MODEL_OUTPUT_0_BYTES / 4];\n"
        "int main(void) { const void *ins[] = {in}; void *outs[] = {out};\n"
        "return go_model_run(0, ins, outs) == GO_MODEL_OK; }\n"
    )
    _compile(tmp_path, name, *flags)


@pytest.mark.compiler
def test_the_source_has_no_warnings(tmp_path: Path) -> None:
    for name, text in emit(_copy(), host()).items():
        (tmp_path / name).write_text(text)
    _compile(tmp_path, "model.c", "-std=gnu11", "-Wall", "-Wextra", "-Werror")
    _compile(tmp_path, "go_runtime.c", "-std=gnu11", "-Wall", "-Wextra", "-Werror")


def test_the_header_lists_tensors_in_columns() -> None:
    assert emit(_copy(), TARGETS["scalar"])["model.h"].startswith(
        "/* A model compiled by graphopt for scalar (c99).\n"
        "\n"
        "   inputs[0]   x  f32[2,3]  24 bytes\n"
        "   outputs[0]  y  f32[2,3]  24 bytes\n"
    )


def test_another_prefix_leaves_none_of_the_old() -> None:
    files = emit(_copy(), host(), prefix="digits")
    assert "int digits_run(digits *model" in files["model.h"]
    assert not [n for n in ("model.h", "model.c") if "go_model" in files[n].lower()]


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p), ("dtype", ctypes.c_char_p), ("rank", ctypes.c_int),
        ("shape", ctypes.POINTER(ctypes.c_int64)), ("bytes", ctypes.c_size_t),
    )  # fmt: skip


@pytest.mark.compiler
def test_tensors_can_be_asked_for(tmp_path: Path) -> None:
    running = Running(_copy(5), host(), tmp_path)
    for name, wanted in (("input", b"x"), ("output", b"y")):
        function = getattr(running.library, f"go_model_{name}")
        function.restype = ctypes.POINTER(_Tensor)
        tensor = function(0).contents
        shape = [tensor.shape[i] for i in range(tensor.rank)]
        assert (tensor.name, tensor.dtype, shape, tensor.bytes) == (wanted, b"f32", [5, 3], 60)
        assert not function(1)
        assert not function(-1)


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("plain.0", '"plain.0"'),
        ('a"b\\c', r'"a\042b\134c"'),
        ("é??/\n", r'"\303\251\077\077/\012"'),
    ],
)
def test_string_literals(text: str, literal: str) -> None:
    assert c_string(text) == literal


# The processor -----------------------------------------------------------------------------------


def _needing(*features: str) -> Target:
    row = TARGETS["x86-64-v3"]
    return Target("odd", "cpu", "x86_64", "sse2", 4, 16, row.l1_bytes, row.l2_bytes,
                  frozenset(features))  # fmt: skip


on_x86 = pytest.mark.skipif(host().arch != "x86_64", reason="only x86 code asks for its processor")


@on_x86
@pytest.mark.compiler
def test_code_for_this_processor_opens(tmp_path: Path) -> None:
    running = Running(_copy(), host(), tmp_path)
    assert running.code == 0
    np.testing.assert_array_equal(running(np.ones((2, 3), np.float32))[0][0, 0], 1)


@on_x86
@pytest.mark.compiler
def test_code_for_another_processor_does_not_open(tmp_path: Path) -> None:
    absent = "avx512_4vnniw"  # of one discontinued family
    if absent in cpu_flags():
        pytest.skip(f"this processor has {absent}")
    running = Running(_copy(), _needing("avx", absent), tmp_path)
    assert running.code == 5  # GO_MODEL_WRONG_CPU
    assert not running.handle


def test_only_x86_with_vectors_is_checked() -> None:
    for target in (TARGETS["scalar"], TARGETS["aarch64"], _needing("sse4_2")):
        assert cpu_check(target) == "static int runs_here(void) { return 1; }"
    assert "0xe6u" in cpu_check(TARGETS["x86-64-v4"])
    assert "0x6u" in cpu_check(TARGETS["x86-64-v3"])
