"""What is particular to a type: fields that its class wants besides small sizes, inputs that no
name suggests, and the head that is looked at in the place of the bare model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _ids(*shape: int, below: int = 80) -> Tensor:
    return torch.randint(3, below, shape, generator=torch.Generator().manual_seed(0))


def _resnet(**more: Any) -> Any:
    return transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1], **more
    )


_DETR: dict[str, Any] = {
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone": None,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "num_queries": 10,
}


def _dinov2(**more: Any) -> Any:
    return transformers.Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=56,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
        **more,
    )


def _rt_resnet() -> Any:
    return transformers.RTDetrResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32, 48, 64],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )


_RT_DETR: dict[str, Any] = {
    "backbone_config": None,
    "encoder_in_channels": [32, 48, 64],
    "encoder_hidden_dim": 32,
    "encoder_ffn_dim": 64,
    "d_model": 32,
    "decoder_in_channels": [32, 32, 32],
    "decoder_ffn_dim": 64,
    "decoder_layers": 2,
    "num_queries": 10,
    "decoder_attention_heads": 4,
    "encoder_attention_heads": 4,
    "anchor_image_size": None,
}
OVERRIDES: dict[str, dict[str, Any]] = {
    "gptj": {"rotary_dim": 8},
    "codegen": {"rotary_dim": 8},
    "nemotron": {"num_key_value_heads": 2},
    "esm": {
        "vocab_size": 33,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "pad_token_id": 1,
        "position_embedding_type": "rotary",
    },
    "deepseek_v2": {
        "num_experts_per_tok": 2,
        "n_routed_experts": 4,
        "num_key_value_heads": 4,
        "head_dim": 8,
        "topk_method": "greedy",
        "n_group": 1,
        "topk_group": 1,
    },
    "deepseek_v3": {
        "num_key_value_heads": 4,
        "head_dim": 8,
        "num_experts_per_tok": 2,
        "n_routed_experts": 4,
        "n_group": 2,
        "topk_group": 1,
    },
    "mamba2": {
        "hidden_size": 64,
        "num_heads": 8,
        "head_dim": 16,
        "state_size": 8,
        "n_groups": 2,
        "num_hidden_layers": 2,
        "vocab_size": 100,
        "chunk_size": 8,
    },
    "reformer": {
        "axial_pos_embds_dim": [32, 32],
        "axial_pos_shape": [4, 4],
        "attn_layers": ["local", "local"],
        "local_attn_chunk_length": 4,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "attention_head_size": 16,
        "is_decoder": False,
        "feed_forward_size": 128,
        "vocab_size": 100,
        "max_position_embeddings": 16,
    },
    "lilt": {"hidden_size": 96, "num_attention_heads": 4},
    "bros": {},
    "swinv2": {
        "embed_dim": 16,
        "depths": [2, 2],
        "num_heads": [2, 4],
        "window_size": 4,
        "image_size": 32,
        "patch_size": 2,
    },
    "donut-swin": {
        "embed_dim": 16,
        "depths": [2, 2],
        "num_heads": [2, 4],
        "window_size": 4,
        "image_size": 32,
        "patch_size": 2,
    },
    "maskformer-swin": {
        "embed_dim": 16,
        "depths": [2, 2],
        "num_heads": [2, 4],
        "window_size": 4,
        "image_size": 32,
        "patch_size": 2,
    },
    "bit": {"embedding_size": 16, "hidden_sizes": [32, 64], "depths": [1, 2], "num_groups": 8},
    "hiera": {
        "embed_dim": 16,
        "depths": [1, 2, 1, 1],
        "num_heads": [1, 2, 4, 8],
        "image_size": [64, 64],
    },
    "focalnet": {
        "embed_dim": 16,
        "hidden_sizes": [16, 32],
        "depths": [1, 1],
        "focal_levels": [2, 2],
        "focal_windows": [3, 3],
        "image_size": 32,
    },
    "dinov3_convnext": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]},
    "convnextv2": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]},
    "beit": {
        "num_hidden_layers": 4,
        "out_indices": [1, 2, 3, 4],
        "image_size": 64,
        "patch_size": 16,
        "num_attention_heads": 4,
        "hidden_size": 32,
        "pool_scales": [1, 2, 3, 6],
    },
    "dpt": {
        "num_hidden_layers": 4,
        "backbone_out_indices": [0, 1, 2, 3],
        "neck_hidden_sizes": [16, 16, 32, 32],
        "fusion_hidden_size": 16,
        "image_size": 32,
        "patch_size": 16,
        "hidden_size": 32,
    },
    "depth_anything": {
        "backbone_config": _dinov2(),
        "reassemble_hidden_size": 32,
        "neck_hidden_sizes": [16, 16, 32, 32],
        "fusion_hidden_size": 16,
        "head_hidden_size": 8,
        "patch_size": 14,
    },
    "prompt_depth_anything": {
        "backbone_config": _dinov2(),
        "reassemble_hidden_size": 32,
        "neck_hidden_sizes": [16, 16, 32, 32],
        "fusion_hidden_size": 16,
        "head_hidden_size": 8,
        "patch_size": 14,
    },
    "conditional_detr": dict(_DETR, backbone_config=_resnet(out_features=["stage4"])),
    "table-transformer": dict(_DETR, backbone_config=_resnet(out_features=["stage4"])),
    "dab-detr": dict(_DETR, backbone_config=_resnet(out_features=["stage4"]), hidden_size=32),
    "deformable_detr": dict(
        _DETR,
        backbone_config=_resnet(out_features=["stage2", "stage3", "stage4"]),
        num_feature_levels=4,
    ),
    "rt_detr": dict(_RT_DETR, backbone_config=_rt_resnet()),
    "rt_detr_v2": dict(
        _RT_DETR, backbone_config=_rt_resnet(), n_levels=3, decoder_n_levels=3, decoder_n_points=4
    ),
    "mask2former": {
        "hidden_size": 32,
        "feature_size": 32,
        "mask_feature_size": 32,
        "encoder_feedforward_dim": 64,
        "dim_feedforward": 64,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "num_attention_heads": 4,
        "num_queries": 8,
        "backbone_config": transformers.SwinConfig(
            embed_dim=16,
            depths=[1, 1, 1, 1],
            num_heads=[1, 2, 4, 8],
            window_size=4,
            image_size=64,
            patch_size=4,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        ),
    },
    "maskformer": {
        "fpn_feature_size": 32,
        "mask_feature_size": 32,
        "backbone_config": transformers.SwinConfig(
            embed_dim=16,
            depths=[1, 1, 1, 1],
            num_heads=[1, 2, 4, 8],
            window_size=4,
            image_size=64,
            patch_size=4,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        ),
        "decoder_config": transformers.DetrConfig(
            **{k: v for k, v in _DETR.items() if k != "backbone"},
            backbone_config=_resnet(out_features=["stage4"]),
        ),
    },
    "upernet": {
        "backbone_config": transformers.ConvNextConfig(
            hidden_sizes=[16, 32, 48, 64],
            depths=[1, 1, 1, 1],
            out_features=["stage1", "stage2", "stage3", "stage4"],
        ),
        "hidden_size": 16,
        "auxiliary_in_channels": 48,
        "auxiliary_channels": 16,
        "pool_scales": [1, 2, 3],
    },
    "vitpose_backbone": {"image_size": [64, 48], "patch_size": [16, 16]},
    "mgp-str": {"image_size": [32, 128], "patch_size": 4},
    "speecht5": {},
    "wav2vec2-bert": {
        "feature_projection_input_dim": 16,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
    },
    "vjepa2": {},
    "musicgen_decoder": {},
    "xlm": {"emb_dim": 64, "n_words": 128, "n_layers": 2, "n_heads": 4},
    "flaubert": {"emb_dim": 64, "n_words": 128, "n_layers": 2, "n_heads": 4},
    "luke": {"entity_vocab_size": 50, "entity_emb_size": 32, "vocab_size": 128},
    "autoformer": {
        "prediction_length": 8,
        "context_length": 16,
        "lags_sequence": [1, 2, 3],
        "input_size": 1,
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "num_time_features": 2,
    },
    "informer": {
        "prediction_length": 8,
        "context_length": 16,
        "lags_sequence": [1, 2, 3],
        "input_size": 1,
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "num_time_features": 2,
    },
    "time_series_transformer": {
        "prediction_length": 8,
        "context_length": 16,
        "lags_sequence": [1, 2, 3],
        "input_size": 1,
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "num_time_features": 2,
    },
    "decision_transformer": {
        "state_dim": 5,
        "act_dim": 3,
        "hidden_size": 64,
        "n_layer": 2,
        "n_head": 4,
    },
    "perceiver": {
        "num_latents": 8,
        "d_latents": 32,
        "d_model": 64,
        "num_blocks": 1,
        "num_self_attends_per_block": 2,
        "num_self_attention_heads": 4,
        "num_cross_attention_heads": 4,
    },
    "sam": {
        "vision_config": {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 64,
            "patch_size": 16,
            "output_channels": 256,
            "mlp_dim": 64,
            "global_attn_indexes": [1],
            "window_size": 2,
        },
        "prompt_encoder_config": {"hidden_size": 256, "image_size": 64, "patch_size": 16},
        "mask_decoder_config": {},
    },
    "owlvit": {"projection_dim": 32},
    "tapas": {},
}


def _series(config: Any) -> dict[str, Tensor]:
    return {
        "past_values": _random(2, 19),
        "past_time_features": _random(2, 19, 2),
        "past_observed_mask": torch.ones(2, 19),
        "future_values": _random(2, 8),
        "future_time_features": _random(2, 8, 2),
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
    "lilt": lambda c: {"input_ids": _ids(1, 16), "bbox": _boxes()},
    "bros": lambda c: {"input_ids": _ids(1, 16), "bbox": _boxes().float() / 60},
    "esm": lambda c: {
        "input_ids": _ids(1, 16, below=30),
        "attention_mask": torch.ones(1, 16, dtype=torch.long),
    },
    "autoformer": _series,
    "informer": _series,
    "time_series_transformer": _series,
    "decision_transformer": lambda c: {
        "states": _random(1, 4, 5),
        "actions": _random(1, 4, 3),
        "rewards": _random(1, 4, 1),
        "returns_to_go": _random(1, 4, 1),
        "timesteps": torch.arange(4)[None],
        "attention_mask": torch.ones(1, 4, dtype=torch.long),
    },
    "perceiver": lambda c: {"inputs": _random(1, 12, 64)},
    "wav2vec2-bert": lambda c: {"input_features": _random(1, 20, 16)},
    "lxmert": lambda c: {
        "input_ids": _ids(1, 16),
        "visual_feats": _random(1, 5, 2048),
        "visual_pos": _random(1, 5, 4).abs(),
    },
    "prompt_depth_anything": lambda c: {
        "pixel_values": _random(1, 3, 56, 56),
        "prompt_depth": _random(1, 1, 28, 28).abs(),
    },
    "depth_anything": lambda c: {"pixel_values": _random(1, 3, 56, 56)},
    "mgp-str": lambda c: {"pixel_values": _random(1, 3, 32, 128)},
    "vitpose_backbone": lambda c: {"pixel_values": _random(1, 3, 64, 48)},
    "musicgen_decoder": lambda c: {"input_ids": _ids(4, 16)},
    "conditional_detr": lambda c: {"pixel_values": _random(1, 3, 64, 64)},
    "table-transformer": lambda c: {"pixel_values": _random(1, 3, 64, 64)},
    "deformable_detr": lambda c: {"pixel_values": _random(1, 3, 64, 64)},
    "dab-detr": lambda c: {"pixel_values": _random(1, 3, 64, 64)},
    "rt_detr": lambda c: {"pixel_values": _random(1, 3, 64, 64)},
    "rt_detr_v2": lambda c: {"pixel_values": _random(1, 3, 64, 64)},
    "mask2former": lambda c: {"pixel_values": _random(1, 3, 64, 64)},
    "maskformer": lambda c: {"pixel_values": _random(1, 3, 64, 64)},
    "sam": lambda c: {
        "pixel_values": _random(1, 3, 64, 64),
        "input_points": torch.tensor([[[[10.0, 20.0]]]]),
    },
    "instructblip_qformer": lambda c: {"query_embeds": _random(1, 4, 64)},
    "blip_2_qformer": lambda c: {
        "query_embeds": _random(1, 4, 64),
        "encoder_hidden_states": _random(1, 7, c.encoder_hidden_size),
    },
    "align": lambda c: {"input_ids": _ids(1, 16), "pixel_values": _random(1, 3, 64, 64)},
}

HEADS = {
    "yolos": "YolosForObjectDetection",
    "glpn": "GLPNForDepthEstimation",
    "dpt": "DPTForDepthEstimation",
    "upernet": "UperNetForSemanticSegmentation",
    "depth_anything": "DepthAnythingForDepthEstimation",
    "conditional_detr": "ConditionalDetrForObjectDetection",
    "table-transformer": "TableTransformerForObjectDetection",
    "deformable_detr": "DeformableDetrForObjectDetection",
    "rt_detr": "RTDetrForObjectDetection",
    "rt_detr_v2": "RTDetrV2ForObjectDetection",
    "d_fine": "DFineForObjectDetection",
    "maskformer": "MaskFormerForInstanceSegmentation",
    "mask2former": "Mask2FormerForUniversalSegmentation",
    "swin2sr": "Swin2SRForImageSuperResolution",
    "rf_detr": "RfDetrForObjectDetection",
    "lw_detr": "LwDetrForObjectDetection",
    "zoedepth": "ZoeDepthForDepthEstimation",
    "vitpose": "VitPoseForPoseEstimation",
    "vitmatte": "VitMatteForImageMatting",
    "superpoint": "SuperPointForKeypointDetection",
    "trocr": "TrOCRForCausalLM",
    "prompt_depth_anything": "PromptDepthAnythingForDepthEstimation",
    "depth_pro": "DepthProForDepthEstimation",
    "eomt": "EomtForUniversalSegmentation",
    "seggpt": "SegGptForImageSegmentation",
    "mobilevit": "MobileViTForSemanticSegmentation",
    "wav2vec2": "Wav2Vec2ForCTC",
    "grounding-dino": "GroundingDinoForObjectDetection",
    "oneformer": "OneFormerForUniversalSegmentation",
    "musicgen_decoder": "MusicgenForCausalLM",
    "parakeet_ctc": "ParakeetForCTC",
    "kosmos-2": "Kosmos2Model",
    "fastspeech2_conformer": "FastSpeech2ConformerModel",
    "owlvit": "OwlViTForObjectDetection",
    "owlv2": "Owlv2ForObjectDetection",
    "layoutlm": "LayoutLMForTokenClassification",
    "beit": "BeitForSemanticSegmentation",
    "lightglue": "LightGlueForKeypointMatching",
    "omdet-turbo": "OmDetTurboForObjectDetection",
    "tapas": "TapasModel",
    "clipseg": "CLIPSegForImageSegmentation",
    "efficientloftr": "EfficientLoFTRForKeypointMatching",
}
