"""A step of decoding. Needs transformers."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import DynamicCache


class NextToken(nn.Module):
    """A language model of transformers that is given the keys and values of the tokens before."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.layers = int(inner.config.num_hidden_layers)

    def forward(self, token: Tensor, position: Tensor, *past: Tensor) -> Tensor:
        cache = DynamicCache()
        for layer in range(self.layers):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        out = self.inner(input_ids=token, position_ids=position, past_key_values=cache)
        return out.last_hidden_state
