"""Attention on the emulator, against the reference: one query and many, grouped heads, causal and
other masks, head sizes from 8 to 256, halves."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from cuda_regions import Case, Emulated, graph_of, random, tensor

from graphopt.ir.types import DType, TensorType
from graphopt.ops import AttentionAttrs
from graphopt.tune.space import Point

pytestmark = pytest.mark.compiler
SHAPES = [
    # heads, heads of keys, queries, keys, depth, causal
    (2, 2, 1, 1, 8, False),
    (4, 2, 7, 5, 16, True),
    (1, 1, 33, 33, 20, True),
    (2, 1, 16, 50, 64, False),
    (2, 1, 1, 1000, 64, False),
    (1, 1, 2, 70, 4, True),
    (1, 1, 1, 37, 128, False),
    (1, 1, 70, 70, 32, True),
    (1, 1, 9, 40, 256, False),
    (4, 2, 1, 90, 256, False),
    (7, 1, 1, 33, 32, False),
    (11, 1, 1, 20, 32, False),  # no divisor that registers hold
    (8, 2, 3, 70, 64, True),  # the queries of four heads, six in a block
    (8, 1, 1, 100, 32, False),  # eight heads to a block
    (16, 2, 1, 33, 128, False),
    (12, 1, 1, 50, 16, False),  # six, in two blocks
    (5, 1, 1, 130, 256, False),
    (2, 1, 4, 70, 64, True),  # four queries of two heads
]
HALVES = [
    (8, 2, 1, 300, 64, False, DType.F16),  # a query by itself
    (2, 1, 3, 40, 128, True, DType.BF16),
    (1, 1, 4, 9, 80, False, DType.F16),  # no power of two lanes, too few queries for tensor cores
    (4, 2, 16, 33, 20, False, DType.F16),
    (2, 1, 20, 40, 80, True, DType.F16),
    (1, 1, 50, 70, 256, False, DType.F16),
    (1, 1, 65, 33, 64, False, DType.BF16),
    (1, 1, 40, 96, 128, True, DType.F16),
    (2, 1, 1, 1024, 128, False, DType.F16),  # in parts by default
    (8, 1, 1, 1024, 128, False, DType.BF16),  # eight heads, in parts
    (7, 1, 1, 65, 64, False, DType.F16),
]
WINDOWS = [
    (2, 1, 100, 100, 32, False, DType.F32, 7),
    (1, 1, 150, 150, 32, True, DType.F32, 20),
    (1, 1, 90, 30, 16, False, DType.F32, 9),  # late queries see nothing
    (2, 2, 130, 130, 64, False, DType.F16, 33),
    (1, 1, 140, 200, 64, True, DType.BF16, 1),
    (2, 1, 1, 300, 64, False, DType.F32, 40),
]


def _attention(
    h: int, hk: int, m: int, t: int, d: int, causal: bool, dtype: DType = DType.F32, window: int = 0
) -> Case:
    shapes = (2, h, m, d), (2, hk, t, d), (2, hk, t, d)
    attrs = AttentionAttrs(d**-0.5, causal, window)
    graph = graph_of(
        [tensor(*s, dtype=dtype) for s in shapes], [],
        lambda rw, q, k, v: rw.emit("attention", q, k, v, attrs=attrs),
    )  # fmt: skip
    return Case(graph, [random(*s, dtype=dtype) for s in shapes])


def _masked(mask: np.ndarray, dtype: DType = DType.F32) -> Case:
    queries, keys = mask.shape[2:]
    shapes = (1, 2, queries, 16), (1, 2, keys, 16), (1, 2, keys, 16)
    graph = graph_of(
        [*(tensor(*s, dtype=dtype) for s in shapes), TensorType.of(mask)], [],
        lambda rw, q, k, v, m: rw.emit("attention", q, k, v, m, attrs=AttentionAttrs(0.25)),
    )  # fmt: skip
    return Case(graph, [*(random(*s, dtype=dtype) for s in shapes), mask])


IN_PARTS = [
    # heads, heads of keys, queries, keys, depth, causal, dtype, parts
    (2, 2, 1, 1, 64, False, DType.F16, 2),  # a part without keys
    (8, 2, 1, 300, 32, False, DType.F32, 7),
    (4, 1, 1, 257, 64, False, DType.BF16, 4),
    (2, 1, 2, 130, 128, False, DType.F16, 3),
    (16, 2, 1, 70, 256, False, DType.F16, 2),
    (2, 2, 1, 65, 256, False, DType.F32, 5),
    (4, 2, 3, 40, 32, True, DType.F32, 4),  # later parts lie behind the diagonal
    (3, 3, 1, 512, 128, False, DType.BF16, 16),
    (8, 1, 1, 70, 64, False, DType.F16, 3),
    (14, 2, 1, 33, 128, False, DType.BF16, 2),
    (4, 1, 2, 40, 256, True, DType.F32, 3),  # some parts lie behind the diagonal
]


def _in_parts(keep: np.ndarray) -> Iterator[tuple[str, Case]]:
    for *shape, dtype, parts in IN_PARTS:
        case = _attention(*shape, dtype)
        case.points = {"attention": Point({"threads": 128, "parts": parts})}
        yield f"{dtype}-{shape[0]}-{shape[4]}-in-{parts}", case
    masks = np.repeat(keep, 2, 3)
    masks[..., 20:50] = False
    floats = np.where(masks, 0, -np.inf).astype(np.float32)
    for name, mask in (("bool", masks), ("float", floats)):
        case = _masked(mask)
        case.points = {"attention": Point({"threads": 128, "parts": 14})}  # two see nothing
        yield f"mask-{name}-in-parts", case


def _cases() -> Iterator[tuple[str, Case]]:
    for shape in SHAPES:
        yield "-".join(map(str, shape)), _attention(*shape)
    for *shape, dtype in HALVES:
        yield f"{dtype}-{shape[2]}-{shape[4]}", _attention(*shape, dtype)
    for *shape, dtype, window in WINDOWS:
        yield f"{dtype}-{shape[2]}-window-{window}", _attention(*shape, dtype, window)
    keep = np.random.default_rng(0).random((1, 1, 9, 11)) > 0.4
    yield "mask-float", _masked(np.where(keep, 0.0, -1e9).astype(np.float32))
    keep = keep.copy()
    keep[0, 0, 3] = False  # a row that sees nothing
    yield "mask-bool", _masked(keep)
    keep = np.random.default_rng(1).random((1, 1, 40, 70)) > 0.4
    keep[0, 0, 3] = False
    yield "mask-bool-f16", _masked(keep, DType.F16)
    yield "mask-f16", _masked(np.where(keep, 0, -1e4).astype(np.float16), DType.F16)
    keep = np.random.default_rng(2).random((1, 1, 2, 70)) > 0.4
    keep[0, 0, 1] = False
    yield "mask-bool-decode", _masked(keep)
    yield from _in_parts(keep)
    for count in (128, 512):
        case = _attention(2, 1, 1, 200, 32, False)
        case.points = {"attention": Point({"threads": count})}
        yield f"decode-{count}", case
    for tile in ("16x32", "32x64"):
        case = _attention(1, 1, 33, 70, 16, True, DType.BF16)
        case.points = {"attention": Point({"tile": tile})}
        yield f"tensor-tile-{tile}", case
    for tile in ("8x32", "16x64"):
        case = _attention(1, 1, 33, 70, 16, True)
        case.points = {"attention": Point({"tile": tile})}
        yield f"tile-{tile}", case


CASES = dict(_cases())


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Emulated:
    return Emulated(CASES, tmp_path_factory.mktemp("attention"))


@pytest.mark.parametrize("name", CASES)
def test_attention(name: str, emulated: Emulated) -> None:
    emulated.check(name)
