"""What is written, and that nothing half-written is ever seen."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from bias_program import BIAS, Options, add_bias, write_program

from graphopt.artifact import directory, writer
from graphopt.artifact.directory import replacing
from graphopt.artifact.format import Manifest, read_manifest
from graphopt.artifact.hashing import PIECE_BYTES
from graphopt.errors import ArtifactError, BudgetError, BuildError, InternalError
from graphopt.program import Weight

pytestmark = pytest.mark.compiler


def test_contents(artifact: Path) -> None:
    names = {p.name for p in artifact.iterdir()}
    assert names == {"model.so", "weights.bin", "model.h", "manifest.json", "golden.safetensors"}
    manifest = json.loads((artifact / "manifest.json").read_text())
    assert manifest["inputs"] == [
        {"name": "x", "dtype": "f32", "shape": [8, 16], "size_bytes": 512}
    ]
    call = manifest["calls"][0]
    assert (call["computes"], call["reads"]) == ([["head", "model.py:7"]], ["x"])
    assert call["results"] == [
        {"name": "sum", "dtype": "f32", "shape": [8, 16], "strides": [16, 1], "space": "output",
         "index": 0, "offset": 0, "first": 0, "size_bytes": 512}
    ]  # fmt: skip
    assert manifest["memory"]["weights"] == 64
    for name, entry in manifest["files"].items():
        content = (artifact / name).read_bytes()
        assert entry["size_bytes"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert set(manifest["files"]) == names - {"manifest.json"}


def test_weights_start_on_cache_lines(artifact: Path) -> None:
    (weight,) = read_manifest(artifact).weights
    assert weight.offset % 64 == 0
    content = (artifact / "weights.bin").read_bytes()
    stored = np.frombuffer(content, np.float32, 16, weight.offset)
    np.testing.assert_array_equal(stored, BIAS)


def test_equal_programs_give_equal_bytes(tmp_path: Path) -> None:
    a, b = (write_program(add_bias(), tmp_path / n) for n in "ab")
    for path in a.iterdir():
        assert path.read_bytes() == (b / path.name).read_bytes(), path.name


def test_sources_on_request(tmp_path: Path) -> None:
    folder = write_program(add_bias(), tmp_path / "a", options=Options(emit_source=True))
    assert {p.name for p in (folder / "src").iterdir()} == {
        "model.c", "model.h", "go_add_bias.c", "go_runtime.c", "go_runtime.h",
    }  # fmt: skip
    assert "src/model.c" in read_manifest(folder).files


def test_large_files_get_a_tree_digest(tmp_path: Path) -> None:
    folder = write_program(add_bias(padding=PIECE_BYTES + 1), tmp_path / "a")
    entry = read_manifest(folder).files["weights.bin"]
    content = (folder / "weights.bin").read_bytes()
    pieces = [content[i : i + PIECE_BYTES] for i in range(0, len(content), PIECE_BYTES)]
    joined = b"".join(hashlib.sha256(p).digest() for p in pieces)
    assert entry.tree == hashlib.sha256(joined).hexdigest()


def test_files_keep_their_change_times(tmp_path: Path) -> None:
    """By which the writer's record of whole files tells that they are old enough to count."""
    with replacing(tmp_path / "a") as folder:
        (folder / "file").write_bytes(b"x")
        written = (folder / "file").stat().st_ctime_ns
        time.sleep(0.05)
    assert (tmp_path / "a" / "file").stat().st_ctime_ns == written


def test_one_weight_at_a_time(tmp_path: Path) -> None:
    """Packing holds one array: each is gone before the next is made."""
    made: list[weakref.ref[np.ndarray]] = []

    def pack() -> np.ndarray:
        assert all(earlier() is None for earlier in made)
        array = np.zeros(16, np.float32)
        made.append(weakref.ref(array))
        return array

    weights = [Weight(f"w{i}", 64, pack) for i in range(3)]
    writer._write_weights(tmp_path / "w", weights)


def test_a_weight_of_another_size_is_a_bug(tmp_path: Path) -> None:
    weight = Weight("w", 4, lambda: np.zeros(2, np.float32))
    with pytest.raises(InternalError, match="weight w packed to 8 bytes, not 4"):
        writer._write_weights(tmp_path / "w", [weight])


# Replacing -------------------------------------------------------------------------------------


def test_a_new_artifact_replaces_the_old(artifact: Path) -> None:
    (artifact / "extra").write_text("of the old one")
    write_program(add_bias(), artifact)
    assert not (artifact / "extra").exists()
    assert [p.name for p in artifact.parent.iterdir()] == ["bias"]


def test_without_an_exchanging_rename(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "_exchange", lambda a, b: False)
    (artifact / "extra").write_text("of the old one")
    write_program(add_bias(), artifact)
    assert not (artifact / "extra").exists()
    assert [p.name for p in artifact.parent.iterdir()] == ["bias"]


def test_a_failed_build_leaves_the_old_artifact(artifact: Path) -> None:
    before = {p.name: p.read_bytes() for p in artifact.iterdir()}
    with pytest.raises(BuildError):
        write_program(add_bias(), artifact, options=Options(cc="no-such-compiler"))
    assert {p.name: p.read_bytes() for p in artifact.iterdir()} == before
    assert [p.name for p in artifact.parent.iterdir()] == ["bias"]


def test_an_artifact_that_is_not_accepted_replaces_nothing(artifact: Path) -> None:
    before = (artifact / "manifest.json").read_bytes()

    def refuse(folder: Path, manifest: Manifest) -> None:
        assert (folder / "model.so").is_file()
        assert manifest == read_manifest(folder)
        raise BudgetError("too large")

    with pytest.raises(BudgetError, match="too large"):
        write_program(add_bias(), artifact, pipeline="fuse", budget={"size": 1.0}, accept=refuse)
    assert (artifact / "manifest.json").read_bytes() == before
    assert [p.name for p in artifact.parent.iterdir()] == ["bias"]


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    killed = tmp_path / ".bias.graphopt-abc"
    killed.mkdir()
    (killed / ".writing").touch()
    (killed / "weights.bin").write_bytes(b"half")
    write_program(add_bias(), tmp_path / "bias")
    assert not killed.exists()


def test_a_run_that_is_still_writing_is_left_alone(tmp_path: Path) -> None:
    with replacing(tmp_path / "bias") as other:
        (other / "weights.bin").write_bytes(b"so far")
        write_program(add_bias(), tmp_path / "bias")
        assert (other / "weights.bin").exists()


def test_an_artifact_killed_in_mid_swap_comes_back(tmp_path: Path) -> None:
    old = tmp_path / ".bias.graphopt-abc-old"
    old.mkdir()
    (old / "manifest.json").write_text("{}")
    with pytest.raises(BuildError):
        write_program(add_bias(), tmp_path / "bias", options=Options(cc="no-such-compiler"))
    assert (tmp_path / "bias" / "manifest.json").read_text() == "{}"


def test_only_artifacts_are_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter1").write_text("years of work")
    with pytest.raises(ArtifactError) as caught:
        write_program(add_bias(), folder)
    assert str(caught.value) == (
        f"{folder} exists and is not an artifact\n"
        "hint: choose another directory with --out; graphopt replaces nothing it did not write"
    )
    assert (folder / "chapter1").read_text() == "years of work"


def test_an_unwritable_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError) as caught:
        write_program(add_bias(), tmp_path / "file" / "a" / "bias")
    assert str(caught.value) == (
        f"{tmp_path}/file/a/bias cannot be written: {os.strerror(20)}\n"
        "hint: choose another directory with --out, or make room and permission there"
    )


class _Recorded(io.RawIOBase):
    """A file that keeps the sizes of what it is told to write."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.sizes.append(len(data))
        return len(data)


class _Place(type(Path())):  # type: ignore[misc]
    """A path that opens such a file."""

    raw = _Recorded()

    def open(self, mode: str = "r", buffering: int = -1, **_: object) -> io.BufferedWriter:  # type: ignore[override]
        return io.BufferedWriter(self.raw, buffering)


def test_weights_are_written_in_whole_pieces() -> None:
    sizes = [100, PIECE_BYTES // 4 + 3, 7, 3 * PIECE_BYTES // 4]
    weights = [Weight(f"w{n}", 4 * n, lambda n=n: np.zeros(n, np.float32)) for n in sizes]
    total = writer._write_weights(_Place(), weights).size_bytes
    assert _Place.raw.sizes == [PIECE_BYTES] * (total // PIECE_BYTES) + [total % PIECE_BYTES]
