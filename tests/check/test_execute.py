"""The reference interpreter: precision, memory, observers, fused regions, and what it refuses."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence

import ml_dtypes
import numpy as np
import pytest

from graphopt.check.reference import execute
from graphopt.errors import InputError, InternalError
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.text import parse
from graphopt.ir.types import DType, TensorType
from graphopt.ops.base import NoAttrs, OpDef


def test_computes_in_the_types_of_the_graph() -> None:
    graph = parse("""
        %x = input : bf16[2]
        %y = cast %x {dtype=f32}
        return %x, %y""")
    x = np.array([1.0, 1 / 3], ml_dtypes.bfloat16)
    same, wide = execute(graph, [x])
    assert (same.dtype, wide.dtype) == (x.dtype, np.float32)
    assert wide.tolist() == x.astype(np.float32).tolist()


def test_float64_replaces_every_float_type_and_no_other() -> None:
    graph = parse("""
        %x = input : f32[1]
        %i = input : i32[1]
        %w = constant {key="w", value=[0.1]} : f32[1]
        %one = full {value=0.3, shape=[1], dtype=f16}
        %steps = iota {start=0.1, step=1, size=1, dtype=bf16}
        %rounded = cast %x {dtype=f16}
        %wide = cast %i {dtype=i64}
        return %x, %w, %one, %steps, %rounded, %wide""")
    inputs = [np.array([0.7]), np.array([3], np.int32)]
    outputs = execute(graph, inputs, precision=np.float64)
    assert [o.dtype.name for o in outputs] == ["float64"] * 5 + ["int64"]
    assert [float(o[0]) for o in outputs] == [0.7, float(np.float32(0.1)), 0.3, 0.1, 0.7, 3]


def test_runs_the_body_of_a_fused_node_and_shows_its_nodes() -> None:
    graph = parse("""
        %x = input : f32[2]
        %a = neg %x
        %y, %z = fused %a {kind="pointwise"} : f32[2], f32[2] {
          %p = input : f32[2]
          %c = constant {key="c", value=[2.0, 3.0]} : f32[2]
          %q = mul %p, %c
          %r = add %q, %p
          return %r, %q
        }
        return %z, %y""")
    seen: list[tuple[str, int]] = []
    z, y = execute(
        graph,
        {"x": np.ones(2, np.float32)},
        observer=lambda node, arrays: seen.append((node.op.name, len(arrays))),
    )
    assert (z.tolist(), y.tolist()) == ([-2, -3], [-3, -4])
    assert seen == [("neg", 1), ("constant", 1), ("mul", 1), ("add", 1), ("fused", 2)]


def test_frees_values_after_their_last_use() -> None:
    graph = parse("""
        %x = input : f32[4]
        %a = exp %x
        %unread = sin %a
        %b = neg %a
        %c = add %b, %b
        %d = neg %c
        return %d, %b""")
    alive: dict[str, weakref.ref[np.ndarray]] = {}
    dead: dict[str, list[str]] = {}

    def watch(node: Node, arrays: tuple[np.ndarray, ...]) -> None:
        dead[node.result.name] = [name for name, ref in alive.items() if ref() is None]
        alive[node.result.name] = weakref.ref(arrays[0])

    execute(graph, [np.ones(4, np.float32)], observer=watch)
    assert dead["b"] == ["unread"]
    assert dead["c"] == ["a", "unread"]
    assert dead["d"] == ["a", "unread"]  # c is read here; b is an output


def test_given_constants_replace_those_of_the_graph() -> None:
    graph = parse('%w = constant {key="w", value=[1.0]} : f32[1]\nreturn %w')
    (out,) = execute(graph, [], constants={"w": np.array([5.0], np.float32)})
    assert out.tolist() == [5.0]


def test_symbolic_dimensions_take_the_size_of_the_input() -> None:
    graph = parse("""
        %x = input : f32[n:1..8,2]
        %y = input : f32[n:1..8,2]
        %z = add %x, %y
        %r = reshape %z {shape=[-1,1,2]}
        return %r""")
    (out,) = execute(graph, [np.ones((3, 2), np.float32)] * 2)
    assert out.shape == (3, 1, 2)
    with pytest.raises(InputError) as caught:
        execute(graph, [np.ones((3, 2), np.float32), np.ones((4, 2), np.float32)])
    assert str(caught.value) == (
        "input %y : f32[n:1..8,2] got f32[4,2]\nhint: pass an array of this shape"
    )


_ADD = """
    %x = input : f32[2]
    %i = input : i64[1]
    %y = gather %x, %i {axis=0} loc("embed", "model.py:7")
    return %y"""


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (
            [np.ones(2, np.float32)],
            "1 inputs given, the graph takes 2\nhint: pass %x : f32[2], %i : i64[1]",
        ),
        (
            {"x": np.ones(2, np.float32), "j": np.zeros(1, np.int64)},
            "inputs ['j', 'x'] given, the graph takes ['i', 'x']\n"
            "hint: pass one array for each input, by its name",
        ),
        (
            [np.ones(2), np.zeros(1, np.int64)],
            "input %x : f32[2] got f64[2]\nhint: cast it to f32",
        ),
        (
            [np.ones((2, 1), np.float32), np.zeros(1, np.int64)],
            "input %x : f32[2] got f32[2,1]\nhint: pass an array of this shape",
        ),
        (
            [np.ones(2, np.float32), np.array([2])],
            "gather of %x : f32[2], %i : i64[1] at embed at model.py:7: index 2 is out of bounds "
            "for axis 0 with size 2\n"
            "hint: check the integer inputs, such as token ids, against the tensor they index",
        ),
    ],
    ids=["count", "names", "dtype", "shape", "index"],
)
def test_refuses(inputs: Sequence[np.ndarray] | Mapping[str, np.ndarray], text: str) -> None:
    with pytest.raises(InputError) as caught:
        execute(parse(_ADD), inputs)
    assert str(caught.value) == text


def test_an_op_whose_reference_contradicts_its_inference_is_a_bug() -> None:
    broken = OpDef("broken", NoAttrs, lambda x, _: x, lambda x, _: x[:1])
    x = Value(TensorType(DType.F32, (2,)), name="x")
    node = Node(broken, (x,), NoAttrs(), (x.type,))
    message = r"broken at <unknown>: inference says f32\[2\], its reference gave f32\[1\]"
    with pytest.raises(InternalError, match=message):
        execute(Graph((x,), (node,), node.results), [np.ones(2, np.float32)])
