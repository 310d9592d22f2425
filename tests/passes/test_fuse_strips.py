"""fuse-strips: which regions join, why others stay apart, and that joining changes no value."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from graphopt_backends.cpu.targets import TARGETS
from graphopt_passes.fuse.fuse_strips import FuseStrips
from graphopt_passes.pipelines import text
from real_graphs import fires, prepared, traced
from soups import SOUPS
from torch import nn, randn

from graphopt.check import NumericsGate, random_constant
from graphopt.ir.equal import first_difference
from graphopt.ir.graph import Graph
from graphopt.ir.text import parse, print_graph
from graphopt.passbase import PassContext
from graphopt.pipeline import Pipeline

Check = Callable[..., object]
ALWAYS = "fuse-strips{least=-9.0}"

BEFORE = """
  %x = input : f32[1,4,6,6]@[0,2,3,1]
  %u = constant {key="u"} : f32[8,4,1,1]
  %w = constant {key="w"} : f32[8,1,3,3]
  %v = constant {key="v"} : f32[4,8,1,1]
  %a = fused %x, %u {kind="contraction"} : f32[1,8,8,8]@[0,2,3,1] {
    %x = input : f32[1,4,6,6]@[0,2,3,1]
    %u = input : f32[8,4,1,1]
    %c = conv %x, %u {stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1], groups=1} : f32[1,8,6,6]@[0,2,3,1]
    %p = pad %c {before=[0,0,1,1], after=[0,0,1,1], value=0.0, mode="constant"} : f32[1,8,8,8]@[0,2,3,1]
    return %p
  }
  %b = fused %a, %w {kind="depthwise"} : f32[1,8,6,6]@[0,2,3,1] {
    %a = input : f32[1,8,8,8]@[0,2,3,1]
    %w = input : f32[8,1,3,3]
    %c = conv %a, %w {stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1], groups=8} : f32[1,8,6,6]@[0,2,3,1]
    return %c
  }
  %y = fused %b, %v, %x {kind="contraction"} : f32[1,4,6,6]@[0,2,3,1] {
    %b = input : f32[1,8,6,6]@[0,2,3,1]
    %v = input : f32[4,8,1,1]
    %x = input : f32[1,4,6,6]@[0,2,3,1]
    %c = conv %b, %v {stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1], groups=1} : f32[1,4,6,6]@[0,2,3,1]
    %s = add %c, %x : f32[1,4,6,6]@[0,2,3,1]
    return %s
  }
  return %y"""  # noqa: E501

AFTER = """
  %x = input : f32[1,4,6,6]@[0,2,3,1]
  %u = constant {key="u"} : f32[8,4,1,1]
  %w = constant {key="w"} : f32[8,1,3,3]
  %v = constant {key="v"} : f32[4,8,1,1]
  %y = fused %x, %u, %w, %v {kind="strips"} : f32[1,4,6,6]@[0,2,3,1] {
    %x = input : f32[1,4,6,6]@[0,2,3,1]
    %u = input : f32[8,4,1,1]
    %w = input : f32[8,1,3,3]
    %v = input : f32[4,8,1,1]
    %c = conv %x, %u {stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1], groups=1} : f32[1,8,6,6]@[0,2,3,1]
    %p = pad %c {before=[0,0,1,1], after=[0,0,1,1], value=0.0, mode="constant"} : f32[1,8,8,8]@[0,2,3,1]
    %d = conv %p, %w {stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1], groups=8} : f32[1,8,6,6]@[0,2,3,1]
    %e = conv %d, %v {stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1], groups=1} : f32[1,4,6,6]@[0,2,3,1]
    %s = add %e, %x : f32[1,4,6,6]@[0,2,3,1]
    return %s
  }
  return %y"""  # noqa: E501


def test_joins_an_inverted_residual(check_pass: Check) -> None:
    check_pass(ALWAYS, BEFORE, AFTER)


def test_the_text_of_a_chain_reads_back(check_pass: Check) -> None:
    result = check_pass(ALWAYS, BEFORE)
    assert isinstance(result, Graph)
    assert parse(print_graph(result), result.constants) == result


def test_what_stays_in_the_cache_stays_apart(check_refuses: Check) -> None:
    check_refuses("fuse-strips", BEFORE, reason="stays in the cache anyway")


def test_a_small_cache_makes_it_pay(check_pass: Check) -> None:
    """16 channels at 64² are 256 kB; a strip of them, some."""
    graph = _fused(_net(16, 64, 64, 16))
    check_pass(FuseStrips(cache_bytes=200_000), graph)


def _net(
    inputs: int, mid: int, size: int, out: int, *, first: str = "groups=1", last: int = 1,
    more: str = "", result: str = "%p",
) -> str:  # fmt: skip
    """Convolutions 1x1, 3x3 of every channel by itself, `last` x `last`."""
    conv = "stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1]"
    same = conv.replace("[[0,0],[0,0]]", "[[1,1],[1,1]]")
    groups = int(first.partition("=")[2].partition(",")[0])
    return f"""
      %x = input : f32[1,{inputs},{size},{size}]
      %u = constant {{key="u"}} : f32[{mid},{inputs // groups},1,1]
      %a = conv %x, %u {{{conv}, {first}}}
      %r = relu %a
      %w = constant {{key="w"}} : f32[{mid},1,3,3]
      %d = conv %r, %w {{{same}, groups={mid}}}
      %s = relu %d
      %v = constant {{key="v"}} : f32[{out},{mid},{last},{last}]
      %p = conv %s, %v {{{conv}, groups=1}}
      {more}
      return {result}"""


def _fused(source: str) -> Graph:
    graph = parse(source, fill=random_constant)
    return Pipeline.parse("explicit-padding,assign-layouts,fuse").run(graph)


def _kinds(graph: Graph) -> list[str]:
    return [n.attrs.kind for n in graph.nodes if n.body is not None]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("%x = input : f32[1,8,6,6]\n%w = constant {key=\"w\"} : f32[8,1,3,3]\n%y = conv %x, %w "
         "{stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1], groups=8}\nreturn %y",
         "its input comes from no convolution, and its result goes to no convolution alone"),
        (_net(4, 8, 6, 4, first="groups=2", last=3), "sees more than one pixel"),
        (_net(4, 8, 6, 4, first="groups=2", last=3), "comes from no plain convolution"),
        (_net(4, 8, 6, 4, first="groups=1, strassen=7", last=3),
         "comes from no plain convolution"),
        (_net(4, 8, 6, 4, last=3, more="%q = exp %r", result="%p, %q").replace("[1,1],[1,1]",
         "[0,0],[0,0]"), "its input is read by several nodes"),
    ],
)  # fmt: skip
def test_refuses(source: str, reason: str, check_refuses: Check) -> None:
    check_refuses(ALWAYS, _fused(source), reason=reason)


def test_without_a_pointwise_reader_the_first_two_join() -> None:
    result, rewrites = fires(ALWAYS, _fused(_net(4, 8, 6, 4, last=3)))
    assert rewrites == 1
    assert [k for k in _kinds(result) if k != "movement"] == ["strips", "contraction"]


def test_without_a_plain_producer_the_last_two_join() -> None:
    result, rewrites = fires(ALWAYS, _fused(_net(4, 8, 6, 4, first="groups=2")))
    assert rewrites == 1
    assert [k for k in _kinds(result) if k != "movement"] == ["contraction", "strips"]


def test_a_result_that_others_read_ends_the_chain() -> None:
    net = _net(4, 8, 6, 4, more="%q = mean %s {axes=[2,3], keepdims=true}", result="%p, %q")
    result, _ = fires(ALWAYS, _fused(net))
    assert sorted(k for k in _kinds(result) if k != "movement") == [
        "contraction", "reduction", "strips",
    ]  # fmt: skip


def test_fires_on_a_traced_module() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU6(),
        nn.Conv2d(16, 16, 5, stride=2, padding=2, groups=16), nn.SiLU(),
        nn.Conv2d(16, 8, 1),
    )  # fmt: skip
    before = Pipeline.parse(text("O2").split(",fuse-strips")[0]).run(
        traced(net, randn(2, 3, 33, 33))
    )
    result, rewrites = fires(ALWAYS, before)
    assert rewrites == 1
    assert "strips" in _kinds(result)


def test_chains_that_nearly_fill_the_cache_join_where_what_is_beyond_it_is_slow() -> None:
    """What lies between takes 0.9 of it."""
    between = 4 * 8 * 8 * 8
    core = replace(TARGETS["x86-64-v4"], l2_bytes=round(between / 0.9))
    for gbytes, joins in ((17.0, True), (30.0, False)):
        ctx = PassContext(target=replace(core, far_gbytes=gbytes))
        after = FuseStrips().run(parse(BEFORE, fill=random_constant), ctx)
        assert ("strips" in print_graph(after)) is joins


@pytest.mark.transformers
def test_fires_on_a_model() -> None:
    before = prepared("tiny_mobilenet_v2", text("O2").split(",fuse-strips")[0])
    result, rewrites = fires(ALWAYS, before)
    assert rewrites == _kinds(result).count("strips") == _kinds(before).count("depthwise")


def test_soups() -> None:
    fired = 0
    for seed in range(30):
        before = _fused(print_graph(SOUPS["residuals"](seed)))
        ctx = PassContext()
        once = Pipeline.parse(ALWAYS).run(before, ctx, verify_each=True, gate=NumericsGate())
        again = Pipeline.parse(ALWAYS).run(once, verify_each=True)
        assert first_difference(once, again) is None, f"seed {seed}"
        fired += ctx.rewrites
    assert fired >= 20


def test_fuel_is_spent_chain_by_chain() -> None:
    """What bisect relies on."""
    body = _net(4, 8, 6, 4).partition("return")[0]
    second = body[body.index("%a =") :]
    second = re.sub(r"%([arwdsv])\b", r"%\g<1>2", second).replace("%p ", "%q ")
    second = second.replace("%x,", "%p,")
    graph, chains = _fused(f"{body}{second}return %q"), []
    for fuel in range(3):
        result = Pipeline.parse(ALWAYS).run(graph, PassContext(fuel=fuel))
        chains.append(_kinds(result).count("strips"))
    assert chains == [0, 1, 2]
