"""simplify-attention: masks that are known, heads that are repeated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from real_graphs import attribute, count, fires, prepared

from graphopt.check import execute, seeded_inputs
from graphopt.ir.text import parse
from graphopt.ops import AttentionAttrs
from graphopt.pipeline import Pipeline

Check = Callable[..., object]
QKV = "%q = input : f32[1,2,3,4]\n%k = input : f32[1,2,3,4]\n%v = input : f32[1,2,3,4]\n"
TRIANGLE = "[[1,0,0],[1,1,0],[1,1,1]]"


def _masked(value: str, type_: str, scores: str = "scale=0.5, causal=false") -> str:
    mask = f'%m = constant {{key="m", value={value}}} : {type_}\n'
    return QKV + mask + f"%y = attention %q, %k, %v, %m {{{scores}}}\nreturn %y"


def _bare(seen: str) -> str:
    return QKV + f"%y = attention %q, %k, %v {{scale=0.5, {seen}}}\nreturn %y"


MASKS = {
    "all": ("[true, true, true]", "bool[3]", "causal=false"),
    "triangle": ("[true,false,false,true,true,false,true,true,true]", "bool[1,1,3,3]",
                 "causal=true"),
    "zeros": ("[0.0, 0.0, 0.0]", "f32[3]", "causal=false"),
    "infinities": ("[0.0,-inf,-inf,0.0,0.0,-inf,0.0,0.0,0.0]", "f32[3,3]", "causal=true"),
    "band": ("[true,true,false,true,true,true,false,true,true]", "bool[3,3]", "window=2"),
    "band of what came before": (
        "[true,false,false,true,true,false,false,true,true]", "bool[1,1,3,3]",
        "causal=true, window=2",
    ),
    "diagonal": ("[0.0,-inf,-inf,-inf,0.0,-inf,-inf,-inf,0.0]", "f32[3,3]",
                 "causal=true, window=1"),
}  # fmt: skip


@pytest.mark.parametrize("case", MASKS)
def test_masks(case: str, check_pass: Check) -> None:
    value, type_, seen = MASKS[case]
    check_pass("simplify-attention", _masked(value, type_), _bare(seen))


def test_what_two_masks_keep(check_pass: Check) -> None:
    """The narrower of two windows, causal if one of them is."""
    value, type_, _ = MASKS["band"]
    before = _masked(value, type_, "scale=0.5, causal=true, window=3")
    check_pass("simplify-attention", before, _bare("causal=true, window=2"))


@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (1, 4), (4, 1), (7, 3), (3, 7)])
@pytest.mark.parametrize("causal", [False, True])
def test_every_window_is_found(queries: int, keys: int, causal: bool) -> None:
    for window in range(1, max(queries, keys) + 1):
        wanted = AttentionAttrs(0.5, causal, window).seen(queries, keys)
        values = ",".join(str(bool(x)).lower() for x in wanted.ravel())
        text = f"%q = input : f32[1,2,{queries},4]\n%k = input : f32[1,2,{keys},4]\n"
        text += f'%m = constant {{key="m", value=[{values}]}} : bool[{queries},{keys}]\n'
        graph = parse(text + "%y = attention %q, %k, %k, %m {scale=0.5}\nreturn %y")
        (node,) = (n for n in Pipeline.parse("simplify-attention").run(graph).nodes
                   if isinstance(n.attrs, AttentionAttrs))  # fmt: skip
        assert len(node.operands) == 3
        np.testing.assert_array_equal(node.attrs.seen(queries, keys), wanted)


PADDED = """%p = input : bool[1,1,1,3]
%t = constant {key="t", value=[true,false,false,true,true,false,true,true,true]} : bool[1,1,3,3]
%m = and %t, %p
%y = attention %q, %k, %v, %m {scale=0.5, causal=false}
return %y"""


POSITIONS = """%q = input : f32[1,2,300,4]
%k = input : f32[1,2,300,4]
%p = input : bool[1,1,1,300]
%i = iota {start=0, step=1, size=300, dtype=i64}
%row = reshape %i {shape=[300,1]}
%seen = le %i, %row
%wide = expand %seen {shape=[1,1,300,300]}
"""


def test_masks_made_of_positions(check_pass: Check) -> None:
    """fold-constants leaves them: they are larger than the positions."""
    before = POSITIONS + "%y = attention %q, %k, %k, %wide {scale=0.5}\nreturn %y"
    ahead = POSITIONS.partition("%i")[0]
    after = ahead + "%y = attention %q, %k, %k {scale=0.5, causal=true}\nreturn %y"
    check_pass("simplify-attention", before, after)


def test_what_is_known_of_several_parts(check_pass: Check) -> None:
    both = "%m = and %wide, %p\n%n = and %m, %p\n"
    before = POSITIONS + both + "%y = attention %q, %k, %k, %n {scale=0.5}\nreturn %y"
    after = POSITIONS.partition("%i")[0]
    after += "%y = attention %q, %k, %k, %p {scale=0.5, causal=true}\nreturn %y"
    check_pass("simplify-attention", before, after)


def test_parts_that_are_a_window_together(check_pass: Check) -> None:
    """Keys less than 64 back, which is no band alone, and none ahead; beside what is not known."""
    back = """%c = full {value=64, shape=[], dtype=i64}
%end = add %i, %c
%near = gt %end, %row
%m = and %near, %p
%n = and %wide, %m
"""
    before = POSITIONS + back + "%y = attention %q, %k, %k, %n {scale=0.5}\nreturn %y"
    after = POSITIONS.partition("%i")[0]
    after += "%y = attention %q, %k, %k, %p {scale=0.5, causal=true, window=64}\nreturn %y"
    check_pass("simplify-attention", before, after)


def test_a_part_of_a_mask_that_is_known(check_pass: Check) -> None:
    after = "%p = input : bool[1,1,1,3]\n%y = attention %q, %k, %v, %p {scale=0.5, causal=true}\n"
    check_pass("simplify-attention", QKV + PADDED, QKV + after + "return %y")


def test_splats_below_a_mask_are_written_out(check_pass: Check) -> None:
    """A concatenation of two splats: neither may stand for its array as a number."""
    made = """%a = full {value=1, shape=[2,3], dtype=bool}
%b = full {value=1, shape=[1,3], dtype=bool}
%m = concat %a, %b {axis=0}
%y = attention %q, %k, %v, %m {scale=0.5}
return %y"""
    check_pass("simplify-attention", QKV + made, _bare("causal=false"))


def test_full_splats(check_pass: Check) -> None:
    mask = "%m = full {value=1, shape=[1,1,3,3], dtype=bool}\n"
    before = QKV + mask + "%y = attention %q, %k, %v, %m {scale=0.5, causal=true}\nreturn %y"
    check_pass("simplify-attention", before, _bare("causal=true"))


REPEAT = """
%q = input : f32[1,4,3,8]
%k = input : f32[1,2,5,8]
%a = reshape %k {shape=[1,2,1,5,8]}
%b = expand %a {shape=[1,2,2,5,8]}
%c = reshape %b {shape=[1,4,5,8]}
%y = attention %q, %c, %c {scale=0.5, causal=false}
return %y
"""


def test_repeated_heads(check_pass: Check) -> None:
    after = "%q = input : f32[1,4,3,8]\n%k = input : f32[1,2,5,8]\n"
    after += "%y = attention %q, %k, %k {scale=0.5, causal=false}\nreturn %y"
    check_pass("simplify-attention", REPEAT, after)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (_masked("[true, false, true]", "bool[3]"), "neither full nor causal nor a band"),
        (_masked("[true,true,true,false,true,true,false,false,true]", "bool[3,3]"),
         "neither full nor causal nor a band"),
        (_masked("[true,true,false,true,true,true,false,true,false]", "bool[3,3]"),
         "neither full nor causal nor a band"),
        (_masked("[0.0, -1.5, 0.0]", "f32[3]"), "adds numbers to the scores"),
        (QKV + "%m = input : bool[3]\n%y = attention %q, %k, %v, %m {scale=0.5, causal=false}\n"
         "return %y", "computed at run time"),
        # The heads are interleaved, not repeated one by one.
        (REPEAT.replace("[1,2,1,5,8]", "[1,1,2,5,8]"), "no rule applies"),
    ],
)  # fmt: skip
def test_refuses(text: str, reason: str, check_refuses: Check) -> None:
    check_refuses("simplify-attention", text, reason=reason)


def test_a_masked_row_is_not_full() -> None:
    """A causal mask over more keys than queries is the top-left triangle."""
    text = "%q = input : f32[1,1,2,4]\n%k = input : f32[1,1,3,4]\n"
    text += '%m = constant {key="m", value=[true,false,false,true,true,false]} : bool[2,3]\n'
    graph = parse(text + "%y = attention %q, %k, %k, %m {scale=1.0, causal=false}\nreturn %y")
    result = Pipeline.parse("simplify-attention").run(graph)
    assert attribute(result, "attention", "causal") == [True]
    inputs = seeded_inputs(graph)
    np.testing.assert_array_equal(execute(graph, inputs)[0], execute(result, inputs)[0])


@pytest.mark.transformers
@pytest.mark.parametrize(
    ("name", "causal"),
    [("tiny_gpt2", True), ("tiny_llama", True), ("tiny_clip_text", True), ("tiny_vit", False)],
)
def test_fires_on_real_models(name: str, causal: bool) -> None:
    graph = prepared(name, "fold-constants,compose-views")
    result, rewrites = fires("simplify-attention", graph)
    assert rewrites >= 2
    assert attribute(result, "attention", "causal") == [causal, causal]
    operands = [len(n.operands) for n in result.nodes if n.op.name == "attention"]
    assert operands == [3, 3]
    assert count(result)["expand"] <= count(graph)["expand"]


@pytest.mark.transformers
def test_grouped_queries_read_each_head_once() -> None:
    graph = prepared("tiny_llama", "fold-constants")
    result, _ = fires("simplify-attention", graph)
    keys = [n.operands[1].type.dims[1] for n in result.nodes if n.op.name == "attention"]
    assert keys == [2, 2]
    assert count(graph)["expand"] > count(result)["expand"]
