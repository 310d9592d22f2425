"""cancel-casts: casts through types that lose nothing."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
import torch
from graphopt_passes.simplify.cancel_casts import holds_all
from real_graphs import count, fires, traced
from torch import nn

from graphopt.ir.types import DType

Check = Callable[..., object]


def _casts(*dtypes: str) -> str:
    lines = [f"%v0 = input : {dtypes[0]}[4]"]
    lines += [f"%v{i} = cast %v{i - 1} {{dtype={d}}}" for i, d in enumerate(dtypes) if i]
    return "\n".join([*lines, f"return %v{len(dtypes) - 1}"])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("f32", "f32"), ("f32",)),
        (("f16", "f32", "f16"), ("f16",)),
        (("i8", "i32", "f32"), ("i8", "f32")),
        (("bool", "i64", "bool"), ("bool",)),
        (("bf16", "f32", "f16"), ("bf16", "f16")),
        (("u8", "bf16", "i32"), ("u8", "i32")),
        (("i32", "f64", "i32"), ("i32",)),
        (("i16", "i32", "i64", "i16"), ("i16",)),
    ],
)
def test_cancels(before: tuple[str, ...], after: tuple[str, ...], check_pass: Check) -> None:
    check_pass("cancel-casts", _casts(*before), _casts(*after))


def test_a_bool_told_from_zero(check_pass: Check) -> None:
    text = "%p = input : bool[4]\n%i = cast %p {dtype=i64}\n"
    text += "%zero = full {value=0, shape=[], dtype=i64}\n%q = ne %i, %zero\nreturn %q"
    check_pass("cancel-casts", text, "%p = input : bool[4]\nreturn %p")


@pytest.mark.parametrize(
    ("dtypes", "reason"),
    [
        (("f32", "f16", "f32"), "f16 does not hold every f32"),
        (("f32", "bf16", "f32"), "bf16 does not hold every f32"),
        (("f16", "bf16", "f16"), "bf16 does not hold every f16"),
        (("f32", "i32", "f32"), "i32 does not hold every f32"),
        (("i32", "f32", "i32"), "f32 does not hold every i32"),
        (("i64", "f64", "i64"), "f64 does not hold every i64"),
        (("i8", "u8", "i32"), "u8 does not hold every i8"),
        (("i64", "bool", "i64"), "bool does not hold every i64"),
        (("f32", "f64"), "its operand is not a cast"),
    ],
)
def test_refuses(dtypes: tuple[str, ...], reason: str, check_refuses: Check) -> None:
    check_refuses("cancel-casts", _casts(*dtypes), reason=reason)


def _extremes(dtype: DType) -> np.ndarray:
    """Values of a dtype that are hardest to hold elsewhere."""
    if dtype is DType.BOOL:
        return np.array([False, True])
    if not dtype.is_float:
        info = np.iinfo(dtype.numpy)
        return np.array([info.min, info.min + 1, 0, 1, info.max - 1, info.max], dtype.numpy)
    info = ml_dtypes.finfo(dtype.numpy)
    one = np.asarray(1.0, dtype.numpy)
    return np.array([info.min, -info.smallest_subnormal, info.tiny, one, one + info.eps, info.max],
                    dtype.numpy)  # fmt: skip


@pytest.mark.parametrize("source", DType)
@pytest.mark.parametrize("wide", DType)
def test_what_a_type_holds_comes_back(source: DType, wide: DType) -> None:
    values = _extremes(source)
    with np.errstate(all="ignore"):
        back = values.astype(wide.numpy).astype(source.numpy)
    returns = bool(np.array_equal(back, values))
    if holds_all(source, wide):
        assert returns
    elif wide.is_float:
        assert not returns


class Padded(nn.Module):
    def forward(self, mask: torch.Tensor) -> torch.Tensor:
        return mask.to(torch.int64).to(torch.int32).to(torch.float32).to(torch.float64)


def test_fires_on_a_traced_module() -> None:
    result, rewrites = fires("cancel-casts", traced(Padded(), torch.tensor([True, False])))
    assert rewrites >= 2
    assert count(result)["cast"] == 1
