"""Example inputs of a model that is not known: what its forward's parameters suggest."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bench.census.small import VOCABULARY, WIDTH
from bench.census.special_inputs import INPUTS, ids, random

Inputs = dict[str, Tensor]
TOKENS = 16
_PARTS = ("text_config", "vision_config", "encoder", "audio_config", "backbone_config")
_PLACES = re.compile(r"tokens: 0, features:? (\d+)")
_MEDIA = {"pixel_values", "input_features"}
_CACHES = ("past_key_values", "cache_params", "rnn_state", "state")


class Flat(nn.Module):
    """A model of named inputs as one of positions, giving its tensors, each once."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, tuple(names)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        found: dict[int, Tensor] = {}
        _collect(self.model(**dict(zip(self.names, inputs, strict=True))), found)
        return tuple(found.values())


def _collect(tree: Any, found: dict[int, Tensor]) -> None:
    if isinstance(tree, Tensor):
        if tree.numel():
            found.setdefault(id(tree), tree)
    elif isinstance(tree, dict):
        for name, part in tree.items():
            if name not in _CACHES:
                _collect(part, found)
    elif isinstance(tree, (list, tuple)):
        for part in tree:
            _collect(part, found)


def with_inputs(type_name: str, model: nn.Module, config: Any) -> tuple[Flat, tuple[Tensor, ...]]:
    """The model with the first candidates that it runs with. Raises: RuntimeError with the reasons
    why it runs with none."""
    given = INPUTS.get(type_name)
    reasons: list[str] = []
    for inputs in [given(config)] if given else candidates(model, config):
        found = _tried(model, config, inputs, reasons)
        if found is not None:
            return found
    raise RuntimeError("no inputs fit: " + " | ".join(reasons[:4]))


def _tried(
    model: nn.Module, config: Any, inputs: Inputs, reasons: list[str]
) -> tuple[Flat, tuple[Tensor, ...]] | None:
    """What runs with these inputs, or a reason is added. A model of text and media that finds no
    places for them in the text tells how many it wants, and gets them."""
    flat = Flat(model, tuple(inputs)).eval()
    try:
        with torch.no_grad():
            return (flat, tuple(inputs.values())) if flat(*inputs.values()) else None
    except Exception as error:  # any: the next candidate may fit
        shapes = {name: tuple(t.shape) for name, t in inputs.items()}
        reasons.append(f"{shapes}: {type(error).__name__}: {str(error)[:150]}")
        wanted = _PLACES.search(str(error))
    token = _media_token(config, inputs)
    features = int(wanted[1]) if wanted else 0
    counts = (features, features // WIDTH)  # it tells features, or their elements
    for count in filter(None, counts) if token is not None else ():
        found = _tried(model, config, _with_places(inputs, token, count), reasons)
        if found is not None:
            return found
    return None


def _media_token(config: Any, inputs: Inputs) -> int | None:
    """The token that keeps a place for media, if the text has none of it yet."""
    kind = "audio" if "input_features" in inputs else "image"
    for name in (f"{kind}_token_id", f"{kind}_token_index"):
        token = getattr(config, name, None)
        if isinstance(token, int) and "input_ids" in inputs:
            return None if (inputs["input_ids"] == token).any() else token
    return None


def _with_places(inputs: Inputs, token: int, count: int) -> Inputs:
    """The inputs with that many such tokens within the text."""
    out = dict(inputs)
    for name, value in (("input_ids", token), ("attention_mask", 1)):
        if name in out:
            places = torch.full((1, count), value)
            out[name] = torch.cat([out[name][:, :2], places, out[name][:, 2:]], 1)
    return out


def candidates(model: nn.Module, config: Any) -> Iterator[Inputs]:
    """What the model may run with, the likeliest first."""
    named = inspect.signature(model.forward).parameters
    text, media = _text(named, config), list(_media(named, config))
    decoder = {"decoder_input_ids": ids(1, 8)} if "decoder_input_ids" in named else {}
    if text and getattr(model, "main_input_name", "input_ids") == "input_ids":
        both = [{**text, **m} for m in media]
        alone = [{**text, **decoder}, *([text] if decoder else [])]
        first = _MEDIA & named.keys()
        yield from (*both, *alone) if first else (*alone, *both)
        yield {**{k: v for k, v in text.items() if k != "attention_mask"}, **decoder}
    yield from ({**m, **decoder} for m in media)
    yield from media if decoder else ()
    yield from ({**text, **m} for m in media) if text else ()


def _text(named: Any, config: Any) -> Inputs:
    if "input_ids" not in named:
        return {}
    text = {
        "input_ids": ids(1, TOKENS, below=min(VOCABULARY - 1, _number(config, 100, "vocab_size")))
    }
    if "attention_mask" in named:
        text["attention_mask"] = (torch.arange(TOKENS) < TOKENS - 4).long()[None]  # padded
    return text


def _media(named: Any, config: Any) -> Iterator[Inputs]:
    """Images, videos, sound and series, of several sizes."""
    size = max(32, _number(config, 64, "image_size", "img_size"))
    channels = _number(config, 3, "num_channels", "in_channels", "in_chans", "n_channels")
    frames = _number(config, 0, "num_frames", "frames_per_clip")
    if "pixel_values" in named:
        if frames:
            yield {"pixel_values": random(1, frames, channels, size, size)}
        for side in dict.fromkeys((size, 64, 96, 128, 224)):
            image = {"pixel_values": random(1, channels, side, side)}
            yield image
            if "image_sizes" in named:
                yield {**image, "image_sizes": torch.tensor([[side, side]])}
    if "pixel_values_videos" in named:
        yield {"pixel_values_videos": random(1, frames or 8, channels, size, size)}
    mels = _number(config, 16, "num_mel_bins", "feature_size", "input_feat_per_channel", "mel_bins")
    if "input_values" in named:
        for shape in ((1, 2000), (1, 4000), (1, 64, mels), (1, 1, 2000), (1, 40, mels)):
            yield {"input_values": random(*shape)}
    if "input_features" in named:
        length = 2 * _number(config, 20, "max_source_positions")
        for shape in ((1, mels, length), (1, 64, mels), (1, mels, 64), (1, 1, 1001, 64)):
            yield {"input_features": random(*shape)}
    if "past_values" in named:
        length = _number(config, 32, "context_length", "prediction_length")
        yield {"past_values": random(1, length, _number(config, 7, "num_input_channels"))}


def _number(config: Any, default: int, *names: str) -> int:
    """The first of these fields that is set, in the configuration or in a part of it."""
    parts = [config, *(p for n in _PARTS if hasattr(p := getattr(config, n, None), "to_dict"))]
    for part in parts:
        for name in names:
            value = getattr(part, name, None)
            value = value[0] if isinstance(value, (list, tuple)) and value else value
            if isinstance(value, int):
                return value
    return default
