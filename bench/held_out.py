"""Models that nothing is tuned on, as SOURCE strings name them: `bench/held_out.py:vgg`.

Kernels and cost models are fitted to the zoo; this list says what they are worth elsewhere. Who
changes a constant looks here before and after, and never makes one from it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from models import Pretrained, build_pretrained, unsettle

Builder = Callable[[], Any]


def _pretrained(
    config: str, model: str, field: str, inputs: dict[str, tuple[int, ...]], **full: Any
) -> Builder:
    recipe = Pretrained("", config, model, (field,), full, {}, inputs, {})
    return partial(build_pretrained, recipe, tiny=False)


def _tokens(batch: int = 1, tokens: int = 128) -> dict[str, tuple[int, ...]]:
    return {"input_ids": (batch, tokens)}


def _images(batch: int = 1, size: int = 224) -> dict[str, tuple[int, ...]]:
    return {"pixel_values": (batch, 3, size, size)}


def _written(name: str, *shape: int, **arguments: Any) -> Builder:
    def build() -> Any:
        import torch

        from bench import held_out_modules

        torch.manual_seed(0)
        model = getattr(held_out_modules, name)(**arguments)
        return unsettle(model.eval()), (torch.randn(shape),)

    return build


def _recommender() -> Any:
    import torch

    from bench.held_out_modules import Recommender

    torch.manual_seed(0)
    return Recommender().eval(), (torch.randn(64, 13), torch.randint(10000, (64, 26)))


def _next_token(config: str, model: str, heads: int, **arguments: Any) -> Builder:
    """One step of decoding: a token after 512, whose keys and values, of `heads` heads of 64, are
    inputs."""

    def build() -> Any:
        import torch
        import transformers

        from bench.held_out_modules.decoding import NextToken

        torch.manual_seed(0)
        config_of = getattr(transformers, config)
        inner = getattr(transformers, model)(config_of(vocab_size=8000, **arguments)).eval()
        step = NextToken(inner).eval()
        past = (torch.randn(1, heads, 512, 64) for _ in range(2 * step.layers))
        return step, (torch.randint(8000, (1, 1)), torch.tensor([[512]]), *past)

    return build


_STATE = "last_hidden_state"
_SMALL: dict[str, Any] = {"num_hidden_layers": 3}
_MINI: dict[str, Any] = {
    "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536,
    "num_hidden_layers": 4,
}  # fmt: skip

HELD_OUT: Mapping[str, Builder] = {
    "vgg": _written("vgg", 1, 3, 224, 224),
    "densenet121": _written("DenseNet", 1, 3, 224, 224),
    "resnext": _written("ResNeXt", 1, 3, 224, 224),
    "shufflenet_v2": _written("shufflenet", 1, 3, 224, 224),
    "mobilenet_v3": _written("mobilenet_v3", 1, 3, 224, 224),
    "yolo": _written("Yolo", 1, 3, 320, 320),
    "dcgan": _written("dcgan", 1, 100, 1, 1),
    "dcgan_batch8": _written("dcgan", 8, 100, 1, 1),
    "pix2pix": _written("PixelGenerator", 1, 3, 256, 256),
    "style_transfer": _written("StyleTransfer", 1, 3, 224, 224),
    "super_resolution": _written("SuperResolution", 1, 3, 96, 96),
    "hifigan": _written("HiFiGan", 1, 80, 50),
    "volume_unet": _written("VolumeNet", 1, 1, 16, 48, 48),
    "diffusion": _written("DiffusionNet", 1, 4, 64, 64),
    "segmenter": _written("Segmenter", 1, 3, 256, 256),
    "inception": _written("inception", 1, 768, 17, 17),
    "erfnet": _written("erfnet", 1, 3, 256, 512),
    "lenet_batch64": _written("lenet", 64, 1, 28, 28),
    "hourglass": _written("Hourglass", 1, 64, 64, 64),
    "retention": _written("Retention", 1, 256, 512),
    "pointnet": _written("PointNet", 4, 3, 1024),
    "tcn": _written("TemporalConv", 1, 96, 400),
    "mixer": _written("Mixer", 1, 3, 224, 224),
    "recommender": _recommender,
    "mlp": _written("mlp", 32, 784, widths=(784, 2048, 1024, 512, 10)),
    "bigru": _written("BiGru", 1, 100, 80),
    "resnet18_batch8": _pretrained(
        "ResNetConfig", "ResNetForImageClassification", "logits", _images(8),
        depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], layer_type="basic", num_labels=1000,
    ),
    "hgnet_v2": _pretrained("HGNetV2Config", "HGNetV2ForImageClassification", "logits", _images()),
    "levit": _pretrained("LevitConfig", "LevitForImageClassification", "logits", _images()),
    "mobilevit": _pretrained(
        "MobileViTConfig", "MobileViTForImageClassification", "logits", _images(size=256),
        initializer_range=0.1,  # 0.02 leaves subnormal numbers
    ),
    "poolformer": _pretrained(
        "PoolFormerConfig", "PoolFormerForImageClassification", "logits", _images()
    ),
    "pvt_v2": _pretrained("PvtV2Config", "PvtV2ForImageClassification", "logits", _images()),
    "bit": _pretrained(
        "BitConfig", "BitForImageClassification", "logits", _images(), depths=[2, 2, 2, 2]
    ),
    "deit_small": _pretrained("DeiTConfig", "DeiTModel", _STATE, _images(), **_MINI),
    "dinov2": _pretrained("Dinov2Config", "Dinov2Model", _STATE, _images(size=196), **_SMALL),
    "glpn": _pretrained(
        "GLPNConfig", "GLPNForDepthEstimation", "predicted_depth", _images(size=256)
    ),
    "swin2sr": _pretrained(
        "Swin2SRConfig", "Swin2SRForImageSuperResolution", "reconstruction", _images(size=64),
        depths=[2, 2], num_heads=[6, 6],
    ),
    "minilm_batch8": _pretrained("BertConfig", "BertModel", _STATE, _tokens(8, 48), **_MINI),
    "roberta_512": _pretrained(
        "RobertaConfig", "RobertaModel", _STATE, _tokens(tokens=500), **_SMALL
    ),
    "albert": _pretrained("AlbertConfig", "AlbertModel", _STATE, _tokens(), hidden_size=768,
        num_attention_heads=12, intermediate_size=3072, num_hidden_layers=4),
    "deberta_v2": _pretrained("DebertaV2Config", "DebertaV2Model", _STATE, _tokens(),
        hidden_size=768, num_attention_heads=12, intermediate_size=3072, num_hidden_layers=3,
        relative_attention=True, pos_att_type=["p2c", "c2p"]),
    "mpnet": _pretrained("MPNetConfig", "MPNetModel", _STATE, _tokens(tokens=64), **_SMALL),
    "funnel": _pretrained("FunnelConfig", "FunnelBaseModel", _STATE, _tokens(),
        block_sizes=[2, 2, 2]),
    "squeezebert": _pretrained("SqueezeBertConfig", "SqueezeBertModel", _STATE, _tokens(),
        **_SMALL),
    "bart": _pretrained("BartConfig", "BartModel", _STATE, _tokens(tokens=64), encoder_layers=2,
        decoder_layers=2),
    "qwen2": _pretrained("Qwen2Config", "Qwen2Model", _STATE, _tokens(), vocab_size=8000,
        hidden_size=896, intermediate_size=4864, num_hidden_layers=3, num_attention_heads=14,
        num_key_value_heads=2, use_cache=False),
    "gemma_one_token": _pretrained("GemmaConfig", "GemmaModel", _STATE, _tokens(tokens=1),
        vocab_size=8000, hidden_size=1024, intermediate_size=4096, num_hidden_layers=4,
        num_attention_heads=8, num_key_value_heads=1, head_dim=128, use_cache=False),
    "llama_1024": _pretrained("LlamaConfig", "LlamaModel", _STATE, _tokens(tokens=1024),
        vocab_size=8000, hidden_size=1024, intermediate_size=2816, num_hidden_layers=2,
        num_attention_heads=16, num_key_value_heads=4, use_cache=False),
    "modernbert_1024": _pretrained("ModernBertConfig", "ModernBertModel", _STATE,
        _tokens(tokens=1024), vocab_size=8000, num_hidden_layers=3, pad_token_id=0, cls_token_id=1,
        sep_token_id=2, bos_token_id=1, eos_token_id=2),
    "gpt2_next_token": _next_token("GPT2Config", "GPT2Model", 12, n_layer=3),
    "llama_next_token": _next_token("LlamaConfig", "LlamaModel", 4, hidden_size=1024,
        intermediate_size=2816, num_hidden_layers=3, num_attention_heads=16,
        num_key_value_heads=4),
    "mamba": _pretrained("MambaConfig", "MambaModel", _STATE, _tokens(tokens=64), vocab_size=8000,
        hidden_size=512, num_hidden_layers=4, use_cache=False),
    "mamba2": _pretrained("Mamba2Config", "Mamba2Model", _STATE, _tokens(tokens=64),
        vocab_size=8000, hidden_size=256, num_heads=8, head_dim=64, n_groups=1,
        state_size=64, num_hidden_layers=4, use_cache=False),
    "wav2vec2": _pretrained("Wav2Vec2Config", "Wav2Vec2Model", _STATE, {"input_values": (1, 16000)},
        **_SMALL),
    "conformer": _pretrained("Wav2Vec2ConformerConfig", "Wav2Vec2ConformerModel",
        _STATE, {"input_values": (1, 16000)}, **_SMALL),
}  # fmt: skip


def __getattr__(name: str) -> Builder:
    if name in HELD_OUT:
        return HELD_OUT[name]
    raise AttributeError(f"there is no model {name!r}")
