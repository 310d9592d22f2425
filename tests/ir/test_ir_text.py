"""IR text: what prints parses back, and what does not parse is told where."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphopt.check import graphs, random_graph
from graphopt.errors import IRError, ParseError
from graphopt.ir.equal import first_difference
from graphopt.ir.graph import Graph, State
from graphopt.ir.store import all_constants
from graphopt.ir.text import parse, print_graph
from graphopt.ir.types import DType, SymDim
from graphopt.ir.verify import verify
from graphopt.ops import OPS

CONV = """graph {
  %x = input : f32[1,8,8,3]
  %w = constant {key="conv1.weight"} : f32[16,3,3,3]
  %a = transpose %x {perm=[0,3,1,2]} : f32[1,3,8,8] loc("layer1.0", "model.py:12")
  %y = fused %a, %w {kind="contraction"} : f32[1,16,8,8]@[0,2:1:1,3:1:1,1] at 4096 loc("c", "") {
    %p = input : f32[1,3,8,8]
    %q = input : f32[16,3,3,3]
    %r = conv %p, %q {stride=[1,1], padding=[[1,1],[1,1]], dilation=[1,1]} : \
f32[1,16,8,8]@[0,2:1:1,3:1:1,1]
    return %r
  }
  %v, %i = topk %a {k=2, axis=1} : f32[1,2,8,8], i64[1,2,8,8]
  return %y, %i {names=["logits", "best one"]}
}
"""
WEIGHT = np.arange(16 * 27, dtype=np.float32).reshape(16, 3, 3, 3)


def test_prints_what_it_parsed() -> None:
    graph = parse(CONV, {"conv1.weight": WEIGHT})
    verify(graph)
    assert print_graph(graph) == CONV
    assert graph.output_names == ("logits", "best one")
    assert graph.nodes[2].result.offset == 4096


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs(tame=False, planned=True))
def test_round_trip(graph: Graph) -> None:
    verify(graph)
    text = print_graph(graph)
    again = parse(text, all_constants(graph))
    assert first_difference(graph, again, locs=True) is None
    assert again == graph
    assert print_graph(again) == text


def test_every_op_round_trips() -> None:
    seen = set()
    for seed in range(400):
        graph = random_graph(seed, tame=False, planned=True)
        seen |= {n.op.name for n in graph.nodes}
        assert parse(print_graph(graph), all_constants(graph)) == graph, seed
    assert seen == set(OPS)


def test_names_are_kept_whatever_they_hold() -> None:
    graph = parse('%"a b" = input : f32[2]\n%"λ\\n\\"" = relu %"a b"\nreturn %"λ\\n\\""')
    assert [v.name for v in graph.values()] == ["a b", 'λ\n"']
    assert [v.name for v in parse(print_graph(graph)).values()] == ["a b", 'λ\n"']


def test_equal_names_are_told_apart() -> None:
    graph = parse("%x = input : f32[2]\n%y = relu %x\n%z = relu %y\nreturn %z")
    for value in graph.values():
        value.name = "v"
    assert "%v.2 = relu %v.1 : f32[2]" in print_graph(graph)
    assert parse(print_graph(graph)) == graph


def test_symbolic_dims() -> None:
    graph = parse("%x = input : f32[s0:1..512,768]\n%y = relu %x\nreturn %y")
    assert graph.outputs[0].type.shape == (SymDim("s0", 1, 512), 768)
    assert parse(print_graph(graph)) == graph


def test_blocked_layout() -> None:
    graph = parse("%x = input : f32[1,8,4,4]@[0,1,2,3,1%4]\nreturn %x")
    assert graph.inputs[0].type.layout is not None
    assert graph.inputs[0].type.layout.is_blocked
    assert parse(print_graph(graph)) == graph


def test_dense_layout_is_no_layout() -> None:
    assert parse("%x = input : f32[2,3]@[0,1]\nreturn %x").inputs[0].type.layout is None


def test_state() -> None:
    text = "%c = input : f32[2]\n%d = relu %c\nstate %c -> %d{}\nreturn %d, %d"
    assert parse(text.format("")).states == (State(0, 0),)
    second = parse(text.format("[1]"))
    assert second.states == (State(0, 1),)
    assert parse(print_graph(second)) == second


@pytest.mark.parametrize("dtype", list(DType))
def test_inline_constants_are_exact(dtype: DType) -> None:
    numbers = np.random.default_rng(0)
    array = (numbers.standard_normal((3, 5)) * 100).astype(dtype.numpy)
    text = f'%c = constant {{key="k"}} : {dtype}[3,5]\nreturn %c'
    graph = parse(text, {"k": array})
    again = parse(print_graph(graph)).constants["k"]
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again, array)


def test_inline_constants_of_extreme_values() -> None:
    graph = parse('%c = constant {key="k", value=[nan,-inf,inf,-0.0,1e-45]} : f32[5]\nreturn %c')
    array = graph.constants["k"]
    np.testing.assert_array_equal(array, np.array([np.nan, -np.inf, np.inf, -0.0, 1e-45], "f4"))
    assert np.signbit(array[3])
    assert parse(print_graph(graph)) == graph


def test_without_types_and_locs() -> None:
    graph = parse(CONV, {"conv1.weight": WEIGHT})
    text = print_graph(graph, locs=False, types=False)
    assert "loc(" not in text
    assert "%a = transpose %x {perm=[0,3,1,2]}\n" in text
    assert parse(text, {"conv1.weight": WEIGHT}) == graph


def test_fill_makes_missing_constants() -> None:
    text = '%c = constant {key="k"} : f32[20]\nreturn %c'
    graph = parse(text, fill=lambda key, t: np.ones(t.dims, t.dtype.numpy))
    assert graph.constants["k"].sum() == 20


X = "%x = input : f32[2,8]\n"

ERRORS = [
    (X + "%y = rellu %x\nreturn %y", "line 2, column 6: there is no op 'rellu'\n"
     "hint: did you mean relu?"),
    (X + "%y = relu %z\nreturn %y", "line 2, column 11: there is no value %z here\n"
     "hint: define a value before it is used"),
    (X + "%input1 = relu %x\nreturn %input2", "line 3, column 8: there is no value %input2 here\n"
     "hint: did you mean %input1?"),
    (X + "%x = relu %x\nreturn %x", "line 2, column 1: %x is already defined\n"
     "hint: every value is defined once; choose another name"),
    (X + "%y = softmax %x\nreturn %y", "line 2, column 6: softmax needs the attribute 'axis'\n"
     "hint: its attributes are axis"),
    (X + "%y = softmax %x {axs=1}\nreturn %y", "line 2, column 18: softmax has no attribute 'axs'\n"
     "hint: did you mean 'axis'?"),
    (X + '%y = softmax %x {axis="1"}\nreturn %y',
     "line 2, column 18: attribute axis of softmax must be a whole number"),
    (X + "%y = relu %x {axis=1}\nreturn %y", "line 2, column 15: relu has no attribute 'axis'\n"
     "hint: relu takes no attributes"),
    (X + "%y = softmax %x {axis=4}\nreturn %y",
     "line 2, column 6: softmax: axis 4 is outside f32[2,8]\nhint: choose an axis in [0, 1]"),
    (X + "%y = relu %x : f32[2,9]\nreturn %y",
     "line 2, column 6: relu gives f32[2,8], not f32[2,9]\n"
     "hint: types may be left out where they can be inferred"),
    (X + "%y, %z = relu %x\nreturn %y", "line 2, column 1: relu has 1 result(s), not 2"),
    ("%x = input : f23[2]\nreturn %x", "line 1, column 14: there is no dtype 'f23'\n"
     "hint: did you mean f32?"),
    ("%x = input : f32[-2]\nreturn %x", "line 1, column 18: a dimension cannot be negative"),
    ("%x = input : f32[s:5..2]\nreturn %x", "line 1, column 18: range 5..2 of s is empty"),
    ('%c = constant {key="w"} : f32[2]\nreturn %c', "line 1, column 6: constant 'w' has no data\n"
     "hint: give its array to parse, or write it: value=[..] : type"),
    ('%c = constant {key="w", value=[1,2,3]} : f32[2]\nreturn %c',
     "line 1, column 25: value has 3 element(s), f32[2] has 2"),
    ('%c = constant {key="w", value=[300]} : u8[1]\nreturn %c',
     "line 1, column 25: 300 does not fit u8"),
    (X + "%y = relu %x", "line 2, column 13: expected a statement, found the end of the text\n"
     "hint: a statement is `%name = op ..`, `state ..` or, last, `return ..`"),
    ("graph {\n" + X + "return %x", "line 3, column 10: expected '}', found the end of the text\n"
     "hint: nothing may follow return"),
    (X + "return %x\n?", "line 3, column 1: unexpected character '?'"),
    (X + 'return %x {names=["a","b"]}',
     "line 2, column 12: names must be 1 strings, one per output"),
    (X + '%y = relu %x loc("a)\nreturn %y',
     "line 2, column 18: this string has no closing quote\nhint: end it with \""),
    (X + "%y = relu %x { return %x }\nreturn %y", "line 2, column 14: relu takes no body"),
    (X + '%y = fused %x {kind="pointwise"}\nreturn %y',
     "line 3, column 1: fused needs a body in braces"),
    (X + "state %x -> %x\nreturn", "line 2, column 13: state %x is not returned"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_error_text(text: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(text)
    assert str(caught.value) == message


def test_hostile_nesting() -> None:
    with pytest.raises(ParseError, match="nested deeper"):
        parse(X + "%y = reshape %x {shape=" + "[" * 10_000)
    region = '%y = fused %x {kind="opaque"} {\n%x = input : f32[2,8]\n'
    with pytest.raises(ParseError, match="nested deeper"):
        parse(X + region * 1000)
    with pytest.raises(ParseError, match="too many digits"):
        parse("%x = input : f32[" + "9" * 5000 + "]")


TOKENS = [
    "%x", "%y", "%", "{", "}", "[", "]", "(", ")", "=", ",", ":", "@", "->", "..", "return",
    "state",
    "graph", "input", "constant", "fused", "conv", "relu", "reshape", "at", "loc", "f32", "f32[2]",
    "0", "-1", "1e400", "99999999999999999999", "nan", "inf", '"', '"\\ud800"', "\\", "é", "\x00",
    "true", "none", "kind", "key", "value", "names", "\n", "#", "[[", "s:1..2", "%4",
]  # fmt: skip


def _mutated(text: str, numbers: random.Random) -> str:
    for _ in range(numbers.randint(1, 4)):
        i = numbers.randrange(len(text) + 1)
        j = min(len(text), i + numbers.choice([0, 0, 1, 1, 2, 5, 40]))
        other = numbers.randrange(len(text) + 1)
        new = numbers.choice(["", numbers.choice(TOKENS), text[other : other + 12]])
        text = text[:i] + new + text[j:]
    return text


def _parses_or_says_why(text: str) -> bool:
    try:
        graph = parse(text, {"conv1.weight": WEIGHT})
        verify(graph)
    except IRError:
        return False
    assert parse(print_graph(graph), all_constants(graph)) == graph
    return True


def test_mutated_text_raises_nothing_else() -> None:
    numbers = random.Random(0)
    texts = [CONV, *(print_graph(random_graph(s, tame=False, planned=True)) for s in range(60))]
    parsed = sum(_parses_or_says_why(_mutated(numbers.choice(texts), numbers)) for _ in range(2500))
    assert 0 < parsed < 2500


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(TOKENS), max_size=40).map(" ".join) | st.text(max_size=60))
def test_arbitrary_text_raises_nothing_else(text: str) -> None:
    _parses_or_says_why(text)
