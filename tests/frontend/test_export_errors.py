"""What a model that cannot be compiled is told: exact texts, in the model's own lines."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import mistakes
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from graphopt.errors import FrontendError, GraphoptError, UnsupportedError
from graphopt.frontend import trace_model

pytestmark = pytest.mark.torch

DATA = (
    "use torch.where or masks of fixed shape, or compile what is around this part: "
    'torch.compile(model, backend="graphopt")'
)
ROW = torch.ones(1, 3)


def _message(kind: type[GraphoptError], model: nn.Module, *inputs: object) -> str:
    with pytest.raises(kind) as caught:
        trace_model(model.eval(), inputs or (ROW,))
    return str(caught.value)


@pytest.mark.parametrize(
    ("model", "line"),
    [(mistakes.Branch, 57), (mistakes.Length, 64)],
)
def test_control_flow_on_values(model: type[nn.Module], line: int) -> None:
    assert _message(FrontendError, model()) == (
        f"control flow or a shape depends on tensor values at mistakes.py:{line}\nhint: {DATA}"
    )


def test_a_shape_that_depends_on_values() -> None:
    assert _message(FrontendError, mistakes.Positives()) == (
        f"the shape of index depends on tensor values (mistakes.py:69)\nhint: {DATA}"
    )


def test_torch_cond() -> None:
    assert _message(FrontendError, mistakes.Cond()) == (
        f"torch.cond at mistakes.py:74 is data-dependent control flow\nhint: {DATA}"
    )


def test_a_model_that_does_not_run() -> None:
    assert _message(FrontendError, mistakes.DoesNotRun()) == (
        "torch.export failed at mistakes.py:79: RuntimeError: "
        "a and b must have same reduction dim, but got [1, 3] X [1, 3].\n"
        "hint: check that model(*example_inputs) runs"
    )


def test_an_output_of_a_class_of_its_own() -> None:
    assert _message(FrontendError, mistakes.CacheOutput()) == (
        "the model returns a Cache, which torch.export cannot take apart\n"
        "hint: return tensors; decoders of transformers do with model.config.use_cache = False"
    )


def test_unsupported_operators_are_told_all_at_once() -> None:
    assert _message(UnsupportedError, mistakes.Exotic(), torch.eye(4)) == (
        "the model uses 3 unsupported operators:\n"
        "  aten.linalg_inv_ex.default    2x  at mistakes.py:88, mistakes.py:90\n"
        "  aten.tan.default (complex64)  1x  at mistakes.py:89\n"
        "  aten.rand.default             1x  at mistakes.py:90\n"
        "hint: draw random numbers outside of the model and pass them as inputs; dropout is for "
        "training; as for the others, replace them in the model, or add their mapping to "
        "graphopt/frontend/aten"
    )


def test_memory_outside_of_a_tensor() -> None:
    class Around(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, 1:].as_strided((3,), (1,), 0)

    assert _message(UnsupportedError, Around()).startswith(
        "the model uses 1 unsupported operator:\n"
        "  aten.as_strided.default (as_strided of what lies outside of its tensor)  1x"
    )


@pytest.mark.parametrize(
    ("draws", "operator"),
    [
        (torch.bernoulli, "rand.default"),
        (lambda x: torch.multinomial(x, 1), "multinomial.default"),
        (torch.randn_like, "randn_like.default"),
        (lambda x: x + torch.randint(9, (3,)), "randint.default"),
    ],
)
def test_random_operators(draws: Callable[..., torch.Tensor], operator: str) -> None:
    said = _message(UnsupportedError, mistakes.Draws(draws))
    assert said.startswith(f"the model uses 1 unsupported operator:\n  aten.{operator}  1x  at m")
    assert "hint: draw random numbers outside of the model and pass them as inputs" in said


def test_dropout_that_no_mode_turns_off() -> None:
    line = len((Path(__file__).parent / "mistakes.py").read_text().splitlines()) - 10
    assert _message(UnsupportedError, mistakes.AlwaysDrops()) == (
        "the model uses 1 unsupported operator:\n"
        "  aten.native_dropout.default (dropout in training: pass training=self.training)  1x  "
        f"at mistakes.py:{line}\n"
        "hint: draw random numbers outside of the model and pass them as inputs; dropout is for "
        "training"
    )


@pytest.mark.skipif(torch.__version__ < (2, 13), reason="an older torch.export fails on its own")
def test_gradients_inside_a_model() -> None:
    message = _message(FrontendError, mistakes.Gradient())
    assert message.startswith("torch cannot decompose the exported model: RuntimeError: ")
    assert message.endswith("\nhint: leave torch.func and torch.autograd out of forward()")


def test_complex_weights() -> None:
    assert _message(UnsupportedError, mistakes.ComplexWeights()) == (
        "the model uses 1 unsupported operator:\n"
        "  aten.sqrt.default (complex64)  1x  at mistakes.py:99\n"
        "hint: replace them in the model, or add their mapping to graphopt/frontend/aten"
    )


def test_complex_inputs() -> None:
    assert _message(UnsupportedError, mistakes.Double(), torch.ones(2, dtype=torch.complex64)) == (
        "input 'x': dtype complex64 is not supported\n"
        "hint: use one of float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8, "
        "bool"
    )


def test_complex_outputs() -> None:
    assert _message(UnsupportedError, mistakes.ComplexOutput()) == (
        "an output is complex\nhint: return torch.view_as_real of it, or its parts"
    )


def test_state_that_changes() -> None:
    assert _message(UnsupportedError, mistakes.Counts()) == (
        "the model changes its buffer 'calls' while it runs\n"
        "hint: pass the state in as an input and return the new state"
    )


def test_inputs_that_change() -> None:
    assert _message(UnsupportedError, mistakes.InPlace()) == (
        "the model changes its input 'x' in place\nhint: return the changed tensor instead"
    )


def test_outputs_that_are_no_tensors() -> None:
    assert _message(UnsupportedError, mistakes.TextOutput()) == (
        "an output is str, not a tensor\nhint: return tensors alone"
    )


def test_dynamic_dimensions() -> None:
    batch = torch.export.Dim("batch", min=2, max=8)
    program = torch.export.export(
        mistakes.Double(), (torch.ones(3, 2),), dynamic_shapes={"x": {0: batch}}
    )
    with pytest.raises(FrontendError) as caught:
        trace_model(program)
    assert str(caught.value).startswith("x has the dynamic dimension s")
    assert caught.value.hint == "export for fixed shapes: leave dynamic_shapes out"


def test_what_is_no_module() -> None:
    with pytest.raises(FrontendError) as caught:
        trace_model(lambda x: x, (ROW,))
    assert str(caught.value) == (
        "the model is function, not an nn.Module\n"
        "hint: pass an nn.Module, an exported program, or a string such as file.py:function"
    )


def test_a_module_without_inputs() -> None:
    with pytest.raises(FrontendError) as caught:
        trace_model(nn.ReLU())
    assert str(caught.value) == (
        "a module needs example inputs\nhint: pass a tuple of tensors of the shapes you run"
    )


def test_failures_print_and_log_nothing(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for model in (mistakes.Branch(), mistakes.DoesNotRun()):
        _message(FrontendError, model)
    assert capfd.readouterr() == ("", "")
    assert not [r for r in caplog.records if r.levelno > logging.DEBUG]
    assert logging.root.manager.disable == logging.NOTSET
