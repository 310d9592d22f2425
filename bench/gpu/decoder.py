"""One step of decoding: a token against a cache of keys and values, in four layers of the shape of
a Llama of a billion parameters. It reads every weight once: what limits it is memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HIDDEN, INNER, HEADS, KEY_HEADS, LAYERS, WORDS = 2048, 8192, 32, 8, 4, 32000
WIDTH = HIDDEN // HEADS


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.RMSNorm(HIDDEN), nn.RMSNorm(HIDDEN)
        self.q = nn.Linear(HIDDEN, HIDDEN, bias=False)
        self.k = nn.Linear(HIDDEN, KEY_HEADS * WIDTH, bias=False)
        self.v = nn.Linear(HIDDEN, KEY_HEADS * WIDTH, bias=False)
        self.o = nn.Linear(HIDDEN, HIDDEN, bias=False)
        self.gate, self.up = (nn.Linear(HIDDEN, INNER, bias=False) for _ in range(2))
        self.down = nn.Linear(INNER, HIDDEN, bias=False)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [b, 1, h], keys and values [b, heads, tokens, width] -> (x, this token's k and v)."""
        y = self.first(x)
        q, k, v = (self._heads(project(y)) for project in (self.q, self.k, self.v))
        a = F.scaled_dot_product_attention(
            q, torch.cat([keys, k], 2), torch.cat([values, v], 2), enable_gqa=True
        )
        x = x + self.o(a.transpose(1, 2).reshape(x.shape))
        y = self.second(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y)), k, v

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], 1, -1, WIDTH).transpose(1, 2)


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm, self.head = nn.RMSNorm(HIDDEN), nn.Linear(HIDDEN, WORDS, bias=False)

    def forward(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """cache [layers, 2, b, heads, tokens, width] -> (logits, what is new in the cache)."""
        new = []
        for i, layer in enumerate(self.layers):
            x, k, v = layer(x, cache[i, 0], cache[i, 1])
            new.append(torch.stack([k, v]))
        return self.head(self.norm(x)), torch.stack(new)


def decoder(batch: int, tokens: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    model = Decoder().eval()
    x = torch.randn(batch, 1, HIDDEN)
    return model, (x, torch.randn(LAYERS, 2, batch, KEY_HEADS, tokens, WIDTH))
