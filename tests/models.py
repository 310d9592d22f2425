"""The model zoo of the tests and the bench: seeded random weights, nothing downloaded.

`MODELS` has the architectures at the size people run; `SHALLOW` as wide, on inputs as large, with
what repeats twice or so: the same kernels in a third of the time; `TINY` has them small, for tests
that look at every step. A builder gives `(module in eval mode, example inputs)`; the module
takes tensors by position and returns a tensor or a tuple of tensors. torch and transformers are
imported when a model is built, so that listing the names costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    Built = tuple[nn.Module, tuple[Tensor, ...]]

SEED = 0
TOKENS = 128
TINY_TOKENS = 16


@dataclass(frozen=True)
class Pretrained:
    """An architecture of `transformers`: class names, the config of each size, inputs, outputs.

    name: of the full size, in `MODELS`; the tiny one is `tiny_` and the family.
    shallow: what takes the place of `full`'s arguments in `SHALLOW`.
    inputs: keyword -> shape; one called `input_ids` holds random token ids, others normal noise.
    part: the submodule to keep (an encoder); the whole model where empty.
    backbone: config class of a nested backbone; its arguments stand under `backbone_config`.
    """

    name: str
    config: str
    model: str
    outputs: tuple[str, ...]
    full: Mapping[str, Any]
    tiny: Mapping[str, Any]
    full_inputs: Mapping[str, tuple[int, ...]]
    tiny_inputs: Mapping[str, tuple[int, ...]]
    shallow: Mapping[str, Any] = field(default_factory=dict)
    part: str = ""
    backbone: str = ""


def _images(full: int, tiny: int) -> dict[str, Any]:
    return {
        "full_inputs": {"pixel_values": (1, 3, full, full)},
        "tiny_inputs": {"pixel_values": (1, 3, tiny, tiny)},
    }


def _tokens(full: int = TOKENS, tiny: int = TINY_TOKENS) -> dict[str, Any]:
    return {
        "full_inputs": {"input_ids": (1, full)},
        "tiny_inputs": {"input_ids": (1, tiny)},
    }


_TINY_VIT = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "image_size": 32,
    "patch_size": 8,
}
_TINY_RESNET = {"embedding_size": 16, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 2, 1, 1]}

# by family
PRETRAINED: Mapping[str, Pretrained] = {
    "resnet": Pretrained(
        "resnet50",
        "ResNetConfig",
        "ResNetForImageClassification",
        ("logits",),
        full={"num_labels": 1000},
        tiny={**_TINY_RESNET, "num_labels": 10},
        shallow={"depths": [2, 2, 2, 2]},
        **_images(224, 32),
    ),
    "mobilenet_v1": Pretrained(
        "mobilenet_v1",
        "MobileNetV1Config",
        "MobileNetV1ForImageClassification",
        ("logits",),
        full={"num_labels": 1000},
        tiny={"num_labels": 10, "depth_multiplier": 0.25, "min_depth": 8, "image_size": 32},
        **_images(224, 32),
    ),
    "mobilenet_v2": Pretrained(
        "mobilenet_v2",
        "MobileNetV2Config",
        "MobileNetV2ForImageClassification",
        ("logits",),
        full={"num_labels": 1000},
        tiny={"num_labels": 10, "depth_multiplier": 0.25, "image_size": 32},
        **_images(224, 32),
    ),
    "efficientnet": Pretrained(
        "efficientnet_b0",
        "EfficientNetConfig",
        "EfficientNetForImageClassification",
        ("logits",),
        full={
            "num_labels": 1000,
            "image_size": 224,
            "width_coefficient": 1.0,
            "depth_coefficient": 1.0,
            "hidden_dim": 1280,
        },
        tiny={
            "num_labels": 10,
            "image_size": 32,
            "width_coefficient": 0.25,
            "depth_coefficient": 0.2,
            "hidden_dim": 320,
        },
        shallow={"depth_coefficient": 0.5},
        **_images(224, 32),
    ),
    "regnet": Pretrained(
        "regnet_y_040",
        "RegNetConfig",
        "RegNetForImageClassification",
        ("logits",),
        full={"num_labels": 1000},
        tiny={
            "num_labels": 10,
            "embedding_size": 16,
            "hidden_sizes": [16, 32],
            "depths": [1, 2],
            "groups_width": 8,
        },
        shallow={"depths": [2, 2, 2, 2]},
        **_images(224, 32),
    ),
    "convnext": Pretrained(
        "convnext_tiny",
        "ConvNextConfig",
        "ConvNextForImageClassification",
        ("logits",),
        full={"num_labels": 1000},
        tiny={"num_labels": 10, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]},
        shallow={"depths": [2, 2, 2, 2]},
        **_images(224, 64),
    ),
    "vit": Pretrained(
        "vit_b_16",
        "ViTConfig",
        "ViTForImageClassification",
        ("logits",),
        full={"num_labels": 1000},
        tiny={**_TINY_VIT, "num_labels": 10},
        shallow={"num_hidden_layers": 2},
        **_images(224, 32),
    ),
    "swin": Pretrained(
        "swin_tiny",
        "SwinConfig",
        "SwinForImageClassification",
        ("logits",),
        full={"num_labels": 1000},
        tiny={
            "num_labels": 10,
            "image_size": 32,
            "patch_size": 2,
            "window_size": 4,
            "embed_dim": 16,
            "depths": [2, 2],
            "num_heads": [2, 4],
        },
        shallow={"depths": [2, 2, 2, 2]},
        **_images(224, 32),
    ),
    "segformer": Pretrained(
        "segformer_b0",
        "SegformerConfig",
        "SegformerForSemanticSegmentation",
        ("logits",),
        full={"num_labels": 150},
        tiny={
            "num_labels": 5,
            "hidden_sizes": [16, 32, 32, 64],
            "depths": [1, 1, 1, 1],
            "decoder_hidden_size": 32,
        },
        **_images(512, 64),
    ),
    "detr": Pretrained(
        "detr_resnet50",
        "DetrConfig",
        "DetrForObjectDetection",
        ("logits", "pred_boxes"),
        full={
            "use_timm_backbone": False,
            "use_pretrained_backbone": False,
            "backbone_config": {"out_features": ["stage4"]},
        },
        tiny={
            "use_timm_backbone": False,
            "use_pretrained_backbone": False,
            "backbone_config": {**_TINY_RESNET, "out_features": ["stage4"]},
            "d_model": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "num_queries": 10,
        },
        backbone="ResNetConfig",
        shallow={
            "backbone_config": {"out_features": ["stage4"], "depths": [2, 2, 2, 2]},
            "encoder_layers": 2,
            "decoder_layers": 2,
        },
        **_images(512, 64),
    ),
    "bert": Pretrained(
        "bert_base",
        "BertConfig",
        "BertModel",
        ("last_hidden_state", "pooler_output"),
        full={},
        tiny={
            "vocab_size": 100,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "max_position_embeddings": 32,
        },
        shallow={"num_hidden_layers": 2},
        full_inputs={"input_ids": (1, TOKENS), "attention_mask": (1, TOKENS)},
        tiny_inputs={"input_ids": (1, TINY_TOKENS), "attention_mask": (1, TINY_TOKENS)},
    ),
    "distilbert": Pretrained(
        "distilbert",
        "DistilBertConfig",
        "DistilBertModel",
        ("last_hidden_state",),
        full={},
        tiny={
            "vocab_size": 100,
            "dim": 64,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 128,
            "max_position_embeddings": 32,
        },
        shallow={"n_layers": 2},
        **_tokens(),
    ),
    "gpt2": Pretrained(
        "gpt2",
        "GPT2Config",
        "GPT2LMHeadModel",
        ("logits",),
        full={"use_cache": False},
        tiny={
            "use_cache": False,
            "vocab_size": 100,
            "n_embd": 64,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 32,
            "bos_token_id": 98,
            "eos_token_id": 99,
        },
        shallow={"n_layer": 2},
        **_tokens(),
    ),
    "llama": Pretrained(
        "llama_small",
        "LlamaConfig",
        "LlamaForCausalLM",
        ("logits",),
        full={
            "use_cache": False,
            "hidden_size": 768,
            "intermediate_size": 2048,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
            "num_key_value_heads": 12,
            "vocab_size": 4096,
        },
        tiny={
            "use_cache": False,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 100,
            "max_position_embeddings": 32,
        },
        shallow={"num_hidden_layers": 2},
        **_tokens(),
    ),
    "t5_encoder": Pretrained(
        "t5_encoder",
        "T5Config",
        "T5EncoderModel",
        ("last_hidden_state",),
        full={},
        tiny={
            "vocab_size": 100,
            "d_model": 64,
            "d_kv": 16,
            "d_ff": 128,
            "num_layers": 2,
            "num_heads": 4,
            "feed_forward_proj": "gated-gelu",
        },
        shallow={"num_layers": 2},
        **_tokens(),
    ),
    "whisper_encoder": Pretrained(
        "whisper_tiny_encoder",
        "WhisperConfig",
        "WhisperModel",
        ("last_hidden_state",),
        full={"encoder_layers": 4, "encoder_attention_heads": 6, "d_model": 384},
        tiny={
            "vocab_size": 100,
            "d_model": 64,
            "encoder_layers": 2,
            "decoder_layers": 1,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 128,
            "decoder_ffn_dim": 128,
            "max_source_positions": 20,
            "num_mel_bins": 16,
            "pad_token_id": 0,
            "bos_token_id": 98,
            "eos_token_id": 99,
            "decoder_start_token_id": 97,
        },
        shallow={"encoder_layers": 2, "decoder_layers": 1},
        full_inputs={"input_features": (1, 80, 3000)},
        tiny_inputs={"input_features": (1, 16, 40)},
        part="encoder",
    ),
    "clip_text": Pretrained(
        "clip_text",
        "CLIPTextConfig",
        "CLIPTextModel",
        ("last_hidden_state", "pooler_output"),
        full={},
        tiny={
            "vocab_size": 100,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "max_position_embeddings": 32,
            "bos_token_id": 98,
            "eos_token_id": 99,
            "pad_token_id": 1,
        },
        shallow={"num_hidden_layers": 2},
        **_tokens(full=77),
    ),
    "clip_vision": Pretrained(
        "clip_vision",
        "CLIPVisionConfig",
        "CLIPVisionModel",
        ("last_hidden_state", "pooler_output"),
        full={},
        tiny=_TINY_VIT,
        shallow={"num_hidden_layers": 2},
        **_images(224, 32),
    ),
}

# name -> class in modules.py, (arguments, input shape) at full size, the same at tiny size
HAND_WRITTEN: Mapping[str, tuple[str, tuple[Any, ...], tuple[Any, ...]]] = {
    "lstm": ("Lstm", ((128, 256, 2, 32), (1, 32, 128)), ((8, 16, 2, 5), (2, 6, 8))),
    "gru": ("Gru", ((128, 256, 2, 32), (1, 32, 128)), ((8, 16, 2, 5), (2, 6, 8))),
    "unet": ("UNet", ((32, 4, 8), (1, 3, 256, 256)), ((8, 2, 3), (1, 3, 32, 32))),
    "conv1d": ("Conv1dNet", ((64, 8), (1, 1, 16000)), ((8, 4), (2, 1, 64))),
    "conv3d": ("Conv3dNet", ((32, 100), (1, 3, 16, 112, 112)), ((8, 5), (1, 3, 4, 16, 16))),
    "resizer": ("Resizer", ((), (1, 16, 56, 56)), ((), (1, 4, 10, 12))),
}


def build_pretrained(recipe: Pretrained, tiny: bool, shallow: bool = False) -> Built:
    import torch
    import transformers
    from modules import Plain

    torch.manual_seed(SEED)
    arguments = dict(recipe.tiny if tiny else recipe.full)
    if shallow:
        arguments.update(recipe.shallow)
    if recipe.backbone:
        backbone = getattr(transformers, recipe.backbone)
        arguments["backbone_config"] = backbone(**arguments["backbone_config"])
    config = getattr(transformers, recipe.config)(**arguments)
    model = getattr(transformers, recipe.model)(config)
    if recipe.part:
        model = getattr(model, recipe.part)
    shapes = recipe.tiny_inputs if tiny else recipe.full_inputs
    inputs = tuple(_example(key, shape, config) for key, shape in shapes.items())
    return Plain(unsettle(model.eval()), tuple(shapes), recipe.outputs).eval(), inputs


def build_hand_written(name: str, tiny: bool) -> Built:
    import modules
    import torch

    class_name, full, small = HAND_WRITTEN[name]
    torch.manual_seed(SEED)
    arguments, shape = small if tiny else full
    model = getattr(modules, class_name)(*arguments)
    return unsettle(model.eval()), (torch.randn(shape),)


def _example(key: str, shape: tuple[int, ...], config: Any) -> Tensor:
    import torch

    if key == "attention_mask":
        mask = torch.ones(shape, dtype=torch.int64)
        mask[:, -shape[1] // 4 :] = 0  # a padded tail: an ignored mask must show
        return mask
    if key == "input_ids":
        return torch.randint(3, config.vocab_size - 1, shape)
    return torch.randn(shape)


def unsettle(model: nn.Module) -> nn.Module:
    """Add noise to tensors that start constant (norm weights and statistics, biases).

    Ones and zeros would let a compiler that drops or swaps them pass.
    """
    import torch

    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point() and tensor.numel() > 1 and tensor.min() == tensor.max():
                tensor.add_(0.1 * torch.randn_like(tensor))
                if name.endswith("running_var"):
                    tensor.abs_().add_(0.01)
    return model


def _table(tiny: bool) -> Mapping[str, Callable[[], Built]]:
    def title(family: str, full: str) -> str:
        return f"tiny_{family}" if tiny else full

    table: dict[str, Callable[[], Built]] = {
        title(family, recipe.name): partial(build_pretrained, recipe, tiny)
        for family, recipe in PRETRAINED.items()
    }
    for name in HAND_WRITTEN:
        table[title(name, name)] = partial(build_hand_written, name, tiny)
    return MappingProxyType(table)


MODELS: Mapping[str, Callable[[], Built]] = _table(tiny=False)
SHALLOW: Mapping[str, Callable[[], Built]] = {
    **MODELS,
    **{r.name: partial(build_pretrained, r, False, True) for r in PRETRAINED.values() if r.shallow},
}
TINY: Mapping[str, Callable[[], Built]] = _table(tiny=True)
