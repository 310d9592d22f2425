"""torch.compile(model, backend="graphopt")."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from models import TINY
from torch import Tensor, nn

from graphopt.errors import FrontendError
from graphopt.frontend import dynamo
from graphopt.frontend.dynamo import FallbackWarning

pytestmark = [pytest.mark.torch, pytest.mark.compiler]

TOLERANCE = 1e-4
"""Of the largest magnitude, against eager in float64: what the project promises for f32."""


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    with torch.no_grad():
        yield


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every program made from now on."""
    made: list[Any] = []

    class Kept(dynamo._Program):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(dynamo, "_Program", Kept)
    return made


def _compiled(model: nn.Module, **options: Any) -> Any:
    return torch.compile(model, backend="graphopt", options={"fallback": False, **options})


def _agrees(result: Tensor, expected: Tensor) -> None:
    assert result.shape == expected.shape
    scale = float(expected.abs().max())
    assert float((result.double() - expected).abs().max()) <= TOLERANCE * scale


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def _exact(model: nn.Module, *inputs: Tensor) -> Any:
    inputs = tuple(t.double() if t.is_floating_point() else t for t in inputs)
    return copy.deepcopy(model).double()(*inputs)


def test_torch_lists_the_backend() -> None:
    assert "graphopt" in torch._dynamo.list_backends()


@pytest.mark.parametrize("name", ["tiny_bert", "tiny_mobilenet_v2"])
def test_real_models(name: str, programs: list[Any]) -> None:
    pytest.importorskip("transformers")
    model, inputs = TINY[name]()
    results = _compiled(model)(*inputs)
    assert len(programs) == 1
    expected = _exact(model, *inputs)
    for result, wanted in zip(
        results if isinstance(results, tuple) else (results,),
        expected if isinstance(expected, tuple) else (expected,),
        strict=True,
    ):
        _agrees(result, wanted)


def test_a_program_is_made_once_for_each_shape(programs: list[Any]) -> None:
    model = Mlp().eval()
    compiled = _compiled(model)
    for n in (2, 5, 3, 5, 3):  # dynamo gives a graph of size 2, then one of any size
        x = torch.randn(n, 8)
        _agrees(compiled(x), _exact(model, x))
    assert [p.model.inputs[0].shape for p in programs] == [(2, 8), (5, 8), (3, 8)]


def test_old_programs_go(programs: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamo, "MAX_PROGRAMS", 1)
    graph = dynamo.backend(torch.fx.symbolic_trace(_Add()), [torch.ones(1)])
    for n in (1, 2, 1):
        assert graph(torch.ones(n))[0].tolist() == [3.0] * n
    assert len(programs) == 3


class _Add(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (x + 2,)


def test_a_graph_break_makes_two_programs(programs: list[Any]) -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(x) + 1
            if y.sum() > 100:
                return y * 2
            return y - 5

    compiled = torch.compile(Branch(), backend="graphopt", options={"fallback": False})
    x = torch.randn(4, 4)
    torch.testing.assert_close(compiled(x), Branch()(x))
    assert len(programs) == 2
    torch.testing.assert_close(compiled(x + 100), Branch()(x + 100))
    assert len(programs) == 3


def test_changed_weights_are_used(programs: list[Any]) -> None:
    model = Mlp().eval()
    compiled, x = _compiled(model), torch.randn(2, 8)
    before = compiled(x)
    model.layers[0].weight.mul_(2)
    _agrees(compiled(x), _exact(model, x))
    model.layers[2].weight = nn.Parameter(torch.randn(4, 16))
    _agrees(compiled(x), _exact(model, x))
    model.layers[2].bias.data = torch.randn(4)
    _agrees(compiled(x), _exact(model, x))
    assert not torch.allclose(compiled(x), before)
    assert len(programs) == 4


_REPLACED = """
import torch
from torch import nn

model, x = nn.Linear(64, 64).eval(), torch.ones(2, 64)
compiled = torch.compile(model, backend="graphopt")
with torch.no_grad():
    for number in range(12):
        model.weight = None  # frees it before the next one is made
        model.weight = nn.Parameter(torch.full((64, 64), float(number)))
        torch.testing.assert_close(compiled(x), model(x))
"""


def test_weights_where_others_were_are_not_taken_for_them() -> None:
    """An allocator gives memory again that has become free, but to a process whose log records, as
    pytest keeps them, hold what dynamo has seen."""
    done = subprocess.run([sys.executable, "-c", _REPLACED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_numbers_none_and_shapes_among_the_results() -> None:
    class Mixed(nn.Module):
        def forward(self, x: Tensor, scale: float) -> tuple[Any, ...]:
            return x * scale, None, x.shape[0], x.dtype, x.sum()

    compiled, x = _compiled(Mixed()), torch.ones(3, 2)
    for n in (3, 4):
        x = torch.ones(n, 2)
        product, nothing, size, dtype, total = compiled(x, 1.5)
        assert product.tolist() == [[1.5, 1.5]] * n
        assert (nothing, size, dtype, total.item()) == (None, n, torch.float32, 2 * n)


def test_programs_know_the_models_modules_and_lines(programs: list[Any]) -> None:
    _compiled(Mlp().eval())(torch.randn(2, 8))
    (program,) = programs
    modules = {m for call in program.model.manifest.calls for m, _ in call.computes}
    assert {"layers.0", "layers.1", "layers.2"} <= modules


def test_builds_are_cached_and_keep_no_inputs(
    programs: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path))
    model = Mlp().eval()
    for _ in range(2):
        _compiled(model)(torch.randn(2, 8))
        torch._dynamo.reset()
    first, second = programs
    assert first.model.folder == second.model.folder
    assert "build" in [s.name for s in first.model.report.stages]
    assert "build" not in [s.name for s in second.model.report.stages]
    assert not (first.model.folder / "golden.safetensors").exists()


def test_options_reach_the_compiler(programs: list[Any]) -> None:
    _compiled(Mlp().eval(), target="cpu:scalar", threads=2)(torch.randn(2, 8))
    (program,) = programs
    assert (program.model.manifest.target.name, program.model.threads) == ("scalar", 2)


def test_an_option_there_is_not() -> None:
    with pytest.raises(FrontendError) as caught:
        dynamo.BackendOptions.parse({"thread": 2})
    assert str(caught.value) == (
        "backend graphopt has no option 'thread'\nhint: did you mean 'threads'?"
    )


# What is not compiled ----------------------------------------------------------------------------


def test_gradients_fall_back_to_eager() -> None:
    model = Mlp().eval()
    compiled, x = torch.compile(model, backend="graphopt"), torch.randn(2, 8)
    with torch.enable_grad(), pytest.warns(FallbackWarning) as caught:
        compiled(x).sum().backward()
    assert [str(w.message) for w in caught if w.category is FallbackWarning] == [
        "graphopt runs a graph in eager: gradients would be lost\n"
        "hint: call the model under torch.no_grad()"
    ]
    assert model.layers[0].weight.grad is not None


class Inverse(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.inv(x) * 2


def test_unsupported_operators_fall_back_to_eager() -> None:
    compiled, x = torch.compile(Inverse(), backend="graphopt"), torch.eye(3) * 4
    with pytest.warns(FallbackWarning, match=r"aten\.linalg_inv_ex\.default  1x  at test_dynamo"):
        result = compiled(x)
    np.testing.assert_allclose(result, np.eye(3) / 2, rtol=1e-6)
    torch.testing.assert_close(compiled(x), result)  # told once


def test_without_fallback_an_unsupported_graph_raises() -> None:
    with pytest.raises(Exception, match="the model uses 1 unsupported operator:") as caught:
        _compiled(Inverse())(torch.eye(3))
    assert "graphopt/frontend/aten" in str(caught.value)


def test_state_falls_back_to_eager() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.calls.add_(1)
            return x + self.calls

    compiled = torch.compile(Counts(), backend="graphopt")
    with pytest.warns(FallbackWarning, match="changes its"):
        assert compiled(torch.zeros(2)).tolist() == [1.0, 1.0]
    assert compiled(torch.zeros(2)).tolist() == [2.0, 2.0]
