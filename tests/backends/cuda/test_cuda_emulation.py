"""The emulator catches what hardware punishes: races, whatever the order they hide in, and barriers
that not all threads reach. Kernels are written by hand, as one would get them wrong."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cuda_regions import EMULATED, ORDERS, compiled
from graphopt_backends.cuda.emit.kernel import emit_kernel

from graphopt.kernel.interpret import interpret
from graphopt.kernel.parser import parse_kernel

pytestmark = pytest.mark.compiler

REVERSE = """
kernel go_reverse(x: f32[4, 64], y: f32[4, 64] output) {
  block b in 0..4 {
    alloc row: f32[64] shared
    thread t in 0..64 {
      row[t] = x[b, t]
    }
    thread t in 0..64 {
      y[b, t] = row[63 - t]
    }
  }
}
"""
DISAGREE = """
#include "go_kernel.h"
__global__ void disagree(float *out) {
    if (threadIdx.x < 32) __syncthreads();
    out[threadIdx.x] = 1.0f;
}
extern "C" int disagree_launch(go_stream stream, void *const *p)
{
    return go::launch(disagree, 1, 64, 0, stream, static_cast<float *>(p[0]));
}
"""
WARP_SUMS = """
kernel go_warp_sums(x: f32[96], y: f32[96] output) {
  block b in 0..1 {
    alloc own: f32[96] register
    thread t in 0..96 {
      own[t] = x[t]
    }
    thread t in 0..96 {
      y[t] = reduce_add(own[ramp(t // 8 * 8, 1, 8)])
    }
  }
}
"""
ZIPS = """
kernel go_zips(x: f32[160], y: f32[160] output) {
  block b in 0..1 {
    thread t in 0..8 {
      let a = x[ramp(t * 20, 1, 4)]
      let b = x[ramp(t * 20 + 4, 1, 4)]
      y[ramp(t * 20, 1, 4)] = zip_low(a, b)
      y[ramp(t * 20 + 4, 1, 4)] = zip_high(a, b)
      let c = x[ramp(t * 20 + 8, 1, 4)]
      let d = x[ramp(t * 20 + 12, 1, 4)]
      let e = x[ramp(t * 20 + 16, 1, 4)]
      y[ramp(t * 20 + 8, 1, 4)] = zip3_low(c, d, e)
      y[ramp(t * 20 + 12, 1, 4)] = zip3_middle(c, d, e)
      y[ramp(t * 20 + 16, 1, 4)] = zip3_high(c, d, e)
    }
  }
}
"""


def _text(kernel: str) -> tuple[str, str]:
    parsed = parse_kernel(kernel)
    return parsed.name, emit_kernel(parsed, EMULATED)


def _run(library: ctypes.CDLL, name: str, x: np.ndarray, order: str) -> np.ndarray:
    y = np.full_like(x, np.nan)
    pointers = (ctypes.c_void_p * 2)(x.ctypes.data, y.ctypes.data)
    os.environ["GRAPHOPT_EMULATED_ORDER"] = order
    try:
        assert getattr(library, f"{name}_launch")(None, pointers) == 0
    finally:
        del os.environ["GRAPHOPT_EMULATED_ORDER"]
    return y


def _input(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def test_a_barrier_stands_between_writer_and_reader(tmp_path: Path) -> None:
    name, text = _text(REVERSE)
    assert text.count("__syncthreads();") == 1
    library, x = compiled({name: text}, tmp_path), _input(4, 64)
    for order in ORDERS:
        np.testing.assert_array_equal(_run(library, name, x, order), x[:, ::-1])


def test_a_race_shows_in_some_order(tmp_path: Path) -> None:
    """Without the barrier, threads read what their partners have not written in this order: memory
    of a block that holds nothing yet is NaN."""
    name, text = _text(REVERSE)
    library = compiled({name: text.replace("__syncthreads();", "")}, tmp_path)
    results = [_run(library, name, _input(4, 64), order) for order in ORDERS]
    assert all(np.isnan(y).any() for y in results)
    assert not np.array_equal(np.isnan(results[0]), np.isnan(results[1]))


def test_threads_that_disagree_about_a_barrier_stop_the_program(tmp_path: Path) -> None:
    compiled({"disagree": DISAGREE}, tmp_path)
    (library,) = tmp_path.glob("*.so")
    program = (
        f"import ctypes; out = (ctypes.c_float * 64)(); p = (ctypes.c_void_p * 1)("
        f"ctypes.addressof(out)); ctypes.CDLL({str(library)!r}).disagree_launch(None, p)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode != 0
    assert b"threads of a block disagree about a barrier or shuffle" in done.stderr


CHOSEN = """
kernel go_chosen(x: f32[64], y: f32[64] output) {
  block b in 0..1 {
    alloc own: f32[64] register
    thread t in 0..64 {
      own[t] = x[t]
    }
    thread t in 0..64 {
      y[t] = select(t < 5, reduce_max(own[ramp(t // 16 * 16, 1, 16)]), 0.0)
    }
  }
}
"""


def test_all_threads_take_part_in_a_shuffle_that_few_need(tmp_path: Path) -> None:
    """C++ evaluates one side of a condition: the shuffle comes before it."""
    name, text = _text(CHOSEN)
    library, x = compiled({name: text}, tmp_path), _input(64)
    wanted = interpret(parse_kernel(CHOSEN), {"x": x})["y"]
    for order in ORDERS:
        np.testing.assert_array_equal(_run(library, name, x, order), wanted)


def test_shuffles_sum_as_the_interpreter_does(tmp_path: Path) -> None:
    """To the same bits: both combine halves until one is left."""
    name, text = _text(WARP_SUMS)
    assert "go::warp_reduce<go::add, 8>(own)" in text
    library, x = compiled({name: text}, tmp_path), _input(96)
    wanted = interpret(parse_kernel(WARP_SUMS), {"x": x})["y"]
    for order in ORDERS:
        np.testing.assert_array_equal(_run(library, name, x, order), wanted)


def test_zips_take_lanes_in_turn(tmp_path: Path) -> None:
    name, text = _text(ZIPS)
    library, x = compiled({name: text}, tmp_path), _input(160)
    wanted = interpret(parse_kernel(ZIPS), {"x": x})["y"]
    np.testing.assert_array_equal(wanted[:8], x[[0, 4, 1, 5, 2, 6, 3, 7]])
    turns = [8, 12, 16, 9, 13, 17, 10, 14, 18, 11, 15, 19]
    np.testing.assert_array_equal(wanted[8:20], x[turns])
    np.testing.assert_array_equal(_run(library, name, x, ORDERS[0]), wanted)
