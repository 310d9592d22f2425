"""Model files: text and safetensors beside it."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from graphopt.check import random_graph
from graphopt.errors import IRError, ParseError
from graphopt.ir.graph import Graph
from graphopt.ir.store import load, save
from graphopt.ir.text import parse
from graphopt.ir.types import DType
from graphopt.tensorfile import read_safetensors, write_safetensors


def _model(*dtypes: DType) -> Graph:
    numbers = np.random.default_rng(0)
    arrays = {d.value: (numbers.standard_normal((5, 7)) * 9).astype(d.numpy) for d in dtypes}
    lines = [f'%{d} = constant {{key="{d}"}} : {d}[5,7]' for d in dtypes]
    return parse("\n".join(lines) + "\nreturn " + ", ".join(f"%{d}" for d in dtypes), arrays)


def test_every_dtype_round_trips(tmp_path: Path) -> None:
    graph = _model(*DType)
    save(graph, tmp_path / "model.go.txt")
    again = load(tmp_path / "model.go.txt")
    assert again == graph
    assert (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_round_trip(seed: int, tmp_path: Path) -> None:
    graph = random_graph(seed, planned=True)
    save(graph, tmp_path / "m.go.txt")
    assert load(tmp_path / "m.go.txt") == graph


def test_safetensors_reads_what_we_write(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    arrays = {
        "b": np.array([True, False]),
        "x": np.arange(6.0).reshape(2, 3),
        "e": np.zeros((0, 3)),
    }
    write_safetensors(arrays, tmp_path / "a.safetensors")
    found = numpy.load_file(tmp_path / "a.safetensors")
    assert {k: v.tolist() for k, v in found.items()} == {k: v.tolist() for k, v in arrays.items()}
    numpy.save_file(arrays, tmp_path / "b.safetensors")
    ours = read_safetensors(tmp_path / "b.safetensors")
    assert {k: v.tolist() for k, v in ours.items()} == {k: v.tolist() for k, v in arrays.items()}


def test_arrays_are_mapped_and_read_only(tmp_path: Path) -> None:
    write_safetensors({"a": np.ones(32, ml_dtypes.bfloat16)}, tmp_path / "a.safetensors")
    array = read_safetensors(tmp_path / "a.safetensors")["a"]
    assert array.dtype == ml_dtypes.bfloat16
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 2


def test_small_models_are_one_file(tmp_path: Path) -> None:
    save(_model(DType.F32), tmp_path / "m.go.txt")
    save(parse("%x = input : f32[2]\nreturn %x"), tmp_path / "m.go.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["m.go.txt"]


def test_missing_weights_are_named(tmp_path: Path) -> None:
    save(_model(DType.F32), tmp_path / "m.go.txt")
    (tmp_path / "m.safetensors").unlink()
    with pytest.raises(ParseError, match=r"constant 'f32' has no data in .*m\.go\.txt; "
                       r"m\.safetensors is not beside it"):  # fmt: skip
        load(tmp_path / "m.go.txt")


def test_missing_text(tmp_path: Path) -> None:
    with pytest.raises(IRError, match="cannot read"):
        load(tmp_path / "none.go.txt")


@pytest.mark.parametrize("keep", [0, 4, 9, 100, -1])
def test_cut_off_weights(keep: int, tmp_path: Path) -> None:
    save(_model(DType.F32, DType.I64), tmp_path / "m.go.txt")
    data = (tmp_path / "m.safetensors").read_bytes()
    (tmp_path / "m.safetensors").write_bytes(data[:keep])
    with pytest.raises(IRError, match="cannot read"):
        load(tmp_path / "m.go.txt")


def test_equal_keys_in_bodies_must_agree(tmp_path: Path) -> None:
    body = '{\n%q = constant {key="k", value=[1]} : f32[1]\nreturn %q }'
    graph = parse(f'%f = fused {{kind="opaque"}} {body}\nreturn %f')
    twin = parse(f'%f = fused {{kind="opaque"}} {body.replace("[1]}", "[2]}")}\nreturn %f')
    both = Graph((), (*graph.nodes, *twin.nodes), (*graph.outputs, *twin.outputs))
    with pytest.raises(IRError, match="two constants named 'k' differ"):
        save(both, tmp_path / "m.go.txt")
