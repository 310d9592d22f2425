"""Loading and calling: what is refused, in which words, and that nothing is copied needlessly."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bias_program import BIAS, add_bias, write_program

import graphopt
from graphopt.artifact import hashing, machine
from graphopt.artifact.hashing import PIECE_BYTES
from graphopt.artifact.loader import Model, load
from graphopt.artifact.verify import check_files, verify
from graphopt.errors import ArtifactError, InputError
from graphopt.ir.types import DType

pytestmark = pytest.mark.compiler
Edit = Callable[[str, str], Path]


@pytest.fixture
def model(artifact: Path) -> Model:
    return load(artifact)


def refused(artifact: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        load(artifact)
    return str(caught.value)


# Calls -----------------------------------------------------------------------------------------


def test_by_position_by_name_and_by_mapping(model: Model, x: np.ndarray) -> None:
    np.testing.assert_array_equal(model(x), x + BIAS)
    np.testing.assert_array_equal(model(x=x), x + BIAS)
    np.testing.assert_array_equal(model.run({"x": x})["y"], x + BIAS)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_nothing(artifact: Path, x: np.ndarray, threads: int) -> None:
    with load(artifact, threads=threads) as model:
        for _ in range(20):
            np.testing.assert_array_equal(model(x), x + BIAS)


def test_any_memory_order(model: Model, x: np.ndarray) -> None:
    np.testing.assert_array_equal(model(np.asfortranarray(x)), x + BIAS)
    np.testing.assert_array_equal(model(x[::-1, ::-1]), x[::-1, ::-1] + BIAS)
    shifted = np.frombuffer(b"\0" + x.tobytes(), np.float32, x.size, 1)
    misaligned = shifted.reshape(x.shape)
    np.testing.assert_array_equal(model(misaligned), x + BIAS)


def test_an_artifact_replaced_while_loaded(artifact: Path, x: np.ndarray, tmp_path: Path) -> None:
    """The dynamic linker must not take the new library for the old one at the same path."""
    old = load(artifact)
    write_program(add_bias(padding=64), artifact)
    with load(artifact) as new:
        np.testing.assert_array_equal(new(x), x + BIAS)
    np.testing.assert_array_equal(old(x), x + BIAS)


def test_each_result_is_its_own(model: Model, x: np.ndarray) -> None:
    first = model(x)
    kept = first.copy()
    model(x + 1)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.torch
def test_torch_in_torch_out(model: Model, x: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    given = torch.from_numpy(x).requires_grad_()
    result = model(given)
    assert isinstance(result, torch.Tensor)
    torch.testing.assert_close(result, torch.from_numpy(x + BIAS), rtol=0, atol=0)
    transposed = torch.from_numpy(np.ascontiguousarray(x.T)).T
    torch.testing.assert_close(model(transposed), result, rtol=0, atol=0)


def test_bfloat16(tmp_path: Path, x: np.ndarray) -> None:
    bf16 = DType.BF16.numpy
    given = x.astype(bf16)
    model = load(write_program(add_bias(DType.BF16), tmp_path / "a"))
    result = model(given)
    assert result.dtype == bf16
    np.testing.assert_array_equal(
        result.astype(np.float32), (given + BIAS.astype(bf16)).astype(np.float32)
    )


def test_two_instances_and_several_callers(artifact: Path, x: np.ndarray) -> None:
    models = [load(artifact), load(artifact)]
    wrong: list[int] = []

    def call(n: int) -> None:
        for i in range(200):
            if not np.array_equal(models[n % 2](x + i), x + i + BIAS):
                wrong.append(n)

    callers = [threading.Thread(target=call, args=(n,)) for n in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_a_forked_child_can_call(artifact: Path, x: np.ndarray) -> None:
    """The child has the pool's memory and none of its threads. A process of its own: pytest's may
    have other threads."""
    script = f"""
import os, sys, numpy as np, graphopt
model = graphopt.load({str(artifact)!r}, threads=3)
x = np.ones((8, 16), np.float32)
expected = model(x)
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(model(x), expected) else 1)
_, status = os.waitpid(child, 0)
sys.exit(status or not np.array_equal(model(x), expected))
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
    assert done.returncode == 0


def test_profile_names_modules(model: Model, x: np.ndarray) -> None:
    (call,) = model.profile(x)
    assert (call.name, call.kernel) == ("head", "go_add_bias")
    assert call.nanoseconds > 0


def test_observe_shows_what_each_call_wrote(model: Model, x: np.ndarray) -> None:
    seen: list[tuple[int, np.ndarray]] = []
    (y,) = model.observe(lambda i, results: seen.extend((i, r.copy()) for r in results), x)
    ((i, values),) = seen
    assert (i, model.manifest.calls[i].results[0].name) == (0, "sum")
    np.testing.assert_array_equal(values, x + BIAS)
    np.testing.assert_array_equal(y, values)


def test_observe_lets_exceptions_through(model: Model, x: np.ndarray) -> None:
    def seen(i: int, results: list[np.ndarray]) -> None:
        raise LookupError(f"call {i}")

    with pytest.raises(LookupError, match="call 0"):
        model.observe(seen, x)
    np.testing.assert_array_equal(model(x), x + BIAS)


def test_a_closed_model_says_so(model: Model, x: np.ndarray) -> None:
    model.close()
    with pytest.raises(InputError, match="the model is closed"):
        model(x)


def test_loading_imports_no_compiler(artifact: Path) -> None:
    script = f"""
import sys, graphopt
graphopt.load({str(artifact)!r})
heavy = {{"torch", "tvm", "networkx", "graphopt_backends", "graphopt_passes", "graphopt.kernel",
         "graphopt.ir", "ml_dtypes", "safetensors"}} & set(sys.modules)
sys.exit(", ".join(sorted(heavy)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


# Wrong inputs ----------------------------------------------------------------------------------


def test_shape_mismatch(model: Model, x: np.ndarray) -> None:
    with pytest.raises(InputError) as caught:
        model(x[:4])
    assert str(caught.value) == (
        "input 'x' takes f32[8,16], given f32[4,16]\n"
        "hint: the shape is compiled in: pass that one, or compile for the one you have"
    )


def test_dtype_mismatch(model: Model, x: np.ndarray) -> None:
    with pytest.raises(InputError) as caught:
        model(x.astype(np.float64))
    assert str(caught.value) == (
        "input 'x' takes f32[8,16], given f64[8,16]\nhint: convert it to float32"
    )


def test_foreign_byte_order(model: Model, x: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"takes f32\[8,16\], given >f4\[8,16\]"):
        model(x.astype(">f4"))


def test_wrong_names_and_counts(model: Model, x: np.ndarray) -> None:
    with pytest.raises(InputError) as caught:
        model(x, z=x)
    assert str(caught.value) == (
        "the model takes 1 inputs (x), given 2; not an input, or given twice: z\n"
        "hint: call model(x)"
    )
    with pytest.raises(InputError, match="given 0; missing: x"):
        model()


# Wrong artifacts -------------------------------------------------------------------------------


def test_no_artifact(tmp_path: Path) -> None:
    assert refused(tmp_path / "nothing") == (
        f"there is no artifact at {tmp_path}/nothing\n"
        "hint: `graphopt compile MODEL -o DIR` makes one"
    )
    assert refused(tmp_path) == (
        f"{tmp_path} is not an artifact: it has no manifest.json\n"
        "hint: name the directory that `graphopt compile` wrote"
    )


def test_a_newer_format(edited: Edit) -> None:
    artifact = edited('"format": 1', '"format": 99')
    assert refused(artifact) == (
        f"{artifact} is an artifact of format 99; this graphopt reads format 1\n"
        "hint: update graphopt"
    )


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"format": 1}', '{"format": 1, "target": {"features": 3}}']
)
def test_a_damaged_manifest(artifact: Path, damage: str) -> None:
    (artifact / "manifest.json").write_text(damage)
    message = refused(artifact)
    assert message.startswith(f"{artifact}/manifest.json is damaged")
    assert message.endswith("\nhint: compile the model again")


def test_file_names_stay_inside(edited: Edit) -> None:
    message = refused(edited('"model.so":', '"../model.so":'))
    assert "is damaged: ValueError: file name '../model.so'" in message


def test_another_architecture(edited: Edit) -> None:
    here = machine.architecture()
    artifact = edited(f'"arch": "{here}"', '"arch": "riscv64"')
    assert refused(artifact) == (
        f"{artifact} is compiled for riscv64 (host); this machine is {here}\n"
        "hint: compile for this machine: --target cpu"
    )


def test_missing_instructions(edited: Edit) -> None:
    artifact = edited('"features": [', '"features": [\n   "avx9000",\n   "amx_dream",')
    assert refused(artifact) == (
        f"{artifact} is compiled for host; this processor lacks amx_dream, avx9000\n"
        "hint: compile for this machine: --target cpu"
    )


@pytest.mark.parametrize("name", ["model.so", "weights.bin"])
def test_files_missing_short_or_changed(artifact: Path, name: str) -> None:
    path = artifact / name
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert refused(artifact) == (
        f"{path} is {len(content) - 1} bytes, and was written as {len(content)}\n"
        "hint: compile the model again"
    )
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert refused(artifact) == (
        f"{path} is damaged: its checksum is not the manifest's\nhint: compile the model again"
    )
    path.unlink()
    assert refused(artifact) == f"{path} is missing\nhint: compile the model again"


def test_weights_of_another_model(artifact: Path, tmp_path: Path) -> None:
    """Checksums that agree, weights that do not fit: the code itself refuses."""
    other = write_program(add_bias(padding=64), tmp_path / "other")
    for name in ("weights.bin", "manifest.json"):
        (artifact / name).write_bytes((other / name).read_bytes())
    (artifact / "manifest.json").write_text(
        (other / "manifest.json").read_text().replace(
            hashing._plain(other / "model.so"), hashing._plain(artifact / "model.so")
        )
    )  # fmt: skip
    assert "the weights are not this model's, or cut short" in refused(artifact)


def test_threads_below_one(artifact: Path) -> None:
    with pytest.raises(ArtifactError, match="threads is 0\nhint: give 1 or more"):
        load(artifact, threads=0)


# Large weights: read once, then remembered -------------------------------------------------------


@pytest.fixture
def large(tmp_path: Path) -> Path:
    return write_program(add_bias(padding=PIECE_BYTES), tmp_path / "large")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every file whose pieces are hashed."""
    out: list[Path] = []
    real = hashing._tree
    monkeypatch.setattr(hashing, "_tree", lambda p, n: out.append(p) or real(p, n))
    monkeypatch.setattr(hashing, "_SETTLED_NS", 0)
    return out


def test_weights_found_whole_are_not_read_again(large: Path, reads: list[Path]) -> None:
    load(large)
    load(large)
    assert len(reads) <= 1  # not even once where the writer's record counts


def test_a_touched_file_is_read_again(large: Path, reads: list[Path]) -> None:
    """A byte flipped in place, the modification time set back: the change time tells."""
    load(large)
    path, before = large / "weights.bin", (large / "weights.bin").stat()
    with path.open("r+b") as file:
        file.seek(PIECE_BYTES // 2)
        file.write(b"\1")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert refused(large).startswith(f"{path} is damaged")


def test_a_file_just_written_is_not_recorded(
    large: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within one tick of the clock a second write would leave the same time stamps."""
    monkeypatch.setattr(hashing, "_SETTLED_NS", 10**15)
    os.utime(large / "weights.bin")
    load(large)
    load(large)
    assert len(reads) == 2


def test_verify_reads_everything(large: Path, reads: list[Path], artifact: Path) -> None:
    load(large)
    reads.clear()
    check_files(large)
    assert reads == [large / "weights.bin"]
    (difference,) = verify(artifact)
    assert (difference.output, difference.absolute, difference.agrees) == ("y", 0.0, True)


def test_verify_finds_damage_outside_the_code(artifact: Path) -> None:
    (artifact / "model.h").write_text("not this")
    load(artifact)
    with pytest.raises(ArtifactError, match=r"model\.h is 8 bytes"):
        verify(artifact)


def test_the_package_offers_load() -> None:
    assert graphopt.load is load
