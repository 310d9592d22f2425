"""decompose-grouped-matmul: groups of rows in blocks, whatever the groups are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from graphopt_passes.legalize.decompose_grouped_matmul import DecomposeGroupedMatmul
from hypothesis import given, settings
from hypothesis import strategies as st
from real_graphs import count

from graphopt.check import NumericsGate
from graphopt.check import check_pass as run_check
from graphopt.check.reference import execute
from graphopt.ir.graph import Graph
from graphopt.ir.text import parse
from graphopt.passbase import PassContext
from graphopt.pipeline import Pipeline

Check = Callable[..., object]


def grouped(rows: int, ends: list[int], k: int = 3, n: int = 4) -> Graph:
    numbers = np.random.default_rng(rows)
    constants = {
        "w": numbers.standard_normal((len(ends), k, n)).astype(np.float32),
        "e": np.array(ends, np.int32),
    }
    return parse(
        f'%x = input : f32[{rows},{k}]\n%w = constant {{key="w"}} : f32[{len(ends)},{k},{n}]\n'
        f'%e = constant {{key="e"}} : i32[{len(ends)}]\n%y = grouped_matmul %x, %w, %e\nreturn %y',
        constants,
    )


def blocks(graph: Graph) -> tuple[int, ...]:
    """Number of blocks, and rows of each."""
    (product,) = (n for n in graph.nodes if n.op.name == "gathered_matmul")
    return product.operands[0].type.dims[:2]


@st.composite
def groups(draw: st.DrawFn) -> tuple[int, list[int]]:
    rows = draw(st.integers(1, 20))
    return rows, sorted(draw(st.lists(st.integers(0, rows), min_size=1, max_size=6)))


@given(groups(), st.sampled_from([1, 2, 3, 4, 8, 16]))
@settings(max_examples=80, deadline=None)
def test_any_groups_in_blocks_of_any_size(case: tuple[int, list[int]], size: int) -> None:
    """Empty ones, rows of none, more groups than rows, blocks larger than all rows."""
    graph = grouped(*case)
    result = run_check(f"decompose-grouped-matmul{{rows={size}}}", graph)
    assert count(result)["grouped_matmul"] == 0
    assert blocks(result)[1] == size


def test_no_rows_at_all() -> None:
    result = run_check("decompose-grouped-matmul", grouped(0, [0, 0]))
    assert [n.op.name for n in result.nodes][-1] == "full"


@pytest.mark.parametrize(
    "ends", [[7, 7, 7], [0, 0, 7], [0, 7, 7], [0, 0, 0], [2, 2, 5], [1, 2, 3], [3, 6, 7]]
)
def test_no_more_blocks_than_groups_can_fill(ends: list[int]) -> None:
    assert blocks(run_check("decompose-grouped-matmul{rows=4}", grouped(7, ends))) == (4, 4)
    assert blocks(run_check("decompose-grouped-matmul{rows=1}", grouped(7, ends))) == (7, 1)


def test_rows_of_blocks_that_are_filled_up_do_not_leak() -> None:
    """The row that stands in for missing ones is not a number."""
    graph = DecomposeGroupedMatmul(rows=4).run(grouped(6, [1, 3, 5]), PassContext())
    x = np.ones((6, 3), np.float32)
    x[5] = np.nan
    (y,) = execute(graph, [x])
    assert np.isfinite(y).all()
    assert (y[5] == 0).all()


def test_positions_of_any_integer_type() -> None:
    text = '%x = input : f32[9,3]\n%w = constant {key="w"} : f32[2,3,4]\n'
    for dtype in ("i8", "u8", "i64"):
        constants = {
            "w": np.ones((2, 3, 4), np.float32),
            "e": np.array([4, 9], {"i8": np.int8, "u8": np.uint8, "i64": np.int64}[dtype]),
        }
        end = f'%e = constant {{key="e"}} : {dtype}[2]\n%y = grouped_matmul %x, %w, %e\nreturn %y'
        run_check("decompose-grouped-matmul{rows=2}", parse(text + end, constants))


def test_products_of_the_same_groups_share_where_their_rows_lie() -> None:
    constants = {
        "w": np.ones((2, 4, 4), np.float32),
        "e": np.array([5, 9], np.int32),
    }
    text = (
        '%x = input : f32[9,4]\n%w = constant {key="w"} : f32[2,4,4]\n%e = constant {key="e"} : '
        "i32[2]\n%y = grouped_matmul %x, %w, %e\n%z = grouped_matmul %y, %w, %e\nreturn %z"
    )
    twice = "decompose-grouped-matmul{rows=2},eliminate-common-subexpressions"
    once = run_check("decompose-grouped-matmul{rows=2}", grouped(9, [5, 9]))
    both = Pipeline.parse(twice).run(parse(text, constants), verify_each=True, gate=NumericsGate())
    assert count(both)["cumsum"] == count(once)["cumsum"] == 1
    assert count(both)["sum"] == count(once)["sum"] == 2


@pytest.mark.parametrize(
    ("rows", "experts", "size"),
    [
        (2, 8, 1),  # one token to two of eight experts: no row shares weights
        (8, 128, 1),
        (256, 8, 4),
        (4096, 128, 4),
        (256, 64, 4),
        (64, 64, 2),  # one row each, about
        (64, 1, 4),
    ],
)
def test_size_of_blocks(rows: int, experts: int, size: int) -> None:
    """Few rows of many experts are not filled up; many are, to what a register tile holds."""
    graph = grouped(rows, [rows] * experts, k=1, n=1)
    assert blocks(DecomposeGroupedMatmul().run(graph, PassContext()))[1] == size


def test_refuses_what_has_a_layout(check_refuses: Check) -> None:
    text = (
        "%x = input : f32[6,3]\n%w = input : f32[2,3,4]\n%e = input : i32[2]\n"
        "%y = grouped_matmul %x, %w, %e : f32[6,4]@[1,0]\nreturn %y"
    )
    check_refuses("decompose-grouped-matmul", text, reason="layout is chosen already")
