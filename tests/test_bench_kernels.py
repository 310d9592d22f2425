"""What the rates of kernels count, and what they are rates of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from graphopt.ir.text import parse
from graphopt.target import Limits

pytest.importorskip("torch")

from bench.kernels import LARGE, TRANSFORMED, USUAL, conv, linear, main, matmul, rate

pytestmark = [pytest.mark.compiler, pytest.mark.torch]


def _filled(key: str, type: object) -> np.ndarray:
    return np.ones(type.dims, np.float32)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "flops"),
    [
        (linear(3, 20, 30), 2 * 3 * 20 * 30),
        (matmul(5, 6, 7, batch=2, turned="ab"), 2 * 2 * 5 * 6 * 7),
        # By the phases of a 4x4 it is a third more.
        (conv(3, 16, 32, 7, stride=2), 2 * 16 * 16 * 16 * 3 * 49),
        (conv(8, 8, 9, 3, groups=8, dilation=2), 2 * 8 * 81 * 9),
        (conv(8, 16, 8, 2, stride=2), 2 * 16 * 16 * 8 * 4),
    ],
)
def test_operations_are_those_of_the_model(text: str, flops: int, tmp_path: Path) -> None:
    found = rate(parse(text, fill=_filled), tmp_path / "net", TRANSFORMED)
    assert found.flops == flops
    assert 0 < found.seconds <= found.total
    assert found.of_peak(Limits(found.gflops * 2, 1.0)) == "50%"


def test_every_shape_is_a_graph() -> None:
    for name, text in {**LARGE, **USUAL}.items():
        (node,) = (n for n in parse(text(), fill=_filled).nodes if n.op.kind == "contraction")
        assert node.op.flops(*(o.type for o in node.operands), node.attrs) > 0, name


def test_a_model_that_is_not_in_the_zoo_is_refused() -> None:
    done = CliRunner().invoke(main, ["resnet5"])
    assert done.exit_code == 2
    assert "there is no model 'resnet5'" in done.output
