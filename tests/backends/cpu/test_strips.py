"""Chains of convolutions by strips against the reference: borders, strides, channels that no vector
divides, several images, every sub-chain; and the same bits however threads share the strips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.lower import lower_region
from graphopt_backends.cpu.targets import TARGETS, host
from graphopt_passes.fuse.fuse import Fuse
from graphopt_passes.fuse.fuse_strips import FuseStrips
from regions import check_regions, graph_of

from graphopt.ir.graph import Graph, Value
from graphopt.ir.types import DType, Layout, TensorType
from graphopt.kernel.ir import Alloc, Scope
from graphopt.kernel.visit import walk
from graphopt.lower.strips import Chain
from graphopt.ops import ConvAttrs, PadAttrs
from graphopt.passbase import PassContext
from graphopt.rewrite import Rewriter

NHWC = Layout.ordered((0, 2, 3, 1))
NONE = ((0, 0), (0, 0))
PASSES = Fuse(), FuseStrips(least=-9.0)


@dataclass(frozen=True)
class Net:
    """x [n, c, h, w] → `mid` channels by k x k → depthwise `taps` x `taps` → `out` channels; 0 for
    a link that is not there. `pad` is (before, after) of rows and of columns."""

    x: tuple[int, int, int, int]
    mid: int
    out: int
    taps: int = 3
    stride: int = 1
    k: int = 1
    pad: tuple[tuple[int, int], tuple[int, int]] = ((1, 1), (1, 1))
    fill: float = 0.0
    residual: bool = False

    def graph(self) -> Graph:
        c = self.x[1]
        channels = self.mid or c
        weights = [random(self.mid, c, self.k, self.k), random(self.mid)] if self.mid else []
        weights += [random(channels, 1, self.taps, self.taps), random(channels)]
        weights += [random(self.out, channels, 1, 1), random(self.out)] if self.out else []
        return graph_of([image(*self.x)], weights, self._body)

    def _body(self, rw: Rewriter, x: Value, *weights: Value) -> Value:
        left = list(weights)
        y = x
        if self.mid:
            y = self._conv(rw, y, left, 1)
            y = rw.insert("silu", [y], types=[y.type]).result
            (above, below), (before, after) = self.pad
            attrs = PadAttrs((0, 0, above, before), (0, 0, below, after), self.fill, "constant")
            n, c, h, w = y.type.dims
            padded = image(n, c, h + above + below, w + before + after)
            if padded.dims != y.type.dims:
                y = rw.insert("pad", [y], attrs, types=[padded]).result
        y = self._conv(rw, y, left, self.stride, groups=y.type.dims[1])
        y = rw.insert("relu", [y], types=[y.type]).result
        if self.out:
            y = self._conv(rw, y, left, 1)
        return rw.insert("add", [y, x], types=[y.type]).result if self.residual else y

    def _conv(
        self, rw: Rewriter, x: Value, left: list[Value], stride: int, groups: int = 1
    ) -> Value:
        w, b = left.pop(0), left.pop(0)
        (n, _, height, width), (o, _, kh, kw) = x.type.dims, w.type.dims
        out = image(n, o, (height - kh) // stride + 1, (width - kw) // stride + 1)
        attrs = ConvAttrs((stride, stride), NONE, (1, 1), groups, 0)
        return rw.insert("conv", [x, w, b], attrs, types=[out]).result


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32) / 3


def image(*shape: int) -> TensorType:
    return TensorType(DType.F32, shape, NHWC)


NETS = {
    "residual": Net((1, 5, 8, 7), 19, 5, residual=True),
    "several images": Net((3, 4, 6, 6), 16, 9),
    "strided": Net((2, 8, 12, 10), 50, 17, stride=2, pad=((0, 1), (0, 1))),
    "wide border": Net((1, 3, 9, 8), 33, 4, taps=5, pad=((2, 2), (2, 2)), fill=0.5),
    "border above alone": Net((1, 3, 6, 6), 16, 3, pad=((2, 0), (0, 1))),
    "no border": Net((1, 6, 10, 9), 18, 20, pad=NONE),
    "many channels": Net((1, 7, 4, 5), 211, 70),
    "one channel": Net((1, 1, 6, 6), 2, 1),
    "one row": Net((1, 4, 3, 7), 20, 8, pad=((0, 0), (1, 1))),
    "one pixel": Net((1, 4, 1, 1), 20, 8),
    "prime rows": Net((1, 4, 7, 13), 34, 8),
    "image to features": Net((1, 3, 17, 15), 32, 16, k=3),
    "no projection": Net((2, 5, 8, 9), 49, 0),
    "no projection, strided": Net((1, 5, 9, 9), 97, 0, taps=5, stride=2, pad=((2, 2), (1, 2))),
    "no expansion": Net((2, 35, 10, 9), 0, 12),
    "no expansion, strided": Net((1, 16, 13, 11), 0, 33, stride=2),
}


@pytest.mark.compiler
@pytest.mark.parametrize("target", ["host", "x86-64-v3", "scalar"])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("parts", [1, 3])
def test_agrees_with_the_reference(name: str, target: str, parts: int, tmp_path: Path) -> None:
    net, row = NETS[name], host() if target == "host" else TARGETS[target]
    fused = check_regions(net.graph(), [random(*net.x)], row, tmp_path, passes=PASSES, parts=parts)
    kinds = [n.attrs.kind for n in fused.nodes if n.body is not None]  # type: ignore[attr-defined]
    assert "strips" in kinds
    assert "depthwise" not in kinds


@pytest.mark.parametrize("name", ["residual", "no projection"])
def test_what_lies_between_the_links_is_scratch(name: str) -> None:
    """A strip of one block of channels, never the image."""
    graph = NETS[name].graph()
    for pass_ in PASSES:
        graph = pass_.run(graph, PassContext())
    (node,) = (n for n in graph.nodes if n.body is not None)
    kernel = lower_region(node, TARGETS["x86-64-v4"]).kernel
    scratch = [s.buffer for s in walk(kernel.body) if isinstance(s, Alloc)
               and s.buffer.scope is Scope.SCRATCH]  # fmt: skip
    wanted = {"expanded", "middle"} if name == "residual" else {"expanded"}
    assert {b.name for b in scratch} == wanted


CHAIN = Chain(1, 56, 3, 1, 5.4e3, 33.4e3, 32.3e3, 0.4e6, 0.6e6, 3)
"""MobileNetV2's second residual."""


def test_strips_fit_the_cache_and_leave_work_for_threads() -> None:
    rows = CHAIN.best_rows(1 << 20)
    assert CHAIN.rows % rows == 0
    assert CHAIN.shares(rows) > 1
    assert CHAIN.window(rows) * CHAIN.expanded_bytes / 3 + rows * CHAIN.middle_bytes < 1 << 20


def test_a_smaller_cache_takes_lower_strips() -> None:
    assert CHAIN.best_rows(1 << 19) < CHAIN.best_rows(1 << 20)


def test_strips_pay_where_images_do_not_fit() -> None:
    assert CHAIN.cost(CHAIN.best_rows(1 << 20), 1 << 20) < CHAIN.cost_apart(1 << 20)
    assert CHAIN.cost(CHAIN.best_rows(1 << 24), 1 << 24) >= CHAIN.cost_apart(1 << 24)
