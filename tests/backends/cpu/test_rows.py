"""Rows of spaces whose axes are as long as each other, so that no extent tells them apart."""

from __future__ import annotations

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
