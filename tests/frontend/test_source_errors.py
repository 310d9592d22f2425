"""What a wrong SOURCE is told: exact texts."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from graphopt.errors import FrontendError
from graphopt.frontend import load_source, trace_model

pytestmark = pytest.mark.torch

FILE = Path(__file__).with_name("mistakes.py")
FORMS = "write file.py:function, package.module:function or model.pt2"
RETURNS = "return (model.eval(), (torch.randn(1, 3, 224, 224),)): the model and its example inputs"


def _message(source: str) -> str:
    with pytest.raises(FrontendError) as caught:
        trace_model(source)
    return str(caught.value).replace(f"{FILE.parent}/", "")


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        (
            "nothing",
            "nothing in mistakes.py returned None; expected (nn.Module, example inputs)",
            RETURNS,
        ),
        (
            "triple",
            "triple in mistakes.py returned a tuple of 3 (ReLU, Tensor, int); "
            "expected (nn.Module, example inputs)",
            RETURNS,
        ),
        (
            "text_model",
            "text_model in mistakes.py returned a str as the model; expected an nn.Module",
            RETURNS,
        ),
        (
            "text_inputs",
            "text_inputs in mistakes.py returned a str as example inputs; "
            "expected a tuple or a dict",
            RETURNS,
        ),
        (
            "text_leaf",
            "example input [0][2] of text_leaf in mistakes.py is a str, not a tensor",
            "make it a tensor: torch.from_numpy(array), torch.tensor(values)",
        ),
        ("no_tensor", "the example inputs of no_tensor in mistakes.py hold no tensor", RETURNS),
        ("raises", "raises in mistakes.py raised KeyError: 'weights'", "mend mistakes.py:37"),
        ("net", "net in mistakes.py is a ReLU, not a function", f"wrap it: def build(): {RETURNS}"),
        ("tripel", "mistakes.py has no function 'tripel'", "did you mean 'triple'?"),
        ("dropout", "module 1 (Dropout) is in training mode", "call model.eval() first"),
        ("batch_norm", "module model (BatchNorm1d) is in training mode", "call model.eval() first"),
        (
            "attention",
            "module model (MultiheadAttention) is in training mode",
            "call model.eval() first",
        ),
    ],
)
def test_wrong_function(name: str, message: str, hint: str) -> None:
    assert _message(f"{FILE}:{name}") == f"{message}\nhint: {hint}"


@pytest.mark.parametrize("source", ["model.py", "model.py:", ":build", ""])
def test_no_function_named(source: str) -> None:
    assert _message(source) == f"source {source!r} names no function\nhint: {FORMS}"


def test_no_such_file_names_a_near_one() -> None:
    source = FILE.with_name("mistake.py")
    message = f"there is no file mistake.py\nhint: did you mean {FILE}?".replace(
        f"{FILE.parent}/", ""
    )
    assert _message(f"{source}:nothing") == message


def test_no_such_module() -> None:
    assert _message("no_such.package:build") == (
        "there is no module 'no_such'\nhint: install it, or give a path: file.py:function"
    )


def test_a_function_far_from_any_other_lists_all(tmp_path: Path) -> None:
    path = tmp_path / "two.py"
    path.write_text("def small(): ...\ndef large(): ...\n")
    assert _message(f"{path}:zzz") == (
        f"{path} has no function 'zzz'\nhint: choose one of large, small"
    )


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("def build(:\n", "SyntaxError: invalid syntax (broken.py, line 1)", "mend broken.py:1"),
        ("\nimport no_such_thing\n", "ModuleNotFoundError: No module named 'no_such_thing'",
         "mend broken.py:2"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_import(tmp_path: Path, text: str, message: str, hint: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    assert _message(f"{path}:build") == f"{path} raised {message}\nhint: {hint}"


def test_a_source_imports_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "graphopt_test_neighbour.py").write_text("SIZE = 5\n")
    path = tmp_path / "model.py"
    path.write_text(
        "import torch\n"
        "from graphopt_test_neighbour import SIZE\n"
        "def build():\n"
        "    return torch.nn.ReLU(), torch.ones(SIZE)\n"
    )
    _, (example,) = load_source(f"{path}:build")
    assert example.shape == (5,)


def test_a_package_source_is_found_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "graphopt_test_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text(
        "import torch\ndef build():\n    return torch.nn.ReLU(), {'input': torch.ones(2)}\n"
    )
    monkeypatch.chdir(tmp_path)
    model, inputs = load_source("graphopt_test_package.nets:build")
    assert type(model).__name__ == "ReLU"
    assert list(inputs) == ["input"]
