"""Image classifiers of `transformers`, built from their configs with seeded random weights.

graphopt compile examples/image_classification/model.py:mobilenet -o out/mobilenet
"""

from __future__ import annotations

import torch
import transformers
from torch import Tensor, nn

SIZE = 224

Source = tuple[nn.Module, tuple[Tensor, ...]]


class Logits(nn.Module):
    """pixels: f32[n, 3, h, w] -> scores: f32[n, classes]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model(pixel_values=pixels).logits


def mobilenet() -> Source:
    """MobileNetV2, 3.5 million parameters, 1000 classes."""
    return _built("MobileNetV2", num_labels=1000)


def resnet() -> Source:
    """ResNet-50, 25 million parameters, 1000 classes."""
    return _built("ResNet", num_labels=1000)


def _built(name: str, **config: int) -> Source:
    torch.manual_seed(0)
    settings = getattr(transformers, f"{name}Config")(**config)
    model = getattr(transformers, f"{name}ForImageClassification")(settings)
    return Logits(model).eval(), (torch.randn(1, 3, SIZE, SIZE),)
