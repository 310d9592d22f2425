"""cancel-transposes: one transpose for two, none for two that undo each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from graphopt_passes.simplify.cancel_transposes import composed
from hypothesis import given
from hypothesis import strategies as st
from real_graphs import count, fires, prepared

Check = Callable[..., object]


def _chain(*perms: list[int]) -> str:
    lines = ["%v0 = input : f32[1,8,9,3]"]
    for i, perm in enumerate(perms):
        lines.append(f"%v{i + 1} = transpose %v{i} {{perm={perm}}}")
    return "\n".join([*lines, f"return %v{len(perms)}"])


def test_cancels_inverse_pair(check_pass: Check) -> None:
    check_pass(
        "cancel-transposes",
        before="""
          %x = input : f32[1,8,8,3]
          %a = transpose %x {perm=[0,3,1,2]}
          %b = transpose %a {perm=[0,2,3,1]}
          return %b""",
        after="""
          %x = input : f32[1,8,8,3]
          return %x""",
    )


def test_composes(check_pass: Check) -> None:
    check_pass("cancel-transposes", _chain([0, 3, 1, 2], [0, 1, 3, 2]), _chain([0, 3, 2, 1]))


def test_composes_a_chain(check_pass: Check) -> None:
    check_pass("cancel-transposes", _chain([1, 2, 3, 0], [1, 2, 3, 0], [1, 2, 3, 0]),
               _chain([3, 0, 1, 2]))  # fmt: skip


def test_drops_identity(check_pass: Check) -> None:
    check_pass("cancel-transposes", _chain([0, 1, 2, 3]), _chain())


def test_keeps_what_others_read(check_pass: Check) -> None:
    pair = _chain([0, 3, 1, 2], [0, 2, 3, 1])
    check_pass("cancel-transposes", pair.replace("return %v2", "return %v2, %v1"),
               _chain([0, 3, 1, 2]).replace("return %v1", "return %v0, %v1"))  # fmt: skip


@given(st.permutations(range(5)), st.permutations(range(5)))
def test_perms_compose_as_numpy_has_it(p: list[int], q: list[int]) -> None:
    x = np.arange(120).reshape(1, 2, 3, 4, 5)
    both = composed(tuple(p), tuple(q))
    assert np.array_equal(x.transpose(p).transpose(q), x.transpose(both))


def test_refuses_a_lone_transpose(check_refuses: Check) -> None:
    check_refuses("cancel-transposes", _chain([0, 3, 1, 2]), reason="operand is not a transpose")


def test_refuses_chosen_layouts(check_refuses: Check) -> None:
    text = "%x = input : f32[2,3]\n%a = transpose %x {perm=[1,0]} : f32[3,2]@[1,0]\n"
    text += "%b = transpose %a {perm=[1,0]} : f32[2,3]@[1,0]\nreturn %b"
    check_refuses("cancel-transposes", text, reason="its layout is chosen already")


@pytest.mark.transformers
def test_fires_on_convnext() -> None:
    """Residuals that sink-views has moved meet the transposes around the norms."""
    graph = prepared("tiny_convnext", "fold-constants,fold-scale,sink-views")
    result, rewrites = fires("cancel-transposes", graph)
    assert rewrites >= 3
    assert count(result)["transpose"] < count(graph)["transpose"]
