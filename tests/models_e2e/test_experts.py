"""Layers of experts as `transformers` has them, the whole way: many tokens, and one at a time."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from test_models import check
from torch import nn

from graphopt.frontend import trace_model

pytestmark = [pytest.mark.transformers, pytest.mark.compiler]
TOP = {"num_experts_per_tok": 2, "hidden_size": 32}
BLOCKS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "mixtral": ("Mixtral", "MixtralSparseMoeBlock", {"num_local_experts": 4}),
    "qwen3": ("Qwen3Moe", "Qwen3MoeSparseMoeBlock",
              {"num_experts": 24, "moe_intermediate_size": 20}),
    "olmoe": ("Olmoe", "OlmoeSparseMoeBlock", {"num_experts": 9}),
    "deepseek_v2": ("DeepseekV2", "DeepseekV2Moe",
                    {"n_routed_experts": 8, "moe_intermediate_size": 24, "n_shared_experts": 2,
                     "n_group": 1, "topk_group": 1}),
    "deepseek_v3": ("DeepseekV3", "DeepseekV3MoE",
                    {"n_routed_experts": 8, "moe_intermediate_size": 24, "n_shared_experts": 1,
                     "n_group": 4, "topk_group": 2}),
    "gpt_oss": ("GptOss", "GptOssMLP", {"num_local_experts": 5}),
}  # fmt: skip
"""Configuration, block, and what is small of it."""
FOLDERS = {"qwen3": "qwen3_moe"}


class First(nn.Module):
    """Some blocks give back the router's choice, too."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.block(x)
        return y[0] if isinstance(y, tuple) else y


def block_of(name: str, experts: str = "grouped_mm") -> nn.Module:
    config_name, class_name, small = BLOCKS[name]
    folder = FOLDERS.get(name, name)
    module = importlib.import_module(f"transformers.models.{folder}.modeling_{folder}")
    transformers = importlib.import_module("transformers")
    arguments = {"intermediate_size": 40, **TOP, **small}
    config = getattr(transformers, f"{config_name}Config")(**arguments)
    config._experts_implementation = experts
    torch.manual_seed(0)
    block = getattr(module, class_name)(config)
    with torch.no_grad():
        for tensor in (*block.parameters(), *block.buffers()):
            tensor.copy_(0.3 * torch.randn(tensor.shape))
    return First(block).eval()


@pytest.mark.parametrize("tokens", [1, 37])
@pytest.mark.parametrize("name", BLOCKS)
def test_block(name: str, tokens: int, tmp_path: Path) -> None:
    built = block_of(name), (torch.randn(1, tokens, TOP["hidden_size"]),)
    check(trace_model(*built), tmp_path / "artifact", gated=True)


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss"])
def test_block_that_copies_weights_for_each_row(name: str, tmp_path: Path) -> None:
    built = block_of(name, "batched_mm"), (torch.randn(1, 5, TOP["hidden_size"]),)
    check(trace_model(*built), tmp_path / "artifact", gated=True)


@pytest.mark.parametrize("tokens", [1, 37])
def test_block_on_an_emulated_gpu(tokens: int, tmp_path: Path) -> None:
    built = block_of("qwen3"), (torch.randn(1, tokens, TOP["hidden_size"]),)
    check(trace_model(*built), tmp_path / "artifact", gated=False, target="cuda:emulated")


def test_all_tokens_to_the_same_experts(tmp_path: Path) -> None:
    """And none to the others."""
    block = block_of("mixtral")
    with torch.no_grad():
        block.block.gate.weight.copy_(torch.tensor([[-1.0], [1.0], [-2.0], [2.0]]))  # type: ignore[union-attr]
    x = torch.randn(1, 37, TOP["hidden_size"]).abs()
    check(trace_model(block, (x,)), tmp_path / "artifact", gated=True)


def test_without_any_pass_but_those_that_kernels_need(tmp_path: Path) -> None:
    built = block_of("qwen3"), (torch.randn(1, 6, TOP["hidden_size"]),)
    check(trace_model(*built), tmp_path / "artifact", gated=True, level="O0")


@pytest.mark.parametrize("tokens", [1, 16])
def test_model(tokens: int, tmp_path: Path) -> None:
    from modules import Plain
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=100, hidden_size=64, intermediate_size=64, moe_intermediate_size=32,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        num_experts=16, num_experts_per_tok=4, decoder_sparse_step=1, use_cache=False,
    )  # fmt: skip
    model = Plain(Qwen3MoeForCausalLM(config).eval(), ("input_ids",), ("logits",)).eval()
    ids = torch.randint(0, 100, (1, tokens))
    check(trace_model(model, (ids,)), tmp_path / "artifact", gated=True)
