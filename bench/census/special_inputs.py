"""Inputs of the types whose parameters do not suggest them, and what all inputs are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.census.small import VOCABULARY


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def ids(*shape: int, below: int = VOCABULARY - 1) -> Tensor:
    return torch.randint(3, below, shape, generator=torch.Generator().manual_seed(sum(shape)))


def _series(config: Any) -> dict[str, Tensor]:
    return {
        "past_values": random(2, 19),
        "past_time_features": random(2, 19, 2),
        "past_observed_mask": torch.ones(2, 19),
        "future_values": random(2, 8),
        "future_time_features": random(2, 8, 2),
    }


def _boxes() -> Tensor:
    n = 16
    return torch.stack(
        [
            torch.arange(n) * 3,
            torch.arange(n) * 2,
            torch.arange(n) * 3 + 9,
            torch.arange(n) * 2 + 9,
        ],
        -1,
    )[None]


INPUTS: dict[str, Callable[[Any], dict[str, Tensor]]] = {
    "lilt": lambda c: {"input_ids": ids(1, 16), "bbox": _boxes()},
    "bros": lambda c: {"input_ids": ids(1, 16), "bbox": _boxes().float() / 60},
    "esm": lambda c: {
        "input_ids": ids(1, 16, below=30),
        "attention_mask": torch.ones(1, 16, dtype=torch.long),
    },
    "autoformer": _series,
    "informer": _series,
    "time_series_transformer": _series,
    "decision_transformer": lambda c: {
        "states": random(1, 4, 5),
        "actions": random(1, 4, 3),
        "rewards": random(1, 4, 1),
        "returns_to_go": random(1, 4, 1),
        "timesteps": torch.arange(4)[None],
        "attention_mask": torch.ones(1, 4, dtype=torch.long),
    },
    "perceiver": lambda c: {"inputs": random(1, 12, 64)},
    "wav2vec2-bert": lambda c: {"input_features": random(1, 20, 16)},
    "lxmert": lambda c: {
        "input_ids": ids(1, 16),
        "visual_feats": random(1, 5, 2048),
        "visual_pos": random(1, 5, 4).abs(),
    },
    "prompt_depth_anything": lambda c: {
        "pixel_values": random(1, 3, 56, 56),
        "prompt_depth": random(1, 1, 28, 28).abs(),
    },
    "depth_anything": lambda c: {"pixel_values": random(1, 3, 56, 56)},
    "mgp-str": lambda c: {"pixel_values": random(1, 3, 32, 128)},
    "vitpose_backbone": lambda c: {"pixel_values": random(1, 3, 64, 48)},
    "musicgen_decoder": lambda c: {"input_ids": ids(4, 16)},
    "conditional_detr": lambda c: {"pixel_values": random(1, 3, 64, 64)},
    "table-transformer": lambda c: {"pixel_values": random(1, 3, 64, 64)},
    "deformable_detr": lambda c: {"pixel_values": random(1, 3, 64, 64)},
    "dab-detr": lambda c: {"pixel_values": random(1, 3, 64, 64)},
    "rt_detr": lambda c: {"pixel_values": random(1, 3, 64, 64)},
    "rt_detr_v2": lambda c: {"pixel_values": random(1, 3, 64, 64)},
    "mask2former": lambda c: {"pixel_values": random(1, 3, 64, 64)},
    "maskformer": lambda c: {"pixel_values": random(1, 3, 64, 64)},
    "sam": lambda c: {
        "pixel_values": random(1, 3, 64, 64),
        "input_points": torch.tensor([[[[10.0, 20.0]]]]),
    },
    "instructblip_qformer": lambda c: {"query_embeds": random(1, 4, 64)},
    "blip_2_qformer": lambda c: {
        "query_embeds": random(1, 4, 64),
        "encoder_hidden_states": random(1, 7, c.encoder_hidden_size),
    },
    "align": lambda c: {"input_ids": ids(1, 16), "pixel_values": random(1, 3, 64, 64)},
}
