"""Rows of spaces whose axes are as long as each other, so that no extent tells them apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.lower import lower_region
from graphopt_backends.cpu.targets import TARGETS, host
from regions import check_regions
from square_rows import READ_TWICE

from graphopt.errors import UnsupportedError
from graphopt.ir.graph import Node
from graphopt.ir.text import parse
from graphopt.kernel.ir import Alloc
from graphopt.kernel.visit import walk
from graphopt.lower.decompose import decomposed
from graphopt.lower.rows import REDUCTIONS, row_domain
from graphopt.target import Target

pytestmark = pytest.mark.compiler

OTHER_ROW = """%x = input : f32[24,24]
%o = fused %x {kind="reduction"} : f32[24,24] {
%p = input : f32[24,24]
%s = sum %p {axes=[1], keepdims=false}
%y = div %p, %s
return %y
}
return %o"""
"""Element (i, j) asks for the sum of row j."""


def _region(text: str) -> Node:
    (node,) = (n for n in parse(text).nodes if n.op.name == "fused")
    return node


@pytest.mark.parametrize("target", [host(), TARGETS["scalar"]], ids=["host", "scalar"])
def test_what_is_read_at_two_places(target: Target, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((2, 24, 24)).astype(np.float32)
    check_regions(parse(READ_TWICE), [x], target, tmp_path, passes=())


def test_the_sum_of_another_row_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="another row"):
        lower_region(_region(OTHER_ROW), host())


@pytest.mark.parametrize(
    ("lies", "turned", "along"),
    [("@[0,2,3,1]", True, 3), ("@[0,2,3,1]", False, 1), ("", True, 2), ("", False, 3)],
)
def test_vectors_run_along_memory(lies: str, turned: bool, along: int) -> None:
    """A sum over the channels of an image that is as wide and as high, with channels last in memory
    or not, read as it is or with its axes turned."""
    steps = "%t = transpose %p {perm=[0,2,3,1]}" if turned else "%t = relu %p"
    node = _region(f"""%x = input : f32[1,96,96,96]{lies}
%o = fused %x {{kind="reduction"}} : f32[1,96,96,96] {{
%p = input : f32[1,96,96,96]{lies}
{steps}
%s = sum %t {{axes=[{3 if turned else 1}], keepdims=true}}
%y = sub %t, %s
return %y
}}
return %o""")
    assert node.body is not None
    body = decomposed(node.body)
    domain = row_domain(body, [n for n in body.nodes if n.op.name in REDUCTIONS])
    assert domain.vector == along


_SQUARES = """%m = mean %x {axes=[1], keepdims=true}
%d = sub %x, %m
%q = mul %d, %d
%s = mean %q {axes=[1], keepdims=true}
%r = rsqrt %s"""
_EXPONENTIALS = """%m = max %x {axes=[1], keepdims=true}
%d = sub %x, %m
%e = exp %d
%s = sum %e {axes=[1], keepdims=true}
%l = log %s
%r = add %l, %m"""


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        ("2,7,2300", "%r = max %x {axes=[1], keepdims=false}"),
        ("1,7,2300", "%r = sum %x {axes=[1], keepdims=true}"),
        ("2,9,1024", "%r = min %x {axes=[1], keepdims=true}"),
        ("1,9,1000", "%r = min %x {axes=[1], keepdims=true}"),
        ("3,2,5,1100", "%r = mean %x {axes=[1,2], keepdims=false}"),
        ("2,7,2300", _SQUARES),
        ("2,7,1100", _EXPONENTIALS),
    ],
)
@pytest.mark.parametrize(
    "row", [host(), TARGETS["x86-64-v3"], TARGETS["scalar"]], ids=["host", "x86-64-v3", "scalar"]
)
def test_rows_that_stream(row: Target, shape: str, body: str, tmp_path: Path) -> None:
    """Sums of long rows that come from beyond the level 2 cache are in memory, a page at a time."""
    target = replace(row, l2_bytes=4096)
    graph = parse(f"%x = input : f32[{shape}]\n{body}\nreturn %r")
    x = np.random.default_rng(0).standard_normal([int(n) for n in shape.split(",")])
    graph = check_regions(graph, [x.astype(np.float32)], target, tmp_path, parts=3)
    regions = [n for n in graph.nodes if n.op.name == "fused"]
    kernels = [lower_region(n, target).kernel for n in regions]
    pages = {s.buffer.name for k in kernels for s in walk(k.body) if isinstance(s, Alloc)}
    assert any(name.endswith(("_1024", "_512", "_500", "_504")) for name in pages)
