"""Attention by cuDNN, emulated by its meaning: what is matched, by which strides, and what calls
come to. What the real one says of such calls: `test_cuda_cudnn_deviceless`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from cuda_regions import Case, graph_of, random, tensor

from graphopt.artifact.loader import load
from graphopt.check import check_pass, check_refuses
from graphopt.check.artifact import TOLERANCES
from graphopt.check.reference import execute
from graphopt.driver import Options, build, default_pipeline
from graphopt.ir.graph import Graph
from graphopt.ir.text import parse
from graphopt.ir.types import DType
from graphopt.ops import AttentionAttrs, ReshapeAttrs, SliceAttrs, TransposeAttrs
from graphopt.passbase import PassContext
from graphopt.pipeline import Pipeline
from graphopt.rewrite import Rewriter
from graphopt.target import resolve
from graphopt.tune.case import capture
from graphopt.tune.measure import Measurer
from graphopt.tune.openings import computed_by

BACKEND, EMULATED = resolve("cuda:emulated")
ASKED = Options(vendor="cudnn,cudnn-attention")

SHAPES: Mapping[str, tuple[int, int, int, int, int, int, bool, tuple[int, ...], DType]] = {
    # heads, heads of keys, queries, keys, depth, width, causal, mask, type
    "plain": (2, 2, 5, 5, 8, 8, False, (), DType.F16),
    "causal": (2, 2, 9, 9, 16, 16, True, (), DType.BF16),
    "causal-more-keys": (2, 1, 3, 7, 8, 8, True, (), DType.F16),
    "grouped": (6, 2, 4, 4, 8, 8, False, (), DType.F16),
    "decode": (4, 1, 1, 33, 16, 16, False, (), DType.F16),
    "two-widths": (2, 2, 4, 6, 8, 24, False, (), DType.F16),
    "one-key": (2, 2, 3, 1, 8, 8, False, (), DType.BF16),
    "mask-of-keys": (2, 2, 4, 6, 8, 8, False, (2, 1, 1, 6), DType.F16),
    "mask-of-pairs": (2, 2, 4, 6, 8, 8, False, (4, 6), DType.F16),
    "mask-of-all": (2, 2, 4, 6, 8, 8, False, (2, 2, 4, 6), DType.BF16),
    "mask-and-causal": (2, 2, 4, 6, 8, 8, True, (1, 2, 4, 6), DType.F16),
    "bools-of-keys": (2, 2, 4, 6, 8, 8, False, (2, 1, 1, 6), DType.F16),
    "bools-of-pairs": (4, 2, 4, 6, 8, 8, False, (4, 6), DType.BF16),
    "bools-and-causal": (2, 2, 4, 6, 8, 8, True, (2, 2, 4, 6), DType.F16),
}
_BOOLS = frozenset(name for name in SHAPES if name.startswith("bools"))
"""Whose masks say which keys count, the first in any case."""


def _graph(name: str) -> tuple[Graph, list[np.ndarray]]:
    h, hk, s, t, d, e, causal, mask, dtype = SHAPES[name]
    shapes = [(2, h, s, d), (2, hk, t, d), (2, hk, t, e), *([mask] if mask else [])]
    types = [dtype] * 3 + [DType.BOOL if name in _BOOLS else dtype] * bool(mask)
    attrs = AttentionAttrs(d**-0.5, causal)
    graph = graph_of(
        [tensor(*shape, dtype=type) for shape, type in zip(shapes, types, strict=True)], [],
        lambda rw, *read: rw.emit("attention", *read, attrs=attrs),
    )  # fmt: skip
    inputs = [random(*shape, dtype=type) for shape, type in zip(shapes, types, strict=True)]
    if name in _BOOLS:
        inputs[3][..., 0] = True
    return graph, inputs


def _merged() -> tuple[Graph, list[np.ndarray]]:
    """q, k and v side by side in one buffer, heads behind positions, as a merged product leaves
    them; two query heads share keys."""
    type = tensor(2, 6, 8 * 8, dtype=DType.F16)
    turn = TransposeAttrs((0, 2, 1, 3))

    def make(rw: Rewriter, x: object) -> object:
        heads = rw.emit("reshape", x, attrs=ReshapeAttrs((2, 6, 8, 8)))  # type: ignore[arg-type]
        parts = []
        for first, last in ((0, 4), (4, 6), (6, 8)):
            cut = SliceAttrs((0, 0, first, 0), (2, 6, last, 8), (1, 1, 1, 1))
            parts.append(rw.emit("transpose", rw.emit("slice", heads, attrs=cut), attrs=turn))
        return rw.emit("attention", *parts, attrs=AttentionAttrs(0.3, True))

    return graph_of([type], [], make), [random(2, 6, 64, dtype=DType.F16)]  # type: ignore[arg-type]


CASES = {**{name: Case(*_graph(name)) for name in SHAPES}, "merged": Case(*_merged())}
"""As models' graphs are, each by itself."""


def _holds(got: np.ndarray, expected: np.ndarray) -> None:
    limit = TOLERANCES[DType.of(got.dtype).value] * np.abs(expected).max()
    np.testing.assert_allclose(got.astype(np.float64), expected, rtol=0, atol=limit)


def _check(graph: Graph, inputs: Sequence[np.ndarray], out: Path) -> list[str]:
    """The libraries that were called; results hold against the reference."""
    made = build(graph, target="cuda:emulated", out=out, options=ASKED)
    with load(out) as model:
        got = model(*inputs)
    (expected,) = execute(graph, inputs, precision=np.float64)
    _holds(got[0] if isinstance(got, tuple | list) else got, expected)
    return [c.library.function for c in made.program.calls if c.library]


@pytest.mark.compiler
@pytest.mark.parametrize("name", CASES)
def test_calls_come_to_what_attention_means(name: str, tmp_path: Path):
    assert _check(CASES[name].graph, CASES[name].inputs, tmp_path / "m") == ["attention"]


@pytest.mark.compiler
def test_tensors_are_read_where_they_lie(tmp_path: Path):
    """Nothing is copied: one call reads all three from one buffer."""
    graph, inputs = _merged()
    assert _check(graph, inputs, tmp_path / "m") == ["attention"]
    made = build(graph, target="cuda:emulated", options=ASKED)
    (call,) = [c.library for c in made.program.calls]
    assert call is not None
    fields = dict(call.fields)
    assert call.roles == ("q+k+v", "y")
    assert [fields[f"{n}_at"] for n in "qkv"] == [0, 32, 48]
    assert (fields["q_b"], fields["q_h"], fields["q_s"]) == (6 * 64, 8, 64)


@pytest.mark.compiler
def test_the_tuner_measures_it(tmp_path: Path):
    """With `auto`, or where cuDNN may be called; neither does so unmeasured."""
    graph, inputs = _merged()
    context = PassContext(target=EMULATED)
    named = default_pipeline(Options(vendor="cudnn"), BACKEND)
    assert all(not getattr(n.attrs, "library", "") for n in named.run(graph, context).nodes)
    pipeline = default_pipeline(Options(vendor="auto"), BACKEND)
    assert all(not getattr(n.attrs, "library", "") for n in pipeline.run(graph, context).nodes)
    planned = pipeline.left_open().run(graph, context)
    (node,) = (n for n in planned.nodes if getattr(n.attrs, "offers", ()))
    assert node.attrs.offers == ("kernel", "cudnn")  # type: ignore[attr-defined]
    points = BACKEND.space(node, EMULATED).points
    point = next(p for p in points if computed_by(p) == "cudnn")
    candidate = BACKEND.candidate(node, planned, EMULATED, point, lambda kernel: kernel)
    with Measurer(EMULATED) as measurer:
        measurer.open(capture(planned, inputs, [node], 1 << 16)[node])
        assert measurer.prepare(candidate) is None


ALWAYS = "choose-libraries{use=[cudnn-attention],always=true}"
REGION = """
  %q = input : f16[1,2,4,8]
  %k = input : f16[1,2,6,8]
  %v = input : f16[1,2,6,8]
  %m = input : MASK[4,6]
  %y = fused %q, %k, %v, %m {kind="attention"} : f16[1,2,4,8] {
    %a = input : f16[1,2,4,8]
    %b = input : f16[1,2,6,8]
    %c = input : f16[1,2,6,8]
    %d = input : MASK[4,6]
    %r = attention %a, %b, %c, %d {scale=0.5, causal=false}
    EPILOGUE
    return %e
  }
  return %y"""


def _region(mask: str = "f16", epilogue: str = "%e = relu %r") -> str:
    return REGION.replace("MASK", mask).replace("EPILOGUE", epilogue)


def test_what_it_does_not_do_is_a_kernel_behind_it():
    after = check_pass(ALWAYS, _region(), target=EMULATED)
    fused = [n for n in after.nodes if n.body is not None]
    assert [(n.attrs.kind, n.attrs.library) for n in fused] == [
        ("attention", "cudnn"), ("pointwise", ""),
    ]  # fmt: skip


TWICE = """
  %q = input : f16[1,2,4,8]
  %m = input : bool[1,1,4,4]
  %y = attention %q, %q, %q, %m {scale=0.5, causal=false}
  %z = attention %y, %q, %y, %m {scale=0.5, causal=false}
  return %z"""


def test_a_mask_of_bools_becomes_one_that_is_added_once():
    """As layers of a model read it. Zeros where keys count, else -inf."""
    graph = Pipeline.parse("fuse").run(parse(TWICE))
    after = check_pass(ALWAYS, graph, target=EMULATED)
    fused = [n for n in after.nodes if n.body is not None]
    assert [(n.attrs.kind, n.attrs.library) for n in fused] == [
        ("pointwise", ""), ("attention", "cudnn"), ("attention", "cudnn"),
    ]  # fmt: skip
    assert fused[1].operands[-1] is fused[2].operands[-1] is fused[0].result


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            _region(mask="bool").replace(
                "%r = attention %a, %b, %c, %d",
                "%t = transpose %d {perm=[0,1]}\n%r = attention %a, %b, %c, %t",
            ),
            "a part of a mask of bools is read, which is added whole",
        ),
        (_region().replace("f16", "f32"), "cuDNN has no attention in f32"),
        (_region().replace(",8]", ",12]"), "heads are multiples of 8 up to 256 wide"),
        (
            _region().replace("%r = attention %a", "%s = relu %a\n%r = attention %s"),
            "an operand is computed in the region",
        ),
    ],
    ids=["bools", "f32", "width", "computed"],
)
def test_refuses(text: str, reason: str):
    check_refuses(ALWAYS, text, reason=reason, target=EMULATED)
