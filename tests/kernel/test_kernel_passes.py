"""The built-in kernel passes: what they make, what they refuse, and that they find their work."""

from __future__ import annotations

import pytest
from graphopt_backends.cpu.targets import TARGETS
from graphopt_passes.pipelines import KERNEL_LEVELS
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import lowered

from graphopt.check import (
    KernelNumericsGate,
    check_kernel_pass,
    check_kernel_refuses,
    kernels,
)
from graphopt.kernel.ir import Kernel
from graphopt.kernel.passbase import KernelContext
from graphopt.kernel.pipeline import KernelPipeline
from graphopt.plugins import registry

V4, V3, SCALAR = (TARGETS[n] for n in ("x86-64-v4", "x86-64-v3", "scalar"))
HEAD = "kernel k(x: f32[64], w: f32[8, 8], i: i64[64], y: f32[64] output) {\n"


def _k(body: str) -> str:
    return HEAD + body + "\n}"


# vectorize-innermost -----------------------------------------------------------------------------

VECTORIZED = [
    ("for a in 0..48 { y[a] = x[a] * 2.0 }",
     "for a in 0..3 { y[ramp(a * 16, 1, 16)] = x[ramp(a * 16, 1, 16)] * 2.0 }"),
    ("for a in 0..23 { y[a + 1] = x[a] * x[3] }",
     "y[ramp(1, 1, 16)] = x[ramp(0, 1, 16)] * splat(x[3], 16)\n"
     "y[ramp(17, 1, 7)] = x[ramp(16, 1, 7)] * splat(x[3], 7)"),
    ("for a in 0..16 { let v = exp(x[a]) y[a] = v + v y[a + 16] = v * 0.5 }",
     "let v = exp(x[ramp(0, 1, 16)])\ny[ramp(0, 1, 16)] = v + v\ny[ramp(16, 1, 16)] = v * 0.5"),
    ("for a in 0..16 { y[a] += x[a] }", "y[ramp(0, 1, 16)] += x[ramp(0, 1, 16)]"),
    ("parallel a in 0..64 { y[a] = cast:f32(i[a]) }",
     "parallel a in 0..4 { y[ramp(a * 16, 1, 16)] = cast:f32(i[ramp(a * 16, 1, 16)]) }"),
    ("for b in 0..4 { for a in 0..8 { y[b * 8 + a] = w[b, a] } }",
     "for b in 0..4 { y[ramp(b * 8, 1, 8)] = w[b, ramp(0, 1, 8)] }"),
    ("for a in 0..16 { y[a] = select(a < 3, 0.0, x[a]) }",
     "y[ramp(0, 1, 16)] = select(ramp(0, 1, 16) < 3, 0.0, x[ramp(0, 1, 16)])"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), VECTORIZED, ids=[b for b, _ in VECTORIZED])
def test_vectorize_innermost(before: str, after: str) -> None:
    check_kernel_pass("vectorize-innermost", _k(before), _k(after), target=V4)


NOT_VECTORIZED = [
    ("for a in 0..3 { y[a] = x[a] }", "3 iterations are too few"),
    ("unroll a in 0..16 { y[a] = x[a] }", "it is a unroll loop"),
    ("for a in 0..8 { for b in 0..2 { y[a * 8 + b] = x[a] } }", "loop 'b' is inside it"),
    ("for a in 0..8 { if x[a] > 0.0 { y[a] = 1.0 } }", "it holds an if"),
    ("for a in 0..8 { alloc t: f32[1] stack t[0] = x[a] y[a] = t[0] }", "it holds an alloc"),
    ("for a in 0..4 { y[ramp(a * 8, 1, 8)] = splat(x[a], 8) }", "it is on vectors already"),
    ("for a in 0..4 { y[a] = reduce_add(splat(x[a], 4)) }", "it is on vectors already"),
    ("for a in 0..8 { y[a] = x[a] + reduce_max(x[ramp(a, 1, 4)]) }", "it is on vectors already"),
    ("parallel a in 0..40 { y[a] = x[a] }", "40 parallel iterations are no multiple of 16 lanes"),
    ("for a in 0..16 { y[a] = x[a * 2] }", "its accesses of 'x' are not contiguous"),
    ("for a in 0..16 { y[63 - a] = x[a] }", "its accesses of 'y' are not contiguous"),
    ("for a in 0..8 { y[a] = w[a, 0] }", "its accesses of 'w' are not contiguous"),
    ("for a in 0..16 { y[a] = x[max(min(i[a], 63), 0)] }",
     "its accesses of 'x' are not contiguous"),
    ("for a in 0..16 { y[0] += x[a] }", "every iteration writes one element of 'y'"),
    ("for a in 0..16 { y[a + 1] = y[a] + x[a] }", "depend on each other through 'y'"),
    ("alloc r: f32[8] register unroll b in 0..8 { r[b] = 0.0 } unroll b in 0..8 { y[b] = r[b] }",
     "it is a unroll loop"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "reason"), NOT_VECTORIZED, ids=[b for b, _ in NOT_VECTORIZED])
def test_vectorize_innermost_refuses(body: str, reason: str) -> None:
    check_kernel_refuses("vectorize-innermost", _k(body), reason, target=V4)


def test_vectors_are_the_targets() -> None:
    before = _k("for a in 0..24 { y[a] = x[a] }")
    after = _k("for a in 0..3 { y[ramp(a * 8, 1, 8)] = x[ramp(a * 8, 1, 8)] }")
    check_kernel_pass("vectorize-innermost", before, after, target=V3)
    for target in (SCALAR, None):
        check_kernel_refuses(
            "vectorize-innermost", before, "the target has no vectors", target=target
        )


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.transformers
def test_vectorize_innermost_finds_the_packing_of_keys() -> None:
    ctx = KernelContext(target=V4, record=True)
    for _, found in lowered("tiny_vit", "x86-64-v4"):
        KernelPipeline.parse("vectorize-innermost").run(found.kernel, ctx)
    fired = [e for e in ctx.events if not e.reason]
    assert [(e.kernel, e.where) for e in fired] == [("attention", "for d in 0..16")]


# The others --------------------------------------------------------------------------------------

CHANGED = [
    ("unroll-short-loops", "for a in 0..2 { y[a] = x[a] }", "y[0] = x[0] y[1] = x[1]"),
    ("unroll-short-loops{limit=3}",
     "for b in 0..4 { unroll a in 0..3 { y[b * 3 + a] = x[a] } }",
     "for b in 0..4 { y[b * 3] = x[0] y[b * 3 + 1] = x[1] y[b * 3 + 2] = x[2] }"),
    ("simplify-indices", "for a in 0..8 { y[(a * 8 + 3) // 8 * 8 + (a * 8 + 3) % 8] = x[a + 0] }",
     "for a in 0..8 { y[a * 8 + 3] = x[a] }"),
    ("simplify-indices",
     "for a in 0..4 { y[ramp(a * 16, 1, 16) // 4 * 4 + ramp(a * 16, 1, 16) % 4] = splat(0.0, 16) }",
     "for a in 0..4 { y[ramp(a * 16, 1, 16)] = splat(0.0, 16) }"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "before", "after"), CHANGED, ids=[b for _, b, _ in CHANGED])
def test_text(name: str, before: str, after: str) -> None:
    check_kernel_pass(name, _k(before), _k(after))


def _stream(extent: int, index: str = "ramp(k * 16, 1, 16)", before: str = "") -> str:
    return f"""kernel k(w: f32[4096], y: f32[16] output) {{
  alloc acc: f32[16] register
  acc[ramp(0, 1, 16)] = 0.0
  for k in 0..{extent} {{ {before} acc[ramp(0, 1, 16)] += w[{index}] }}
  y[ramp(0, 1, 16)] = acc[ramp(0, 1, 16)]
}}"""


def test_prefetch_streams() -> None:
    after = _stream(128, before="prefetch w[k * 16 + 192]")
    check_kernel_pass("prefetch-streams{distance=12}", _stream(128), after)


REFUSED = [
    ("unroll-short-loops", _k("for a in 0..5 { y[a] = x[a] }"), "5 iterations are more than 4"),
    ("unroll-short-loops", _k("parallel a in 0..2 { y[a] = x[a] }"), "it is a parallel loop"),
    ("unroll-short-loops", _k("for a in 0..2 { alloc t: f32[1] stack t[0] = 0.0 y[a] = t[0] }"),
     "it holds an alloc"),
    ("unroll-short-loops{stores=3}",
     _k("for a in 0..2 { y[a * 2] = 0.0 y[a * 2 + 1] = 1.0 }"), "4 stores, more than 3"),
    ("prefetch-streams", _stream(63), "63 iterations are fewer than 64"),
    ("prefetch-streams", _stream(128, "ramp(k * 8, 1, 16)"), "it streams nothing"),
    ("prefetch-streams", _stream(128, "ramp(k, 16, 16)"), "it streams nothing"),
    ("prefetch-streams", _stream(64, before="prefetch w[k]"), "it prefetches already"),
    ("prefetch-streams", _k("for a in 0..64 { for b in 0..1 { y[a] = x[a] } }"),
     "a loop is inside it"),
    ("prefetch-streams", _k("parallel a in 0..64 { y[a] = x[a] }"), "it is a parallel loop"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "reason"), REFUSED, ids=[r for *_, r in REFUSED])
def test_refusals(name: str, text: str, reason: str) -> None:
    check_kernel_refuses(name, text, reason)


@pytest.mark.parametrize("text", ["unroll-short-loops{limit=0}", "prefetch-streams{distance=0}"])
def test_options_are_checked(text: str) -> None:
    with pytest.raises(Exception, match=r"refuses its options: .* must be at least 1"):
        KernelPipeline.parse(text)


BUILT_IN = ("vectorize-innermost", "unroll-short-loops", "simplify-indices",
            "prefetch-streams{at-least=2}")  # fmt: skip


def test_all_are_here() -> None:
    names = {e.name for e in registry().of("kernel_passes") if e.distribution == "graphopt"}
    assert names == {text.partition("{")[0] for text in BUILT_IN}


@pytest.mark.parametrize("text", BUILT_IN)
@settings(deadline=None, max_examples=40)
@given(kernel=kernels(), target=st.sampled_from([V3, V4, SCALAR]))
def test_random_kernels_keep_their_meaning(text: str, kernel: Kernel, target: object) -> None:
    gate = KernelNumericsGate(seeds=(0,))
    ctx = KernelContext(target=target)  # type: ignore[arg-type]
    KernelPipeline.parse(text).run(kernel, ctx, gate=gate)
    assert not gate.notes


@pytest.mark.parametrize("level", KERNEL_LEVELS)
def test_levels(level: str) -> None:
    entries = KERNEL_LEVELS[level]
    text = ",".join(name for name, _ in entries)
    assert str(KernelPipeline.parse(text)) == text
    assert all(reason for _, reason in entries)


def test_at_signs_stand_for_levels() -> None:
    text = "@O2,simplify-indices"
    assert str(KernelPipeline.parse(text)) == "vectorize-innermost,simplify-indices"
