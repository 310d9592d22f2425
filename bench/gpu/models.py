"""The models of the bench, as SOURCE strings name them: `bench/gpu/models.py:bert_base_b8_t512`."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tests"))

from models import MODELS, PRETRAINED, TINY, build_pretrained

from bench.gpu.decoder import decoder

_NAME = re.compile(r"(?P<model>\w+?)_b(?P<batch>\d+)(_t(?P<tokens>\d+))?")
_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}

Built = tuple[torch.nn.Module, tuple[torch.Tensor, ...]]


def __getattr__(name: str) -> Callable[[], Built]:
    found = _NAME.fullmatch(name)
    if found is None:
        raise AttributeError(f"there is no model {name!r}")
    return partial(build, found["model"], int(found["batch"]), int(found["tokens"] or 0))


def build(model: str, batch: int, tokens: int) -> Built:
    """A model of the zoo, its inputs repeated to the batch and the tokens."""
    if model == "llama_decode":
        return decoder(batch, tokens)
    if model == "bert_large":
        recipe = dataclasses.replace(PRETRAINED["bert"], full=_LARGE)
        module, inputs = build_pretrained(recipe, tiny=False)
    else:
        module, inputs = {**MODELS, **TINY}[model]()
    return module, tuple(_stretched(inputs, batch, tokens))


def _stretched(inputs: Sequence[Any], batch: int, tokens: int) -> list[torch.Tensor]:
    torch.manual_seed(0)
    out = []
    for x in inputs:
        if x.is_floating_point():
            out.append(torch.randn(batch, *x.shape[1:]))
            continue
        length = tokens or x.shape[1]
        times = -(-length // x.shape[1])
        row = x[:1].repeat(1, times)[:, :length]
        out.append(torch.cat([row.roll(i, 1) for i in range(batch)]))
    return out
