"""Which composite operators stay whole when torch decomposes the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch.export import exported_program
from torch.export.exported_program import ExportedProgram

# Operators that one op of the IR stands for, or that torch would spell at greater length.
_NAMES = """
linear matmul baddbmm conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
scaled_dot_product_attention layer_norm rms_norm group_norm instance_norm softmax log_softmax silu
mish hardswish hardsigmoid relu6 selu celu softplus prelu glu log_sigmoid hardshrink softshrink
threshold logit nan_to_num addcmul addcdiv lerp masked_fill max_pool1d max_pool2d max_pool3d
avg_pool1d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d upsample_nearest1d
upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_trilinear3d
upsample_bicubic2d _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
_upsample_bilinear2d_aa _upsample_bicubic2d_aa pad pixel_shuffle pixel_unshuffle channel_shuffle
reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d
replication_pad3d stack roll tril triu logsumexp one_hot index_add index_copy index_fill im2col
embedding select_scatter var std var_mean count_nonzero argsort isfinite
scaled_dot_product_flash_attention_for_cpu
"""
WHOLE = frozenset(_NAMES.split())


@dataclass(frozen=True)
class _Chosen:
    """table: operator -> what it is decomposed by. asked: the composite ones that torch must ask
    the table about; all others are decomposed by their own kernels."""

    table: dict[Any, Callable[..., Any]]
    asked: frozenset[Any]


def decompose(program: ExportedProgram) -> ExportedProgram:
    """By torch's default decompositions without those of the operators kept whole."""
    chosen = _chosen()
    with _asking(chosen.asked):
        return program.run_decompositions(chosen.table)


@cache
def _chosen() -> _Chosen:
    table = dict(torch.export.default_decompositions())
    composite = exported_program._collect_all_valid_cia_ops()
    asked = {op for op in composite if _is_whole(op) or not isinstance(table.get(op), partial)}
    lstm = torch.ops.aten.lstm.input
    table[lstm] = _states_as_given(table[lstm])
    kept = {
        op: call
        for op, call in table.items()
        if not _is_whole(op) and (op in asked or op not in composite)
    }
    return _Chosen(kept, frozenset(asked))


def _is_whole(overload: Any) -> bool:
    return str(overload).removeprefix("aten.").split(".")[0] in WHOLE


@contextmanager
def _asking(operators: frozenset[Any]) -> Iterator[None]:
    """torch overrides some twelve kernels of each of its 513 composite operators, twice, at every
    decomposition: half a second for a model of any size. These are the ones that need it."""
    listed = exported_program._collect_all_valid_cia_ops
    exported_program._collect_all_valid_cia_ops = lambda: set(operators)
    try:
        yield
    finally:
        exported_program._collect_all_valid_cia_ops = listed


def _states_as_given(lstm: Callable[..., Any]) -> Callable[..., Any]:
    """The last states with the shapes of the first: torch 2.11's decomposition gives them an axis
    more."""

    def decomposed(x: torch.Tensor, states: Sequence[torch.Tensor], *others: Any) -> Any:
        y, *last = lstm(x, states, *others)
        return y, *(s.reshape(h.shape) for s, h in zip(last, states, strict=True))

    return decomposed
