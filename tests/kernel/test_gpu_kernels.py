"""Kernel IR of GPUs: what the verifier refuses and in which words, what `bind` does, text that
parses back."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.errors import IRError
from graphopt.kernel import schedule as s
from graphopt.kernel.gpu import between_grids, grids
from graphopt.kernel.interpret import interpret
from graphopt.kernel.ir import LoopKind
from graphopt.kernel.parser import parse_kernel
from graphopt.kernel.text import print_kernel
from graphopt.kernel.verify import verify_kernel

ROW_SUMS = """kernel go_sum(x: f32[6, 100], y: f32[6] output) {
  block row in 0..6 {
    alloc part: f32[128] register
    thread t in 0..128 {
      part[t] = 0.0
      if t < 100 {
        part[t] = x[row, t]
      }
    }
    alloc warps: f32[4] shared
    alloc sum: f32[128] register
    thread t in 0..128 {
      sum[t] = reduce_add(part[ramp(t // 32 * 32, 1, 32)])
    }
    thread t in 0..128 {
      if t % 32 == 0 {
        warps[t // 32] = sum[t]
      }
    }
    thread t in 0..1 {
      y[row] = reduce_add(warps[ramp(0, 1, 4)])
    }
  }
}
"""


def test_a_block_reduces_a_row() -> None:
    kernel = parse_kernel(ROW_SUMS)
    verify_kernel(kernel)
    assert print_kernel(kernel) == ROW_SUMS
    x = np.random.default_rng(0).standard_normal((6, 100), dtype=np.float32)
    np.testing.assert_allclose(interpret(kernel, {"x": x})["y"], x.sum(1), rtol=1e-5)
    (grid,) = grids(kernel)
    assert grid.threads == 128
    assert [b.name for b in grid.shared] == ["warps"]
    assert [b.name for b in grid.per_thread] == ["part", "sum"]


TWO_GRIDS = """kernel k(x: f32[64], y: f32[64] output) {
  alloc half: f32[64] scratch
  block b in 0..2 {
    thread t in 0..32 {
      half[b * 32 + t] = x[b * 32 + t] * 0.5
    }
  }
  block b in 0..2 {
    thread t in 0..32 {
      y[b * 32 + t] = half[63 - b * 32 - t]
    }
  }
}
"""


def test_a_grid_leaves_results_to_the_next() -> None:
    kernel = parse_kernel(TWO_GRIDS)
    assert verify_kernel(kernel) == ()
    assert print_kernel(kernel) == TWO_GRIDS
    assert [b.name for b in between_grids(kernel)] == ["half"]
    assert len(grids(kernel)) == 2
    x = np.arange(64, dtype=np.float32)
    np.testing.assert_array_equal(interpret(kernel, {"x": x})["y"], x[::-1] / 2)


def _kernel(body: str) -> str:
    return f"kernel k(x: f32[64], y: f32[64] output) {{\n{body}\n}}"


def _block(body: str) -> str:
    return _kernel(f"block b in 0..1 {{ {body} }}")


ERRORS = [
    (_kernel("for i in 0..64 { thread t in 0..1 { y[i] = x[i] } }"),
     "k: this is outside of a grid", "put it into a block loop"),
    (_kernel("alloc s: f32[4] stack block b in 0..1 { thread t in 0..64 { y[t] = x[t] } }"),
     "k: this is outside of a grid", "put it into a block loop"),
    (_block("y[0] = x[0]"), "k: no thread does this", "put it into a thread loop"),
    (_block("thread t in 0..2048 { if t < 64 { y[t] = x[t] } }"),
     "k: a block has 2048 threads", "it can have 1024"),
    (_block("thread t in 0..8 { block c in 0..8 { y[t * 8 + c] = x[c] } }"),
     "k: a block loop is inside of a thread", "threads have no threads of their own"),
    (_block("alloc s: f32[4] stack thread t in 0..64 { y[t] = x[t] }"),
     "k: a block declares stack memory", "declare it in a thread loop"),
    (_block("thread t in 0..64 { alloc s: f32[4] shared y[t] = x[t] }"),
     "k: a thread declares shared memory", "declare it in the block"),
    (_block("alloc r: f32[32] register thread t in 0..64 { y[t] = x[t] }"),
     "k: registers 'r' are not for 64 threads",
     "the first axis of registers outside of thread loops is the thread"),
    (_block("alloc r: f32[64] register thread t in 0..64 { r[t] = x[t] } "
            "thread t in 0..64 { y[t] = r[63 - t] }"),
     "k: 'r' of another thread is touched",
     "its first index is the thread, or ramp(t // w * w, 1, w) in a reduction"),
    (_block("alloc r: f32[64] register thread t in 0..64 { r[t] = x[t] } thread t in 0..64 "
            "{ if t < 3 { y[t] = reduce_add(r[ramp(t // 8 * 8, 1, 8)]) } }"),
     "k: neighbours are read under a condition",
     "read them before it: all threads of a warp must"),
    (_block("alloc r: f32[64] register thread t in 0..64 { r[t] = x[t] } thread t in 0..16 "
            "{ y[t] = reduce_add(r[ramp(t // 8 * 8, 1, 8)]) }"),
     "k: neighbours are read by 16 threads", "whole warps must: a multiple of 32"),
    (_block("alloc r: f32[64] register thread t in 0..64 { r[t] = x[t] } thread t in 0..64 "
            "{ r[t] = reduce_add(r[ramp(t // 8 * 8, 1, 8)]) y[t] = r[t] }"),
     "k: 'r' changes while neighbours read it", "write it in a thread loop of its own"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "what", "hint"), ERRORS)
def test_what_no_gpu_could_run(text: str, what: str, hint: str) -> None:
    with pytest.raises(IRError) as caught:
        verify_kernel(parse_kernel(text))
    assert str(caught.value).startswith(what + "\nin: ")
    assert caught.value.hint == hint


def test_a_certain_race_between_threads_is_refused() -> None:
    text = _block("alloc s: f32[1] shared thread t in 0..64 { s[0] = x[t] }"
                  " thread t in 0..64 { y[t] = s[0] }")  # fmt: skip
    with pytest.raises(IRError, match="iterations of thread loop 't' write the same element of"):
        verify_kernel(parse_kernel(text))


SCALE = """kernel k(x: f32[4, 64], y: f32[4, 64] output) {
  for i in 0..4 {
    for j in 0..64 {
      y[i, j] = x[i, j] * 2.0
    }
  }
}
"""


def test_bind_makes_blocks_and_threads_of_loops() -> None:
    kernel = s.bind(s.bind(parse_kernel(SCALE), "i", LoopKind.BLOCK), "j", LoopKind.THREAD)
    verify_kernel(kernel)
    assert print_kernel(kernel) == SCALE.replace("for i", "block i").replace("for j", "thread j")


def test_bind_refuses_what_depends_on_another_iteration() -> None:
    text = _kernel("for i in 0..63 { y[i + 1] = y[i] + x[i] }")
    with pytest.raises(IRError, match="bind: iterations of 'i' may depend on each other"):
        s.bind(parse_kernel(text), "i", LoopKind.THREAD)
    with pytest.raises(IRError, match="bind: parallel loops are not a GPU's"):
        s.bind(parse_kernel(SCALE), "i", LoopKind.PARALLEL)
