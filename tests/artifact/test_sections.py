"""Sections as binutils count them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from graphopt.artifact.format import read_manifest
from graphopt.artifact.sections import code_bytes


@pytest.mark.compiler
@pytest.mark.skipif(shutil.which("readelf") is None, reason="there is no readelf")
def test_code_as_readelf_counts_it(artifact: Path) -> None:
    shown = subprocess.run(
        ["readelf", "-SW", artifact / "model.so"], capture_output=True, text=True, check=True
    )
    rows = (line.partition("]")[2].split() for line in shown.stdout.splitlines() if "[" in line)
    sizes = [int(row[4], 16) for row in rows if len(row) > 8 and "X" in row[6]]
    assert sizes
    assert code_bytes(artifact / "model.so") == sum(sizes)
    assert read_manifest(artifact).memory.code == sum(sizes)


def test_of_another_kind_of_file_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xcf\xfa\xed\xfe" + bytes(60))
    assert code_bytes(tmp_path / "x") == 0
    (tmp_path / "empty").write_bytes(b"")
    assert code_bytes(tmp_path / "empty") == 0
