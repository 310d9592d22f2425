"""Names of a model's C under a prefix."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from bias_program import BIAS, Options, add_bias, write_program

from graphopt.artifact.loader import load
from graphopt.artifact.naming import PREFIX, check_prefix, renamed
from graphopt.errors import ArtifactError


def test_names_are_renamed_and_strings_are_not() -> None:
    text = """#include "go_runtime.h"
enum { GO_MODEL_OK = 0 }; /* see go_model_run, GO_NO_THREADS */
typedef struct go_model go_model;
go_model_tensor x = {"go_model.head \\" go_", go_allocate(1), ago_x, go_models};
"""
    assert (
        renamed({"a.c": text}, "two")["a.c"]
        == """#include "go_runtime.h"
enum { TWO_OK = 0 }; /* see two_run, GO_NO_THREADS */
typedef struct two two;
two_tensor x = {"go_model.head \\" go_", two_go_allocate(1), ago_x, two_go_models};
"""
    )


@pytest.mark.parametrize("prefix", ["", "1st", "a-b", "a b", "int", "_x", "\u00e9"])
def test_what_begins_no_c_name(prefix: str) -> None:
    with pytest.raises(ArtifactError) as raised:
        check_prefix(prefix)
    assert str(raised.value) == (
        f"prefix {prefix!r} cannot begin a C name\n"
        "hint: use letters, digits and _, a letter first: --prefix detector"
    )


def test_the_usual_prefix_is_allowed() -> None:
    check_prefix(PREFIX)
    check_prefix("integer")


@pytest.mark.compiler
def test_an_artifact_of_another_prefix_loads(tmp_path: Path) -> None:
    folder = write_program(add_bias(), tmp_path / "m", options=Options(prefix="mine", static=True))
    x = np.ones((8, 16), np.float32)
    with load(folder) as model:
        np.testing.assert_array_equal(model(x), x + BIAS)
    assert "mine_run" in (folder / "model.h").read_text()
    assert "go_model" not in (folder / "model.h").read_text()


@pytest.mark.compiler
@pytest.mark.skipif(shutil.which("nm") is None, reason="there is no nm")
def test_every_global_name_of_a_static_library_has_the_prefix(tmp_path: Path) -> None:
    folder = write_program(add_bias(), tmp_path / "m", options=Options(prefix="mine", static=True))
    shown = subprocess.run(
        ["nm", "-g", "--defined-only", folder / "model.a"], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    names = [line.split()[2] for line in shown.stdout.splitlines() if len(line.split()) == 3]
    assert "mine_run" in names
    assert [n for n in names if not n.startswith("mine_")] == []
