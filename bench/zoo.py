"""The models of the bench, as SOURCE strings name them: `bench/zoo.py:resnet50`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from models import MODELS

FOUNDATION = (
    "resnet50", "mobilenet_v2", "efficientnet_b0", "regnet_y_040", "convnext_tiny", "vit_b_16",
    "swin_tiny", "segformer_b0", "detr_resnet50", "bert_base", "distilbert", "gpt2", "llama_small",
    "t5_encoder", "whisper_tiny_encoder", "clip_text", "clip_vision", "lstm", "unet", "conv1d",
    "conv3d",
)  # fmt: skip


def __getattr__(name: str) -> Callable[[], Any]:
    if name in MODELS:
        return MODELS[name]
    raise AttributeError(f"there is no model {name!r}")
