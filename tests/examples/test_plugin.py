"""examples/plugin: installed as a distribution of its own, listed, tested and run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from environments import Environment, create_environment

pytest.importorskip("hatchling")

pytestmark = [pytest.mark.torch, pytest.mark.compiler]

MODEL = """
import torch
from torch import nn

class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64))
        self.bias = nn.Parameter(torch.randn(64))

    def forward(self, x):
        centred = x - x.mean(-1, keepdim=True)
        variance = (centred * centred).mean(-1, keepdim=True)
        return centred * torch.rsqrt(variance + 1e-5) * self.weight + self.bias

def norm():
    torch.manual_seed(0)
    return Norm().eval(), (torch.randn(1, 32, 64),)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> Environment:
    environment = create_environment(tmp_path_factory.mktemp("plugin") / "venv")
    environment.shell(f"pip install {examples / 'plugin'}")
    return environment


def test_the_plugins_own_tests_pass(installed: Environment, examples: Path) -> None:
    told = installed.shell(
        f"pytest -p no:cacheprovider -c /dev/null --rootdir {examples / 'plugin'} "
        f"{examples / 'plugin' / 'tests'}"
    )
    assert re.search(r"\b1\d passed", told)
    assert "failed" not in told


def test_it_is_listed(installed: Environment) -> None:
    assert re.search(
        r"recognize-layer-norm +reassociates +graphopt-example 0\.1\.0",
        installed.shell("graphopt passes"),
    )
    assert re.search(
        r"stream-large-outputs +exact +min-bytes=67108864 +graphopt-example 0\.1\.0",
        installed.shell("graphopt kernel-passes"),
    )
    assert "graphopt-example 0.1.0" in installed.shell("graphopt plugins")


def test_a_model_is_compiled_with_its_passes(installed: Environment, tmp_path: Path) -> None:
    source = f"{tmp_path}/model.py:norm"
    (tmp_path / "model.py").write_text(MODEL)
    shown = installed.shell(f"graphopt opt {source} -p recognize-layer-norm")
    assert "= layer_norm %" in shown
    assert "rsqrt" not in shown

    installed.shell(
        f"graphopt compile {source} -p recognize-layer-norm,@O2 "
        "--kernel-passes '@O2,stream-large-outputs{min-bytes=1024}' --verify-each "
        f"--emit-source -o {tmp_path}/out --quiet"
    )
    kernels = "".join(p.read_text() for p in (tmp_path / "out" / "src").glob("go_*.c"))
    assert "__builtin_nontemporal_store" in kernels
    installed.shell(f"graphopt verify {tmp_path}/out {source}")


def test_without_it_the_compiler_is_as_before(environment: Environment) -> None:
    assert "graphopt-example" not in environment.shell("graphopt passes")
