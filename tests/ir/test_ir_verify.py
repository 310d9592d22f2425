"""The verifier refuses every kind of broken graph, with the node and its source line."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from graphopt.errors import IRError
from graphopt.ir.graph import Graph, Loc, Node, State, Value
from graphopt.ir.text import parse
from graphopt.ir.types import DType, Layout, LayoutAxis, SymDim, TensorType
from graphopt.ir.verify import verify
from graphopt.ops import OPS
from graphopt.ops.base import NoAttrs
from graphopt.ops.reduction import SumAttrs

TEXT = """
%x = input : f32[2,8]
%c = constant {key="c", value=[1,2,3,4,5,6,7,8]} : f32[8]
%a = add %x, %c loc("layer1.add", "model.py:12")
%f = fused %a {kind="pointwise"} {
  %p = input : f32[2,8]
  %q = relu %p
  return %q
}
%s = sum %f {axes=[1], keepdims=false}
state %x -> %f
return %f, %s
"""

F32 = TensorType(DType.F32, (2, 8))


def _swap_order(g: Graph) -> Graph:
    return dataclasses.replace(g, nodes=g.nodes[::-1])


def _retype(t: TensorType, node: int = 1) -> Callable[[Graph], Graph]:
    def edit(g: Graph) -> Graph:
        g.nodes[node].result.type = t
        return g

    return edit


def _attrs(g: Graph) -> Graph:
    g.nodes[1].attrs = SumAttrs((0,))
    return g


def _numpy_attribute(g: Graph) -> Graph:
    g.nodes[3].attrs = SumAttrs((np.int64(1),))  # type: ignore[arg-type]
    return g


def _body_inputs(g: Graph) -> Graph:
    body = g.nodes[2].body
    assert body is not None
    g.nodes[2].body = dataclasses.replace(body, inputs=(*body.inputs, Value(F32, name="r")))
    return g


def _body_type(g: Graph) -> Graph:
    g.nodes[1].result.type = F32.with_layout(Layout.ordered((1, 0)))
    return g


def _body_broken(g: Graph) -> Graph:
    assert g.nodes[2].body is not None
    g.nodes[2].body.nodes[0].operands = (g.inputs[0],)
    return g


def _foreign_output(g: Graph) -> Graph:
    return dataclasses.replace(g, outputs=(Value(F32, name="alien"), *g.outputs[1:]))


def _layout(*axes: LayoutAxis) -> Callable[[Graph], Graph]:
    return _retype(TensorType(DType.F32, (2, 8), Layout(axes)))


BROKEN: list[tuple[Callable[[Graph], Graph], str]] = [
    (_swap_order, "%s = sum: operand 0, %f, is not defined before its use\n"
     "hint: a value is read after the node that produces it, in the same graph"),
    (_retype(TensorType(DType.F32, (2, 9))), "%a = add (layer1.add at model.py:12): inference "
     "gives f32[2,8], the node says f32[2,9]"),
    (_attrs, "%a = add (layer1.add at model.py:12): attributes are SumAttrs\nhint: use NoAttrs"),
    (_numpy_attribute, "%s = sum: attribute axes is (np.int64(1),) of tuple\n"
     "hint: it must be a list, each element a whole number"),
    (lambda g: dataclasses.replace(g, constants={}),
     "%c = constant: ConstantAttrs(key='c') has no array in Graph.constants"),
    (lambda g: dataclasses.replace(g, constants={"c": np.ones(9, "f4")}),
     "%c = constant: inference gives f32[9], the node says f32[8]"),
    (_body_inputs, "%f = fused: the body has 2 inputs for 1 operands"),
    (_body_type, "%f = fused: body input 0 is f32[2,8], not f32[2,8]@[1,0]"),
    (_body_broken, "%f = fused: in its body: %q = relu: operand 0, %x, is not defined before its "
     "use\nhint: a value is read after the node that produces it, in the same graph"),
    (_foreign_output, "output 0, %alien, is not defined in this graph"),
    (lambda g: dataclasses.replace(g, output_names=("a",)), "1 output names for 2 outputs"),
    (lambda g: dataclasses.replace(g, states=(State(0, 1),)),
     "state %x -> %s is f32[2], not f32[2,8]"),
    (lambda g: dataclasses.replace(g, states=(State(0, 2),)),
     "State(input=0, output=2) is outside the graph's inputs and outputs"),
    (lambda g: dataclasses.replace(g, states=(State(0, 0), State(0, 0))),
     "state %x -> %f: one end is already paired"),
    (lambda g: dataclasses.replace(g, nodes=(*g.nodes, g.nodes[0])),
     "%c is defined twice, the second time by %c = constant"),
    (_layout(LayoutAxis(0), LayoutAxis(0)),
     "%a : f32[2,8]@[0,0]: its layout must name each of 2 axes once"),
    (_layout(LayoutAxis(0, block=2), LayoutAxis(0), LayoutAxis(1)),
     "%a : f32[2,8]@[0%2,0,1]: a block stands inside its axis and has no halo"),
    (_layout(LayoutAxis(0), LayoutAxis(1), LayoutAxis(1, block=2), LayoutAxis(1, block=2)),
     "%a : f32[2,8]@[0,1,1%2,1%2]: an axis is blocked twice"),
    (_layout(LayoutAxis(0, -1, 0), LayoutAxis(1)),
     "%a : f32[2,8]@[0:-1:0,1]: block and halo sizes cannot be negative"),
]  # fmt: skip


def test_accepts() -> None:
    verify(parse(TEXT))


@pytest.mark.parametrize(("edit", "message"), BROKEN)
def test_refuses(edit: Callable[[Graph], Graph], message: str) -> None:
    broken = edit(parse(TEXT))
    with pytest.raises(IRError) as caught:
        verify(broken)
    assert str(caught.value) == message


def test_one_range_per_symbol() -> None:
    text = "%x = input : f32[s:1..4]\n%y = input : f32[s:1..5]\nreturn %x, %y"
    with pytest.raises(IRError, match=r"s is s:1\.\.4 elsewhere"):
        verify(parse(text))


def test_symbols_must_print() -> None:
    x = Value(TensorType(DType.F32, (SymDim("2*s0", 1, 4),)), name="x")
    with pytest.raises(IRError, match=r"'2\*s0' is no name for a dimension"):
        verify(Graph((x,), (), (x,)))


def test_careless_inference_of_a_plugin_becomes_an_error() -> None:
    x = Value(F32, name="x")
    op = dataclasses.replace(OPS["relu"], infer=lambda *_: {}["oops"])
    node = Node(op, (x,), NoAttrs(), (F32,), loc=Loc("m", "f.py:3"), names=("y",))
    with pytest.raises(IRError, match=r"%y = relu \(m at f.py:3\): relu does not take f32\[2,8\]"):
        verify(Graph((x,), (node,), node.results))
