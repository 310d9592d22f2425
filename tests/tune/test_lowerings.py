"""Every schedule that a lowering declares computes what the region means, on shapes that no tile
divides; and the default is what is used where nobody chooses."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from graphopt_backends.cpu.backend import CpuBackend
from graphopt_backends.cpu.targets import TARGETS, host
from graphopt_passes.fuse.fuse import Fuse
from graphopt_passes.fuse.fuse_strips import FuseStrips
from regions import graph_of
from traced_models import tiny

from graphopt.driver import Options, default_pipeline
from graphopt.ir.digest import region_digest
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import DType, Layout, TensorType
from graphopt.ops import (
    AttentionAttrs,
    ConvAttrs,
    LayerNormAttrs,
    LinearAttrs,
    MaxPoolAttrs,
    PadAttrs,
    SoftmaxAttrs,
)
from graphopt.ops.base import Attrs
from graphopt.passbase import Pass, PassContext
from graphopt.rewrite import Rewriter, infer_types
from graphopt.target import Target
from graphopt.tune.case import capture
from graphopt.tune.measure import Measurer
from graphopt.tune.space import Point, Space

BACKEND = CpuBackend()
NONE = ((0, 0), (0, 0))
_ALL, _SAMPLE = 24, 10


@dataclass(frozen=True)
class Sample:
    """A graph of one region, and inputs for it."""

    graph: Graph
    inputs: tuple[np.ndarray, ...]

    @property
    def node(self) -> Node:
        (node,) = (n for n in self.graph.nodes if n.body is not None)
        return node


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def data(type: TensorType) -> np.ndarray:
    """Numbers; positions are some too large and some too small."""
    if type.dtype.is_float:
        return numbers(*type.dims)
    return np.random.default_rng(0).integers(-1, 7, type.dims).astype(type.dtype.numpy)


def f32(*shape: int) -> TensorType:
    return TensorType(DType.F32, shape)


def nhwc(*shape: int) -> TensorType:
    return TensorType(DType.F32, shape, Layout.ordered((0, 2, 3, 1)))


def sample(
    inputs: list[TensorType], constants: list[np.ndarray], body: object, *then: Pass
) -> Sample:
    assert callable(body)
    fused = graph_of(inputs, constants, body)
    for pass_ in (Fuse(), *then):
        fused = pass_.run(fused, PassContext())
    return Sample(fused, tuple(map(data, inputs)))


def linear(m: int, k: int, n: int, *, strassen: bool = False) -> Sample:
    return sample([f32(m, k)], [numbers(n, k), numbers(n)], lambda rw, x, w, b: rw.emit(
        "relu", rw.emit("linear", x, w, b, attrs=LinearAttrs(strassen))))  # fmt: skip


def laid(rw: Rewriter, op: str, operands: list[Value], attrs: Attrs) -> Value:
    """A node whose result is channels-last."""
    from graphopt.ops import OPS

    (type,) = infer_types(OPS[op], operands, attrs)
    layout = Layout.ordered((0, 2, 3, 1))
    return rw.insert(op, operands, attrs, types=[type.with_layout(layout)]).result


def conv(
    ci: int, co: int, k: int, height: int, width: int, *, stride: int = 1, groups: int = 1,
    winograd: int = 0,
) -> Sample:  # fmt: skip
    attrs = ConvAttrs((stride, stride), NONE, (1, 1), groups, winograd)
    weights = [numbers(co, ci // groups, k, k), numbers(co)]
    return sample([nhwc(1, ci, height, width)], weights, lambda rw, x, w, b: laid(
        rw, "conv", [x, w, b], attrs))  # fmt: skip


def strips(mid: int, out: int, *, stride: int = 1) -> Sample:
    """An inverted residual; without `out` its first two convolutions."""
    last = [numbers(out, mid, 1, 1)] if out else []
    weights = [numbers(mid, 5, 1, 1), numbers(mid, 1, 3, 3), *last]

    def body(rw: Rewriter, x: Value, *w: Value) -> Value:
        y = laid(rw, "conv", [x, w[0]], ConvAttrs((1, 1), NONE, (1, 1), 1, 0))
        pad = PadAttrs((0, 0, 1, 1), (0, 0, 1, 1), 0.0, "constant")
        y = laid(rw, "pad", [y], pad)
        y = laid(rw, "conv", [y, w[1]], ConvAttrs((stride, stride), NONE, (1, 1), mid, 0))
        return laid(rw, "conv", [y, w[2]], ConvAttrs((1, 1), NONE, (1, 1), 1, 0)) if out else y

    return sample([nhwc(2, 5, 8, 9)], weights, body, FuseStrips(least=-9.0))


def max_pool() -> Sample:
    attrs = MaxPoolAttrs((3, 3), (2, 2), NONE, (1, 1))
    return sample([nhwc(1, 37, 9, 11)], [], lambda rw, x: laid(rw, "max_pool", [x], attrs))


def attention() -> Sample:
    kinds = [f32(1, 2, 9, 20), f32(1, 2, 33, 20), f32(1, 2, 33, 18)]
    return sample(kinds, [], lambda rw, q, k, v: rw.emit(
        "attention", q, k, v, attrs=AttentionAttrs(0.2, causal=False)))  # fmt: skip


def gathered(blocks: int, rows: int, k: int, n: int) -> Sample:
    index = TensorType(DType.I64, (blocks,))
    return sample([f32(blocks, rows, k), index], [numbers(6, k, n)], lambda rw, x, i, w: rw.emit(
        "gathered_matmul", x, w, i))  # fmt: skip


def softmax() -> Sample:
    return sample([f32(3, 50)], [], lambda rw, x: rw.emit("softmax", x, attrs=SoftmaxAttrs(1)))


def layer_norm() -> Sample:
    return sample([f32(3, 133)], [numbers(133), numbers(133)], lambda rw, x, w, b: rw.emit(
        "layer_norm", x, w, b, attrs=LayerNormAttrs(1, 1e-5)))  # fmt: skip


SAMPLES = {
    "linear": lambda: linear(7, 37, 50),
    "linear-short": lambda: linear(5, 19, 33),
    "linear-row": lambda: linear(1, 40, 17),
    "strassen": lambda: linear(13, 40, 68, strassen=7),
    "gathered": lambda: gathered(7, 5, 19, 50),
    "gathered-rows": lambda: gathered(4, 1, 40, 33),
    "conv-3x3": lambda: conv(5, 33, 3, 9, 11),
    "conv-1x1": lambda: conv(17, 7, 1, 7, 6),
    "conv-strided": lambda: conv(3, 18, 3, 12, 11, stride=2),
    "conv-grouped": lambda: conv(8, 34, 3, 6, 8, groups=2),
    "depthwise": lambda: conv(33, 33, 3, 9, 8, groups=33),
    "depthwise-strided": lambda: conv(20, 20, 5, 12, 13, stride=2, groups=20),
    "winograd": lambda: conv(34, 50, 3, 10, 13, winograd=4),
    "winograd-grouped": lambda: conv(40, 72, 3, 10, 13, groups=2, winograd=4),
    "strips": lambda: strips(37, 6),
    "strips-strided": lambda: strips(50, 0, stride=2),
    "max-pool": max_pool,
    "attention": attention,
    "softmax": softmax,
    "layer-norm": layer_norm,
}

NARROW = ("linear-short", "gathered", "conv-3x3", "depthwise", "winograd", "winograd-grouped",
          "strips", "attention")  # fmt: skip
"""Half the registers, half the lanes: other tiles fit."""


def chosen(space: Space) -> list[Point]:
    """All points of a small space; of a large one the default, what is likely and some others."""
    if len(space) <= _ALL:
        return list(space.points)
    return [space.default, *space.likely[:3], *random.Random(0).sample(space.points, _SAMPLE)]


@pytest.fixture(scope="module")
def measurers() -> Iterator[dict[str, Measurer]]:
    found = {t.name: Measurer(t) for t in (host(), TARGETS["x86-64-v3"])}
    yield found
    for measurer in found.values():
        measurer.close()


@pytest.mark.compiler
@pytest.mark.parametrize(
    ("name", "target"),
    [(n, host()) for n in SAMPLES] + [(n, TARGETS["x86-64-v3"]) for n in NARROW],
    ids=lambda v: v if isinstance(v, str) else v.name,
)
def test_every_schedule_agrees_with_the_reference(
    name: str, target: Target, measurers: dict[str, Measurer]
) -> None:
    """Checked as in tuning: in poisoned memory between guards, whole and in parts."""
    found = SAMPLES[name]()
    space = BACKEND.space(found.node, target)
    points = chosen(space)
    assert len(points) > 1, "there is something to choose"
    assert all(p in space for p in (*points, *space.likely))
    candidates = [
        (p, BACKEND.candidate(found.node, found.graph, target, p, lambda k: k)) for p in points
    ]
    measurer = measurers[target.name]
    measurer.open(capture(found.graph, found.inputs, [found.node], 1 << 16)[found.node])
    measurer.prebuild([c for _, c in candidates])
    failed = {str(p): measurer.prepare(c) for p, c in candidates}
    assert {p: f for p, f in failed.items() if f is not None} == {}


def planned(name: str, target: Target) -> Graph:
    pytest.importorskip("transformers")
    return default_pipeline(Options()).run(tiny(name).graph, PassContext(target=target))


@pytest.mark.transformers
@pytest.mark.parametrize(
    ("name", "row"),
    [("tiny_resnet", "x86-64-v4"), ("tiny_bert", "x86-64-v4"), ("tiny_mobilenet_v2", "scalar"),
     ("tiny_resnet", "cortex-a76")],
)  # fmt: skip
def test_the_default_point_is_what_nobody_chose(name: str, row: str) -> None:
    """Byte for byte: a record of the default changes nothing."""
    target = TARGETS[row]
    graph = planned(name, target)
    nodes = [n for n in graph.nodes if n.body is not None]
    defaults = {region_digest(n): BACKEND.space(n, target).default for n in nodes}
    assert any(defaults.values())
    plain = BACKEND.emit(BACKEND.lower(graph, target), target)
    assert BACKEND.emit(BACKEND.lower(graph, target, defaults), target) == plain


@pytest.mark.transformers
def test_a_point_changes_the_kernel_of_its_region_alone() -> None:
    target = TARGETS["x86-64-v4"]
    graph = planned("tiny_resnet", target)
    node = next(n for n in graph.nodes if n.body and len(BACKEND.space(n, target)) > 1)
    space = BACKEND.space(node, target)
    other = next(p for p in space.points if p != space.default)
    before = BACKEND.lower(graph, target)
    after = BACKEND.lower(graph, target, {region_digest(node): other})
    changed = {
        a.region for a, b in zip(before.calls, after.calls, strict=True) if a.kernel != b.kernel
    }
    assert changed == {region_digest(node)}


def test_a_digest_tells_computations_apart() -> None:
    """The last line: it is the same in every process, or records would be of no use."""
    digests = [region_digest(make().node) for make in SAMPLES.values()]
    assert len(set(digests)) == len(digests)
    assert region_digest(linear(7, 37, 50).node) == "661ea18ecf187489"
