"""Hand-written models of the held-out list: shapes that no model of the zoo has. Needs torch."""

from bench.held_out_modules.generators import (
    HiFiGan,
    PixelGenerator,
    StyleTransfer,
    SuperResolution,
    VolumeNet,
    dcgan,
)
from bench.held_out_modules.images import (
    DenseNet,
    Hourglass,
    Mixer,
    ResNeXt,
    Yolo,
    mobilenet_v3,
    shufflenet,
    vgg,
)
from bench.held_out_modules.latents import DiffusionNet, Segmenter
from bench.held_out_modules.lines import erfnet, inception
from bench.held_out_modules.others import (
    BiGru,
    PointNet,
    Recommender,
    Retention,
    TemporalConv,
    lenet,
    mlp,
)

__all__ = [
    "BiGru", "DenseNet", "DiffusionNet", "HiFiGan", "Hourglass", "Mixer", "PixelGenerator",
    "PointNet", "Recommender", "ResNeXt", "Retention", "Segmenter", "StyleTransfer",
    "SuperResolution", "TemporalConv", "VolumeNet", "Yolo", "dcgan", "erfnet", "inception", "lenet",
    "mlp", "mobilenet_v3", "shufflenet", "vgg",
]  # fmt: skip
