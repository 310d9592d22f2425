"""What is emitted for each kind of region, held against golden files (`--update-golden` writes
them), and which pieces of it matter."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from graphopt_backends.cuda.emit.kernel import emit_kernel
from graphopt_backends.cuda.lower import lower_region, region_space
from graphopt_backends.cuda.targets import TARGETS
from kinds import KINDS, region_of, texts

from graphopt.errors import IRError
from graphopt.kernel.gpu import between_grids, grids
from graphopt.kernel.parser import parse_kernel
from graphopt.kernel.text import print_kernel
from graphopt.kernel.verify import verify_kernel
from graphopt.tune.space import Point

GOLDEN = Path(__file__).parent / "golden"
SM_90A = TARGETS["sm_90a"]


@pytest.fixture(scope="module")
def emitted() -> dict[str, str]:
    return texts(SM_90A)


@pytest.mark.parametrize("name", KINDS)
def test_text(name: str, emitted: dict[str, str], request: pytest.FixtureRequest) -> None:
    path = GOLDEN / f"{name}.cu"
    if request.config.getoption("--update-golden"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(emitted[name])
    assert emitted[name] == path.read_text(), "golden files are written by --update-golden"


def test_text_is_the_same_every_time(emitted: dict[str, str]) -> None:
    assert texts(SM_90A) == emitted


def test_halves_are_moved_as_they_are(emitted: dict[str, str]) -> None:
    """On their way to tensor cores they are nothing but 16 bits, and do not stop in registers."""
    assert re.search(r"go::copy_async<8>\(left1 .*, in0 ", emitted["linear_f16"])
    assert "go::to_float(go::load<8>(in0" not in emitted["linear_f16"]


def test_a_step_of_a_product_has_one_barrier(emitted: dict[str, str]) -> None:
    """Two slices a turn: a barrier before either, and copies are waited for before it."""
    text = emitted["linear_f16"]
    assert text.count("__syncthreads();") == text.count("go::wait_copies();") == 2


@pytest.mark.parametrize("name", KINDS)
def test_every_schedule_of_a_space(name: str) -> None:
    """One parameter after the other away from the default: each is a kernel that can be emitted,
    and the default is the one taken without a point."""
    node = region_of(name)
    space = region_space(node, SM_90A)
    default = space.default
    if space.parameters:
        usual = print_kernel(lower_region(node, SM_90A).kernel)
        assert print_kernel(lower_region(node, SM_90A, default).kernel) == usual
    for parameter in space.parameters:
        for choice in parameter.choices:
            point = Point({**default, parameter.name: choice})
            kernel = lower_region(node, SM_90A, point).kernel
            verify_kernel(kernel)
            assert emit_kernel(kernel, SM_90A)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("attention_of_a_query", 1),  # 128 owners of keys for 132 multiprocessors
        ("attention_in_parts", 16),
        ("attention_of_eight_heads", 16),  # 8 owners: eight heads share keys, and a block
        ("attention_in_parts_of_256", 16),
    ],
)
def test_parts_of_keys_fill_the_multiprocessors(name: str, parts: int) -> None:
    space = region_space(region_of(name), SM_90A)
    assert space.default["parts"] == parts
    for count in (1, parts):
        point = space.default.but({"parts": count})
        kernel = lower_region(region_of(name), SM_90A, point).kernel
        launches = grids(kernel)
        assert len(launches) == (1 if count == 1 else 2)
        assert len(between_grids(kernel)) == (0 if count == 1 else 3)


UPDATE = """kernel k(x: f32[64], u: f32[4], y: f32[64] output) {
  block b in 0..1 {
    thread t in 0..64 { y[t] = x[t] }
  }
  block b in 0..1 {
    thread t in 0..4 { y[t + 8] = u[t] }
  }
}"""


def test_a_state_is_not_copied_onto_itself() -> None:
    text = emit_kernel(parse_kernel(UPDATE), SM_90A)
    assert "if (const int error = x == y ? 0 : go::launch(k_0, 1, 64, 0, stream, x, y))" in text
    assert "return go::launch(k_1, 1, 4, 0, stream, u, y);" in text


def test_the_source_is_named(emitted: dict[str, str]) -> None:
    assert emitted["linear"].startswith(
        "// linear, for sm_90a\n//   computes encoder.layer.0 at model.py:12\n"
    )


def test_memory_is_read_in_words_of_16_bytes(emitted: dict[str, str]) -> None:
    for name in ("layer_norm", "linear_f16", "linear_of_a_row", "attention"):
        assert re.search(r"go::(load|copy_async)<[48]>\(", emitted[name]), name
        assert not re.search(r"neighbours<\d+>\((in|out)", emitted[name]), name


CPU = "kernel k(x: f32[8], y: f32[8] output) { parallel i in 0..8 { y[i] = x[i] } }"
LARGE = """kernel k(x: f32[8], y: f32[8] output) {
  block b in 0..1 {
    alloc s: f32[65536] shared
    thread t in 0..8 { s[t] = x[t] }
    thread t in 0..8 { y[t] = s[7 - t] }
  }
}"""

CROWDED = """kernel k(x: f32[2048], y: f32[2048] output) {
  block b in 0..1 {
    thread t in 0..2048 { y[t] = x[t] }
  }
}"""

MANY = """kernel k(x: f32[8], y: f32[8] output) {
  block b in 0..2147483648 {
    thread t in 0..8 { y[t] = x[t] }
  }
}"""

BRANCH = """kernel k(x: f32[64], y: f32[64] output) {
  block b in 0..1 {
    alloc r: f32[64] register
    thread t in 0..64 { r[t] = x[t] }
    thread t in 0..64 { if (t < 40) { y[t] = reduce_add(r[ramp(t // 32 * 32, 1, 32)]) } }
  }
}"""

PARTIAL = """kernel k(x: f32[48], y: f32[48] output) {
  block b in 0..1 {
    alloc r: f32[48] register
    thread t in 0..48 { r[t] = x[t] }
    thread t in 0..48 { y[t] = reduce_add(r[ramp(t // 16 * 16, 1, 16)]) }
  }
}"""

UNDECIDED = """kernel k(x: f32[8], y: f32[8] output) {
  block b in 0..1 {
    alloc s: f32[8] shared
    thread t in 0..8 { s[t] = x[t] }
    if (s[0] < 1.0) { thread t in 0..8 { y[t] = x[t] } }
  }
}"""

TENSOR = """kernel k(x: f16[32], y: f32[32] output) {
  block b in 0..1 {
    thread t in 0..32 { tensor tk in 0..8 { y[t] = cast:f32(x[t]) } }
  }
}"""


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (CPU, "kernel 'k' has no loop over blocks", "lower the region for a CUDA target"),
        (LARGE, "kernel 'k' wants 262144 bytes of shared memory for a block; sm_90a has 232448",
         "choose a smaller tile"),
        (CROWDED, "kernel 'k' has blocks of 2048 threads; a GPU's have 1024",
         "choose a smaller tile"),
        (MANY, "kernel 'k' has 2147483648 blocks; a GPU starts 2147483647 at most",
         "give each block more to do"),
        (BRANCH, "kernel 'k' reduces over neighbouring threads in a branch, to which a warp does "
         "not come whole",
         "let all of 32 threads reduce, and choose what is kept afterwards"),
        (PARTIAL, "kernel 'k' reduces over neighbouring threads in a loop over 48 of them, to "
         "which a warp does not come whole",
         "let all of 32 threads reduce, and choose what is kept afterwards"),
        (UNDECIDED, "kernel 'k' decides for a block by 's', which its threads write meanwhile",
         "decide by what the grid does not write"),
        (TENSOR, "a tensor loop is none that tensor cores compute: its loops are others",
         "make it by graphopt_backends.cuda.fragments"),
    ],
)  # fmt: skip
def test_errors(text: str, message: str, hint: str) -> None:
    with pytest.raises(IRError) as caught:
        emit_kernel(parse_kernel(text), SM_90A)
    assert caught.value.message == message
    assert caught.value.hint == hint


BEYOND = """kernel k(x: f32[4294967296], y: f32[128] output) {
  block b in 0..1 {
    thread t in 0..128 { y[t] = x[t * 33554432] }
  }
}"""


def test_a_thread_counts_far_in_64_bits() -> None:
    """127 * 2^25 is no int, though either factor is."""
    text = emit_kernel(parse_kernel(BEYOND), SM_90A)
    assert "const int64_t t = threadIdx.x;" in text
    assert "x[t * 33554432]" in text
