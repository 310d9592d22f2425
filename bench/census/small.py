"""Small configurations and models of any type, by the names that their sizes have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from torch import nn
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from bench.census.overrides import HEADS, OVERRIDES

WIDTH, INNER, LAYERS, HEADS_PER_LAYER = 64, 128, 2, 4

_SIZES: dict[str, tuple[int, str]] = {
    "width": (WIDTH, "hidden_size d_model n_embd dim hidden_dim embedding_size embedding_dim "
              "word_embed_proj_dim qformer_hidden_size out_hidden_size"),
    "inner": (INNER, "intermediate_size ffn_dim d_ff encoder_ffn_dim decoder_ffn_dim n_inner "
              "ffn_hidden_size dim_feedforward encoder_intermediate_size vocab_size "
              "vocab_size_per_layer_input"),
    "layers": (LAYERS, "num_hidden_layers n_layer n_layers num_layers encoder_layers depth "
               "decoder_layers num_encoder_layers num_decoder_layers num_blocks "
               "num_key_value_heads num_kv_heads num_experts_per_tok moe_k"),
    "heads": (HEADS_PER_LAYER, "num_attention_heads n_head n_heads num_heads num_experts "
              "encoder_attention_heads decoder_attention_heads num_local_experts "
              "n_routed_experts moe_num_experts"),
    "head": (16, "head_dim d_kv attention_head_size kv_channels v_head_dim mamba_d_head "
             "kv_lora_rank num_mel_bins expert_capacity"),
    "state": (8, "patch_size mamba_d_state state_size mamba_n_heads ssm_state_size "
              "qk_rope_head_dim qk_nope_head_dim hidden_size_per_layer_input"),
    "small": (32, "moe_intermediate_size image_size projection_dim q_lora_rank "
              "decoder_hidden_size fusion_hidden_size first_layer_fusion_size"),
    "length": (64, "max_position_embeddings n_positions n_ctx seq_length max_target_positions "
               "shared_expert_intermediate_size"),
    "frames": (20, "max_source_positions"),
    "queries": (10, "num_queries"),
    "one": (1, "n_group topk_group first_k_dense_replace"),
    "levels": (3, "num_feature_levels"),
}  # fmt: skip
SMALL = {name: size for size, names in _SIZES.values() for name in names.split()}
_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
_LAYER_TYPES = ("layer_types", "mlp_layer_types")
VOCABULARY = 90
"""Special tokens have the numbers from here on; text has those below."""


def small_config(kind: type[Any], more: Mapping[str, Any] | None = None) -> Any:
    """A configuration with every known size made small; what its class refuses stays as it is."""
    try:
        base = kind()
    except Exception:  # a class without defaults takes what is given
        return kind(**(more or {}))
    wanted = {name: v for name, old in vars(base).items() if (v := _small(name, old)) is not None}
    if "kv_lora_rank" in wanted:  # keys of latent attention are projected for every head
        wanted["num_key_value_heads"] = HEADS_PER_LAYER
    given = dict(more or {})
    refused: Exception | None = None
    for drop in (None, *wanted):
        fields = {k: v for k, v in wanted.items() if k != drop}
        try:
            return kind(**{**fields, **given})
        except Exception as error:  # try without the next one
            refused = refused or error
    assert refused is not None
    raise refused


def _small(name: str, old: Any) -> Any:
    """What a field is to be; None: as it was."""
    if isinstance(old, transformers.PretrainedConfig):
        return small_config(type(old)).to_dict()
    if name in _LAYER_TYPES and isinstance(old, (list, tuple)):
        return (list(dict.fromkeys(old)) * LAYERS)[:LAYERS]
    if not isinstance(old, int) or isinstance(old, bool) or old <= 0:
        return None
    if name.endswith(("token_id", "token_index")):
        return _TOKENS.get(name, VOCABULARY + sum(map(ord, name)) % 30) if old >= 100 else None
    return min(SMALL[name], old) if name in SMALL else None


def small_model(type_name: str) -> tuple[nn.Module, Any]:
    """A model of a type with seeded weights, and its configuration. Raises: what its class does."""
    torch.manual_seed(0)
    config = _config(type_name)
    for part in (config, *(getattr(config, n, None) for n in ("text_config", "decoder"))):
        if hasattr(part, "use_cache"):
            part.use_cache = False
    config.return_dict = True
    model = _class(type_name, config)(config).eval()
    _unsettle(model)
    return model, config


def parameters(type_name: str) -> int:
    """How many numbers the weights of such a model are, without making one. Raises: what its class
    does."""
    config = _config(type_name)
    with torch.device("meta"):
        return sum(p.numel() for p in _class(type_name, config)(config).parameters())


def _config(type_name: str) -> Any:
    return small_config(CONFIG_MAPPING[type_name], OVERRIDES.get(type_name))


def _class(type_name: str, config: Any) -> Any:
    if type_name in HEADS:
        return getattr(transformers, HEADS[type_name])
    names = ("MODEL_MAPPING", *(n for n in dir(modeling_auto) if n.endswith("_MAPPING")))
    for name in names:
        mapping = getattr(modeling_auto, name)
        if hasattr(mapping, "keys") and type(config) in mapping:
            found = mapping[type(config)]
            return found[0] if isinstance(found, (tuple, list)) else found
    raise KeyError(f"transformers has no model of type {type_name}")


def _unsettle(model: nn.Module) -> None:
    """Make ones and zeros (norms, biases, statistics) matter, and weights large enough to."""
    with torch.no_grad():
        for name, t in (*model.named_parameters(), *model.named_buffers()):
            if not t.is_floating_point() or t.numel() < 2:
                continue
            if t.min() == t.max():
                t.add_(0.1 * torch.randn_like(t))
                if name.endswith("running_var"):
                    t.abs_().add_(0.01)
            elif t.dim() > 1 and name.endswith("weight") and 0 < t.std() < 0.05:
                t.mul_(0.06 / t.std())
