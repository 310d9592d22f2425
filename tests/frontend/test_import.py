"""What tracing keeps: names, lines, sharing, types, and the meaning through a .pt2 file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from models import TINY
from torch import Tensor, nn
from traced_models import tiny

from graphopt.check import execute
from graphopt.errors import FrontendError
from graphopt.frontend import trace, trace_model
from graphopt.frontend.provenance import module_path, source_line
from graphopt.ir.equal import first_difference
from graphopt.ir.graph import Graph, Loc
from graphopt.ir.text import parse, print_graph

pytestmark = pytest.mark.torch


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Block()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) * 3


X = torch.linspace(-1, 1, 8).reshape(2, 4)


def _locs(graph: Graph, op: str) -> list[Loc]:
    return [n.loc for n in graph.nodes if n.op.name == op]


def _line(function: Callable[..., Any], text: str) -> str:
    """`file:line` of the line of a function that holds `text`."""
    code = function.__code__
    lines = Path(code.co_filename).read_text().splitlines()
    number = next(i for i in range(code.co_firstlineno, len(lines)) if text in lines[i]) + 1
    return f"{Path(code.co_filename).name}:{number}"


# Provenance --------------------------------------------------------------------------------------


def test_nodes_know_their_module_and_line() -> None:
    graph = trace(Model().eval(), X)
    line = _line(Block.forward, "relu(layer")
    assert _locs(graph, "linear") == [Loc("block.layers.0", line), Loc("block.layers.1", line)]
    assert _locs(graph, "relu") == [Loc("block", line)] * 2
    assert _locs(graph, "mul") == [Loc("", _line(Model.forward, "* 3"))]


def test_weights_know_their_module() -> None:
    graph = trace(Model().eval(), X)
    keys = {n.attrs.key: n.loc.module for n in graph.nodes if n.op.name == "constant"}
    modules = ("block.layers.0", "block.layers.1")
    assert keys == {f"{m}.{kind}": m for m in modules for kind in ("weight", "bias")}


def test_lines_survive_text() -> None:
    graph = trace(Model().eval(), X)
    again = parse(print_graph(graph), graph.constants)
    assert [n.loc for n in again.nodes] == [n.loc for n in graph.nodes]


@pytest.mark.parametrize("name", ["tiny_resnet", "tiny_bert", "tiny_swin", "tiny_t5_encoder"])
def test_every_computed_node_of_real_models_has_a_line(name: str) -> None:
    pytest.importorskip("transformers")
    graph = tiny(name).graph
    lost = [n for n in graph.nodes if not n.loc.source and n.op.name != "constant"]
    assert not lost


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("L['self'].layers._modules['0'].conv", "layers.0.conv"),
        ("L['model'].encoder.layer[3]", "encoder.layer.3"),
        ("L__self__.x", "L__self__.x"),
        ("encoder.layer.0", "encoder.layer.0"),
        ("", ""),
    ],
)
def test_module_paths(path: str, expected: str) -> None:
    assert module_path(path) == expected


def test_lines_of_torch_and_of_generated_code_are_passed_over() -> None:
    frames = [
        ("model.py", 3), ("<eval_with_key>.1", 9), (str(Path(torch.__file__).parent / "a.py"), 7),
    ]  # fmt: skip
    assert source_line("\n".join(f'File "{f}", line {n}, in f' for f, n in frames)) == "model.py:3"


# Sharing -----------------------------------------------------------------------------------------


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.embedding(ids))


def test_tied_weights_are_one_constant() -> None:
    model = Tied().eval()
    graph = trace(model, torch.tensor([[1, 2, 3]]))
    (array,) = graph.constants.values()
    assert array.shape == (10, 4)
    assert array.ctypes.data == model.embedding.weight.data_ptr()  # nothing is copied


def test_equal_weights_in_different_memory_stay_two() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)).eval()
    with torch.no_grad():
        model[1].weight.copy_(model[0].weight)
    assert sorted(trace(model, X).constants) == ["0.weight", "1.weight"]


def test_views_of_one_memory_stay_apart() -> None:
    class Transposed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.arange(16.0).reshape(4, 4))
            self.register_buffer("t", self.w.detach().t())

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.w + x @ self.t

    model = Transposed().eval()
    graph = trace(model, X)
    assert len(graph.constants) == 2
    (result,) = execute(graph, [X.numpy()])
    np.testing.assert_allclose(result, model(X).detach().numpy(), rtol=1e-6)


def test_complex_weights_are_two() -> None:
    class Rotated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("turn", torch.polar(torch.ones(2), torch.tensor([0.5, 2.0])))

        def forward(self, x: Tensor) -> Tensor:
            z = torch.view_as_complex(x.reshape(2, 2, 2)) * self.turn
            return torch.view_as_real(z).flatten(1)

    traced = trace_model(Rotated(), (X,))
    assert sorted(traced.graph.constants) == ["turn.imag", "turn.real"]
    (result,) = execute(traced.graph, traced.inputs())
    (expected,) = traced.golden()[1].values()
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)  # a few roundings of numbers ~1


# Types -------------------------------------------------------------------------------------------

DTYPES = {
    torch.float64: "f64", torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16",
    torch.int64: "i64", torch.int32: "i32", torch.int16: "i16", torch.int8: "i8",
    torch.uint8: "u8", torch.bool: "bool",
}  # fmt: skip


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_inputs_of_every_type(dtype: torch.dtype) -> None:
    traced = trace_model(Twice(), (torch.tensor([0, 1, 3]).to(dtype),))
    assert [str(v.type) for v in traced.graph.inputs] == [f"{DTYPES[dtype]}[3]"]
    inputs, outputs = traced.inputs(), traced._named(traced.model(*traced.args))
    (result,) = execute(traced.graph, inputs)
    (expected,) = outputs.values()
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


def test_weights_of_half_precision_stay_so() -> None:
    for dtype, name in ((torch.float16, "f16"), (torch.bfloat16, "bf16")):
        graph = trace(nn.Linear(4, 2).eval().to(dtype), X.to(dtype))
        types = {str(n.result.type) for n in graph.nodes if n.op.name == "constant"}
        assert types == {f"{name}[2,4]", f"{name}[2]"}


def test_inputs_by_name_and_numbers_fixed_at_export() -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor, scale: int, shift: Tensor | None = None) -> dict[str, Tensor]:
            return {"scaled": x * scale if shift is None else x * scale + shift}

    graph = trace(Scaled(), {"x": X, "scale": 3})
    assert [v.name for v in graph.inputs] == ["x"]
    assert graph.output_names == ("scaled",)
    (result,) = execute(graph, [X.numpy()])
    np.testing.assert_array_equal(result, X.numpy() * 3)


def test_wrong_example_inputs() -> None:
    with pytest.raises(FrontendError) as caught:
        trace(Twice(), 3)  # type: ignore[arg-type]
    assert str(caught.value) == (
        "example inputs are int\n"
        "hint: pass a tuple of tensors, or a dict of tensors by parameter name"
    )


def test_checks_that_no_output_reads_are_left_out() -> None:
    class Checked(nn.Module):
        def forward(self, x: Tensor, sizes: Tensor) -> Tensor:
            torch._check(sizes.sum().item() == 8)
            return x * 2

    assert [n.op.name for n in trace(Checked(), (X, torch.tensor([2, 6]))).nodes] == ["full", "mul"]


def test_transformers_with_masks_of_their_own() -> None:
    """torch's would look at the mask's values whether it is a causal one."""
    model = nn.Transformer(8, 2, 1, 1, 16, batch_first=True).eval()
    mask = nn.Transformer.generate_square_subsequent_mask(3)
    traced = trace_model(model, {"src": torch.randn(2, 5, 8), "tgt": torch.randn(2, 3, 8),
                                 "tgt_mask": mask})  # fmt: skip
    (result,) = execute(traced.graph, traced.inputs(), precision=np.float64)
    (expected,) = traced.exact().values()
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 8, 16).bfloat16(), requires_grad=False)

    def forward(self, x: Tensor, ends: Tensor) -> Tensor:
        return torch.ops.aten._grouped_mm(x, self.weight, ends)


def test_grouped_products_in_float64() -> None:
    """torch has none: as a module, and as a program where the operator stands."""
    model, ends = Grouped(), torch.tensor([2, 2, 5], dtype=torch.int32)
    x = torch.randn(5, 8).bfloat16()
    wide, weight = x.double(), model.weight.double()
    wanted = torch.cat([wide[:2] @ weight[0], wide[2:] @ weight[2]])
    for source in (model, torch.export.export(model, (x, ends), strict=False)):
        traced = trace_model(source, (x, ends))
        (expected,) = traced.exact().values()
        np.testing.assert_allclose(expected, wanted.numpy(), rtol=1e-12)
        (result,) = execute(traced.graph, traced.inputs(), precision=np.float64)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)


# .pt2 --------------------------------------------------------------------------------------------


def test_a_pt2_file_gives_the_same_graph(tmp_path: Path) -> None:
    model = Model().eval()
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(model, (X,), strict=False), path)

    loaded = trace_model(str(path))

    assert first_difference(loaded.graph, trace(model, X)) is None
    assert [t.shape for t in loaded.args] == [X.shape]
    assert _locs(loaded.graph, "linear")[0].module == "block.layers.0"
    (expected,) = loaded.exact().values()
    np.testing.assert_allclose(expected, model(X).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_pt2_file_of_a_real_model(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    model, inputs = TINY["tiny_llama"]()  # its norms cast to float32
    path = tmp_path / "llama.pt2"
    torch.export.save(torch.export.export(model, inputs, strict=False), path)

    traced = trace_model(str(path))

    (result,) = execute(traced.graph, traced.inputs(), precision=np.float64)
    (expected,) = traced.exact().values()
    scale = np.abs(expected).max()
    assert np.abs(result - expected).max() < 1e-9 * scale  # float64 against float64


def test_wrong_pt2_files(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    with pytest.raises(FrontendError) as caught:
        trace_model(str(path))
    assert str(caught.value).startswith(f"there is no file {path}\nhint: ")
    path.write_bytes(b"not a zip file")
    with pytest.raises(FrontendError) as caught:
        trace_model(str(path))
    assert str(caught.value) == (
        f"{path} is not an exported program: File is not a zip file\n"
        "hint: write it with torch.export.save(torch.export.export(model, inputs), path)"
    )
