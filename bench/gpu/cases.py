"""What is measured: the important cases first, for the time may not reach further."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CUTLASS = "cutlass"
"""The engine whose artifacts take CUTLASS before cuBLASLt, which is the other's."""

TUNED = "tuned"
"""The engine whose artifacts are graphopt's, tuned on the machine that measures."""

_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Case:
    """A model at a batch (and a number of tokens) in a precision. `autotune`: torch.compile's
    max-autotune takes part, which takes minutes to compile. `cutlass`: so does graphopt with its
    products and convolutions by CUTLASS, in an artifact of its own. `tuned`: so does graphopt as
    tuned here, where time is given for that."""

    model: str
    batch: int
    precision: str
    tokens: int = 0
    autotune: bool = False
    cutlass: bool = False
    tuned: bool = False

    @property
    def name(self) -> str:
        tokens = f"_t{self.tokens}" if self.tokens else ""
        return f"{self.model}_b{self.batch}{tokens}"

    @property
    def folder(self) -> str:
        return f"{self.name}_{self.precision}"

    @property
    def folders(self) -> dict[str, str]:
        """Of artifacts, by the engine that runs them."""
        others = {CUTLASS: self.cutlass, TUNED: self.tuned}
        own = {name: f"{self.folder}_{name}" for name, takes_part in others.items() if takes_part}
        return {"graphopt": self.folder, **own}

    @property
    def source(self) -> str:
        """As the command line names it."""
        return f"{_HERE / 'models.py'}:{self.name}"

    @property
    def is_image(self) -> bool:
        return self.model.removeprefix("tiny_") in _IMAGES


_IMAGES = ("resnet50", "convnext_tiny", "vit_b_16", "resnet")

CASES = (
    Case("bert_base", 1, "fp16", 128, autotune=True, cutlass=True, tuned=True),
    Case("resnet50", 1, "fp16", autotune=True, tuned=True),
    Case("resnet50", 8, "fp16", cutlass=True),
    Case("llama_decode", 1, "fp16", 512, autotune=True, tuned=True),
    Case("vit_b_16", 1, "fp16"),
    Case("convnext_tiny", 1, "fp16"),
    Case("bert_base", 8, "fp16", 128, cutlass=True),
    Case("resnet50", 32, "fp16"),
    Case("vit_b_16", 8, "fp16"),
    Case("convnext_tiny", 8, "fp16"),
    Case("bert_base", 1, "fp16", 512),
    Case("llama_small", 1, "fp16", 512),
    Case("bert_large", 1, "fp16", 128),
    Case("bert_base", 1, "bf16", 128),
    Case("resnet50", 8, "bf16"),
    Case("llama_decode", 8, "bf16", 512),
    Case("bert_large", 8, "bf16", 512, cutlass=True),
    Case("vit_b_16", 32, "bf16"),
    Case("resnet50", 8, "tf32"),
    Case("resnet50", 8, "fp32"),
)

EMULATED = (
    Case("tiny_bert", 2, "fp32", 8, autotune=True, tuned=True),
    Case("tiny_resnet", 1, "bf16"),
)
"""For a look at the bench itself."""
