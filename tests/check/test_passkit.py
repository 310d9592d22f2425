"""The kit that pass tests are written with."""

from __future__ import annotations

import pytest
from sample_passes import CancelTransposes, DropAbs, RegroupSum, SwapForever

from graphopt.check import check_pass, check_refuses, random_graph
from graphopt.errors import GateError, PluginError

PAIR = """
  %x = input : f32[1,8,8,3]
  %a = transpose %x {perm=[0,3,1,2]}
  %b = transpose %a {perm=[0,2,3,1]}
  return %b"""


def test_cancels_inverse_pair() -> None:
    result = check_pass(
        CancelTransposes(),
        before=PAIR,
        after="""
          %x = input : f32[1,8,8,3]
          return %x""",
    )
    assert not result.nodes


def test_refusal() -> None:
    text = PAIR.replace("[0,2,3,1]", "[0,3,1,2]")
    event = check_refuses(CancelTransposes(), text, reason="are not the identity")
    assert event.node.results[0].name == "b"


def test_refusal_for_another_reason() -> None:
    text = PAIR.replace("[0,2,3,1]", "[0,3,1,2]")
    with pytest.raises(AssertionError) as caught:
        check_refuses(CancelTransposes(), text, reason="too large")
    assert str(caught.value) == (
        "cancel-transposes refused, but not because 'too large': operand is not a transpose; "
        "perms (0, 3, 1, 2) then (0, 3, 1, 2) are not the identity"
    )


def test_refusal_that_did_not_happen() -> None:
    with pytest.raises(AssertionError, match="result versus input: output 0 is input %x versus"):
        check_refuses(CancelTransposes(), PAIR, reason="")


def test_other_result_than_expected() -> None:
    with pytest.raises(AssertionError) as caught:
        check_pass(CancelTransposes(), PAIR, PAIR)
    assert str(caught.value).startswith(
        "cancel-transposes, result versus expected: output 0 is input %x versus %b = transpose %a\n"
        "the pass made:\ngraph {\n  %x = input : f32[1,8,8,3]\n  return %x\n}"
    )


def test_nothing_done() -> None:
    with pytest.raises(AssertionError, match="drop-abs changed nothing"):
        check_pass(DropAbs(), PAIR)


def test_wrong_numbers() -> None:
    with pytest.raises(GateError):
        check_pass(DropAbs(), "%x = input : f32[4]\n%y = abs %x\nreturn %y")


def test_endless_rewriting() -> None:
    text = "%x = input : f32[4]\n%c = input : f32[4]\n%y = add %x, %c\nreturn %y"
    with pytest.raises(PluginError, match="swap-forever: still rewrites after 50 rounds"):
        check_pass(SwapForever(), text)


def test_constants_are_filled_in() -> None:
    text = '%x = input : f32[4]\n%w = constant {key="w"} : f32[100,4]\n'
    text += "%a = add %x, %x\n%b = add %a, %w\nreturn %b"
    expected = text.replace("%a = add %x, %x\n%b = add %a, %w", "%a = add %x, %w\n%b = add %x, %a")
    check_pass(RegroupSum(), text, expected)


def test_one_pass_at_a_time() -> None:
    with pytest.raises(PluginError, match="is not one pass"):
        check_pass("fuse,fuse", PAIR)


def test_seeds_name_graphs() -> None:
    assert random_graph(3) == random_graph(3)
    assert random_graph(3) != random_graph(4)
    assert {n.op.name for n in random_graph(3, ops=("relu", "conv")).nodes} <= {
        "relu", "conv", "constant",
    }  # fmt: skip
