"""Every op of the graph IR, in one explicit table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from graphopt.ir.regions import REGION_KINDS
from graphopt.ops import (
    attention,
    contraction,
    creation,
    grouped,
    indexing,
    movement,
    normalization,
    pointwise,
    reduction,
    region,
    window,
)
from graphopt.ops.attention import ATTENTION, AttentionAttrs
from graphopt.ops.base import Attrs, NoAttrs, OpDef
from graphopt.ops.contraction import ConvAttrs, ConvTransposeAttrs, LinearAttrs
from graphopt.ops.creation import CONSTANT, FULL, IOTA, ConstantAttrs, FullAttrs, IotaAttrs
from graphopt.ops.indexing import (
    GatherAttrs,
    ScatterAlongAttrs,
    ScatterNdAttrs,
    TakeAlongAttrs,
)
from graphopt.ops.movement import (
    ConcatAttrs,
    ExpandAttrs,
    FlipAttrs,
    PadAttrs,
    ReshapeAttrs,
    SliceAttrs,
    TransposeAttrs,
)
from graphopt.ops.normalization import (
    BatchNormAttrs,
    GroupNormAttrs,
    LayerNormAttrs,
    LogSoftmaxAttrs,
    RmsNormAttrs,
    SoftmaxAttrs,
)
from graphopt.ops.pointwise import CastAttrs, ClampAttrs, EluAttrs, GeluAttrs, LeakyReluAttrs
from graphopt.ops.reduction import (
    AllAttrs,
    AnyAttrs,
    ArgmaxAttrs,
    ArgminAttrs,
    CumsumAttrs,
    MaxAttrs,
    MeanAttrs,
    MinAttrs,
    ProdAttrs,
    SumAttrs,
    TopkAttrs,
)
from graphopt.ops.region import FUSED, FusedAttrs
from graphopt.ops.window import AdaptiveAvgPoolAttrs, AvgPoolAttrs, MaxPoolAttrs, ResizeAttrs

_FAMILIES = (
    creation, pointwise, reduction, normalization, contraction, grouped, window, movement,
    indexing, attention, region,
)  # fmt: skip
OPS: Mapping[str, OpDef] = MappingProxyType(
    {op.name: op for family in _FAMILIES for op in family.OPS}
)

__all__ = [
    "ATTENTION", "CONSTANT", "FULL", "FUSED", "IOTA", "OPS", "REGION_KINDS",
    "AdaptiveAvgPoolAttrs", "AllAttrs",
    "AnyAttrs", "ArgmaxAttrs", "ArgminAttrs", "AttentionAttrs", "Attrs", "AvgPoolAttrs",
    "BatchNormAttrs", "CastAttrs", "ClampAttrs", "ConcatAttrs", "ConstantAttrs", "ConvAttrs",
    "ConvTransposeAttrs", "CumsumAttrs", "EluAttrs", "ExpandAttrs", "FlipAttrs", "FullAttrs",
    "FusedAttrs", "GatherAttrs", "GeluAttrs", "GroupNormAttrs", "IotaAttrs", "LayerNormAttrs",
    "LeakyReluAttrs", "LinearAttrs", "LogSoftmaxAttrs", "MaxAttrs", "MaxPoolAttrs", "MeanAttrs",
    "MinAttrs", "NoAttrs", "OpDef", "PadAttrs", "ProdAttrs", "ReshapeAttrs", "ResizeAttrs",
    "RmsNormAttrs", "ScatterAlongAttrs", "ScatterNdAttrs", "SliceAttrs", "SoftmaxAttrs", "SumAttrs",
    "TakeAlongAttrs", "TopkAttrs", "TransposeAttrs",
]  # fmt: skip
