"""cast-precision: an f32 model computed in f16 or bf16."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from graphopt_passes.pipelines import text
from graphopt_passes.precision.cast_precision import rounded
from real_graphs import count, prepared, tiny

from graphopt.check.artifact import TOLERANCES
from graphopt.check.gate import NumericsGate
from graphopt.check.inputs import seeded_inputs
from graphopt.check.reference import execute
from graphopt.errors import PluginError
from graphopt.ir.types import DType
from graphopt.pipeline import Pipeline

Check = Callable[..., object]


def test_values_go_from_half_to_half(check_pass: Check) -> None:
    check_pass(
        "cast-precision{to=f16}",
        """
        %x = input : f32[4,2]
        %w = constant {key="w", value=[1,2,3,4,5,6]} : f32[3,2]
        %y = linear %x, %w
        %z = relu %y
        return %z""",
        """
        %x = input : f32[4,2]
        %x.f16 = cast %x {dtype=f16}
        %w.f16 = constant {key="w.f16", value=[1,2,3,4,5,6]} : f16[3,2]
        %y = linear %x.f16, %w.f16
        %z.f16 = relu %y
        %z = cast %z.f16 {dtype=f32}
        return %z""",
    )


def test_what_amplifies_roundings_stays_f32(check_pass: Check) -> None:
    check_pass(
        "cast-precision{to=bf16}",
        """
        %x = input : f32[4,2]
        %a = relu %x
        %e = exp %a
        %s = sum %e {axes=[1], keepdims=true}
        %y = add %s, %x
        return %y""",
        """
        %x = input : f32[4,2]
        %x.h = cast %x {dtype=bf16}
        %a.h = relu %x.h
        %a = cast %a.h {dtype=f32}
        %e = exp %a
        %s = sum %e {axes=[1], keepdims=true}
        %s.h = cast %s {dtype=bf16}
        %y.h = add %s.h, %x.h
        %y = cast %y.h {dtype=f32}
        return %y""",
    )


def test_masks_stay_masks(check_pass: Check) -> None:
    """The smallest f32 has no f16; a splat and an array of it become the smallest f16."""
    check_pass(
        "cast-precision{to=f16}",
        """
        %x = input : f32[3]
        %m = full {value=-3.4028235e38, shape=[3], dtype=f32}
        %k = constant {key="k", value=[0,1,0]} : f32[3]
        %n = constant {key="n", value=[0,0,-3.4028235e38]} : f32[3]
        %a = mul %m, %k
        %b = add %a, %n
        %c = add %x, %b
        %y = softmax %c {axis=0}
        return %y""",
        """
        %x = input : f32[3]
        %x.h = cast %x {dtype=f16}
        %m = full {value=-65504.0, shape=[3], dtype=f16}
        %k = constant {key="k.f16", value=[0,1,0]} : f16[3]
        %n = constant {key="n.f16", value=[0,0,-65504]} : f16[3]
        %a = mul %m, %k
        %b = add %a, %n
        %c = add %x.h, %b
        %y.h = softmax %c {axis=0}
        %y = cast %y.h {dtype=f32}
        return %y""",
    )


def test_indices_and_other_floats_are_left_alone(check_pass: Check) -> None:
    check_pass(
        "cast-precision{to=f16}",
        """
        %i = input : i64[3]
        %d = input : f64[3]
        %t = constant {key="t", value=[1,2,3,4]} : f32[2,2]
        %g = gather %t, %i {axis=0}
        %e = neg %d
        return %g, %e""",
        """
        %i = input : i64[3]
        %d = input : f64[3]
        %t = constant {key="t.f16", value=[1,2,3,4]} : f16[2,2]
        %g.h = gather %t, %i {axis=0}
        %g = cast %g.h {dtype=f32}
        %e = neg %d
        return %g, %e""",
    )


def test_refuses_with_a_reason(check_refuses: Check) -> None:
    check_refuses(
        "cast-precision{to=f16}",
        "%x = input : f32[3]\n%y = exp %x\nreturn %y",
        reason="exp amplifies roundings",
    )


def test_an_unknown_precision_is_an_error() -> None:
    with pytest.raises(PluginError, match="cast-precision has no precision 'f8'"):
        Pipeline.parse("cast-precision{to=f8}")


@pytest.mark.parametrize("to", [DType.F16, DType.BF16])
def test_finite_stays_finite(to: DType) -> None:
    array = np.array([1.0, -3.4e38, 3.4e38, np.inf, -np.inf, np.nan, 1e-30], np.float32)
    got = rounded(array, to).astype(np.float64)
    largest = float(ml_dtypes.finfo(to.numpy).max)
    np.testing.assert_array_equal(got[:3], [1, -largest, largest])
    np.testing.assert_array_equal(got[3:6], [np.inf, -np.inf, np.nan])


@pytest.mark.torch
@pytest.mark.parametrize("to", ["f16", "bf16"])
@pytest.mark.parametrize("name", ["tiny_resnet", "tiny_bert", "tiny_llama", "tiny_vit"])
def test_real_models_keep_their_results(name: str, to: str) -> None:
    """In the arithmetic of the type itself, rounded after every op."""
    graph = tiny(name)
    whole = text("O2").replace("cast-precision", f"cast-precision{{to={to}}}")
    half = Pipeline.parse(whole).run(graph)
    inputs = seeded_inputs(graph)
    pairs = zip(execute(graph, inputs, precision=np.float64), execute(half, inputs), strict=True)
    for expected, got in pairs:
        assert got.dtype == np.float32
        error = np.abs(got - expected).max() / np.abs(expected).max()
        assert 0 < error < TOLERANCES[to]


@pytest.mark.torch
def test_the_gate_holds_it_to_its_numerics() -> None:
    before = prepared("tiny_resnet", "fold-batchnorm")
    after = Pipeline.parse("cast-precision{to=f16}").run(
        before, verify_each=True, gate=NumericsGate()
    )
    convs = [n for n in after.nodes if n.op.name == "conv"]
    assert convs
    assert {n.result.type.dtype for n in convs} == {DType.F16}
    assert count(after)["cast"] < 8
